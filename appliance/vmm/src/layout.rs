//! Where everything is in the guest's address spaces. Guest-physical addresses; ranges exclude their end.

use std::ops::Range;

/// End of the RAM below the PCI window; more memory goes above 4 GiB.
pub const LOW_RAM_LIMIT: u64 = 3 << 30;
/// Start of the RAM that does not fit below.
pub const HIGH_RAM_START: u64 = 4 << 30;
/// Kernels are loaded at or above this.
pub const KERNEL_START: u64 = 1 << 20;
/// Reserved in the memory map: the legacy video and firmware area.
pub const LEGACY_HOLE: Range<u64> = 0xA_0000..0x10_0000;
/// ACPI tables, the RSDP first.
pub const ACPI_TABLES: Range<u64> = 0xE_0000..0x10_0000;
/// PVH start info, modules and memory map.
pub const PVH_START_INFO: u64 = 0x6000;
/// PVH module list.
pub const PVH_MODULES: u64 = 0x6040;
/// PVH memory map.
pub const PVH_MEMORY_MAP: u64 = 0x6100;
/// Linux boot parameters ("zero page").
pub const LINUX_BOOT_PARAMS: u64 = 0x7000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest command line in bytes, without its terminating NUL.
pub const CMDLINE_MAX: usize = 2047;

/// PCI base addresses.
pub const PCI_WINDOW: Range<u32> = 0xC000_0000..0xE000_0000;
/// PCI configuration space of bus 0.
pub const ECAM: Range<u64> = 0xE000_0000..0xE010_0000;
/// I/O APIC.
pub const IO_APIC: u32 = 0xFEC0_0000;
/// Local APICs.
pub const LOCAL_APIC: u32 = 0xFEE0_0000;
/// From KVM's own pages to the end of the first 4 GiB.
pub const KVM_PAGES: Range<u64> = 0xFFFB_C000..0x1_0000_0000;

/// COM1: first port and number of ports.
pub const COM1: Range<u16> = 0x3F8..0x400;
/// COM1's interrupt.
pub const COM1_GSI: u32 = 4;
/// Keyboard controller's command port, which resets on 0xFE.
pub const KEYBOARD_PORT: u16 = 0x64;
/// PM1a event block: status (2 bytes), enable (2 bytes).
pub const PM1_EVENT: Range<u16> = 0x600..0x604;
/// PM1a control register.
pub const PM1_CONTROL: Range<u16> = 0x604..0x606;
/// SLP_TYP of S5.
pub const S5_SLEEP_TYPE: u8 = 5;
/// System control interrupt.
pub const SCI_GSI: u8 = 9;
/// PCI configuration address and data.
pub const PCI_CONFIG: Range<u16> = 0xCF8..0xD00;
/// Reset register; lies inside [`PCI_CONFIG`] and counts for 1-byte accesses.
pub const RESET_PORT: u16 = 0xCF9;
/// What the firmware tables say to write to [`RESET_PORT`].
pub const RESET_VALUE: u8 = 6;

/// The guest's RAM as (address, bytes) for `bytes` of memory.
pub fn ram(bytes: u64) -> Vec<(u64, u64)> {
    let low = bytes.min(LOW_RAM_LIMIT);
    let mut regions = vec![(0, low)];
    if bytes > low {
        regions.push((HIGH_RAM_START, bytes - low));
    }
    regions
}

/// One range of the memory map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MapEntry {
    /// First byte.
    pub address: u64,
    /// Number of bytes.
    pub bytes: u64,
    /// E820 type: 1 RAM, 2 reserved. PVH uses the same numbers.
    pub kind: u32,
}

/// The memory map a guest is told for `bytes` of memory.
pub fn memory_map(bytes: u64) -> Vec<MapEntry> {
    const RAM: u32 = 1;
    const RESERVED: u32 = 2;
    let entry = |range: Range<u64>, kind| MapEntry {
        address: range.start,
        bytes: range.end - range.start,
        kind,
    };
    let low = bytes.min(LOW_RAM_LIMIT);
    let mut map = vec![
        entry(0..LEGACY_HOLE.start, RAM),
        entry(LEGACY_HOLE, RESERVED),
        entry(LEGACY_HOLE.end..low, RAM),
        entry(ECAM, RESERVED),
        entry(KVM_PAGES, RESERVED),
    ];
    if bytes > low {
        map.push(entry(HIGH_RAM_START..HIGH_RAM_START + (bytes - low), RAM));
    }
    map
}

/// The layout as the ACPI tables describe it.
pub fn acpi(vcpus: u8) -> acpi::MachineLayout {
    acpi::MachineLayout {
        vcpus,
        tables: ACPI_TABLES,
        local_apic: LOCAL_APIC,
        io_apic: IO_APIC,
        pci_window: PCI_WINDOW,
        ecam: 0xE000_0000,
        com1_port: COM1.start,
        com1_gsi: COM1_GSI,
        pm1_event_port: PM1_EVENT.start,
        pm1_control_port: PM1_CONTROL.start,
        s5_sleep_type: S5_SLEEP_TYPE,
        sci_gsi: SCI_GSI,
        reset_port: RESET_PORT,
        reset_value: RESET_VALUE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_is_split_below_the_window() {
        assert_eq!(ram(64 << 20), [(0, 64 << 20)]);
        assert_eq!(ram(3 << 30), [(0, 3 << 30)]);
        assert_eq!(ram(5 << 30), [(0, 3 << 30), (4 << 30, 2 << 30)]);
    }

    #[test]
    fn map_entries_ascend_without_overlap_and_count_all_ram_but_the_hole() {
        for bytes in [2 << 20, 1 << 30, 3 << 30, 16 << 30] {
            let map = memory_map(bytes);
            let ends = map.iter().map(|entry| entry.address + entry.bytes);
            assert!(ends.zip(&map[1..]).all(|(end, next)| end <= next.address));
            let usable: u64 = map
                .iter()
                .filter(|entry| entry.kind == 1)
                .map(|entry| entry.bytes)
                .sum();
            assert_eq!(usable, bytes - (LEGACY_HOLE.end - LEGACY_HOLE.start));
        }
    }
}
