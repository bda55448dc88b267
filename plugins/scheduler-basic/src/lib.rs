//! Spreads instances over the hosts or packs them together.
//!
//! Parameter `strategy`: `spread` (the default) prefers the host with the largest share left afterwards, `bin-pack` the one with the
//! smallest. What counts is the scarcer of vCPUs and memory. Scores run from 0 to 1000.

use ashlar_policy::{
    Configuration, export_scheduler,
    scheduler::{
        ByCapacity, Capacity, HostTable, PlacementRequest, Prefers, Scheduler, Verdict,
        judge_by_capacity,
    },
};

/// The policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basic {
    /// Instances keep out of each other's way.
    Spread,
    /// Whole hosts stay free for large instances.
    BinPack,
}

impl Scheduler for Basic {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&["strategy"], &[])?;
        match configuration.get("strategy") {
            None | Some("spread") => Ok(Self::Spread),
            Some("bin-pack") => Ok(Self::BinPack),
            Some(other) => Err(format!(
                "parameter `strategy` is `{other}`; it must be `spread` or `bin-pack`"
            )),
        }
    }

    fn judge(&self, request: &PlacementRequest, hosts: &HostTable) -> Result<Vec<Verdict>, String> {
        Ok(judge_by_capacity(self, request, hosts))
    }

    fn by_capacity(&self) -> Option<&dyn ByCapacity> {
        Some(self)
    }
}

impl ByCapacity for Basic {
    fn prefers(&self) -> Prefers {
        match self {
            Self::Spread => Prefers::MoreFree,
            Self::BinPack => Prefers::LessFree,
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
        match self {
            Self::Spread => 1000.0 * left,
            Self::BinPack => 1000.0 * (1.0 - left),
        }
    }
}

/// The part of `total` that is left of `free` when `taken` is gone.
fn left(free: u64, taken: u64, total: u64) -> f64 {
    match total {
        0 => 0.0,
        _ => free.saturating_sub(taken) as f64 / total as f64,
    }
}

export_scheduler!(Basic);

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn request(vcpus: u32, memory: u64) -> PlacementRequest {
        PlacementRequest {
            instance: "i-0123456789abcdefg".to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus,
            memory,
            local_disk: 0,
            zone: None,
            deployment_set: None,
            spot: false,
        }
    }

    /// Hosts of 16 vCPUs and 64 GiB, of which that many vCPUs are used.
    fn hosts(used: &[u32]) -> HostTable {
        let all = used.len();
        HostTable {
            zone_names: vec!["a".to_owned()],
            zone: vec![0; all],
            accepting: vec![1; all],
            vcpus_total: vec![16; all],
            vcpus_used: used.to_vec(),
            memory_total: vec![64 * GIB; all],
            memory_used: vec![0; all],
            local_disk_total: vec![0; all],
            local_disk_used: vec![0; all],
            instances: used.to_vec(),
            set_members: Vec::new(),
        }
    }

    #[test]
    fn spreading_prefers_the_emptiest_and_packing_the_fullest_that_fits() {
        let (request, hosts) = (request(4, 4 * GIB), hosts(&[0, 8, 14]));
        let spread = Basic::Spread.judge(&request, &hosts).unwrap();
        assert_eq!(
            spread,
            [
                Verdict::Score(750.0),
                Verdict::Score(250.0),
                Verdict::refused("vcpus"),
            ]
        );
        let pack = Basic::BinPack.judge(&request, &hosts).unwrap();
        assert_eq!(pack[..2], [Verdict::Score(250.0), Verdict::Score(750.0)]);
    }

    #[test]
    fn a_misspelt_configuration_is_refused_with_the_choices() {
        for (name, value, said) in [
            ("strategy", "sprad", "`spread` or `bin-pack`"),
            ("stategy", "spread", "unknown parameter `stategy`"),
        ] {
            let configuration = Configuration::from_iter([(name, value)]);
            let error = Basic::configure(&configuration).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
