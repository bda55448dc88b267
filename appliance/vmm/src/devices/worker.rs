//! A device's thread and how it is told what to do.
//!
//! ```text
//!   started ──► idle ──activate──► serving ──reset──► draining ──► idle
//!                └───────────────────┴──── stop ─────────┴──► ended (joined by the drop)
//! ```

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use virtio::{Activation, ResetDone};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Enough for the loops here, which keep their state on the heap; a page or three of it is ever touched.
const STACK_BYTES: usize = 128 << 10;

/// Kinds of device threads, for their confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ThreadKind {
    /// Serves a disk.
    Block,
    /// Serves a network card.
    Net,
}

/// What any Rust thread needs to work, allocate, wait for a lock and end.
const BASE_SYSCALLS: [libc::c_long; 15] = [
    libc::SYS_brk,
    libc::SYS_close,
    libc::SYS_exit,
    libc::SYS_futex,
    libc::SYS_gettid,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
];

/// Interrupts are writes to event descriptors, commands come by one.
const BLOCK_SYSCALLS: &[libc::c_long] =
    &[libc::SYS_io_uring_enter, libc::SYS_read, libc::SYS_write];

/// As for disks, with the tap's packets and its offload settings (the only ioctl: TUNSETOFFLOAD).
const NET_SYSCALLS: &[libc::c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_ioctl,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
];

/// What the entropy device adds to the calls of the vCPU threads, which serve it.
pub(crate) const RNG_SYSCALLS: &[libc::c_long] = &[libc::SYS_getrandom, libc::SYS_write];

impl ThreadKind {
    /// The system calls such a thread makes once it is confined.
    pub fn syscalls(self) -> Vec<libc::c_long> {
        let own = match self {
            ThreadKind::Block => BLOCK_SYSCALLS,
            ThreadKind::Net => NET_SYSCALLS,
        };
        BASE_SYSCALLS.iter().chain(own).copied().collect()
    }
}

/// Confines the calling thread; called by each device thread when it has all it needs.
pub(crate) type Confine = Arc<dyn Fn(ThreadKind) -> io::Result<()> + Send + Sync>;

/// What a device's thread is told.
pub(crate) enum Command {
    /// Serve these queues.
    Activate(Activation),
    /// Forget the queues, then drop this.
    Reset(ResetDone),
    /// End.
    Stop,
}

/// Commands on their way. The transport lets an activation follow only a finished reset, so there are few.
pub(crate) struct Mailbox {
    commands: Mutex<Option<VecDeque<Command>>>,
    /// Written after each post.
    pub(crate) bell: Arc<EventFd>,
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        let bell = Arc::new(event()?);
        let commands = Mutex::new(Some(VecDeque::new()));
        Ok(Self { commands, bell })
    }

    fn commands(&self) -> MutexGuard<'_, Option<VecDeque<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a command and wakes the thread. Once the thread has ended the command is dropped, which finishes a
    /// reset.
    pub(crate) fn post(&self, command: Command) {
        if let Some(commands) = self.commands().as_mut() {
            commands.push_back(command);
        }
        // Fails only if the counter is about to overflow: then a wake-up is pending anyway.
        let _ = self.bell.write(1);
    }

    /// The next command.
    pub(crate) fn take(&self) -> Option<Command> {
        self.commands().as_mut()?.pop_front()
    }
}

/// Closes the mailbox when its thread ends, also by a panic: by then nothing of the guest's is touched any more.
struct CloseOnDrop(Arc<Mailbox>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        let left = self.0.commands().take();
        drop(left);
    }
}

/// A thread on its way to where it is confined and ready.
pub(crate) struct Starting(Receiver<io::Result<()>>);

impl Starting {
    /// Waits until it is there.
    ///
    /// # Errors
    /// What kept it from that.
    pub(crate) fn done(self) -> io::Result<()> {
        self.0
            .recv()
            .map_err(|_| io::Error::other("the thread panicked while it started"))?
    }
}

/// A running thread; dropping it tells the thread to stop and waits for that.
pub(crate) struct Worker {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread that runs what `prepare` makes, after confining itself.
    pub(crate) fn start<P, R>(
        name: &str,
        kind: ThreadKind,
        confine: &Confine,
        prepare: P,
    ) -> io::Result<(Self, Starting)>
    where
        P: FnOnce(Arc<Mailbox>) -> io::Result<R> + Send + 'static,
        R: FnOnce() + 'static,
    {
        let mailbox = Arc::new(Mailbox::new()?);
        let (report, started) = sync_channel(1);
        let (its_mailbox, confine) = (Arc::clone(&mailbox), Arc::clone(confine));
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let _close = CloseOnDrop(Arc::clone(&its_mailbox));
                let ready = prepare(its_mailbox).and_then(|run| confine(kind).map(|()| run));
                let run = match ready {
                    Ok(run) => run,
                    Err(error) => return drop(report.send(Err(error))),
                };
                let sent = report.send(Ok(()));
                drop(report);
                if sent.is_ok() {
                    run();
                }
            })?;
        let worker = Worker {
            mailbox,
            thread: Some(thread),
        };
        Ok((worker, Starting(started)))
    }

    /// The thread's mailbox.
    pub(crate) fn mailbox(&self) -> &Mailbox {
        &self.mailbox
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.mailbox.post(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by the thread itself.
            let _ = thread.join();
        }
    }
}

/// A new event descriptor.
pub(crate) fn event() -> io::Result<EventFd> {
    EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::testing::{unconfined, until};

    #[test]
    fn what_is_posted_to_a_thread_that_is_gone_is_dropped() {
        let ends: [fn(); 2] = [
            || {},
            || panic!("a panic of the device's thread, as the test wants"),
        ];
        for end in ends {
            let worker = Worker::start("test", ThreadKind::Block, &unconfined(), move |_| Ok(end));
            let (worker, starting) = worker.expect("a thread");
            starting.done().expect("started");
            until("the end of the thread", || {
                worker.mailbox().commands().is_none()
            });
            worker.mailbox().post(Command::Stop);
            assert!(worker.mailbox().take().is_none());
        }
    }

    #[test]
    fn a_thread_that_cannot_prepare_or_be_confined_is_an_error() {
        let refused = |_: Arc<Mailbox>| -> io::Result<fn()> { Err(io::Error::other("no ring")) };
        let begun = Worker::start("test", ThreadKind::Net, &unconfined(), refused);
        let failed = begun.and_then(|(_worker, starting)| starting.done());
        assert_eq!(
            failed.err().map(|error| error.to_string()).as_deref(),
            Some("no ring")
        );
        let confine: Confine = Arc::new(|_| Err(io::Error::other("no filter")));
        let begun = Worker::start("test", ThreadKind::Net, &confine, |_| Ok(|| ()));
        let failed = begun.and_then(|(_worker, starting)| starting.done());
        assert_eq!(
            failed.err().map(|error| error.to_string()).as_deref(),
            Some("no filter")
        );
    }
}
