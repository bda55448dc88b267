//! What surrounds one call: its limits, its log lines and its random numbers.

use crate::{
    Limits,
    bindings::scheduler::ashlar::policy::{
        log::{self, Level},
        random,
    },
    limits::one_line,
};
use types::ByteCount;
use wasmtime::ResourceLimiter;

/// The most core instances, memories and tables of a component. A component is a few instances around one module.
pub(crate) const MAX_INSTANCES: u32 = 12;
pub(crate) const MAX_MEMORIES: u32 = 2;
pub(crate) const MAX_TABLES: u32 = 4;

/// The state of one call, and what its instance holds.
pub(crate) struct Sandbox {
    memory_left: usize,
    elements_left: usize,
    lines_left: usize,
    random: u64,
    /// Log lines of the call.
    pub lines: Vec<(Level, String)>,
    /// Lines that were not kept.
    pub dropped: u64,
    /// If the call asked for more memory or table elements than it may have: what it asked for.
    pub refused: Option<String>,
}

impl Sandbox {
    pub(crate) fn new(limits: &Limits, seed: u64) -> Self {
        Self {
            memory_left: usize::try_from(limits.memory.bytes()).unwrap_or(usize::MAX),
            elements_left: limits.table_elements,
            lines_left: limits.log_lines,
            random: seed,
            lines: Vec::new(),
            dropped: 0,
            refused: None,
        }
    }

    /// Makes it ready for another call of the same instance, which keeps the memory it has.
    pub(crate) fn renew(&mut self, limits: &Limits, seed: u64) {
        self.lines_left = limits.log_lines;
        self.random = seed;
        self.lines.clear();
        self.dropped = 0;
        self.refused = None;
    }

    /// Begins the random numbers anew.
    pub(crate) fn reseed(&mut self, seed: u64) {
        self.random = seed;
    }

    /// The policy's own words on why it ended: its last line of level error.
    pub(crate) fn last_words(&self) -> Option<&str> {
        let mut lines = self.lines.iter().rev();
        lines
            .find(|(level, _)| *level == Level::Error)
            .map(|(_, line)| line.as_str())
    }
}

impl log::Host for Sandbox {
    fn write(&mut self, level: Level, message: String) {
        if self.lines_left == 0 {
            self.dropped = self.dropped.saturating_add(1);
            // The last words are worth more than the first.
            if level == Level::Error {
                self.lines.pop();
                self.lines.push((level, one_line(&message)));
            }
            return;
        }
        self.lines_left -= 1;
        self.lines.push((level, one_line(&message)));
    }
}

impl random::Host for Sandbox {
    /// SplitMix64: every seed gives a full-period sequence, and it is the same everywhere.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl ResourceLimiter for Sandbox {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let Some(left) = self.memory_left.checked_sub(more) else {
            let bytes = u64::try_from(desired).unwrap_or(u64::MAX);
            self.refused = Some(format!("a memory of {}", ByteCount::new(bytes)));
            return Ok(false);
        };
        self.memory_left = left;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let Some(left) = self.elements_left.checked_sub(more) else {
            self.refused = Some(format!("a table of {desired} elements"));
            return Ok(false);
        };
        self.elements_left = left;
        Ok(true)
    }

    fn instances(&self) -> usize {
        // u32 to usize: lossless on every target this runs on.
        usize::try_from(MAX_INSTANCES).unwrap_or(usize::MAX)
    }

    fn memories(&self) -> usize {
        usize::try_from(MAX_MEMORIES).unwrap_or(usize::MAX)
    }

    fn tables(&self) -> usize {
        usize::try_from(MAX_TABLES).unwrap_or(usize::MAX)
    }
}

/// A seed from text: FNV-1a, 64 bits. Not for secrets.
pub(crate) fn seed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
