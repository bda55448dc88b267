//! More CPUs: each is started in real mode below 1 MiB (`boot.s`), joins the runtime's page tables at CPL 3, and then
//! runs one function at a time for whoever holds its [`Cpu`].
//!
//! ```text
//! Starting ─> Idle ─run()─> Working ─function returns─> Done ─result()─> Idle
//! ```

use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use alloc::boxed::Box;

use crate::memory::Buffer;
use crate::{cpu, time};

/// Where the start code is copied to. RAM on every PC.
const TRAMPOLINE: u64 = 0x8000;
const STACK: usize = 64 << 10;
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600;
/// A GDT with one TSS descriptor, and a TSS with its I/O bitmap, as in `boot.s`.
const GDT_BYTES: usize = 0x50;
const TSS_BYTES: usize = 104 + 8192 + 1;
/// The CPU's data page comes first; its ring-0 stack grows down from the page's end.
const TSS_AT: usize = 4096;
const GDT_AT: usize = 4096 + 8192 + 256;

// 0 is Starting: the page starts zeroed.
const IDLE: u32 = 1;
const WORKING: u32 = 2;
const DONE: u32 = 3;

unsafe extern "C" {
    static guest_ap_start: u8;
    static guest_ap_end: u8;
    static boot_gdt: [u8; GDT_BYTES];
}

/// The page of the CPU that is starting; `boot.s` reads it.
#[unsafe(no_mangle)]
static guest_ap_cpu: AtomicU64 = AtomicU64::new(0);

/// The start of a CPU's page. `boot.s` knows the first two fields.
#[repr(C)]
struct Page {
    wake: AtomicU32,
    _reserved: u32,
    user_stack: AtomicU64,
    state: AtomicU32,
    boss: AtomicU32,
    function: AtomicU64,
    argument: AtomicU64,
    result: AtomicU64,
}

/// A CPU that did not come up within a second.
#[derive(Debug, Clone, Copy)]
pub struct StartError {
    /// Its local APIC id.
    pub apic_id: u8,
}

impl fmt::Display for StartError {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(
            out,
            "the CPU with local APIC id {} did not start within 1 s",
            self.apic_id
        )
    }
}

/// A CPU that was started. It stays with the guest for good.
#[derive(Debug)]
pub struct Cpu {
    apic_id: u8,
    page: &'static Page,
}

impl fmt::Debug for Page {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "Page(state {})", self.state.load(Ordering::Relaxed))
    }
}

impl Cpu {
    /// Starts the CPU with a local APIC id: INIT, STARTUP, and a second STARTUP if the first had no effect
    /// (SDM vol. 3 §9.4.4). Call it from CPU 0, with interrupts enabled ([`crate::platform::Platform::start`]).
    pub fn start(apic_id: u8) -> Result<Self, StartError> {
        let memory = Box::leak(Box::new(Buffer::new(GDT_AT + GDT_BYTES)));
        let stack = Box::leak(Box::new(Buffer::new(STACK)));
        fill_tables(memory);
        // SAFETY: the buffer is zeroed, page-aligned, large enough and lives for good; all accesses are atomic.
        let page = unsafe { &*(memory.address() as *const Page) };
        // Aligned as after a call.
        page.user_stack
            .store(stack.address() + STACK as u64 - 8, Ordering::Relaxed);
        page.boss
            .store(u32::from(cpu::local_apic_id()), Ordering::Relaxed);
        guest_ap_cpu.store(memory.address(), Ordering::Relaxed);
        place_trampoline(memory.address() + GDT_AT as u64);
        fence(Ordering::SeqCst);
        cpu::send_command(apic_id, INIT);
        time::spin_us(100);
        for wait_us in [20_000, 1_000_000] {
            cpu::send_command(apic_id, STARTUP | (TRAMPOLINE >> 12) as u32);
            let end = time::after_us(wait_us);
            while time::tsc() < end {
                if page.state.load(Ordering::Acquire) == IDLE {
                    return Ok(Self { apic_id, page });
                }
                core::hint::spin_loop();
            }
        }
        Err(StartError { apic_id })
    }

    /// Makes the CPU call `function(argument)`. It must be idle: started, and its last result taken.
    pub fn run(&mut self, function: fn(u64) -> u64, argument: u64) {
        assert_eq!(
            self.page.state.load(Ordering::Acquire),
            IDLE,
            "the CPU is still working"
        );
        self.page
            .function
            .store(function as usize as u64, Ordering::Relaxed);
        self.page.argument.store(argument, Ordering::Relaxed);
        self.page.state.store(WORKING, Ordering::Release);
        cpu::send_command(self.apic_id, 0x4000 | u32::from(cpu::VECTOR_WAKE));
    }

    /// What the function returned, once it has; the caller's CPU is woken by an interrupt when there is a result.
    pub fn result(&mut self) -> Option<u64> {
        if self.page.state.load(Ordering::Acquire) != DONE {
            return None;
        }
        let result = self.page.result.load(Ordering::Relaxed);
        self.page.state.store(IDLE, Ordering::Release);
        Some(result)
    }

    /// Its local APIC id.
    pub fn apic_id(&self) -> u8 {
        self.apic_id
    }
}

fn fill_tables(memory: &mut Buffer) {
    let base = memory.address();
    let bytes = memory.bytes_mut();
    let tss = &mut bytes[TSS_AT..TSS_AT + TSS_BYTES];
    tss[4..12].copy_from_slice(&(base + 4096).to_le_bytes());
    tss[102..104].copy_from_slice(&104_u16.to_le_bytes());
    tss[TSS_BYTES - 1] = 0xFF;
    let gdt = &mut bytes[GDT_AT..];
    // SAFETY: `boot.s` defines the table with this length; it no longer changes.
    gdt.copy_from_slice(unsafe { &boot_gdt });
    let address = (base + TSS_AT as u64).to_le_bytes();
    gdt[0x42..0x45].copy_from_slice(&address[..3]);
    gdt[0x45] = 0x89;
    gdt[0x47] = address[3];
    gdt[0x48..0x4C].copy_from_slice(&address[4..]);
}

fn place_trampoline(gdt: u64) {
    let start = &raw const guest_ap_start;
    let length = (&raw const guest_ap_end).addr() - start.addr();
    // SAFETY: `boot.s` puts the code between the two symbols; page 8 is RAM that nothing else uses after the start
    // info was read, and a CPU that is starting runs it only once.
    unsafe {
        core::ptr::copy_nonoverlapping(start, TRAMPOLINE as *mut u8, length);
        ((TRAMPOLINE + 14) as *mut u32).write_unaligned(gdt as u32);
    }
}

/// Where `boot.s` enters ring 3 on a CPU other than the first, with the address of its page.
#[unsafe(no_mangle)]
extern "C" fn guest_ap_start64(page: &'static Page) -> ! {
    cpu::enable_local_apic();
    page.state.store(IDLE, Ordering::Release);
    loop {
        page.wake.store(0, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if page.state.load(Ordering::Acquire) == WORKING {
            // SAFETY: `run` stored a function of this type.
            let function: fn(u64) -> u64 =
                unsafe { core::mem::transmute(page.function.load(Ordering::Relaxed) as usize) };
            page.result.store(
                function(page.argument.load(Ordering::Relaxed)),
                Ordering::Relaxed,
            );
            page.state.store(DONE, Ordering::Release);
            cpu::send_command(
                page.boss.load(Ordering::Relaxed) as u8,
                0x4000 | u32::from(cpu::VECTOR_WAKE),
            );
        }
        cpu::wait_for_interrupt();
    }
}
