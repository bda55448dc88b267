//! Prefers zones with clean and cheap power, and weighs that against utilisation.
//!
//! Parameters, all numbers that are not negative:
//! - `carbon.<zone>`: the carbon intensity of the zone's power, such as grams of CO₂ per kWh;
//! - `price.<zone>`: the price of the zone's power, such as fen per kWh;
//! - `weight-carbon` (default 1), `weight-price` (0) and `weight-utilisation` (1): how much each counts; not all of them 0;
//! - `utilisation`: `bin-pack` (the default) prefers hosts that run anyway, `spread` those with the most left.
//!
//! The score is 1000 times the weighted mean of three parts from 0 to 1: how far the zone's intensity is below the highest listed, how
//! far its price is, and the utilisation of the scarcer of vCPUs and memory, as the strategy has it. A zone that is not listed counts as
//! the worst that is.

use ashlar_policy::{
    Configuration, export_scheduler,
    scheduler::{
        ByCapacity, Capacity, HostTable, PlacementRequest, Prefers, Scheduler, Verdict,
        judge_by_capacity,
    },
};
use std::collections::BTreeMap;

/// The policy.
#[derive(Clone, Debug, PartialEq)]
pub struct CarbonAware {
    carbon: Listed,
    price: Listed,
    /// Of carbon, price and utilisation; their sum is 1.
    weights: [f64; 3],
    strategy: Strategy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    BinPack,
    Spread,
}

/// What zones are listed with.
#[derive(Clone, Debug, Default, PartialEq)]
struct Listed {
    zones: BTreeMap<String, f64>,
    worst: f64,
}

impl Listed {
    fn read(configuration: &Configuration, prefix: &'static str) -> Result<Self, String> {
        let mut listed = Self::default();
        for (zone, value) in configuration.with_prefix(prefix) {
            let value = number(&format!("{prefix}{zone}"), value)?;
            listed.worst = listed.worst.max(value);
            listed.zones.insert(zone.to_owned(), value);
        }
        Ok(listed)
    }

    /// 1 for a zone with nothing of it, 0 for the worst.
    fn goodness(&self, zone: &str) -> f64 {
        let value = self.zones.get(zone).copied().unwrap_or(self.worst);
        if self.worst > 0.0 {
            1.0 - value / self.worst
        } else {
            0.0
        }
    }
}

const LISTS: [&str; 2] = ["carbon.", "price."];
const WEIGHTS: [(&str, &str); 3] = [
    ("weight-carbon", "1"),
    ("weight-price", "0"),
    ("weight-utilisation", "1"),
];

impl Scheduler for CarbonAware {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        let [carbon, price, utilisation] = WEIGHTS.map(|(name, _)| name);
        configuration.allow(&[carbon, price, utilisation, "utilisation"], &LISTS)?;
        let strategy = match configuration.get("utilisation") {
            None | Some("bin-pack") => Strategy::BinPack,
            Some("spread") => Strategy::Spread,
            Some(other) => {
                return Err(format!(
                    "parameter `utilisation` is `{other}`; it must be `bin-pack` or `spread`"
                ));
            }
        };
        let mut weights = [0.0; 3];
        for (weight, (name, default)) in weights.iter_mut().zip(WEIGHTS) {
            *weight = number(name, configuration.get(name).unwrap_or(default))?;
        }
        let sum: f64 = weights.iter().sum();
        if sum <= 0.0 {
            return Err("all weights are 0: at least one must count".to_owned());
        }
        Ok(Self {
            carbon: Listed::read(configuration, LISTS[0])?,
            price: Listed::read(configuration, LISTS[1])?,
            weights: weights.map(|weight| weight / sum),
            strategy,
        })
    }

    fn judge(&self, request: &PlacementRequest, hosts: &HostTable) -> Result<Vec<Verdict>, String> {
        Ok(judge_by_capacity(self, request, hosts))
    }

    fn by_capacity(&self) -> Option<&dyn ByCapacity> {
        Some(self)
    }
}

impl ByCapacity for CarbonAware {
    fn prefers(&self) -> Prefers {
        match self.strategy {
            Strategy::BinPack => Prefers::LessFree,
            Strategy::Spread => Prefers::MoreFree,
        }
    }

    fn score(&self, request: &PlacementRequest, host: &Capacity) -> f64 {
        let vcpus = left(
            host.vcpus_free.into(),
            request.vcpus.into(),
            host.vcpus_total.into(),
        );
        let memory = left(host.memory_free, request.memory, host.memory_total);
        let left = vcpus.min(memory);
        let utilisation = match self.strategy {
            Strategy::BinPack => 1.0 - left,
            Strategy::Spread => left,
        };
        let [carbon, price, rest] = self.weights;
        1000.0
            * (carbon * self.carbon.goodness(host.zone)
                + price * self.price.goodness(host.zone)
                + rest * utilisation)
    }
}

/// The part of `total` that is left of `free` when `taken` is gone.
fn left(free: u64, taken: u64, total: u64) -> f64 {
    match total {
        0 => 0.0,
        _ => free.saturating_sub(taken) as f64 / total as f64,
    }
}

/// A number from 0 to 10⁹.
fn number(name: &str, value: &str) -> Result<f64, String> {
    let number: f64 = value
        .parse()
        .map_err(|error| format!("parameter `{name}` is `{value}`: {error}"))?;
    if !(0.0..=1e9).contains(&number) {
        return Err(format!(
            "parameter `{name}` is {value}; it must be from 0 to 1000000000"
        ));
    }
    Ok(number)
}

export_scheduler!(CarbonAware);

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn policy(more: &[(&str, &str)]) -> CarbonAware {
        let zones = [
            ("carbon.hydro", "20"),
            ("carbon.coal", "800"),
            ("price.hydro", "60"),
            ("price.coal", "30"),
        ];
        let parameters = zones.iter().chain(more).copied();
        CarbonAware::configure(&parameters.collect()).unwrap()
    }

    fn request() -> PlacementRequest {
        PlacementRequest {
            instance: "i-0123456789abcdefg".to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 4,
            memory: 4 * GIB,
            local_disk: 0,
            zone: None,
            deployment_set: None,
            spot: false,
        }
    }

    /// Hosts of 16 vCPUs and 64 GiB: a position in coal, hydro, tidal, and vCPUs used.
    fn scores(policy: &CarbonAware, rows: &[(u32, u32)]) -> Vec<f64> {
        let all = rows.len();
        let hosts = HostTable {
            zone_names: ["coal", "hydro", "tidal"].map(str::to_owned).to_vec(),
            zone: rows.iter().map(|row| row.0).collect(),
            accepting: vec![1; all],
            vcpus_total: vec![16; all],
            vcpus_used: rows.iter().map(|row| row.1).collect(),
            memory_total: vec![64 * GIB; all],
            memory_used: vec![0; all],
            local_disk_total: vec![0; all],
            local_disk_used: vec![0; all],
            instances: vec![0; all],
            set_members: Vec::new(),
        };
        let verdicts = policy.judge(&request(), &hosts).unwrap();
        let score = |verdict: &Verdict| match verdict {
            Verdict::Score(score) => *score,
            Verdict::Refused(why) => panic!("{why}"),
        };
        verdicts.iter().map(score).collect()
    }

    #[test]
    fn clean_zones_win_unless_utilisation_weighs_more() {
        // A full host on coal and an empty one on hydro power.
        let rows = [(0, 12), (1, 0)];
        let only_carbon = scores(&policy(&[("weight-utilisation", "0")]), &rows);
        assert_eq!(only_carbon, [0.0, 975.0]);
        let even = scores(&policy(&[]), &rows);
        assert_eq!(even, [500.0, 0.5 * 975.0 + 0.5 * 250.0]);
        let busy = scores(&policy(&[("weight-utilisation", "9")]), &rows);
        assert!(busy[0] > busy[1], "{busy:?}");
    }

    #[test]
    fn cheap_zones_win_when_only_price_counts_and_unlisted_ones_count_as_the_worst() {
        let price = [
            ("weight-carbon", "0"),
            ("weight-price", "1"),
            ("weight-utilisation", "0"),
        ];
        assert_eq!(
            scores(&policy(&price), &[(0, 0), (1, 0), (2, 0)]),
            [500.0, 0.0, 0.0]
        );
    }

    #[test]
    fn within_a_zone_the_strategy_decides() {
        let rows = [(1, 0), (1, 8)];
        let pack = scores(&policy(&[]), &rows);
        assert!(pack[1] > pack[0]);
        let spread = scores(&policy(&[("utilisation", "spread")]), &rows);
        assert!(spread[0] > spread[1]);
    }

    #[test]
    fn wrong_parameters_are_refused_by_name() {
        for (parameters, said) in [
            (&[("carbon.a", "-1")][..], "`carbon.a` is -1"),
            (&[("carbon.a", "NaN")], "`carbon.a` is NaN"),
            (&[("price.a", "cheap")], "`price.a` is `cheap`"),
            (&[("utilisation", "none")], "`bin-pack` or `spread`"),
            (&[("carbon", "1")], "unknown parameter `carbon`"),
            (
                &[("weight-carbon", "0"), ("weight-utilisation", "0")],
                "all weights are 0",
            ),
        ] {
            let error = CarbonAware::configure(&parameters.iter().copied().collect());
            let error = error.unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
