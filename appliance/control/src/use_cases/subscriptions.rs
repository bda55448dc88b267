//! Subscriptions: seen, renewed, changed.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::{ChangeSubscription, RenewSubscription},
    core::{Core, Transaction, blocking},
    model::{Disk, EventSubject, Instance, Period, State, SubscriptionStatus},
    reconcile::unlock,
    records::{PurchaseRecord, SubscriptionRecord},
    tokens::Ticket,
    use_cases::{
        give_up_room, meters,
        purchase::{check_funds, refused},
        put_instance,
        quotes::{Priced, terms},
        run_instances::shape,
        take_room,
    },
};
use billing::{Purchase, Renewal, Stage, Subscription};
use instance::local_disks;
use std::collections::{BTreeMap, btree_map::Entry};
use types::{ByteCount, InstanceId, PurchaseId, SubscriptionId};

impl Control {
    /// All subscriptions with their purchases, oldest first.
    pub async fn subscriptions(&self) -> Result<Vec<SubscriptionStatus>> {
        let core = self.core().clone();
        blocking(move || list(&core)).await?
    }

    /// The subscription of that id (`InvalidSubscriptionId.NotFound`).
    pub async fn subscription(&self, id: SubscriptionId) -> Result<SubscriptionStatus> {
        let core = self.core().clone();
        blocking(move || status(&core, id)).await?
    }

    /// Buys another term (ECS RenewInstance). What had stopped because it expired starts again if it ran.
    pub async fn renew_subscription(
        &self,
        command: RenewSubscription,
    ) -> Result<SubscriptionStatus> {
        let ticket = Ticket::new("RenewSubscription", &command.request, &command)?;
        let id = command.subscription;
        let renew = move |transaction: &mut Transaction<'_>| {
            if ticket.former::<SubscriptionId>(transaction)?.is_some() {
                return Ok(None);
            }
            let record = find(transaction, id)?;
            let (next, purchase) = renewed(transaction, &record.subscription, command.period)?;
            check_funds(transaction, &purchase.account, purchase.money)?;
            ticket.end_dry_run()?;
            let instance = unlock_resource(transaction, &next)?;
            keep(transaction, next, purchase, "is renewed")?;
            ticket.answered(transaction, &[id])?;
            Ok(instance)
        };
        self.change(id, renew).await
    }

    /// Has a subscription renewed by itself for that long each time, or not any more (ECS ModifyInstanceAutoRenewAttribute).
    pub async fn set_auto_renew(
        &self,
        id: SubscriptionId,
        period: Option<Period>,
    ) -> Result<SubscriptionStatus> {
        let set = move |transaction: &mut Transaction<'_>| {
            let mut record = find(transaction, id)?;
            if record.subscription.stage() != Stage::Active {
                let message = format!("The subscription {id} is over.");
                return Err(incorrect_status(message).with_next_step("Renew it first."));
            }
            if record.subscription.auto_renewed() == period {
                return Ok(None);
            }
            let now = transaction.core().now();
            record.subscription.set_auto_renew(period, now);
            transaction.put(&record)?;
            let message = period.map_or(format!("{id} is not renewed by itself"), |period| {
                format!("{id} is renewed by itself for {period} each time")
            });
            transaction.event(EventSubject::Subscription(id), message);
            Ok(None)
        };
        self.change(id, set).await
    }

    /// Gives a stopped instance another type for the rest of what is paid (ECS ModifyPrepayInstanceSpec): the difference for that
    /// time is paid, or paid back, at once.
    pub async fn change_subscription(
        &self,
        command: ChangeSubscription,
    ) -> Result<SubscriptionStatus> {
        let ticket = Ticket::new("ChangeSubscription", &command.request, &command)?;
        let id = command.subscription;
        let change = move |transaction: &mut Transaction<'_>| {
            if ticket.former::<SubscriptionId>(transaction)?.is_some() {
                return Ok(None);
            }
            let record = find(transaction, id)?;
            let mut instance =
                instance_of(transaction, &record.subscription)?.ok_or_else(|| {
                    incorrect_status(format!("What {id} pays for is not there any more."))
                })?;
            if instance.state != State::Stopped {
                let message = format!("Instance {} is {}.", instance.id, instance.state);
                return Err(ControlError::new(
                    ErrorKind::IncorrectState,
                    "IncorrectInstanceStatus",
                    message,
                )
                .with_next_step("Stop it before its type is changed."));
            }
            check_local_disks(&instance, &command.instance_type)?;
            let (vcpus, memory) = shape(Some(&command.instance_type), None, None)?;
            crate::use_cases::run_instances::check_sizes(transaction.core(), vcpus, memory)?;
            let mut disks = Vec::new();
            for disk in instance.system_disk.iter().chain(&instance.data_disks) {
                let disk = transaction.get::<Disk>(disk)?;
                let prepaid = disk.filter(|disk| disk.prepaid);
                disks.extend(prepaid.map(|disk| (disk.size, disk.category)));
            }
            let priced = Priced {
                instance_type: Some(command.instance_type.clone()),
                vcpus,
                memory,
                disks,
            };
            let subscription = &record.subscription;
            let core = transaction.core();
            let mut quoted = BTreeMap::new();
            let mut plan = None;
            for term in subscription.terms() {
                if let Entry::Vacant(entry) = quoted.entry(term.period) {
                    let terms = terms(core, subscription.account(), &priced, term.period)?;
                    entry.insert(terms.first);
                    plan = Some(terms.plan);
                }
            }
            let plan = plan.ok_or_else(|| incorrect_status(format!("{id} has no term.")))?;
            let at = transaction.bills().purchase_time(
                subscription.account(),
                core.policies.in_force().currency(),
                core.now(),
            );
            let quoted = |period| quoted.get(&period).copied();
            let changed = subscription.change_plan_for(plan, quoted, at);
            let (next, purchase) = changed.map_err(refused)?;
            check_funds(transaction, &purchase.account, purchase.money)?;
            ticket.end_dry_run()?;
            instance.instance_type = Some(command.instance_type);
            (instance.vcpus, instance.memory) = (vcpus, memory);
            // What it kept was for its old type: it gets room for the new one, if there is any.
            give_up_room(transaction, &mut instance)?;
            transaction.put(&instance)?;
            take_room(transaction, &mut instance)?;
            meters::follow_policy(transaction, &instance)?;
            put_instance(transaction, &mut instance)?;
            keep(transaction, next, purchase, "is changed")?;
            ticket.answered(transaction, &[id])?;
            Ok(Some(instance.id))
        };
        self.change(id, change).await
    }

    async fn change(
        &self,
        id: SubscriptionId,
        change: impl FnOnce(&mut Transaction<'_>) -> Result<Option<InstanceId>> + Send + 'static,
    ) -> Result<SubscriptionStatus> {
        let (core, instances) = (self.core().clone(), self.inner.instances.clone());
        crate::core::to_the_end(async move {
            let touched = core.write(change).await?;
            touched.into_iter().for_each(|id| instances.look_after(id));
            instances.commerce().notify_one();
            blocking(move || status(&core, id)).await?
        })
        .await
    }
}

/// Local disks are made with their instance: no type that has any becomes another one, or the other way.
fn check_local_disks(instance: &Instance, instance_type: &str) -> Result<()> {
    let keeps = instance.local_disks > ByteCount::ZERO;
    let which = match (keeps, local_disks(instance_type)) {
        (false, None) => return Ok(()),
        (true, _) => format!("Instance {} has local disks", instance.id),
        (false, Some(_)) => format!("{instance_type} has local disks"),
    };
    let message = format!("{which}, and these are made with their instance.");
    let code = "InvalidInstanceType.NotSupported";
    Err(ControlError::new(ErrorKind::Denied, code, message)
        .with_field("instance_type")
        .with_next_step("Run another instance of that type, and take the data over."))
}

/// The next term, for what the policy says.
fn renewed(
    transaction: &Transaction<'_>,
    subscription: &Subscription,
    period: Period,
) -> Result<(Subscription, Purchase)> {
    let core = transaction.core();
    let now = core.now();
    let request = subscription.renewal(period, None, now).map_err(refused)?;
    let in_force = core.policies.in_force();
    let price = match in_force.commerce().renewal(&request).answer {
        Renewal::Renew { price, .. } => price,
        Renewal::Refuse { message } => {
            let message = crate::core::sentence(message.trim_end_matches('.'));
            let code = "OperationDenied.BillingPolicy";
            return Err(ControlError::new(ErrorKind::Denied, code, message)
                .with_next_step("Ask whoever runs this host."));
        }
    };
    let bills = transaction.bills();
    let at = bills.purchase_time(subscription.account(), price.currency, now);
    subscription
        .renew_for(period, Some(price), at)
        .map_err(refused)
}

fn keep(
    transaction: &mut Transaction<'_>,
    subscription: Subscription,
    purchase: Purchase,
    what: &str,
) -> Result<()> {
    let id = subscription.id();
    let message = format!("{id} {what} for {} until {}", purchase.money, purchase.to);
    transaction.put(&SubscriptionRecord::new(subscription))?;
    transaction.event(EventSubject::Subscription(id), message);
    transaction.buy(purchase)
}

/// What it pays for may run again.
fn unlock_resource(
    transaction: &mut Transaction<'_>,
    subscription: &Subscription,
) -> Result<Option<InstanceId>> {
    let Some(mut instance) = instance_of(transaction, subscription)? else {
        return Ok(None);
    };
    if instance.lock.is_some() {
        unlock(transaction, &mut instance)?;
    }
    Ok(Some(instance.id))
}

fn instance_of(
    transaction: &Transaction<'_>,
    subscription: &Subscription,
) -> Result<Option<Instance>> {
    match subscription.resource().parse::<InstanceId>() {
        Ok(id) => transaction.get(&id),
        Err(_) => Ok(None),
    }
}

fn find(transaction: &Transaction<'_>, id: SubscriptionId) -> Result<SubscriptionRecord> {
    transaction.get(&id)?.ok_or_else(|| unknown(id))
}

fn list(core: &Core) -> Result<Vec<SubscriptionStatus>> {
    core.read(|reader| {
        let purchases = by_id(reader.list()?);
        let mut all: Vec<SubscriptionStatus> = reader
            .list::<SubscriptionRecord>()?
            .into_iter()
            .map(|record| of(record, &purchases))
            .collect();
        super::oldest_first(&mut all, |status| {
            let first = status.purchases.first().map(|purchase| purchase.at);
            (first, status.subscription.id())
        });
        Ok(all)
    })
}

fn status(core: &Core, id: SubscriptionId) -> Result<SubscriptionStatus> {
    core.read(|reader| {
        let record = reader.get::<SubscriptionRecord>(&id)?;
        let purchases = by_id(reader.list()?);
        let record = record.ok_or_else(|| unknown(id))?;
        Ok(of(record, &purchases))
    })
}

fn by_id(purchases: Vec<PurchaseRecord>) -> BTreeMap<PurchaseId, Purchase> {
    let purchases = purchases.into_iter().map(|record| record.purchase);
    purchases.map(|purchase| (purchase.id, purchase)).collect()
}

fn of(record: SubscriptionRecord, all: &BTreeMap<PurchaseId, Purchase>) -> SubscriptionStatus {
    let purchases = record.subscription.purchase_ids();
    SubscriptionStatus {
        purchases: purchases.filter_map(|id| all.get(&id).cloned()).collect(),
        subscription: record.subscription,
    }
}

fn unknown(id: SubscriptionId) -> ControlError {
    ControlError::not_found("SubscriptionId", "subscription", &id)
}

fn incorrect_status(message: String) -> ControlError {
    ControlError::new(
        ErrorKind::IncorrectState,
        "IncorrectSubscriptionStatus",
        message,
    )
}
