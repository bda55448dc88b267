//! Bills: what an account pays for a month, and what came of doubting them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A bill without its lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillSummary {
    /// `inv-…`
    pub id: String,
    /// Who pays.
    pub account: String,
    /// The month, in UTC: `2026-01`.
    pub month: String,
    /// ISO 4217 code of all amounts.
    pub currency: String,
    /// Whether more may come: the month is not closed.
    pub provisional: bool,
    /// When the month was closed (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub closed_at: Option<String>,
    /// SHA-256 of the invoice as the host keeps it, lower-case hex; only of a closed month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// What is charged and not settled, because its hour is not over; only of a provisional bill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<String>,
    /// What is to be paid; below zero is paid back.
    pub total: String,
}

/// What an account pays for a month, line by line. `usage + carried_in - carried_out = settled`, and
/// `settled + purchases - refunds = total`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bill {
    /// Whose, of which month, whether it is final, and the total.
    #[serde(flatten)]
    pub summary: BillSummary,
    /// Usage by resource and meter, then purchases, then refunds.
    pub lines: Vec<BillLine>,
    /// Sum of the usage lines.
    pub usage: String,
    /// What settlements of earlier months cut off.
    pub carried_in: String,
    /// What this month's settlements cut off.
    pub carried_out: String,
    /// What its settlements came to.
    pub settled: String,
    /// Sum of the purchase lines.
    pub purchases: String,
    /// Sum of the refund lines, as a positive amount.
    pub refunds: String,
}

/// One line of a bill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillLine {
    /// What it is about: `usage`, `purchase`, `refund`.
    pub kind: String,
    /// The resource: an instance, a disk.
    pub resource_id: String,
    /// The meter of usage: `instance-running`, `instance-stopped`, `disk-allocated`.
    pub meter: String,
    /// How many charges it sums up, or what was bought.
    pub detail: String,
    /// Start of the time it is for (RFC 3339).
    #[schema(format = DateTime)]
    pub from: String,
    /// End of that time (RFC 3339).
    #[schema(format = DateTime)]
    pub to: String,
    /// Seconds that were charged; only of usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The amount, a decimal; below zero in a refund.
    pub amount: String,
}

/// Something that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillFinding {
    /// What kind of thing: `charge`, `open-end`, `settlement`, `price`, `invoice`, …
    pub kind: String,
    /// The record it shows in: an id, a number of an entry, or a meter of a resource.
    pub subject: String,
    /// What is wrong with it, for people.
    pub what: String,
}

/// Charges whose price cannot be recomputed, because their policy is not in force any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unpriced {
    /// The policy: its name.
    pub policy: String,
    /// SHA-256 of the policy's module, lower-case hex; absent for the built-in policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module_sha256: Option<String>,
    /// SHA-256 of the policy's parameters, lower-case hex.
    pub configuration_sha256: String,
    /// How many unbroken runs of charges it priced.
    pub runs: u64,
}

/// What came of comparing all records of money with each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillVerification {
    /// Everything used up to here was charged first (RFC 3339).
    #[schema(format = DateTime)]
    pub through: String,
    /// How many records were compared.
    pub records: u64,
    /// Everything that is wrong; empty if nothing is.
    pub violations: Vec<BillFinding>,
    /// What could not be recomputed.
    pub unpriced: Vec<Unpriced>,
}

/// What came of making a month's bill again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillReplay {
    /// Whose.
    pub account: String,
    /// Which month: `2026-01`.
    pub month: String,
    /// ISO 4217 code of the amounts.
    pub currency: String,
    /// Whether the month is not closed: then there is no invoice yet to compare with.
    pub provisional: bool,
    /// How many settlements were made again, from charges alone.
    pub settlements: u64,
    /// How many unbroken runs of charges were priced again, by the policies in force.
    pub runs: u64,
    /// What the bill comes to when it is made again.
    pub total: String,
    /// In what the records are otherwise; empty if in nothing.
    pub differences: Vec<BillFinding>,
    /// What could not be recomputed.
    pub unpriced: Vec<Unpriced>,
}
