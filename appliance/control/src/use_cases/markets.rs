//! The markets of preemptible instances: what one of each type costs now, which whoever runs the host sets.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::SetSpotPrice,
    core::{Transaction, check_room},
    model::{EventSubject, MAX_SPOT_STEPS, SpotMarket},
    use_cases::run_instances::shape,
};
use billing::PriceHistory;

/// The most types with a market.
const MAX_MARKETS: u32 = 200;

impl Control {
    /// All markets, by type (ECS DescribeSpotPriceHistory).
    pub async fn spot_markets(&self) -> Result<Vec<SpotMarket>> {
        self.core().list::<SpotMarket>()
    }

    /// The market of that type (`InvalidInstanceType.NotFound`).
    pub async fn spot_market(&self, instance_type: &str) -> Result<SpotMarket> {
        let market = self.core().get::<SpotMarket>(&instance_type.to_owned())?;
        market.ok_or_else(|| {
            ControlError::new(
                ErrorKind::NotFound,
                "InvalidInstanceType.NotFound",
                format!("There is no market for {instance_type}."),
            )
            .with_next_step("Set its price first; until then such instances cost what the billing policy quotes.")
        })
    }

    /// Sets the market price of a type from now on. Instances past their protected hour cost it at once; those that bid less are given
    /// notice.
    pub async fn set_spot_price(&self, command: SetSpotPrice) -> Result<SpotMarket> {
        shape(Some(&command.instance_type), None, None)?;
        let core = self.core().clone();
        let currency = core.policies.in_force().currency();
        let set = move |transaction: &mut Transaction<'_>| {
            let SetSpotPrice {
                instance_type,
                price,
            } = command;
            let kept = transaction.get::<SpotMarket>(&instance_type)?;
            if kept.is_none() {
                let markets = transaction.list::<SpotMarket>()?.len();
                check_room("markets", markets, 1, MAX_MARKETS)?;
            }
            let now = transaction.core().now();
            let steps = match &kept {
                Some(market) if market.prices.currency() == currency => market.prices.steps(),
                _ => &[],
            };
            if steps.last().is_some_and(|(_, last)| *last == price)
                && let Some(kept) = kept
            {
                return Ok(kept);
            }
            let mut steps = steps.to_vec();
            // A clock that went back does not change what was.
            let from = match steps.last() {
                Some((last, _)) if *last >= now => {
                    types::Timestamp::from_unix_millis(last.unix_millis() + 1).unwrap_or(now)
                }
                _ => now,
            };
            steps.push((from, price));
            let first = steps.len().saturating_sub(MAX_SPOT_STEPS);
            let prices = PriceHistory::new(currency, steps.split_off(first)).map_err(|_| {
                let most = ledger::MAX_PRICE;
                let message = format!("A price of {price}: it is from 0 to {most} per hour.");
                ControlError::invalid("price", message)
            })?;
            let market = SpotMarket {
                instance_type: instance_type.clone(),
                prices,
            };
            transaction.put(&market)?;
            let message = format!("preemptible {instance_type} costs {price} {currency} per hour");
            transaction.event(EventSubject::SpotPrice(instance_type), message);
            Ok(market)
        };
        let market = core.write(set).await?;
        self.deal_now().await?;
        Ok(market)
    }
}
