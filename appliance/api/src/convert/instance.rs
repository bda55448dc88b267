//! Instances.

use std::iter;

use api_types::{
    AttachedDisk, DiskRole, Instance, InstanceIntent, InstanceState, KeepWhenStopped,
    NetworkInterface, NewDataDisk, RunInstances, StartTimings, StateReason, StoppedMode,
};
use control::{
    commands::{self, DataDisk, SystemDisk},
    model::{self, Intent, State},
};
use types::ByteCount;

use super::milliseconds;
use crate::{
    envelope::Received,
    extract::{parse, parse_id, parse_optional_id},
    problem::{ApiProblem, ApiResult},
};

/// An instance as its record has it; [`super::cpu`] adds what is not in there.
pub fn to_wire(instance: &model::Instance) -> Instance {
    let started = instance.run > 0;
    let timings = &instance.timings;
    Instance {
        id: instance.id.to_string(),
        name: instance.name.clone(),
        description: instance.description.clone(),
        state: state_to_wire(instance.state),
        intent: match instance.intent {
            Intent::Running => InstanceIntent::Running,
            Intent::Stopped | Intent::StoppedByForce => InstanceIntent::Stopped,
            Intent::Released => InstanceIntent::Released,
        },
        state_reason: instance.stop_reason.as_ref().map(|reason| StateReason {
            code: reason.code().to_owned(),
            message: reason.to_string(),
        }),
        stopped_mode: (instance.intent != Intent::Running || instance.state == State::Stopped)
            .then(|| mode_to_wire(instance.stopped_mode)),
        instance_type: instance.instance_type.clone(),
        vcpus: instance.vcpus,
        memory_mib: instance.memory.mib(),
        cpu_credits: None,
        cpus: None,
        image_id: instance.image.to_string(),
        cmdline: (!instance.cmdline.is_empty()).then(|| instance.cmdline.clone()),
        deployment_set_id: instance.deployment_set.map(|set| set.to_string()),
        affinity: super::deployment_set::affinity_to_wire(&instance.affinity),
        host_id: instance.host.to_string(),
        decision_id: instance.decision.to_string(),
        disks: disks_to_wire(instance),
        network_interfaces: vec![NetworkInterface {
            id: instance.interface.to_string(),
            vpc_id: instance.vpc.to_string(),
            vswitch_id: instance.vswitch.to_string(),
            private_ip: instance.private_ip.to_string(),
            mac: instance.mac.to_string(),
            security_group_ids: instance
                .security_groups
                .iter()
                .map(ToString::to_string)
                .collect(),
        }],
        tags: instance.tags.clone(),
        deletion_protection: instance.deletion_protection,
        charge: super::charge::to_wire(&instance.charge),
        lock: instance.lock.map(super::charge::lock_to_wire),
        last_start: started.then(|| StartTimings {
            accepted_ms: milliseconds(timings.accepted_ns),
            prepared_ms: timings.prepared_ns.map(milliseconds),
            running_ms: timings.running_ns.map(milliseconds),
            first_output_ms: timings.first_output_ns.map(milliseconds),
        }),
        vmm_pid: instance.vmm_pid,
        api_to_first_guest_output_ms: timings.first_output_ns.map(milliseconds),
        created_at: instance.created_at.to_string(),
        started_at: instance.started_at.map(|at| at.to_string()),
        stopped_at: instance.stopped_at.map(|at| at.to_string()),
    }
}

/// The disks in the order the guest sees them, with the names Linux gives virtio disks.
fn disks_to_wire(instance: &model::Instance) -> Vec<AttachedDisk> {
    let system = instance.system_disk.iter().map(|id| (id, DiskRole::System));
    let data = instance.data_disks.iter().zip(iter::repeat(DiskRole::Data));
    system
        .chain(data)
        .zip('a'..='z')
        .map(|((id, role), letter)| AttachedDisk {
            disk_id: id.to_string(),
            role,
            device: Some(format!("vd{letter}")),
        })
        .collect()
}

fn mode_to_wire(mode: model::StoppedMode) -> StoppedMode {
    match mode {
        model::StoppedMode::KeepCharging => StoppedMode::KeepCharging,
        model::StoppedMode::StopCharging => StoppedMode::StopCharging,
        model::StoppedMode::NotApplicable => StoppedMode::NotApplicable,
    }
}

/// What is asked of a stop.
pub fn mode_from_wire(mode: KeepWhenStopped) -> model::StoppedMode {
    match mode {
        KeepWhenStopped::KeepCharging => model::StoppedMode::KeepCharging,
        KeepWhenStopped::StopCharging => model::StoppedMode::StopCharging,
    }
}

fn state_to_wire(state: State) -> InstanceState {
    match state {
        State::Pending => InstanceState::Pending,
        State::Starting => InstanceState::Starting,
        State::Running => InstanceState::Running,
        State::Stopping => InstanceState::Stopping,
        State::Stopped => InstanceState::Stopped,
    }
}

/// The state of that name, for a filter.
pub fn state_named(name: &str) -> ApiResult<State> {
    State::ALL
        .into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| {
            let names = State::ALL.map(State::name).join(", ");
            ApiProblem::invalid("state", format!("`{name}` is no state: {names}"))
        })
}

/// The command a request asks for. Only its form is judged here.
pub fn to_command(request: RunInstances, received: Received) -> ApiResult<commands::RunInstances> {
    let data_disks = request.data_disks.into_iter().enumerate();
    let groups = request.security_group_ids.iter().enumerate();
    let system_disk = request.system_disk.unwrap_or_default();
    Ok(commands::RunInstances {
        charging: super::charge::charging(request.charge.as_ref())?,
        request: commands::Request {
            client_token: request.client_token,
            dry_run: request.dry_run,
            received_ns: Some(received.0),
        },
        image: parse_id("image_id", &request.image_id)?,
        instance_type: request.instance_type,
        vcpus: request.vcpus,
        memory: request.memory_mib.map(ByteCount::from_mib),
        amount: request.count.unwrap_or(1),
        min_amount: request.min_count,
        start: request.start.unwrap_or(true),
        name: request.name,
        description: request.description,
        cmdline: request.cmdline.unwrap_or_default(),
        system_disk: SystemDisk {
            size: system_disk.size_gib.map(ByteCount::from_gib),
            delete_with_instance: system_disk.delete_with_instance,
        },
        data_disks: data_disks
            .map(|(index, disk)| data_disk(index, disk))
            .collect::<ApiResult<_>>()?,
        vswitch: parse_optional_id("vswitch_id", request.vswitch_id.as_ref())?,
        private_ip: request
            .private_ip
            .map(|ip| parse("private_ip", &ip, "an IPv4 address"))
            .transpose()?,
        security_groups: groups
            .map(|(index, id)| parse_id(&format!("security_group_ids[{index}]"), id))
            .collect::<ApiResult<_>>()?,
        tags: request.tags,
        deletion_protection: request.deletion_protection,
        zone: request.zone,
        deployment_set: parse_optional_id("deployment_set_id", request.deployment_set_id.as_ref())?,
        affinity: super::deployment_set::affinity(request.affinity)?,
    })
}

fn data_disk(index: usize, disk: NewDataDisk) -> ApiResult<DataDisk> {
    let field = |name: &str| format!("data_disks[{index}].{name}");
    match (disk.size_gib, disk.disk_id) {
        (Some(size_gib), None) => Ok(DataDisk::New {
            size: ByteCount::from_gib(size_gib),
            name: disk.name,
            delete_with_instance: disk.delete_with_instance.unwrap_or(true),
            category: super::disk::category(disk.category),
        }),
        (None, Some(id)) => {
            if disk.name.is_some() || disk.delete_with_instance.is_some() || disk.category.is_some()
            {
                return Err(ApiProblem::invalid(
                    field("disk_id"),
                    "an existing disk keeps its name, its category and its delete_with_instance",
                ));
            }
            Ok(DataDisk::Existing(parse_id(&field("disk_id"), &id)?))
        }
        _ => Err(ApiProblem::invalid(
            field("size_gib"),
            "a data disk has size_gib (a new disk) or disk_id (an existing one)",
        )),
    }
}
