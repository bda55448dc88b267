use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use super::*;
use crate::testing::*;

const CONFIG: BlkConfig = BlkConfig {
    sectors: 1000,
    logical_block: 512,
    physical_block: 4096,
    discard_granularity: 4096,
    max_discard: 64 * 512,
    read_only: false,
    queues: 1,
    queue_size: 8,
    serial: *b"disk-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
};
const ALL: u64 = u64::MAX;
const STATUS: u64 = DATA + 0x3000;

fn header(mem: &GuestMemoryMmap, kind: u32, sector: u64) {
    mem.write_obj(kind, GuestAddress(DATA)).expect("memory");
    mem.write_obj(sector, GuestAddress(DATA + 8))
        .expect("memory");
}

fn parse(
    config: &BlkConfig,
    mem: &GuestMemoryMmap,
    buffers: &[(u64, u32, bool)],
) -> (Request, Chain) {
    let mut queue = queue(mem, 8, false);
    offer(mem, buffers);
    let mut chain = Chain::default();
    assert!(queue.pop(mem, &mut chain).expect("ring"));
    (config.parse(mem, ALL, &mut chain), chain)
}

/// The command of a request with `out` bytes of data after the header and `data_in` before the status.
fn command(config: &BlkConfig, kind: u32, sector: u64, out: u32, data_in: u32) -> Command {
    let mem = memory();
    header(&mem, kind, sector);
    let buffers = [
        (DATA, 16, false),
        (DATA + 0x100, out, false),
        (DATA + 0x1000, data_in, true),
        (STATUS, 1, true),
    ];
    parse(config, &mem, &buffers).0.command
}

#[test]
fn transfers_must_be_whole_sectors_within_the_disk() {
    let failed = Command::Answer(Status::IoError);
    let cases = [
        (TYPE_IN, 0, 0, 512, Command::Read { offset: 0 }),
        (TYPE_IN, 999, 0, 512, Command::Read { offset: 999 * 512 }),
        (TYPE_IN, 999, 0, 1024, failed),
        (TYPE_IN, 1000, 0, 512, failed),
        (TYPE_IN, u64::MAX, 0, 512, failed),
        (TYPE_IN, 0, 0, 511, failed),
        (TYPE_IN, 0, 0, 0, failed),
        (TYPE_OUT, 2, 1024, 0, Command::Write { offset: 1024 }),
        (TYPE_OUT, 999, 1024, 0, failed),
        (TYPE_OUT, 0, 100, 0, failed),
        (TYPE_FLUSH, 0, 0, 0, Command::Flush),
        (2, 0, 0, 0, Command::Answer(Status::Unsupported)),
        (u32::MAX, 0, 0, 0, Command::Answer(Status::Unsupported)),
    ];
    for (kind, sector, out, data_in, expected) in cases {
        assert_eq!(
            command(&CONFIG, kind, sector, out, data_in),
            expected,
            "type {kind} sector {sector}"
        );
    }
    let read_only = BlkConfig {
        read_only: true,
        ..CONFIG
    };
    assert_eq!(command(&read_only, TYPE_OUT, 0, 512, 0), failed);
    assert_eq!(
        command(&read_only, TYPE_IN, 0, 0, 512),
        Command::Read { offset: 0 }
    );
}

#[test]
fn any_framing_of_a_request_is_the_same_request() {
    let framings: [&[(u64, u32, bool)]; 3] = [
        // header in three parts, data and status together
        &[
            (DATA, 4, false),
            (DATA + 4, 4, false),
            (DATA + 8, 8, false),
            (DATA + 0x1000, 1025, true),
        ],
        &[
            (DATA, 16, false),
            (DATA + 0x1000, 1024, true),
            (DATA + 0x1400, 1, true),
        ],
        &[
            (DATA, 16, false),
            (DATA + 0x1000, 1, true),
            (DATA + 0x1001, 1022, true),
            (DATA + 0x13FF, 2, true),
        ],
    ];
    for buffers in framings {
        let mem = memory();
        header(&mem, TYPE_IN, 3);
        let (request, chain) = parse(&CONFIG, &mem, buffers);
        assert_eq!(request.command, Command::Read { offset: 3 * 512 });
        assert_eq!(Chain::total(data_segments(request.command, &chain)), 1024);
        assert_eq!(request.answer(&mem, Status::Ok), 1025);
        mem.write_obj(0xAAu8, GuestAddress(DATA + 0x1400))
            .expect("memory");
        assert_eq!(request.answer(&mem, Status::IoError), 1);
        assert_eq!(
            mem.read_obj::<u8>(GuestAddress(DATA + 0x1400))
                .expect("memory"),
            1
        );
    }
}

#[test]
fn requests_without_header_or_status_fail() {
    let mem = memory();
    header(&mem, TYPE_IN, 0);
    let (no_status, _) = parse(&CONFIG, &mem, &[(DATA, 16, false)]);
    assert_eq!(
        (no_status.command, no_status.answer(&mem, Status::IoError)),
        (Command::Answer(Status::IoError), 0)
    );
    let (no_header, _) = parse(&CONFIG, &mem, &[(DATA, 15, false), (STATUS, 513, true)]);
    assert_eq!(no_header.command, Command::Answer(Status::IoError));
    assert_eq!(no_header.answer(&mem, Status::IoError), 1);
    let (endless, _) = {
        let mut queue = queue(&mem, 8, false);
        descriptor(&mem, DESCRIPTORS, 0, STATUS, 1, NEXT | WRITE, 0);
        make_available(&mem, 8, 0, 0);
        let mut chain = Chain::default();
        assert!(queue.pop(&mem, &mut chain).expect("ring"));
        (CONFIG.parse(&mem, ALL, &mut chain), ())
    };
    assert_eq!(endless.command, Command::Answer(Status::IoError));
}

fn range_command(
    kind: u32,
    sector: u64,
    sectors: u32,
    flags: u32,
    len: u32,
    features: u64,
) -> Command {
    let mem = memory();
    header(&mem, kind, 0);
    mem.write_obj(sector, GuestAddress(DATA + 16))
        .expect("memory");
    mem.write_obj(sectors, GuestAddress(DATA + 24))
        .expect("memory");
    mem.write_obj(flags, GuestAddress(DATA + 28))
        .expect("memory");
    let mut queue = queue(&mem, 8, false);
    offer(&mem, &[(DATA, 16 + len, false), (STATUS, 1, true)]);
    let mut chain = Chain::default();
    assert!(queue.pop(&mem, &mut chain).expect("ring"));
    CONFIG.parse(&mem, features, &mut chain).command
}

#[test]
fn discard_and_zeroes_are_checked() {
    let failed = Command::Answer(Status::IoError);
    let unsupported = Command::Answer(Status::Unsupported);
    let zeroes = |unmap| Command::WriteZeroes {
        offset: 512,
        len: 1024,
        unmap,
    };
    let cases = [
        (
            TYPE_DISCARD,
            1,
            2,
            0,
            16,
            ALL,
            Command::Discard {
                offset: 512,
                len: 1024,
            },
        ),
        (TYPE_DISCARD, 1, 2, 1, 16, ALL, unsupported),
        (TYPE_DISCARD, 1, 2, 0, 16, 0, unsupported),
        (TYPE_WRITE_ZEROES, 1, 2, 1, 16, ALL, zeroes(true)),
        (TYPE_WRITE_ZEROES, 1, 2, 0, 16, ALL, zeroes(false)),
        (TYPE_WRITE_ZEROES, 1, 2, 2, 16, ALL, unsupported),
        (TYPE_DISCARD, 999, 2, 0, 16, ALL, failed),
        (TYPE_DISCARD, u64::MAX, 2, 0, 16, ALL, failed),
        (TYPE_DISCARD, 0, 65, 0, 16, ALL, failed),
        (TYPE_DISCARD, 0, u32::MAX, 0, 16, ALL, failed),
        (TYPE_DISCARD, 0, 0, 0, 16, ALL, failed),
        (TYPE_DISCARD, 1, 2, 0, 15, ALL, failed),
        (TYPE_DISCARD, 1, 2, 0, 32, ALL, failed),
    ];
    for (kind, sector, sectors, flags, len, features, expected) in cases {
        assert_eq!(
            range_command(kind, sector, sectors, flags, len, features),
            expected,
            "{kind} {sector} {sectors}"
        );
    }
}

#[test]
fn the_serial_number_is_given() {
    let mem = memory();
    header(&mem, TYPE_GET_ID, 0);
    let (request, _) = parse(
        &CONFIG,
        &mem,
        &[(DATA, 16, false), (DATA + 64, 20, true), (STATUS, 1, true)],
    );
    assert_eq!(request.command, Command::Answer(Status::Ok));
    assert_eq!(request.answer(&mem, Status::Ok), 21);
    let mut serial = [0; 20];
    mem.read_slice(&mut serial, GuestAddress(DATA + 64))
        .expect("memory");
    assert_eq!(serial, CONFIG.serial);
    let (short, _) = parse(
        &CONFIG,
        &mem,
        &[(DATA, 16, false), (DATA + 64, 19, true), (STATUS, 1, true)],
    );
    assert_eq!(short.command, Command::Answer(Status::IoError));
}

#[test]
fn configuration_and_write_back() {
    let field = |offset, len: usize| {
        let mut data = vec![0xEE; len];
        CONFIG.read(true, offset, &mut data);
        data
    };
    assert_eq!(field(0, 8), 1000u64.to_le_bytes());
    assert_eq!(field(12, 4), 6u32.to_le_bytes());
    assert_eq!(field(20, 4), 512u32.to_le_bytes());
    assert_eq!(field(24, 2), [3, 0]);
    assert_eq!(field(32, 1), [1]);
    assert_eq!(field(36, 4), 64u32.to_le_bytes());
    assert_eq!(field(44, 4), 8u32.to_le_bytes());
    assert_eq!(field(56, 8), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(field(u64::MAX, 4), [0; 4]);

    use crate::feature::{BLK_CONFIG_WCE as WCE, BLK_FLUSH as FLUSH};
    assert_eq!(BlkConfig::writeback_after(32, &[0], WCE), Some(false));
    assert_eq!(BlkConfig::writeback_after(32, &[0], 0), None);
    assert_eq!(BlkConfig::writeback_after(0, &[0], WCE), None);
    assert!(BlkConfig::write_through(WCE, false) && !BlkConfig::write_through(WCE, true));
    assert!(
        !BlkConfig::write_through(FLUSH, false),
        "a driver that can flush gets write-back"
    );
    assert!(
        BlkConfig::write_through(0, true),
        "one that cannot gets write-through"
    );
}

proptest! {
    /// Whatever a request says, what is let through lies within the disk.
    #[test]
    fn nothing_outside_the_disk_passes(
        kind in prop_oneof![0u32..16, any::<u32>()],
        sector in prop_oneof![0u64..1100, any::<u64>()],
        out in 0u32..4096,
        data_in in 0u32..4096,
        body: [u8; 16],
    ) {
        let mem = memory();
        header(&mem, kind, sector);
        mem.write_slice(&body, GuestAddress(DATA + 0x100)).expect("memory");
        let buffers = [(DATA, 16, false), (DATA + 0x100, out, false), (DATA + 0x1000, data_in, true), (STATUS, 1, true)];
        let (request, chain) = parse(&CONFIG, &mem, &buffers);
        let data = Chain::total(data_segments(request.command, &chain));
        let (offset, len) = match request.command {
            Command::Read { offset } | Command::Write { offset } => (offset, data),
            Command::Discard { offset, len } | Command::WriteZeroes { offset, len, .. } => (offset, len),
            Command::Flush | Command::Answer(_) => (0, 0),
        };
        prop_assert!(offset.checked_add(len).is_some_and(|end| end <= CONFIG.sectors * 512));
        let used = u64::from(request.answer(&mem, Status::Ok));
        prop_assert!(used <= u64::from(data_in) + 1);
    }
}
