//! What the host knows: the records the store keeps and the use cases answer with.
//!
//! They are serialised into the store, so a field may be added with a default and never change its meaning.

mod bill;
mod commerce;
mod cpu;
mod deployment;
mod disk;
mod event;
mod host;
mod host_system;
mod image;
mod instance;
mod meter;
mod network;
mod policy;
mod security;

pub use self::cpu::{CpuCredits, CpuUse};
pub use ::instance::{DiskCategory, State, StopReason, StoppedMode};
pub use bill::{Bill, BillState, BudgetStatus, Replay, ReplayDifference, ReplayKind, Verification};
pub use billing::{
    ArrearsAction, Due, Invoice, InvoiceLine, LineKind, Period, PeriodUnit, PriceHistory, Purchase,
    PurchaseKind, QuoteLine, SpotLease, SpotNotice, SpotReason, SpotStrategy, Stage, Subscription,
    Unpriced, Violation, ViolationKind,
};
pub use commerce::*;
pub use deployment::{DeploymentSet, DeploymentStrategy, InstanceAffinity};
pub use disk::{Disk, DiskRole, DiskState};
pub use event::{Event, EventSubject};
pub use host::{Capacity, Health, HealthCheck, HostInfo, Limits};
pub use host_system::*;
pub use image::{BootProtocol, Image, ImagePart, ImagePartKind, ImageState};
pub use instance::{Console, Instance, Intent, Timings};
pub use ledger::Charge;
pub use meter::{IMAGE_METER, Meter};
pub use network::{InterfaceState, NetworkInterface, Vpc, Vswitch};
pub use placement::{Decision, HostOutcome, Outcome};
pub use policy::*;
pub use security::{SecurityGroup, SecurityGroupRule};
pub use security_group::{
    Direction, InnerAccessPolicy, Peer, PortRange, Protocol, RulePolicy, RuleSpec,
};
