//! Preemptible instances: what they cost now, when they are told, when they go.

use super::Dealt;
use crate::{
    ControlError, Result, charged,
    core::{Core, Transaction},
    model::{EventSubject, Instance, Intent, SpotMarket},
    placing::{Hosts, type_name},
    use_cases::{
        begin_release,
        purchase::hourly,
        put_instance,
        quotes::{Priced, market_price},
    },
};
use billing::{
    PriceHistory, SpotLease, SpotReason, SpotStrategy, SpotVerdict, StockNeed, StockPlan,
};
use types::{Decimal, InstanceId, Timestamp};

impl Core {
    /// Looks at every lease: its price, its bid, its notice.
    pub(super) fn follow_leases(&self, now: Timestamp, dealt: &mut Dealt) -> Result<()> {
        for instance in self.all::<Instance>().values() {
            let Some(lease) = instance.charge.lease() else {
                continue;
            };
            if instance.intent == Intent::Released {
                continue;
            }
            let verdict = self.verdict(instance, lease, now)?;
            dealt.wake_at(lease.wake(now));
            let id = instance.id;
            match verdict {
                SpotVerdict::Notify { reason } => {
                    let told = self.write_blocking(true, |transaction| {
                        give_notice(transaction, id, reason, now)
                    })?;
                    dealt.wake_at(told);
                }
                SpotVerdict::Reclaim(notice) => self.write_blocking(true, |transaction| {
                    let Some(mut instance) = transaction.get::<Instance>(&id)? else {
                        return Ok(());
                    };
                    let message = format!(
                        "preemptible instance {id} is reclaimed: {}",
                        in_words(notice.reason)
                    );
                    transaction.event(EventSubject::SpotNotice(id), message);
                    dealt.touched.push(id);
                    begin_release(transaction, &mut instance)
                })?,
                SpotVerdict::NotPreemptible
                | SpotVerdict::Protected { .. }
                | SpotVerdict::Keep { .. }
                | SpotVerdict::Noticed(_) => {}
            }
            self.reprice(instance, now)?;
        }
        Ok(())
    }

    fn verdict(
        &self,
        instance: &Instance,
        lease: &SpotLease,
        now: Timestamp,
    ) -> Result<SpotVerdict> {
        let currency = lease.entry_price.currency;
        let market =
            self.get::<SpotMarket>(&type_name(instance.instance_type.as_deref()).to_owned())?;
        let prices = match market {
            // Without a market, or with one in another currency, no price is above a bid.
            Some(market) if market.prices.currency() == currency => market.prices,
            _ => PriceHistory::new(currency, Vec::new())
                .map_err(|error| ControlError::internal("No prices are not a history.", error))?,
        };
        lease
            .verdict(&prices, now)
            .map_err(|error| ControlError::internal("A lease cannot be judged.", error))
    }

    /// Has the instance's use go on at what it costs now, if that is something else.
    fn reprice(&self, instance: &Instance, now: Timestamp) -> Result<()> {
        let Some(usage) = charged::usage(self, instance, now)? else {
            return Ok(());
        };
        let same = self.books().uses(&usage);
        if same {
            return Ok(());
        }
        let id = instance.id;
        self.write_blocking(true, |transaction| {
            // It may be another one by now.
            if let Some(instance) = transaction.get::<Instance>(&id)?
                && let Some(usage) = charged::usage(transaction.core(), &instance, now)?
            {
                transaction.change_usage(usage);
            }
            Ok(())
        })
    }
}

/// Its price per hour at `now`: the entry price while it is protected, then the market's.
pub(crate) fn price(
    core: &Core,
    instance: &Instance,
    lease: &SpotLease,
    now: Timestamp,
) -> Result<Decimal> {
    if now < lease.protected_until() {
        return Ok(lease.entry_price.amount);
    }
    let priced = Priced {
        instance_type: instance.instance_type.clone(),
        vcpus: instance.vcpus,
        memory: instance.memory,
        disks: Vec::new(),
    };
    let limit = match lease.strategy {
        SpotStrategy::SpotWithPriceLimit { limit } => Some(limit),
        SpotStrategy::SpotAsPriceGo | SpotStrategy::NoSpot => None,
    };
    let market = market_price(core, priced.type_name())?;
    let account = &core.settings.account;
    Ok(hourly(core, account, &priced, limit, market)?.amount)
}

/// Tells an instance that it will be reclaimed; when that is.
fn give_notice(
    transaction: &mut Transaction<'_>,
    id: InstanceId,
    reason: SpotReason,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    let Some(mut instance) = transaction.get::<Instance>(&id)? else {
        return Ok(None);
    };
    let crate::model::InstanceCharge::Preemptible { lease } = &mut instance.charge else {
        return Ok(None);
    };
    let Some(notice) = lease.give_notice(reason, now) else {
        return Ok(None);
    };
    put_instance(transaction, &mut instance)?;
    let message = format!(
        "preemptible instance {id} is reclaimed at {}: {}",
        notice.reclaim_at,
        in_words(reason)
    );
    transaction.event(EventSubject::SpotNotice(id), message);
    Ok(Some(notice.reclaim_at))
}

/// Has as many preemptible instances told as make room for `count` instances of `shape` and that type beyond what `hosts` have; when the last of
/// them is reclaimed. `None`, and nobody is told, if that would not be enough.
pub(crate) fn make_room(
    transaction: &mut Transaction<'_>,
    instance_type: Option<&str>,
    shape: StockNeed,
    count: u32,
    hosts: &Hosts,
) -> Result<Option<Timestamp>> {
    let now = transaction.core().now();
    let apart = hosts.apart(instance_type);
    let leases: Vec<SpotLease> = transaction
        .all::<Instance>()
        .values()
        // Only what holds room frees some.
        .filter(|instance| instance.holds_capacity() && instance.intent != Intent::Released)
        .filter(|instance| hosts.apart(instance.instance_type.as_deref()) == apart)
        .filter_map(|instance| instance.charge.lease().cloned())
        .collect();
    let room = hosts.room(apart);
    let memory = shape.memory.bytes().saturating_mul(count.into());
    let need = StockNeed {
        vcpus: shape.vcpus.saturating_mul(count).saturating_sub(room.vcpus),
        memory: types::ByteCount::new(memory).saturating_sub(room.memory),
    };
    let in_force = transaction.core().policies.in_force();
    match in_force.commerce().preempt(&leases, need, now).answer {
        StockPlan::UnderWay => {
            let noticed = leases.iter().filter_map(|lease| lease.notice);
            Ok(noticed.map(|notice| notice.reclaim_at).max())
        }
        StockPlan::TooLittle { .. } => Ok(None),
        StockPlan::Reclaim { instances } => {
            let mut last = None;
            for id in instances {
                let told = give_notice(transaction, id, SpotReason::StockNeeded, now)?;
                last = last.max(told);
            }
            Ok(last)
        }
    }
}

fn in_words(reason: SpotReason) -> String {
    match reason {
        SpotReason::PriceAboveLimit { price, limit, .. } => {
            format!("the price of {price} per hour is above its limit of {limit}")
        }
        SpotReason::StockNeeded => "others need its room".to_owned(),
    }
}
