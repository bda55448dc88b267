//! What is kept in the store, and under which name.

use crate::model::{
    Charge, Decision, DeploymentSet, Disk, DiskCategory, Image, Instance, Meter, NetworkInterface,
    PayBy, Payment, Policy, PolicyKind, PolicyRevision, PolicyRoles, SecurityGroup, SpotMarket,
    Vpc, Vswitch,
};
use billing::{Arrears, Budget, Invoice, Purchase, Settlement, Subscription};
use cpu::{CpuSet, Credits};
use instance::TokenUse;
use ledger::Entry;
use placement::{HostTable, PlacementRequest};
use serde::{Deserialize, Serialize};
use store::{Migration, Record, Schema, StoreError, Tables};
use types::{
    AccountId, Currency, DecisionId, DeploymentSetId, DiskId, HostId, ImageId, InstanceId,
    InterfaceId, Month, SecurityGroupId, Sha256Digest, SubscriptionId, Timestamp, VpcId, VswitchId,
};

/// The meaning of these records. A change that an older daemon would misread raises the version and brings a migration, up and
/// down; a new field with a default does not.
pub const SCHEMA: Schema = Schema {
    version: 2,
    migrations: &[Migration {
        to: 2,
        up: |_| Ok(()),
        down: refuse_what_schema_1_cannot_say,
    }],
};

/// Daemons of schema 1 know neither use of stopped instances nor local disks.
fn refuse_what_schema_1_cannot_say(tables: &Tables<'_>) -> Result<(), StoreError> {
    tables.look(EntryRecord::TABLE, |_, entry| {
        match entry["entry"]["usage"]["meter"] == "instance-stopped" {
            true => Err(StoreError::irreversible(
                "the ledger has use of stopped instances that keep their virtual CPUs and memory",
            )),
            false => Ok(()),
        }
    })?;
    tables.look(Disk::TABLE, |id, disk| {
        let category = disk["category"].as_str().unwrap_or_default();
        match category == DiskCategory::LocalSsdPro.name() {
            true => Err(StoreError::irreversible(&format!("{id} is a local disk"))),
            false => Ok(()),
        }
    })
}

macro_rules! records {
    ($($type:ty: $table:literal by $field:ident: $key:ty;)*) => {$(
        impl Record for $type {
            const TABLE: &'static str = $table;
            type Key = $key;

            fn key(&self) -> &Self::Key {
                &self.$field
            }
        }
    )*};
}

records! {
    Image: "images" by id: ImageId;
    Instance: "instances" by id: InstanceId;
    Disk: "disks" by id: DiskId;
    Vpc: "vpcs" by id: VpcId;
    Vswitch: "vswitches" by id: VswitchId;
    NetworkInterface: "interfaces" by id: InterfaceId;
    SecurityGroup: "security_groups" by id: SecurityGroupId;
    DeploymentSet: "deployment_sets" by id: DeploymentSetId;
    Policy: "policies" by id: PolicyRevision;
    PolicyRoles: "policy_roles" by kind: PolicyKind;
    PolicyNameRecord: "policy_names" by name: String;
    HostRecord: "host" by name: String;
    TokenRecord: "client_tokens" by key: String;
    EntryRecord: "usage" by key: String;
    ChargeRecord: "charges" by key: String;
    OwnerRecord: "owners" by resource: String;
    SettlementRecord: "settlements" by key: String;
    InvoiceRecord: "invoices" by key: String;
    BudgetRecord: "budgets" by key: String;
    SubscriptionRecord: "subscriptions" by id: SubscriptionId;
    PurchaseRecord: "purchases" by key: String;
    AccountRecord: "accounts" by key: String;
    PaymentRecord: "payments" by key: String;
    ArrearsRecord: "arrears" by key: String;
    SpotMarket: "spot_markets" by instance_type: String;
    CreditRecord: "cpu_credits" by instance: InstanceId;
    CpuRecord: "cpus" by instance: InstanceId;
    Meter: "meters" by key: String;
}

/// The host's own record; there is one.
#[derive(Serialize, Deserialize)]
pub(crate) struct HostRecord {
    pub(crate) name: String,
    pub(crate) id: HostId,
}

impl HostRecord {
    pub(crate) const NAME: &'static str = "self";
}

/// The last revision that a policy's name was given for.
#[derive(Serialize, Deserialize)]
pub(crate) struct PolicyNameRecord {
    pub(crate) name: String,
    pub(crate) last: u32,
}

/// What a client token was used for.
#[derive(Serialize, Deserialize)]
pub(crate) struct TokenRecord {
    /// The operation and the token.
    pub(crate) key: String,
    #[serde(rename = "use")]
    pub(crate) used: TokenUse<Vec<String>>,
    pub(crate) at: Timestamp,
}

/// A placement decision, and what it takes to make it again.
#[derive(Serialize, Deserialize)]
pub(crate) struct DecisionRecord {
    #[serde(flatten)]
    pub(crate) decision: Decision,
    /// `None` of decisions from before this was kept.
    #[serde(default)]
    pub(crate) inputs: Option<DecisionInputs>,
}

/// What a policy was asked.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DecisionInputs {
    pub(crate) request: PlacementRequest,
    pub(crate) hosts: HostTable,
    /// The CPUs the instance got for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpus: Option<CpuSet>,
}

impl Record for DecisionRecord {
    const TABLE: &'static str = "decisions";
    type Key = DecisionId;

    fn key(&self) -> &DecisionId {
        &self.decision.id
    }
}

/// An entry of the usage ledger, under its number.
#[derive(Serialize, Deserialize)]
pub(crate) struct EntryRecord {
    key: String,
    pub(crate) entry: Entry,
}

impl EntryRecord {
    pub(crate) fn new(entry: Entry) -> Self {
        Self {
            key: format!("{:020}", entry.sequence),
            entry,
        }
    }
}

/// A charge, under its start and id: listed in the order of time.
#[derive(Serialize, Deserialize)]
pub(crate) struct ChargeRecord {
    key: String,
    pub(crate) charge: Charge,
}

impl ChargeRecord {
    pub(crate) fn new(charge: Charge) -> Self {
        Self {
            key: format!("{:020} {}", charge.from.unix_millis(), charge.id),
            charge,
        }
    }
}

/// Who pays for a resource. Kept as long as its charges are: also when the resource is gone.
#[derive(Serialize, Deserialize)]
pub(crate) struct OwnerRecord {
    pub(crate) resource: String,
    pub(crate) account: AccountId,
}

/// A subscription, as it is now.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SubscriptionRecord {
    pub(crate) id: SubscriptionId,
    pub(crate) subscription: Subscription,
}

impl SubscriptionRecord {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Self {
            id: subscription.id(),
            subscription,
        }
    }
}

/// A purchase, under its time and id: listed in the order of time. Never changed.
#[derive(Serialize, Deserialize)]
pub(crate) struct PurchaseRecord {
    key: String,
    pub(crate) purchase: Purchase,
}

impl PurchaseRecord {
    pub(crate) fn new(purchase: Purchase) -> Self {
        Self {
            key: format!("{:020} {}", purchase.at.unix_millis(), purchase.id),
            purchase,
        }
    }
}

/// How an account pays, where that was said.
#[derive(Serialize, Deserialize)]
pub(crate) struct AccountRecord {
    key: String,
    pub(crate) account: AccountId,
    pub(crate) pay_by: PayBy,
}

impl AccountRecord {
    pub(crate) fn new(account: AccountId, pay_by: PayBy) -> Self {
        Self {
            key: account.to_string(),
            account,
            pay_by,
        }
    }
}

/// What an account paid in, under its time and id: listed in the order of time. Never changed.
#[derive(Serialize, Deserialize)]
pub(crate) struct PaymentRecord {
    key: String,
    pub(crate) payment: Payment,
}

impl PaymentRecord {
    pub(crate) fn new(payment: Payment) -> Self {
        Self {
            key: format!("{:020} {}", payment.at.unix_millis(), payment.id),
            payment,
        }
    }
}

/// A debt, as long as there is one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ArrearsRecord {
    key: String,
    pub(crate) arrears: Arrears,
    /// When what the account has was stopped for it.
    #[serde(default)]
    pub(crate) stopped: Option<Timestamp>,
}

impl ArrearsRecord {
    pub(crate) fn new(arrears: Arrears) -> Self {
        Self {
            key: Self::key_of(arrears.account(), arrears.owed().currency),
            arrears,
            stopped: None,
        }
    }

    pub(crate) fn key_of(account: &AccountId, currency: Currency) -> String {
        format!("{account} {currency}")
    }
}

/// A settlement, under its hour's end and id: listed in the order of time.
#[derive(Serialize, Deserialize)]
pub(crate) struct SettlementRecord {
    key: String,
    pub(crate) settlement: Settlement,
}

impl SettlementRecord {
    pub(crate) fn new(settlement: Settlement) -> Self {
        Self {
            key: format!("{:020} {}", settlement.to.unix_millis(), settlement.id),
            settlement,
        }
    }
}

/// The invoice of a month that is over, as it was when the month was closed. Never changed.
#[derive(Serialize, Deserialize)]
pub(crate) struct InvoiceRecord {
    pub(crate) key: String,
    pub(crate) account: AccountId,
    pub(crate) currency: Currency,
    pub(crate) month: Month,
    /// Its compact JSON.
    pub(crate) text: String,
    /// Digest of that text.
    pub(crate) sha256: Sha256Digest,
    pub(crate) closed_at: Timestamp,
}

impl InvoiceRecord {
    pub(crate) fn new(invoice: &Invoice, closed_at: Timestamp) -> serde_json::Result<Self> {
        let text = serde_json::to_string(invoice)?;
        Ok(Self {
            key: Self::key_of(&invoice.account, invoice.currency, invoice.month),
            account: invoice.account.clone(),
            currency: invoice.currency,
            month: invoice.month,
            sha256: Sha256Digest::of(text.as_bytes()),
            text,
            closed_at,
        })
    }

    pub(crate) fn key_of(account: &AccountId, currency: Currency, month: Month) -> String {
        format!("{month} {account} {currency}")
    }

    pub(crate) fn invoice(&self) -> serde_json::Result<Invoice> {
        serde_json::from_str(&self.text)
    }
}

/// A budget with what was told of it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct BudgetRecord {
    key: String,
    pub(crate) name: String,
    pub(crate) budget: Budget,
}

impl BudgetRecord {
    pub(crate) fn new(name: String, budget: Budget) -> Self {
        Self {
            key: Self::key_of(budget.account(), &name),
            name,
            budget,
        }
    }

    pub(crate) fn key_of(account: &AccountId, name: &str) -> String {
        format!("{account} {name}")
    }
}

/// The CPU credits of a burstable instance, as of the last time they were written down.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CreditRecord {
    pub(crate) instance: InstanceId,
    /// The start of the instance whose machine's CPU time is counted.
    pub(crate) run: u64,
    /// That machine is gone and was accounted for to the end.
    #[serde(default)]
    pub(crate) ended: bool,
    pub(crate) credits: Credits,
}

/// CPUs that are an instance's own. Counts while the instance holds capacity.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct CpuRecord {
    pub(crate) instance: InstanceId,
    pub(crate) cpus: CpuSet,
}
