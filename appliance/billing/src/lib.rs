//! The commercial side of the usage ledger: what is to be paid, when, and what happens if it is not.
//!
//! ```text
//! ledger: Charges ─► Settler ─► Settlement (hourly) ──────────┐
//! purchase ─► Subscription ─► Purchase (terms, plan changes) ─┼─► Books ─► Invoice (monthly) ─► JSON, CSV, page
//!                                                             ├─► verify: a list of everything that does not fit
//!                                                             └─► Replay: a month done again, and what differs
//! unpaid ─► Arrears ─► retry, stop, release      spent ─► Budget ─► Alert      price, stock ─► SpotLease ─► notice, reclaim
//! quotes, renewals, debts, preemption ─► Commerce ─► the operator's policy, held to these rules ─► Decided
//! ```
//!
//! Everything is a pure function of what is passed in, time included. The states ([`Settler`], [`Subscription`], [`SpotLease`],
//! [`Arrears`], [`Budget`]) say what is due; the caller does it, stores the record, and tells the state. Asking changes nothing, so
//! it may be asked twice, late, or again after a restart. ECS contract: Money.
//!
//! # Rules
//! - **Rounding.** A charge has [`ledger::AMOUNT_DECIMALS`] decimals. What is to be paid has [`PAYABLE_DECIMALS`], in every
//!   currency, and is rounded in two places only. A *settlement* is rounded down and what was cut off is carried to the account's next one,
//!   so that nothing is lost or paid twice. A *term price* is rounded half to even when it is set, and parts of it are differences of its
//!   rounded running total, so that parts always add up to the whole. An invoice adds and does not round.
//! - **Currency.** Every amount names its own. Amounts in different currencies are never added: each has its settlements and invoices.
//! - **Hours and months** are UTC. An hour contains the charges that end after its first and not after its last moment; a month
//!   likewise contains its hours' settlements, and the purchases made from its first to before its last moment.
//! - **Late charges** go to the earliest hour that is neither settled nor closed by an invoice.
//! - **Days** of subscriptions begin at midnight at a fixed offset from UTC, which the caller names once. A term of a month bought on
//!   the 31st ends with the last day of a shorter month, and the term after it on the 31st again.
//! - **Prepaid resources** open no usage that a subscription covers: it would be charged twice, and nothing here would notice.
//! - **Schedules** are counted from when something should have happened, not from when somebody looked. A host that was off for a year
//!   gets the same list of actions, in the same order, as one that was not. Notice of a reclaim is the exception: its five minutes
//!   begin when it is given.
//! - **Clocks** may go back, except for purchases: they must not be made in a month that is invoiced. Pass the later of the clock and
//!   the end of the last invoiced month.
//! - **Downgrades** pay back what is unused of the old plan less the same time of the new one, at once, to the millisecond. It is
//!   never more than what was paid for that time.
//!
//! This crate knows no clock, no store, and no way to pay, notify or stop anything.

#![forbid(unsafe_code)]

mod arrears;
mod budget;
mod commerce;
mod due;
mod invoice;
mod period;
mod replay;
mod settlement;
mod spot;
mod subscription;
mod verify;

pub use arrears::{Arrears, ArrearsAction, Cleared, RETRY_DAYS, STOP_DAYS};
pub use budget::{Alert, Budget, InvalidBudget};
pub use commerce::{
    ArrearsStep, ChargeType, Commerce, CommercialPolicy, Debt, MAX_LINES, MAX_METERS, MAX_REFUSAL,
    MAX_WORDS, METER_DECIMALS, MeteredInstance, PolicyMeter, PriceUnit, Quote, QuoteLine,
    QuoteRequest, QuotedDisk, Renewal, RenewalRequest, StandardTerms, check_meter_name,
    check_meter_quantity, check_meters, check_order, check_quote, check_renewal,
};
pub use due::{Due, OutOfOrder};
pub use invoice::{Books, Invoice, InvoiceError, InvoiceLine, LineKind};
pub use period::{InvalidPeriod, Period, PeriodUnit};
pub use replay::{Replay, Replayed};
pub use settlement::{PAYABLE_DECIMALS, Settlement, SettlementError, Settler};
pub use spot::{
    InvalidPrices, NOTICE, PROTECTION, PriceHistory, PricedSpan, SpotLease, SpotNotice, SpotReason,
    SpotStrategy, SpotVerdict, StockNeed, StockPlan, reclaim_for_stock, reclaim_in_order,
    reclaim_order,
};
pub use subscription::{
    AUTO_RENEW_DAYS, Order, Piece, Plan, Purchase, PurchaseKind, Stage, Subscription,
    SubscriptionAction, SubscriptionError, Term,
};
pub use verify::{Evidence, Report, Unpriced, UsedSpan, Violation, ViolationKind, reprice, verify};

use std::time::Duration;

/// How long a stopped resource is kept before it is released, in days of 24 hours.
pub const KEPT_DAYS: u32 = 15;

/// That many days of 24 hours.
pub(crate) const fn days(count: u32) -> Duration {
    Duration::from_secs(count as u64 * 24 * 3600)
}
