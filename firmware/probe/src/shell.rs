//! Statements typed on the console: one a line, several with `;`. Typed characters are not echoed.

use alloc::string::String;
use alloc::vec::Vec;

use guest_rt::console;

use crate::probe::Probe;

/// Longest line; what is typed beyond is lost.
const LINE: usize = 4096;

/// What was typed and not yet obeyed.
#[derive(Default)]
pub struct Input {
    bytes: Vec<u8>,
}

impl Input {
    /// Takes what has arrived.
    pub fn gather(&mut self) {
        if !console::take_input() {
            return;
        }
        while let Some(byte) = console::read() {
            if self.bytes.len() < LINE || byte == b'\n' || byte == b'\r' {
                self.bytes.push(byte);
            }
            if self.bytes.len() > 2 * LINE {
                self.bytes.truncate(LINE);
            }
        }
    }

    /// The next whole line.
    fn line(&mut self) -> Option<String> {
        let end = self
            .bytes
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))?;
        let line: Vec<u8> = self.bytes.drain(..=end).take(end).collect();
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

impl Probe {
    /// Obeys lines until one of their statements is `exit`.
    pub fn shell(&mut self) {
        loop {
            let line = self.wait(u64::MAX, |probe| {
                probe.input.gather();
                probe.input.line()
            });
            for statement in script::statements(&line.unwrap_or_default()) {
                if self.obey(statement) {
                    return;
                }
            }
        }
    }
}
