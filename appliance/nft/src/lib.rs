//! Puts a [`Ruleset`] into force in a network namespace: one `inet` table, one transaction.
//!
//! ```text
//! Ruleset ─▶ desired State ─┐
//! nft list table ─▶ State ──┴─ difference ─▶ one `nft -j -f -` transaction (or none, when nothing differs)
//! ```
//!
//! Each rule carries a digest of itself as its comment, so that what is in force can be compared with what should be
//! without understanding how nft prints a rule. Only the chains, sets and elements that differ are touched; connection
//! tracking is not, so established connections survive every change.
//!
//! All functions block (they run the `nft` tool, some milliseconds); call them off the async threads. This crate decides
//! nothing about packets.

#![forbid(unsafe_code)]

mod error;
mod json;
mod state;
mod tool;

pub use error::Error;
pub use security_group::Ruleset;

use std::ffi::OsString;
use std::os::fd::AsFd;

use state::State;

/// What [`Table::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Everything was in force already.
    Unchanged,
    /// One transaction with this many commands.
    Updated {
        /// Chains, sets, rules and lists of elements added or removed.
        commands: usize,
    },
}

/// One table of the family `inet`, by name, in whatever namespace a call names.
#[derive(Debug, Clone)]
pub struct Table {
    name: String,
    tool: OsString,
}

impl Table {
    /// The table with this name: letters, digits and `_`, at most 32.
    ///
    /// # Errors
    /// When the name is another.
    pub fn new(name: &str) -> Result<Self, Error> {
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if name.is_empty() || name.len() > 32 || !plain || name.as_bytes()[0].is_ascii_digit() {
            return Err(Error::TableName {
                name: name.to_owned(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            tool: tool::default_path(),
        })
    }

    /// Runs this executable instead of the `nft` found on the host.
    #[must_use]
    pub fn with_tool(mut self, path: impl Into<OsString>) -> Self {
        self.tool = path.into();
        self
    }

    /// Makes `ruleset` be in force in the namespace, whatever was there before, in one transaction. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// When the tool is missing, the namespace cannot be entered, or the kernel refuses (it names what); the rules in
    /// force are then those from before.
    pub fn apply(&self, namespace: impl AsFd, ruleset: &Ruleset) -> Result<Change, Error> {
        let held = self.read(&namespace)?;
        self.transact(&namespace, held.as_ref(), &State::of(ruleset))
    }

    /// As [`Table::apply`], trusting that exactly `held` is in force, which saves reading it back. If it is not, the
    /// kernel may refuse; then apply in full.
    ///
    /// # Errors
    /// As [`Table::apply`].
    pub fn apply_over(
        &self,
        namespace: impl AsFd,
        held: &Ruleset,
        ruleset: &Ruleset,
    ) -> Result<Change, Error> {
        self.transact(&namespace, Some(&State::of(held)), &State::of(ruleset))
    }

    /// Whether exactly `ruleset` is in force.
    ///
    /// # Errors
    /// When the tool is missing or the namespace cannot be entered.
    pub fn is_in_force(&self, namespace: impl AsFd, ruleset: &Ruleset) -> Result<bool, Error> {
        Ok(self
            .read(&namespace)?
            .is_some_and(|held| held == State::of(ruleset)))
    }

    /// Removes the table; `false` when there was none.
    ///
    /// # Errors
    /// When the tool is missing, the namespace cannot be entered, or the kernel refuses.
    pub fn remove(&self, namespace: impl AsFd) -> Result<bool, Error> {
        if self.read(&namespace)?.is_none() {
            return Ok(false);
        }
        tool::run(
            &self.tool,
            namespace.as_fd(),
            Some(&json::delete_table(&self.name)),
        )?;
        Ok(true)
    }

    fn read(&self, namespace: &impl AsFd) -> Result<Option<State>, Error> {
        match tool::list(&self.tool, namespace.as_fd(), &self.name)? {
            Some(text) => State::read(&text).map(Some),
            None => Ok(None),
        }
    }

    fn transact(
        &self,
        namespace: &impl AsFd,
        held: Option<&State>,
        wanted: &State,
    ) -> Result<Change, Error> {
        let commands = wanted.commands(&self.name, held);
        if commands.is_empty() {
            return Ok(Change::Unchanged);
        }
        let count = commands.len();
        tool::run(
            &self.tool,
            namespace.as_fd(),
            Some(&json::transaction(commands)),
        )?;
        Ok(Change::Updated { commands: count })
    }
}
