//! `ashlar deployment-sets`.

use api_types::{CreateDeploymentSet, DeploymentSet, DeploymentStrategy, ModifyDeploymentSet};
use clap::Subcommand;

use crate::{
    cli::Admission,
    client::{Client, Error},
    output::{Column, Output, age_now, facts, or_dash},
};

const COLUMNS: &[Column<DeploymentSet>] = &[
    Column("ID", |s| s.id.clone()),
    Column("NAME", |s| or_dash(s.name.as_ref())),
    Column("STRATEGY", |s| s.strategy.as_str().into()),
    Column("INSTANCES", |s| s.instance_ids.len().to_string()),
    Column("AGE", |s| age_now(&s.created_at)),
];

const CREATE: &str = "\
Examples:
  ashlar deployment-sets create --name quorum
  ashlar run debian --deployment-set ds-…                    on a host without another member
  ashlar deployment-sets create --name pair --strategy LowLatency";

/// Where a deployment set wants its members.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Strategy {
    /// On different hosts: no two fail with one of them
    #[value(name = "Availability")]
    Availability,
    /// On the hosts that carry members already: near each other
    #[value(name = "LowLatency", alias = "low-latency")]
    LowLatency,
}

/// Deployment sets: which instances are kept on different hosts, or together.
#[derive(Debug, Subcommand)]
pub enum DeploymentSets {
    /// List deployment sets
    Ls,
    /// Make a deployment set; instances are put into it by run --deployment-set
    #[command(after_help = CREATE)]
    Create {
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        /// For people: what it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Where its members are placed
        #[arg(long, value_enum, ignore_case = true, default_value = "Availability")]
        strategy: Strategy,
        #[command(flatten)]
        admission: Admission,
    },
    /// Show one deployment set with its members
    Show {
        /// The deployment set
        id: String,
    },
    /// Change a deployment set's name or description
    #[command(after_help = "Example:\n  ashlar deployment-sets modify ds-… --name quorum")]
    Modify {
        /// The deployment set
        id: String,
        /// The name for people
        #[arg(long)]
        name: Option<String>,
        /// For people: what it is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Delete deployment sets that no instance is in
    Rm {
        /// The deployment sets
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

impl DeploymentSets {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls => {
                let page = client.list::<DeploymentSet>("/v1/deployment-sets").await?;
                output.list(&page, &page.items, |s| s.id.clone(), COLUMNS)
            }
            Self::Create {
                name,
                description,
                strategy,
                admission,
            } => {
                let request = CreateDeploymentSet {
                    name,
                    description,
                    strategy: match strategy {
                        Strategy::Availability => DeploymentStrategy::Availability,
                        Strategy::LowLatency => DeploymentStrategy::LowLatency,
                    },
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                let set: DeploymentSet = client.post("/v1/deployment-sets", &request).await?;
                super::created(output, &set, &set.id, COLUMNS)
            }
            Self::Show { id } => {
                let set: DeploymentSet = client.get(&super::item("deployment-sets", &id)).await?;
                output.answer(&set, |s| {
                    facts(&[
                        ("id", s.id.clone()),
                        ("name", s.name.clone().unwrap_or_default()),
                        ("description", s.description.clone().unwrap_or_default()),
                        ("strategy", s.strategy.as_str().into()),
                        ("instances", s.instance_ids.join("\n")),
                        ("created", s.created_at.clone()),
                    ])
                })
            }
            Self::Modify {
                id,
                name,
                description,
            } => {
                let change = ModifyDeploymentSet { name, description };
                if change == ModifyDeploymentSet::default() {
                    return Err(Error::Usage("say what is to be changed".into()));
                }
                let path = super::item("deployment-sets", &id);
                let set: DeploymentSet = client.patch(&path, &change).await?;
                super::created(output, &set, &set.id, COLUMNS)
            }
            Self::Rm { ids } => super::remove(client, output, "deployment-sets", &ids).await,
        }
    }
}
