//! The tables with fixed structures: FADT and MADT.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use crate::{MachineLayout, OEM, OEM_REVISION, OEM_TABLE, Table};

/// IAPC_BOOT_ARCH (ACPI 6.5 §5.2.9.3): legacy devices (a UART), no VGA, no CMOS clock; no 8042.
const BOOT_ARCHITECTURE: u16 = 1 | 1 << 2 | 1 << 5;
/// Latencies above 100 and 1000 µs say that C2 and C3 do not exist.
const NO_C_STATE: u16 = 0xFFFF;

/// FADT (ACPI 6.5 §5.2.9): the classic model without PM timer, SMI and general-purpose events.
pub(crate) fn fadt(layout: &MachineLayout, facs: u64, dsdt: u64) -> FADT {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    let low = |address: u64| u32::try_from(address).unwrap_or(0).into();
    fadt.firmware_ctrl = low(facs);
    fadt.dsdt = low(dsdt);
    fadt.x_dsdt = dsdt.into();
    fadt.sci_int = u16::from(layout.sci_gsi).into();
    fadt.pm1a_evt_blk = u32::from(layout.pm1_event_port).into();
    fadt.pm1a_cnt_blk = u32::from(layout.pm1_control_port).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.x_pm1a_evt_blk = port(layout.pm1_event_port, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = port(layout.pm1_control_port, 16, AccessSize::WordAccess);
    fadt.p_lvl2_lat = NO_C_STATE.into();
    fadt.p_lvl3_lat = NO_C_STATE.into();
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(layout.reset_port, 8, AccessSize::ByteAccess);
    fadt.reset_value = layout.reset_value;
    fadt.finalize()
}

fn port(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(AddressSpace::SystemIo, bits, 0, access, u64::from(port))
}

/// MADT (ACPI 6.5 §5.2.12): every processor enabled, one I/O APIC, and the SCI as level, active high.
pub(crate) fn madt(layout: &MachineLayout) -> Table {
    const PCAT_COMPATIBLE: u32 = 1;
    const ENABLED: u32 = 1;
    /// Polarity active high (01), trigger mode level (11).
    const LEVEL_HIGH: u16 = 0b1101;
    let mut body = Vec::new();
    body.extend(layout.local_apic.to_le_bytes());
    body.extend(PCAT_COMPATIBLE.to_le_bytes());
    for id in 0..layout.vcpus {
        body.extend([0, 8, id, id]);
        body.extend(ENABLED.to_le_bytes());
    }
    body.extend([1, 12, 0, 0]);
    body.extend(layout.io_apic.to_le_bytes());
    body.extend(0_u32.to_le_bytes());
    // Interrupt source override: bus ISA, its own number, flags.
    body.extend([2, 10, 0, layout.sci_gsi]);
    body.extend(u32::from(layout.sci_gsi).to_le_bytes());
    body.extend(LEVEL_HIGH.to_le_bytes());
    Table::new(*b"APIC", 5, &body)
}
