//! Reads an ELF image's headers (System V ABI, 64-bit x86) far enough to load it by the PVH protocol.
//!
//! Everything in the file is checked against the file's size before it is used, so that errors can say what is
//! wrong with it.

use std::ops::Range;

use super::image::Image;
use super::unusable;
use crate::protocol::StartError;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
const PROGRAM_HEADERS_MAX: u16 = 64;
const NOTES_MAX: u64 = 64 << 10;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const MACHINE_X86_64: u16 = 62;
/// The note whose descriptor is the 32-bit physical entry point (XEN_ELFNOTE_PHYS32_ENTRY).
const NOTE_PHYS32_ENTRY: u32 = 18;

/// A part of the file and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Offset in the file.
    pub(super) offset: u64,
    /// Bytes in the file.
    pub(super) file_bytes: u64,
    /// Guest-physical range; what the file does not fill stays zero.
    pub(super) memory: Range<u64>,
}

/// What is needed to start an ELF image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Elf {
    /// The parts to load, at least one.
    pub(super) segments: Vec<Segment>,
    /// The PVH entry point.
    pub(super) entry: u32,
}

impl Elf {
    pub(super) fn read(image: &Image<'_>) -> Result<Self, StartError> {
        let header = image.bytes(0, HEADER_BYTES).map_err(|_| {
            unusable(format!(
                "it is truncated: {} bytes are too few for an ELF header",
                image.length()
            ))
        })?;
        if header[..4] != *b"\x7FELF" {
            return Err(unusable("it is not an ELF image"));
        }
        if header[4..6] != [2, 1] || u16_at(&header, 18) != MACHINE_X86_64 {
            return Err(unusable("it is not an ELF image for 64-bit x86"));
        }
        let (table, size, count) = (
            u64_at(&header, 32),
            u16_at(&header, 54),
            u16_at(&header, 56),
        );
        if size != PROGRAM_HEADER_BYTES || count == 0 || count > PROGRAM_HEADERS_MAX {
            return Err(unusable(format!(
                "{count} program headers of {size} bytes are not usable"
            )));
        }
        let headers = image
            .bytes(table, usize::from(size) * usize::from(count))
            .map_err(|_| {
                unusable(format!(
                    "it is truncated: its program headers at {table} are missing"
                ))
            })?;
        let mut segments = Vec::new();
        let mut entry = None;
        for (index, header) in headers.chunks(usize::from(size)).enumerate() {
            match u32_at(header, 0) {
                PT_LOAD => segments.extend(segment(image, header, index)?),
                PT_NOTE if entry.is_none() => entry = pvh_entry(image, header)?,
                _ => {}
            }
        }
        let entry = entry.ok_or_else(|| {
            unusable("it has no PVH entry note (XEN_ELFNOTE_PHYS32_ENTRY): build it for PVH boot")
        })?;
        if !segments
            .iter()
            .any(|segment| segment.memory.contains(&u64::from(entry)))
        {
            return Err(unusable(format!(
                "its PVH entry point {entry:#x} lies outside its segments"
            )));
        }
        Ok(Self { segments, entry })
    }

    /// First address after the image.
    pub(super) fn end(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.memory.end)
            .max()
            .unwrap_or(0)
    }
}

/// Checks one PT_LOAD header; empty ones give nothing.
fn segment(image: &Image<'_>, header: &[u8], index: usize) -> Result<Option<Segment>, StartError> {
    let (offset, address) = (u64_at(header, 8), u64_at(header, 24));
    let (file_bytes, memory_bytes) = (u64_at(header, 32), u64_at(header, 40));
    if memory_bytes == 0 {
        return Ok(None);
    }
    let file_end = offset.checked_add(file_bytes);
    if file_end.is_none_or(|end| end > image.length()) {
        let length = image.length();
        return Err(unusable(format!(
            "it is truncated: segment {index} takes {file_bytes} bytes at offset {offset}, the file has {length}"
        )));
    }
    let end = address.checked_add(memory_bytes);
    let Some(end) = end.filter(|_| file_bytes <= memory_bytes) else {
        return Err(unusable(format!("segment {index} has impossible sizes")));
    };
    Ok(Some(Segment {
        offset,
        file_bytes,
        memory: address..end,
    }))
}

/// Looks for the PVH entry point in one PT_NOTE segment.
fn pvh_entry(image: &Image<'_>, header: &[u8]) -> Result<Option<u32>, StartError> {
    let (offset, length) = (u64_at(header, 8), u64_at(header, 32).min(NOTES_MAX));
    let length = usize::try_from(length).unwrap_or(0);
    let notes = image.bytes(offset, length).map_err(|_| {
        unusable(format!(
            "it is truncated: its notes at offset {offset} are missing"
        ))
    })?;
    let mut rest = notes.as_slice();
    while rest.len() >= 12 {
        let (name, descriptor) = (padded(u32_at(rest, 0)), padded(u32_at(rest, 4)));
        let kind = u32_at(rest, 8);
        let body = &rest[12..];
        let (Some(owner), Some(value)) = (
            body.get(..name),
            body.get(name..name.saturating_add(descriptor)),
        ) else {
            break;
        };
        if kind == NOTE_PHYS32_ENTRY && owner == b"Xen\0" && value.len() >= 4 {
            return Ok(Some(u32_at(value, 0)));
        }
        rest = &body[name + descriptor..];
    }
    Ok(None)
}

fn padded(length: u32) -> usize {
    usize::try_from(length)
        .unwrap_or(usize::MAX)
        .saturating_add(3)
        & !3
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
