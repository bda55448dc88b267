//! The ledger's state: the end of the chain, what is open, and how far everything is charged.

use crate::{
    Change, Charge, Entry, Event, Rater, UsageInterval, UsageKey, charge::Progress, entry::Head,
    rating::Due,
};
use std::collections::BTreeMap;
use types::{PolicyFailure, Sha256Digest, Timestamp, UsageId};

/// A change the ledger does not take, or a record that cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Usage was to be opened that is open.
    #[error("{0} is already open in the usage ledger")]
    AlreadyOpen(UsageKey),
    /// Usage was to be closed that isn't open.
    #[error("{0} is not open in the usage ledger")]
    NotOpen(UsageKey),
    /// An entry closes an interval that isn't open.
    #[error("interval {0} is closed in the usage ledger without being open")]
    UnknownInterval(UsageId),
    /// The chain is broken here.
    #[error("entry {sequence} of the usage ledger was altered or entries are missing: {what}")]
    Altered {
        /// What the entry says its number is.
        sequence: u64,
        /// How it shows.
        what: String,
    },
    /// A charge does not follow on the charges before it.
    #[error("charge {charge} for interval {interval} does not fit the usage ledger: {what}")]
    Misfit {
        /// The charge's id.
        charge: types::ChargeId,
        /// The interval it is for.
        interval: UsageId,
        /// What doesn't fit.
        what: String,
    },
    /// An entry has no canonical bytes.
    #[error("entry {sequence} of the usage ledger cannot be written: {why}")]
    Unwritable {
        /// The entry's number.
        sequence: u64,
        /// Why.
        why: String,
    },
}

/// What must be known to go on: not the history, only what is not settled yet.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    head: Head,
    open: BTreeMap<UsageKey, UsageId>,
    /// Every interval that is open or has whole seconds not charged yet.
    unsettled: BTreeMap<UsageId, (UsageInterval, Progress)>,
}

impl Ledger {
    /// The state after these entries (in their order) and charges (in any order).
    ///
    /// # Errors
    /// [`LedgerError`] for the first record that is altered, missing, or there twice.
    pub fn replay<'a>(
        entries: impl IntoIterator<Item = &'a Entry>,
        charges: impl IntoIterator<Item = &'a Charge>,
    ) -> Result<Self, LedgerError> {
        let mut ledger = Self::default();
        for entry in entries {
            ledger.append(entry)?;
        }
        let mut charges: Vec<&Charge> = charges.into_iter().collect();
        charges.sort_by_key(|charge| (charge.interval, charge.from));
        for charge in charges {
            ledger.record(charge)?;
        }
        Ok(ledger)
    }

    /// Digest of the last entry; 32 zero bytes when there is none. Who keeps it can tell later whether the history was
    /// rewritten.
    #[must_use]
    pub fn head(&self) -> Sha256Digest {
        self.head.digest
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.head.next
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The open interval of that key.
    #[must_use]
    pub fn open_interval(&self, key: &UsageKey) -> Option<&UsageInterval> {
        let id = self.open.get(key)?;
        self.unsettled.get(id).map(|(interval, _)| interval)
    }

    /// The interval of that id, if it is open or not wholly charged.
    #[must_use]
    pub fn interval(&self, id: UsageId) -> Option<&UsageInterval> {
        self.unsettled.get(&id).map(|(interval, _)| interval)
    }

    /// Intervals that are open or not wholly charged.
    pub fn unsettled(&self) -> impl Iterator<Item = &UsageInterval> {
        self.unsettled.values().map(|(interval, _)| interval)
    }

    /// The entries for `changes`, all at `now`, ready to be stored with what caused them; then [`append`](Self::append) each. Nothing
    /// changes here.
    ///
    /// # Errors
    /// [`LedgerError::AlreadyOpen`] or [`LedgerError::NotOpen`].
    pub fn prepare(
        &self,
        changes: impl IntoIterator<Item = Change>,
        now: Timestamp,
    ) -> Result<Vec<Entry>, LedgerError> {
        let mut head = self.head;
        // What these changes themselves opened (the interval) or closed (nothing).
        let mut changed: BTreeMap<UsageKey, Option<UsageId>> = BTreeMap::new();
        let mut entries = Vec::new();
        for change in changes {
            let key = match &change {
                Change::Open(usage) => usage.key(),
                Change::Close(key) => key.clone(),
            };
            let before = self.open.get(&key).copied();
            let open = changed.get(&key).copied().unwrap_or(before);
            let entry = match (change, open) {
                (Change::Open(usage), None) => head.link(Event::Opened { usage }, now, None)?,
                (Change::Close(_), Some(interval)) => {
                    let charged = self.unsettled.get(&interval);
                    let charged =
                        charged.map(|(interval, progress)| interval.point(progress.seconds));
                    head.link(Event::Closed { interval }, now, charged)?
                }
                (Change::Open(_), Some(_)) => return Err(LedgerError::AlreadyOpen(key)),
                (Change::Close(_), None) => return Err(LedgerError::NotOpen(key)),
            };
            head = head.advance(&entry)?;
            let opened = matches!(entry.event, Event::Opened { .. }).then(|| entry.id());
            changed.insert(key, opened);
            entries.push(entry);
        }
        Ok(entries)
    }

    /// Takes over a stored entry. Nothing changes on an error.
    ///
    /// # Errors
    /// [`LedgerError`] when it does not follow on the last one.
    pub fn append(&mut self, entry: &Entry) -> Result<(), LedgerError> {
        let head = self.head.advance(entry)?;
        match &entry.event {
            Event::Opened { usage } => {
                let (id, key) = (entry.id(), usage.key());
                if self.open.contains_key(&key) {
                    return Err(LedgerError::AlreadyOpen(key));
                }
                self.open.insert(key, id);
                let interval = UsageInterval {
                    id,
                    usage: usage.clone(),
                    from: entry.time,
                    to: None,
                };
                self.unsettled.insert(id, (interval, Progress::default()));
            }
            Event::Closed { interval: id } => {
                let open = self.unsettled.get_mut(id);
                let Some((interval, _)) = open.filter(|(interval, _)| interval.to.is_none()) else {
                    return Err(LedgerError::UnknownInterval(*id));
                };
                interval.to = Some(entry.time);
                let key = interval.usage.key();
                self.open.remove(&key);
                self.forget_if_settled(*id);
            }
        }
        self.head = head;
        Ok(())
    }

    /// The metering tick, and the settlement of what was closed: charges for every whole second up to `now` that is not
    /// charged yet, ready to be stored; then [`record`](Self::record) each. Nothing changes here.
    ///
    /// # Errors
    /// [`PolicyFailure`] when even the built-in prices give no amount that can be charged. Nothing is lost: the seconds are
    /// due at the next tick.
    pub fn rate(&self, rater: &Rater, now: Timestamp) -> Result<Vec<Charge>, PolicyFailure> {
        self.rate_where(rater, now, |_| true)
    }

    /// As [`rate`](Self::rate), of some of the intervals: for who has different policies set the prices of different resources.
    ///
    /// # Errors
    /// As for `rate`.
    pub fn rate_where(
        &self,
        rater: &Rater,
        now: Timestamp,
        which: impl Fn(&UsageInterval) -> bool,
    ) -> Result<Vec<Charge>, PolicyFailure> {
        let due: Vec<Due<'_>> = self
            .unsettled
            .values()
            .filter(|(interval, _)| which(interval))
            .map(|(interval, progress)| Due {
                interval,
                progress,
                seconds: interval.seconds(now),
            })
            .filter(|due| due.seconds > due.progress.seconds)
            .collect();
        rater.charges(&due)
    }

    /// Takes over a stored charge. Nothing changes on an error.
    ///
    /// # Errors
    /// [`LedgerError::Misfit`] when it charges seconds that are charged already, leaves some out or runs past the interval.
    pub fn record(&mut self, charge: &Charge) -> Result<(), LedgerError> {
        let misfit = |what: String| LedgerError::Misfit {
            charge: charge.id,
            interval: charge.interval,
            what,
        };
        let Some((interval, progress)) = self.unsettled.get_mut(&charge.interval) else {
            return Err(misfit(
                "the interval is unknown or wholly charged".to_owned(),
            ));
        };
        progress.record(interval, charge).map_err(misfit)?;
        self.forget_if_settled(charge.interval);
        Ok(())
    }

    /// Drops a closed interval all of whose whole seconds are charged.
    fn forget_if_settled(&mut self, id: UsageId) {
        let settled = |(interval, progress): &(UsageInterval, Progress)| {
            let end = interval.to;
            end.is_some_and(|end| interval.seconds(end) <= progress.seconds)
        };
        if self.unsettled.get(&id).is_some_and(settled) {
            self.unsettled.remove(&id);
        }
    }
}
