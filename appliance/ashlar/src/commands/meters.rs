//! `ashlar meter`.

use api_types::{Meter, MeterSetter, Page, SetMeter};
use clap::Subcommand;

use super::Refusals;
use crate::{
    client::{Client, Error, encode},
    output::{Column, Format, Output, print},
};

const COLUMNS: &[Column<Meter>] = &[
    Column("RESOURCE", |m| m.resource_id.clone()),
    Column("NAME", |m| m.name.clone()),
    Column("QUANTITY", |m| m.quantity.clone()),
    Column("LASTS", |m| {
        let lasts = if m.while_running {
            "while it runs"
        } else {
            "until removed"
        };
        lasts.to_owned()
    }),
    Column("SET BY", |m| {
        let by = match m.set_by {
            MeterSetter::Operator => "operator",
            MeterSetter::BillingPolicy => "billing policy",
        };
        by.to_owned()
    }),
    Column("CREATED", |m| m.created_at.clone()),
];

/// Meters: what is counted beside instances, disks and images, by names that billing policies have prices for.
#[derive(Debug, Subcommand)]
pub enum Meters {
    /// List what is metered
    #[command(visible_alias = "ls")]
    List,
    /// Have something metered of a resource, in place of a meter of the same name
    #[command(
        after_help = "Examples:\n  ashlar meter set i-0123456789abcdefg licence.database --quantity 4 --while-running\n  ashlar meter set d-0123456789abcdefg backup.gib --quantity 20\n  ashlar plugins install payg payg.wasm --set meter.licence.database=0.12 …    a price\n\nPrices are per hour and unit. A meter ends with its resource. What it counted before it was changed stays charged as it was.\nA billing policy may have more metered, such as a licence for instances with a certain label; `list` shows those, too."
    )]
    Set {
        /// The instance, disk or image: its id
        #[arg(value_name = "ID")]
        resource: String,
        /// The name that billing policies know it by: 1 to 64 characters of 0-9, a-z, `.` and `-`
        name: String,
        /// How much of it lasts from now on, such as 4 or 0.5
        #[arg(long, value_name = "NUMBER", default_value = "1")]
        quantity: String,
        /// Count only while the instance runs
        #[arg(long)]
        while_running: bool,
    },
    /// End meters of a resource
    Rm {
        /// The instance, disk or image: its id
        #[arg(value_name = "ID")]
        resource: String,
        /// The meters
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

impl Meters {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => {
                let page: Page<Meter> = client.get("/v1/meters").await?;
                output.list(&page, &page.items, |m| m.name.clone(), COLUMNS)
            }
            Self::Set {
                resource,
                name,
                quantity,
                while_running,
            } => {
                let request = SetMeter {
                    quantity,
                    while_running,
                };
                let meter: Meter = client.put(&path(&resource, &name), &request).await?;
                super::created(output, &meter, &meter.name, COLUMNS)
            }
            Self::Rm { resource, names } => {
                let mut refusals = Refusals::default();
                for name in names {
                    let deleted = client.delete(&path(&resource, &name)).await;
                    if refusals.or_answer(deleted)?.is_some() && output.format == Format::Table {
                        print(&name)?;
                    }
                }
                refusals.outcome()
            }
        }
    }
}

fn path(resource: &str, name: &str) -> String {
    format!("/v1/meters/{}/{}", encode(resource), encode(name))
}
