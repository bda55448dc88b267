//! A unified kernel image: a PE program whose sections are a boot stub, a kernel, an initramfs, a command line and an
//! os-release (UAPI group, "Unified Kernel Image").

use std::ops::Range;

use object::{
    LittleEndian as LE,
    pe::{IMAGE_DIRECTORY_ENTRY_SECURITY, ImageDosHeader, ImageNtHeaders64},
    read::pe::ImageNtHeaders as _,
};

use crate::{Release, ReleaseError};

/// The header, with the table of sections, is in the first so many bytes of the file.
pub const MAX_HEADER_BYTES: usize = 64 << 10;
/// The most sections that are listed.
const MAX_SECTIONS: usize = 64;

/// One section: a named range of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, as `.linux`.
    pub name: String,
    /// Where it begins in the file.
    pub offset: u64,
    /// How much of it counts, bytes.
    pub size: u64,
}

impl Section {
    /// As a range of the file's bytes.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(self.size)
    }
}

/// What the header of a unified kernel image says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uki {
    /// Its sections, in the order of the table.
    pub sections: Vec<Section>,
    /// Whether it carries a signature for Secure Boot; whose is not known here.
    pub signed: bool,
    /// One past the last byte that the header speaks of: a shorter file is cut off.
    pub end: u64,
}

/// A file that is no unified kernel image, or a broken one.
#[derive(Debug, thiserror::Error)]
pub enum UkiError {
    /// It is no PE program of 64 bits.
    #[error("the file is no EFI program: {0}")]
    NotPe(&'static str),
    /// It has too many sections.
    #[error("the file has more than {MAX_SECTIONS} sections")]
    TooManySections,
    /// A section that every image has is missing.
    #[error("the file is an EFI program, but no unified kernel image: it has no section {0}")]
    NoSection(&'static str),
    /// The file ends before its sections do.
    #[error("the file is cut off: {has} of {needs} bytes are there")]
    CutOff {
        /// Bytes there are.
        has: u64,
        /// Bytes there should be.
        needs: u64,
    },
    /// The section with the os-release is no text.
    #[error("the image's os-release is no text")]
    NotText,
    /// It is an image of something else.
    #[error(transparent)]
    Release(#[from] ReleaseError),
}

impl Uki {
    /// Reads the header from the beginning of a file; [`MAX_HEADER_BYTES`] or the whole file are enough.
    ///
    /// # Errors
    /// The file is no EFI program, or has no kernel in it.
    pub fn parse(head: &[u8]) -> Result<Self, UkiError> {
        let not_pe = |_| UkiError::NotPe("its header makes no sense");
        let dos = ImageDosHeader::parse(head).map_err(not_pe)?;
        let mut offset = dos.nt_headers_offset().into();
        let (nt, directories) = ImageNtHeaders64::parse(head, &mut offset).map_err(not_pe)?;
        let table = nt.sections(head, offset).map_err(not_pe)?;
        if table.len() > MAX_SECTIONS {
            return Err(UkiError::TooManySections);
        }
        let sections: Vec<Section> = table
            .iter()
            .map(|section| {
                let (raw, virt) = (
                    section.size_of_raw_data.get(LE),
                    section.virtual_size.get(LE),
                );
                Section {
                    name: String::from_utf8_lossy(section.raw_name()).into_owned(),
                    offset: section.pointer_to_raw_data.get(LE).into(),
                    // The file pads sections to its alignment; the stub reads the virtual size.
                    size: raw.min(virt).into(),
                }
            })
            .collect();
        let signature = directories
            .get(IMAGE_DIRECTORY_ENTRY_SECURITY)
            .map(|directory| directory.address_range())
            .filter(|(_, size)| *size > 0);
        let ends = sections.iter().map(|section| section.range().end);
        let signature_end = signature.map(|(at, size)| u64::from(at) + u64::from(size));
        let uki = Self {
            end: ends.chain(signature_end).max().unwrap_or_default(),
            signed: signature.is_some(),
            sections,
        };
        uki.section(".linux").ok_or(UkiError::NoSection(".linux"))?;
        uki.section(".osrel").ok_or(UkiError::NoSection(".osrel"))?;
        Ok(uki)
    }

    /// The section of that name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// Whether a file of `size` bytes can hold all that the header speaks of.
    ///
    /// # Errors
    /// It is cut off.
    pub fn check_size(&self, size: u64) -> Result<(), UkiError> {
        if size < self.end {
            return Err(UkiError::CutOff {
                has: size,
                needs: self.end,
            });
        }
        Ok(())
    }

    /// What the image says of itself, from the bytes of its section `.osrel`.
    ///
    /// # Errors
    /// The bytes are no text, or not of this product.
    pub fn release(os_release: &[u8]) -> Result<Release, UkiError> {
        let text = std::str::from_utf8(os_release).map_err(|_| UkiError::NotText)?;
        Ok(Release::parse(text.trim_end_matches('\0'))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A PE header with these sections, each a name, an offset and a size.
    fn pe(sections: &[(&str, u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 0x40];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[0x3c] = 0x40;
        bytes.extend(b"PE\0\0");
        let count = u16::try_from(sections.len()).unwrap();
        bytes.extend(0x8664_u16.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend((112_u16 + 16 * 8).to_le_bytes());
        bytes.extend([0; 2]);
        let mut optional = vec![0; 112 + 16 * 8];
        optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
        optional[108..112].copy_from_slice(&16_u32.to_le_bytes());
        bytes.extend(optional);
        for (name, offset, size) in sections {
            let mut section = [0; 40];
            section[..name.len()].copy_from_slice(name.as_bytes());
            section[8..12].copy_from_slice(&size.to_le_bytes());
            section[16..20].copy_from_slice(&size.next_multiple_of(512).to_le_bytes());
            section[20..24].copy_from_slice(&offset.to_le_bytes());
            bytes.extend(section);
        }
        bytes
    }

    #[test]
    fn sections_are_listed_with_their_true_sizes() {
        let uki = Uki::parse(&pe(&[(".osrel", 1024, 100), (".linux", 2048, 700)])).unwrap();
        assert_eq!(uki.section(".linux").unwrap().range(), 2048..2748);
        assert!(!uki.signed);
        assert!(uki.check_size(2748).is_ok());
        assert!(matches!(
            uki.check_size(2747),
            Err(UkiError::CutOff {
                has: 2747,
                needs: 2748
            })
        ));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(matches!(Uki::parse(b""), Err(UkiError::NotPe(_))));
        assert!(matches!(Uki::parse(&[0; 4096]), Err(UkiError::NotPe(_))));
        assert!(matches!(
            Uki::parse(&pe(&[(".text", 1024, 8)])),
            Err(UkiError::NoSection(".linux"))
        ));
        assert!(matches!(Uki::release(b"\xff"), Err(UkiError::NotText)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), at in 0_usize..500) {
            let mut image = pe(&[(".osrel", 1024, 100), (".linux", 2048, 700)]);
            for (index, byte) in bytes.iter().enumerate() {
                if let Some(target) = image.get_mut(at + index) {
                    *target = *byte;
                }
            }
            let _ = Uki::parse(&image);
            let _ = Uki::parse(&bytes);
        }
    }
}
