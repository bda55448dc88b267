//! The serial console on COM1. Output is unbuffered and never waits: the port is a virtual one. Input raises an
//! interrupt.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU32, Ordering};

use crate::cpu;
use crate::io::Port;

const DATA: Port = Port(0x3F8);
const INTERRUPT_ENABLE: Port = Port(0x3F9);
const MODEM_CONTROL: Port = Port(0x3FC);
const LINE_STATUS: Port = Port(0x3FD);

/// Writes text as it is.
pub fn write(text: &str) {
    cpu::write_port(DATA, text.as_bytes());
}

/// Not 0 if input may have come; the interrupt's handler in `boot.s` writes 1. What came before the interrupt was
/// enabled raises none.
#[unsafe(no_mangle)]
static guest_console_input: AtomicU32 = AtomicU32::new(1);

/// Whether input may have come since the last call: then [`read`] until there is none. Looking at the port itself
/// would cost an exit each time.
pub fn take_input() -> bool {
    guest_console_input.load(Ordering::Relaxed) != 0
        && guest_console_input.swap(0, Ordering::SeqCst) != 0
}

/// The next byte of input, if there is one.
pub fn read() -> Option<u8> {
    (LINE_STATUS.read_u8() & 1 != 0).then(|| DATA.read_u8())
}

/// Lets input raise the console's interrupt.
pub(crate) fn enable_interrupt() {
    // OUT2 gates the interrupt line.
    MODEM_CONTROL.write_u8(0x0B);
    INTERRUPT_ENABLE.write_u8(1);
}

/// What one [`print!`] writes is gathered here, to enter ring 0 once.
struct Line {
    bytes: [u8; 256],
    length: usize,
}

impl Line {
    fn flush(&mut self) {
        cpu::write_port(DATA, &self.bytes[..self.length]);
        self.length = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.length == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// What [`print!`] calls.
pub fn print(arguments: fmt::Arguments) {
    let mut line = Line {
        bytes: [0; 256],
        length: 0,
    };
    // Writing to a line cannot fail; an argument's own failure leaves what it wrote so far.
    let _ = line.write_fmt(arguments);
    line.flush();
}

/// What [`println!`] calls.
pub fn print_line(arguments: fmt::Arguments) {
    print(format_args!("{arguments}\n"));
}

/// Prints on the serial console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints a line on the serial console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::print_line(::core::format_args!($($argument)*)) };
}
