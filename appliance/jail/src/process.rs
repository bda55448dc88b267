//! A process held by its pidfd: ours, or adopted from a daemon that is no more.

use std::fs;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::Error;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned or called `exit` with this status, 0–255.
    Code(i32),
    /// This signal ended it; a seccomp violation is `SIGSYS`.
    Signal(i32),
    /// It is gone, but it was not our child (or somebody else reaped it), so its status is not known.
    Unknown,
}

/// A child made by [`crate::spawn`].
pub type Child = Process;

/// A process that cannot be mistaken for a later one with the same pid.
///
/// Async use: the descriptor ([`AsFd`]) becomes readable when the process ends; wait for that (for instance with
/// tokio's `AsyncFd`), then call [`Process::try_wait`]. Dropping a `Process` neither ends nor reaps it.
#[derive(Debug)]
pub struct Process {
    pid: libc::pid_t,
    pidfd: OwnedFd,
}

impl Process {
    pub(crate) fn new(pid: libc::pid_t, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd }
    }

    /// Takes up a running process that may not be our child. `started` is what [`Process::started`] said of it before:
    /// if the pid now belongs to another process, the result is `None`, as it is when there is no such process.
    ///
    /// # Errors
    /// When the kernel refuses the pidfd for another reason, or /proc cannot be read.
    pub fn adopt(pid: libc::pid_t, started: Option<u64>) -> Result<Option<Self>, Error> {
        const STEP: &str = "adopt a running process by its pid";
        // SAFETY: a plain system call without pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if fd < 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                Some(libc::ESRCH) => Ok(None),
                _ => Err(Error::Step { step: STEP, source }),
            };
        }
        let fd = RawFd::try_from(fd)
            .map_err(|_| Error::Request("the kernel gave no descriptor".into()))?;
        // SAFETY: `pidfd_open` just returned this descriptor and nobody else has it.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        let process = Self { pid, pidfd };
        // The pidfd is open, so the pid cannot change hands between this look and the caller's use.
        if let Some(expected) = started
            && process.started()? != Some(expected)
        {
            return Ok(None);
        }
        Ok(Some(process))
    }

    /// The pid, as the spawning daemon's namespace sees it.
    #[must_use]
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// When the process started, in clock ticks since the host booted: together with the pid it identifies the process
    /// across a restart of the daemon. `None` once it is gone.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn started(&self) -> Result<Option<u64>, Error> {
        let stat = match fs::read_to_string(format!("/proc/{}/stat", self.pid)) {
            Ok(stat) => stat,
            Err(e)
                if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(libc::ESRCH) =>
            {
                return Ok(None);
            }
            Err(source) => {
                return Err(Error::Step {
                    step: "read the start time of a process from /proc",
                    source,
                });
            }
        };
        // proc(5): field 22; the command name (field 2) is in parentheses and may contain anything.
        let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        Ok(after_name
            .split(' ')
            .nth(19)
            .and_then(|ticks| ticks.parse().ok()))
    }

    /// Sends a signal. A jailed process is pid 1 of its namespace: only `SIGKILL`, `SIGSTOP` and signals it
    /// handles have an effect. A process that is gone already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        // SAFETY: the descriptor is ours; a null siginfo is allowed.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Error::check("send a signal to a process", sent) {
            Err(Error::Step { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Ends the process at once (`SIGKILL`).
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(libc::SIGKILL)
    }

    /// How the process ended, and reaps it if it is ours; `None` while it runs. Never blocks.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn try_wait(&self) -> Result<Option<Exit>, Error> {
        let fd = libc::id_t::try_from(self.pidfd.as_raw_fd())
            .map_err(|_| Error::Request("a negative descriptor".into()))?;
        // SAFETY: an all-zero siginfo_t is a valid value; the kernel only writes to it.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        // SAFETY: `info` lives through the call; the descriptor is our own pidfd.
        let waited = unsafe {
            libc::waitid(
                libc::P_PIDFD,
                fd,
                &raw mut info,
                libc::WEXITED | libc::WNOHANG,
            )
        };
        if waited < 0 {
            let source = io::Error::last_os_error();
            return match source.raw_os_error() {
                // Not our child: the pidfd only tells whether it is gone.
                Some(libc::ECHILD) => Ok(self.gone(Some(Duration::ZERO))?.then_some(Exit::Unknown)),
                Some(libc::EINTR) => Ok(None),
                _ => Err(Error::Step {
                    step: "wait for a process",
                    source,
                }),
            };
        }
        // SAFETY: waitid filled in the SIGCHLD fields or left the structure zeroed.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        Ok((pid != 0).then_some(match info.si_code {
            libc::CLD_EXITED => Exit::Code(status),
            _ => Exit::Signal(status),
        }))
    }

    /// Blocks until the process has ended, at most for `timeout` (`None`: for ever); `None` when time ran out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Option<Exit>, Error> {
        if !self.gone(timeout)? {
            return Ok(None);
        }
        self.try_wait()
    }

    /// Polls the pidfd, which becomes readable when the process ends.
    fn gone(&self, timeout: Option<Duration>) -> Result<bool, Error> {
        let deadline = timeout.map(|t| std::time::Instant::now() + t);
        loop {
            let millis = deadline.map_or(-1, |d| {
                let left = d.saturating_duration_since(std::time::Instant::now());
                // Rounded up, so that the last wait does not spin.
                i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
            });
            let mut poll = libc::pollfd {
                fd: self.pidfd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one valid pollfd that lives through the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, millis) };
            match ready {
                0 if deadline.is_some_and(|d| std::time::Instant::now() < d) => {}
                0 => return Ok(false),
                n if n > 0 => return Ok(true),
                _ => {
                    let source = io::Error::last_os_error();
                    if source.raw_os_error() != Some(libc::EINTR) {
                        return Err(Error::Step {
                            step: "poll the pidfd of a process",
                            source,
                        });
                    }
                }
            }
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl AsRawFd for Process {
    fn as_raw_fd(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }
}
