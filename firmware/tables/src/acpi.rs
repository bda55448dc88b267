//! The few ACPI tables a guest needs: MADT (CPUs, I/O APIC), MCFG (PCI), FADT (power), and \_S5 from the DSDT
//! (ACPI 6.5 §5.2).

use crate::{Memory, little_endian};

/// More CPUs than this are ignored.
pub const MAX_CPUS: usize = 256;
/// No table of these is longer in practice; what claims to be longer is ignored.
const MAX_TABLE: u64 = 1 << 20;

/// PCI configuration space in memory (MCFG, PCI Firmware Specification §4.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ecam {
    /// Address of bus 0.
    pub base: u64,
    /// First bus it covers.
    pub first_bus: u8,
    /// Last bus it covers.
    pub last_bus: u8,
}

/// An I/O APIC (MADT type 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoApic {
    /// Address of its registers.
    pub address: u32,
    /// Global system interrupt of its first pin.
    pub first_gsi: u32,
}

/// How an ISA interrupt reaches the I/O APIC (MADT type 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Override {
    /// ISA interrupt.
    pub irq: u8,
    /// Global system interrupt it is wired to.
    pub gsi: u32,
    /// Active low instead of high.
    pub active_low: bool,
    /// Level- instead of edge-triggered.
    pub level: bool,
}

/// What was found. Ports are 0 where there is no such register.
#[derive(Debug, Clone)]
pub struct Acpi {
    cpu_ids: [u8; MAX_CPUS],
    cpu_count: usize,
    overrides: [Option<Override>; 16],
    /// The first I/O APIC.
    pub io_apic: Option<IoApic>,
    /// PCI segment 0.
    pub ecam: Option<Ecam>,
    /// ISA interrupt of the system control interrupt.
    pub sci: u8,
    /// Port of PM1a status; PM1a enable lies `pm1_event_length / 2` above it.
    pub pm1a_event: u16,
    /// Length in bytes of the status and enable registers together.
    pub pm1_event_length: u8,
    /// Port of PM1a control.
    pub pm1a_control: u16,
    /// Port to which `acpi_enable` must be written to leave legacy mode; 0 if ACPI mode is always on.
    pub smi_command: u16,
    /// See `smi_command`.
    pub acpi_enable: u8,
    /// Reset register: port and value.
    pub reset: Option<(u16, u8)>,
    /// SLP_TYP of the soft-off state.
    pub s5: Option<u8>,
}

impl Default for Acpi {
    fn default() -> Self {
        Self {
            cpu_ids: [0; MAX_CPUS],
            cpu_count: 0,
            overrides: [None; 16],
            io_apic: None,
            ecam: None,
            sci: 9,
            pm1a_event: 0,
            pm1_event_length: 0,
            pm1a_control: 0,
            smi_command: 0,
            acpi_enable: 0,
            reset: None,
            s5: None,
        }
    }
}

impl Acpi {
    /// Reads the tables under the RSDP at an address. With 0 it looks for one at 0xE0000 to 0xFFFFF
    /// (ACPI 6.5 §5.2.5.1). Missing tables leave their fields at the default.
    pub fn read(memory: &impl Memory, rsdp: u64) -> Self {
        let mut found = Self::default();
        let rsdp = if rsdp == 0 {
            search(memory).unwrap_or(0)
        } else {
            rsdp
        };
        found.read_root(memory, rsdp);
        found
    }

    /// Local APIC ids of the usable CPUs, in the table's order.
    pub fn cpu_ids(&self) -> &[u8] {
        &self.cpu_ids[..self.cpu_count]
    }

    /// How an ISA interrupt is wired: the override, or itself, edge-triggered and active high.
    pub fn wiring(&self, irq: u8) -> Override {
        self.overrides
            .iter()
            .flatten()
            .find(|entry| entry.irq == irq)
            .copied()
            .unwrap_or(Override {
                irq,
                gsi: u32::from(irq),
                active_low: false,
                level: false,
            })
    }

    fn read_root(&mut self, memory: &impl Memory, rsdp: u64) -> Option<()> {
        if memory.bytes(rsdp, 8)? != b"RSD PTR " {
            return None;
        }
        let extended = memory.number::<1>(rsdp + 15)? >= 2;
        let (root, width) = match memory.number::<8>(rsdp + 24) {
            Some(address) if extended && address != 0 => (address, 8),
            _ => (memory.number::<4>(rsdp + 16)?, 4),
        };
        let body = table(memory, root)?.get(36..)?;
        for entry in body.chunks_exact(width) {
            let address = little_endian(entry);
            match (memory.bytes(address, 4), table(memory, address)) {
                (Some(b"APIC"), Some(content)) => self.read_madt(content),
                (Some(b"MCFG"), Some(content)) => self.read_mcfg(content),
                (Some(b"FACP"), Some(content)) => drop(self.read_fadt(memory, content)),
                _ => {}
            }
        }
        Some(())
    }

    /// ACPI 6.5 §5.2.12.
    fn read_madt(&mut self, content: &[u8]) {
        let mut rest = content.get(44..).unwrap_or(&[]);
        while let Some(length) = rest.get(1).map(|length| usize::from(*length)) {
            let Some(entry) = rest.get(..length).filter(|_| length >= 2) else {
                return;
            };
            rest = &rest[length..];
            match (entry[0], length) {
                // Enabled, or may be brought online.
                (0, 8..) if entry[4] & 3 != 0 && self.cpu_count < MAX_CPUS => {
                    self.cpu_ids[self.cpu_count] = entry[3];
                    self.cpu_count += 1;
                }
                (1, 12..) if self.io_apic.is_none() => {
                    self.io_apic = Some(IoApic {
                        address: number(entry, 4),
                        first_gsi: number(entry, 8),
                    });
                }
                (2, 10..) => {
                    let polarity = entry[8] & 3;
                    let trigger = (entry[8] >> 2) & 3;
                    if let Some(place) = self.overrides.iter_mut().find(|place| place.is_none()) {
                        *place = Some(Override {
                            irq: entry[3],
                            gsi: number(entry, 4),
                            active_low: polarity == 3,
                            level: trigger == 3,
                        });
                    }
                }
                _ => {}
            }
        }
    }

    fn read_mcfg(&mut self, content: &[u8]) {
        for entry in content.get(44..).unwrap_or(&[]).chunks_exact(16) {
            if self.ecam.is_none() && entry[8] == 0 && entry[9] == 0 {
                self.ecam = Some(Ecam {
                    base: little_endian(&entry[..8]),
                    first_bus: entry[10],
                    last_bus: entry[11],
                });
            }
        }
    }

    /// ACPI 6.5 §5.2.9.
    fn read_fadt(&mut self, memory: &impl Memory, content: &[u8]) -> Option<()> {
        let fixed = content.get(..112)?;
        let port = |at: usize| u16::try_from(number(fixed, at)).unwrap_or(0);
        self.sci = fixed[46];
        self.smi_command = port(48);
        self.acpi_enable = fixed[52];
        self.pm1a_event = port(56);
        self.pm1a_control = port(64);
        self.pm1_event_length = fixed[88];
        let mut dsdt = u64::from(number(fixed, 40));
        if let Some(more) = content.get(116..148) {
            // A generic address in the I/O space.
            if more[0] == 1 {
                self.reset = u16::try_from(little_endian(&more[4..12]))
                    .ok()
                    .map(|port| (port, more[12]));
            }
            let extended = little_endian(&more[24..32]);
            if extended != 0 {
                dsdt = extended;
            }
        }
        self.s5 = soft_off(table(memory, dsdt)?);
        Some(())
    }
}

/// A whole table, if its header is there and its checksum right (ACPI 6.5 §5.2.6).
fn table<M: Memory>(memory: &M, address: u64) -> Option<&[u8]> {
    let length = memory.number::<4>(address + 4)?;
    if !(36..=MAX_TABLE).contains(&length) {
        return None;
    }
    let content = memory.bytes(address, usize::try_from(length).ok()?)?;
    let sum = content
        .iter()
        .fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    (sum == 0).then_some(content)
}

fn search(memory: &impl Memory) -> Option<u64> {
    (0xE_0000..0x10_0000)
        .step_by(16)
        .find(|at| memory.bytes(*at, 8) == Some(b"RSD PTR "))
}

fn number(content: &[u8], at: usize) -> u32 {
    content.get(at..at + 4).map_or(0, |bytes| {
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    })
}

/// SLP_TYPa of \_S5: a named package whose first element is a byte constant, zero or one (ACPI 6.5 §7.4.2, §20.2).
fn soft_off(dsdt: &[u8]) -> Option<u8> {
    let name = dsdt
        .windows(5)
        .position(|window| &window[..4] == b"_S5_" && window[4] == 0x12)?;
    let package = dsdt.get(name + 5..)?;
    let length_bytes = 1 + usize::from(package.first()? >> 6);
    match package.get(length_bytes + 1..)? {
        [0x0A, value, ..] => Some(*value),
        [value @ (0 | 1), ..] => Some(*value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::test_memory::Flat;
    use std::vec;
    use std::vec::Vec;

    fn with_header(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut content = Vec::from(name);
        content.extend(u32::try_from(36 + body.len()).unwrap().to_le_bytes());
        content.resize(36, 0);
        content.extend(body);
        content[9] = content
            .iter()
            .fold(0_u8, |sum, byte| sum.wrapping_sub(*byte));
        content
    }

    fn machine() -> Flat {
        let mut memory = Flat(vec![0; 0x10_0000]);
        memory.put(0xE_0000, b"RSD PTR ");
        memory.put(0xE_000F, &[2]);
        memory.put(0xE_0018, &0xE_0040_u64.to_le_bytes());
        let mut pointers = Vec::new();
        for address in [0xE_1000_u64, 0xE_2000, 0xE_3000, 0xFFFF_FFFF_FFFF] {
            pointers.extend(address.to_le_bytes());
        }
        memory.put(0xE_0040, &with_header(b"XSDT", &pointers));
        let mut madt = vec![0; 8];
        madt.extend([
            0, 8, 0, 0, 1, 0, 0, 0, 0, 8, 1, 1, 1, 0, 0, 0, 0, 8, 2, 2, 0, 0, 0, 0,
        ]);
        madt.extend([1, 12, 0, 0, 0, 0, 0xC0, 0xFE, 0, 0, 0, 0]);
        madt.extend([2, 10, 0, 9, 9, 0, 0, 0, 0x0D, 0]);
        memory.put(0xE_1000, &with_header(b"APIC", &madt));
        let mut mcfg = vec![0; 8];
        mcfg.extend(0xE000_0000_u64.to_le_bytes());
        mcfg.extend([0, 0, 0, 0, 0, 0, 0, 0]);
        memory.put(0xE_2000, &with_header(b"MCFG", &mcfg));
        let mut fadt = vec![0; 240];
        fadt[40 - 36..44 - 36].copy_from_slice(&0xE_4000_u32.to_le_bytes());
        fadt[46 - 36] = 9;
        fadt[56 - 36..58 - 36].copy_from_slice(&0x600_u16.to_le_bytes());
        fadt[64 - 36..66 - 36].copy_from_slice(&0x604_u16.to_le_bytes());
        fadt[88 - 36] = 4;
        fadt[116 - 36] = 1;
        fadt[120 - 36..122 - 36].copy_from_slice(&0xCF9_u16.to_le_bytes());
        fadt[128 - 36] = 6;
        memory.put(0xE_3000, &with_header(b"FACP", &fadt));
        memory.put(
            0xE_4000,
            &with_header(b"DSDT", b"\x08_S5_\x12\x06\x04\x0a\x05\x00\x00\x00"),
        );
        memory
    }

    fn check(acpi: &Acpi) {
        assert_eq!(acpi.cpu_ids(), [0, 1]);
        assert_eq!(
            acpi.io_apic,
            Some(IoApic {
                address: 0xFEC0_0000,
                first_gsi: 0
            })
        );
        assert_eq!(
            acpi.ecam,
            Some(Ecam {
                base: 0xE000_0000,
                first_bus: 0,
                last_bus: 0
            })
        );
        assert_eq!(
            acpi.wiring(9),
            Override {
                irq: 9,
                gsi: 9,
                active_low: false,
                level: true
            }
        );
        assert_eq!(
            acpi.wiring(4),
            Override {
                irq: 4,
                gsi: 4,
                active_low: false,
                level: false
            }
        );
        assert_eq!(
            (acpi.pm1a_event, acpi.pm1a_control, acpi.pm1_event_length),
            (0x600, 0x604, 4)
        );
        assert_eq!(acpi.reset, Some((0xCF9, 6)));
        assert_eq!(acpi.s5, Some(5));
    }

    #[test]
    fn finds_everything_by_address_and_by_search() {
        check(&Acpi::read(&machine(), 0xE_0000));
        check(&Acpi::read(&machine(), 0));
    }

    #[test]
    fn a_damaged_table_is_absent() {
        let mut memory = machine();
        memory.put(0xE_2000 + 44, &[1]);
        let acpi = Acpi::read(&memory, 0xE_0000);
        assert_eq!(acpi.ecam, None);
        assert_eq!(acpi.cpu_ids(), [0, 1]);
    }

    #[test]
    fn nonsense_lengths_do_no_harm() {
        for length in [0_u32, 1, 35, 0xFFFF_FFFF] {
            let mut memory = machine();
            memory.put(0xE_0044, &length.to_le_bytes());
            assert_eq!(Acpi::read(&memory, 0xE_0000).cpu_ids(), []);
        }
        let mut content = with_header(b"APIC", &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 9]);
        let mut acpi = Acpi::default();
        acpi.read_madt(&content);
        content.truncate(45);
        acpi.read_madt(&content);
        assert_eq!(acpi.cpu_ids(), []);
    }

    #[test]
    fn soft_off_in_its_spellings() {
        assert_eq!(
            soft_off(b"\x08_S5_\x12\x06\x04\x0a\x05\x0a\x05\x00\x00"),
            Some(5)
        );
        assert_eq!(soft_off(b"\x08_S5_\x12\x06\x04\x00\x00\x00\x00"), Some(0));
        assert_eq!(soft_off(b"\x08_S5_\x12\x47\x00\x04\x01\x00"), Some(1));
        assert_eq!(soft_off(b"\x08_S5_\x12"), None);
        assert_eq!(soft_off(b""), None);
    }
}
