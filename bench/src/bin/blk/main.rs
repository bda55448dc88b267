//! Random 4 KiB reads through a guest's virtio-blk, paired in one run with the same reads by a bare io_uring loop on
//! the same file.
//!
//! `blk [--probe ELF] [--folder DIR] [--rounds N] [--millis N] [--mib N] [--wait irq|poll]`; needs KVM and root, as the daemon does.
//! Prints a table, and writes one JSON object to the file that ASHLAR_BENCH_JSON names. Each round measures native, guest, native; ratios are
//! medians over the rounds, and native against native (A/A) tells how much of them is noise.

mod guest;
mod native;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use bench::median;
use serde_json::{Value, json};

use guest::{Guest, Sample};

const BLOCK_BYTES: u64 = 4096;
const DEPTHS: [u32; 2] = [1, 32];

struct Options {
    probe: PathBuf,
    folder: PathBuf,
    rounds: usize,
    millis: u64,
    mib: u64,
    wait: String,
}

fn options() -> Result<Options> {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let mut found = Options {
        probe: root.join("target/ashlar/probe"),
        folder: std::env::temp_dir(),
        rounds: 7,
        millis: 1000,
        mib: 256,
        wait: "irq".into(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let value = arguments
            .next()
            .with_context(|| format!("{argument} needs a value"))?;
        match argument.as_str() {
            "--probe" => found.probe = value.into(),
            "--folder" => found.folder = value.into(),
            "--rounds" => found.rounds = value.parse().context("--rounds takes a number")?,
            "--millis" => found.millis = value.parse().context("--millis takes a number")?,
            "--mib" => found.mib = value.parse().context("--mib takes a number")?,
            "--wait" => found.wait = value,
            _ => bail!("unknown option {argument}"),
        }
    }
    ensure!(
        found.rounds > 0 && found.millis > 0 && found.mib > 0,
        "numbers must be positive"
    );
    Ok(found)
}

/// All rounds of one depth.
struct Depth {
    depth: u32,
    native: Vec<f64>,
    again: Vec<f64>,
    guest: Vec<Sample>,
}

impl Depth {
    fn ratio(&self) -> f64 {
        let pairs = self.guest.iter().zip(self.native.iter().zip(&self.again));
        median(pairs.map(|(guest, (before, after))| guest.iops / ((before + after) / 2.0)))
    }

    fn noise(&self) -> f64 {
        median(
            self.native
                .iter()
                .zip(&self.again)
                .map(|(before, after)| after / before),
        )
    }

    fn per_request(&self, count: impl Fn(&Sample) -> u64) -> f64 {
        let requests: u64 = self.guest.iter().map(|sample| sample.requests).sum();
        let total: u64 = self.guest.iter().map(count).sum();
        float(total) / float(requests.max(1))
    }
}

/// Counts of this program are far below 2^53.
pub(crate) fn float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

async fn measure(options: &Options) -> Result<Value> {
    let folder = tempfile::Builder::new()
        .prefix("bench-blk-")
        .tempdir_in(&options.folder)?;
    let path = folder.path().join("disk");
    let disk = File::create_new(&path).context("making the disk's file")?;
    disk.set_len(options.mib << 20)?;
    let mut guest = Guest::start(&options.probe, &path, folder.path()).await?;
    // The guest fills its disk, so that every read is of real blocks, and checks it.
    guest.obey("disk write 0 seed=1 block=256K depth=8").await?;
    guest.obey("disk flush 0").await?;
    let verified = guest
        .obey("disk verify 0 seed=1 block=256K depth=8")
        .await?;
    ensure!(
        verified.contains("result=same"),
        "the disk does not hold what was written: {verified}"
    );
    let (engine, caching) = guest.engine().await?;

    let mut depths = Vec::new();
    for depth in DEPTHS {
        let mut all = Depth {
            depth,
            native: Vec::new(),
            again: Vec::new(),
            guest: Vec::new(),
        };
        for _ in 0..options.rounds {
            all.native
                .push(native::random_reads(&path, depth, options.millis)?);
            all.guest.push(
                guest
                    .random_reads(depth, options.millis, &options.wait)
                    .await?,
            );
            all.again
                .push(native::random_reads(&path, depth, options.millis)?);
        }
        depths.push(all);
    }
    guest.stop().await?;
    Ok(print(&depths, &engine, &caching, &options.wait))
}

fn print(depths: &[Depth], engine: &str, caching: &str, wait: &str) -> Value {
    println!("random 4 KiB reads, {engine}, {caching}; the guest waits by {wait}");
    println!("depth  native/s   guest/s  guest/native  A/A    enters  kicks  irqs   calls/request");
    let mut rows = Vec::new();
    for all in depths {
        let native = median(all.native.iter().chain(&all.again).copied());
        let guest = median(all.guest.iter().map(|sample| sample.iops));
        let (ratio, noise) = (all.ratio(), all.noise());
        let enters = all.per_request(|sample| sample.enters);
        let kicks = all.per_request(|sample| sample.kicks);
        let interrupts = all.per_request(|sample| sample.interrupts);
        // The I/O thread's calls: entering the ring, and one write per interrupt.
        let calls = enters + interrupts;
        println!(
            "{:5} {native:9.0} {guest:9.0} {ratio:13.3} {noise:6.3} {enters:7.3} {kicks:6.3} {interrupts:6.3} {calls:8.3}",
            all.depth
        );
        rows.push(json!({
            "depth": all.depth, "native_iops": native, "guest_iops": guest, "guest_over_native": ratio,
            "native_over_native": noise, "enters_per_request": enters, "kicks_per_request": kicks,
            "interrupts_per_request": interrupts, "system_calls_per_request": calls, "rounds": all.guest.len(),
        }));
    }
    json!({ "block_bytes": BLOCK_BYTES, "engine": engine, "caching": caching, "guest_waits_by": wait, "depths": rows })
}

fn main() -> ExitCode {
    // The measured vmm is this executable again, as the daemon's is the daemon.
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, number] = arguments.as_slice()
        && role == "vmm"
        && let Ok(number) = number.parse()
    {
        return vmm::run(number);
    }
    let measured = options().and_then(|options| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        bench::keep(&runtime.block_on(measure(&options))?)
    });
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("blk: {error:#}");
            ExitCode::FAILURE
        }
    }
}
