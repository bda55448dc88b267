//! A host made of memory: fakes behind every port, which inject faults and outlive the daemon under test.

mod machines;
mod networks;
mod policies;
mod processors;
mod volumes;

use bytes::Bytes;
use control::{
    Control, Settings,
    commands::{CreateImage, Request, RunInstances},
    model::{Image, ImagePartKind, Instance, State},
    ports::{
        Clock, CpuShare, Entropy, Machine, MachineEvent, MachineEventKind, MachineExit, PortError,
        PortErrorKind, PortResult, Ports, VpcSecurity,
    },
};
use cpu::Topology;
use futures_util::stream;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use store::Store;
use tokio::{sync::mpsc, time::Instant};
use types::{ByteCount, DiskId, ImageId, InstanceId, InterfaceId, Sha256Digest, Timestamp, VpcId};

/// What a guest does when its power button is pressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guest {
    #[default]
    PowersOff,
    Ignores,
}

/// What was asked of the last machine.
#[derive(Clone, Debug)]
pub struct Asked {
    pub run: u64,
    pub cmdline: String,
    pub kernel: Vec<u8>,
    pub disks: Vec<(DiskId, ByteCount)>,
}

#[derive(Default)]
pub struct Things {
    pub machines: BTreeMap<InstanceId, Machine>,
    /// What the next daemon is told of machines that ended before it.
    pub ended: Vec<MachineEvent>,
    pub asked: BTreeMap<InstanceId, Asked>,
    pub guest: Guest,
    /// Whether machines end as soon as they are started.
    pub dies_at_once: bool,
    /// Whether a guest writes to its console as soon as it runs.
    pub silent: bool,
    pub consoles: BTreeMap<InstanceId, Vec<u8>>,
    pub forgotten: BTreeSet<InstanceId>,
    pub vpcs: BTreeMap<VpcId, BTreeSet<InterfaceId>>,
    pub resumed: BTreeSet<InterfaceId>,
    pub security: BTreeMap<VpcId, VpcSecurity>,
    pub applied: usize,
    pub disks: BTreeMap<DiskId, ByteCount>,
    /// Those of them that are local ones.
    pub local_disks: BTreeSet<DiskId>,
    pub parts: BTreeMap<(ImageId, &'static str), Vec<u8>>,
    pub unfinished: usize,
    /// Components of policies.
    pub components: BTreeMap<Sha256Digest, Vec<u8>>,
    /// What each machine may use of the CPUs, and what that start of it has used.
    pub shares: BTreeMap<InstanceId, CpuShare>,
    pub cpu_used: BTreeMap<(InstanceId, u64), Duration>,
    /// Why CPUs cannot be limited, if they cannot; those there are, if machines can be kept on them.
    pub no_cpu_control: Option<String>,
    pub topology: Option<Topology>,
    /// The call that never comes back, and whether one is in it.
    pub hang: Option<&'static str>,
    pub hanging: bool,
    /// How far the clock is from where it was when the world began, in milliseconds; or the time at which it stands.
    pub clock_ms: i64,
    pub clock_stands: Option<Timestamp>,
    /// How many times the clock may still be read before the daemon is killed, and whether it was.
    fuse: Option<u64>,
    killed: bool,
    /// Calls that fail: how many times each.
    faults: BTreeMap<&'static str, usize>,
    events: Option<mpsc::Sender<MachineEvent>>,
    next_pid: u32,
    next_random: u128,
}

#[derive(Clone)]
pub struct World {
    things: Arc<Mutex<Things>>,
    began: Instant,
    folder: Arc<tempfile::TempDir>,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("control-test-")
            .tempdir()
            .unwrap();
        Self {
            things: Arc::default(),
            began: Instant::now(),
            folder: Arc::new(folder),
        }
    }

    pub fn things(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap()
    }

    /// Has the next `times` calls of that name fail.
    pub fn fail(&self, call: &'static str, times: usize) {
        self.things().faults.insert(call, times);
    }

    fn call(&self, name: &'static str) -> PortResult<MutexGuard<'_, Things>> {
        let mut things = self.things();
        match things.faults.get_mut(name) {
            Some(times) if *times > 0 => {
                *times -= 1;
                Err(PortError::new(
                    PortErrorKind::Failed,
                    format!("the call {name} was made to fail"),
                ))
            }
            _ => Ok(things),
        }
    }

    /// Never comes back if it is the call that hangs.
    async fn may_hang(&self, name: &'static str) {
        let hangs = {
            let mut things = self.things();
            things.hanging |= things.hang == Some(name);
            things.hang == Some(name)
        };
        if hangs {
            std::future::pending::<()>().await;
        }
    }

    pub fn settings(&self) -> Settings {
        let mut settings = Settings::new(self.folder.path().to_owned(), 4, ByteCount::from_gib(4));
        settings.stop_grace = Duration::from_secs(20);
        settings.metering_interval = Duration::from_secs(60);
        settings.reconcile_interval = Duration::from_secs(30);
        settings
    }

    pub fn ports(&self) -> Ports {
        let this = Arc::new(self.clone());
        Ports {
            machines: this.clone(),
            networks: this.clone(),
            volumes: this.clone(),
            policies: this.clone(),
            processors: this.clone(),
            clock: this.clone(),
            entropy: this,
        }
    }

    pub async fn start(&self) -> Control {
        Control::open(self.settings(), self.ports()).await.unwrap()
    }

    /// Ends the daemon the polite way. Machines go on.
    pub async fn stop(&self, control: Control) {
        control.shut_down().await.unwrap();
    }

    /// Has the daemon killed when it reads the clock for the `reads`th time from now on: there is such a moment between any two
    /// transactions, and in each. From then on it writes nothing.
    pub fn kill_after(&self, reads: u64) {
        self.things().fuse = Some(reads);
    }

    pub fn killed(&self) -> bool {
        self.things().killed
    }

    /// What is left of the daemon goes away; its state folder is free.
    pub async fn end(&self, control: Control) {
        control.shut_down().await.unwrap();
        drop(control);
        let folder = self.settings().state_folder;
        let free = || async { Store::open(&folder, &control::SCHEMA, &folder).is_ok() };
        until(free).await;
    }

    /// The daemon ends, or what is left of it, and another one takes over.
    pub async fn restart(&self, control: Control) -> Control {
        self.end(control).await;
        {
            let mut things = self.things();
            (things.fuse, things.killed) = (None, false);
        }
        self.start().await
    }

    /// Something happens to a machine.
    pub async fn exit(&self, instance: InstanceId, exit: MachineExit) {
        let (sender, event) = {
            let mut things = self.things();
            let machine = things.machines.remove(&instance).expect("it has a machine");
            let event = MachineEvent {
                instance,
                run: machine.run,
                kind: MachineEventKind::Exited(exit),
            };
            (things.events.clone().unwrap(), event)
        };
        sender.send(event).await.unwrap();
    }

    /// What is on the host and must not be when nothing runs.
    pub fn left_over(&self) -> Vec<String> {
        let things = self.things();
        let mut left: Vec<String> = things
            .machines
            .keys()
            .map(|id| format!("machine {id}"))
            .collect();
        left.extend(
            things
                .vpcs
                .values()
                .flatten()
                .map(|id| format!("interface {id}")),
        );
        left.extend(things.disks.keys().map(|id| format!("disk {id}")));
        let named = things
            .security
            .values()
            .flat_map(|security| &security.interfaces);
        left.extend(named.map(|interface| format!("rules about {}", interface.id)));
        left
    }
}

/// A PVH kernel of one page; see the format in the crate's own tests.
pub fn kernel() -> Vec<u8> {
    let mut elf = vec![0_u8; 64];
    let mut set =
        |offset: usize, bytes: &[u8]| elf[offset..offset + bytes.len()].copy_from_slice(bytes);
    set(0, b"\x7fELF\x02\x01");
    set(18, &62_u16.to_le_bytes());
    set(32, &64_u64.to_le_bytes());
    set(54, &56_u16.to_le_bytes());
    set(56, &2_u16.to_le_bytes());
    for (kind, offset, address, in_file, in_memory) in [
        (4_u32, 176_u64, 0_u64, 20_u64, 20_u64),
        (1, 196, 0x10_0000, 16, 0x1000),
    ] {
        elf.extend(kind.to_le_bytes());
        elf.extend([0; 4]);
        for field in [offset, address, address, in_file, in_memory, 4] {
            elf.extend(field.to_le_bytes());
        }
    }
    for field in [4_u32, 4, 18] {
        elf.extend(field.to_le_bytes());
    }
    elf.extend(b"Xen\0");
    elf.extend(0x10_0000_u32.to_le_bytes());
    elf.extend([0x90; 16]);
    elf
}

pub async fn upload(control: &Control, image: ImageId, part: ImagePartKind, content: &[u8]) {
    let chunks: Vec<_> = content
        .chunks(100)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    let received = control
        .upload_image_part(image, part, stream::iter(chunks))
        .await
        .unwrap();
    assert_eq!(received.size.bytes(), content.len() as u64);
    assert_eq!(received.sha256, types::Sha256Digest::of(content));
}

/// An image that boots, with a disk.
pub async fn image(control: &Control) -> Image {
    let command = CreateImage {
        name: "probe".into(),
        cmdline: "console=ttyS0".into(),
        ..CreateImage::default()
    };
    let image = control.create_image(command).await.unwrap();
    upload(control, image.id, ImagePartKind::Kernel, &kernel()).await;
    upload(control, image.id, ImagePartKind::Disk, &[7; 1000]).await;
    control.complete_image(image.id).await.unwrap()
}

/// One instance of 1 vCPU and 64 MiB.
pub fn one(image: ImageId) -> RunInstances {
    RunInstances {
        vcpus: Some(1),
        memory: Some(ByteCount::from_mib(64)),
        ..RunInstances::new(image)
    }
}

pub fn token(text: &str) -> Request {
    Request {
        client_token: Some(text.to_owned()),
        ..Request::default()
    }
}

/// Long enough for anything, in virtual time.
pub const LONG: Duration = Duration::from_secs(3600);

pub async fn reach(control: &Control, id: InstanceId, state: State) -> Instance {
    control.wait_for_instance(id, &[state], LONG).await.unwrap()
}

pub async fn run_one(control: &Control, image: ImageId) -> Instance {
    let instances = control.run_instances(one(image)).await.unwrap();
    assert_eq!(instances.len(), 1);
    assert_eq!(instances[0].state, State::Pending);
    reach(control, instances[0].id, State::Running).await
}

/// Waits until the instance is released.
pub async fn gone(control: &Control, id: InstanceId) {
    until(|| async { control.instance(id).await.is_err() }).await;
}

/// Waits, in virtual time, until something holds.
pub async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    for _ in 0..10_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never came to hold");
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        let mut things = self.things();
        if let Some(reads) = things.fuse {
            things.fuse = reads.checked_sub(1);
            things.killed |= things.fuse.is_none();
        }
        let (killed, clock_ms, stands) = (things.killed, things.clock_ms, things.clock_stands);
        drop(things);
        assert!(!killed, "the daemon was killed");
        let start: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let now = start.checked_add(self.began.elapsed()).unwrap();
        let shown = Timestamp::from_unix_millis(now.unix_millis() + clock_ms);
        stands.unwrap_or_else(|| shown.unwrap())
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap() + 1_000_000_000
    }
}

impl Entropy for World {
    fn random(&self) -> u128 {
        let mut things = self.things();
        things.next_random += 1;
        things.next_random
    }
}
