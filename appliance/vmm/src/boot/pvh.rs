//! The PVH protocol (Xen's x86/HVM direct boot ABI): an ELF image and a start info structure.

use std::fs::File;

use hypervisor::Entry;
use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use vm_memory::GuestAddress;

use super::elf::Elf;
use super::image::Image;
use super::{Room, unusable};
use crate::layout;
use crate::protocol::{Kernel, StartError};

const START_INFO_MAGIC: u32 = 0x336E_C578;

pub(super) fn load(kernel: &Kernel<File>, room: &Room<'_>) -> Result<Entry, StartError> {
    let image = Image::open(&kernel.image).map_err(StartError::host("reading the kernel image"))?;
    let elf = Elf::read(&image)?;
    room.check(elf.end())?;
    for segment in &elf.segments {
        if segment.memory.start < layout::KERNEL_START {
            let start = segment.memory.start;
            return Err(unusable(format!(
                "it has a segment at {start:#x}, below 1 MiB"
            )));
        }
        image
            .load(
                room.memory,
                segment.offset,
                segment.memory.start,
                segment.file_bytes,
            )
            .map_err(StartError::host("reading the kernel image"))?;
    }
    let initrd = room.load_initrd(kernel, elf.end(), room.end)?;
    room.write_cmdline(&kernel.cmdline)?;
    write_start_info(room, initrd)?;
    let start_info = u32::try_from(layout::PVH_START_INFO).unwrap_or(0);
    Ok(Entry::Pvh {
        entry: elf.entry,
        start_info,
    })
}

fn write_start_info(room: &Room<'_>, initrd: Option<(u64, u64)>) -> Result<(), StartError> {
    let map: Vec<_> = layout::memory_map(room.memory_bytes)
        .iter()
        .map(|entry| hvm_memmap_table_entry {
            addr: entry.address,
            size: entry.bytes,
            type_: entry.kind,
            reserved: 0,
        })
        .collect();
    let modules: Vec<_> = initrd
        .map(|(paddr, size)| hvm_modlist_entry {
            paddr,
            size,
            ..Default::default()
        })
        .into_iter()
        .collect();
    let info = hvm_start_info {
        magic: START_INFO_MAGIC,
        version: 1,
        flags: 0,
        nr_modules: u32::try_from(modules.len()).unwrap_or(0),
        modlist_paddr: if modules.is_empty() {
            0
        } else {
            layout::PVH_MODULES
        },
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: layout::ACPI_TABLES.start,
        memmap_paddr: layout::PVH_MEMORY_MAP,
        memmap_entries: u32::try_from(map.len()).unwrap_or(0),
        reserved: 0,
    };
    let mut parameters = BootParams::new(&info, GuestAddress(layout::PVH_START_INFO));
    parameters.set_sections(&map, GuestAddress(layout::PVH_MEMORY_MAP));
    if !modules.is_empty() {
        parameters.set_modules(&modules, GuestAddress(layout::PVH_MODULES));
    }
    PvhBootConfigurator::write_bootparams(&parameters, room.memory)
        .map_err(StartError::host("writing the start info"))
}
