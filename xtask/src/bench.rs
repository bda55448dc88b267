//! Runs the measurements of bench/ and keeps what they say.
//!
//! Each program of the package `bench` that isn't a helper is one measurement: it prints its table on standard output
//! and writes its figures as one JSON object to the file that `ASHLAR_BENCH_JSON` names.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};
use serde_json::{Value, json};

use crate::command::Invocation;
use crate::setup::{self, Purpose};
use crate::{build, paths, privilege, progress, targets};

/// Programs that measurements run, but that are none themselves.
const HELPERS: &[&str] = &["floor"];
const BENCH_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Builds and runs one measurement, or all.
pub fn run(name: Option<&str>) -> Result<()> {
    let all = measurements()?;
    let chosen: Vec<&String> = all
        .iter()
        .filter(|bench| name.is_none_or(|name| name == *bench))
        .collect();
    if chosen.is_empty() {
        bail!(
            "bench/ has no measurement {}; it has: {}",
            name.unwrap_or("yet"),
            all.join(", ")
        );
    }
    setup::ensure(&[Purpose::Build, Purpose::Run])?;
    targets::build(targets::Options::default())?;
    build::programs()?;
    progress::step("build bench/", build::measurements)?;
    let results = paths::out_dir("bench")?;
    let machine = machine()?;
    chosen.into_iter().try_for_each(|bench| {
        progress::step(&format!("bench {bench}"), || {
            measure(bench, &machine, &results)
        })
    })
}

/// The names of the programs, in order.
fn measurements() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .cargo_path(paths::cargo())
        .current_dir(paths::root())
        .no_deps()
        .exec()
        .context("cannot list the programs of bench/")?;
    let mut names: Vec<String> = metadata
        .packages
        .iter()
        .filter(|package| package.name.as_str() == "bench")
        .flat_map(|package| &package.targets)
        .filter(|target| {
            target.kind.contains(&TargetKind::Bin) && !HELPERS.contains(&target.name.as_str())
        })
        .map(|target| target.name.clone())
        .collect();
    names.sort();
    Ok(names)
}

fn measure(name: &str, machine: &Value, results: &Path) -> Result<()> {
    let figures = tempfile::NamedTempFile::new().context("cannot create a temporary file")?;
    Invocation::as_root(paths::program(name))
        .env("ASHLAR_BENCH_JSON", figures.path())
        .within(BENCH_LIMIT)
        .run()?;
    let text = std::fs::read_to_string(figures.path()).context("cannot read the figures")?;
    let figures: Value = serde_json::from_str(&text)
        .with_context(|| format!("{name} wrote no JSON to ASHLAR_BENCH_JSON"))?;
    let file = keep(
        name,
        &json!({ "bench": name, "machine": machine, "figures": figures }),
        results,
    )?;
    progress::note(format!("kept in {}", file.display()));
    Ok(())
}

fn keep(name: &str, result: &Value, results: &Path) -> Result<PathBuf> {
    let file = results.join(format!("{name}.json"));
    std::fs::write(&file, format!("{result:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// What the figures depend on.
fn machine() -> Result<Value> {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown", |(_, model)| model.trim());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .context("cannot read the kernel's version")?;
    let date = Invocation::new("date")
        .args(["-u", "+%Y-%m-%dT%H:%M:%SZ"])
        .read()?;
    Ok(json!({
        "cpu": model,
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "kernel": kernel.trim(),
        "date": date.trim(),
        "root": privilege::is_root(),
    }))
}
