//! What the guest must see when the host's side goes wrong.

use block::{ErrorKind, Operation, Outcome, Segment};
use block_uring::{OpenError, OpenOptions, UringDisk};

use crate::places::{all, mounted};
use crate::{Bench, MEMORY, memory, pattern};

const FAILED_RANGE: Outcome = Outcome::Failed(ErrorKind::OutOfRange);

#[test]
fn files_too_short_or_empty_are_refused() {
    let file = tempfile::tempfile().expect("file");
    let open = |sectors| {
        let file = file.try_clone().expect("clone");
        UringDisk::open(
            file,
            memory(),
            OpenOptions {
                sectors,
                ..OpenOptions::default()
            },
        )
        .map(|_| ())
    };
    assert!(matches!(open(None), Err(OpenError::Geometry(_))), "empty");
    file.set_len(4096).expect("size");
    assert!(matches!(
        open(Some(9)),
        Err(OpenError::TooShort {
            expected: 4608,
            actual: 4096
        })
    ));
    assert!(open(Some(8)).is_ok());
}

#[test]
fn a_truncated_file_is_an_error_from_then_on() {
    for place in all() {
        for buffered in [false, true] {
            let file = place.file(1 << 20);
            let handle = file.try_clone().expect("clone");
            let mut bench = Bench::open(
                file,
                OpenOptions {
                    buffered,
                    ..OpenOptions::default()
                },
            );
            assert_eq!(bench.write(0, 0, &pattern(1, 4096), false), Outcome::Done);
            handle.set_len((512 << 10) + 100).expect("truncate");
            let truncated = Err(Outcome::Failed(ErrorKind::Truncated));
            assert!(
                bench.read(0, 0, 4096).is_ok(),
                "{}: what is there can still be read",
                place.name
            );
            assert_eq!(
                bench.read(512 << 10, 0, 4096),
                truncated,
                "{} buffered {buffered}",
                place.name
            );
            // A write would fill the gap with zeroes that the guest never wrote.
            assert_eq!(
                bench.write(900 << 10, 0, &pattern(1, 4096), false),
                Outcome::Failed(ErrorKind::Truncated)
            );
        }
    }
}

#[test]
fn a_file_unlinked_in_use_goes_on_working() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("disk");
    let file = std::fs::File::options()
        .create(true)
        .read(true)
        .write(true)
        .truncate(true)
        .open(&path)
        .expect("file");
    file.set_len(1 << 20).expect("size");
    let mut bench = Bench::open(file, OpenOptions::default());
    std::fs::remove_file(&path).expect("unlink");
    let bytes = pattern(5, 8192);
    assert_eq!(bench.write(4096, 0, &bytes, true), Outcome::Done);
    assert_eq!(bench.read(4096, 1 << 20, 8192), Ok(bytes));
}

#[test]
fn a_full_file_system_fails_writes_and_loses_nothing() {
    for buffered in [false, true] {
        // A new one each time: what a deleted file held is free only some time later.
        let Some(place) = mounted("ext4", 16 << 20) else {
            return println!("no file system can be mounted here: a full one is not tried");
        };
        let mut bench = Bench::open(
            place.file(64 << 20),
            OpenOptions {
                buffered,
                ..OpenOptions::default()
            },
        );
        let chunk = 1 << 20;
        let mut stored = 0;
        let failure = loop {
            // Durable, so that a buffered write cannot be accepted and lost later.
            match bench.write(stored * chunk, 0, &pattern(stored + 1, 1 << 20), true) {
                Outcome::Done => stored += 1,
                failed => break failed,
            }
            assert!(stored < 16, "more than the file system holds");
        };
        assert_eq!(failure, Outcome::Failed(ErrorKind::NoSpace));
        assert!(stored > 2);
        for index in 0..stored {
            assert_eq!(
                bench.read(index * chunk, 0, 1 << 20),
                Ok(pattern(index + 1, 1 << 20))
            );
        }
        // Space given back can be used again.
        assert_eq!(
            bench.run(&Operation::Discard {
                offset: 0,
                len: 2 * chunk
            }),
            Outcome::Done
        );
        assert_eq!(
            bench.write(stored * chunk, 0, &pattern(99, 1 << 20), true),
            Outcome::Done
        );
    }
}

#[test]
fn operations_that_make_no_sense_fail_alone() {
    let file = tempfile::tempfile().expect("file");
    file.set_len(1 << 20).expect("size");
    let mut bench = Bench::open(file.try_clone().expect("clone"), OpenOptions::default());
    assert_eq!(bench.read(1 << 20, 0, 512), Err(FAILED_RANGE));
    assert_eq!(bench.read(u64::MAX - 100, 0, 512), Err(FAILED_RANGE));
    let outside = [Segment {
        address: MEMORY - 256,
        len: 512,
    }];
    let bad_address = Outcome::Failed(ErrorKind::BadAddress);
    assert_eq!(
        bench.run(&Operation::Read {
            offset: 0,
            segments: &outside
        }),
        bad_address
    );
    let wrapping = [Segment {
        address: u64::MAX - 3,
        len: 512,
    }];
    assert_eq!(
        bench.run(&Operation::Write {
            offset: 0,
            segments: &wrapping,
            durable: true
        }),
        bad_address
    );
    assert_eq!(
        bench.run(&Operation::Read {
            offset: 0,
            segments: &[]
        }),
        Outcome::Done,
        "nothing to do"
    );
    assert_eq!(
        bench.run(&Operation::Discard { offset: 0, len: 0 }),
        Outcome::Done
    );
    assert_eq!(bench.run(&Operation::Flush), Outcome::Done);

    let mut read_only = Bench::open(
        file,
        OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        },
    );
    let refused = Outcome::Failed(ErrorKind::ReadOnly);
    assert_eq!(read_only.write(0, 0, &pattern(1, 512), false), refused);
    assert_eq!(
        read_only.run(&Operation::Discard {
            offset: 0,
            len: 512
        }),
        refused
    );
    assert!(read_only.read(0, 0, 512).is_ok());
}
