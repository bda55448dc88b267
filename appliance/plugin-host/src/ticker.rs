//! The clock behind call deadlines: a thread that advances the engine's epoch while calls are running.
//!
//! With no call for a while it parks, so an idle host program is not woken up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};
use wasmtime::Engine;

/// Ticks without a call after which the thread parks.
const LINGER: u32 = 20;

struct Shared {
    /// Calls begun minus calls ended.
    running: AtomicU64,
    stop: AtomicBool,
}

/// Owns the thread; dropping it ends the thread.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A running call. Deadlines are kept while it lives.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Advances the epoch of `engine` every `tick`.
    pub(crate) fn start(engine: Engine, tick: Duration) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let thread = thread::Builder::new()
            .name("policy-ticker".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || run(&shared, &engine, tick)
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Begins a call, unless `most` are running.
    pub(crate) fn begin(&self, most: u32) -> Option<Running<'_>> {
        // Sequentially consistent with the thread's look before it parks: either it sees this call, or this sees it
        // about to park and the token of `unpark` keeps it awake.
        let before = self.shared.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(&self.shared);
        if before >= u64::from(most) {
            return None;
        }
        if before == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Some(running)
    }
}

fn run(shared: &Shared, engine: &Engine, tick: Duration) {
    let mut idle = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        idle = match shared.running.load(Ordering::SeqCst) {
            0 => idle + 1,
            _ => 0,
        };
        if idle > LINGER {
            thread::park();
            idle = 0;
            continue;
        }
        thread::sleep(tick);
        engine.increment_epoch();
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It cannot have panicked; if it had, there would be nothing to do about it here.
            let _ = thread.join();
        }
    }
}
