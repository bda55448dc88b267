//! `ashlar vpcs` and `ashlar vswitches`.

use api_types::{CreateVpc, CreateVswitch, Vpc, Vswitch};
use clap::Subcommand;

use crate::{
    cli::Admission,
    client::{Client, Error, Query},
    output::{Column, Output, age_now, facts, or_dash},
};

const VPC_COLUMNS: &[Column<Vpc>] = &[
    Column("ID", |v| v.id.clone()),
    Column("NAME", |v| or_dash(v.name.as_ref())),
    Column("ADDRESSES", |v| v.cidr.clone()),
    Column("DEFAULT", |v| yes_or_dash(v.is_default)),
    Column("AGE", |v| age_now(&v.created_at)),
];

const VSWITCH_COLUMNS: &[Column<Vswitch>] = &[
    Column("ID", |v| v.id.clone()),
    Column("NAME", |v| or_dash(v.name.as_ref())),
    Column("VPC", |v| v.vpc_id.clone()),
    Column("ADDRESSES", |v| v.cidr.clone()),
    Column("FREE", |v| v.available_ip_count.to_string()),
    Column("DEFAULT", |v| yes_or_dash(v.is_default)),
    Column("AGE", |v| age_now(&v.created_at)),
];

fn yes_or_dash(yes: bool) -> String {
    if yes { "yes" } else { "-" }.into()
}

/// VPCs: private networks.
#[derive(Debug, Subcommand)]
pub enum Vpcs {
    /// List VPCs
    Ls,
    /// Make a VPC
    #[command(after_help = "Example:\n  ashlar vpcs create 10.0.0.0/16 --name prod")]
    Create {
        /// Its addresses: 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or a part of one
        cidr: String,
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        admission: Admission,
    },
    /// Show one VPC
    Show {
        /// The VPC
        id: String,
    },
    /// Delete VPCs that are empty
    Rm {
        /// The VPCs
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

impl Vpcs {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls => {
                let page = client.list::<Vpc>("/v1/vpcs").await?;
                output.list(&page, &page.items, |v| v.id.clone(), VPC_COLUMNS)
            }
            Self::Create {
                cidr,
                name,
                admission,
            } => {
                let request = CreateVpc {
                    cidr,
                    name,
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                let vpc: Vpc = client.post("/v1/vpcs", &request).await?;
                super::created(output, &vpc, &vpc.id, VPC_COLUMNS)
            }
            Self::Show { id } => {
                let vpc: Vpc = client.get(&super::item("vpcs", &id)).await?;
                output.answer(&vpc, |v| {
                    facts(&[
                        ("id", v.id.clone()),
                        ("name", v.name.clone().unwrap_or_default()),
                        ("addresses", v.cidr.clone()),
                        ("default", yes_or_dash(v.is_default)),
                        ("created", v.created_at.clone()),
                    ])
                })
            }
            Self::Rm { ids } => super::remove(client, output, "vpcs", &ids).await,
        }
    }
}

/// Vswitches: subnets of VPCs.
#[derive(Debug, Subcommand)]
pub enum Vswitches {
    /// List vswitches
    Ls {
        /// Only those of this VPC
        #[arg(long, value_name = "ID")]
        vpc: Option<String>,
    },
    /// Make a vswitch
    #[command(after_help = "Example:\n  ashlar vswitches create --vpc vpc-… 10.0.1.0/24")]
    Create {
        /// The VPC to make it in
        #[arg(long, value_name = "ID")]
        vpc: String,
        /// Its addresses: a /16 to /29 within the VPC
        cidr: String,
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        admission: Admission,
    },
    /// Show one vswitch
    Show {
        /// The vswitch
        id: String,
    },
    /// Delete vswitches that nobody is on
    Rm {
        /// The vswitches
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

impl Vswitches {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls { vpc } => {
                let path = Query::of("/v1/vswitches").add("vpc_id", vpc).finish();
                let page = client.list::<Vswitch>(&path).await?;
                output.list(&page, &page.items, |v| v.id.clone(), VSWITCH_COLUMNS)
            }
            Self::Create {
                vpc,
                cidr,
                name,
                admission,
            } => {
                let request = CreateVswitch {
                    vpc_id: vpc,
                    cidr,
                    name,
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                let vswitch: Vswitch = client.post("/v1/vswitches", &request).await?;
                super::created(output, &vswitch, &vswitch.id, VSWITCH_COLUMNS)
            }
            Self::Show { id } => {
                let vswitch: Vswitch = client.get(&super::item("vswitches", &id)).await?;
                output.answer(&vswitch, |v| {
                    facts(&[
                        ("id", v.id.clone()),
                        ("name", v.name.clone().unwrap_or_default()),
                        ("vpc", v.vpc_id.clone()),
                        ("addresses", v.cidr.clone()),
                        ("free addresses", v.available_ip_count.to_string()),
                        ("default", yes_or_dash(v.is_default)),
                        ("created", v.created_at.clone()),
                    ])
                })
            }
            Self::Rm { ids } => super::remove(client, output, "vswitches", &ids).await,
        }
    }
}
