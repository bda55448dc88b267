//! Puts a kernel, and what it is handed, into guest memory.

mod elf;
mod image;
mod linux;
mod pvh;

use std::fs::File;

use hypervisor::Entry;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::layout;
use crate::protocol::{Boot, Kernel, StartError};
use image::Image;

/// Loads everything and says where the boot processor starts. Guest memory is all zeroes before.
///
/// # Errors
/// The image is not what it should be, or something does not fit.
pub(crate) fn load(
    boot: &Boot<File>,
    memory: &GuestMemoryMmap,
    memory_bytes: u64,
    vcpus: u8,
) -> Result<Entry, StartError> {
    let tables =
        acpi::build(&layout::acpi(vcpus)).map_err(StartError::host("describing the machine"))?;
    write(memory, tables.address, &tables.bytes)?;
    let room = Room {
        memory,
        end: memory_bytes.min(layout::LOW_RAM_LIMIT),
        memory_bytes,
    };
    match boot {
        Boot::Pvh(kernel) => pvh::load(kernel, &room),
        Boot::Linux(kernel) => linux::load(kernel, &room),
    }
}

/// The memory a kernel may use while it starts.
struct Room<'a> {
    memory: &'a GuestMemoryMmap,
    /// End of the RAM below the PCI window.
    end: u64,
    memory_bytes: u64,
}

impl Room<'_> {
    /// Checks that a kernel that ends at `end` fits.
    fn check(&self, end: u64) -> Result<(), StartError> {
        if end > self.end {
            return Err(StartError::KernelDoesNotFit {
                end,
                memory_end: self.end,
            });
        }
        Ok(())
    }

    /// Loads the initial RAM disk as high as possible below `limit`; returns its address and size.
    fn load_initrd(
        &self,
        kernel: &Kernel<File>,
        kernel_end: u64,
        limit: u64,
    ) -> Result<Option<(u64, u64)>, StartError> {
        let Some(file) = &kernel.initrd else {
            return Ok(None);
        };
        let image = Image::open(file).map_err(StartError::host("reading the initrd"))?;
        let bytes = image.length();
        let limit = limit.min(self.end);
        let misfit = StartError::InitrdDoesNotFit {
            bytes,
            kernel_end,
            limit,
        };
        let Some(address) = limit.checked_sub(bytes).map(|address| address & !0xFFF) else {
            return Err(misfit);
        };
        if address < kernel_end {
            return Err(misfit);
        }
        image
            .load(self.memory, 0, address, bytes)
            .map_err(StartError::host("reading the initrd"))?;
        Ok(Some((address, bytes)))
    }

    /// Writes the command line, NUL-terminated by the zeroes around it.
    fn write_cmdline(&self, cmdline: &str) -> Result<(), StartError> {
        write(self.memory, layout::CMDLINE, cmdline.as_bytes())
    }
}

fn write(memory: &GuestMemoryMmap, address: u64, bytes: &[u8]) -> Result<(), StartError> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(StartError::host("writing boot data to guest memory"))
}

fn unusable(reason: impl Into<String>) -> StartError {
    StartError::Kernel {
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
