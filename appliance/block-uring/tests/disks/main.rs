//! Disks on real files: ext4 or whatever holds the temporary folder, tmpfs, and XFS on a loop device where the
//! machine allows mounting one.

mod faults;
mod integrity;
mod places;

use std::fs::File;
use std::sync::Arc;

use block::{BlockDevice, IoChannel, Operation, Outcome, Segment, Token};
use block_uring::{OpenOptions, UringChannel, UringDisk};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Guest memory in two pieces, so that buffers can straddle a gap-less seam between mappings.
const MEMORY: u64 = 8 << 20;
const SEAM: u64 = 4 << 20;

fn memory() -> GuestMemoryMmap {
    let half = usize::try_from(SEAM).expect("small");
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), half), (GuestAddress(SEAM), half)])
        .expect("memory")
}

/// A disk with its channel and memory.
struct Bench {
    memory: GuestMemoryMmap,
    disk: UringDisk,
    channel: UringChannel,
}

impl Bench {
    fn open(file: File, options: OpenOptions) -> Bench {
        let memory = memory();
        let disk = UringDisk::open(file, memory.clone(), options).expect("disk");
        let channel = disk.open_channel().expect("io_uring");
        Bench {
            memory,
            disk,
            channel,
        }
    }

    fn run(&mut self, operation: &Operation<'_>) -> Outcome {
        self.channel.submit(Token(7), operation).expect("room");
        let mut completions = Vec::new();
        self.channel.wait(&mut completions);
        assert_eq!(completions.len(), 1);
        assert_eq!(completions[0].token, Token(7));
        completions[0].outcome
    }

    fn write(&mut self, offset: u64, at: u64, bytes: &[u8], durable: bool) -> Outcome {
        self.memory
            .write_slice(bytes, GuestAddress(at))
            .expect("memory");
        let segments = [Segment {
            address: at,
            len: u32::try_from(bytes.len()).expect("small"),
        }];
        self.run(&Operation::Write {
            offset,
            segments: &segments,
            durable,
        })
    }

    fn read(&mut self, offset: u64, at: u64, len: usize) -> Result<Vec<u8>, Outcome> {
        let segments = [Segment {
            address: at,
            len: u32::try_from(len).expect("small"),
        }];
        match self.run(&Operation::Read {
            offset,
            segments: &segments,
        }) {
            Outcome::Done => {
                let mut bytes = vec![0; len];
                self.memory
                    .read_slice(&mut bytes, GuestAddress(at))
                    .expect("memory");
                Ok(bytes)
            }
            failed => Err(failed),
        }
    }
}

/// Bytes that differ from sector to sector and from seed to seed.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

#[test]
fn one_wait_serves_kicks_and_completions() {
    use block_uring::Events;
    use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

    let file = tempfile::tempfile().expect("file");
    file.set_len(1 << 20).expect("size");
    let mut bench = Bench::open(file, OpenOptions::default());
    let kicks: Vec<_> = (0..2)
        .map(|_| Arc::new(EventFd::new(EFD_NONBLOCK).expect("eventfd")))
        .collect();
    for (key, kick) in (10..).zip(&kicks) {
        bench.channel.watch(key, Arc::clone(kick)).expect("watch");
    }
    let mut events = Events::default();
    // Kicks are seen though nobody reads the counters, again and again, from another thread too.
    for round in 0..3 {
        let kick = Arc::clone(&kicks[1]);
        let kicker = std::thread::spawn(move || kick.write(1).expect("kick"));
        bench.channel.wait_events(&mut events).expect("ring");
        kicker.join().expect("kicker");
        assert_eq!(events.kicks, [11], "round {round}");
    }
    let before = bench.disk.counters().snapshot();
    let segments = [Segment {
        address: 0,
        len: 4096,
    }];
    for token in 0..32 {
        let offset = token * 4096;
        bench
            .channel
            .submit(
                Token(token),
                &Operation::Read {
                    offset,
                    segments: &segments,
                },
            )
            .expect("room");
    }
    let mut done = 0;
    while done < 32 {
        bench.channel.wait_events(&mut events).expect("ring");
        done += events.completions.len();
    }
    let after = bench.disk.counters().snapshot();
    assert_eq!(after.requests - before.requests, 32);
    assert_eq!(after.completions - before.completions, 32);
    assert!(
        after.enters - before.enters <= 33,
        "submission costs no calls of its own"
    );
    assert_eq!(bench.channel.in_flight(), 0);
}
