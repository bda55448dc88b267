//! `ashlar usage`.

use api_types::{Charge, Usage as Answer, UsageTotal};
use clap::Args;

use crate::{
    client::{Client, Error, Query},
    output::{Column, Format, Output, json, print},
};

/// What was used and what it costs.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ashlar usage                                     the totals per resource and meter\n  ashlar usage --charges --instance i-…            every charge of one\n  ashlar usage --from 2026-01-01T00:00:00Z -o json"
)]
pub struct Usage {
    /// Only of this instance
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Only stretches that end after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only stretches that begin before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Each charge, not only the totals (JSON has both)
    #[arg(long)]
    charges: bool,
}

impl Usage {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let path = Query::of("/v1/usage")
            .add("instance_id", self.instance)
            .add("from", self.from)
            .add("to", self.to)
            .add("limit", Some(api_types::MAX_PAGE_ITEMS))
            .finish();
        let mut answer: Answer = client.get(&path).await?;
        while let Some(next) = answer.next_token.take() {
            let path = Query::of(&path).add("next_token", Some(next)).finish();
            let more: Answer = client.get(&path).await?;
            let turned = !more.charges.is_empty();
            answer.charges.extend(more.charges);
            // The totals are over everything asked for, whatever the page: the latest are the best.
            answer.totals = more.totals;
            answer.next_token = more.next_token.filter(|_| turned);
        }
        if output.format == Format::Json {
            return print(&json(&answer)?);
        }
        print(&if self.charges {
            output.table(&answer.charges, CHARGES)
        } else {
            output.table(&answer.totals, TOTALS)
        })
    }
}

const TOTALS: &[Column<UsageTotal>] = &[
    Column("RESOURCE", |t| t.resource_id.clone()),
    Column("METER", |t| t.meter.clone()),
    Column("SECONDS", |t| t.seconds.to_string()),
    Column("AMOUNT", |t| t.amount.clone()),
    Column("CURRENCY", |t| t.currency.clone()),
];

const CHARGES: &[Column<Charge>] = &[
    Column("RESOURCE", |c| c.resource_id.clone()),
    Column("METER", |c| c.meter.clone()),
    Column("FROM", |c| c.from.clone()),
    Column("TO", |c| c.to.clone()),
    Column("SECONDS", |c| c.seconds.to_string()),
    Column("AMOUNT", |c| c.amount.clone()),
    Column("CURRENCY", |c| c.currency.clone()),
    Column("POLICY", |c| c.policy.clone()),
];
