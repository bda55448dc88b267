//! The ACPI tables of a machine (ACPI 6.5, classic hardware model).
//!
//! A pure function from a [`MachineLayout`] to the bytes of all tables and the address they belong at. It decides
//! nothing about the machine; whoever builds the machine passes the same layout to the tables and to the devices.
#![forbid(unsafe_code)]

mod dsdt;
mod fixed;

use acpi_tables::facs::FACS;
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};

const OEM: [u8; 6] = *b"ASHLAR";
const OEM_TABLE: [u8; 8] = *b"MACHINE ";
const OEM_REVISION: u32 = 1;

/// Local APIC structures may name ids up to this; higher ones need x2APIC structures.
const HIGHEST_APIC_ID: u8 = 254;

/// Where everything is that the tables speak of. Addresses are guest-physical, ranges exclude their end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineLayout {
    /// Number of processors; their APIC ids count from 0. 1 to 255.
    pub vcpus: u8,
    /// Where the tables go, the RSDP first. 16-byte aligned, below 4 GiB.
    pub tables: std::ops::Range<u64>,
    /// The local APICs.
    pub local_apic: u32,
    /// The I/O APIC, id 0, global interrupts from 0.
    pub io_apic: u32,
    /// Memory for PCI base addresses.
    pub pci_window: std::ops::Range<u32>,
    /// Configuration space of segment 0, bus 0: 1 MiB.
    pub ecam: u32,
    /// First of COM1's 8 ports.
    pub com1_port: u16,
    /// COM1's interrupt, edge-triggered.
    pub com1_gsi: u32,
    /// PM1a event block: status and enable register, 2 bytes each.
    pub pm1_event_port: u16,
    /// PM1a control register, 2 bytes.
    pub pm1_control_port: u16,
    /// The SLP_TYP value that means S5, 0 to 7.
    pub s5_sleep_type: u8,
    /// The system control interrupt: level, active high. Below 16.
    pub sci_gsi: u8,
    /// The reset register's port.
    pub reset_port: u16,
    /// What resets when written there.
    pub reset_value: u8,
}

/// All tables of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Where `bytes` belong; also the RSDP's address.
    pub address: u64,
    /// The tables, back to back.
    pub bytes: Vec<u8>,
}

/// The tables cannot describe the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// The tables do not fit their range.
    #[error("the ACPI tables need {needed} bytes, there is room for {room}")]
    NoRoom {
        /// Bytes needed.
        needed: usize,
        /// Bytes there are.
        room: u64,
    },
    /// The range is not aligned or not below 4 GiB.
    #[error("the ACPI tables cannot be at {0:#x}: it must be a multiple of 16 below 4 GiB")]
    Address(u64),
    /// No processors, or more than local APIC structures can name.
    #[error("{0} processors: the tables can describe 1 to 255")]
    Processors(u8),
}

/// Makes the tables of a machine: RSDP, FACS, DSDT, FADT, MADT, MCFG, XSDT.
///
/// # Errors
/// The layout cannot be described.
pub fn build(layout: &MachineLayout) -> Result<Tables, LayoutError> {
    let start = layout.tables.start;
    if !start.is_multiple_of(16) || layout.tables.end > 1 << 32 {
        return Err(LayoutError::Address(start));
    }
    if layout.vcpus == 0 || layout.vcpus - 1 > HIGHEST_APIC_ID {
        return Err(LayoutError::Processors(layout.vcpus));
    }
    let mut blob = Blob {
        start,
        bytes: vec![0; Rsdp::len()],
    };
    let facs = blob.add(&FACS::new());
    let dsdt = blob.add(&dsdt::table(layout));
    let fadt = blob.add(&fixed::fadt(layout, facs, dsdt));
    let madt = blob.add(&fixed::madt(layout));
    let mut mcfg = MCFG::new(OEM, OEM_TABLE, OEM_REVISION);
    mcfg.add_ecam(u64::from(layout.ecam), 0, 0, 0);
    let mcfg = blob.add(&mcfg);
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    for table in [fadt, madt, mcfg] {
        xsdt.add_entry(table);
    }
    let xsdt = blob.add(&xsdt);
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    blob.bytes[..rsdp.len()].copy_from_slice(&rsdp);
    let room = layout.tables.end.saturating_sub(start);
    if blob.bytes.len() as u64 > room {
        return Err(LayoutError::NoRoom {
            needed: blob.bytes.len(),
            room,
        });
    }
    Ok(Tables {
        address: start,
        bytes: blob.bytes,
    })
}

struct Blob {
    start: u64,
    bytes: Vec<u8>,
}

impl Blob {
    /// Appends a table, aligned to 64 bytes as the FACS demands, and returns its address.
    fn add(&mut self, table: &dyn Aml) -> u64 {
        let at = (self.start + self.bytes.len() as u64).next_multiple_of(64);
        self.bytes
            .resize(usize::try_from(at - self.start).unwrap_or(usize::MAX), 0);
        table.to_aml_bytes(&mut self.bytes);
        at
    }
}

/// A table with a standard header around a body.
struct Table(Sdt);

impl Table {
    fn new(signature: [u8; 4], revision: u8, body: &[u8]) -> Self {
        let mut sdt = Sdt::new(signature, 36, revision, OEM, OEM_TABLE, OEM_REVISION);
        sdt.append_slice(body);
        Self(sdt)
    }
}

impl Aml for Table {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0.as_slice());
    }
}

#[cfg(test)]
mod tests;
