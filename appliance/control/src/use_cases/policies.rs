//! Decisions and charges.

use crate::{
    Control, ControlError, Result,
    commands::{ChargeFilter, DecisionFilter},
    model::{Charge, ChargeTotal, Decision, DecisionInputs},
    records::{ChargeRecord, DecisionRecord},
    use_cases::oldest_first,
};
use std::collections::BTreeMap;
use types::{Currency, DecisionId, Money};

impl Control {
    /// The decision of that id (`InvalidDecisionId.NotFound`).
    pub async fn decision(&self, id: DecisionId) -> Result<Decision> {
        let found = self
            .core()
            .get::<DecisionRecord>(&id)?
            .map(|record| record.decision);
        found.ok_or_else(|| ControlError::not_found("DecisionId", "decision", &id))
    }

    /// The decisions the filter lets through, oldest first; refused ones too.
    pub async fn decisions(&self, filter: &DecisionFilter) -> Result<Vec<Decision>> {
        let records = self.core().list::<DecisionRecord>()?.into_iter();
        let mut decisions: Vec<Decision> = records.map(|record| record.decision).collect();
        decisions.retain(|decision| lets_through(filter, decision));
        oldest_first(&mut decisions, |decision| (decision.time, decision.id));
        Ok(decisions)
    }

    /// What those decisions were made from, oldest first; none of decisions from before that was kept.
    pub async fn decision_inputs(&self, filter: &DecisionFilter) -> Result<Vec<DecisionInputs>> {
        let records = self.core().list::<DecisionRecord>()?.into_iter();
        let mut inputs: Vec<DecisionInputs> = records
            .filter(|record| lets_through(filter, &record.decision))
            .filter_map(|record| {
                let inputs = record.inputs?;
                Some(DecisionInputs {
                    decision: record.decision,
                    request: inputs.request,
                    hosts: inputs.hosts,
                })
            })
            .collect();
        oldest_first(&mut inputs, |inputs| {
            (inputs.decision.time, inputs.decision.id)
        });
        Ok(inputs)
    }

    /// The charges the filter lets through, oldest first.
    pub async fn charges(&self, filter: &ChargeFilter) -> Result<Vec<Charge>> {
        let records = self.core().list::<ChargeRecord>()?.into_iter();
        let lets_through = |charge: &Charge| {
            filter
                .instance
                .is_none_or(|instance| charge.instance() == Some(instance))
                && filter.from.is_none_or(|from| charge.to > from)
                && filter.to.is_none_or(|to| charge.from < to)
        };
        Ok(records
            .map(|record| record.charge)
            .filter(lets_through)
            .collect())
    }

    /// The sum of those charges per resource and currency.
    pub async fn charge_totals(&self, filter: &ChargeFilter) -> Result<Vec<ChargeTotal>> {
        let mut totals: BTreeMap<(String, String, Currency), ChargeTotal> = BTreeMap::new();
        for charge in self.charges(filter).await? {
            let currency = charge.money.currency;
            let total = totals
                .entry((charge.resource.clone(), charge.meter.clone(), currency))
                .or_insert_with(|| ChargeTotal {
                    resource: charge.resource,
                    meter: charge.meter,
                    seconds: 0,
                    amount: Money::zero(currency),
                });
            total.seconds = total.seconds.saturating_add(charge.seconds);
            total.amount = total.amount.checked_add(charge.money).map_err(|error| {
                ControlError::internal("The charges cannot be added up.", error)
            })?;
        }
        Ok(totals.into_values().collect())
    }

    /// Charges everything that was used until now, settles what is due, and does what is due about money, without waiting for the next
    /// metering tick.
    pub async fn meter_now(&self) -> Result<()> {
        self.core().meter().await?;
        self.deal_now().await
    }
}

fn lets_through(filter: &DecisionFilter, decision: &Decision) -> bool {
    let instance = filter.instance;
    instance.is_none_or(|instance| decision.instance == instance)
}
