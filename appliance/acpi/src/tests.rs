//! Reads the tables back as a guest does: from the RSDP, by address and length, checking every sum.

use super::*;

fn layout(vcpus: u8) -> MachineLayout {
    MachineLayout {
        vcpus,
        tables: 0xE_0000..0x10_0000,
        local_apic: 0xFEE0_0000,
        io_apic: 0xFEC0_0000,
        pci_window: 0xC000_0000..0xE000_0000,
        ecam: 0xE000_0000,
        com1_port: 0x3F8,
        com1_gsi: 4,
        pm1_event_port: 0x600,
        pm1_control_port: 0x604,
        s5_sleep_type: 5,
        sci_gsi: 9,
        reset_port: 0xCF9,
        reset_value: 6,
    }
}

struct Memory(Tables);

impl Memory {
    fn of(vcpus: u8) -> Self {
        Self(build(&layout(vcpus)).expect("the layout is sound"))
    }

    fn bytes(&self, address: u64, length: usize) -> &[u8] {
        let at = usize::try_from(address - self.0.address).expect("inside");
        &self.0.bytes[at..at + length]
    }

    fn u32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.bytes(address, 4).try_into().expect("4 bytes"))
    }

    fn u64(&self, address: u64) -> u64 {
        u64::from_le_bytes(self.bytes(address, 8).try_into().expect("8 bytes"))
    }

    fn summed(&self, address: u64, length: usize) -> &[u8] {
        let bytes = self.bytes(address, length);
        assert_eq!(
            bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
            0,
            "checksum"
        );
        bytes
    }

    /// A table by its address: signature and everything after the 36-byte header.
    fn table(&self, address: u64) -> ([u8; 4], &[u8]) {
        let length = usize::try_from(self.u32(address + 4)).expect("small");
        let bytes = self.summed(address, length);
        (bytes[..4].try_into().expect("4 bytes"), &bytes[36..])
    }

    fn find(&self, signature: &[u8; 4]) -> &[u8] {
        let (xsdt, entries) = self.table(self.u64(self.0.address + 24));
        assert_eq!(&xsdt, b"XSDT");
        let addresses = entries
            .chunks(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().expect("8 bytes")));
        let mut tables = addresses.map(|address| self.table(address));
        tables
            .find(|(found, _)| found == signature)
            .expect("the table is listed")
            .1
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[test]
fn the_root_pointer_has_both_checksums() {
    let memory = Memory::of(1);
    let address = memory.0.address;
    assert_eq!(memory.summed(address, 20)[..8], *b"RSD PTR ");
    memory.summed(address, 36);
    assert_eq!(memory.bytes(address + 15, 1), [2]);
}

#[test]
fn the_fixed_table_names_the_power_registers() {
    let memory = Memory::of(2);
    // Offsets of ACPI 6.5 table 5.9, less the header.
    let fadt = memory.find(b"FACP");
    assert_eq!(u16_at(fadt, 46 - 36), 9, "SCI_INT");
    assert_eq!(u32_at(fadt, 48 - 36), 0, "SMI_CMD");
    assert_eq!(u32_at(fadt, 56 - 36), 0x600, "PM1a_EVT_BLK");
    assert_eq!(u32_at(fadt, 64 - 36), 0x604, "PM1a_CNT_BLK");
    assert_eq!(u32_at(fadt, 76 - 36), 0, "PM_TMR_BLK");
    assert_eq!(fadt[88 - 36..90 - 36], [4, 2], "lengths");
    let flags = u32_at(fadt, 112 - 36);
    assert_eq!(flags & (1 << 20), 0, "not hardware-reduced");
    assert_eq!(flags & (1 << 4), 0, "power button is a fixed feature");
    assert_ne!(flags & (1 << 10), 0, "reset register");
    assert_eq!(fadt[116 - 36], 1, "reset register is a port");
    assert_eq!(u16_at(fadt, 120 - 36), 0xCF9);
    assert_eq!(fadt[128 - 36], 6);
    let (facs, dsdt) = (u32_at(fadt, 36 - 36), u32_at(fadt, 40 - 36));
    assert_eq!(memory.bytes(u64::from(facs), 4), b"FACS");
    assert_eq!(facs % 64, 0);
    assert_eq!(memory.table(u64::from(dsdt)).0, *b"DSDT");
    assert_eq!(u32_at(fadt, 140 - 36), dsdt, "X_DSDT");
}

#[test]
fn every_processor_and_the_interrupts_are_listed() {
    for vcpus in [1, 2, 64, 255] {
        let memory = Memory::of(vcpus);
        let madt = memory.find(b"APIC");
        assert_eq!(u32_at(madt, 0), 0xFEE0_0000);
        let (mut processors, mut rest) = (Vec::new(), &madt[8..]);
        let (mut io_apics, mut overrides) = (0, 0);
        while let [kind, length, ..] = rest {
            let entry = &rest[..usize::from(*length)];
            match kind {
                0 => {
                    assert_eq!(u32_at(entry, 4), 1, "enabled");
                    processors.push(entry[3]);
                }
                1 => {
                    io_apics += 1;
                    assert_eq!(
                        (entry[2], u32_at(entry, 4), u32_at(entry, 8)),
                        (0, 0xFEC0_0000, 0)
                    );
                }
                2 => {
                    overrides += 1;
                    assert_eq!(
                        (entry[3], u32_at(entry, 4), u16_at(entry, 8)),
                        (9, 9, 0b1101)
                    );
                }
                other => panic!("structure of type {other}"),
            }
            rest = &rest[usize::from(*length)..];
        }
        assert_eq!(processors, (0..vcpus).collect::<Vec<_>>());
        assert_eq!((io_apics, overrides), (1, 1));
    }
}

#[test]
fn the_configuration_window_is_one_bus() {
    let memory = Memory::of(1);
    let mcfg = memory.find(b"MCFG");
    assert_eq!(u32_at(mcfg, 8), 0xE000_0000);
    assert_eq!(mcfg[8 + 8..8 + 12], [0, 0, 0, 0], "segment 0, buses 0 to 0");
}

#[test]
fn the_dsdt_has_the_devices_and_soft_off() {
    let memory = Memory::of(1);
    let dsdt = u64::from(u32_at(memory.find(b"FACP"), 4));
    let aml = memory.table(dsdt).1;
    for name in [b"PCI0", b"COM1", b"MBRD", b"_CRS", b"_S5_"] {
        assert!(
            aml.windows(4).any(|window| window == name),
            "{}",
            String::from_utf8_lossy(name)
        );
    }
    // NameOp "_S5_" PackageOp length 4-elements BytePrefix 5 …
    let at = aml
        .windows(4)
        .position(|window| window == b"_S5_")
        .expect("present");
    assert_eq!(aml[at + 4], 0x12, "PackageOp");
    assert_eq!(aml[at + 6..at + 9], [4, 0x0A, 5]);
    // The window as a DWordMemory descriptor: minimum and maximum.
    let edges = [0xC000_0000_u32.to_le_bytes(), 0xDFFF_FFFF_u32.to_le_bytes()].concat();
    assert!(aml.windows(8).any(|window| window == edges));
}

#[test]
fn what_cannot_be_described_is_refused() {
    let refused = |change: fn(&mut MachineLayout)| {
        let mut layout = layout(1);
        change(&mut layout);
        build(&layout).expect_err("must be refused")
    };
    assert_eq!(
        refused(|layout| layout.vcpus = 0),
        LayoutError::Processors(0)
    );
    assert_eq!(
        refused(|layout| layout.tables.start = 0xE_0001),
        LayoutError::Address(0xE_0001)
    );
    assert!(matches!(
        refused(|layout| layout.tables.end = 0xE_0100),
        LayoutError::NoRoom { room: 0x100, .. }
    ));
}
