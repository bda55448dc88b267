//! The state a vCPU starts in.

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::KvmError;

/// Where the boot processor starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// The PVH start (Xen's x86/HVM direct boot ABI): 32-bit protected mode without paging, flat segments,
    /// `ebx` pointing at the start info.
    Pvh {
        /// Guest-physical address of the first instruction.
        entry: u32,
        /// Guest-physical address of `hvm_start_info`.
        start_info: u32,
    },
    /// Linux' 64-bit boot protocol: long mode on the tables of [`write_long_mode_tables`], `rsi` pointing at
    /// the boot parameters.
    Linux64 {
        /// Guest-physical address of the 64-bit entry point.
        entry: u64,
        /// Guest-physical address of `boot_params`.
        boot_params: u64,
    },
}

/// Guest-physical range used by [`write_long_mode_tables`], end excluded: a GDT, then one PML4, one PDPT and
/// four page directories.
pub const LONG_MODE_TABLES: std::ops::Range<u64> = 0x8000..0xF000;

const GDT: u64 = 0x8000;
const PML4: u64 = 0x9000;
const PDPT: u64 = 0xA000;
const DIRECTORIES: u64 = 0xB000;
const GIB: u64 = 1 << 30;

const PRESENT_WRITABLE: u64 = 0b11;
const LARGE: u64 = 1 << 7;

const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME_LMA: u64 = 1 << 8 | 1 << 10;
const RFLAGS_FIXED: u64 = 2;

const MSR_IA32_MISC_ENABLE: u32 = 0x1A0;
const MISC_ENABLE_FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2FF;
const MTRR_ENABLE_WRITE_BACK: u64 = 1 << 11 | 6;

const CODE: u8 = 0xB;
const DATA: u8 = 0x3;
const TSS_BUSY: u8 = 0xB;
/// Selectors that Linux' boot protocol asks for: __BOOT_CS, __BOOT_DS.
const CODE_SELECTOR: u16 = 0x10;
const DATA_SELECTOR: u16 = 0x18;
const TSS_SELECTOR: u16 = 0x20;

/// Writes a GDT and page tables that map the first 4 GiB one to one by 2 MiB pages, at [`LONG_MODE_TABLES`].
///
/// # Errors
/// The memory does not reach that far.
pub fn write_long_mode_tables(memory: &GuestMemoryMmap) -> Result<(), vm_memory::GuestMemoryError> {
    let descriptors = [
        0,
        0,
        descriptor(&segment(CODE_SELECTOR, CODE, Width::Long)),
        descriptor(&segment(DATA_SELECTOR, DATA, Width::Protected)),
        descriptor(&task(TSS_SELECTOR)),
        0,
    ];
    write_words(memory, GDT, &descriptors)?;
    write_words(memory, PML4, &[PDPT | PRESENT_WRITABLE])?;
    let directory = |index: u64| DIRECTORIES + index * 4096;
    let pointers: Vec<u64> = (0..4)
        .map(|index| directory(index) | PRESENT_WRITABLE)
        .collect();
    write_words(memory, PDPT, &pointers)?;
    let pages: Vec<u64> = (0..4 * GIB)
        .step_by(2 << 20)
        .map(|address| address | PRESENT_WRITABLE | LARGE)
        .collect();
    write_words(memory, DIRECTORIES, &pages)
}

fn write_words(
    memory: &GuestMemoryMmap,
    at: u64,
    words: &[u64],
) -> Result<(), vm_memory::GuestMemoryError> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write_slice(&bytes, GuestAddress(at))
}

/// Puts the boot processor at `entry`.
pub(crate) fn set_entry(vcpu: &VcpuFd, entry: Entry) -> Result<(), KvmError> {
    let mut special = vcpu
        .get_sregs()
        .map_err(KvmError::of("reading registers"))?;
    let width = match entry {
        Entry::Pvh { .. } => Width::Protected,
        Entry::Linux64 { .. } => Width::Long,
    };
    special.cs = segment(CODE_SELECTOR, CODE, width);
    let data = segment(DATA_SELECTOR, DATA, Width::Protected);
    (special.ds, special.es, special.fs) = (data, data, data);
    (special.gs, special.ss) = (data, data);
    special.tr = task(TSS_SELECTOR);
    special.cr0 = CR0_PE | CR0_ET;
    let general = match entry {
        Entry::Pvh { entry, start_info } => kvm_regs {
            rip: u64::from(entry),
            rbx: u64::from(start_info),
            rflags: RFLAGS_FIXED,
            ..Default::default()
        },
        Entry::Linux64 { entry, boot_params } => {
            special.gdt.base = GDT;
            special.gdt.limit = 6 * 8 - 1;
            special.cr0 |= CR0_PG;
            special.cr3 = PML4;
            special.cr4 |= CR4_PAE;
            special.efer |= EFER_LME_LMA;
            kvm_regs {
                rip: entry,
                rsi: boot_params,
                rflags: RFLAGS_FIXED,
                ..Default::default()
            }
        }
    };
    vcpu.set_sregs(&special)
        .map_err(KvmError::of("setting special registers"))?;
    vcpu.set_regs(&general)
        .map_err(KvmError::of("setting registers"))
}

/// Sets what every vCPU has at power-on beyond KVM's reset state. Registers a host does not have are skipped:
/// they only spare the guest a warning.
pub(crate) fn set_msrs(vcpu: &VcpuFd) {
    let entries = [
        (MSR_MTRR_DEF_TYPE, MTRR_ENABLE_WRITE_BACK),
        (MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING),
    ]
    .map(|(index, data)| kvm_msr_entry {
        index,
        data,
        ..Default::default()
    });
    if let Ok(msrs) = Msrs::from_entries(&entries) {
        let _ = vcpu.set_msrs(&msrs);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Width {
    Protected,
    Long,
}

/// A flat segment, base 0, limit 4 GiB.
fn segment(selector: u16, type_: u8, width: Width) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xFFFF_FFFF,
        selector,
        type_,
        present: 1,
        dpl: 0,
        db: u8::from(width == Width::Protected),
        s: 1,
        l: u8::from(width == Width::Long),
        g: 1,
        avl: 0,
        unusable: 0,
        padding: 0,
    }
}

fn task(selector: u16) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0x67,
        selector,
        type_: TSS_BUSY,
        present: 1,
        ..Default::default()
    }
}

/// The GDT entry of a segment with base 0 (Intel SDM vol. 3 §3.4.5).
fn descriptor(segment: &kvm_segment) -> u64 {
    let limit = u64::from(if segment.g == 1 {
        segment.limit >> 12
    } else {
        segment.limit
    });
    let access =
        u64::from(segment.type_ | segment.s << 4 | segment.dpl << 5 | segment.present << 7);
    let flags = u64::from(segment.avl | segment.l << 1 | segment.db << 2 | segment.g << 3);
    limit & 0xFFFF | access << 40 | (limit >> 16 & 0xF) << 48 | flags << 52
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_those_of_linux() {
        assert_eq!(
            descriptor(&segment(CODE_SELECTOR, CODE, Width::Long)),
            0x00AF_9B00_0000_FFFF
        );
        assert_eq!(
            descriptor(&segment(DATA_SELECTOR, DATA, Width::Protected)),
            0x00CF_9300_0000_FFFF
        );
        assert_eq!(
            descriptor(&segment(CODE_SELECTOR, CODE, Width::Protected)),
            0x00CF_9B00_0000_FFFF
        );
    }

    #[test]
    fn page_tables_map_each_2_mib_to_itself() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).expect("memory");
        write_long_mode_tables(&memory).expect("fits");
        let read = |at| memory.read_obj::<u64>(GuestAddress(at)).expect("in range");
        for address in [0, 2 << 20, 1 << 30, 0xFEE0_0000_u64, (4 << 30) - 1] {
            let pdpt = read(PML4) & !0xFFF;
            let directory = read(pdpt + 8 * (address >> 30)) & !0xFFF;
            let page = read(directory + 8 * (address >> 21 & 0x1FF));
            assert_eq!(page & !0xFFF, address & !0x1F_FFFF);
            assert_eq!(page & 0xFFF, 0x83);
        }
        const { assert!(DIRECTORIES + 4 * 4096 == LONG_MODE_TABLES.end) };
    }
}
