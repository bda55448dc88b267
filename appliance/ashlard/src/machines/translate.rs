//! Between the port's words and the vmm's: a machine's description, and what failures mean.

use control::{
    model::BootProtocol,
    ports::{MachineSpec, PortError, PortErrorKind},
};
use std::os::fd::OwnedFd;
use types::InstanceId;
use vmm::{
    client::ClientError,
    launch::LaunchError,
    protocol::{Boot, Disk, Kernel, MachineConfig, Nic, StartError},
};

/// The vmm's description of a machine.
pub fn machine(spec: MachineSpec, memory: OwnedFd, console: OwnedFd) -> MachineConfig<OwnedFd> {
    let kernel = Kernel {
        image: spec.kernel.into(),
        initrd: spec.initrd.map(OwnedFd::from),
        cmdline: spec.cmdline,
    };
    MachineConfig {
        vcpus: spec.vcpus,
        memory_bytes: spec.memory.bytes(),
        boot: match spec.boot {
            BootProtocol::Pvh => Boot::Pvh(kernel),
            BootProtocol::Linux => Boot::Linux(kernel),
        },
        disks: spec
            .disks
            .into_iter()
            .map(|disk| Disk {
                serial: disk.id.body().to_owned(),
                file: disk.file.into(),
                read_only: false,
            })
            .collect(),
        nics: spec
            .interfaces
            .into_iter()
            .map(|interface| Nic {
                tap: interface.tap,
                mac: interface.mac.octets(),
                mtu: 1500,
            })
            .collect(),
        rng: true,
        host: vmm::protocol::Host { memory, console },
    }
}

pub fn not_running(instance: InstanceId) -> PortError {
    PortError::new(
        PortErrorKind::NotFound,
        format!("{instance} has no machine"),
    )
}

pub fn client_failure(instance: InstanceId, error: ClientError) -> PortError {
    let kind = match error {
        ClientError::Closed => PortErrorKind::NotFound,
        ClientError::Refused(_) => PortErrorKind::Invalid,
        ClientError::Timeout | ClientError::Unexpected(_) => PortErrorKind::Failed,
    };
    PortError::new(kind, format!("the vmm of {instance} did not do it")).with_source(error)
}

pub fn launch_failure(instance: InstanceId, error: LaunchError) -> PortError {
    let kind = match &error {
        LaunchError::Start(error) => match error {
            StartError::Kvm { .. } => PortErrorKind::Unsupported,
            StartError::Device { .. } | StartError::Host { .. } => PortErrorKind::Failed,
            _ => PortErrorKind::Invalid,
        },
        _ => PortErrorKind::Failed,
    };
    PortError::new(kind, format!("cannot start the machine of {instance}")).with_source(error)
}
