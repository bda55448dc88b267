//! What machines use of the host's CPUs.

use super::PortResult;
use cpu::{CpuSet, Topology};
use std::time::Duration;
use types::InstanceId;

/// What a machine may use of the host's CPUs. What is not given stays as it was; at first, a machine is limited in nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuShare {
    /// What it weighs beside the others when all want more than there is: 100 for each virtual CPU.
    pub weight: Option<u32>,
    /// CPU time in each [`cpu::PERIOD`], all CPUs together.
    pub quota: Option<Duration>,
    /// Where it runs.
    pub place: Option<CpuPlace>,
}

/// CPUs, and the memory nodes they are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuPlace {
    /// The CPUs.
    pub cpus: CpuSet,
    /// Their memory nodes.
    pub nodes: CpuSet,
}

/// Whether this host can limit what machines use of its CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpuControl {
    /// It cannot, and why. Machines use what they can get.
    None(String),
    /// By cgroup v1.
    V1,
    /// By cgroup v2.
    V2,
}

impl CpuControl {
    /// For programs: `none`, `v1`, `v2`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None(_) => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// The CPUs of this host and the limits of its machines. Calls block for a moment.
///
/// Order: `limit` and `used` come after [`Machines::start`](super::Machines::start) or `adopt` of the machine.
pub trait Processors: Send + Sync + 'static {
    /// Whether limits can be put in force. Does not change while the daemon runs.
    fn control(&self) -> CpuControl;

    /// The CPUs that machines can be kept on; `None`: they cannot be kept on any. Does not change while the daemon runs.
    fn topology(&self) -> Option<Topology>;

    /// Puts the share in force. `NotFound` when there is no machine.
    fn limit(&self, instance: InstanceId, share: &CpuShare) -> PortResult<()>;

    /// The CPU time that the machine of that start of the instance has used; of one that ended, until the next one is
    /// started. `NotFound` when it is not known.
    fn used(&self, instance: InstanceId, run: u64) -> PortResult<Duration>;
}
