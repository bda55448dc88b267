//! What the machine is and how it does: small facts for people.

use std::{fs, time::Duration};

/// Memory of the machine, KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the kernel manages.
    pub total_kib: u64,
    /// What could be given out without swapping.
    pub available_kib: u64,
}

/// The memory as it is now.
#[must_use]
pub fn memory() -> Memory {
    parse_memory(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn parse_memory(text: &str) -> Memory {
    let field = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .split_whitespace()
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or_default()
    };
    Memory {
        total_kib: field("MemTotal:"),
        available_kib: field("MemAvailable:"),
    }
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
        let memory =
            parse_memory("MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    600 kB\n");
        assert_eq!(
            memory,
            Memory {
                total_kib: 1000,
                available_kib: 600
            }
        );
        assert_eq!(parse_memory("nonsense"), Memory::default());
        let log = "Panic#1 Part1\n<4>[    2.1] fine\n<0>[    2.9] Kernel panic - not syncing: No working init found.\n";
        assert_eq!(
            panic_line(log).as_deref(),
            Some("Kernel panic - not syncing: No working init found.")
        );
        assert_eq!(panic_line("nothing"), None);
    }
}
