//! `ashlar budget`.

use api_types::{Budget, Page, SetBudget};
use clap::Subcommand;

use crate::{
    client::{Client, Error},
    output::{Column, Output},
};

const COLUMNS: &[Column<Budget>] = &[
    Column("NAME", |b| b.name.clone()),
    Column("ACCOUNT", |b| b.account.clone()),
    Column("MONTH", |b| b.month.clone()),
    Column("SPENT", |b| b.spent.clone()),
    Column("LIMIT", |b| b.limit.clone()),
    Column("CURRENCY", |b| b.currency.clone()),
    Column("TELLS AT", |b| percentages(&b.thresholds)),
    Column("TOLD", |b| percentages(&b.told)),
];

/// Budgets: what is meant to be spent in a month, and when to be told.
#[derive(Debug, Subcommand)]
pub enum Budgets {
    /// List budgets with what was spent this month
    #[command(visible_alias = "ls")]
    List,
    /// Set a budget, in place of one of the same name
    #[command(
        after_help = "Examples:\n  ashlar budget set team --limit 200\n  ashlar budget set team --limit 200 --tell-at 50,90,120\n  ashlar events --subject team                       be told\n\nWhat was settled in a month (UTC) counts, and each threshold is told of once a month. Setting a budget otherwise tells its\nthresholds anew; setting it as it is changes nothing."
    )]
    Set {
        /// Its name: 1 to 64 characters of 0-9, A-Z, a-z, `.`, `_` and `-`
        name: String,
        /// What is planned for a month, such as 99.50
        #[arg(long, value_name = "AMOUNT")]
        limit: String,
        /// The currency of the limit, such as USD [default: that of the host's prices]
        #[arg(long, value_name = "CODE")]
        currency: Option<String>,
        /// When to tell, in percent of the limit: up to 10 of 1 to 1000
        #[arg(
            long,
            value_name = "PERCENT",
            value_delimiter = ',',
            default_values_t = [50, 80, 100]
        )]
        tell_at: Vec<u32>,
    },
    /// Remove budgets
    Rm {
        /// The budgets
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

impl Budgets {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => {
                let page: Page<Budget> = client.get("/v1/budgets").await?;
                output.list(&page, &page.items, |b| b.name.clone(), COLUMNS)
            }
            Self::Set {
                name,
                limit,
                currency,
                tell_at,
            } => {
                let request = SetBudget {
                    limit,
                    currency,
                    thresholds: tell_at,
                };
                let path = super::item("budgets", &name);
                let budget: Budget = client.put(&path, &request).await?;
                super::created(output, &budget, &budget.name, COLUMNS)
            }
            Self::Rm { names } => super::remove(client, output, "budgets", &names).await,
        }
    }
}

fn percentages(percentages: &[u32]) -> String {
    if percentages.is_empty() {
        return "-".to_owned();
    }
    let all: Vec<String> = percentages.iter().map(|p| format!("{p}%")).collect();
    all.join(",")
}
