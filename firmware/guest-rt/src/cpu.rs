//! The running CPU: ring-0 services, its local APIC, and sleeping until an interrupt.

use core::arch::asm;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use crate::io::{Mmio, Port};

/// Registers of the local APIC (Intel SDM vol. 3 §11.4.1).
const LOCAL_APIC: u64 = 0xFEE0_0000;
const ID: u64 = 0x20;
const TASK_PRIORITY: u64 = 0x80;
const SPURIOUS: u64 = 0xF0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const TIMER: u64 = 0x320;
const LINT0: u64 = 0x350;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3E0;

/// Vectors, as laid out in `boot.s`.
pub(crate) const VECTOR_TIMER: u8 = 32;
pub(crate) const VECTOR_CONSOLE: u8 = 33;
pub(crate) const VECTOR_FIRST_DEVICE: u8 = 34;
pub(crate) const VECTOR_LAST_DEVICE: u8 = 60;
pub(crate) const VECTOR_SCI: u8 = 61;
pub(crate) const VECTOR_WAKE: u8 = 62;
const VECTOR_SPURIOUS: u8 = 63;

const SERVICE: u64 = 0x4153_4800;

unsafe extern "C" {
    /// The wake flag of CPU 0, at the start of its page.
    static guest_cpu0: AtomicU32;
}

fn local_apic(register: u64) -> Mmio {
    // SAFETY: the local APIC is mapped with all of the first 4 GiB, and no memory of the program lies there.
    unsafe { Mmio::new(LOCAL_APIC + register) }
}

/// `[eax, ebx, ecx, edx]` of a CPUID leaf, asked in ring 0 so that the host's answer for this machine is seen.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let mut result = [0_u32; 4];
    // SAFETY: the service writes four u32 to rdx and clobbers exactly the registers named; rbx is saved around it.
    unsafe {
        asm!("mov r9, rbx", "ud2", "mov rbx, r9",
            inout("rax") SERVICE => _, inout("rdi") u64::from(leaf) => _, inout("rsi") u64::from(subleaf) => _,
            inout("rdx") result.as_mut_ptr() => _, out("rcx") _, out("r8") _, out("r9") _);
    }
    result
}

/// Writes a model-specific register.
///
/// # Safety
/// The value must not change how this program's memory is mapped or where it is entered.
pub(crate) unsafe fn write_msr(register: u32, value: u64) {
    // SAFETY: the service clobbers exactly the registers named; the caller answers for the register's effect.
    unsafe {
        asm!("ud2", inout("rax") SERVICE + 1 => _, in("rdi") u64::from(register), in("rsi") value, out("rcx") _,
            out("rdx") _);
    }
}

/// Stops this CPU for good, interrupts off.
pub fn halt() -> ! {
    // SAFETY: the service never returns.
    unsafe { asm!("ud2", in("rax") SERVICE + 2, options(noreturn)) }
}

/// Makes this CPU shut down by a fault it cannot deliver.
pub fn triple_fault() -> ! {
    // SAFETY: the service never returns.
    unsafe { asm!("ud2", in("rax") SERVICE + 3, options(noreturn)) }
}

/// Makes changed page tables count.
pub(crate) fn flush_tlb() {
    // SAFETY: the service reloads cr3 with itself and clobbers rax only.
    unsafe { asm!("ud2", inout("rax") SERVICE + 4 => _) }
}

/// Writes bytes to a port, one after the other. Done in ring 0: where that is emulated, a byte leaves the machine from
/// there at a third of what it costs from ring 3.
pub(crate) fn write_port(port: Port, bytes: &[u8]) {
    // SAFETY: the service reads exactly these bytes and clobbers exactly the registers named.
    unsafe {
        asm!("ud2", inout("rax") SERVICE + 5 => _, in("rdi") u64::from(port.0), inout("rsi") bytes.as_ptr() => _,
            inout("rdx") bytes.len() => _, out("rcx") _);
    }
}

/// Says that whatever happened before now has been or will be looked at: call it before looking, and
/// [`wait_for_interrupt`] after nothing was found. An interrupt in between makes the wait return at once.
pub fn clear_wake() {
    // SAFETY: the flag is a word of CPU 0's page; interrupt handlers only store to it.
    unsafe { guest_cpu0.store(0, Ordering::Relaxed) };
    fence(Ordering::SeqCst);
}

/// Sleeps until an interrupt on this CPU, or not at all if one came since its wake flag was cleared.
pub fn wait_for_interrupt() {
    // SAFETY: at CPL 3 this raises #GP, whose handler sleeps and steps over it (`boot.s`). Memory may change.
    unsafe { asm!("hlt", options(nostack)) }
}

/// Lets this CPU's local APIC deliver interrupts (SDM vol. 3 §11.9).
pub(crate) fn enable_local_apic() {
    local_apic(LINT0).write_u32(1 << 16);
    local_apic(TASK_PRIORITY).write_u32(0);
    local_apic(SPURIOUS).write_u32(0x100 | u32::from(VECTOR_SPURIOUS));
}

/// This CPU's local APIC id.
pub(crate) fn local_apic_id() -> u8 {
    (local_apic(ID).read_u32() >> 24) as u8
}

/// Sends an inter-processor interrupt: the low word of the command register to one CPU (SDM vol. 3 §11.6.1).
pub(crate) fn send_command(apic_id: u8, command: u32) {
    local_apic(COMMAND_HIGH).write_u32(u32::from(apic_id) << 24);
    local_apic(COMMAND_LOW).write_u32(command);
}

/// Starts the one-shot timer at 1/16 of its clock; with 0 it stops.
pub(crate) fn start_timer(ticks: u32) {
    local_apic(TIMER_INITIAL).write_u32(ticks);
}

/// Chooses the timer's divider and vector; masked, it only counts.
pub(crate) fn set_up_timer(masked: bool) {
    local_apic(TIMER_DIVIDE).write_u32(0b0011);
    local_apic(TIMER).write_u32(u32::from(VECTOR_TIMER) | if masked { 1 << 16 } else { 0 });
}

/// Ticks the timer still has to go.
pub(crate) fn timer_ticks() -> u32 {
    local_apic(TIMER_CURRENT).read_u32()
}
