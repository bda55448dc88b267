//! The DSDT: what the guest cannot find out by itself.

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed, Name,
    Package, ResourceTemplate, Scope,
};

use crate::{MachineLayout, Table};

const ECAM_BYTES: u32 = 1 << 20;
const PCI_CONFIG_PORT: u16 = 0xCF8;

pub(crate) fn table(layout: &MachineLayout) -> Table {
    let mut aml = Vec::new();
    scope(layout, &mut aml);
    let (typ, zero) = (layout.s5_sleep_type, 0_u8);
    let soft_off = Package::new(vec![&typ, &zero, &zero, &zero]);
    Name::new("_S5_".into(), &soft_off).to_aml_bytes(&mut aml);
    Table::new(*b"DSDT", 6, &aml)
}

/// `\_SB`: the PCI root bridge, the memory its configuration space takes, and COM1.
fn scope(layout: &MachineLayout, aml: &mut Vec<u8>) {
    let zero = 0_u8;
    let (express, compatible) = (EISAName::new("PNP0A08"), EISAName::new("PNP0A03"));
    let buses = AddressSpace::new_bus_number(0_u16, 0_u16);
    let config_ports = IO::new(PCI_CONFIG_PORT, PCI_CONFIG_PORT, 1, 8);
    let window = AddressSpace::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        layout.pci_window.start,
        layout.pci_window.end - 1,
        None,
    );
    let bridge_resources = ResourceTemplate::new(vec![&buses, &config_ports, &window]);
    let bridge_names = [
        Name::new("_HID".into(), &express),
        Name::new("_CID".into(), &compatible),
        Name::new("_UID".into(), &zero),
        Name::new("_SEG".into(), &zero),
        Name::new("_BBN".into(), &zero),
        Name::new("_CRS".into(), &bridge_resources),
    ];
    let bridge = Device::new("PCI0".into(), as_children(&bridge_names));

    let motherboard = EISAName::new("PNP0C02");
    let ecam = Memory32Fixed::new(true, layout.ecam, ECAM_BYTES);
    let ecam_resources = ResourceTemplate::new(vec![&ecam]);
    let ecam_names = [
        Name::new("_HID".into(), &motherboard),
        Name::new("_UID".into(), &zero),
        Name::new("_CRS".into(), &ecam_resources),
    ];
    let reserved = Device::new("MBRD".into(), as_children(&ecam_names));

    let uart = EISAName::new("PNP0501");
    let interrupt = Interrupt::new(true, true, false, false, layout.com1_gsi);
    let ports = IO::new(layout.com1_port, layout.com1_port, 1, 8);
    let uart_resources = ResourceTemplate::new(vec![&interrupt, &ports]);
    let uart_names = [
        Name::new("_HID".into(), &uart),
        Name::new("_UID".into(), &zero),
        Name::new("_CRS".into(), &uart_resources),
    ];
    let com1 = Device::new("COM1".into(), as_children(&uart_names));

    Scope::new("_SB_".into(), vec![&bridge, &reserved, &com1]).to_aml_bytes(aml);
}

fn as_children(names: &[Name]) -> Vec<&dyn Aml> {
    names.iter().map(|name| name as &dyn Aml).collect()
}
