//! The commercial decisions of a billing policy.

use super::{BillingPlugin, money};
use crate::{
    bindings::billing::exports::ashlar::policy::{
        commerce::{
            ArrearsStep as Step, ChargeType as Charge, Debt as DebtParam, Guest,
            Period as PeriodParam, PeriodUnit as Unit, PreemptibleInstance, Preemption, PriceLine,
            PriceUnit as Per, QuoteRequest as Purchase, RenewalAnswer,
            RenewalRequest as RenewalParam, SpotTerms,
        },
        metering::{Instance as InstanceParam, Meter, Tag},
        rating::{DiskUsage, InstanceUsage, PriceParam},
    },
    sandbox::{Sandbox, seed},
};
use billing::{
    ArrearsStep, ChargeType, CommercialPolicy, Debt, MeteredInstance, Period, PeriodUnit,
    PolicyMeter, PriceUnit, Quote, QuoteLine, QuoteRequest, Renewal, RenewalRequest, SpotLease,
    SpotStrategy, StockNeed, check_meters, check_order, check_quote, check_renewal,
};
use types::{Currency, Decimal, InstanceId, PolicyFailure, PolicyIdentity, Timestamp};
use wasmtime::Store;

/// What a policy says to one question, or its own words on why it says nothing.
type Answer<T> = wasmtime::Result<Result<T, String>>;

impl BillingPlugin {
    /// Asks a fresh instance. `about` seeds its random numbers.
    fn ask<T>(
        &self,
        about: &str,
        question: impl FnOnce(&Guest, &mut Store<Sandbox>) -> Answer<T>,
    ) -> Result<T, PolicyFailure> {
        self.plugin.call(seed(about), |store| {
            let world = self.world.instantiate(&mut *store)?;
            question(world.ashlar_policy_commerce(), store)
        })
    }
}

impl CommercialPolicy for BillingPlugin {
    fn identity(&self) -> PolicyIdentity {
        self.plugin.identity.clone()
    }

    fn quote(&self, currency: Currency, request: &QuoteRequest) -> Result<Quote, PolicyFailure> {
        let account = request.account.to_string();
        let disks = request.disks.iter().map(|disk| DiskUsage {
            category: &disk.category,
            size: disk.size.bytes(),
        });
        let disks: Vec<DiskUsage<'_>> = disks.collect();
        let (limit, market) = match request.charge {
            ChargeType::Preemptible { limit, market } => (text(limit), text(market)),
            _ => (None, None),
        };
        let asked = Purchase {
            account: &account,
            instance_type: &request.instance_type,
            vcpus: request.vcpus,
            memory: request.memory.bytes(),
            disks: &disks,
            charge: match request.charge {
                ChargeType::PayAsYouGo => Charge::PayAsYouGo,
                ChargeType::Subscription { period: term } => Charge::Subscription(period(term)),
                ChargeType::Preemptible { .. } => Charge::Preemptible(SpotTerms {
                    price_limit: limit.as_deref(),
                    market_price: market.as_deref(),
                }),
            },
            count: request.count,
            at: request.now.unix_millis(),
        };
        let about = format!("quote {account} {}", request.now);
        let lines = self.ask(&about, |commerce, store| {
            commerce.call_quote(store, &self.parameters(), currency.code(), asked)
        })?;
        let lines = lines.into_iter().map(line).collect::<Result<_, _>>();
        let quote = lines.map(|lines| Quote { lines }).and_then(|quote| {
            check_quote(currency, request, &quote)?;
            Ok(quote)
        });
        self.plugin.usable(quote)
    }

    fn renewal(&self, request: &RenewalRequest) -> Result<Renewal, PolicyFailure> {
        let account = request.account.to_string();
        let subscription = request.subscription.to_string();
        let price = request.price.amount.to_string();
        let asked = RenewalParam {
            account: &account,
            subscription: &subscription,
            resource: &request.resource,
            plan: &request.plan,
            period: period(request.period),
            price: PriceParam {
                amount: &price,
                currency: request.price.currency.code(),
            },
            terms: request.terms,
            attempt: request.attempt,
            expires: request.expires.unix_millis(),
            at: request.now.unix_millis(),
        };
        let about = format!("renewal {subscription} {}", request.expires);
        let said = self.ask(&about, |commerce, store| {
            commerce.call_renewal(store, &self.parameters(), asked)
        })?;
        let renewal = renewal(said).and_then(|renewal| {
            check_renewal(request, &renewal)?;
            Ok(renewal)
        });
        self.plugin.usable(renewal)
    }

    fn arrears(&self, debt: &Debt) -> Result<ArrearsStep, PolicyFailure> {
        let account = debt.account.to_string();
        let owed = debt.owed.amount.to_string();
        let asked = DebtParam {
            account: &account,
            owed: PriceParam {
                amount: &owed,
                currency: debt.owed.currency.code(),
            },
            since: debt.since.unix_millis(),
            days: debt.days(),
            failed_payments: debt.failed_payments,
            stopped: debt.stopped.map(Timestamp::unix_millis),
            due: match debt.due() {
                ArrearsStep::Wait => Step::Wait,
                ArrearsStep::Retry => Step::Retry,
                ArrearsStep::Stop => Step::Stop,
                ArrearsStep::Release => Step::Release,
            },
            at: debt.now.unix_millis(),
        };
        let about = format!("arrears {account} {}", debt.now);
        let step = self.ask(&about, |commerce, store| {
            commerce.call_arrears(store, &self.parameters(), asked)
        })?;
        let step = match step {
            Step::Wait => ArrearsStep::Wait,
            Step::Retry => ArrearsStep::Retry,
            Step::Stop => ArrearsStep::Stop,
            Step::Release => ArrearsStep::Release,
        };
        self.plugin.usable(debt.check(step).map(|()| step))
    }

    fn preempt(
        &self,
        leases: &[SpotLease],
        missing: StockNeed,
        now: Timestamp,
    ) -> Result<Vec<InstanceId>, PolicyFailure> {
        let preemptible = |lease: &&SpotLease| lease.strategy != SpotStrategy::NoSpot;
        let mut leases: Vec<&SpotLease> = leases.iter().filter(preemptible).collect();
        leases.sort_by_key(|lease| lease.instance);
        let texts = leases.iter().map(|lease| match lease.strategy {
            SpotStrategy::SpotWithPriceLimit { limit } => {
                (lease.instance.to_string(), Some(limit.to_string()))
            }
            SpotStrategy::SpotAsPriceGo | SpotStrategy::NoSpot => {
                (lease.instance.to_string(), None)
            }
        });
        let texts: Vec<(String, Option<String>)> = texts.collect();
        let instances = leases.iter().zip(&texts);
        let instances = instances.map(|(lease, (id, limit))| PreemptibleInstance {
            id,
            vcpus: lease.vcpus,
            memory: lease.memory.bytes(),
            started: lease.started.unix_millis(),
            protected_until: lease.protected_until().unix_millis(),
            price_limit: limit.as_deref(),
            noticed: lease.notice.is_some(),
        });
        let instances: Vec<PreemptibleInstance<'_>> = instances.collect();
        let asked = Preemption {
            instances: &instances,
            vcpus: missing.vcpus,
            memory: missing.memory.bytes(),
            at: now.unix_millis(),
        };
        let order = self.ask(&format!("preempt {now}"), |commerce, store| {
            commerce.call_preempt(store, &self.parameters(), asked)
        })?;
        let named = |id: String| id.parse().map_err(|error| format!("it names {error}"));
        let order = order
            .into_iter()
            .map(named)
            .collect::<Result<Vec<InstanceId>, String>>()
            .and_then(|order| {
                let leases: Vec<SpotLease> = leases.into_iter().cloned().collect();
                check_order(&leases, now, &order)?;
                Ok(order)
            });
        self.plugin.usable(order)
    }

    fn meters(&self, instance: &MeteredInstance) -> Result<Vec<PolicyMeter>, PolicyFailure> {
        let (id, account) = (instance.instance.to_string(), instance.account.to_string());
        let image = instance.image.to_string();
        let tags = instance.tags.iter().map(|(key, value)| Tag { key, value });
        let tags: Vec<Tag<'_>> = tags.collect();
        let asked = InstanceParam {
            id: &id,
            account: &account,
            size: InstanceUsage {
                instance_type: &instance.instance_type,
                vcpus: instance.vcpus,
                memory: instance.memory.bytes(),
            },
            image: &image,
            tags: &tags,
            subscribed: instance.subscribed,
        };
        let said = self.plugin.call(seed(&format!("meters {id}")), |store| {
            let world = self.world.instantiate(&mut *store)?;
            let metering = world.ashlar_policy_metering();
            metering.call_meters(store, &self.parameters(), asked)
        })?;
        let meter = |said: &Meter| {
            let quantity = Decimal::from_str_exact(&said.quantity)
                .map_err(|error| format!("`{:.64}` is no quantity: {error}", said.quantity))?;
            Ok(PolicyMeter {
                name: said.name.clone(),
                quantity,
                while_running: said.while_running,
            })
        };
        let meters = said.iter().map(meter);
        let meters = meters.collect::<Result<Vec<PolicyMeter>, String>>();
        let meters = meters.and_then(|meters| {
            check_meters(&meters)?;
            Ok(meters)
        });
        self.plugin.usable(meters)
    }
}

fn text(price: Option<Decimal>) -> Option<String> {
    price.map(|price| price.to_string())
}

fn period(period: Period) -> PeriodParam {
    let (unit, count) = period.parts();
    PeriodParam {
        unit: match unit {
            PeriodUnit::Week => Unit::Week,
            PeriodUnit::Month => Unit::Month,
            PeriodUnit::Year => Unit::Year,
        },
        count,
    }
}

fn line(line: PriceLine) -> Result<QuoteLine, String> {
    Ok(QuoteLine {
        price: money(&line.price)?,
        item: line.item,
        per: match line.per {
            Per::Hour => PriceUnit::Hour,
            Per::Term => PriceUnit::Term,
        },
        discount: line.discount,
    })
}

fn renewal(said: RenewalAnswer) -> Result<Renewal, String> {
    Ok(match said {
        RenewalAnswer::Renew(offer) => Renewal::Renew {
            price: money(&offer.price)?,
            discount: offer.discount,
        },
        RenewalAnswer::Refuse(message) => Renewal::Refuse { message },
    })
}
