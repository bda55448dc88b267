//! What the use cases take: one command each, parsed and typed, but not yet judged.

mod commerce;
mod deployment;

pub use commerce::*;
pub use deployment::*;

use crate::model::{DiskCategory, InnerAccessPolicy, InstanceAffinity, RuleSpec, State};
use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr};
use types::{
    AccountId, ByteCount, Currency, Decimal, DeploymentSetId, DiskId, ImageId, InstanceId, Month,
    RuleId, SecurityGroupId, Timestamp, VpcId, VswitchId,
};

/// What every command that makes something carries.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Request {
    /// The same token with the same parameters answers what the first answered: at most 64 ASCII characters.
    pub client_token: Option<String>,
    /// Check everything and change nothing: what would succeed fails with `DryRunOperation`.
    pub dry_run: bool,
    /// When the request was received: nanoseconds of the host's monotonic clock; `None`: when the use case began.
    pub received_ns: Option<u64>,
}

/// Begin an image (ECS ImportImage).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CreateImage {
    /// Token and dry run.
    pub request: Request,
    /// Its name: 1 to 128 characters.
    pub name: String,
    /// For people; at most 256 characters.
    pub description: Option<String>,
    /// The beginning of every instance's kernel command line: at most 2048 printable ASCII characters.
    pub cmdline: String,
}

/// A system disk's deviations from the image's.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SystemDisk {
    /// Its size; at least the image's. `None`: the image's.
    pub size: Option<ByteCount>,
    /// Whether it goes with its instance; `None`: yes.
    pub delete_with_instance: Option<bool>,
}

/// A data disk of a new instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub enum DataDisk {
    /// A new, empty one.
    New {
        /// Its size: whole GiB, at most 32,768.
        size: ByteCount,
        /// A name for people.
        name: Option<String>,
        /// Whether it goes with its instance; a local one always does.
        delete_with_instance: bool,
        /// What it is on. Not written where it is what it was before there was a choice, so that tokens hold.
        #[serde(skip_serializing_if = "DiskCategory::is_default")]
        category: DiskCategory,
    },
    /// One that is Available.
    Existing(DiskId),
}

/// Run instances (ECS RunInstances), or only create them (CreateInstance).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunInstances {
    /// Token, dry run and the time of receipt.
    pub request: Request,
    /// What to boot.
    pub image: ImageId,
    /// The type: sets vCPUs and memory unless they are given.
    pub instance_type: Option<String>,
    /// Virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory.
    pub memory: Option<ByteCount>,
    /// How many, 1 to 100.
    pub amount: u32,
    /// How many there must be at least for any to be made; `None`: all or none.
    pub min_amount: Option<u32>,
    /// Whether to start them; false leaves them Stopped.
    pub start: bool,
    /// A name for people, at most 128 characters.
    pub name: Option<String>,
    /// For people, at most 256 characters.
    pub description: Option<String>,
    /// Added to the image's kernel command line; together at most 2048 printable ASCII characters.
    pub cmdline: String,
    /// The system disk.
    pub system_disk: SystemDisk,
    /// Data disks, in the order the guest sees them; before them come the local disks of the type. Together at most 16. Existing ones
    /// only with one instance.
    pub data_disks: Vec<DataDisk>,
    /// Where; `None`: the default vswitch, which is made when first needed.
    pub vswitch: Option<VswitchId>,
    /// A fixed address there; only with one instance.
    pub private_ip: Option<Ipv4Addr>,
    /// At most 5; none: the VPC's default group, which is made when first needed.
    pub security_groups: Vec<SecurityGroupId>,
    /// Labels, at most 20.
    pub tags: BTreeMap<String, String>,
    /// Whether they are protected from release.
    pub deletion_protection: bool,
    /// How they are paid for.
    pub charging: Charging,
    /// The zone to be in; `None`: any. Like what follows not written where it says nothing, so that tokens of requests from before
    /// there was any of it hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The deployment set to be in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployment_set: Option<DeploymentSetId>,
    /// The instances to be with, or apart from.
    #[serde(skip_serializing_if = "InstanceAffinity::is_empty")]
    pub affinity: InstanceAffinity,
}

impl RunInstances {
    /// One instance of that image, everything else left open.
    #[must_use]
    pub fn new(image: ImageId) -> Self {
        Self {
            request: Request::default(),
            image,
            instance_type: None,
            vcpus: None,
            memory: None,
            amount: 1,
            min_amount: None,
            start: true,
            name: None,
            description: None,
            cmdline: String::new(),
            system_disk: SystemDisk::default(),
            data_disks: Vec::new(),
            vswitch: None,
            private_ip: None,
            security_groups: Vec::new(),
            tags: BTreeMap::new(),
            deletion_protection: false,
            charging: Charging::default(),
            zone: None,
            deployment_set: None,
            affinity: InstanceAffinity::default(),
        }
    }
}

/// Change an instance's attributes (ECS ModifyInstanceAttribute); `None` leaves one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModifyInstance {
    /// The name for people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Protection from release.
    pub deletion_protection: Option<bool>,
    /// All labels.
    pub tags: Option<BTreeMap<String, String>>,
}

/// Make an empty data disk (ECS CreateDisk).
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CreateDisk {
    /// Token and dry run.
    pub request: Request,
    /// Its size: whole GiB, at most 32,768.
    pub size: ByteCount,
    /// A name for people.
    pub name: Option<String>,
}

/// Make a VPC (CreateVpc).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CreateVpc {
    /// Token and dry run.
    pub request: Request,
    /// Its addresses: 10/8, 172.16/12, 192.168/16 or a part of one, /8 to /28.
    pub cidr: Ipv4Net,
    /// A name for people.
    pub name: Option<String>,
}

/// Make a vswitch (CreateVSwitch).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CreateVswitch {
    /// Token and dry run.
    pub request: Request,
    /// The VPC.
    pub vpc: VpcId,
    /// Its addresses: a /16 to /29 in the VPC's, apart from other vswitches'.
    pub cidr: Ipv4Net,
    /// A name for people.
    pub name: Option<String>,
}

/// Make a security group (CreateSecurityGroup).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct CreateSecurityGroup {
    /// Token and dry run.
    pub request: Request,
    /// The VPC; `None`: the default one.
    pub vpc: Option<VpcId>,
    /// A name for people.
    pub name: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Whether members reach each other without a rule.
    pub inner_access: InnerAccessPolicy,
}

/// A rule to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRule {
    /// What it says.
    pub spec: RuleSpec,
    /// Why it is there.
    pub description: Option<String>,
}

/// A rule to take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleSelector {
    /// By its id.
    Id(RuleId),
    /// By what it says.
    Spec(RuleSpec),
}

/// Which instances. Everything given must hold; an empty list asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// One of these ids.
    pub ids: Vec<InstanceId>,
    /// One of these states.
    pub states: Vec<State>,
    /// This very name.
    pub name: Option<String>,
    /// Made from this image.
    pub image: Option<ImageId>,
    /// In this VPC.
    pub vpc: Option<VpcId>,
    /// On this vswitch.
    pub vswitch: Option<VswitchId>,
    /// In this security group.
    pub security_group: Option<SecurityGroupId>,
    /// In this deployment set.
    pub deployment_set: Option<DeploymentSetId>,
    /// With all of these labels.
    pub tags: BTreeMap<String, String>,
}

/// Which disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskFilter {
    /// One of these ids; empty: any.
    pub ids: Vec<DiskId>,
    /// Of this instance.
    pub instance: Option<InstanceId>,
}

/// Which decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DecisionFilter {
    /// About this instance.
    pub instance: Option<InstanceId>,
}

/// Which charges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChargeFilter {
    /// For the running of this instance.
    pub instance: Option<InstanceId>,
    /// Of stretches that end after this.
    pub from: Option<Timestamp>,
    /// Of stretches that begin before this.
    pub to: Option<Timestamp>,
}

/// Install a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstallPolicy {
    /// What it is to be called; a name that is there gets another revision.
    pub name: String,
    /// Its component.
    pub component: Vec<u8>,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// The minisign signature of the component.
    pub signature: Option<String>,
    /// Check everything and change nothing.
    pub dry_run: bool,
}

/// An installed policy: that revision, or the latest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySelector {
    /// Its name.
    pub name: String,
    /// Its revision; `None`: the latest.
    pub revision: Option<u32>,
}

/// What of the past a policy is asked about: decisions made in `from..to`, or charges that end after `from` and not after `to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayPeriod {
    /// From when; `None`: from the beginning.
    pub from: Option<Timestamp>,
    /// Until when; `None`: until now.
    pub to: Option<Timestamp>,
}

/// Which bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BillSelector {
    /// The month.
    pub month: Month,
    /// Whose; `None`: the host's.
    pub account: Option<AccountId>,
    /// In which currency; `None`: that of the prices in force.
    pub currency: Option<Currency>,
}

impl BillSelector {
    /// What the host's account pays for `month`, in the currency of the prices in force.
    #[must_use]
    pub fn of(month: Month) -> Self {
        Self {
            month,
            account: None,
            currency: None,
        }
    }
}

/// Have something metered of a resource, in place of a meter of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetMeter {
    /// Id of an instance, a disk or an image. The meter ends with it.
    pub resource: String,
    /// The name that billing policies know it by: 1 to 64 characters of `[0-9a-z.-]`, and none of the host's own meters.
    pub name: String,
    /// How much of it lasts from now on: above 0, at most 10⁹, at most 9 decimals.
    pub quantity: Decimal,
    /// It lasts only while the instance runs; for instances only.
    pub while_running: bool,
}

/// Set a budget of the host's account, in place of one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBudget {
    /// Its name: 1 to 64 characters of `[0-9A-Za-z._-]`.
    pub name: String,
    /// What is planned for a month; above 0.
    pub limit: Decimal,
    /// Of which currency; `None`: that of the prices in force, which it must be.
    pub currency: Option<Currency>,
    /// When to tell: 1 to 10 different percentages of the limit, 1 to 1000.
    pub thresholds: Vec<u32>,
}
