#![no_std]
#![no_main]
//! The probe.
use guest_rt::*;
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! { guest_rt::panicked(info) }
guest_rt::entry!(main);
fn job(x: u64) -> u64 { let mut s = x; for i in 0..100_000_000u64 { s = core::hint::black_box(s + i); } s }
fn main(b: BootInfo) -> ! {
    println!("probe: ready cmdline={:?} khz={} ram={}", b.command_line, time::tsc_khz(), ram_bytes());
    let p = platform::Platform::start(b.rsdp);
    println!("cpus {:?} ecam {:?} s5 {:?}", p.acpi().cpu_ids(), p.acpi().ecam, p.acpi().s5);
    let t = time::tsc();
    cpu::clear_wake();
    time::arm(time::after_us(10_000));
    cpu::wait_for_interrupt();
    println!("slept {} us", time::ticks_to_ns(time::tsc() - t) / 1000);
    for &id in &p.acpi().cpu_ids()[1..] {
        let t = time::tsc();
        match smp::Cpu::start(id) { Ok(mut c) => {
            println!("cpu {} up in {} us", id, time::ticks_to_ns(time::tsc() - t) / 1000);
            let t = time::tsc();
            c.run(job, 5);
            loop { cpu::clear_wake(); if let Some(r) = c.result() { println!("result {r} in {} us", time::ticks_to_ns(time::tsc() - t) / 1000); break } cpu::wait_for_interrupt(); }
        } Err(e) => println!("{e}") }
    }
    println!("type:");
    for _ in 0..20 {
        cpu::clear_wake();
        while let Some(c) = console::read() { println!("got {c}"); if c == b'q' { if let Some(e) = p.acpi().ecam { for f in pci::scan(e) { println!("{} {:x}:{:x}", f.location, f.vendor, f.device); } } p.power_off() } if c == b't' { cpu::triple_fault() } }
        if p.take_power_button() { println!("button"); p.reset(); }
        cpu::wait_for_interrupt();
    }
    panic!("bye {}", 1);
}
