//! Reading a ledger that may be wrong: everything that is, not only the first.

use crate::{
    Charge, Entry, LedgerError, RatingInput, UsageInterval, charge::Progress, entry::Head,
    interval::Reader,
};
use std::collections::BTreeMap;
use types::{Money, PolicyIdentity, UsageId};

/// What a ledger says, and everything about it that cannot be right.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// All intervals, in the order they were opened.
    pub intervals: Vec<UsageInterval>,
    /// Whole seconds charged of each interval that has charges, without a gap from its opening.
    pub charged: BTreeMap<UsageId, u64>,
    /// Runs of an interval's charges by the same policy: what to ask that policy for to check the prices.
    pub segments: Vec<ChargedSegment>,
    /// What is wrong. After each, reading went on from what the record itself says.
    pub faults: Vec<LedgerError>,
}

/// An unbroken run of an interval's charges by the same policy, code and parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargedSegment {
    /// Who set its price.
    pub policy: PolicyIdentity,
    /// What the policy was asked to price.
    pub input: RatingInput,
    /// The sum of its charges.
    pub money: Money,
}

impl Audit {
    /// Reads these entries (in their order) and charges (in any order).
    pub fn of<'a>(
        entries: impl IntoIterator<Item = &'a Entry>,
        charges: impl IntoIterator<Item = &'a Charge>,
    ) -> Self {
        let mut audit = Self::default();
        let (mut head, mut reader) = (Head::default(), Reader::default());
        for entry in entries {
            head = head.advance(entry).unwrap_or_else(|fault| {
                audit.faults.push(fault);
                head.resumed_at(entry)
            });
            audit.faults.extend(reader.read(entry).err());
        }
        audit.intervals = reader.intervals;
        audit.read_charges(charges.into_iter().collect());
        audit
    }

    fn read_charges(&mut self, mut charges: Vec<&Charge>) {
        charges.sort_by_key(|charge| (charge.interval, charge.from, charge.id));
        let known: BTreeMap<UsageId, &UsageInterval> = self
            .intervals
            .iter()
            .map(|interval| (interval.id, interval))
            .collect();
        for run in charges.chunk_by(|a, b| a.interval == b.interval) {
            let Some(interval) = known.get(&run[0].interval) else {
                let unknown =
                    |charge: &&Charge| misfit(charge, "the interval is unknown".to_owned());
                self.faults.extend(run.iter().map(unknown));
                continue;
            };
            let mut progress = Progress::default();
            for charge in run {
                let reached = progress.seconds;
                if let Err(what) = fits(&mut progress, interval, charge) {
                    self.faults.push(misfit(charge, what));
                    if !progress.resume_after(interval, charge) {
                        continue;
                    }
                }
                take(&mut self.segments, interval, charge, reached);
            }
            self.charged.insert(interval.id, progress.seconds);
        }
    }
}

fn misfit(charge: &Charge, what: String) -> LedgerError {
    LedgerError::Misfit {
        charge: charge.id,
        interval: charge.interval,
        what,
    }
}

fn fits(progress: &mut Progress, interval: &UsageInterval, charge: &Charge) -> Result<(), String> {
    let expected = progress.next_id(interval);
    progress.record(interval, charge)?;
    let key = interval.usage.key();
    if (&key.resource, &key.meter) != (&charge.resource, &charge.meter) {
        let (meter, resource) = (&charge.meter, &charge.resource);
        return Err(format!(
            "it says it is for {meter} of {resource}, the interval is {key}"
        ));
    }
    if charge.id != expected {
        return Err(format!("the charge from there on has the id {expected}"));
    }
    Ok(())
}

/// Adds `charge`, which begins `start` seconds after the opening, to the segment it continues or begins.
fn take(segments: &mut Vec<ChargedSegment>, interval: &UsageInterval, charge: &Charge, start: u64) {
    let policy = charge.identity();
    let last = segments
        .last_mut()
        .filter(|last| last.input.interval == interval.id && last.policy == policy);
    if let Some(last) = last
        && let Ok(money) = last.money.checked_add(charge.money)
    {
        last.money = money;
        last.input.seconds = last.input.seconds.saturating_add(charge.seconds);
        return;
    }
    segments.push(ChargedSegment {
        policy,
        input: RatingInput {
            interval: interval.id,
            usage: interval.usage.clone(),
            from: interval.point(start),
            seconds: charge.seconds,
        },
        money: charge.money,
    });
}
