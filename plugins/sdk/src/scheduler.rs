//! Policies that decide where instances go: world `scheduler` of the WIT package `ashlar:policy`.

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

pub use bindings::exports::ashlar::policy::scheduling::{
    DeploymentSet, HostTable, PlacementRequest,
};
use bindings::exports::ashlar::policy::scheduling::{Guest, Parameter, Verdicts};

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
}

impl HostTable {
    /// How many hosts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.zone.len()
    }

    /// Whether there is no host.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.zone.is_empty()
    }

    /// vCPUs not taken on a host. Panics if there is no such host, as do the other methods that take a host.
    #[must_use]
    pub fn vcpus_free(&self, host: usize) -> u32 {
        self.vcpus_total[host].saturating_sub(self.vcpus_used[host])
    }

    /// Memory not taken on a host, in bytes.
    #[must_use]
    pub fn memory_free(&self, host: usize) -> u64 {
        self.memory_total[host].saturating_sub(self.memory_used[host])
    }

    /// Local disk not taken on a host, in bytes.
    #[must_use]
    pub fn local_disk_free(&self, host: usize) -> u64 {
        self.local_disk_total[host].saturating_sub(self.local_disk_used[host])
    }

    /// The name of a host's zone.
    #[must_use]
    pub fn zone_name(&self, host: usize) -> Option<&str> {
        let position = usize::try_from(self.zone[host]).ok()?;
        self.zone_names.get(position).map(String::as_str)
    }

    /// The first of the conditions every policy must keep that a host does not meet.
    #[must_use]
    pub fn obstacle(&self, host: usize, request: &PlacementRequest) -> Option<&'static str> {
        let elsewhere = |zone: &String| self.zone_name(host) != Some(zone);
        let set_full = |set: &DeploymentSet| {
            self.set_members
                .get(host)
                .is_some_and(|members| *members >= set.max_per_host)
        };
        if self.accepting[host] == 0 {
            Some(constraint::NOT_ACCEPTING)
        } else if request.zone.as_ref().is_some_and(elsewhere) {
            Some(constraint::ZONE)
        } else if self.vcpus_free(host) < request.vcpus {
            Some(constraint::VCPUS)
        } else if self.memory_free(host) < request.memory {
            Some(constraint::MEMORY)
        } else if self.local_disk_free(host) < request.local_disk {
            Some(constraint::LOCAL_DISK)
        } else if request.deployment_set.as_ref().is_some_and(set_full) {
            Some(constraint::DEPLOYMENT_SET)
        } else {
            None
        }
    }
}

/// Connects a [`Scheduler`] to the component's exports.
#[doc(hidden)]
pub struct Exported<P>(core::marker::PhantomData<P>);

fn configured<P: Scheduler>(parameters: Vec<Parameter>) -> Result<P, String> {
    crate::report_panics();
    let pairs = parameters.into_iter().map(|p| (p.name, p.value));
    P::configure(&pairs.collect())
}

impl<P: Scheduler> Guest for Exported<P> {
    fn check_configuration(configuration: Vec<Parameter>) -> Result<(), String> {
        configured::<P>(configuration).map(drop)
    }

    fn filter_and_score(
        configuration: Vec<Parameter>,
        request: PlacementRequest,
        hosts: HostTable,
    ) -> Result<Verdicts, String> {
        let verdicts = configured::<P>(configuration)?.judge(&request, &hosts)?;
        columns(&verdicts)
    }
}

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
                let known = constraints
                    .iter()
                    .position(|constraint| *constraint == name);
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
