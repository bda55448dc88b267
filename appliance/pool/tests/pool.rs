//! The pool on a real XFS, mounted by loop for this test alone (needs root and mkfs.xfs).

use pool::{ErrorKind, Part, Pool};
use std::{
    fs,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};
use types::{ByteCount, DiskId, ImageId, Sha256Digest};

/// A fresh XFS; unmounted and deleted when it goes, also when a test fails.
struct Xfs {
    folder: tempfile::TempDir,
}

impl Xfs {
    fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("pool-test-")
            .tempdir()
            .unwrap();
        let image = folder.path().join("image");
        fs::File::create(&image)
            .unwrap()
            .set_len(300 << 20)
            .unwrap();
        fs::create_dir(folder.path().join("mount")).unwrap();
        let this = Self { folder };
        run("mkfs.xfs", &["-q", "-m", "reflink=1", path(&image)]);
        run("mount", &["-o", "loop", path(&image), path(&this.path())]);
        this
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }
}

impl Drop for Xfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error} (this test needs root and mkfs.xfs)"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn image(number: u128) -> ImageId {
    ImageId::generate(number)
}

fn disk(number: u128) -> DiskId {
    DiskId::generate(number)
}

/// Every file below the folder with its number of bytes.
fn files(folder: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    found
}

#[test]
fn images_are_received_whole_or_not_at_all() {
    let xfs = Xfs::new();
    let pool = Pool::open(&xfs.path()).unwrap();
    let mut writer = pool.receive_part(image(1), Part::Kernel).unwrap();
    writer.write(b"half of a ker").unwrap();
    drop(writer);
    assert_eq!(files(&xfs.path()), []);
    assert_eq!(
        pool.open_part(image(1), Part::Kernel).unwrap_err().kind(),
        ErrorKind::NotFound
    );

    for content in [&b"first"[..], b"second"] {
        let mut writer = pool.receive_part(image(1), Part::Kernel).unwrap();
        content
            .chunks(2)
            .for_each(|chunk| writer.write(chunk).unwrap());
        let part = writer.finish().unwrap();
        assert_eq!(part.size.bytes(), content.len() as u64);
        assert_eq!(part.sha256, Sha256Digest::of(content));
        let mut found = Vec::new();
        pool.open_part(image(1), Part::Kernel)
            .unwrap()
            .read_to_end(&mut found)
            .unwrap();
        assert_eq!(found, content);
    }
    assert_eq!(pool.images().unwrap(), [image(1)]);
    pool.delete_image(image(1)).unwrap();
    pool.delete_image(image(1)).unwrap();
    assert_eq!(files(&xfs.path()), []);
}

fn receive(pool: &Pool, image: ImageId, content: &[u8]) {
    let mut writer = pool.receive_part(image, Part::Disk).unwrap();
    writer.write(content).unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_clone_shares_and_then_goes_its_own_way() {
    let xfs = Xfs::new();
    let pool = Pool::open(&xfs.path()).unwrap();
    let content: Vec<u8> = (0..8 << 20)
        .map(|at: u32| at.to_le_bytes()[1] ^ 0x33)
        .collect();
    receive(&pool, image(1), &content);
    let before = pool.space().unwrap().free.bytes();
    for number in 0..20 {
        pool.clone_disk(disk(number), image(1), ByteCount::GIB)
            .unwrap();
    }
    // Twenty copies would be 160 MiB; what clones take is metadata.
    assert!(before - pool.space().unwrap().free.bytes() < 4 << 20);

    let opened = pool.open_disk(disk(3)).unwrap();
    assert_eq!((opened.size, opened.direct), (ByteCount::GIB, true));
    let mut file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(xfs.path().join("disks").join(disk(3).to_string()))
        .unwrap();
    file.write_all(&[0xff; 4096]).unwrap();
    pool.sync_disk(disk(3)).unwrap();
    let mut found = vec![0; content.len() + 4096];
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_exact(&mut found).unwrap();
    assert_eq!(found[..4096], [0xff; 4096]);
    assert_eq!(found[4096..content.len()], content[4096..]);
    assert_eq!(found[content.len()..], [0; 4096]);

    // The image and the other clones did not change, and survive the image's deletion.
    pool.delete_image(image(1)).unwrap();
    let mut other = fs::File::open(xfs.path().join("disks").join(disk(4).to_string())).unwrap();
    other.read_exact(&mut found[..content.len()]).unwrap();
    assert_eq!(found[..content.len()], content);

    let small = pool
        .clone_disk(disk(30), image(1), ByteCount::MIB)
        .unwrap_err();
    assert_eq!(small.kind(), ErrorKind::NotFound);
    assert!(small.to_string().contains(&image(1).to_string()), "{small}");
    pool.delete_disk(disk(3)).unwrap();
    pool.delete_disk(disk(3)).unwrap();
    assert_eq!(pool.disks().unwrap().len(), 19);
}

#[test]
fn blank_disks_are_sparse_and_sized() {
    let xfs = Xfs::new();
    let pool = Pool::open(&xfs.path()).unwrap();
    // Far larger than the file system.
    pool.create_disk(disk(1), ByteCount::from_gib(100)).unwrap();
    pool.create_disk(disk(1), ByteCount::from_gib(100)).unwrap();
    let opened = pool.open_disk(disk(1)).unwrap();
    assert_eq!(opened.size, ByteCount::from_gib(100));
    assert_eq!(opened.file.metadata().unwrap().blocks(), 0);
    for size in [0, 100, 513] {
        let error = pool.create_disk(disk(2), ByteCount::new(size)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(&disk(2).to_string()), "{error}");
    }
    receive(&pool, image(1), &[1; 8192]);
    assert_eq!(
        pool.clone_disk(disk(2), image(1), ByteCount::new(4096))
            .unwrap_err()
            .kind(),
        ErrorKind::Invalid
    );
    assert_eq!(pool.disks().unwrap(), [disk(1)]);
}

#[test]
fn a_file_that_vanished_is_named() {
    let xfs = Xfs::new();
    let pool = Pool::open(&xfs.path()).unwrap();
    pool.create_disk(disk(1), ByteCount::MIB).unwrap();
    let file = xfs.path().join("disks").join(disk(1).to_string());
    fs::remove_file(&file).unwrap();
    for error in [
        pool.open_disk(disk(1)).unwrap_err(),
        pool.sync_disk(disk(1)).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            format!(
                "disk {} has vanished: {} is not there",
                disk(1),
                file.display()
            )
        );
    }
}

#[test]
fn a_full_pool_says_so_and_keeps_nothing() {
    let xfs = Xfs::new();
    let pool = Pool::open(&xfs.path()).unwrap();
    receive(&pool, image(1), b"stays");
    let before = files(&xfs.path());
    let chunk = vec![7; 8 << 20];
    let mut writer = pool.receive_part(image(2), Part::Disk).unwrap();
    let error = (0..100)
        .find_map(|_| writer.write(&chunk).err())
        .expect("300 MiB hold no 800 MiB");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(error.next_step().contains("Delete"));
    // The host itself has room still.
    assert!(pool.space().unwrap().free < ByteCount::new(8 << 20));
    let own = xfs.path().join("own");
    fs::write(&own, vec![1; 4 << 20]).unwrap();
    fs::remove_file(own).unwrap();
    drop(writer);
    assert_eq!(files(&xfs.path()), before);
    receive(&pool, image(2), b"fits again");
}

#[test]
fn opening_throws_away_what_was_left_unfinished_and_nothing_else() {
    let xfs = Xfs::new();
    let pool = Pool::open(&xfs.path()).unwrap();
    pool.create_disk(disk(1), ByteCount::MIB).unwrap();
    drop(pool);
    fs::write(xfs.path().join("unfinished/7"), b"left by a crash").unwrap();
    fs::write(xfs.path().join("disks/notes.txt"), b"somebody's").unwrap();
    let pool = Pool::open(&xfs.path()).unwrap();
    assert_eq!(pool.disks().unwrap(), [disk(1)]);
    assert!(xfs.path().join("disks/notes.txt").exists());
    assert!(!xfs.path().join("unfinished/7").exists());
}

#[test]
fn a_file_system_without_reflink_is_refused_with_a_way_out() {
    // tmpfs has none.
    let folder = tempfile::Builder::new()
        .prefix("pool-test-")
        .tempdir_in("/dev/shm")
        .unwrap();
    let error = Pool::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains(path(folder.path())), "{error}");
    assert!(error.next_step().contains("XFS"));
    assert_eq!(files(folder.path()), []);
}
