//! The states of an instance, as ECS names them, and why it stopped.

use std::fmt;

/// Where an instance is in its life.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum State {
    /// Accepted and placed; its disks and interface are being prepared.
    Pending,
    /// Its machine is being started.
    Starting,
    /// Its virtual CPUs run.
    Running,
    /// Asked to stop: the guest was told, or the machine is being taken down.
    Stopping,
    /// No machine; disks and addresses are kept.
    Stopped,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Stopped,
    ];

    /// The name ECS gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why an instance is Stopped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum StopReason {
    /// It was made to be started later.
    NeverStarted,
    /// Asked for, and the guest went along.
    Requested,
    /// Asked for with force, or the guest did not go along in time.
    Forced,
    /// The guest powered itself off.
    GuestPowerOff,
    /// The guest's processor gave up (a triple fault).
    GuestCrash,
    /// A signal from outside ended the vmm.
    VmmKilled {
        /// The signal's number.
        signal: i32,
    },
    /// The vmm ended with an error.
    VmmFailed {
        /// What the vmm said.
        message: String,
    },
    /// The vmm was gone when the daemon came back.
    Vanished,
    /// It could not be started.
    StartFailed {
        /// Which step, and why.
        message: String,
    },
}

impl StopReason {
    /// For programs: the name of the variant.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NeverStarted => "NeverStarted",
            Self::Requested => "Requested",
            Self::Forced => "Forced",
            Self::GuestPowerOff => "GuestPowerOff",
            Self::GuestCrash => "GuestCrash",
            Self::VmmKilled { .. } => "VmmKilled",
            Self::VmmFailed { .. } => "VmmFailed",
            Self::Vanished => "Vanished",
            Self::StartFailed { .. } => "StartFailed",
        }
    }
}

/// For people.
impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverStarted => f.write_str("not started yet"),
            Self::Requested => f.write_str("stopped on request"),
            Self::Forced => f.write_str("stopped by force"),
            Self::GuestPowerOff => f.write_str("powered off by the guest"),
            Self::GuestCrash => f.write_str("the guest crashed (triple fault)"),
            Self::VmmKilled { signal } => write!(f, "its vmm was killed by signal {signal}"),
            Self::VmmFailed { message } => write!(f, "its vmm failed: {message}"),
            Self::Vanished => f.write_str("its vmm was gone when the daemon started"),
            Self::StartFailed { message } => write!(f, "could not be started: {message}"),
        }
    }
}
