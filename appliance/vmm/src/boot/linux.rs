//! The Linux 64-bit boot protocol (Documentation/arch/x86/boot.rst): a bzImage and the "zero page".

use std::fs::File;

use hypervisor::{Entry, write_long_mode_tables};
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::bootparam::{boot_e820_entry, boot_params};
use linux_loader::loader::{BzImage, KernelLoader};
use vm_memory::GuestAddress;

use super::image::Image;
use super::{Room, unusable};
use crate::layout;
use crate::protocol::{Kernel, StartError};

/// The 64-bit entry point lies this far into the loaded image.
const ENTRY_64: u64 = 0x200;
/// First protocol version with `xloadflags`.
const VERSION_2_12: u16 = 0x20C;
const XLF_KERNEL_64: u16 = 1;
const LOADER_UNDEFINED: u8 = 0xFF;
const SETUP_HEADER_END: u64 = 0x280;

pub(super) fn load(kernel: &Kernel<File>, room: &Room<'_>) -> Result<Entry, StartError> {
    let mut image =
        Image::open(&kernel.image).map_err(StartError::host("reading the kernel image"))?;
    check_header(&image)?;
    // What the file says it needs is checked before anything is loaded; the loader below then cannot run out.
    room.check(layout::KERNEL_START + image.length())?;
    let start = GuestAddress(layout::KERNEL_START);
    let loaded = BzImage::load(room.memory, Some(start), &mut image, Some(start))
        .map_err(|error| unusable(format!("it cannot be loaded: {error}")))?;
    let mut header = loaded
        .setup_header
        .ok_or_else(|| unusable("it has no setup header"))?;
    let (version, flags) = (header.version, header.xloadflags);
    if version < VERSION_2_12 || flags & XLF_KERNEL_64 == 0 {
        return Err(unusable(format!(
            "it has no 64-bit entry point (boot protocol {}.{:02}, need 2.12)",
            version >> 8,
            version & 0xFF
        )));
    }
    // The kernel unpacks itself to its preferred address and needs `init_size` bytes there.
    let end = header
        .pref_address
        .max(layout::KERNEL_START)
        .saturating_add(u64::from(header.init_size));
    let end = end.max(loaded.kernel_end);
    room.check(end)?;
    let most = usize::try_from(header.cmdline_size)
        .unwrap_or(0)
        .min(layout::CMDLINE_MAX);
    if kernel.cmdline.len() > most {
        return Err(StartError::Cmdline {
            bytes: kernel.cmdline.len(),
            most,
        });
    }
    let initrd = room.load_initrd(kernel, end, u64::from(header.initrd_addr_max) + 1)?;
    room.write_cmdline(&kernel.cmdline)?;
    let (address, bytes) = initrd.unwrap_or((0, 0));
    header.type_of_loader = LOADER_UNDEFINED;
    header.cmd_line_ptr = u32::try_from(layout::CMDLINE).unwrap_or(0);
    header.ramdisk_image = u32::try_from(address).unwrap_or(0);
    header.ramdisk_size = u32::try_from(bytes).unwrap_or(0);
    let mut parameters = boot_params {
        hdr: header,
        acpi_rsdp_addr: layout::ACPI_TABLES.start,
        ..Default::default()
    };
    for (slot, entry) in parameters
        .e820_table
        .iter_mut()
        .zip(layout::memory_map(room.memory_bytes))
    {
        *slot = boot_e820_entry {
            addr: entry.address,
            size: entry.bytes,
            r#type: entry.kind,
        };
        parameters.e820_entries += 1;
    }
    let zero_page = BootParams::new(&parameters, GuestAddress(layout::LINUX_BOOT_PARAMS));
    LinuxBootConfigurator::write_bootparams(&zero_page, room.memory)
        .map_err(StartError::host("writing the boot parameters"))?;
    write_long_mode_tables(room.memory).map_err(StartError::host("writing the page tables"))?;
    Ok(Entry::Linux64 {
        entry: layout::KERNEL_START + ENTRY_64,
        boot_params: layout::LINUX_BOOT_PARAMS,
    })
}

/// Checks what can be said about the file by itself.
fn check_header(image: &Image<'_>) -> Result<(), StartError> {
    let length = image.length();
    let magic = image.bytes(0x202, 4).map_err(|_| {
        unusable(format!(
            "it is truncated: {length} bytes are too few for a bzImage"
        ))
    })?;
    if magic != *b"HdrS" {
        return Err(unusable("it is not a Linux bzImage"));
    }
    let setup = image
        .bytes(0x1F1, 1)
        .map_err(StartError::host("reading the kernel image"))?;
    let sectors = if setup[0] == 0 {
        4
    } else {
        u64::from(setup[0])
    };
    // syssize: the protected-mode part in units of 16 bytes.
    let size = image
        .bytes(0x1F4, 4)
        .map_err(StartError::host("reading the kernel image"))?;
    let paragraphs = u32::from_le_bytes([size[0], size[1], size[2], size[3]]);
    let expected = (sectors + 1) * 512 + u64::from(paragraphs) * 16;
    if length < expected.max(SETUP_HEADER_END) {
        return Err(unusable(format!(
            "it is truncated: {length} of {expected} bytes"
        )));
    }
    Ok(())
}
