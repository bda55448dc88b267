//! A placement by a component beside the same policy as native code, in one run.
//!
//! For 1, 1,000 and 10,000 hosts: microseconds per call of `scheduler-basic` in its sandbox and of the built-in policy, which gives the
//! same answers, and the native policy against itself (A/A) for the noise. The instance is kept between calls; the line "new instance"
//! is a call that has to make and load its own. Then batches of placements over 10,000 hosts, each booked before the next, where
//! the component finds the winners in its index and the native policy scans all hosts; and rating 1,000 intervals.
//! ASHLAR_RECORDED names a file of decisions that hosts have made (`ashlar decisions export`; those of several hosts in one file make a
//! cluster). They are decided again, each over its own hosts; and their requests are placed, in batches and in their order, over the
//! hosts as they were last, repeated up to 10,000.
//!
//! The component is taken from the folder named by ASHLAR_PLUGINS, else from `target/ashlar/plugins`; `cargo xtask targets` builds
//! it.

use anyhow::{Context, Result, ensure};
use bench::{component, median};
use ledger::{PriceList, Prices, RatingInput, RatingPolicy, Usage};
use placement::{
    Affinity, BuiltIn, HostRow, HostTable, PlacementRequest, SchedulingPolicy, Strategy,
};
use plugin_host::{Limits, Parameters, PluginHost};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};
use types::{ByteCount, Currency, Decimal, HostId, InstanceId, Timestamp, UsageId};

/// Rounds per figure; the sides take turns in each, and the median counts.
const ROUNDS: usize = 31;
/// How long a side runs in a round, about.
const ROUND: Duration = Duration::from_millis(10);

fn main() -> Result<()> {
    let recorded = std::env::var_os("ASHLAR_RECORDED");
    let recorded = recorded.map(|file| Recorded::read(Path::new(&file)));
    let recorded = recorded.transpose()?;
    let cache = tempfile::tempdir().context("cannot make a folder for compiled policies")?;
    let limits = Limits {
        // What is measured is the usual call, not the machine's hiccups.
        deadline: Duration::from_secs(10),
        ..Limits::default()
    };
    let host = PluginHost::new(limits.clone(), cache.path())?;
    let fresh = PluginHost::new(Limits { kept: 0, ..limits }, cache.path())?;
    let mut figures = Vec::new();
    println!(
        "{:28} {:>10} {:>10} {:>8} {:>6}",
        "µs per call", "native", "component", "ratio", "A/A"
    );
    for hosts in [1, 1_000, 10_000] {
        figures.push(placement(&host, hosts, "")?);
    }
    for hosts in [1, 10_000] {
        figures.push(placement(&fresh, hosts, ", new instance")?);
    }
    for strategy in [Strategy::Spread, Strategy::BinPack] {
        figures.push(batch(&host, strategy)?);
    }
    if let Some(recorded) = recorded {
        figures.push(recorded.decisions(&host)?);
        for strategy in [Strategy::Spread, Strategy::BinPack] {
            figures.push(recorded.cluster(&host, strategy)?);
        }
    }
    figures.push(rating(&host, 1_000)?);
    bench::keep(&json!({ "calls": figures }))
}

/// Hosts of 64 vCPUs and 256 GiB that are taken in all kinds of ways.
fn table(hosts: u32) -> Result<HostTable> {
    let row = |id: u32| HostRow {
        vcpus_used: id % 64,
        memory_used: ByteCount::from_gib(u64::from(id.wrapping_mul(37) % 61) * 4),
        ..HostRow::new(
            HostId::generate(id.into()),
            "a",
            64,
            ByteCount::from_gib(256),
        )
    };
    Ok(HostTable::new((0..hosts).map(row).collect())?)
}

fn request(id: u32) -> PlacementRequest {
    let vcpus = 1 << (id % 3);
    PlacementRequest {
        instance: InstanceId::generate(id.into()),
        instance_type: "ecs.g6.large".to_owned(),
        vcpus,
        memory: ByteCount::from_gib(u64::from(vcpus) * 4),
        local_disk: ByteCount::ZERO,
        zone: Some("a".to_owned()),
        deployment_set: None,
        spot: false,
        affinity: Affinity::default(),
    }
}

fn placement(host: &PluginHost, hosts: u32, how: &str) -> Result<Value> {
    let bytes = component(host, "scheduler-basic")?;
    let component = host.load_scheduler("scheduler-basic", &bytes, &Parameters::new())?;
    let native = BuiltIn::default();
    let (hosts, request) = (table(hosts)?, request(1));
    let same = component.evaluate(&request, &hosts)? == native.evaluate(&request, &hosts)?;
    ensure!(same, "the component and the built-in policy disagree");
    compare(
        &format!("{} hosts{how}", hosts.len()),
        || native.evaluate(&request, &hosts).is_ok(),
        || component.evaluate(&request, &hosts).is_ok(),
    )
}

/// Placements a batch.
const BATCH: u32 = 1_000;

fn batch(host: &PluginHost, strategy: Strategy) -> Result<Value> {
    let requests: Vec<PlacementRequest> = (0..BATCH).map(request).collect();
    let what = format!("{BATCH} placements, {strategy}");
    place(host, strategy, &what, &table(10_000)?, &requests)
}

/// The table stays as it is, so that each batch finds the bookings of the one before taken back: as many changes as placements.
fn place(
    host: &PluginHost,
    strategy: Strategy,
    what: &str,
    hosts: &HostTable,
    requests: &[PlacementRequest],
) -> Result<Value> {
    let bytes = component(host, "scheduler-basic")?;
    let parameters = [("strategy".to_owned(), strategy.to_string())].into();
    let component = host.load_scheduler("scheduler-basic", &bytes, &parameters)?;
    let native = BuiltIn::new(strategy);
    let winners = native.place(requests, hosts)?;
    for _ in 0..2 {
        let same = component.place(requests, hosts)? == winners;
        ensure!(same, "the index and the full scan name different winners");
    }
    let mut figures = compare(
        what,
        || native.place(requests, hosts).is_ok(),
        || component.place(requests, hosts).is_ok(),
    )?;
    if let Some(micros) = figures["component_us"].as_f64() {
        let per_second = requests.len() as f64 * 1e6 / micros;
        println!("{:28} {per_second:>21.0}", "  placements/s");
        figures["placements_per_second"] = json!(per_second);
    }
    Ok(figures)
}

/// Decisions that hosts have made.
struct Recorded {
    made: Vec<(PlacementRequest, HostTable)>,
}

impl Recorded {
    fn read(file: &Path) -> Result<Self> {
        let shown = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
        let mut made = Vec::new();
        for (line, number) in text.lines().zip(1..) {
            let read = || -> Result<(PlacementRequest, HostTable)> {
                let mut line: Value = serde_json::from_str(line)?;
                let request = serde_json::from_value(line["request"].take())?;
                Ok((request, serde_json::from_value(line["hosts"].take())?))
            };
            made.push(read().with_context(|| format!("line {number} of {shown} is no decision"))?);
        }
        ensure!(!made.is_empty(), "{shown} holds no decision");
        Ok(Self { made })
    }

    /// Each is made again from what it was made from.
    fn decisions(&self, host: &PluginHost) -> Result<Value> {
        let bytes = component(host, "scheduler-basic")?;
        let component = host.load_scheduler("scheduler-basic", &bytes, &Parameters::new())?;
        let native = BuiltIn::default();
        for (request, hosts) in &self.made {
            let same = component.evaluate(request, hosts)? == native.evaluate(request, hosts)?;
            ensure!(same, "the component and the built-in policy disagree");
        }
        let all = |policy: &dyn SchedulingPolicy| {
            let mut made = self.made.iter();
            made.all(|(request, hosts)| policy.evaluate(request, hosts).is_ok())
        };
        compare(
            &format!("{} recorded decisions", self.made.len()),
            || all(&native),
            || all(&*component),
        )
    }

    /// Their requests over the hosts as they were last, repeated up to 10,000.
    fn cluster(&self, host: &PluginHost, strategy: Strategy) -> Result<Value> {
        let mut last: BTreeMap<HostId, HostRow> = BTreeMap::new();
        for (_, hosts) in &self.made {
            last.extend(hosts.rows().map(|row| (row.id, row)));
        }
        ensure!(!last.is_empty(), "no decision knew of a host");
        let hosts = (0_u32..10_000).zip(last.values().cycle());
        let hosts = hosts.map(|(id, row)| HostRow {
            id: HostId::generate(id.into()),
            ..row.clone()
        });
        let hosts = HostTable::new(hosts.collect())?;
        let requests = (0..BATCH).zip(self.made.iter().cycle());
        let requests = requests.map(|(id, (request, _))| PlacementRequest {
            instance: InstanceId::generate(id.into()),
            // It was about hosts that are not these.
            affinity: Affinity::default(),
            ..request.clone()
        });
        let requests: Vec<PlacementRequest> = requests.collect();
        let what = format!("{BATCH} recorded, {strategy}");
        place(host, strategy, &what, &hosts, &requests)
    }
}

fn rating(host: &PluginHost, intervals: u32) -> Result<Value> {
    let native = PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: [("ecs.g6.large".to_owned(), Decimal::new(72, 2))].into(),
        vcpu: Decimal::new(1, 1),
        memory_gib: Decimal::new(3, 2),
        disk_categories: [].into(),
        disk_gib: Decimal::new(13, 4),
        meters: [].into(),
    })?;
    let parameters = native.parameters().into_iter().collect();
    let bytes = component(host, "billing-payg")?;
    let component = host.load_billing("billing-payg", &bytes, &parameters)?;
    let input = |id: u32| RatingInput {
        interval: UsageId::generate(id.into()),
        usage: Usage::InstanceRunning {
            instance: InstanceId::generate(id.into()),
            instance_type: "probe".to_owned(),
            vcpus: 2,
            memory: ByteCount::from_gib(8),
        },
        from: Timestamp::UNIX_EPOCH,
        seconds: u64::from(id) + 1,
    };
    let usage: Vec<RatingInput> = (0..intervals).map(input).collect();
    let same = component.rate(Currency::CNY, &usage)? == native.rate(Currency::CNY, &usage)?;
    ensure!(same, "the component and the built-in price list disagree");
    compare(
        &format!("rating, {intervals} intervals"),
        || native.rate(Currency::CNY, &usage).is_ok(),
        || component.rate(Currency::CNY, &usage).is_ok(),
    )
}

/// Times both sides in turns, the native one twice a round.
fn compare(what: &str, native: impl Fn() -> bool, component: impl Fn() -> bool) -> Result<Value> {
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (side, micros) in [time(&native)?, time(&component)?, time(&native)?]
            .into_iter()
            .enumerate()
        {
            rounds[side].push(micros);
        }
    }
    let [native, component, again] = rounds.map(median);
    let (ratio, noise) = (component / native, again / native);
    println!("{what:28} {native:10.3} {component:10.3} {ratio:8.2} {noise:6.3}");
    Ok(json!({
        "what": what,
        "native_us": native,
        "component_us": component,
        "component_to_native": ratio,
        "native_to_native": noise,
    }))
}

/// Microseconds per call, over about [`ROUND`].
fn time(call: &impl Fn() -> bool) -> Result<f64> {
    let start = Instant::now();
    let mut calls = 0_u32;
    while start.elapsed() < ROUND {
        ensure!(std::hint::black_box(call()), "a call failed");
        calls += 1;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / f64::from(calls))
}
