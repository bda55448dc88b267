//! What may be done to an instance in which state.

use crate::State;
use std::fmt;

/// An operation a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// ECS StartInstance.
    Start,
    /// ECS StopInstance.
    Stop {
        /// Take the machine away without asking the guest. Also cuts short a stop that is under way.
        force: bool,
    },
    /// ECS RebootInstance.
    Reboot,
    /// ECS DeleteInstance.
    Release {
        /// Whatever the state, without asking the guest.
        force: bool,
    },
    /// Type into the console.
    ConsoleInput,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 7] = [
        Self::Start,
        Self::Stop { force: false },
        Self::Stop { force: true },
        Self::Reboot,
        Self::Release { force: false },
        Self::Release { force: true },
        Self::ConsoleInput,
    ];

    /// The states in which it may be asked for.
    ///
    /// | | Pending | Starting | Running | Stopping | Stopped |
    /// |---|---|---|---|---|---|
    /// | Start | | | | | ✓ |
    /// | Stop | ✓ | ✓ | ✓ | | |
    /// | Stop by force | ✓ | ✓ | ✓ | ✓ | |
    /// | Reboot | | | ✓ | | |
    /// | Release | | | | | ✓ |
    /// | Release by force | ✓ | ✓ | ✓ | ✓ | ✓ |
    /// | Console input | | | ✓ | ✓ | |
    #[must_use]
    pub const fn states(self) -> &'static [State] {
        use State::{Pending, Running, Starting, Stopped, Stopping};
        match self {
            Self::Start | Self::Release { force: false } => &[Stopped],
            Self::Stop { force: false } => &[Pending, Starting, Running],
            Self::Stop { force: true } => &[Pending, Starting, Running, Stopping],
            Self::Reboot => &[Running],
            Self::Release { force: true } => &State::ALL,
            Self::ConsoleInput => &[Running, Stopping],
        }
    }

    /// Whether it may be asked for in `state`.
    ///
    /// # Errors
    /// [`IncorrectStatus`] (ECS `IncorrectInstanceStatus`) otherwise.
    pub fn permit(self, state: State) -> Result<(), IncorrectStatus> {
        if self.states().contains(&state) {
            Ok(())
        } else {
            Err(IncorrectStatus {
                operation: self,
                state,
            })
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Start => "be started",
            Self::Stop { force: false } => "be stopped",
            Self::Stop { force: true } => "be stopped by force",
            Self::Reboot => "be rebooted",
            Self::Release { force: false } => "be released without force",
            Self::Release { force: true } => "be released",
            Self::ConsoleInput => "take console input",
        }
    }
}

/// The operation is not allowed in the instance's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IncorrectStatus {
    /// What was asked for.
    pub operation: Operation,
    /// The state the instance is in.
    pub state: State,
}

impl fmt::Display for IncorrectStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an instance that is {} cannot {}; it must be ",
            self.state,
            self.operation.verb()
        )?;
        for (position, state) in self.operation.states().iter().enumerate() {
            let separator = if position == 0 { "" } else { " or " };
            write!(f, "{separator}{state}")?;
        }
        Ok(())
    }
}

impl std::error::Error for IncorrectStatus {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Change;

    #[test]
    fn only_named_states_permit() {
        for operation in Operation::ALL {
            for state in State::ALL {
                let permitted = operation.permit(state);
                assert_eq!(permitted.is_ok(), operation.states().contains(&state));
                if let Err(error) = permitted {
                    assert!(error.to_string().contains(state.name()), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_is_permitted_can_happen() {
        for state in State::ALL {
            if Operation::Start.permit(state).is_ok() {
                assert!(state.after(Change::Start).is_some(), "start in {state}");
            }
            if (Operation::Stop { force: false }).permit(state).is_ok() {
                assert!(state.after(Change::Stop).is_some(), "stop in {state}");
            }
            if (Operation::Stop { force: true }).permit(state).is_ok() {
                assert!(
                    state.after(Change::Exit).is_some(),
                    "forced stop in {state}"
                );
            }
        }
    }

    #[test]
    fn the_message_says_what_would_be_right() {
        let error = Operation::Stop { force: false }
            .permit(State::Stopped)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "an instance that is Stopped cannot be stopped; it must be Pending or Starting or Running"
        );
    }
}
