//! The states of an instance, as ECS names them, what leads from one to the other, why it stopped, and what it keeps then.
//!
//! ```text
//!  RunInstances      prepared          vCPUs run
//!  ───────────► Pending ───► Starting ──────────► Running ──┐ guest resets
//!                 │ │           ▲  │ │              │  │  ▲──┘ (a new machine, the same state)
//!                 │ │     start │  │ │ stop         │  │ stop
//!                 │ └───────────┼──┼─┴──────────────┼──┴──► Stopping
//!  CreateInstance │ exit        │  │ exit           │ exit     │ exit
//!  ───────────►   └──────────► Stopped ◄────────────┴──────────┘
//!                               │ release
//!                               ▼
//!                           (no record)
//! ```
//!
//! `exit` is the end of the machine whatever the cause, and the failure to start one; [`StopReason`] tells which.

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

/// What changes the state of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// It is asked to start.
    Start,
    /// Its disks and interface are ready.
    Prepared,
    /// Its machine's virtual CPUs run.
    Up,
    /// The guest asked for a reset: its machine is replaced by a new one.
    Reset,
    /// It is asked to stop.
    Stop,
    /// It has no machine any more, or got none.
    Exit,
}

impl Change {
    /// Every change.
    pub const ALL: [Self; 6] = [
        Self::Start,
        Self::Prepared,
        Self::Up,
        Self::Reset,
        Self::Stop,
        Self::Exit,
    ];
}

impl State {
    /// The state after `change`; `None` where that cannot happen.
    #[must_use]
    pub const fn after(self, change: Change) -> Option<Self> {
        use {Change as C, State as S};
        match (self, change) {
            (S::Stopped, C::Start) | (S::Pending, C::Prepared) => Some(S::Starting),
            // A machine found by a daemon that died before it could note `Prepared`.
            (S::Pending | S::Starting, C::Up) | (S::Running, C::Reset) => Some(S::Running),
            (S::Pending | S::Starting | S::Running, C::Stop) => Some(S::Stopping),
            (S::Pending | S::Starting | S::Running | S::Stopping, C::Exit) => Some(S::Stopped),
            _ => None,
        }
    }

    /// Whether there is, or is to be, a machine: in every state but Stopped.
    #[must_use]
    pub const fn has_machine(self) -> bool {
        !matches!(self, Self::Stopped)
    }
}

/// What a stopped instance keeps beside its disks and addresses, which it always does (ECS StoppedMode).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub enum StoppedMode {
    /// Its virtual CPUs and memory: they are charged on, and it can be started at any time.
    KeepCharging,
    /// Nothing: virtual CPUs and memory cost nothing and others may get them, so that a later start may find no room.
    #[default]
    StopCharging,
    /// Its virtual CPUs and memory, which are paid for in advance.
    #[serde(rename = "Not-applicable")]
    NotApplicable,
}

impl StoppedMode {
    /// The name ECS gives it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KeepCharging => "KeepCharging",
            Self::StopCharging => "StopCharging",
            Self::NotApplicable => "Not-applicable",
        }
    }

    /// Whether virtual CPUs and memory stay its own.
    #[must_use]
    pub const fn keeps_capacity(self) -> bool {
        !matches!(self, Self::StopCharging)
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
    /// Whether the host is to blame: neither its user nor the guest ended it.
    #[must_use]
    pub const fn is_the_hosts(&self) -> bool {
        matches!(
            self,
            Self::VmmKilled { .. }
                | Self::VmmFailed { .. }
                | Self::Vanished
                | Self::StartFailed { .. }
        )
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_transition() {
        use Change::{Exit, Prepared, Reset, Start, Stop, Up};
        use State::{Pending, Running, Starting, Stopped, Stopping};
        let legal = [
            (Pending, Prepared, Starting),
            (Pending, Up, Running),
            (Pending, Stop, Stopping),
            (Pending, Exit, Stopped),
            (Starting, Up, Running),
            (Starting, Stop, Stopping),
            (Starting, Exit, Stopped),
            (Running, Reset, Running),
            (Running, Stop, Stopping),
            (Running, Exit, Stopped),
            (Stopping, Exit, Stopped),
            (Stopped, Start, Starting),
        ];
        for state in State::ALL {
            for change in Change::ALL {
                let expected = legal
                    .iter()
                    .find(|(from, by, _)| *from == state && *by == change);
                assert_eq!(
                    state.after(change),
                    expected.map(|(_, _, to)| *to),
                    "{state} {change:?}"
                );
            }
        }
    }

    proptest! {
        /// Whatever happens, an instance that is not stopped can be brought to a stop, and a stopped one started.
        #[test]
        fn every_life_can_be_ended_and_begun_again(changes in prop::collection::vec(prop::sample::select(&Change::ALL[..]), 0..64)) {
            let mut state = State::Pending;
            for change in changes {
                state = state.after(change).unwrap_or(state);
                if state == State::Stopped {
                    prop_assert_eq!(state.after(Change::Start), Some(State::Starting));
                    prop_assert!(!state.has_machine());
                } else {
                    prop_assert_eq!(state.after(Change::Exit), Some(State::Stopped));
                    prop_assert!(state.has_machine());
                }
            }
        }
    }

    #[test]
    fn stop_reasons_are_text_that_comes_back() {
        let reasons = [
            (StopReason::GuestPowerOff, "powered off by the guest"),
            (
                StopReason::VmmKilled { signal: 9 },
                "its vmm was killed by signal 9",
            ),
            (
                StopReason::StartFailed {
                    message: "no tap".into(),
                },
                "could not be started: no tap",
            ),
        ];
        for (reason, text) in reasons {
            assert_eq!(reason.to_string(), text);
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(serde_json::from_str::<StopReason>(&json).unwrap(), reason);
        }
    }
}
