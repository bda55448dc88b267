use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::testing::*;

fn take(buffers: &[(u64, u32, bool)]) -> Chain {
    let mem = memory();
    let mut queue = queue(&mem, 8, false);
    offer(&mem, buffers);
    let mut chain = Chain::default();
    assert!(queue.pop(&mem, &mut chain).expect("sound ring"));
    chain
}

#[test]
fn a_chain_is_split_into_what_may_be_read_and_written() {
    let chain = take(&[
        (DATA, 16, false),
        (DATA + 64, 0, false),
        (DATA + 512, 512, true),
        (DATA + 2048, 1, true),
    ]);
    assert_eq!(chain.defect, None);
    assert_eq!(
        chain.readable,
        [Segment {
            address: DATA,
            len: 16
        }]
    );
    assert_eq!(Chain::total(&chain.writable), 513);
}

#[test]
fn malformed_chains_say_what_is_wrong() {
    let out = MEMORY as u64;
    type Buffers<'a> = &'a [(u64, u32, bool)];
    let cases: [(Buffers<'_>, ChainError); 4] = [
        (&[(DATA, 16, true), (DATA, 16, false)], ChainError::Order),
        (&[(out, 1, false)], ChainError::Address),
        (&[(out - 1, 2, true)], ChainError::Address),
        (&[(u64::MAX, 2, true)], ChainError::Address),
    ];
    for (buffers, defect) in cases {
        assert_eq!(take(buffers).defect, Some(defect), "{buffers:?}");
    }
}

#[test]
fn chains_that_do_not_end_are_cut_off() {
    let mem = memory();
    let mut chain = Chain::default();
    // (flags and next of descriptor 0, and of 1)
    let cases = [
        ((NEXT, 0), (0, 0)),
        ((NEXT, 1), (NEXT, 0)),
        ((NEXT, 200), (0, 0)),
        ((INDIRECT, 0), (0, 0)),
    ];
    for (first, second) in cases {
        let mut queue = queue(&mem, 8, false);
        descriptor(&mem, DESCRIPTORS, 0, DATA, 15, first.0, first.1);
        descriptor(&mem, DESCRIPTORS, 1, DATA, 15, second.0, second.1);
        make_available(&mem, 8, 0, 0);
        assert!(queue.pop(&mem, &mut chain).expect("sound ring"));
        assert_eq!(
            chain.defect,
            Some(ChainError::Endless),
            "{first:?} {second:?}"
        );
    }
}

#[test]
fn an_indirect_table_longer_than_the_queue_is_refused() {
    let mem = memory();
    let table = 0x1_0000;
    for (count, defect) in [(8, None), (9, Some(ChainError::Endless))] {
        let mut queue = queue(&mem, 8, false);
        for index in 0..count {
            let flags = if index + 1 == count { 0 } else { NEXT };
            descriptor(&mem, table, index, DATA, 16, flags, index + 1);
        }
        descriptor(
            &mem,
            DESCRIPTORS,
            0,
            table,
            u32::from(count) * 16,
            INDIRECT,
            0,
        );
        make_available(&mem, 8, 0, 0);
        let mut chain = Chain::default();
        assert!(queue.pop(&mem, &mut chain).expect("sound ring"));
        assert_eq!(chain.defect, defect);
        assert_eq!(chain.readable.len(), 8);
    }
}

#[test]
fn corrupt_rings_are_errors() {
    let mem = memory();
    let mut chain = Chain::default();
    let mut ahead = queue(&mem, 8, false);
    mem.write_obj(9u16, GuestAddress(AVAILABLE + 2))
        .expect("ring");
    assert!(
        ahead.pop(&mem, &mut chain).is_err(),
        "the index ran ahead of the ring"
    );
    let mut head = queue(&mem, 8, false);
    make_available(&mem, 8, 0, 8);
    assert!(head.pop(&mem, &mut chain).is_err(), "no such descriptor");
    assert!(head.add_used(&mem, 8, 0).is_err());
    let bad = [
        (3, DESCRIPTORS, AVAILABLE, USED),
        (0, DESCRIPTORS, AVAILABLE, USED),
        (8, 1, AVAILABLE, USED),
    ];
    for (size, descriptors, available, used) in bad {
        assert!(Virtqueue::new(&mem, size, descriptors, available, used, false).is_err());
    }
    for used in [MEMORY as u64 - 4, !3] {
        assert!(matches!(
            Virtqueue::new(&mem, 8, DESCRIPTORS, AVAILABLE, used, false),
            Err(QueueError::OutsideMemory)
        ));
    }
}

#[test]
fn interrupts_follow_the_drivers_wish() {
    let mem = memory();
    let mut by_flag = queue(&mem, 8, false);
    by_flag.add_used(&mem, 0, 0).expect("ring");
    assert!(by_flag.wants_interrupt(&mem).expect("ring"));
    mem.write_obj(1u16, GuestAddress(AVAILABLE)).expect("ring");
    assert!(!by_flag.wants_interrupt(&mem).expect("ring"));

    let mut by_index = queue(&mem, 8, true);
    let used_event = GuestAddress(AVAILABLE + 4 + 8 * 2);
    mem.write_obj(1u16, used_event).expect("ring");
    by_index.add_used(&mem, 0, 0).expect("ring");
    assert!(
        !by_index.wants_interrupt(&mem).expect("ring"),
        "asked for the second only"
    );
    by_index.add_used(&mem, 1, 0).expect("ring");
    assert!(by_index.wants_interrupt(&mem).expect("ring"));
}

#[test]
fn enabling_kicks_tells_of_chains_that_slipped_in() {
    let mem = memory();
    for event_idx in [false, true] {
        mem.write_obj(0u16, GuestAddress(AVAILABLE + 2))
            .expect("ring");
        let mut queue = queue(&mem, 8, event_idx);
        assert!(!queue.enable_kicks(&mem).expect("ring"));
        offer(&mem, &[(DATA, 16, false)]);
        assert!(queue.enable_kicks(&mem).expect("ring"));
        let mut chain = Chain::default();
        assert!(queue.pop(&mem, &mut chain).expect("ring"));
        assert!(!queue.pop(&mem, &mut chain).expect("ring"));
        queue.unpop();
        assert!(queue.pop(&mem, &mut chain).expect("ring"));
    }
}

#[test]
fn splitting_takes_exactly_the_front() {
    let mut segments = vec![
        Segment {
            address: 0,
            len: 10,
        },
        Segment {
            address: 100,
            len: 10,
        },
    ];
    assert_eq!(split_front(&mut segments, 21), None);
    assert_eq!(
        split_front(&mut segments, 15).map(|front| Chain::total(&front)),
        Some(15)
    );
    assert_eq!(
        segments,
        [Segment {
            address: 105,
            len: 5
        }]
    );
}

proptest! {
    /// Whatever lies in the rings and tables, a device's loop ends and never panics.
    #[test]
    fn hostile_rings_are_survived(bytes in prop::collection::vec(any::<u8>(), 0x200), size_log in 0u32..6, idx: u16) {
        let mem = memory();
        let size = 1 << size_log;
        for base in [DESCRIPTORS, AVAILABLE, DATA] {
            mem.write_slice(&bytes, GuestAddress(base)).expect("memory");
        }
        mem.write_obj(idx, GuestAddress(AVAILABLE + 2)).expect("memory");
        let mut queue = queue(&mem, size, idx & 1 == 0);
        let mut chain = Chain::default();
        for _ in 0..=u32::from(size) {
            match queue.pop(&mem, &mut chain) {
                Ok(true) => {
                    prop_assert!(chain.readable.len() + chain.writable.len() <= usize::from(size));
                    queue.add_used(&mem, chain.head, 0).expect("checked head");
                }
                Ok(false) | Err(_) => break,
            }
        }
        let _ = queue.enable_kicks(&mem);
        let _ = queue.wants_interrupt(&mem);
    }

    /// Small descriptors that point at each other: loops, indirections, overlaps.
    #[test]
    fn tangled_tables_are_survived(
        table in prop::collection::vec((0u64..0x5_0000, 0u32..0x3000, 0u16..8, 0u16..10), 8),
        heads in prop::collection::vec(0u16..8, 1..8),
    ) {
        let mem = memory();
        let mut queue = queue(&mem, 8, false);
        for (index, (address, len, flags, next)) in (0..).zip(&table) {
            descriptor(&mem, DESCRIPTORS, index, *address, *len, *flags, *next);
            descriptor(&mem, DATA, index, *address, *len, *flags, *next);
        }
        for (index, head) in (0..).zip(&heads) {
            make_available(&mem, 8, index, *head);
        }
        let mut chain = Chain::default();
        for _ in 0..heads.len() {
            prop_assert!(queue.pop(&mem, &mut chain).expect("sound ring"));
            let total = Chain::total(&chain.readable) + Chain::total(&chain.writable);
            prop_assert!(total < 1 << 32);
        }
        prop_assert!(!queue.pop(&mem, &mut chain).expect("sound ring"));
    }
}
