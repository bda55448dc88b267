//! Why a machine does not start, and why it ends.

use hypervisor::MAX_VCPUS;
use serde::{Deserialize, Serialize};

use crate::layout::CMDLINE_MAX;

/// Why a vmm ends. Also its exit status, see [`ExitReason::status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest powered off.
    #[error("the guest powered off")]
    PoweredOff,
    /// [`Action::Shutdown`].
    #[error("shut down on request")]
    Shutdown,
    /// The guest suffered a triple fault, which on hardware resets the machine.
    #[error("the guest suffered a triple fault")]
    TripleFault,
    /// KVM could not go on with the guest.
    #[error("the guest cannot go on: {detail}")]
    GuestFailed {
        /// KVM's reason, with instruction pointer and bytes.
        detail: String,
    },
    /// The machine could not be started.
    #[error("the machine could not be started: {error}")]
    StartFailed {
        /// Why.
        error: StartError,
    },
    /// The host's side failed.
    #[error("the vmm failed: {detail}")]
    Failed {
        /// What.
        detail: String,
    },
}

impl ExitReason {
    /// The process's exit status: 0 power-off, 10 shutdown, 11 triple fault, 12 guest failed, 13 start failed, 14
    /// vmm failed.
    pub fn status(&self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::Shutdown => 10,
            Self::TripleFault => 11,
            Self::GuestFailed { .. } => 12,
            Self::StartFailed { .. } => 13,
            Self::Failed { .. } => 14,
        }
    }
}

/// Why a machine cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StartError {
    /// The description is not one.
    #[error("the machine's description is wrong: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// The number of vCPUs is out of range.
    #[error("{asked} vCPUs: a machine has 1 to {most} here")]
    Vcpus {
        /// As asked.
        asked: u32,
        /// The limit on this host, at most [`MAX_VCPUS`].
        most: u8,
    },
    /// The size of memory is out of range.
    #[error("{bytes} bytes of memory: it must be a multiple of 4096, at least 2 MiB")]
    MemorySize {
        /// As asked.
        bytes: u64,
    },
    /// The command line is too long or holds a NUL.
    #[error("the kernel command line has {bytes} bytes or a NUL: at most {most} bytes, no NUL")]
    Cmdline {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        most: usize,
    },
    /// The kernel image cannot be used.
    #[error("the kernel image cannot be used: {reason}")]
    Kernel {
        /// Why.
        reason: String,
    },
    /// The kernel needs more memory than there is.
    #[error(
        "the kernel reaches to {end:#x} in guest memory, which ends at {memory_end:#x}: give the machine more memory"
    )]
    KernelDoesNotFit {
        /// First address after it.
        end: u64,
        /// First address after the memory below 4 GiB.
        memory_end: u64,
    },
    /// The initial RAM disk does not fit beside the kernel.
    #[error(
        "the initrd of {bytes} bytes does not fit between the kernel's end at {kernel_end:#x} and {limit:#x}: give the machine more memory"
    )]
    InitrdDoesNotFit {
        /// Its size.
        bytes: u64,
        /// First address after the kernel.
        kernel_end: u64,
        /// The end of where it may be.
        limit: u64,
    },
    /// KVM refuses.
    #[error("{reason}")]
    Kvm {
        /// What and why.
        reason: String,
    },
    /// A device cannot be made.
    #[error("{device}: {reason}")]
    Device {
        /// Which, for example `disk 0`.
        device: String,
        /// Why.
        reason: String,
    },
    /// The process's own set-up failed.
    #[error("{operation}: {reason}")]
    Host {
        /// What was tried.
        operation: String,
        /// Why it failed.
        reason: String,
    },
}

impl StartError {
    pub(crate) fn vcpus(asked: u32, most: u8) -> Self {
        Self::Vcpus {
            asked,
            most: most.min(MAX_VCPUS),
        }
    }

    pub(crate) fn cmdline(bytes: usize) -> Self {
        Self::Cmdline {
            bytes,
            most: CMDLINE_MAX,
        }
    }

    /// Maps an error of the host's side, with its causes.
    pub(crate) fn host<E: std::error::Error>(operation: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::Host {
            operation: operation.into(),
            reason: crate::chain(&error),
        }
    }
}

impl From<hypervisor::KvmError> for StartError {
    fn from(error: hypervisor::KvmError) -> Self {
        Self::Kvm {
            reason: crate::chain(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_exit_status() {
        let error = StartError::vcpus(0, 8);
        let reasons = [
            ExitReason::PoweredOff,
            ExitReason::Shutdown,
            ExitReason::TripleFault,
            ExitReason::GuestFailed {
                detail: String::new(),
            },
            ExitReason::StartFailed { error },
            ExitReason::Failed {
                detail: String::new(),
            },
        ];
        let statuses: std::collections::BTreeSet<_> =
            reasons.iter().map(ExitReason::status).collect();
        assert_eq!(statuses.len(), reasons.len());
    }
}
