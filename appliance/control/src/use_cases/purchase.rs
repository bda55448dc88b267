//! How new instances are paid for, and whether an account can.

use crate::{
    ControlError, ErrorKind, Result,
    commands::Charging,
    core::{Core, Transaction, sentence},
    model::{EventSubject, InstanceCharge, PayBy},
    records::{AccountRecord, ArrearsRecord, SubscriptionRecord},
    use_cases::quotes::{Priced, Terms, ask, market_price, terms},
};
use billing::{
    ChargeType, Order, Period, SpotLease, SpotStrategy, Subscription, SubscriptionError,
};
use types::{AccountId, ByteCount, Decimal, InstanceId, Money, SubscriptionId, Timestamp};

/// What each instance of a request is sold for.
pub(crate) enum Offer {
    /// By the second.
    PayAsYouGo,
    /// In advance.
    Subscription {
        terms: Terms,
        period: Period,
        auto_renew: Option<Period>,
    },
    /// By the second, until it is reclaimed.
    Preemptible {
        strategy: SpotStrategy,
        hourly: Money,
        vcpus: u32,
        memory: ByteCount,
    },
}

impl Offer {
    /// Asks the policy in force for it, and refuses a bid below the market.
    pub(crate) fn ask(
        transaction: &Transaction<'_>,
        charging: &Charging,
        priced: &Priced,
    ) -> Result<Self> {
        let core = transaction.core();
        let account = &core.settings.account;
        match charging {
            Charging::PayAsYouGo => Ok(Self::PayAsYouGo),
            Charging::Subscription { period, auto_renew } => Ok(Self::Subscription {
                terms: terms(core, account, priced, *period)?,
                period: *period,
                auto_renew: *auto_renew,
            }),
            Charging::Preemptible { limit } => {
                check_limit(*limit)?;
                let market = market_price(core, priced.type_name())?;
                let hourly = hourly(core, account, priced, *limit, market)?;
                let now = market.unwrap_or(hourly.amount);
                if let Some(limit) = limit.filter(|limit| *limit < now) {
                    let message = format!(
                        "The limit of {limit} per hour is below the price of {} now: {now} {}.",
                        priced.type_name(),
                        hourly.currency
                    );
                    return Err(ControlError::invalid("charge.price_limit", message)
                        .with_code("InvalidSpotPriceLimit.LowerThanPublicPrice")
                        .with_next_step("Bid at least that, or leave the limit out."));
                }
                Ok(Self::Preemptible {
                    strategy: limit.map_or(SpotStrategy::SpotAsPriceGo, |limit| {
                        SpotStrategy::SpotWithPriceLimit { limit }
                    }),
                    hourly,
                    vcpus: priced.vcpus,
                    memory: priced.memory,
                })
            }
        }
    }

    pub(crate) const fn is_preemptible(&self) -> bool {
        matches!(self, Self::Preemptible { .. })
    }

    pub(crate) const fn is_prepaid(&self) -> bool {
        matches!(self, Self::Subscription { .. })
    }

    /// Sells it: a subscription is paid for at once.
    pub(crate) fn take(
        &self,
        transaction: &mut Transaction<'_>,
        instance: InstanceId,
        now: Timestamp,
    ) -> Result<InstanceCharge> {
        match self {
            Self::PayAsYouGo => Ok(InstanceCharge::PayAsYouGo),
            Self::Preemptible {
                strategy,
                hourly,
                vcpus,
                memory,
            } => Ok(InstanceCharge::Preemptible {
                lease: SpotLease {
                    instance,
                    started: now,
                    entry_price: *hourly,
                    strategy: *strategy,
                    vcpus: *vcpus,
                    memory: *memory,
                    notice: None,
                },
            }),
            Self::Subscription {
                terms,
                period,
                auto_renew,
            } => {
                let account = transaction.core().settings.account.clone();
                let order = Order {
                    id: SubscriptionId::generate(transaction.random()),
                    account: account.clone(),
                    resource: instance.to_string(),
                    plan: terms.plan.clone(),
                    period: *period,
                    zone: transaction.core().settings.billing_zone,
                    auto_renew: *auto_renew,
                };
                check_funds(transaction, &account, terms.first)?;
                let at = transaction
                    .bills()
                    .purchase_time(&account, terms.first.currency, now);
                let bought = Subscription::buy_for(order, Some(terms.first), at);
                let (subscription, purchase) = bought.map_err(refused)?;
                let id = subscription.id();
                transaction.put(&SubscriptionRecord::new(subscription))?;
                transaction.event(
                    EventSubject::Subscription(id),
                    format!(
                        "{id} pays {} for {instance} until {}",
                        purchase.money, purchase.to
                    ),
                );
                transaction.buy(purchase)?;
                Ok(InstanceCharge::Subscription { subscription: id })
            }
        }
    }
}

/// Refuses a bid that cannot be one.
pub(crate) fn check_limit(limit: Option<Decimal>) -> Result<()> {
    if limit.is_some_and(|limit| limit.is_sign_negative() || limit > ledger::MAX_PRICE) {
        let message = format!("A price limit is from 0 to {} per hour.", ledger::MAX_PRICE);
        return Err(ControlError::invalid("charge.price_limit", message));
    }
    Ok(())
}

/// The price of a preemptible instance per hour, where its market price is that.
pub(crate) fn hourly(
    core: &Core,
    account: &AccountId,
    priced: &Priced,
    limit: Option<Decimal>,
    market: Option<Decimal>,
) -> Result<Money> {
    let alone = Priced {
        disks: Vec::new(),
        ..priced.clone()
    };
    let charge = ChargeType::Preemptible { limit, market };
    Ok(ask(core, account, &alone, charge, 1)?.total)
}

/// How an account pays.
pub(crate) fn pay_by(transaction: &Transaction<'_>, account: &AccountId) -> Result<PayBy> {
    let record = transaction.get::<AccountRecord>(&account.to_string())?;
    Ok(record.map_or(PayBy::default(), |record| record.pay_by))
}

/// Refuses a purchase that an account which pays from its balance cannot pay.
pub(crate) fn check_funds(
    transaction: &Transaction<'_>,
    account: &AccountId,
    price: Money,
) -> Result<()> {
    if pay_by(transaction, account)? == PayBy::Invoice || price.is_negative() {
        return Ok(());
    }
    let balance = transaction.balance(account, price.currency)?;
    if balance.amount >= price.amount {
        return Ok(());
    }
    let message = format!("The account {account} has {balance}, and this costs {price}.");
    Err(ControlError::new(
        ErrorKind::Denied,
        "InvalidAccountStatus.NotEnoughBalance",
        message,
    )
    .with_next_step("Pay in what is missing, or ask for less."))
}

/// Refuses what an account must not have as long as it owes.
pub(crate) fn check_arrears(transaction: &Transaction<'_>, account: &AccountId) -> Result<()> {
    let records = transaction.list::<ArrearsRecord>()?;
    let debt = records
        .iter()
        .find(|record| record.arrears.account() == account);
    let Some(debt) = debt else {
        return Ok(());
    };
    let (owed, since) = (debt.arrears.owed(), debt.arrears.since());
    let message = format!("The account {account} owes {owed} since {since}.");
    Err(
        ControlError::new(ErrorKind::Denied, "Account.Arrearage", message)
            .with_next_step("Pay that in first."),
    )
}

/// A subscription does not take a change.
pub(crate) fn refused(error: SubscriptionError) -> ControlError {
    let (kind, code) = match &error {
        SubscriptionError::Expired(_) | SubscriptionError::Gone(_) => {
            (ErrorKind::IncorrectState, "IncorrectSubscriptionStatus")
        }
        SubscriptionError::OutOfRange(_) | SubscriptionError::Price { .. } => {
            (ErrorKind::InvalidInput, "InvalidPeriod.ValueNotSupported")
        }
        SubscriptionError::Currency(_) => (ErrorKind::Denied, "InvalidCurrency.Mismatch"),
        SubscriptionError::OutOfOrder(_) => (ErrorKind::Conflict, "OperationConflict"),
    };
    ControlError::new(kind, code, sentence(&error.to_string()))
}
