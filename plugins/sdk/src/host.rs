//! What the host program offers a policy.

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For the policy's author.
    Debug,
    /// Worth knowing.
    Info,
    /// Odd, but the answer stands.
    Warn,
    /// Why there is no answer.
    Error,
}

/// Writes a line for the operator. Outside of a component, as in a unit test, it goes nowhere.
#[cfg_attr(
    not(target_arch = "wasm32"),
    allow(unused_variables, reason = "it goes nowhere")
)]
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::scheduler::bindings::ashlar::policy::log as host;
        let level = match level {
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::write(level, message);
    }
}

/// The next random number; the same sequence for the same call. Outside of a component it is always 0.
#[must_use]
pub fn random() -> u64 {
    #[cfg(target_arch = "wasm32")]
    {
        crate::scheduler::bindings::ashlar::policy::random::next()
    }
    #[cfg(not(target_arch = "wasm32"))]
    {
        0
    }
}

/// Has panics write their message to the log, so that the operator sees more than a trap.
#[doc(hidden)]
pub fn report_panics() {
    #[cfg(target_arch = "wasm32")]
    std::panic::set_hook(alloc::boxed::Box::new(|panic| {
        log(Level::Error, &alloc::string::ToString::to_string(panic));
    }));
}
