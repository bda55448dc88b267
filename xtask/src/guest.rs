//! A probe that runs as an instance, driven over its console: a statement is typed, and its answers are read.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host::Host;

/// Numbers of statements, so that an answer is never taken for another statement's.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One line of the probe: its event and what it says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `connect`, `disk-write`, …
    pub name: String,
    values: BTreeMap<String, String>,
}

impl Event {
    /// Reads `probe: NAME key=value key="a b" …`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim().strip_prefix("probe: ")?;
        let (name, mut rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut values = BTreeMap::new();
        while let Some((key, value)) = rest.trim_start().split_once('=') {
            let (value, after) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(' ').unwrap_or((value, "")),
            };
            values.insert(key.to_owned(), value.to_owned());
            rest = after;
        }
        Some(Self {
            name: name.to_owned(),
            values,
        })
    }

    /// What it says of `key`.
    pub fn get(&self, key: &str) -> Result<&str> {
        let value = self.values.get(key);
        Ok(
            value
                .with_context(|| format!("the probe's `{}` says nothing of `{key}`", self.name))?,
        )
    }

    /// The number it says of `key`.
    pub fn number(&self, key: &str) -> Result<u64> {
        let text = self.get(key)?;
        text.parse()
            .with_context(|| format!("the probe's `{key}={text}` is no number"))
    }
}

/// A running probe.
pub struct Guest<'a> {
    host: &'a Host,
    id: &'a str,
}

impl<'a> Guest<'a> {
    /// The probe that is instance `id`.
    #[must_use]
    pub fn new(host: &'a Host, id: &'a str) -> Self {
        Self { host, id }
    }

    /// Types a statement and returns what the probe answered; an error when it could not do it, or not within `limit`.
    pub fn tell(&self, statement: &str, limit: Duration) -> Result<Vec<Event>> {
        let tag = format!("x{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let output = self
            .console(&[
                "--send",
                &format!("@{tag} {statement}\\n"),
                "--wait-for",
                &format!("probe: (done|error) seq=[0-9]+ tag={tag} [^\\n]*\\n"),
                "--timeout",
                &limit.as_secs().max(1).to_string(),
            ])
            .with_context(|| format!("`{statement}` got no answer from {}", self.id))?;
        let mut events = Vec::new();
        for event in output.lines().filter_map(Event::parse) {
            if event.values.get("tag").is_none_or(|found| *found != tag) {
                events.push(event);
                continue;
            }
            if event.name == "error" {
                bail!(
                    "{} cannot do `{statement}`: {}",
                    self.id,
                    event.get("reason")?
                );
            }
            break;
        }
        Ok(events)
    }

    /// The one answer of that name to a statement.
    pub fn ask(&self, statement: &str, name: &str, limit: Duration) -> Result<Event> {
        let events = self.tell(statement, limit)?;
        let event = events.into_iter().rev().find(|event| event.name == name);
        event.with_context(|| format!("{} answered `{statement}` without `{name}`", self.id))
    }

    /// Waits until the console has shown what `regex` matches; returns everything up to it.
    pub fn wait_for(&self, regex: &str, limit: Duration) -> Result<String> {
        self.console(&[
            "--wait-for",
            regex,
            "--timeout",
            &limit.as_secs().max(1).to_string(),
        ])
    }

    /// Everything the console still has.
    pub fn transcript(&self) -> Result<String> {
        self.console(&["--no-follow"])
    }

    fn console(&self, args: &[&str]) -> Result<String> {
        self.host
            .ashlar()
            .args(["console", self.id])
            .args(args)
            .read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_with_quoted_values() {
        let event =
            Event::parse("probe: error seq=4 command=\"fly high\" reason=\"no wings\"\r").unwrap();
        assert_eq!(event.name, "error");
        assert_eq!(event.number("seq").unwrap(), 4);
        assert_eq!(event.get("command").unwrap(), "fly high");
        assert_eq!(event.get("reason").unwrap(), "no wings");
        assert!(event.get("tag").is_err());
        assert_eq!(
            Event::parse("probe: script-end").unwrap().name,
            "script-end"
        );
        assert_eq!(Event::parse("guest: boot"), None);
    }
}
