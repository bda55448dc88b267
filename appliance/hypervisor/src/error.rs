//! What can go wrong between the process and KVM.

use std::path::PathBuf;

/// Why KVM could not be used. Messages say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    /// The device node does not exist or nothing stands behind it.
    #[error("{}: no such device; is the kvm module loaded, does this machine have virtualisation?", path.display())]
    Absent {
        /// The device node.
        path: PathBuf,
    },
    /// The device exists but may not be opened by this user.
    #[error(
        "{}: permission denied; it belongs to user {uid}, group {gid}, mode {mode:04o}: \
         run as root, or join that group and give it mode 0660", path.display()
    )]
    Denied {
        /// The device node.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its permission bits.
        mode: u32,
    },
    /// Opening failed otherwise.
    #[error("{}: cannot be opened", path.display())]
    Open {
        /// The device node.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// What is there is not KVM.
    #[error("{}: not KVM; name the KVM device, normally /dev/kvm", path.display())]
    NotKvm {
        /// What was named.
        path: PathBuf,
    },
    /// The descriptor is not KVM's, or the kernel speaks another version of its interface.
    #[error(
        "KVM interface version {found}, need 12: this is not /dev/kvm, or the kernel is too old"
    )]
    Version {
        /// What the descriptor answered; negative if it is not KVM.
        found: i32,
    },
    /// The kernel's KVM lacks something a machine needs.
    #[error("this kernel's KVM lacks {capability}; a newer kernel is needed")]
    Lacking {
        /// Name of the capability.
        capability: &'static str,
    },
    /// An operation on a machine or a vCPU failed.
    #[error("KVM: {operation} failed")]
    Operation {
        /// What was asked.
        operation: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
}

impl KvmError {
    /// Maps an errno of kvm-ioctls.
    pub(crate) fn of(operation: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Operation {
            operation,
            source: error.into(),
        }
    }

    /// Maps an I/O error.
    pub(crate) fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Operation { operation, source }
    }
}
