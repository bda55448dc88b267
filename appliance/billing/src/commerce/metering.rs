//! What a policy has metered of an instance beside what the host meters by itself.

use std::collections::{BTreeMap, BTreeSet};
use types::{AccountId, ByteCount, Decimal, ImageId, InstanceId};

/// The most meters a policy may have of an instance.
pub const MAX_METERS: usize = 16;
/// The longest name of a meter, in characters.
const MAX_NAME: usize = 64;
const MAX_QUANTITY: u32 = 1_000_000_000;
/// The most decimals of a quantity.
pub const METER_DECIMALS: u32 = 9;
/// Names of the host's own meters, and of what prices may be given of.
const TAKEN: [&str; 5] = [
    "instance-running",
    "instance-stopped",
    "instance-preemptible",
    "disk-allocated",
    "image-stored",
];

/// An instance that a policy may have something metered of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeteredInstance {
    /// Which.
    pub instance: InstanceId,
    /// Who it belongs to.
    pub account: AccountId,
    /// Name of its type, such as `ecs.g6.large`.
    pub instance_type: String,
    /// Its virtual CPUs.
    pub vcpus: u32,
    /// Its memory.
    pub memory: ByteCount,
    /// The image it was made from.
    pub image: ImageId,
    /// Its labels.
    pub tags: BTreeMap<String, String>,
    /// Whether its virtual CPUs and memory are paid for in advance.
    pub subscribed: bool,
}

/// Something a policy has metered of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyMeter {
    /// Its name, as the policy is asked for its price.
    pub name: String,
    /// How much of it lasts.
    pub quantity: Decimal,
    /// Whether it lasts only while the instance runs; otherwise until the instance is released.
    pub while_running: bool,
}

/// Whether something can be metered by that name: 1 to 64 characters of `0-9`, `a-z`, `.` and `-`, and none of the host's own meters.
///
/// # Errors
/// Why not.
pub fn check_meter_name(name: &str) -> Result<(), String> {
    let known =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    if !(1..=MAX_NAME).contains(&name.len()) || !name.bytes().all(known) {
        return Err(format!(
            "the name of a meter is 1 to {MAX_NAME} characters of 0-9, a-z, `.` and `-`"
        ));
    }
    if TAKEN.contains(&name) {
        return Err(format!("the host counts {name} by itself"));
    }
    Ok(())
}

/// Whether so much can be metered: more than 0, at most 10⁹, with at most [`METER_DECIMALS`] decimals.
///
/// # Errors
/// Why not.
pub fn check_meter_quantity(quantity: Decimal) -> Result<(), String> {
    let in_range = quantity > Decimal::ZERO && quantity <= Decimal::from(MAX_QUANTITY);
    if in_range && quantity.normalize().scale() <= METER_DECIMALS {
        return Ok(());
    }
    Err(format!(
        "a quantity of {quantity}: it must be above 0 and at most {MAX_QUANTITY}, with at most {METER_DECIMALS} decimals"
    ))
}

/// Whether `meters` can be what a policy has metered of an instance: at most [`MAX_METERS`] of different names.
///
/// # Errors
/// What is wrong with the first that cannot be.
pub fn check_meters(meters: &[PolicyMeter]) -> Result<(), String> {
    if meters.len() > MAX_METERS {
        return Err(format!(
            "{} meters of an instance; there may be {MAX_METERS}",
            meters.len()
        ));
    }
    let mut names = BTreeSet::new();
    for (meter, number) in meters.iter().zip(1..) {
        check_meter_name(&meter.name)
            .and_then(|()| check_meter_quantity(meter.quantity))
            .map_err(|why| format!("meter {number}: {why}"))?;
        if !names.insert(&meter.name) {
            return Err(format!("meter {number}: {} is there already", meter.name));
        }
    }
    Ok(())
}
