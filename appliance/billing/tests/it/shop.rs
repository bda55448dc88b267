//! A host's commerce as its daemon would run it: records in a store, and states that are rebuilt from them.

use crate::common::{decimal, stored};
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
#[derive(Clone, Default)]
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

/// The records, and what is known of them without reading them again.
pub struct Shop {
    pub records: Records,
    pub month: Month,
    ledger: Ledger,
    settlers: BTreeMap<AccountId, Settler>,
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
        }
    }

    pub fn enter(&mut self, change: Change, clock: Timestamp) {
        for entry in self.ledger.prepare([change], clock).unwrap() {
            self.ledger.append(&entry).unwrap();
            self.records.entries.push(entry);
        }
    }

    pub fn tick(&mut self, rater: &Rater, clock: Timestamp) {
        for charge in self.ledger.rate(rater, clock).unwrap() {
            self.ledger.record(&charge).unwrap();
            let owner = &self.records.owners[&charge.resource];
            let settler = self.settlers.get_mut(owner).unwrap();
            assert!(settler.add(&charge).unwrap());
            self.records.charges.push(charge);
        }
    }

    pub fn settle(&mut self, clock: Timestamp) -> Vec<Settlement> {
        let mut settled = Vec::new();
        for settler in self.settlers.values_mut() {
            for settlement in settler.due(clock).unwrap() {
                settler.record(&settlement).unwrap();
                settled.push(settlement);
            }
        }
        self.records.settlements.extend(settled.clone());
        settled
    }

    /// Makes the invoices of months that are over; how many months that were.
    pub fn invoice(&mut self, clock: Timestamp) -> usize {
        let mut months = 0;
        while self.month.end() <= clock {
            let records = &self.records;
            let books = Books::new(&records.charges, &records.settlements, &records.purchases);
            let mut invoices = Vec::new();
            for (account, settler) in &mut self.settlers {
                settler.close(self.month.end());
                let invoice = books.invoice(account, Currency::CNY, self.month);
                invoices.push(invoice.unwrap());
            }
            self.records.invoices.extend(invoices);
            self.month = self.month.next();
            months += 1;
        }
        months
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
        let records = &self.records;
        let replayed = Ledger::replay(&records.entries, &records.charges).unwrap();
        assert_eq!(replayed.head(), self.ledger.head());
        self.ledger = replayed;
        let invoiced: BTreeSet<Month> = records.invoices.iter().map(|it| it.month).collect();
        let closed = invoiced.last().map(|month| month.end());
        let mut charges: BTreeMap<&AccountId, Vec<&Charge>> = BTreeMap::new();
        for charge in &records.charges {
            let owner = &records.owners[&charge.resource];
            charges.entry(owner).or_default().push(charge);
        }
        for (account, settler) in &mut self.settlers {
            let charges = charges.remove(account).unwrap_or_default();
            let settlements = records.settlements.iter();
            let settlements = settlements.filter(|it| it.account == *account);
            let again =
                Settler::replay(account.clone(), Currency::CNY, charges, settlements, closed);
            let again = again.unwrap();
            assert_eq!(again, *settler);
            *settler = again;
        }
    }
}
