//! `ashlar subscription`.

use api_types::{
    ChangeSubscription, ModifySubscription, Period, Purchase, PurchaseKind, RenewSubscription,
    Subscription, SubscriptionState,
};
use clap::{ArgGroup, Subcommand};

use crate::{
    cli::Admission,
    client::{Client, Error},
    output::{Column, Output, facts},
    period,
};

const COLUMNS: &[Column<Subscription>] = &[
    Column("ID", |s| s.id.clone()),
    Column("FOR", |s| s.resource_id.clone()),
    Column("PLAN", |s| s.plan.clone()),
    Column("STATE", |s| state(s.state).into()),
    Column("EXPIRES", |s| s.expires_at.clone()),
    Column("AUTO-RENEW", |s| renewed(s.auto_renew)),
];

const PURCHASES: &[Column<Purchase>] = &[
    Column("KIND", |p| kind(p.kind).into()),
    Column("PLAN", |p| p.plan.clone()),
    Column("AT", |p| p.at.clone()),
    Column("FROM", |p| p.from.clone()),
    Column("TO", |p| p.to.clone()),
    Column("AMOUNT", |p| p.amount.clone()),
    Column("CURRENCY", |p| p.currency.clone()),
];

/// Subscriptions: instances that are paid for in advance.
#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// List subscriptions
    #[command(visible_alias = "ls")]
    List,
    /// Show one, with all that was paid for it
    Show {
        /// The subscription
        id: String,
    },
    /// Buy another term; what had stopped because it expired starts again
    #[command(
        after_help = "Examples:\n  ashlar subscription renew sub-… --period 1-month\n  ashlar subscription renew sub-… --period 1-year --client-token 2026-07    once, however often it is sent\n\nThe new term follows on the one that runs. An expired one can be renewed for 15 days; its term begins then."
    )]
    Renew {
        /// The subscription
        id: String,
        /// For how long: 2-weeks, 1-month, 3-years (or 2w, 1m, 3y)
        #[arg(long, value_name = "PERIOD", value_parser = period::parse)]
        period: Period,
        #[command(flatten)]
        admission: Admission,
    },
    /// Have one renewed by itself, or not any more
    #[command(
        group = ArgGroup::new("renewal").required(true),
        after_help = "Examples:\n  ashlar subscription auto-renew sub-… --period 1-month\n  ashlar subscription auto-renew sub-… --off\n\nIt is tried daily from 9 days before the end on; `ashlar events --subject sub-…` tells what came of it. Without it, the instance stops at the end and is released 15 days later."
    )]
    AutoRenew {
        /// The subscription
        id: String,
        /// For how long each time: 2-weeks, 1-month, 3-years (or 2w, 1m, 3y)
        #[arg(long, value_name = "PERIOD", value_parser = period::parse, group = "renewal")]
        period: Option<Period>,
        /// Not any more
        #[arg(long, group = "renewal")]
        off: bool,
    },
    /// Give its stopped instance another type for the rest of what is paid
    #[command(
        after_help = "Example:\n  ashlar stop i-… --wait && ashlar subscription change sub-… --type ecs.g6.xlarge && ashlar start i-…\n\nThe difference for the rest of the term is paid at once; below zero it is paid back."
    )]
    Change {
        /// The subscription
        id: String,
        /// The new instance type, such as ecs.g6.xlarge
        #[arg(long = "type", value_name = "TYPE")]
        instance_type: String,
        #[command(flatten)]
        admission: Admission,
    },
}

impl Subscriptions {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let changed = match self {
            Self::List => {
                let page = client.list::<Subscription>("/v1/subscriptions").await?;
                return output.list(&page, &page.items, |s| s.id.clone(), COLUMNS);
            }
            Self::Show { id } => {
                let shown: Subscription = client.get(&path(&id)).await?;
                return output.answer(&shown, |s| describe(s, output));
            }
            Self::Renew {
                id,
                period,
                admission,
            } => {
                let request = RenewSubscription {
                    period,
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                client.post(&format!("{}/renew", path(&id)), &request).await
            }
            Self::AutoRenew { id, period, off: _ } => {
                let request = ModifySubscription { auto_renew: period };
                client.patch(&path(&id), &request).await
            }
            Self::Change {
                id,
                instance_type,
                admission,
            } => {
                let request = ChangeSubscription {
                    instance_type,
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                client
                    .post(&format!("{}/change", path(&id)), &request)
                    .await
            }
        };
        let changed: Subscription = changed?;
        super::created(output, &changed, &changed.id, COLUMNS)
    }
}

fn describe(s: &Subscription, output: &Output) -> String {
    let head = facts(&[
        ("id", s.id.clone()),
        ("account", s.account.clone()),
        ("for", s.resource_id.clone()),
        ("plan", s.plan.clone()),
        ("state", state(s.state).into()),
        ("period", s.period.map(period::words).unwrap_or_default()),
        ("expires", s.expires_at.clone()),
        ("auto-renew", renewed(s.auto_renew)),
    ]);
    format!("{head}\n\n{}", output.table(&s.purchases, PURCHASES))
}

fn renewed(auto_renew: Option<Period>) -> String {
    auto_renew.map_or_else(|| "off".into(), period::words)
}

const fn state(state: SubscriptionState) -> &'static str {
    match state {
        SubscriptionState::Active => "active",
        SubscriptionState::Stopped => "stopped",
        SubscriptionState::Released => "released",
    }
}

const fn kind(kind: PurchaseKind) -> &'static str {
    match kind {
        PurchaseKind::New => "new",
        PurchaseKind::Renewal => "renewal",
        PurchaseKind::AutoRenewal => "auto-renewal",
        PurchaseKind::Upgrade => "upgrade",
        PurchaseKind::Downgrade => "downgrade",
    }
}

fn path(id: &str) -> String {
    super::item("subscriptions", id)
}
