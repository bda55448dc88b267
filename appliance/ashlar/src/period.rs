//! Periods as people type them and read them.

use api_types::{Period, PeriodUnit};

/// Reads `2-weeks`, `1-month`, `3-years`, and for short `2w`, `1m`, `3y`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse(text: &str) -> Result<Period, String> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let unit = rest.strip_prefix('-').unwrap_or(rest);
    let unit = match unit.to_ascii_lowercase().as_str() {
        "w" | "week" | "weeks" => Some(PeriodUnit::Week),
        "m" | "month" | "months" => Some(PeriodUnit::Month),
        "y" | "year" | "years" => Some(PeriodUnit::Year),
        _ => None,
    };
    match (digits.parse(), unit) {
        (Ok(count), Some(unit)) if count > 0 => Ok(Period { count, unit }),
        _ => Err(format!(
            "`{text}` is not a period: expected such as 2-weeks, 1-month or 3-years"
        )),
    }
}

/// For people: `1 month`, `2 weeks`.
pub fn words(period: Period) -> String {
    let unit = match period.unit {
        PeriodUnit::Week => "week",
        PeriodUnit::Month => "month",
        PeriodUnit::Year => "year",
    };
    let plural = if period.count == 1 { "" } else { "s" };
    format!("{} {unit}{plural}", period.count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_as_people_type_them() {
        for (text, shown) in [
            ("2-weeks", "2 weeks"),
            ("1-week", "1 week"),
            ("1w", "1 week"),
            ("1-month", "1 month"),
            ("6m", "6 months"),
            ("12-Months", "12 months"),
            ("3-years", "3 years"),
            ("1y", "1 year"),
        ] {
            assert_eq!(parse(text).map(words).as_deref(), Ok(shown), "{text}");
        }
        for bad in [
            "",
            "1",
            "m",
            "-month",
            "0-months",
            "-1-month",
            "1.5m",
            "1 month",
            "1--month",
            "1-day",
            "99999999999m",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(error.contains("1-month"), "{bad}: {error}");
        }
    }
}
