//! Installing policies, and giving them roles.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::{InstallPolicy, PolicySelector},
    core::{Core, Transaction, blocking, check_room, sentence, to_the_end},
    model::{
        ComponentInfo, EventSubject, Policy, PolicyComparison, PolicyInfo, PolicyKind,
        PolicyRevision, PolicyRole, PolicyRoles, PolicyStatus, check_policy_name,
    },
    policies,
    ports::LoadedPolicy,
    records::PolicyNameRecord,
    use_cases::meters,
};
use std::sync::Arc;
use types::{ByteCount, Sha256Digest};

/// The most revisions that can be installed, of all policies.
const MAX_POLICIES: u32 = 1000;
/// The most parameters of a policy.
const MAX_PARAMETERS: usize = 256;
/// The longest name of a parameter, and the longest value, in bytes.
const MAX_PARAMETER: usize = 4096;

impl Control {
    /// Every policy that is installed, and those in force that aren't; by kind, those the daemon was started with first.
    pub async fn policies(&self) -> Result<Vec<PolicyInfo>> {
        let core = self.core().clone();
        blocking(move || Overview::of(&core)?.all(&core)).await?
    }

    /// An installed policy (`InvalidPolicy.NotFound`).
    pub async fn policy(&self, selector: PolicySelector) -> Result<PolicyInfo> {
        let core = self.core().clone();
        blocking(move || {
            let policy = find(&core, &selector)?;
            Ok(Overview::of(&core)?.info(policy))
        })
        .await?
    }

    /// What a component is, without installing it.
    pub async fn inspect_policy(&self, component: Vec<u8>) -> Result<ComponentInfo> {
        let core = self.core().clone();
        Ok(blocking(move || core.ports.policies.inspect(&component)).await??)
    }

    /// Installs a policy. It decides nothing until it gets a role. The same component with the same parameters is installed once: the
    /// answer is then the revision that is there.
    pub async fn install_policy(&self, command: InstallPolicy) -> Result<PolicyInfo> {
        check_policy_name(&command.name)
            .map_err(|error| ControlError::invalid("name", sentence(&error.to_string())))?;
        check_parameters(&command)?;
        let core = self.core().clone();
        to_the_end(async move {
            let _changing = core.policies.changing.lock().await;
            let dry_run = command.dry_run;
            let (reader, name) = (core.clone(), command.name.clone());
            let new = blocking(move || prepare(&reader, command)).await??;
            if dry_run {
                return Err(ControlError::new(
                    ErrorKind::DryRun,
                    "DryRunOperation",
                    "The policy can be installed.",
                ));
            }
            let policy = core
                .write(move |transaction| {
                    let there = transaction.list::<Policy>()?;
                    check_room("policies", there.len(), 1, MAX_POLICIES)?;
                    let of_name: Vec<&Policy> = there
                        .iter()
                        .filter(|policy| policy.id.name() == name)
                        .collect();
                    if let Some(other) = of_name.iter().find(|policy| policy.kind != new.kind) {
                        let message = format!(
                            "{name} is a {} policy, and this component is a {} policy.",
                            other.kind, new.kind
                        );
                        return Err(ControlError::invalid("name", message).with_next_step(
                            "Give it another name, or remove the revisions of that name.",
                        ));
                    }
                    let same = |policy: &&&Policy| {
                        policy.module_sha256 == new.module_sha256
                            && policy.parameters == new.parameters
                    };
                    if let Some(same) = of_name.iter().find(same) {
                        return Ok((**same).clone());
                    }
                    let number = next_revision(transaction, &name)?;
                    let id = PolicyRevision::new(&name, number).map_err(|error| {
                        ControlError::invalid("name", sentence(&error.to_string()))
                    })?;
                    let policy = Policy { id, ..new };
                    transaction.put(&policy)?;
                    let message = format!("policy {} is installed", policy.id);
                    transaction.event(EventSubject::Policy(policy.kind), message);
                    Ok(policy)
                })
                .await?;
            Ok(Overview::of(&core)?.info(policy))
        })
        .await
    }

    /// Gives a policy a role, at once and until it is given to another; questions that are being answered are answered by whom they
    /// were put to.
    pub async fn give_policy_role(
        &self,
        selector: PolicySelector,
        role: PolicyRole,
    ) -> Result<PolicyInfo> {
        if let PolicyRole::Canary(percent) = role
            && !(1..=99).contains(&percent)
        {
            let message = format!("A canary's share is from 1 to 99 percent, not {percent}.");
            return Err(ControlError::invalid("canary_percent", message));
        }
        let core = self.core().clone();
        to_the_end(async move {
            let _changing = core.policies.changing.lock().await;
            let reader = core.clone();
            let (policy, loaded) = blocking(move || {
                let policy = find(&reader, &selector)?;
                let loaded = policies::load(&reader, &policy)?;
                Ok::<_, ControlError>((policy, loaded))
            })
            .await??;
            if policy.kind == PolicyKind::Admission && matches!(role, PolicyRole::Canary(_)) {
                let message =
                    "An admission policy has no canary: requests have no ids to choose a share by.";
                return Err(ControlError::invalid("canary_percent", message)
                    .with_next_step("Make it the shadow first, then activate it."));
            }
            let id = policy.id.clone();
            let roles = change_roles(&core, policy.kind, move |roles| {
                roles.give(&id, role);
                let what = match role {
                    PolicyRole::Active => "is active".to_owned(),
                    PolicyRole::Canary(percent) => format!("is the canary, for {percent} %"),
                    PolicyRole::Shadow => "is the shadow".to_owned(),
                };
                Ok(format!("policy {id} {what}"))
            })
            .await?;
            let (writer, fresh) = (core.clone(), (policy.id.clone(), loaded));
            blocking(move || assume(&writer, &roles, Some(fresh))).await??;
            Ok(Overview::of(&core)?.info(policy))
        })
        .await
    }

    /// Takes every role from a policy. In an active one's place decides what the daemon was started with.
    pub async fn retire_policy(&self, selector: PolicySelector) -> Result<PolicyInfo> {
        let core = self.core().clone();
        to_the_end(async move {
            let _changing = core.policies.changing.lock().await;
            let policy = find(&core, &selector)?;
            let id = policy.id.clone();
            let change = move |roles: &mut PolicyRoles| {
                if !roles.retire(&id) {
                    return Err(ControlError::new(
                        ErrorKind::IncorrectState,
                        "IncorrectPolicyStatus",
                        format!("The policy {id} has no role."),
                    ));
                }
                Ok(format!("policy {id} is retired"))
            };
            assume_changed(&core, policy.kind, change).await?;
            Ok(Overview::of(&core)?.info(policy))
        })
        .await
    }

    /// Makes active, of a kind, what was active before; answers with what is active now.
    pub async fn roll_back_policy(&self, kind: PolicyKind) -> Result<PolicyInfo> {
        let core = self.core().clone();
        to_the_end(async move {
            let _changing = core.policies.changing.lock().await;
            let change = move |roles: &mut PolicyRoles| {
                if !roles.roll_back() {
                    return Err(ControlError::new(
                        ErrorKind::IncorrectState,
                        "IncorrectPolicyStatus",
                        format!("No {kind} policy was active before."),
                    ));
                }
                Ok(match &roles.active {
                    Some(active) => format!("policy {active} is active again"),
                    None => format!("the first {kind} policy is active again"),
                })
            };
            assume_changed(&core, kind, change).await?;
            let active = Overview::of(&core)?
                .all(&core)?
                .into_iter()
                .find(|info| info.kind == kind && info.roles.contains(&PolicyRole::Active));
            active.ok_or_else(|| {
                ControlError::new(ErrorKind::Internal, "InternalError", "No policy is active.")
            })
        })
        .await
    }

    /// Removes an installed policy that has no role. What it decided and charged stays; it cannot be asked again.
    pub async fn remove_policy(&self, selector: PolicySelector) -> Result<()> {
        let core = self.core().clone();
        to_the_end(async move {
            let _changing = core.policies.changing.lock().await;
            let policy = find(&core, &selector)?;
            core.write(move |transaction| {
                if let Some(mut roles) = transaction.get::<PolicyRoles>(&policy.kind)? {
                    if !roles.of(&policy.id).is_empty() {
                        let message = format!("The policy {} is in use.", policy.id);
                        let code = "IncorrectPolicyStatus";
                        return Err(ControlError::new(ErrorKind::IncorrectState, code, message)
                            .with_next_step(
                                "Retire it, or give its role to another, then remove it.",
                            ));
                    }
                    roles.forget(&policy.id);
                    transaction.put(&roles)?;
                }
                transaction.delete::<Policy>(&policy.id)?;
                let message = format!("policy {} is removed", policy.id);
                transaction.event(EventSubject::Policy(policy.kind), message);
                Ok(())
            })
            .await?;
            let cleaner = core.clone();
            blocking(move || cleaner.keep_components()).await?
        })
        .await
    }

    /// What the shadow would have done, since it is the shadow or the daemon was started.
    pub async fn policy_shadow(&self, selector: PolicySelector) -> Result<PolicyComparison> {
        let core = self.core().clone();
        let policy = blocking(move || find(&core, &selector)).await??;
        let shadow = self.core().policies.shadow(policy.kind);
        shadow
            .filter(|shadow| shadow.policy == policy.id)
            .ok_or_else(|| {
                ControlError::new(
                    ErrorKind::IncorrectState,
                    "IncorrectPolicyStatus",
                    format!("The policy {} is not the shadow.", policy.id),
                )
                .with_next_step("Make it the shadow, or replay the past with it.")
            })
    }
}

/// The installed policy that is meant. Blocks.
pub(super) fn find(core: &Core, selector: &PolicySelector) -> Result<Policy> {
    let of_name = core
        .list::<Policy>()?
        .into_iter()
        .filter(|policy| policy.id.name() == selector.name);
    let found = match selector.revision {
        Some(number) => of_name
            .into_iter()
            .find(|policy| policy.id.number() == number),
        None => of_name.max_by_key(|policy| policy.id.number()),
    };
    found.ok_or_else(|| {
        let id = match selector.revision {
            Some(number) => format!("{}@{number}", selector.name),
            None => selector.name.clone(),
        };
        ControlError::not_found("Policy", "installed policy", &id)
    })
}

fn check_parameters(command: &InstallPolicy) -> Result<()> {
    let parameters = &command.parameters;
    if parameters.len() > MAX_PARAMETERS {
        let message = format!(
            "{} parameters: a policy has at most {MAX_PARAMETERS}.",
            parameters.len()
        );
        return Err(ControlError::invalid("parameters", message));
    }
    let long = |text: &String| text.len() > MAX_PARAMETER;
    let bad = parameters
        .iter()
        .find(|(name, value)| name.is_empty() || long(name) || long(value));
    match bad {
        None => Ok(()),
        Some((name, _)) => {
            let name: String = name.chars().take(64).collect();
            let message = format!(
                "The parameter `{name}` has no name, or it or its value is longer than {MAX_PARAMETER} bytes."
            );
            Err(ControlError::invalid("parameters", message))
        }
    }
}

/// Makes sure that a policy can be installed, and keeps its component. Blocks.
fn prepare(core: &Core, command: InstallPolicy) -> Result<Policy> {
    let policies = &core.ports.policies;
    let author = policies.author(&command.component, command.signature.as_deref())?;
    let info = policies.inspect(&command.component)?;
    policies.load(
        &command.name,
        info.kind,
        &command.component,
        &command.parameters,
    )?;
    if !command.dry_run {
        policies.keep(&command.component)?;
    }
    let id = PolicyRevision::new(command.name, 1)
        .map_err(|error| ControlError::invalid("name", sentence(&error.to_string())))?;
    Ok(Policy {
        id,
        kind: info.kind,
        module_sha256: Sha256Digest::of(&command.component),
        size: ByteCount::new(u64::try_from(command.component.len()).unwrap_or(u64::MAX)),
        parameters: command.parameters,
        installed_at: core.now(),
        author,
    })
}

/// The number of a policy's next revision. One that was removed is not given again: what it decided names it.
fn next_revision(transaction: &Transaction<'_>, name: &str) -> Result<u32> {
    let last = transaction.get::<PolicyNameRecord>(&name.to_owned())?;
    let number = last.map_or(0, |name| name.last).saturating_add(1);
    transaction.put(&PolicyNameRecord {
        name: name.to_owned(),
        last: number,
    })?;
    Ok(number)
}

/// Changes the roles of a kind in one transaction; `change` says what happened.
async fn change_roles(
    core: &Arc<Core>,
    kind: PolicyKind,
    change: impl FnOnce(&mut PolicyRoles) -> Result<String> + Send + 'static,
) -> Result<PolicyRoles> {
    core.write(move |transaction| {
        let kept = transaction.get::<PolicyRoles>(&kind)?;
        let mut roles = kept.unwrap_or_else(|| PolicyRoles::new(kind));
        let message = change(&mut roles)?;
        transaction.put(&roles)?;
        transaction.event(EventSubject::Policy(kind), message);
        Ok(roles)
    })
    .await
}

/// Changes the roles of a kind, and puts in force what they then say.
async fn assume_changed(
    core: &Arc<Core>,
    kind: PolicyKind,
    change: impl FnOnce(&mut PolicyRoles) -> Result<String> + Send + 'static,
) -> Result<()> {
    let roles = change_roles(core, kind, change).await?;
    let writer = core.clone();
    blocking(move || assume(&writer, &roles, None)).await?
}

/// Puts in force what the roles say, and has metered what a billing policy then says. Blocks.
fn assume(
    core: &Core,
    roles: &PolicyRoles,
    fresh: Option<(PolicyRevision, LoadedPolicy)>,
) -> Result<()> {
    core.policies.assume(core, roles, fresh)?;
    match roles.kind {
        PolicyKind::Billing => meters::follow_policy_everywhere(core),
        PolicyKind::Scheduler | PolicyKind::Admission => Ok(()),
    }
}

/// What is known of all policies at a moment.
struct Overview {
    roles: Vec<PolicyRoles>,
    statuses: Vec<PolicyStatus>,
}

impl Overview {
    fn of(core: &Core) -> Result<Self> {
        let mut statuses = core.policies.broken();
        statuses.extend(core.ports.policies.status());
        Ok(Self {
            roles: core.list()?,
            statuses,
        })
    }

    fn roles_of(&self, kind: PolicyKind) -> Option<&PolicyRoles> {
        self.roles.iter().find(|roles| roles.kind == kind)
    }

    fn info(&self, policy: Policy) -> PolicyInfo {
        let name = policy.id.to_string();
        let roles = self.roles_of(policy.kind);
        let roles = roles.map_or_else(Vec::new, |roles| roles.of(&policy.id));
        // One that lost its role, or was loaded anew, may be asked for a moment by who had begun to before.
        let latest = self.statuses.iter().rfind(|status| status.name == name);
        PolicyInfo {
            kind: policy.kind,
            status: latest.filter(|_| !roles.is_empty()).cloned(),
            installed: Some(policy),
            roles,
            name,
        }
    }

    fn all(&self, core: &Core) -> Result<Vec<PolicyInfo>> {
        let mut installed: Vec<Policy> = core.list()?;
        installed.sort_by(|a, b| (a.kind, &a.id).cmp(&(b.kind, &b.id)));
        let base = core.ports.policies.status().into_iter();
        let base = base.filter(|status| status.name.parse::<PolicyRevision>().is_err());
        let mut all: Vec<PolicyInfo> = base
            .map(|status| {
                let active = self
                    .roles_of(status.kind)
                    .is_none_or(|roles| roles.active.is_none());
                PolicyInfo {
                    kind: status.kind,
                    name: status.name.clone(),
                    installed: None,
                    roles: if active {
                        vec![PolicyRole::Active]
                    } else {
                        Vec::new()
                    },
                    status: Some(status),
                }
            })
            .collect();
        all.extend(installed.into_iter().map(|policy| self.info(policy)));
        Ok(all)
    }
}
