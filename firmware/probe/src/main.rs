#![no_std]
#![no_main]
#![forbid(unsafe_op_in_unsafe_fn)]
//! A unikernel that obeys a script: the guest of demos, tests and benches. See firmware/README.md for its commands and
//! its output.
//!
//! One loop on CPU 0 does everything: it obeys one statement after the other, and whenever a command waits, it serves
//! the network, watches the power button and sleeps ([`probe::Probe::wait`]).

extern crate alloc;

mod compute;
mod disk;
mod disks;
mod net;
mod net_commands;
mod probe;
mod shell;

use guest_rt::BootInfo;

guest_rt::entry!(main);

fn main(boot: BootInfo) -> ! {
    probe::Probe::start(&boot).run(script::script_of(&boot.command_line))
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    guest_rt::panicked(info)
}
