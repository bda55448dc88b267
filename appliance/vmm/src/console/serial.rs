//! COM1: a 16550A (vm-superio) between the guest and the ring.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::alarm::Alarm;
use hypervisor::EdgeLine;
use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};

use super::RingWriter;

/// Bytes typed but not yet taken by the guest's UART.
const PENDING_MAX: usize = 64 << 10;
/// Receive data register, with the divisor latch off.
const DATA: u8 = 0;

/// Who wants to know about output; shared by the console and the control thread.
pub(crate) struct OutputWatch {
    /// Wakes the control thread.
    alarm: Arc<Alarm>,
    /// CLOCK_MONOTONIC of the first byte in ns, 0 before it.
    first: AtomicU64,
    total: AtomicU64,
    /// A wake-up is wanted for new output, and none is on its way.
    armed: AtomicBool,
}

impl OutputWatch {
    /// `total` is what the console has carried before.
    pub(crate) fn new(alarm: Arc<Alarm>, total: u64) -> Self {
        Self {
            alarm,
            first: AtomicU64::new(0),
            total: AtomicU64::new(total),
            armed: AtomicBool::new(false),
        }
    }

    /// When the first byte was written, if one was.
    pub(crate) fn first_output_ns(&self) -> Option<u64> {
        Some(self.first.load(Ordering::Acquire)).filter(|at| *at != 0)
    }

    /// Bytes the console has carried.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Asks for one wake-up at the next output. Read [`OutputWatch::total`] after this, not before.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    fn written(&self, total: u64) {
        self.total.store(total, Ordering::SeqCst);
        let first = self.first.load(Ordering::Relaxed) == 0;
        if first {
            self.first.store(monotonic_ns(), Ordering::Release);
        }
        if self.armed.swap(false, Ordering::SeqCst) || first {
            self.alarm.ring();
        }
    }
}

/// CLOCK_MONOTONIC in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    // The C library's clock, which needs no system call and no set-up inside the jail.
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    // Fails on no Linux; 0 would only say that nothing has been printed.
    let Ok(now) = now else { return 0 };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

struct Line(EdgeLine);

impl Trigger for Line {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.raise();
        Ok(())
    }
}

/// Gathers the bytes of one exit.
#[derive(Default)]
struct Batch(Vec<u8>);

impl io::Write for Batch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Uart {
    serial: Serial<Line, NoEvents, Batch>,
    ring: Arc<Mutex<RingWriter>>,
    pending: VecDeque<u8>,
}

/// The guest's first serial port.
pub(crate) struct Console {
    uart: Mutex<Uart>,
    watch: Arc<OutputWatch>,
}

impl Console {
    pub(crate) fn new(
        line: EdgeLine,
        ring: Arc<Mutex<RingWriter>>,
        watch: Arc<OutputWatch>,
    ) -> Self {
        let serial = Serial::new(Line(line), Batch::default());
        Self {
            uart: Mutex::new(Uart {
                serial,
                ring,
                pending: VecDeque::new(),
            }),
            watch,
        }
    }

    /// The guest reads register `register`, once per byte of `data`.
    pub(crate) fn read(&self, register: u8, data: &mut [u8]) {
        let mut uart = self.lock();
        for byte in data {
            *byte = uart.serial.read(register);
            if register == DATA {
                uart.refill();
            }
        }
    }

    /// The guest writes register `register`, once per byte of `data`.
    pub(crate) fn write(&self, register: u8, data: &[u8]) {
        let mut uart = self.lock();
        for byte in data {
            // Fails only if the interrupt or the batch does, and neither can.
            let _ = uart.serial.write(register, *byte);
        }
        // Leaving loopback mode makes room.
        uart.refill();
        let uart = &mut *uart;
        let batch = &mut uart.serial.writer_mut().0;
        if !batch.is_empty() {
            let mut ring = uart.ring.lock().unwrap_or_else(PoisonError::into_inner);
            ring.append(batch);
            batch.clear();
            self.watch.written(ring.total());
        }
    }

    /// Types `bytes`; returns how many there was room for.
    pub(crate) fn type_in(&self, bytes: &[u8]) -> usize {
        let mut uart = self.lock();
        let room = PENDING_MAX - uart.pending.len();
        let taken = bytes.len().min(room);
        uart.pending.extend(&bytes[..taken]);
        uart.refill();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Uart {
    /// Moves typed bytes into the UART's FIFO, as many as fit.
    fn refill(&mut self) {
        let room = self.serial.fifo_capacity().min(self.pending.len());
        if room == 0 {
            return;
        }
        let next: Vec<u8> = self.pending.iter().take(room).copied().collect();
        // In loopback mode the UART takes nothing: the bytes wait.
        let taken = self.serial.enqueue_raw_bytes(&next).unwrap_or(0);
        self.pending.drain(..taken);
    }
}
