//! The serial console: what the guest prints survives in a ring file, what the user types reaches the guest.
//!
//! ```text
//! guest ─ COM1 ─▶ Console ─▶ RingWriter ─▶ ring file (the daemon's) ─▶ ConsoleReader
//! guest ◀─ COM1 ─ Console ◀─ Action::ConsoleInput (as many bytes as there is room for)
//! ```

mod ring;
mod serial;

pub(crate) use ring::RingWriter;
pub use ring::{Chunk, ConsoleReader, RING_BYTES, create};
pub(crate) use serial::{Console, OutputWatch, monotonic_ns};
