//! What the daemon does around a vmm.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmm::console::{self, ConsoleReader};
use vmm::launch::{LaunchError, LaunchSpec, Launched, Prepared, ProcessSpec, wait};
use vmm::protocol::{Boot, Event, ExitReason, Host, Kernel, MachineConfig};

/// The longest any of these guests may take.
pub const DEADLINE: Duration = Duration::from_secs(30);
pub const MIB: u64 = 1 << 20;

/// A folder with all a vmm needs.
pub struct Lab {
    folder: TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("vmm-test-")
            .tempdir()
            .expect("a temporary folder");
        let lab = Self { folder };
        console::create(&lab.ring_file()).expect("a console ring");
        lab
    }

    fn ring_file(&self) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        options
            .open(self.folder.path().join("console"))
            .expect("the console file")
    }

    pub fn console(&self) -> ConsoleReader {
        ConsoleReader::new(self.ring_file()).expect("a ring")
    }

    /// What the guest has printed so far.
    pub fn output(&self) -> String {
        let chunk = self.console().read(0, usize::MAX).expect("readable");
        String::from_utf8_lossy(&chunk.bytes).into_owned()
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    /// A file with these contents, open for reading.
    pub fn file(&self, name: &str, contents: &[u8]) -> OwnedFd {
        let path = self.folder.path().join(name);
        File::create(&path)
            .and_then(|mut file| file.write_all(contents))
            .expect("a file");
        File::open(&path).expect("the file just made").into()
    }

    /// A machine of `mib` MiB and one vCPU that starts `image`.
    pub fn machine(&self, image: &[u8], mib: u64) -> MachineConfig<OwnedFd> {
        let kernel = Kernel {
            image: self.file("kernel", image),
            initrd: None,
            cmdline: String::new(),
        };
        MachineConfig {
            vcpus: 1,
            memory_bytes: mib * MIB,
            boot: Boot::Pvh(kernel),
            disks: Vec::new(),
            nics: Vec::new(),
            rng: false,
            host: Host {
                memory: vmm::memory::create(mib * MIB).expect("guest memory"),
                console: self.ring_file().into(),
            },
        }
    }

    pub async fn launch(&self, machine: MachineConfig<OwnedFd>) -> Result<Launched, LaunchError> {
        self.launch_at(self.socket(), machine).await
    }

    pub async fn launch_at(
        &self,
        socket: PathBuf,
        machine: MachineConfig<OwnedFd>,
    ) -> Result<Launched, LaunchError> {
        let prepared = self.prepare(kvm()).await?;
        vmm::launch(prepared, self.spec(socket, machine)).await
    }

    /// What is to run in a process.
    pub fn spec(&self, socket: PathBuf, machine: MachineConfig<OwnedFd>) -> LaunchSpec {
        let stderr = std::io::stderr().as_fd().try_clone_to_owned();
        LaunchSpec {
            socket,
            stderr: Some(stderr.expect("a descriptor")),
            machine,
        }
    }

    /// A process that waits for its machine.
    pub async fn prepare(&self, kvm: OwnedFd) -> Result<Prepared, LaunchError> {
        // Each process has a user of its own, as in production.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = 62_000 + NEXT.fetch_add(1, Ordering::Relaxed) % 1000;
        let executable = File::open(env!("CARGO_BIN_EXE_vmm-process")).expect("the executable");
        vmm::launch::prepare(ProcessSpec {
            executable: Arc::new(executable.into()),
            kvm: Arc::new(kvm),
            arguments: vec!["vmm".into()],
            uid: id,
            gid: id,
            cgroups: Vec::new(),
            limits: jail::Limits::default(),
        })
        .await
    }

    /// Runs a machine to its end by itself; returns the events after the start and the exit status.
    pub async fn run(&self, machine: MachineConfig<OwnedFd>) -> (Vec<Event>, jail::Exit) {
        let mut launched = self.launch(machine).await.expect("the machine starts");
        let guard = KillOnDrop(&launched.process);
        let mut events = Vec::new();
        while let Some(event) = within(launched.events.next()).await {
            events.push(event);
        }
        let exit = within(wait(&launched.process))
            .await
            .expect("it can be waited for");
        std::mem::forget(guard);
        (events, exit)
    }

    /// Polls the console until it holds `text`.
    pub async fn await_output(&self, text: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.output().contains(text) {
            assert!(
                Instant::now() < deadline,
                "no {text:?} in {:?}",
                self.output()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The KVM device.
pub fn kvm() -> OwnedFd {
    let kvm = hypervisor::Kvm::open(Path::new("/dev/kvm")).expect("these tests need /dev/kvm");
    kvm.as_fd().try_clone_to_owned().expect("a descriptor")
}

/// Ends a process when a test fails.
pub struct KillOnDrop<'a>(pub &'a jail::Process);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait(Some(DEADLINE));
    }
}

pub async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("in time")
}

/// The reason in the last event.
pub fn last_reason(events: &[Event]) -> &ExitReason {
    match events.last() {
        Some(Event::Exited { reason }) => reason,
        other => panic!("the last event is {other:?}"),
    }
}
