//! What is said on a control socket.

use serde::{Deserialize, Serialize};

use super::ExitReason;

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
