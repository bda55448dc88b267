//! Getting a vCPU thread out of the guest.

use std::os::fd::AsRawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::KvmError;

const PAGE: usize = 4096;

/// Makes a vCPU's [`crate::Vcpu::run`] return [`crate::Exit::Kicked`] soon, whether it is in the guest, about
/// to enter it, or not running yet. Held by any thread; outlives the vCPU.
pub struct Kick {
    /// A mapping of its own of the vCPU's run page, so that it is valid as long as `self`.
    page: *mut u8,
    thread: AtomicI32,
}

// SAFETY: `page` is a mapping owned by `self`, and only the one byte `immediate_exit` is accessed, atomically.
unsafe impl Send for Kick {}
// SAFETY: as above.
unsafe impl Sync for Kick {}

impl Kick {
    pub(crate) fn new(vcpu: &VcpuFd) -> Result<Self, KvmError> {
        static HANDLER: Once = Once::new();
        extern "C" fn ignore(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        // The handler only has to exist, so that the signal interrupts KVM_RUN and nothing else.
        HANDLER.call_once(|| {
            let _ = register_signal_handler(SIGRTMIN(), ignore);
        });
        // SAFETY: a new shared mapping of one page at an address the kernel chooses; the result is checked.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(KvmError::io("mapping a vCPU's run page")(
                std::io::Error::last_os_error(),
            ));
        }
        Ok(Self {
            page: page.cast(),
            thread: AtomicI32::new(0),
        })
    }

    /// Kicks the vCPU. A kick before `run` makes that `run` return at once; kicks do not add up.
    pub fn kick(&self) {
        self.immediate_exit().store(1, Ordering::SeqCst);
        let thread = self.thread.load(Ordering::SeqCst);
        if thread != 0 {
            // SAFETY: sending a signal to a thread of this process touches no memory; a thread that has ended
            // makes it fail, which is fine.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGRTMIN()) };
        }
    }

    /// The calling thread is the one to signal from now on.
    pub(crate) fn bind(&self) {
        // SAFETY: no arguments, cannot fail.
        let thread = unsafe { libc::gettid() };
        self.thread.store(thread, Ordering::SeqCst);
    }

    /// No thread is to be signalled any more.
    pub(crate) fn unbind(&self) {
        self.thread.store(0, Ordering::SeqCst);
    }

    /// Forgets kicks so far.
    pub(crate) fn clear(&self) {
        self.immediate_exit().store(0, Ordering::SeqCst);
    }

    fn immediate_exit(&self) -> &AtomicU8 {
        // SAFETY: the offset lies in the page mapped by `new`, valid until `drop`; a byte is always aligned, and
        // other parties (KVM, another mapping) access it as a single byte too.
        unsafe { AtomicU8::from_ptr(self.page.add(std::mem::offset_of!(kvm_run, immediate_exit))) }
    }
}

impl Drop for Kick {
    fn drop(&mut self) {
        // SAFETY: unmaps exactly what `new` mapped; no reference into it outlives `self`.
        unsafe { libc::munmap(self.page.cast(), PAGE) };
    }
}
