//! Events: what happened on the host, as it happens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Counts up by one from the daemon's start; a gap means that events were missed.
    pub sequence: u64,
    /// When (RFC 3339).
    #[schema(format = DateTime)]
    pub at: String,
    /// What, for programs: `instance.state`.
    pub kind: String,
    /// The id of what it happened to.
    pub subject_id: String,
    /// The subject's state after it, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// For people.
    pub message: String,
}
