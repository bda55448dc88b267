//! MSI-X: the vector table, its pending bits and masks (PCI Local Bus 3.0 §6.8.2).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of one table entry: address (8), data (4), vector control (4).
pub const MSIX_ENTRY_BYTES: u64 = 16;

const CONTROL_ENABLE: u16 = 1 << 15;
const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
const VECTOR_MASKED: u8 = 1;

/// What a device writes, and where, to interrupt a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiMessage {
    /// Guest-physical address of the write.
    pub address: u64,
    /// The value written.
    pub data: u32,
}

/// Delivers a function's messages. Vectors are the function's own, from 0.
pub trait MsiSink: Send + Sync {
    /// From now on `trigger(vector)` means `message`; `None` takes the route away.
    fn route(&self, vector: u16, message: Option<MsiMessage>);

    /// Sends the message routed for `vector`. Must not wait. Without a route it does nothing.
    fn trigger(&self, vector: u16);
}

/// The MSI-X state of one function. Shared between the vCPU threads that program it and the device threads
/// that raise vectors; an interrupt raised while masked stays pending and is sent upon unmasking, never lost.
pub struct MsixTable {
    sink: Arc<dyn MsiSink>,
    state: Mutex<State>,
}

struct State {
    table: Vec<u8>,
    pending: Vec<u64>,
    routed: Vec<Option<MsiMessage>>,
    enabled: bool,
    function_masked: bool,
}

impl MsixTable {
    /// A table of `vectors` vectors, disabled, every vector masked.
    pub fn new(vectors: u16, sink: Arc<dyn MsiSink>) -> Self {
        let entry = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, VECTOR_MASKED, 0, 0, 0];
        let state = State {
            table: entry.repeat(usize::from(vectors)),
            pending: vec![0; usize::from(vectors).div_ceil(64)],
            routed: vec![None; usize::from(vectors)],
            enabled: false,
            function_masked: false,
        };
        Self {
            sink,
            state: Mutex::new(state),
        }
    }

    /// Number of vectors.
    pub fn vectors(&self) -> u16 {
        u16::try_from(self.lock().routed.len()).unwrap_or(u16::MAX)
    }

    /// Bytes the table takes in its BAR.
    pub fn table_bytes(&self) -> u64 {
        u64::from(self.vectors()) * MSIX_ENTRY_BYTES
    }

    /// Bytes the pending bits take in their BAR.
    pub fn pba_bytes(&self) -> u64 {
        u64::from(self.vectors()).div_ceil(64) * 8
    }

    /// Whether the guest has enabled MSI-X for the function.
    pub fn enabled(&self) -> bool {
        self.lock().enabled
    }

    /// The guest wrote the message control register ([`crate::ConfigWrite::msix_control`]).
    pub fn set_control(&self, control: u16) {
        let mut state = self.lock();
        state.enabled = control & CONTROL_ENABLE != 0;
        state.function_masked = control & CONTROL_FUNCTION_MASK != 0;
        for vector in 0..state.routed.len() {
            self.settle(&mut state, vector);
        }
    }

    /// Reads the table at a byte offset; past its end gives zeroes.
    pub fn read_table(&self, offset: u64, data: &mut [u8]) {
        copy_out(&self.lock().table, offset, data);
    }

    /// Writes the table at a byte offset; past its end is dropped.
    pub fn write_table(&self, offset: u64, data: &[u8]) {
        let mut state = self.lock();
        let Ok(start) = usize::try_from(offset) else {
            return;
        };
        for (index, value) in data.iter().enumerate() {
            let Some(at) = start.checked_add(index) else {
                return;
            };
            let Some(byte) = state.table.get_mut(at) else {
                break;
            };
            *byte = match at % 16 {
                12 => value & VECTOR_MASKED,
                13..=15 => 0,
                _ => *value,
            };
        }
        let last = start.saturating_add(data.len().saturating_sub(1)) / 16;
        for vector in start / 16..=last {
            self.settle(&mut state, vector);
        }
    }

    /// Reads the pending bits at a byte offset; past their end gives zeroes.
    pub fn read_pba(&self, offset: u64, data: &mut [u8]) {
        let state = self.lock();
        let bytes: Vec<u8> = state
            .pending
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        copy_out(&bytes, offset, data);
    }

    /// Raises `vector`: sends its message, or marks it pending while it is masked. Does nothing while MSI-X is
    /// disabled or if there is no such vector (virtio's NO_VECTOR, 0xFFFF, among them).
    pub fn raise(&self, vector: u16) {
        let mut state = self.lock();
        let index = usize::from(vector);
        if !state.enabled || index >= state.routed.len() {
            return;
        }
        if state.masked(index) {
            state.pending[index / 64] |= 1 << (index % 64);
        } else {
            self.sink.trigger(vector);
        }
    }

    /// Brings the sink in line with what the table says about one vector.
    fn settle(&self, state: &mut State, index: usize) {
        let Ok(vector) = u16::try_from(index) else {
            return;
        };
        if index >= state.routed.len() {
            return;
        }
        if !state.enabled {
            if state.routed[index].take().is_some() {
                self.sink.route(vector, None);
            }
            return;
        }
        if state.masked(index) {
            return;
        }
        // A masked vector keeps its route, so that mask and unmask cost nothing unless the message changed.
        let message = state.message(index);
        if state.routed[index] != Some(message) {
            state.routed[index] = Some(message);
            self.sink.route(vector, Some(message));
        }
        let bit = 1 << (index % 64);
        if state.pending[index / 64] & bit != 0 {
            state.pending[index / 64] &= !bit;
            self.sink.trigger(vector);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn masked(&self, index: usize) -> bool {
        self.function_masked || self.table[index * 16 + 12] & VECTOR_MASKED != 0
    }

    fn message(&self, index: usize) -> MsiMessage {
        let entry = &self.table[index * 16..index * 16 + 12];
        let mut address = [0; 8];
        let mut data = [0; 4];
        address.copy_from_slice(&entry[..8]);
        data.copy_from_slice(&entry[8..]);
        MsiMessage {
            address: u64::from_le_bytes(address),
            data: u32::from_le_bytes(data),
        }
    }
}

fn copy_out(bytes: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let Ok(start) = usize::try_from(offset) else {
        return;
    };
    let Some(rest) = bytes.get(start..) else {
        return;
    };
    let length = rest.len().min(data.len());
    data[..length].copy_from_slice(&rest[..length]);
}
