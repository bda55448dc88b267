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
/// Bytes of a frame: Ethernet header and an MTU of 1500.
const FRAME: usize = 1514;
const BUFFER: usize = 2048;
const QUEUE_LIMIT: u16 = 256;

/// A network interface.
#[derive(Debug)]
pub struct Net {
    device: Device,
    receive: Queue,
    transmit: Queue,
    receive_buffers: Buffer,
    transmit_buffers: Buffer,
    transmit_free: Vec<u16>,
    transmit_busy: Vec<bool>,
    mac: [u8; 6],
}

impl Net {
    /// Starts the device; it may receive at once.
    pub fn new(function: &Function) -> Result<Self, Error> {
        let mut device = Device::start(function, MAC)?;
        let receive = device.queue(RECEIVE, QUEUE_LIMIT)?;
        let transmit = device.queue(TRANSMIT, QUEUE_LIMIT)?;
        let mut mac = [0x02, 0, 0, 0, 0, 1];
        if device.has(MAC) {
            for (offset, byte) in (0..).zip(&mut mac) {
                *byte = device.config_u8(offset);
            }
        }
        let mut net = Self {
            receive_buffers: Buffer::new(usize::from(receive.size()) * BUFFER),
            transmit_buffers: Buffer::new(usize::from(transmit.size()) * BUFFER),
            transmit_free: (0..transmit.size()).collect(),
            transmit_busy: (0..transmit.size()).map(|_| false).collect(),
            device,
            receive,
            transmit,
            mac,
        };
        for index in 0..net.receive.size() {
            let address = net.receive_buffers.address() + (usize::from(index) * BUFFER) as u64;
            net.receive.describe(index, address, BUFFER as u32, WRITE, 0);
            net.receive.add(index);
        }
        net.device.ready();
        net.receive.kick();
        Ok(net)
    }

    /// Its PCI function.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The next received frame: the number to [`Self::recycle`], and its length.
    pub fn receive(&mut self) -> Option<(u16, usize)> {
        loop {
            let (index, length) = self.receive.take()?;
            if index >= self.receive.size() {
                continue;
            }
            let length = (length as usize).min(BUFFER).saturating_sub(HEADER);
            if length > 0 {
                return Some((index, length));
            }
            self.recycle(index);
        }
    }

    /// A received frame's bytes.
    pub fn frame(&self, (index, length): (u16, usize)) -> &[u8] {
        let start = usize::from(index) * BUFFER + HEADER;
        &self.receive_buffers.bytes()[start..start + length]
    }

    /// Gives a received frame's buffer back to the device, which learns of it at the next [`Self::kick`].
    pub fn recycle(&mut self, index: u16) {
        self.receive.add(index);
    }

    /// Whether there is room for a frame to send.
    pub fn can_transmit(&mut self) -> bool {
        while let Some((index, _)) = self.transmit.take() {
            if let Some(busy @ true) = self.transmit_busy.get_mut(usize::from(index)) {
                *busy = false;
                self.transmit_free.push(index);
            }
        }
        !self.transmit_free.is_empty()
    }

    /// Queues a frame of `length` bytes that `fill` writes; it leaves at the next [`Self::kick`]. Returns what `fill`
    /// returns. Without room, or with more than 1514 bytes, the frame is lost like on any wire.
    pub fn transmit<R>(&mut self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let room = self.can_transmit() && length <= FRAME;
        let Some(index) = self.transmit_free.pop().filter(|_| room) else {
            return fill(&mut alloc::vec![0; length]);
        };
        let start = usize::from(index) * BUFFER;
        let bytes = &mut self.transmit_buffers.bytes_mut()[start..start + HEADER + length];
        bytes[..HEADER].fill(0);
        let result = fill(&mut bytes[HEADER..]);
        let address = self.transmit_buffers.address() + start as u64;
        self.transmit.describe(index, address, (HEADER + length) as u32, 0, 0);
        self.transmit_busy[usize::from(index)] = true;
        self.transmit.add(index);
        result
    }

    /// Lets the device see frames to send and buffers given back.
    pub fn kick(&mut self) {
        self.receive.kick();
        self.transmit.kick();
    }

    /// Asks for an interrupt at the next frame; false if there is one to take already.
    pub fn ask_interrupt(&mut self) -> bool {
        self.transmit.refuse_interrupts();
        self.receive.ask_interrupt()
    }
}
