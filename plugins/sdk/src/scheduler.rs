//! Policies that decide where instances go: world `scheduler` of the WIT package `ashlar:policy`.
//!
//! A policy implements [`Scheduler`]: it judges every host of a table. One whose scores depend on a host's capacity alone also
//! implements [`ByCapacity`]; the best host is then found through an [`Index`], which looks at each kind of host once
//! instead of at every host. Keeping the table, the bookings and the deployment sets is the SDK's work.

use crate::Configuration;
use alloc::{string::String, vec::Vec};

#[doc(hidden)]
#[allow(missing_docs, reason = "generated; the WIT files document every field")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../wit",
        world: "scheduler",
        pub_export_macro: true,
        default_bindings_module: "ashlar_policy::scheduler::bindings",
    });
}

mod index;
#[cfg(any(test, target_arch = "wasm32"))]
mod session;
mod table;

#[cfg(any(test, target_arch = "wasm32"))]
use bindings::exports::ashlar::policy::scheduling::Verdicts;
pub use bindings::exports::ashlar::policy::scheduling::{DeploymentSet, PlacementRequest};
pub use index::{ByCapacity, Capacity, Index, Prefers, judge_by_capacity};
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub use session::exported::Exported;
pub use table::HostTable;

/// The names of the constraints the host program knows.
pub mod constraint {
    /// The host takes no new instances.
    pub const NOT_ACCEPTING: &str = "not-accepting";
    /// The host is in another zone.
    pub const ZONE: &str = "zone";
    /// Too few free vCPUs.
    pub const VCPUS: &str = "vcpus";
    /// Too little free memory.
    pub const MEMORY: &str = "memory";
    /// Too little free local disk.
    pub const LOCAL_DISK: &str = "local-disk";
    /// The host has as many members of the deployment set as it may have.
    pub const DEPLOYMENT_SET: &str = "deployment-set";
}

/// What a policy says about one host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// The instance must not go there; the name of the constraint, one of [`constraint`] or the policy's own.
    Refused(&'static str),
    /// It may; the highest score wins. Finite, within ±1e15.
    Score(f64),
}

impl Verdict {
    /// Refused for `constraint`.
    #[must_use]
    pub const fn refused(constraint: &'static str) -> Self {
        Self::Refused(constraint)
    }
}

/// A scheduling policy. An answer may depend on nothing but the arguments.
pub trait Scheduler: Sized {
    /// The policy with the operator's parameters.
    ///
    /// # Errors
    /// A sentence for the operator when they make no sense; the policy is then not loaded.
    fn configure(configuration: &Configuration) -> Result<Self, String>;

    /// One verdict per host, in the order of the table.
    ///
    /// # Errors
    /// A sentence for the operator when there is no answer; the built-in policy then decides.
    fn judge(&self, request: &PlacementRequest, hosts: &HostTable) -> Result<Vec<Verdict>, String>;

    /// The same policy as a score of capacities, if it is one: [`judge`](Self::judge) then is [`judge_by_capacity`] of it. Without
    /// it, the best host is found by judging all.
    fn by_capacity(&self) -> Option<&dyn ByCapacity> {
        None
    }
}

/// The position of the highest score, the lowest on a tie.
pub(crate) fn highest(verdicts: &[Verdict]) -> Option<u32> {
    let mut best: Option<(f64, usize)> = None;
    for (host, verdict) in verdicts.iter().enumerate() {
        if let Verdict::Score(score) = *verdict
            && best.is_none_or(|(highest, _)| score > highest)
        {
            best = Some((score, host));
        }
    }
    best.and_then(|(_, host)| u32::try_from(host).ok())
}

/// Verdicts as they cross the border.
#[cfg(any(test, target_arch = "wasm32"))]
fn columns(verdicts: &[Verdict]) -> Result<Verdicts, String> {
    let mut constraints: Vec<&'static str> = Vec::new();
    let mut refused_for = Vec::with_capacity(verdicts.len());
    let mut score = Vec::with_capacity(verdicts.len());
    for verdict in verdicts {
        match *verdict {
            Verdict::Score(points) => {
                refused_for.push(0);
                score.push(points);
            }
            Verdict::Refused(name) => {
                // Nearly always the very same text: its address tells.
                let known = constraints
                    .iter()
                    .position(|known| core::ptr::eq(*known, name) || *known == name);
                let position = known.unwrap_or_else(|| {
                    constraints.push(name);
                    constraints.len() - 1
                });
                let code = u8::try_from(position + 1);
                refused_for.push(code.map_err(|_| "more than 255 different constraints")?);
                score.push(0.0);
            }
        }
    }
    Ok(Verdicts {
        constraints: constraints.into_iter().map(String::from).collect(),
        refused_for,
        score,
    })
}

/// Makes the crate a component of world `scheduler` whose policy is the named type.
#[macro_export]
macro_rules! export_scheduler {
    ($policy:ty) => {
        // Export names are not symbols a native linker takes; natively the crate is an ordinary library, as for unit tests.
        #[cfg(target_arch = "wasm32")]
        type __Exported = $crate::scheduler::Exported<$policy>;
        #[cfg(target_arch = "wasm32")]
        $crate::scheduler::bindings::export!(__Exported with_types_in $crate::scheduler::bindings);
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_become_columns_with_each_constraint_named_once() {
        let verdicts = [
            Verdict::Score(1.5),
            Verdict::refused("own"),
            Verdict::refused(constraint::ZONE),
            Verdict::refused("own"),
        ];
        let columns = columns(&verdicts).unwrap();
        assert_eq!(columns.constraints, ["own", "zone"]);
        assert_eq!(columns.refused_for, [0, 1, 2, 1]);
        assert_eq!(columns.score, [1.5, 0.0, 0.0, 0.0]);
    }
}
