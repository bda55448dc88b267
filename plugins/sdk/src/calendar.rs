//! Days and months in UTC, for policies that are passed points in time as milliseconds since 1970-01-01T00:00:00Z.
//!
//! The calendar is the Gregorian one, also for the time before it.

use alloc::{format, string::String};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// A month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i64,
    /// 1 to 12.
    month: i64,
}

impl Month {
    /// The month of a point in time.
    ///
    /// ```
    /// # use ashlar_policy::calendar::{Month, day};
    /// let february = Month::of(day("2028-02-29").unwrap());
    /// assert_eq!(february.start(), day("2028-02-01").unwrap());
    /// assert_eq!(february.end(), day("2028-03-01").unwrap());
    /// ```
    #[must_use]
    pub const fn of(millis: i64) -> Self {
        // Years that begin in March, so that the leap day is their last, in eras of 400 of them.
        let days = millis.div_euclid(DAY_MS) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day_of_year + 2) / 153;
        let (year, month) = if month < 10 {
            (year, month + 3)
        } else {
            (year + 1, month - 9)
        };
        Self {
            year: year + era * 400,
            month,
        }
    }

    /// Its first moment, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn start(self) -> i64 {
        days_before(self.year, self.month, 1) * DAY_MS
    }

    /// The first moment after it, likewise.
    #[must_use]
    pub const fn end(self) -> i64 {
        match self.month {
            12 => days_before(self.year + 1, 1, 1) * DAY_MS,
            _ => days_before(self.year, self.month + 1, 1) * DAY_MS,
        }
    }
}

/// Days from 1970-01-01 to that one.
const fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + 365 * year + year / 4 - year / 100 + day_of_year - 719_468
}

/// The first moment of a day such as `2026-11-30`, in milliseconds since 1970-01-01T00:00:00Z. Years have four digits.
///
/// # Errors
/// A sentence for the operator when there is no such day.
pub fn day(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no day; one is written like `2026-11-30`");
    let digits = |part: &str, count: usize| {
        let all = part.len() == count && part.bytes().all(|byte| byte.is_ascii_digit());
        all.then(|| part.parse::<i64>().ok()).flatten()
    };
    let mut parts = text.split('-');
    let mut next = |count| parts.next().and_then(|part| digits(part, count));
    let (year, month, day) = (next(4), next(2), next(2));
    let (Some(year), Some(month), Some(day), None) = (year, month, day, parts.next()) else {
        return Err(wrong());
    };
    if !(1..=12).contains(&month) || day < 1 {
        return Err(wrong());
    }
    let millis = days_before(year, month, day) * DAY_MS;
    // The 31st of a shorter month is a day of another.
    if Month::of(millis) != (Month { year, month }) {
        return Err(wrong());
    }
    Ok(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_follow_on_each_other_without_a_gap() {
        let mut month = Month::of(day("1999-12-31").unwrap());
        let mut days = 0;
        for _ in 0..4_801 {
            let next = Month::of(month.end());
            assert_eq!(next.start(), month.end());
            assert_eq!(Month::of(month.end() - 1), month);
            days += (month.end() - month.start()) / DAY_MS;
            month = next;
        }
        // A month, and four centuries.
        assert_eq!(days, 31 + 146_097);
    }

    #[test]
    fn days_are_found_and_those_that_are_none_refused() {
        for (text, millis) in [
            ("1970-01-01", 0),
            ("1969-12-31", -DAY_MS),
            ("2026-11-30", 1_795_996_800_000),
        ] {
            assert_eq!(day(text), Ok(millis), "{text}");
        }
        for text in [
            "2026-02-29",
            "2026-04-31",
            "2026-00-01",
            "2026-13-01",
            "2026-01-00",
            "2026-1-1",
            "2026-01",
            "2026-01-01-01",
            "+026-01-01",
            "",
        ] {
            assert!(day(text).unwrap_err().contains("is no day"), "{text}");
        }
    }
}
