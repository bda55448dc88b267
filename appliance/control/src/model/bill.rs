//! Bills and budgets, and what came of doubting them. Invoices are kept as `billing` made them.

use crate::{ControlError, Result};
use billing::{Budget, Invoice, Unpriced, Violation};
use types::{AccountId, Currency, Decimal, Money, Month, Sha256Digest, Timestamp};

/// What an account pays for a month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bill {
    /// Its lines and sums.
    pub invoice: Invoice,
    /// Whether it is final.
    pub state: BillState,
}

/// Whether a bill is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BillState {
    /// The month is not over, or has not been closed yet: more may come.
    Provisional {
        /// What is charged to the account and not settled: it will be once its hour is over.
        unsettled: Decimal,
    },
    /// The month is closed; the bill does not change any more.
    Closed {
        /// When.
        at: Timestamp,
        /// Digest of the invoice as it is kept.
        sha256: Sha256Digest,
    },
}

impl Bill {
    /// As CSV (RFC 4180, with a header), as [`Invoice::to_csv`] writes it.
    ///
    /// # Errors
    /// When it cannot be written so.
    pub fn to_csv(&self) -> Result<String> {
        let csv = self.invoice.to_csv();
        csv.map_err(|error| ControlError::internal("The bill cannot be written as CSV.", error))
    }

    /// As a page that people read.
    #[must_use]
    pub fn to_page(&self) -> String {
        let page = self.invoice.to_page();
        match self.state {
            BillState::Closed { at, sha256 } => {
                format!("{page}\nClosed at {at}, SHA-256 {sha256}\n")
            }
            BillState::Provisional { unsettled } => format!(
                "PROVISIONAL: {} is not closed; {unsettled} {} more is charged and not settled yet.\n\n{page}",
                self.invoice.month, self.invoice.currency
            ),
        }
    }
}

/// What came of comparing all records of money with each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Up to when everything was metered before.
    pub through: Timestamp,
    /// How many records were compared.
    pub records: u64,
    /// Everything that is wrong.
    pub violations: Vec<Violation>,
    /// Charges whose price cannot be recomputed, because their policy is not in force any more.
    pub unpriced: Vec<Unpriced>,
}

/// What came of making a month's bill again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Whose.
    pub account: AccountId,
    /// Which month.
    pub month: Month,
    /// In which currency.
    pub currency: Currency,
    /// Whether the month is closed, so that there is a kept invoice to compare with.
    pub closed: bool,
    /// How many settlements were made again.
    pub settlements: u64,
    /// How many unbroken runs of charges were priced again.
    pub runs: u64,
    /// What it comes to now.
    pub total: Decimal,
    /// In what the records are not as they were made again.
    pub differences: Vec<ReplayDifference>,
    /// Charges whose price cannot be recomputed, because their policy is not in force any more.
    pub unpriced: Vec<Unpriced>,
}

/// A record is not as it was made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayDifference {
    /// Of what kind it is.
    pub kind: ReplayKind,
    /// Its id; of a price, the interval's.
    pub subject: String,
    /// How it differs.
    pub what: String,
}

/// What is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplayKind {
    /// Prices of charges, by the policies in force.
    Price,
    /// A settlement, from charges.
    Settlement,
    /// The invoice, from the settlements that were made again.
    Invoice,
}

impl ReplayKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Price => "price",
            Self::Settlement => "settlement",
            Self::Invoice => "invoice",
        }
    }
}

/// A budget, and how far it is used up in the month that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetStatus {
    /// Its name.
    pub name: String,
    /// Limit, thresholds and what was told.
    pub budget: Budget,
    /// The month that it is.
    pub month: Month,
    /// What was settled in it.
    pub spent: Money,
}
