//! Subscriptions.

use api_types::{Purchase, PurchaseKind, Subscription, SubscriptionState};
use control::model::{self, Stage};

use super::charge::period_to_wire;

/// A subscription as it goes over the wire.
pub fn to_wire(status: &model::SubscriptionStatus) -> Subscription {
    let subscription = &status.subscription;
    let latest = subscription.terms().last();
    Subscription {
        id: subscription.id().to_string(),
        account: subscription.account().to_string(),
        resource_id: subscription.resource().to_owned(),
        plan: subscription.plan().name().to_owned(),
        state: match subscription.stage() {
            Stage::Active => SubscriptionState::Active,
            Stage::Stopped => SubscriptionState::Stopped,
            Stage::Released => SubscriptionState::Released,
        },
        period: latest.map(|term| period_to_wire(term.period)),
        expires_at: subscription.expires().to_string(),
        auto_renew: subscription.auto_renewed().map(period_to_wire),
        purchases: status.purchases.iter().map(purchase_to_wire).collect(),
    }
}

fn purchase_to_wire(purchase: &model::Purchase) -> Purchase {
    Purchase {
        id: purchase.id.to_string(),
        kind: match purchase.kind {
            model::PurchaseKind::New => PurchaseKind::New,
            model::PurchaseKind::Renewal => PurchaseKind::Renewal,
            model::PurchaseKind::AutoRenewal => PurchaseKind::AutoRenewal,
            model::PurchaseKind::Upgrade => PurchaseKind::Upgrade,
            model::PurchaseKind::Downgrade => PurchaseKind::Downgrade,
        },
        plan: purchase.plan.clone(),
        at: purchase.at.to_string(),
        from: purchase.from.to_string(),
        to: purchase.to.to_string(),
        amount: purchase.money.amount.to_string(),
        currency: purchase.money.currency.to_string(),
    }
}
