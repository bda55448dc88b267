//! Starting vmm processes, and finding them again.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use crate::client::{self, Client, ClientError, Events};
use crate::handover;
use crate::protocol::{
    Event, ExitReason, MachineConfig, ProcessConfig, Sockets, StartError, Status,
};

/// Descriptor number, in a new process, of the socket on which it is handed its machine.
const HANDOVER_NUMBER: RawFd = 3;
/// And that of the KVM device.
const KVM_NUMBER: RawFd = HANDOVER_NUMBER + 1;
/// How long a vmm that closed its connection may take to be gone.
const ENDING_PATIENCE: Duration = Duration::from_secs(5);
/// How long a vmm that was handed its machine may take to listen, and one that does not listen any more to be gone.
const LISTENING_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked at meanwhile.
const LISTENING_PAUSE: Duration = Duration::from_millis(2);
/// Starting takes milliseconds; reading a large kernel from a slow disk may take longer.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A process for a machine, and whose it is.
#[derive(Debug, Clone)]
pub struct ProcessSpec {
    /// The executable whose `main` calls [`crate::run`] with its last argument, a descriptor number.
    pub executable: Arc<OwnedFd>,
    /// The KVM device.
    pub kvm: Arc<OwnedFd>,
    /// Arguments before the last one (the daemon: `["vmm"]`).
    pub arguments: Vec<String>,
    /// User of this process alone, not 0.
    pub uid: u32,
    /// Its group, not 0.
    pub gid: u32,
    /// Existing cgroup directories to join.
    pub cgroups: Vec<PathBuf>,
    /// Resource limits.
    pub limits: jail::Limits,
}

/// What is to run in a process.
#[derive(Debug)]
pub struct LaunchSpec {
    /// Where a later daemon finds the process: a path of at most 107 bytes in a private directory. What is there is
    /// replaced.
    pub socket: PathBuf,
    /// Where standard error goes; nothing is written there unless something is wrong with the vmm itself.
    pub stderr: Option<OwnedFd>,
    /// The machine.
    pub machine: MachineConfig<OwnedFd>,
}

/// A process that is started and confined, or is about to be, and waits for its machine. Dropping this ends it; so does the end
/// of this process.
#[derive(Debug)]
pub struct Prepared {
    /// `None` once it has its machine.
    process: Option<jail::Child>,
    socket: OwnedFd,
}

/// A vmm whose guest runs. Dropping this ends nothing.
#[derive(Debug)]
pub struct Launched {
    /// The process; a child of the caller.
    pub process: jail::Child,
    /// For requests.
    pub client: Client,
    /// All events but console output, from the start on (without [`Event::Started`], which has been taken).
    pub events: Events,
    /// CLOCK_MONOTONIC when the guest's first instruction was about to run.
    pub started_ns: u64,
    /// Protections that this kernel does not offer.
    pub missing_protections: Vec<String>,
}

/// A vmm found running.
#[derive(Debug)]
pub struct Adopted {
    /// The process; not a child of the caller, unless it has launched it itself.
    pub process: jail::Process,
    /// For requests.
    pub client: Client,
    /// All events but console output, from now on.
    pub events: Events,
    /// How it is.
    pub status: Status,
}

/// Why there is no vmm. No process is left.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The machine cannot be started as described.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The process could not be made.
    #[error("cannot start the vmm process")]
    Spawn(#[from] jail::Error),
    /// Preparing it failed.
    #[error("cannot prepare the vmm process: {operation}")]
    Prepare {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The process ended before its guest ran.
    #[error("the vmm process ended before its guest ran ({exit:?}{})", reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default())]
    Ended {
        /// How.
        exit: jail::Exit,
        /// Its last words.
        reason: Option<ExitReason>,
    },
    /// The guest does not run after a minute.
    #[error("the guest has not been started within {} s", START_TIMEOUT.as_secs())]
    Timeout,
}

/// Why a vmm could not be adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Nothing listens: no vmm runs any more.
    #[error("no vmm listens on {}", path.display())]
    Gone {
        /// The control socket.
        path: PathBuf,
    },
    /// The socket cannot be used.
    #[error("cannot connect to the vmm at {}", path.display())]
    Connect {
        /// The control socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process cannot be held.
    #[error("cannot hold the vmm process")]
    Process(#[from] jail::Error),
    /// It does not answer.
    #[error("the vmm does not answer")]
    Client(#[from] ClientError),
}

/// Starts a process ahead of its use: starting and confining it, and making what every machine has, takes longer than the
/// rest.
///
/// # Errors
/// See [`LaunchError`]; no process is left then.
pub async fn prepare(spec: ProcessSpec) -> Result<Prepared, LaunchError> {
    let spawned = tokio::task::spawn_blocking(move || spawn(&spec)).await;
    spawned.map_err(|error| LaunchError::Prepare {
        operation: "running it",
        source: io::Error::other(error),
    })?
}

impl Prepared {
    /// Its process id.
    pub fn pid(&self) -> Option<libc::pid_t> {
        self.process.as_ref().map(jail::Process::pid)
    }

    /// What identifies it for [`adopt`] after this program: its process id and when it started ([`jail::Process::started`]). `None`
    /// once it has ended.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn id(&self) -> Result<Option<(libc::pid_t, u64)>, LaunchError> {
        let Some(process) = &self.process else {
            return Ok(None);
        };
        let started = process.started()?;
        Ok(started.map(|started| (process.pid(), started)))
    }

    /// Whether it still waits.
    pub fn waits(&self) -> bool {
        let ended = self.process.as_ref().map(jail::Process::try_wait);
        matches!(ended, Some(Ok(None)))
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            // It has nothing to lose, and its end needs no waiting for.
            let _ = process.kill().and_then(|()| process.wait(None));
        }
    }
}

/// Hands a machine to a process and waits until its guest runs.
///
/// # Errors
/// See [`LaunchError`]; no process is left then.
pub async fn launch(prepared: Prepared, spec: LaunchSpec) -> Result<Launched, LaunchError> {
    let (process, stream) = hand_over(prepared, spec)?;
    let ready = match into_tokio(stream) {
        Ok(stream) => {
            let (client, mut events) = client::open(stream);
            match tokio::time::timeout(START_TIMEOUT, events.next()).await {
                Ok(Some(Event::Started {
                    monotonic_ns,
                    missing_protections,
                })) => {
                    let started_ns = monotonic_ns;
                    return Ok(Launched {
                        process,
                        client,
                        events,
                        started_ns,
                        missing_protections,
                    });
                }
                Ok(event) => Ok(event),
                Err(_) => Err(LaunchError::Timeout),
            }
        }
        Err(source) => Err(LaunchError::Prepare {
            operation: "the control socket",
            source,
        }),
    };
    let reason = match &ready {
        Ok(Some(Event::Exited { reason })) => Some(reason.clone()),
        _ => {
            process.kill()?;
            None
        }
    };
    let exit = wait(&process)
        .await
        .map_err(|source| LaunchError::Prepare {
            operation: "waiting for its end",
            source,
        })?;
    ready?;
    match reason {
        Some(ExitReason::StartFailed { error }) => Err(error.into()),
        reason => Err(LaunchError::Ended { exit, reason }),
    }
}

/// Finds the vmm that listens at `socket` and takes its events. `named` is the process that was to get the machine: while it runs, a
/// socket where nobody listens belongs to a vmm that is just beginning or just ending, and is looked at again.
///
/// # Errors
/// None runs there, or it cannot be spoken to; it is left as it is.
pub async fn adopt(socket: &Path, named: Option<&jail::Process>) -> Result<Adopted, AdoptError> {
    let stream = connect(socket, named).await?;
    let gone = || AdoptError::Gone {
        path: socket.into(),
    };
    // Who listens, not who bound: the vmm itself.
    let pid = stream
        .peer_cred()
        .ok()
        .and_then(|credentials| credentials.pid())
        .ok_or_else(gone)?;
    let process = jail::Process::adopt(pid, None)?.ok_or_else(gone)?;
    let (client, events) = client::open(stream);
    let answer = async {
        client.subscribe(false).await?;
        client.status().await
    };
    // Its answer also proves that the pid was its own when the process was taken hold of.
    let status = match answer.await {
        Ok(status) => status,
        Err(ClientError::Closed) if ends(&process).await => return Err(gone()),
        Err(error) => return Err(error.into()),
    };
    Ok(Adopted {
        process,
        client,
        events,
        status,
    })
}

/// A connection to the vmm at `socket`, once it listens.
async fn connect(socket: &Path, named: Option<&jail::Process>) -> Result<UnixStream, AdoptError> {
    let path = || socket.to_owned();
    let deadline = Instant::now() + LISTENING_PATIENCE;
    loop {
        // Looked at first: one that ends between the two has been seen alive, and is looked at again.
        let lives = named.map_or(Ok(false), |process| {
            process.try_wait().map(|exit| exit.is_none())
        })?;
        let source = match UnixStream::connect(socket).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let nobody = matches!(
            source.kind(),
            io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
        );
        match (nobody, lives) {
            (true, false) => return Err(AdoptError::Gone { path: path() }),
            (true, true) if Instant::now() < deadline => {
                tokio::time::sleep(LISTENING_PAUSE).await;
            }
            _ => {
                return Err(AdoptError::Connect {
                    path: path(),
                    source,
                });
            }
        }
    }
}

/// Whether a vmm that closed its connection was just ending.
async fn ends(process: &jail::Process) -> bool {
    let ended = tokio::time::timeout(ENDING_PATIENCE, wait(process)).await;
    ended.is_ok_and(|ended| ended.is_ok())
}

/// Waits for a process to end. Reaps it if it is a child.
///
/// # Errors
/// The system refuses.
pub async fn wait(process: &jail::Process) -> io::Result<jail::Exit> {
    let pidfd = process.as_fd().try_clone_to_owned()?;
    // SAFETY: the registration owns the descriptor, which stays open and the same until it is dropped.
    let ended = unsafe { AsyncFd::register_with_interest(pidfd, tokio::io::Interest::READABLE) }?;
    loop {
        if let Some(exit) = process.try_wait().map_err(io::Error::other)? {
            return Ok(exit);
        }
        ended.readable().await?.clear_ready();
    }
}

fn into_tokio(stream: OwnedFd) -> io::Result<UnixStream> {
    let stream = std::os::unix::net::UnixStream::from(stream);
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Gives the process its machine; returns it with the daemon's end of its first connection.
fn hand_over(
    mut prepared: Prepared,
    spec: LaunchSpec,
) -> Result<(jail::Child, OwnedFd), LaunchError> {
    let failed = |operation| move |source: io::Error| LaunchError::Prepare { operation, source };
    let listener = bind(&spec.socket).map_err(failed("binding its control socket"))?;
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| failed("connecting to it")(error.into()))?;
    let config = ProcessConfig {
        sockets: Sockets {
            listener,
            first: theirs,
            peer_uid: rustix::process::geteuid().as_raw(),
        },
        machine: spec.machine,
        stderr: spec.stderr,
    };
    handover::give(prepared.socket.as_fd(), config).map_err(failed("handing it its machine"))?;
    match prepared.process.take() {
        Some(process) => Ok((process, ours)),
        None => Err(failed("handing it its machine")(io::Error::other(
            "it has one",
        ))),
    }
}

/// Starts the process.
fn spawn(spec: &ProcessSpec) -> Result<Prepared, LaunchError> {
    let (ours, theirs) = handover::pair().map_err(|source| LaunchError::Prepare {
        operation: "connecting to it",
        source,
    })?;
    let mut command = jail::JailedCommand::new(spec.executable.as_fd(), "vmm", spec.uid, spec.gid)?
        // One heap: many vmms share a host, and none of their threads allocates much.
        .env("MALLOC_ARENA_MAX", "1")?
        .limits(spec.limits)
        .fd(theirs.as_fd(), HANDOVER_NUMBER)
        .fd(spec.kvm.as_fd(), KVM_NUMBER);
    for argument in &spec.arguments {
        command = command.arg(argument)?;
    }
    command = command.arg(&HANDOVER_NUMBER.to_string())?;
    for directory in &spec.cgroups {
        command = command.cgroup(directory);
    }
    Ok(Prepared {
        process: Some(jail::spawn(&command)?),
        socket: ours,
    })
}

/// A socket at `path` for nobody but this user; the vmm will listen on it.
fn bind(path: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}
