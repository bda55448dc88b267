//! The policy that is always there.

use crate::{HostRow, HostTable, PlacementRequest, SchedulingPolicy, Verdict};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use types::{ModuleDigest, PolicyFailure, PolicyIdentity, Sha256Digest};

/// Which of the hosts that fit is best.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The one with the largest share left afterwards: instances keep out of each other's way.
    #[default]
    Spread,
    /// The one with the smallest share left afterwards: whole hosts stay free for large instances.
    BinPack,
}

/// A text that names no [`Strategy`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a scheduling strategy: expected `spread` or `bin-pack`")]
pub struct UnknownStrategy(String);

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Spread => "spread",
            Self::BinPack => "bin-pack",
        })
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, UnknownStrategy> {
        match text {
            "spread" => Ok(Self::Spread),
            "bin-pack" => Ok(Self::BinPack),
            _ => Err(UnknownStrategy(text.chars().take(64).collect())),
        }
    }
}

/// Refuses hosts by [`HostRow::obstacle`] and scores the others by the share of the scarcer of vCPUs and memory that would
/// be left: from 0 (none) to 1000 (all) when spreading, the other way round when packing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BuiltIn {
    strategy: Strategy,
}

impl BuiltIn {
    /// With that strategy.
    #[must_use]
    pub const fn new(strategy: Strategy) -> Self {
        Self { strategy }
    }

    /// One verdict per host, in the order of the table; it never fails.
    #[must_use]
    pub fn verdicts(&self, request: &PlacementRequest, hosts: &HostTable) -> Vec<Verdict> {
        let verdict = |host: HostRow| match host.obstacle(request) {
            Some(constraint) => Verdict::Refused(constraint),
            None => Verdict::Score(self.score(request, &host)),
        };
        hosts.rows().map(verdict).collect()
    }

    fn score(self, request: &PlacementRequest, host: &HostRow) -> f64 {
        let vcpus = share(
            u64::from(host.vcpus_free()),
            u64::from(request.vcpus),
            u64::from(host.vcpus_total),
        );
        let memory = share(
            host.memory_free().bytes(),
            request.memory.bytes(),
            host.memory_total.bytes(),
        );
        let left = vcpus.min(memory);
        1000.0
            * match self.strategy {
                Strategy::Spread => left,
                Strategy::BinPack => 1.0 - left,
            }
    }
}

/// What part of `total` is left of `free` after `taken`: 0 to 1. Exact for every count below 2⁵³.
fn share(free: u64, taken: u64, total: u64) -> f64 {
    if total == 0 {
        return 0.0;
    }
    free.saturating_sub(taken) as f64 / total as f64
}

impl SchedulingPolicy for BuiltIn {
    fn identity(&self) -> PolicyIdentity {
        PolicyIdentity {
            name: self.strategy.to_string(),
            module_sha256: ModuleDigest::BuiltIn,
            configuration_sha256: Sha256Digest::of(self.strategy.to_string().as_bytes()),
        }
    }

    fn evaluate(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Vec<Verdict>, PolicyFailure> {
        Ok(self.verdicts(request, hosts))
    }
}
