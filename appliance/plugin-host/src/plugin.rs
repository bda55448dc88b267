//! A loaded component, and one call of it.

use crate::{
    LoadError, Parameters, bindings::scheduler::ashlar::policy::log::Level, cache::Cache,
    host::Runtime, limits::one_line, sandbox::Sandbox, ticker::Running,
};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc};
use types::{FailureKind, ModuleDigest, PolicyFailure, PolicyIdentity, Sha256Digest};
use wasmtime::{
    PoolConcurrencyLimitError, Store, Trap,
    component::{Component, InstancePre, Linker, types::Component as ComponentType},
};

/// What a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginKind {
    /// Where instances go.
    Scheduler,
    /// What usage costs.
    Billing,
    /// Which requests are let in.
    Admission,
}

impl PluginKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Scheduler, Self::Billing, Self::Admission];

    /// The interface it exports, without its version.
    pub(crate) const fn export(self) -> &'static str {
        match self {
            Self::Scheduler => "ashlar:policy/scheduling",
            Self::Billing => "ashlar:policy/rating",
            Self::Admission => "ashlar:policy/admitting",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scheduler => "scheduler",
            Self::Billing => "billing",
            Self::Admission => "admission",
        })
    }
}

/// How often a policy is asked about its parameters before it counts as one that gives no answer in time.
const CONFIGURATION_TRIES: u32 = 20;

/// A component, checked and ready to be instantiated.
pub(crate) struct Plugin {
    runtime: Arc<Runtime>,
    pub instance: InstancePre<Sandbox>,
    pub identity: PolicyIdentity,
    pub kind: PluginKind,
    pub parameters: Vec<(String, String)>,
}

impl Plugin {
    pub(crate) fn load(
        runtime: Arc<Runtime>,
        cache: &Cache,
        linker: &Linker<Sandbox>,
        name: &str,
        kind: PluginKind,
        bytes: &[u8],
        parameters: &Parameters,
    ) -> Result<Self, LoadError> {
        let digest = Sha256Digest::of(bytes);
        let component = compile(&runtime, cache, name, digest, bytes)?;
        check_world(name, kind, &component, &component.component_type())?;
        let instance = linker
            .instantiate_pre(&component)
            .map_err(|error| interface(name, &error))?;
        Ok(Self {
            runtime,
            instance,
            identity: PolicyIdentity {
                name: name.to_owned(),
                module_sha256: ModuleDigest::Sha256(digest),
                configuration_sha256: configuration_digest(parameters),
            },
            kind,
            parameters: parameters.clone().into_iter().collect(),
        })
    }

    /// Runs `call` in a fresh store under all limits. The inner result is the policy's own: an error there are its words.
    pub(crate) fn call<T>(
        &self,
        seed: u64,
        call: impl FnOnce(&mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, PolicyFailure> {
        // Declared before the store, so that it ends after the store has given its slot back.
        let _running = self.begin()?;
        let mut store = self.store();
        self.run(&mut store, seed, call)
    }

    /// Begins a call, unless too many are running.
    pub(crate) fn begin(&self) -> Result<Running<'_>, PolicyFailure> {
        let calls = self.runtime.limits.calls;
        self.runtime.ticker.begin(calls).ok_or_else(|| {
            let message = format!("{calls} calls are running already");
            self.failure(FailureKind::Busy, &message)
        })
    }

    /// A store without an instance.
    pub(crate) fn store(&self) -> Store<Sandbox> {
        let mut store = Store::new(&self.runtime.engine, Sandbox::new(&self.runtime.limits, 0));
        store.limiter(|sandbox| sandbox);
        store
    }

    /// Runs `call` under limits of time, instructions and what it hands over, counted from now; those of memory count from the
    /// store's beginning.
    pub(crate) fn run<T>(
        &self,
        store: &mut Store<Sandbox>,
        seed: u64,
        call: impl FnOnce(&mut Store<Sandbox>) -> wasmtime::Result<Result<T, String>>,
    ) -> Result<T, PolicyFailure> {
        let limits = &self.runtime.limits;
        store.data_mut().renew(limits, seed);
        store.set_hostcall_fuel(usize::try_from(limits.answer.bytes()).unwrap_or(usize::MAX));
        store.set_epoch_deadline(self.runtime.deadline_ticks);
        // Fuel is switched on in the engine's configuration, so setting it cannot fail.
        let result = store.set_fuel(limits.fuel).and_then(|()| call(store));
        self.pass_on_log(store.data());
        match result {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(words)) => Err(self.failure(FailureKind::Refused, &words)),
            Err(error) => {
                let (kind, message) = self.classify(&error, store.data());
                Err(self.failure(kind, &message))
            }
        }
    }

    /// Asks whether it takes its parameters: `call` is its `check-configuration`.
    ///
    /// Nobody waits for this answer, and on a busy machine the first call of new code takes long: one that comes too late is asked for
    /// again.
    pub(crate) fn check_configuration(
        &self,
        call: impl Fn(&mut Store<Sandbox>) -> wasmtime::Result<Result<(), String>>,
    ) -> Result<(), LoadError> {
        let late = |answer: &Result<(), PolicyFailure>| matches!(answer, Err(failure) if failure.kind == FailureKind::Deadline);
        let mut answer = self.call(0, &call);
        for _ in 1..CONFIGURATION_TRIES {
            if !late(&answer) {
                break;
            }
            answer = self.call(0, &call);
        }
        answer.map_err(|failure| LoadError::Configuration {
            name: self.identity.name.clone(),
            why: match failure.kind {
                FailureKind::Refused => failure.message,
                kind => format!("it {kind}: {}", failure.message),
            },
        })
    }

    /// An answer that passed its check, or a failure of this policy.
    pub(crate) fn usable<T>(&self, checked: Result<T, String>) -> Result<T, PolicyFailure> {
        checked.map_err(|why| self.failure(FailureKind::InvalidAnswer, &why))
    }

    /// What all calls share.
    pub(crate) fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// A failure of this policy.
    pub(crate) fn failure(&self, kind: FailureKind, message: &str) -> PolicyFailure {
        PolicyFailure {
            policy: Box::new(self.identity.clone()),
            kind,
            message: one_line(message),
        }
    }

    fn classify(&self, error: &wasmtime::Error, sandbox: &Sandbox) -> (FailureKind, String) {
        let limits = &self.runtime.limits;
        let trap = error.downcast_ref::<Trap>();
        match (trap, &sandbox.refused) {
            (Some(Trap::Interrupt), _) => {
                let deadline = limits.deadline.as_millis();
                (
                    FailureKind::Deadline,
                    format!("no answer within {deadline} ms"),
                )
            }
            (Some(Trap::OutOfFuel), _) => {
                let fuel = limits.fuel;
                (
                    FailureKind::Fuel,
                    format!("no answer within {fuel} instructions"),
                )
            }
            (_, Some(what)) => {
                let (memory, elements) = (limits.memory, limits.table_elements);
                let allowed = format!("{memory} and {elements} table elements are allowed");
                (FailureKind::Memory, format!("asked for {what}; {allowed}"))
            }
            (Some(trap), None) => {
                let words = sandbox.last_words();
                let words = words.map_or_else(|| trap.to_string(), str::to_owned);
                (FailureKind::Trap, words)
            }
            (None, None) if error.is::<PoolConcurrencyLimitError>() => {
                (FailureKind::Busy, format!("{error:#}"))
            }
            (None, None) => (FailureKind::InvalidAnswer, format!("{error:#}")),
        }
    }

    fn pass_on_log(&self, sandbox: &Sandbox) {
        let policy = self.identity.name.as_str();
        for (level, line) in &sandbox.lines {
            match level {
                Level::Debug => tracing::debug!(policy, "{line}"),
                Level::Info => tracing::info!(policy, "{line}"),
                Level::Warn => tracing::warn!(policy, "{line}"),
                Level::Error => tracing::error!(policy, "{line}"),
            }
        }
        if sandbox.dropped > 0 {
            tracing::warn!(
                policy,
                dropped = sandbox.dropped,
                "policy wrote too many log lines"
            );
        }
    }
}

/// Compiles a component, or takes what was compiled before.
pub(crate) fn compile(
    runtime: &Runtime,
    cache: &Cache,
    name: &str,
    digest: Sha256Digest,
    bytes: &[u8],
) -> Result<Component, LoadError> {
    match bytes.split_at_checked(8).map(|(header, _)| header) {
        Some(b"\0asm\x01\0\0\0") => return Err(LoadError::CoreModule(name.to_owned())),
        Some(header) if header.starts_with(b"\0asm") => {}
        _ => return Err(LoadError::NotWasm(name.to_owned())),
    }
    cache
        .component(&runtime.engine, digest, bytes)
        .map_err(|error| LoadError::Invalid {
            name: name.to_owned(),
            why: one_line(&format!("{error:#}")),
        })
}

/// The error of a component whose imports or exports have another shape than ours.
pub(crate) fn interface(name: &str, error: &wasmtime::Error) -> LoadError {
    LoadError::Interface {
        name: name.to_owned(),
        why: one_line(&format!("{error:#}")),
    }
}

fn check_world(
    name: &str,
    kind: PluginKind,
    component: &Component,
    world: &ComponentType,
) -> Result<(), LoadError> {
    let interface_of = |name: &str| name.split('@').next().unwrap_or_default().to_owned();
    for (import, _) in world.imports(component.engine()) {
        let offered = ["ashlar:policy/log", "ashlar:policy/random"];
        if !offered.contains(&interface_of(import).as_str()) {
            return Err(LoadError::Import {
                name: name.to_owned(),
                import: one_line(import),
            });
        }
    }
    let exports: Vec<String> = world
        .exports(component.engine())
        .map(|(export, _)| interface_of(export))
        .collect();
    if exports.iter().any(|export| export == kind.export()) {
        return Ok(());
    }
    let other = PluginKind::ALL
        .into_iter()
        .find(|other| exports.iter().any(|export| export == other.export()));
    Err(LoadError::Export {
        name: name.to_owned(),
        kind,
        export: kind.export(),
        instead: other.map_or_else(String::new, |other| {
            let article = match other {
                PluginKind::Admission => "an",
                PluginKind::Scheduler | PluginKind::Billing => "a",
            };
            format!("; it is {article} {other} policy")
        }),
    })
}

/// SHA-256 over one line per parameter, quoted so that no name or value can look like another line.
fn configuration_digest(parameters: &Parameters) -> Sha256Digest {
    let line = |(name, value)| format!("{name:?} = {value:?}\n");
    let lines: String = parameters.iter().map(line).collect();
    Sha256Digest::of(lines.as_bytes())
}
