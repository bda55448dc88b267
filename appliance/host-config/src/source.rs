//! Which configuration is in force, of those that were found.
//!
//! A pushed one comes first, until it is reset or the host is flashed with another file: then that was meant to count. Then, in
//! this order: the file written when flashing, one on a volume brought along, the kernel's command line, a URL. One that is
//! wrong is not used and its problems are told; the last one that was good is used instead, and without that the defaults.

use std::fmt;

use types::Sha256Digest;

use crate::{ConfigError, HostConfig, parse};

/// The texts that were found.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    /// Written when flashing.
    pub flashed: Option<String>,
    /// On a volume brought along.
    pub volume: Option<String>,
    /// From the kernel's command line.
    pub command_line: Option<String>,
    /// From a URL.
    pub url: Option<String>,
    /// Pushed over the API.
    pub pushed: Option<String>,
    /// Digest of the flashed one when that was pushed.
    pub flashed_at_push: Option<Sha256Digest>,
    /// The last that was in force and good.
    pub last_good: Option<String>,
}

/// Where a configuration came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Pushed over the API.
    Pushed,
    /// Written when flashing.
    Flashed,
    /// On a volume brought along.
    Volume,
    /// The kernel's command line.
    CommandLine,
    /// A URL.
    Url,
    /// The last that was good, because the one meant is wrong.
    LastGood,
    /// Nobody wrote one.
    Defaults,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Pushed => "the pushed configuration",
            Self::Flashed => "the configuration written when flashing",
            Self::Volume => "the configuration volume",
            Self::CommandLine => "the kernel's command line",
            Self::Url => "the configuration's URL",
            Self::LastGood => "the last configuration that was good",
            Self::Defaults => "the defaults",
        })
    }
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// What it says.
    pub config: HostConfig,
    /// Where it came from.
    pub source: Source,
    /// Its text, if somebody wrote it.
    pub text: Option<String>,
    /// Why the one that was meant is not used.
    pub error: Option<ConfigError>,
}

/// Decides.
#[must_use]
pub fn choose(candidates: &Candidates) -> Chosen {
    let flashed_now = candidates
        .flashed
        .as_ref()
        .map(|text| Sha256Digest::of(text.as_bytes()));
    let pushed = candidates
        .pushed
        .as_ref()
        .filter(|_| candidates.flashed_at_push == flashed_now);
    let meant = [
        (Source::Pushed, pushed),
        (Source::Flashed, candidates.flashed.as_ref()),
        (Source::Volume, candidates.volume.as_ref()),
        (Source::CommandLine, candidates.command_line.as_ref()),
        (Source::Url, candidates.url.as_ref()),
    ];
    let meant = meant
        .into_iter()
        .find_map(|(source, text)| Some((source, text?)));
    let mut error = None;
    if let Some((source, text)) = meant {
        match parse(text, &source.to_string()) {
            Ok(config) => return chosen(config, source, Some(text), None),
            Err(found) => error = Some(found),
        }
        if let Some(text) = &candidates.last_good
            && let Ok(config) = parse(text, "")
        {
            return chosen(config, Source::LastGood, Some(text), error);
        }
    }
    chosen(HostConfig::default(), Source::Defaults, None, error)
}

fn chosen(
    config: HostConfig,
    source: Source,
    text: Option<&String>,
    error: Option<ConfigError>,
) -> Chosen {
    Chosen {
        config,
        source,
        text: text.cloned(),
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Option<String> {
        Some(format!("version = 1\nhostname = \"{name}\"\n"))
    }

    fn check(candidates: &Candidates, source: Source, name: Option<&str>, wrong: bool) {
        let chosen = choose(candidates);
        assert_eq!(chosen.source, source, "{candidates:?}");
        assert_eq!(chosen.config.hostname.as_deref(), name);
        assert_eq!(chosen.error.is_some(), wrong);
    }

    #[test]
    fn the_first_of_the_order_counts() {
        let mut all = Candidates {
            flashed: named("flashed"),
            volume: named("volume"),
            command_line: named("line"),
            url: named("url"),
            ..Candidates::default()
        };
        check(&all, Source::Flashed, Some("flashed"), false);
        all.flashed = None;
        check(&all, Source::Volume, Some("volume"), false);
        all.volume = None;
        check(&all, Source::CommandLine, Some("line"), false);
        all.command_line = None;
        check(&all, Source::Url, Some("url"), false);
        check(&Candidates::default(), Source::Defaults, None, false);
    }

    #[test]
    fn a_pushed_one_counts_until_another_is_flashed() {
        let mut all = Candidates {
            flashed: named("flashed"),
            pushed: named("pushed"),
            flashed_at_push: named("flashed").map(|text| Sha256Digest::of(text.as_bytes())),
            ..Candidates::default()
        };
        check(&all, Source::Pushed, Some("pushed"), false);
        all.flashed = named("anew");
        check(&all, Source::Flashed, Some("anew"), false);
    }

    #[test]
    fn a_wrong_one_falls_back_to_the_last_good_and_says_so() {
        let mut all = Candidates {
            flashed: Some("version = 1\nhostnam = 1\n".into()),
            last_good: named("good"),
            ..Candidates::default()
        };
        check(&all, Source::LastGood, Some("good"), true);
        all.last_good = None;
        check(&all, Source::Defaults, None, true);
    }
}
