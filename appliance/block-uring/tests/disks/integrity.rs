//! What was written is what is read, whatever the mix of operations and buffers.

use block::{IoChannel, Operation, Outcome, Segment, Token};
use block_uring::{Caching, OpenOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vm_memory::{Bytes, GuestAddress};

use crate::places::{Place, all};
use crate::{Bench, MEMORY, SEAM, pattern};

const SECTORS: u64 = 2048;

#[derive(Debug, Clone)]
enum Step {
    /// Sector, segment lengths in bytes (their sum is made whole sectors), misalignment in memory.
    Write(u64, Vec<u32>, u64, bool),
    Read(u64, Vec<u32>, u64),
    Zero(u64, u64, bool, bool),
    Discard(u64, u64),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let lens = || {
        prop_oneof![
            prop::collection::vec(Just(4096u32), 1..20),
            prop::collection::vec(1u32..9000, 1..6),
            Just(vec![600_000]),
        ]
    };
    let skew = || prop_oneof![Just(0u64), Just(0), 1u64..64];
    prop_oneof![
        4 => (0..SECTORS, lens(), skew(), any::<bool>()).prop_map(|(s, l, k, d)| Step::Write(s, l, k, d)),
        4 => (0..SECTORS, lens(), skew()).prop_map(|(s, l, k)| Step::Read(s, l, k)),
        1 => (0..SECTORS, 1u64..300, any::<bool>(), any::<bool>()).prop_map(|(s, n, u, d)| Step::Zero(s, n, u, d)),
        1 => (0..SECTORS, 1u64..300).prop_map(|(s, n)| Step::Discard(s, n)),
        1 => Just(Step::Flush),
    ]
}

/// Lays segments of these lengths over memory, the first across the seam of the mappings; whole sectors in total.
fn segments(lens: &[u32], skew: u64) -> Vec<Segment> {
    let mut address = SEAM - 1024 + skew;
    let mut list = Vec::new();
    let mut total = 0;
    for len in lens {
        list.push(Segment { address, len: *len });
        address += u64::from(*len) + if skew == 0 { 0 } else { 3 };
        total += u64::from(*len);
    }
    let missing = u32::try_from(total.next_multiple_of(512) - total).expect("small");
    list.last_mut().expect("one").len += missing;
    assert!(address + 512 < MEMORY);
    list
}

fn play(
    bench: &mut Bench,
    model: &mut [Option<u8>],
    step: &Step,
    seed: u64,
) -> Result<(), TestCaseError> {
    let clip = |sector: u64, count: u64| (sector * 512, count.min(SECTORS - sector) * 512);
    let span = |offset: u64, len: u64| {
        let at = |v: u64| usize::try_from(v).expect("small");
        at(offset)..at(offset + len)
    };
    match step {
        Step::Write(sector, lens, skew, durable) => {
            let segments = segments(lens, *skew);
            let total = Segment::total(&segments);
            let sector = (*sector).min(SECTORS - total / 512);
            let bytes = pattern(seed, usize::try_from(total).expect("small"));
            let mut at = 0;
            for segment in &segments {
                let len = usize::try_from(segment.len).expect("small");
                bench
                    .memory
                    .write_slice(&bytes[at..at + len], GuestAddress(segment.address))
                    .expect("memory");
                at += len;
            }
            let operation = Operation::Write {
                offset: sector * 512,
                segments: &segments,
                durable: *durable,
            };
            prop_assert_eq!(bench.run(&operation), Outcome::Done);
            for (cell, byte) in model[span(sector * 512, total)].iter_mut().zip(&bytes) {
                *cell = Some(*byte);
            }
        }
        Step::Read(sector, lens, skew) => {
            let segments = segments(lens, *skew);
            let total = Segment::total(&segments);
            let sector = (*sector).min(SECTORS - total / 512);
            prop_assert_eq!(
                bench.run(&Operation::Read {
                    offset: sector * 512,
                    segments: &segments
                }),
                Outcome::Done
            );
            let mut bytes = Vec::new();
            for segment in &segments {
                let mut part = vec![0; usize::try_from(segment.len).expect("small")];
                bench
                    .memory
                    .read_slice(&mut part, GuestAddress(segment.address))
                    .expect("memory");
                bytes.extend(part);
            }
            let differs = model[span(sector * 512, total)]
                .iter()
                .zip(&bytes)
                .position(|(m, b)| m.is_some_and(|m| m != *b));
            prop_assert_eq!(differs, None, "first wrong byte");
        }
        Step::Zero(sector, count, unmap, durable) => {
            let (offset, len) = clip(*sector, *count);
            let operation = Operation::WriteZeroes {
                offset,
                len,
                unmap: *unmap,
                durable: *durable,
            };
            prop_assert_eq!(bench.run(&operation), Outcome::Done);
            model[span(offset, len)].fill(Some(0));
        }
        Step::Discard(sector, count) => {
            let (offset, len) = clip(*sector, *count);
            prop_assert_eq!(
                bench.run(&Operation::Discard { offset, len }),
                Outcome::Done
            );
            model[span(offset, len)].fill(None);
        }
        Step::Flush => prop_assert_eq!(bench.run(&Operation::Flush), Outcome::Done),
    }
    Ok(())
}

fn check(place: &Place, options: OpenOptions) {
    let mut runner = TestRunner::new(Config {
        cases: 12,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&prop::collection::vec(step(), 1..40), |steps| {
        let mut bench = Bench::open(place.file(SECTORS * 512), options);
        let mut model = vec![Some(0); usize::try_from(SECTORS * 512).expect("small")];
        for (seed, step) in (1..).zip(&steps) {
            play(&mut bench, &mut model, step, seed)?;
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{} {options:?}: {error}", place.name);
    }
}

#[test]
fn any_mix_of_operations_keeps_the_data() {
    for place in all() {
        check(&place, OpenOptions::default());
        check(
            &place,
            OpenOptions {
                buffered: true,
                ..OpenOptions::default()
            },
        );
    }
}

#[test]
fn file_systems_are_used_without_the_page_cache_where_they_can() {
    for place in all() {
        let bench = Bench::open(place.file(1 << 20), OpenOptions::default());
        let caching = bench.disk.caching();
        // XFS on 512-byte sectors always can; elsewhere it is enough that the answer is given.
        if place.name == "xfs" {
            assert!(matches!(caching, Caching::Direct { .. }), "{caching}");
        }
        println!("{}: {caching}", place.name);
    }
}

#[test]
fn buffers_that_direct_io_cannot_take_are_bounced_and_only_those() {
    let place = all().into_iter().find(|place| place.name == "xfs");
    let Some(place) = place else {
        return println!("no XFS can be mounted here: bouncing is tested on it");
    };
    let mut bench = Bench::open(place.file(4 << 20), OpenOptions::default());
    let bytes = pattern(3, 1 << 20);
    assert_eq!(bench.write(0, 0x1000, &bytes, false), Outcome::Done);
    assert_eq!(bench.disk.counters().snapshot().bounced, 0);
    assert_eq!(bench.read(0, 0x2001, 1 << 20), Ok(bytes));
    assert_eq!(
        bench.disk.counters().snapshot().bounced,
        4,
        "in pieces of 256 KiB"
    );
}

#[test]
fn operations_in_flight_together_complete_each_once() {
    for place in all() {
        let mut bench = Bench::open(place.file(4 << 20), OpenOptions::default());
        let count = u64::try_from(bench.channel.capacity()).expect("small");
        for token in 0..count {
            let at = token * 4096;
            bench
                .memory
                .write_obj(token, GuestAddress(at))
                .expect("memory");
            let segments = [Segment {
                address: at,
                len: 4096,
            }];
            let operation = Operation::Write {
                offset: at,
                segments: &segments,
                durable: false,
            };
            bench
                .channel
                .submit(Token(token), &operation)
                .expect("room");
        }
        assert!(
            bench
                .channel
                .submit(Token(count), &Operation::Flush)
                .is_err(),
            "full"
        );
        let mut completions = Vec::new();
        while bench.channel.in_flight() > 0 {
            bench.channel.wait(&mut completions);
        }
        let mut tokens: Vec<u64> = completions.iter().map(|c| c.token.0).collect();
        tokens.sort_unstable();
        assert_eq!(tokens, (0..count).collect::<Vec<_>>(), "{}", place.name);
        assert!(completions.iter().all(|c| c.outcome == Outcome::Done));
        let last = bench.read((count - 1) * 4096, 0, 512).expect("read");
        assert_eq!(last[..8], (count - 1).to_le_bytes());
    }
}
