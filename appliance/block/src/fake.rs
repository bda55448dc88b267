//! A disk in memory that misbehaves on request: for tests of whatever stands above the seam.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    ChannelFull, Completion, ErrorKind, Geometry, IoChannel, Operation, Outcome, Segment, Token,
};

/// Access to guest memory as far as the fake needs it.
pub trait Memory {
    /// Copies out `buf.len()` bytes at guest address `address`; `None` if that is not memory.
    fn read(&self, address: u64, buf: &mut [u8]) -> Option<()>;
    /// Copies `buf` to guest address `address`; `None` if that is not memory.
    fn write(&mut self, address: u64, buf: &[u8]) -> Option<()>;
}

impl Memory for Vec<u8> {
    fn read(&self, address: u64, buf: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        buf.copy_from_slice(self.get(start..start.checked_add(buf.len())?)?);
        Some(())
    }

    fn write(&mut self, address: u64, buf: &[u8]) -> Option<()> {
        let start = usize::try_from(address).ok()?;
        self.get_mut(start..start.checked_add(buf.len())?)?
            .copy_from_slice(buf);
        Some(())
    }
}

/// What the fake does wrong, by the number of the submission (from 0).
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// These submissions fail without effect.
    pub fail: BTreeMap<u64, ErrorKind>,
    /// These reads and writes move only so many bytes and then fail with `EIO`.
    pub tear: BTreeMap<u64, u64>,
    /// Completions come out last-in, first-out.
    pub reorder: bool,
    /// At most this many completions come out of one `poll` or `wait`; 0 means all.
    pub trickle: usize,
    /// A power cut takes place after this many submissions: later ones fail, [`FakeChannel::after_power_cut`] tells what survived.
    pub cut_after: Option<u64>,
}

/// An [`IoChannel`] on a byte vector.
#[derive(Debug)]
pub struct FakeChannel<M> {
    geometry: Geometry,
    memory: M,
    /// What reads see.
    data: Vec<u8>,
    /// What a power cut leaves.
    stable: Vec<u8>,
    faults: Faults,
    submitted: u64,
    done: VecDeque<Completion>,
    capacity: usize,
}

const EIO: i32 = 5;

impl<M: Memory> FakeChannel<M> {
    /// A zeroed disk of the given geometry that holds at most `capacity` operations.
    pub fn new(geometry: Geometry, memory: M, capacity: usize, faults: Faults) -> Self {
        let bytes = usize::try_from(geometry.bytes()).unwrap_or(0);
        FakeChannel {
            geometry,
            memory,
            data: vec![0; bytes],
            stable: vec![0; bytes],
            faults,
            submitted: 0,
            done: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// The guest memory the channel works on.
    pub fn memory(&mut self) -> &mut M {
        &mut self.memory
    }

    /// The disk as reads see it.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The disk as a power cut now would leave it (none of the volatile writes made it).
    pub fn after_power_cut(&self) -> &[u8] {
        &self.stable
    }

    fn span(&self, offset: u64, len: u64) -> std::ops::Range<usize> {
        let at = |v: u64| usize::try_from(v).unwrap_or(usize::MAX);
        at(offset)..at(offset.saturating_add(len))
    }

    fn transfer(
        &mut self,
        offset: u64,
        segments: &[Segment],
        write: bool,
        limit: Option<u64>,
    ) -> Outcome {
        let mut left = limit.unwrap_or(u64::MAX);
        let mut position = offset;
        for segment in segments {
            let len = u64::from(segment.len).min(left);
            let span = self.span(position, len);
            let moved = if write {
                let mut buf = vec![0; span.len()];
                self.memory
                    .read(segment.address, &mut buf)
                    .map(|()| self.data[span].copy_from_slice(&buf))
            } else {
                self.memory.write(segment.address, &self.data[span])
            };
            if moved.is_none() {
                return Outcome::Failed(ErrorKind::BadAddress);
            }
            left -= len;
            position += len;
        }
        if limit.is_some() {
            Outcome::Failed(ErrorKind::Io(EIO))
        } else {
            Outcome::Done
        }
    }

    fn perform(&mut self, number: u64, operation: &Operation<'_>) -> Outcome {
        if self.faults.cut_after.is_some_and(|n| number >= n) {
            return Outcome::Failed(ErrorKind::Io(EIO));
        }
        if let Some(kind) = self.faults.fail.get(&number) {
            return Outcome::Failed(*kind);
        }
        if let Err(kind) = self.geometry.admit(operation) {
            return Outcome::Failed(kind);
        }
        let tear = self.faults.tear.get(&number).copied();
        match *operation {
            Operation::Read { offset, segments } => self.transfer(offset, segments, false, tear),
            Operation::Write {
                offset,
                segments,
                durable,
            } => {
                let outcome = self.transfer(offset, segments, true, tear);
                if durable && outcome == Outcome::Done {
                    let span = self.span(offset, Segment::total(segments));
                    self.stable[span.clone()].copy_from_slice(&self.data[span]);
                }
                outcome
            }
            Operation::Flush => {
                self.stable.copy_from_slice(&self.data);
                Outcome::Done
            }
            // A discarded range may read as anything; a recognisable pattern catches who relies on it.
            Operation::Discard { offset, len } => {
                let span = self.span(offset, len);
                self.data[span].fill(0xDC);
                Outcome::Done
            }
            Operation::WriteZeroes {
                offset,
                len,
                durable,
                ..
            } => {
                let span = self.span(offset, len);
                self.data[span.clone()].fill(0);
                if durable {
                    self.stable[span].fill(0);
                }
                Outcome::Done
            }
        }
    }
}

impl<M: Memory> IoChannel for FakeChannel<M> {
    fn submit(&mut self, token: Token, operation: &Operation<'_>) -> Result<(), ChannelFull> {
        if self.done.len() >= self.capacity {
            return Err(ChannelFull);
        }
        let outcome = self.perform(self.submitted, operation);
        self.submitted += 1;
        self.done.push_back(Completion { token, outcome });
        Ok(())
    }

    fn poll(&mut self, completions: &mut Vec<Completion>) {
        let count = if self.faults.trickle == 0 {
            usize::MAX
        } else {
            self.faults.trickle
        };
        for _ in 0..count.min(self.done.len()) {
            completions.extend(if self.faults.reorder {
                self.done.pop_back()
            } else {
                self.done.pop_front()
            });
        }
    }

    fn wait(&mut self, completions: &mut Vec<Completion>) {
        self.poll(completions);
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn channel(faults: Faults) -> FakeChannel<Vec<u8>> {
        FakeChannel::new(Geometry::of_sectors(16), vec![7; 8192], 8, faults)
    }

    fn run(channel: &mut FakeChannel<Vec<u8>>, operation: &Operation<'_>) -> Outcome {
        channel.submit(Token(1), operation).expect("room");
        let mut completions = Vec::new();
        channel.wait(&mut completions);
        completions[0].outcome
    }

    const SEGMENT: [Segment; 1] = [Segment {
        address: 0,
        len: 512,
    }];

    #[test]
    fn only_flushed_or_durable_writes_survive_a_power_cut() {
        let mut c = channel(Faults::default());
        assert_eq!(
            run(
                &mut c,
                &Operation::Write {
                    offset: 0,
                    segments: &SEGMENT,
                    durable: false
                }
            ),
            Outcome::Done
        );
        assert_eq!(
            run(
                &mut c,
                &Operation::Write {
                    offset: 512,
                    segments: &SEGMENT,
                    durable: true
                }
            ),
            Outcome::Done
        );
        assert_eq!((c.after_power_cut()[0], c.after_power_cut()[512]), (0, 7));
        assert_eq!(run(&mut c, &Operation::Flush), Outcome::Done);
        assert_eq!(c.after_power_cut()[0], 7);
    }

    #[test]
    fn faults_hit_the_submission_they_name() {
        let mut c = channel(Faults {
            fail: BTreeMap::from([(0, ErrorKind::NoSpace)]),
            tear: BTreeMap::from([(1, 100)]),
            ..Faults::default()
        });
        let write = Operation::Write {
            offset: 0,
            segments: &SEGMENT,
            durable: false,
        };
        assert_eq!(run(&mut c, &write), Outcome::Failed(ErrorKind::NoSpace));
        assert_eq!(run(&mut c, &write), Outcome::Failed(ErrorKind::Io(EIO)));
        assert_eq!((c.data()[99], c.data()[100]), (7, 0));
        assert_eq!(run(&mut c, &write), Outcome::Done);
    }

    #[test]
    fn a_full_channel_refuses_and_a_bad_address_fails() {
        let mut c = channel(Faults {
            reorder: true,
            trickle: 1,
            ..Faults::default()
        });
        for n in 0..8 {
            c.submit(Token(n), &Operation::Flush).expect("room");
        }
        assert_eq!(c.submit(Token(8), &Operation::Flush), Err(ChannelFull));
        let mut completions = Vec::new();
        c.poll(&mut completions);
        assert_eq!(
            completions,
            [Completion {
                token: Token(7),
                outcome: Outcome::Done
            }]
        );
        let bad = [Segment {
            address: 8192,
            len: 1,
        }];
        let mut c = channel(Faults::default());
        let outcome = run(
            &mut c,
            &Operation::Read {
                offset: 0,
                segments: &bad,
            },
        );
        assert_eq!(outcome, Outcome::Failed(ErrorKind::BadAddress));
    }

    proptest! {
        #[test]
        fn any_operation_ends_without_panic(offset: u64, len: u64, address: u64, seg_len in 0u32..9000, which in 0u8..5) {
            let mut c = channel(Faults::default());
            let segments = [Segment { address, len: seg_len }];
            let operation = match which {
                0 => Operation::Read { offset: offset % 9000, segments: &segments },
                1 => Operation::Write { offset, segments: &segments, durable: true },
                2 => Operation::Flush,
                3 => Operation::Discard { offset, len },
                _ => Operation::WriteZeroes { offset, len, unmap: true, durable: true },
            };
            run(&mut c, &operation);
        }
    }
}
