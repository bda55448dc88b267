//! Calendar months, and fixed distances from UTC.

use crate::{ParseError, Timestamp, serde_as_text};
use jiff::{civil::Date, tz::Offset};
use std::{fmt, str::FromStr, time::Duration};

const MONTH: &str = "a year from 0000 to 9998 and a month such as 2026-01";

/// A calendar month in UTC. Its text is `2026-01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i16,
    month: i8,
}

impl Month {
    /// The month that `time` is in; times outside the years 0–9998 are taken for the nearest month inside.
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        // In range by construction.
        let date = jiff::Timestamp::from_millisecond(time.unix_millis()).unwrap_or_default();
        let date = Offset::UTC.to_datetime(date).date();
        match date.year() {
            ..0 => Self { year: 0, month: 1 },
            year @ 0..=9998 => Self {
                year,
                month: date.month(),
            },
            _ => Self {
                year: 9998,
                month: 12,
            },
        }
    }

    /// Its first millisecond.
    #[must_use]
    pub fn start(self) -> Timestamp {
        midnight(self.year, self.month)
    }

    /// The first millisecond after it.
    #[must_use]
    pub fn end(self) -> Timestamp {
        match self.month {
            12 => midnight(self.year + 1, 1),
            month => midnight(self.year, month + 1),
        }
    }

    /// The month after it; the last one is followed by itself.
    #[must_use]
    pub fn next(self) -> Self {
        Self::of(self.end())
    }
}

/// The start of a month of the years 0–9999.
fn midnight(year: i16, month: i8) -> Timestamp {
    let millis = Date::new(year, month, 1)
        .and_then(|date| Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)))
        .map(jiff::Timestamp::as_millisecond);
    millis
        .ok()
        .and_then(Timestamp::from_unix_millis)
        .unwrap_or_default()
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04}-{:02}", self.year, self.month))
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Month {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let parts = text.split_once('-').filter(|(year, month)| {
            let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
            year.len() == 4 && month.len() == 2 && digits(year) && digits(month)
        });
        parts
            .and_then(|(year, month)| Some((year.parse().ok()?, month.parse().ok()?)))
            .filter(|(year, month)| *year <= 9998 && (1..=12).contains(month))
            .map(|(year, month)| Self { year, month })
            .ok_or_else(|| ParseError::new("a month", MONTH, text))
    }
}

serde_as_text!(Month);

/// A fixed distance from UTC, without daylight saving time: `+08:00`. Whole minutes, at most 18 hours either way.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcOffset {
    minutes: i16,
}

impl UtcOffset {
    /// UTC itself.
    pub const UTC: Self = Self { minutes: 0 };

    /// That many minutes ahead of UTC; `None` beyond 18 hours either way.
    #[must_use]
    pub const fn from_minutes(minutes: i16) -> Option<Self> {
        match minutes {
            -1080..=1080 => Some(Self { minutes }),
            _ => None,
        }
    }

    /// What a clock there shows at `time`, as if it were UTC; `None` outside the years −9999 to 9999.
    #[must_use]
    pub fn to_local(self, time: Timestamp) -> Option<Timestamp> {
        self.shift(time, self.minutes >= 0)
    }

    /// The point in time at which a clock there shows `local`; `None` outside the years −9999 to 9999.
    #[must_use]
    pub fn from_local(self, local: Timestamp) -> Option<Timestamp> {
        self.shift(local, self.minutes < 0)
    }

    fn shift(self, time: Timestamp, later: bool) -> Option<Timestamp> {
        let distance = Duration::from_secs(u64::from(self.minutes.unsigned_abs()) * 60);
        if later {
            time.checked_add(distance)
        } else {
            time.checked_sub(distance)
        }
    }
}

impl fmt::Display for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.minutes < 0 { '-' } else { '+' };
        let minutes = self.minutes.unsigned_abs();
        f.pad(&format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60))
    }
}

impl fmt::Debug for UtcOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for UtcOffset {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        read_offset(text).ok_or_else(|| {
            ParseError::new(
                "an offset from UTC",
                "a sign, hours and minutes such as +08:00, at most 18 hours",
                text,
            )
        })
    }
}

fn read_offset(text: &str) -> Option<UtcOffset> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let number = |part: &str| -> Option<i16> {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse().ok()).flatten()
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (minutes < 60)
        .then(|| UtcOffset::from_minutes(sign * (hours * 60 + minutes)))
        .flatten()
}

serde_as_text!(UtcOffset);

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn months_follow_each_other_without_a_gap() {
        let mut month: Month = "1999-11".parse().unwrap();
        for _ in 0..400 {
            let next = month.next();
            assert!(next > month);
            assert_eq!(month.end(), next.start());
            assert_eq!(Month::of(next.start()), next);
            let last = month.end().checked_sub(Duration::from_millis(1)).unwrap();
            assert_eq!(Month::of(last), month);
            assert_eq!(month.to_string().parse::<Month>().unwrap(), month);
            month = next;
        }
        let leap: Month = "2028-02".parse().unwrap();
        assert_eq!(leap.start(), time("2028-02-01T00:00:00Z"));
        assert_eq!(leap.end(), time("2028-03-01T00:00:00Z"));
        for bad in [
            "", "2026", "2026-13", "2026-00", "26-01", "2026-1", "9999-01", "+026-01",
        ] {
            assert!(bad.parse::<Month>().is_err(), "{bad}");
        }
    }

    #[test]
    fn times_beyond_the_months_are_taken_for_the_nearest() {
        assert_eq!(
            Month::of(time("9999-05-01T00:00:00Z")).to_string(),
            "9998-12"
        );
        assert_eq!(
            Month::of(time("-000001-05-01T00:00:00Z")).to_string(),
            "0000-01"
        );
        let last: Month = "9998-12".parse().unwrap();
        assert_eq!(last.next(), last);
    }

    #[test]
    fn offsets_shift_there_and_back() {
        for (text, local) in [
            ("+08:00", "2026-02-01T00:30:00Z"),
            ("-03:30", "2026-01-31T13:00:00Z"),
            ("+00:00", "2026-01-31T16:30:00Z"),
        ] {
            let offset: UtcOffset = text.parse().unwrap();
            assert_eq!(offset.to_string(), text);
            let now = time("2026-01-31T16:30:00Z");
            assert_eq!(offset.to_local(now), Some(time(local)));
            assert_eq!(offset.from_local(time(local)), Some(now));
        }
        for bad in [
            "", "08:00", "+8:00", "+08:60", "+18:01", "-99:00", "+08", "+0a:00",
        ] {
            assert!(bad.parse::<UtcOffset>().is_err(), "{bad}");
        }
    }
}
