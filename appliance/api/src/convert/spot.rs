//! The market of preemptible instances.

use api_types::{SpotPrice, SpotPriceHistory, SpotPriceStep};
use control::model;

/// What a type costs now, as it goes over the wire.
pub fn price_to_wire(market: &model::SpotMarket) -> SpotPrice {
    // There is no market before its first price is set.
    let (since, price) = market.prices.steps().last().copied().unwrap_or_default();
    SpotPrice {
        instance_type: market.instance_type.clone(),
        price: price.to_string(),
        currency: market.prices.currency().to_string(),
        since: since.to_string(),
    }
}

/// What a type cost over time, as it goes over the wire.
pub fn history_to_wire(market: &model::SpotMarket) -> SpotPriceHistory {
    let steps = market.prices.steps().iter();
    SpotPriceHistory {
        now: price_to_wire(market),
        history: steps
            .map(|(from, price)| SpotPriceStep {
                from: from.to_string(),
                price: price.to_string(),
            })
            .collect(),
    }
}
