//! What a policy may use.

use std::time::Duration;
use types::ByteCount;

/// Limits of one call, and of the host program as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Wall time of a call. It is kept to about a tick (a fifth of it).
    pub deadline: Duration,
    /// Instructions of a call, about.
    pub fuel: u64,
    /// Linear memory of a call, all memories together.
    pub memory: ByteCount,
    /// Elements of a call's tables, all tables together.
    pub table_elements: usize,
    /// Bytes a call may hand over, in log lines and in its answer.
    pub answer: ByteCount,
    /// Log lines kept of a call; the others are counted and dropped.
    pub log_lines: usize,
    /// Calls at once; one more fails as busy.
    pub calls: u32,
    /// Instances of schedulers, with the table of hosts in their memory, that are kept between calls, of all policies together; beyond them every
    /// call makes an instance of its own.
    pub kept: u32,
    /// Questions a kept instance answers before another takes its place: what it leaks goes with it.
    pub reuse: u32,
    /// Of this many answers of kept instances one is compared with a new instance's; such a call may take twice as long. 0 for none.
    pub compare: u32,
    /// Size of a component's file.
    pub component: ByteCount,
    /// Failures in a row after which a policy is not asked any more.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(50),
            fuel: 100_000_000,
            memory: ByteCount::from_mib(32),
            table_elements: 10_000,
            answer: ByteCount::from_mib(8),
            log_lines: 32,
            calls: 16,
            kept: 4,
            reuse: 10_000,
            compare: 256,
            component: ByteCount::from_mib(16),
            failures: 5,
        }
    }
}

/// The longest text of a policy that is kept: a log line, or its words in a failure. In characters.
pub(crate) const MAX_TEXT: usize = 512;

/// `text` on one line of at most [`MAX_TEXT`] characters.
pub(crate) fn one_line(text: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    let mut line: String = text.trim().chars().take(MAX_TEXT).map(printable).collect();
    if text.trim().chars().nth(MAX_TEXT).is_some() {
        line.push('…');
    }
    line
}
