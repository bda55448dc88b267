//! Everything continuous integration runs, in the order in which it fails soonest.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::Invocation;
use crate::setup::{self, Purpose};
use crate::{build, check, lab, paths, privilege, progress, targets, up};

const TEST_LIMIT: Duration = Duration::from_secs(20 * 60);

/// One step: its name, what it does, where to look when it fails.
struct Step {
    name: &'static str,
    work: fn() -> Result<()>,
    hint: &'static str,
}

const STEPS: &[Step] = &[
    Step {
        name: "set-up",
        work: || setup::ensure(&Purpose::ALL),
        hint: "`cargo xtask setup` does only this",
    },
    Step {
        name: "targets",
        work: || targets::build_all(targets::Options::default()),
        hint: "`cargo xtask targets --force` does only this; `--by` chooses the compiler",
    },
    Step {
        name: "check",
        work: check::run,
        hint: "`cargo xtask check` does only this",
    },
    Step {
        name: "tests of guest code and policies on this machine",
        work: || targets::test_all(TEST_LIMIT),
        hint: "run `cargo test` in firmware/ or plugins/; what tests the policy in C is in its folder `tests`",
    },
    Step {
        name: "build",
        work: build::tests,
        hint: "`cargo test --workspace --release --no-run` does only this",
    },
    Step {
        name: "tests",
        work: tests,
        hint: "run `cargo test --release --package NAME -- TEST` as root for the test named above",
    },
    Step {
        name: "main job",
        work: || {
            up::run(up::Options {
                once: true,
                output: up::Output::Json,
            })
        },
        hint: "`cargo xtask up --once` does only this",
    },
    Step {
        name: "Linux guest",
        work: || lab::run(lab::Lab::LinuxGuest { alone: false }),
        hint: "`cargo xtask lab linux-guest` does only this; with `--alone` it tries the guest without the daemon",
    },
    Step {
        name: "host image",
        work: || lab::run(lab::Lab::Appliance { only: None }),
        hint: "`cargo xtask lab appliance` does only this; with `--only NAME` one scenario of it",
    },
];

/// Runs it all and stops at the first step that fails.
pub fn run() -> Result<()> {
    let mut times = Vec::new();
    for step in STEPS {
        let start = Instant::now();
        let result = progress::step(step.name, step.work);
        times.push((step.name, start.elapsed(), result.is_ok()));
        if result.is_err() {
            summarise(&times);
        }
        result.with_context(|| step.hint)?;
    }
    summarise(&times);
    Ok(())
}

fn summarise(times: &[(&str, Duration, bool)]) {
    println!();
    for (name, time, passed) in times {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("{:>8.1} s  {verdict:<6}  {name}", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time, _)| *time).sum();
    let passed = times.iter().filter(|(_, _, passed)| *passed).count();
    println!("{:>8.1} s  all of it", total.as_secs_f64());
    println!(
        "steps: {passed} passed, {} failed, of {}",
        times.len() - passed,
        STEPS.len()
    );
}

fn tests() -> Result<()> {
    let mut tests = cargo(&["test", "--workspace", "--release"]);
    if !privilege::is_root() {
        // Only the test programs are raised: KVM, network namespaces and mounts need root, compiling doesn't.
        tests = tests.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -n -E");
    }
    tests.within(TEST_LIMIT).run()
}

fn cargo(args: &[&str]) -> Invocation {
    Invocation::new(paths::cargo())
        .args(args)
        .dir(paths::root())
}
