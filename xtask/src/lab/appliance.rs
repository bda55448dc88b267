//! The host image in emulated machines: flashed, booted, updated, broken and mended, as an operator would see it.

mod machine;
mod network;
mod parts;
mod power_cut;
mod releases;
mod scenarios;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::setup::{self, Purpose};
use crate::{interrupt, paths, progress};
use releases::Releases;
use scenarios::SCENARIOS;

/// Machines at a time: as many as the continuous integration's machine has processors.
const AT_ONCE: usize = 2;

struct Ended {
    name: &'static str,
    proves: &'static str,
    time: Duration,
    failure: Option<String>,
    notes: Vec<String>,
}

/// Runs all scenarios, or the one that is named.
pub fn run(only: Option<&str>) -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Lab, Purpose::Image])?;
    let chosen: VecDeque<_> = SCENARIOS
        .iter()
        .filter(|scenario| only.is_none_or(|only| only == scenario.name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        bail!("there is no such scenario: there are {}", names.join(", "));
    }
    let releases = Releases::build()?;
    let waiting = Mutex::new(chosen);
    let ended = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(scenario) = next.filter(|_| !interrupt::requested()) else {
                        return;
                    };
                    let start = Instant::now();
                    let mut notes = Vec::new();
                    let outcome = (scenario.run)(&releases, &mut notes);
                    let failure = outcome.err().map(|error| format!("{error:#}"));
                    progress::note(format!(
                        "{} {}",
                        if failure.is_some() {
                            "FAILED"
                        } else {
                            "ok    "
                        },
                        scenario.name
                    ));
                    let result = Ended {
                        name: scenario.name,
                        proves: scenario.proves,
                        time: start.elapsed(),
                        failure,
                        notes,
                    };
                    ended
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(result);
                }
            });
        }
    });
    interrupt::check()?;
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    summarise(&releases, &ended);
    let failed: Vec<&str> = ended
        .iter()
        .filter(|ended| ended.failure.is_some())
        .map(|ended| ended.name)
        .collect();
    if !failed.is_empty() {
        bail!(
            "failed: {}; consoles are in {}",
            failed.join(", "),
            paths::out().join("lab").display()
        );
    }
    Ok(())
}

fn summarise(releases: &Releases, ended: &[Ended]) {
    println!();
    for ended in ended {
        let verdict = if ended.failure.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        println!(
            "{:>6.1} s  {verdict:<6}  {:<12} {}",
            ended.time.as_secs_f64(),
            ended.name,
            ended.proves
        );
        for note in &ended.notes {
            println!("                            {note}");
        }
        if let Some(failure) = &ended.failure {
            println!("                            {failure}");
        }
    }
    println!("{}", releases.figures());
    let passed = ended.iter().filter(|ended| ended.failure.is_none()).count();
    println!(
        "scenarios: {passed} passed, {} failed",
        ended.len() - passed
    );
}
