//! The yardstick: a loop that keeps `depth` random reads in flight by one io_uring, with the means the product uses
//! (direct I/O, a registered file, completions taken when entering the kernel).

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use io_uring::{IoUring, opcode, types};

use crate::{BLOCK_BYTES, float};

/// Reads for `millis` and returns the reads per second.
pub fn random_reads(path: &Path, depth: u32, millis: u64) -> Result<f64> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_DIRECT)
        .open(path)
        .context("opening the disk's file")?;
    let blocks = file.metadata()?.len() / BLOCK_BYTES;
    ensure!(blocks > 0, "the disk is empty");
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(depth.next_power_of_two())?;
    ring.submitter().register_files(&[file.as_raw_fd()])?;
    let block = usize::try_from(BLOCK_BYTES)?;
    let slots = usize::try_from(depth)?;
    let mut memory = vec![0u8; block * (slots + 1)];
    let start = memory.as_ptr().align_offset(block);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let (begin, limit) = (Instant::now(), Duration::from_millis(millis));
    let mut idle: Vec<usize> = (0..slots).collect();
    let mut done = 0;
    let mut running = true;
    while running || idle.len() < slots {
        while running && let Some(slot) = idle.pop() {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let buffer = memory[start + slot * block..].as_mut_ptr();
            let entry = opcode::Read::new(types::Fixed(0), buffer, u32::try_from(block)?)
                .offset(state % blocks * BLOCK_BYTES)
                .build()
                .user_data(u64::try_from(slot)?);
            // SAFETY: the buffer is a slot of `memory` of its own, which lives until every read has completed:
            // the loop ends only when all slots are idle.
            unsafe { ring.submission().push(&entry) }.context("the ring is full")?;
        }
        ring.submit_and_wait(1)?;
        for completion in ring.completion() {
            ensure!(
                completion.result() == i32::try_from(block)?,
                "a read failed: {}",
                completion.result()
            );
            idle.push(usize::try_from(completion.user_data())?);
            done += 1;
        }
        running = begin.elapsed() < limit;
    }
    Ok(float(done) / begin.elapsed().as_secs_f64())
}
