//! What was used, and what it costs.
//!
//! ```text
//! state change ─► Ledger::prepare ─► Entry (hash-chained) ─► the caller's store ─► Ledger::append
//!                                                                                    │ open and closed intervals
//! metering tick ─► Ledger::rate(Rater, now) ─► Charges ─► the caller's store ─► Ledger::record
//! ```
//!
//! Preparing and rating change nothing: the caller writes what they return in the transaction of the change that caused
//! it, and tells the ledger afterwards. [`Ledger::replay`] rebuilds the same state from what was stored, and refuses a
//! record that was altered, left out, counted twice or never opened.
//!
//! # Rules
//! - **Time.** An interval runs from its opening to its closing entry. Entries never go back in time: when the clock did, the
//!   entry gets the time of the one before it and notes what the clock said. Nothing is closed before the point up
//!   to which it is already charged.
//! - **Seconds.** Only whole seconds since the opening are charged; what is left over at the closing (less than a second) is not.
//! - **Remainders.** A policy is never asked what one more second costs, but what everything since it took over costs: the
//!   *segment*, the unbroken run of an interval's charges by the same policy, code and parameters. That price is
//!   rounded to [`AMOUNT_DECIMALS`] decimals, half to even, and a tick charges the difference to what the segment has been charged
//!   before. So ticks and the final settlement add up to the rounded price of the interval, whenever the ticks were.
//! - **Order.** A longer segment must not cost less than a shorter one; a policy that says so has failed.
//!
//! This crate knows no clock, no store and no plugin.

#![forbid(unsafe_code)]

mod audit;
mod charge;
mod entry;
mod interval;
mod ledger;
mod price_list;
mod rating;

pub use audit::{Audit, ChargedSegment};
pub use charge::{AMOUNT_DECIMALS, Charge};
pub use entry::{Change, Entry, Event, Usage, UsageKey};
pub use interval::{UsageInterval, intervals};
pub use ledger::{Ledger, LedgerError};
pub use price_list::{InvalidPrice, MAX_PRICE, PriceList, Prices};
pub use rating::{MAX_AMOUNT, MAX_BATCH, Rater, RatingInput, RatingPolicy, check_amounts};
pub use types::{FailureKind, ModuleDigest, PolicyFailure, PolicyIdentity};
