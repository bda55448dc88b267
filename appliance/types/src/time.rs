//! Points in time, to the millisecond, always UTC.

use crate::{ParseError, serde_as_text};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z. Its text is RFC 3339 with three decimals and `Z`.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch; `None` outside the years −9999 to 9999.
    #[must_use]
    pub fn from_unix_millis(millis: i64) -> Option<Self> {
        jiff::Timestamp::from_millisecond(millis)
            .ok()
            .map(|_| Self(millis))
    }

    /// From the system's clock as the caller read it; what is out of range becomes the epoch.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let millis = time
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok());
        millis.and_then(Self::from_unix_millis).unwrap_or_default()
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or_default())
    }

    /// That much later (whole milliseconds count); `None` past the year 9999.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let millis = i64::try_from(duration.as_millis()).ok()?;
        Self::from_unix_millis(self.0.checked_add(millis)?)
    }

    /// That much earlier (whole milliseconds count); `None` before the year −9999.
    #[must_use]
    pub fn checked_sub(self, duration: Duration) -> Option<Self> {
        let millis = i64::try_from(duration.as_millis()).ok()?;
        Self::from_unix_millis(self.0.checked_sub(millis)?)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In range by construction.
        let time = jiff::Timestamp::from_millisecond(self.0).unwrap_or_default();
        f.pad(&format!("{time:.3}"))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = ParseError;

    /// Reads RFC 3339 with any offset; what is finer than a millisecond is cut off.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let time: jiff::Timestamp = text.parse().map_err(|_| {
            ParseError::new(
                "a time",
                "RFC 3339 with an offset, such as 2026-01-31T12:00:00.000Z",
                text,
            )
        })?;
        Ok(Self(time.as_millisecond()))
    }
}

serde_as_text!(Timestamp);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_rfc_3339() {
        for (text, written) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z"),
            ("2026-01-31T12:00:00.123456Z", "2026-01-31T12:00:00.123Z"),
            ("2026-01-31T12:00:00+08:00", "2026-01-31T04:00:00.000Z"),
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(time.to_string(), written);
            assert_eq!(written.parse::<Timestamp>().unwrap(), time);
        }
        for bad in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-01-31T12:00:00",
            "2026-13-31T12:00:00Z",
        ] {
            assert!(
                bad.parse::<Timestamp>()
                    .unwrap_err()
                    .to_string()
                    .contains("RFC 3339"),
                "{bad}"
            );
        }
    }

    #[test]
    fn arithmetic_stays_in_range() {
        let start = Timestamp::UNIX_EPOCH;
        let later = start.checked_add(Duration::from_millis(1500)).unwrap();
        assert_eq!(later.saturating_since(start), Duration::from_millis(1500));
        assert_eq!(start.saturating_since(later), Duration::ZERO);
        assert_eq!(start.checked_add(Duration::MAX), None);
        assert_eq!(later.checked_sub(Duration::from_millis(1500)), Some(start));
        assert_eq!(start.checked_sub(Duration::MAX), None);
        assert_eq!(Timestamp::from_unix_millis(i64::MAX), None);
    }
}
