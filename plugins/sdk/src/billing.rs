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

use crate::{Configuration, Decimal};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

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

pub use bindings::exports::ashlar::policy::rating::{
    DiskUsage, InstanceUsage, OtherUsage, Usage, UsageInterval,
};
use bindings::exports::ashlar::policy::rating::{Guest, Parameter, Price};

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
}

/// Connects a [`Billing`] to the component's exports.
#[doc(hidden)]
pub struct Exported<P>(core::marker::PhantomData<P>);

fn configured<P: Billing>(parameters: Vec<Parameter>) -> Result<P, String> {
    crate::report_panics();
    let pairs = parameters.into_iter().map(|p| (p.name, p.value));
    P::configure(&pairs.collect())
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
        let policy = configured::<P>(configuration)?;
        let own = policy.currency();
        if own != currency {
            return Err(format!(
                "prices are asked for in {currency}, but are set in {own}"
            ));
        }
        let price = |interval: &UsageInterval| {
            Ok(Price {
                amount: policy.price(interval)?.to_string(),
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
