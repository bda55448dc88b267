//! A host's commerce as its daemon would run it: records in a store, and states that are rebuilt from them.

use crate::common::{Dice, decimal, stored};
use billing::{
    Books, Evidence, Invoice, Purchase, Report, Settlement, Settler, Subscription, UsedSpan,
};
use ledger::{
    Change, Charge, Entry, FailureKind, Ledger, ModuleDigest, PolicyFailure, PolicyIdentity,
    PriceList, Prices, Rater, RatingInput, RatingPolicy,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use types::{AccountId, Currency, Decimal, Money, Month, Sha256Digest, Timestamp};

/// A list with these prices in millionths per hour: a vCPU, a GiB of memory, a GiB of disk.
pub fn price_list([vcpu, memory, disk]: [i64; 3]) -> PriceList {
    PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: BTreeMap::from([("ecs.g6.large".to_owned(), decimal("0.5"))]),
        vcpu: Decimal::new(vcpu, 6),
        memory_gib: Decimal::new(memory, 6),
        disk_categories: BTreeMap::new(),
        disk_gib: Decimal::new(disk, 6),
        meters: BTreeMap::new(),
    })
    .unwrap()
}

/// Asks twice what a list does, unless it is broken.
pub struct Doubled {
    pub list: PriceList,
    pub broken: bool,
}

impl RatingPolicy for Doubled {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: "doubled".to_owned(),
            module_sha256: ModuleDigest::Sha256(Sha256Digest::of(b"doubled")),
            configuration_sha256: self.list.identity().configuration_sha256,
        }
    }

    fn rate(&self, currency: Currency, usage: &[RatingInput]) -> Result<Vec<Money>, PolicyFailure> {
        if self.broken {
            return Err(PolicyFailure {
                policy: Box::new(self.identity()),
                kind: FailureKind::Trap,
                message: "unreachable".to_owned(),
            });
        }
        let prices = self.list.rate(currency, usage)?.into_iter();
        let doubled = |price: Money| Money::new(price.amount * Decimal::TWO, currency);
        Ok(prices.map(doubled).collect())
    }
}

impl Doubled {
    pub fn rater(list: &PriceList, broken: bool) -> Rater {
        let list = list.clone();
        Rater::new(
            Arc::new(Self {
                list: list.clone(),
                broken,
            }),
            list,
        )
    }
}

/// What is on stable storage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Records {
    pub entries: Vec<Entry>,
    pub charges: Vec<Charge>,
    pub settlements: Vec<Settlement>,
    pub subscriptions: BTreeMap<usize, Subscription>,
    pub purchases: Vec<Purchase>,
    pub invoices: Vec<Invoice>,
    pub owners: BTreeMap<String, AccountId>,
    pub history: Vec<UsedSpan>,
}

impl Records {
    pub fn verify(&self, policies: &[&dyn RatingPolicy], through: Timestamp) -> Report {
        let subscriptions: Vec<Subscription> = self.subscriptions.values().cloned().collect();
        billing::verify(&Evidence {
            entries: &self.entries,
            charges: &self.charges,
            policies,
            history: &self.history,
            slack: Duration::ZERO,
            owners: &self.owners,
            settlements: &self.settlements,
            subscriptions: &subscriptions,
            purchases: &self.purchases,
            invoices: &self.invoices,
            metered: through,
            invoiced: through,
        })
    }
}

/// The host died: what it knew and had not stored is gone.
struct Died;

/// How many charges are stored in one write, so that a tick may end in the midst of it.
const CHARGES_AT_ONCE: usize = 100;

/// The records, and what is known of them without reading them again.
pub struct Shop {
    pub records: Records,
    pub month: Month,
    /// How often it died right after a write, before anybody was told of it.
    pub deaths: u64,
    ledger: Ledger,
    settlers: BTreeMap<AccountId, Settler>,
    /// Once in how many writes it dies, if it does.
    dies: Option<(Dice, u64)>,
}

impl Shop {
    pub fn new(accounts: &[AccountId], start: Timestamp) -> Self {
        let settlers = accounts.iter().map(|account| {
            let settler = Settler::new(account.clone(), Currency::CNY);
            (account.clone(), settler)
        });
        Self {
            records: Records::default(),
            month: Month::of(start),
            ledger: Ledger::default(),
            settlers: settlers.collect(),
            deaths: 0,
            dies: None,
        }
    }

    /// The same, but once in `of` writes of charges, settlements and invoices it dies, and goes on from its records.
    pub fn dying(mut self, dice: Dice, of: u64) -> Self {
        self.dies = Some((dice, of));
        self
    }

    pub fn enter(&mut self, change: Change, clock: Timestamp) {
        for entry in self.ledger.prepare([change], clock).unwrap() {
            self.ledger.append(&entry).unwrap();
            self.records.entries.push(entry);
        }
    }

    pub fn tick(&mut self, rater: &Rater, clock: Timestamp) {
        while self.try_tick(rater, clock).is_err() {
            self.rise();
        }
    }

    fn try_tick(&mut self, rater: &Rater, clock: Timestamp) -> Result<(), Died> {
        let due = self.ledger.rate(rater, clock).unwrap();
        for charges in due.chunks(CHARGES_AT_ONCE) {
            self.records.charges.extend_from_slice(charges);
            self.stored()?;
            for charge in charges {
                self.ledger.record(charge).unwrap();
                let owner = &self.records.owners[&charge.resource];
                let settler = self.settlers.get_mut(owner).unwrap();
                assert!(settler.add(charge).unwrap());
            }
        }
        Ok(())
    }

    /// Settles every hour that is over; what that came to.
    pub fn settle(&mut self, clock: Timestamp) -> Vec<Settlement> {
        let before = self.records.settlements.len();
        while self.try_settle(clock).is_err() {
            self.rise();
        }
        self.records.settlements[before..].to_vec()
    }

    fn try_settle(&mut self, clock: Timestamp) -> Result<(), Died> {
        let due = self
            .settlers
            .values()
            .flat_map(|settler| settler.due(clock).unwrap());
        for settlement in due.collect::<Vec<_>>() {
            self.records.settlements.push(settlement.clone());
            self.stored()?;
            let settler = self.settlers.get_mut(&settlement.account).unwrap();
            settler.record(&settlement).unwrap();
        }
        Ok(())
    }

    /// Makes the invoices of months that are over; how many months that were.
    pub fn invoice(&mut self, clock: Timestamp) -> usize {
        let mut months = 0;
        while self.month.end() <= clock {
            while self.try_invoice().is_err() {
                self.rise();
            }
            self.month = self.month.next();
            months += 1;
        }
        months
    }

    fn try_invoice(&mut self) -> Result<(), Died> {
        let accounts: Vec<AccountId> = self.settlers.keys().cloned().collect();
        let invoiced = self.records.invoices.iter().rev();
        let invoiced: BTreeSet<AccountId> = invoiced
            .take_while(|it| it.month == self.month)
            .map(|it| it.account.clone())
            .collect();
        let records = &self.records;
        let books = Books::new(&records.charges, &records.settlements, &records.purchases);
        let rest = accounts.iter().filter(|it| !invoiced.contains(*it));
        let invoices: Vec<Invoice> = rest
            .map(|account| books.invoice(account, Currency::CNY, self.month).unwrap())
            .collect();
        for invoice in invoices {
            let account = invoice.account.clone();
            self.records.invoices.push(invoice);
            self.stored()?;
            let settler = self.settlers.get_mut(&account).unwrap();
            settler.close(self.month.end());
        }
        Ok(())
    }

    /// Something was stored; it may be the last thing before the host dies.
    fn stored(&mut self) -> Result<(), Died> {
        let dies = self.dies.as_mut();
        match dies.is_some_and(|(dice, of)| dice.once_in(*of)) {
            true => Err(Died),
            false => Ok(()),
        }
    }

    /// Goes on after a death: all that is known is made of the records.
    fn rise(&mut self) {
        self.deaths += 1;
        (self.ledger, self.settlers) = self.known();
    }

    /// How many intervals are open or not wholly charged.
    pub fn unsettled(&self) -> usize {
        self.ledger.unsettled().count()
    }

    /// The time for purchases: never in a month that is invoiced.
    pub fn time_of_purchase(&self, clock: Timestamp) -> Timestamp {
        clock.max(self.month.start())
    }

    /// The daemon dies: everything is read again, as text if `read`.
    pub fn restart(&mut self, read: bool) {
        if read {
            let records = &mut self.records;
            records.entries = stored(&records.entries);
            records.charges = stored(&records.charges);
            records.settlements = stored(&records.settlements);
            records.subscriptions = stored(&records.subscriptions);
            records.purchases = stored(&records.purchases);
            records.invoices = stored(&records.invoices);
        }
        let (ledger, settlers) = self.known();
        assert_eq!(ledger.head(), self.ledger.head());
        assert_eq!(settlers, self.settlers);
        (self.ledger, self.settlers) = (ledger, settlers);
    }

    /// What the records come to.
    fn known(&self) -> (Ledger, BTreeMap<AccountId, Settler>) {
        let records = &self.records;
        let ledger = Ledger::replay(&records.entries, &records.charges).unwrap();
        let mut charges: BTreeMap<&AccountId, Vec<&Charge>> = BTreeMap::new();
        for charge in &records.charges {
            let owner = &records.owners[&charge.resource];
            charges.entry(owner).or_default().push(charge);
        }
        let settler = |account: &AccountId| {
            let charges = charges.get(account).into_iter().flatten().copied();
            let own = records.settlements.iter();
            let own = own.filter(|it| it.account == *account);
            let invoices = records.invoices.iter();
            let closed = invoices
                .filter(|it| it.account == *account)
                .map(|it| it.month.end())
                .max();
            let settler = Settler::replay(account.clone(), Currency::CNY, charges, own, closed);
            (account.clone(), settler.unwrap())
        };
        (ledger, self.settlers.keys().map(settler).collect())
    }
}
