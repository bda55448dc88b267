//! A scheduling policy that is a component.

use crate::{
    LoadError,
    bindings::scheduler::{SchedulerPre, exports::ashlar::policy::scheduling::Verdicts},
    kept::Kept,
    plugin::{Plugin, interface},
    sandbox::{Sandbox, seed},
    session::{Loaded, Session, Situation, parameters},
};
use placement::{
    Constraint, HostTable, PlacementRequest, SchedulingPolicy, Verdict, check_places,
    check_verdicts, highest,
};
use std::sync::atomic::{AtomicU32, Ordering};
use types::{FailureKind, PolicyFailure, PolicyIdentity};
use wasmtime::Store;

/// A component of world `scheduler`.
pub struct SchedulerPlugin {
    plugin: Plugin,
    world: SchedulerPre<Sandbox>,
    kept: Kept,
    /// Questions that kept instances have answered.
    reused: AtomicU32,
}

/// What a policy says to one question, or its own words on why it says nothing.
type Answer<T> = wasmtime::Result<Result<T, String>>;

impl SchedulerPlugin {
    /// Makes sure that it exports what it should, and that it takes its parameters.
    pub(crate) fn new(plugin: Plugin) -> Result<Self, LoadError> {
        let world = SchedulerPre::new(plugin.instance.clone())
            .map_err(|error| interface(&plugin.identity.name, &error))?;
        let loaded = Self {
            kept: Kept::new(plugin.runtime()),
            reused: AtomicU32::new(0),
            plugin,
            world,
        };
        loaded.plugin.check_configuration(|store| {
            let world = loaded.world.instantiate(&mut *store)?;
            let scheduling = world.ashlar_policy_scheduling();
            scheduling.call_check_configuration(store, &parameters(&loaded.plugin.parameters))
        })?;
        Ok(loaded)
    }

    /// Asks an instance that is kept, or a new one. One that fails in any way is dropped with all it knows.
    ///
    /// `question` asks, `check` says whether the answer can be used, and `again` asks a new instance for what must be the same answer.
    fn ask<T, U: PartialEq>(
        &self,
        seed: u64,
        question: impl Fn(&mut Store<Sandbox>, &mut Loaded) -> Answer<T>,
        check: impl Fn(T) -> Result<U, String>,
        again: impl Fn(&mut Store<Sandbox>, &mut Loaded, &U) -> Answer<T>,
    ) -> Result<U, PolicyFailure> {
        let invalid = |why: String| self.plugin.failure(FailureKind::InvalidAnswer, &why);
        // Declared before the instances, so that it ends after they have given their slots back.
        let _running = self.plugin.begin()?;
        let kept = self.kept.take();
        let compare = kept.is_some() && self.is_to_be_compared();
        let mut session = kept.unwrap_or_else(|| Session::new(self.plugin.store()));
        let (store, loaded) = session.parts();
        let answer = self
            .plugin
            .run(store, seed, |store| question(store, loaded))?;
        let answer = check(answer).map_err(invalid)?;
        if compare {
            let mut new = Session::new(self.plugin.store());
            let (store, loaded) = new.parts();
            let other = self
                .plugin
                .run(store, seed, |store| again(store, loaded, &answer));
            match other.map(&check) {
                Ok(Ok(other)) if other == answer => {}
                Ok(_) => {
                    let why = "a new instance gives another answer: this one remembers more than the table of hosts";
                    return Err(invalid(why.to_owned()));
                }
                // There is no room for another instance: the next time will do.
                Err(failure) if failure.kind == FailureKind::Busy => {}
                Err(failure) => return Err(failure),
            }
        }
        session.answered += 1;
        self.kept.put(session);
        Ok(answer)
    }

    fn is_to_be_compared(&self) -> bool {
        let every = self.plugin.runtime().limits.compare;
        let before = self.reused.fetch_add(1, Ordering::Relaxed);
        every != 0 && before % every == every - 1
    }

    fn situation<'a>(&'a self, hosts: &'a HostTable) -> Situation<'a> {
        Situation {
            world: &self.world,
            parameters: &self.plugin.parameters,
            hosts,
        }
    }
}

impl SchedulingPolicy for SchedulerPlugin {
    fn identity(&self) -> PolicyIdentity {
        self.plugin.identity.clone()
    }

    fn evaluate(
        &self,
        request: &PlacementRequest,
        hosts: &HostTable,
    ) -> Result<Vec<Verdict>, PolicyFailure> {
        let of = self.situation(hosts);
        self.ask(
            seed(&request.instance.to_string()),
            |store, loaded| loaded.judge(store, &of, request),
            |answer| {
                let verdicts = rows(&answer, hosts.len())?;
                check_verdicts(request, hosts, &verdicts)?;
                Ok(verdicts)
            },
            |store, loaded, _| loaded.judge(store, &of, request),
        )
    }

    /// As the trait says; when it is compared, the first winner is also compared with a full scan's.
    fn place(
        &self,
        requests: &[PlacementRequest],
        hosts: &HostTable,
    ) -> Result<Vec<Option<usize>>, PolicyFailure> {
        let Some(first) = requests.first() else {
            return Ok(Vec::new());
        };
        let of = self.situation(hosts);
        let seed = seed(&first.instance.to_string());
        self.ask(
            seed,
            |store, loaded| loaded.place(store, &of, requests),
            |answer| {
                let place =
                    |place: Option<u32>| place.and_then(|place| usize::try_from(place).ok());
                let places: Vec<Option<usize>> = answer.into_iter().map(place).collect();
                check_places(requests, hosts, &places)?;
                Ok(places)
            },
            |store, loaded, places| {
                let verdicts = match loaded.judge(store, &of, first)? {
                    Ok(verdicts) => rows(&verdicts, hosts.len()),
                    Err(words) => return Ok(Err(words)),
                };
                if verdicts.map(|verdicts| highest(&verdicts)).ok() != places.first().copied() {
                    // No answer at all differs from every answer.
                    return Ok(Ok(Vec::new()));
                }
                store.data_mut().reseed(seed);
                loaded.place(store, &of, requests)
            },
        )
    }
}

/// From the columns of an answer to one verdict per host.
fn rows(answer: &Verdicts, hosts: usize) -> Result<Vec<Verdict>, String> {
    for (column, length) in [
        ("refused-for", answer.refused_for.len()),
        ("score", answer.score.len()),
    ] {
        if length != hosts {
            return Err(format!(
                "`{column}` is about {length} hosts; the table has {hosts}"
            ));
        }
    }
    let named = answer.constraints.len();
    if named > usize::from(u8::MAX) {
        return Err(format!("{named} constraints; at most 255 are allowed"));
    }
    let names = answer.constraints.iter();
    let constraints: Vec<Constraint> = names.map(|name| Constraint::from_name(name)).collect();
    let verdict = |(code, score): (&u8, &f64)| match usize::from(*code).checked_sub(1) {
        None => Ok(Verdict::Score(*score)),
        Some(position) => match constraints.get(position) {
            Some(constraint) => Ok(Verdict::Refused(constraint.clone())),
            None => Err(format!(
                "a host is refused for constraint {code}; {named} are named"
            )),
        },
    };
    answer
        .refused_for
        .iter()
        .zip(&answer.score)
        .map(verdict)
        .collect()
}
