//! The policies of this host: components from a folder or installed, with the built-in ones behind them.
//!
//! A component that cannot be loaded never keeps the host from starting: the built-in policy decides, and the
//! list of policies says why.

mod components;

use self::components::Components;
use anyhow::{Context, Result, bail};
use control::{
    model::{ComponentInfo, PolicyKind, PolicyRevision, PolicyStatus},
    ports::{LoadedPolicy, Policies, PortError, PortErrorKind, PortResult, Pricing},
};
use image_format::TrustedKeys;
use instance::admission::Admitter;
use ledger::{PriceList, Prices};
use placement::{BuiltIn, Scheduler};
use plugin_host::{Limits, LoadError, Parameters, PluginHost, PluginKind, PluginStatus};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error as _,
    fs,
    path::{Path, PathBuf},
};
use types::{ByteCount, Currency, Decimal, ModuleDigest, Sha256Digest};

/// Where policies come from, and what they may be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sources<'a> {
    /// Holds `scheduler-*.wasm` and `billing-*.wasm`, each with the parameters in a `.json` of the same name.
    pub folder: Option<&'a Path>,
    /// The price list that counts where no billing policy does.
    pub prices: Option<&'a Path>,
    /// The minisign public keys that installed components must be signed by; `None`: they need no signature.
    pub keys: Option<&'a Path>,
}

/// The policies of this host.
pub struct HostPolicies {
    host: PluginHost,
    components: Components,
    keys: Option<TrustedKeys>,
    prices: PriceList,
    scheduler: Scheduler,
    pricing: Pricing,
    /// Why a policy that should be in force is not.
    broken: Vec<PolicyStatus>,
}

impl HostPolicies {
    /// Loads the policies in the folder. Compiled code is kept in `cache`, installed components below it.
    ///
    /// # Errors
    /// When one of the sources cannot be read, the folder holds two policies of a kind, or WebAssembly cannot run at all.
    pub fn load(sources: Sources<'_>, cache: &Path) -> Result<Self> {
        let prices = match sources.prices {
            Some(file) => read_prices(file)?,
            None => default_prices()?,
        };
        let keys = sources.keys.map(read_keys).transpose()?;
        let host =
            PluginHost::new(Limits::default(), cache).context("cannot prepare to run policies")?;
        let mut policies = Self {
            host,
            components: Components::open(&cache.join("components"))?,
            keys,
            prices: prices.clone(),
            scheduler: Scheduler::built_in(BuiltIn::default()),
            pricing: Pricing::built_in(prices.clone()),
            broken: Vec::new(),
        };
        let folder = sources.folder;
        let Some(folder) = folder else {
            return Ok(policies);
        };
        if let Some(file) = component(folder, "scheduler-")? {
            match policies
                .read(&file, Parameters::new())
                .and_then(|(name, bytes, parameters)| {
                    Ok(policies.host.load_scheduler(&name, &bytes, &parameters)?)
                }) {
                Ok(plugin) => policies.scheduler = Scheduler::new(plugin, BuiltIn::default()),
                Err(error) => policies.set_aside(PolicyKind::Scheduler, &file, &error),
            }
        }
        if let Some(file) = component(folder, "billing-")? {
            let defaults = prices.parameters().into_iter().collect();
            match policies
                .read(&file, defaults)
                .and_then(|(name, bytes, parameters)| {
                    Ok(policies.host.load_billing(&name, &bytes, &parameters)?)
                }) {
                Ok(plugin) => policies.pricing = Pricing::new(plugin, prices),
                Err(error) => policies.set_aside(PolicyKind::Billing, &file, &error),
            }
        }
        Ok(policies)
    }

    /// Name, code and parameters of the policy in `file`; `defaults` where it has no parameters of its own.
    fn read(&self, file: &Path, defaults: Parameters) -> Result<(String, Vec<u8>, Parameters)> {
        let parameters_file = file.with_extension("json");
        let parameters = if parameters_file.exists() {
            let text = fs::read_to_string(&parameters_file)
                .with_context(|| format!("cannot read {}", parameters_file.display()))?;
            serde_json::from_str(&text).with_context(|| {
                format!(
                    "{} must be one JSON object of strings",
                    parameters_file.display()
                )
            })?
        } else {
            defaults
        };
        Ok((name(file), self.host.read(file)?, parameters))
    }

    fn set_aside(&mut self, kind: PolicyKind, file: &Path, error: &anyhow::Error) {
        let message = format!("{error:#}");
        tracing::error!(
            policy = name(file),
            error = message,
            "the policy is not in force; the built-in one decides"
        );
        let status = PolicyStatus::new(kind, name(file), ModuleDigest::BuiltIn);
        self.broken.push(status.broken(message));
    }
}

impl Policies for HostPolicies {
    fn scheduler(&self) -> Scheduler {
        self.scheduler.clone()
    }

    fn pricing(&self) -> Pricing {
        self.pricing.clone()
    }

    fn status(&self) -> Vec<PolicyStatus> {
        let mut all: Vec<PolicyStatus> = self.host.status().into_iter().map(status).collect();
        all.extend(self.broken.iter().cloned());
        let built_in = [
            (PolicyKind::Scheduler, self.scheduler.identity()),
            (PolicyKind::Billing, self.pricing.rater.identity()),
            (PolicyKind::Admission, Admitter::built_in().identity()),
        ];
        for (kind, identity) in built_in {
            let is_first = |policy: &PolicyStatus| {
                policy.kind == kind
                    && (policy.name == identity.name
                        || policy.name.parse::<PolicyRevision>().is_err())
            };
            if !all.iter().any(is_first) {
                all.push(PolicyStatus::new(
                    kind,
                    identity.name,
                    identity.module_sha256,
                ));
            }
        }
        all
    }

    fn author(&self, component: &[u8], signature: Option<&str>) -> PortResult<Option<String>> {
        let Some(keys) = &self.keys else {
            return Ok(None);
        };
        let refused = |message: String| {
            PortError::new(PortErrorKind::Invalid, message)
                .with_next_step("sign it with `minisign -S` by a key that this host trusts")
        };
        let signature = signature.ok_or_else(|| {
            refused(
                "the component has no signature, and this host takes signed policies only"
                    .to_owned(),
            )
        })?;
        let author = keys.verify(component, signature);
        author
            .map(Some)
            .map_err(|error| refused(format!("the component cannot be trusted: {error}")))
    }

    fn inspect(&self, component: &[u8]) -> PortResult<ComponentInfo> {
        let facts = self.host.inspect("given", component).map_err(refusal)?;
        Ok(ComponentInfo {
            kind: kind(facts.kind),
            module_sha256: facts.module_sha256,
            size: ByteCount::new(u64::try_from(component.len()).unwrap_or(u64::MAX)),
            imports: facts.imports,
            exports: facts.exports,
        })
    }

    fn load(
        &self,
        name: &str,
        kind: PolicyKind,
        component: &[u8],
        parameters: &BTreeMap<String, String>,
    ) -> PortResult<LoadedPolicy> {
        Ok(match kind {
            PolicyKind::Scheduler => {
                let plugin = self.host.load_scheduler(name, component, parameters);
                let plugin = plugin.map_err(refusal)?;
                LoadedPolicy::Scheduler(Scheduler::new(plugin, BuiltIn::default()))
            }
            PolicyKind::Billing => {
                let plugin = self.host.load_billing(name, component, parameters);
                let plugin = plugin.map_err(refusal)?;
                let pricing = Pricing::new(plugin, self.prices.clone());
                LoadedPolicy::Billing(Box::new(pricing))
            }
            PolicyKind::Admission => {
                let plugin = self.host.load_admission(name, component, parameters);
                LoadedPolicy::Admission(Admitter::new(plugin.map_err(refusal)?))
            }
        })
    }

    fn keep(&self, component: &[u8]) -> PortResult<()> {
        let kept = self.components.keep(component);
        kept.map_err(|error| failed("keep the component of a policy", error))
    }

    fn kept(&self, module: Sha256Digest) -> PortResult<Vec<u8>> {
        let read = self.components.read(module);
        read.map_err(|error| failed("read the component of a policy", error))
    }

    fn retain(&self, modules: &BTreeSet<Sha256Digest>) -> PortResult<()> {
        let retained = self.components.retain(modules);
        retained.map_err(|error| failed("look through the components of policies", error))
    }
}

/// A component that cannot be loaded is the fault of who brought it, unless the host is.
fn refusal(error: LoadError) -> PortError {
    let kind = match &error {
        LoadError::Cache(_) | LoadError::Engine(_) | LoadError::Read { .. } => {
            PortErrorKind::Failed
        }
        _ => PortErrorKind::Invalid,
    };
    let this = PortError::new(kind, error.to_string());
    match error.source() {
        Some(cause) => this.with_source(std::io::Error::other(cause.to_string())),
        None => this,
    }
}

fn failed(what: &str, error: std::io::Error) -> PortError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull => PortErrorKind::Exhausted,
        std::io::ErrorKind::NotFound => PortErrorKind::NotFound,
        _ => PortErrorKind::Failed,
    };
    PortError::new(kind, format!("cannot {what}")).with_source(error)
}

fn kind(kind: PluginKind) -> PolicyKind {
    match kind {
        PluginKind::Scheduler => PolicyKind::Scheduler,
        PluginKind::Billing => PolicyKind::Billing,
        PluginKind::Admission => PolicyKind::Admission,
    }
}

fn status(plugin: PluginStatus) -> PolicyStatus {
    PolicyStatus {
        kind: kind(plugin.kind),
        name: plugin.name,
        module_sha256: plugin.module_sha256,
        healthy: !plugin.set_aside,
        calls: plugin.calls,
        fallbacks: plugin.failures,
        mean_ns: plugin.mean_ns,
        max_ns: plugin.max_ns,
        last_error: plugin.last_failure.map(|failure| failure.to_string()),
    }
}

fn name(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The one component in `folder` whose name begins like that.
fn component(folder: &Path, prefix: &str) -> Result<Option<PathBuf>> {
    let unreadable = || format!("cannot read the policies in {}", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
            && name(&path).starts_with(prefix)
        {
            found.push(path);
        }
    }
    found.sort();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        [one, other, ..] => bail!(
            "{} and {} are both there, and only one policy of a kind can be in force: remove one",
            one.display(),
            other.display()
        ),
    }
}

fn read_keys(file: &Path) -> Result<TrustedKeys> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the keys in {}", file.display()))?;
    TrustedKeys::parse(&text).with_context(|| {
        format!(
            "{} does not list the keys of who signs policies",
            file.display()
        )
    })
}

fn read_prices(file: &Path) -> Result<PriceList> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the prices in {}", file.display()))?;
    let prices: Prices = serde_json::from_str(&text)
        .with_context(|| format!("{} is no price list", file.display()))?;
    PriceList::new(prices).with_context(|| format!("{} has an impossible price", file.display()))
}

/// What use costs where the operator has set no prices: about what clouds charge for small instances.
fn default_prices() -> Result<PriceList> {
    let currency: Currency = "USD".parse().context("USD is a currency")?;
    Ok(PriceList::new(Prices {
        currency,
        instance_types: Default::default(),
        vcpu: Decimal::new(20, 3),
        memory_gib: Decimal::new(5, 3),
        disk_categories: Default::default(),
        disk_gib: Decimal::new(14, 5),
        meters: Default::default(),
    })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_folder(folder: &Path) -> Sources<'_> {
        Sources {
            folder: Some(folder),
            ..Sources::default()
        }
    }

    #[test]
    fn without_components_the_built_in_policies_are_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let policies =
            HostPolicies::load(in_folder(dir.path()), &dir.path().join("cache")).unwrap();
        let status = policies.status();
        assert_eq!(status.len(), 3);
        assert!(
            status
                .iter()
                .all(|policy| policy.healthy && policy.module_sha256 == ModuleDigest::BuiltIn)
        );
    }

    #[test]
    fn a_file_that_is_no_component_leaves_the_built_in_policy_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("scheduler-odd.wasm"), "no component").unwrap();
        let policies =
            HostPolicies::load(in_folder(dir.path()), &dir.path().join("cache")).unwrap();
        let odd = policies
            .status()
            .into_iter()
            .find(|policy| policy.name == "scheduler-odd")
            .unwrap();
        assert!(!odd.healthy);
        assert!(odd.last_error.unwrap().contains("scheduler-odd"));
        assert_eq!(
            policies.scheduler().identity().module_sha256,
            ModuleDigest::BuiltIn
        );
    }

    #[test]
    fn two_policies_of_a_kind_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["billing-a.wasm", "billing-b.wasm"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let error = HostPolicies::load(in_folder(dir.path()), &dir.path().join("cache"))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("billing-a.wasm") && error.contains("billing-b.wasm"),
            "{error}"
        );
    }
}
