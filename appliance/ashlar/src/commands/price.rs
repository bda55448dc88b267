//! `ashlar price`.

use api_types::{DiskCategory, PriceUnit, Quote, QuoteDisk, QuoteInstances, QuoteLine};
use clap::Args;

use super::{charge::Paying, run};
use crate::{
    client::{Client, Error},
    output::{Column, Output, facts, or_dash},
    size,
};

const LINES: &[Column<QuoteLine>] = &[
    Column("FOR", |l| l.item.clone()),
    Column("PRICE", |l| l.amount.clone()),
    Column("DISCOUNT", |l| or_dash(l.discount.as_ref())),
];

const EXAMPLES: &str = "\
Examples:
  ashlar price --type ecs.g6.large                           by the hour
  ashlar price --type ecs.g6.large --period 1-year           in advance, for a year
  ashlar price --vcpus 2 --memory 8G --disk 40G --disk 100G --count 3
  ashlar price --type ecs.g6.large --preemptible
  ashlar price --type ecs.g6.large --period 1-month -q       the total alone

Give every disk, the system disk too. Nothing is reserved: prices may change until something is bought.";

/// What instances would cost.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Price {
    /// Instance type, such as ecs.g6.large; sets vCPUs and memory
    #[arg(long = "type", value_name = "TYPE")]
    instance_type: Option<String>,
    /// Virtual CPUs [default: those of --type, else 1]
    #[arg(long, value_name = "N")]
    vcpus: Option<u32>,
    /// Memory: 512M, 2G; a bare number is MiB [default: that of --type, else 512M]
    #[arg(long, short, value_name = "SIZE", value_parser = size::memory_mib)]
    memory: Option<u64>,
    /// A disk of each: 20G, 1T; may be repeated
    #[arg(long = "disk", value_name = "SIZE", value_parser = size::disk_gib)]
    disks: Vec<u64>,
    /// A local disk of each, such as 100G; may be repeated. Those that a type brings need not be given
    #[arg(long = "local-disk", value_name = "SIZE", value_parser = size::disk_gib)]
    local_disks: Vec<u64>,
    /// How many instances
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    count: u32,
    #[command(flatten)]
    paying: Paying,
}

impl Price {
    /// Does it.
    pub async fn execute(self, client: &Client, output: &Output) -> Result<(), Error> {
        let (vcpus, memory_mib) =
            run::sizes(self.instance_type.as_deref(), self.vcpus, self.memory);
        let disk = |category| move |size_gib| QuoteDisk { size_gib, category };
        let disks = self.disks.into_iter().map(disk(None));
        let local = self.local_disks.into_iter();
        let local = local.map(disk(Some(DiskCategory::LocalSsdPro)));
        let request = QuoteInstances {
            instance_type: self.instance_type,
            vcpus,
            memory_mib,
            disks: disks.chain(local).collect(),
            charge: self.paying.charge(None),
            count: Some(self.count),
        };
        let quote: Quote = client.post("/v1/quotes", &request).await?;
        output.answer(&quote, |quote| describe(quote, output))
    }
}

fn describe(quote: &Quote, output: &Output) -> String {
    let per = match quote.per {
        PriceUnit::Hour => "per hour",
        PriceUnit::Term => "for the whole period",
    };
    let money = |amount: &String| format!("{amount} {}", quote.currency);
    let market = quote.market_price.as_ref().map(money);
    let sums = facts(&[
        ("total", format!("{} {per}", money(&quote.total))),
        ("market price", market.unwrap_or_default()),
        ("prices of", quote.policy.clone()),
        (
            "in place of the policy's",
            quote.fallback_reason.clone().unwrap_or_default(),
        ),
    ]);
    if output.quiet {
        return quote.total.clone();
    }
    format!("{}\n\n{sums}", output.table(&quote.lines, LINES))
}
