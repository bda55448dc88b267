//! Events: what happened on the host, as it happens.

use crate::model::{DiskState, ImageState, PolicyKind, State};
use types::{
    AccountId, DecisionId, DeploymentSetId, DiskId, ImageId, InstanceId, InvoiceId,
    SecurityGroupId, SettlementId, SubscriptionId, Timestamp, VpcId, VswitchId,
};

/// What something happened to, and its state after it (`None`: it is gone).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventSubject {
    /// An instance changed state, or was released.
    Instance(InstanceId, Option<State>),
    /// The guest's first byte on its console.
    FirstOutput(InstanceId),
    /// An instance ran out of CPU credits, or has some again.
    CpuCredits(InstanceId),
    /// A disk changed state, or was deleted.
    Disk(DiskId, Option<DiskState>),
    /// An image changed state, or was deleted.
    Image(ImageId, Option<ImageState>),
    /// A VPC was made or deleted.
    Vpc(VpcId),
    /// A vswitch was made or deleted.
    Vswitch(VswitchId),
    /// A security group or its rules changed.
    SecurityGroup(SecurityGroupId),
    /// A deployment set was made, changed or deleted.
    DeploymentSet(DeploymentSetId),
    /// A placement was decided.
    Decision(DecisionId),
    /// A stretch of an instance's use was charged.
    Charge(InstanceId),
    /// A policy was installed, removed, or got or lost a role.
    Policy(PolicyKind),
    /// The charges of an hour were settled.
    Settlement(SettlementId),
    /// A month was closed: its invoice is final.
    Invoice(InvoiceId),
    /// A subscription was bought, renewed or changed, or is over.
    Subscription(SubscriptionId),
    /// An account paid, owes, or is done something about.
    Account(AccountId),
    /// The market price of preemptible instances of that type changed.
    SpotPrice(String),
    /// A preemptible instance was given notice.
    SpotNotice(InstanceId),
    /// A threshold of the budget of that name was passed.
    Budget(String),
    /// A meter of the resource of that id was set or removed.
    Meter(String),
}

impl EventSubject {
    /// For programs: `instance.state`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Instance(_, Some(_)) => "instance.state",
            Self::Instance(_, None) => "instance.released",
            Self::FirstOutput(_) => "instance.first_output",
            Self::CpuCredits(_) => "instance.cpu_credits",
            Self::Disk(_, Some(_)) => "disk.state",
            Self::Disk(_, None) => "disk.deleted",
            Self::Image(_, Some(_)) => "image.state",
            Self::Image(_, None) => "image.deleted",
            Self::Vpc(_) => "vpc.changed",
            Self::Vswitch(_) => "vswitch.changed",
            Self::SecurityGroup(_) => "security_group.changed",
            Self::DeploymentSet(_) => "deployment_set.changed",
            Self::Decision(_) => "decision.made",
            Self::Charge(_) => "usage.charged",
            Self::Policy(_) => "policy.changed",
            Self::Settlement(_) => "usage.settled",
            Self::Invoice(_) => "bill.closed",
            Self::Subscription(_) => "subscription.changed",
            Self::Account(_) => "account.changed",
            Self::SpotPrice(_) => "spot.price",
            Self::SpotNotice(_) => "spot.notice",
            Self::Budget(_) => "budget.alert",
            Self::Meter(_) => "meter.changed",
        }
    }
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Counts up by one from the daemon's start.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What to.
    pub subject: EventSubject,
    /// For people.
    pub message: String,
}
