//! Starting a machine: pairs of an action and its undo.
//!
//! ```text
//!  disks ─────┐   ┌── security rules ──┐
//!             ├──►┤                    ├──► runs
//!  interface ─┘   └── machine ─────────┘
//! ```
//!
//! Pairs in a column go on at the same time: an interface passes nothing until rules about it are in force, so the guest may begin
//! meanwhile. When one fails, everything begun is undone in the reverse order, and nothing is left on the host.

use crate::{
    core::{Core, Transaction, lock},
    model::{BootProtocol, Disk, DiskCategory, DiskRole, Image, ImagePartKind, Instance, Timings},
    ports::{
        Machine, MachineDisk, MachineInterface, MachineSpec, PortError, PortErrorKind, PortResult,
        Volumes,
    },
    reconcile::{Networks, credits},
};
use instance::{Change, admission::join_cmdline};
use std::{
    fs::File,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};
use types::DiskId;

/// An action and its undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pair {
    /// Make the disks that are missing and open everything; delete those that were made.
    Disks,
    /// Make the interface and open its tap; remove it.
    Interface,
    /// Put the VPC's rules in force with the interface in them; again without it.
    Security,
    /// Start the machine; take it away.
    Machine,
}

/// Columns of the picture above.
const PLAN: [[Pair; 2]; 2] = [
    [Pair::Disks, Pair::Interface],
    [Pair::Security, Pair::Machine],
];

/// A machine that runs, and how it came to.
#[derive(Clone, Debug)]
pub(crate) struct Started {
    pub(crate) machine: Machine,
    pub(crate) timings: Timings,
    /// Disks that were made for it and are not known to be on stable storage.
    pub(crate) new_disks: Vec<(DiskId, DiskCategory)>,
}

struct Files {
    boot: BootProtocol,
    kernel: File,
    initrd: Option<File>,
    cmdline: String,
    disks: Vec<MachineDisk>,
}

#[derive(Default)]
struct Made {
    files: Option<Files>,
    new_disks: Vec<(DiskId, DiskCategory)>,
    tap: Option<OwnedFd>,
    machine: Option<Machine>,
}

struct Attempt<'a> {
    core: &'a Arc<Core>,
    networks: &'a Networks,
    instance: Arc<Instance>,
    made: Arc<Mutex<Made>>,
}

/// Starts the machine of an instance.
pub(crate) async fn start(
    core: &Arc<Core>,
    networks: &Networks,
    instance: Instance,
) -> PortResult<Started> {
    let instance = Arc::new(instance);
    let since = |requested_ns: u64| core.ports.clock.monotonic_ns().saturating_sub(requested_ns);
    let mut timings = Timings {
        accepted_ns: since(instance.requested_ns),
        ..Timings::default()
    };
    let attempt = Attempt {
        core,
        networks,
        instance: instance.clone(),
        made: Arc::default(),
    };
    let mut begun = Vec::new();
    let mut noted = None;
    for column in PLAN {
        begun.extend(column);
        let [first, second] = column;
        let (first, second) = tokio::join!(attempt.act(first), attempt.act(second));
        if let Err(error) = first.and(second) {
            attempt.undo(&begun).await;
            settle(noted).await;
            return Err(error);
        }
        if timings.prepared_ns.is_none() {
            timings.prepared_ns = Some(since(instance.requested_ns));
            noted = Some(tokio::spawn(note_prepared(core.clone(), instance.clone())));
        }
    }
    timings.running_ns = Some(since(instance.requested_ns));
    settle(noted).await;
    let mut made = lock(&attempt.made);
    let new_disks = std::mem::take(&mut made.new_disks);
    let machine = made.machine.take();
    let machine = machine
        .ok_or_else(|| PortError::new(PortErrorKind::Failed, "the machine was not started"))?;
    Ok(Started {
        machine,
        timings,
        new_disks,
    })
}

async fn settle(task: Option<tokio::task::JoinHandle<()>>) {
    if let Some(task) = task {
        // What it would have noted is only shown; a failure is in the log.
        let _ = task.await;
    }
}

/// Shows that the instance is Starting. Nobody waits for the disk: a restart would find out anew.
async fn note_prepared(core: Arc<Core>, instance: Arc<Instance>) {
    let id = instance.id;
    let note = move |transaction: &mut Transaction<'_>| {
        if let Some(mut instance) = transaction.get::<Instance>(&id)?
            && let Some(state) = instance.state.after(Change::Prepared)
        {
            instance.state = state;
            crate::use_cases::put_instance(transaction, &mut instance)?;
        }
        Ok(())
    };
    if let Err(error) = core.write_volatile(note).await {
        tracing::warn!(instance = %id, "cannot be shown as Starting: {error}");
    }
}

impl Attempt<'_> {
    async fn act(&self, pair: Pair) -> PortResult<()> {
        match pair {
            Pair::Disks => self.prepare_disks().await,
            Pair::Interface => {
                let tap = self.networks.attach(&self.instance).await?;
                lock(&self.made).tap = Some(tap);
                Ok(())
            }
            Pair::Security => self.networks.apply(self.instance.vpc).await,
            Pair::Machine => self.start_machine().await,
        }
    }

    /// Undoes what was begun, last first. An undo that fails does not keep the others from being tried; the reconciler
    /// detaches the interface again, and the sweeper finds what is left.
    async fn undo(&self, begun: &[Pair]) {
        for pair in begun.iter().rev() {
            let undone = match pair {
                Pair::Machine => self.core.ports.machines.kill(self.instance.id).await,
                // Undone with the interface: rules name only interfaces that are there.
                Pair::Security => Ok(()),
                Pair::Interface => {
                    let detached = self
                        .networks
                        .detach(self.instance.vpc, self.instance.interface)
                        .await;
                    detached
                        .map_err(|error| PortError::new(PortErrorKind::Failed, error.to_string()))
                }
                Pair::Disks => self.delete_new_disks().await,
            };
            if let Err(error) = undone {
                tracing::error!(instance = %self.instance.id, ?pair, "cannot be undone: {}", error.chain());
            }
        }
    }

    async fn prepare_disks(&self) -> PortResult<()> {
        let (instance, core, made) = (self.instance.clone(), self.core.clone(), self.made.clone());
        on_blocking_thread(move || {
            let read = |what: &str, error: crate::ControlError| {
                PortError::new(PortErrorKind::Failed, format!("cannot read {what}"))
                    .with_source(error)
            };
            let gone = |what: String| {
                PortError::new(
                    PortErrorKind::NotFound,
                    format!("the record of {what} is gone"),
                )
            };
            let image = core
                .get::<Image>(&instance.image)
                .map_err(|error| read("the image", error))?;
            let image = image.ok_or_else(|| gone(format!("image {}", instance.image)))?;
            let mut disks = Vec::new();
            for id in instance.system_disk.iter().chain(&instance.data_disks) {
                let disk = core
                    .get::<Disk>(id)
                    .map_err(|error| read("a disk", error))?;
                disks.push(disk.ok_or_else(|| gone(format!("disk {id}")))?);
            }
            for disk in disks.iter().filter(|disk| !disk.allocated) {
                lock(&made).new_disks.push((disk.id, disk.category));
                make_disk(&*core.ports.volumes, disk)?;
            }
            let files = open_files(&*core.ports.volumes, &instance, &image, &disks)?;
            lock(&made).files = Some(files);
            Ok(())
        })
        .await
    }

    async fn delete_new_disks(&self) -> PortResult<()> {
        let disks = std::mem::take(&mut lock(&self.made).new_disks);
        let volumes = self.core.ports.volumes.clone();
        // Closed first: nothing of them is then left.
        drop(lock(&self.made).files.take());
        on_blocking_thread(move || {
            disks
                .into_iter()
                .try_for_each(|(disk, category)| volumes.delete_disk(disk, category))
        })
        .await
    }

    async fn start_machine(&self) -> PortResult<()> {
        let (files, tap) = {
            let mut made = lock(&self.made);
            (made.files.take(), made.tap.take())
        };
        let (Some(files), Some(tap)) = (files, tap) else {
            return Err(PortError::new(
                PortErrorKind::Failed,
                "disks and interface were not prepared",
            ));
        };
        let instance = &self.instance;
        let spec = MachineSpec {
            instance: instance.id,
            run: instance.run,
            vcpus: instance.vcpus,
            memory: instance.memory,
            boot: files.boot,
            kernel: files.kernel,
            initrd: files.initrd,
            cmdline: files.cmdline,
            disks: files.disks,
            interfaces: vec![MachineInterface {
                id: instance.interface,
                mac: instance.mac,
                tap,
            }],
            cpu: credits::share_at_start(self.core, instance),
        };
        let machine = self.core.ports.machines.start(spec).await?;
        lock(&self.made).machine = Some(machine);
        Ok(())
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> PortResult<T> + Send + 'static,
) -> PortResult<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(PortError::new(PortErrorKind::Failed, "an operation broke off").with_source(error))
        })
}

fn make_disk(volumes: &dyn Volumes, disk: &Disk) -> PortResult<()> {
    match (disk.role, disk.image) {
        (DiskRole::System, Some(image)) => volumes.clone_disk(disk.id, image, disk.size),
        _ => volumes.create_disk(disk.id, disk.size, disk.category),
    }
}

fn open_files(
    volumes: &dyn Volumes,
    instance: &Instance,
    image: &Image,
    disks: &[Disk],
) -> PortResult<Files> {
    let invalid = |message: String| PortError::new(PortErrorKind::Invalid, message);
    let boot = image
        .boot
        .ok_or_else(|| invalid(format!("image {} was never completed", image.id)))?;
    let cmdline = join_cmdline(&image.cmdline, &instance.cmdline)
        .map_err(|refusal| invalid(refusal.message))?;
    let kernel = volumes.open_part(image.id, ImagePartKind::Kernel)?;
    let initrd = image
        .initrd
        .map(|_| volumes.open_part(image.id, ImagePartKind::Initrd))
        .transpose()?;
    let mut opened = Vec::with_capacity(disks.len());
    for disk in disks {
        let open = volumes.open_disk(disk.id, disk.category)?;
        if open.size != disk.size {
            let (is, should) = (open.size, disk.size);
            return Err(invalid(format!(
                "the file of disk {} has {is}, not {should}",
                disk.id
            )));
        }
        opened.push(MachineDisk {
            id: disk.id,
            file: open.file,
            size: open.size,
            direct: open.direct,
        });
    }
    Ok(Files {
        boot,
        kernel,
        initrd,
        cmdline,
        disks: opened,
    })
}
