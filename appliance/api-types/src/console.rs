//! The serial console.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Response header of the raw console: the offset of the body's first byte.
pub const CONSOLE_FROM_HEADER: &str = "x-console-from";

/// Response header of the raw console without `follow`: the offset after the body's last byte.
pub const CONSOLE_NEXT_HEADER: &str = "x-console-next";

/// Part of a console's output. Offsets count the bytes the guest wrote since the instance was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleChunk {
    /// Offset of the first byte in `data`. Larger than what was asked for when that is no longer kept.
    pub from: u64,
    /// Offset after the last byte: ask for this next.
    pub next: u64,
    /// The bytes as text; bytes that aren't UTF-8 are replaced.
    pub text: String,
}
