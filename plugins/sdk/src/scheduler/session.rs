//! What an instance of a component keeps between calls: the policy, the table, and an index of it.
//!
//! ```text
//! load ─► ( update | judge | place )*
//! ```

#[cfg(target_arch = "wasm32")]
use super::bindings::exports::ashlar::policy::scheduling::SetMembers;
use super::{
    HostTable, Index, PlacementRequest, Scheduler, Verdict,
    bindings::exports::ashlar::policy::scheduling::HostChanges, highest,
};
use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};

/// A policy with the table it was loaded with.
struct Session<P> {
    policy: P,
    table: HostTable,
    /// Made when it is first needed.
    index: Option<Index>,
}

/// Members of deployment sets, by set and position.
type Members = BTreeMap<String, BTreeMap<u32, u32>>;

impl<P: Scheduler> Session<P> {
    fn new(policy: P, table: HostTable) -> Self {
        let index = None;
        Self {
            policy,
            table,
            index,
        }
    }

    fn update(&mut self, changes: &HostChanges) -> Result<(), String> {
        for item in 0..changes.positions.len() {
            let host = usize::try_from(changes.positions[item]).unwrap_or(usize::MAX);
            if let Some(index) = &mut self.index
                && host < self.table.len()
            {
                index.remove(&self.table, host);
            }
            let host = self.table.set(changes, item)?;
            if let Some(index) = &mut self.index {
                index.add(&self.table, host);
            }
        }
        Ok(())
    }

    fn judge(
        &mut self,
        request: &PlacementRequest,
        members: &Members,
    ) -> Result<Vec<Verdict>, String> {
        self.table.set_members.clear();
        if let Some(set) = &request.deployment_set {
            self.table.set_members = vec![0; self.table.len()];
            for (position, members) in members.get(&set.id).into_iter().flatten() {
                let host = usize::try_from(*position).ok();
                if let Some(of) = host.and_then(|host| self.table.set_members.get_mut(host)) {
                    *of = *members;
                }
            }
        }
        self.policy.judge(request, &self.table)
    }

    fn place(
        &mut self,
        requests: &[PlacementRequest],
        mut members: Members,
    ) -> Result<Vec<Option<u32>>, String> {
        let mut places = Vec::with_capacity(requests.len());
        for request in requests {
            let place = self.best(request, &members)?;
            if let Some(position) = place {
                self.book(position, request);
                if let Some(set) = &request.deployment_set {
                    let set = members.entry(set.id.clone()).or_default();
                    *set.entry(position).or_default() += 1;
                }
            }
            places.push(place);
        }
        Ok(places)
    }

    fn best(
        &mut self,
        request: &PlacementRequest,
        members: &Members,
    ) -> Result<Option<u32>, String> {
        let Some(policy) = self.policy.by_capacity() else {
            return Ok(highest(&self.judge(request, members)?));
        };
        let set = request.deployment_set.as_ref();
        let set = set.and_then(|set| Some((members.get(&set.id)?, set.max_per_host)));
        let full = |position: u32| {
            set.is_some_and(|(members, most)| {
                members.get(&position).is_some_and(|in_it| *in_it >= most)
            })
        };
        let index = self.index.get_or_insert_with(|| Index::new(&self.table));
        Ok(index.best(policy, request, &self.table, &full))
    }

    fn book(&mut self, position: u32, request: &PlacementRequest) {
        let Ok(host) = usize::try_from(position) else {
            return;
        };
        if let Some(index) = &mut self.index {
            index.remove(&self.table, host);
        }
        self.table.book(host, request);
        if let Some(index) = &mut self.index {
            index.add(&self.table, host);
        }
    }
}

#[cfg(target_arch = "wasm32")]
fn by_set(members: Vec<SetMembers>) -> Members {
    let mut sets = Members::new();
    for of in members {
        let set = sets.entry(of.set).or_default();
        set.insert(of.position, of.members);
    }
    sets
}

impl HostTable {
    /// Takes row `item` of `changes`.
    fn set(&mut self, changes: &HostChanges, item: usize) -> Result<usize, String> {
        let position = changes.positions[item];
        let host = usize::try_from(position)
            .ok()
            .filter(|host| *host < self.len());
        let host = host.ok_or_else(|| format!("no host is at position {position}"))?;
        self.zone[host] = changes.zone[item];
        self.accepting[host] = changes.accepting[item];
        self.vcpus_total[host] = changes.vcpus_total[item];
        self.vcpus_used[host] = changes.vcpus_used[item];
        self.memory_total[host] = changes.memory_total[item];
        self.memory_used[host] = changes.memory_used[item];
        self.local_disk_total[host] = changes.local_disk_total[item];
        self.local_disk_used[host] = changes.local_disk_used[item];
        self.instances[host] = changes.instances[item];
        Ok(host)
    }

    /// Takes what `request` asks for from a host.
    fn book(&mut self, host: usize, request: &PlacementRequest) {
        let more = |used: &mut u64, by: u64| *used = used.saturating_add(by);
        more(&mut self.memory_used[host], request.memory);
        more(&mut self.local_disk_used[host], request.local_disk);
        self.vcpus_used[host] = self.vcpus_used[host].saturating_add(request.vcpus);
        self.instances[host] = self.instances[host].saturating_add(1);
    }
}

#[cfg(target_arch = "wasm32")]
pub mod exported {
    use super::*;
    use crate::scheduler::bindings::exports::ashlar::policy::scheduling::{
        Guest, HostTable as Loaded, Parameter, Verdicts,
    };
    use alloc::boxed::Box;
    use core::cell::RefCell;

    /// Connects a [`Scheduler`] to the component's exports.
    pub struct Exported<P>(core::marker::PhantomData<P>);

    /// A session without the type of its policy.
    trait Answers {
        fn update(&mut self, changes: &HostChanges) -> Result<(), String>;
        fn judge(
            &mut self,
            request: &PlacementRequest,
            members: &Members,
        ) -> Result<Vec<Verdict>, String>;
        fn place(
            &mut self,
            requests: &[PlacementRequest],
            members: Members,
        ) -> Result<Vec<Option<u32>>, String>;
    }

    impl<P: Scheduler> Answers for Session<P> {
        fn update(&mut self, changes: &HostChanges) -> Result<(), String> {
            Session::update(self, changes)
        }

        fn judge(
            &mut self,
            request: &PlacementRequest,
            members: &Members,
        ) -> Result<Vec<Verdict>, String> {
            Session::judge(self, request, members)
        }

        fn place(
            &mut self,
            requests: &[PlacementRequest],
            members: Members,
        ) -> Result<Vec<Option<u32>>, String> {
            Session::place(self, requests, members)
        }
    }

    std::thread_local! {
        /// What the last `load` left; an instance has one thread.
        static LOADED: RefCell<Option<Box<dyn Answers>>> = const { RefCell::new(None) };
    }

    fn configured<P: Scheduler>(parameters: Vec<Parameter>) -> Result<P, String> {
        crate::report_panics();
        let pairs = parameters.into_iter().map(|p| (p.name, p.value));
        P::configure(&pairs.collect())
    }

    fn loaded<T>(ask: impl FnOnce(&mut dyn Answers) -> Result<T, String>) -> Result<T, String> {
        LOADED.with_borrow_mut(|loaded| match loaded {
            Some(session) => ask(&mut **session),
            None => Err(String::from("no table is loaded")),
        })
    }

    impl<P: Scheduler + 'static> Guest for Exported<P> {
        fn check_configuration(configuration: Vec<Parameter>) -> Result<(), String> {
            configured::<P>(configuration).map(drop)
        }

        fn load(configuration: Vec<Parameter>, hosts: Loaded) -> Result<(), String> {
            let session = Session::new(configured::<P>(configuration)?, hosts.into());
            LOADED.set(Some(Box::new(session)));
            Ok(())
        }

        fn update(changes: HostChanges) -> Result<(), String> {
            loaded(|session| session.update(&changes))
        }

        fn filter_and_score(
            request: PlacementRequest,
            members: Vec<SetMembers>,
        ) -> Result<Verdicts, String> {
            let verdicts = loaded(|session| session.judge(&request, &by_set(members)))?;
            crate::scheduler::columns(&verdicts)
        }

        fn place(
            requests: Vec<PlacementRequest>,
            members: Vec<SetMembers>,
        ) -> Result<Vec<Option<u32>>, String> {
            loaded(|session| session.place(&requests, by_set(members)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Configuration,
        scheduler::{ByCapacity, Capacity, DeploymentSet, Prefers, judge_by_capacity},
    };

    /// What is left of the scarcer of vCPUs and memory.
    struct Left(Prefers);

    impl ByCapacity for Left {
        fn prefers(&self) -> Prefers {
            self.0
        }

        fn score(&self, request: &PlacementRequest, host: &Capacity) -> f64 {
            let vcpus = f64::from(host.vcpus_free - request.vcpus) / f64::from(host.vcpus_total);
            let memory = (host.memory_free - request.memory) as f64 / host.memory_total as f64;
            match self.0 {
                Prefers::MoreFree => vcpus.min(memory),
                Prefers::LessFree => -vcpus.min(memory),
            }
        }
    }

    impl Scheduler for Left {
        fn configure(_: &Configuration) -> Result<Self, String> {
            Ok(Self(Prefers::MoreFree))
        }

        fn judge(
            &self,
            request: &PlacementRequest,
            hosts: &HostTable,
        ) -> Result<Vec<Verdict>, String> {
            Ok(judge_by_capacity(self, request, hosts))
        }

        fn by_capacity(&self) -> Option<&dyn ByCapacity> {
            Some(self)
        }
    }

    /// SplitMix64.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: u32) -> u32 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u32::try_from((mixed ^ (mixed >> 31)) % u64::from(limit)).unwrap()
        }
    }

    fn changes(dice: &mut Dice, hosts: u32, of: &[u32]) -> HostChanges {
        let mut column = |limit: u32| of.iter().map(|_| dice.below(limit)).collect::<Vec<u32>>();
        let wide = |column: Vec<u32>| column.into_iter().map(u64::from).collect::<Vec<u64>>();
        assert!(of.iter().all(|position| *position < hosts));
        HostChanges {
            positions: of.to_vec(),
            zone: column(2),
            accepting: column(5).into_iter().map(|one| u8::from(one > 0)).collect(),
            vcpus_total: column(3).into_iter().map(|size| 8 + 8 * size).collect(),
            vcpus_used: column(26),
            memory_total: wide(column(2))
                .into_iter()
                .map(|size| 32 + 32 * size)
                .collect(),
            memory_used: wide(column(70)),
            local_disk_total: wide(column(2)).into_iter().map(|size| 10 * size).collect(),
            local_disk_used: wide(column(8)),
            instances: column(9),
        }
    }

    fn request(dice: &mut Dice) -> PlacementRequest {
        let zones = ["a", "b", "c"];
        let zone = zones.get(usize::try_from(dice.below(5)).unwrap());
        PlacementRequest {
            instance: String::from("i-0123456789abcdefg"),
            instance_type: String::from("ecs.g6.large"),
            vcpus: 1 + dice.below(4),
            memory: u64::from(1 + dice.below(8)),
            local_disk: u64::from(dice.below(3)),
            zone: zone.map(|zone| String::from(*zone)),
            deployment_set: (dice.below(2) == 0).then(|| DeploymentSet {
                id: String::from(["s", "t"][usize::try_from(dice.below(2)).unwrap()]),
                max_per_host: 1 + dice.below(2),
            }),
            spot: false,
        }
    }

    /// Whatever changed and whatever was placed before: the index names the host a scan of all names.
    #[test]
    fn the_index_finds_what_a_full_scan_finds() {
        for seed in 0..300 {
            let mut dice = Dice(seed);
            let hosts = 1 + dice.below(60);
            let all: Vec<u32> = (0..hosts).collect();
            let rows = changes(&mut dice, hosts, &all);
            let table = HostTable {
                zone_names: ["a", "b"].map(String::from).to_vec(),
                zone: rows.zone,
                accepting: rows.accepting,
                vcpus_total: rows.vcpus_total,
                vcpus_used: rows.vcpus_used,
                memory_total: rows.memory_total,
                memory_used: rows.memory_used,
                local_disk_total: rows.local_disk_total,
                local_disk_used: rows.local_disk_used,
                instances: rows.instances,
                set_members: Vec::new(),
            };
            let prefers =
                [Prefers::MoreFree, Prefers::LessFree][usize::try_from(seed % 2).unwrap()];
            let mut session = Session::new(Left(prefers), table);
            let mut members = Members::new();
            for _ in 0..20 {
                let some: Vec<u32> = all.iter().copied().filter(|_| dice.below(8) == 0).collect();
                let rows = changes(&mut dice, hosts, &some);
                session.update(&rows).unwrap();
                let request = request(&mut dice);
                let scanned = highest(&session.judge(&request, &members).unwrap());
                let placed = session
                    .place(core::slice::from_ref(&request), members.clone())
                    .unwrap();
                assert_eq!(placed, [scanned], "seed {seed}");
                if let (Some(position), Some(set)) = (scanned, request.deployment_set) {
                    *members
                        .entry(set.id)
                        .or_default()
                        .entry(position)
                        .or_default() += 1;
                }
            }
        }
    }

    #[test]
    fn a_row_that_is_not_there_is_an_error() {
        let mut session = Session::new(Left(Prefers::MoreFree), HostTable::default());
        let rows = changes(&mut Dice(1), 1, &[0]);
        assert_eq!(
            session.update(&rows),
            Err(String::from("no host is at position 0"))
        );
    }
}
