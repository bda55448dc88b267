//! `ashlar spot`.

use api_types::{Page, SetSpotPrice, SpotPrice, SpotPriceHistory, SpotPriceStep};
use clap::Subcommand;

use crate::{
    client::{Client, Error},
    output::{Column, Output, facts},
};

const COLUMNS: &[Column<SpotPrice>] = &[
    Column("TYPE", |s| s.instance_type.clone()),
    Column("PRICE", |s| s.price.clone()),
    Column("CURRENCY", |s| s.currency.clone()),
    Column("SINCE", |s| s.since.clone()),
];

const HISTORY: &[Column<SpotPriceStep>] = &[
    Column("FROM", |s| s.from.clone()),
    Column("PRICE", |s| s.price.clone()),
];

/// The market: what preemptible instances cost.
#[derive(Debug, Subcommand)]
pub enum Spot {
    /// List what each type with a market costs now
    #[command(visible_alias = "ls")]
    List,
    /// Show what a type costs, and what it cost before
    Show {
        /// The instance type, such as ecs.g6.large
        #[arg(value_name = "TYPE")]
        instance_type: String,
    },
    /// Set what one of a type costs per hour, from now on
    #[command(
        after_help = "Examples:\n  ashlar spot set ecs.g6.large 0.12\n  ashlar events                                be told who is given notice (spot.notice)\n\nInstances in their first hour keep their entry price. Past it they cost the new price at once, and those that bid less are reclaimed after five minutes' notice. A type whose price was never set costs what the billing policy says."
    )]
    Set {
        /// The instance type, such as ecs.g6.large
        #[arg(value_name = "TYPE")]
        instance_type: String,
        /// The price per hour, such as 0.12, in the currency of the host's prices
        price: String,
    },
}

impl Spot {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => {
                let page: Page<SpotPrice> = client.get("/v1/spot-prices").await?;
                output.list(&page, &page.items, |s| s.instance_type.clone(), COLUMNS)
            }
            Self::Show { instance_type } => {
                let path = super::item("spot-prices", &instance_type);
                let market: SpotPriceHistory = client.get(&path).await?;
                output.answer(&market, |market| describe(market, output))
            }
            Self::Set {
                instance_type,
                price,
            } => {
                let path = super::item("spot-prices", &instance_type);
                let market: SpotPriceHistory = client.put(&path, &SetSpotPrice { price }).await?;
                let now = std::slice::from_ref(&market.now);
                output.list(&market, now, |s| s.instance_type.clone(), COLUMNS)
            }
        }
    }
}

fn describe(market: &SpotPriceHistory, output: &Output) -> String {
    let now = &market.now;
    let head = facts(&[
        ("type", now.instance_type.clone()),
        ("price", format!("{} {} per hour", now.price, now.currency)),
        ("since", now.since.clone()),
    ]);
    format!("{head}\n\n{}", output.table(&market.history, HISTORY))
}
