//! The life of a vmm process.
//!
//! ```text
//! confined ─▶ described ─▶ assembled ─▶ running ─┬─▶ (power-off, triple fault, failure, shutdown) ─▶ ended
//!                              ▲                 │
//!                              └── guest reset ──┘
//! ```

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::process::ExitCode;
use std::sync::{Arc, PoisonError};

use crate::confine::Confinement;
use crate::console::monotonic_ns;
use crate::control::{Control, End};
use crate::machine::Parts;
use crate::platform::Outcome;
use crate::protocol::{Event, ExitReason, MachineConfig, ProcessConfig, Sockets, StartError};

/// Longest description in bytes.
const CONFIG_MAX: u64 = 1 << 20;
/// Descriptors a description may name: above the standard streams and below this.
const DESCRIPTORS: std::ops::Range<RawFd> = 3..1024;

/// Runs one machine to its end. `config_fd` holds a [`MachineConfig`] as JSON whose descriptors are numbers of
/// descriptors this process was started with. To be called first in a process started by [`crate::launch()`], with
/// nothing else going on in it.
///
/// The exit status is that of [`ExitReason::status`]; the reason itself is the last event on the control sockets,
/// and stays in the console's ring.
pub fn run(config_fd: RawFd) -> ExitCode {
    let confined = jail::confine_self().map_err(StartError::host("confining the process"));
    let described = describe(config_fd);
    let (control, machine) = match described {
        Ok((sockets, machine)) => (
            Control::new(sockets.listener, sockets.first, sockets.peer_uid),
            machine,
        ),
        Err(error) => (
            Err(std::io::Error::other(error)),
            Err(StartError::Config {
                reason: String::new(),
            }),
        ),
    };
    let mut control = match control {
        Ok(control) => control,
        // There is nobody to tell: standard error and the exit status must do.
        Err(error) => {
            eprintln!("the vmm cannot be controlled: {error}");
            return ExitCode::from(
                ExitReason::Failed {
                    detail: String::new(),
                }
                .status(),
            );
        }
    };
    let parts = confined.and_then(|confined| Ok((confined, Parts::check(machine?)?)));
    let reason = match &parts {
        Ok((confined, parts)) => {
            let missing = confined.missing.iter().map(ToString::to_string).collect();
            let reason = live(&mut control, parts, missing);
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
fn live(control: &mut Control, parts: &Parts, missing: Vec<String>) -> ExitReason {
    let confinement = match Confinement::begin() {
        Ok(confinement) => Arc::new(confinement),
        Err(error) => return ExitReason::StartFailed { error },
    };
    let started = |error: std::io::Error| ExitReason::Failed {
        detail: error.to_string(),
    };
    if let Err(error) = control.watch(&parts.alarm) {
        return started(error);
    }
    let mut missing = Some(missing);
    loop {
        let assembled = match parts.assemble(&confinement) {
            Ok(assembled) => assembled,
            Err(error) => return ExitReason::StartFailed { error },
        };
        let monotonic_ns = monotonic_ns();
        let running = match assembled.start(parts, &confinement) {
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

type Described = (Sockets<OwnedFd>, Result<MachineConfig<OwnedFd>, StartError>);

/// Reads the description and takes the descriptors it names. A machine whose descriptors are wrong is an error of
/// its own, because the sockets can tell it.
fn describe(config_fd: RawFd) -> Result<Described, StartError> {
    let wrong = |reason: String| StartError::Config { reason };
    let mut taken = vec![config_fd];
    let mut text = String::new();
    File::from(claim(config_fd)?)
        .take(CONFIG_MAX)
        .read_to_string(&mut text)
        .map_err(StartError::host("reading the machine's description"))?;
    let config: ProcessConfig<RawFd> =
        serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let mut take = |number: RawFd| {
        if taken.contains(&number) {
            return Err(wrong(format!("descriptor {number} is used twice")));
        }
        taken.push(number);
        claim(number)
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
    Ok((sockets, config.machine.try_map(take)))
}

/// Takes over a descriptor this process was started with.
fn claim(number: RawFd) -> Result<OwnedFd, StartError> {
    let missing = || StartError::Config {
        reason: format!("descriptor {number} was not passed"),
    };
    if !DESCRIPTORS.contains(&number) {
        return Err(missing());
    }
    // SAFETY: only asks about the number.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } < 0 {
        return Err(missing());
    }
    // SAFETY: the descriptor is open and above the standard streams; it was passed to this process for this use,
    // `describe` claims no number twice, and nothing else in the process has opened descriptors before.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
