//! The Linux protocol, with an image made here; PVH images run in the integration tests.

use std::io::Write;

use super::*;

const MIB: u64 = 1 << 20;

fn file(contents: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(contents).expect("written");
    file
}

/// A bzImage with 64 bytes of 0x5A as kernel, that asks for 4 MiB at 16 MiB.
fn bz_image() -> Vec<u8> {
    let mut image = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(0x1F1, &[1]);
    put(0x1F4, &4_u32.to_le_bytes());
    put(0x1FE, &[0x55, 0xAA]);
    put(0x202, b"HdrS");
    put(0x206, &0x20F_u16.to_le_bytes());
    put(0x211, &[1]);
    put(0x214, &0x10_0000_u32.to_le_bytes());
    put(0x22C, &0x7FFF_FFFF_u32.to_le_bytes());
    put(0x236, &1_u16.to_le_bytes());
    put(0x238, &255_u32.to_le_bytes());
    put(0x258, &(16 * MIB).to_le_bytes());
    put(0x260, &0x40_0000_u32.to_le_bytes());
    image.resize(1024 + 64, 0x5A);
    image
}

struct Loaded {
    memory: GuestMemoryMmap,
    result: Result<Entry, StartError>,
}

impl Loaded {
    fn of(image: &[u8], mib: u64, cmdline: &str, initrd: Option<&[u8]>) -> Self {
        let bytes = usize::try_from(mib * MIB).expect("small");
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]).expect("memory");
        let kernel = Kernel {
            image: file(image),
            initrd: initrd.map(file),
            cmdline: cmdline.into(),
        };
        let result = load(&Boot::Linux(kernel), &memory, mib * MIB, 2);
        Self { memory, result }
    }

    fn u32(&self, address: u64) -> u32 {
        self.memory.read_obj(GuestAddress(address)).expect("inside")
    }

    fn u64(&self, address: u64) -> u64 {
        self.memory.read_obj(GuestAddress(address)).expect("inside")
    }

    fn message(&self) -> String {
        self.result
            .as_ref()
            .expect_err("must be refused")
            .to_string()
    }
}

#[test]
fn a_kernel_finds_all_it_needs_in_the_zero_page() {
    let loaded = Loaded::of(&bz_image(), 64, "console=ttyS0", Some(&[7; 5000]));
    let zero_page = layout::LINUX_BOOT_PARAMS;
    let expected = Entry::Linux64 {
        entry: 0x10_0200,
        boot_params: zero_page,
    };
    assert_eq!(loaded.result, Ok(expected));
    assert_eq!(loaded.u32(0x10_0000), 0x5A5A_5A5A, "the kernel");
    assert_eq!(loaded.u64(zero_page + 0x70), 0xE_0000, "acpi_rsdp_addr");
    assert_eq!(loaded.u64(0xE_0000), u64::from_le_bytes(*b"RSD PTR "));
    assert_eq!(loaded.u32(zero_page + 0x228), 0x2_0000, "cmd_line_ptr");
    let mut cmdline = [0; 14];
    loaded
        .memory
        .read_slice(&mut cmdline, GuestAddress(0x2_0000))
        .expect("inside");
    assert_eq!(&cmdline, b"console=ttyS0\0");
    let (initrd, size) = (loaded.u32(zero_page + 0x218), loaded.u32(zero_page + 0x21C));
    assert_eq!((initrd, size), (64 * 1024 * 1024 - 8192, 5000));
    assert_eq!(loaded.u32(u64::from(initrd)), 0x0707_0707);
    let entries = u64::from(loaded.u32(zero_page + 0x1E8) & 0xFF);
    let usable: u64 = (0..entries)
        .map(|entry| zero_page + 0x2D0 + 20 * entry)
        .filter(|entry| loaded.u32(entry + 16) == 1)
        .map(|entry| loaded.u64(entry + 8))
        .sum();
    assert_eq!(usable, 64 * MIB - 0x6_0000);
    assert_ne!(loaded.u64(0x9000), 0, "page tables");
}

#[test]
fn what_is_no_64_bit_bz_image_is_refused() {
    let with = |at: usize, byte: u8| {
        let mut image = bz_image();
        image[at] = byte;
        image
    };
    let cases: [(Vec<u8>, &str); 7] = [
        (Vec::new(), "truncated"),
        (vec![0; 2048], "not a Linux bzImage"),
        (bz_image()[..1080].to_vec(), "truncated: 1080 of 1088 bytes"),
        (with(0x206, 0), "no 64-bit entry point (boot protocol 2.00"),
        (with(0x236, 0), "no 64-bit entry point"),
        (with(0x211, 0), "cannot be loaded"),
        (b"\x7FELF".repeat(1000), "not a Linux bzImage"),
    ];
    for (image, expected) in cases {
        let message = Loaded::of(&image, 64, "", None).message();
        assert!(
            message.contains(expected),
            "{message:?} should contain {expected:?}"
        );
    }
}

#[test]
fn what_the_kernel_says_it_needs_must_fit() {
    let small = Loaded::of(&bz_image(), 16, "", None);
    let expected = StartError::KernelDoesNotFit {
        end: 20 * MIB,
        memory_end: 16 * MIB,
    };
    assert_eq!(small.result, Err(expected));
    let long = Loaded::of(&bz_image(), 64, &"x".repeat(256), None);
    assert_eq!(
        long.result,
        Err(StartError::Cmdline {
            bytes: 256,
            most: 255
        })
    );
    let crowded = Loaded::of(&bz_image(), 24, "", Some(&vec![0; 4 << 20]));
    assert!(crowded.result.is_ok());
    let crowded = Loaded::of(&bz_image(), 24, "", Some(&vec![0; (4 << 20) + 1]));
    assert!(crowded.message().contains("does not fit"));
}
