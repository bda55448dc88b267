//! What the operator, or the billing policy, has metered beside what the host meters by itself: licences, support, whatever the policy has a
//! price for.
//!
//! A meter's use is in the ledger from the transaction that sets it to the one that removes it, or that erases its resource; one that
//! counts while its instance runs opens and closes with the instance's own.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::SetMeter,
    core::{Core, Transaction, check_room, lock, sentence, to_the_end},
    model::{
        Disk, DiskState, EventSubject, IMAGE_METER, Image, ImageState, Instance, Intent, Meter,
        State,
    },
    placing::type_name,
};
use billing::{
    METER_DECIMALS, MeteredInstance, PolicyMeter, check_meter_name, check_meter_quantity,
};
use ledger::{Usage, UsageKey};
use std::collections::BTreeSet;
use types::{ByteCount, Decimal, FailureKind, InstanceId, PolicyFailure, Timestamp};

/// The most meters of a host.
const MAX_METERS: u32 = 1000;
/// So many instances are asked about again at a time.
const MADE_UP_AT_ONCE: usize = 16;
/// So much is shown of a name or an id that there is not, in characters.
const SHOWN: usize = 64;

impl Control {
    /// All meters, by resource and name.
    pub async fn meters(&self) -> Result<Vec<Meter>> {
        self.core().list::<Meter>()
    }

    /// Has something metered from now on. One that is set as it is does not change; of one that is set otherwise the use so far
    /// stays as it was.
    pub async fn set_meter(&self, command: SetMeter) -> Result<Meter> {
        judge(&command)?;
        let set = move |transaction: &mut Transaction<'_>| set(transaction, command);
        self.core().write(set).await
    }

    /// Ends a meter (`InvalidMeter.NotFound`). What it counted stays charged.
    pub async fn delete_meter(&self, resource: &str, name: &str) -> Result<()> {
        let (resource, name) = (resource.to_owned(), name.to_owned());
        let instance = resource.parse::<InstanceId>().ok();
        let delete = move |transaction: &mut Transaction<'_>| {
            let meter = transaction.get::<Meter>(&Meter::key_of(&resource, &name))?;
            let meter = meter.ok_or_else(|| unknown(&resource, &name))?;
            if meter.by_policy {
                let message = format!("The billing policy has {name} of {resource} metered.");
                let code = "OperationDenied.BillingPolicy";
                return Err(ControlError::new(ErrorKind::Denied, code, message).with_next_step(
                    "Change what the policy goes by, such as a label of the instance, or set a meter of that name in its place.",
                ));
            }
            end(transaction, &meter)
        };
        // What the policy has metered by that name is metered again, in a transaction of its own: the one before ended it.
        let follow = move |transaction: &mut Transaction<'_>| {
            let instance = instance.map(|id| transaction.get::<Instance>(&id));
            match instance.transpose()?.flatten() {
                Some(instance) if instance.intent != Intent::Released => {
                    follow_policy(transaction, &instance)
                }
                _ => Ok(()),
            }
        };
        let core = self.core().clone();
        to_the_end(async move {
            core.write(delete).await?;
            let followed = core.write(follow).await;
            if followed.is_err() {
                lock(&core.meters_owed).extend(instance);
            }
            followed
        })
        .await
    }
}

fn judge(command: &SetMeter) -> Result<()> {
    check_meter_name(&command.name)
        .map_err(|why| ControlError::invalid("name", sentence(&why)))
        .and_then(|()| {
            check_meter_quantity(command.quantity)
                .map_err(|why| ControlError::invalid("quantity", sentence(&why)))
        })
}

fn set(transaction: &mut Transaction<'_>, command: SetMeter) -> Result<Meter> {
    let runs = resource_runs(transaction, &command)?;
    let key = Meter::key_of(&command.resource, &command.name);
    let before = transaction.get::<Meter>(&key)?;
    let meter = Meter {
        key,
        name: command.name,
        resource: command.resource,
        quantity: command.quantity.normalize(),
        while_running: command.while_running,
        by_policy: false,
        created_at: created_at(transaction, before.as_ref()),
    };
    if before.as_ref() == Some(&meter) {
        return Ok(meter);
    }
    if before.is_none_or(|before| before.by_policy) {
        let there = transaction.list::<Meter>()?.into_iter();
        let operators = there.filter(|meter| !meter.by_policy).count();
        check_room("meters", operators, 1, MAX_METERS)?;
    }
    keep(transaction, &meter, runs)?;
    Ok(meter)
}

fn created_at(transaction: &Transaction<'_>, before: Option<&Meter>) -> Timestamp {
    before.map_or_else(|| transaction.core().now(), |before| before.created_at)
}

/// Keeps a meter that is new, or another than before; `runs`: its resource is an instance that runs.
fn keep(transaction: &mut Transaction<'_>, meter: &Meter, runs: bool) -> Result<()> {
    transaction.put(meter)?;
    if runs || !meter.while_running {
        transaction.change_usage(meter.usage());
        transaction.open_usage(meter.usage());
    } else {
        transaction.close_usage(meter.usage_key());
    }
    let message = format!(
        "{} {} of {} is metered",
        meter.quantity, meter.name, meter.resource
    );
    transaction.event(EventSubject::Meter(meter.resource.clone()), message);
    Ok(())
}

/// What the billing policy in force has metered of an instance; `None` without a usable answer, and it is asked again.
fn wanted(core: &Core, instance: &Instance) -> Option<Vec<PolicyMeter>> {
    let asked = MeteredInstance {
        instance: instance.id,
        account: core.settings.account.clone(),
        instance_type: type_name(instance.instance_type.as_deref()).to_owned(),
        vcpus: instance.vcpus,
        memory: instance.memory,
        image: instance.image,
        tags: instance.tags.clone(),
        subscribed: instance.charge.subscription().is_some(),
    };
    let decided = core.policies.in_force().commerce().meters(&asked);
    // One that is set aside is asked no more.
    let again = |failure: &PolicyFailure| failure.kind != FailureKind::SetAside;
    if decided.answer.is_none() && decided.fallback.as_ref().is_some_and(again) {
        lock(&core.meters_owed).insert(instance.id);
    }
    decided.answer
}

/// What of an instance's meters ends, and what is to be set, for it to be as the policy wants it. What the operator has set stands.
fn differences<'a>(
    there: &[&'a Meter],
    mut wanted: Vec<PolicyMeter>,
) -> (Vec<&'a Meter>, Vec<PolicyMeter>) {
    let unwanted =
        |meter: &&&Meter| meter.by_policy && wanted.iter().all(|wanted| wanted.name != meter.name);
    let over = there.iter().filter(unwanted).copied().collect();
    wanted.retain(|wanted| {
        let stands = |meter: &&Meter| {
            let same = meter.quantity == wanted.quantity.normalize()
                && meter.while_running == wanted.while_running;
            meter.name == wanted.name && (!meter.by_policy || same)
        };
        !there.iter().any(stands)
    });
    (over, wanted)
}

/// Has that metered of an instance which the billing policy in force says, where the operator has not set it. Without a usable answer
/// what is metered stays as it is.
pub(crate) fn follow_policy(transaction: &mut Transaction<'_>, instance: &Instance) -> Result<()> {
    let Some(wanted) = wanted(transaction.core(), instance) else {
        return Ok(());
    };
    let resource = instance.id.to_string();
    let there = transaction.list_under::<Meter>(&Meter::keys_of(&resource))?;
    let there: Vec<&Meter> = there.iter().collect();
    let (over, new) = differences(&there, wanted);
    over.into_iter()
        .try_for_each(|meter| end(transaction, meter))?;
    for wanted in new {
        let before = there.iter().find(|meter| meter.name == wanted.name);
        let meter = Meter {
            key: Meter::key_of(&resource, &wanted.name),
            name: wanted.name,
            resource: resource.clone(),
            quantity: wanted.quantity.normalize(),
            while_running: wanted.while_running,
            by_policy: true,
            created_at: created_at(transaction, before.copied()),
        };
        keep(transaction, &meter, runs(instance))?;
    }
    Ok(())
}

/// The same for every instance: another billing policy may be in force. Where everything is as it should be, nothing is written. Blocks.
pub(crate) fn follow_policy_everywhere(core: &Core) -> Result<()> {
    let meters = core.list::<Meter>()?;
    let differs = |instance: &Instance| {
        let Some(wanted) = wanted(core, instance) else {
            return false;
        };
        let resource = instance.id.to_string();
        let there = meters.iter().filter(|meter| meter.resource == resource);
        let (over, new) = differences(&there.collect::<Vec<_>>(), wanted);
        !over.is_empty() || !new.is_empty()
    };
    let instances = core.all::<Instance>();
    let differing: BTreeSet<InstanceId> = instances
        .values()
        .filter(|instance| instance.intent != Intent::Released && differs(instance))
        .map(|instance| instance.id)
        .collect();
    match differing.is_empty() {
        true => Ok(()),
        false => follow_policy_for(core, &differing),
    }
}

/// The same for some of those of which the policy had no answer before: however slowly it fails, others do not wait long. Blocks.
pub(crate) fn make_up(core: &Core) -> Result<()> {
    let some: BTreeSet<InstanceId> = {
        let mut owed = lock(&core.meters_owed);
        let some: BTreeSet<InstanceId> = owed.iter().copied().take(MADE_UP_AT_ONCE).collect();
        owed.retain(|id| !some.contains(id));
        some
    };
    match some.is_empty() {
        true => Ok(()),
        false => follow_policy_for(core, &some),
    }
}

fn follow_policy_for(core: &Core, ids: &BTreeSet<InstanceId>) -> Result<()> {
    let followed = core.write_blocking(true, |transaction| {
        let instances = transaction.all::<Instance>();
        ids.iter()
            .filter_map(|id| instances.get(id))
            .filter(|instance| instance.intent != Intent::Released)
            .try_for_each(|instance| follow_policy(transaction, instance))
    });
    if followed.is_err() {
        lock(&core.meters_owed).extend(ids);
    }
    followed
}

/// What a new daemon finds: another billing policy may be in force than before, and what the operator had metered by a name that the
/// host counts by itself now ends. Blocks.
pub(crate) fn catch_up(core: &Core) -> Result<()> {
    let mut taken = core.list::<Meter>()?;
    taken.retain(|meter| check_meter_name(&meter.name).is_err());
    if !taken.is_empty() {
        core.write_blocking(true, |transaction| {
            taken.iter().try_for_each(|meter| end(transaction, meter))
        })?;
    }
    follow_policy_everywhere(core)
}

/// Whether meters count that do so while an instance runs.
fn runs(instance: &Instance) -> bool {
    instance.state == State::Running
}

/// Whether the resource is an instance that runs; refuses one that is not there, or is about to go.
fn resource_runs(transaction: &Transaction<'_>, command: &SetMeter) -> Result<bool> {
    let id = command.resource.as_str();
    let missing = || {
        let shown: String = id.chars().take(SHOWN).collect();
        let message = format!("There is no instance, disk or image {shown} to meter anything of.");
        ControlError::new(ErrorKind::NotFound, "InvalidResourceId.NotFound", message)
            .with_field("resource")
            .with_next_step("List instances, disks or images, and check the id.")
    };
    if let Ok(id) = id.parse() {
        let instance = transaction.get::<Instance>(&id)?;
        let instance = instance.filter(|instance| instance.intent != Intent::Released);
        return instance.as_ref().map(runs).ok_or_else(missing);
    }
    let there = if let Ok(id) = id.parse() {
        let disk = transaction.get::<Disk>(&id)?;
        disk.is_some_and(|disk| disk.state != DiskState::Deleting)
    } else if let Ok(id) = id.parse() {
        let image = transaction.get::<Image>(&id)?;
        image.is_some_and(|image| image.state != ImageState::Deleting)
    } else {
        false
    };
    match (there, command.while_running) {
        (false, _) => Err(missing()),
        (true, true) => Err(ControlError::invalid(
            "while_running",
            "Only an instance runs: meters of disks and images last until they are removed.",
        )),
        (true, false) => Ok(false),
    }
}

/// An instance runs from now on, or no more: so do the meters that count while it does.
pub(crate) fn instance_runs(
    transaction: &mut Transaction<'_>,
    resource: &str,
    runs: bool,
) -> Result<()> {
    let meters = transaction.list_under::<Meter>(&Meter::keys_of(resource))?;
    for meter in meters.into_iter().filter(|meter| meter.while_running) {
        match runs {
            true => transaction.open_usage(meter.usage()),
            false => transaction.close_usage(meter.usage_key()),
        }
    }
    Ok(())
}

/// Ends all meters of a resource that goes.
pub(crate) fn end_all(transaction: &mut Transaction<'_>, resource: &str) -> Result<()> {
    let meters = transaction.list_under::<Meter>(&Meter::keys_of(resource))?;
    meters.iter().try_for_each(|meter| end(transaction, meter))
}

fn end(transaction: &mut Transaction<'_>, meter: &Meter) -> Result<()> {
    transaction.delete::<Meter>(&meter.key)?;
    transaction.close_usage(meter.usage_key());
    let message = format!("{} of {} is metered no more", meter.name, meter.resource);
    transaction.event(EventSubject::Meter(meter.resource.clone()), message);
    Ok(())
}

/// What an available image takes of the pool.
pub(crate) fn image_usage(image: &Image) -> Usage {
    let size: ByteCount = image.parts().map(|(_, part)| part.size).sum();
    let gib = Decimal::from(size.bytes()) / Decimal::from(ByteCount::GIB.bytes());
    Usage::Other {
        name: IMAGE_METER.to_owned(),
        resource: image.id.to_string(),
        quantity: gib.round_dp(METER_DECIMALS).normalize(),
    }
}

/// What the use of an image is found by.
pub(crate) fn image_key(image: &Image) -> UsageKey {
    UsageKey::other(image.id.to_string(), IMAGE_METER)
}

fn unknown(resource: &str, name: &str) -> ControlError {
    let shown = |text: &str| -> String { text.chars().take(SHOWN).collect() };
    let message = format!(
        "Nothing called {} is metered of {}.",
        shown(name),
        shown(resource)
    );
    ControlError::new(ErrorKind::NotFound, "InvalidMeter.NotFound", message)
        .with_next_step("List the meters, and check resource and name.")
}
