//! What is owed for what was used, as far as it must be known to settle on: kept beside the ledger, told of every record once it
//! is stored, and made of the records again at the start.

use crate::{
    ControlError, Result,
    model::Payment,
    records::{InvoiceRecord, OwnerRecord, PaymentRecord, PurchaseRecord, SettlementRecord},
};
use billing::{Purchase, Settlement, SettlementError, Settler};
use ledger::{Charge, Entry, Event};
use std::collections::{BTreeMap, BTreeSet};
use store::{Store, StoreError};
use types::{AccountId, ChargeId, Currency, CurrencyMismatch, Money, Month, Timestamp};

type Settled<T> = std::result::Result<T, SettlementError>;

/// Whose which resource is, and what must be known to settle on.
pub(crate) struct Bills {
    owners: BTreeMap<String, AccountId>,
    accounts: BTreeMap<(AccountId, Currency), Account>,
}

/// An account in one currency.
struct Account {
    settler: Settler,
    /// What was settled and bought in each month that is not closed.
    spent: BTreeMap<Month, Money>,
    /// The last month that is closed.
    closed: Option<Month>,
    /// What was paid in, less all that was settled and bought.
    balance: Money,
}

/// A month of an account that is over and not closed.
pub(crate) struct Ended {
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) month: Month,
}

impl Bills {
    /// Reads what was settled and closed, beside these records of use. Resources without an owner become `account`'s. Blocks.
    pub(crate) fn open(
        store: &Store,
        account: &AccountId,
        entries: &[Entry],
        charges: &[Charge],
    ) -> Result<Self> {
        let (owners, settlements, invoices) = store.read::<_, StoreError>(|reader| {
            Ok((
                reader.list::<OwnerRecord>()?,
                reader.list::<SettlementRecord>()?,
                reader.list::<InvoiceRecord>()?,
            ))
        })?;
        let (purchases, payments) = store.read::<_, StoreError>(|reader| {
            Ok((
                reader.list::<PurchaseRecord>()?,
                reader.list::<PaymentRecord>()?,
            ))
        })?;
        let mut bills = Self {
            owners: BTreeMap::new(),
            accounts: BTreeMap::new(),
        };
        bills.own(owners);
        let ownerless = bills.newly_owned(opened(entries), account);
        if !ownerless.is_empty() {
            store.write::<_, StoreError>(|writer| {
                ownerless.iter().try_for_each(|record| writer.put(record))
            })?;
            bills.own(ownerless);
        }
        let mut closed: BTreeMap<(AccountId, Currency), Month> = BTreeMap::new();
        for record in invoices {
            let last = closed
                .entry((record.account, record.currency))
                .or_insert(record.month);
            *last = record.month.max(*last);
        }
        let settlements: Vec<Settlement> = settlements
            .into_iter()
            .map(|record| record.settlement)
            .collect();
        bills
            .replay(charges, &settlements, &closed)
            .map_err(|error| {
                refused(error, "be read again").with_next_step(
                    "Restore a copy of the state folder from before, or find out who changed it.",
                )
            })?;
        for record in purchases {
            bills.bought(&record.purchase)?;
        }
        for record in payments {
            bills.paid(&record.payment)?;
        }
        Ok(bills)
    }

    /// What is to be written down so that those of `resources` are `account`'s that are nobody's.
    pub(crate) fn newly_owned(
        &self,
        resources: impl Iterator<Item = String>,
        account: &AccountId,
    ) -> Vec<OwnerRecord> {
        let resources: BTreeSet<String> = resources
            .filter(|resource| !self.owners.contains_key(resource))
            .collect();
        resources
            .into_iter()
            .map(|resource| OwnerRecord {
                resource,
                account: account.clone(),
            })
            .collect()
    }

    /// Takes over stored records.
    pub(crate) fn own(&mut self, records: Vec<OwnerRecord>) {
        self.owners.extend(
            records
                .into_iter()
                .map(|record| (record.resource, record.account)),
        );
    }

    /// Takes over stored charges.
    pub(crate) fn charged(&mut self, charges: &[Charge]) -> Settled<()> {
        for charge in charges {
            if let Some(key) = self.payer(charge) {
                self.account(key).settler.add(charge)?;
            }
        }
        Ok(())
    }

    /// What was settled and bought in the month so far.
    pub(crate) fn spent(&self, account: &AccountId, currency: Currency, month: Month) -> Money {
        let known = self.accounts.get(&(account.clone(), currency));
        let spent = known.and_then(|known| known.spent.get(&month)).copied();
        spent.unwrap_or(Money::zero(currency))
    }

    /// What the account has paid in and not used yet; below zero, what it used and has not paid.
    pub(crate) fn balance(&self, account: &AccountId, currency: Currency) -> Money {
        let known = self.accounts.get(&(account.clone(), currency));
        known.map_or(Money::zero(currency), |known| known.balance)
    }

    /// Who pays, and in which currencies.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (&AccountId, Currency)> {
        self.accounts
            .keys()
            .map(|(account, currency)| (account, *currency))
    }

    /// Whose a resource is, if it ever was in use.
    pub(crate) fn owner(&self, resource: &str) -> Option<&AccountId> {
        self.owners.get(resource)
    }

    /// When something is bought at `now`: not in a month that is closed.
    pub(crate) fn purchase_time(
        &self,
        account: &AccountId,
        currency: Currency,
        now: Timestamp,
    ) -> Timestamp {
        let known = self.accounts.get(&(account.clone(), currency));
        let closed = known.and_then(|known| known.closed);
        closed.map_or(now, |month| month.end().max(now))
    }

    /// Takes over a stored purchase.
    pub(crate) fn bought(&mut self, purchase: &Purchase) -> Result<()> {
        let Purchase { at, money, .. } = purchase;
        let account = self.account((purchase.account.clone(), money.currency));
        account.balance = account.balance.checked_sub(*money).map_err(too_much)?;
        let month = Month::of(*at);
        if account.closed.is_none_or(|closed| month > closed) {
            let zero = Money::zero(money.currency);
            let spent = account.spent.entry(month).or_insert(zero);
            *spent = spent.checked_add(*money).map_err(too_much)?;
        }
        Ok(())
    }

    /// Takes over a stored payment.
    pub(crate) fn paid(&mut self, payment: &Payment) -> Result<()> {
        let account = self.account((payment.account.clone(), payment.money.currency));
        account.balance = account
            .balance
            .checked_add(payment.money)
            .map_err(too_much)?;
        Ok(())
    }

    /// Who pays a charge, and in what. Whatever was opened has an owner.
    fn payer(&self, charge: &Charge) -> Option<(AccountId, Currency)> {
        let owner = self.owners.get(&charge.resource)?;
        Some((owner.clone(), charge.money.currency))
    }

    fn account(&mut self, key: (AccountId, Currency)) -> &mut Account {
        let (account, currency) = key.clone();
        self.accounts.entry(key).or_insert_with(|| Account {
            settler: Settler::new(account, currency),
            spent: BTreeMap::new(),
            closed: None,
            balance: Money::zero(currency),
        })
    }

    /// The accounts as these records leave them. Settlements of closed months are believed; their charges are not kept.
    fn replay(
        &mut self,
        charges: &[Charge],
        settlements: &[Settlement],
        closed: &BTreeMap<(AccountId, Currency), Month>,
    ) -> Settled<()> {
        let key_of = |settlement: &Settlement| (settlement.account.clone(), settlement.currency);
        let mut done: BTreeSet<ChargeId> = BTreeSet::new();
        let mut open = Vec::new();
        for settlement in settlements {
            let key = key_of(settlement);
            let over = closed.get(&key).map(|month| month.end());
            if over.is_some_and(|end| settlement.to <= end) {
                done.extend(&settlement.charges);
                let account = self.account(key);
                account.settler = Settler::after(settlement);
                account.balance = taken(account.balance, settlement)?;
            } else {
                open.push(settlement);
            }
        }
        for (key, month) in closed {
            let account = self.account(key.clone());
            account.settler.forget_settled();
            account.settler.close(month.end());
            account.closed = Some(*month);
        }
        for charge in charges.iter().filter(|charge| !done.contains(&charge.id)) {
            if let Some(key) = self.payer(charge) {
                self.account(key).settler.add(charge)?;
            }
        }
        for settlement in open {
            self.record(settlement)?;
        }
        Ok(())
    }

    /// Takes over a stored settlement.
    pub(crate) fn record(&mut self, settlement: &Settlement) -> Settled<()> {
        let month = Month::of(settlement.from);
        let account = self.account((settlement.account.clone(), settlement.currency));
        account.settler.record(settlement)?;
        let zero = Money::zero(settlement.currency);
        let spent = account.spent.entry(month).or_insert(zero);
        *spent = spent
            .checked_add(settlement.money())
            .map_err(|_| SettlementError::OutOfRange(settlement.account.clone()))?;
        account.balance = taken(account.balance, settlement)?;
        Ok(())
    }

    /// The settlements of hours that are over at `now`, oldest first for each account.
    pub(crate) fn due(&self, now: Timestamp) -> Settled<Vec<Settlement>> {
        let mut due = Vec::new();
        for account in self.accounts.values() {
            due.extend(account.settler.due(now)?);
        }
        Ok(due)
    }

    /// Months that are over at `now` in which something was settled or bought, oldest first for each account.
    pub(crate) fn ended(&self, now: Timestamp) -> Vec<Ended> {
        let months = self
            .accounts
            .iter()
            .flat_map(|((account, currency), known)| {
                let months = known.spent.keys().copied();
                months.map(|month| Ended {
                    account: account.clone(),
                    currency: *currency,
                    month,
                })
            });
        months.filter(|ended| ended.month.end() <= now).collect()
    }

    /// Takes over that a month was invoiced.
    pub(crate) fn close(&mut self, ended: Ended) {
        let account = self.account((ended.account, ended.currency));
        account.settler.close(ended.month.end());
        account.settler.forget_settled();
        account.spent.retain(|month, _| *month > ended.month);
        account.closed = account.closed.max(Some(ended.month));
    }
}

/// What is left of a balance after a settlement.
fn taken(balance: Money, settlement: &Settlement) -> Settled<Money> {
    let left = balance.checked_sub(settlement.money());
    left.map_err(|_| SettlementError::OutOfRange(settlement.account.clone()))
}

/// What `entries` open.
pub(crate) fn opened(entries: &[Entry]) -> impl Iterator<Item = String> {
    entries.iter().filter_map(|entry| match &entry.event {
        Event::Opened { usage } => Some(usage.key().resource),
        Event::Closed { .. } => None,
    })
}

/// The amounts of an account are out of range together.
pub(crate) fn too_much(error: CurrencyMismatch) -> ControlError {
    ControlError::internal("The amounts of an account cannot be added.", error)
}

/// A settlement could not `be made`, or whatever else was to be done with it.
pub(crate) fn refused(error: SettlementError, what: &str) -> ControlError {
    ControlError::internal(format!("Settlements cannot {what}."), error)
}

/// An invoice that is kept makes no sense.
pub(crate) fn unreadable(record: &InvoiceRecord, error: serde_json::Error) -> ControlError {
    let message = format!("The invoice of {} cannot be read.", record.key);
    ControlError::internal(message, error).with_next_step(
        "Restore a copy of the state folder from before, or find out who changed it.",
    )
}
