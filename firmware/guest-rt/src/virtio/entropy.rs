//! Virtio entropy device (§5.4).

use super::queue::{Queue, WRITE};
use super::{Device, Error};
use crate::memory::Buffer;
use crate::pci::Function;

/// A source of random bytes.
#[derive(Debug)]
pub struct Entropy {
    device: Device,
    queue: Queue,
    buffer: Buffer,
}

impl Entropy {
    /// Most bytes of one request.
    pub const LIMIT: usize = 4096;

    /// Starts the device.
    pub fn new(function: &Function) -> Result<Self, Error> {
        let mut device = Device::start(function, 0)?;
        let queue = device.queue(0, 8)?;
        device.ready();
        Ok(Self {
            device,
            queue,
            buffer: Buffer::new(Self::LIMIT),
        })
    }

    /// Its PCI function.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Asks for up to [`Self::LIMIT`] bytes. One request at a time.
    pub fn request(&mut self, bytes: usize) {
        let length = bytes.clamp(1, Self::LIMIT) as u32;
        self.queue
            .describe(0, self.buffer.address(), length, WRITE, 0);
        self.queue.add(0);
        self.queue.kick();
    }

    /// The bytes, once they are there; there may be fewer than asked for.
    pub fn take(&mut self) -> Option<&[u8]> {
        let (_, length) = self.queue.take()?;
        Some(&self.buffer.bytes()[..(length as usize).min(Self::LIMIT)])
    }

    /// Asks for an interrupt when the bytes are there; false if they are already.
    pub fn ask_interrupt(&mut self) -> bool {
        self.queue.ask_interrupt()
    }
}
