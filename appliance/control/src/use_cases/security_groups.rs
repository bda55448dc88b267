//! Security groups.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::{CreateSecurityGroup, NewRule, RuleSelector},
    core::{Transaction, check_room, sentence},
    model::{
        EventSubject, InnerAccessPolicy, NetworkInterface, Peer, RuleSpec, SecurityGroup,
        SecurityGroupRule, Vpc,
    },
    tokens::Ticket,
    use_cases::{
        check_names,
        networks::{default_vpc, first_of, in_use},
        oldest_first,
    },
};
use security_group::{Group, MAX_RULES_PER_GROUP};
use std::error::Error as _;
use types::{RuleId, SecurityGroupId, Timestamp, VpcId};

const MAX_GROUPS: u32 = 1000;

impl Control {
    /// Makes a security group without rules (ECS CreateSecurityGroup): nothing in, everything out.
    pub async fn create_security_group(
        &self,
        command: CreateSecurityGroup,
    ) -> Result<SecurityGroup> {
        check_names(command.name.as_deref(), command.description.as_deref())?;
        let ticket = Ticket::new("CreateSecurityGroup", &command.request, &command)?;
        let create = move |transaction: &mut Transaction<'_>| {
            if let Some(ids) = ticket.former::<SecurityGroupId>(transaction)? {
                return first_of(transaction, &ids, "SecurityGroupId", "security group");
            }
            check_room(
                "security groups",
                transaction.list::<SecurityGroup>()?.len(),
                1,
                MAX_GROUPS,
            )?;
            if let Some(vpc) = command.vpc
                && transaction.get::<Vpc>(&vpc)?.is_none()
            {
                return Err(ControlError::not_found("VpcId", "VPC", &vpc));
            }
            ticket.end_dry_run()?;
            let vpc = match command.vpc {
                Some(vpc) => vpc,
                None => default_vpc(transaction)?.id,
            };
            let group = SecurityGroup {
                id: SecurityGroupId::generate(transaction.random()),
                vpc,
                name: command.name,
                description: command.description,
                inner_access: command.inner_access,
                is_default: false,
                rules: Vec::new(),
                created_at: transaction.core().now(),
            };
            add_group(transaction, &group)?;
            ticket.answered(transaction, &[group.id])?;
            Ok(group)
        };
        self.core().write(create).await
    }

    /// The group of that id (`InvalidSecurityGroupId.NotFound`).
    pub async fn security_group(&self, id: SecurityGroupId) -> Result<SecurityGroup> {
        self.core().get(&id)?.ok_or_else(|| unknown(id))
    }

    /// The groups, of one VPC if that is given, oldest first (ECS DescribeSecurityGroups).
    pub async fn security_groups(&self, vpc: Option<VpcId>) -> Result<Vec<SecurityGroup>> {
        let mut groups = self.core().list::<SecurityGroup>()?;
        groups.retain(|group| vpc.is_none_or(|vpc| group.vpc == vpc));
        oldest_first(&mut groups, |group| (group.created_at, group.id));
        Ok(groups)
    }

    /// Deletes a group without members that no other group's rule names (`DependencyViolation` otherwise).
    pub async fn delete_security_group(&self, id: SecurityGroupId) -> Result<()> {
        let delete = move |transaction: &mut Transaction<'_>| {
            let group = transaction
                .get::<SecurityGroup>(&id)?
                .ok_or_else(|| unknown(id))?;
            let interfaces = transaction.all::<NetworkInterface>();
            if let Some(member) = interfaces
                .values()
                .find(|interface| interface.security_groups.contains(&id))
            {
                return Err(match &member.instance {
                    Some(instance) => in_use("security group", &id, "instance", instance),
                    None => in_use("security group", &id, "network interface", &member.id),
                });
            }
            let names_it = |other: &&SecurityGroup| {
                other.id != id
                    && other
                        .rules
                        .iter()
                        .any(|rule| rule.spec.peer == Peer::Group(id))
            };
            if let Some(other) = transaction.list::<SecurityGroup>()?.iter().find(names_it) {
                return Err(in_use(
                    "security group",
                    &id,
                    "a rule of security group",
                    &other.id,
                ));
            }
            transaction.delete::<SecurityGroup>(&id)?;
            transaction.event(
                EventSubject::SecurityGroup(id),
                format!("security group {id} deleted"),
            );
            Ok(group.vpc)
        };
        let vpc = self.core().write(delete).await?;
        // Nothing that passes depends on a group without members: whenever this comes is soon enough.
        self.inner.networks.apply_soon(vpc);
        Ok(())
    }

    /// Adds rules, all or none (ECS AuthorizeSecurityGroup). One that is there already changes nothing. Answers when
    /// the rules are in force.
    pub async fn authorize_rules(
        &self,
        id: SecurityGroupId,
        rules: Vec<NewRule>,
    ) -> Result<SecurityGroup> {
        let authorize = move |transaction: &mut Transaction<'_>| {
            let mut group = transaction
                .get::<SecurityGroup>(&id)?
                .ok_or_else(|| unknown(id))?;
            for (position, new) in rules.into_iter().enumerate() {
                let field = format!("rules[{position}]");
                check_names(None, new.description.as_deref())
                    .map_err(|error| error.with_field(&field))?;
                let spec = validated(new.spec, &field)?;
                check_peer(transaction, &group, spec, &field)?;
                if group.rules.iter().any(|rule| rule.spec == spec) {
                    continue;
                }
                if group.rules.len() >= MAX_RULES_PER_GROUP {
                    let message = format!(
                        "Security group {id} would have more than {MAX_RULES_PER_GROUP} rules."
                    );
                    return Err(ControlError::new(
                        ErrorKind::QuotaExceeded,
                        "QuotaExceed.SecurityGroupRule",
                        message,
                    )
                    .with_next_step(
                        "Revoke rules that are not needed, or spread them over several groups.",
                    ));
                }
                let rule = new_rule(transaction, spec, new.description);
                group.rules.push(rule);
            }
            transaction.put(&group)?;
            transaction.event(
                EventSubject::SecurityGroup(id),
                format!("rules of security group {id} changed"),
            );
            Ok(group)
        };
        let group = self.core().write(authorize).await?;
        self.inner.networks.apply(group.vpc).await?;
        Ok(group)
    }

    /// Takes rules away, all or none (ECS RevokeSecurityGroup). One that is not there changes nothing. Answers when
    /// the rules are no longer in force.
    pub async fn revoke_rules(
        &self,
        id: SecurityGroupId,
        rules: &[RuleSelector],
    ) -> Result<SecurityGroup> {
        let rules = rules.to_vec();
        let revoke = move |transaction: &mut Transaction<'_>| {
            let mut group = transaction
                .get::<SecurityGroup>(&id)?
                .ok_or_else(|| unknown(id))?;
            for (position, selector) in rules.iter().enumerate() {
                match selector {
                    RuleSelector::Id(rule_id) => group.rules.retain(|rule| rule.id != *rule_id),
                    RuleSelector::Spec(spec) => {
                        let spec = validated(*spec, &format!("rules[{position}]"))?;
                        group.rules.retain(|rule| rule.spec != spec);
                    }
                }
            }
            transaction.put(&group)?;
            transaction.event(
                EventSubject::SecurityGroup(id),
                format!("rules of security group {id} changed"),
            );
            Ok(group)
        };
        let group = self.core().write(revoke).await?;
        self.inner.networks.apply(group.vpc).await?;
        Ok(group)
    }
}

pub(crate) fn unknown(id: SecurityGroupId) -> ControlError {
    ControlError::not_found("SecurityGroupId", "security group", &id)
}

fn validated(spec: RuleSpec, field: &str) -> Result<RuleSpec> {
    spec.validated().map_err(|error| {
        let cause = error
            .source()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        ControlError::invalid(field, sentence(&format!("{error}{cause}")))
    })
}

/// A rule may name a group of its own VPC only.
fn check_peer(
    transaction: &Transaction<'_>,
    group: &SecurityGroup,
    spec: RuleSpec,
    field: &str,
) -> Result<()> {
    let Peer::Group(peer) = spec.peer else {
        return Ok(());
    };
    match transaction.get::<SecurityGroup>(&peer)? {
        Some(other) if other.vpc == group.vpc => Ok(()),
        Some(other) => {
            let message = format!(
                "Security group {peer} is of VPC {}, not of {}, whose addresses mean something else.",
                other.vpc, group.vpc
            );
            Err(ControlError::invalid(field, message)
                .with_code("InvalidSecurityGroupId.VpcMismatch"))
        }
        None => Err(unknown(peer).with_field(field)),
    }
}

fn new_rule(
    transaction: &Transaction<'_>,
    spec: RuleSpec,
    description: Option<String>,
) -> SecurityGroupRule {
    let id = RuleId::generate(transaction.random());
    SecurityGroupRule {
        id,
        spec,
        description,
        created_at: transaction.core().now(),
    }
}

fn add_group(transaction: &mut Transaction<'_>, group: &SecurityGroup) -> Result<()> {
    transaction.put(group)?;
    transaction.event(
        EventSubject::SecurityGroup(group.id),
        format!("security group {} made", group.id),
    );
    Ok(())
}

/// The default group of a VPC, made when it is first needed.
pub(crate) fn default_group(
    transaction: &mut Transaction<'_>,
    vpc: VpcId,
) -> Result<SecurityGroup> {
    let found = transaction
        .list::<SecurityGroup>()?
        .into_iter()
        .find(|group| group.vpc == vpc && group.is_default);
    if let Some(group) = found {
        return Ok(group);
    }
    let id = SecurityGroupId::generate(transaction.random());
    let created_at: Timestamp = transaction.core().now();
    let specs = Group::default_group(id).rules().to_vec();
    let group = SecurityGroup {
        id,
        vpc,
        name: Some("default".to_owned()),
        description: None,
        inner_access: InnerAccessPolicy::default(),
        is_default: true,
        rules: specs
            .into_iter()
            .map(|spec| new_rule(transaction, spec, None))
            .collect(),
        created_at,
    };
    add_group(transaction, &group)?;
    Ok(group)
}
