//! Accounts: how they pay, what they paid, what they owe.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Somebody who pays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Its id.
    pub id: String,
    /// How it pays.
    pub pay_by: PayBy,
    /// What it has paid in and not used yet, in each currency; below zero it owes. Empty of one that pays by invoice.
    pub balances: Vec<Balance>,
    /// Its debts, one for each currency.
    pub arrears: Vec<AccountArrears>,
}

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PayBy {
    /// By its monthly invoice, outside of this program: it is never in arrears here.
    Invoice,
    /// From what it has paid in: each settlement and purchase is taken from its balance.
    Balance,
}

/// What an account has in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Balance {
    /// How much, a decimal.
    pub amount: String,
    /// ISO 4217 code of it.
    pub currency: String,
}

/// A debt of an account in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountArrears {
    /// How much, a decimal.
    pub owed: String,
    /// ISO 4217 code of it.
    pub currency: String,
    /// When payment first failed (RFC 3339).
    #[schema(format = DateTime)]
    pub since: String,
    /// When what the account has was stopped for it (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub stopped_at: Option<String>,
    /// What is done next if nothing is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<ArrearsAction>,
    /// When that is done (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub next_at: Option<String>,
}

/// What is done about a debt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArrearsAction {
    /// It is tried again to collect it.
    Retry,
    /// What the account has is stopped (ECS AccountUnbalanced.Stop).
    Stop,
    /// What the account has is released (ECS AccountUnbalanced.Delete).
    Release,
}

/// Say how an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetAccount {
    /// How. One that begins to pay from its balance begins with nothing.
    pub pay_by: PayBy,
}

/// Note that an account paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PayIn {
    /// How much, a decimal of at most 2 decimals; below zero it is paid out.
    pub amount: String,
    /// ISO 4217 code of it; absent: that of the host's prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// What people know it by, such as the number of a transfer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub reference: Option<String>,
    /// Makes a repeated request answer what the first answered, and pay once: up to 64 ASCII characters of your choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub client_token: Option<String>,
    /// Check everything, change nothing: a request that would succeed answers the problem `DryRunOperation`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Money that an account paid in, or that changed its balance otherwise than by use and purchases.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Payment {
    /// `pay-…`
    pub id: String,
    /// Whose.
    pub account: String,
    /// How much, a decimal; below zero is a payout.
    pub amount: String,
    /// ISO 4217 code of it.
    pub currency: String,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub at: String,
    /// Of what kind.
    pub kind: PaymentKind,
    /// What people know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
}

/// Why an account's balance changed, apart from what it used and bought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaymentKind {
    /// Money was paid in, or out.
    Deposit,
    /// It began to pay from its balance: what it had used before is paid by invoice.
    Opening,
}
