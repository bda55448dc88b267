//! What an instance has of the host's CPUs.

use ::cpu::CpuSet;
use std::time::Duration;

/// What an instance has of the host's CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// The account of a burstable instance.
    pub credits: Option<CpuCredits>,
    /// The CPUs that it has for itself.
    pub cpus: Option<CpuSet>,
}

/// The account of a burstable instance, as of when it was last settled. Credits are CPU time: one is a minute of one virtual CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCredits {
    /// What there is to spend, launch credits included.
    pub balance: Duration,
    /// The most there can be, launch credits apart.
    pub max: Duration,
    /// Hundredths of a credit that an hour earns.
    pub centicredits_per_hour: u64,
    /// What it may use of each virtual CPU for ever, in percent.
    pub baseline_percent: u32,
    /// Whether nothing was left: it runs at its baseline until enough was earned.
    pub throttled: bool,
}
