//! Hourly settlement: charges become an amount to pay, each exactly once. ECS contract: Money (pay-as-you-go).

use ledger::{AMOUNT_DECIMALS, Charge};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use types::{AccountId, ChargeId, Currency, Decimal, Money, SettlementId, Sha256Digest, Timestamp};

/// Decimals of what is to be paid: hundredths of the currency's main unit, in every currency.
pub const PAYABLE_DECIMALS: u32 = 2;

const HOUR: Duration = Duration::from_secs(3600);

/// No money, with the decimals of a charge.
pub(crate) const NOTHING: Decimal = Decimal::from_parts(0, 0, 0, false, AMOUNT_DECIMALS);

/// An account's charges of an hour, summed up. There is none for an hour without charges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    /// Its id, determined by account, currency and hour: the same hour settled twice has the same id.
    pub id: SettlementId,
    /// Whose charges.
    pub account: AccountId,
    /// First moment of the hour, in UTC.
    pub from: Timestamp,
    /// First moment after it.
    pub to: Timestamp,
    /// The currency of all amounts.
    pub currency: Currency,
    /// What the settlement before this one cut off: from 0 to less than a hundredth.
    pub carried_in: Decimal,
    /// The sum of the charges.
    pub charged: Decimal,
    /// What is to be paid: both together, rounded down to [`PAYABLE_DECIMALS`].
    pub payable: Decimal,
    /// What that cuts off, for the next settlement.
    pub carried_out: Decimal,
    /// The charges, in order of their ids.
    pub charges: Vec<ChargeId>,
}

impl Settlement {
    /// What is to be paid.
    #[must_use]
    pub const fn money(&self) -> Money {
        Money::new(self.payable, self.currency)
    }

    /// The first part of it that is not as `expected`, such as `amount to pay`; `None` if both are the same.
    #[must_use]
    pub fn difference(&self, expected: &Self) -> Option<&'static str> {
        let hour = (self.from, self.to) == (expected.from, expected.to);
        [
            ("account", self.account == expected.account),
            ("currency", self.currency == expected.currency),
            ("hour", hour),
            ("id", self.id == expected.id),
            ("list of charges", self.charges == expected.charges),
            ("sum of charges", self.charged == expected.charged),
            ("amount carried in", self.carried_in == expected.carried_in),
            ("amount to pay", self.payable == expected.payable),
            (
                "amount carried out",
                self.carried_out == expected.carried_out,
            ),
        ]
        .into_iter()
        .find_map(|(what, same)| (!same).then_some(what))
    }
}

/// A charge or settlement that an account's settlements do not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettlementError {
    /// A charge in another currency, or below zero.
    #[error(
        "charge {charge} of {money} cannot be settled in {currency}; give each currency its own settler and charges of 0 or more"
    )]
    Charge {
        /// The charge.
        charge: ChargeId,
        /// Its amount.
        money: Money,
        /// What is settled.
        currency: Currency,
    },
    /// The hour is settled or closed already.
    #[error(
        "settlement {settlement} is for an hour up to {to}, but everything up to {through} is settled or closed; store each settlement once, in order"
    )]
    AlreadySettled {
        /// The settlement.
        settlement: SettlementId,
        /// Its hour's end.
        to: Timestamp,
        /// How far is settled.
        through: Timestamp,
    },
    /// A settlement names charges that are unknown or settled by another one.
    #[error(
        "settlement {settlement} names charge {charge}, which is unknown or settled already; replay all charges before the settlements"
    )]
    Unsettleable {
        /// The settlement.
        settlement: SettlementId,
        /// The first such charge.
        charge: ChargeId,
    },
    /// A settlement does not say what its charges come to.
    #[error(
        "settlement {settlement} was altered: its {what} is not what its charges and the settlement before it come to"
    )]
    Altered {
        /// The settlement.
        settlement: SettlementId,
        /// The part that is wrong.
        what: &'static str,
    },
    /// An amount left the range of a decimal.
    #[error(
        "the charges of account {0} add up to more than can be reckoned with; settle more often"
    )]
    OutOfRange(AccountId),
}

/// What an account's settlements must know to go on, for one currency.
///
/// It keeps the id of every charge it was given, about 50 bytes each, so that none counts twice. Who has closed a month can
/// [forget](Self::forget_settled) those that are settled, or begin anew with [`after`](Self::after) and the charges that are later or
/// not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settler {
    account: AccountId,
    currency: Currency,
    /// End of the last hour that is settled or closed.
    through: Option<Timestamp>,
    carried: Decimal,
    pending: BTreeMap<ChargeId, (Timestamp, Decimal)>,
    settled: BTreeSet<ChargeId>,
}

impl Settler {
    /// Nothing charged or settled yet.
    #[must_use]
    pub const fn new(account: AccountId, currency: Currency) -> Self {
        Self {
            account,
            currency,
            through: None,
            carried: NOTHING,
            pending: BTreeMap::new(),
            settled: BTreeSet::new(),
        }
    }

    /// The state after `last`, without the charges before it. Charges it names are known, others are not.
    #[must_use]
    pub fn after(last: &Settlement) -> Self {
        Self {
            through: Some(last.to),
            carried: last.carried_out,
            settled: last.charges.iter().copied().collect(),
            ..Self::new(last.account.clone(), last.currency)
        }
    }

    /// The state after these charges and settlements of the account, both in any order, with everything up to `closed`
    /// closed.
    ///
    /// # Errors
    /// [`SettlementError`] for the first record that does not fit.
    pub fn replay<'a>(
        account: AccountId,
        currency: Currency,
        charges: impl IntoIterator<Item = &'a Charge>,
        settlements: impl IntoIterator<Item = &'a Settlement>,
        closed: Option<Timestamp>,
    ) -> Result<Self, SettlementError> {
        let mut settler = Self::new(account, currency);
        for charge in charges {
            settler.add(charge)?;
        }
        let mut settlements: Vec<&Settlement> = settlements.into_iter().collect();
        settlements.sort_by_key(|settlement| settlement.from);
        for settlement in settlements {
            settler.record(settlement)?;
        }
        if let Some(closed) = closed {
            settler.close(closed);
        }
        Ok(settler)
    }

    /// Takes in a charge of the account; whether it was new.
    ///
    /// # Errors
    /// [`SettlementError::Charge`] for one in another currency or below zero.
    pub fn add(&mut self, charge: &Charge) -> Result<bool, SettlementError> {
        if charge.money.currency != self.currency || charge.money.is_negative() {
            return Err(SettlementError::Charge {
                charge: charge.id,
                money: charge.money,
                currency: self.currency,
            });
        }
        if self.settled.contains(&charge.id) || self.pending.contains_key(&charge.id) {
            return Ok(false);
        }
        self.pending
            .insert(charge.id, (charge.to, charge.money.amount));
        Ok(true)
    }

    /// No hour that ends at `through` or before is settled any more: an invoice has been made of it. Late charges go to the hour
    /// after it.
    pub fn close(&mut self, through: Timestamp) {
        self.through = self.through.max(Some(through));
    }

    /// Drops the ids of settled charges: none of them must be given again. For who has closed a month.
    pub fn forget_settled(&mut self) {
        self.settled.clear();
    }

    /// End of the last hour that is settled or closed; `None` before the first.
    #[must_use]
    pub const fn through(&self) -> Option<Timestamp> {
        self.through
    }

    /// What is carried to the next settlement: from 0 to less than a hundredth.
    #[must_use]
    pub const fn carried(&self) -> Decimal {
        self.carried
    }

    /// How many charges wait to be settled.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// When the next hour with charges ends; `None` without any.
    #[must_use]
    pub fn wake(&self) -> Option<Timestamp> {
        self.pending
            .values()
            .map(|(to, _)| self.hour_end(*to))
            .min()
    }

    /// The settlements of every hour that ended at `now` or before and has charges, oldest first, ready to be stored; then
    /// [`record`](Self::record) each. Nothing changes here.
    ///
    /// # Errors
    /// [`SettlementError::OutOfRange`].
    pub fn due(&self, now: Timestamp) -> Result<Vec<Settlement>, SettlementError> {
        let mut hours: BTreeMap<Timestamp, Vec<ChargeId>> = BTreeMap::new();
        for (id, (to, _)) in &self.pending {
            let end = self.hour_end(*to);
            if end <= now {
                hours.entry(end).or_default().push(*id);
            }
        }
        let mut carried = self.carried;
        let mut settlements = Vec::with_capacity(hours.len());
        for (end, charges) in hours {
            let settlement = self.settlement(end, carried, charges)?;
            carried = settlement.carried_out;
            settlements.push(settlement);
        }
        Ok(settlements)
    }

    /// Takes over a stored settlement. Nothing changes on an error.
    ///
    /// # Errors
    /// [`SettlementError`] when its hour or one of its charges is settled already or it does not add up.
    pub fn record(&mut self, settlement: &Settlement) -> Result<(), SettlementError> {
        let id = settlement.id;
        if let Some(through) = self.through.filter(|through| settlement.to <= *through) {
            return Err(SettlementError::AlreadySettled {
                settlement: id,
                to: settlement.to,
                through,
            });
        }
        for charge in &settlement.charges {
            if !self.pending.contains_key(charge) {
                return Err(SettlementError::Unsettleable {
                    settlement: id,
                    charge: *charge,
                });
            }
        }
        let expected = self.settlement(settlement.to, self.carried, settlement.charges.clone())?;
        // Late charges are for earlier hours, none is for a later one.
        let mut ends = settlement
            .charges
            .iter()
            .filter_map(|id| self.pending.get(id));
        let whole = whole_hour(settlement.to) == Some(settlement.to);
        if !whole || ends.any(|(end, _)| *end > settlement.to) {
            return Err(SettlementError::Altered {
                settlement: id,
                what: "hour",
            });
        }
        if let Some(what) = settlement.difference(&expected) {
            return Err(SettlementError::Altered {
                settlement: id,
                what,
            });
        }
        for charge in &settlement.charges {
            self.pending.remove(charge);
            self.settled.insert(*charge);
        }
        self.carried = settlement.carried_out;
        self.through = Some(settlement.to);
        Ok(())
    }

    /// The state after a stored settlement that does not fit, as it says it is.
    pub(crate) fn resume_at(&mut self, settlement: &Settlement) {
        self.settled.extend(settlement.charges.iter().copied());
        self.pending.retain(|id, _| !self.settled.contains(id));
        self.carried = settlement.carried_out;
        self.through = self.through.max(Some(settlement.to));
    }

    /// Charges that are not settled although their hour ended at `now` or before.
    pub(crate) fn overdue(&self, now: Timestamp) -> impl Iterator<Item = ChargeId> + '_ {
        let pending = self.pending.iter();
        pending
            .filter(move |(_, (to, _))| self.hour_end(*to) <= now)
            .map(|(id, _)| *id)
    }

    /// The end of the hour that a charge up to `to` is settled in.
    fn hour_end(&self, to: Timestamp) -> Timestamp {
        // The last hour of the year 9999 does not end.
        let own = whole_hour(to).unwrap_or(to);
        match self.through {
            Some(through) if own <= through => through.checked_add(HOUR).unwrap_or(through),
            _ => own,
        }
    }

    /// The settlement of these pending charges for the hour up to `to`.
    fn settlement(
        &self,
        to: Timestamp,
        carried_in: Decimal,
        mut charges: Vec<ChargeId>,
    ) -> Result<Settlement, SettlementError> {
        let out_of_range = || SettlementError::OutOfRange(self.account.clone());
        charges.sort_unstable();
        charges.dedup();
        let mut charged = NOTHING;
        for (_, amount) in charges.iter().filter_map(|id| self.pending.get(id)) {
            charged = charged.checked_add(*amount).ok_or_else(out_of_range)?;
        }
        let sum = charged.checked_add(carried_in).ok_or_else(out_of_range)?;
        let mut payable = sum.trunc_with_scale(PAYABLE_DECIMALS);
        payable.rescale(PAYABLE_DECIMALS);
        let unique = format!("settlement {} {} {to}", self.account, self.currency);
        Ok(Settlement {
            id: SettlementId::generate(Sha256Digest::of(unique.as_bytes()).id_bits()),
            account: self.account.clone(),
            from: to.checked_sub(HOUR).unwrap_or(to),
            to,
            currency: self.currency,
            carried_in,
            charged,
            payable,
            carried_out: sum - payable,
            charges,
        })
    }
}

/// The first whole hour that is not before `time`; `None` past the year 9999.
fn whole_hour(time: Timestamp) -> Option<Timestamp> {
    let hour = i64::try_from(HOUR.as_millis()).ok()?;
    let over = time.unix_millis().rem_euclid(hour);
    let rest = if over == 0 { 0 } else { hour - over };
    Timestamp::from_unix_millis(time.unix_millis().checked_add(rest)?)
}
