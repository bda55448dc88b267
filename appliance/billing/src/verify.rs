//! Doubting everything: whether the records of an account's money agree with each other and with what happened.

mod money;
mod usage;

use crate::{Invoice, Purchase, Settlement, Subscription};
use ledger::{Audit, Charge, ChargedSegment, Entry, LedgerError, RatingPolicy, UsageKey};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, time::Duration};
use types::{AccountId, PolicyIdentity, Timestamp};

/// What is compared.
#[derive(Clone, Copy)]
pub struct Evidence<'a> {
    /// The ledger, in order.
    pub entries: &'a [Entry],
    /// Every charge.
    pub charges: &'a [Charge],
    /// Policies that set prices: each charge is priced again by the one it names, if that is among them.
    pub policies: &'a [&'a dyn RatingPolicy],
    /// When what was in use, by the records of resources and not by the ledger.
    pub history: &'a [UsedSpan],
    /// How far ledger and history may be apart at each end: they may have read the clock one after the other.
    pub slack: Duration,
    /// Who owns which resource.
    pub owners: &'a BTreeMap<String, AccountId>,
    /// Every settlement.
    pub settlements: &'a [Settlement],
    /// Every subscription.
    pub subscriptions: &'a [Subscription],
    /// Every purchase.
    pub purchases: &'a [Purchase],
    /// Every invoice.
    pub invoices: &'a [Invoice],
    /// Everything up to here has been metered, charged and settled.
    pub metered: Timestamp,
    /// Every month that ended up to here has been invoiced. After the clock went back it is later than [`metered`](Self::metered).
    pub invoiced: Timestamp,
}

/// That something was in use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsedSpan {
    /// Which meter of what.
    pub key: UsageKey,
    /// Since when.
    pub from: Timestamp,
    /// Until when; `None` if it still is.
    pub to: Option<Timestamp>,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViolationKind {
    /// An entry of the ledger was altered, left out or does not fit the others.
    Ledger,
    /// Two intervals of a meter overlap.
    Overlap,
    /// Something was in use and no interval says so.
    Uncounted,
    /// An interval says something was in use that was not.
    Overcounted,
    /// An interval is open although its use is over.
    OpenEnd,
    /// A charge does not fit its interval, or seconds are charged twice or left out.
    Charge,
    /// Whole seconds that should be charged are not.
    Uncharged,
    /// Charges do not come to what their policy says, or it has no answer.
    Price,
    /// A charge is for a resource without an owner.
    Owner,
    /// A settlement does not add up, or settles what is settled.
    Settlement,
    /// A charge is not settled although its hour is over.
    Unsettled,
    /// Purchases do not come to what a subscription says was paid.
    Subscription,
    /// An invoice is not what the records come to.
    Invoice,
}

impl ViolationKind {
    /// Its name, as it is serialised.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Overlap => "overlap",
            Self::Uncounted => "uncounted",
            Self::Overcounted => "overcounted",
            Self::OpenEnd => "open-end",
            Self::Charge => "charge",
            Self::Uncharged => "uncharged",
            Self::Price => "price",
            Self::Owner => "owner",
            Self::Settlement => "settlement",
            Self::Unsettled => "unsettled",
            Self::Subscription => "subscription",
            Self::Invoice => "invoice",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Violation {
    /// What kind of thing.
    pub kind: ViolationKind,
    /// The record it shows in: an id, a number of an entry, or a meter of a resource.
    pub subject: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)
    }
}

/// The result of [`verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many records were read.
    pub records: u64,
    /// Everything that is wrong; nothing, if nothing is.
    pub violations: Vec<Violation>,
    /// Charges whose price could not be recomputed.
    #[serde(default)]
    pub unpriced: Vec<Unpriced>,
}

/// Charges by a policy that is not among those given, so that nobody can say what it asks for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpriced {
    /// The policy.
    pub policy: PolicyIdentity,
    /// How many unbroken runs of an interval's charges it priced.
    pub runs: u64,
}

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    fn add(&mut self, kind: ViolationKind, subject: impl ToString, what: impl Into<String>) {
        self.violations.push(Violation {
            kind,
            subject: subject.to_string(),
            what: what.into(),
        });
    }
}

/// Compares all records with each other, recomputes what can be, and lists everything that is wrong.
#[must_use]
pub fn verify(evidence: &Evidence<'_>) -> Report {
    let audit = Audit::of(evidence.entries, evidence.charges);
    let counts = [
        evidence.entries.len(),
        evidence.charges.len(),
        evidence.settlements.len(),
        evidence.purchases.len(),
        evidence.invoices.len(),
    ];
    let mut report = Report {
        records: counts.iter().map(|count| *count as u64).sum(),
        ..Report::default()
    };
    for fault in &audit.faults {
        let (kind, subject) = match fault {
            LedgerError::Misfit { charge, .. } => (ViolationKind::Charge, charge.to_string()),
            LedgerError::AlreadyOpen(key) | LedgerError::NotOpen(key) => {
                (ViolationKind::Ledger, key.to_string())
            }
            LedgerError::UnknownInterval(interval) => (ViolationKind::Ledger, interval.to_string()),
            LedgerError::Altered { sequence, .. } | LedgerError::Unwritable { sequence, .. } => {
                (ViolationKind::Ledger, format!("entry {sequence}"))
            }
        };
        report.add(kind, subject, fault.to_string());
    }
    usage::compare(&mut report, evidence, &audit);
    usage::reprice(&mut report, evidence.policies, &audit.segments);
    money::settlements(&mut report, evidence);
    money::subscriptions(&mut report, evidence);
    money::invoices(&mut report, evidence);
    report
}

/// Prices `segments` again by those of `policies` that priced them. Violations are of the kind [`ViolationKind::Price`].
#[must_use]
pub fn reprice(segments: &[ChargedSegment], policies: &[&dyn RatingPolicy]) -> Report {
    let mut report = Report {
        records: segments.len() as u64,
        ..Report::default()
    };
    usage::reprice(&mut report, policies, segments);
    report
}
