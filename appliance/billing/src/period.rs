//! How long a term is, in the units it is sold in. ECS contract: Money (PrePaid).

use jiff::{Span, civil::Date, tz::Offset};
use serde::{Deserialize, Serialize};
use std::fmt;
use types::{Timestamp, UtcOffset};

/// The length of a term: 1–4 weeks, 1–60 months or 1–5 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Unchecked", into = "Unchecked")]
pub struct Period(Unchecked);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "unit", content = "count", rename_all = "kebab-case")]
enum Unchecked {
    Weeks(u8),
    Months(u8),
    Years(u8),
}

/// What terms are counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeriodUnit {
    /// Seven days.
    Week,
    /// A calendar month.
    Month,
    /// Twelve calendar months.
    Year,
}

/// A term that is not sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a term of {0} is not sold; choose 1 to 4 weeks, 1 to 60 months or 1 to 5 years")]
pub struct InvalidPeriod(Unchecked);

impl Period {
    /// That many weeks.
    ///
    /// # Errors
    /// [`InvalidPeriod`] outside 1–4.
    pub fn weeks(count: u8) -> Result<Self, InvalidPeriod> {
        Unchecked::Weeks(count).try_into()
    }

    /// That many months.
    ///
    /// # Errors
    /// [`InvalidPeriod`] outside 1–60.
    pub fn months(count: u8) -> Result<Self, InvalidPeriod> {
        Unchecked::Months(count).try_into()
    }

    /// That many years.
    ///
    /// # Errors
    /// [`InvalidPeriod`] outside 1–5.
    pub fn years(count: u8) -> Result<Self, InvalidPeriod> {
        Unchecked::Years(count).try_into()
    }

    /// What it is counted in, and how many of that.
    #[must_use]
    pub fn parts(self) -> (PeriodUnit, u8) {
        self.times(PeriodUnit::Week, PeriodUnit::Month, PeriodUnit::Year)
    }

    /// Which of (`week`, `month`, `year`) it counts, and how many.
    pub(crate) fn times<T>(self, week: T, month: T, year: T) -> (T, u8) {
        match self.0 {
            Unchecked::Weeks(count) => (week, count),
            Unchecked::Months(count) => (month, count),
            Unchecked::Years(count) => (year, count),
        }
    }

    /// The last day of a term after `day`. Months and years keep to day `anchor` of the month (1–31), or to its last day where it is
    /// shorter. `None` past the year 9999.
    fn last_day(self, day: Date, anchor: i8) -> Option<Date> {
        let months = match self.0 {
            Unchecked::Weeks(count) => {
                return day.checked_add(Span::new().weeks(i64::from(count))).ok();
            }
            Unchecked::Months(count) => i64::from(count),
            Unchecked::Years(count) => i64::from(count) * 12,
        };
        let month = day.first_of_month().checked_add(Span::new().months(months));
        let month = month.ok()?;
        Date::new(
            month.year(),
            month.month(),
            anchor.min(month.days_in_month()),
        )
        .ok()
    }
}

/// When terms end, for one time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calendar {
    zone: UtcOffset,
    /// The day of the month that terms end on, where there is one.
    anchor: i8,
}

impl Calendar {
    /// For terms bought from `now` on: one ends with the same day of a later month.
    pub(crate) fn from(zone: UtcOffset, now: Timestamp) -> Option<Self> {
        let anchor = day_of(zone, now)?.day();
        Some(Self { zone, anchor })
    }

    /// The calendar for terms bought from `now` on, in the same zone.
    pub(crate) fn restarted(self, now: Timestamp) -> Option<Self> {
        Self::from(self.zone, now)
    }

    /// The end of a term of `period` bought at `now`: the start of the day after its last.
    pub(crate) fn first_end(self, now: Timestamp, period: Period) -> Option<Timestamp> {
        self.end(day_of(self.zone, now)?, period)
    }

    /// The end of a term of `period` that follows on one which ends at `end`.
    pub(crate) fn next_end(self, end: Timestamp, period: Period) -> Option<Timestamp> {
        self.end(day_of(self.zone, end)?.yesterday().ok()?, period)
    }

    /// The calendar after a term of `period` to `end`: weeks end on another day, and later months keep to that one.
    pub(crate) fn after(self, end: Timestamp, period: Period) -> Option<Self> {
        match period.0 {
            Unchecked::Weeks(_) => {
                let last = day_of(self.zone, end)?.yesterday().ok()?;
                Some(Self {
                    anchor: last.day(),
                    ..self
                })
            }
            Unchecked::Months(_) | Unchecked::Years(_) => Some(self),
        }
    }

    fn end(self, day: Date, period: Period) -> Option<Timestamp> {
        let after = period.last_day(day, self.anchor)?.tomorrow().ok()?;
        let midnight = Offset::UTC.to_timestamp(after.at(0, 0, 0, 0)).ok()?;
        let local = Timestamp::from_unix_millis(midnight.as_millisecond())?;
        self.zone.from_local(local)
    }
}

/// The day that it is in `zone` at `time`.
fn day_of(zone: UtcOffset, time: Timestamp) -> Option<Date> {
    let local = zone.to_local(time)?.unix_millis();
    let local = jiff::Timestamp::from_millisecond(local).ok()?;
    Some(Offset::UTC.to_datetime(local).date())
}

impl TryFrom<Unchecked> for Period {
    type Error = InvalidPeriod;

    fn try_from(period: Unchecked) -> Result<Self, InvalidPeriod> {
        let (count, most) = match period {
            Unchecked::Weeks(count) => (count, 4),
            Unchecked::Months(count) => (count, 60),
            Unchecked::Years(count) => (count, 5),
        };
        if (1..=most).contains(&count) {
            return Ok(Self(period));
        }
        Err(InvalidPeriod(period))
    }
}

impl From<Period> for Unchecked {
    fn from(period: Period) -> Self {
        period.0
    }
}

impl fmt::Display for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, count) = match self {
            Self::Weeks(count) => ("week", count),
            Self::Months(count) => ("month", count),
            Self::Years(count) => ("year", count),
        };
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {unit}{plural}")
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_string())
    }
}
