//! `ashlar bill`.

use api_types::{
    Bill, BillFinding, BillLine, BillReplay, BillSummary, BillVerification, ReplayPlugin, Unpriced,
};
use clap::{Args, Subcommand};

use super::plugins;
use crate::{
    client::{Client, Error, Query, encode},
    output::{Column, Format, Output, facts, write_out},
};

const COLUMNS: &[Column<BillSummary>] = &[
    Column("MONTH", |b| b.month.clone()),
    Column("ACCOUNT", |b| b.account.clone()),
    Column("TOTAL", |b| b.total.clone()),
    Column("CURRENCY", |b| b.currency.clone()),
    Column("STATE", |b| state(b).into()),
    Column("ID", |b| b.id.clone()),
];

const LINES: &[Column<BillLine>] = &[
    Column("RESOURCE", |l| l.resource_id.clone()),
    Column("FOR", |l| l.meter.clone()),
    Column("DETAIL", |l| l.detail.clone()),
    Column("FROM", |l| l.from.clone()),
    Column("TO", |l| l.to.clone()),
    Column("AMOUNT", |l| l.amount.clone()),
];

const FINDINGS: &[Column<BillFinding>] = &[
    Column("KIND", |f| f.kind.clone()),
    Column("SUBJECT", |f| f.subject.clone()),
    Column("WHAT", |f| f.what.clone()),
];

const UNPRICED: &[Column<Unpriced>] = &[
    Column("POLICY", |u| u.policy.clone()),
    Column("PARAMETERS", |u| u.configuration_sha256.clone()),
    Column("RUNS", |u| u.runs.to_string()),
];

/// Bills: what is to be paid for each month, and whether it is right.
#[derive(Debug, Subcommand)]
pub enum Bills {
    /// List the bills of every month
    #[command(visible_alias = "ls")]
    List,
    /// Show one bill: final once its month is closed, until then what it comes to so far
    #[command(
        after_help = "Examples:\n  ashlar bill show 2026-01\n  ashlar bill show 2026-01 --format page             as it is sent to people\n  ashlar bill show 2026-01 --format csv > january.csv\n\nUse is settled when its hour (UTC) is over, and the month is closed after its last one."
    )]
    Show {
        #[command(flatten)]
        which: Which,
        /// How to write it, in place of --output: csv for spreadsheets, page for people
        #[arg(long, value_enum)]
        format: Option<Written>,
    },
    /// Check that all records of money agree: with each other, and with the instances and disks there are
    #[command(
        after_help = "Example:\n  ashlar bill verify && echo all is well\n\nIt ends with status 1 and a list if anything is wrong: seconds that were charged twice or not at all, usage that is open though\nits resource is gone, prices that are not the policy's, settlements and bills that do not add up or were altered."
    )]
    Verify,
    /// Make a month's bill again, from charges alone, and compare with what is kept
    #[command(
        after_help = "Examples:\n  ashlar bill replay 2026-01\n  ashlar bill replay 2026-01 -o json | jq .differences\n\nIt ends with status 1 and a list if anything comes out otherwise."
    )]
    Replay {
        #[command(flatten)]
        which: Which,
    },
    /// Compare what was charged in a month with what another policy would have charged
    #[command(
        after_help = "Example:\n  ashlar bill diff 2026-01 --policy tiered@2     resource by resource, and in all\n\nNothing changes. Each stretch of use is priced as a whole; settlements and bills are not made again."
    )]
    Diff {
        /// The month, in UTC, such as 2026-01
        month: types::Month,
        /// The installed policy: `tiered@3`, or `tiered` for its latest revision
        #[arg(long, value_name = "NAME")]
        policy: String,
    },
}

/// Which bill.
#[derive(Debug, Args)]
pub struct Which {
    /// The month, in UTC, such as 2026-01
    month: String,
    /// Who pays [default: the host's account]
    #[arg(long)]
    account: Option<String>,
    /// The currency, such as USD [default: that of the host's prices]
    #[arg(long, value_name = "CODE")]
    currency: Option<String>,
}

impl Which {
    fn query(self, rest: &str) -> Query {
        Query::of(&format!("/v1/bills/{}{rest}", encode(&self.month)))
            .add("account", self.account)
            .add("currency", self.currency)
    }
}

/// How a bill is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Written {
    /// Columns and sums
    Table,
    /// JSON exactly as the host answers
    Json,
    /// Comma-separated values, for spreadsheets
    Csv,
    /// The page that the host makes of it
    Page,
}

impl Bills {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => {
                let page = client.list::<BillSummary>("/v1/bills").await?;
                output.list(&page, &page.items, |b| b.id.clone(), COLUMNS)
            }
            Self::Show { which, format } => show(which, format, client, output).await,
            Self::Verify => {
                let path = "/v1/bills/verify";
                let found: BillVerification = client.post(path, &serde_json::json!({})).await?;
                output.answer(&found, |f| verified(f, output))?;
                wrong(
                    found.violations.len(),
                    "violation",
                    "`ashlar bill replay MONTH` shows what the bill of a month should be; restore a copy of the state folder from before, or find out who changed it",
                )
            }
            Self::Diff { month, policy } => {
                let period = ReplayPlugin {
                    from: Some(month.start().to_string()),
                    to: Some(month.end().to_string()),
                };
                plugins::replay(client, output, &policy, &period).await
            }
            Self::Replay { which } => {
                let path = which.query("/replay").finish();
                let again: BillReplay = client.post(&path, &serde_json::json!({})).await?;
                output.answer(&again, |a| replayed(a, output))?;
                wrong(
                    again.differences.len(),
                    "difference",
                    "`ashlar bill verify` shows which record does not fit; restore a copy of the state folder from before, or find out who changed it",
                )
            }
        }
    }
}

async fn show(
    which: Which,
    format: Option<Written>,
    client: &Client,
    output: &Output,
) -> Result<(), Error> {
    let query = which.query("");
    let written = match format {
        Some(Written::Csv) => "csv",
        Some(Written::Page) => "page",
        Some(Written::Table | Written::Json) | None => {
            let bill: Bill = client.get(&query.finish()).await?;
            let format = match format {
                Some(Written::Json) => Format::Json,
                Some(_) => Format::Table,
                None => output.format,
            };
            let output = output.with_format(format);
            return output.answer(&bill, |b| describe(b, &output));
        }
    };
    let path = query.add("format", Some(written)).finish();
    write_out(&client.get_bytes(&path).await?)
}

const fn state(bill: &BillSummary) -> &'static str {
    if bill.provisional {
        "provisional"
    } else {
        "closed"
    }
}

fn describe(bill: &Bill, output: &Output) -> String {
    let b = &bill.summary;
    let head = facts(&[
        ("id", b.id.clone()),
        ("account", b.account.clone()),
        ("month", b.month.clone()),
        ("state", state(b).into()),
        ("closed", b.closed_at.clone().unwrap_or_default()),
        ("sha256", b.sha256.clone().unwrap_or_default()),
    ]);
    let money = |amount: &String| format!("{amount} {}", b.currency);
    let sums = facts(&[
        ("usage", money(&bill.usage)),
        ("+ carried from before", money(&bill.carried_in)),
        ("- carried on", money(&bill.carried_out)),
        ("= settled", money(&bill.settled)),
        ("+ purchases", money(&bill.purchases)),
        ("- refunds", money(&bill.refunds)),
        ("= to be paid", money(&b.total)),
        (
            "not settled yet",
            b.unsettled.as_ref().map(money).unwrap_or_default(),
        ),
    ]);
    let lines = if bill.lines.is_empty() {
        "Nothing is settled.".to_owned()
    } else {
        output.table(&bill.lines, LINES)
    };
    format!("{head}\n\n{lines}\n\n{sums}")
}

fn verified(found: &BillVerification, output: &Output) -> String {
    let head = facts(&[
        ("records", found.records.to_string()),
        ("metered through", found.through.clone()),
        ("violations", found.violations.len().to_string()),
    ]);
    with_findings(head, &found.violations, &found.unpriced, output)
}

fn replayed(again: &BillReplay, output: &Output) -> String {
    let state = if again.provisional {
        "provisional"
    } else {
        "closed"
    };
    let head = facts(&[
        ("account", again.account.clone()),
        ("month", again.month.clone()),
        ("state", state.into()),
        ("settlements", again.settlements.to_string()),
        ("priced again", again.runs.to_string()),
        ("total", format!("{} {}", again.total, again.currency)),
        ("differences", again.differences.len().to_string()),
    ]);
    with_findings(head, &again.differences, &again.unpriced, output)
}

fn with_findings(
    mut text: String,
    findings: &[BillFinding],
    unpriced: &[Unpriced],
    output: &Output,
) -> String {
    if !findings.is_empty() {
        text.push_str("\n\n");
        text.push_str(&output.table(findings, FINDINGS));
    }
    if !unpriced.is_empty() {
        text.push_str("\n\nNot priced again, because these policies are not in force any more:\n");
        text.push_str(&output.table(unpriced, UNPRICED));
    }
    text
}

/// Nothing, if there are no findings.
fn wrong(count: usize, what: &str, next_step: &str) -> Result<(), Error> {
    match count {
        0 => Ok(()),
        1 => Err(Error::Found {
            what: format!("1 {what} was found"),
            next_step: next_step.to_owned(),
        }),
        _ => Err(Error::Found {
            what: format!("{count} {what}s were found"),
            next_step: next_step.to_owned(),
        }),
    }
}
