//! Decisions and charges.

use crate::{
    Control, Result,
    commands::{ChargeFilter, DecisionFilter},
    model::{Charge, ChargeTotal, Decision, PolicyStatus},
    use_cases::unwired,
};
use types::DecisionId;

impl Control {
    /// The decision of that id (`InvalidDecisionId.NotFound`).
    pub async fn decision(&self, _id: DecisionId) -> Result<Decision> {
        unwired()
    }

    /// The decisions the filter lets through, oldest first; refused ones too.
    pub async fn decisions(&self, _filter: &DecisionFilter) -> Result<Vec<Decision>> {
        unwired()
    }

    /// The charges the filter lets through, oldest first.
    pub async fn charges(&self, _filter: &ChargeFilter) -> Result<Vec<Charge>> {
        unwired()
    }

    /// The sum of those charges per resource and currency.
    pub async fn charge_totals(&self, _filter: &ChargeFilter) -> Result<Vec<ChargeTotal>> {
        unwired()
    }

    /// The policies in force.
    pub fn policies(&self) -> Vec<PolicyStatus> {
        self.inner.ports.policies.status()
    }
}
