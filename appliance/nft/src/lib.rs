//! Puts a [`Ruleset`] into force in a network namespace: one `inet` table, one transaction.
//!
//! ```text
//! Ruleset ────────▶ wanted State ─┐
//! netlink lists ──▶ held State ───┴─ difference ─▶ one nf_tables batch (or none, when nothing differs)
//! ```
//!
//! Speaks netlink with the kernel itself: no tool is run, an application takes a fraction of a millisecond, and a host
//! needs nothing but the kernel. The `nft` tool, where there is one, shows the table as usual.
//!
//! Each rule carries a digest of itself as its comment, so that what is in force can be compared with what should be
//! without translating it back. Only the chains, sets and elements that differ are touched; connection tracking is not,
//! so established connections survive every change.
//!
//! All functions block, though briefly. This crate decides nothing about packets.

#![forbid(unsafe_code)]

mod connections;
mod error;
mod expression;
mod socket;
mod state;
mod transaction;
mod wire;

pub use connections::forget_connections;
pub use error::Error;
pub use security_group::Ruleset;

use std::os::fd::AsFd;

use socket::Socket;
use state::State;
use transaction::Transaction;

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
        })
    }

    /// Makes `ruleset` be in force in the namespace, whatever was there before, in one transaction. Doing it again
    /// changes nothing.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or the kernel refuses (it names what); the rules in force are then those
    /// from before.
    pub fn apply(&self, namespace: impl AsFd, ruleset: &Ruleset) -> Result<Change, Error> {
        let socket = Socket::open(namespace.as_fd())?;
        let held = State::read(&socket, &self.name)?;
        let wanted = State::of(ruleset);
        self.run(
            &socket,
            &Transaction::between(&self.name, held.as_ref(), &wanted),
        )
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
        let socket = Socket::open(namespace.as_fd())?;
        let (held, wanted) = (State::of(held), State::of(ruleset));
        self.run(
            &socket,
            &Transaction::between(&self.name, Some(&held), &wanted),
        )
    }

    /// Whether exactly `ruleset` is in force.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel has no nf_tables.
    pub fn is_in_force(&self, namespace: impl AsFd, ruleset: &Ruleset) -> Result<bool, Error> {
        let socket = Socket::open(namespace.as_fd())?;
        Ok(State::read(&socket, &self.name)?.is_some_and(|held| held == State::of(ruleset)))
    }

    /// Removes the table; `false` when there was none.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the kernel refuses.
    pub fn remove(&self, namespace: impl AsFd) -> Result<bool, Error> {
        let socket = Socket::open(namespace.as_fd())?;
        if State::read(&socket, &self.name)?.is_none() {
            return Ok(false);
        }
        self.run(&socket, &Transaction::removal(&self.name))?;
        Ok(true)
    }

    fn run(&self, socket: &Socket, transaction: &Transaction<'_>) -> Result<Change, Error> {
        let commands = transaction.len();
        if commands == 0 {
            return Ok(Change::Unchanged);
        }
        match socket.transact(&transaction.messages())? {
            Ok(()) => Ok(Change::Updated { commands }),
            Err((number, errno)) => Err(state::refused(transaction.name(number), errno)),
        }
    }
}
