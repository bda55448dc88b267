//! The probe in a vmm started as the daemon starts it, without a daemon.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use vmm::launch::{LaunchSpec, Launched, Prepared, ProcessSpec};
use vmm::protocol::{Boot, Disk, Event, Host, Kernel, MachineConfig, Nic};

use crate::{Options, milliseconds, now_ns};

/// User and group of the vmm while it is measured.
const USER: u32 = 62_500;
const DISK_BYTES: u64 = 1 << 30;
/// The longest one start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Enough for a process to come to where it waits.
const SETTLING: Duration = Duration::from_millis(30);
/// `TUNSETIFF` of linux/if_tun.h and the size of its `struct ifreq`, whose flags follow a name of 16 bytes.
const TUNSETIFF: libc::c_ulong = 0x4004_54CA;
const IFREQ_BYTES: usize = 40;

pub struct Sample {
    /// Until the guest's first instruction was about to run.
    pub started_ms: f64,
    pub first_output_ms: f64,
    /// Of the vmm from its start to its end, and of this process meanwhile.
    pub cpu_ms: f64,
    /// Measured while the guest waits for input, guest memory aside.
    pub private_kib: f64,
}

/// What is started.
#[derive(Clone, Copy, Default)]
pub struct Variant {
    /// With a disk, an interface and an entropy device.
    pub devices: bool,
    /// In a process that waits for its machine, as the daemon keeps one.
    pub ahead: bool,
}

pub struct Launcher {
    process: ProcessSpec,
    probe: PathBuf,
    folder: PathBuf,
    memory_bytes: u64,
    tap: OwnedFd,
}

/// CPU time so far of this process and of its children that have ended.
pub fn cpu_ms() -> Result<f64> {
    let mut total = 0.0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            let whole = Duration::from_secs(u64::try_from(time.tv_sec())?);
            total += (whole + Duration::from_micros(u64::try_from(time.tv_usec())?)).as_secs_f64();
        }
    }
    Ok(total * 1e3)
}

impl Launcher {
    pub fn new(options: &Options, folder: &Path) -> Result<Self> {
        File::create_new(folder.join("disk"))?.set_len(DISK_BYTES)?;
        let kvm = hypervisor::Kvm::open(Path::new("/dev/kvm"))?;
        Ok(Self {
            process: ProcessSpec {
                executable: Arc::new(open(&options.programs.join("ashlard"))?.into()),
                kvm: Arc::new(kvm.as_fd().try_clone_to_owned()?),
                arguments: vec!["vmm".into()],
                uid: USER,
                gid: USER,
                cgroups: Vec::new(),
                limits: jail::Limits::default(),
            },
            probe: options.probe.clone(),
            folder: folder.to_owned(),
            memory_bytes: options.memory_mib << 20,
            tap: tap()?,
        })
    }

    /// Starts a vmm, waits for its guest's first byte, ends it.
    pub async fn run(&self, variant: Variant) -> Result<Sample> {
        let cpu = cpu_ms()?;
        let ahead = match variant.ahead {
            true => Some(self.prepare().await?),
            false => None,
        };
        let begin = now_ns()?;
        let process = match ahead {
            Some(process) => process,
            None => vmm::launch::prepare(self.process.clone()).await?,
        };
        let mut launched = self.launch(process, variant.devices).await?;
        let first_output_ns = loop {
            match tokio::time::timeout(PATIENCE, launched.events.next()).await? {
                Some(Event::FirstOutput { monotonic_ns }) => break monotonic_ns,
                Some(Event::Exited { reason }) => bail!("the guest has ended: {reason:?}"),
                Some(_) => {}
                None => bail!("the vmm has ended"),
            }
        };
        let before_look = cpu_ms()?;
        let private_kib = xtask::memory::private_kib(&launched.process.pid().to_string())?;
        let look_ms = cpu_ms()? - before_look;
        launched.client.shut_down().await?;
        while tokio::time::timeout(PATIENCE, launched.events.next())
            .await?
            .is_some()
        {}
        vmm::launch::wait(&launched.process).await?;
        Ok(Sample {
            started_ms: milliseconds(begin, launched.started_ns)?,
            first_output_ms: milliseconds(begin, first_output_ns)?,
            cpu_ms: cpu_ms()? - cpu - look_ms,
            private_kib: f64::from(u32::try_from(private_kib)?),
        })
    }

    /// A process that has done all it can before it has a machine.
    async fn prepare(&self) -> Result<Prepared> {
        let process = vmm::launch::prepare(self.process.clone()).await?;
        tokio::time::sleep(SETTLING).await;
        Ok(process)
    }

    async fn launch(&self, process: Prepared, devices: bool) -> Result<Launched> {
        let console = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.folder.join("console"))?;
        vmm::console::create(&console)?;
        let kernel = Kernel {
            image: open(&self.probe)?.into(),
            initrd: None,
            cmdline: "probe=\"shell\"".into(),
        };
        let (mut disks, mut nics) = (Vec::new(), Vec::new());
        if devices {
            let disk = File::options()
                .read(true)
                .write(true)
                .open(self.folder.join("disk"))?;
            disks.push(Disk {
                file: disk.into(),
                read_only: false,
                serial: "bench".into(),
            });
            nics.push(Nic {
                tap: self.tap.try_clone()?,
                mac: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
            });
        }
        let machine = MachineConfig {
            vcpus: 1,
            memory_bytes: self.memory_bytes,
            boot: Boot::Pvh(kernel),
            disks,
            nics,
            rng: devices,
            host: Host {
                memory: vmm::memory::create(self.memory_bytes)?,
                console: console.into(),
            },
        };
        let spec = LaunchSpec {
            socket: self.folder.join("control"),
            stderr: Some(std::io::stderr().as_fd().try_clone_to_owned()?),
            machine,
        };
        Ok(vmm::launch(process, spec).await?)
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// A tap in a network namespace that lasts as long as it.
fn tap() -> Result<OwnedFd> {
    let made = std::thread::spawn(|| -> Result<OwnedFd> {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .context("making a network namespace")?;
        let tap = File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .context("opening /dev/net/tun")?;
        let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        let mut request = [0_u8; IFREQ_BYTES];
        request[16..18].copy_from_slice(&u16::try_from(flags)?.to_le_bytes());
        // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which lives through the call; its empty name ends with a NUL.
        if unsafe { libc::ioctl(tap.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) } < 0 {
            return Err(std::io::Error::last_os_error()).context("making a tap");
        }
        Ok(tap.into())
    });
    made.join()
        .map_err(|_| anyhow::anyhow!("the thread that makes a tap panicked"))?
}
