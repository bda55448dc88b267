//! Security groups.

use crate::{
    Control, Result,
    commands::{CreateSecurityGroup, NewRule, RuleSelector},
    model::SecurityGroup,
    use_cases::unwired,
};
use types::{SecurityGroupId, VpcId};

impl Control {
    /// Makes a security group without rules (ECS CreateSecurityGroup): nothing in, everything out.
    pub async fn create_security_group(
        &self,
        _command: CreateSecurityGroup,
    ) -> Result<SecurityGroup> {
        unwired()
    }

    /// The group of that id (`InvalidSecurityGroupId.NotFound`).
    pub async fn security_group(&self, _id: SecurityGroupId) -> Result<SecurityGroup> {
        unwired()
    }

    /// The groups, of one VPC if that is given, oldest first (ECS DescribeSecurityGroups).
    pub async fn security_groups(&self, _vpc: Option<VpcId>) -> Result<Vec<SecurityGroup>> {
        unwired()
    }

    /// Deletes a group without members that no other group's rule names (`DependencyViolation` otherwise).
    pub async fn delete_security_group(&self, _id: SecurityGroupId) -> Result<()> {
        unwired()
    }

    /// Adds rules, all or none (ECS AuthorizeSecurityGroup). One that is there already changes nothing. Answers when
    /// the rules are in force.
    pub async fn authorize_rules(
        &self,
        _id: SecurityGroupId,
        _rules: Vec<NewRule>,
    ) -> Result<SecurityGroup> {
        unwired()
    }

    /// Takes rules away, all or none (ECS RevokeSecurityGroup). One that is not there changes nothing. Answers when
    /// the rules are no longer in force.
    pub async fn revoke_rules(
        &self,
        _id: SecurityGroupId,
        _rules: &[RuleSelector],
    ) -> Result<SecurityGroup> {
        unwired()
    }
}
