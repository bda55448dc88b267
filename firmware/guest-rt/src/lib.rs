#![no_std]
//! Runtime for guests that are one program: from the PVH entry point to `main` in ring 3, with a heap, interrupts,
//! time, more CPUs, PCI and virtio.
//!
//! Ring 0 holds only what must be there, in plain instructions (`boot.s`); everything else, drivers included, runs at
//! CPL 3 with all memory and all ports mapped. So the same image runs at native speed on hosts that run only ring 3
//! natively, and unchanged on VMX and SVM. Memory is identity-mapped: a pointer is a physical address.
//!
//! A guest supplies `main` through [`entry!`]. It must not know what the guest is for.
//!
//! Start:
//! ```text
//! PVH entry (32-bit) ─ "guest: boot" ─> long mode ─ iretq ─> ring 3 ─ memory map, heap ─> main(BootInfo)
//! ```

extern crate alloc;

pub mod console;
pub mod cpu;
mod io;
mod memory;
pub mod pci;
pub mod platform;
pub mod smp;
pub mod time;
pub mod virtio;

use alloc::string::String;
use core::arch::global_asm;

pub use io::{Mmio, Port};
pub use memory::{Buffer, heap_in_use, ram_bytes, touch_unused};

global_asm!(include_str!("boot.s"));

/// What the guest is started with.
#[derive(Debug)]
pub struct BootInfo {
    /// The command line, as given; bytes that are not UTF-8 are replaced.
    pub command_line: String,
    /// Physical address of the ACPI RSDP, or 0 if the start info names none.
    pub rsdp: u64,
}

/// Names the guest's main function: `fn(BootInfo) -> !`.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        /// Called by the runtime, once, on CPU 0 at CPL 3.
        #[unsafe(no_mangle)]
        extern "Rust" fn guest_main(boot: $crate::BootInfo) -> ! {
            $main(boot)
        }
    };
}

unsafe extern "Rust" {
    fn guest_main(boot: BootInfo) -> !;
}

/// Where `boot.s` enters ring 3, with the physical address of the start info.
#[unsafe(no_mangle)]
extern "C" fn guest_start64(start_info: u64) -> ! {
    let boot = memory::start(start_info);
    // SAFETY: `entry!` defines the function with this signature.
    unsafe { guest_main(boot) }
}

/// What a guest's panic handler should do: say it on the console and reset the machine.
pub fn panicked(info: &core::panic::PanicInfo) -> ! {
    let message = info.message();
    match info.location() {
        Some(at) => println!(
            "guest: panic at={}:{} message=\"{message}\"",
            at.file(),
            at.line()
        ),
        None => println!("guest: panic message=\"{message}\""),
    }
    platform::keyboard_reset()
}
