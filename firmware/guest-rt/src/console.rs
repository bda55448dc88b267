//! The serial console on COM1. Output is unbuffered and never waits: the port is a virtual one. Input comes by an
//! interrupt, or is polled.

use core::fmt::{self, Write};

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
