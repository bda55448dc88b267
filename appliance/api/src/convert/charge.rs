//! How instances are paid for, and what that would cost.

use api_types::{
    ChargeType, InstanceCharge, InstanceLock, LockReason, NewCharge, Period, PeriodUnit, PriceUnit,
    Quote, QuoteInstances, QuoteLine, SpotNotice, SpotReason,
};
use control::{
    commands::{self, Charging},
    model::{self, FinancialLock, SpotStrategy},
};
use types::{ByteCount, Decimal};

use crate::{
    extract::parse,
    problem::{ApiProblem, ApiResult},
};

/// A length of time as it goes over the wire.
pub fn period_to_wire(period: model::Period) -> Period {
    let (unit, count) = period.parts();
    Period {
        count: count.into(),
        unit: match unit {
            model::PeriodUnit::Week => PeriodUnit::Week,
            model::PeriodUnit::Month => PeriodUnit::Month,
            model::PeriodUnit::Year => PeriodUnit::Year,
        },
    }
}

/// The length of time in that field of a request.
pub fn period(field: &str, period: Period) -> ApiResult<model::Period> {
    // No period counts 255 of anything, nor more.
    let count = u8::try_from(period.count).unwrap_or(u8::MAX);
    let term = match period.unit {
        PeriodUnit::Week => model::Period::weeks(count),
        PeriodUnit::Month => model::Period::months(count),
        PeriodUnit::Year => model::Period::years(count),
    };
    term.map_err(|_| {
        let detail = format!(
            "a count of {} is not sold: choose 1 to 4 weeks, 1 to 60 months or 1 to 5 years",
            period.count
        );
        ApiProblem::invalid(format!("{field}.count"), detail)
            .code("InvalidPeriod.ValueNotSupported")
    })
}

/// A price per hour in that field of a request.
pub fn hourly(field: &str, text: &str) -> ApiResult<Decimal> {
    parse(field, text, "a decimal number such as 0.12")
}

/// How a request means to pay.
pub fn charging(charge: Option<&NewCharge>) -> ApiResult<Charging> {
    let Some(charge) = charge else {
        return Ok(Charging::PayAsYouGo);
    };
    let subscription = charge.kind == ChargeType::Subscription;
    let preemptible = charge.kind == ChargeType::Preemptible;
    for (given, fits, field, whose) in [
        (
            charge.period.is_some(),
            subscription,
            "period",
            "subscription",
        ),
        (
            charge.auto_renew.is_some(),
            subscription,
            "auto_renew",
            "subscription",
        ),
        (
            charge.price_limit.is_some(),
            preemptible,
            "price_limit",
            "preemptible",
        ),
    ] {
        if given && !fits {
            let detail = format!("`{field}` belongs to the type `{whose}`");
            return Err(ApiProblem::invalid(format!("charge.{field}"), detail)
                .next_step("leave it out, or name that type"));
        }
    }
    match charge.kind {
        ChargeType::PayAsYouGo => Ok(Charging::PayAsYouGo),
        ChargeType::Subscription => {
            let first = charge.period.ok_or_else(|| {
                let detail = "a subscription needs the period that it is for";
                ApiProblem::invalid("charge.period", detail)
                    .code("MissingParameter")
                    .next_step(r#"give one such as {"count": 1, "unit": "month"}"#)
            })?;
            let again = charge.auto_renew;
            Ok(Charging::Subscription {
                period: period("charge.period", first)?,
                auto_renew: again
                    .map(|again| period("charge.auto_renew", again))
                    .transpose()?,
            })
        }
        ChargeType::Preemptible => {
            let limit = charge.price_limit.as_deref();
            let limit = limit.map(|limit| hourly("charge.price_limit", limit));
            Ok(Charging::Preemptible {
                limit: limit.transpose()?,
            })
        }
    }
}

/// How an instance is paid for, as it goes over the wire.
pub fn to_wire(charge: &model::InstanceCharge) -> InstanceCharge {
    match charge {
        model::InstanceCharge::PayAsYouGo => InstanceCharge::PayAsYouGo,
        model::InstanceCharge::Subscription { subscription } => InstanceCharge::Subscription {
            subscription_id: subscription.to_string(),
        },
        model::InstanceCharge::Preemptible { lease } => InstanceCharge::Preemptible {
            price_limit: match lease.strategy {
                SpotStrategy::SpotWithPriceLimit { limit } => Some(limit.to_string()),
                SpotStrategy::SpotAsPriceGo | SpotStrategy::NoSpot => None,
            },
            entry_price: lease.entry_price.amount.to_string(),
            currency: lease.entry_price.currency.to_string(),
            protected_until: lease.protected_until().to_string(),
            notice: lease.notice.as_ref().map(notice_to_wire),
        },
    }
}

fn notice_to_wire(notice: &model::SpotNotice) -> SpotNotice {
    let (reason, price) = match notice.reason {
        model::SpotReason::PriceAboveLimit { price, .. } => {
            (SpotReason::PriceAboveLimit, Some(price.to_string()))
        }
        model::SpotReason::StockNeeded => (SpotReason::StockNeeded, None),
    };
    SpotNotice {
        given_at: notice.given.to_string(),
        reclaim_at: notice.reclaim_at.to_string(),
        reason,
        price,
    }
}

/// Why an instance does not run before something is paid, as it goes over the wire.
pub fn lock_to_wire(lock: FinancialLock) -> InstanceLock {
    InstanceLock {
        reason: match lock {
            FinancialLock::Arrears { .. } => LockReason::Arrears,
            FinancialLock::Expired { .. } => LockReason::Expired,
        },
    }
}

/// The command a request asks for.
pub fn quote_to_command(request: QuoteInstances) -> ApiResult<commands::QuoteInstances> {
    let disks = request.disks.iter();
    Ok(commands::QuoteInstances {
        charging: charging(request.charge.as_ref())?,
        instance_type: request.instance_type,
        vcpus: request.vcpus,
        memory: request.memory_mib.map(ByteCount::from_mib),
        disks: disks
            .map(|disk| {
                let category = super::disk::category(disk.category);
                (ByteCount::from_gib(disk.size_gib), category)
            })
            .collect(),
        count: request.count.unwrap_or(1),
    })
}

/// A quote as it goes over the wire.
pub fn quote_to_wire(quoted: &model::Quoted, per: PriceUnit) -> Quote {
    let line = |line: &model::QuoteLine| QuoteLine {
        item: line.item.clone(),
        amount: line.price.amount.to_string(),
        discount: line.discount.clone(),
    };
    let policy = &quoted.policy;
    Quote {
        lines: quoted.lines.iter().map(line).collect(),
        total: quoted.total.amount.to_string(),
        currency: quoted.total.currency.to_string(),
        per,
        market_price: quoted.market.map(|price| price.to_string()),
        policy: policy.name.clone(),
        module_sha256: super::policy::module(&policy.module_sha256),
        configuration_sha256: policy.configuration_sha256.to_string(),
        fallback_reason: quoted.fallback.as_ref().map(ToString::to_string),
    }
}

/// What the prices of instances that are paid for like that are for.
pub const fn per(charging: &Charging) -> PriceUnit {
    match charging {
        Charging::Subscription { .. } => PriceUnit::Term,
        Charging::PayAsYouGo | Charging::Preemptible { .. } => PriceUnit::Hour,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_what_is_sold() {
        let of = |count, unit| period("period", Period { count, unit });
        for (count, unit) in [
            (1, PeriodUnit::Week),
            (60, PeriodUnit::Month),
            (5, PeriodUnit::Year),
        ] {
            let back = period_to_wire(of(count, unit).unwrap());
            assert_eq!(back, Period { count, unit });
        }
        for (count, unit) in [
            (0, PeriodUnit::Week),
            (5, PeriodUnit::Week),
            (61, PeriodUnit::Month),
            (257, PeriodUnit::Month),
            (6, PeriodUnit::Year),
            (u32::MAX, PeriodUnit::Year),
        ] {
            let problem = of(count, unit).unwrap_err().with_request_id("");
            assert_eq!(problem.field.as_deref(), Some("period.count"));
            assert!(problem.detail.contains(&count.to_string()), "{problem:?}");
        }
    }

    #[test]
    fn what_belongs_to_another_type_is_refused() {
        for (json, field) in [
            (r#"{"type":"subscription"}"#, "charge.period"),
            (
                r#"{"type":"pay_as_you_go","period":{"count":1,"unit":"month"}}"#,
                "charge.period",
            ),
            (
                r#"{"type":"preemptible","auto_renew":{"count":1,"unit":"month"}}"#,
                "charge.auto_renew",
            ),
            (
                r#"{"type":"subscription","period":{"count":1,"unit":"year"},"price_limit":"1"}"#,
                "charge.price_limit",
            ),
            (
                r#"{"type":"preemptible","price_limit":"cheap"}"#,
                "charge.price_limit",
            ),
        ] {
            let charge = serde_json::from_str::<NewCharge>(json).unwrap();
            let problem = charging(Some(&charge)).unwrap_err().with_request_id("");
            assert_eq!(problem.field.as_deref(), Some(field), "{json}");
        }
        assert_eq!(charging(None).unwrap(), Charging::PayAsYouGo);
    }
}
