//! The system calls each kind of thread may make; everything else ends the process.
//!
//! The control thread's list holds all others', because threads inherit it; each of the others narrows it down to
//! its own. It takes no input from the guest.

use std::io;

use jail::{Allow, Filter, OnViolation, RUST_RUNTIME};

use crate::devices::{RNG_SYSCALLS, ThreadKind};
use crate::protocol::StartError;

const KVM_RUN: u32 = 0xAE80;
const KVM_GET_REGS: u32 = 0x8090_AE81;
const KVM_IRQ_LINE: u32 = 0x4008_AE61;
const KVM_SET_GSI_ROUTING: u32 = 0x4008_AE6A;
const KVM_IRQFD: u32 = 0x4020_AE76;
const KVM_IOEVENTFD: u32 = 0x4040_AE79;
const PR_SET_NAME: u32 = 15;
const PR_SET_NO_NEW_PRIVS: u32 = 38;

/// Asking whether a descriptor is open, as builds with debug assertions do whenever one is closed.
const ANY_THREAD: &[Allow] = &[Allow::When {
    number: libc::SYS_fcntl,
    argument: 1,
    values: &[libc::F_GETFD.unsigned_abs()],
}];

/// Running the guest, programming its interrupts and doorbells, raising events.
const VCPU: &[Allow] = &[
    Allow::When {
        number: libc::SYS_ioctl,
        argument: 1,
        values: &[
            KVM_RUN,
            KVM_GET_REGS,
            KVM_IRQ_LINE,
            KVM_SET_GSI_ROUTING,
            KVM_IRQFD,
            KVM_IOEVENTFD,
        ],
    },
    Allow::Any(libc::SYS_eventfd2),
    Allow::Any(libc::SYS_write),
];

/// Making (and after a reset making again) the machine and its threads, and talking to the daemon. Its `ioctl`s are
/// those of making a machine on descriptors the daemon gave; there are too many to list and none of them opens
/// anything.
const CONTROL: &[Allow] = &[
    Allow::Any(libc::SYS_ioctl),
    Allow::Any(libc::SYS_eventfd2),
    Allow::Any(libc::SYS_read),
    Allow::Any(libc::SYS_readv),
    Allow::Any(libc::SYS_pread64),
    Allow::Any(libc::SYS_write),
    Allow::Any(libc::SYS_writev),
    Allow::Any(libc::SYS_lseek),
    Allow::Any(libc::SYS_fstat),
    Allow::Any(libc::SYS_statx),
    Allow::Any(libc::SYS_newfstatat),
    Allow::Any(libc::SYS_fcntl),
    Allow::Any(libc::SYS_fallocate),
    Allow::Any(libc::SYS_epoll_create1),
    Allow::Any(libc::SYS_epoll_ctl),
    Allow::Any(libc::SYS_epoll_wait),
    Allow::Any(libc::SYS_epoll_pwait),
    Allow::Any(libc::SYS_epoll_pwait2),
    Allow::Any(libc::SYS_poll),
    Allow::Any(libc::SYS_ppoll),
    Allow::Any(libc::SYS_accept4),
    Allow::Any(libc::SYS_recvfrom),
    Allow::Any(libc::SYS_sendto),
    Allow::Any(libc::SYS_getsockopt),
    Allow::Any(libc::SYS_clone),
    Allow::Any(libc::SYS_clone3),
    Allow::Any(libc::SYS_tgkill),
    Allow::Any(libc::SYS_prlimit64),
    Allow::Any(libc::SYS_io_uring_setup),
    Allow::Any(libc::SYS_io_uring_register),
    Allow::Any(libc::SYS_io_uring_enter),
    Allow::Any(libc::SYS_seccomp),
    Allow::When {
        number: libc::SYS_prctl,
        argument: 0,
        values: &[PR_SET_NAME, PR_SET_NO_NEW_PRIVS],
    },
];

/// The filters of a process, compiled once.
pub(crate) struct Confinement {
    control: Filter,
    vcpu: Filter,
    block: Filter,
    net: Filter,
}

impl Confinement {
    /// Compiles the filters.
    pub(crate) fn compile() -> Result<Self, StartError> {
        let compile = |lists: &[&[Allow]]| Filter::compile(lists, OnViolation::KillProcess);
        let failed = || StartError::host::<jail::Error>("confining the process");
        let device = |kind: ThreadKind| any(&kind.syscalls());
        let (block, net) = (device(ThreadKind::Block), device(ThreadKind::Net));
        let entropy = any(RNG_SYSCALLS);
        Ok(Self {
            control: compile(&[RUST_RUNTIME, CONTROL, &block, &net, &entropy]).map_err(failed())?,
            vcpu: compile(&[RUST_RUNTIME, ANY_THREAD, VCPU, &entropy]).map_err(failed())?,
            block: compile(&[RUST_RUNTIME, ANY_THREAD, &block]).map_err(failed())?,
            net: compile(&[RUST_RUNTIME, ANY_THREAD, &net]).map_err(failed())?,
        })
    }

    /// Confines the calling control thread, hence all threads it starts.
    pub(crate) fn control(&self) -> Result<(), StartError> {
        self.control
            .install()
            .map_err(StartError::host("confining the process"))
    }

    /// Confines the calling vCPU thread.
    pub(crate) fn vcpu(&self) -> io::Result<()> {
        self.vcpu.install().map_err(io::Error::other)
    }

    /// Confines the calling device thread.
    pub(crate) fn device(&self, kind: ThreadKind) -> io::Result<()> {
        let filter = match kind {
            ThreadKind::Block => &self.block,
            ThreadKind::Net => &self.net,
        };
        filter.install().map_err(io::Error::other)
    }
}

fn any(numbers: &[libc::c_long]) -> Vec<Allow> {
    numbers.iter().map(|number| Allow::Any(*number)).collect()
}
