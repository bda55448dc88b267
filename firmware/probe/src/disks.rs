//! The disk commands.

use alloc::format;
use alloc::string::{String, ToString};

use guest_rt::virtio::{Block, Operation};
use guest_rt::{Buffer, println, time};
use script::{Bench, DiskCommand, Extent, Histogram, Order, Pattern, Plan, SECTOR, Transfer, Wait};

use crate::disk::{Drive, Job};
use crate::probe::{Disk, Outcome, Probe, elapsed_us};

const SECTOR_BYTES: u64 = SECTOR as u64;
/// A pass reports how far it is this often.
const DISCARD_DEPTH: u16 = 4;

impl Probe {
    pub fn disk(&mut self, command: &DiskCommand) -> Outcome {
        match command {
            DiskCommand::List => self.list_disks(),
            DiskCommand::Write(transfer) => self.with_disk(transfer.disk, |probe, disk| {
                probe.pass(disk, transfer, true)
            }),
            DiskCommand::Verify(transfer) => self.with_disk(transfer.disk, |probe, disk| {
                probe.pass(disk, transfer, false)
            }),
            DiskCommand::Bench(bench) => {
                self.with_disk(bench.disk, |probe, disk| probe.bench(disk, bench))
            }
            DiskCommand::Flush(index) => self.with_disk(*index, |probe, disk| {
                if !disk.can_flush() {
                    return Err("the disk does not offer flush".to_string());
                }
                probe.drive_one(disk, Operation::Flush)
            }),
            DiskCommand::Discard(index, extent) => self.with_disk(*index, |probe, disk| {
                let limit = disk.max_discard();
                probe.ranges(disk, *extent, limit, "discard", |sector, count| {
                    Operation::Discard { sector, count }
                })
            }),
            DiskCommand::Zero(index, extent, unmap) => self.with_disk(*index, |probe, disk| {
                let limit = disk.max_write_zeroes();
                probe.ranges(disk, *extent, limit, "write-zeroes", |sector, count| {
                    Operation::WriteZeroes {
                        sector,
                        count,
                        unmap: *unmap,
                    }
                })
            }),
        }
    }

    /// Takes a disk out for a command, and puts it back unless it stopped answering.
    fn with_disk(
        &mut self,
        index: usize,
        action: impl FnOnce(&mut Self, &mut Block) -> Outcome,
    ) -> Outcome {
        let disks = self.all_disks();
        let count = disks.len();
        let place = disks
            .get_mut(index)
            .ok_or_else(|| format!("there is no disk {index}; there are {count}"))?;
        let mut disk =
            match core::mem::replace(place, Disk::Failed("it stopped answering".to_string())) {
                Disk::Ready(disk) => disk,
                Disk::Failed(reason) => {
                    *place = Disk::Failed(reason.clone());
                    return Err(format!("disk {index} cannot be used: {reason}"));
                }
            };
        let outcome = action(self, &mut disk);
        if disk.is_idle() {
            self.all_disks()[index] = Disk::Ready(disk);
        }
        outcome.map_err(|reason| format!("disk {index}: {reason}"))
    }

    fn list_disks(&mut self) -> Outcome {
        for index in 0..self.all_disks().len() {
            if let Disk::Failed(reason) = &self.all_disks()[index] {
                println!("probe: disk index={index} reason=\"{reason}\"");
                continue;
            }
            self.with_disk(index, |probe, disk| {
                let name = Buffer::new(512);
                let serial = match probe.drive_one(disk, Operation::Identify { address: name.address() }) {
                    Ok(()) => {
                        let bytes = name.bytes()[..20].split(|byte| *byte == 0).next().unwrap_or(&[]);
                        String::from_utf8_lossy(bytes).into_owned()
                    }
                    Err(_) => String::new(),
                };
                println!(
                    "probe: disk index={index} at={} bytes={} sectors={} read_only={} flush={} max_discard={} \
                     max_write_zeroes={} queue_size={} depth={} serial=\"{}\"",
                    disk.device().location,
                    disk.capacity() * SECTOR_BYTES,
                    disk.capacity(),
                    yes(disk.read_only()),
                    yes(disk.can_flush()),
                    disk.max_discard(),
                    disk.max_write_zeroes(),
                    disk.queue_size(),
                    disk.depth(),
                    crate::probe::quotable(&serial)
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Writes a pattern over a range, or compares the range with it.
    fn pass(&mut self, disk: &mut Block, transfer: &Transfer, write: bool) -> Outcome {
        let (start, sectors) = within(disk, transfer.extent)?;
        let mut job = Pass {
            next: start,
            end: start + sectors,
            block: transfer.block,
            pattern: transfer.pattern,
            write,
            bad: None,
        };
        let drive = Drive {
            block: transfer.block,
            depth: transfer.depth,
            wait: Wait::Interrupt,
        };
        let effort = self.drive(disk, &drive, &mut job)?;
        let (bytes, ns) = (sectors * SECTOR_BYTES, time::ticks_to_ns(effort.ticks));
        if let Some(sector) = job.bad {
            println!(
                "probe: disk-verify disk={} result=differs first_bad_sector={sector}",
                transfer.disk
            );
            return Err(format!("sector {sector} differs from the pattern"));
        }
        let (name, result) = if write {
            ("disk-write", "written")
        } else {
            ("disk-verify", "same")
        };
        println!(
            "probe: {name} disk={} result={result} start={start} sectors={sectors} bytes={bytes} requests={} elapsed_ns={ns}",
            transfer.disk, effort.requests
        );
        Ok(())
    }

    fn bench(&mut self, disk: &mut Block, bench: &Bench) -> Outcome {
        let (start, sectors) = within(disk, bench.extent)?;
        let plan = Plan::new(bench.order, start, sectors, bench.block / SECTOR_BYTES)
            .ok_or("the range is smaller than a block")?;
        let mut job = Measure {
            plan,
            block: bench.block,
            write: bench.write,
            left: bench.count.unwrap_or(u64::MAX),
            end: bench.time_us.map_or(u64::MAX, time::after_us),
            latencies: Histogram::default(),
        };
        let drive = Drive {
            block: bench.block,
            depth: bench.depth,
            wait: bench.wait,
        };
        let effort = self.drive(disk, &drive, &mut job)?;
        let ns = time::ticks_to_ns(effort.ticks).max(1);
        let bytes = effort.requests * bench.block;
        let per_second = |amount: u64| {
            u64::try_from(u128::from(amount) * 1_000_000_000 / u128::from(ns)).unwrap_or(0)
        };
        let latency_us = |per_mille| time::ticks_to_ns(job.latencies.quantile(per_mille)) / 1000;
        let mode = match (bench.order, bench.write) {
            (Order::Sequential, false) => "read",
            (Order::Sequential, true) => "write",
            (Order::Random(_), false) => "randread",
            (Order::Random(_), true) => "randwrite",
        };
        println!(
            "probe: disk-bench disk={} mode={mode} block={} depth={} requests={} bytes={bytes} elapsed_ns={ns} iops={} \
             bytes_per_s={} kicks={} sleeps={} p50_us={} p99_us={} max_us={}",
            bench.disk,
            bench.block,
            bench.depth,
            effort.requests,
            per_second(effort.requests),
            per_second(bytes),
            effort.kicks,
            effort.sleeps,
            latency_us(500),
            latency_us(990),
            time::ticks_to_ns(job.latencies.max()) / 1000
        );
        Ok(())
    }

    /// Covers a range by requests of at most `limit` sectors.
    fn ranges(
        &mut self,
        disk: &mut Block,
        extent: Extent,
        limit: u32,
        name: &str,
        make: impl Fn(u64, u32) -> Operation,
    ) -> Outcome {
        if limit == 0 {
            return Err(format!("the disk does not offer {name}"));
        }
        let begin = time::tsc();
        let (start, sectors) = within(disk, extent)?;
        let mut job = Ranges {
            next: start,
            end: start + sectors,
            limit,
            make,
        };
        let depth = DISCARD_DEPTH.min(disk.depth());
        let effort = self.drive(
            disk,
            &Drive {
                block: SECTOR_BYTES,
                depth,
                wait: Wait::Interrupt,
            },
            &mut job,
        )?;
        println!(
            "probe: disk-{name} start={start} sectors={sectors} requests={} elapsed_us={}",
            effort.requests,
            elapsed_us(begin)
        );
        Ok(())
    }
}

/// The part of a disk an extent names: start and sectors.
fn within(disk: &Block, extent: Extent) -> Result<(u64, u64), String> {
    let capacity = disk.capacity();
    let rest = capacity.saturating_sub(extent.start);
    match extent.sectors.unwrap_or(rest) {
        0 => Err("the range is empty".to_string()),
        sectors if sectors > rest => Err(format!(
            "the range ends after the disk's last sector {}",
            capacity.saturating_sub(1)
        )),
        sectors => Ok((extent.start, sectors)),
    }
}

fn yes(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

fn bytes32(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Writes or verifies from front to back. The first bad sector is the lowest one seen: requests may overtake.
struct Pass {
    next: u64,
    end: u64,
    block: u64,
    pattern: Pattern,
    write: bool,
    bad: Option<u64>,
}

impl Job for Pass {
    fn next(&mut self, buffer: &mut Buffer) -> Option<Operation> {
        if self.next >= self.end || self.bad.is_some() {
            return None;
        }
        let sector = self.next;
        let sectors = (self.block / SECTOR_BYTES).min(self.end - sector);
        self.next += sectors;
        let (address, bytes) = (buffer.address(), bytes32(sectors * SECTOR_BYTES));
        if !self.write {
            return Some(Operation::Read {
                sector,
                address,
                bytes,
            });
        }
        self.pattern
            .fill(sector, &mut buffer.bytes_mut()[..bytes as usize]);
        Some(Operation::Write {
            sector,
            address,
            bytes,
        })
    }

    fn completed(&mut self, operation: Operation, buffer: &Buffer, _: u64) -> Result<(), String> {
        if let Operation::Read { sector, bytes, .. } = operation
            && let Some(bad) = self
                .pattern
                .first_difference(sector, &buffer.bytes()[..bytes as usize])
        {
            self.bad = Some(self.bad.map_or(bad, |earlier| earlier.min(bad)));
        }
        Ok(())
    }
}

/// Visits blocks until a count or a time is reached.
struct Measure {
    plan: Plan,
    block: u64,
    write: bool,
    left: u64,
    end: u64,
    latencies: Histogram,
}

impl Job for Measure {
    fn next(&mut self, buffer: &mut Buffer) -> Option<Operation> {
        if self.left == 0 || time::tsc() >= self.end {
            return None;
        }
        self.left -= 1;
        let (sector, address, bytes) = (
            self.plan.next_sector(),
            buffer.address(),
            bytes32(self.block),
        );
        Some(match self.write {
            true => Operation::Write {
                sector,
                address,
                bytes,
            },
            false => Operation::Read {
                sector,
                address,
                bytes,
            },
        })
    }

    fn completed(&mut self, _: Operation, _: &Buffer, ticks: u64) -> Result<(), String> {
        self.latencies.add(ticks);
        Ok(())
    }
}

/// Requests that name sectors and carry no data.
struct Ranges<F> {
    next: u64,
    end: u64,
    limit: u32,
    make: F,
}

impl<F: Fn(u64, u32) -> Operation> Job for Ranges<F> {
    fn next(&mut self, _: &mut Buffer) -> Option<Operation> {
        if self.next >= self.end {
            return None;
        }
        let sector = self.next;
        let count = u64::from(self.limit).min(self.end - sector);
        self.next += count;
        Some((self.make)(sector, bytes32(count)))
    }

    fn completed(&mut self, _: Operation, _: &Buffer, _: u64) -> Result<(), String> {
        Ok(())
    }
}
