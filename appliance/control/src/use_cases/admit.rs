//! Asking the admission policy about a request that sizes and quotas let in.

use crate::{
    ControlError, ErrorKind, Result,
    commands::{Charging, RunInstances},
    core::{Transaction, sentence},
    model::{DiskCategory, EventSubject, Instance, PolicyKind},
    placing::type_name,
    use_cases::run_instances::new_disks,
};
use instance::admission::{Answer, DiskRequest, Holdings, InstancesRequest, Offers};
use std::sync::Arc;
use types::ByteCount;

/// The size that was judged of each instance.
pub(super) struct Size {
    pub(super) vcpus: u32,
    pub(super) memory: ByteCount,
    pub(super) system_disk: Option<ByteCount>,
}

/// Has the policy let the request in: as it is, or changed. A refusal is the policy's own, in its words.
pub(super) fn admit(
    transaction: &mut Transaction<'_>,
    command: &mut RunInstances,
    size: &Size,
) -> Result<()> {
    let core = transaction.core();
    let in_force = core.policies.in_force();
    let request = request(core.settings.account.clone(), command, size);
    let holdings = holdings(transaction.all::<Instance>().values());
    let offers = Offers {
        zones: vec![core.settings.zone.clone()],
        // A disk is local where that is asked for: no policy makes another one local.
        disk_categories: vec![DiskCategory::CloudEssd.name().to_owned()],
    };
    let decided = in_force.admitter().decide(&request, &holdings, &offers);
    let policy = decided.policy.name;
    core.policies
        .shadow_admission(&request, &holdings, &offers, &decided.answer);
    match decided.answer {
        Answer::Admit => Ok(()),
        Answer::Refuse { reason, message } => {
            tracing::info!(policy, reason, "a request to run instances is refused");
            let error = ControlError::new(
                ErrorKind::Denied,
                "OperationDenied.AdmissionPolicy",
                sentence(message.trim_end_matches('.')),
            );
            Err(error.with_next_step(format!(
                "Ask for what the policy {policy} lets in; it refuses for `{reason}`."
            )))
        }
        // The category of disks on offer is the one that those which are not local get anyhow.
        Answer::Amend(amendment) => {
            let amended = amendment.apply(&request);
            command.name = amended.name;
            command.tags = amended.tags;
            command.deletion_protection = amended.deletion_protection;
            command.zone = amended.zone;
            let message = format!("policy {policy} amends a request to run instances");
            transaction.event(EventSubject::Policy(PolicyKind::Admission), message);
            Ok(())
        }
    }
}

fn request(account: types::AccountId, command: &RunInstances, size: &Size) -> InstancesRequest {
    let system_disk = size.system_disk.into_iter();
    let system_disk = system_disk.map(|size| (size, DiskCategory::CloudEssd));
    let disk = |(size, category): (ByteCount, DiskCategory)| DiskRequest {
        category: category.name().to_owned(),
        size,
    };
    InstancesRequest {
        account,
        instance_type: type_name(command.instance_type.as_deref()).to_owned(),
        vcpus: size.vcpus,
        memory: size.memory,
        disks: system_disk.chain(new_disks(command)).map(disk).collect(),
        count: command.amount,
        image: command.image,
        name: command.name.clone(),
        tags: command.tags.clone(),
        zone: command.zone.clone(),
        spot: matches!(command.charging, Charging::Preemptible { .. }),
        deletion_protection: command.deletion_protection,
    }
}

fn holdings<'a>(instances: impl Iterator<Item = &'a Arc<Instance>>) -> Holdings {
    let mut holdings = Holdings::default();
    for instance in instances {
        holdings.instances = holdings.instances.saturating_add(1);
        holdings.vcpus = holdings.vcpus.saturating_add(instance.vcpus);
        holdings.memory = holdings.memory + instance.memory;
    }
    holdings
}
