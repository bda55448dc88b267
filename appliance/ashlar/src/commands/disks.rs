//! `ashlar disks`.

use api_types::{CreateDisk, Disk};
use clap::Subcommand;

use crate::{
    cli::Admission,
    client::{Client, Error, Query},
    output::{Column, Output, age_now, facts, or_dash},
    size,
};

const COLUMNS: &[Column<Disk>] = &[
    Column("ID", |d| d.id.clone()),
    Column("NAME", |d| or_dash(d.name.as_ref())),
    Column("STATE", |d| d.state.as_str().into()),
    Column("ROLE", role),
    Column("CATEGORY", |d| d.category.as_str().into()),
    Column("SIZE", |d| types::ByteCount::new(d.size_bytes).to_string()),
    Column("INSTANCE", |d| or_dash(d.instance_id.as_ref())),
    Column("AGE", |d| age_now(&d.created_at)),
];

fn role(disk: &Disk) -> String {
    match disk.role {
        api_types::DiskRole::System => "system",
        api_types::DiskRole::Data => "data",
    }
    .into()
}

/// Disks.
#[derive(Debug, Subcommand)]
pub enum Disks {
    /// List disks
    Ls {
        /// Only those of this instance
        #[arg(long, value_name = "ID")]
        instance: Option<String>,
    },
    /// Make an empty data disk
    #[command(after_help = "Example:\n  ashlar disks create 20G --name scratch")]
    Create {
        /// Its size: 20G, 1T; a bare number is GiB
        #[arg(value_parser = size::disk_gib)]
        size: u64,
        /// A name for people
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        admission: Admission,
    },
    /// Show everything about one disk
    Show {
        /// The disk
        id: String,
    },
    /// Delete disks that are Available
    Rm {
        /// The disks
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

impl Disks {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Ls { instance } => {
                let path = Query::of("/v1/disks").add("instance_id", instance).finish();
                let page = client.list::<Disk>(&path).await?;
                output.list(&page, &page.items, |d| d.id.clone(), COLUMNS)
            }
            Self::Create {
                size,
                name,
                admission,
            } => {
                let request = CreateDisk {
                    size_gib: size,
                    name,
                    client_token: admission.client_token,
                    dry_run: admission.dry_run,
                };
                let disk: Disk = client.post("/v1/disks", &request).await?;
                super::created(output, &disk, &disk.id, COLUMNS)
            }
            Self::Show { id } => {
                let disk: Disk = client.get(&super::item("disks", &id)).await?;
                output.answer(&disk, describe)
            }
            Self::Rm { ids } => super::remove(client, output, "disks", &ids).await,
        }
    }
}

fn describe(d: &Disk) -> String {
    facts(&[
        ("id", d.id.clone()),
        ("name", d.name.clone().unwrap_or_default()),
        ("state", d.state.as_str().into()),
        ("role", role(d)),
        ("size", types::ByteCount::new(d.size_bytes).to_string()),
        ("instance", d.instance_id.clone().unwrap_or_default()),
        ("image", d.image_id.clone().unwrap_or_default()),
        (
            "goes with instance",
            if d.delete_with_instance { "yes" } else { "no" }.into(),
        ),
        ("created", d.created_at.clone()),
        ("attached", d.attached_at.clone().unwrap_or_default()),
    ])
}
