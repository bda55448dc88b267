//! What a device's thread did, for benches and status reports.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the device was made; written by one thread, read by any.
#[derive(Debug, Default)]
pub struct Counters {
    requests: AtomicU64,
    kicks: AtomicU64,
    enters: AtomicU64,
    completions: AtomicU64,
    failures: AtomicU64,
    bounced: AtomicU64,
    interrupts: AtomicU64,
    interrupts_suppressed: AtomicU64,
}

/// The values of [`Counters`] at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Operations submitted.
    pub requests: u64,
    /// Wake-ups by the driver.
    pub kicks: u64,
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Operations completed.
    pub completions: u64,
    /// Operations that failed, among the completed ones.
    pub failures: u64,
    /// Transfers that went through a bounce buffer.
    pub bounced: u64,
    /// Interrupts sent to the driver.
    pub interrupts: u64,
    /// Batches of completions for which the driver wanted none.
    pub interrupts_suppressed: u64,
}

macro_rules! count {
    ($($(#[$doc:meta])* $name:ident => $field:ident),* $(,)?) => {
        $($(#[$doc])* pub fn $name(&self) {
            self.$field.fetch_add(1, Ordering::Relaxed);
        })*
    };
}

impl Counters {
    count! {
        /// An operation was submitted.
        request => requests,
        /// The driver kicked: counted by who serves its queues, for other counters may be watched too.
        kick => kicks,
        /// `io_uring_enter` was called.
        enter => enters,
        /// An operation completed.
        completion => completions,
        /// It failed.
        failure => failures,
        /// A transfer was bounced.
        bounce => bounced,
        /// An interrupt was sent.
        interrupt => interrupts,
        /// An interrupt was not wanted.
        suppressed_interrupt => interrupts_suppressed,
    }

    /// The values now; each is exact, together they are not of one instant.
    pub fn snapshot(&self) -> Snapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            requests: get(&self.requests),
            kicks: get(&self.kicks),
            enters: get(&self.enters),
            completions: get(&self.completions),
            failures: get(&self.failures),
            bounced: get(&self.bounced),
            interrupts: get(&self.interrupts),
            interrupts_suppressed: get(&self.interrupts_suppressed),
        }
    }
}
