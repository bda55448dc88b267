//! What policies decided. Placement decisions and charges are kept as `placement` and `ledger` made them.

use placement::{Decision, HostTable, PlacementRequest};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    str::FromStr,
};
use types::{
    AccountId, ByteCount, DecisionId, HostId, InstanceId, ModuleDigest, Money, Sha256Digest,
    Timestamp,
};

/// So many activations can be rolled back.
const MAX_EARLIER: usize = 32;

/// The longest name of a policy, in characters.
pub const MAX_POLICY_NAME: usize = 64;

/// What a decision was made from: equal inputs and an equal policy give an equal outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionInputs {
    /// The decision.
    pub decision: Decision,
    /// What was asked for.
    pub request: PlacementRequest,
    /// The hosts as they were.
    pub hosts: HostTable,
}

/// What a meter of a resource cost so far, in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargeTotal {
    /// Id of the resource: `i-…`, `d-…`.
    pub resource: String,
    /// Name of the meter: `instance-running`, `disk-allocated`, ….
    pub meter: String,
    /// Seconds charged.
    pub seconds: u64,
    /// What they cost.
    pub amount: Money,
}

impl ChargeTotal {
    /// The instance, if that is what it is about.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        self.resource.parse().ok()
    }
}

/// What a policy decides about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyKind {
    /// Where instances go.
    Scheduler,
    /// What their use costs.
    Billing,
    /// Which requests are let in.
    Admission,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Scheduler => "scheduler",
            Self::Billing => "billing",
            Self::Admission => "admission",
        })
    }
}

/// One revision of an installed policy: `tiered@3`. Whatever was decided or charged by it names it so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyRevision {
    name: String,
    number: u32,
}

/// A text that names no revision of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicyName {
    /// The name has another form.
    #[error(
        "`{0}` is no name of a policy: 1 to {MAX_POLICY_NAME} lower-case letters, digits and hyphens, the first a letter"
    )]
    Name(String),
    /// The number has.
    #[error("`{0}` is no revision of a policy: expected one like `tiered@3`, counted from 1")]
    Revision(String),
}

impl PolicyRevision {
    /// That revision of the policy `name`.
    ///
    /// # Errors
    /// [`InvalidPolicyName`]; revisions are counted from 1.
    pub fn new(name: impl Into<String>, number: u32) -> Result<Self, InvalidPolicyName> {
        let name = name.into();
        check_policy_name(&name)?;
        if number == 0 {
            return Err(InvalidPolicyName::Revision(format!("{name}@0")));
        }
        Ok(Self { name, number })
    }

    /// The policy's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which revision; from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }
}

/// Whether a policy may be called that.
///
/// # Errors
/// [`InvalidPolicyName::Name`].
pub fn check_policy_name(name: &str) -> Result<(), InvalidPolicyName> {
    let good = name.len() <= MAX_POLICY_NAME
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if good {
        Ok(())
    } else {
        Err(InvalidPolicyName::Name(name.chars().take(80).collect()))
    }
}

impl fmt::Display for PolicyRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}@{}", self.name, self.number))
    }
}

impl FromStr for PolicyRevision {
    type Err = InvalidPolicyName;

    fn from_str(text: &str) -> Result<Self, InvalidPolicyName> {
        let invalid = || InvalidPolicyName::Revision(text.chars().take(80).collect());
        let (name, number) = text.split_once('@').ok_or_else(invalid)?;
        Self::new(name, number.parse().map_err(|_| invalid())?)
    }
}

impl TryFrom<String> for PolicyRevision {
    type Error = InvalidPolicyName;

    fn try_from(text: String) -> Result<Self, InvalidPolicyName> {
        text.parse()
    }
}

impl From<PolicyRevision> for String {
    fn from(revision: PolicyRevision) -> Self {
        revision.to_string()
    }
}

/// An installed revision of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which.
    pub id: PolicyRevision,
    /// What it decides about.
    pub kind: PolicyKind,
    /// SHA-256 of its component.
    pub module_sha256: Sha256Digest,
    /// Size of its component.
    pub size: ByteCount,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// When it was installed.
    pub installed_at: Timestamp,
    /// What the signature of its component says of itself (minisign's trusted comment), where signatures are asked for.
    pub author: Option<String>,
}

/// What a policy is there for at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyRole {
    /// It decides.
    Active,
    /// It decides about a share of the instances instead of the active one: 1 to 99 percent, chosen by their ids.
    Canary(u8),
    /// It is asked what the active one is asked; differences are noted and nothing else comes of it.
    Shadow,
}

/// Who decides about one kind of question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRoles {
    /// What about.
    pub kind: PolicyKind,
    /// The active policy; `None`: the one that the daemon was started with, or the built-in one.
    pub active: Option<PolicyRevision>,
    /// What was active before, the latest last.
    pub earlier: Vec<Option<PolicyRevision>>,
    /// The canary and its share, in percent.
    pub canary: Option<(PolicyRevision, u8)>,
    /// The shadow.
    pub shadow: Option<PolicyRevision>,
}

impl PolicyRoles {
    /// Before anything was activated.
    #[must_use]
    pub fn new(kind: PolicyKind) -> Self {
        Self {
            kind,
            active: None,
            earlier: Vec::new(),
            canary: None,
            shadow: None,
        }
    }

    /// Gives a policy a role; who had it has it no more. An active one is not its own canary, nor its own shadow.
    pub fn give(&mut self, policy: &PolicyRevision, role: PolicyRole) {
        match role {
            PolicyRole::Active => {
                self.canary.take_if(|(canary, _)| canary == policy);
                self.shadow.take_if(|shadow| shadow == policy);
                self.activate(Some(policy.clone()));
            }
            PolicyRole::Canary(percent) => self.canary = Some((policy.clone(), percent)),
            PolicyRole::Shadow => self.shadow = Some(policy.clone()),
        }
    }

    /// Takes every role from a policy; whether it had one. After an active one decides what the daemon was started with.
    pub fn retire(&mut self, policy: &PolicyRevision) -> bool {
        let had = !self.of(policy).is_empty();
        if self.active.as_ref() == Some(policy) {
            self.activate(None);
        }
        self.canary.take_if(|(canary, _)| canary == policy);
        self.shadow.take_if(|shadow| shadow == policy);
        had
    }

    /// Makes active what was before; whether anything was.
    pub fn roll_back(&mut self) -> bool {
        let earlier = self.earlier.pop();
        let was = earlier.is_some();
        if let Some(earlier) = earlier {
            self.active = earlier;
        }
        was
    }

    fn activate(&mut self, policy: Option<PolicyRevision>) {
        if self.active == policy {
            return;
        }
        if self.earlier.len() == MAX_EARLIER {
            self.earlier.remove(0);
        }
        let before = std::mem::replace(&mut self.active, policy);
        self.earlier.push(before);
    }

    /// Forgets a policy that is removed: nothing can be rolled back to it.
    pub fn forget(&mut self, policy: &PolicyRevision) {
        self.earlier
            .retain(|earlier| earlier.as_ref() != Some(policy));
    }

    /// The roles of a policy.
    #[must_use]
    pub fn of(&self, policy: &PolicyRevision) -> Vec<PolicyRole> {
        let active = self.active.as_ref() == Some(policy);
        let canary = self.canary.as_ref().filter(|(canary, _)| canary == policy);
        let shadow = self.shadow.as_ref() == Some(policy);
        let roles = [
            active.then_some(PolicyRole::Active),
            canary.map(|(_, percent)| PolicyRole::Canary(*percent)),
            shadow.then_some(PolicyRole::Shadow),
        ];
        roles.into_iter().flatten().collect()
    }
}

/// How a loaded policy does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyStatus {
    /// What it decides about.
    pub kind: PolicyKind,
    /// Its name; of an installed one with its revision.
    pub name: String,
    /// Its code: `built-in` when no plugin is loaded.
    pub module_sha256: ModuleDigest,
    /// Whether it is asked; false: the built-in policy decides, see `last_error`.
    pub healthy: bool,
    /// Calls since it was loaded.
    pub calls: u64,
    /// Calls that the built-in policy had to answer.
    pub fallbacks: u64,
    /// Mean time of a call, in nanoseconds.
    pub mean_ns: u64,
    /// Longest time of a call, in nanoseconds.
    pub max_ns: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}

impl PolicyStatus {
    /// Of a policy that was not asked yet.
    #[must_use]
    pub fn new(kind: PolicyKind, name: impl Into<String>, module_sha256: ModuleDigest) -> Self {
        Self {
            kind,
            name: name.into(),
            module_sha256,
            healthy: true,
            calls: 0,
            fallbacks: 0,
            mean_ns: 0,
            max_ns: 0,
            last_error: None,
        }
    }

    /// Of one that cannot be asked, and why.
    #[must_use]
    pub fn broken(self, why: String) -> Self {
        Self {
            healthy: false,
            last_error: Some(why),
            ..self
        }
    }
}

/// A policy that is installed, or in force without being.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyInfo {
    /// What it decides about.
    pub kind: PolicyKind,
    /// Its name; of an installed one with its revision.
    pub name: String,
    /// What was installed; `None` of one the daemon was started with, or the built-in one.
    pub installed: Option<Policy>,
    /// What it is there for; nothing: it only waits.
    pub roles: Vec<PolicyRole>,
    /// How it does; `None` if it is not loaded.
    pub status: Option<PolicyStatus>,
}

/// What a component is, as far as can be told without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComponentInfo {
    /// What it decides about.
    pub kind: PolicyKind,
    /// SHA-256 of its file.
    pub module_sha256: Sha256Digest,
    /// Size of its file.
    pub size: ByteCount,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// Where a policy and the active one would not have done the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyDifference {
    /// Another host, or none.
    Placement {
        /// The decision.
        decision: DecisionId,
        /// What was placed.
        instance: InstanceId,
        /// Where the active policy put it.
        active: Option<HostId>,
        /// Where this one would have.
        other: Option<HostId>,
    },
    /// Another answer to a request.
    Admission {
        /// Whose request.
        account: AccountId,
        /// What the active policy answered: `admit`, `refuse` and why, or `amend`.
        active: String,
        /// What this one did.
        other: String,
    },
    /// Another price.
    Price {
        /// What was used.
        resource: String,
        /// What the active policy charged.
        active: Money,
        /// What this one would have.
        other: Money,
    },
}

/// Most differences that are kept one by one; all are counted.
pub const MAX_DIFFERENCES: usize = 100;

/// What a policy would have done about questions that another one has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyComparison {
    /// The policy.
    pub policy: PolicyRevision,
    /// Since when it is compared, or from when the questions are.
    pub since: Timestamp,
    /// Questions that both answered.
    pub compared: u64,
    /// Those they answered alike.
    pub same: u64,
    /// Those this one did not answer, or answered wrongly.
    pub failures: u64,
    /// Questions that could not be asked: too many at once, or not kept with what it takes to ask them again.
    pub skipped: u64,
    /// The latest differences, at most [`MAX_DIFFERENCES`].
    pub differences: VecDeque<PolicyDifference>,
    /// What was charged and what this one would have, in each currency.
    pub totals: Vec<(Money, Money)>,
    /// This policy's mean time for a question, in nanoseconds.
    pub mean_ns: u64,
    /// Its longest, in nanoseconds.
    pub max_ns: u64,
    /// Why it last failed.
    pub last_error: Option<String>,
}

/// A decision that was made again.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    /// What comes out now. All but its duration counts.
    pub decision: placement::Decision,
    /// Digest of the kept decision.
    pub kept_sha256: Sha256Digest,
    /// Digest of what comes out now: the same, if the policy is what it was.
    pub rerun_sha256: Sha256Digest,
}
