//! The EFI system partition: a FAT32 file system made in memory.

use std::io::{Cursor, Write};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};

use crate::BuildError;

/// A file of the partition.
pub struct EspFile<'a> {
    /// Its path, with `/`.
    pub path: &'a str,
    /// Its content.
    pub data: &'a [u8],
}

/// FAT cannot say when; the first moment it can name stands for that.
#[derive(Debug)]
struct NoTime;

static NO_TIME: NoTime = NoTime;

impl TimeProvider for NoTime {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

/// A FAT32 file system of `size` bytes with these files, and the folders they are in. `volume_id` is its serial number.
///
/// # Errors
/// The files do not fit.
pub fn make_esp(size: u64, volume_id: u32, files: &[EspFile<'_>]) -> Result<Vec<u8>, BuildError> {
    let failed = |what: &str| {
        let message = format!(
            "cannot put {what} on the EFI system partition of {} MiB",
            size >> 20
        );
        move |error| BuildError::because(message, error)
    };
    let length = usize::try_from(size)
        .map_err(|_| BuildError::new("the EFI system partition is too large"))?;
    let mut image = vec![0; length];
    let mut label = [b' '; 11];
    let name = image_format::layout::ESP_LABEL.as_bytes();
    label[..name.len()].copy_from_slice(name);
    let options = FormatVolumeOptions::new()
        .fat_type(FatType::Fat32)
        .volume_id(volume_id)
        .volume_label(label);
    fatfs::format_volume(Cursor::new(&mut image[..]), options).map_err(failed("a file system"))?;
    let options = FsOptions::new()
        .time_provider(&NO_TIME)
        .update_accessed_date(false);
    let volume =
        FileSystem::new(Cursor::new(&mut image[..]), options).map_err(failed("a file system"))?;
    {
        let root = volume.root_dir();
        for file in files {
            let mut folder = root.clone();
            let mut parts = file.path.split('/').peekable();
            while let Some(part) = parts.next() {
                if parts.peek().is_some() {
                    folder = folder.create_dir(part).map_err(failed(file.path))?;
                } else {
                    let mut to = folder.create_file(part).map_err(failed(file.path))?;
                    to.truncate().map_err(failed(file.path))?;
                    to.write_all(file.data).map_err(failed(file.path))?;
                    to.flush().map_err(failed(file.path))?;
                }
            }
        }
    }
    volume.unmount().map_err(failed("a file system"))?;
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn files_come_back_and_the_same_files_give_the_same_bytes() {
        let files = [
            EspFile {
                path: "EFI/BOOT/BOOTX64.EFI",
                data: b"loader",
            },
            EspFile {
                path: "EFI/Linux/ashlar-a.efi",
                data: &[5; 100_000],
            },
            EspFile {
                path: "loader/loader.conf",
                data: b"timeout 0\n",
            },
        ];
        let image = make_esp(64 << 20, 7, &files).unwrap();
        assert!(image == make_esp(64 << 20, 7, &files).unwrap());
        let volume = FileSystem::new(Cursor::new(image), FsOptions::new()).unwrap();
        assert_eq!(volume.fat_type(), FatType::Fat32);
        assert_eq!(volume.volume_label(), "ASHLAR-ESP");
        for file in files {
            let mut data = Vec::new();
            volume
                .root_dir()
                .open_file(file.path)
                .unwrap()
                .read_to_end(&mut data)
                .unwrap();
            assert!(data == file.data, "{}", file.path);
        }
    }

    #[test]
    fn files_that_do_not_fit_are_named() {
        let data = vec![1; 70 << 20];
        let files = [EspFile {
            path: "EFI/Linux/ashlar-a.efi",
            data: &data,
        }];
        let error = make_esp(64 << 20, 7, &files).unwrap_err().to_string();
        assert!(
            error.contains("ashlar-a.efi") && error.contains("64 MiB"),
            "{error}"
        );
    }
}
