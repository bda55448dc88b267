//! Guests of a few instructions: 32-bit protected mode, as PVH starts them, in an ELF image made here.

/// Where the code is loaded.
pub const CODE: u32 = 0x10_0000;

/// Machine code under construction.
#[derive(Default, Clone)]
pub struct Guest(Vec<u8>);

impl Guest {
    pub fn new() -> Self {
        Self::default()
    }

    /// Instructions as they are.
    pub fn raw(mut self, code: &[u8]) -> Self {
        self.0.extend_from_slice(code);
        self
    }

    /// `out port, al`
    pub fn out8(self, port: u16, value: u8) -> Self {
        let [low, high] = port.to_le_bytes();
        self.raw(&[0x66, 0xBA, low, high, 0xB0, value, 0xEE])
    }

    /// `out port, ax`
    pub fn out16(self, port: u16, value: u16) -> Self {
        let ([low, high], [value_low, value_high]) = (port.to_le_bytes(), value.to_le_bytes());
        self.raw(&[
            0x66, 0xBA, low, high, 0x66, 0xB8, value_low, value_high, 0x66, 0xEF,
        ])
    }

    /// Prints on COM1, one exit per byte.
    pub fn print(self, text: &str) -> Self {
        text.bytes()
            .fold(self, |guest, byte| guest.out8(0x3F8, byte))
    }

    /// Prints `count` bytes of memory at `address` by one string instruction: `rep outsb`.
    pub fn print_memory(self, address: u32, count: u32) -> Self {
        let guest = self
            .raw(&[0x66, 0xBA, 0xF8, 0x03, 0xFC, 0xBE])
            .raw(&address.to_le_bytes());
        guest
            .raw(&[0xB9])
            .raw(&count.to_le_bytes())
            .raw(&[0xF3, 0x6E])
    }

    /// Prints `yes` or `no`, a character each, depending on whether the byte at `address` is `value`.
    pub fn print_if(self, address: u32, value: u8, yes: char, no: char) -> Self {
        let (yes, no) = (
            u8::try_from(yes).expect("ASCII"),
            u8::try_from(no).expect("ASCII"),
        );
        // mov al, yes; cmp [address], value; je +2; mov al, no; mov dx, 0x3F8; out dx, al
        let guest = self
            .raw(&[0xB0, yes, 0x80, 0x3D])
            .raw(&address.to_le_bytes())
            .raw(&[value]);
        guest.raw(&[0x74, 2, 0xB0, no, 0x66, 0xBA, 0xF8, 0x03, 0xEE])
    }

    /// `mov byte [address], value`
    pub fn store(self, address: u32, value: u8) -> Self {
        self.raw(&[0xC6, 0x05])
            .raw(&address.to_le_bytes())
            .raw(&[value])
    }

    /// `mov eax, [address]`
    pub fn load(self, address: u32) -> Self {
        self.raw(&[0xA1]).raw(&address.to_le_bytes())
    }

    /// `mov [address], eax`
    pub fn save(self, address: u32) -> Self {
        self.raw(&[0xA3]).raw(&address.to_le_bytes())
    }

    /// Powers off by PM1a_CNT: SLP_TYP 5, SLP_EN.
    pub fn power_off(self) -> Self {
        self.out16(0x604, 5 << 10 | 1 << 13)
    }

    /// `jmp $`
    pub fn spin(self) -> Self {
        self.raw(&[0xEB, 0xFE])
    }

    /// Waits for PWRBTN_STS, polling.
    pub fn await_power_button(self) -> Self {
        // mov dx, 0x600; again: in ax, dx; test ah, 1; jz again
        self.raw(&[
            0x66, 0xBA, 0x00, 0x06, 0x66, 0xED, 0xF6, 0xC4, 0x01, 0x74, 0xF9,
        ])
    }

    /// Echoes what is typed, for ever, or until it is `last`.
    pub fn echo_until(self, last: u8) -> Self {
        self.raw(&[
            0x66, 0xBA, 0xFD, 0x03, // again: mov dx, 0x3FD
            0xEC, // in al, dx
            0xA8, 0x01, // test al, 1
            0x74, 0xF7, // jz again
            0x66, 0xBA, 0xF8, 0x03, // mov dx, 0x3F8
            0xEC, // in al, dx
            0xEE, // out dx, al
            0x3C, last, // cmp al, last
            0x75, 0xED, // jne again
        ])
    }

    /// Loads an empty IDT and faults.
    pub fn triple_fault(self) -> Self {
        // 0x5000 is zero: limit 0.
        self.raw(&[0x0F, 0x01, 0x1D])
            .raw(&0x5000_u32.to_le_bytes())
            .raw(&[0x0F, 0x0B])
    }

    /// Jumps to where there is no memory.
    pub fn jump_to_nowhere(self) -> Self {
        self.raw(&[0xB8])
            .raw(&0xD000_0000_u32.to_le_bytes())
            .raw(&[0xFF, 0xE0])
    }

    /// An ELF image with the code at [`CODE`] and a PVH entry note.
    pub fn elf(&self) -> Vec<u8> {
        self.elf_of_memory_size(self.0.len() as u64)
    }

    /// As [`Guest::elf`], with a segment that takes `bytes` bytes of memory.
    pub fn elf_of_memory_size(&self, bytes: u64) -> Vec<u8> {
        const NOTE_AT: u64 = 64 + 2 * 56;
        const CODE_AT: u64 = 0x200;
        let mut image = b"\x7FELF\x02\x01\x01".to_vec();
        image.resize(16, 0);
        for half in [2_u16, 62] {
            image.extend(half.to_le_bytes());
        }
        image.extend(1_u32.to_le_bytes());
        for word in [u64::from(CODE), 64, 0] {
            image.extend(word.to_le_bytes());
        }
        image.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 2, 0, 0, 0] {
            image.extend(half.to_le_bytes());
        }
        let mut header = |kind: u32, offset: u64, address: u64, file: u64, memory: u64| {
            image.extend(kind.to_le_bytes());
            image.extend(7_u32.to_le_bytes());
            for word in [offset, address, address, file, memory, 1] {
                image.extend(word.to_le_bytes());
            }
        };
        header(1, CODE_AT, u64::from(CODE), self.0.len() as u64, bytes);
        header(4, NOTE_AT, 0, 20, 20);
        for word in [4_u32, 4, 18] {
            image.extend(word.to_le_bytes());
        }
        image.extend(b"Xen\0");
        image.extend(CODE.to_le_bytes());
        image.resize(usize::try_from(CODE_AT).expect("small"), 0);
        image.extend(&self.0);
        image
    }
}
