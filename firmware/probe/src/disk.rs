//! Keeping requests on their way to a disk: a [`Job`] says what to do with each buffer, [`Probe::drive`] does it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use guest_rt::virtio::{Block, Operation};
use guest_rt::{Buffer, cpu, time};
use script::Wait;

use crate::probe::{DEVICE_LIMIT_US, Probe};

/// A sequence of requests.
pub trait Job {
    /// The next request, with a buffer of the job's block size for its data; `None` when there are no more.
    fn next(&mut self, buffer: &mut Buffer) -> Option<Operation>;

    /// A request was answered, `ticks` of the counter after it was handed in.
    fn completed(
        &mut self,
        operation: Operation,
        buffer: &Buffer,
        ticks: u64,
    ) -> Result<(), String>;
}

/// How a job is driven.
pub struct Drive {
    /// Bytes of a buffer.
    pub block: u64,
    /// Requests on their way, at most.
    pub depth: u16,
    /// How to wait for completions.
    pub wait: Wait,
}

/// What it took.
pub struct Effort {
    /// Ticks of the counter from the first request to the last completion.
    pub ticks: u64,
    /// Requests.
    pub requests: u64,
    /// Kicks.
    pub kicks: u64,
    /// Times the CPU slept.
    pub sleeps: u64,
}

#[derive(Clone, Copy)]
struct InFlight {
    operation: Operation,
    buffer: usize,
    since: u64,
}

impl Probe {
    /// Drives a job to its end. On an error the disk may still have requests on their way: it must be dropped
    /// before the next use.
    pub fn drive(
        &mut self,
        disk: &mut Block,
        drive: &Drive,
        job: &mut impl Job,
    ) -> Result<Effort, String> {
        let depth = drive.depth.min(disk.depth());
        if depth < drive.depth {
            return Err(format!("the disk takes only {depth} requests at once"));
        }
        let block =
            usize::try_from(drive.block).map_err(|_| "the block is too large".to_string())?;
        let mut buffers: Vec<Buffer> = (0..depth).map(|_| Buffer::new(block)).collect();
        let mut idle: Vec<usize> = (0..usize::from(depth)).rev().collect();
        let mut in_flight: Vec<Option<InFlight>> = (0..disk.depth()).map(|_| None).collect();
        let (start, kicks, sleeps) = (time::tsc(), disk.kicks(), self.sleeps);
        let (mut requests, mut more) = (0, true);
        disk.refuse_interrupts();
        loop {
            while more && let Some(index) = idle.pop() {
                let next = job.next(&mut buffers[index]);
                let since = time::tsc();
                let Some((operation, slot)) =
                    next.and_then(|next| Some((next, disk.submit(next)?)))
                else {
                    more = false;
                    idle.push(index);
                    break;
                };
                requests += 1;
                in_flight[usize::from(slot)] = Some(InFlight {
                    operation,
                    buffer: index,
                    since,
                });
            }
            disk.kick();
            if idle.len() == usize::from(depth) {
                break;
            }
            let Some(first) = self.completion(disk, drive.wait) else {
                hold(disk, buffers);
                return Err("the disk did not answer within 30 s".to_string());
            };
            let mut completion = Some(first);
            while let Some(done) = completion {
                let Some(request) = in_flight[usize::from(done.slot)].take() else {
                    break;
                };
                let answer = match done.status {
                    0 => job.completed(
                        request.operation,
                        &buffers[request.buffer],
                        time::tsc() - request.since,
                    ),
                    status => Err(refusal(request.operation, status)),
                };
                if let Err(reason) = answer {
                    hold(disk, buffers);
                    return Err(reason);
                }
                idle.push(request.buffer);
                completion = disk.take();
            }
        }
        Ok(Effort {
            ticks: time::tsc() - start,
            requests,
            kicks: disk.kicks() - kicks,
            sleeps: self.sleeps - sleeps,
        })
    }

    fn completion(&mut self, disk: &mut Block, wait: Wait) -> Option<guest_rt::virtio::Completion> {
        let end = time::after_us(DEVICE_LIMIT_US);
        if wait == Wait::Poll {
            while time::tsc() < end {
                for _ in 0..1000 {
                    if let Some(done) = disk.take() {
                        return Some(done);
                    }
                    core::hint::spin_loop();
                }
            }
            return None;
        }
        if let Some(done) = disk.take() {
            return Some(done);
        }
        let done = self.wait(end, |_| {
            disk.take().or_else(|| {
                if disk.ask_interrupt() {
                    None
                } else {
                    disk.take()
                }
            })
        });
        disk.refuse_interrupts();
        done
    }

    /// Drives one request without data.
    pub fn drive_one(&mut self, disk: &mut Block, operation: Operation) -> Result<(), String> {
        struct One(Option<Operation>);
        impl Job for One {
            fn next(&mut self, _: &mut Buffer) -> Option<Operation> {
                self.0.take()
            }
            fn completed(&mut self, _: Operation, _: &Buffer, _: u64) -> Result<(), String> {
                Ok(())
            }
        }
        let drive = Drive {
            block: 512,
            depth: 1,
            wait: Wait::Interrupt,
        };
        self.drive(disk, &drive, &mut One(Some(operation)))
            .map(drop)
    }
}

/// Waits for a device with requests on their way to be done with the buffers, as long as it takes up to a limit,
/// before they are freed. What never completes is leaked: the device may still write to it.
fn hold(disk: &mut Block, buffers: Vec<Buffer>) {
    let end = time::after_us(DEVICE_LIMIT_US / 10);
    while !disk.is_idle() {
        if time::tsc() > end {
            core::mem::forget(buffers);
            return;
        }
        cpu::clear_wake();
        disk.take();
    }
}

fn refusal(operation: Operation, status: u8) -> String {
    let (what, sector) = match operation {
        Operation::Read { sector, .. } => ("read", sector),
        Operation::Write { sector, .. } => ("write", sector),
        Operation::Flush => ("flush", 0),
        Operation::Discard { sector, .. } => ("discard", sector),
        Operation::WriteZeroes { sector, .. } => ("write-zeroes", sector),
        Operation::Identify { .. } => ("identify", 0),
    };
    let why = match status {
        1 => "I/O error",
        2 => "unsupported",
        _ => "an undefined status",
    };
    format!("{what} at sector {sector}: {why} (status {status})")
}
