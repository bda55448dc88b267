//! Which preemptible instances a policy may name.

use crate::SpotLease;
use std::collections::{BTreeMap, BTreeSet};
use types::{InstanceId, Timestamp};

/// Whether `order` can say who of `leases` goes first at `now`: each is one of them, named once, preemptible, past its protection and
/// not given notice yet.
///
/// # Errors
/// What is wrong with the first that cannot be named.
pub fn check_order(
    leases: &[SpotLease],
    now: Timestamp,
    order: &[InstanceId],
) -> Result<(), String> {
    let known: BTreeMap<InstanceId, &SpotLease> =
        leases.iter().map(|lease| (lease.instance, lease)).collect();
    let mut named = BTreeSet::new();
    for instance in order {
        let Some(lease) = known.get(instance) else {
            return Err(format!(
                "it names {instance}, which is not among those asked about"
            ));
        };
        if !named.insert(instance) {
            return Err(format!("it names {instance} twice"));
        }
        lease
            .check_reclaimable(now)
            .map_err(|why| format!("it names {instance}, which {why}"))?;
    }
    Ok(())
}
