//! A month of 10,000 instances in the ledger: what entering, charging, replaying and pricing it again takes.
//!
//! Each instance has a disk; charges are made once a day. A replay rebuilds the ledger from its entries and charges, as a daemon does when it
//! starts: the chain is verified, and every charge is fitted to the one before. Pricing again is what `ashlar plugins replay` and
//! `ashlar bill verify` ask of a policy: every stretch of the month, of the component `billing-payg` beside the built-in list, which give the same
//! prices. Each figure is measured in turns, the first side twice a round (A/A).

use anyhow::{Context, Result, ensure};
use bench::{component, median};
use ledger::{
    Change, Charge, Entry, Ledger, PriceList, Prices, Rater, RatingInput, Usage, UsageKey,
};
use plugin_host::{Limits, PluginHost};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use types::{ByteCount, Currency, Decimal, DiskId, InstanceId, Timestamp};

const INSTANCES: u32 = 10_000;
const DAYS: u64 = 30;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Rounds per figure; the median counts.
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let prices = prices()?;
    let rater = Rater::built_in(prices.clone());
    let month = Month::make(&rater)?;
    let (entries, charges) = (month.entries.len(), month.charges.len());
    println!("{entries} entries, {charges} charges");
    let mut figures = vec![json!({
        "what": "entering", "entries": entries, "us_per_entry": month.entering_us,
    })];
    println!("{:34} {:10.3} µs an entry", "entering", month.entering_us);
    let per_charge = month.charging.as_secs_f64() * 1e6 / float(charges);
    println!("{:34} {per_charge:10.3} µs a charge", "charging, natively");
    figures.push(json!({ "what": "charging", "charges": charges, "us_per_charge": per_charge }));

    let replay = || Ledger::replay(&month.entries, &month.charges).is_ok();
    figures.push(pair("replay of the month", "again", &replay, &replay)?);

    let cache = tempfile::tempdir().context("cannot make a folder for compiled policies")?;
    let limits = Limits {
        // What is measured is the usual call, not the machine's hiccups.
        deadline: Duration::from_secs(10),
        ..Limits::default()
    };
    let host = PluginHost::new(limits, cache.path())?;
    let bytes = component(&host, "billing-payg")?;
    let parameters = prices.parameters().into_iter().collect();
    let policy = host.load_billing("billing-payg", &bytes, &parameters)?;
    let plugin = Rater::new(policy, prices);
    let stretches = month.stretches();
    let same = rater.price(&stretches)? == plugin.price(&stretches)?;
    ensure!(same, "the component and the built-in list disagree");
    let mut figure = pair(
        "the month priced again",
        "by the component",
        &|| rater.price(&stretches).is_ok(),
        &|| plugin.price(&stretches).is_ok(),
    )?;
    if let Some(seconds) = figure["other_s"].as_f64() {
        let per_second = float(stretches.len()) / seconds;
        println!("{:34} {per_second:10.0} intervals/s by the component", "");
        figure["intervals_per_second"] = json!(per_second);
    }
    figures.push(figure);
    bench::keep(&json!({ "ledger": figures }))
}

/// A month's records.
struct Month {
    entries: Vec<Entry>,
    charges: Vec<Charge>,
    entering_us: f64,
    charging: Duration,
}

impl Month {
    fn make(rater: &Rater) -> Result<Self> {
        let mut month = Self {
            entries: Vec::new(),
            charges: Vec::new(),
            entering_us: 0.0,
            charging: Duration::ZERO,
        };
        let mut ledger = Ledger::default();
        let start = Timestamp::UNIX_EPOCH;
        let began = Instant::now();
        for id in 0..INSTANCES {
            month.enter(&mut ledger, usage(id).map(Change::Open), start)?;
        }
        month.entering_us = began.elapsed().as_secs_f64() * 1e6 / float(month.entries.len());
        for day in 1..=DAYS {
            let days = u32::try_from(day)?;
            let now = start.checked_add(DAY * days).context("a time that is")?;
            // A tenth of the instances stops for a day, and starts again.
            for id in (0..INSTANCES).filter(|id| u64::from(*id) % 10 == day % 10) {
                let [running, _] = usage(id);
                let key = UsageKey::instance_running(InstanceId::generate(id.into()));
                let change = match ledger.open_interval(&key) {
                    Some(_) => Change::Close(key),
                    None => Change::Open(running),
                };
                month.enter(&mut ledger, [change], now)?;
            }
            let began = Instant::now();
            let charges = ledger.rate(rater, now)?;
            for charge in &charges {
                ledger.record(charge)?;
            }
            month.charging += began.elapsed();
            month.charges.extend(charges);
        }
        Ok(month)
    }

    fn enter(
        &mut self,
        ledger: &mut Ledger,
        changes: impl IntoIterator<Item = Change>,
        now: Timestamp,
    ) -> Result<()> {
        for entry in ledger.prepare(changes, now)? {
            ledger.append(&entry)?;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// What was used, from each interval's beginning to where it is charged.
    fn stretches(&self) -> Vec<RatingInput> {
        let intervals = ledger::intervals(&self.entries).unwrap_or_default();
        let end = self.charges.iter().map(|charge| charge.to).max();
        let stretch = |interval: ledger::UsageInterval| {
            let to = interval.to.or(end)?;
            let seconds = to.saturating_since(interval.from).as_secs();
            (seconds > 0).then_some(RatingInput {
                interval: interval.id,
                usage: interval.usage,
                from: interval.from,
                seconds,
            })
        };
        intervals.into_iter().filter_map(stretch).collect()
    }
}

/// An instance and its disk.
fn usage(id: u32) -> [Usage; 2] {
    let vcpus = 1 << (id % 5);
    [
        Usage::InstanceRunning {
            instance: InstanceId::generate(id.into()),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus,
            memory: ByteCount::from_gib(u64::from(vcpus) * 4),
        },
        Usage::DiskAllocated {
            disk: DiskId::generate(id.into()),
            category: "cloud_essd".to_owned(),
            size: ByteCount::from_gib(40),
        },
    ]
}

fn prices() -> Result<PriceList> {
    Ok(PriceList::new(Prices {
        currency: Currency::CNY,
        instance_types: [].into(),
        vcpu: Decimal::new(1, 1),
        memory_gib: Decimal::new(3, 2),
        disk_categories: [].into(),
        disk_gib: Decimal::new(13, 4),
        meters: [].into(),
    })?)
}

/// Seconds of `one` and `other` in turns, `one` twice a round.
fn pair(what: &str, how: &str, one: &dyn Fn() -> bool, other: &dyn Fn() -> bool) -> Result<Value> {
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (side, call) in [one, other, one].into_iter().enumerate() {
            let start = Instant::now();
            ensure!(std::hint::black_box(call()), "{what} failed");
            rounds[side].push(start.elapsed().as_secs_f64());
        }
    }
    let [first, other, again] = rounds.map(median);
    let (ratio, noise) = (other / first, again / first);
    println!("{what:34} {first:10.3} s, {how} {other:.3} s ({ratio:.2}), A/A {noise:.3}");
    Ok(json!({
        "what": what, "first_s": first, "other": how, "other_s": other, "other_to_first": ratio, "first_to_first": noise,
    }))
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts far below what a float holds exactly"
)]
fn float(count: usize) -> f64 {
    count as f64
}
