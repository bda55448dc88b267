use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use block_uring::{Counters, OpenOptions, UringDisk};
use virtio::feature;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::devices::testing::{DATA, Driver, memory, unconfined, until};

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const DISCARD: u32 = 11;
const DISK: u64 = 4 << 20;
/// Features as a full driver accepts them.
const FULL: u64 =
    feature::RING_EVENT_IDX | feature::BLK_FLUSH | feature::BLK_DISCARD | feature::BLK_CONFIG_WCE;

struct Bench {
    driver: Driver,
    file: File,
    counters: Arc<Counters>,
}

fn bench(queues: u16) -> Bench {
    let named = tempfile::NamedTempFile::new().expect("file");
    named.as_file().set_len(DISK).expect("size");
    let memory = memory();
    // Opened twice: the disk may switch its own descriptor to direct I/O.
    let file = named.reopen().expect("file");
    let disk =
        UringDisk::open(named.into_file(), memory.clone(), OpenOptions::default()).expect("disk");
    let counters = disk.counters();
    let (device, starting) = Blk::start(disk, "test", queues, &unconfined()).expect("device");
    starting.done().expect("started");
    Bench {
        driver: Driver::new(Arc::new(device), memory),
        file,
        counters,
    }
}

impl Bench {
    /// Offers request number `slot` (each has 64 KiB of its own), `len` bytes of data.
    fn offer(&mut self, queue: u16, slot: u64, kind: u32, sector: u64, len: u32) -> u16 {
        let at = DATA + slot * 0x1_0000;
        let memory = &self.driver.memory;
        memory.write_obj(kind, GuestAddress(at)).expect("memory");
        memory
            .write_obj(sector, GuestAddress(at + 8))
            .expect("memory");
        memory
            .write_obj(0xFFu8, GuestAddress(at + 32))
            .expect("memory");
        let mut buffers = vec![(at, 16, false)];
        if len > 0 {
            buffers.push((at + 0x1000, len, kind == IN));
        }
        buffers.push((at + 32, 1, true));
        self.driver.offer(queue, &buffers)
    }

    fn status(&self, slot: u64) -> u8 {
        self.driver
            .memory
            .read_obj(GuestAddress(DATA + slot * 0x1_0000 + 32))
            .expect("memory")
    }

    fn data(&self, slot: u64) -> GuestAddress {
        GuestAddress(DATA + slot * 0x1_0000 + 0x1000)
    }

    fn run(&mut self, kind: u32, sector: u64, len: u32) -> u8 {
        self.offer(0, 0, kind, sector, len);
        self.driver.kick(0);
        self.driver.wait(0, 1);
        self.status(0)
    }
}

#[test]
fn what_a_driver_writes_it_reads_back() {
    let mut bench = bench(1);
    bench.driver.start(FULL);
    bench
        .driver
        .memory
        .write_slice(&[0x5A; 8192], bench.data(0))
        .expect("memory");
    assert_eq!(bench.run(OUT, 8, 8192), 0);
    assert_eq!(bench.run(FLUSH, 0, 0), 0);
    let mut stored = [0; 8192];
    bench
        .file
        .read_exact_at(&mut stored, 8 * 512)
        .expect("read");
    assert_eq!(stored, [0x5A; 8192]);
    bench
        .driver
        .memory
        .write_slice(&[0; 8192], bench.data(0))
        .expect("memory");
    assert_eq!(bench.run(IN, 8, 8192), 0);
    assert_eq!(
        bench
            .driver
            .memory
            .read_obj::<u64>(bench.data(0))
            .expect("memory"),
        0x5A5A_5A5A_5A5A_5A5A
    );
    assert_eq!(bench.run(IN, DISK / 512, 512), 1, "beyond the end");
    assert_eq!(bench.run(77, 0, 0), 2, "unknown");
    assert!(bench.driver.interrupts() > 0);
}

#[test]
fn queues_are_served_side_by_side_and_batches_share_calls() {
    let mut bench = bench(2);
    bench.driver.start(FULL | feature::BLK_MQ);
    let before = bench.counters.snapshot();
    for slot in 0..16 {
        bench.offer(0, slot, IN, slot * 8, 4096);
        bench.offer(1, slot + 16, IN, slot * 8, 4096);
    }
    bench.driver.kick(0);
    bench.driver.kick(1);
    assert_eq!(bench.driver.wait(0, 16).len(), 16);
    assert_eq!(bench.driver.wait(1, 16).len(), 16);
    assert!((0..32).all(|slot| bench.status(slot) == 0));
    let after = bench.counters.snapshot();
    assert_eq!(after.requests - before.requests, 32);
    assert!(after.kicks - before.kicks <= 2);
    assert!(after.enters - before.enters <= 36);
}

#[test]
fn discarded_space_is_given_back() {
    use std::os::unix::fs::MetadataExt;
    let mut bench = bench(1);
    bench.driver.start(FULL);
    bench
        .driver
        .memory
        .write_slice(&[1; 32768], bench.data(0))
        .expect("memory");
    assert_eq!(bench.run(OUT, 0, 32768), 0);
    assert_eq!(bench.run(FLUSH, 0, 0), 0);
    let held = bench.file.metadata().expect("metadata").blocks();
    assert!(held >= 64);
    let at = bench.data(0);
    bench.driver.memory.write_obj(0u64, at).expect("memory");
    bench
        .driver
        .memory
        .write_obj(64u32, GuestAddress(at.0 + 8))
        .expect("memory");
    bench
        .driver
        .memory
        .write_obj(0u32, GuestAddress(at.0 + 12))
        .expect("memory");
    assert_eq!(bench.run(DISCARD, 0, 16), 0);
    assert!(bench.file.metadata().expect("metadata").blocks() < held);
}

#[test]
fn a_reset_during_transfers_drains_them_and_the_device_starts_again() {
    let mut bench = bench(1);
    for round in 0..20 {
        bench.driver.start(FULL);
        for slot in 0..20 {
            bench.offer(
                0,
                slot,
                if slot % 2 == 0 { OUT } else { IN },
                slot * 64,
                32768,
            );
        }
        bench.driver.kick(0);
        bench.driver.reset();
        let counters = bench.counters.snapshot();
        assert_eq!(
            counters.requests, counters.completions,
            "round {round}: status 0 with requests in flight"
        );
    }
    bench.driver.start(FULL);
    assert_eq!(bench.run(IN, 0, 4096), 0);
}

#[test]
fn a_corrupt_ring_asks_for_a_reset_and_a_reset_heals_it() {
    let mut bench = bench(1);
    bench.driver.start(FULL);
    bench
        .driver
        .memory
        .write_obj(1000u16, GuestAddress(0x5002))
        .expect("memory");
    bench.driver.kick(0);
    until("DEVICE_NEEDS_RESET", || bench.driver.status() & 64 != 0);
    bench.driver.reset();
    bench.driver.start(FULL);
    assert_eq!(bench.run(IN, 0, 4096), 0);
}

#[test]
fn failures_of_the_file_reach_the_driver() {
    let mut bench = bench(1);
    bench.driver.start(FULL);
    bench.file.set_len(DISK / 2).expect("truncate");
    assert_eq!(bench.run(IN, DISK / 512 - 8, 4096), 1);
    assert_eq!(bench.counters.snapshot().failures, 1);
}

#[test]
fn dropping_a_busy_device_ends_its_thread() {
    let mut bench = bench(1);
    bench.driver.start(FULL);
    for slot in 0..20 {
        bench.offer(0, slot, IN, slot * 64, 32768);
    }
    bench.driver.kick(0);
    drop(bench.driver);
    let counters = bench.counters.snapshot();
    assert!(counters.completions <= counters.requests);
}

#[test]
fn entropy_comes_and_runs_short_when_drawn_without_end() {
    let memory = memory();
    let mut driver = Driver::new(
        Arc::new(crate::devices::rng::Rng::new(memory.clone())),
        memory,
    );
    driver.start(feature::RING_EVENT_IDX);
    let mut total = 0;
    let mut shortest = u32::MAX;
    for _ in 0..400 {
        driver.offer(0, &[(DATA, 4096, true)]);
        driver.kick(0);
        let [(_, len)] = driver.wait(0, 1)[..] else {
            panic!("one answer")
        };
        total += len;
        shortest = shortest.min(len);
    }
    assert!(total > 256 << 10, "the burst");
    assert!(
        (1..4096).contains(&shortest),
        "then short answers, but never none"
    );
    let mut bytes = [0; 64];
    driver
        .memory
        .read_slice(&mut bytes, GuestAddress(DATA))
        .expect("memory");
    assert_ne!(bytes, [0; 64]);
}
