//! Virtio network device (§5.1): one queue pair, no offloads, one buffer per frame.

use alloc::vec::Vec;

use super::queue::{Queue, WRITE};
use super::{Device, Error};
use crate::memory::Buffer;
use crate::pci::Function;

const MAC: u64 = 1 << 5;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes of `virtio_net_hdr` in front of every frame (§5.1.6).
const HEADER: usize = 12;
const BUFFER: usize = 2048;
const RECEIVE_LIMIT: u16 = 128;
const TRANSMIT_LIMIT: u16 = 64;

/// A network interface.
#[derive(Debug)]
pub struct Net {
    // First: the device is reset before its buffers are freed.
    device: Device,
    /// Frames in.
    pub receiver: Receiver,
    /// Frames out.
    pub transmitter: Transmitter,
    mac: [u8; 6],
}

/// The receive queue with its buffers.
#[derive(Debug)]
pub struct Receiver {
    queue: Queue,
    buffers: Buffer,
}

/// The transmit queue with its buffers.
#[derive(Debug)]
pub struct Transmitter {
    queue: Queue,
    buffers: Buffer,
    free: Vec<u16>,
    busy: Vec<bool>,
}

/// A received frame whose buffer has not gone back to the device yet.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    index: u16,
    length: usize,
}

impl Net {
    /// Bytes of a frame: Ethernet header and an MTU of 1500.
    pub const FRAME: usize = 1514;

    /// Starts the device; it may receive at once.
    pub fn new(function: &Function) -> Result<Self, Error> {
        let mut device = Device::start(function, MAC)?;
        let mut receiver = Receiver::new(device.queue(RECEIVE, RECEIVE_LIMIT)?);
        let transmitter = Transmitter::new(device.queue(TRANSMIT, TRANSMIT_LIMIT)?);
        let mut mac = [0x02, 0, 0, 0, 0, 1];
        if device.has(MAC) {
            for (offset, byte) in (0..).zip(&mut mac) {
                *byte = device.config_u8(offset);
            }
        }
        device.ready();
        receiver.queue.kick();
        Ok(Self {
            device,
            receiver,
            transmitter,
            mac,
        })
    }

    /// Its PCI function.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Lets the device see frames to send and buffers given back.
    pub fn kick(&mut self) {
        self.receiver.queue.kick();
        self.transmitter.queue.kick();
    }

    /// Asks for an interrupt at the next frame; false if there is one to take already.
    pub fn ask_interrupt(&mut self) -> bool {
        self.transmitter.queue.refuse_interrupts();
        self.receiver.queue.ask_interrupt()
    }
}

impl Receiver {
    fn new(mut queue: Queue) -> Self {
        let buffers = Buffer::new(usize::from(queue.size()) * BUFFER);
        for index in 0..queue.size() {
            let address = buffers.address() + (usize::from(index) * BUFFER) as u64;
            queue.describe(index, address, BUFFER as u32, WRITE, 0);
            queue.add(index);
        }
        Self { queue, buffers }
    }

    /// The next frame. Its buffer must be given back ([`Self::recycle`]).
    pub fn take(&mut self) -> Option<Frame> {
        loop {
            let (index, length) = self.queue.take()?;
            if index >= self.queue.size() {
                continue;
            }
            let length = (length as usize).min(BUFFER).saturating_sub(HEADER);
            if length > 0 {
                return Some(Frame { index, length });
            }
            self.queue.add(index);
        }
    }

    /// A frame's bytes.
    pub fn bytes(&self, frame: Frame) -> &[u8] {
        let start = usize::from(frame.index) * BUFFER + HEADER;
        &self.buffers.bytes()[start..start + frame.length]
    }

    /// Gives a frame's buffer back to the device, which learns of it at the next [`Net::kick`].
    pub fn recycle(&mut self, frame: Frame) {
        self.queue.add(frame.index);
    }
}

impl Transmitter {
    fn new(queue: Queue) -> Self {
        Self {
            buffers: Buffer::new(usize::from(queue.size()) * BUFFER),
            free: (0..queue.size()).collect(),
            busy: (0..queue.size()).map(|_| false).collect(),
            queue,
        }
    }

    /// Whether there is room for a frame.
    pub fn has_room(&mut self) -> bool {
        while let Some((index, _)) = self.queue.take() {
            if let Some(busy @ true) = self.busy.get_mut(usize::from(index)) {
                *busy = false;
                self.free.push(index);
            }
        }
        !self.free.is_empty()
    }

    /// Queues a frame of `length` bytes that `fill` writes; it leaves at the next [`Net::kick`]. Returns what `fill`
    /// returns. Without room, or with more than [`Net::FRAME`] bytes, the frame is lost, as on any wire.
    pub fn send<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        if length > Net::FRAME || !self.has_room() {
            return fill(&mut alloc::vec![0; length]);
        }
        let Some(index) = self.free.pop() else {
            return fill(&mut alloc::vec![0; length]);
        };
        let start = usize::from(index) * BUFFER;
        let bytes = &mut self.buffers.bytes_mut()[start..start + HEADER + length];
        bytes[..HEADER].fill(0);
        let result = fill(&mut bytes[HEADER..]);
        let address = self.buffers.address() + start as u64;
        self.queue
            .describe(index, address, (HEADER + length) as u32, 0, 0);
        self.busy[usize::from(index)] = true;
        self.queue.add(index);
        result
    }
}
