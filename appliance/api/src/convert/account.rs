//! Accounts and their payments.

use api_types::{Account, AccountArrears, ArrearsAction, Balance, PayBy, Payment, PaymentKind};
use control::model;
use types::Money;

/// An account as it goes over the wire.
pub fn to_wire(account: &model::Account) -> Account {
    let balance = |money: &Money| Balance {
        amount: money.amount.to_string(),
        currency: money.currency.to_string(),
    };
    Account {
        id: account.id.to_string(),
        pay_by: match account.pay_by {
            model::PayBy::Invoice => PayBy::Invoice,
            model::PayBy::Balance => PayBy::Balance,
        },
        balances: account.balances.iter().map(balance).collect(),
        arrears: account.arrears.iter().map(arrears_to_wire).collect(),
    }
}

fn arrears_to_wire(arrears: &model::AccountArrears) -> AccountArrears {
    AccountArrears {
        owed: arrears.owed.amount.to_string(),
        currency: arrears.owed.currency.to_string(),
        since: arrears.since.to_string(),
        stopped_at: arrears.stopped.map(|at| at.to_string()),
        next_action: arrears.next.map(|next| match next.action {
            model::ArrearsAction::Retry { .. } => ArrearsAction::Retry,
            model::ArrearsAction::Stop => ArrearsAction::Stop,
            model::ArrearsAction::Release => ArrearsAction::Release,
        }),
        next_at: arrears.next.map(|next| next.at.to_string()),
    }
}

/// How an account pays, as it came over the wire.
pub fn pay_by(pay_by: PayBy) -> model::PayBy {
    match pay_by {
        PayBy::Invoice => model::PayBy::Invoice,
        PayBy::Balance => model::PayBy::Balance,
    }
}

/// A payment as it goes over the wire.
pub fn payment_to_wire(payment: &model::Payment) -> Payment {
    Payment {
        id: payment.id.to_string(),
        account: payment.account.to_string(),
        amount: payment.money.amount.to_string(),
        currency: payment.money.currency.to_string(),
        at: payment.at.to_string(),
        kind: match payment.kind {
            model::PaymentKind::Deposit => PaymentKind::Deposit,
            model::PaymentKind::Opening => PaymentKind::Opening,
        },
        reference: payment.reference.clone(),
    }
}
