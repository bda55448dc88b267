//! Flashing a small image into files, and what goes wrong on the way.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{Cursor, Read},
    path::{Path, PathBuf},
};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::{GptConfig, mbr::ProtectiveMBR, partition_types};
use image_format::{Artifact, ArtifactKind, MANIFEST_SCHEMA, Manifest, TrustedKeys, layout};
use minisign::KeyPair;
use types::Sha256Digest;

use super::{
    release::{Release, check_file, manifest_beside},
    write::{Image, write},
};
use crate::client::Error;

const MIB: usize = 1 << 20;

/// A disk image of 48 MiB with a FAT file system in its EFI system partition.
fn disk() -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; 48 * MIB]);
    let sectors = u32::try_from(48 * MIB / 512 - 1).unwrap();
    ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(&mut disk)
        .unwrap();
    let mut table = GptConfig::new()
        .writable(true)
        .create_from_device(&mut disk, None)
        .unwrap();
    table
        .add_partition_at(
            layout::ESP.name,
            1,
            2048,
            40 * 2048,
            partition_types::EFI,
            0,
        )
        .unwrap();
    table.write().unwrap();
    let mut bytes = disk.into_inner();
    let part = &mut bytes[MIB..41 * MIB];
    fatfs::format_volume(Cursor::new(part), FormatVolumeOptions::new()).unwrap();
    bytes
}

fn image<'a>(content: &'a mut dyn Read, disk: &[u8]) -> Image<'a> {
    Image {
        content,
        size: disk.len() as u64,
        sha256: Sha256Digest::of(disk),
        configuration: Some("version = 1\n"),
    }
}

fn target(folder: &Path, size: usize) -> File {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(folder.join("target"))
        .unwrap();
    file.set_len(size as u64).unwrap();
    file
}

fn boots(folder: &Path) -> bool {
    GptConfig::new().open(folder.join("target")).is_ok()
}

#[test]
fn a_flashed_disk_has_the_image_the_configuration_and_a_table_of_its_own_size() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk();
    let file = target(folder.path(), 96 * MIB);
    let told = Cell::new(0);
    write(
        &file,
        96 << 20,
        image(&mut &disk[..], &disk),
        true,
        &|bytes| {
            told.set(told.get() + bytes);
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(
        told.get(),
        (disk.len() + disk.len() - MIB) as u64,
        "written, and read back but for the first MiB"
    );
    let table = GptConfig::new().open(folder.path().join("target")).unwrap();
    assert_eq!(
        table.primary_header().unwrap().backup_lba,
        (96 << 20) / 512 - 1
    );
    assert!(table.backup_header().is_ok());
    let bytes = fs::read(folder.path().join("target")).unwrap();
    let volume =
        FileSystem::new(Cursor::new(bytes[MIB..41 * MIB].to_vec()), FsOptions::new()).unwrap();
    let mut text = String::new();
    volume
        .root_dir()
        .open_file(layout::CONFIG_FILE)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "version = 1\n");
}

/// Ends, or fails, after some bytes.
struct Broken<'a> {
    bytes: &'a [u8],
    fails: bool,
}

impl Read for Broken<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.is_empty() && self.fails {
            return Err(std::io::Error::other("unplugged"));
        }
        self.bytes.read(to)
    }
}

#[test]
fn an_interrupted_or_wrong_image_leaves_a_disk_that_does_not_boot() {
    let disk = disk();
    let mut changed = disk.clone();
    changed[20 * MIB] ^= 1;
    for (bytes, fails, said) in [
        (&disk[..20 * MIB], true, "damaged"),
        (&disk[..20 * MIB], false, "not the one that was signed"),
        (&changed[..], false, "not the one that was signed"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = target(folder.path(), 96 * MIB);
        // What was there before booted.
        write(&file, 96 << 20, image(&mut &disk[..], &disk), true, &|_| {
            Ok(())
        })
        .unwrap();
        assert!(boots(folder.path()));
        let mut content = Broken { bytes, fails };
        let error = write(&file, 96 << 20, image(&mut content, &disk), true, &|_| {
            Ok(())
        })
        .unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert!(!boots(folder.path()));
    }
}

#[test]
fn ended_at_any_point_it_leaves_a_disk_that_does_not_boot() {
    let disk = disk();
    // The last is told when all was read back, just before the first MiB is written.
    let folder = tempfile::tempdir().unwrap();
    let file = target(folder.path(), 96 * MIB);
    write(&file, 96 << 20, image(&mut &disk[..], &disk), true, &|_| {
        Ok(())
    })
    .unwrap();
    let good = fs::read(folder.path().join("target")).unwrap();
    for after in [1, 48 * MIB, 95 * MIB] {
        fs::write(folder.path().join("target"), &good).unwrap();
        assert!(boots(folder.path()));
        let told = Cell::new(0);
        let error = write(
            &file,
            96 << 20,
            image(&mut &disk[..], &disk),
            true,
            &|bytes| {
                told.set(told.get() + bytes);
                if told.get() >= after as u64 {
                    return Err(Error::Failed("interrupted".into()));
                }
                Ok(())
            },
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
        assert!(!boots(folder.path()), "after {after}");
    }
}

#[test]
fn nothing_of_before_is_where_the_data_will_be() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk();
    fs::write(folder.path().join("target"), vec![7; 96 * MIB]).unwrap();
    let file = File::options()
        .read(true)
        .write(true)
        .open(folder.path().join("target"))
        .unwrap();
    write(&file, 96 << 20, image(&mut &disk[..], &disk), true, &|_| {
        Ok(())
    })
    .unwrap();
    let bytes = fs::read(folder.path().join("target")).unwrap();
    // The host's first free MiB is the image's last, in which its backup table was; another one begins where the image ends.
    assert!(bytes[47 * MIB..49 * MIB].iter().all(|byte| *byte == 0));
    let table = GptConfig::new().open(folder.path().join("target")).unwrap();
    assert!(table.backup_header().is_ok());
}

#[test]
fn a_disk_that_fails_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk();
    fs::write(folder.path().join("target"), vec![0; 96 * MIB]).unwrap();
    let read_only = File::open(folder.path().join("target")).unwrap();
    let error = write(
        &read_only,
        96 << 20,
        image(&mut &disk[..], &disk),
        true,
        &|_| Ok(()),
    )
    .unwrap_err();
    assert!(error.to_string().contains("does not boot now"), "{error}");
}

#[test]
fn only_what_was_signed_by_somebody_trusted_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let pair = KeyPair::generate_unencrypted_keypair().unwrap();
    let file = folder.path().join("ashlar-0.1.0-lab.img.zst");
    fs::write(&file, b"packed").unwrap();
    let manifest = Manifest {
        schema: MANIFEST_SCHEMA,
        version: "0.1.0".into(),
        variant: "lab".parse().unwrap(),
        security_version: 1,
        minimum_security_version: 0,
        state_schema: 1,
        source_date_epoch: 0,
        kernel: "6".into(),
        artifacts: vec![Artifact {
            kind: ArtifactKind::Disk,
            file: "ashlar-0.1.0-lab.img.zst".into(),
            size: 6,
            sha256: Sha256Digest::of(b"packed"),
            raw_size: None,
            raw_sha256: None,
        }],
    };
    let path = manifest_beside(&file).unwrap();
    let bytes = manifest.to_bytes().unwrap();
    fs::write(&path, &bytes).unwrap();
    let signature = minisign::sign(None, &pair.sk, Cursor::new(&bytes), None, None)
        .unwrap()
        .into_string();
    let beside: PathBuf = format!("{}.minisig", path.display()).into();
    let verified = |key: &str| -> Result<Release, Error> {
        Release::verified(&path, &TrustedKeys::parse(key).unwrap())
    };
    let ours = pair.pk.to_base64();
    assert!(verified(&ours).is_err(), "without a signature");
    fs::write(&beside, signature).unwrap();
    let release = verified(&ours).unwrap();
    let theirs = KeyPair::generate_unencrypted_keypair()
        .unwrap()
        .pk
        .to_base64();
    assert!(
        verified(&theirs)
            .unwrap_err()
            .to_string()
            .contains("not by a trusted key")
    );
    let (artifact, image) = release.file(ArtifactKind::Disk).unwrap();
    check_file(&image, artifact, &|_| {}).unwrap();
    fs::write(&file, b"pAcked").unwrap();
    assert!(
        check_file(&image, artifact, &|_| {})
            .unwrap_err()
            .to_string()
            .contains("SHA-256")
    );
    fs::write(&file, b"pack").unwrap();
    assert!(
        check_file(&image, artifact, &|_| {})
            .unwrap_err()
            .to_string()
            .contains("4 bytes")
    );
    assert!(release.file(ArtifactKind::Iso).is_err());
}
