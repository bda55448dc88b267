//! How much memory a vmm takes.

use anyhow::{Result, ensure};

use crate::command::Invocation;

/// Memory that only this vmm uses, without its guest's: the private pages of all its mappings but the guest memory's.
pub fn private_kib(pid: &str) -> Result<u64> {
    let maps = Invocation::as_root("cat")
        .arg(format!("/proc/{pid}/smaps"))
        .read()?;
    let (mut total, mut guest) = (0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            guest = line.contains("/memfd:");
        } else if !guest && matches!(first, "Private_Clean:" | "Private_Dirty:") {
            total += words
                .next()
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0);
        }
    }
    ensure!(total > 0, "the memory of vmm {pid} cannot be read");
    Ok(total)
}
