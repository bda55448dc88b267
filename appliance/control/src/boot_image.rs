//! What a kernel file is, and the least memory it boots with. Reads headers only; whoever loads it checks it again.
//!
//! - PVH: an ELF for x86-64 with a note of Xen's `XEN_ELFNOTE_PHYS32_ENTRY` (18), as Xen's `docs/misc/pvh.pandoc` has it.
//! - Linux: a bzImage, by Documentation/arch/x86/boot.rst: protocol 2.12 or later with the 64-bit entry point.

use crate::model::BootProtocol;
use std::{fs::File, io, os::unix::fs::FileExt};
use types::ByteCount;

/// Kernels are loaded at 1 MiB or above.
const LOAD_ADDRESS: u64 = 1 << 20;
const MAX_PROGRAM_HEADERS: u16 = 128;
const MAX_NOTE_BYTES: u64 = 64 << 10;

const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;

/// What a kernel was found to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) boot: BootProtocol,
    /// The end of what it occupies when it is loaded, in bytes from the start of memory.
    pub(crate) end: ByteCount,
}

/// Why a file is no kernel this host boots.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelFault {
    #[error("the kernel is neither an ELF nor a Linux bzImage (it begins with {0:02x?})")]
    Neither([u8; 4]),
    #[error("the kernel is cut off: {what} should end at byte {end}, the file has {size}")]
    Truncated {
        what: &'static str,
        end: u64,
        size: u64,
    },
    #[error("the kernel is an ELF, but not one for x86-64: {0}")]
    WrongElf(&'static str),
    #[error("the kernel is an ELF without a PVH entry (no note XEN_ELFNOTE_PHYS32_ENTRY)")]
    NoPvhEntry,
    #[error("the kernel is a bzImage, but not one for the 64-bit boot protocol: {0}")]
    WrongBzImage(String),
    #[error("the kernel's headers contradict themselves: {0}")]
    Nonsense(&'static str),
    #[error("the kernel cannot be read")]
    Unreadable(#[source] io::Error),
}

struct Reader<'a> {
    file: &'a File,
    size: u64,
}

impl Reader<'_> {
    fn bytes(&self, what: &'static str, offset: u64, length: u64) -> Result<Vec<u8>, KernelFault> {
        let end = offset
            .checked_add(length)
            .ok_or(KernelFault::Nonsense("an offset beyond 64 bits"))?;
        if end > self.size {
            return Err(KernelFault::Truncated {
                what,
                end,
                size: self.size,
            });
        }
        let length =
            usize::try_from(length).map_err(|_| KernelFault::Nonsense("a length beyond memory"))?;
        let mut bytes = vec![0; length];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(KernelFault::Unreadable)?;
        Ok(bytes)
    }
}

fn number(bytes: &[u8], offset: usize, width: usize) -> u64 {
    let field = bytes.get(offset..offset + width).unwrap_or_default();
    field
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn number32(bytes: &[u8], offset: usize) -> u32 {
    u32::try_from(number(bytes, offset, 4)).unwrap_or_default()
}

/// Finds out what the file is.
pub(crate) fn inspect(file: &File) -> Result<Kernel, KernelFault> {
    let size = file.metadata().map_err(KernelFault::Unreadable)?.len();
    let reader = Reader { file, size };
    let magic = reader.bytes("the kernel's first bytes", 0, 4)?;
    if magic == b"\x7fELF" {
        return elf(&reader);
    }
    if size > 0x206
        && reader
            .bytes("the boot sector", 0x1fe, 8)?
            .ends_with(b"HdrS")
    {
        return bz_image(&reader);
    }
    Err(KernelFault::Neither([
        magic[0], magic[1], magic[2], magic[3],
    ]))
}

fn elf(reader: &Reader<'_>) -> Result<Kernel, KernelFault> {
    let header = reader.bytes("the ELF header", 0, 64)?;
    if header[4] != 2 || header[5] != 1 {
        return Err(KernelFault::WrongElf("it is not 64-bit little-endian"));
    }
    if number(&header, 18, 2) != 62 {
        return Err(KernelFault::WrongElf("it is for another processor"));
    }
    let (offset, entry_size, count) = (
        number(&header, 32, 8),
        number(&header, 54, 2),
        number(&header, 56, 2),
    );
    if entry_size != 56 || count == 0 || count > u64::from(MAX_PROGRAM_HEADERS) {
        return Err(KernelFault::Nonsense(
            "its program headers are of a wrong size or number",
        ));
    }
    let headers = reader.bytes("the program headers", offset, entry_size * count)?;
    let mut end = 0_u64;
    let mut pvh = false;
    for header in headers.chunks_exact(56) {
        let (file_offset, address) = (number(header, 8, 8), number(header, 24, 8));
        let (in_file, in_memory) = (number(header, 32, 8), number(header, 40, 8));
        match number32(header, 0) {
            PT_LOAD => {
                let file_end = file_offset
                    .checked_add(in_file)
                    .ok_or(KernelFault::Nonsense("a segment beyond 64 bits"))?;
                if file_end > reader.size {
                    return Err(KernelFault::Truncated {
                        what: "a segment",
                        end: file_end,
                        size: reader.size,
                    });
                }
                if in_file > in_memory {
                    return Err(KernelFault::Nonsense(
                        "a segment larger in the file than in memory",
                    ));
                }
                let memory_end = address
                    .checked_add(in_memory)
                    .ok_or(KernelFault::Nonsense("a segment beyond 64 bits"))?;
                end = end.max(memory_end);
            }
            PT_NOTE if in_file <= MAX_NOTE_BYTES => {
                pvh |= has_pvh_note(&reader.bytes("the notes", file_offset, in_file)?);
            }
            _ => {}
        }
    }
    if end == 0 {
        return Err(KernelFault::Nonsense("it has no segment to load"));
    }
    if !pvh {
        return Err(KernelFault::NoPvhEntry);
    }
    Ok(Kernel {
        boot: BootProtocol::Pvh,
        end: ByteCount::new(end),
    })
}

/// Notes: name size, description size, type; then both, each padded to 4 bytes.
fn has_pvh_note(mut notes: &[u8]) -> bool {
    while notes.len() >= 12 {
        let padded = |offset| {
            usize::try_from(number(notes, offset, 4).next_multiple_of(4)).unwrap_or(usize::MAX)
        };
        let (name, description) = (padded(0), padded(4));
        let named_xen = notes.get(12..16) == Some(b"Xen\0".as_slice()) && number(notes, 0, 4) == 4;
        if named_xen && number32(notes, 8) == XEN_ELFNOTE_PHYS32_ENTRY && description >= 4 {
            return true;
        }
        let length = 12_usize.saturating_add(name).saturating_add(description);
        notes = notes.get(length..).unwrap_or_default();
    }
    false
}

fn bz_image(reader: &Reader<'_>) -> Result<Kernel, KernelFault> {
    let header = reader.bytes("the setup header", 0, 0x268)?;
    let version = number(&header, 0x206, 2);
    if version < 0x20c {
        let (major, minor) = (version >> 8, version & 0xff);
        return Err(KernelFault::WrongBzImage(format!(
            "its protocol is {major}.{minor:02}, before 2.12"
        )));
    }
    if number(&header, 0x211, 1) & 1 == 0 {
        return Err(KernelFault::WrongBzImage(
            "it is not loaded high".to_owned(),
        ));
    }
    if number(&header, 0x236, 2) & 1 == 0 {
        return Err(KernelFault::WrongBzImage(
            "it has no 64-bit entry point".to_owned(),
        ));
    }
    let setup_sectors = match number(&header, 0x1f1, 1) {
        0 => 4,
        sectors => sectors,
    };
    let end = (setup_sectors + 1) * 512 + number(&header, 0x1f4, 4) * 16;
    if end > reader.size {
        return Err(KernelFault::Truncated {
            what: "the protected-mode kernel",
            end,
            size: reader.size,
        });
    }
    let address = LOAD_ADDRESS.max(number(&header, 0x258, 8));
    let end = address
        .checked_add(number(&header, 0x260, 4))
        .ok_or(KernelFault::Nonsense("an address beyond 64 bits"))?;
    Ok(Kernel {
        boot: BootProtocol::Linux,
        end: ByteCount::new(end),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// The smallest ELF with a PVH note: one segment of `memory` bytes at 1 MiB.
    pub(crate) fn pvh_elf(memory: u64) -> Vec<u8> {
        let mut elf = vec![0_u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut set =
            |offset: usize, bytes: &[u8]| elf[offset..offset + bytes.len()].copy_from_slice(bytes);
        set(18, &62_u16.to_le_bytes());
        set(32, &64_u64.to_le_bytes());
        set(54, &56_u16.to_le_bytes());
        set(56, &2_u16.to_le_bytes());
        let header = |kind: u32, offset: u64, address: u64, in_file: u64, in_memory: u64| {
            let mut header = [kind.to_le_bytes(), [0; 4]].concat();
            for field in [offset, address, address, in_file, in_memory, 4] {
                header.extend(field.to_le_bytes());
            }
            header
        };
        elf.extend(header(PT_NOTE, 176, 0, 20, 20));
        elf.extend(header(PT_LOAD, 196, LOAD_ADDRESS, 16, memory));
        for field in [4, 4, XEN_ELFNOTE_PHYS32_ENTRY] {
            elf.extend(field.to_le_bytes());
        }
        elf.extend(b"Xen\0");
        elf.extend(0x10_0000_u32.to_le_bytes());
        elf.extend([0x90; 16]);
        elf
    }

    fn bz_image(syssize: u32) -> Vec<u8> {
        let mut image = vec![0_u8; 1024];
        let mut set = |offset: usize, bytes: &[u8]| {
            image[offset..offset + bytes.len()].copy_from_slice(bytes)
        };
        set(0x1f1, &[1]);
        set(0x1f4, &syssize.to_le_bytes());
        set(0x1fe, &[0x55, 0xaa]);
        set(0x202, b"HdrS");
        set(0x206, &0x20f_u16.to_le_bytes());
        set(0x211, &[1]);
        set(0x236, &[1, 0]);
        set(0x258, &0x100_0000_u64.to_le_bytes());
        set(0x260, &0x20_0000_u32.to_le_bytes());
        image.resize(1024 + 16 * 4, 0);
        image
    }

    fn inspect_bytes(bytes: &[u8]) -> Result<Kernel, String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        inspect(&file).map_err(|fault| fault.to_string())
    }

    #[test]
    fn kernels_are_told_apart() {
        let elf = inspect_bytes(&pvh_elf(0x1000)).unwrap();
        assert_eq!(
            elf,
            Kernel {
                boot: BootProtocol::Pvh,
                end: ByteCount::new(0x10_1000)
            }
        );
        let linux = inspect_bytes(&bz_image(4)).unwrap();
        assert_eq!(
            linux,
            Kernel {
                boot: BootProtocol::Linux,
                end: ByteCount::new(0x120_0000)
            }
        );
    }

    #[test]
    fn what_is_no_kernel_says_why() {
        let mut no_note = pvh_elf(0x1000);
        no_note[184] = 1;
        let mut arm = pvh_elf(0x1000);
        arm[18] = 183;
        let mut old = bz_image(4);
        old[0x206] = 0x0b;
        for (bytes, part) in [
            (
                b"#!/bin/sh\nexit 1\n".to_vec(),
                "neither an ELF nor a Linux bzImage",
            ),
            (Vec::new(), "cut off"),
            (b"\x7fELF".to_vec(), "cut off: the ELF header"),
            (pvh_elf(0x1000)[..200].to_vec(), "cut off: a segment"),
            (
                pvh_elf(0x1000)[..100].to_vec(),
                "cut off: the program headers",
            ),
            (pvh_elf(8), "larger in the file than in memory"),
            (no_note, "without a PVH entry"),
            (arm, "another processor"),
            (bz_image(5), "cut off: the protected-mode kernel"),
            (old, "before 2.12"),
        ] {
            let fault = inspect_bytes(&bytes).unwrap_err();
            assert!(fault.contains(part), "{fault} has no {part:?}");
        }
    }

    #[test]
    fn no_prefix_and_no_flipped_bit_breaks_it() {
        for kernel in [pvh_elf(0x1000), bz_image(4)] {
            for length in 0..kernel.len() {
                assert!(inspect_bytes(&kernel[..length]).is_err(), "{length}");
            }
            for bit in 0..kernel.len().min(256) * 8 {
                let mut flipped = kernel.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                // Whatever comes out, it does not panic.
                let _ = inspect_bytes(&flipped);
            }
        }
    }
}
