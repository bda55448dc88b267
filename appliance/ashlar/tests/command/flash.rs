//! `flash` and `image inspect`, into files and onto loop devices. Needs root, as flashing does.

use std::{
    fs,
    io::{Cursor, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use gpt::{GptConfig, mbr::ProtectiveMBR, partition_types};
use image_format::{Artifact, ArtifactKind, MANIFEST_SCHEMA, Manifest, layout};
use minisign::KeyPair;
use tempfile::TempDir;
use types::Sha256Digest;

use crate::host::{Ran, run_with};

const MIB: usize = 1 << 20;
/// Bytes of the image.
const IMAGE: usize = 8 * MIB;

/// A small release in a folder.
struct Release {
    folder: TempDir,
    key: String,
}

impl Release {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let raw = disk();
        let packed = zstd::encode_all(&raw[..], 1).unwrap();
        let manifest = Manifest {
            schema: MANIFEST_SCHEMA,
            version: "0.1.0".into(),
            variant: "lab".parse().unwrap(),
            security_version: 1,
            minimum_security_version: 0,
            state_schema: 1,
            source_date_epoch: 0,
            kernel: "6.12.1".into(),
            artifacts: vec![Artifact {
                kind: ArtifactKind::Disk,
                file: "ashlar-0.1.0-lab.img.zst".into(),
                size: packed.len() as u64,
                sha256: Sha256Digest::of(&packed),
                raw_size: Some(raw.len() as u64),
                raw_sha256: Some(Sha256Digest::of(&raw)),
            }],
        };
        let bytes = manifest.to_bytes().unwrap();
        let pair = KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = minisign::sign(None, &pair.sk, Cursor::new(&bytes), None, None).unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("ashlar-0.1.0-lab.img.zst", &packed);
        write("ashlar-0.1.0-lab.manifest.json", &bytes);
        write(
            "ashlar-0.1.0-lab.manifest.json.minisig",
            signature.into_string().as_bytes(),
        );
        write("host.toml", b"version = 1\nhostname = \"flashed\"\n");
        Self {
            key: pair.pk.to_base64(),
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn image(&self) -> PathBuf {
        self.path("ashlar-0.1.0-lab.img.zst")
    }

    async fn flash(&self, to: &Path, more: &[&str]) -> Ran {
        let image = self.image();
        let mut args = vec!["flash", "--image", text(&image), "--to", text(to)];
        if !more.contains(&"--pubkey") {
            args.extend(["--pubkey", &self.key]);
        }
        args.extend(more);
        run_with(&[], &args).await
    }

    /// A disk of that many MiB.
    fn disk(&self, mib: usize) -> Loop {
        let backing = self.path(&format!("disk-{mib}"));
        fs::write(&backing, vec![7; mib * MIB]).unwrap();
        Loop::new(&backing, &[])
    }
}

/// A unified kernel image (UAPI group, "Unified Kernel Image") without anything that runs.
fn uki() -> Vec<u8> {
    let os_release = image_format::Release {
        version: "0.1.0".into(),
        variant: "lab".parse().unwrap(),
        security_version: 1,
        state_schema: 1,
    };
    let sections = [
        (".osrel", os_release.os_release()),
        (".cmdline", "console=ttyS0\x1b quiet\0".into()),
        (".uname", "6.12.1".into()),
        (".linux", "kernel".into()),
    ];
    let mut bytes = vec![0; 0x40];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend((112_u16 + 16 * 8).to_le_bytes());
    bytes.extend([0; 2]);
    let mut optional = vec![0; 112 + 16 * 8];
    optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
    optional[108..112].copy_from_slice(&16_u32.to_le_bytes());
    bytes.extend(optional);
    let mut content: Vec<u8> = Vec::new();
    for (name, text) in &sections {
        let mut section = [0; 40];
        section[..name.len()].copy_from_slice(name.as_bytes());
        let size = u32::try_from(text.len()).unwrap().to_le_bytes();
        let at = 1024 + u32::try_from(content.len()).unwrap();
        section[8..12].copy_from_slice(&size);
        section[16..20].copy_from_slice(&size);
        section[20..24].copy_from_slice(&at.to_le_bytes());
        bytes.extend(section);
        content.extend(text.as_bytes());
    }
    bytes.resize(1024, 0);
    bytes.extend(content);
    bytes
}

/// A disk image with a FAT file system in its EFI system partition.
fn disk() -> Vec<u8> {
    let mut disk = Cursor::new(vec![0; IMAGE]);
    ProtectiveMBR::with_lb_size(u32::try_from(IMAGE / 512 - 1).unwrap())
        .overwrite_lba0(&mut disk)
        .unwrap();
    let mut table = GptConfig::new()
        .writable(true)
        .create_from_device(&mut disk, None)
        .unwrap();
    let (kind, sectors) = (partition_types::EFI, 4 * 2048);
    table
        .add_partition_at(layout::ESP.name, 1, 2048, sectors, kind, 0)
        .unwrap();
    table.write().unwrap();
    let mut bytes = disk.into_inner();
    let part = &mut bytes[MIB..5 * MIB];
    fatfs::format_volume(
        Cursor::new(&mut *part),
        FormatVolumeOptions::new().volume_label(*b"ASHLAR-ESP "),
    )
    .unwrap();
    let volume = FileSystem::new(Cursor::new(part), FsOptions::new()).unwrap();
    let slots = volume
        .root_dir()
        .create_dir("EFI")
        .unwrap()
        .create_dir("Linux")
        .unwrap();
    let mut slot = slots.create_file("ashlar-a.efi").unwrap();
    slot.write_all(&uki()).unwrap();
    drop(slot);
    slots.create_file("ashlar-b+2-1.efi").unwrap();
    drop(slots);
    volume.unmount().unwrap();
    bytes
}

/// A loop device, let go when dropped.
struct Loop(PathBuf);

impl Loop {
    fn new(backing: &Path, options: &[&str]) -> Self {
        let mut args = vec!["--find", "--show", "--partscan"];
        args.extend(options);
        args.push(text(backing));
        Self(PathBuf::from(tool("losetup", &args).trim()))
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn partition(&self, number: u32) -> PathBuf {
        format!("{}p{number}", self.0.display()).into()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.0)
            .output();
    }
}

/// Done when dropped, also by a test that fails.
struct Undo(&'static str, Vec<String>);

impl Drop for Undo {
    fn drop(&mut self) {
        let _ = Command::new(self.0).args(&self.1).output();
    }
}

fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(
        output.status.success(),
        "{name} {args:?} (as root?): {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn has_table(path: &Path) -> bool {
    GptConfig::new().open(path).is_ok()
}

/// What a file of the EFI system partition says.
fn on_esp(disk: &[u8], name: &str) -> Option<String> {
    use std::io::Read as _;
    let part = Cursor::new(disk[MIB..5 * MIB].to_vec());
    let volume = FileSystem::new(part, FsOptions::new()).unwrap();
    let mut text = String::new();
    volume
        .root_dir()
        .open_file(name)
        .ok()?
        .read_to_string(&mut text)
        .unwrap();
    Some(text)
}

#[tokio::test]
async fn a_file_for_a_virtual_machine_is_made() {
    let release = Release::new();
    let to = release.path("vm.img");
    let config = release.path("host.toml");
    let flashed = release
        .flash(
            &to,
            &["--size", "32M", "--config", text(&config), "-o", "json"],
        )
        .await
        .json();
    assert_eq!(flashed["version"], "0.1.0");
    assert_eq!(flashed["configured"], true);
    let bytes = fs::read(&to).unwrap();
    assert_eq!(bytes.len(), 32 * MIB);
    let table = GptConfig::new().open(&to).unwrap();
    assert!(table.backup_header().is_ok());
    assert_eq!(
        on_esp(&bytes, layout::CONFIG_FILE).as_deref(),
        Some("version = 1\nhostname = \"flashed\"\n")
    );
    // Now it holds something: nobody can be asked here.
    let asked = release.flash(&to, &[]).await;
    assert!(
        asked.status == 2 && asked.stderr.contains("--yes"),
        "{asked:?}"
    );
    release.flash(&to, &["--yes"]).await.ok();
    assert_eq!(on_esp(&fs::read(&to).unwrap(), layout::CONFIG_FILE), None);
}

#[tokio::test]
async fn a_disk_is_erased_and_flashed() {
    let release = Release::new();
    let disk = release.disk(24);
    let asked = release.flash(disk.path(), &[]).await;
    assert!(
        asked.status == 2 && asked.stderr.contains("--yes"),
        "{asked:?}"
    );
    let config = release.path("host.toml");
    release
        .flash(disk.path(), &["--yes", "--config", text(&config)])
        .await
        .ok();
    let bytes = fs::read(disk.path()).unwrap();
    assert!(has_table(disk.path()));
    assert!(on_esp(&bytes, layout::CONFIG_FILE).is_some());
    assert!(
        bytes[7 * MIB..9 * MIB].iter().all(|byte| *byte == 0),
        "where the data will begin"
    );
    // What is on it now is shown.
    tool("blockdev", &["--rereadpt", text(disk.path())]);
    let shown = release.flash(disk.path(), &[]).await.stderr;
    assert!(shown.contains("ashlar-esp"), "{shown}");
    assert!(shown.contains("FAT file system \"ASHLAR-ESP\""), "{shown}");
}

#[tokio::test]
async fn what_must_not_be_erased_is_refused_and_unchanged() {
    let release = Release::new();
    let disk = release.disk(48);
    release.flash(disk.path(), &["--yes"]).await.ok();
    let name = text(disk.path());
    let mut table = GptConfig::new().writable(true).open(disk.path()).unwrap();
    let kind = partition_types::LINUX_FS;
    table
        .add_partition_at("second", 2, 20_480, 20_480, kind, 0)
        .unwrap();
    table.write().unwrap();
    tool("partx", &["--update", name]);
    let second = disk.partition(2);
    let second = text(&second);
    let before = fs::read(disk.path()).unwrap();

    let refused = async |to: &Path, status: i32, said: &str, more: &[&str]| {
        let mut args = vec!["--yes"];
        args.extend(more);
        let error = release.flash(to, &args).await.failed(status);
        assert!(error.contains(said), "{error}");
    };
    refused(&disk.partition(1), 1, "it is a partition", &[]).await;
    refused(disk.path(), 2, "leave out --size", &["--size", "1G"]).await;
    refused(Path::new("/dev/null"), 1, "neither a disk nor a file", &[]).await;
    refused(&release.image(), 2, "the same file", &[]).await;
    refused(&release.path("disk-48"), 1, "in use as the disk", &[]).await;

    // The key, the image, the configuration.
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    let other = other.pk.to_base64();
    refused(
        disk.path(),
        1,
        "not by a trusted key",
        &["--pubkey", &other],
    )
    .await;
    let config = release.path("wrong.toml");
    fs::write(&config, "version = 1\n[[network.interface]]\nnam = 1\n").unwrap();
    let wrong = ["--config", text(&config)];
    refused(
        disk.path(),
        1,
        "wrong.toml:3:1: unknown field `nam`",
        &wrong,
    )
    .await;
    let packed = fs::read(release.image()).unwrap();
    let mut changed = packed.clone();
    changed[packed.len() / 2] ^= 1;
    fs::write(release.image(), &changed).unwrap();
    refused(disk.path(), 1, "SHA-256", &[]).await;
    fs::write(release.image(), &packed).unwrap();
    assert!(
        fs::read(disk.path()).unwrap() == before,
        "nothing was written"
    );

    // In use.
    tool("mkswap", &[second]);
    {
        tool("swapon", &[second]);
        let _off = Undo("swapoff", vec![second.to_owned()]);
        refused(disk.path(), 1, "is swap space in use", &[]).await;
    }
    tool("mkfs.ext4", &["-q", "-F", second]);
    {
        let folder = release.path("mounted");
        fs::create_dir(&folder).unwrap();
        tool("mount", &[second, text(&folder)]);
        let _off = Undo("umount", vec![text(&folder).to_owned()]);
        refused(disk.path(), 1, "is mounted at", &[]).await;
    }
    {
        let upper = Loop::new(disk.path(), &[]);
        let name = upper.path().file_name().unwrap().to_str().unwrap();
        refused(disk.path(), 1, &format!("is in use by {name}"), &[]).await;
    }
    assert!(has_table(disk.path()));

    let small = release.disk(4);
    refused(small.path(), 1, "the image needs 8 MiB", &[]).await;
    let backing = release.path("disk-ro");
    fs::write(&backing, vec![0; 16 * MIB]).unwrap();
    let fixed = Loop::new(&backing, &["--read-only"]);
    refused(fixed.path(), 1, "it is read-only", &[]).await;
}

#[tokio::test]
async fn a_disk_that_fails_in_the_midst_does_not_boot() {
    let release = Release::new();
    let folder = release.path("small");
    fs::create_dir(&folder).unwrap();
    tool(
        "mount",
        &["-t", "tmpfs", "-o", "size=1M", "tmpfs", text(&folder)],
    );
    let _off = Undo("umount", vec![text(&folder).to_owned()]);
    let backing = folder.join("disk");
    let file = fs::File::create(&backing).unwrap();
    file.set_len(16 << 20).unwrap();
    // A disk of 16 MiB, of which only 1 can be written.
    let disk = Loop::new(&backing, &[]);
    let error = release.flash(disk.path(), &["--yes"]).await.failed(1);
    assert!(error.contains("does not boot now"), "{error}");
    assert!(!has_table(disk.path()));
}

#[tokio::test]
async fn what_an_image_is_is_shown() {
    let release = Release::new();
    let image = release.image();
    let inspect = async |file: &Path, more: &[&str]| {
        let mut args = vec!["image", "inspect", text(file)];
        args.extend(more);
        run_with(&[("HOME", "/nonexistent")], &args).await
    };
    let key = ["--pubkey", &release.key];
    let shown = inspect(&image, &key).await.ok();
    for line in [
        "signature         good",
        "command line      console=ttyS0? quiet",
        "  as the manifest says",
        "  partition 1 ashlar-esp",
        "  slot A: 0.1.0 (good)",
        "  slot B: no image (trial, 2 tries left)",
        "  section .linux                  6",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let json = inspect(&image, &["-o", "json", key[0], key[1]])
        .await
        .json();
    assert_eq!(json["disk"]["bytes"], IMAGE);
    assert_eq!(json["disk"]["slots"][0]["image"]["kernel"], "6.12.1");
    assert_eq!(json["files"][0]["problem"], serde_json::Value::Null);

    // What does not hold is said, not refused.
    let other = KeyPair::generate_unencrypted_keypair().unwrap();
    let shown = inspect(&image, &["--pubkey", &other.pk.to_base64()])
        .await
        .ok();
    assert!(shown.contains("NOT VERIFIED"), "{shown}");
    let manifest = release.path("ashlar-0.1.0-lab.manifest.json");
    fs::write(&image, b"something else").unwrap();
    let shown = inspect(&manifest, &key).await.ok();
    assert!(shown.contains("get it again"), "{shown}");
    assert!(
        inspect(&image, &key)
            .await
            .failed(1)
            .contains("cannot unpack")
    );

    // Without a manifest.
    let alone = release.path("alone.efi");
    fs::write(&alone, uki()).unwrap();
    let shown = inspect(&alone, &[]).await.ok();
    assert!(shown.contains("there is no manifest beside it"), "{shown}");
    assert!(shown.contains("kernel            6.12.1"), "{shown}");
    fs::write(&alone, &uki()[..1100]).unwrap();
    assert!(inspect(&alone, &[]).await.failed(1).contains("cut off"));
    let missing = release.path("missing.efi");
    assert!(
        inspect(&missing, &[])
            .await
            .failed(1)
            .contains("cannot read")
    );
}
