//! One instance of a scheduler, with the table of hosts it was told of.
//!
//! ```text
//! empty ─ first question ─► loaded ─ question ─► update what differs, ask ─► loaded
//!                              └─ any failure ─► dropped
//! ```
//!
//! What the instance knows is kept here, too, and compared with the table of each question: a row that differs is sent again. So an
//! instance never answers from another table than it is asked about, whoever asked it what before.

use crate::{
    bindings::scheduler::{
        Scheduler, SchedulerPre,
        exports::ashlar::policy::scheduling::{
            DeploymentSet, HostChanges, HostTable as Table, Parameter, PlacementRequest as Request,
            SetMembers, Verdicts,
        },
    },
    kept::Permit,
    sandbox::Sandbox,
};
use placement::{Columns, HostTable, PlacementRequest};
use std::collections::BTreeSet;
use wasmtime::Store;

/// An answer of the policy: an inner error are its words.
type Answer<T> = wasmtime::Result<Result<T, String>>;

/// Rows that are compared at once.
const BLOCK: usize = 128;

/// An instance and what it knows.
pub(crate) struct Session {
    pub store: Store<Sandbox>,
    /// Questions answered.
    pub answered: u32,
    /// Once it may be kept.
    pub permit: Option<Permit>,
    loaded: Loaded,
}

/// What an instance knows.
#[derive(Default)]
pub(crate) struct Loaded {
    world: Option<Scheduler>,
    zone_names: Vec<String>,
    columns: Columns,
}

/// A question's table and the policy's parameters.
pub(crate) struct Situation<'a> {
    pub world: &'a SchedulerPre<Sandbox>,
    pub parameters: &'a [(String, String)],
    pub hosts: &'a HostTable,
}

impl Session {
    pub(crate) fn new(store: Store<Sandbox>) -> Self {
        Self {
            store,
            answered: 0,
            permit: None,
            loaded: Loaded::default(),
        }
    }

    /// Both halves, because a call borrows the store.
    pub(crate) fn parts(&mut self) -> (&mut Store<Sandbox>, &mut Loaded) {
        (&mut self.store, &mut self.loaded)
    }
}

impl Loaded {
    /// Sees to it that the instance knows `hosts`.
    fn know(&mut self, store: &mut Store<Sandbox>, of: &Situation<'_>) -> Answer<()> {
        let hosts = of.hosts;
        if let Some(world) = &self.world
            && hosts.zone_names() == self.zone_names
            && let Some(changed) = differing(&self.columns, hosts.columns())
        {
            if changed.is_empty() {
                return Ok(Ok(()));
            }
            let rows = rows(hosts.columns(), &changed);
            let changes = changes(&changed, &rows);
            let said = world
                .ashlar_policy_scheduling()
                .call_update(store, changes)?;
            for position in changed {
                copy(&mut self.columns, hosts.columns(), index(position));
            }
            return Ok(said);
        }
        let world = match &self.world {
            Some(world) => world,
            None => self.world.insert(of.world.instantiate(&mut *store)?),
        };
        let zones: Vec<&str> = hosts.zone_names().iter().map(String::as_str).collect();
        let parameters = parameters(of.parameters);
        let said = world.ashlar_policy_scheduling().call_load(
            store,
            &parameters,
            table(&zones, hosts.columns()),
        )?;
        self.zone_names = hosts.zone_names().to_vec();
        self.columns = hosts.columns().clone();
        Ok(said)
    }

    /// Asks for a verdict on every host.
    pub(crate) fn judge(
        &mut self,
        store: &mut Store<Sandbox>,
        of: &Situation<'_>,
        request: &PlacementRequest,
    ) -> Answer<Verdicts> {
        if let Err(words) = self.know(store, of)? {
            return Ok(Err(words));
        }
        let Some(world) = &self.world else {
            return Ok(Err("no instance".to_owned()));
        };
        let members = members(std::slice::from_ref(request), of.hosts);
        let instance = request.instance.to_string();
        let scheduling = world.ashlar_policy_scheduling();
        scheduling.call_filter_and_score(store, asked(request, &instance), &members)
    }

    /// Asks where these instances go. Afterwards the instance has booked them; so has this.
    pub(crate) fn place(
        &mut self,
        store: &mut Store<Sandbox>,
        of: &Situation<'_>,
        requests: &[PlacementRequest],
    ) -> Answer<Vec<Option<u32>>> {
        if let Err(words) = self.know(store, of)? {
            return Ok(Err(words));
        }
        let Some(world) = &self.world else {
            return Ok(Err("no instance".to_owned()));
        };
        let members = members(requests, of.hosts);
        let names: Vec<String> = requests.iter().map(|r| r.instance.to_string()).collect();
        let each = requests.iter().zip(&names);
        let asked: Vec<Request<'_>> = each.map(|(request, name)| asked(request, name)).collect();
        let scheduling = world.ashlar_policy_scheduling();
        let said = scheduling.call_place(store, &asked, &members)?;
        if let Ok(places) = &said {
            for (request, place) in requests.iter().zip(places) {
                if let Some(position) = place {
                    book(&mut self.columns, index(*position), request);
                }
            }
        }
        Ok(said)
    }
}

/// A position as the index it is.
fn index(position: u32) -> usize {
    // u32 to usize: lossless on every target this runs on.
    usize::try_from(position).unwrap_or(usize::MAX)
}

pub(crate) fn parameters(parameters: &[(String, String)]) -> Vec<Parameter<'_>> {
    let parameters = parameters.iter();
    parameters
        .map(|(name, value)| Parameter { name, value })
        .collect()
}

fn asked<'a>(request: &'a PlacementRequest, instance: &'a str) -> Request<'a> {
    Request {
        instance,
        instance_type: &request.instance_type,
        vcpus: request.vcpus,
        memory: request.memory.bytes(),
        local_disk: request.local_disk.bytes(),
        zone: request.zone.as_deref(),
        deployment_set: request.deployment_set.as_ref().map(|set| DeploymentSet {
            id: &set.id,
            max_per_host: set.max_per_host,
        }),
        spot: request.spot,
    }
}

/// Where members of the requests' deployment sets are.
fn members<'a>(requests: &'a [PlacementRequest], hosts: &HostTable) -> Vec<SetMembers<'a>> {
    let sets = requests.iter().filter_map(|r| r.deployment_set.as_ref());
    let sets: BTreeSet<&str> = sets.map(|set| set.id.as_str()).collect();
    let mut all = Vec::new();
    for set in sets {
        for (position, members) in hosts.carriers_of(set) {
            all.push(SetMembers {
                set,
                // A table has at most `HostTable::MAX_HOSTS` rows.
                position: u32::try_from(position).unwrap_or(u32::MAX),
                members,
            });
        }
    }
    all
}

fn table<'a>(zone_names: &'a [&'a str], columns: &'a Columns) -> Table<'a> {
    Table {
        zone_names,
        zone: &columns.zone,
        accepting: &columns.accepting,
        vcpus_total: &columns.vcpus_total,
        vcpus_used: &columns.vcpus_used,
        memory_total: &columns.memory_total,
        memory_used: &columns.memory_used,
        local_disk_total: &columns.local_disk_total,
        local_disk_used: &columns.local_disk_used,
        instances: &columns.instances,
    }
}

fn changes<'a>(positions: &'a [u32], rows: &'a Columns) -> HostChanges<'a> {
    HostChanges {
        positions,
        zone: &rows.zone,
        accepting: &rows.accepting,
        vcpus_total: &rows.vcpus_total,
        vcpus_used: &rows.vcpus_used,
        memory_total: &rows.memory_total,
        memory_used: &rows.memory_used,
        local_disk_total: &rows.local_disk_total,
        local_disk_used: &rows.local_disk_used,
        instances: &rows.instances,
    }
}

/// The rows in which two tables differ, ascending; `None` if they have not as many, or if most differ.
fn differing(known: &Columns, now: &Columns) -> Option<Vec<u32>> {
    let rows = known.zone.len();
    if rows != now.zone.len() {
        return None;
    }
    let mut changed = Vec::new();
    for from in (0..rows).step_by(BLOCK) {
        let to = rows.min(from + BLOCK);
        if same(known, now, from, to) {
            continue;
        }
        for row in from..to {
            if !same(known, now, row, row + 1) {
                changed.push(u32::try_from(row).ok()?);
            }
        }
    }
    // A whole table is cheaper than most of its rows, and a small one costs the same.
    (rows < BLOCK || changed.len() <= rows / 2).then_some(changed)
}

fn same(known: &Columns, now: &Columns, from: usize, to: usize) -> bool {
    known.vcpus_used[from..to] == now.vcpus_used[from..to]
        && known.memory_used[from..to] == now.memory_used[from..to]
        && known.instances[from..to] == now.instances[from..to]
        && known.accepting[from..to] == now.accepting[from..to]
        && known.local_disk_used[from..to] == now.local_disk_used[from..to]
        && known.zone[from..to] == now.zone[from..to]
        && known.vcpus_total[from..to] == now.vcpus_total[from..to]
        && known.memory_total[from..to] == now.memory_total[from..to]
        && known.local_disk_total[from..to] == now.local_disk_total[from..to]
}

/// Those rows of a table.
fn rows(columns: &Columns, positions: &[u32]) -> Columns {
    fn of<T: Copy>(column: &[T], positions: &[u32]) -> Vec<T> {
        positions.iter().map(|at| column[index(*at)]).collect()
    }
    Columns {
        zone: of(&columns.zone, positions),
        accepting: of(&columns.accepting, positions),
        vcpus_total: of(&columns.vcpus_total, positions),
        vcpus_used: of(&columns.vcpus_used, positions),
        memory_total: of(&columns.memory_total, positions),
        memory_used: of(&columns.memory_used, positions),
        local_disk_total: of(&columns.local_disk_total, positions),
        local_disk_used: of(&columns.local_disk_used, positions),
        instances: of(&columns.instances, positions),
    }
}

fn copy(to: &mut Columns, from: &Columns, row: usize) {
    to.zone[row] = from.zone[row];
    to.accepting[row] = from.accepting[row];
    to.vcpus_total[row] = from.vcpus_total[row];
    to.vcpus_used[row] = from.vcpus_used[row];
    to.memory_total[row] = from.memory_total[row];
    to.memory_used[row] = from.memory_used[row];
    to.local_disk_total[row] = from.local_disk_total[row];
    to.local_disk_used[row] = from.local_disk_used[row];
    to.instances[row] = from.instances[row];
}

/// Books as the instance does; a place that isn't there is refused later.
fn book(columns: &mut Columns, row: usize, request: &PlacementRequest) {
    if row >= columns.zone.len() {
        return;
    }
    let vcpus = &mut columns.vcpus_used[row];
    *vcpus = vcpus.saturating_add(request.vcpus);
    let memory = &mut columns.memory_used[row];
    *memory = memory.saturating_add(request.memory.bytes());
    let disk = &mut columns.local_disk_used[row];
    *disk = disk.saturating_add(request.local_disk.bytes());
    columns.instances[row] = columns.instances[row].saturating_add(1);
}
