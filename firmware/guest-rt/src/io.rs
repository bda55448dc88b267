//! Ports and memory-mapped registers.

use core::arch::asm;

/// One I/O port.
#[derive(Debug, Clone, Copy)]
pub struct Port(
    /// Its number.
    pub u16,
);

impl Port {
    /// Reads one byte.
    pub fn read_u8(self) -> u8 {
        let value;
        // SAFETY: reading a port touches no memory of this program.
        unsafe {
            asm!("in al, dx", in("dx") self.0, out("al") value, options(nomem, nostack, preserves_flags))
        }
        value
    }

    /// Reads two bytes.
    pub fn read_u16(self) -> u16 {
        let value;
        // SAFETY: reading a port touches no memory of this program.
        unsafe {
            asm!("in ax, dx", in("dx") self.0, out("ax") value, options(nomem, nostack, preserves_flags))
        }
        value
    }

    /// Writes one byte.
    pub fn write_u8(self, value: u8) {
        // SAFETY: the devices this runtime drives do not touch memory on a port write.
        unsafe {
            asm!("out dx, al", in("dx") self.0, in("al") value, options(nomem, nostack, preserves_flags))
        }
    }

    /// Writes two bytes.
    pub fn write_u16(self, value: u16) {
        // SAFETY: the devices this runtime drives do not touch memory on a port write.
        unsafe {
            asm!("out dx, ax", in("dx") self.0, in("ax") value, options(nomem, nostack, preserves_flags))
        }
    }
}

/// Memory-mapped registers from an address on.
#[derive(Debug, Clone, Copy)]
pub struct Mmio(u64);

impl Mmio {
    /// # Safety
    /// The address must be mapped and hold device registers, not memory of this program, for as long as the value or
    /// a copy is used, over the whole range it is used for.
    pub const unsafe fn new(address: u64) -> Self {
        Self(address)
    }

    /// The registers `offset` bytes on.
    pub const fn at(self, offset: u64) -> Self {
        Self(self.0 + offset)
    }

    /// Reads a byte.
    pub fn read_u8(self) -> u8 {
        // SAFETY: `new` promised device registers here.
        unsafe { (self.0 as *const u8).read_volatile() }
    }

    /// Reads two bytes; the address must be even.
    pub fn read_u16(self) -> u16 {
        // SAFETY: `new` promised device registers here.
        unsafe { (self.0 as *const u16).read_volatile() }
    }

    /// Reads four bytes; the address must be a multiple of 4.
    pub fn read_u32(self) -> u32 {
        // SAFETY: `new` promised device registers here.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    /// Writes a byte.
    pub fn write_u8(self, value: u8) {
        // SAFETY: `new` promised device registers here.
        unsafe { (self.0 as *mut u8).write_volatile(value) }
    }

    /// Writes two bytes; the address must be even.
    pub fn write_u16(self, value: u16) {
        // SAFETY: `new` promised device registers here.
        unsafe { (self.0 as *mut u16).write_volatile(value) }
    }

    /// Writes four bytes; the address must be a multiple of 4.
    pub fn write_u32(self, value: u32) {
        // SAFETY: `new` promised device registers here.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }

    /// Writes eight bytes as two halves, low first; the address must be a multiple of 4.
    pub fn write_u64(self, value: u64) {
        self.write_u32(value as u32);
        self.at(4).write_u32((value >> 32) as u32);
    }
}
