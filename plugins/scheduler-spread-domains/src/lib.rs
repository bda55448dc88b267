//! Spreads instances over failure domains: zones first, then hosts.
//!
//! An instance of a deployment set goes to the zone with the fewest members of the set, there to the host with the fewest, and of
//! equals to the emptiest. One without a set goes to the zone with the largest share left, and there to the emptiest host. What
//! counts is the scarcer of vCPUs and memory.
//!
//! Parameter `max-skew`: how many more members of a deployment set a zone may have than the zone with the fewest of those that could
//! take another; hosts of a zone that has them are refused for `zone-skew`. 0, the default, sets no limit.

use ashlar_policy::{
    Configuration, export_scheduler,
    scheduler::{HostTable, PlacementRequest, Scheduler, Verdict},
};
use std::collections::BTreeMap;

/// The policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpreadDomains {
    max_skew: u32,
}

/// A zone as far as it matters for a request.
#[derive(Clone, Copy, Debug, Default)]
struct Zone {
    /// Members of the request's deployment set.
    members: u32,
    /// Whether a host of it could take the instance.
    possible: bool,
    vcpus: (u64, u64),
    memory: (u128, u128),
}

const ZONE_SKEW: &str = "zone-skew";

impl Scheduler for SpreadDomains {
    fn configure(configuration: &Configuration) -> Result<Self, String> {
        configuration.allow(&["max-skew"], &[])?;
        let max_skew = configuration.parse("max-skew", 0)?;
        Ok(Self { max_skew })
    }

    fn judge(&self, request: &PlacementRequest, hosts: &HostTable) -> Result<Vec<Verdict>, String> {
        let obstacles: Vec<Option<&'static str>> = (0..hosts.len())
            .map(|host| hosts.obstacle(host, request))
            .collect();
        let zones = zones(hosts, &obstacles);
        let possible = zones.values().filter(|zone| zone.possible);
        let fewest = possible.map(|zone| zone.members).min().unwrap_or(0);
        let judge = |(host, obstacle): (usize, &Option<&'static str>)| {
            if let Some(constraint) = obstacle {
                return Verdict::refused(constraint);
            }
            let zone = zones.get(&hosts.zone[host]).copied().unwrap_or_default();
            if self.max_skew > 0 && zone.members - fewest >= self.max_skew {
                return Verdict::refused(ZONE_SKEW);
            }
            Verdict::Score(score(request, hosts, host, &zone))
        };
        Ok(obstacles.iter().enumerate().map(judge).collect())
    }
}

fn zones(hosts: &HostTable, obstacles: &[Option<&'static str>]) -> BTreeMap<u32, Zone> {
    let mut zones: BTreeMap<u32, Zone> = BTreeMap::new();
    for (host, obstacle) in obstacles.iter().enumerate() {
        let zone = zones.entry(hosts.zone[host]).or_default();
        let members = hosts.set_members.get(host).copied().unwrap_or(0);
        zone.members = zone.members.saturating_add(members);
        zone.possible |= obstacle.is_none();
        if hosts.accepting[host] != 0 {
            zone.vcpus.0 += u64::from(hosts.vcpus_free(host));
            zone.vcpus.1 += u64::from(hosts.vcpus_total[host]);
            zone.memory.0 += u128::from(hosts.memory_free(host));
            zone.memory.1 += u128::from(hosts.memory_total[host]);
        }
    }
    zones
}

/// Each part outweighs what follows: members of the zone, members of the host, what is left of the zone, what is left of the host.
fn score(request: &PlacementRequest, hosts: &HostTable, host: usize, zone: &Zone) -> f64 {
    let vcpus = hosts.vcpus_free(host).saturating_sub(request.vcpus);
    let memory = hosts.memory_free(host).saturating_sub(request.memory);
    let left_of_host = share(vcpus.into(), hosts.vcpus_total[host].into())
        .min(share(memory as f64, hosts.memory_total[host] as f64));
    if let Some(members) = hosts.set_members.get(host) {
        return -1e5 * f64::from(zone.members) - 10.0 * f64::from((*members).min(9_999))
            + left_of_host;
    }
    let left_of_zone = share(zone.vcpus.0 as f64, zone.vcpus.1 as f64)
        .min(share(zone.memory.0 as f64, zone.memory.1 as f64));
    1e6 * left_of_zone + left_of_host
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

export_scheduler!(SpreadDomains);

#[cfg(test)]
mod tests {
    use super::*;
    use ashlar_policy::scheduler::DeploymentSet;

    const GIB: u64 = 1 << 30;

    fn policy(max_skew: &str) -> SpreadDomains {
        let parameters = [("max-skew", max_skew)];
        SpreadDomains::configure(&parameters.into_iter().collect()).unwrap()
    }

    fn request(max_per_host: Option<u32>) -> PlacementRequest {
        PlacementRequest {
            instance: "i-0123456789abcdefg".to_owned(),
            instance_type: "ecs.g6.large".to_owned(),
            vcpus: 2,
            memory: 8 * GIB,
            local_disk: 0,
            zone: None,
            deployment_set: max_per_host.map(|max_per_host| DeploymentSet {
                id: "ds-1".to_owned(),
                max_per_host,
            }),
            spot: false,
        }
    }

    /// Hosts of 16 vCPUs and 64 GiB: zone, vCPUs used, members of the set.
    fn hosts(rows: &[(u32, u32, u32)], set: bool) -> HostTable {
        let all = rows.len();
        HostTable {
            zone_names: ["a", "b", "c"].map(str::to_owned).to_vec(),
            zone: rows.iter().map(|row| row.0).collect(),
            accepting: vec![1; all],
            vcpus_total: vec![16; all],
            vcpus_used: rows.iter().map(|row| row.1).collect(),
            memory_total: vec![64 * GIB; all],
            memory_used: vec![0; all],
            local_disk_total: vec![0; all],
            local_disk_used: vec![0; all],
            instances: vec![0; all],
            set_members: if set {
                rows.iter().map(|row| row.2).collect()
            } else {
                Vec::new()
            },
        }
    }

    /// The host with the highest score, the lowest on a tie.
    fn best(verdicts: &[Verdict]) -> Option<usize> {
        let mut best = None;
        for (host, verdict) in verdicts.iter().enumerate() {
            if let Verdict::Score(score) = *verdict
                && best.is_none_or(|(highest, _)| score > highest)
            {
                best = Some((score, host));
            }
        }
        best.map(|(_, host)| host)
    }

    #[test]
    fn a_set_goes_to_the_zone_then_the_host_with_the_fewest_members() {
        for (rows, expected) in [
            // Zone b has one member, zone a two: the fuller host of zone b.
            (&[(0, 0, 1), (0, 0, 1), (1, 12, 1)][..], 2),
            // In the zone with the fewest, the host without a member.
            (&[(0, 0, 9), (1, 0, 1), (1, 8, 0)], 2),
            // Of equals, the emptiest.
            (&[(0, 8, 0), (0, 2, 0), (0, 4, 0)], 1),
        ] {
            let verdicts = policy("0").judge(&request(Some(10)), &hosts(rows, true));
            assert_eq!(best(&verdicts.unwrap()), Some(expected), "{rows:?}");
        }
    }

    #[test]
    fn without_a_set_the_emptier_zone_wins_over_the_emptier_host() {
        // Zone a is 3/4 free, but not its second host; zone b is 5/8 free.
        let rows = [(0, 0, 0), (0, 8, 0), (1, 1, 0), (1, 11, 0)];
        let verdicts = policy("0").judge(&request(None), &hosts(&rows, false));
        assert_eq!(best(&verdicts.unwrap()), Some(0));
        let rows = [(0, 0, 0), (0, 16, 0), (1, 4, 0), (1, 4, 0)];
        let verdicts = policy("0").judge(&request(None), &hosts(&rows, false));
        assert_eq!(best(&verdicts.unwrap()), Some(2));
    }

    #[test]
    fn a_zone_is_refused_when_it_is_too_far_ahead() {
        let (score, skew) = (
            |v: &Verdict| matches!(v, Verdict::Score(_)),
            Verdict::refused(ZONE_SKEW),
        );
        let rows = [(0, 0, 2), (1, 0, 1), (2, 0, 1)];
        let judged = |policy: SpreadDomains, rows: &[(u32, u32, u32)]| {
            policy
                .judge(&request(Some(10)), &hosts(rows, true))
                .unwrap()
        };
        assert!(judged(policy("0"), &rows).iter().all(score));
        assert!(judged(policy("2"), &rows).iter().all(score));
        let verdicts = judged(policy("1"), &rows);
        assert_eq!(verdicts[0], skew);
        assert!(verdicts[1..].iter().all(score));
        // A zone that is full does not hold the others back.
        let rows = [(0, 0, 2), (1, 16, 0), (2, 0, 2)];
        let verdicts = judged(policy("1"), &rows);
        assert_eq!(verdicts[1], Verdict::refused("vcpus"));
        assert!(score(&verdicts[0]) && score(&verdicts[2]));
    }

    #[test]
    fn a_set_of_six_in_three_zones_is_spread_evenly() {
        let mut rows: Vec<(u32, u32, u32)> = (0..9).map(|host| (host % 3, host, 0)).collect();
        for _ in 0..6 {
            let verdicts = policy("1").judge(&request(Some(1)), &hosts(&rows, true));
            let host = best(&verdicts.unwrap()).unwrap();
            rows[host].1 += 2;
            rows[host].2 += 1;
        }
        for zone in 0..3 {
            let members = rows.iter().filter(|row| row.0 == zone).map(|row| row.2);
            assert_eq!(members.sum::<u32>(), 2, "zone {zone}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_refused() {
        for (name, value, said) in [
            ("max-skew", "-1", "`max-skew` is `-1`"),
            ("max_skew", "1", "unknown parameter `max_skew`"),
        ] {
            let error = SpreadDomains::configure(&[(name, value)].into_iter().collect());
            let error = error.unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
