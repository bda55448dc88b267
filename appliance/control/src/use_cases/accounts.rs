//! Accounts: how they pay, what they paid, what they owe.

use crate::{
    Control, ControlError, Result,
    commands::{PayIn, SetAccount},
    core::{Core, Transaction, blocking},
    model::{Account, AccountArrears, EventSubject, PayBy, Payment, PaymentKind},
    records::{AccountRecord, ArrearsRecord, PaymentRecord},
    tokens::Ticket,
    use_cases::purchase::pay_by,
};
use std::collections::{BTreeMap, BTreeSet};
use types::{AccountId, Currency, Money, PaymentId};

/// The longest reference of a payment, in characters.
const MAX_REFERENCE: usize = 128;

impl Control {
    /// The host's account, and all others that used or paid something, by id.
    pub async fn accounts(&self) -> Result<Vec<Account>> {
        let core = self.core().clone();
        blocking(move || list(&core)).await?
    }

    /// Says how an account pays. One that begins to pay from its balance begins with nothing: what it had used and bought before is
    /// paid by invoice. One that pays by invoice owes nothing here. `InvalidAccountId.NotFound` of one that nobody knows.
    pub async fn set_account(&self, command: SetAccount) -> Result<Account> {
        let core = self.core().clone();
        let account = command.account.unwrap_or(core.settings.account.clone());
        let id = account.clone();
        let set = move |transaction: &mut Transaction<'_>| {
            check_known(transaction, &account)?;
            if pay_by(transaction, &account)? == command.pay_by {
                return Ok(());
            }
            transaction.put(&AccountRecord::new(account.clone(), command.pay_by))?;
            let message = format!("the account {account} pays by {}", command.pay_by.name());
            transaction.event(EventSubject::Account(account.clone()), message);
            if command.pay_by == PayBy::Invoice {
                return Ok(());
            }
            for currency in currencies(transaction, &account) {
                let balance = transaction.balance(&account, currency)?;
                if balance.is_negative() {
                    let zero = Money::zero(currency);
                    let money = zero.checked_sub(balance).map_err(crate::bills::too_much)?;
                    let payment = payment(transaction, &account, money, PaymentKind::Opening);
                    transaction.pay(payment)?;
                }
            }
            Ok(())
        };
        // An hour that is being settled is settled before or after.
        let metered = core.clone();
        blocking(move || {
            let _metering = metered.metering();
            metered.write_blocking(true, set)
        })
        .await??;
        self.deal_now().await?;
        let all = self.accounts().await?;
        all.into_iter()
            .find(|account| account.id == id)
            .ok_or_else(|| ControlError::not_found("AccountId", "account", &id))
    }

    /// Notes that an account paid. If it owed and has paid all, what was stopped for that starts again.
    pub async fn pay_in(&self, command: PayIn) -> Result<Payment> {
        let ticket = Ticket::new("PayIn", &command.request, &command)?;
        let core = self.core().clone();
        let account = command.account.unwrap_or(core.settings.account.clone());
        let currency = command
            .currency
            .unwrap_or_else(|| core.policies.in_force().currency());
        let believed = command.amount.abs() <= ledger::MAX_AMOUNT;
        if command.amount.is_zero() || !believed || command.amount.scale() > 2 {
            let message = format!(
                "An amount of {}: it has at most 2 decimals, is not 0, and at most {} either way.",
                command.amount,
                ledger::MAX_AMOUNT
            );
            return Err(ControlError::invalid("amount", message));
        }
        if let Some(reference) = &command.reference {
            types::check_words("the reference", reference, MAX_REFERENCE)
                .map_err(|why| ControlError::invalid("reference", crate::core::sentence(&why)))?;
        }
        let reference = command.reference;
        let money = Money::new(command.amount, currency);
        let pay = move |transaction: &mut Transaction<'_>| {
            if let Some(former) = ticket.former::<PaymentId>(transaction)? {
                let records = transaction.list::<PaymentRecord>()?;
                let paid = records
                    .into_iter()
                    .find(|record| former.contains(&record.payment.id));
                return paid.map(|record| record.payment).ok_or_else(|| {
                    ControlError::not_found("PaymentId", "payment", &"of that token")
                });
            }
            check_known(transaction, &account)?;
            if pay_by(transaction, &account)? == PayBy::Invoice {
                let message = format!("The account {account} pays by invoice: it has no balance.");
                return Err(ControlError::invalid("account", message)
                    .with_next_step("Have it pay from its balance first."));
            }
            ticket.end_dry_run()?;
            let payment = Payment {
                reference,
                ..payment(transaction, &account, money, PaymentKind::Deposit)
            };
            transaction.pay(payment.clone())?;
            let message = format!("the account {account} paid {money}");
            transaction.event(EventSubject::Account(account), message);
            ticket.answered(transaction, &[payment.id])?;
            Ok(payment)
        };
        let payment = core.write(pay).await?;
        self.deal_now().await?;
        Ok(payment)
    }

    /// What an account paid, oldest first; of the host's, unless another is named.
    pub async fn payments(&self, account: Option<AccountId>) -> Result<Vec<Payment>> {
        let account = account.unwrap_or(self.core().settings.account.clone());
        let records = self.core().list::<PaymentRecord>()?;
        let payments = records.into_iter().map(|record| record.payment);
        Ok(payments
            .filter(|payment| payment.account == account)
            .collect())
    }

    /// Does what is due about money now.
    pub(crate) async fn deal_now(&self) -> Result<()> {
        self.core().deal(&self.inner.instances).await.map(drop)
    }
}

fn payment(
    transaction: &Transaction<'_>,
    account: &AccountId,
    money: Money,
    kind: PaymentKind,
) -> Payment {
    Payment {
        id: PaymentId::generate(transaction.random()),
        account: account.clone(),
        money,
        at: transaction.core().now(),
        kind,
        reference: None,
    }
}

/// Refuses an account that neither is the host's nor ever used or paid something.
fn check_known(transaction: &Transaction<'_>, account: &AccountId) -> Result<()> {
    let mut known = transaction.bills().accounts();
    if *account == transaction.core().settings.account || known.any(|(known, _)| known == account) {
        return Ok(());
    }
    Err(ControlError::not_found("AccountId", "account", account)
        .with_next_step("List the accounts, and check the name."))
}

/// The currencies that an account used something in.
fn currencies(transaction: &Transaction<'_>, account: &AccountId) -> BTreeSet<Currency> {
    let known = transaction.bills().accounts();
    known
        .filter(|(known, _)| *known == account)
        .map(|(_, currency)| currency)
        .collect()
}

fn list(core: &Core) -> Result<Vec<Account>> {
    let mut accounts: BTreeMap<AccountId, Account> = BTreeMap::new();
    let new = |id: AccountId| Account {
        id,
        pay_by: PayBy::default(),
        balances: Vec::new(),
        arrears: Vec::new(),
    };
    let host = core.settings.account.clone();
    accounts.insert(host.clone(), new(host));
    let known: Vec<(AccountId, Money)> = {
        let books = core.books();
        books
            .bills
            .accounts()
            .map(|(account, currency)| (account.clone(), books.bills.balance(account, currency)))
            .collect()
    };
    for record in core.list::<AccountRecord>()? {
        let account = accounts.entry(record.account.clone());
        account.or_insert_with(|| new(record.account)).pay_by = record.pay_by;
    }
    for (id, balance) in known {
        let account = accounts.entry(id.clone()).or_insert_with(|| new(id));
        if account.pay_by == PayBy::Balance {
            account.balances.push(balance);
        }
    }
    for ArrearsRecord {
        arrears, stopped, ..
    } in core.list::<ArrearsRecord>()?
    {
        let id = arrears.account().clone();
        let account = accounts.entry(id.clone()).or_insert_with(|| new(id));
        account.arrears.push(AccountArrears {
            owed: arrears.owed(),
            since: arrears.since(),
            stopped,
            next: arrears.next(),
        });
    }
    Ok(accounts.into_values().collect())
}
