//! Messages on a control socket: a 4-byte little-endian length, then JSON.

use hypervisor::MAX_VCPUS;
use serde::{Deserialize, Serialize};

use crate::layout::CMDLINE_MAX;

/// Longest message in bytes, without its length.
pub const MESSAGE_MAX: usize = 64 << 10;
/// Most bytes of console input in one [`Action::ConsoleInput`].
pub const CONSOLE_INPUT_MAX: usize = 4096;

/// From the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the sender; the reply carries it.
    pub id: u64,
    /// What is asked.
    pub action: Action,
}

/// What can be asked of a vmm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Action {
    /// How the machine is. Always legal.
    Status,
    /// Press the power button: the guest may power off. Legal while running.
    PowerButton,
    /// Halt all vCPUs. Legal while running; again does nothing.
    Pause,
    /// Go on after [`Action::Pause`]. Legal while paused; while running does nothing.
    Resume,
    /// Type on the console. Legal always; the answer tells how many bytes there was room for: send the rest later.
    ConsoleInput {
        /// At most [`CONSOLE_INPUT_MAX`] bytes.
        #[serde(with = "base64_bytes")]
        bytes: Vec<u8>,
    },
    /// Stop at once, without asking the guest. Always legal.
    Shutdown,
    /// Send events from now on. Always legal; the connection on which the machine was started has them from the
    /// beginning.
    Subscribe {
        /// Whether [`Event::ConsoleOutput`] is wanted too.
        console_output: bool,
    },
}

/// To the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Message {
    /// The answer to a request.
    Reply {
        /// The request's.
        id: u64,
        /// How it went.
        answer: Answer,
    },
    /// Something happened.
    Event {
        /// What.
        event: Event,
    },
}

/// How a request went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Answer {
    /// Done; nothing more to say.
    Done,
    /// To [`Action::Status`].
    Status(Status),
    /// To [`Action::ConsoleInput`]: so many bytes were taken.
    Accepted {
        /// From 0 to the number of bytes sent.
        bytes: usize,
    },
    /// Not legal now, or not understood.
    Refused {
        /// Why.
        reason: String,
    },
}

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Whether its vCPUs are halted by [`Action::Pause`].
    pub paused: bool,
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// How often the guest has reset its machine.
    pub resets: u64,
    /// CLOCK_MONOTONIC when the guest first wrote to its console, if it has.
    pub first_output_ns: Option<u64>,
    /// Bytes the console has carried since its ring file was made.
    pub console_bytes: u64,
    /// Disks, then network interfaces, in the order of the description; counts start again at a reset.
    pub devices: Vec<DeviceStatus>,
}

/// What a device has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DeviceStatus {
    /// A disk.
    Disk {
        /// What serves it.
        engine: String,
        /// Whether the host's page cache is bypassed (`direct`), or why not.
        caching: String,
        /// Operations submitted.
        requests: u64,
        /// Wake-ups by the driver.
        kicks: u64,
        /// Calls of `io_uring_enter`.
        enters: u64,
        /// Operations that failed.
        failures: u64,
        /// Interrupts sent to the driver.
        interrupts: u64,
    },
    /// A network interface.
    Nic {
        /// Frames given to the guest.
        received: u64,
        /// Frames sent for the guest.
        sent: u64,
        /// Frames for the guest that did not fit its buffers.
        receive_dropped: u64,
        /// Frames of the guest that were malformed or that the host refused.
        send_dropped: u64,
    },
}

/// What a vmm tells without being asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    /// The guest's first instruction is about to run.
    Started {
        /// CLOCK_MONOTONIC.
        monotonic_ns: u64,
        /// Protections that this kernel does not offer.
        missing_protections: Vec<String>,
    },
    /// The guest's first byte on its console, after a start (not after a reset).
    FirstOutput {
        /// CLOCK_MONOTONIC.
        monotonic_ns: u64,
    },
    /// There is new console output; many writes may share one event.
    ConsoleOutput {
        /// Bytes the console has carried since its ring file was made.
        total: u64,
    },
    /// The guest reset its machine, which has been started again.
    GuestReset {
        /// How.
        cause: ResetCause,
    },
    /// The process is about to end: the last event.
    Exited {
        /// Why.
        reason: ExitReason,
    },
}

/// How a guest reset its machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResetCause {
    /// The ACPI reset register.
    ResetRegister,
    /// The keyboard controller.
    Keyboard,
}

/// Why a vmm ends. Also its exit status, see [`ExitReason::status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ExitReason {
    /// The guest powered off.
    #[error("the guest powered off")]
    PoweredOff,
    /// [`Action::Shutdown`].
    #[error("shut down on request")]
    Shutdown,
    /// The guest suffered a triple fault, which on hardware resets the machine.
    #[error("the guest suffered a triple fault")]
    TripleFault,
    /// KVM could not go on with the guest.
    #[error("the guest cannot go on: {detail}")]
    GuestFailed {
        /// KVM's reason, with instruction pointer and bytes.
        detail: String,
    },
    /// The machine could not be started.
    #[error("the machine could not be started: {error}")]
    StartFailed {
        /// Why.
        error: StartError,
    },
    /// The host's side failed.
    #[error("the vmm failed: {detail}")]
    Failed {
        /// What.
        detail: String,
    },
}

impl ExitReason {
    /// The process's exit status: 0 power-off, 10 shutdown, 11 triple fault, 12 guest failed, 13 start failed, 14
    /// vmm failed.
    pub fn status(&self) -> u8 {
        match self {
            Self::PoweredOff => 0,
            Self::Shutdown => 10,
            Self::TripleFault => 11,
            Self::GuestFailed { .. } => 12,
            Self::StartFailed { .. } => 13,
            Self::Failed { .. } => 14,
        }
    }
}

/// Why a machine cannot be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StartError {
    /// The description is not one.
    #[error("the machine's description is wrong: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// The number of vCPUs is out of range.
    #[error("{asked} vCPUs: a machine has 1 to {most} here")]
    Vcpus {
        /// As asked.
        asked: u32,
        /// The limit on this host, at most [`MAX_VCPUS`].
        most: u8,
    },
    /// The size of memory is out of range.
    #[error("{bytes} bytes of memory: it must be a multiple of 4096, at least 2 MiB")]
    MemorySize {
        /// As asked.
        bytes: u64,
    },
    /// The command line is too long or holds a NUL.
    #[error("the kernel command line has {bytes} bytes or a NUL: at most {most} bytes, no NUL")]
    Cmdline {
        /// Its length.
        bytes: usize,
        /// The longest allowed.
        most: usize,
    },
    /// The kernel image cannot be used.
    #[error("the kernel image cannot be used: {reason}")]
    Kernel {
        /// Why.
        reason: String,
    },
    /// The kernel needs more memory than there is.
    #[error(
        "the kernel reaches to {end:#x} in guest memory, which ends at {memory_end:#x}: give the machine more memory"
    )]
    KernelDoesNotFit {
        /// First address after it.
        end: u64,
        /// First address after the memory below 4 GiB.
        memory_end: u64,
    },
    /// The initial RAM disk does not fit beside the kernel.
    #[error(
        "the initrd of {bytes} bytes does not fit between the kernel's end at {kernel_end:#x} and {limit:#x}: give the machine more memory"
    )]
    InitrdDoesNotFit {
        /// Its size.
        bytes: u64,
        /// First address after the kernel.
        kernel_end: u64,
        /// The end of where it may be.
        limit: u64,
    },
    /// KVM refuses.
    #[error("{reason}")]
    Kvm {
        /// What and why.
        reason: String,
    },
    /// A device cannot be made.
    #[error("{device}: {reason}")]
    Device {
        /// Which, for example `disk 0`.
        device: String,
        /// Why.
        reason: String,
    },
    /// The process's own set-up failed.
    #[error("{operation}: {reason}")]
    Host {
        /// What was tried.
        operation: String,
        /// Why it failed.
        reason: String,
    },
}

impl StartError {
    pub(crate) fn vcpus(asked: u32, most: u8) -> Self {
        Self::Vcpus {
            asked,
            most: most.min(MAX_VCPUS),
        }
    }

    pub(crate) fn cmdline(bytes: usize) -> Self {
        Self::Cmdline {
            bytes,
            most: CMDLINE_MAX,
        }
    }

    /// Maps an error of the host's side, with its causes.
    pub(crate) fn host<E: std::error::Error>(operation: &str) -> impl FnOnce(E) -> Self {
        move |error| Self::Host {
            operation: operation.into(),
            reason: crate::chain(&error),
        }
    }
}

impl From<hypervisor::KvmError> for StartError {
    fn from(error: hypervisor::KvmError) -> Self {
        Self::Kvm {
            reason: crate::chain(&error),
        }
    }
}

/// The message with its length in front.
///
/// # Errors
/// It is longer than [`MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> std::io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message)?;
    let too_long =
        || std::io::Error::new(std::io::ErrorKind::InvalidInput, "the message is too long");
    let length = u32::try_from(body.len()).map_err(|_| too_long())?;
    if body.len() > MESSAGE_MAX {
        return Err(too_long());
    }
    let mut frame = length.to_le_bytes().to_vec();
    frame.extend(body);
    Ok(frame)
}

/// Takes the first whole message out of `buffer`, which holds what was received so far.
///
/// # Errors
/// The peer announced too long a message or sent something else than one: close the connection.
pub fn decode<T: for<'a> Deserialize<'a>>(buffer: &mut Vec<u8>) -> std::io::Result<Option<T>> {
    let Some((length, rest)) = buffer.split_first_chunk::<4>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MESSAGE_MAX {
        let problem =
            format!("a message of {length} bytes was announced, at most {MESSAGE_MAX} are allowed");
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            problem,
        ));
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let message = serde_json::from_slice(body)?;
    buffer.drain(..4 + length);
    Ok(Some(message))
}

mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_any_fragmentation() {
        let requests = [
            Request {
                id: 1,
                action: Action::Status,
            },
            Request {
                id: 2,
                action: Action::ConsoleInput {
                    bytes: vec![0, 255, 10],
                },
            },
            Request {
                id: 3,
                action: Action::Subscribe {
                    console_output: true,
                },
            },
        ];
        let stream: Vec<u8> = requests
            .iter()
            .flat_map(|request| encode(request).expect("short"))
            .collect();
        for piece in [1, 3, 7, stream.len()] {
            let (mut buffer, mut received) = (Vec::new(), Vec::new());
            for part in stream.chunks(piece) {
                buffer.extend_from_slice(part);
                while let Some(request) = decode::<Request>(&mut buffer).expect("well-formed") {
                    received.push(request);
                }
            }
            assert_eq!(received, requests);
        }
    }

    #[test]
    fn what_is_not_a_message_is_an_error() {
        let mut endless = u32::MAX.to_le_bytes().to_vec();
        assert!(decode::<Request>(&mut endless).is_err());
        let mut garbage = [&3_u32.to_le_bytes()[..], b"{x}"].concat();
        assert!(decode::<Request>(&mut garbage).is_err());
    }

    #[test]
    fn each_reason_has_its_own_exit_status() {
        let error = StartError::vcpus(0, 8);
        let reasons = [
            ExitReason::PoweredOff,
            ExitReason::Shutdown,
            ExitReason::TripleFault,
            ExitReason::GuestFailed {
                detail: String::new(),
            },
            ExitReason::StartFailed { error },
            ExitReason::Failed {
                detail: String::new(),
            },
        ];
        let statuses: std::collections::BTreeSet<_> =
            reasons.iter().map(ExitReason::status).collect();
        assert_eq!(statuses.len(), reasons.len());
    }
}
