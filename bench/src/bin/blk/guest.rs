//! The probe in a vmm process, told on its console what to do.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vmm::console::ConsoleReader;
use vmm::launch::{LaunchSpec, Launched, ProcessSpec};
use vmm::protocol::{Boot, DeviceStatus, Disk, Event, Host, Kernel, MachineConfig};

use crate::float;

const MEMORY_BYTES: u64 = 64 << 20;
/// User and group of the vmm while it is measured.
const USER: u32 = 62_500;
/// The longest one command may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one measurement in the guest gave.
pub struct Sample {
    pub iops: f64,
    pub requests: u64,
    pub enters: u64,
    pub kicks: u64,
    pub interrupts: u64,
}

pub struct Guest {
    launched: Launched,
    console: ConsoleReader,
    /// Bytes of the console already looked at.
    seen: u64,
    commands: u64,
}

impl Guest {
    /// Starts the probe with `disk` as its only disk.
    pub async fn start(probe: &Path, disk: &Path, folder: &Path) -> Result<Guest> {
        let open =
            |path: &Path| File::open(path).with_context(|| format!("opening {}", path.display()));
        let ring = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join("console"))?;
        vmm::console::create(&ring)?;
        let kernel = Kernel {
            image: open(probe)?.into(),
            initrd: None,
            cmdline: "probe=\"shell\"".into(),
        };
        let kvm = hypervisor::Kvm::open(Path::new("/dev/kvm"))?;
        let machine = MachineConfig {
            vcpus: 1,
            memory_bytes: MEMORY_BYTES,
            boot: Boot::Pvh(kernel),
            disks: vec![Disk {
                file: File::options().read(true).write(true).open(disk)?.into(),
                read_only: false,
                serial: "bench".into(),
            }],
            nics: Vec::new(),
            rng: false,
            host: Host {
                memory: vmm::memory::create(MEMORY_BYTES)?,
                console: ring.try_clone()?.into(),
            },
        };
        let process = vmm::launch::prepare(ProcessSpec {
            executable: Arc::new(open(Path::new("/proc/self/exe"))?.into()),
            kvm: Arc::new(kvm.as_fd().try_clone_to_owned()?),
            arguments: vec!["vmm".into()],
            uid: USER,
            gid: USER,
            cgroups: Vec::new(),
            limits: jail::Limits::default(),
        })
        .await?;
        let spec = LaunchSpec {
            socket: folder.join("control"),
            stderr: Some(std::io::stderr().as_fd().try_clone_to_owned()?),
            machine,
        };
        let launched = vmm::launch(process, spec).await?;
        let mut guest = Guest {
            launched,
            console: ConsoleReader::new(ring)?,
            seen: 0,
            commands: 0,
        };
        guest.launched.client.subscribe(true).await?;
        guest.read_until("probe: ready").await?;
        Ok(guest)
    }

    /// Types a command and returns what the probe printed up to its end.
    pub async fn obey(&mut self, command: &str) -> Result<String> {
        self.commands += 1;
        let tag = format!("b{}", self.commands);
        let line = format!("@{tag} {command}\n");
        let mut rest = line.as_bytes();
        while !rest.is_empty() {
            let taken = self.launched.client.type_in(rest).await?;
            rest = &rest[taken..];
        }
        let text = self.read_until(&format!(" tag={tag} ")).await?;
        ensure!(!text.contains("probe: error"), "{command}: {text}");
        Ok(text)
    }

    /// Waits until the console's new text has `mark` in a complete line.
    async fn read_until(&mut self, mark: &str) -> Result<String> {
        let mut text = String::new();
        loop {
            let chunk = self.console.read(self.seen, usize::MAX)?;
            self.seen += u64::try_from(chunk.bytes.len())?;
            text.push_str(&String::from_utf8_lossy(&chunk.bytes));
            if text.find(mark).is_some_and(|at| text[at..].contains('\n')) {
                return Ok(text);
            }
            match tokio::time::timeout(PATIENCE, self.launched.events.next()).await {
                Ok(Some(Event::Exited { reason })) => {
                    bail!("the guest has ended ({reason:?}): {text}")
                }
                Ok(Some(_)) => {}
                Ok(None) => bail!("the vmm has ended: {text}"),
                Err(_) => bail!(
                    "no {mark:?} from the guest in {} s: {text}",
                    PATIENCE.as_secs()
                ),
            }
        }
    }

    async fn counters(&self) -> Result<Sample> {
        let status = self.launched.client.status().await?;
        match status.devices.first() {
            Some(DeviceStatus::Disk {
                requests,
                kicks,
                enters,
                interrupts,
                ..
            }) => Ok(Sample {
                iops: 0.0,
                requests: *requests,
                enters: *enters,
                kicks: *kicks,
                interrupts: *interrupts,
            }),
            other => bail!("the first device is {other:?}, not a disk"),
        }
    }

    /// What serves the disk, and whether the page cache is bypassed.
    pub async fn engine(&self) -> Result<(String, String)> {
        let status = self.launched.client.status().await?;
        match status.devices.into_iter().next() {
            Some(DeviceStatus::Disk {
                engine, caching, ..
            }) => Ok((engine, caching)),
            other => bail!("the first device is {other:?}, not a disk"),
        }
    }

    /// Random reads for `millis`; the guest waits for completions by interrupt (`irq`) or by looking (`poll`).
    pub async fn random_reads(&mut self, depth: u32, millis: u64, wait: &str) -> Result<Sample> {
        let before = self.counters().await?;
        let text = self
            .obey(&format!(
                "disk bench 0 mode=randread depth={depth} time={millis}ms count=1G wait={wait}"
            ))
            .await?;
        let after = self.counters().await?;
        let number = |key: &str| -> Result<u64> {
            let line = text
                .lines()
                .find(|line| line.starts_with("probe: disk-bench"))
                .context("no result")?;
            let value = line
                .split(' ')
                .find_map(|word| word.strip_prefix(key))
                .context("no value")?;
            Ok(value.parse()?)
        };
        let requests = number("requests=")?;
        ensure!(
            after.requests - before.requests >= requests,
            "the vmm saw fewer requests than the guest made"
        );
        Ok(Sample {
            iops: float(requests) * 1e9 / (float(number("elapsed_ns=")? / 1000) * 1000.0),
            requests: after.requests - before.requests,
            enters: after.enters - before.enters,
            kicks: after.kicks - before.kicks,
            interrupts: after.interrupts - before.interrupts,
        })
    }

    /// Ends the guest.
    pub async fn stop(mut self) -> Result<()> {
        self.launched.client.shut_down().await?;
        while tokio::time::timeout(PATIENCE, self.launched.events.next())
            .await?
            .is_some()
        {}
        vmm::launch::wait(&self.launched.process).await?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Gone already after `stop`.
        let _ = self.launched.process.kill();
    }
}
