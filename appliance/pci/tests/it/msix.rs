//! MSI-X: masks, pending bits, routes.

use std::sync::{Arc, Mutex};

use pci::{MsiMessage, MsiSink, MsixTable};
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Call {
    Route(u16, Option<MsiMessage>),
    Trigger(u16),
}

#[derive(Default)]
struct Sink(Mutex<Vec<Call>>);

impl Sink {
    fn take(&self) -> Vec<Call> {
        std::mem::take(&mut self.0.lock().expect("not poisoned"))
    }
}

impl MsiSink for Sink {
    fn route(&self, vector: u16, message: Option<MsiMessage>) {
        self.0
            .lock()
            .expect("not poisoned")
            .push(Call::Route(vector, message));
    }

    fn trigger(&self, vector: u16) {
        self.0
            .lock()
            .expect("not poisoned")
            .push(Call::Trigger(vector));
    }
}

const ENABLE: u16 = 1 << 15;
const MASK_ALL: u16 = 1 << 14;

fn table(vectors: u16) -> (MsixTable, Arc<Sink>) {
    let sink = Arc::new(Sink::default());
    (MsixTable::new(vectors, sink.clone()), sink)
}

fn message(vector: u16) -> MsiMessage {
    MsiMessage {
        address: 0xFEE0_0000 + (u64::from(vector) << 12),
        data: 0x40 + u32::from(vector),
    }
}

fn program(table: &MsixTable, vector: u16, masked: bool) {
    let at = u64::from(vector) * 16;
    let message = message(vector);
    table.write_table(at, &message.address.to_le_bytes());
    table.write_table(at + 8, &message.data.to_le_bytes());
    table.write_table(at + 12, &u32::from(masked).to_le_bytes());
}

fn pending(table: &MsixTable) -> u64 {
    let mut data = [0; 8];
    table.read_pba(0, &mut data);
    u64::from_le_bytes(data)
}

#[test]
fn everything_is_masked_at_power_on() {
    let (table, sink) = table(2);
    let mut entry = [0xFF; 16];
    table.read_table(16, &mut entry);
    assert_eq!(entry, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    table.raise(0);
    assert_eq!(
        (sink.take(), pending(&table)),
        (vec![], 0),
        "disabled: nothing happens"
    );
}

#[test]
fn a_masked_vector_waits_and_is_sent_once() {
    let (table, sink) = table(2);
    table.set_control(ENABLE);
    program(&table, 1, true);
    table.raise(1);
    table.raise(1);
    assert_eq!((sink.take(), pending(&table)), (vec![], 2));
    program(&table, 1, false);
    assert_eq!(
        sink.take(),
        [Call::Route(1, Some(message(1))), Call::Trigger(1)]
    );
    assert_eq!(pending(&table), 0);
    table.raise(1);
    assert_eq!(sink.take(), [Call::Trigger(1)]);
}

#[test]
fn the_function_mask_holds_all_vectors_back() {
    let (table, sink) = table(2);
    table.set_control(ENABLE | MASK_ALL);
    program(&table, 0, false);
    table.raise(0);
    assert_eq!(sink.take(), []);
    table.set_control(ENABLE);
    assert_eq!(
        sink.take(),
        [Call::Route(0, Some(message(0))), Call::Trigger(0)]
    );
}

#[test]
fn masking_and_unmasking_does_not_route_again() {
    let (table, sink) = table(1);
    table.set_control(ENABLE);
    program(&table, 0, false);
    sink.take();
    program(&table, 0, true);
    program(&table, 0, false);
    assert_eq!(sink.take(), []);
    table.set_control(0);
    assert_eq!(sink.take(), [Call::Route(0, None)]);
}

#[test]
fn no_vector_is_no_interrupt() {
    let (table, sink) = table(1);
    table.set_control(ENABLE);
    table.raise(0xFFFF);
    table.raise(1);
    assert_eq!(sink.take(), []);
}

proptest! {
    /// Of any sequence of programming and raising, no interrupt is lost: after everything is unmasked, each vector
    /// raised since it was last sent is sent, and only what was raised is.
    #[test]
    fn no_interrupt_is_lost(
        steps in prop::collection::vec((0_u8..5, 0_u16..3, any::<bool>()), 0..64)
    ) {
        let (table, sink) = table(3);
        table.set_control(ENABLE);
        let mut owed = [false; 3];
        for (kind, vector, flag) in steps {
            match kind {
                0 | 1 => {
                    table.raise(vector);
                    owed[usize::from(vector)] = true;
                }
                2 | 3 => program(&table, vector, flag),
                _ => table.set_control(if flag { ENABLE } else { ENABLE | MASK_ALL }),
            }
            for call in sink.take() {
                if let Call::Trigger(vector) = call {
                    prop_assert!(owed[usize::from(vector)]);
                    owed[usize::from(vector)] = false;
                }
            }
        }
        table.set_control(ENABLE);
        (0..3).for_each(|vector| program(&table, vector, false));
        for call in sink.take() {
            if let Call::Trigger(vector) = call {
                prop_assert!(owed[usize::from(vector)]);
                owed[usize::from(vector)] = false;
            }
        }
        prop_assert_eq!(owed, [false; 3]);
    }

    /// No access, of whatever offset and length, panics.
    #[test]
    fn any_access_is_survived(offset in any::<u64>(), data in prop::collection::vec(any::<u8>(), 0..9)) {
        let (table, _) = table(3);
        table.set_control(ENABLE);
        for offset in [offset, offset % 64] {
            table.write_table(offset, &data);
            table.read_table(offset, &mut data.clone());
            table.read_pba(offset, &mut data.clone());
        }
    }
}
