//! The life of a vmm process.
//!
//! ```text
//! confined ─▶ described ─▶ assembled ─▶ running ─┬─▶ (power-off, triple fault, failure, shutdown) ─▶ ended
//!                              ▲                 │
//!                              └── guest reset ──┘
//! ```

use std::io;
use std::os::fd::{AsFd, FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

use crate::confine::Confinement;
use crate::console::monotonic_ns;
use crate::control::{Control, End};
use crate::handover::{self, Handed};
use crate::machine::{Ground, Parts};
use crate::platform::Outcome;
use crate::protocol::{Event, ExitReason, MachineConfig, ProcessConfig, Sockets, StartError};

/// Runs one machine to its end. `socket` is the number of the descriptor on which this process, started by
/// [`crate::launch::prepare`], is handed its machine; the next one is the KVM device. To be called first in `main`, with nothing else going on.
///
/// The exit status is that of [`ExitReason::status`]; the reason itself is the last event on the control sockets,
/// and stays in the console's ring. A process that is never handed a machine ends with status 0.
pub fn run(socket: RawFd) -> ExitCode {
    // All that needs no machine comes first: a process may have been started ahead of its use.
    let confined = jail::confine_self().map_err(StartError::host("confining the process"));
    let confinement = Confinement::compile();
    let inherited = (claim(socket), claim(socket.saturating_add(1)));
    let ground = inherited.1.and_then(Ground::lay);
    let (mut control, machine) = match inherited.0.map_err(io::Error::other).and_then(be_handed) {
        Ok(Some(handed)) => handed,
        Ok(None) => return ExitCode::SUCCESS,
        // There is nobody to tell: standard error and the exit status must do.
        Err(error) => {
            eprintln!("the vmm cannot be controlled: {}", crate::chain(&error));
            return ExitCode::from(
                ExitReason::Failed {
                    detail: String::new(),
                }
                .status(),
            );
        }
    };
    let ready = confined.and_then(|confined| {
        let (confinement, parts) = (confinement?, Parts::check(ground?, machine?)?);
        Ok((confined, Arc::new(confinement), parts))
    });
    let reason = match &ready {
        Ok((confined, confinement, parts)) => {
            let missing = confined.missing.iter().map(ToString::to_string).collect();
            let reason = live(&mut control, parts, confinement, missing);
            parts
                .ring
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .leave(&reason);
            reason
        }
        Err(error) => ExitReason::StartFailed {
            error: error.clone(),
        },
    };
    let status = reason.status();
    control.tell(Event::Exited { reason });
    control.farewell();
    ExitCode::from(status)
}

/// Starts the machine, and again after each reset, until something ends it.
fn live(
    control: &mut Control,
    parts: &Parts,
    confinement: &Arc<Confinement>,
    missing: Vec<String>,
) -> ExitReason {
    if let Err(error) = confinement.control() {
        return ExitReason::StartFailed { error };
    }
    let started = |error: std::io::Error| ExitReason::Failed {
        detail: error.to_string(),
    };
    if let Err(error) = control.watch(&parts.alarm) {
        return started(error);
    }
    let mut missing = Some(missing);
    loop {
        let assembled = match parts.assemble(confinement) {
            Ok(assembled) => assembled,
            Err(error) => return ExitReason::StartFailed { error },
        };
        let monotonic_ns = monotonic_ns();
        let running = match assembled.start(parts, confinement) {
            Ok(running) => running,
            Err(error) => return ExitReason::StartFailed { error },
        };
        if let Some(missing_protections) = missing.take() {
            control.tell(Event::Started {
                monotonic_ns,
                missing_protections,
            });
        }
        let end = control.serve(&running, parts);
        // Ends all threads of the machine.
        drop(running);
        let cause = match end {
            Ok(End::Shutdown) => return ExitReason::Shutdown,
            Ok(End::Machine(Outcome::Reset(cause))) => cause,
            Ok(End::Machine(Outcome::PowerOff)) => return ExitReason::PoweredOff,
            Ok(End::Machine(Outcome::TripleFault)) => return ExitReason::TripleFault,
            Ok(End::Machine(Outcome::GuestFailed(detail))) => {
                return ExitReason::GuestFailed { detail };
            }
            Ok(End::Machine(Outcome::Failed(detail))) => return ExitReason::Failed { detail },
            Err(error) => return started(error),
        };
        if let Err(error) = parts.clear_memory() {
            return ExitReason::Failed {
                detail: error.to_string(),
            };
        }
        control.count_reset();
        control.tell(Event::GuestReset { cause });
    }
}

/// The control side of the process, and its machine, whose errors the control side can tell.
type InCharge = (Control, Result<MachineConfig<OwnedFd>, StartError>);

/// Waits to be handed a machine; `None` if that will not happen any more.
fn be_handed(socket: OwnedFd) -> io::Result<Option<InCharge>> {
    let Some(handed) = handover::take(socket.as_fd())? else {
        return Ok(None);
    };
    let (sockets, stderr, machine) = describe(handed).map_err(io::Error::other)?;
    if let Some(stderr) = stderr {
        rustix::stdio::dup2_stderr(&stderr)?;
    }
    let control = Control::new(sockets.listener, sockets.first, sockets.peer_uid)?;
    Ok(Some((control, machine)))
}

/// Takes over a descriptor this process was started with; each number once.
fn claim(number: RawFd) -> Result<OwnedFd, StartError> {
    // SAFETY: only asks about the number.
    if number <= 2 || unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(StartError::Config {
            reason: format!("descriptor {number} was not passed"),
        });
    }
    // SAFETY: the descriptor is open and above the standard streams; it was passed to this process for this use, `run`
    // claims each number once, and nothing else in the process has opened descriptors before.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

type Described = (
    Sockets<OwnedFd>,
    Option<OwnedFd>,
    Result<MachineConfig<OwnedFd>, StartError>,
);

/// Reads the description and takes the descriptors it names. A machine whose descriptors are wrong is an error of
/// its own, because the sockets can tell it.
fn describe(handed: Handed) -> Result<Described, StartError> {
    let wrong = |reason: String| StartError::Config { reason };
    let mut descriptors: Vec<Option<OwnedFd>> = handed.descriptors.into_iter().map(Some).collect();
    let config: ProcessConfig<usize> =
        serde_json::from_slice(&handed.description).map_err(|error| wrong(error.to_string()))?;
    let mut take = |place: usize| {
        descriptors
            .get_mut(place)
            .and_then(Option::take)
            .ok_or_else(|| {
                wrong(format!(
                    "descriptor {place} was not passed, or is used twice"
                ))
            })
    };
    let Sockets {
        listener,
        first,
        peer_uid,
    } = config.sockets;
    let sockets = Sockets {
        listener: take(listener)?,
        first: take(first)?,
        peer_uid,
    };
    let stderr = config.stderr.map(&mut take).transpose()?;
    Ok((sockets, stderr, config.machine.try_map(take)))
}
