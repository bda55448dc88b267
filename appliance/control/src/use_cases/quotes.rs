//! What instances would cost, before anybody buys them.

use crate::{
    Control, ControlError, Result,
    bills::too_much,
    commands::{Charging, QuoteInstances},
    core::{Core, blocking, sentence},
    model::{DiskCategory, Quoted, SpotMarket},
    placing::type_name,
    use_cases::{
        purchase::check_limit,
        run_instances::{check_sizes, local_disks_of, shape},
    },
};
use billing::{ChargeType, Period, Plan, QuoteRequest, QuotedDisk};
use instance::admission::{MAX_DATA_DISKS, check_amount, check_disk_size};
use types::{AccountId, ByteCount, Decimal, Money};

/// What of an instance has a price.
#[derive(Clone, Debug)]
pub(crate) struct Priced {
    pub(crate) instance_type: Option<String>,
    pub(crate) vcpus: u32,
    pub(crate) memory: ByteCount,
    /// The disks that are paid for with it.
    pub(crate) disks: Vec<(ByteCount, DiskCategory)>,
}

impl Priced {
    /// What its type is called where prices are set.
    pub(crate) fn type_name(&self) -> &str {
        type_name(self.instance_type.as_deref())
    }
}

impl Control {
    /// What instances would cost (ECS DescribePrice). Nothing is reserved: prices may change until something is bought.
    pub async fn quote(&self, command: QuoteInstances) -> Result<Quoted> {
        let core = self.core().clone();
        blocking(move || quote(&core, command)).await?
    }
}

fn quote(core: &Core, command: QuoteInstances) -> Result<Quoted> {
    check_amount(command.count, None)?;
    let (vcpus, memory) = shape(
        command.instance_type.as_deref(),
        command.vcpus,
        command.memory,
    )?;
    check_sizes(core, vcpus, memory)?;
    if command.disks.len() > MAX_DATA_DISKS + 1 {
        let message = format!(
            "{} disks: an instance has at most {} with its system disk.",
            command.disks.len(),
            MAX_DATA_DISKS + 1
        );
        return Err(ControlError::invalid("disks", message));
    }
    for (position, (size, _)) in command.disks.iter().enumerate() {
        check_disk_size(*size).map_err(|refusal| {
            ControlError::from(refusal).with_field(format!("disks[{position}]"))
        })?;
    }
    let local = local_disks_of(command.instance_type.as_deref());
    let priced = Priced {
        instance_type: command.instance_type,
        vcpus,
        memory,
        disks: local.chain(command.disks).collect(),
    };
    let charge = match command.charging {
        Charging::PayAsYouGo => ChargeType::PayAsYouGo,
        Charging::Subscription { period, .. } => ChargeType::Subscription { period },
        Charging::Preemptible { limit } => {
            check_limit(limit)?;
            ChargeType::Preemptible {
                limit,
                market: market_price(core, priced.type_name())?,
            }
        }
    };
    ask(core, &core.settings.account, &priced, charge, command.count)
}

/// What the policy in force asks for that. Blocks.
pub(crate) fn ask(
    core: &Core,
    account: &AccountId,
    priced: &Priced,
    charge: ChargeType,
    count: u32,
) -> Result<Quoted> {
    let market = match charge {
        ChargeType::Preemptible { market, .. } => market,
        ChargeType::PayAsYouGo | ChargeType::Subscription { .. } => None,
    };
    let disk = |(size, category): &(ByteCount, DiskCategory)| QuotedDisk {
        category: category.name().to_owned(),
        size: *size,
    };
    let request = QuoteRequest {
        account: account.clone(),
        instance_type: priced.type_name().to_owned(),
        vcpus: priced.vcpus,
        memory: priced.memory,
        disks: priced.disks.iter().map(disk).collect(),
        charge,
        count,
        now: core.now(),
    };
    let decided = core.policies.in_force().commerce().quote(&request);
    let total = decided.answer.total().map_err(too_much)?;
    Ok(Quoted {
        lines: decided.answer.lines,
        total,
        market,
        policy: decided.policy,
        fallback: decided.fallback,
    })
}

/// The market price of one such instance per hour now, if there is a market.
pub(crate) fn market_price(core: &Core, instance_type: &str) -> Result<Option<Decimal>> {
    let market = core.get::<SpotMarket>(&instance_type.to_owned())?;
    Ok(market.map(|market| market.prices.at(core.now())))
}

/// What a subscription costs: the plan for its renewals, and its first term.
pub(crate) struct Terms {
    pub(crate) plan: Plan,
    pub(crate) first: Money,
}

/// Asks for a subscription's plan: a week, a month and a year have prices of their own, and so has the first term.
pub(crate) fn terms(
    core: &Core,
    account: &AccountId,
    priced: &Priced,
    period: Period,
) -> Result<Terms> {
    let price = |period| {
        let charge = ChargeType::Subscription { period };
        ask(core, account, priced, charge, 1).map(|quoted| quoted.total)
    };
    let units = [Period::weeks(1), Period::months(1), Period::years(1)];
    let mut prices = [Decimal::ZERO; 3];
    let mut first = price(period)?;
    for (unit, to) in units.into_iter().zip(&mut prices) {
        let unit =
            unit.map_err(|error| ControlError::internal("A unit of terms is not sold.", error))?;
        let quoted = price(unit)?;
        *to = quoted.amount;
        if unit == period {
            first = quoted;
        }
    }
    let name = priced.type_name();
    let plan = Plan::new(name, first.currency, prices).map_err(|error| {
        ControlError::invalid("period", sentence(&error.to_string()))
            .with_next_step("Have the operator check the billing policy: it quotes this price.")
    })?;
    Ok(Terms { plan, first })
}
