//! Schedules: what is due, and that it is done in order.

use serde::{Deserialize, Serialize};
use types::Timestamp;

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due<A> {
    /// When it should be done; may be long ago.
    pub at: Timestamp,
    /// What.
    pub action: A,
}

/// An action was reported done that is not the next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{reported}` of {at} is not what is due next; ask what is due and do that in order")]
pub struct OutOfOrder {
    reported: String,
    at: Timestamp,
}

impl OutOfOrder {
    /// About that action.
    pub(crate) fn of<A: std::fmt::Debug>(due: &Due<A>) -> Self {
        Self {
            reported: format!("{:?}", due.action),
            at: due.at,
        }
    }
}

/// What of `upcoming` (in order of time) is due at `now`.
pub(crate) fn until<A>(upcoming: Vec<Due<A>>, now: Timestamp) -> Vec<Due<A>> {
    upcoming
        .into_iter()
        .take_while(|due| due.at <= now)
        .collect()
}

/// Whether `done` moves a schedule on: it is the first of `upcoming`, and nothing if it was done before, at `through` or earlier.
pub(crate) fn advances<A: PartialEq + std::fmt::Debug>(
    upcoming: &[Due<A>],
    through: Option<Timestamp>,
    done: &Due<A>,
) -> Result<bool, OutOfOrder> {
    if through.is_some_and(|through| done.at <= through) {
        return Ok(false);
    }
    if upcoming.first() == Some(done) {
        return Ok(true);
    }
    Err(OutOfOrder::of(done))
}
