//! A machine from its parts to its end. Each phase is a type, so that a half-built machine cannot run:
//!
//! ```text
//!        Ground ─┐
//! MachineConfig ─┴ check ─▶ Parts ─ assemble ─▶ Assembled ─ start ─▶ Running ─ drop ─▶ stopped
//!                            ▲                                                           │
//!                            └──────────── the guest resets: everything anew ◀───────────┘
//! ```

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::alarm::Alarm;
use hypervisor::{Cpuid, EdgeLine, Kvm, Vcpu, Vm};
use pci::{BarWindow, HostBridge, PciFunction, RootBus, place_bars};
use vm_memory::GuestMemoryMmap;

use crate::confine::Confinement;
use crate::console::{Console, OutputWatch, RingWriter};
use crate::devices::{self, BlockDevice, Confine, NetDevice};
use crate::layout;
use crate::memory;
use crate::platform::{Outcome, Platform, Power};
use crate::processors::{Processors, Verdict};
use crate::protocol::{Boot, DeviceStatus, Disk, MachineConfig, Nic, StartError};
use crate::wiring::Wiring;

/// Request queues of a disk.
const DISK_QUEUES: u16 = 1;
/// Most disks, and most interfaces; together with bridge and entropy device they fit 32 slots.
const DISKS_MAX: usize = 16;
const NICS_MAX: usize = 8;
const SERIAL_MAX: usize = 20;

/// What can be made before anything is known of the machine.
pub(crate) struct Ground {
    kvm: Kvm,
    cpuid: Cpuid,
    vm: Arc<Vm>,
}

impl Ground {
    /// Takes over the KVM device.
    ///
    /// # Errors
    /// It cannot be used, or refuses something.
    pub(crate) fn lay(kvm: OwnedFd) -> Result<Self, StartError> {
        let kvm = Kvm::from_fd(kvm)?;
        Ok(Self {
            cpuid: Cpuid::new(&kvm, 1)?,
            vm: empty_vm(&kvm)?,
            kvm,
        })
    }
}

/// A virtual machine without memory and processors.
fn empty_vm(kvm: &Kvm) -> Result<Arc<Vm>, StartError> {
    let vm = kvm.create_vm()?;
    vm.create_interrupt_controllers()?;
    Ok(vm)
}

/// What a machine is made of, checked; stays when the guest resets.
pub(crate) struct Parts {
    kvm: Kvm,
    /// For the first machine; each reset makes its own.
    vm: Mutex<Option<Arc<Vm>>>,
    cpuid: Cpuid,
    pub(crate) vcpus: u8,
    pub(crate) memory_bytes: u64,
    memory_file: Arc<File>,
    boot: Boot<File>,
    disks: Vec<Disk<OwnedFd>>,
    nics: Vec<Nic<OwnedFd>>,
    rng: bool,
    pub(crate) ring: Arc<Mutex<RingWriter>>,
    pub(crate) watch: Arc<OutputWatch>,
    /// Readable when the control thread should look at the verdict or the watch.
    pub(crate) alarm: Arc<Alarm>,
}

impl Parts {
    /// Checks a description.
    ///
    /// # Errors
    /// Anything that can be said to be wrong before the machine is made.
    pub(crate) fn check(
        ground: Ground,
        config: MachineConfig<OwnedFd>,
    ) -> Result<Self, StartError> {
        let Ground { kvm, cpuid, vm } = ground;
        let most = kvm.max_vcpus();
        let vcpus = u8::try_from(config.vcpus)
            .ok()
            .filter(|vcpus| (1..=most).contains(vcpus))
            .ok_or_else(|| StartError::vcpus(config.vcpus, most))?;
        let bytes = config.memory_bytes;
        if bytes < memory::MINIMUM_BYTES || !bytes.is_multiple_of(memory::GRANULE_BYTES) {
            return Err(StartError::MemorySize { bytes });
        }
        check_devices(&config.disks, &config.nics)?;
        let boot = config.boot.map(File::from);
        let cmdline = &boot.kernel().cmdline;
        if cmdline.len() > layout::CMDLINE_MAX || cmdline.contains('\0') {
            return Err(StartError::cmdline(cmdline.len()));
        }
        let memory_file = File::from(config.host.memory);
        memory::check(&memory_file, bytes).map_err(StartError::host("guest memory"))?;
        let ring = RingWriter::new(File::from(config.host.console))
            .map_err(StartError::host("console"))?;
        let alarm = Alarm::new().map_err(StartError::host("making an event"))?;
        let alarm = Arc::new(alarm);
        Ok(Self {
            cpuid: cpuid.with_vcpus(vcpus),
            kvm,
            vm: Mutex::new(Some(vm)),
            vcpus,
            memory_bytes: bytes,
            memory_file: Arc::new(memory_file),
            boot,
            disks: config.disks,
            nics: config.nics,
            rng: config.rng,
            watch: Arc::new(OutputWatch::new(Arc::clone(&alarm), ring.total())),
            ring: Arc::new(Mutex::new(ring)),
            alarm,
        })
    }

    /// Makes the guest's memory as it was at first. Nothing of a machine may be left.
    pub(crate) fn clear_memory(&self) -> Result<(), StartError> {
        memory::clear(&self.memory_file, self.memory_bytes)
            .map_err(StartError::host("clearing guest memory"))
    }

    /// Builds a machine of the parts.
    ///
    /// # Errors
    /// The kernel image or a device cannot be used, or the host refuses something.
    pub(crate) fn assemble(&self, confinement: &Arc<Confinement>) -> Result<Assembled, StartError> {
        let memory = memory::map(&self.memory_file, self.memory_bytes)
            .map_err(StartError::host("mapping guest memory"))?;
        let memory = Arc::new(memory);
        let prepared = self
            .vm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let vm = prepared.map_or_else(|| empty_vm(&self.kvm), Ok)?;
        vm.set_memory(Arc::clone(&memory))?;
        let entry = crate::boot::load(&self.boot, &memory, self.memory_bytes, self.vcpus)?;
        let wiring = Wiring::new(Arc::clone(&memory), Arc::clone(&vm));
        let devices = self.make_devices(&wiring, confinement)?;
        let line = EdgeLine::new(&vm, layout::COM1_GSI)?;
        let console = Arc::new(Console::new(
            line,
            Arc::clone(&self.ring),
            Arc::clone(&self.watch),
        ));
        let platform = Platform::new(console, Power::new(Arc::clone(&vm)), bus(&devices)?);
        let mut vcpus = Vec::with_capacity(usize::from(self.vcpus));
        for id in 0..self.vcpus {
            vcpus.push(vm.create_vcpu(id, &self.cpuid)?);
        }
        if let Some(first) = vcpus.first_mut() {
            first.set_entry(entry)?;
        }
        Ok(Assembled {
            vcpus,
            platform: Arc::new(platform),
            devices,
            _memory: memory,
        })
    }

    fn make_devices(
        &self,
        wiring: &Wiring,
        confinement: &Arc<Confinement>,
    ) -> Result<Devices, StartError> {
        let confinement = Arc::clone(confinement);
        let confine: Confine = Arc::new(move |kind| confinement.device(kind));
        let mut devices = Devices::default();
        for (index, disk) in self.disks.iter().enumerate() {
            let made = disk
                .file
                .try_clone()
                .map_err(|error| crate::chain(&error))
                .and_then(|file| {
                    let file = File::from(file);
                    devices::block(
                        wiring,
                        file,
                        disk.read_only,
                        &disk.serial,
                        DISK_QUEUES,
                        &confine,
                    )
                    .map_err(|error| crate::chain(&error))
                });
            devices
                .disks
                .push(made.map_err(|reason| device(format!("disk {index}"), reason))?);
        }
        for (index, nic) in self.nics.iter().enumerate() {
            let made = nic
                .tap
                .try_clone()
                .map_err(|error| crate::chain(&error))
                .and_then(|tap| {
                    devices::net(wiring, tap, nic.mac, nic.mtu, &confine)
                        .map_err(|error| crate::chain(&error))
                });
            devices
                .nics
                .push(made.map_err(|reason| device(format!("network interface {index}"), reason))?);
        }
        if self.rng {
            let made = devices::rng(wiring)
                .map_err(|error| device("entropy device", crate::chain(&error)))?;
            devices.rng = Some(made);
        }
        // All their threads start at the same time.
        for (index, disk) in devices.disks.iter_mut().enumerate() {
            disk.started()
                .map_err(|error| device(format!("disk {index}"), crate::chain(&error)))?;
        }
        for (index, nic) in devices.nics.iter_mut().enumerate() {
            nic.started().map_err(|error| {
                device(format!("network interface {index}"), crate::chain(&error))
            })?;
        }
        Ok(devices)
    }
}

fn device(device: impl Into<String>, reason: String) -> StartError {
    StartError::Device {
        device: device.into(),
        reason,
    }
}

fn check_devices(disks: &[Disk<OwnedFd>], nics: &[Nic<OwnedFd>]) -> Result<(), StartError> {
    if disks.len() > DISKS_MAX || nics.len() > NICS_MAX {
        let (disks, nics) = (disks.len(), nics.len());
        let reason = format!(
            "{disks} disks and {nics} network interfaces: at most {DISKS_MAX} and {NICS_MAX} are possible"
        );
        return Err(StartError::Config { reason });
    }
    for (index, disk) in disks.iter().enumerate() {
        if disk.serial.len() > SERIAL_MAX || !disk.serial.is_ascii() {
            let reason = format!(
                "serial number {:?} is not at most 20 ASCII bytes",
                disk.serial
            );
            return Err(device(format!("disk {index}"), reason));
        }
    }
    for (index, nic) in nics.iter().enumerate() {
        let problem = match nic {
            Nic { mtu: ..68, .. } => format!("an MTU of {} is below 68", nic.mtu),
            Nic {
                mac: [first, ..], ..
            } if first & 1 != 0 => "its address is a group address".into(),
            _ => continue,
        };
        return Err(device(format!("network interface {index}"), problem));
    }
    Ok(())
}

/// Puts everything on the bus in the order the guest is promised and places the BARs.
fn bus(devices: &Devices) -> Result<RootBus, StartError> {
    let mut bus = RootBus::new();
    let mut functions: Vec<Arc<dyn PciFunction>> = vec![Arc::new(HostBridge::new())];
    functions.extend(devices.disks.iter().map(|disk| Arc::clone(&disk.function)));
    functions.extend(devices.nics.iter().map(|nic| Arc::clone(&nic.function)));
    functions.extend(devices.rng.iter().map(Arc::clone));
    for (slot, function) in (0..).zip(functions) {
        bus.insert(slot, function)
            .map_err(StartError::host("the PCI bus"))?;
    }
    let window = u64::from(layout::PCI_WINDOW.start)..u64::from(layout::PCI_WINDOW.end);
    place_bars(&bus, &mut BarWindow::new(window)).map_err(StartError::host("the PCI bus"))?;
    Ok(bus)
}

/// The devices that have something to tell; the bus holds their functions.
#[derive(Default)]
struct Devices {
    disks: Vec<BlockDevice>,
    nics: Vec<NetDevice>,
    rng: Option<Arc<dyn PciFunction>>,
}

/// A machine that is complete and has not run.
pub(crate) struct Assembled {
    vcpus: Vec<Vcpu>,
    platform: Arc<Platform>,
    devices: Devices,
    _memory: Arc<GuestMemoryMmap>,
}

impl Assembled {
    /// Runs the guest's first instruction.
    ///
    /// # Errors
    /// A thread cannot be made; the guest has not run then.
    pub(crate) fn start(
        self,
        parts: &Parts,
        confinement: &Arc<Confinement>,
    ) -> Result<Running, StartError> {
        let verdict = Arc::new(Verdict::new(Arc::clone(&parts.alarm)));
        let processors = Processors::start(self.vcpus, &self.platform, &verdict, confinement)
            .map_err(StartError::host("starting a vCPU thread"))?;
        Ok(Running {
            processors,
            platform: self.platform,
            devices: self.devices,
            verdict,
        })
    }
}

/// A machine that runs. Dropping it stops the vCPUs, then the devices; when that is done, nothing of it touches
/// guest memory any more.
pub(crate) struct Running {
    // Order matters: fields are dropped from first to last.
    pub(crate) processors: Processors,
    platform: Arc<Platform>,
    devices: Devices,
    verdict: Arc<Verdict>,
}

impl Running {
    /// How it came to its end, if it has.
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.verdict.get()
    }

    /// Presses the power button.
    pub(crate) fn press_power_button(&self) {
        self.platform.power.press();
    }

    /// Types on the console; returns how many bytes there was room for.
    pub(crate) fn type_in(&self, bytes: &[u8]) -> usize {
        self.platform.console.type_in(bytes)
    }

    /// What the devices have done so far.
    pub(crate) fn device_status(&self) -> Vec<DeviceStatus> {
        let disks = self
            .devices
            .disks
            .iter()
            .map(|disk| disk.counters.snapshot())
            .zip(&self.devices.disks);
        let disks = disks.map(|(counts, disk)| DeviceStatus::Disk {
            engine: "io_uring".into(),
            caching: disk.caching.to_string(),
            requests: counts.requests,
            kicks: counts.kicks,
            enters: counts.enters,
            failures: counts.failures,
            interrupts: counts.interrupts,
        });
        let nics = self.devices.nics.iter().map(|nic| {
            let get = |counter: &std::sync::atomic::AtomicU64| {
                counter.load(std::sync::atomic::Ordering::Relaxed)
            };
            DeviceStatus::Nic {
                received: get(&nic.counters.received),
                sent: get(&nic.counters.sent),
                receive_dropped: get(&nic.counters.receive_dropped),
                send_dropped: get(&nic.counters.send_dropped),
            }
        });
        disks.chain(nics).collect()
    }
}
