//! The engine all policies share, and how a policy gets in.

use crate::{
    AdmissionPlugin, BillingPlugin, Guarded, Limits, LoadError, PluginStatus, SchedulerPlugin,
    bindings::scheduler::ashlar::policy::{log, random},
    cache::Cache,
    guarded::Reports,
    inspect::ComponentFacts,
    plugin::{Plugin, PluginKind, compile},
    sandbox::{MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES, Sandbox},
    ticker::Ticker,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError, Weak, atomic::AtomicU32},
    time::Duration,
};
use types::{ByteCount, PolicyIdentity, Sha256Digest};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
    component::{HasSelf, Linker},
};

/// A policy's parameters, by name.
pub type Parameters = BTreeMap<String, String>;

/// Loads policies and lists those that are loaded.
pub struct PluginHost {
    limits: Limits,
    cache: Cache,
    linker: Linker<Sandbox>,
    runtime: Arc<Runtime>,
    loaded: Mutex<Vec<Weak<dyn Reports>>>,
}

/// What every call needs.
pub(crate) struct Runtime {
    pub engine: Engine,
    pub limits: Limits,
    pub ticker: Ticker,
    /// Ticks after which a call is cut off.
    pub deadline_ticks: u64,
    /// How many instances are kept between calls.
    pub kept: AtomicU32,
}

/// Ticks a deadline is divided into.
const TICKS: u32 = 5;

impl PluginHost {
    /// A host program with these limits that keeps compiled code in `cache_dir`, which is made (mode 0700) if it isn't there.
    ///
    /// # Errors
    /// [`LoadError::Cache`] or [`LoadError::Engine`].
    pub fn new(limits: Limits, cache_dir: &Path) -> Result<Self, LoadError> {
        let failed = |error: wasmtime::Error| LoadError::Engine(format!("{error:#}"));
        let engine = Engine::new(&config(&limits)).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        log::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox| sandbox).map_err(failed)?;
        random::add_to_linker::<_, HasSelf<_>>(&mut linker, |sandbox| sandbox).map_err(failed)?;
        let tick = (limits.deadline / TICKS).max(Duration::from_millis(1));
        let ticker = Ticker::start(engine.clone(), tick)
            .map_err(|error| LoadError::Engine(format!("cannot start its clock: {error}")))?;
        Ok(Self {
            cache: Cache::open(cache_dir)?,
            linker,
            runtime: Arc::new(Runtime {
                engine,
                limits: limits.clone(),
                ticker,
                // The tick that is under way when the call begins doesn't count.
                deadline_ticks: u64::from(TICKS) + 1,
                kept: AtomicU32::new(0),
            }),
            limits,
            loaded: Mutex::new(Vec::new()),
        })
    }

    /// Reads a component's file.
    ///
    /// # Errors
    /// [`LoadError::Read`] or [`LoadError::TooLarge`].
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, LoadError> {
        let failed = |source| LoadError::Read {
            path: path.to_owned(),
            source,
        };
        let limit = self.limits.component;
        let file = File::open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(limit.bytes().saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        self.check_size(&path.display().to_string(), &bytes)?;
        Ok(bytes)
    }

    fn check_size(&self, name: &str, bytes: &[u8]) -> Result<(), LoadError> {
        let size = ByteCount::new(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if size > self.limits.component {
            return Err(LoadError::TooLarge {
                name: name.to_owned(),
                size,
                limit: self.limits.component,
            });
        }
        Ok(())
    }

    /// What the component in `bytes` is, without asking it anything. It is called `name` in errors.
    ///
    /// # Errors
    /// [`LoadError`] if it is no policy of any kind.
    pub fn inspect(&self, name: &str, bytes: &[u8]) -> Result<ComponentFacts, LoadError> {
        self.check_size(name, bytes)?;
        let digest = Sha256Digest::of(bytes);
        let component = compile(&self.runtime, &self.cache, name, digest, bytes)?;
        ComponentFacts::of(name, digest, &component)
    }

    /// Loads a scheduling policy: a component of world `scheduler`, under the operator's name for it, with its parameters.
    ///
    /// # Errors
    /// [`LoadError`] says in which way it isn't one, or what it has against its parameters.
    pub fn load_scheduler(
        &self,
        name: &str,
        bytes: &[u8],
        parameters: &Parameters,
    ) -> Result<Arc<Guarded<SchedulerPlugin>>, LoadError> {
        let plugin = self.plugin(name, PluginKind::Scheduler, bytes, parameters)?;
        let (identity, kind) = (plugin.identity.clone(), plugin.kind);
        Ok(self.register(SchedulerPlugin::new(plugin)?, identity, kind))
    }

    /// Loads a billing policy: a component of world `billing`, under the operator's name for it, with its parameters.
    ///
    /// # Errors
    /// As [`load_scheduler`](Self::load_scheduler).
    pub fn load_billing(
        &self,
        name: &str,
        bytes: &[u8],
        parameters: &Parameters,
    ) -> Result<Arc<Guarded<BillingPlugin>>, LoadError> {
        let plugin = self.plugin(name, PluginKind::Billing, bytes, parameters)?;
        let (identity, kind) = (plugin.identity.clone(), plugin.kind);
        Ok(self.register(BillingPlugin::new(plugin)?, identity, kind))
    }

    /// Loads an admission policy: a component of world `admission`, under the operator's name for it, with its parameters.
    ///
    /// # Errors
    /// As [`load_scheduler`](Self::load_scheduler).
    pub fn load_admission(
        &self,
        name: &str,
        bytes: &[u8],
        parameters: &Parameters,
    ) -> Result<Arc<Guarded<AdmissionPlugin>>, LoadError> {
        let plugin = self.plugin(name, PluginKind::Admission, bytes, parameters)?;
        let (identity, kind) = (plugin.identity.clone(), plugin.kind);
        Ok(self.register(AdmissionPlugin::new(plugin)?, identity, kind))
    }

    /// Every policy that is loaded and still held by someone, in the order they were loaded.
    #[must_use]
    pub fn status(&self) -> Vec<PluginStatus> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|plugin| plugin.strong_count() > 0);
        let plugins = loaded.iter().filter_map(Weak::upgrade);
        plugins.map(|plugin| plugin.status()).collect()
    }

    fn plugin(
        &self,
        name: &str,
        kind: PluginKind,
        bytes: &[u8],
        parameters: &Parameters,
    ) -> Result<Plugin, LoadError> {
        self.check_size(name, bytes)?;
        let runtime = Arc::clone(&self.runtime);
        Plugin::load(
            runtime,
            &self.cache,
            &self.linker,
            name,
            kind,
            bytes,
            parameters,
        )
    }

    fn register<P: Send + Sync + 'static>(
        &self,
        policy: P,
        identity: PolicyIdentity,
        kind: PluginKind,
    ) -> Arc<Guarded<P>> {
        let failures = self.limits.failures;
        let policy = Arc::new(Guarded::new(policy, identity, kind, failures));
        let report: Arc<dyn Reports> = policy.clone();
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.push(Arc::downgrade(&report));
        policy
    }
}

/// Same input, same output, on every machine; nothing a policy doesn't need.
fn config(limits: &Limits) -> Config {
    let memory = usize::try_from(limits.memory.bytes()).unwrap_or(usize::MAX);
    // One per call, another for those that are compared, and what is kept.
    let instances = limits.calls.saturating_mul(2).saturating_add(limits.kept);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(MAX_INSTANCES))
        .total_memories(instances.saturating_mul(MAX_MEMORIES))
        .total_tables(instances.saturating_mul(MAX_TABLES))
        .max_core_instances_per_component(MAX_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .max_memory_size(memory)
        .table_elements(limits.table_elements)
        // A slot is free again as soon as its call ends: batches would keep back slots that the next call needs.
        .decommit_batch_size(1);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .wasm_component_model(true)
        .wasm_relaxed_simd(false)
        // A failure is told by its message alone, the same every time.
        .wasm_backtrace_max_frames(None)
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .epoch_interruption(true);
    config
}
