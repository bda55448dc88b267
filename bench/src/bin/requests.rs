//! Requests of many callers at once, to a real daemon on a file system of its own.
//!
//! - Group commit: how many flushes of the disk RunInstances takes, by how many callers there are at a time. The flushes are those that the
//!   kernel counts of the loop device that the state is on (Documentation/block/stat.rst), so nothing else is in them; instances are
//!   made and not started. One caller is measured twice (A/A), and once more on a host that has many instances.
//! - Swaps: how long placements take (RunInstances as a dry run, which asks the policy) while nobody changes anything, while
//!   another policy is activated again and again, and again while nobody does (A/A); and how many of them were lost, which must be none.
//!
//! Needs KVM and root, as the daemon does. `ashlard` and `ashlar` are those that `cargo xtask` builds, policies and probe those of
//! `cargo xtask targets`.

use std::fs;
use std::os::linux::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use bench::{ask, median};
use serde_json::{Value, json};
use xtask::host::Host;
use xtask::paths;
use xtask::pool::Pool;

/// Sparse.
const DISK_BYTES: u64 = 8 << 30;
const POOL_BYTES: u64 = 1 << 30;
/// Requests of a group-commit line, together.
const MADE: usize = 96;
/// Instances of a host that has many: so many requests for a hundred each.
const HUNDREDS: usize = 8;
/// Callers at a time, and how many requests each of them makes, of a line about swaps.
const CALLERS: usize = 4;
const ASKED: usize = 250;

fn main() -> ExitCode {
    if std::env::args().len() > 1 {
        eprintln!("requests: it takes no options");
        return ExitCode::from(2);
    }
    match measure().and_then(|figures| bench::keep(&figures)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("requests: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<Value> {
    let folder = tempfile::Builder::new().prefix("bench-req-").tempdir()?;
    let disk = Pool::make(folder.path(), DISK_BYTES)?;
    let bench = Bench::start(&disk.path())?;
    println!(
        "{:34} {:>9} {:>12} {:>12}",
        "RunInstances, not started", "flushes", "per request", "ms, median"
    );
    // What is needed once is made now, and not counted.
    bench.commit(1)?;
    let mut commits = Vec::new();
    for callers in [1, 4, 16, 1] {
        let line = bench.commit(callers)?;
        line.print(&format!("{callers} at a time"));
        commits.push(line.figures());
    }
    println!(
        "\n{:34} {:>9} {:>12} {:>12} {:>6} {:>6}",
        "placements (dry runs), ms", "median", "99 of 100", "longest", "swaps", "lost"
    );
    let swaps = [
        bench.swap("alone", false)?,
        bench.swap("while a policy is swapped", true)?,
        bench.swap("alone again (A/A)", false)?,
    ];
    bench.fill()?;
    println!();
    let full = bench.commit(1)?;
    full.print(&format!("1 at a time, beside {} others", HUNDREDS * 100));
    bench.host.tear_down()?;
    drop(disk);
    Ok(json!({ "group_commit": commits, "swaps": swaps, "beside_others": full.figures() }))
}

/// A line about group commit.
struct Commits {
    callers: usize,
    made: u32,
    flushes: u64,
    each: f64,
    ms: f64,
}

impl Commits {
    fn print(&self, what: &str) {
        let Self {
            flushes, each, ms, ..
        } = self;
        println!("{what:34} {flushes:9} {each:12.2} {ms:12.3}");
    }

    fn figures(&self) -> Value {
        json!({
            "callers": self.callers, "requests": self.made, "flushes": self.flushes, "per_request": self.each, "ms": self.ms,
        })
    }
}

struct Bench {
    host: Host,
    socket: PathBuf,
    image: String,
    /// The file with the counts of the disk that the state is on.
    counts: PathBuf,
}

impl Bench {
    fn start(disk: &Path) -> Result<Self> {
        let mut host = Host::new(
            &disk.join("host"),
            POOL_BYTES,
            &["--vcpus", "4096", "--memory-mib", "65536"],
        )?;
        host.start()?;
        let probe = paths::out().join("probe");
        let probe = probe.to_str().context("the probe's path is not UTF-8")?;
        let image = host.cli(&["images", "import", "--name", "probe", "--kernel", probe])?;
        let image = image["id"].as_str().context("no image")?.to_owned();
        let policy = paths::out().join("plugins/scheduler-basic.wasm");
        let policy = policy.to_str().context("the policies' path is not UTF-8")?;
        for strategy in ["spread", "bin-pack"] {
            let set = format!("strategy={strategy}");
            host.cli(&["plugins", "install", strategy, policy, "--set", &set])?;
        }
        host.cli(&["plugins", "activate", "spread"])?;
        let device = fs::metadata(host.state())?.st_dev();
        let counts = format!(
            "/sys/dev/block/{}:{}/stat",
            nix::sys::stat::major(device),
            nix::sys::stat::minor(device)
        );
        Ok(Self {
            socket: host.state().join("api.sock"),
            host,
            image,
            counts: counts.into(),
        })
    }

    /// How often the disk was flushed so far.
    fn flushes(&self) -> Result<u64> {
        let counts = fs::read_to_string(&self.counts)
            .with_context(|| format!("cannot read {}", self.counts.display()))?;
        let flushes = counts.split_whitespace().nth(15);
        Ok(flushes
            .context("this kernel does not count flushes (Linux 5.5)")?
            .parse()?)
    }

    fn request(&self, more: Value) -> Value {
        let mut request = json!({ "image_id": self.image, "vcpus": 1, "memory_mib": 32 });
        if let (Some(request), Value::Object(more)) = (request.as_object_mut(), more) {
            request.extend(more);
        }
        request
    }

    /// Makes many instances, which stay.
    fn fill(&self) -> Result<()> {
        let request = self.request(json!({ "start": false, "count": 100 }));
        for _ in 0..HUNDREDS {
            let (status, body) = ask(&self.socket, "POST", "/v1/instances", &request)?;
            ensure!(status < 300, "{status}: {body}");
        }
        Ok(())
    }

    /// Makes [`MADE`] instances by so many callers at a time, and deletes them.
    fn commit(&self, callers: usize) -> Result<Commits> {
        let request = self.request(json!({ "start": false }));
        let before = self.flushes()?;
        let answers = at_once(callers, MADE / callers, |_| {
            let (status, body) = ask(&self.socket, "POST", "/v1/instances", &request)?;
            ensure!(
                status == 202 || status == 201 || status == 200,
                "{status}: {body}"
            );
            let body: Value = serde_json::from_str(&body)?;
            let id = body["instances"][0]["id"].as_str().context("no instance")?;
            Ok(id.to_owned())
        })?;
        let flushes = self.flushes()? - before;
        let (ids, times): (Vec<String>, Vec<f64>) = answers.into_iter().unzip();
        let delete = [
            &["rm", "--wait"][..],
            &ids.iter().map(String::as_str).collect::<Vec<_>>(),
        ]
        .concat();
        self.host.cli(&delete)?;
        let made = u32::try_from(ids.len())?;
        #[allow(clippy::cast_precision_loss, reason = "a few hundred")]
        let each = flushes as f64 / f64::from(made);
        let ms = median(times);
        Ok(Commits {
            callers,
            made,
            flushes,
            each,
            ms,
        })
    }

    /// Asks for placements, while another policy is activated all the time, or not.
    fn swap(&self, what: &str, swapping: bool) -> Result<Value> {
        let request = self.request(json!({ "dry_run": true }));
        let (asking, lost, swaps) = (
            AtomicBool::new(true),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        let times = thread::scope(|scope| {
            let swapper = scope.spawn(|| -> Result<()> {
                while swapping && asking.load(Ordering::Relaxed) {
                    for policy in ["bin-pack", "spread"] {
                        let path = format!("/v1/plugins/{policy}/activate");
                        let (status, body) = ask(&self.socket, "POST", &path, &json!({}))?;
                        ensure!(status < 300, "a policy is not activated: {status}: {body}");
                        swaps.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(())
            });
            let times = at_once(CALLERS, ASKED, |_| {
                let (_, body) = ask(&self.socket, "POST", "/v1/instances", &request)?;
                // What would have succeeded is told so.
                if !body.contains("DryRunOperation") {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            });
            asking.store(false, Ordering::Relaxed);
            match swapper.join() {
                Ok(swapped) => swapped?,
                Err(_) => bail!("the thread that swaps panicked"),
            }
            times
        })?;
        let mut times: Vec<f64> = times.into_iter().map(|((), ms)| ms).collect();
        times.sort_by(f64::total_cmp);
        let longest = times.last().copied().unwrap_or(f64::NAN);
        let rare = times
            .get(times.len() * 99 / 100)
            .copied()
            .unwrap_or(f64::NAN);
        let (middle, swaps, lost) = (median(times), swaps.into_inner(), lost.into_inner());
        println!("{what:34} {middle:9.3} {rare:12.3} {longest:12.3} {swaps:6} {lost:6}");
        ensure!(
            lost == 0,
            "{lost} of {} requests were lost",
            CALLERS * ASKED
        );
        Ok(json!({
            "what": what, "requests": CALLERS * ASKED, "median_ms": middle, "p99_ms": rare, "longest_ms": longest,
            "swaps": swaps, "lost": lost,
        }))
    }
}

/// So many callers at a time, each of which calls so often: what they got, and the milliseconds it took.
fn at_once<T: Send>(
    callers: usize,
    calls: usize,
    call: impl Fn(usize) -> Result<T> + Sync,
) -> Result<Vec<(T, f64)>> {
    let one = |caller: usize| -> Result<Vec<(T, f64)>> {
        (0..calls)
            .map(|_| {
                let start = Instant::now();
                let got = call(caller)?;
                Ok((got, start.elapsed().as_secs_f64() * 1e3))
            })
            .collect()
    };
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = (0..callers)
            .map(|caller| scope.spawn(move || one(caller)))
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            match thread.join() {
                Ok(got) => all.extend(got?),
                Err(_) => bail!("a caller's thread panicked"),
            }
        }
        Ok(all)
    })
}
