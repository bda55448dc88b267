//! What the emulated machine's console says, as checks that passed or failed.

use anyhow::{Result, bail};

/// Collects marked lines: `PREFIX ok NAME …`, `PREFIX fail NAME …`, `PREFIX done`.
pub struct Report {
    prefix: &'static str,
    passed: Vec<String>,
    failed: Vec<String>,
    done: bool,
}

impl Report {
    /// An empty report for lines that start with `prefix`.
    pub fn new(prefix: &'static str) -> Self {
        Self {
            prefix,
            passed: Vec::new(),
            failed: Vec::new(),
            done: false,
        }
    }

    /// Takes one console line; returns what it says if it is a marked one.
    pub fn line<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let said = line
            .trim_end()
            .strip_prefix(self.prefix)?
            .strip_prefix(' ')?;
        // A guest's own report comes through its host's.
        let (scope, report) = match said.strip_prefix("guest ") {
            Some(report) => ("guest-", report),
            None => ("", said),
        };
        let mut words = report.split_whitespace();
        match (words.next(), words.next()) {
            (Some("ok"), Some(name)) => self.passed.push(format!("{scope}{name}")),
            (Some("fail"), _) => self.failed.push(said.to_owned()),
            (Some("done"), None) if scope.is_empty() => self.done = true,
            _ => {}
        }
        Some(said)
    }

    /// An error unless the machine got to its end, nothing failed, and every expected check was really made.
    pub fn verdict(&self, expected: &[&str]) -> Result<()> {
        if !self.failed.is_empty() {
            bail!("failed inside the machine: {}", self.failed.join("; "));
        }
        let missing: Vec<&str> = expected
            .iter()
            .filter(|name| !self.passed.iter().any(|passed| passed == *name))
            .copied()
            .collect();
        if !missing.is_empty() {
            bail!(
                "never reported from inside the machine: {}",
                missing.join(", ")
            );
        }
        if !self.done {
            bail!("the machine ended before its checks did");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::new("LAB");
        for line in lines {
            report.line(line);
        }
        report
    }

    #[test]
    fn all_that_was_expected_must_have_passed() {
        let all = [
            "noise",
            "LAB ok a 1",
            "LAB guest ok b",
            "LAB guest done",
            "LAB done",
        ];
        assert!(report(&all).verdict(&["a", "guest-b"]).is_ok());
        let error = report(&all).verdict(&["a", "b"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "never reported from inside the machine: b"
        );
        assert!(
            report(&all[..4]).verdict(&["a"]).is_err(),
            "the guest's end is not the host's"
        );
    }

    #[test]
    fn a_failure_is_quoted() {
        let error = report(&["LAB ok a", "LAB fail b: no such file", "LAB done"])
            .verdict(&["a"])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed inside the machine: fail b: no such file"
        );
    }
}
