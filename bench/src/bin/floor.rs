//! The floor: the least a program must do to create a KVM machine, load a PVH ELF and run it until its first
//! byte on port 0x3F8. What the product adds is measured against it, paired and in one run.
//!
//! `floor KERNEL` prints one line per run: nanoseconds until the first byte, and CLOCK_MONOTONIC in nanoseconds at it; `floor --console KERNEL COMMAND-LINE` lets the guest go on
//! with its serial port on stdin and stdout, an interrupt controller, a PIT and an ACPI table of its CPUs.
//!
//! Options: `--runs N` (default 1), `--memory-mib N` (default 128), `--cpus N` (default 1, with `--console`).

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use kvm_bindings::{
    CpuId, KVM_MAX_CPUID_ENTRIES, kvm_pit_config, kvm_segment, kvm_userspace_memory_region,
};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// First port of the serial console, and one past its last.
const SERIAL: u16 = 0x3F8;
const SERIAL_END: u16 = 0x400;
const START_INFO: u64 = 0x6000;
const MEMORY_MAP: u64 = 0x6100;
const COMMAND_LINE: u64 = 0x7000;
const ACPI: u64 = 0xE_0000;

struct Options {
    kernel: String,
    command_line: String,
    console: bool,
    runs: u32,
    memory_mib: u64,
    cpus: u8,
}

fn options() -> Result<Options> {
    let mut found = Options {
        kernel: String::new(),
        command_line: String::new(),
        console: false,
        runs: 1,
        memory_mib: 128,
        cpus: 1,
    };
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value"))
        };
        match argument.as_str() {
            "--console" => found.console = true,
            "--runs" => found.runs = value()?.parse().context("--runs takes a number")?,
            "--memory-mib" => {
                found.memory_mib = value()?.parse().context("--memory-mib takes a number")?
            }
            "--cpus" => {
                found.cpus = value()?
                    .parse()
                    .context("--cpus takes a number up to 255")?
            }
            _ => words.push(argument),
        }
    }
    let mut words = words.into_iter();
    found.kernel = words.next().context(
        "usage: floor [--console] [--runs N] [--memory-mib N] [--cpus N] KERNEL [COMMAND-LINE]",
    )?;
    found.command_line = words.collect::<Vec<_>>().join(" ");
    ensure!(
        (4..=3072).contains(&found.memory_mib),
        "--memory-mib must be 4 to 3072"
    );
    ensure!(found.cpus >= 1, "--cpus must be at least 1");
    Ok(found)
}

fn main() -> Result<()> {
    let options = options()?;
    if options.console {
        let image = std::fs::read(&options.kernel).with_context(|| options.kernel.clone())?;
        let machine = Machine::create(&options, &image)?;
        return console(machine);
    }
    for _ in 0..options.runs {
        let (took, at) = first_byte(&options)?;
        println!("{} {at}", took.as_nanos());
    }
    Ok(())
}

/// Time from nothing (kernel image unread, /dev/kvm unopened) to the guest's first byte, and when that was.
fn first_byte(options: &Options) -> Result<(Duration, u64)> {
    let start = Instant::now();
    let image = std::fs::read(&options.kernel).with_context(|| options.kernel.clone())?;
    let mut machine = Machine::create(options, &image)?;
    loop {
        match machine.vcpus[0].run().context("running the vCPU")? {
            VcpuExit::IoOut(SERIAL, _) => return Ok((start.elapsed(), now_ns()?)),
            VcpuExit::IoIn(_, data) => data.fill(0xFF),
            VcpuExit::IoOut(..) => {}
            other => bail!("the guest stopped before its first byte: {other:?}"),
        }
    }
}

/// CLOCK_MONOTONIC.
fn now_ns() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

/// A machine ready to run. Fields drop in order: the vCPUs and the VM before the memory they use.
struct Machine {
    vcpus: Vec<VcpuFd>,
    vm: VmFd,
    _memory: GuestMemoryMmap,
}

impl Machine {
    fn create(options: &Options, image: &[u8]) -> Result<Self> {
        let kvm = Kvm::new().context("opening /dev/kvm")?;
        let vm = kvm.create_vm().context("creating a VM")?;
        let bytes = options.memory_mib << 20;
        let memory =
            GuestMemoryMmap::<()>::from_ranges(&[(GuestAddress(0), usize::try_from(bytes)?)])
                .context("mapping guest memory")?;
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: bytes,
            userspace_addr: memory.get_host_address(GuestAddress(0))? as u64,
        };
        // SAFETY: the region is exactly the mapping owned by `memory`, which the machine keeps until after its VM and
        // vCPUs are closed, and nothing here holds a Rust reference into it.
        unsafe { vm.set_user_memory_region(region) }.context("giving the VM its memory")?;
        if options.console {
            vm.create_irq_chip().context("creating the irqchip")?;
            vm.create_pit2(kvm_pit_config::default())
                .context("creating the PIT")?;
            write_cpu_table(&memory, options.cpus)?;
        }
        let entry = load_elf(&memory, image)?;
        write_start_info(&memory, bytes, options)?;
        let supported = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .context("reading the supported CPUID")?;
        let mut vcpus = Vec::new();
        for index in 0..options.cpus {
            let vcpu = vm
                .create_vcpu(u64::from(index))
                .context("creating a vCPU")?;
            set_cpuid(&vcpu, &supported, index)?;
            if index == 0 {
                set_registers(&vcpu, entry)?;
            }
            vcpus.push(vcpu);
        }
        Ok(Self {
            vcpus,
            vm,
            _memory: memory,
        })
    }
}

fn set_cpuid(vcpu: &VcpuFd, supported: &CpuId, index: u8) -> Result<()> {
    let mut cpuid = supported.clone();
    for entry in cpuid.as_mut_slice() {
        if entry.function == 1 {
            entry.ebx = (entry.ebx & 0x00FF_FFFF) | (u32::from(index) << 24);
        }
    }
    vcpu.set_cpuid2(&cpuid).context("setting the vCPU's CPUID")
}

/// The PVH start state: 32-bit protected mode, flat segments, paging off, ebx = start info.
fn set_registers(vcpu: &VcpuFd, entry: u64) -> Result<()> {
    let mut special = vcpu.get_sregs()?;
    let flat = |selector, kind| kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector,
        type_: kind,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    special.cs = flat(0x08, 11);
    let data = flat(0x10, 3);
    (special.ds, special.es, special.fs, special.gs, special.ss) = (data, data, data, data, data);
    special.tr = kvm_segment {
        limit: 0x67,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    special.cr0 = 1;
    special.cr4 = 0;
    vcpu.set_sregs(&special)?;
    let mut general = vcpu.get_regs()?;
    general.rip = entry;
    general.rbx = START_INFO;
    general.rflags = 2;
    vcpu.set_regs(&general)?;
    Ok(())
}

fn number<const N: usize>(image: &[u8], at: u64) -> Result<u64> {
    let at = usize::try_from(at)?;
    let bytes = image
        .get(at..at.saturating_add(N))
        .context("the kernel image is cut short")?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, byte| (value << 8) | u64::from(*byte)))
}

/// Copies the loadable segments and returns the PVH entry point from the ELF note (type 18, name "Xen").
fn load_elf(memory: &GuestMemoryMmap, image: &[u8]) -> Result<u64> {
    ensure!(
        image.starts_with(b"\x7FELF\x02\x01"),
        "the kernel is not a 64-bit little-endian ELF file"
    );
    let (table, size, count) = (
        number::<8>(image, 32)?,
        number::<2>(image, 54)?,
        number::<2>(image, 56)?,
    );
    let mut entry = None;
    for index in 0..count {
        let header = table + index * size;
        let (kind, offset, length) = (
            number::<4>(image, header)?,
            number::<8>(image, header + 8)?,
            number::<8>(image, header + 32)?,
        );
        let start = usize::try_from(offset)?;
        let content = image
            .get(start..start.saturating_add(usize::try_from(length)?))
            .context("a segment lies outside the kernel image")?;
        match kind {
            1 => memory
                .write_slice(content, GuestAddress(number::<8>(image, header + 24)?))
                .context("a segment lies outside guest memory")?,
            4 => entry = entry.or(pvh_entry(content)?),
            _ => {}
        }
    }
    entry.context("the kernel has no PVH entry note")
}

fn pvh_entry(notes: &[u8]) -> Result<Option<u64>> {
    let mut at = 0;
    while at + 12 <= notes.len() as u64 {
        let (name, value, kind) = (
            number::<4>(notes, at)?,
            number::<4>(notes, at + 4)?,
            number::<4>(notes, at + 8)?,
        );
        let content = at + 12 + name.next_multiple_of(4);
        if kind == 18 {
            return Ok(Some(number::<4>(notes, content)?));
        }
        at = content + value.next_multiple_of(4);
    }
    Ok(None)
}

/// `hvm_start_info` version 1 with a memory map of two entries.
fn write_start_info(memory: &GuestMemoryMmap, bytes: u64, options: &Options) -> Result<()> {
    let rsdp = if options.console { ACPI } else { 0 };
    memory.write_obj(0x336E_C578_u32, GuestAddress(START_INFO))?;
    memory.write_obj(1_u32, GuestAddress(START_INFO + 4))?;
    let mut line = options.command_line.clone().into_bytes();
    line.push(0);
    memory.write_slice(&line, GuestAddress(COMMAND_LINE))?;
    for (offset, value) in [(24, COMMAND_LINE), (32, rsdp), (40, MEMORY_MAP), (48, 2)] {
        memory.write_obj(value, GuestAddress(START_INFO + offset))?;
    }
    for (index, (from, to)) in [(0_u64, 0xA_0000_u64), (0x10_0000, bytes)]
        .into_iter()
        .enumerate()
    {
        let at = MEMORY_MAP + 24 * index as u64;
        memory.write_obj(from, GuestAddress(at))?;
        memory.write_obj(to - from, GuestAddress(at + 8))?;
        memory.write_obj(1_u64, GuestAddress(at + 16))?;
    }
    Ok(())
}

/// RSDP, XSDT and a MADT that lists the CPUs.
fn write_cpu_table(memory: &GuestMemoryMmap, cpus: u8) -> Result<()> {
    let table = |name: &[u8; 4], body: &[u8]| {
        let mut bytes = Vec::from(name);
        bytes.extend(
            u32::try_from(36 + body.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
        bytes.extend([1, 0]);
        bytes.extend(b"ASHLARFLOOR   \x01\0\0\0ASHL\x01\0\0\0");
        bytes.extend(body);
        bytes[9] = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        bytes
    };
    let mut madt = Vec::from([0, 0, 0xE0, 0xFE, 0, 0, 0, 0]);
    for index in 0..cpus {
        madt.extend([0, 8, index, index, 1, 0, 0, 0]);
    }
    madt.extend([1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0]);
    let mut rsdp = Vec::from(b"RSD PTR \0ASHLAR\x02\0\0\0\0\x24\0\0\0");
    rsdp.extend((ACPI + 64).to_le_bytes());
    rsdp.extend([0; 4]);
    rsdp[8] = rsdp[..20]
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    rsdp[32] = rsdp.iter().fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
    memory.write_slice(&rsdp, GuestAddress(ACPI))?;
    memory.write_slice(
        &table(b"XSDT", &(ACPI + 128).to_le_bytes()),
        GuestAddress(ACPI + 64),
    )?;
    memory.write_slice(&table(b"APIC", &madt), GuestAddress(ACPI + 128))?;
    Ok(())
}

/// Runs every vCPU on a thread of its own until the guest resets, powers off or fails; then ends the process.
fn console(machine: Machine) -> Result<()> {
    let Machine { vcpus, vm, _memory } = machine;
    let input = Arc::new(Mutex::new(VecDeque::new()));
    let mut threads = Vec::new();
    for (index, mut vcpu) in vcpus.into_iter().enumerate() {
        let input = Arc::clone(&input);
        threads.push(std::thread::spawn(move || {
            let end = run_vcpu(&mut vcpu, &input);
            eprintln!("floor: vCPU {index}: {end}");
            std::process::exit(0);
        }));
    }
    let mut byte = [0];
    while std::io::stdin().read(&mut byte)? == 1 {
        input
            .lock()
            .map_err(|_| anyhow::anyhow!("a vCPU thread panicked"))?
            .push_back(byte[0]);
        vm.set_irq_line(4, true)?;
        vm.set_irq_line(4, false)?;
    }
    for thread in threads {
        drop(thread.join());
    }
    Ok(())
}

/// Emulates just enough of a 16550 for a console; returns why the vCPU stopped.
fn run_vcpu(vcpu: &mut VcpuFd, input: &Mutex<VecDeque<u8>>) -> String {
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(SERIAL, data)) => {
                let mut stdout = std::io::stdout().lock();
                if stdout
                    .write_all(data)
                    .and_then(|()| stdout.flush())
                    .is_err()
                {
                    return "stdout closed".to_owned();
                }
            }
            Ok(VcpuExit::IoIn(port @ SERIAL..SERIAL_END, data)) => {
                let mut input = input
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                data[0] = match port - SERIAL {
                    0 => input.pop_front().unwrap_or(0),
                    2 => 0x04,
                    5 => 0x60 | u8::from(!input.is_empty()),
                    _ => 0,
                };
            }
            Ok(VcpuExit::IoOut(0x64, &[0xFE])) => {
                return "reset by the keyboard controller".to_owned();
            }
            Ok(VcpuExit::IoOut(0xCF9, _)) => return "reset by port 0xCF9".to_owned(),
            Ok(VcpuExit::IoOut(..) | VcpuExit::MmioWrite(..)) => {}
            Ok(VcpuExit::IoIn(_, data) | VcpuExit::MmioRead(_, data)) => data.fill(0xFF),
            Ok(other) => return format!("{other:?}"),
            Err(error) if matches!(error.errno(), 4 | 11) => {}
            Err(error) => return error.to_string(),
        }
    }
}
