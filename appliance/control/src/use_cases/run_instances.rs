//! Making instances.

mod asked_disks;

pub(super) use asked_disks::{local_disks_of, new_disks};

use crate::{
    Control, ControlError, Result,
    commands::{DataDisk, RunInstances},
    core::{Core, Transaction, check_room, sentence, to_the_end},
    model::{
        Disk, DiskCategory, DiskRole, DiskState, EventSubject, Image, Instance, Intent,
        InterfaceState, NetworkInterface, State, StopReason, StoppedMode, Timings,
    },
    placing::{self, Hosts, Wanted},
    reconcile::spot,
    site::Site,
    tokens::Ticket,
    use_cases::{
        admit::{Size, admit},
        check_names, disks, images, meters,
        place::{Place, find_place},
        purchase::{self, Offer},
        quotes::Priced,
    },
};
use asked_disks::{check_existing_disks, system_disk};
use billing::StockNeed;
use instance::{
    Shape,
    admission::{
        MAX_DATA_DISKS, SizeLimits, check_amount, check_disk_size, check_tags, join_cmdline,
    },
};
use placement::NoStock;
use types::{ByteCount, DiskId, InstanceId, InterfaceId, Timestamp};

enum Accepted {
    Made(Vec<Instance>),
    /// A repeated request: what the first one made, as far as it is still there.
    Former(Vec<InstanceId>),
    /// Only the decisions were kept, and until when preemptible instances are reclaimed, if any are.
    Refused(Box<NoStock>, Option<Timestamp>),
}

impl Control {
    /// Makes instances and starts them (ECS RunInstances). Answers as soon as they are placed and on stable storage:
    /// `Pending`, or `Stopped` when they are not to be started.
    pub async fn run_instances(&self, command: RunInstances) -> Result<Vec<Instance>> {
        let received_ns = command
            .request
            .received_ns
            .unwrap_or_else(|| self.monotonic_ns());
        let ticket = Ticket::new("RunInstances", &command.request, &command)?;
        let accept = move |transaction: &mut Transaction<'_>| {
            accept(transaction, command, &ticket, received_ns)
        };
        let (core, actors) = (self.core().clone(), self.inner.instances.clone());
        let accepted = to_the_end(async move {
            let accepted = core.write_volatile(accept).await?;
            if let Accepted::Made(instances) = &accepted {
                actors.commerce().notify_one();
                instances
                    .iter()
                    .for_each(|instance| actors.look_after(instance.id));
            }
            // The start goes on while the disk takes its time; the answer waits for it. After a power cut in between there
            // is neither a machine nor a record; after the daemon's death, the next one ends the machine as unknown.
            core.sync().await?;
            Ok(accepted)
        });
        match accepted.await? {
            Accepted::Made(instances) => Ok(instances),
            Accepted::Former(ids) => {
                let mut instances = Vec::with_capacity(ids.len());
                for id in ids {
                    instances.push(self.instance(id).await?);
                }
                Ok(instances)
            }
            Accepted::Refused(refusal, None) => Err(placing::no_stock(&refusal)),
            Accepted::Refused(refusal, Some(at)) => {
                self.inner.instances.commerce().notify_one();
                Err(placing::no_stock(&refusal).with_next_step(format!(
                    "Preemptible instances make room for it until {at}: ask again then."
                )))
            }
        }
    }
}

/// What all instances of a request have in common.
struct Template {
    command: RunInstances,
    image: std::sync::Arc<Image>,
    cmdline: String,
    vcpus: u32,
    memory: ByteCount,
    system_disk: Option<ByteCount>,
    received_ns: u64,
    now: Timestamp,
    offer: Offer,
}

impl Template {
    /// What one instance takes of its host.
    fn shape(&self) -> StockNeed {
        StockNeed {
            vcpus: self.vcpus,
            memory: self.memory,
        }
    }

    /// What the local disks of each come to.
    fn local_disks(&self) -> ByteCount {
        let new = new_disks(&self.command).filter(|(_, category)| category.is_local());
        new.map(|(size, _)| size).sum()
    }
}

fn accept(
    transaction: &mut Transaction<'_>,
    command: RunInstances,
    ticket: &Ticket,
    received_ns: u64,
) -> Result<Accepted> {
    if let Some(ids) = ticket.former(transaction)? {
        return Ok(Accepted::Former(ids));
    }
    let (least, amount) = check_amount(command.amount, command.min_amount)?;
    let mut template = judge(transaction, command, received_ns)?;
    let disks_each =
        template.command.data_disks.len() + usize::from(template.system_disk.is_some());
    let count = usize::try_from(amount).unwrap_or(usize::MAX);
    let limits = transaction.core().settings.limits;
    check_room(
        "instances",
        transaction.all::<Instance>().len(),
        count,
        limits.max_instances,
    )?;
    let disks = disks_each.saturating_mul(count);
    check_room(
        "disks",
        transaction.all::<Disk>().len(),
        disks,
        limits.max_disks,
    )?;
    let mut site = Site::asked(transaction, &template.command)?;
    let size = Size {
        vcpus: template.vcpus,
        memory: template.memory,
        system_disk: template.system_disk,
    };
    admit(transaction, &mut template.command, &size)?;
    site.zone.clone_from(&template.command.zone);
    purchase::check_arrears(transaction, &transaction.core().settings.account)?;
    template.offer = Offer::ask(transaction, &template.command.charging, &priced(&template))?;
    // Defaults may be made here; a request that fails takes them back with everything else.
    let mut place = find_place(transaction, &template.command)?;

    let mut hosts = Hosts::new(transaction)?;
    let mut placed = Vec::new();
    let mut refusal = None;
    for _ in 0..amount {
        let instance = InstanceId::generate(transaction.random());
        let wanted = Wanted {
            instance,
            instance_type: template.command.instance_type.clone(),
            vcpus: template.vcpus,
            memory: template.memory,
            local_disk: template.local_disks(),
            spot: template.offer.is_preemptible(),
            site: &site,
        };
        match hosts.place(transaction.core(), wanted) {
            (Ok(decision), inputs) => placed.push((instance, decision, inputs)),
            (Err(no_stock), inputs) => {
                refusal = Some((no_stock, inputs));
                break;
            }
        }
    }
    let enough = placed.len() >= usize::try_from(least).unwrap_or(usize::MAX);
    if let Some((refusal, inputs)) = refusal {
        if template.command.request.dry_run {
            return Err(placing::no_stock(&refusal));
        }
        let missing = least.saturating_sub(u32::try_from(placed.len()).unwrap_or(u32::MAX));
        let helps = !template.offer.is_preemptible() && placing::room_would_do(&inputs, missing);
        placing::record(transaction, &refusal.decision, inputs)?;
        if !enough {
            let reclaimed = if helps {
                let instance_type = template.command.instance_type.as_deref();
                let shape = template.shape();
                spot::make_room(transaction, instance_type, shape, missing, &hosts)?
            } else {
                None
            };
            return Ok(Accepted::Refused(Box::new(refusal), reclaimed));
        }
    }
    ticket.end_dry_run()?;
    let mut instances = Vec::with_capacity(placed.len());
    for (id, decision, inputs) in placed {
        placing::record(transaction, &decision, inputs)?;
        instances.push(make(transaction, &template, &mut place, id, &decision)?);
    }
    let ids: Vec<InstanceId> = instances.iter().map(|instance| instance.id).collect();
    ticket.answered(transaction, &ids)?;
    Ok(Accepted::Made(instances))
}

/// Checks everything about the request that has nothing to do with what else there is.
fn judge(
    transaction: &Transaction<'_>,
    mut command: RunInstances,
    received_ns: u64,
) -> Result<Template> {
    check_names(command.name.as_deref(), command.description.as_deref())?;
    check_tags(command.tags.iter())?;
    let image = images::available(transaction, command.image)?;
    let (vcpus, memory) = shape(
        command.instance_type.as_deref(),
        command.vcpus,
        command.memory,
    )?;
    check_sizes(transaction.core(), vcpus, memory)?;
    if memory < image.min_memory {
        let message = format!(
            "{memory} of memory: image {} needs at least {} to boot.",
            image.id, image.min_memory
        );
        return Err(ControlError::invalid("memory", message).with_next_step("Ask for more memory."));
    }
    let cmdline = join_cmdline(&image.cmdline, &command.cmdline)?;
    let local = local_disks_of(command.instance_type.as_deref());
    let asked = command.data_disks.len();
    if asked + local.len() > MAX_DATA_DISKS {
        let brings = match local.len() {
            0 => String::new(),
            count => format!(", and its type brings {count} local ones"),
        };
        let message =
            format!("{asked} data disks{brings}: an instance has at most {MAX_DATA_DISKS}.");
        return Err(
            ControlError::invalid("data_disks", message).with_code("InstanceDiskLimitExceeded")
        );
    }
    for (position, disk) in command.data_disks.iter().enumerate() {
        match disk {
            DataDisk::New {
                category,
                delete_with_instance: false,
                ..
            } if category.is_local() => {
                let field = format!("data_disks[{position}].delete_with_instance");
                let message = "A local disk goes with its instance.";
                return Err(ControlError::invalid(field, message));
            }
            DataDisk::New { size, name, .. } => {
                let field = |error: ControlError, part: &str| {
                    error.with_field(format!("data_disks[{position}].{part}"))
                };
                check_disk_size(*size).map_err(|refusal| field(refusal.into(), "size"))?;
                check_names(name.as_deref(), None).map_err(|error| field(error, "name"))?;
            }
            DataDisk::Existing(_) if command.amount > 1 => {
                return Err(one_only(
                    &format!("data_disks[{position}]"),
                    "an existing disk",
                ));
            }
            DataDisk::Existing(_) => {}
        }
    }
    check_existing_disks(transaction, &command)?;
    let local = local.map(|(size, category)| DataDisk::New {
        size,
        name: None,
        delete_with_instance: true,
        category,
    });
    command.data_disks.splice(0..0, local);
    if command.private_ip.is_some() && command.amount > 1 {
        return Err(one_only("private_ip", "a fixed address"));
    }
    let system_disk = system_disk(&command, &image)?;
    let now = transaction.core().now();
    Ok(Template {
        command,
        image,
        cmdline,
        vcpus,
        memory,
        system_disk,
        received_ns,
        now,
        offer: Offer::PayAsYouGo,
    })
}

/// What of each instance is paid for.
fn priced(template: &Template) -> Priced {
    let system_disk = template.system_disk.into_iter();
    let system_disk = system_disk.map(|size| (size, DiskCategory::CloudEssd));
    Priced {
        instance_type: template.command.instance_type.clone(),
        vcpus: template.vcpus,
        memory: template.memory,
        disks: system_disk.chain(new_disks(&template.command)).collect(),
    }
}

fn one_only(field: &str, what: &str) -> ControlError {
    ControlError::invalid(
        field,
        sentence(&format!("{what} can be given to one instance only")),
    )
    .with_next_step("Ask for one instance.")
}

/// Whether an instance may have that many virtual CPUs and that much memory here.
pub(crate) fn check_sizes(core: &Core, vcpus: u32, memory: ByteCount) -> Result<()> {
    let limits = core.settings.limits;
    let sizes = SizeLimits {
        max_vcpus: limits.max_vcpus,
        min_memory: limits.min_memory,
        max_memory: limits.max_memory,
    };
    Ok(sizes.check(vcpus, memory)?)
}

/// The virtual CPUs and the memory of a type, or of what is given beside it.
pub(crate) fn shape(
    instance_type: Option<&str>,
    vcpus: Option<u32>,
    memory: Option<ByteCount>,
) -> Result<(u32, ByteCount)> {
    let shape = instance_type
        .map(Shape::of_type)
        .transpose()
        .map_err(|error| {
            ControlError::invalid("instance_type", sentence(&error.to_string()))
                .with_code("InvalidInstanceType.ValueNotSupported")
        })?;
    let missing = |field: &str| {
        ControlError::invalid(
            field,
            format!("Neither an instance type nor {field} is given."),
        )
        .with_code("MissingParameter")
        .with_next_step("Name an instance type such as ecs.g6.large, or both vcpus and memory.")
    };
    let vcpus = vcpus
        .or(shape.map(|shape| shape.vcpus))
        .ok_or_else(|| missing("vcpus"))?;
    let memory = memory
        .or(shape.map(|shape| shape.memory))
        .ok_or_else(|| missing("memory"))?;
    Ok((vcpus, memory))
}

fn make(
    transaction: &mut Transaction<'_>,
    template: &Template,
    place: &mut Place,
    id: InstanceId,
    decision: &placement::Decision,
) -> Result<Instance> {
    let command = &template.command;
    let interface = make_interface(transaction, template, place, id)?;
    let charge = template.offer.take(transaction, id, template.now)?;
    let system_disk = match template.system_disk {
        None => None,
        Some(size) => {
            let delete = command.system_disk.delete_with_instance.unwrap_or(true);
            let disk = Disk {
                image: Some(template.image.id),
                role: DiskRole::System,
                ..new_disk(transaction, template, id, size, delete)
            };
            Some(keep_disk(transaction, &disk)?)
        }
    };
    let mut data_disks = Vec::with_capacity(command.data_disks.len());
    for disk in &command.data_disks {
        let disk = match disk {
            DataDisk::New {
                size,
                name,
                delete_with_instance,
                category,
            } => Disk {
                name: name.clone(),
                category: *category,
                ..new_disk(transaction, template, id, *size, *delete_with_instance)
            },
            DataDisk::Existing(existing) => {
                let disk = transaction
                    .get::<Disk>(existing)?
                    .ok_or_else(|| disks::unknown(*existing))?;
                Disk {
                    state: DiskState::InUse,
                    instance: Some(id),
                    attached_at: Some(template.now),
                    ..disk
                }
            }
        };
        data_disks.push(keep_disk(transaction, &disk)?);
    }
    let (state, intent, stop_reason) = if command.start {
        (State::Pending, Intent::Running, None)
    } else {
        (
            State::Stopped,
            Intent::Stopped,
            Some(StopReason::NeverStarted),
        )
    };
    let mut instance = Instance {
        id,
        name: command.name.clone(),
        description: command.description.clone(),
        state,
        intent,
        restart: false,
        stop_reason,
        stopped_mode: StoppedMode::StopCharging,
        vcpus: template.vcpus,
        memory: template.memory,
        instance_type: command.instance_type.clone(),
        image: template.image.id,
        cmdline: template.command.cmdline.trim().to_owned(),
        system_disk,
        data_disks,
        local_disks: template.local_disks(),
        interface: interface.id,
        vpc: place.vpc.id,
        vswitch: place.vswitch.id,
        private_ip: interface.private_ip,
        mac: interface.mac,
        security_groups: place.groups.clone(),
        tags: command.tags.clone(),
        deletion_protection: command.deletion_protection,
        charge,
        lock: None,
        deployment_set: command.deployment_set,
        affinity: command.affinity.clone(),
        host: decision.host.unwrap_or(transaction.core().host),
        decision: decision.id,
        created_at: template.now,
        started_at: None,
        stopped_at: None,
        timings: Timings::default(),
        requested_ns: template.received_ns,
        vmm_pid: None,
        run: u64::from(command.start),
        generation: 1,
    };
    // It was placed: what is paid for is kept, what is to run has its room.
    if command.start || instance.charge.subscription().is_some() {
        instance.stopped_mode = instance.stopped_mode_for(StoppedMode::KeepCharging);
    }
    transaction.put(&instance)?;
    transaction.event(
        EventSubject::Instance(id, Some(state)),
        format!("instance {id} is {state}"),
    );
    meters::follow_policy(transaction, &instance)?;
    tracing::debug!(%id, cmdline = template.cmdline, "accepted");
    Ok(instance)
}

fn make_interface(
    transaction: &mut Transaction<'_>,
    template: &Template,
    place: &mut Place,
    instance: InstanceId,
) -> Result<NetworkInterface> {
    let id = InterfaceId::generate(transaction.random());
    let private_ip = place.take(template.command.private_ip)?;
    let mac = place.take_mac(id);
    let interface = NetworkInterface {
        id,
        vpc: place.vpc.id,
        vswitch: place.vswitch.id,
        state: InterfaceState::InUse,
        instance: Some(instance),
        mac,
        private_ip,
        security_groups: place.groups.clone(),
        created_at: template.now,
    };
    transaction.put(&interface)?;
    Ok(interface)
}

fn new_disk(
    transaction: &Transaction<'_>,
    template: &Template,
    instance: InstanceId,
    size: ByteCount,
    delete_with_instance: bool,
) -> Disk {
    Disk {
        id: DiskId::generate(transaction.random()),
        name: None,
        category: DiskCategory::CloudEssd,
        role: DiskRole::Data,
        state: DiskState::Creating,
        size,
        image: None,
        instance: Some(instance),
        delete_with_instance,
        allocated: false,
        prepaid: template.offer.is_prepaid(),
        created_at: template.now,
        attached_at: Some(template.now),
    }
}

fn keep_disk(transaction: &mut Transaction<'_>, disk: &Disk) -> Result<DiskId> {
    transaction.put(disk)?;
    let message = format!("disk {} is {}", disk.id, disk.state.name());
    transaction.event(EventSubject::Disk(disk.id, Some(disk.state)), message);
    Ok(disk.id)
}
