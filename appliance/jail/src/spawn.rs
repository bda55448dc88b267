//! The parent's side: one `clone` that shares memory until `exec`, like `vfork`, so its cost does not grow with the daemon.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::ptr;

use crate::confine::IDENTITY_VARIABLE;
use crate::{Child, Error, empty_network};

/// Limits of a jailed process (`setrlimit`); soft = hard. Core dumps are always off. A value above the daemon's own
/// hard limit counts only if the daemon may raise it (CAP_SYS_RESOURCE); otherwise the daemon's limit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The highest descriptor number + 1.
    pub open_files: u64,
    /// Threads of the process's own uid, all of its processes together.
    pub threads: u64,
    /// Bytes it may lock or register with io_uring.
    pub locked_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            open_files: 1024,
            threads: 256,
            locked_bytes: u64::MAX,
        }
    }
}

/// What to start and in which confinement.
#[derive(Debug)]
pub struct JailedCommand<'a> {
    executable: BorrowedFd<'a>,
    args: Vec<CString>,
    env: Vec<CString>,
    fds: Vec<(BorrowedFd<'a>, RawFd)>,
    uid: u32,
    gid: u32,
    limits: Limits,
    cgroups: Vec<PathBuf>,
    network: Option<BorrowedFd<'a>>,
}

impl<'a> JailedCommand<'a> {
    /// `executable` is an open file (the daemon's own: open `/proc/self/exe`), `name` its `argv[0]`. `uid` and `gid`
    /// belong to this process alone and are not 0.
    ///
    /// # Errors
    /// When `name` holds a NUL byte, or an id is 0.
    pub fn new(executable: BorrowedFd<'a>, name: &str, uid: u32, gid: u32) -> Result<Self, Error> {
        if uid == 0 || gid == 0 {
            return Err(Error::Request(format!(
                "uid {uid} and gid {gid}: a jailed process must not be root"
            )));
        }
        Ok(Self {
            executable,
            args: vec![c_string(name)?],
            env: Vec::new(),
            fds: Vec::new(),
            uid,
            gid,
            limits: Limits::default(),
            cgroups: Vec::new(),
            network: None,
        })
    }

    /// Adds one argument.
    ///
    /// # Errors
    /// When it holds a NUL byte.
    pub fn arg(mut self, arg: &str) -> Result<Self, Error> {
        self.args.push(c_string(arg)?);
        Ok(self)
    }

    /// Adds one environment variable; the daemon's own environment is not passed on.
    ///
    /// # Errors
    /// When it holds a NUL byte.
    pub fn env(mut self, name: &str, value: &str) -> Result<Self, Error> {
        self.env.push(c_string(&format!("{name}={value}"))?);
        Ok(self)
    }

    /// Passes `fd` on under the number `number` (0–1023). 0, 1 and 2 are /dev/null unless passed; nothing else is open.
    #[must_use]
    pub fn fd(mut self, fd: BorrowedFd<'a>, number: RawFd) -> Self {
        self.fds.push((fd, number));
        self
    }

    /// Other limits than the default.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Puts the process into this existing cgroup directory before it executes anything. Once with cgroup v2, once per
    /// controller with v1.
    #[must_use]
    pub fn cgroup(mut self, directory: &Path) -> Self {
        self.cgroups.push(directory.to_owned());
        self
    }

    /// Another network namespace than [`empty_network`].
    #[must_use]
    pub fn network(mut self, namespace: BorrowedFd<'a>) -> Self {
        self.network = Some(namespace);
        self
    }
}

/// Starts the command. When this returns, the child has executed it and goes on to [`crate::confine_self`].
///
/// # Errors
/// Names the step that failed; no process is left then.
pub fn spawn(command: &JailedCommand<'_>) -> Result<Child, Error> {
    let plan = Plan::new(command)?;
    plan.run()
}

/// Everything the child needs, allocated before the clone: the child itself must not allocate or lock.
struct Plan<'a> {
    executable: RawFd,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    fds: Vec<(RawFd, RawFd)>,
    /// Where the descriptors are parked while they are renumbered: above every target.
    park_from: RawFd,
    parked: Vec<RawFd>,
    limits: [(c_int, u64); 4],
    cgroups: Vec<File>,
    network: RawFd,
    failure: Failure,
    _null: File,
    _identity: CString,
    _command: &'a JailedCommand<'a>,
}

/// Written by the child in the memory it shares with the suspended parent.
#[derive(Clone, Copy)]
struct Failure {
    step: Option<&'static str>,
    errno: c_int,
}

/// Room for the child's few frames before `exec`.
const STACK_BYTES: usize = 64 << 10;
/// The largest descriptor number a caller may ask for, + 1.
const FD_NUMBERS: RawFd = 1024;

impl<'a> Plan<'a> {
    fn new(command: &'a JailedCommand<'a>) -> Result<Self, Error> {
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(|source| Error::Step {
                step: "open /dev/null for the child's standard streams",
                source,
            })?;
        let mut fds: Vec<(RawFd, RawFd)> = Vec::with_capacity(command.fds.len() + 3);
        for (fd, number) in &command.fds {
            if !(0..FD_NUMBERS).contains(number) {
                return Err(Error::Request(format!(
                    "descriptor number {number} is not within 0–{}",
                    FD_NUMBERS - 1
                )));
            }
            if fds.iter().any(|(_, taken)| taken == number) {
                return Err(Error::Request(format!(
                    "descriptor number {number} is given twice"
                )));
            }
            fds.push((fd.as_raw_fd(), *number));
        }
        for stream in 0..3 {
            if !fds.iter().any(|(_, number)| *number == stream) {
                fds.push((null.as_raw_fd(), stream));
            }
        }
        let highest = fds.iter().map(|(_, number)| *number).max().unwrap_or(2);
        let cgroups = command
            .cgroups
            .iter()
            .map(|dir| open_cgroup(dir))
            .collect::<Result<_, _>>()?;
        let network = match command.network {
            Some(fd) => fd,
            None => empty_network()?,
        };
        let identity = c_string(&format!(
            "{IDENTITY_VARIABLE}={}:{}",
            command.uid, command.gid
        ))?;
        let pointers = |strings: &mut dyn Iterator<Item = &CString>| {
            strings
                .map(|s| s.as_ptr())
                .chain(std::iter::once(ptr::null()))
                .collect::<Vec<_>>()
        };
        Ok(Self {
            executable: command.executable.as_raw_fd(),
            argv: pointers(&mut command.args.iter()),
            envp: pointers(&mut command.env.iter().chain(std::iter::once(&identity))),
            parked: vec![-1; fds.len()],
            fds,
            park_from: highest + 1,
            limits: [
                (resource(libc::RLIMIT_CORE)?, 0),
                (resource(libc::RLIMIT_NOFILE)?, command.limits.open_files),
                (resource(libc::RLIMIT_NPROC)?, command.limits.threads),
                (resource(libc::RLIMIT_MEMLOCK)?, command.limits.locked_bytes),
            ],
            cgroups,
            network: network.as_raw_fd(),
            failure: Failure {
                step: None,
                errno: 0,
            },
            _null: null,
            _identity: identity,
            _command: command,
        })
    }

    fn run(mut self) -> Result<Child, Error> {
        const FLAGS: c_int = libc::CLONE_VM
            | libc::CLONE_VFORK
            | libc::CLONE_PIDFD
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::SIGCHLD;
        let mut stack = vec![0_u128; STACK_BYTES / size_of::<u128>()];
        let top = stack.as_mut_ptr_range().end.cast::<c_void>();
        let mut pidfd: c_int = -1;
        let blocked = BlockedSignals::all()?;
        // SAFETY: `child` runs on `stack`, which is 16-byte aligned, large enough for its few frames and lives until the
        // clone returns: CLONE_VFORK suspends this thread until the child has executed or ended. The child only
        // reads `self` and writes `self.parked` and `self.failure`, which nobody else touches meanwhile. With all signals
        // blocked no handler of the daemon runs in the child. CLONE_PIDFD stores to `pidfd`.
        let pid = unsafe { libc::clone(child, top, FLAGS, (&raw mut self).cast(), &raw mut pidfd) };
        let error = io::Error::last_os_error();
        drop(blocked);
        drop(stack);
        if pid < 0 {
            return Err(Error::Step {
                step: "clone a process into new namespaces (this needs root)",
                source: error,
            });
        }
        // SAFETY: the clone succeeded, so the kernel stored a new descriptor that nobody else owns.
        let process = Child::new(pid, unsafe { OwnedFd::from_raw_fd(pidfd) });
        // SAFETY: plain read of our own field; volatile because the child wrote it behind the compiler's back.
        let failure = unsafe { ptr::read_volatile(&raw const self.failure) };
        match failure.step {
            None => Ok(process),
            Some(step) => {
                process.wait(None)?;
                Err(Error::Step {
                    step,
                    source: io::Error::from_raw_os_error(failure.errno),
                })
            }
        }
    }
}

/// The child between clone and exec. Only async-signal-safe calls: it shares memory with a daemon whose other threads
/// go on running.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `Plan::run` passed a valid, exclusive pointer and waits for us.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    // SAFETY: `Plan::new` made everything the steps point to; see `steps`.
    let step = unsafe { steps(plan) };
    // SAFETY: errno of this thread, set by the step that failed.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: a plain write to a field of our own, read by the parent after we are gone.
    unsafe {
        ptr::write_volatile(
            &raw mut plan.failure,
            Failure {
                step: Some(step),
                errno,
            },
        )
    };
    // SAFETY: ends this process only and runs no destructors of the parent.
    unsafe { libc::_exit(127) }
}

/// Returns the name of the step that failed; does not return when all went well.
///
/// # Safety
/// Only for `child`: replaces the calling process. The plan's pointers are valid.
unsafe fn steps(plan: &mut Plan<'_>) -> &'static str {
    // SAFETY: all calls below: system calls with descriptors, integers and pointers that the plan owns and that live
    // until exec; each concerns this process only.
    unsafe {
        default_signals();
        if libc::setsid() < 0 {
            return "start a session for the child";
        }
        for file in &plan.cgroups {
            // cgroups(7): "0" is the writing process itself.
            if libc::write(file.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1 {
                return "move the child into its cgroup";
            }
        }
        if libc::setns(plan.network, libc::CLONE_NEWNET) < 0 {
            return "enter the child's network namespace";
        }
        if let Some(step) = renumber(plan) {
            return step;
        }
        // After the renumbering, which needs numbers above the targets.
        for (resource, value) in plan.limits {
            if !limit_to(resource, value) {
                return "set the child's resource limits";
            }
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return "forbid new privileges";
        }
        libc::syscall(
            libc::SYS_execveat,
            plan.executable,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            plan.envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        "execute the child's program"
    }
}

/// Sets one limit; a daemon that may not raise its own hard limit (no CAP_SYS_RESOURCE) passes that on instead.
///
/// # Safety
/// Only for `steps`.
unsafe fn limit_to(resource: c_int, value: u64) -> bool {
    // SAFETY: both structures live through the calls; unused ones are null, as prlimit(2) allows.
    unsafe {
        let wanted = libc::rlimit64 {
            rlim_cur: value,
            rlim_max: value,
        };
        let none = ptr::null_mut::<libc::rlimit64>();
        if libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const wanted, none) == 0 {
            return true;
        }
        let mut held = libc::rlimit64 {
            rlim_cur: 0,
            rlim_max: 0,
        };
        if libc::syscall(libc::SYS_prlimit64, 0, resource, none, &raw mut held) < 0
            || held.rlim_max >= value
        {
            return false;
        }
        held.rlim_cur = held.rlim_max;
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const held, none) == 0
    }
}

/// Leaves exactly the listed descriptors open across exec.
///
/// # Safety
/// Only for `steps`.
unsafe fn renumber(plan: &mut Plan<'_>) -> Option<&'static str> {
    const STEP: &str = "pass descriptors to the child";
    // SAFETY: the child's descriptor table is its own copy; numbers come from open files of the plan.
    unsafe {
        // Everything closes at exec, except the copies made below.
        if libc::syscall(
            libc::SYS_close_range,
            0,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        ) < 0
        {
            return Some("mark all descriptors to close at exec (this needs Linux 5.11)");
        }
        plan.executable = libc::fcntl(plan.executable, libc::F_DUPFD_CLOEXEC, plan.park_from);
        if plan.executable < 0 {
            return Some(STEP);
        }
        for (parked, (fd, _)) in plan.parked.iter_mut().zip(&plan.fds) {
            *parked = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, plan.park_from);
            if *parked < 0 {
                return Some(STEP);
            }
        }
        for (parked, (_, number)) in plan.parked.iter().zip(&plan.fds) {
            if libc::dup2(*parked, *number) < 0 {
                return Some(STEP);
            }
        }
    }
    None
}

/// Signals as a fresh process has them: nothing ignored, nothing blocked.
///
/// # Safety
/// Only for `steps`, in a process that does not share its signal handlers.
unsafe fn default_signals() {
    // SAFETY: an all-zero sigaction is SIG_DFL with an empty mask; the set is initialised before use.
    unsafe {
        let default: libc::sigaction = std::mem::zeroed();
        for signal in 1..=libc::SIGRTMAX() {
            // SIGKILL, SIGSTOP and the C library's own signals refuse; they are never ignored either.
            libc::sigaction(signal, &raw const default, ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// All signals blocked in this thread until dropped.
struct BlockedSignals(libc::sigset_t);

impl BlockedSignals {
    fn all() -> Result<Self, Error> {
        // SAFETY: both sets are plain data that live through the calls.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) {
                0 => Ok(Self(before)),
                errno => Err(Error::Step {
                    step: "block signals around the clone",
                    source: io::Error::from_raw_os_error(errno),
                }),
            }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: restores the mask that `all` saved for this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

fn open_cgroup(directory: &Path) -> Result<File, Error> {
    let path = directory.join("cgroup.procs");
    OpenOptions::new().write(true).open(&path).map_err(|e| {
        Error::Request(format!(
            "cannot open {}: {e}; make the cgroup first",
            path.display()
        ))
    })
}

fn resource(which: libc::__rlimit_resource_t) -> Result<c_int, Error> {
    c_int::try_from(which).map_err(|_| Error::Request(format!("resource number {which}")))
}

fn c_string(text: &str) -> Result<CString, Error> {
    CString::new(text).map_err(|_| Error::Request(format!("{text:?} holds a NUL byte")))
}
