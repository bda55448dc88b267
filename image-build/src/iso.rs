//! An image for virtual media: ISO 9660 (ECMA-119) with one file, the EFI system partition that firmware boots from ("El Torito"
//! Bootable CD-ROM Format Specification 1.0; UEFI 2.10 §13.3.2.1).
//!
//! ```text
//! sector 16 volume descriptor │ 17 boot record │ 18 end │ 19, 20 path tables │ 21 root folder │ 22 boot catalogue │ 23 … EFI.IMG
//! ```

use std::io::Write;

use crate::BuildError;

const SECTOR: usize = 2048;
const PATHS_LITTLE: u32 = 19;
const PATHS_BIG: u32 = 20;
const ROOT: u32 = 21;
const CATALOGUE: u32 = 22;
const IMAGE: u32 = 23;
/// What the volume is called.
const LABEL: &str = "ASHLAR";
const FILE: &[u8] = b"EFI.IMG;1";

/// Writes a volume whose one file is `esp`.
///
/// # Errors
/// It cannot be written, or is too large.
pub fn write_iso(to: &mut impl Write, esp: &[u8]) -> Result<(), BuildError> {
    let too_large = |_| BuildError::new("the image is too large for ISO 9660 (4 GiB)");
    let size = u32::try_from(esp.len()).map_err(too_large)?;
    let sectors = IMAGE + size.div_ceil(2048);
    let mut volume = vec![0; 16 * SECTOR];
    for sector in [
        primary(sectors),
        boot_record(),
        terminator(),
        path_table(ROOT.to_le_bytes(), 1_u16.to_le_bytes()),
        path_table(ROOT.to_be_bytes(), 1_u16.to_be_bytes()),
        root_folder(size),
        catalogue(),
    ] {
        let at = volume.len();
        volume.extend(sector);
        volume.resize(at + SECTOR, 0);
    }
    let mut write = || {
        to.write_all(&volume)?;
        to.write_all(esp)?;
        to.write_all(&vec![0; esp.len().next_multiple_of(SECTOR) - esp.len()])?;
        to.flush()
    };
    write().map_err(|error| BuildError::because("cannot write the ISO image", error))
}

/// A number in both orders of bytes (ECMA-119 §7.3.3).
fn both32(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn both16(value: u16) -> Vec<u8> {
    [value.to_le_bytes(), value.to_be_bytes()].concat()
}

fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b' ');
    bytes
}

/// ECMA-119 §8.4.
fn primary(sectors: u32) -> Vec<u8> {
    let mut d = vec![1];
    d.extend(b"CD001\x01\0");
    d.extend(padded("", 32));
    d.extend(padded(LABEL, 32));
    d.extend([0; 8]);
    d.extend(both32(sectors));
    d.extend([0; 32]);
    d.extend(both16(1));
    d.extend(both16(1));
    d.extend(both16(2048));
    d.extend(both32(10));
    d.extend(PATHS_LITTLE.to_le_bytes());
    d.extend([0; 4]);
    d.extend(PATHS_BIG.to_be_bytes());
    d.extend([0; 4]);
    d.extend(record(ROOT, 2048, true, &[0]));
    // Set, publisher, preparer, application, and three files.
    d.extend(padded("", 128 * 4 + 37 * 3));
    // Four times: none.
    for _ in 0..4 {
        d.extend([b'0'; 16]);
        d.push(0);
    }
    d.extend([1, 0]);
    d
}

/// El Torito §2.0.
fn boot_record() -> Vec<u8> {
    let mut d = vec![0];
    d.extend(b"CD001\x01");
    let mut name = b"EL TORITO SPECIFICATION".to_vec();
    name.resize(64, 0);
    d.extend(name);
    d.extend(CATALOGUE.to_le_bytes());
    d
}

fn terminator() -> Vec<u8> {
    let mut d = vec![255];
    d.extend(b"CD001\x01");
    d
}

/// ECMA-119 §9.4: the root folder alone.
fn path_table(root: [u8; 4], parent: [u8; 2]) -> Vec<u8> {
    let mut d = vec![1, 0];
    d.extend(root);
    d.extend(parent);
    d.extend([0, 0]);
    d
}

fn root_folder(size: u32) -> Vec<u8> {
    let mut d = record(ROOT, 2048, true, &[0]);
    d.extend(record(ROOT, 2048, true, &[1]));
    d.extend(record(IMAGE, size, false, FILE));
    d
}

/// ECMA-119 §9.1. Without a time.
fn record(at: u32, size: u32, folder: bool, name: &[u8]) -> Vec<u8> {
    let mut d = vec![0, 0];
    d.extend(both32(at));
    d.extend(both32(size));
    d.extend([0; 7]);
    d.extend([if folder { 2 } else { 0 }, 0, 0]);
    d.extend(both16(1));
    d.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    d.extend(name);
    if d.len() % 2 == 1 {
        d.push(0);
    }
    d[0] = u8::try_from(d.len()).unwrap_or(u8::MAX);
    d
}

/// El Torito §2.1–2.4: one entry for EFI, without emulation. Its length would not fit: 0 lets the firmware take the rest of the volume.
fn catalogue() -> Vec<u8> {
    const EFI: u8 = 0xef;
    let mut validation = vec![1, EFI];
    validation.resize(30, 0);
    validation.extend([0x55, 0xaa]);
    let sum = validation.chunks(2).fold(0_u16, |sum, pair| {
        sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]]))
    });
    validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    let mut entry = vec![0x88, 0, 0, 0, 0, 0, 0, 0];
    entry.extend(IMAGE.to_le_bytes());
    entry.resize(32, 0);
    [validation, entry].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_volume_names_the_partition_and_the_firmware_finds_it() {
        let esp = vec![7; 5000];
        let mut iso = Vec::new();
        write_iso(&mut iso, &esp).unwrap();
        assert_eq!(iso.len() % SECTOR, 0);
        let sector = |n: u32| &iso[n as usize * SECTOR..][..SECTOR];
        assert_eq!(&sector(16)[..6], b"\x01CD001");
        assert_eq!(&sector(16)[40..46], b"ASHLAR");
        assert_eq!(sector(16).len(), primary(1).len().max(SECTOR));
        assert_eq!(&sector(17)[7..30], b"EL TORITO SPECIFICATION");
        let catalogue = sector(CATALOGUE);
        let sum = catalogue[..32].chunks(2).fold(0_u16, |sum, pair| {
            sum.wrapping_add(u16::from_le_bytes([pair[0], pair[1]]))
        });
        assert_eq!(sum, 0, "the validation entry's checksum");
        assert_eq!(catalogue[32], 0x88);
        assert_eq!(catalogue[40..44], IMAGE.to_le_bytes());
        assert_eq!(&iso[IMAGE as usize * SECTOR..][..5000], esp);
        let root = sector(ROOT);
        let file = &root[usize::from(root[0]) * 2..];
        assert_eq!(&file[33..42], FILE);
        assert_eq!(file[10..14], 5000_u32.to_le_bytes());
        let mut again = Vec::new();
        write_iso(&mut again, &esp).unwrap();
        assert_eq!(iso, again);
    }
}
