//! The control plane's world in memory: machines that only have a console, disks that are files of a folder.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::Write as _,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use control::{
    adapters::UnlimitedProcessors,
    model::{ComponentInfo, DiskCategory, ImagePartKind, PolicyKind, PolicyStatus},
    ports::{
        Clock, ConsoleOutput, Entropy, InterfaceSpec, LoadedPolicy, Machine, MachineEvent,
        MachineEventKind, MachineExit, MachineSpec, Machines, Networks, OpenDisk, PartWriter,
        Policies, PortError, PortErrorKind, PortResult, Ports, PresentVolumes, PresentVpc, Pricing,
        Space, StoredPart, Volumes, VpcSecurity, VpcSpec,
    },
};
use ledger::{PriceList, Prices};
use placement::{BuiltIn, Scheduler, Strategy};
use tokio::sync::{mpsc, watch};
use types::{
    ByteCount, Currency, DiskId, ImageId, InstanceId, InterfaceId, Sha256Digest, Timestamp, VpcId,
};

/// What a guest writes when it starts.
pub const GREETING: &[u8] = b"hello from the guest\n";

/// Ports of a world that begins empty; `folder` holds its files.
pub fn ports(folder: PathBuf, clock: Arc<FakeClock>) -> Ports {
    Ports {
        machines: Arc::new(FakeMachines::default()),
        networks: Arc::new(FakeNetworks::default()),
        volumes: Arc::new(FakeVolumes { folder }),
        policies: Arc::new(BuiltInPolicies::default()),
        processors: Arc::new(UnlimitedProcessors {
            reason: "tests have no control groups".to_owned(),
        }),
        clock,
        entropy: Arc::new(Counter(AtomicU64::new(1))),
    }
}

/// What each guest wrote; `None` once it is forgotten.
type Consoles = HashMap<InstanceId, Option<Vec<u8>>>;

/// Each instance's console output, and whether it has a machine.
pub struct FakeMachines {
    running: Mutex<HashMap<InstanceId, u64>>,
    consoles: watch::Sender<Consoles>,
    events: mpsc::Sender<MachineEvent>,
    receiver: Mutex<Option<mpsc::Receiver<MachineEvent>>>,
    began: Instant,
}

impl Default for FakeMachines {
    fn default() -> Self {
        let (events, receiver) = mpsc::channel(64);
        Self {
            running: Mutex::default(),
            consoles: watch::Sender::default(),
            events,
            receiver: Mutex::new(Some(receiver)),
            began: Instant::now(),
        }
    }
}

impl FakeMachines {
    async fn end(&self, instance: InstanceId, exit: MachineExit) -> bool {
        let run = self.running.lock().unwrap().remove(&instance);
        let Some(run) = run else {
            return false;
        };
        let kind = MachineEventKind::Exited(exit);
        self.events
            .send(MachineEvent {
                instance,
                run,
                kind,
            })
            .await
            .unwrap();
        true
    }

    fn print(&self, instance: InstanceId, text: &[u8]) {
        self.consoles.send_modify(|consoles| {
            let console = consoles.entry(instance).or_insert_with(|| Some(Vec::new()));
            if let Some(console) = console {
                console.extend_from_slice(text);
            }
        });
    }
}

fn no_machine(instance: InstanceId) -> PortError {
    PortError::new(
        PortErrorKind::NotFound,
        format!("there is no machine of {instance}"),
    )
}

#[async_trait]
impl Machines for FakeMachines {
    async fn start(&self, spec: MachineSpec) -> PortResult<Machine> {
        let (instance, run) = (spec.instance, spec.run);
        self.running.lock().unwrap().insert(instance, run);
        self.print(instance, GREETING);
        let at_ns = u64::try_from(self.began.elapsed().as_nanos()).unwrap();
        let kind = MachineEventKind::FirstOutput { at_ns };
        self.events
            .send(MachineEvent {
                instance,
                run,
                kind,
            })
            .await
            .unwrap();
        Ok(Machine {
            instance,
            run,
            pid: 4242,
            first_output_ns: None,
        })
    }

    async fn adopt(&self) -> PortResult<Vec<Machine>> {
        Ok(Vec::new())
    }

    async fn power_button(&self, instance: InstanceId) -> PortResult<()> {
        let ended = self.end(instance, MachineExit::PowerOff).await;
        ended.then_some(()).ok_or_else(|| no_machine(instance))
    }

    async fn kill(&self, instance: InstanceId) -> PortResult<()> {
        self.end(instance, MachineExit::Killed).await;
        Ok(())
    }

    async fn console_input(&self, instance: InstanceId, data: Bytes) -> PortResult<()> {
        if !self.running.lock().unwrap().contains_key(&instance) {
            return Err(no_machine(instance));
        }
        self.print(instance, &data);
        Ok(())
    }

    async fn console_output(
        &self,
        instance: InstanceId,
        offset: u64,
        max: usize,
        wait: Duration,
    ) -> PortResult<ConsoleOutput> {
        let from = usize::try_from(offset).unwrap();
        let over = |consoles: &Consoles| match consoles.get(&instance) {
            Some(Some(text)) => text.len() > from,
            Some(None) => true,
            None => false,
        };
        let mut consoles = self.consoles.subscribe();
        let _ = tokio::time::timeout(wait, consoles.wait_for(over)).await;
        let consoles = consoles.borrow();
        let text = consoles.get(&instance).and_then(Option::as_deref);
        let text = text.and_then(|text| text.get(from..)).unwrap_or_default();
        Ok(ConsoleOutput {
            offset,
            data: Bytes::copy_from_slice(&text[..text.len().min(max)]),
        })
    }

    async fn forget(&self, instance: InstanceId) -> PortResult<()> {
        self.consoles
            .send_modify(|consoles| drop(consoles.insert(instance, None)));
        Ok(())
    }

    fn running(&self) -> Vec<InstanceId> {
        self.running.lock().unwrap().keys().copied().collect()
    }

    fn events(&self) -> mpsc::Receiver<MachineEvent> {
        self.receiver
            .lock()
            .unwrap()
            .take()
            .expect("events are taken once")
    }
}

/// Remembers which interfaces there are.
#[derive(Default)]
pub struct FakeNetworks {
    vpcs: Mutex<HashMap<VpcId, HashSet<InterfaceId>>>,
}

#[async_trait]
impl Networks for FakeNetworks {
    async fn ensure_vpc(&self, vpc: &VpcSpec) -> PortResult<()> {
        self.vpcs.lock().unwrap().entry(vpc.id).or_default();
        Ok(())
    }

    async fn remove_vpc(&self, vpc: VpcId) -> PortResult<()> {
        self.vpcs.lock().unwrap().remove(&vpc);
        Ok(())
    }

    async fn ensure_interface(&self, interface: &InterfaceSpec) -> PortResult<OwnedFd> {
        let mut vpcs = self.vpcs.lock().unwrap();
        vpcs.entry(interface.vpc.id)
            .or_default()
            .insert(interface.id);
        Ok(File::open("/dev/null").unwrap().into())
    }

    async fn resume_interface(&self, interface: &InterfaceSpec) -> PortResult<()> {
        self.ensure_interface(interface).await.map(drop)
    }

    async fn remove_interface(&self, vpc: VpcId, interface: InterfaceId) -> PortResult<()> {
        if let Some(interfaces) = self.vpcs.lock().unwrap().get_mut(&vpc) {
            interfaces.remove(&interface);
        }
        Ok(())
    }

    async fn apply_security(&self, _security: &VpcSecurity) -> PortResult<()> {
        Ok(())
    }

    async fn list(&self) -> PortResult<Vec<PresentVpc>> {
        let vpcs = self.vpcs.lock().unwrap();
        let present = vpcs.iter().map(|(id, interfaces)| PresentVpc {
            id: *id,
            interfaces: interfaces.iter().copied().collect(),
        });
        Ok(present.collect())
    }
}

/// Files of a folder, by the ids' names.
pub struct FakeVolumes {
    folder: PathBuf,
}

impl FakeVolumes {
    fn disk(&self, disk: DiskId) -> PathBuf {
        self.folder.join(disk.to_string())
    }

    fn part(&self, image: ImageId, part: ImagePartKind) -> PathBuf {
        self.folder.join(format!("{image}.{}", part.name()))
    }

    fn ids<T: std::str::FromStr>(&self) -> Vec<T> {
        let entries = fs::read_dir(&self.folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names
            .filter_map(|name| name.split('.').next().unwrap().parse().ok())
            .collect()
    }
}

fn io(error: std::io::Error) -> PortError {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => PortErrorKind::NotFound,
        _ => PortErrorKind::Failed,
    };
    PortError::new(kind, "a file of the test failed").with_source(error)
}

struct FakePart {
    data: Vec<u8>,
    path: PathBuf,
}

impl PartWriter for FakePart {
    fn write(&mut self, data: &[u8]) -> PortResult<()> {
        self.data.extend_from_slice(data);
        Ok(())
    }

    fn finish(self: Box<Self>) -> PortResult<StoredPart> {
        fs::write(&self.path, &self.data).map_err(io)?;
        Ok(StoredPart {
            size: ByteCount::new(u64::try_from(self.data.len()).unwrap()),
            sha256: Sha256Digest::of(&self.data),
        })
    }
}

impl Volumes for FakeVolumes {
    fn receive_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<Box<dyn PartWriter>> {
        let path = self.part(image, part);
        let data = Vec::new();
        Ok(Box::new(FakePart { data, path }))
    }

    fn open_part(&self, image: ImageId, part: ImagePartKind) -> PortResult<File> {
        File::open(self.part(image, part)).map_err(io)
    }

    fn delete_image(&self, image: ImageId) -> PortResult<()> {
        for part in ImagePartKind::ALL {
            let _ = fs::remove_file(self.part(image, part));
        }
        Ok(())
    }

    fn clone_disk(&self, disk: DiskId, image: ImageId, size: ByteCount) -> PortResult<()> {
        fs::copy(self.part(image, ImagePartKind::Disk), self.disk(disk)).map_err(io)?;
        self.create_disk(disk, size, DiskCategory::CloudEssd)
    }

    fn create_disk(&self, disk: DiskId, size: ByteCount, _: DiskCategory) -> PortResult<()> {
        let mut options = File::options();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.disk(disk));
        let mut file = file.map_err(io)?;
        file.flush().map_err(io)?;
        file.set_len(size.bytes()).map_err(io)
    }

    fn sync_disk(&self, _disk: DiskId, _: DiskCategory) -> PortResult<()> {
        Ok(())
    }

    fn open_disk(&self, disk: DiskId, _: DiskCategory) -> PortResult<OpenDisk> {
        let file = File::options().read(true).write(true).open(self.disk(disk));
        let file = file.map_err(io)?;
        let size = ByteCount::new(file.metadata().map_err(io)?.len());
        Ok(OpenDisk {
            file,
            size,
            direct: false,
        })
    }

    fn delete_disk(&self, disk: DiskId, _: DiskCategory) -> PortResult<()> {
        let _ = fs::remove_file(self.disk(disk));
        Ok(())
    }

    fn list(&self) -> PortResult<PresentVolumes> {
        Ok(PresentVolumes {
            disks: self
                .ids()
                .into_iter()
                .map(|id| (id, DiskCategory::CloudEssd))
                .collect(),
            images: self.ids(),
        })
    }

    fn space(&self) -> PortResult<Space> {
        Ok(Space {
            total: ByteCount::from_gib(1000),
            free: ByteCount::from_gib(900),
        })
    }
}

/// The built-in policies.
#[derive(Default)]
pub struct BuiltInPolicies {
    components: Mutex<BTreeMap<Sha256Digest, Vec<u8>>>,
}

impl Policies for BuiltInPolicies {
    fn scheduler(&self) -> Scheduler {
        Scheduler::built_in(BuiltIn::default())
    }

    fn pricing(&self) -> Pricing {
        Pricing::built_in(
            PriceList::new(Prices {
                currency: Currency::USD,
                instance_types: [].into(),
                vcpu: "0.36".parse().unwrap(),
                memory_gib: "0.036".parse().unwrap(),
                disk_categories: [].into(),
                disk_gib: "0.0036".parse().unwrap(),
                meters: [].into(),
            })
            .unwrap(),
        )
    }

    fn status(&self) -> Vec<PolicyStatus> {
        let scheduler = self.scheduler().identity();
        vec![PolicyStatus::new(
            PolicyKind::Scheduler,
            scheduler.name,
            scheduler.module_sha256,
        )]
    }

    fn author(&self, _: &[u8], _: Option<&str>) -> PortResult<Option<String>> {
        Ok(None)
    }

    /// A component of these tests is the name of a strategy.
    fn inspect(&self, component: &[u8]) -> PortResult<ComponentInfo> {
        strategy(component)?;
        Ok(ComponentInfo {
            kind: PolicyKind::Scheduler,
            module_sha256: Sha256Digest::of(component),
            size: ByteCount::new(component.len() as u64),
            imports: vec!["ashlar:policy/log@0.2.0".into()],
            exports: vec!["ashlar:policy/scheduling@0.2.0".into()],
        })
    }

    fn load(
        &self,
        _: &str,
        _: PolicyKind,
        component: &[u8],
        _: &BTreeMap<String, String>,
    ) -> PortResult<LoadedPolicy> {
        let strategy = BuiltIn::new(strategy(component)?);
        Ok(LoadedPolicy::Scheduler(Scheduler::built_in(strategy)))
    }

    fn keep(&self, component: &[u8]) -> PortResult<()> {
        let mut kept = self.components.lock().unwrap();
        kept.insert(Sha256Digest::of(component), component.to_vec());
        Ok(())
    }

    fn kept(&self, module: Sha256Digest) -> PortResult<Vec<u8>> {
        let kept = self.components.lock().unwrap();
        Ok(kept[&module].clone())
    }

    fn retain(&self, modules: &BTreeSet<Sha256Digest>) -> PortResult<()> {
        let mut kept = self.components.lock().unwrap();
        kept.retain(|module, _| modules.contains(module));
        Ok(())
    }
}

fn strategy(component: &[u8]) -> PortResult<Strategy> {
    let text = String::from_utf8_lossy(component);
    text.parse().map_err(|_| {
        let message = "component `given` is no policy";
        PortError::new(PortErrorKind::Invalid, message)
    })
}

/// The system's clock, which can be put ahead.
pub struct FakeClock {
    began: Instant,
    ahead: Mutex<Duration>,
}

impl Default for FakeClock {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            ahead: Mutex::default(),
        }
    }
}

impl FakeClock {
    /// Puts it ahead by that much more.
    pub fn ahead(&self, by: Duration) {
        *self.ahead.lock().unwrap() += by;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_system_time(SystemTime::now() + *self.ahead.lock().unwrap())
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }
}

/// Ids in the order they are made.
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn random(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed))
    }
}
