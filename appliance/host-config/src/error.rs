//! What is wrong with a configuration, with the line it is in.

use std::fmt;

/// Characters of a line that are shown.
const SHOWN: usize = 120;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; none if the text as a whole is meant.
    pub line: Option<usize>,
    /// Column, from 1.
    pub column: usize,
    /// The line's text.
    pub text: String,
    /// The path of the key it is about: `network.interface[0].name`; empty if no key is meant.
    pub key: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// A configuration that is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// Where the text came from, for people.
    pub origin: String,
    /// All that is wrong, at least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn whole(origin: &str, message: impl Into<String>) -> Self {
        Self {
            origin: origin.to_owned(),
            problems: vec![Problem {
                line: None,
                column: 1,
                text: String::new(),
                key: String::new(),
                message: message.into(),
            }],
        }
    }

    /// The first problem in one line.
    #[must_use]
    pub fn short(&self) -> String {
        let Some(problem) = self.problems.first() else {
            return self.origin.clone();
        };
        let place = problem.line.map_or_else(
            || self.origin.clone(),
            |line| format!("{} line {line}", self.origin),
        );
        let more = match self.problems.len() {
            0 | 1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        format!("{place}: {}{more}", problem.message)
    }
}

impl Problem {
    /// The problem at a byte of the text.
    pub(crate) fn at(text: &str, offset: usize, key: &str, message: impl Into<String>) -> Self {
        let offset = (0..=offset.min(text.len()))
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or_default();
        let before = &text[..offset];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        Self {
            line: Some(before.matches('\n').count() + 1),
            column: text[start..offset].chars().count() + 1,
            text: line
                .chars()
                .take(SHOWN)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            key: key.to_owned(),
            message: message.into(),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let Some(line) = problem.line else {
                write!(f, "{}: {}", self.origin, problem.message)?;
                continue;
            };
            let number = line.to_string();
            let space = " ".repeat(number.len());
            write!(
                f,
                "{}:{line}:{}: {}\n{space} |\n{number} | {}\n{space} | {}^{}{}",
                self.origin,
                problem.column,
                problem.message,
                problem.text,
                " ".repeat(problem.column.saturating_sub(1).min(SHOWN)),
                if problem.key.is_empty() { "" } else { " " },
                problem.key,
            )?;
        }
        Ok(())
    }
}
