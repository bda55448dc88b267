//! Deployment sets.

use crate::{
    Control, ControlError, Result,
    commands::{CreateDeploymentSet, ModifyDeploymentSet},
    core::{Core, Transaction, check_room},
    model::{DeploymentSet, EventSubject, Instance},
    tokens::Ticket,
    use_cases::{
        check_names,
        networks::{first_of, in_use},
        oldest_first,
    },
};
use std::sync::Arc;
use types::DeploymentSetId;

const MAX_SETS: u32 = 100;

impl Control {
    /// Makes a deployment set without members (ECS CreateDeploymentSet).
    pub async fn create_deployment_set(
        &self,
        command: CreateDeploymentSet,
    ) -> Result<DeploymentSet> {
        check_names(command.name.as_deref(), command.description.as_deref())?;
        let ticket = Ticket::new("CreateDeploymentSet", &command.request, &command)?;
        let create = move |transaction: &mut Transaction<'_>| {
            if let Some(ids) = ticket.former::<DeploymentSetId>(transaction)? {
                let set: DeploymentSet =
                    first_of(transaction, &ids, "DeploymentSetId", "deployment set")?;
                return Ok(set.id);
            }
            let there = transaction.list::<DeploymentSet>()?.len();
            check_room("deployment sets", there, 1, MAX_SETS)?;
            ticket.end_dry_run()?;
            let set = DeploymentSet {
                id: DeploymentSetId::generate(transaction.random()),
                name: command.name,
                description: command.description,
                strategy: command.strategy,
                members: Vec::new(),
                created_at: transaction.core().now(),
            };
            put(transaction, &set, "made")?;
            ticket.answered(transaction, &[set.id])?;
            Ok(set.id)
        };
        let id = self.core().write(create).await?;
        self.deployment_set(id).await
    }

    /// The deployment set of that id (`InvalidDeploymentSetId.NotFound`).
    pub async fn deployment_set(&self, id: DeploymentSetId) -> Result<DeploymentSet> {
        let found = self.core().get::<DeploymentSet>(&id)?;
        let set = found.ok_or_else(|| unknown(id))?;
        Ok(with_members(self.core(), set))
    }

    /// All deployment sets, oldest first (ECS DescribeDeploymentSets).
    pub async fn deployment_sets(&self) -> Result<Vec<DeploymentSet>> {
        let core = self.core();
        let sets = core.list::<DeploymentSet>()?.into_iter();
        let mut sets: Vec<DeploymentSet> = sets.map(|set| with_members(core, set)).collect();
        oldest_first(&mut sets, |set| (set.created_at, set.id));
        Ok(sets)
    }

    /// Changes its name and description (ECS ModifyDeploymentSetAttribute).
    pub async fn modify_deployment_set(
        &self,
        id: DeploymentSetId,
        change: ModifyDeploymentSet,
    ) -> Result<DeploymentSet> {
        check_names(change.name.as_deref(), change.description.as_deref())?;
        let modify = move |transaction: &mut Transaction<'_>| {
            let mut set = find(transaction, id)?;
            set.name = change.name.or(set.name);
            set.description = change.description.or(set.description);
            put(transaction, &set, "changed")
        };
        self.core().write(modify).await?;
        self.deployment_set(id).await
    }

    /// Deletes a deployment set (ECS DeleteDeploymentSet) that no instance is in, not even a stopped one
    /// (`DependencyViolation.NotEmpty` otherwise).
    pub async fn delete_deployment_set(&self, id: DeploymentSetId) -> Result<()> {
        let delete = move |transaction: &mut Transaction<'_>| {
            find(transaction, id)?;
            let instances = transaction.all::<Instance>();
            if let Some(member) = instances
                .values()
                .find(|instance| instance.deployment_set == Some(id))
            {
                return Err(in_use("deployment set", &id, "instance", &member.id)
                    .with_code("DependencyViolation.NotEmpty"));
            }
            transaction.delete::<DeploymentSet>(&id)?;
            transaction.event(
                EventSubject::DeploymentSet(id),
                format!("deployment set {id} deleted"),
            );
            Ok(())
        };
        self.core().write(delete).await
    }
}

/// A set with the instances that are in it, oldest first.
fn with_members(core: &Core, mut set: DeploymentSet) -> DeploymentSet {
    let instances = core.all::<Instance>();
    let mut members: Vec<&Arc<Instance>> = instances
        .values()
        .filter(|instance| instance.deployment_set == Some(set.id))
        .collect();
    oldest_first(&mut members, |member| (member.created_at, member.id));
    set.members = members.into_iter().map(|member| member.id).collect();
    set
}

pub(crate) fn find(transaction: &Transaction<'_>, id: DeploymentSetId) -> Result<DeploymentSet> {
    transaction.get(&id)?.ok_or_else(|| unknown(id))
}

fn put(transaction: &mut Transaction<'_>, set: &DeploymentSet, what: &str) -> Result<()> {
    transaction.put(set)?;
    let message = format!("deployment set {} {what}", set.id);
    transaction.event(EventSubject::DeploymentSet(set.id), message);
    Ok(())
}

fn unknown(id: DeploymentSetId) -> ControlError {
    ControlError::not_found("DeploymentSetId", "deployment set", &id)
}
