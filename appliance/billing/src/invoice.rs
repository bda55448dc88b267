//! Invoices: what an account pays for a month, line by line.

mod page;
mod table;

use crate::{PAYABLE_DECIMALS, Purchase, Settlement, settlement::NOTHING};
use ledger::{AMOUNT_DECIMALS, Charge};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    AccountId, ChargeId, Currency, Decimal, InvoiceId, Month, SettlementId, Sha256Digest, Timestamp,
};

/// An account's month in one currency.
///
/// `usage + carried_in - carried_out = settled`, and `settled + purchases - refunds = total`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invoice {
    /// Its id, determined by account, month and currency.
    pub id: InvoiceId,
    /// Who pays.
    pub account: AccountId,
    /// The month, in UTC.
    pub month: Month,
    /// The currency of all amounts.
    pub currency: Currency,
    /// Usage by resource and meter, then purchases, then refunds.
    pub lines: Vec<InvoiceLine>,
    /// Sum of the usage lines.
    pub usage: Decimal,
    /// What settlements of earlier months cut off.
    pub carried_in: Decimal,
    /// What this month's settlements cut off.
    pub carried_out: Decimal,
    /// What its settlements came to.
    pub settled: Decimal,
    /// Sum of the purchase lines.
    pub purchases: Decimal,
    /// Sum of the refund lines, as a positive amount.
    pub refunds: Decimal,
    /// What is to be paid for the month; below zero is paid back.
    pub total: Decimal,
}

/// One line of an invoice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvoiceLine {
    /// What it is about.
    pub kind: LineKind,
    /// Id of the resource: `i-…`, `d-…`, ….
    pub resource: String,
    /// The meter of usage; `subscription` of everything else.
    pub meter: String,
    /// How many charges it sums up, or the plan and why it was bought.
    pub detail: String,
    /// When the time it is for begins.
    pub from: Timestamp,
    /// When it ends.
    pub to: Timestamp,
    /// Seconds that were charged; only of usage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// The amount; below zero in a refund.
    pub amount: Decimal,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// Settled charges.
    Usage,
    /// A term of a subscription, or an upgrade.
    Purchase,
    /// Money back.
    Refund,
}

impl LineKind {
    /// Its name, as it is serialised.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Purchase => "purchase",
            Self::Refund => "refund",
        }
    }
}

/// Records that no invoice can be made of, or one that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvoiceError {
    /// A settlement names a charge that is not among the records.
    #[error(
        "settlement {settlement} names charge {charge}, which is not among the records; pass every charge"
    )]
    UnknownCharge {
        /// The settlement.
        settlement: SettlementId,
        /// The first such charge.
        charge: ChargeId,
    },
    /// The sums leave the range of a decimal.
    #[error(
        "the amounts of account {account} in {month} add up to more than can be reckoned with; verify its records"
    )]
    OutOfRange {
        /// The account.
        account: AccountId,
        /// The month.
        month: Month,
    },
    /// The table cannot be written.
    #[error("the invoice cannot be written as a table: {0}")]
    Unwritable(String),
}

/// The records invoices are made of, by account and currency.
#[derive(Clone, Debug, Default)]
pub struct Books<'a> {
    charges: BTreeMap<ChargeId, &'a Charge>,
    accounts: BTreeMap<(&'a AccountId, Currency), Account<'a>>,
}

#[derive(Clone, Debug, Default)]
struct Account<'a> {
    settlements: Vec<&'a Settlement>,
    purchases: Vec<&'a Purchase>,
}

impl<'a> Books<'a> {
    /// Books of these records, in any order. Charges are of any account: settlements say whose they are.
    pub fn new(
        charges: impl IntoIterator<Item = &'a Charge>,
        settlements: impl IntoIterator<Item = &'a Settlement>,
        purchases: impl IntoIterator<Item = &'a Purchase>,
    ) -> Self {
        let charges = charges.into_iter().map(|charge| (charge.id, charge));
        let mut books = Self {
            charges: charges.collect(),
            accounts: BTreeMap::new(),
        };
        for settlement in settlements {
            let account = (&settlement.account, settlement.currency);
            let account = books.accounts.entry(account).or_default();
            account.settlements.push(settlement);
        }
        for purchase in purchases {
            let account = (&purchase.account, purchase.money.currency);
            let account = books.accounts.entry(account).or_default();
            account.purchases.push(purchase);
        }
        for account in books.accounts.values_mut() {
            account.settlements.sort_by_key(|settlement| settlement.to);
            account
                .purchases
                .sort_by_key(|purchase| (purchase.at, purchase.id));
        }
        books
    }

    /// The accounts there are records of, and in which currency.
    pub fn accounts(&self) -> impl Iterator<Item = (&'a AccountId, Currency)> + '_ {
        self.accounts.keys().copied()
    }

    /// The months that `account` has settlements or purchases in, in `currency`.
    #[must_use]
    pub fn months(&self, account: &AccountId, currency: Currency) -> BTreeSet<Month> {
        let Some(records) = self.accounts.get(&(account, currency)) else {
            return BTreeSet::new();
        };
        let settlements = records.settlements.iter();
        let settlements = settlements.map(|settlement| Month::of(settlement.from));
        let purchases = records.purchases.iter();
        settlements
            .chain(purchases.map(|purchase| Month::of(purchase.at)))
            .collect()
    }

    /// What `account` pays for `month` in `currency`; an invoice without lines if there is nothing.
    ///
    /// # Errors
    /// [`InvoiceError::UnknownCharge`], [`InvoiceError::OutOfRange`].
    pub fn invoice(
        &self,
        account: &AccountId,
        currency: Currency,
        month: Month,
    ) -> Result<Invoice, InvoiceError> {
        let mut invoice = Invoice::empty(account, currency, month);
        if let Some(records) = self.accounts.get(&(account, currency)) {
            self.settle(&mut invoice, &records.settlements)?;
            invoice.purchase(&records.purchases);
        }
        invoice.sum_up().ok_or(InvoiceError::OutOfRange {
            account: account.clone(),
            month,
        })?;
        Ok(invoice)
    }

    fn settle(
        &self,
        invoice: &mut Invoice,
        settlements: &[&Settlement],
    ) -> Result<(), InvoiceError> {
        let (start, end) = (invoice.month.start(), invoice.month.end());
        let before = settlements.partition_point(|settlement| settlement.to <= start);
        let through = settlements.partition_point(|settlement| settlement.to <= end);
        let carried = |count: usize| {
            let last = count.checked_sub(1).and_then(|last| settlements.get(last));
            last.map_or(NOTHING, |settlement| settlement.carried_out)
        };
        invoice.carried_in = carried(before);
        invoice.carried_out = carried(through);
        let mut lines: BTreeMap<(&str, &str), (u64, InvoiceLine)> = BTreeMap::new();
        for settlement in settlements.get(before..through).unwrap_or_default() {
            for id in &settlement.charges {
                let charge = self.charges.get(id).ok_or(InvoiceError::UnknownCharge {
                    settlement: settlement.id,
                    charge: *id,
                })?;
                let key = (charge.resource.as_str(), charge.meter.as_str());
                let (count, line) = lines.entry(key).or_insert_with(|| (0, usage_line(charge)));
                *count += 1;
                line.from = line.from.min(charge.from);
                line.to = line.to.max(charge.to);
                line.seconds = line.seconds.map(|sum| sum.saturating_add(charge.seconds));
                line.amount = line.amount.saturating_add(charge.money.amount);
            }
        }
        invoice
            .lines
            .extend(lines.into_values().map(|(count, mut line)| {
                let plural = if count == 1 { "" } else { "s" };
                line.detail = format!("{count} charge{plural}");
                line
            }));
        Ok(())
    }
}

/// The line of `charge` before anything is added to it.
fn usage_line(charge: &Charge) -> InvoiceLine {
    InvoiceLine {
        kind: LineKind::Usage,
        resource: charge.resource.clone(),
        meter: charge.meter.clone(),
        detail: String::new(),
        from: charge.from,
        to: charge.to,
        seconds: Some(0),
        amount: NOTHING,
    }
}

impl Invoice {
    /// Everything in which it is not as `expected`, in words; nothing if nothing is.
    #[must_use]
    pub fn differences(&self, expected: &Self) -> Vec<String> {
        let mut found = Vec::new();
        if self.id != expected.id {
            found.push(format!("its id should be {}", expected.id));
        }
        let amounts = |invoice: &Invoice| -> [(&'static str, Decimal); 7] {
            [
                ("usage", invoice.usage),
                ("amount carried in", invoice.carried_in),
                ("amount carried out", invoice.carried_out),
                ("settled amount", invoice.settled),
                ("purchases", invoice.purchases),
                ("refunds", invoice.refunds),
                ("total", invoice.total),
            ]
        };
        for ((what, is), (_, should)) in amounts(self).into_iter().zip(amounts(expected)) {
            if is != should {
                found.push(format!("its {what} is {is} and should be {should}"));
            }
        }
        let named = |line: &InvoiceLine| {
            let kind = line.kind.name();
            format!("{kind} line of {} of {}", line.meter, line.resource)
        };
        let mut rest: Vec<&InvoiceLine> = expected.lines.iter().collect();
        for line in &self.lines {
            match rest.iter().position(|other| *other == line) {
                Some(position) => drop(rest.remove(position)),
                None => found.push(format!(
                    "its {} over {} does not come from the records",
                    named(line),
                    line.amount
                )),
            }
        }
        for line in rest {
            let amount = line.amount;
            found.push(format!("it lacks the {} over {amount}", named(line)));
        }
        found
    }

    fn empty(account: &AccountId, currency: Currency, month: Month) -> Self {
        let unique = format!("invoice {account} {currency} {month}");
        Self {
            id: InvoiceId::generate(Sha256Digest::of(unique.as_bytes()).id_bits()),
            account: account.clone(),
            month,
            currency,
            lines: Vec::new(),
            usage: NOTHING,
            carried_in: NOTHING,
            carried_out: NOTHING,
            settled: Decimal::ZERO,
            purchases: Decimal::ZERO,
            refunds: Decimal::ZERO,
            total: Decimal::ZERO,
        }
    }

    fn purchase(&mut self, purchases: &[&Purchase]) {
        let inside = |purchase: &&&Purchase| Month::of(purchase.at) == self.month;
        let mut lines: Vec<InvoiceLine> = purchases
            .iter()
            .filter(inside)
            .map(|purchase| InvoiceLine {
                kind: if purchase.money.is_negative() {
                    LineKind::Refund
                } else {
                    LineKind::Purchase
                },
                resource: purchase.resource.clone(),
                meter: "subscription".to_owned(),
                detail: format!("{} {}", purchase.kind.name(), purchase.plan),
                from: purchase.from,
                to: purchase.to,
                seconds: None,
                amount: purchase.money.amount,
            })
            .collect();
        // Stable: within a kind they stay in order of time.
        lines.sort_by_key(|line| line.kind);
        self.lines.extend(lines);
    }

    /// Fills in the sums; `None` out of range.
    fn sum_up(&mut self) -> Option<()> {
        let sum = |kind: LineKind, decimals: u32| {
            let mut lines = self.lines.iter().filter(|line| line.kind == kind);
            lines.try_fold(Decimal::new(0, decimals), |sum, line| {
                sum.checked_add(line.amount)
            })
        };
        self.usage = sum(LineKind::Usage, AMOUNT_DECIMALS)?;
        self.purchases = sum(LineKind::Purchase, PAYABLE_DECIMALS)?;
        // Not a negative zero, which would show.
        self.refunds = sum(LineKind::Refund, PAYABLE_DECIMALS)?.abs();
        let settled = self.usage.checked_add(self.carried_in)?;
        self.settled = settled.checked_sub(self.carried_out)?;
        let total = self.settled.checked_add(self.purchases)?;
        self.total = total.checked_sub(self.refunds)?;
        // What settlements come to has no more decimals than that; where it does, `verify` says so.
        if self.settled.normalize().scale() <= PAYABLE_DECIMALS {
            self.settled.rescale(PAYABLE_DECIMALS);
            self.total.rescale(PAYABLE_DECIMALS);
        }
        Some(())
    }
}
