//! What is written once into the kernel: settings that make a host harder to break, huge pages, its name.

use std::{fs, path::Path};

use crate::Error;

/// Settings of the kernel (Linux, Documentation/admin-guide/sysctl) and their values on every host.
pub const HARDENING: &[(&str, &str)] = &[
    ("kernel.kptr_restrict", "2"),
    ("kernel.dmesg_restrict", "1"),
    ("kernel.unprivileged_bpf_disabled", "1"),
    ("net.core.bpf_jit_harden", "2"),
    ("kernel.kexec_load_disabled", "1"),
    ("kernel.sysrq", "0"),
    ("kernel.perf_event_paranoid", "3"),
    ("kernel.yama.ptrace_scope", "2"),
    ("kernel.randomize_va_space", "2"),
    ("kernel.core_pattern", "|/nonexistent"),
    ("fs.suid_dumpable", "0"),
    ("fs.protected_hardlinks", "1"),
    ("fs.protected_symlinks", "1"),
    ("fs.protected_fifos", "2"),
    ("fs.protected_regular", "2"),
    ("vm.unprivileged_userfaultfd", "0"),
    ("vm.mmap_min_addr", "65536"),
    ("net.ipv4.conf.all.accept_redirects", "0"),
    ("net.ipv4.conf.default.accept_redirects", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.all.accept_source_route", "0"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv6.conf.all.accept_redirects", "0"),
    ("net.ipv6.conf.default.accept_redirects", "0"),
];

/// Sets one setting, named as sysctl(8) does.
///
/// # Errors
/// The kernel has none of that name, or refused the value.
pub fn set(name: &str, value: &str) -> Result<(), Error> {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(path, value).map_err(Error::of(format!("set {name} to {value}")))
}

/// Sets all of them that the kernel has; returns those it refused.
pub fn harden() -> Vec<Error> {
    HARDENING
        .iter()
        .filter(|(name, _)| Path::new("/proc/sys").join(name.replace('.', "/")).exists())
        .filter_map(|(name, value)| set(name, value).err())
        .collect()
}

/// Sets so many huge pages of 2 MiB and of 1 GiB aside. Returns how many the kernel found room for.
///
/// # Errors
/// The kernel has none of that size.
pub fn huge_pages(mib2: u64, gib1: u64) -> Result<(u64, u64), Error> {
    let reserve = |size_kib: u64, count: u64| -> Result<u64, Error> {
        if count == 0 {
            return Ok(0);
        }
        let path = format!("/sys/kernel/mm/hugepages/hugepages-{size_kib}kB/nr_hugepages");
        let doing = format!("set {count} huge pages of {size_kib} KiB aside");
        fs::write(&path, count.to_string()).map_err(Error::of(&doing))?;
        let text = fs::read_to_string(&path).map_err(Error::of(&doing))?;
        Ok(text.trim().parse().unwrap_or_default())
    };
    // The large ones first: they need memory in one piece.
    let large = reserve(1 << 20, gib1)?;
    Ok((reserve(2 << 10, mib2)?, large))
}

/// Sets the host's name.
///
/// # Errors
/// The kernel refused.
pub fn host_name(name: &str) -> Result<(), Error> {
    rustix::system::sethostname(name.as_bytes()).map_err(Error::of(format!("name the host {name}")))
}

/// Lets the groups below the root limit processors, memory, I/O and processes, and keep processes on CPUs.
///
/// # Errors
/// There is no cgroup file system, or a controller is missing.
pub fn cgroup_controllers() -> Result<(), Error> {
    fs::write(
        "/sys/fs/cgroup/cgroup.subtree_control",
        "+cpu +memory +io +pids",
    )
    .map_err(Error::of("let cgroups limit cpu, memory, io and pids"))?;
    // By itself, so that a kernel without it has the others.
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset")
        .map_err(Error::of("let cgroups keep processes on CPUs"))
}
