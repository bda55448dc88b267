//! What the use cases and reconcilers need of the world. The daemon wires these to adapters; tests wire them to fakes
//! that inject faults.
//!
//! Every call is idempotent unless it says otherwise: a reconciler that lost an answer asks again. A call that fails
//! has changed nothing that the same call, or its undo, would not put right.

mod processors;

pub use processors::{CpuControl, CpuPlace, CpuShare, Processors};

use crate::model::{
    BootProtocol, ComponentInfo, HostConfiguration, HostStatus, ImagePartKind, PolicyKind,
    PolicyStatus, SecurityGroup,
};
use async_trait::async_trait;
use billing::{Commerce, CommercialPolicy};
use boot_disk::{LiveDaemon, UpdateRecord};
use bytes::Bytes;
use image_format::{Slot, TrustedKeys};
use instance::admission::Admitter;
use ipnet::Ipv4Net;
use ledger::{PriceList, Rater, RatingPolicy};
use placement::Scheduler;
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as StdError,
    fs::File,
    io::Read,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use types::{
    ByteCount, DiskId, ImageId, InstanceId, InterfaceId, MacAddress, SecurityGroupId, Sha256Digest,
    Timestamp, VpcId,
};

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

/// A machine to start: everything it needs is open already, so that the vmm opens nothing.
#[derive(Debug)]
pub struct MachineSpec {
    /// The instance it is.
    pub instance: InstanceId,
    /// Which start of the instance this is; events carry it, so that an old machine's are told apart.
    pub run: u64,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub memory: ByteCount,
    /// How to boot.
    pub boot: BootProtocol,
    /// The kernel, open for reading.
    pub kernel: File,
    /// The initial RAM disk, open for reading.
    pub initrd: Option<File>,
    /// The whole kernel command line.
    pub cmdline: String,
    /// Disks in the order the guest sees them: the system disk first, if there is one.
    pub disks: Vec<MachineDisk>,
    /// Network interfaces, the primary one first.
    pub interfaces: Vec<MachineInterface>,
    /// What it may use of the host's CPUs, in force before the guest's first instruction. Where a host cannot limit that, it
    /// does not count.
    pub cpu: CpuShare,
}

/// A disk of a machine.
#[derive(Debug)]
pub struct MachineDisk {
    /// The disk; [`DiskId::body`] is the serial number the guest sees.
    pub id: DiskId,
    /// Its file, open for reading and writing, with O_DIRECT where `direct`.
    pub file: File,
    /// Its size.
    pub size: ByteCount,
    /// Whether the file was opened with O_DIRECT.
    pub direct: bool,
}

/// A network interface of a machine.
#[derive(Debug)]
pub struct MachineInterface {
    /// The interface.
    pub id: InterfaceId,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its tap, opened with IFF_VNET_HDR.
    pub tap: OwnedFd,
}

/// A machine that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The instance it is.
    pub instance: InstanceId,
    /// Which start of it; see [`MachineSpec::run`].
    pub run: u64,
    /// The process of its vmm.
    pub pid: u32,
    /// When the guest's first byte came: nanoseconds of the host's monotonic clock; `None`: it has not come, or is
    /// not known.
    pub first_output_ns: Option<u64>,
}

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineExit {
    /// The guest powered off (ACPI S5).
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest's processor gave up (a triple fault).
    Crash,
    /// A signal ended the vmm: one that [`Machines::kill`] did not send.
    Signal(i32),
    /// The vmm was ended by [`Machines::kill`].
    Killed,
    /// The vmm ended with an error: its last words.
    Failed(String),
}

/// Something happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineEvent {
    /// The instance.
    pub instance: InstanceId,
    /// Which start of it; see [`MachineSpec::run`].
    pub run: u64,
    /// What.
    pub kind: MachineEventKind,
}

/// What happened to a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineEventKind {
    /// The guest's first byte on the serial console, at that many nanoseconds of the host's monotonic clock.
    FirstOutput {
        /// When.
        at_ns: u64,
    },
    /// The machine is gone: its process was reaped and everything it held is free.
    Exited(MachineExit),
}

/// A part of a console's output, as kept by the machine's adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsoleOutput {
    /// Offset of the first byte in `data`, counted from the instance's first byte ever; larger than what was asked
    /// for when that is no longer kept.
    pub offset: u64,
    /// The bytes; empty when there are none (yet).
    pub data: Bytes,
}

/// The vmm processes of this host.
///
/// Order: `start` before anything else about a run; after `Exited` of a run only `start` of a later one, `list`,
/// `console_output` and `forget`.
#[async_trait]
pub trait Machines: Send + Sync + 'static {
    /// Starts a machine and answers once its virtual CPUs run. Not idempotent: one run is started once. When it fails,
    /// nothing of the machine is left.
    async fn start(&self, spec: MachineSpec) -> PortResult<Machine>;

    /// Every machine there is, found anew: also those a former daemon started and those nobody knows. Their control
    /// sockets are connected, and their events come from now on.
    async fn adopt(&self) -> PortResult<Vec<Machine>>;

    /// Presses the power button. `NotFound` when there is no machine.
    async fn power_button(&self, instance: InstanceId) -> PortResult<()>;

    /// Ends the machine at once; answers when it is gone. Fine when there is none.
    async fn kill(&self, instance: InstanceId) -> PortResult<()>;

    /// Types into the serial console. `NotFound` when there is no machine.
    async fn console_input(&self, instance: InstanceId, data: Bytes) -> PortResult<()>;

    /// At most `max` bytes of console output from `offset` on. When there are none, waits for up to `wait` for some to
    /// come, also where there is no machine yet or no more: it may answer sooner with none, but never at once, as it
    /// is asked in a loop. Also after the machine is gone, until `forget`.
    async fn console_output(
        &self,
        instance: InstanceId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> PortResult<ConsoleOutput>;

    /// Drops what is kept of an instance that was released (its console). Fine when there is nothing.
    async fn forget(&self, instance: InstanceId) -> PortResult<()>;

    /// The daemon ends: drops what is kept ready for machines to come, and starts none from now on. Machines that run go on.
    async fn close(&self) {}

    /// The instances that have a machine now, of those this daemon started or adopted.
    fn running(&self) -> Vec<InstanceId>;

    /// The events of all machines, in order for each. Taken once, before anything else is called.
    fn events(&self) -> mpsc::Receiver<MachineEvent>;
}

/// A VPC as the network adapter needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSpec {
    /// The VPC.
    pub id: VpcId,
    /// Its addresses.
    pub cidr: Ipv4Net,
}

/// An interface as the network adapter needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSpec {
    /// The interface.
    pub id: InterfaceId,
    /// Its VPC.
    pub vpc: VpcSpec,
    /// The instance it is of; its id is the guest's host name.
    pub instance: InstanceId,
    /// Its hardware address.
    pub mac: MacAddress,
    /// Its address.
    pub address: Ipv4Addr,
    /// The vswitch's addresses.
    pub subnet: Ipv4Net,
    /// The gateway's address in the vswitch.
    pub gateway: Ipv4Addr,
}

/// An interface's place in the security groups of its VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceMembership {
    /// The interface.
    pub id: InterfaceId,
    /// Its hardware address: it may send from no other.
    pub mac: MacAddress,
    /// Its address: it may send from no other.
    pub address: Ipv4Addr,
    /// Its groups, at most 5.
    pub groups: Vec<SecurityGroupId>,
}

/// Everything that decides about the traffic of a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSecurity {
    /// The VPC.
    pub vpc: VpcId,
    /// Its groups.
    pub groups: Vec<SecurityGroup>,
    /// The interfaces that are on this host.
    pub interfaces: Vec<InterfaceMembership>,
}

/// What there is of a VPC on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentVpc {
    /// The VPC.
    pub id: VpcId,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceId>,
}

/// The networks of this host.
///
/// Order: an interface's VPC is made with it; `apply_security` comes after `ensure_interface` of all interfaces it
/// names; an interface passes no packet before rules about it were applied.
#[async_trait]
pub trait Networks: Send + Sync + 'static {
    /// Makes the VPC unless it is there.
    async fn ensure_vpc(&self, vpc: &VpcSpec) -> PortResult<()>;

    /// Removes the VPC with everything in it. Fine when it is not there.
    async fn remove_vpc(&self, vpc: VpcId) -> PortResult<()>;

    /// Makes the interface unless it is there, as it is to be, and opens its tap.
    async fn ensure_interface(&self, interface: &InterfaceSpec) -> PortResult<OwnedFd>;

    /// Takes up again, after a restart of the daemon, the interface of a machine that still runs and holds its tap: its
    /// address is served again. `NotFound` when the interface is gone.
    async fn resume_interface(&self, interface: &InterfaceSpec) -> PortResult<()>;

    /// Removes the interface. Fine when it, or its VPC, is not there.
    async fn remove_interface(&self, vpc: VpcId, interface: InterfaceId) -> PortResult<()>;

    /// Makes these the rules of the VPC, all at once.
    async fn apply_security(&self, security: &VpcSecurity) -> PortResult<()>;

    /// What there is.
    async fn list(&self) -> PortResult<Vec<PresentVpc>>;
}

/// A part of an image, on stable storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// Its size.
    pub size: ByteCount,
    /// The digest of its content.
    pub sha256: Sha256Digest,
}

/// A part of an image that is being received. Dropping it throws away what came.
pub trait PartWriter: Send {
    /// Appends. Blocks.
    fn write(&mut self, data: &[u8]) -> PortResult<()>;

    /// Puts the part on stable storage in place of a former one. Blocks.
    fn finish(self: Box<Self>) -> PortResult<StoredPart>;
}

/// What there is in the pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresentVolumes {
    /// Disks that have a file.
    pub disks: Vec<DiskId>,
    /// Images that have a folder.
    pub images: Vec<ImageId>,
}

/// A disk opened for a machine.
#[derive(Debug)]
pub struct OpenDisk {
    /// Its file, for reading and writing.
    pub file: File,
    /// Its size.
    pub size: ByteCount,
    /// Whether it is open with O_DIRECT.
    pub direct: bool,
}

/// Disks and images. All calls block: they are for threads that may.
pub trait Volumes: Send + Sync + 'static {
    /// Begins to receive a part of an image.
    fn receive_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<Box<dyn PartWriter>>;

    /// Opens a part of an image for reading. `NotFound` names a file that vanished.
    fn open_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<File>;

    /// Deletes an image. Disks made from it stay. Fine when there is none.
    fn delete_image(&self, image: ImageId) -> PortResult<()>;

    /// Makes a disk of `size` that reads as the image's disk part and zeros after it. Fine when the disk is there.
    fn clone_disk(&self, disk: DiskId, image: ImageId, size: ByteCount) -> PortResult<()>;

    /// Makes a disk of `size` that reads as zeros. Fine when the disk is there.
    fn create_disk(&self, disk: DiskId, size: ByteCount) -> PortResult<()>;

    /// Puts a disk that was made, and its name, on stable storage.
    fn sync_disk(&self, disk: DiskId) -> PortResult<()>;

    /// Opens a disk for a machine. `NotFound` names a file that vanished.
    fn open_disk(&self, disk: DiskId) -> PortResult<OpenDisk>;

    /// Deletes a disk. Fine when there is none.
    fn delete_disk(&self, disk: DiskId) -> PortResult<()>;

    /// What there is.
    fn list(&self) -> PortResult<PresentVolumes>;

    /// The pool's size and what of it is free.
    fn space(&self) -> PortResult<Space>;
}

/// Space of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: ByteCount,
    /// What can still be written.
    pub free: ByteCount,
}

/// A policy that can be asked, with the built-in one behind it.
#[derive(Clone)]
pub enum LoadedPolicy {
    /// Chooses hosts. A choice takes microseconds to some milliseconds.
    Scheduler(Scheduler),
    /// Prices use, and says what purchases and debts come to.
    Billing(Box<Pricing>),
    /// Lets requests in.
    Admission(Admitter),
}

/// A billing policy: one component answers both kinds of questions.
#[derive(Clone)]
pub struct Pricing {
    /// Prices use.
    pub rater: Rater,
    /// Quotes, renews, and says what is done about debts and which preemptible instances go first.
    pub commerce: Commerce,
}

impl Pricing {
    /// Asks `policy`, with `prices` and the standard terms over them behind it.
    #[must_use]
    pub fn new<P: RatingPolicy + CommercialPolicy + 'static>(
        policy: Arc<P>,
        prices: PriceList,
    ) -> Self {
        Self {
            rater: Rater::new(policy.clone(), prices.clone()),
            commerce: Commerce::new(policy, prices),
        }
    }

    /// The price list and the standard terms alone.
    #[must_use]
    pub fn built_in(prices: PriceList) -> Self {
        Self {
            rater: Rater::built_in(prices.clone()),
            commerce: Commerce::built_in(prices),
        }
    }
}

impl LoadedPolicy {
    /// What it decides about.
    #[must_use]
    pub fn kind(&self) -> PolicyKind {
        match self {
            Self::Scheduler(_) => PolicyKind::Scheduler,
            Self::Billing(_) => PolicyKind::Billing,
            Self::Admission(_) => PolicyKind::Admission,
        }
    }
}

/// Where policies come from: those the daemon was started with, and components. Calls block; loading one for the first time takes up
/// to seconds.
///
/// Where a loaded policy has no answer the built-in one decides, and the answer says so. A policy is unloaded when the last clone of
/// it is gone.
pub trait Policies: Send + Sync + 'static {
    /// What chooses hosts where nothing else was activated.
    fn scheduler(&self) -> Scheduler;

    /// What sets prices where nothing else was activated.
    fn pricing(&self) -> Pricing;

    /// The policies that are loaded and how they do, those the daemon was started with first.
    fn status(&self) -> Vec<PolicyStatus>;

    /// What the signature of a component says of itself, if signatures are asked for ([`PortErrorKind::Invalid`] without a good
    /// signature by a trusted key).
    fn author(&self, component: &[u8], signature: Option<&str>) -> PortResult<Option<String>>;

    /// What a component is ([`PortErrorKind::Invalid`] if it is no policy).
    fn inspect(&self, component: &[u8]) -> PortResult<ComponentInfo>;

    /// Loads a component under that name ([`PortErrorKind::Invalid`] if it cannot be loaded or does not take its parameters).
    fn load(
        &self,
        name: &str,
        kind: PolicyKind,
        component: &[u8],
        parameters: &BTreeMap<String, String>,
    ) -> PortResult<LoadedPolicy>;

    /// Keeps a component on stable storage, under its digest.
    fn keep(&self, component: &[u8]) -> PortResult<()>;

    /// A component that is kept.
    fn kept(&self, module: Sha256Digest) -> PortResult<Vec<u8>>;

    /// Removes every kept component but these.
    fn retain(&self, modules: &BTreeSet<Sha256Digest>) -> PortResult<()>;
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
