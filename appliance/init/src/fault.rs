//! What is wrong with a host, in words for whoever has to mend it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One thing that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What: `configuration`, `data`, `network`, …
    pub what: String,
    /// What is wrong with it.
    pub message: String,
    /// What to do about it.
    pub next_step: String,
}

impl Fault {
    /// A fault.
    #[must_use]
    pub fn new(what: &str, message: impl fmt::Display, next_step: &str) -> Self {
        Self {
            what: what.to_owned(),
            message: message.to_string(),
            next_step: next_step.to_owned(),
        }
    }

    /// A fault because of an error, with all that is behind it.
    #[must_use]
    pub fn because(what: &str, error: &dyn std::error::Error, next_step: &str) -> Self {
        Self::new(what, chain(error), next_step)
    }
}

impl From<&boot_disk::DiskError> for Fault {
    fn from(error: &boot_disk::DiskError) -> Self {
        Self::because("disk", error, error.next_step())
    }
}

/// A mistake in the first process itself, which a panic tells of.
pub(crate) fn of_panic(panic: &(dyn std::any::Any + Send)) -> Fault {
    let said = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Fault::new(
        "first process",
        format!("a mistake in this image: {}", said.unwrap_or("no words")),
        "Report it with what is on this screen. Reboot, or go back to the previous slot, if something does not work.",
    )
}

/// An error and all that is behind it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// The faults of a host: one for each thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes one, in place of what was said of the same thing before. Whether that is new.
    pub fn set(&mut self, fault: Fault) -> bool {
        match self.0.iter_mut().find(|other| other.what == fault.what) {
            Some(other) if *other == fault => false,
            Some(other) => {
                *other = fault;
                true
            }
            None => {
                self.0.push(fault);
                true
            }
        }
    }

    /// The thing works. Whether it did not before.
    pub fn clear(&mut self, what: &str) -> bool {
        let count = self.0.len();
        self.0.retain(|fault| fault.what != what);
        self.0.len() != count
    }

    pub fn all(&self) -> &[Fault] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_fault_for_each_thing() {
        let mut faults = Faults::default();
        assert!(faults.set(Fault::new("network", "no carrier", "plug in")));
        assert!(!faults.set(Fault::new("network", "no carrier", "plug in")));
        assert!(faults.set(Fault::new("network", "no address", "ask")));
        assert_eq!(faults.all().len(), 1);
        assert!(faults.clear("network") && !faults.clear("network"));
    }

    #[test]
    fn a_panic_is_told_in_its_own_words() {
        let panic = std::panic::catch_unwind(|| panic!("slot {} is odd", 3)).unwrap_err();
        assert!(of_panic(panic.as_ref()).message.ends_with("slot 3 is odd"));
        let panic = std::panic::catch_unwind(|| panic!("plain")).unwrap_err();
        assert!(of_panic(panic.as_ref()).message.ends_with("plain"));
    }

    #[test]
    fn errors_are_told_with_what_is_behind_them() {
        let inner = std::io::Error::other("inner");
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        assert_eq!(chain(&Outer(inner)), "outer: inner");
    }
}
