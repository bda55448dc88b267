//! Doing a month's settlements again, from its charges.

use crate::{Settlement, SettlementError, Settler};
use ledger::Charge;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use types::{AccountId, ChargeId, Currency, Month, Timestamp};

/// The records of an account in one currency, and what is known of a month of it.
#[derive(Clone, Copy)]
pub struct Replay<'a> {
    /// The account.
    pub account: &'a AccountId,
    /// The currency.
    pub currency: Currency,
    /// The month to do again.
    pub month: Month,
    /// All its charges, in any order.
    pub charges: &'a [&'a Charge],
    /// All its settlements, in any order: those before the month are believed.
    pub settlements: &'a [&'a Settlement],
    /// End of the last month before it that was invoiced.
    pub closed: Option<Timestamp>,
    /// Everything up to here has been settled.
    pub settled: Timestamp,
}

/// What came of a [`Replay`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The month's settlements as they should be, oldest first.
    pub settlements: Vec<Settlement>,
    /// In what those among the records are not so: the settlement's id, and how.
    pub differences: Vec<(String, String)>,
}

impl Replay<'_> {
    /// Settles the month again, hour by hour, and compares with its settlements.
    ///
    /// Which charges came late for their hour is not written in them. So a charge is believed to have been late if the settlement that
    /// names it is the first that could take it then.
    ///
    /// # Errors
    /// [`SettlementError`] for charges that cannot be settled at all.
    pub fn run(&self) -> Result<Replayed, SettlementError> {
        let mut replayed = Replayed::default();
        let charges: BTreeMap<ChargeId, &Charge> = self
            .charges
            .iter()
            .map(|charge| (charge.id, *charge))
            .collect();
        let mut stored = self.settlements.to_vec();
        stored.sort_by_key(|settlement| settlement.to);
        let before = stored.partition_point(|settlement| settlement.to <= self.month.start());
        let through = stored.partition_point(|settlement| settlement.to <= self.month.end());
        let mut settler = match stored[..before].last() {
            Some(last) => Settler::after(last),
            None => Settler::new(self.account.clone(), self.currency),
        };
        if let Some(closed) = self.closed {
            settler.close(closed);
        }
        for settlement in &stored[before..through] {
            for id in &settlement.charges {
                match charges.get(id) {
                    Some(charge) => drop(settler.add(charge)?),
                    None => replayed.differs(settlement, format!("there is no charge {id}")),
                }
            }
            replayed.take(&mut settler, settlement.to, Some(settlement))?;
        }
        let named: BTreeSet<ChargeId> = stored
            .iter()
            .flat_map(|settlement| settlement.charges.iter().copied())
            .collect();
        for charge in charges
            .values()
            .filter(|charge| !named.contains(&charge.id))
        {
            settler.add(charge)?;
        }
        replayed.take(&mut settler, self.settled.min(self.month.end()), None)?;
        Ok(replayed)
    }
}

impl Replayed {
    fn differs(&mut self, settlement: &Settlement, what: String) {
        self.differences.push((settlement.id.to_string(), what));
    }

    /// Settles what is due at `to`, which should come to `stored`.
    fn take(
        &mut self,
        settler: &mut Settler,
        to: Timestamp,
        stored: Option<&Settlement>,
    ) -> Result<(), SettlementError> {
        let mut found = false;
        for due in settler.due(to)? {
            match stored.filter(|stored| stored.to == due.to) {
                Some(stored) => {
                    found = true;
                    if let Some(what) = stored.difference(&due) {
                        let (is, should) = (stored.money(), due.money());
                        self.differs(
                            stored,
                            format!("its {what} is not what its charges come to; it pays {is} and should pay {should}"),
                        );
                    }
                }
                None => {
                    let (hour, money) = (due.from, due.money());
                    let what = format!("the hour from {hour} is not settled; it comes to {money}");
                    self.differs(&due, what);
                }
            }
            settler.record(&due)?;
            self.settlements.push(due);
        }
        if let Some(stored) = stored.filter(|_| !found) {
            self.differs(stored, "none of its charges is for its hour".to_owned());
        }
        Ok(())
    }
}
