//! Policies that set prices: world `billing` of the WIT package `ashlar:policy`.
//!
//! ```
//! use ashlar_policy::{Configuration, Decimal, billing::{Billing, UsageInterval}};
//!
//! /// One unit of money per hour for everything.
//! struct Flat;
//!
//! impl Billing for Flat {
//!     fn configure(_: &Configuration) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!
//!     fn currency(&self) -> &str {
//!         "CNY"
//!     }
//!
//!     fn price(&self, usage: &UsageInterval) -> Result<Decimal, String> {
//!         Ok(Decimal::from(usage.seconds) / Decimal::from(3600))
//!     }
//! }
//!
//! # fn main() {}
//! ashlar_policy::export_billing!(Flat);
//! ```
//!
//! The other methods of [`Billing`] are the commercial decisions. A policy that leaves them out answers by the rules of the product: a
//! quote is what [`Billing::price`] says of an hour or of a term, a renewal costs what the plan says, a debt is followed up as it is
//! due, of preemptible instances the lowest bid goes first, and nothing else is metered.

use crate::{Configuration, Decimal};
use alloc::{format, string::String, vec::Vec};

#[doc(hidden)]
#[allow(missing_docs, reason = "generated; the WIT files document every field")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "billing",
        pub_export_macro: true,
        default_bindings_module: "ashlar_policy::billing::bindings",
    });
}

mod commerce;
mod metering;

pub use bindings::exports::ashlar::policy::rating::{
    DiskUsage, InstanceUsage, OtherUsage, Usage, UsageInterval,
};
use bindings::exports::ashlar::policy::rating::{Guest, Parameter, Price};
pub use commerce::{
    ArrearsStep, ChargeType, Debt, Period, PeriodUnit, PreemptibleInstance, Preemption, PriceLine,
    QuoteRequest, Renewal, RenewalRequest, SpotTerms, lowest_bid_first, quote_by_rating,
    quoted_seconds,
};
pub use metering::{Instance, Meter, Tag};

/// A billing policy. An answer may depend on nothing but the arguments.
pub trait Billing: Sized {
    /// The policy with the operator's parameters.
    ///
    /// # Errors
    /// A sentence for the operator when they make no sense; the policy is then not loaded.
    fn configure(configuration: &Configuration) -> Result<Self, String>;

    /// The ISO 4217 code of the currency its prices are in.
    fn currency(&self) -> &str;

    /// The price of an interval: not negative, and not less for the same usage over a longer time. The host program rounds.
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; the built-in price list then sets the prices.
    fn price(&self, usage: &UsageInterval) -> Result<Decimal, String>;

    /// The price of a purchase before it is made: 1 to 64 lines. Unless told otherwise, [`quote_by_rating`].
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; the built-in price list then sets the prices.
    fn quote(&self, request: &QuoteRequest) -> Result<Vec<PriceLine>, String> {
        quote_by_rating(self, request)
    }

    /// Whether a term is renewed, and for how much; `listed` is what the plan says it costs. Unless told otherwise, it is, for that.
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; it is then renewed for what the plan says.
    fn renewal(&self, request: &RenewalRequest, listed: Decimal) -> Result<Renewal, String> {
        let _ = request;
        Ok(Renewal::Renew {
            price: listed,
            discount: None,
        })
    }

    /// What is done about a debt now: [`Debt::due`] or something milder. Unless told otherwise, what is due.
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; what is due is then done.
    fn arrears(&self, debt: &Debt) -> Result<ArrearsStep, String> {
        Ok(debt.due)
    }

    /// The ids of those that may be reclaimed, first the one to go first; none that is protected or was given notice. Unless told
    /// otherwise, [`lowest_bid_first`].
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; the lowest bid then goes first.
    fn preempt(&self, preemption: &Preemption) -> Result<Vec<String>, String> {
        lowest_bid_first(preemption)
    }

    /// What is metered of an instance beside its virtual CPUs and memory: at most 16 meters of different names, which [`price`](Self::price)
    /// is asked about as [`Usage::Other`]. Unless told otherwise, nothing.
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; meters then stay as they are.
    fn meters(&self, instance: &Instance) -> Result<Vec<Meter>, String> {
        let _ = instance;
        Ok(Vec::new())
    }
}

/// Connects a [`Billing`] to the component's exports.
#[doc(hidden)]
pub struct Exported<P>(core::marker::PhantomData<P>);

fn configured<P: Billing>(parameters: Vec<Parameter>) -> Result<P, String> {
    crate::report_panics();
    let pairs = parameters.into_iter().map(|p| (p.name, p.value));
    P::configure(&pairs.collect())
}

/// The policy, if its prices are in `currency`.
fn configured_in<P: Billing>(parameters: Vec<Parameter>, currency: &str) -> Result<P, String> {
    let policy: P = configured(parameters)?;
    let own = policy.currency();
    if own != currency {
        return Err(format!(
            "prices are asked for in {currency}, but are set in {own}"
        ));
    }
    Ok(policy)
}

impl<P: Billing> Guest for Exported<P> {
    fn check_configuration(configuration: Vec<Parameter>) -> Result<(), String> {
        configured::<P>(configuration).map(drop)
    }

    fn rate(
        configuration: Vec<Parameter>,
        currency: String,
        usage: Vec<UsageInterval>,
    ) -> Result<Vec<Price>, String> {
        let policy: P = configured_in(configuration, &currency)?;
        let price = |interval: &UsageInterval| {
            Ok(Price {
                amount: crate::text::decimal(policy.price(interval)?),
                currency: currency.clone(),
            })
        };
        usage.iter().map(price).collect()
    }
}

/// Makes the crate a component of world `billing` whose policy is the named type.
#[macro_export]
macro_rules! export_billing {
    ($policy:ty) => {
        // Export names are not symbols a native linker takes; natively the crate is an ordinary library, as for unit tests.
        #[cfg(target_arch = "wasm32")]
        type __Exported = $crate::billing::Exported<$policy>;
        #[cfg(target_arch = "wasm32")]
        $crate::billing::bindings::export!(__Exported with_types_in $crate::billing::bindings);
    };
}
