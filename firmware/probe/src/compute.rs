//! CPUs and memory.

use alloc::format;
use alloc::string::ToString;

use guest_rt::smp::Cpu;
use guest_rt::{println, time, touch_unused};
use script::mix;

use crate::probe::{Outcome, Probe, elapsed_us};

/// Rounds of [`work`] per CPU: some milliseconds.
const ROUNDS: u64 = 2_000_000;
const LIMIT_US: u64 = 60_000_000;

/// What every CPU must agree on.
fn work(rounds: u64) -> u64 {
    (0..rounds).fold(rounds, |value, _| mix(value))
}

/// Keeps a CPU busy until the counter reaches a value.
fn busy(end: u64) -> u64 {
    let mut rounds = 0_u64;
    while time::tsc() < end {
        core::hint::spin_loop();
        rounds += 1;
    }
    rounds
}

/// Writes one word in each page of so many MiB of unused memory, from the highest page down.
pub fn touch(mib: u64) -> Outcome {
    let start = time::tsc();
    let pages = mib.saturating_mul(256);
    let touched = touch_unused(pages);
    if touched < pages {
        return Err(format!("only {} MiB are unused", touched / 256));
    }
    println!(
        "probe: touched pages={touched} elapsed_us={}",
        elapsed_us(start)
    );
    Ok(())
}

impl Probe {
    /// Starts CPUs until there are `count`, or as many as there are for `u32::MAX`.
    fn have_cpus(&mut self, count: u32) -> Result<u32, alloc::string::String> {
        let ids = self.platform.acpi().cpu_ids().to_vec();
        let there = u32::try_from(ids.len().max(1)).unwrap_or(u32::MAX);
        let count = if count == u32::MAX { there } else { count };
        if count > there {
            return Err(format!("there are only {there} CPUs"));
        }
        // The first id is this CPU's.
        let wanted = count as usize - 1;
        for id in ids
            .iter()
            .skip(1 + self.cpus.len())
            .take(wanted.saturating_sub(self.cpus.len()))
        {
            let start = time::tsc();
            self.cpus
                .push(Cpu::start(*id).map_err(|error| error.to_string())?);
            println!(
                "probe: cpu-started index={} apic_id={id} elapsed_us={}",
                self.cpus.len(),
                elapsed_us(start)
            );
        }
        Ok(count)
    }

    /// Runs a function on `count` CPUs at once and prints each one's result.
    fn on_cpus(
        &mut self,
        count: u32,
        function: fn(u64) -> u64,
        argument: u64,
        limit_us: u64,
    ) -> Result<u64, alloc::string::String> {
        let others = self.have_cpus(count)? as usize - 1;
        for cpu in &mut self.cpus[..others] {
            cpu.run(function, argument);
        }
        let own = function(argument);
        println!("probe: cpu index=0 result={own:#x}");
        for index in 0..others {
            let result = self
                .wait(time::after_us(limit_us), |probe| probe.cpus[index].result())
                .ok_or_else(|| format!("CPU {} did not finish", index + 1))?;
            println!("probe: cpu index={} result={result:#x}", index + 1);
        }
        Ok(own)
    }

    /// Makes `count` CPUs compute the same at once.
    pub fn use_cpus(&mut self, count: u32) -> Outcome {
        let count = self.have_cpus(count)?;
        let start = time::tsc();
        self.on_cpus(count, work, ROUNDS, LIMIT_US)?;
        println!("probe: cpus count={count} elapsed_us={}", elapsed_us(start));
        Ok(())
    }

    /// Keeps `count` CPUs busy.
    pub fn spin(&mut self, us: u64, count: u32) -> Outcome {
        let count = self.have_cpus(count)?;
        self.on_cpus(count, busy, time::after_us(us), us.saturating_add(LIMIT_US))?;
        Ok(())
    }
}
