//! What the machine is and how it does: small facts for people.

use std::{fs, time::Duration};

/// Memory in use that cannot be given back, KiB: of all the machine has, the kernel's own and what firmware keeps included. None if the
/// kernel does not tell.
#[must_use]
pub fn memory_in_use() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok()?;
    let (total, spare) = parse_memory(&told)?;
    // Without a map of the firmware's, at least what the kernel manages is known.
    Some(installed().unwrap_or(total).max(total) - spare)
}

/// What the firmware says there is, KiB (Linux, Documentation/ABI/testing/sysfs-firmware-memmap).
fn installed() -> Option<u64> {
    let ranges = fs::read_dir("/sys/firmware/memmap").ok()?.flatten();
    let bytes = ranges.filter_map(|range| {
        let text = |name: &str| fs::read_to_string(range.path().join(name)).ok();
        let number =
            |name: &str| u64::from_str_radix(text(name)?.trim().strip_prefix("0x")?, 16).ok();
        (text("type")?.trim() == "System RAM").then_some(number("end")? - number("start")? + 1)
    });
    let kib = bytes.sum::<u64>() >> 10;
    (kib > 0).then_some(kib)
}

/// What the kernel manages, and what of it is free or could be at once; KiB.
fn parse_memory(text: &str) -> Option<(u64, u64)> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let total = field("MemTotal:")?;
    // Files in memory alone are counted among the cached ones.
    let cached = (field("Buffers:")? + field("Cached:")?).saturating_sub(field("Shmem:")?);
    let spare = field("MemFree:")? + cached + field("SReclaimable:")?;
    Some((total, spare.min(total)))
}

/// Time since the kernel started.
#[must_use]
pub fn uptime() -> Duration {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = text
        .split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0.0);
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The kernel's command line.
#[must_use]
pub fn command_line() -> String {
    fs::read_to_string("/proc/cmdline")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// The last words of a kernel that died, if the firmware kept them: the newest record of pstore, at most its last 2 KiB of text.
/// They are removed, so that they are told once.
#[must_use]
pub fn last_panic() -> Option<String> {
    let mut records: Vec<_> = fs::read_dir("/sys/fs/pstore")
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("dmesg-"))
        })
        .collect();
    records.sort();
    let texts: Vec<String> = records
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    for record in &records {
        let _ = fs::remove_file(record);
    }
    texts.iter().find_map(|text| panic_line(text))
}

/// The line of a kernel's log that says why it died.
fn panic_line(log: &str) -> Option<String> {
    let line = log
        .lines()
        .find(|line| line.contains("Kernel panic") || line.contains("BUG:"))?;
    // Without `<0>[   12.345678] `.
    let said = line.split_once("] ").map_or(line, |(_, said)| said);
    Some(said.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_what_the_kernel_says() {
        let memory = "MemTotal: 1000 kB\nMemFree: 600 kB\nBuffers: 10 kB\nCached: 90 kB\nSReclaimable: 5 kB\nShmem: 70 kB\n";
        assert_eq!(parse_memory(memory), Some((1000, 635)));
        assert_eq!(parse_memory("nonsense"), None);
        let log = "Panic#1 Part1\n<4>[    2.1] fine\n<0>[    2.9] Kernel panic - not syncing: No working init found.\n";
        assert_eq!(
            panic_line(log).as_deref(),
            Some("Kernel panic - not syncing: No working init found.")
        );
        assert_eq!(panic_line("nothing"), None);
    }
}
