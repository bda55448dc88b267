//! The daemon of an Ashlar host: it wires the layers to each other and holds no logic of its own.
//!
//! `ashlard serve` is the daemon; `ashlard vmm` is what it re-executes for each instance; `ashlard teardown` takes away what
//! a host left on the machine; `ashlard state` takes its state to another schema;
//! `ashlard init` is the first process of a host image.

#![forbid(unsafe_code)]

mod host_machine;
mod machines;
mod networks;
mod options;
mod policies;
mod serve;
mod state;
mod teardown;

use clap::Parser;
use options::{Options, Task};
use std::process::ExitCode;

/// The task in which this program runs one machine. Not for people: it needs descriptors only the daemon passes.
const VMM_TASK: &str = "vmm";

fn main() -> ExitCode {
    // Before anything is parsed, allocated or started: a vmm confines itself first.
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(VMM_TASK) {
        return match arguments.next().and_then(|number| number.parse().ok()) {
            Some(description) => vmm::run(description),
            None => ExitCode::from(2),
        };
    }
    // The kernel passes its own leftovers as arguments to the first process.
    if std::process::id() == 1 {
        return init::run();
    }
    let outcome = match Options::parse().task {
        Task::Serve(options) => serve::run(*options),
        Task::Init => return init::run(),
        Task::Teardown(options) => teardown::run(options),
        Task::State(task) => state::run(&task),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ashlard: {error:#}");
            if let Some(next_step) = next_step(&error) {
                eprintln!("  next: {next_step}");
            }
            ExitCode::FAILURE
        }
    }
}

/// What to do about a failure, where the layer that failed knows.
fn next_step(error: &anyhow::Error) -> Option<&str> {
    error.chain().find_map(|cause| {
        let pool = cause.downcast_ref().map(pool::PoolError::next_step);
        let store = cause.downcast_ref().map(store::StoreError::next_step);
        pool.or(store)
            .or_else(|| cause.downcast_ref::<control::ControlError>()?.next_step())
    })
}
