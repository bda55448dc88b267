//! Policies that decide which requests are let in: world `admission` of the WIT package `ashlar:policy`.
//!
//! ```
//! use ashlar_policy::{
//!     Configuration,
//!     admission::{Admission, Holdings, InstancesRequest, Offers, Verdict},
//! };
//!
//! /// Nobody gets more than so many vCPUs.
//! struct Quota(u32);
//!
//! impl Admission for Quota {
//!     fn configure(configuration: &Configuration) -> Result<Self, String> {
//!         Ok(Self(configuration.parse("vcpus", 64)?))
//!     }
//!
//!     fn admit(
//!         &self,
//!         request: &InstancesRequest,
//!         holdings: &Holdings,
//!         _: &Offers,
//!     ) -> Result<Verdict, String> {
//!         let more = request.vcpus.saturating_mul(request.count);
//!         if holdings.vcpus.saturating_add(more) <= self.0 {
//!             return Ok(Verdict::Admit);
//!         }
//!         let words = format!("An account may have {} vCPUs and has {}.", self.0, holdings.vcpus);
//!         Ok(Verdict::refused("vcpu-quota", words))
//!     }
//! }
//!
//! # fn main() {}
//! ashlar_policy::export_admission!(Quota);
//! ```

use crate::Configuration;
use alloc::{string::String, vec::Vec};

#[doc(hidden)]
#[allow(missing_docs, reason = "generated; the WIT files document every field")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "admission",
        pub_export_macro: true,
        default_bindings_module: "ashlar_policy::admission::bindings",
    });
}

pub use bindings::exports::ashlar::policy::admitting::{
    Admission as Verdict, Amendment, Disk, Holdings, InstancesRequest, Offers, Refusal, Tag,
};
use bindings::exports::ashlar::policy::admitting::{Guest, Parameter};

impl Verdict {
    /// Not let in: `reason` is a word of `a-z`, `0-9` and `-` for programs, `message` a sentence for the customer.
    #[must_use]
    pub fn refused(reason: &str, message: String) -> Self {
        Self::Refuse(Refusal {
            reason: String::from(reason),
            message,
        })
    }
}

impl Amendment {
    /// Changes nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            name: None,
            add_tags: Vec::new(),
            deletion_protection: None,
            disk_category: None,
            zone: None,
        }
    }
}

/// An admission policy. An answer may depend on nothing but the arguments.
pub trait Admission: Sized {
    /// The policy with the operator's parameters.
    ///
    /// # Errors
    /// A sentence for the operator when they make no sense; the policy is then not loaded.
    fn configure(configuration: &Configuration) -> Result<Self, String>;

    /// What becomes of `request`, whose account already has `holdings`.
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; the request is then let in as it is.
    fn admit(
        &self,
        request: &InstancesRequest,
        holdings: &Holdings,
        offers: &Offers,
    ) -> Result<Verdict, String>;
}

/// Connects an [`Admission`] to the component's exports.
#[doc(hidden)]
pub struct Exported<P>(core::marker::PhantomData<P>);

fn configured<P: Admission>(parameters: Vec<Parameter>) -> Result<P, String> {
    crate::report_panics();
    let pairs = parameters.into_iter().map(|p| (p.name, p.value));
    P::configure(&pairs.collect())
}

impl<P: Admission> Guest for Exported<P> {
    fn check_configuration(configuration: Vec<Parameter>) -> Result<(), String> {
        configured::<P>(configuration).map(drop)
    }

    fn admit(
        configuration: Vec<Parameter>,
        request: InstancesRequest,
        holdings: Holdings,
        offers: Offers,
    ) -> Result<Verdict, String> {
        configured::<P>(configuration)?.admit(&request, &holdings, &offers)
    }
}

/// Makes the crate a component of world `admission` whose policy is the named type.
#[macro_export]
macro_rules! export_admission {
    ($policy:ty) => {
        // Export names are not symbols a native linker takes; natively the crate is an ordinary library, as for unit tests.
        #[cfg(target_arch = "wasm32")]
        type __Exported = $crate::admission::Exported<$policy>;
        #[cfg(target_arch = "wasm32")]
        $crate::admission::bindings::export!(__Exported with_types_in $crate::admission::bindings);
    };
}
