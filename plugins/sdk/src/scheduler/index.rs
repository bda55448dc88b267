//! Finding the best host without looking at all of them.
//!
//! Hosts of equal capacity get equal scores, so each kind of host is scored once:
//!
//! ```text
//! class (zone, totals) ─► free vCPUs, ascending ─► (free memory, free local disk), ascending ─► positions, ascending
//! ```
//!
//! In which direction a list is walked, and when the walk can end, follows from [`Prefers`].

use super::{HostTable, PlacementRequest, Verdict, constraint};
use alloc::{vec, vec::Vec};

/// What a score by capacity may depend on. Memory and disk are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity<'a> {
    /// The host's zone.
    pub zone: &'a str,
    /// vCPUs on offer.
    pub vcpus_total: u32,
    /// vCPUs not taken.
    pub vcpus_free: u32,
    /// Memory on offer.
    pub memory_total: u64,
    /// Memory not taken.
    pub memory_free: u64,
    /// Local disk on offer.
    pub local_disk_total: u64,
}

/// Which of two hosts that differ only in what is free is at least as good as the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefers {
    /// The one with more free: the score never falls when free vCPUs or free memory grow.
    MoreFree,
    /// The one with less free: the score never rises when free vCPUs or free memory grow.
    LessFree,
}

/// A score that depends on a host's capacity alone. Hosts that cannot hold the instance are never asked about.
pub trait ByCapacity {
    /// In which direction the score goes.
    fn prefers(&self) -> Prefers;

    /// The score: finite, within ±1e15, the highest wins.
    fn score(&self, request: &PlacementRequest, host: &Capacity) -> f64;
}

/// One verdict per host: refused for the first condition it does not meet, or scored by its capacity.
#[must_use]
pub fn judge_by_capacity(
    policy: &impl ByCapacity,
    request: &PlacementRequest,
    hosts: &HostTable,
) -> Vec<Verdict> {
    let judge = |host| match hosts.obstacle(host, request) {
        Some(constraint) => Verdict::Refused(constraint),
        None => Verdict::Score(policy.score(request, &hosts.capacity(host))),
    };
    if request.zone.is_none() {
        return (0..hosts.len()).map(judge).collect();
    }
    // Names of zones are compared once, not host by host.
    let zone = hosts.zone_of(request);
    let anywhere = PlacementRequest {
        zone: None,
        ..request.clone()
    };
    let judge = |host: usize| {
        if hosts.accepting[host] != 0 && Some(hosts.zone[host]) != zone {
            return Verdict::Refused(constraint::ZONE);
        }
        match hosts.obstacle(host, &anywhere) {
            Some(constraint) => Verdict::Refused(constraint),
            None => Verdict::Score(policy.score(request, &hosts.capacity(host))),
        }
    };
    (0..hosts.len()).map(judge).collect()
}

/// The hosts of a table that take instances, by capacity.
#[derive(Clone, Debug, Default)]
pub struct Index {
    classes: Vec<Class>,
}

/// Hosts that differ only in what is free.
#[derive(Clone, Debug)]
struct Class {
    key: (u32, u32, u64, u64),
    by_vcpus: Vec<(u32, Vec<Kind>)>,
}

/// Hosts that do not differ.
#[derive(Clone, Debug)]
struct Kind {
    /// Free memory, free local disk.
    free: (u64, u64),
    positions: Vec<u32>,
}

/// The best host so far.
struct Best {
    score: f64,
    position: u32,
}

impl Index {
    /// Of all hosts of the table.
    #[must_use]
    pub fn new(hosts: &HostTable) -> Self {
        let mut index = Self::default();
        for host in 0..hosts.len() {
            index.add(hosts, host);
        }
        index
    }

    /// Takes in a host as it is in the table.
    pub fn add(&mut self, hosts: &HostTable, host: usize) {
        if hosts.accepting[host] == 0 {
            return;
        }
        let key = hosts.class(host);
        let at = match self.classes.binary_search_by_key(&key, |class| class.key) {
            Ok(at) => at,
            Err(at) => {
                let by_vcpus = Vec::new();
                self.classes.insert(at, Class { key, by_vcpus });
                at
            }
        };
        let by_vcpus = &mut self.classes[at].by_vcpus;
        let vcpus = hosts.vcpus_free(host);
        let at = match by_vcpus.binary_search_by_key(&vcpus, |(vcpus, _)| *vcpus) {
            Ok(at) => at,
            Err(at) => {
                by_vcpus.insert(at, (vcpus, Vec::new()));
                at
            }
        };
        let kinds = &mut by_vcpus[at].1;
        let (free, position) = (hosts.rest_free(host), position(host));
        match kinds.binary_search_by_key(&free, |kind| kind.free) {
            Ok(at) => {
                let positions = &mut kinds[at].positions;
                if let Err(at) = positions.binary_search(&position) {
                    positions.insert(at, position);
                }
            }
            Err(at) => {
                let positions = vec![position];
                kinds.insert(at, Kind { free, positions });
            }
        }
    }

    /// Takes out a host as it is in the table: before its row changes.
    pub fn remove(&mut self, hosts: &HostTable, host: usize) {
        let key = hosts.class(host);
        let Ok(class) = self.classes.binary_search_by_key(&key, |class| class.key) else {
            return;
        };
        let by_vcpus = &mut self.classes[class].by_vcpus;
        let vcpus = hosts.vcpus_free(host);
        let Ok(bucket) = by_vcpus.binary_search_by_key(&vcpus, |(vcpus, _)| *vcpus) else {
            return;
        };
        let kinds = &mut by_vcpus[bucket].1;
        let free = hosts.rest_free(host);
        let Ok(kind) = kinds.binary_search_by_key(&free, |kind| kind.free) else {
            return;
        };
        let positions = &mut kinds[kind].positions;
        if let Ok(at) = positions.binary_search(&position(host)) {
            positions.remove(at);
        }
        if positions.is_empty() {
            kinds.remove(kind);
        }
        if kinds.is_empty() {
            by_vcpus.remove(bucket);
        }
    }

    /// The position of the best host: the highest score of all that can hold the instance, the lowest position on a tie. `full`
    /// are the hosts that have as many members of the request's deployment set as they may have.
    #[must_use]
    pub fn best(
        &self,
        policy: &dyn ByCapacity,
        request: &PlacementRequest,
        hosts: &HostTable,
        full: &dyn Fn(u32) -> bool,
    ) -> Option<u32> {
        let zone = match &request.zone {
            Some(_) => Some(hosts.zone_of(request)?),
            None => None,
        };
        let mut best = None;
        for class in &self.classes {
            let (its_zone, _, _, disk) = class.key;
            if zone.is_none_or(|zone| zone == its_zone) && disk >= request.local_disk {
                class.best(policy, request, hosts, full, &mut best);
            }
        }
        best.map(|best| best.position)
    }
}

impl Class {
    fn best(
        &self,
        policy: &dyn ByCapacity,
        request: &PlacementRequest,
        hosts: &HostTable,
        full: &dyn Fn(u32) -> bool,
        best: &mut Option<Best>,
    ) {
        let (zone, vcpus_total, memory_total, local_disk_total) = self.key;
        let score = |vcpus_free, memory_free| {
            let host = Capacity {
                zone: hosts.zone_at(zone),
                vcpus_total,
                vcpus_free,
                memory_total,
                memory_free,
                local_disk_total,
            };
            policy.score(request, &host)
        };
        let lost =
            |score: f64, best: &Option<Best>| best.as_ref().is_some_and(|best| score < best.score);
        // Whether kinds that come after this one cannot win any more.
        let look = |vcpus: u32, kind: &Kind, best: &mut Option<Best>| {
            let score = score(vcpus, kind.free.0);
            if lost(score, best) {
                return true;
            }
            if kind.free.1 >= request.local_disk
                && let Some(position) = kind.positions.iter().copied().find(|at| !full(*at))
                && best
                    .as_ref()
                    .is_none_or(|best| score > best.score || position < best.position)
            {
                *best = Some(Best { score, position });
            }
            false
        };
        let first = self
            .by_vcpus
            .partition_point(|(vcpus, _)| *vcpus < request.vcpus);
        let fitting = &self.by_vcpus[first..];
        let enough = |kinds: &[Kind]| kinds.partition_point(|kind| kind.free.0 < request.memory);
        match policy.prefers() {
            Prefers::MoreFree => {
                for (vcpus, kinds) in fitting.iter().rev() {
                    // No host of this or a later bucket is better than one whose memory is all free.
                    if lost(score(*vcpus, memory_total), best) {
                        break;
                    }
                    let kinds = kinds[enough(kinds)..].iter().rev();
                    for kind in kinds {
                        if look(*vcpus, kind, best) {
                            break;
                        }
                    }
                }
            }
            Prefers::LessFree => {
                for (vcpus, kinds) in fitting {
                    // No host of this or a later bucket is better than one that would be full of memory.
                    if lost(score(*vcpus, request.memory), best) {
                        break;
                    }
                    for kind in &kinds[enough(kinds)..] {
                        if look(*vcpus, kind, best) {
                            break;
                        }
                    }
                }
            }
        }
    }
}

impl HostTable {
    /// The capacity of a host.
    #[must_use]
    pub fn capacity(&self, host: usize) -> Capacity<'_> {
        Capacity {
            zone: self.zone_at(self.zone[host]),
            vcpus_total: self.vcpus_total[host],
            vcpus_free: self.vcpus_free(host),
            memory_total: self.memory_total[host],
            memory_free: self.memory_free(host),
            local_disk_total: self.local_disk_total[host],
        }
    }

    fn zone_at(&self, position: u32) -> &str {
        let position = usize::try_from(position).ok();
        let name = position.and_then(|position| self.zone_names.get(position));
        name.map_or("", |name| name.as_str())
    }

    /// The position of the zone a request names.
    fn zone_of(&self, request: &PlacementRequest) -> Option<u32> {
        let named = request.zone.as_ref()?;
        let position = self.zone_names.iter().position(|name| name == named)?;
        u32::try_from(position).ok()
    }

    fn class(&self, host: usize) -> (u32, u32, u64, u64) {
        (
            self.zone[host],
            self.vcpus_total[host],
            self.memory_total[host],
            self.local_disk_total[host],
        )
    }

    fn rest_free(&self, host: usize) -> (u64, u64) {
        (self.memory_free(host), self.local_disk_free(host))
    }
}

/// As positions cross the border. A table has fewer hosts than that.
fn position(host: usize) -> u32 {
    u32::try_from(host).unwrap_or(u32::MAX)
}
