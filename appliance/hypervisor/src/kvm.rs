//! Opening KVM and checking that it can do what a machine needs.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use kvm_ioctls::Cap;

use crate::{KvmError, MAX_VCPUS, Vm};

const API_VERSION: i32 = 12;

const NEEDED: [(Cap, &str); 7] = [
    (Cap::UserMemory, "user memory slots (KVM_CAP_USER_MEMORY)"),
    (
        Cap::Irqchip,
        "the in-kernel interrupt controllers (KVM_CAP_IRQCHIP)",
    ),
    (Cap::Pit2, "the in-kernel timer (KVM_CAP_PIT2)"),
    (Cap::Irqfd, "irqfd (KVM_CAP_IRQFD)"),
    (Cap::Ioeventfd, "ioeventfd (KVM_CAP_IOEVENTFD)"),
    (Cap::IrqRouting, "interrupt routing (KVM_CAP_IRQ_ROUTING)"),
    (
        Cap::ImmediateExit,
        "immediate exit (KVM_CAP_IMMEDIATE_EXIT)",
    ),
];

/// An open KVM device that has all a machine needs.
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
}

impl Kvm {
    /// Opens the device at `path` (normally `/dev/kvm`).
    ///
    /// # Errors
    /// The device is missing, may not be opened, is not KVM or lacks a capability.
    pub fn open(path: &Path) -> Result<Self, KvmError> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let file = opened.map_err(|source| explain(path, source))?;
        Self::from_fd(file.into()).map_err(|error| match error {
            // No version at all: another device, or a file.
            KvmError::Version { found: ..0 } => KvmError::NotKvm { path: path.into() },
            other => other,
        })
    }

    /// Takes over an open descriptor of the device.
    ///
    /// # Errors
    /// The descriptor is not KVM or the kernel lacks a capability.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, KvmError> {
        // SAFETY: `into_raw_fd` gives up ownership, which the new object takes; any descriptor is sound here,
        // for KVM's requests on another device fail.
        let fd = unsafe { kvm_ioctls::Kvm::from_raw_fd(fd.into_raw_fd()) };
        let found = fd.get_api_version();
        if found != API_VERSION {
            return Err(KvmError::Version { found });
        }
        for (capability, name) in NEEDED {
            if !fd.check_extension(capability) {
                return Err(KvmError::Lacking { capability: name });
            }
        }
        Ok(Self { fd })
    }

    /// The most vCPUs a machine can have here: KVM's limit, at most [`MAX_VCPUS`].
    pub fn max_vcpus(&self) -> u8 {
        let limit = u8::try_from(self.fd.get_max_vcpus()).unwrap_or(u8::MAX);
        limit.min(MAX_VCPUS)
    }

    /// Makes an empty machine.
    ///
    /// # Errors
    /// The kernel refuses (out of memory or of machines).
    pub fn create_vm(&self) -> Result<Arc<Vm>, KvmError> {
        let fd = self
            .fd
            .create_vm()
            .map_err(KvmError::of("creating a machine"))?;
        Ok(Arc::new(Vm::new(fd)))
    }

    pub(crate) fn raw(&self) -> &kvm_ioctls::Kvm {
        &self.fd
    }
}

impl AsFd for Kvm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self`, from which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }
}

fn explain(path: &Path, source: std::io::Error) -> KvmError {
    let path = path.to_path_buf();
    let no_device = [libc::ENODEV, libc::ENXIO]
        .map(Some)
        .contains(&source.raw_os_error());
    match source.kind() {
        _ if no_device => KvmError::Absent { path },
        ErrorKind::NotFound => KvmError::Absent { path },
        ErrorKind::PermissionDenied => match std::fs::metadata(&path) {
            Ok(meta) => KvmError::Denied {
                path,
                uid: meta.uid(),
                gid: meta.gid(),
                mode: meta.mode() & 0o7777,
            },
            Err(_) => KvmError::Open { path, source },
        },
        _ => KvmError::Open { path, source },
    }
}
