//! From entries to intervals.

use crate::{Entry, Event, LedgerError, Usage, UsageKey, entry::Head};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use types::{Timestamp, UsageId};

/// Usage from its opening to its closing, or still open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageInterval {
    /// The id of the opening entry.
    pub id: UsageId,
    /// Of what.
    #[serde(flatten)]
    pub usage: Usage,
    /// When it was opened.
    pub from: Timestamp,
    /// When it was closed; `None` while it is open.
    pub to: Option<Timestamp>,
}

impl UsageInterval {
    /// Whole seconds it lasted, or has lasted until `now` if it is open; what is over is cut off.
    #[must_use]
    pub fn seconds(&self, now: Timestamp) -> u64 {
        self.to.unwrap_or(now).saturating_since(self.from).as_secs()
    }

    /// The point that many seconds after the opening.
    pub(crate) fn point(&self, seconds: u64) -> Timestamp {
        // Seconds are counted between two points in range, so the sum is in range too.
        let point = self.from.checked_add(Duration::from_secs(seconds));
        point.unwrap_or(self.from)
    }
}

/// All intervals of a ledger, in the order they were opened, with the chain verified on the way.
///
/// # Errors
/// [`LedgerError`] for the first entry that is altered or missing, opens what is open or closes what isn't.
pub fn intervals<'a>(
    entries: impl IntoIterator<Item = &'a Entry>,
) -> Result<Vec<UsageInterval>, LedgerError> {
    let (mut head, mut reader) = (Head::default(), Reader::default());
    for entry in entries {
        head = head.advance(entry)?;
        reader.read(entry)?;
    }
    Ok(reader.intervals)
}

/// Intervals as far as they were read.
#[derive(Default)]
pub(crate) struct Reader {
    pub intervals: Vec<UsageInterval>,
    open: Open,
}

impl Reader {
    /// Takes `entry` in. What opens although it is open is an interval too.
    pub(crate) fn read(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        match &entry.event {
            Event::Opened { usage } => {
                let position = self.intervals.len();
                self.intervals.push(UsageInterval {
                    id: entry.id(),
                    usage: usage.clone(),
                    from: entry.time,
                    to: None,
                });
                self.open.insert(usage.key(), entry.id(), position)
            }
            Event::Closed { interval } => {
                let position = self.open.remove(interval)?;
                self.intervals[position].to = Some(entry.time);
                Ok(())
            }
        }
    }
}

/// Positions of the open intervals, by id, and which key each of them occupies.
#[derive(Default)]
struct Open {
    by_id: BTreeMap<UsageId, (UsageKey, usize)>,
    by_key: BTreeMap<UsageKey, UsageId>,
}

impl Open {
    fn insert(&mut self, key: UsageKey, id: UsageId, position: usize) -> Result<(), LedgerError> {
        self.by_id.insert(id, (key.clone(), position));
        match self.by_key.insert(key.clone(), id) {
            Some(_) => Err(LedgerError::AlreadyOpen(key)),
            None => Ok(()),
        }
    }

    fn remove(&mut self, id: &UsageId) -> Result<usize, LedgerError> {
        let (key, position) = self
            .by_id
            .remove(id)
            .ok_or(LedgerError::UnknownInterval(*id))?;
        if self.by_key.get(&key) == Some(id) {
            self.by_key.remove(&key);
        }
        Ok(position)
    }
}
