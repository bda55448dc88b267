//! What the use cases and reconcilers need of the world. The daemon wires these to adapters; tests wire them to fakes
//! that inject faults.
//!
//! Every call is idempotent unless it says otherwise: a reconciler that lost an answer asks again. A call that fails
//! has changed nothing that the same call, or its undo, would not put right.

mod machines;
mod networks;
mod policies;
mod processors;
mod volumes;

pub use machines::{
    ConsoleOutput, Machine, MachineDisk, MachineEvent, MachineEventKind, MachineExit,
    MachineInterface, MachineSpec, Machines,
};
pub use networks::{
    InterfaceMembership, InterfaceSpec, Networks, PresentVpc, VpcSecurity, VpcSpec,
};
pub use policies::{LoadedPolicy, Policies, Pricing};
pub use processors::{CpuControl, CpuPlace, CpuShare, Processors};
pub use volumes::{OpenDisk, PartWriter, PresentVolumes, Space, StoredPart, Volumes};

use crate::model::{HostConfiguration, HostStatus};
use boot_disk::{LiveDaemon, UpdateRecord};
use image_format::{Slot, TrustedKeys};
use std::{error::Error as StdError, io::Read, sync::Arc};
use types::{Sha256Digest, Timestamp};

/// What an adapter answers with.
pub type PortResult<T> = std::result::Result<T, PortError>;

/// What sort of failure an adapter met, where callers branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PortErrorKind {
    /// What was named is not there.
    NotFound,
    /// No room: disk full, address in use, out of memory.
    Exhausted,
    /// The host lacks something or forbids it (no /dev/kvm, no permission, no reflink). Trying again won't help.
    Unsupported,
    /// What was given cannot be used (a kernel that doesn't fit, a wrong size). Trying again won't help.
    Invalid,
    /// Anything else; trying again may help.
    Failed,
}

/// An adapter's failure: what it was doing, to what, and what to do about it. The cause is in `source`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// For callers that branch.
    pub kind: PortErrorKind,
    /// The operation and its subject.
    pub message: String,
    /// What to do about it.
    pub next_step: Option<String>,
    /// The cause.
    #[source]
    pub source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl PortError {
    /// A failure of that kind.
    pub fn new(kind: PortErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            next_step: None,
            source: None,
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_next_step(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// The message and the messages of all causes, for a log line or a stop reason.
    #[must_use]
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = StdError::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}

/// Time. Timers use tokio's clock; this is what gets recorded.
pub trait Clock: Send + Sync + 'static {
    /// Now, of the day.
    fn now(&self) -> Timestamp;

    /// Nanoseconds of the host's monotonic clock (CLOCK_MONOTONIC, which vmm processes share).
    fn monotonic_ns(&self) -> u64;
}

/// Randomness for ids.
pub trait Entropy: Send + Sync + 'static {
    /// 128 bits nobody can guess.
    fn random(&self) -> u128;
}

/// All of them.
#[derive(Clone)]
pub struct Ports {
    /// The vmm processes.
    pub machines: Arc<dyn Machines>,
    /// The networks.
    pub networks: Arc<dyn Networks>,
    /// Disks and images.
    pub volumes: Arc<dyn Volumes>,
    /// Policies.
    pub policies: Arc<dyn Policies>,
    /// The CPUs.
    pub processors: Arc<dyn Processors>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// The machine the daemon runs on, where its first process is ours: its slots, its configuration, its end. Calls block.
pub trait HostMachine: Send + Sync + 'static {
    /// How the host is.
    fn status(&self) -> PortResult<HostStatus>;

    /// The keys that releases may be signed with.
    fn trusted_keys(&self) -> PortResult<TrustedKeys>;

    /// Opens a file of a release behind a URL.
    fn fetch(&self, url: &str) -> PortResult<Box<dyn Read + Send>>;

    /// Writes an image of `size` bytes with that digest into a slot, so that the boot loader does not see it yet. `progress` hears
    /// how many bytes are there. A failure leaves the slot empty.
    fn stage(
        &self,
        slot: Slot,
        image: &mut dyn Read,
        size: u64,
        sha256: Sha256Digest,
        progress: &mut dyn FnMut(u64),
    ) -> PortResult<()>;

    /// Lets the boot loader try what was staged in a slot, for so many boots.
    fn switch(&self, slot: Slot, tries: u32) -> PortResult<()>;

    /// Writes down what is known of the newest update.
    fn set_update(&self, record: UpdateRecord) -> PortResult<()>;

    /// Unpacks a daemon whose program has that size and digest, and puts it where it can be started.
    fn install_daemon(
        &self,
        packed: &mut dyn Read,
        size: u64,
        sha256: Sha256Digest,
        progress: &mut dyn FnMut(u64),
    ) -> PortResult<()>;

    /// Runs the installed daemon instead of the image's; this process ends soon after.
    fn run_daemon(&self, daemon: LiveDaemon) -> PortResult<()>;

    /// Ends the machine soon: guests are stopped first.
    fn end(&self, reboot: bool) -> PortResult<()>;

    /// Boots the other slot from now on, and reboots soon.
    fn rollback(&self) -> PortResult<()>;

    /// Opens the data partition with this key; this process ends soon after.
    fn unlock_data(&self, key: &[u8]) -> PortResult<()>;

    /// Whether this is the enrolment token; if so it is used up.
    fn use_enrolment_token(&self, token: &str) -> PortResult<bool>;

    /// The configuration in force.
    fn configuration(&self) -> PortResult<HostConfiguration>;

    /// Uses that configuration from the next boot on. Refused when it is wrong, with the lines.
    fn push_configuration(&self, text: &str) -> PortResult<()>;

    /// Forgets what was pushed.
    fn reset_configuration(&self) -> PortResult<()>;
}
