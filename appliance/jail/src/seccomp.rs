//! Allow-lists of system calls, one per kind of thread.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::Error;

/// One system call a thread may make (numbers: `libc::SYS_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allow {
    /// With any arguments.
    Any(libc::c_long),
    /// Only if argument `argument` (0–5), as 32 bits, is one of `values`: for `ioctl`, `fcntl`, `prctl` and the like.
    /// At most 64 values.
    When {
        /// The system call.
        number: libc::c_long,
        /// Which argument is looked at.
        argument: u8,
        /// What it may be.
        values: &'static [u32],
    },
    /// Only if argument `argument` (0–5), as 32 bits, has none of the bits of `mask`: for protection flags.
    Without {
        /// The system call.
        number: libc::c_long,
        /// Which argument is looked at.
        argument: u8,
        /// Bits that must be 0.
        mask: u32,
    },
}

/// What happens at a system call that is not allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnViolation {
    /// The whole process ends with `SIGSYS`: production.
    #[default]
    KillProcess,
    /// The call fails with this `errno`.
    Errno(u16),
    /// The call is made, and the kernel's log names it: to find out what a thread needs.
    Log,
}

/// PROT_EXEC: no thread makes memory executable.
const EXECUTABLE: u32 = 4;

/// What the Rust runtime and the C library need in any thread: memory (never executable), locks, clocks, the end of a
/// thread or process. Nothing here opens, names or reaches anything outside.
pub const RUST_RUNTIME: &[Allow] = &[
    Allow::Without {
        number: libc::SYS_mmap,
        argument: 2,
        mask: EXECUTABLE,
    },
    Allow::Without {
        number: libc::SYS_mprotect,
        argument: 2,
        mask: EXECUTABLE,
    },
    Allow::Any(libc::SYS_munmap),
    Allow::Any(libc::SYS_mremap),
    Allow::Any(libc::SYS_madvise),
    Allow::Any(libc::SYS_brk),
    Allow::Any(libc::SYS_futex),
    Allow::Any(libc::SYS_clock_gettime),
    Allow::Any(libc::SYS_clock_nanosleep),
    Allow::Any(libc::SYS_nanosleep),
    Allow::Any(libc::SYS_getrandom),
    Allow::Any(libc::SYS_gettid),
    Allow::Any(libc::SYS_getpid),
    Allow::Any(libc::SYS_sched_yield),
    Allow::Any(libc::SYS_sched_getaffinity),
    Allow::Any(libc::SYS_sigaltstack),
    Allow::Any(libc::SYS_rt_sigprocmask),
    Allow::Any(libc::SYS_rt_sigaction),
    Allow::Any(libc::SYS_rt_sigreturn),
    Allow::Any(libc::SYS_restart_syscall),
    Allow::Any(libc::SYS_set_robust_list),
    Allow::Any(libc::SYS_rseq),
    Allow::Any(libc::SYS_close),
    Allow::Any(libc::SYS_exit),
    Allow::Any(libc::SYS_exit_group),
];

/// A compiled allow-list, to be installed in any number of threads.
#[derive(Debug, Clone)]
pub struct Filter(BpfProgram);

impl Filter {
    /// Compiles the union of `allowed`; a call listed twice is allowed if either entry allows it.
    ///
    /// # Errors
    /// When an argument index is above 5, a list of values is empty, or the list is too long for the kernel (4096 instructions).
    pub fn compile(allowed: &[&[Allow]], on_violation: OnViolation) -> Result<Self, Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
        let entries = || allowed.iter().flat_map(|list| list.iter().copied());
        for allow in entries() {
            match allow {
                Allow::Any(_) => {}
                Allow::When {
                    number, values: [], ..
                } => {
                    return Err(Error::Request(format!(
                        "system call {number} is allowed for an empty list of values"
                    )));
                }
                Allow::When {
                    number,
                    argument,
                    values,
                } => {
                    let rules = rules.entry(number).or_default();
                    for value in values {
                        rules.push(rule(argument, SeccompCmpOp::Eq, *value)?);
                    }
                }
                Allow::Without {
                    number,
                    argument,
                    mask,
                } => {
                    let masked = SeccompCmpOp::MaskedEq(u64::from(mask));
                    rules
                        .entry(number)
                        .or_default()
                        .push(rule(argument, masked, 0)?);
                }
            }
        }
        // An empty list of rules means "whatever the arguments": it must win over conditions from another list.
        for allow in entries() {
            if let Allow::Any(number) = allow {
                rules.insert(number, Vec::new());
            }
        }
        let otherwise = match on_violation {
            OnViolation::KillProcess => SeccompAction::KillProcess,
            OnViolation::Errno(errno) => SeccompAction::Errno(u32::from(errno)),
            OnViolation::Log => SeccompAction::Log,
        };
        let arch = std::env::consts::ARCH.try_into().map_err(failed)?;
        let filter =
            SeccompFilter::new(rules, otherwise, SeccompAction::Allow, arch).map_err(failed)?;
        Ok(Self(filter.try_into().map_err(failed)?))
    }

    /// Puts the filter on the calling thread and the threads it starts later; it can only be tightened afterwards.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn install(&self) -> Result<(), Error> {
        match seccompiler::apply_filter(&self.0) {
            Ok(()) => Ok(()),
            Err(seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source)) => {
                Err(Error::Step {
                    step: "install the seccomp filter",
                    source,
                })
            }
            Err(other) => Err(failed(other)),
        }
    }
}

/// Compiles [`RUST_RUNTIME`] and `allowed` and installs the result in the calling thread.
///
/// # Errors
/// As [`Filter::compile`] and [`Filter::install`].
pub fn seccomp(allowed: &[Allow], on_violation: OnViolation) -> Result<(), Error> {
    Filter::compile(&[RUST_RUNTIME, allowed], on_violation)?.install()
}

fn rule(argument: u8, op: SeccompCmpOp, value: u32) -> Result<SeccompRule, Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, u64::from(value))
        .map_err(failed)?;
    SeccompRule::new(vec![condition]).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Request(format!("cannot compile the seccomp filter: {error}"))
}
