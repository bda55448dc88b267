//! The machines of the host: vmm processes.

use super::{CpuShare, PortResult};
use crate::model::BootProtocol;
use async_trait::async_trait;
use bytes::Bytes;
use std::{fs::File, os::fd::OwnedFd, time::Duration};
use tokio::sync::mpsc;
use types::{ByteCount, DiskId, InstanceId, InterfaceId, MacAddress};

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
