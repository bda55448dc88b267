//! `ashlar decisions`.

use api_types::{Decision, DecisionInputs, DecisionRerun, Outcome};
use clap::Subcommand;

use crate::{
    client::{Client, Error, Query},
    output::{Column, Output, age_now, facts, or_dash, print},
};

const COLUMNS: &[Column<Decision>] = &[
    Column("ID", |d| d.id.clone()),
    Column("INSTANCE", |d| d.instance_id.clone()),
    Column("HOST", |d| or_dash(d.host_id.as_ref())),
    Column("POLICY", |d| d.policy.clone()),
    Column("REASON", |d| d.reason.clone()),
    Column("AGE", |d| age_now(&d.decided_at)),
];

/// Decisions: why an instance is where it is.
#[derive(Debug, Subcommand)]
pub enum Decisions {
    /// List decisions
    Ls {
        /// Only those about this instance
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// Explain one decision: what became of every host, and why
    #[command(
        after_help = "Example:\n  ashlar decisions show i-…          the latest decision about an instance"
    )]
    Show {
        /// The decision, or the instance it was about
        id: String,
    },
    /// Write out what decisions were made from, a JSON object on each line, to be replayed elsewhere
    #[command(
        after_help = "Each line has the request, the hosts as they were then, and the host that was chosen.\n\nExample:\n  ashlar decisions export > decisions.jsonl"
    )]
    Export {
        /// Only those about this instance
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// Make a decision again, by the policy that made it and from what it was asked: it must come out the same
    #[command(
        after_help = "Exit status 1 when something else comes out. Nothing changes.\n\nExample:\n  ashlar decisions rerun i-…         the latest decision about an instance"
    )]
    Rerun {
        /// The decision, or the instance it was about
        id: String,
    },
}

impl Decisions {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls { instance } => {
                let path = Query::of("/v1/decisions")
                    .add("instance_id", instance)
                    .finish();
                let page = client.list::<Decision>(&path).await?;
                output.list(&page, &page.items, |d| d.id.clone(), COLUMNS)
            }
            Self::Export { instance } => {
                let path = Query::of("/v1/decisions/inputs")
                    .add("instance_id", instance)
                    .finish();
                let page = client.list::<DecisionInputs>(&path).await?;
                for inputs in &page.items {
                    let line = serde_json::to_string(inputs);
                    print(&line.map_err(|error| Error::Failed(error.to_string()))?)?;
                }
                Ok(())
            }
            Self::Show { id } => {
                let id = decision_id(client, id).await?;
                let decision: Decision = client.get(&super::item("decisions", &id)).await?;
                output.answer(&decision, |d| describe(d, output))
            }
            Self::Rerun { id } => {
                let id = decision_id(client, id).await?;
                let path = format!("{}/rerun", super::item("decisions", &id));
                let rerun: DecisionRerun = client.post(&path, &serde_json::json!({})).await?;
                output.answer(&rerun, |rerun| {
                    if rerun.same {
                        format!(
                            "{id} comes out again, byte for byte ({})",
                            rerun.kept_sha256
                        )
                    } else {
                        describe(&rerun.decision, output)
                    }
                })?;
                if rerun.same {
                    return Ok(());
                }
                Err(Error::Failed(format!("{id} comes out otherwise now")))
            }
        }
    }
}

/// A decision's id as it is; of an instance, its latest decision's.
async fn decision_id(client: &Client, id: String) -> Result<String, Error> {
    if id.parse::<types::InstanceId>().is_err() {
        return Ok(id);
    }
    let path = Query::of("/v1/decisions")
        .add("instance_id", Some(&id))
        .finish();
    let decisions = client.list::<Decision>(&path).await?.items;
    decisions
        .into_iter()
        .max_by(|a, b| a.decided_at.cmp(&b.decided_at))
        .map(|decision| decision.id)
        .ok_or_else(|| Error::Failed(format!("no decision about {id} is kept")))
}

fn describe(d: &Decision, output: &Output) -> String {
    let mut text = facts(&[
        ("id", d.id.clone()),
        ("instance", d.instance_id.clone()),
        (
            "host",
            d.host_id.clone().unwrap_or_else(|| "none would do".into()),
        ),
        ("reason", d.reason.clone()),
        ("policy", d.policy.clone()),
        ("module", d.module_sha256.clone().unwrap_or_default()),
        (
            "fell back because",
            d.fallback_reason.clone().unwrap_or_default(),
        ),
        ("decided", d.decided_at.clone()),
        ("took", format!("{:.3} ms", d.elapsed_ms)),
    ]);
    if !d.hosts.is_empty() {
        text.push_str("\n\n");
        text.push_str(&output.table(
            &d.hosts,
            &[
                Column("HOST", |h| h.host_id.clone()),
                Column("OUTCOME", |h| {
                    match h.outcome {
                        Outcome::Chosen => "chosen",
                        Outcome::Fit => "fit",
                        Outcome::Rejected => "rejected",
                    }
                    .into()
                }),
                Column("SCORE", |h| or_dash(h.score.as_ref())),
                Column("NOT MET", |h| or_dash(h.constraint.as_ref())),
            ],
        ));
    }
    text
}
