//! `ashlar account`.

use api_types::{
    Account, AccountArrears, ArrearsAction, Balance, Page, PayBy, PayIn, Payment, PaymentKind,
    SetAccount,
};
use clap::{Args, Subcommand};
use types::AccountId;

use crate::{
    cli::Admission,
    client::{Client, Error},
    output::{Column, Output, or_dash},
};

const COLUMNS: &[Column<Account>] = &[
    Column("ACCOUNT", |a| a.id.clone()),
    Column("PAYS BY", |a| pay_by(a.pay_by).into()),
    Column("BALANCE", |a| {
        some(&a.balances, |b: &Balance| {
            format!("{} {}", b.amount, b.currency)
        })
    }),
    Column("OWES", |a| some(&a.arrears, owes)),
    Column("NEXT", |a| some(&a.arrears, next)),
];

const PAYMENTS: &[Column<Payment>] = &[
    Column("ID", |p| p.id.clone()),
    Column("AT", |p| p.at.clone()),
    Column("KIND", |p| kind(p.kind).into()),
    Column("AMOUNT", |p| p.amount.clone()),
    Column("CURRENCY", |p| p.currency.clone()),
    Column("REFERENCE", |p| or_dash(p.reference.as_ref())),
];

/// Accounts: how they pay, what they paid, what they owe.
#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// List accounts with what they have and what they owe
    #[command(visible_alias = "ls")]
    List,
    /// Say how an account pays
    #[command(
        after_help = "Examples:\n  ashlar account set --pay-by balance && ashlar account pay 100 --reference 'transfer 4711'\n  ashlar account set --pay-by invoice\n\nBy invoice: the month's bill is paid elsewhere. From its balance: each hour's use and each purchase is taken from what was paid in. Once that is used up, the account owes: after 15 days what it has is stopped, 15 days later released. What it used and bought before it began to pay from its balance is paid by invoice."
    )]
    Set {
        #[command(flatten)]
        which: Which,
        /// How it pays
        #[arg(long, value_enum)]
        pay_by: Paying,
    },
    /// Note that an account paid
    #[command(
        after_help = "Examples:\n  ashlar account pay 100 --reference 'transfer 4711'\n  ashlar account pay 100 --client-token 4711       once, however often it is sent\n  ashlar account pay -12.50                         pay out\n\nOnce an account has paid all that it owed, what was stopped for that starts again."
    )]
    Pay {
        /// How much, such as 99.50; below zero it is paid out
        #[arg(allow_negative_numbers = true)]
        amount: String,
        /// The currency, such as USD [default: that of the host's prices]
        #[arg(long, value_name = "CODE")]
        currency: Option<String>,
        /// What people know it by, such as the number of a transfer
        #[arg(long, value_name = "TEXT")]
        reference: Option<String>,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        admission: Admission,
    },
    /// List what an account paid
    Payments {
        #[command(flatten)]
        which: Which,
    },
}

/// Whose.
#[derive(Debug, Args)]
pub struct Which {
    /// The account
    #[arg(long, value_name = "ID", default_value_t)]
    account: AccountId,
}

impl Which {
    fn path(&self) -> String {
        super::item("accounts", &self.account.to_string())
    }
}

/// How an account pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Paying {
    /// By its monthly invoice, elsewhere
    Invoice,
    /// From what it has paid in
    Balance,
}

impl Accounts {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => {
                let page: Page<Account> = client.get("/v1/accounts").await?;
                output.list(&page, &page.items, |a| a.id.clone(), COLUMNS)
            }
            Self::Set { which, pay_by } => {
                let request = SetAccount {
                    pay_by: match pay_by {
                        Paying::Invoice => PayBy::Invoice,
                        Paying::Balance => PayBy::Balance,
                    },
                };
                let account: Account = client.put(&which.path(), &request).await?;
                super::created(output, &account, &account.id, COLUMNS)
            }
            Self::Pay {
                amount,
                currency,
                reference,
                which,
                admission,
            } => {
                let request = PayIn {
                    amount,
                    currency,
                    reference,
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                let path = format!("{}/payments", which.path());
                let payment: Payment = client.post(&path, &request).await?;
                super::created(output, &payment, &payment.id, PAYMENTS)
            }
            Self::Payments { which } => {
                let path = format!("{}/payments", which.path());
                let page = client.list::<Payment>(&path).await?;
                output.list(&page, &page.items, |p| p.id.clone(), PAYMENTS)
            }
        }
    }
}

fn some<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    if items.is_empty() {
        return "-".into();
    }
    items.iter().map(text).collect::<Vec<_>>().join(", ")
}

fn owes(arrears: &AccountArrears) -> String {
    format!(
        "{} {} since {}",
        arrears.owed, arrears.currency, arrears.since
    )
}

fn next(arrears: &AccountArrears) -> String {
    let action = match arrears.next_action {
        Some(ArrearsAction::Retry) => "try again",
        Some(ArrearsAction::Stop) => "stop",
        Some(ArrearsAction::Release) => "release",
        None => return "-".into(),
    };
    format!("{action} at {}", or_dash(arrears.next_at.as_ref()))
}

const fn pay_by(pay_by: PayBy) -> &'static str {
    match pay_by {
        PayBy::Invoice => "invoice",
        PayBy::Balance => "balance",
    }
}

const fn kind(kind: PaymentKind) -> &'static str {
    match kind {
        PaymentKind::Deposit => "deposit",
        PaymentKind::Opening => "opening",
    }
}
