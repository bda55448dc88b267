//! Subscriptions: renewed by themselves, or expired, stopped, released.

use super::{Dealt, lock};
use crate::{
    Result,
    core::{Core, Transaction},
    model::{EventSubject, FinancialLock, Instance},
    records::SubscriptionRecord,
    use_cases::{
        begin_release,
        purchase::{check_funds, refused},
    },
};
use billing::{Due, OutOfOrder, Period, Renewal, Stage, Subscription, SubscriptionAction};
use types::{InstanceId, Timestamp};

impl Core {
    /// Does what is due about every subscription.
    pub(super) fn follow_subscriptions(&self, now: Timestamp, dealt: &mut Dealt) -> Result<()> {
        for record in self.list::<SubscriptionRecord>()? {
            if record.subscription.stage() == Stage::Released {
                continue;
            }
            let mut subscription = record.subscription;
            while let Some(due) = subscription.due(now).into_iter().next() {
                let id = record.id;
                let step = self.write_blocking(true, |transaction| {
                    let Some(mut record) = transaction.get::<SubscriptionRecord>(&id)? else {
                        return Ok(None);
                    };
                    // It was renewed meanwhile.
                    if record.subscription.due(now).first() != Some(&due) {
                        return Ok(Some((record.subscription, None)));
                    }
                    let touched = carry_out(transaction, &mut record.subscription, &due, now)?;
                    transaction.put(&record)?;
                    Ok(Some((record.subscription, touched)))
                })?;
                let Some((next, touched)) = step else { break };
                dealt.touched.extend(touched);
                subscription = next;
            }
            dealt.wake_at(subscription.wake());
        }
        Ok(())
    }
}

/// Does one thing that is due; for which instance something else is intended then.
fn carry_out(
    transaction: &mut Transaction<'_>,
    subscription: &mut Subscription,
    due: &Due<SubscriptionAction>,
    now: Timestamp,
) -> Result<Option<InstanceId>> {
    let id = subscription.id();
    let resource = subscription.resource().to_owned();
    let instance = match resource.parse::<InstanceId>() {
        Ok(instance) => transaction.get::<Instance>(&instance)?,
        Err(_) => None,
    };
    match due.action {
        SubscriptionAction::AutoRenew { attempt, period } => {
            let failed = auto_renew(transaction, subscription, due, (attempt, period), now)?;
            if let Some(why) = failed {
                let message =
                    format!("{id} for {resource} is not renewed, try {attempt} of 9: {why}");
                transaction.event(EventSubject::Subscription(id), message);
                subscription.done(due).map_err(out_of_order)?;
            }
            Ok(None)
        }
        SubscriptionAction::Stop => {
            subscription.done(due).map_err(out_of_order)?;
            let message = format!("InstanceExpiration.Stop: {id} for {resource} has expired");
            transaction.event(EventSubject::Subscription(id), message);
            instance.map_or(Ok(None), |mut instance| {
                lock(transaction, &mut instance, |restart| {
                    FinancialLock::Expired { restart }
                })?;
                Ok(Some(instance.id))
            })
        }
        SubscriptionAction::Release => {
            subscription.done(due).map_err(out_of_order)?;
            let message =
                format!("InstanceExpiration.Delete: {id} for {resource} was not renewed in time");
            transaction.event(EventSubject::Subscription(id), message);
            instance.map_or(Ok(None), |mut instance| {
                begin_release(transaction, &mut instance)?;
                Ok(Some(instance.id))
            })
        }
    }
}

/// Buys the next term, if the policy and the account have it so; else why not.
fn auto_renew(
    transaction: &mut Transaction<'_>,
    subscription: &mut Subscription,
    due: &Due<SubscriptionAction>,
    (attempt, period): (u8, Period),
    now: Timestamp,
) -> Result<Option<String>> {
    let request = match subscription.renewal(period, Some(attempt), now) {
        Ok(request) => request,
        Err(error) => return Ok(Some(error.to_string())),
    };
    let in_force = transaction.core().policies.in_force();
    let price = match in_force.commerce().renewal(&request).answer {
        Renewal::Renew { price, .. } => price,
        Renewal::Refuse { message } => return Ok(Some(message)),
    };
    let account = subscription.account().clone();
    if let Err(error) = check_funds(transaction, &account, price) {
        return Ok(Some(error.to_string()));
    }
    let at = transaction
        .bills()
        .purchase_time(&account, price.currency, now);
    match subscription.auto_renew_for(due, Some(price), at) {
        Ok((next, purchase)) => {
            let (money, to) = (purchase.money, purchase.to);
            let message = format!("{} is renewed for {money} until {to}", subscription.id());
            transaction.event(EventSubject::Subscription(subscription.id()), message);
            transaction.buy(purchase)?;
            *subscription = next;
            Ok(None)
        }
        Err(error) => Ok(Some(error.to_string())),
    }
}

fn out_of_order(error: OutOfOrder) -> crate::ControlError {
    refused(error.into())
}
