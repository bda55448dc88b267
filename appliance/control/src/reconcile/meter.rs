//! The meter: from use to what is to be paid for it.
//!
//! ```text
//! charges stored ─► an hour is over ─► settlement, with alerts of budgets ─► the next hour
//!                                          │ the last hour of a month
//!                                          └─► invoice: the month is closed, late charges go to the next one
//! ```
//!
//! Each arrow is one transaction; the [books](crate::core::Books) are told afterwards. After a crash they are made of the records
//! again, and the meter goes on from there.

use crate::{
    ControlError, Result,
    bills::{refused, too_much},
    core::{Core, Transaction, blocking},
    model::EventSubject,
    reconcile::{Instances, note_debt},
    records::{BudgetRecord, ChargeRecord, InvoiceRecord, PurchaseRecord, SettlementRecord},
};
use billing::Books;
use std::sync::Arc;
use tokio::time::{MissedTickBehavior, interval};
use types::{AccountId, Money, Month, Timestamp};

/// Charges what was used and settles what is due: at every tick, and as soon as an instance has stopped.
pub(super) async fn run(core: Arc<Core>, instances: Arc<Instances>) {
    let mut ticks = interval(core.settings.metering_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = instances.stopped().notified() => {}
        }
        let metered = core.meter().await;
        instances.commerce().notify_one();
        if let Err(error) = metered {
            // Nothing is lost: seconds, hours and months are due at the next tick.
            tracing::error!("use could not be charged or settled: {error}");
        }
    }
}

impl Core {
    /// Charges what was used, settles the hours and closes the months that are over. Blocks.
    pub(crate) fn meter_blocking(&self) -> Result<()> {
        self.metered(|_| Ok(()))
    }

    /// The same, on a thread that may block.
    pub(crate) async fn meter(self: &Arc<Self>) -> Result<()> {
        let core = self.clone();
        blocking(move || core.meter_blocking()).await?
    }

    /// The same; then has `look` look at the records before anyone else goes on. Everything up to the time it is told was
    /// metered.
    pub(crate) fn metered<T>(&self, look: impl FnOnce(Timestamp) -> Result<T>) -> Result<T> {
        let _metering = self.metering();
        let now = self.now();
        self.charge(now)?;
        self.settle(now)?;
        self.close_months(now)?;
        look(now)
    }

    /// Settles every hour that is over, each with the alerts it causes in a transaction of its own.
    fn settle(&self, now: Timestamp) -> Result<()> {
        let due = self.books().bills.due(now);
        for settlement in due.map_err(|error| refused(error, "be made"))? {
            let month = Month::of(settlement.from);
            let before = self
                .books()
                .bills
                .spent(&settlement.account, settlement.currency, month);
            let spent = before.checked_add(settlement.money()).map_err(|error| {
                ControlError::internal("The settlements of a month do not add up.", error)
            })?;
            let record = SettlementRecord::new(settlement.clone());
            self.write_blocking(true, |transaction| {
                let settlement = &record.settlement;
                transaction.put(&record)?;
                transaction.event(
                    EventSubject::Settlement(settlement.id),
                    format!(
                        "{} to pay by {} for the hour from {}",
                        settlement.money(),
                        settlement.account,
                        settlement.from
                    ),
                );
                tell_budgets(transaction, &settlement.account, month, spent)?;
                let balance = transaction
                    .balance(&settlement.account, settlement.currency)?
                    .checked_sub(settlement.money())
                    .map_err(too_much)?;
                if balance.is_negative() {
                    note_debt(transaction, &settlement.account, balance, settlement.to)?;
                }
                Ok(())
            })?;
            let recorded = self.books().bills.record(&settlement);
            recorded.map_err(|error| refused(error, "be recorded"))?;
        }
        Ok(())
    }

    /// Invoices every month that is over and was settled. What is charged for it later goes to the month after it.
    fn close_months(&self, now: Timestamp) -> Result<()> {
        let ended = self.books().bills.ended(now);
        if ended.is_empty() {
            return Ok(());
        }
        let charges = self.list::<ChargeRecord>()?;
        let settlements = self.list::<SettlementRecord>()?;
        let purchases = self.list::<PurchaseRecord>()?;
        let books = Books::new(
            charges.iter().map(|record| &record.charge),
            settlements.iter().map(|record| &record.settlement),
            purchases.iter().map(|record| &record.purchase),
        );
        for ended in ended {
            let invoice = books.invoice(&ended.account, ended.currency, ended.month);
            let invoice = invoice
                .map_err(|error| ControlError::internal("A month cannot be invoiced.", error))?;
            let record = InvoiceRecord::new(&invoice, now).map_err(|error| {
                ControlError::internal("An invoice cannot be written down.", error)
            })?;
            self.write_blocking(true, |transaction| {
                // One that is kept stays as it is.
                if transaction.get::<InvoiceRecord>(&record.key)?.is_some() {
                    return Ok(());
                }
                transaction.put(&record)?;
                transaction.event(
                    EventSubject::Invoice(invoice.id),
                    format!(
                        "{} is closed for {}: {} {} to pay",
                        invoice.month, invoice.account, invoice.total, invoice.currency
                    ),
                );
                Ok(())
            })?;
            self.books().bills.close(ended);
        }
        Ok(())
    }
}

/// Says which thresholds of the account's budgets are passed now that `spent` was spent in `month`, and writes down that it was
/// said.
pub(crate) fn tell_budgets(
    transaction: &mut Transaction<'_>,
    account: &AccountId,
    month: Month,
    spent: Money,
) -> Result<()> {
    for mut record in transaction.list::<BudgetRecord>()? {
        let limit = record.budget.limit();
        if record.budget.account() != account || limit.currency != spent.currency {
            continue;
        }
        let alerts = record.budget.alerts(month, spent).map_err(|error| {
            ControlError::internal("A budget cannot be compared with what was spent.", error)
        })?;
        for alert in &alerts {
            record.budget.record(alert);
            let (name, percent) = (&record.name, alert.percent);
            transaction.event(
                EventSubject::Budget(name.clone()),
                format!("{spent} spent in {month}: {percent} % of the budget {name} of {limit} is reached"),
            );
        }
        if !alerts.is_empty() {
            transaction.put(&record)?;
        }
    }
    Ok(())
}
