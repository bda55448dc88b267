//! Many placements at once, without a verdict on every host.

use crate::{
    Footprint, HostRow, HostTable, PlacementRequest, Scheduler, SchedulingPolicy, highest,
    policy::{checked_verdicts, invalid_answer},
};
use std::{collections::HashMap, time::Instant};
use types::{HostId, PolicyFailure, PolicyIdentity};

/// Where a batch of instances goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Placements {
    /// For each request, its host; `None` if every host is refused.
    pub hosts: Vec<Option<HostId>>,
    /// The policy that chose.
    pub policy: PolicyIdentity,
    /// If the configured policy failed: how. All hosts are then the built-in policy's choice.
    pub fallback: Option<PolicyFailure>,
    /// How long the policy (and, after a failure, the built-in one) took, in nanoseconds.
    pub duration_ns: u64,
}

impl Scheduler {
    /// Chooses a host for each request, one after the other, and books it in `hosts` before the next.
    ///
    /// Each winner is the one [`decide`](Self::decide) would name at that moment; a request with affinity is decided about as it does it,
    /// by a verdict on every host. Everything but [`Placements::duration_ns`] is determined by the arguments and the policy.
    pub fn place(&self, requests: &[PlacementRequest], hosts: &mut HostTable) -> Placements {
        let start = Instant::now();
        let (policy, places, fallback) = match places(&*self.policy, requests, hosts) {
            Ok(places) => (self.policy.identity(), places, None),
            Err(failure) => {
                // The built-in policy never fails.
                let places = places(&self.fallback, requests, hosts).unwrap_or_default();
                (self.fallback.identity(), places, Some(failure))
            }
        };
        let duration_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut chosen = book(hosts, requests, &places);
        chosen.resize(requests.len(), None);
        Placements {
            hosts: chosen,
            policy,
            fallback,
            duration_ns,
        }
    }
}

/// For each request, the position of the host that `policy` gives it, each booked before the next: in one question where no request has
/// affinity.
fn places(
    policy: &dyn SchedulingPolicy,
    requests: &[PlacementRequest],
    hosts: &HostTable,
) -> Result<Vec<Option<usize>>, PolicyFailure> {
    let free = |request: &PlacementRequest| request.affinity.is_empty();
    if requests.iter().all(free) {
        return many(policy, requests, hosts);
    }
    let mut hosts = hosts.clone();
    let mut places = Vec::with_capacity(requests.len());
    for run in requests.chunk_by(|one, next| free(one) && free(next)) {
        let more = match run {
            [request] if !free(request) => vec![one(policy, request, &hosts)?],
            _ => many(policy, run, &hosts)?,
        };
        book(&mut hosts, run, &more);
        places.extend(more);
    }
    Ok(places)
}

fn many(
    policy: &dyn SchedulingPolicy,
    requests: &[PlacementRequest],
    hosts: &HostTable,
) -> Result<Vec<Option<usize>>, PolicyFailure> {
    let places = policy.place(requests, hosts)?;
    check_places(requests, hosts, &places)
        .map_err(|message| invalid_answer(policy.identity(), message))?;
    Ok(places)
}

fn one(
    policy: &dyn SchedulingPolicy,
    request: &PlacementRequest,
    hosts: &HostTable,
) -> Result<Option<usize>, PolicyFailure> {
    let mut verdicts = checked_verdicts(policy, request, hosts)?;
    request.affinity.rule_out(hosts, &mut verdicts);
    Ok(highest(&verdicts))
}

/// Takes what was placed off the hosts' capacity; the hosts it is on.
fn book(
    hosts: &mut HostTable,
    requests: &[PlacementRequest],
    places: &[Option<usize>],
) -> Vec<Option<HostId>> {
    let mut on = Vec::with_capacity(requests.len());
    for (request, place) in requests.iter().zip(places) {
        let host = place.and_then(|place| hosts.ids().get(place).copied());
        if let Some(host) = host {
            // What was checked has room.
            let _ = hosts.reserve(host, &request.footprint());
        }
        on.push(host);
    }
    on
}

/// Whether `places` can be an answer to `requests` over `hosts`: one per request, and each host can hold the instance once those
/// before it are booked.
///
/// # Errors
/// What is wrong with the first place that is.
pub fn check_places(
    requests: &[PlacementRequest],
    hosts: &HostTable,
    places: &[Option<usize>],
) -> Result<(), String> {
    if places.len() != requests.len() {
        let (said, asked) = (places.len(), requests.len());
        return Err(format!("{said} places for {asked} requests"));
    }
    let mut booked: HashMap<usize, HostRow> = HashMap::new();
    for (request, place) in requests.iter().zip(places) {
        let Some(place) = *place else {
            continue;
        };
        let row = match booked.entry(place) {
            std::collections::hash_map::Entry::Occupied(row) => row.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => {
                let there = hosts.len();
                let row = hosts
                    .row(place)
                    .ok_or_else(|| format!("a place is host {place}; the table has {there}"))?;
                free.insert(row)
            }
        };
        if let Some(obstacle) = row.obstacle(request) {
            let (host, instance) = (row.id, request.instance);
            return Err(format!(
                "host {host} was chosen for {instance} although it does not meet `{obstacle}`"
            ));
        }
        let footprint: Footprint = request.footprint();
        row.reserve(&footprint).map_err(|why| why.to_string())?;
    }
    Ok(())
}
