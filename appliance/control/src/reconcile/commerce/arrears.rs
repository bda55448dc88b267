//! Debts of accounts that pay from their balance: retried, then what the account has is stopped, then released. What a subscription
//! pays for is paid, and stays.

use super::{Dealt, lock, unlock};
use crate::{
    ControlError, Result,
    bills::too_much,
    core::{Core, Transaction},
    model::{Disk, DiskState, EventSubject, FinancialLock, Instance, PayBy},
    records::{AccountRecord, ArrearsRecord},
    use_cases::{begin_release, purchase::pay_by},
};
use billing::{Arrears, ArrearsAction, ArrearsStep, Cleared, Due};
use types::{AccountId, Currency, InstanceId, Money, Timestamp};

impl Core {
    /// Does what is due about every debt.
    pub(super) fn follow_debts(&self, now: Timestamp, dealt: &mut Dealt) -> Result<()> {
        let accounts: Vec<(AccountId, Currency)> = self
            .books()
            .bills
            .accounts()
            .map(|(account, currency)| (account.clone(), currency))
            .collect();
        for (account, currency) in accounts {
            let key = ArrearsRecord::key_of(&account, currency);
            self.compare(&account, currency, now, dealt)?;
            while let Some(record) = self.get::<ArrearsRecord>(&key)? {
                let Some(due) = record.arrears.due(now).into_iter().next() else {
                    dealt.wake_at(record.arrears.wake());
                    break;
                };
                let debt = record.arrears.debt(record.stopped, now);
                let step = self.policies.in_force().commerce().arrears(&debt).answer;
                if !agrees(due.action, step) {
                    // The policy has it milder: it is asked again the next time.
                    break;
                }
                self.write_blocking(true, |transaction| {
                    // Something was paid meanwhile: compared again the next time.
                    if transaction.get::<ArrearsRecord>(&key)?.as_ref() == Some(&record) {
                        dealt
                            .touched
                            .extend(carry_out(transaction, record, &due, now)?);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    /// Has the record of a debt say what the balance does.
    fn compare(
        &self,
        account: &AccountId,
        currency: Currency,
        now: Timestamp,
        dealt: &mut Dealt,
    ) -> Result<()> {
        let balance = self.books().bills.balance(account, currency);
        let pays = self.get::<AccountRecord>(&account.to_string())?;
        let kept = self.get::<ArrearsRecord>(&ArrearsRecord::key_of(account, currency))?;
        let known = kept.map_or(Money::zero(currency), |record| record.arrears.owed());
        if known == owed(pays.map(|record| record.pay_by), balance)? {
            return Ok(());
        }
        self.write_blocking(true, |transaction| {
            let balance = transaction.balance(account, currency)?;
            let touched = note_debt(transaction, account, balance, now)?;
            dealt.touched.extend(touched);
            Ok(())
        })
    }
}

/// Writes down what `account` owes now that its balance is `balance`, since `since` if it did not before. Once it owes nothing, what
/// was stopped for it may start again; whose intent changes by that.
pub(crate) fn note_debt(
    transaction: &mut Transaction<'_>,
    account: &AccountId,
    balance: Money,
    since: Timestamp,
) -> Result<Vec<InstanceId>> {
    let currency = balance.currency;
    let key = ArrearsRecord::key_of(account, currency);
    let kept = transaction.get::<ArrearsRecord>(&key)?;
    let owed = owed(Some(pay_by(transaction, account)?), balance)?;
    let Some(mut record) = kept else {
        if !owed.amount.is_zero() {
            let arrears = Arrears::new(account.clone(), owed, since);
            transaction.put(&ArrearsRecord::new(arrears))?;
            let message = format!("the account {account} owes {owed}");
            transaction.event(EventSubject::Account(account.clone()), message);
        }
        return Ok(Vec::new());
    };
    let more = owed.checked_sub(record.arrears.owed()).map_err(too_much)?;
    if !more.is_negative() {
        record.arrears.add(more).map_err(too_much)?;
        transaction.put(&record)?;
        return Ok(Vec::new());
    }
    match record.arrears.clone().pay(minus(more)?).map_err(too_much)? {
        Cleared::Partly(arrears) => {
            record.arrears = arrears;
            transaction.put(&record)?;
            Ok(Vec::new())
        }
        Cleared::Wholly { .. } => {
            transaction.delete::<ArrearsRecord>(&key)?;
            let message = format!("the account {account} owes nothing in {currency} any more");
            transaction.event(EventSubject::Account(account.clone()), message);
            let others = transaction.list::<ArrearsRecord>()?;
            if others
                .iter()
                .any(|other| other.arrears.account() == account)
            {
                return Ok(Vec::new());
            }
            let mut touched = Vec::new();
            for mut instance in transaction.list::<Instance>()? {
                let locked = matches!(instance.lock, Some(FinancialLock::Arrears { .. }));
                if locked && owner(transaction, &instance.id.to_string()) == account {
                    unlock(transaction, &mut instance)?;
                    touched.push(instance.id);
                }
            }
            Ok(touched)
        }
    }
}

/// What an account owes that pays like that and has that balance.
fn owed(pay_by: Option<PayBy>, balance: Money) -> Result<Money> {
    match pay_by {
        Some(PayBy::Balance) if balance.is_negative() => minus(balance),
        _ => Ok(Money::zero(balance.currency)),
    }
}

fn agrees(action: ArrearsAction, step: ArrearsStep) -> bool {
    matches!(
        (action, step),
        (ArrearsAction::Retry { .. }, ArrearsStep::Retry)
            | (ArrearsAction::Stop, ArrearsStep::Stop)
            | (ArrearsAction::Release, ArrearsStep::Release)
    )
}

/// Does one thing that is due; for which instances something else is intended then.
fn carry_out(
    transaction: &mut Transaction<'_>,
    mut record: ArrearsRecord,
    due: &Due<ArrearsAction>,
    now: Timestamp,
) -> Result<Vec<InstanceId>> {
    let account = record.arrears.account().clone();
    let owed = record.arrears.owed();
    let mut touched = Vec::new();
    let message = match due.action {
        ArrearsAction::Retry { attempt } => {
            format!("the account {account} still owes {owed}: try {attempt} of 3 to collect it")
        }
        ArrearsAction::Stop => {
            record.stopped = Some(now);
            for mut instance in instances_of(transaction, &account)? {
                lock(transaction, &mut instance, |restart| {
                    FinancialLock::Arrears { restart }
                })?;
                touched.push(instance.id);
            }
            format!(
                "AccountUnbalanced.Stop: the account {account} owes {owed}; {} instances stop",
                touched.len()
            )
        }
        ArrearsAction::Release => {
            for mut instance in instances_of(transaction, &account)? {
                begin_release(transaction, &mut instance)?;
                touched.push(instance.id);
            }
            let disks = release_disks(transaction, &account)?;
            format!(
                "AccountUnbalanced.Delete: the account {account} owes {owed}; {} instances and {disks} disks go",
                touched.len()
            )
        }
    };
    record.arrears.done(due).map_err(|error| {
        ControlError::internal("What is due about a debt is not in order.", error)
    })?;
    transaction.put(&record)?;
    transaction.event(EventSubject::Account(account), message);
    Ok(touched)
}

/// The instances that an account pays for by the second.
fn instances_of(transaction: &Transaction<'_>, account: &AccountId) -> Result<Vec<Instance>> {
    let mut instances = transaction.list::<Instance>()?;
    instances.retain(|instance| {
        instance.charge.subscription().is_none()
            && owner(transaction, &instance.id.to_string()) == account
    });
    Ok(instances)
}

/// Has the account's disks of no instance deleted, which the sweeper does.
fn release_disks(transaction: &mut Transaction<'_>, account: &AccountId) -> Result<usize> {
    let mut released = 0;
    for mut disk in transaction.list::<Disk>()? {
        let its = owner(transaction, &disk.id.to_string()) == account;
        if disk.state == DiskState::Available && its {
            disk.state = DiskState::Deleting;
            transaction.put(&disk)?;
            let message = format!("disk {} is being deleted", disk.id);
            transaction.event(EventSubject::Disk(disk.id, Some(disk.state)), message);
            released += 1;
        }
    }
    Ok(released)
}

/// Who pays for a resource.
fn owner<'a>(transaction: &'a Transaction<'_>, resource: &str) -> &'a AccountId {
    let account = &transaction.core().settings.account;
    transaction.bills().owner(resource).unwrap_or(account)
}

fn minus(money: Money) -> Result<Money> {
    let zero = Money::zero(money.currency);
    zero.checked_sub(money).map_err(too_much)
}
