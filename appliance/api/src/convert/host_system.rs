//! The machine under the daemon.

use api_types as wire;
use control::model::{HostConfiguration, HostStatus, UpdateState, UpdateStatus};

pub fn system_to_wire(status: &HostStatus, update: Option<&UpdateStatus>) -> wire::HostSystem {
    wire::HostSystem {
        host_id: status.host_id.clone(),
        version: status.version.clone(),
        variant: status.variant.clone(),
        hostname: status.hostname.clone(),
        booted_slot: status.booted.map(|slot| slot.to_string()),
        slots: status
            .slots
            .iter()
            .map(|slot| wire::HostSlot {
                slot: slot.slot.to_string(),
                version: slot.version.clone(),
                state: slot.state.clone(),
                tries_left: slot.tries_left,
            })
            .collect(),
        update: update.map(update_to_wire),
        live_daemon: status.live.as_ref().map(|live| live.version.clone()),
        faults: status
            .faults
            .iter()
            .map(|fault| wire::HostFault {
                what: fault.what.clone(),
                message: fault.message.clone(),
                next_step: fault.next_step.clone(),
            })
            .collect(),
        addresses: status.addresses.clone(),
        certificate_sha256: status.certificate_sha256.clone(),
        security_floor: status.security_floor,
        configuration_source: status.configuration_source.clone(),
        data: status.data.as_ref().map(|path| path.display().to_string()),
        secure_boot: status.secure_boot,
        measurements: status.measurements.clone(),
        boots: status.boots,
        memory_used_kib: status.memory_used_kib,
    }
}

pub fn update_to_wire(update: &UpdateStatus) -> wire::HostUpdate {
    let state = match update.state {
        UpdateState::Receiving => "Receiving",
        UpdateState::Staged => "Staged",
        UpdateState::Applying => "Applying",
        UpdateState::Trial => "Trial",
        UpdateState::Good => "Good",
        UpdateState::Failed => "Failed",
    };
    wire::HostUpdate {
        id: update.id.clone(),
        state: state.to_owned(),
        from: update.from.clone(),
        to: update.to.clone(),
        slot: update.slot.map(|slot| slot.to_string()),
        file: update.file.clone(),
        bytes_done: update.bytes_done,
        bytes_total: update.bytes_total,
        reason: update.reason.clone(),
    }
}

pub fn configuration_to_wire(found: HostConfiguration) -> wire::HostConfiguration {
    wire::HostConfiguration {
        source: found.source,
        text: found.text,
        pending: found.pending,
    }
}
