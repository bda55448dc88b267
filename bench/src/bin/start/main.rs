//! From a request to a guest's first byte, three ways that take turns in one run:
//!
//! - the floor: a minimal KVM program that runs the same guest (`floor`), alone and with the start of its process; twice a
//!   round (A/A);
//! - a jailed vmm, without devices, and with a disk and an interface, the latter also in a process started ahead;
//! - RunInstances on a daemon of its own, with its network and security group.
//!
//! `start [--rounds N] [--memory-mib N] [--without-api]`; needs KVM and root, as the daemon does. `floor`, `ashlard` and `ashlar` are
//! those in the folder of this program, the probe the one `cargo xtask targets` builds.

mod api;
mod floor;
mod launched;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use bench::{least, median};
use serde_json::{Value, json};

struct Options {
    probe: PathBuf,
    programs: PathBuf,
    rounds: usize,
    memory_mib: u64,
    api: bool,
}

fn options() -> Result<Options> {
    let own = std::env::current_exe().context("cannot find this program's folder")?;
    let mut found = Options {
        probe: xtask::paths::out().join("probe"),
        programs: own.parent().context("no folder")?.to_owned(),
        rounds: 31,
        memory_mib: 128,
        api: true,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--probe" => found.probe = value()?.into(),
            "--programs" => found.programs = value()?.into(),
            "--rounds" => found.rounds = value()?.parse().context("--rounds takes a number")?,
            "--memory-mib" => {
                found.memory_mib = value()?.parse().context("--memory-mib takes a number")?;
            }
            "--without-api" => found.api = false,
            _ => bail!("unknown option {argument}"),
        }
    }
    ensure!(found.rounds > 0, "--rounds must be positive");
    Ok(found)
}

/// CLOCK_MONOTONIC in nanoseconds.
fn now_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

fn milliseconds(from_ns: u64, to_ns: u64) -> Result<f64> {
    let ns = to_ns.checked_sub(from_ns).context("time went backwards")?;
    Ok(std::time::Duration::from_nanos(ns).as_secs_f64() * 1e3)
}

/// Everything measured, one value a round each.
#[derive(Default)]
struct Rounds {
    floor: Vec<floor::Sample>,
    again: Vec<floor::Sample>,
    bare: Vec<launched::Sample>,
    devices: Vec<launched::Sample>,
    ahead: Vec<launched::Sample>,
    api: Vec<api::Sample>,
}

async fn measure(options: &Options) -> Result<(Rounds, Option<f64>)> {
    let folder = tempfile::Builder::new().prefix("bench-start-").tempdir()?;
    let launcher = launched::Launcher::new(options, folder.path())?;
    let mut api = match options.api {
        true => Some(api::Api::start(options, folder.path())?),
        false => None,
    };
    let mut rounds = Rounds::default();
    // The first round warms caches and is not counted.
    for round in 0..=options.rounds {
        let floor = floor::run(options)?;
        let mut variant = launched::Variant::default();
        let bare = launcher.run(variant).await?;
        variant.devices = true;
        let devices = launcher.run(variant).await?;
        variant.ahead = true;
        let ahead = launcher.run(variant).await?;
        let through_api = api.as_mut().map(api::Api::run).transpose()?;
        let again = floor::run(options)?;
        if round > 0 {
            rounds.floor.push(floor);
            rounds.again.push(again);
            rounds.bare.push(bare);
            rounds.devices.push(devices);
            rounds.ahead.push(ahead);
            rounds.api.extend(through_api);
        } else if let Some(api) = &mut api {
            api.begin()?;
        }
    }
    let api_cpu_ms = match api {
        Some(api) => Some(api.finish(options.rounds)?),
        None => None,
    };
    Ok((rounds, api_cpu_ms))
}

/// One line of the table.
struct Line {
    name: &'static str,
    values: Vec<f64>,
}

impl Line {
    fn new(name: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let values = values.collect();
        Self { name, values }
    }

    /// Prints it; `to` is what it is compared with, round by round.
    fn print(&self, to: Option<&Line>) -> Value {
        let (middle, least) = (
            median(self.values.iter().copied()),
            least(self.values.iter().copied()),
        );
        let ratio = to.map(|to| {
            let pairs = self.values.iter().zip(&to.values);
            median(pairs.map(|(mine, base)| mine / base))
        });
        let shown = ratio.map_or_else(String::new, |ratio| format!("{ratio:8.2}"));
        println!("{:44} {middle:9.3} {least:9.3} {shown}", self.name);
        json!({ "what": self.name, "median": middle, "least": least, "ratio": ratio })
    }
}

fn print(rounds: &Rounds, api_cpu_ms: Option<f64>) -> Value {
    let floors = |pick: fn(&floor::Sample) -> f64| {
        let pairs = rounds.floor.iter().zip(&rounds.again);
        pairs.map(move |(before, after)| f64::midpoint(pick(before), pick(after)))
    };
    let base = Line::new("floor + exec", floors(|sample| sample.with_exec_ms));
    let first = Line::new("", rounds.floor.iter().map(|sample| sample.with_exec_ms));
    let again = Line::new(
        "floor + exec again (A/A, to the first)",
        rounds.again.iter().map(|sample| sample.with_exec_ms),
    );
    println!(
        "{:44} {:>9} {:>9} {:>8}",
        "request to first output, ms", "median", "least", "ratio"
    );
    let mut lines = vec![
        Line::new("floor, in its process", floors(|sample| sample.alone_ms)).print(Some(&base)),
        base.print(None),
        again.print(Some(&first)),
    ];
    for (name, running, samples) in [
        ("vmm", "  of that until the guest starts", &rounds.bare),
        (
            "vmm with disk and interface",
            "  of that until the guest starts, with devices",
            &rounds.devices,
        ),
        (
            "the same in a process started ahead",
            "  of that until the guest starts, so",
            &rounds.ahead,
        ),
    ] {
        let whole = Line::new(name, samples.iter().map(|sample| sample.first_output_ms));
        let started = Line::new(running, samples.iter().map(|sample| sample.started_ms));
        lines.extend([whole.print(Some(&base)), started.print(Some(&base))]);
    }
    for (name, pick) in [
        (
            "RunInstances",
            (|sample| sample.first_output_ms) as fn(&api::Sample) -> f64,
        ),
        ("  accepted after", |sample| sample.accepted_ms),
        ("  disks and interface ready after", |sample| {
            sample.prepared_ms
        }),
        ("  rules in force, vCPUs run after", |sample| {
            sample.running_ms
        }),
    ] {
        if !rounds.api.is_empty() {
            lines.push(Line::new(name, rounds.api.iter().map(pick)).print(Some(&base)));
        }
    }
    println!(
        "\n{:44} {:>9} {:>9}",
        "CPU ms per create and destroy", "median", "least"
    );
    let cpu = [
        Line::new(
            "floor + exec",
            rounds.floor.iter().map(|sample| sample.cpu_ms),
        )
        .print(None),
        Line::new(
            "vmm, with what starts it",
            rounds.bare.iter().map(|sample| sample.cpu_ms),
        )
        .print(None),
        Line::new(
            "vmm with disk and interface",
            rounds.devices.iter().map(|sample| sample.cpu_ms),
        )
        .print(None),
    ];
    if let Some(mean) = api_cpu_ms {
        println!(
            "{:44} {mean:9.3} (mean)",
            "RunInstances to gone: daemon and vmm"
        );
    }
    println!(
        "\n{:44} {:>9} {:>9}",
        "KiB private to a vmm", "median", "least"
    );
    let private = [
        Line::new("vmm", rounds.bare.iter().map(|sample| sample.private_kib)).print(None),
        Line::new(
            "vmm with disk and interface",
            rounds.devices.iter().map(|sample| sample.private_kib),
        )
        .print(None),
    ];
    json!({
        "rounds": rounds.floor.len(), "first_output_ms": lines, "cpu_ms": cpu, "api_cpu_ms": api_cpu_ms,
        "private_kib": private,
    })
}

fn main() -> ExitCode {
    let measured = options().and_then(|options| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (rounds, api_cpu_ms) = runtime.block_on(measure(&options))?;
        bench::keep(&print(&rounds, api_cpu_ms))
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("start: {error:#}");
            ExitCode::FAILURE
        }
    }
}
