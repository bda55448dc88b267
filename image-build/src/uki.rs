//! A unified kernel image: the sections of an image appended to a boot stub (UAPI group, "Unified Kernel Image"; Microsoft,
//! "PE Format").

use object::{
    LittleEndian as LE,
    pe::{IMAGE_SCN_CNT_INITIALIZED_DATA, IMAGE_SCN_MEM_READ, ImageDosHeader, ImageNtHeaders64},
    read::pe::{ImageNtHeaders as _, ImageOptionalHeader as _},
};

use crate::BuildError;

/// Bytes of one entry of the table of sections.
const ENTRY: usize = 40;
/// Where sections are placed in memory: whole pages.
const PAGE: u32 = 4096;

/// What goes into an image, besides the stub.
pub struct UkiParts<'a> {
    /// os-release(5).
    pub os_release: &'a str,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// The kernel's version.
    pub uname: &'a str,
    /// The kernel, a bzImage.
    pub kernel: &'a [u8],
    /// The initramfs.
    pub initramfs: &'a [u8],
}

/// Puts the parts behind `stub`.
///
/// # Errors
/// The stub is no EFI program, has no room for more sections, or the image would be too large for the format.
pub fn make_uki(stub: &[u8], parts: &UkiParts<'_>) -> Result<Vec<u8>, BuildError> {
    append(
        stub,
        &[
            (".osrel", parts.os_release.as_bytes()),
            (".cmdline", parts.command_line.as_bytes()),
            (".uname", parts.uname.as_bytes()),
            (".initrd", parts.initramfs),
            // The kernel last: it may be unpacked in place behind its end.
            (".linux", parts.kernel),
        ],
    )
}

/// Where in the file the fields are that change.
struct Offsets {
    /// The file header (COFF), behind the signature.
    file: usize,
    /// The optional header.
    optional: usize,
    /// The table of sections.
    table: usize,
    count: usize,
}

fn append(stub: &[u8], sections: &[(&str, &[u8])]) -> Result<Vec<u8>, BuildError> {
    let malformed = |error| BuildError::because("the boot stub is no EFI program", error);
    let too_large = |_| BuildError::new("the image is too large for an EFI program (4 GiB)");
    let dos = ImageDosHeader::parse(stub).map_err(malformed)?;
    let file = dos.nt_headers_offset() as usize + 4;
    let mut end = dos.nt_headers_offset().into();
    let (nt, _) = ImageNtHeaders64::parse(stub, &mut end).map_err(malformed)?;
    let table = nt.sections(stub, end).map_err(malformed)?;
    let optional_header = nt.optional_header();
    let alignment = optional_header.file_alignment();
    let at = Offsets {
        file,
        optional: file + 20,
        table: usize::try_from(end).map_err(too_large)?,
        count: table.len(),
    };
    let old_headers = optional_header.size_of_headers();
    let first_address = table.iter().map(|s| s.virtual_address.get(LE)).min();
    let table_end =
        u32::try_from(at.table + (at.count + sections.len()) * ENTRY).map_err(too_large)?;
    let headers = table_end.next_multiple_of(alignment).max(old_headers);
    if first_address.is_none_or(|address| headers > address) {
        return Err(BuildError::new(
            "the boot stub has no room for more sections",
        ));
    }
    let shift = headers - old_headers;

    // What is behind the last section, such as symbols, is not loaded; a signature is over headers and sections without gaps.
    let stub_end = table
        .iter()
        .map(|s| s.pointer_to_raw_data.get(LE) + s.size_of_raw_data.get(LE))
        .max()
        .unwrap_or_default() as usize;
    let body = stub
        .get(old_headers as usize..stub_end)
        .ok_or_else(|| BuildError::new("the boot stub is cut off"))?;
    let mut image = stub[..at.table + at.count * ENTRY].to_vec();
    image.resize(headers as usize, 0);
    image.extend(body);
    // No symbols, where the file header says how many there are and where.
    put(&mut image, at.file + 8, 0);
    put(&mut image, at.file + 12, 0);
    for index in 0..at.count {
        let field = at.table + index * ENTRY + 20;
        let pointer = get(&image, field);
        if pointer != 0 {
            put(&mut image, field, pointer + shift);
        }
    }
    let mut address = table
        .iter()
        .map(|s| s.virtual_address.get(LE) + s.virtual_size.get(LE))
        .max()
        .unwrap_or_default();
    let mut data_size = get(&image, at.optional + 8);
    for (index, (name, data)) in sections.iter().enumerate() {
        address = address.next_multiple_of(PAGE);
        let size = u32::try_from(data.len()).map_err(too_large)?;
        image.resize(image.len().next_multiple_of(alignment as usize), 0);
        let pointer = u32::try_from(image.len()).map_err(too_large)?;
        let raw = size.next_multiple_of(alignment);
        let entry = at.table + (at.count + index) * ENTRY;
        image[entry..entry + name.len()].copy_from_slice(name.as_bytes());
        let characteristics = IMAGE_SCN_CNT_INITIALIZED_DATA | IMAGE_SCN_MEM_READ;
        for (offset, value) in [
            (8, size),
            (12, address),
            (16, raw),
            (20, pointer),
            (36, characteristics),
        ] {
            put(&mut image, entry + offset, value);
        }
        image.extend(*data);
        image.resize((pointer + raw) as usize, 0);
        address = address
            .checked_add(size)
            .ok_or_else(|| BuildError::new("the image is too large for an EFI program (4 GiB)"))?;
        data_size = data_size.saturating_add(raw);
    }
    let count = u16::try_from(at.count + sections.len()).map_err(too_large)?;
    image[at.file + 2..at.file + 4].copy_from_slice(&count.to_le_bytes());
    put(&mut image, at.optional + 8, data_size);
    put(&mut image, at.optional + 56, address.next_multiple_of(PAGE));
    put(&mut image, at.optional + 60, headers);
    put(&mut image, at.optional + 64, 0);
    let sum = checksum(&image);
    put(&mut image, at.optional + 64, sum);
    Ok(image)
}

/// The checksum of a PE file whose own field is 0: 16-bit words added with carry, plus the length.
pub(crate) fn checksum(image: &[u8]) -> u32 {
    let words = image
        .chunks(2)
        .map(|pair| u32::from(pair[0]) | u32::from(pair.get(1).copied().unwrap_or(0)) << 8);
    let sum = words.fold(0_u32, |sum, word| {
        let sum = sum + word;
        (sum & 0xffff) + (sum >> 16)
    });
    sum.wrapping_add(u32::try_from(image.len()).unwrap_or(u32::MAX))
}

fn get(image: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&image[at..at + 4]);
    u32::from_le_bytes(bytes)
}

fn put(image: &mut [u8], at: usize, value: u32) {
    image[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use image_format::Uki;

    /// A stub like systemd's: one section at 0x4000, headers of 0x400 bytes.
    pub(crate) fn stub() -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes.extend(b"PE\0\0");
        bytes.extend(0x8664_u16.to_le_bytes());
        bytes.extend(1_u16.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend((112_u16 + 16 * 8).to_le_bytes());
        bytes.extend([0; 2]);
        let optional = bytes.len();
        bytes.resize(optional + 112 + 16 * 8, 0);
        bytes[optional..optional + 2].copy_from_slice(&0x20b_u16.to_le_bytes());
        for (offset, value) in [
            (32, 0x200_u32),
            (36, 0x200),
            (56, 0x5000),
            (60, 0x400),
            (108, 16),
        ] {
            put(&mut bytes, optional + offset, value);
        }
        let entry = bytes.len();
        bytes.resize(entry + ENTRY, 0);
        bytes[entry..entry + 5].copy_from_slice(b".text");
        for (offset, value) in [(8, 0x300_u32), (12, 0x4000), (16, 0x400), (20, 0x400)] {
            put(&mut bytes, entry + offset, value);
        }
        bytes.resize(0x400, 0);
        bytes.extend([0x90; 0x400]);
        // Symbols, as linkers leave them behind the sections.
        put(&mut bytes, 0x44 + 8, 0x800);
        bytes.extend([1; 333]);
        bytes
    }

    #[test]
    fn the_parts_are_found_where_the_header_says() {
        let kernel = vec![7; 3000];
        let parts = UkiParts {
            os_release: "ID=ashlar\n",
            command_line: "quiet",
            uname: "6.1",
            kernel: &kernel,
            initramfs: &[9; 5000],
        };
        let image = make_uki(&stub(), &parts).unwrap();
        let uki = Uki::parse(&image).unwrap();
        uki.check_size(image.len() as u64).unwrap();
        let content = |name: &str| {
            let range = uki.section(name).unwrap().range();
            let at = |offset| usize::try_from(offset).unwrap();
            image[at(range.start)..at(range.end)].to_vec()
        };
        assert_eq!(content(".text"), [0x90; 0x300]);
        assert_eq!(content(".osrel"), b"ID=ashlar\n");
        assert_eq!(content(".cmdline"), b"quiet");
        assert_eq!(content(".initrd"), [9; 5000]);
        assert_eq!(content(".linux"), kernel);
        assert_eq!(image, make_uki(&stub(), &parts).unwrap());
        // Firmware hashes headers and sections one after the other; a signer hashes the file: nothing may be between.
        let mut end = get(&image, 0x44 + 20 + 60);
        let table = 0x44 + 20 + 112 + 16 * 8;
        for entry in (0..uki.sections.len()).map(|index| table + index * ENTRY) {
            assert_eq!(get(&image, entry + 20), end, "a gap before a section");
            end += get(&image, entry + 16);
        }
        assert_eq!(end as usize, image.len());
        assert_eq!(get(&image, 0x44 + 8), 0, "symbols that are not there");
        let (file, mut optional) = (0x44, 0);
        optional += file + 20;
        let mut without = image.clone();
        put(&mut without, optional + 64, 0);
        assert_eq!(get(&image, optional + 64), checksum(&without));
    }

    #[test]
    fn what_is_no_stub_is_refused() {
        let parts = UkiParts {
            os_release: "",
            command_line: "",
            uname: "",
            kernel: &[],
            initramfs: &[],
        };
        for bad in [&b""[..], b"MZ", &[0; 4096]] {
            assert!(make_uki(bad, &parts).is_err());
        }
    }
}
