//! An admission policy that is a component.

use crate::{
    LoadError,
    bindings::admission::{
        AdmissionPre,
        exports::ashlar::policy::admitting::{
            Admission, Amendment as Amended, Disk, Holdings as HoldingsParam,
            InstancesRequest as Request, Offers as OffersParam, Parameter, TagParam,
        },
    },
    plugin::{Plugin, interface},
    sandbox::{Sandbox, seed},
};
use instance::admission::{
    AdmissionPolicy, Amendment, Answer, Holdings, InstancesRequest, Offers, check_answer,
};
use types::{PolicyFailure, PolicyIdentity};

/// A component of world `admission`.
pub struct AdmissionPlugin {
    plugin: Plugin,
    world: AdmissionPre<Sandbox>,
}

impl AdmissionPlugin {
    /// Makes sure that it exports what it should, and that it takes its parameters.
    pub(crate) fn new(plugin: Plugin) -> Result<Self, LoadError> {
        let world = AdmissionPre::new(plugin.instance.clone())
            .map_err(|error| interface(&plugin.identity.name, &error))?;
        let loaded = Self { plugin, world };
        loaded.plugin.check_configuration(|store| {
            let world = loaded.world.instantiate(&mut *store)?;
            let admitting = world.ashlar_policy_admitting();
            admitting.call_check_configuration(store, &loaded.parameters())
        })?;
        Ok(loaded)
    }

    fn parameters(&self) -> Vec<Parameter<'_>> {
        let parameters = self.plugin.parameters.iter();
        parameters
            .map(|(name, value)| Parameter { name, value })
            .collect()
    }
}

impl AdmissionPolicy for AdmissionPlugin {
    fn identity(&self) -> PolicyIdentity {
        self.plugin.identity.clone()
    }

    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Result<Answer, PolicyFailure> {
        let (account, image) = (request.account.to_string(), request.image.to_string());
        let disks = request.disks.iter().map(|disk| Disk {
            category: &disk.category,
            size: disk.size.bytes(),
        });
        let disks: Vec<Disk<'_>> = disks.collect();
        let tags = request.tags.iter();
        let tags: Vec<TagParam<'_>> = tags.map(|(key, value)| TagParam { key, value }).collect();
        let zones: Vec<&str> = offers.zones.iter().map(String::as_str).collect();
        let categories = offers.disk_categories.iter();
        let disk_categories: Vec<&str> = categories.map(String::as_str).collect();
        let asked = Request {
            account: &account,
            instance_type: &request.instance_type,
            vcpus: request.vcpus,
            memory: request.memory.bytes(),
            disks: &disks,
            count: request.count,
            image: &image,
            name: request.name.as_deref(),
            tags: &tags,
            zone: request.zone.as_deref(),
            spot: request.spot,
            deletion_protection: request.deletion_protection,
        };
        let held = HoldingsParam {
            instances: holdings.instances,
            vcpus: holdings.vcpus,
            memory: holdings.memory.bytes(),
        };
        let offered = OffersParam {
            zones: &zones,
            disk_categories: &disk_categories,
        };
        let seed = seed(&format!("{account} {image} {}", request.instance_type));
        let said = self.plugin.call(seed, |store| {
            let world = self.world.instantiate(&mut *store)?;
            let admitting = world.ashlar_policy_admitting();
            admitting.call_admit(store, &self.parameters(), asked, held, offered)
        })?;
        let answer = answer(said);
        let checked = check_answer(request, offers, &answer);
        self.plugin.usable(checked.map(|()| answer))
    }
}

fn answer(said: Admission) -> Answer {
    match said {
        Admission::Admit => Answer::Admit,
        Admission::Refuse(refusal) => Answer::Refuse {
            reason: refusal.reason,
            message: refusal.message,
        },
        Admission::Amend(amended) => Answer::Amend(amendment(amended)),
    }
}

fn amendment(amended: Amended) -> Amendment {
    let tags = amended.add_tags.into_iter();
    Amendment {
        name: amended.name,
        add_tags: tags.map(|tag| (tag.key, tag.value)).collect(),
        deletion_protection: amended.deletion_protection,
        disk_category: amended.disk_category,
        zone: amended.zone,
    }
}
