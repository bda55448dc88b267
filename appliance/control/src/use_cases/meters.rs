//! What the operator has metered beside what the host meters by itself: licences, support, whatever a billing policy has a price for.
//!
//! A meter's use is in the ledger from the transaction that sets it to the one that removes it, or that erases its resource; one that
//! counts while its instance runs opens and closes with the instance's own.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::SetMeter,
    core::{Transaction, check_room},
    model::{
        Disk, DiskState, EventSubject, IMAGE_METER, Image, ImageState, Instance, Intent, Meter,
        State,
    },
};
use ledger::{Usage, UsageKey};
use types::{ByteCount, Decimal};

/// The most meters of a host.
const MAX_METERS: u32 = 1000;
/// The longest name, in characters.
const MAX_NAME: usize = 64;
const MAX_QUANTITY: u32 = 1_000_000_000;
const MAX_DECIMALS: u32 = 9;
/// Names of the host's own meters, and of what prices may be given of.
const TAKEN: [&str; 4] = [
    "instance-running",
    "instance-preemptible",
    "disk-allocated",
    IMAGE_METER,
];

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
        let delete = move |transaction: &mut Transaction<'_>| {
            let meter = transaction.get::<Meter>(&Meter::key_of(&resource, &name))?;
            end(
                transaction,
                &meter.ok_or_else(|| unknown(&resource, &name))?,
            )
        };
        self.core().write(delete).await
    }
}

fn judge(command: &SetMeter) -> Result<()> {
    let known =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    let fits = (1..=MAX_NAME).contains(&command.name.len());
    if !fits || !command.name.bytes().all(known) {
        let message =
            format!("The name of a meter is 1 to {MAX_NAME} characters of 0-9, a-z, `.` and `-`.");
        return Err(ControlError::invalid("name", message));
    }
    if TAKEN.contains(&command.name.as_str()) {
        let message = format!("The host counts {} by itself.", command.name);
        return Err(ControlError::invalid("name", message).with_next_step("Take another name."));
    }
    let quantity = command.quantity;
    let in_range = quantity > Decimal::ZERO && quantity <= Decimal::from(MAX_QUANTITY);
    if !in_range || quantity.normalize().scale() > MAX_DECIMALS {
        let message = format!(
            "A quantity of {quantity}: it must be above 0 and at most {MAX_QUANTITY}, with at most {MAX_DECIMALS} decimals."
        );
        return Err(ControlError::invalid("quantity", message));
    }
    Ok(())
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
        created_at: before
            .as_ref()
            .map_or_else(|| transaction.core().now(), |before| before.created_at),
    };
    if before.as_ref() == Some(&meter) {
        return Ok(meter);
    }
    if before.is_none() {
        let there = transaction.list::<Meter>()?.len();
        check_room("meters", there, 1, MAX_METERS)?;
    }
    transaction.put(&meter)?;
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
    Ok(meter)
}

/// Whether the resource is an instance that runs; refuses one that is not there, or is about to go.
fn resource_runs(transaction: &Transaction<'_>, command: &SetMeter) -> Result<bool> {
    let id = command.resource.as_str();
    let missing = || {
        let shown: String = id.chars().take(MAX_NAME).collect();
        let message = format!("There is no instance, disk or image {shown} to meter anything of.");
        ControlError::new(ErrorKind::NotFound, "InvalidResourceId.NotFound", message)
            .with_field("resource")
            .with_next_step("List instances, disks or images, and check the id.")
    };
    if let Ok(id) = id.parse() {
        let instance = transaction.get::<Instance>(&id)?;
        let instance = instance.filter(|instance| instance.intent != Intent::Released);
        return Ok(instance.ok_or_else(missing)?.state == State::Running);
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
    let meters = transaction.list::<Meter>()?.into_iter();
    for meter in meters.filter(|meter| meter.while_running && meter.resource == resource) {
        match runs {
            true => transaction.open_usage(meter.usage()),
            false => transaction.close_usage(meter.usage_key()),
        }
    }
    Ok(())
}

/// Ends all meters of a resource that goes.
pub(crate) fn end_all(transaction: &mut Transaction<'_>, resource: &str) -> Result<()> {
    let meters = transaction.list::<Meter>()?.into_iter();
    meters
        .filter(|meter| meter.resource == resource)
        .try_for_each(|meter| end(transaction, &meter))
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
        quantity: gib.round_dp(MAX_DECIMALS).normalize(),
    }
}

/// What the use of an image is found by.
pub(crate) fn image_key(image: &Image) -> UsageKey {
    UsageKey::other(image.id.to_string(), IMAGE_METER)
}

fn unknown(resource: &str, name: &str) -> ControlError {
    let shown = |text: &str| -> String { text.chars().take(MAX_NAME).collect() };
    let message = format!(
        "Nothing called {} is metered of {}.",
        shown(name),
        shown(resource)
    );
    ControlError::new(ErrorKind::NotFound, "InvalidMeter.NotFound", message)
        .with_next_step("List the meters, and check resource and name.")
}
