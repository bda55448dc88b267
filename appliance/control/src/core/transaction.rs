//! A change under way: what a use case or a reconciler does to the records, and what happens with it once it is done.

use super::{Books, Core};
use crate::{
    Result,
    bills::{self, Bills},
    model::{Decision, EventSubject, Payment},
    reconcile::meter::tell_budgets,
    records::{DecisionInputs, PaymentRecord, PurchaseRecord},
    tables::{Held, Table, Tables},
};
use billing::Purchase;
use ledger::{Change, UsageKey};
use std::cell::RefCell;
use store::{Record, Writer};
use types::{AccountId, Currency, Money, Month};

/// A change under way.
pub(crate) struct Transaction<'a> {
    pub(super) core: &'a Core,
    pub(super) writer: &'a Writer,
    /// As they were when it began.
    pub(super) books: &'a Books,
    /// As they are with what this change has done so far.
    pub(super) tables: RefCell<Tables>,
    pub(super) usage: Vec<Change>,
    pub(super) bought: Vec<Purchase>,
    pub(super) paid: Vec<Payment>,
    pub(super) events: Vec<(EventSubject, String)>,
    pub(super) decided: Vec<(Decision, DecisionInputs)>,
}

impl Transaction<'_> {
    pub(crate) fn core(&self) -> &Core {
        self.core
    }

    pub(crate) fn get<R: Record>(&self, key: &R::Key) -> Result<Option<R>> {
        Ok(self.writer.get(key)?)
    }

    pub(crate) fn list<R: Record>(&self) -> Result<Vec<R>> {
        Ok(self.writer.list()?)
    }

    pub(crate) fn list_under<R: Record>(&self, prefix: &str) -> Result<Vec<R>> {
        Ok(self.writer.list_under(prefix)?)
    }

    /// All records of a kind that is held, with what this change has done to them.
    pub(crate) fn all<R: Held>(&self) -> Table<R> {
        self.tables.borrow().all()
    }

    pub(crate) fn put<R: Record + 'static>(&self, record: &R) -> Result<()> {
        self.writer.put(record)?;
        self.tables.borrow_mut().put(record);
        Ok(())
    }

    pub(crate) fn delete<R>(&self, key: &R::Key) -> Result<bool>
    where
        R: Record<Key: Sized> + 'static,
        R::Key: 'static,
    {
        let there = self.writer.delete::<R>(key)?;
        self.tables.borrow_mut().delete::<R>(key);
        Ok(there)
    }

    pub(crate) fn random(&self) -> u128 {
        self.core.ports.entropy.random()
    }

    /// Says what happened, once it has.
    pub(crate) fn event(&mut self, subject: EventSubject, message: impl Into<String>) {
        self.events.push((subject, message.into()));
    }

    /// A placement was decided: a shadow is asked about it, once the change has happened.
    pub(crate) fn decided(&mut self, decision: &Decision, inputs: &DecisionInputs) {
        if self.core.policies.in_force().shadows_decisions() {
            self.decided.push((decision.clone(), inputs.clone()));
        }
    }

    /// Use begins, unless it has.
    pub(crate) fn open_usage(&mut self, usage: ledger::Usage) {
        if self.books.ledger.open_interval(&usage.key()).is_none() {
            self.usage.push(Change::Open(usage));
        }
    }

    /// Use ends, if it has begun.
    pub(crate) fn close_usage(&mut self, key: UsageKey) {
        if self.books.ledger.open_interval(&key).is_some() {
            self.usage.push(Change::Close(key));
        }
    }

    /// Use goes on as `usage`, if it goes on: from now on at another price.
    pub(crate) fn change_usage(&mut self, usage: ledger::Usage) {
        if !self.books.uses(&usage) {
            self.usage.push(Change::Close(usage.key()));
            self.usage.push(Change::Open(usage));
        }
    }

    /// What was owed when this change began.
    pub(crate) fn bills(&self) -> &Bills {
        &self.books.bills
    }

    /// What the account has, with what this change bought and paid.
    pub(crate) fn balance(&self, account: &AccountId, currency: Currency) -> Result<Money> {
        let mut balance = self.books.bills.balance(account, currency);
        let of = |whose: &AccountId, money: &Money| whose == account && money.currency == currency;
        for Purchase { account, money, .. } in &self.bought {
            if of(account, money) {
                balance = balance.checked_sub(*money).map_err(bills::too_much)?;
            }
        }
        for Payment { account, money, .. } in &self.paid {
            if of(account, money) {
                balance = balance.checked_add(*money).map_err(bills::too_much)?;
            }
        }
        Ok(balance)
    }

    /// Something is bought; its account's budgets are told.
    pub(crate) fn buy(&mut self, purchase: Purchase) -> Result<()> {
        self.put(&PurchaseRecord::new(purchase.clone()))?;
        let (account, money) = (purchase.account.clone(), purchase.money);
        let month = Month::of(purchase.at);
        self.bought.push(purchase);
        let mut spent = self.books.bills.spent(&account, money.currency, month);
        let now = self.bought.iter().filter(|purchase| {
            (&purchase.account, purchase.money.currency) == (&account, money.currency)
                && Month::of(purchase.at) == month
        });
        for purchase in now {
            spent = spent.checked_add(purchase.money).map_err(bills::too_much)?;
        }
        tell_budgets(self, &account, month, spent)
    }

    /// An account's balance changes.
    pub(crate) fn pay(&mut self, payment: Payment) -> Result<()> {
        self.put(&PaymentRecord::new(payment.clone()))?;
        self.paid.push(payment);
        Ok(())
    }
}
