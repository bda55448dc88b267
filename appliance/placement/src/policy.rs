//! What a scheduling policy is, and what counts as an answer.

use crate::{Constraint, HostTable, PlacementRequest};
use types::{FailureKind, PolicyFailure, PolicyIdentity};

/// The largest score, and the negative of the smallest.
pub const MAX_SCORE: f64 = 1e15;

/// What a policy says about one host.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The instance must not go there.
    Refused(Constraint),
    /// It may; the highest score wins, the lower host id on a tie. Finite, within ±[`MAX_SCORE`].
    Score(f64),
}

/// Decides where instances may go and how good each place is.
///
/// An answer depends on nothing but the arguments and [`identity`](Self::identity): the same request and table always get
/// the same verdicts.
pub trait SchedulingPolicy: Send + Sync {
    /// Name, code and parameters.
    fn identity(&self) -> PolicyIdentity;

    /// One verdict per host, in the order of the table.
    ///
    /// # Errors
    /// [`PolicyFailure`] when there is no usable answer.
    fn evaluate(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Vec<Verdict>, PolicyFailure>;

    /// For each request, in their order, the position of the best host: the one [`evaluate`](Self::evaluate) gives the highest score,
    /// the lowest of equals, in the table as it is when the instances before it are booked; `None` where every host is refused.
    ///
    /// # Errors
    /// [`PolicyFailure`] when there is no usable answer.
    fn place(
        &self,
        requests: &[PlacementRequest],
        hosts: &HostTable,
    ) -> Result<Vec<Option<usize>>, PolicyFailure> {
        let mut hosts = hosts.clone();
        let place = |request: &PlacementRequest| {
            let place = highest(&self.evaluate(request, &hosts)?);
            if let Some(host) = place.and_then(|place| hosts.ids().get(place).copied()) {
                hosts
                    .reserve(host, &request.footprint())
                    .map_err(|why| invalid_answer(self.identity(), why.to_string()))?;
            }
            Ok(place)
        };
        requests.iter().map(place).collect()
    }
}

/// The position of the highest score; of several, the lowest.
#[must_use]
pub fn highest(verdicts: &[Verdict]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (position, verdict) in verdicts.iter().enumerate() {
        if let Verdict::Score(score) = *verdict
            && best.is_none_or(|(_, highest)| score > highest)
        {
            best = Some((position, score));
        }
    }
    best.map(|(position, _)| position)
}

/// Whether `verdicts` can be an answer to `request` over `hosts`: one per host, finite scores in range, and no score for
/// a host that cannot hold the instance.
///
/// # Errors
/// What is wrong with the first verdict that is.
pub fn check_verdicts(
    request: &PlacementRequest,
    hosts: &HostTable,
    verdicts: &[Verdict],
) -> Result<(), String> {
    if verdicts.len() != hosts.len() {
        let (said, there) = (verdicts.len(), hosts.len());
        return Err(format!("{said} verdicts for a table of {there} hosts"));
    }
    for ((verdict, id), host) in verdicts
        .iter()
        .zip(hosts.ids())
        .zip(Fit::of(request, hosts))
    {
        let Verdict::Score(score) = verdict else {
            continue;
        };
        if !score.is_finite() || score.abs() > MAX_SCORE {
            return Err(format!(
                "the score of host {id} is {score}; it must be a number within ±{MAX_SCORE:e}"
            ));
        }
        if !host {
            let obstacle = hosts
                .rows()
                .find(|row| row.id == *id)
                .and_then(|row| row.obstacle(request));
            let obstacle = obstacle.unwrap_or(Constraint::NotAccepting);
            return Err(format!(
                "host {id} got the score {score} although it does not meet `{obstacle}`"
            ));
        }
    }
    Ok(())
}

/// Whether each host of a table can hold the instance, without making rows.
struct Fit;

impl Fit {
    fn of<'a>(
        request: &'a PlacementRequest,
        hosts: &'a HostTable,
    ) -> impl Iterator<Item = bool> + 'a {
        let columns = hosts.columns();
        let zone = request.zone.as_ref().map(|zone| {
            let position = hosts.zone_names().binary_search(zone).ok();
            position.and_then(|position| u32::try_from(position).ok())
        });
        let members = request
            .deployment_set
            .as_ref()
            .map(|set| (hosts.members_of(&set.id), set.max_per_host));
        (0..hosts.len()).map(move |host| {
            let free = |total: u64, used: u64| total.saturating_sub(used);
            columns.accepting[host] != 0
                && zone.is_none_or(|zone| zone == Some(columns.zone[host]))
                && columns.vcpus_total[host].saturating_sub(columns.vcpus_used[host])
                    >= request.vcpus
                && free(columns.memory_total[host], columns.memory_used[host])
                    >= request.memory.bytes()
                && free(
                    columns.local_disk_total[host],
                    columns.local_disk_used[host],
                ) >= request.local_disk.bytes()
                && members
                    .as_ref()
                    .is_none_or(|(members, most)| members[host] < *most)
        })
    }
}

/// The policy's verdicts, once they are checked.
pub(crate) fn checked_verdicts(
    policy: &dyn SchedulingPolicy,
    request: &PlacementRequest,
    hosts: &HostTable,
) -> Result<Vec<Verdict>, PolicyFailure> {
    let verdicts = policy.evaluate(request, hosts)?;
    check_verdicts(request, hosts, &verdicts)
        .map_err(|message| invalid_answer(policy.identity(), message))?;
    Ok(verdicts)
}

/// The failure of `policy` to give an answer that passes [`check_verdicts`].
pub(crate) fn invalid_answer(policy: PolicyIdentity, message: String) -> PolicyFailure {
    PolicyFailure {
        policy: Box::new(policy),
        kind: FailureKind::InvalidAnswer,
        message,
    }
}
