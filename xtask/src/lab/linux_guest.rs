//! A stock Linux guest under `ashlard` on a host that QEMU emulates with AMD's virtualisation.
//!
//! ```text
//! this machine ─ QEMU (TCG, SVM) ─ the host: Debian's kernel, host-init.sh, ashlard
//!                                    └─ vmm (KVM) ─ the guest: Debian's kernel, guest-init.sh
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use image_build::{Archive, Kernel};

use super::kernel;
use super::qemu::Machine;
use super::report::Report;
use super::rootfs;
use crate::hash::Inputs;
use crate::setup::{self, Purpose};
use crate::{interrupt, paths, pool, progress, targets};

const HOST_INIT: &str = include_str!("host-init.sh");
const HOST_GUEST: &str = include_str!("host-guest.sh");
const GUEST_INIT: &str = include_str!("guest-init.sh");
const GUEST_UDHCPC: &str = include_str!("guest-udhcpc.sh");

const HOST_MODULES: &[&str] = &[
    "kvm-amd",
    "tun",
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "nf_tables",
    "nft_ct",
    "nft_chain_nat",
    "nft_masq",
    "nft_nat",
    "nft_limit",
    "nft_reject_inet",
    "nft_log",
    "nf_conntrack",
    "xfs",
    "veth",
    "af_packet",
];
const GUEST_MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "virtio-rng",
    "af_packet",
];

/// Every check that must have been made inside; a console that merely says nothing bad is no success.
const EXPECTED: &[&str] = &[
    "boot",
    "modules",
    "kvm",
    "nft",
    "tap",
    "pool",
    "io_uring",
    "daemon",
    "import",
    "run",
    "guest",
    "guest-disk",
    "guest-disk-verified",
    "guest-interface",
    "guest-address",
    "guest-gateway",
    "stopped",
];
const EXPECTED_ALONE: &[&str] = &["disk", "disk-verified", "interface", "address", "gateway"];

const HOST_MEMORY_MIB: u32 = 1024;
const GUEST_MEMORY_MIB: u32 = 256;
/// Sparse; XFS makes nothing smaller than 300 MiB.
const DISK: u64 = 2 << 30;
/// Emulating both takes 13–19 CPU seconds; a busy machine may take many times that.
const LIMIT: Duration = Duration::from_secs(300);
const LIMIT_ALONE: Duration = Duration::from_secs(120);

/// Runs the guest under `ashlard` under QEMU; the programs must be built already or are built here.
pub fn run() -> Result<()> {
    setup::ensure(&[Purpose::Build, Purpose::Lab])?;
    let plugins = targets::build(targets::Options::default())?.plugins;
    crate::build::programs()?;
    let lab = paths::out_dir("lab")?;
    let kernel = kernel::get()?;
    let guest = guest_initramfs(&kernel, &lab)?;
    let host = host_initramfs(&kernel, &guest, &plugins, &lab)?;
    let disk = Scratch::new(lab.join("host-disk.img"), DISK)?;
    pool::format_xfs(&disk.0)?;
    let machine = Machine {
        kernel: &kernel.image,
        initramfs: &host,
        command_line: "",
        memory_mib: HOST_MEMORY_MIB,
        disk: &disk.0,
        network: false,
        limit: LIMIT,
        log: lab.join("linux-guest.log"),
    };
    boot(
        "a Linux guest under ashlard on an emulated host",
        &machine,
        Report::new("LAB"),
        EXPECTED,
    )
}

/// Runs the guest directly under QEMU: tells the guest's own faults from those of what runs it.
pub fn run_alone() -> Result<()> {
    setup::ensure(&[Purpose::Lab])?;
    let lab = paths::out_dir("lab")?;
    let kernel = kernel::get()?;
    let guest = guest_initramfs(&kernel, &lab)?;
    let disk = Scratch::new(lab.join("guest-disk.img"), DISK)?;
    let machine = Machine {
        kernel: &kernel.image,
        initramfs: &guest,
        command_line: "",
        memory_mib: GUEST_MEMORY_MIB,
        disk: &disk.0,
        network: true,
        limit: LIMIT_ALONE,
        log: lab.join("linux-guest-alone.log"),
    };
    boot(
        "the Linux guest directly under QEMU",
        &machine,
        Report::new("GUEST"),
        EXPECTED_ALONE,
    )
}

fn boot(name: &str, machine: &Machine<'_>, mut report: Report, expected: &[&str]) -> Result<()> {
    progress::step(name, || {
        let ran = machine.run(|line| {
            if let Some(said) = report.line(line) {
                progress::note(said);
            }
        });
        interrupt::check()?;
        // What failed inside says more than how the machine then ended.
        match (report.verdict(expected), ran) {
            (Ok(()), ran) => ran,
            (Err(verdict), Ok(())) => Err(verdict)
                .with_context(|| format!("the whole console is in {}", machine.log.display())),
            (Err(verdict), Err(ran)) => Err(ran.context(verdict)),
        }
    })
}

/// A stock kernel and the initramfs of a guest that tries its devices.
pub fn guest_parts() -> Result<(PathBuf, PathBuf)> {
    let kernel = kernel::get()?;
    let initramfs = guest_initramfs(&kernel, &paths::out_dir("lab")?)?;
    Ok((kernel.image, initramfs))
}

fn guest_initramfs(kernel: &Kernel, lab: &Path) -> Result<PathBuf> {
    let mut inputs = Inputs::default();
    inputs
        .text(&kernel.version)
        .text(GUEST_INIT)
        .text(GUEST_UDHCPC)
        .text(&GUEST_MODULES.join(" "));
    cached(lab, "guest-initramfs", inputs, |to| {
        let mut archive = rootfs::base(GUEST_INIT)?;
        archive.file("/etc/udhcpc", 0o755, GUEST_UDHCPC.as_bytes().to_vec());
        add_modules(kernel, GUEST_MODULES, &mut archive)?;
        rootfs::write(&archive, to)
    })
}

fn host_initramfs(
    kernel: &Kernel,
    guest: &Path,
    plugins: &[PathBuf],
    lab: &Path,
) -> Result<PathBuf> {
    let programs =
        ["ashlard", "ashlar"].map(|name| (format!("/usr/bin/{name}"), paths::program(name)));
    let nft = paths::find_program("nft").context("nft is missing: install nftables")?;
    let mut inputs = Inputs::default();
    inputs
        .text(&kernel.version)
        .text(HOST_INIT)
        .text(HOST_GUEST)
        .text(&HOST_MODULES.join(" "))
        .file(guest)?;
    for (_, program) in &programs {
        inputs.file(program)?;
    }
    for plugin in plugins {
        inputs.file(plugin)?;
    }
    cached(lab, "host-initramfs", inputs, |to| {
        let mut archive = rootfs::base(HOST_INIT)?;
        archive.file("/etc/lab", 0o644, HOST_GUEST.as_bytes().to_vec());
        archive.copy("/lab/vmlinuz", 0o644, &kernel.image)?;
        archive.copy("/lab/initramfs", 0o644, guest)?;
        rootfs::add_program(&mut archive, "/usr/sbin/nft", &nft)?;
        for (path, program) in &programs {
            rootfs::add_program(&mut archive, path, program)?;
        }
        for plugin in plugins {
            let name = plugin.file_name().unwrap_or_default().to_string_lossy();
            archive.copy(&format!("/usr/share/ashlar/plugins/{name}"), 0o644, plugin)?;
        }
        add_modules(kernel, HOST_MODULES, &mut archive)?;
        rootfs::write(&archive, to)
    })
}

/// Adds modules, and the list the first process loads them from.
fn add_modules(kernel: &Kernel, names: &[&str], archive: &mut Archive) -> Result<()> {
    let list = kernel.add_modules(names, archive)?;
    archive.file("/etc/modules", 0o644, list.join("\n").into_bytes());
    Ok(())
}

/// Makes a file unless the one made from the same inputs is still there; only the newest is kept.
fn cached(
    dir: &Path,
    name: &str,
    inputs: Inputs,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let file = dir.join(name);
    let stamp = dir.join(format!("{name}.stamp"));
    let digest = inputs.digest();
    let fresh = std::fs::read_to_string(&stamp).is_ok_and(|made| made == digest);
    if !(fresh && file.exists()) {
        let _ = std::fs::remove_file(&stamp);
        progress::quiet_step(&format!("make {name}"), || make(&file))?;
        std::fs::write(&stamp, digest)
            .with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(file)
}

/// A sparse disk of its own for one run.
struct Scratch(PathBuf);

impl Scratch {
    fn new(path: PathBuf, size: u64) -> Result<Self> {
        let scratch = Self(path);
        File::create(&scratch.0)
            .and_then(|file| file.set_len(size))
            .with_context(|| format!("cannot make {}", scratch.0.display()))?;
        Ok(scratch)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
