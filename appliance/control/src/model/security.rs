//! Security groups: what the rules say is `security-group`'s; the record adds who, when and why.

use security_group::{Group, GroupError, GroupKind, InnerAccessPolicy, RuleSpec};
use types::{RuleId, SecurityGroupId, Timestamp, VpcId};

/// A rule of a group.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityGroupRule {
    /// `sgr-…`
    pub id: RuleId,
    /// What it says.
    #[serde(flatten)]
    pub spec: RuleSpec,
    /// Why it is there.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A security group (basic: inbound denied, outbound allowed, unless a rule says otherwise).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SecurityGroup {
    /// `sg-…`
    pub id: SecurityGroupId,
    /// The VPC it is of.
    pub vpc: VpcId,
    /// A name for people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Whether its members reach each other without a rule.
    pub inner_access: InnerAccessPolicy,
    /// Whether it is the group of instances whose request names none.
    pub is_default: bool,
    /// Its rules, oldest first; at most 200.
    pub rules: Vec<SecurityGroupRule>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl SecurityGroup {
    /// What it means for packets.
    ///
    /// # Errors
    /// When a rule of the record cannot be.
    pub fn to_group(&self) -> Result<Group, GroupError> {
        let mut group = Group::new(self.id, GroupKind::Basic);
        group.inner_access = self.inner_access;
        for rule in &self.rules {
            group.authorize(rule.spec)?;
        }
        Ok(group)
    }
}
