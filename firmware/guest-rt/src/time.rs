//! Time: the time-stamp counter, and one timer interrupt.
//!
//! The counter's frequency comes from CPUID where the host says it, else from the parameters of the paravirtual
//! clock (read once; the clock itself is not used), else from the PIT.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::cpu;
use crate::io::Port;
use crate::memory::Buffer;

static TSC_KHZ: AtomicU64 = AtomicU64::new(0);
/// Timer ticks (clock / 16) in 1024 µs; 0 while not set up.
static TICKS_PER_KILO_US: AtomicU64 = AtomicU64::new(0);
/// Counter value at about which the running timer fires, or 0 if none runs; its handler in `boot.s` writes that.
#[unsafe(no_mangle)]
static guest_timer_deadline: AtomicU64 = AtomicU64::new(0);

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every 64-bit CPU has the counter, and it may be read at CPL 3 (CR4.TSD is clear).
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// The counter's frequency in kHz.
pub fn tsc_khz() -> u64 {
    match TSC_KHZ.load(Ordering::Relaxed) {
        0 => {
            let khz = from_cpuid()
                .or_else(from_paravirtual_clock)
                .unwrap_or_else(from_pit);
            TSC_KHZ.store(khz, Ordering::Relaxed);
            khz
        }
        khz => khz,
    }
}

/// Nanoseconds of a number of counter ticks.
pub fn ticks_to_ns(ticks: u64) -> u64 {
    u64::try_from(u128::from(ticks) * 1_000_000 / u128::from(tsc_khz())).unwrap_or(u64::MAX)
}

/// The counter `microseconds` from now.
pub fn after_us(microseconds: u64) -> u64 {
    let ticks = u128::from(microseconds) * u128::from(tsc_khz()) / 1000;
    tsc().saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
}

/// Microseconds since the counter was 0.
pub fn now_us() -> u64 {
    ticks_to_ns(tsc()) / 1000
}

/// Busy-waits.
pub fn spin_us(microseconds: u64) {
    let end = after_us(microseconds);
    while tsc() < end {
        core::hint::spin_loop();
    }
}

/// Makes sure an interrupt comes once the counter reaches `deadline`, or some time before (the timer's range is
/// about a minute). An earlier timer that is still running is left alone: it wakes the CPU early, which must do no harm.
pub fn arm(deadline: u64) {
    let armed = guest_timer_deadline.load(Ordering::Relaxed);
    if armed != 0 && armed <= deadline {
        return;
    }
    let now = tsc();
    let rate = timer_rate();
    let microseconds = ticks_to_ns(deadline.saturating_sub(now)) / 1000 + 1;
    let ticks = u128::from(microseconds) * u128::from(rate) / 1024;
    let ticks = u32::try_from(ticks).unwrap_or(u32::MAX).max(1);
    guest_timer_deadline.store(deadline.max(1), Ordering::Relaxed);
    cpu::start_timer(ticks);
}

fn timer_rate() -> u64 {
    let known = TICKS_PER_KILO_US.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    cpu::set_up_timer(true);
    cpu::start_timer(u32::MAX);
    let before = (tsc(), cpu::timer_ticks());
    spin_us(1024);
    let after = (tsc(), cpu::timer_ticks());
    let microseconds = (ticks_to_ns(after.0 - before.0) / 1000).max(1);
    let rate = (u64::from(before.1.wrapping_sub(after.1)) * 1024 / microseconds).max(1);
    cpu::start_timer(0);
    cpu::set_up_timer(false);
    TICKS_PER_KILO_US.store(rate, Ordering::Relaxed);
    rate
}

/// Leaf 0x4000_0010 (a convention of hypervisors: eax = kHz), else leaf 0x15 (SDM vol. 2, CPUID).
fn from_cpuid() -> Option<u64> {
    let hypervisor = cpu::cpuid(1, 0)[2] & (1 << 31) != 0;
    if hypervisor && (0x4000_0010..0x4000_0100).contains(&cpu::cpuid(0x4000_0000, 0)[0]) {
        let khz = u64::from(cpu::cpuid(0x4000_0010, 0)[0]);
        if khz != 0 {
            return Some(khz);
        }
    }
    if cpu::cpuid(0, 0)[0] < 0x15 {
        return None;
    }
    let [denominator, numerator, crystal_hz, _] = cpu::cpuid(0x15, 0).map(u64::from);
    let khz = (crystal_hz * numerator).checked_div(denominator)? / 1000;
    (khz != 0).then_some(khz)
}

/// The multiplier and shift KVM publishes for its clock (Linux Documentation/virt/kvm/x86/msr.rst).
fn from_paravirtual_clock() -> Option<u64> {
    const SYSTEM_TIME_NEW: u32 = 0x4B56_4D01;
    const CLOCKSOURCE2: u32 = 1 << 3;
    let [_, b, c, d] = cpu::cpuid(0x4000_0000, 0);
    let is_kvm = [b, c, d].map(u32::to_le_bytes).concat() == *b"KVMKVMKVM\0\0\0";
    if !is_kvm || cpu::cpuid(0x4000_0001, 0)[0] & CLOCKSOURCE2 == 0 {
        return None;
    }
    let page = Buffer::new(4096);
    // SAFETY: the host writes 32 bytes of the page, which nothing else uses until the clock is off again.
    unsafe { cpu::write_msr(SYSTEM_TIME_NEW, page.address() | 1) };
    let (multiplier, shift) = (
        page.read_u32(24),
        page.read_u32(28).to_le_bytes()[0].cast_signed(),
    );
    // SAFETY: this only turns the clock off.
    unsafe { cpu::write_msr(SYSTEM_TIME_NEW, 0) };
    if multiplier == 0 {
        return None;
    }
    let khz = (1_000_000_u64 << 32) / u64::from(multiplier);
    let khz = if shift < 0 {
        khz << shift.unsigned_abs().min(20)
    } else {
        khz >> shift.min(31)
    };
    (khz != 0).then_some(khz)
}

/// Counts over about 10 ms of PIT channel 2, whose gate and output are at port 0x61.
fn from_pit() -> u64 {
    const PIT_HZ: u64 = 1_193_182;
    const COUNT: u16 = 11_932;
    let (control, channel, gate) = (Port(0x43), Port(0x42), Port(0x61));
    gate.write_u8((gate.read_u8() & 0xFC) | 1);
    control.write_u8(0xB0);
    channel.write_u8(COUNT.to_le_bytes()[0]);
    channel.write_u8(COUNT.to_le_bytes()[1]);
    let start = tsc();
    // A machine without a PIT reads as all ones and ends this at once; the bound is for one that never counts.
    for _ in 0..10_000_000_u32 {
        if gate.read_u8() & 0x20 != 0 {
            break;
        }
    }
    let ticks = tsc() - start;
    (ticks * PIT_HZ / u64::from(COUNT) / 1000).max(1)
}
