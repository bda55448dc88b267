use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pci::{BarListener, MsiMessage, MsiSink, PciFunction};
use proptest::prelude::*;
use vm_memory::GuestMemoryMmap;

use super::common::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, NEEDS_RESET};
use super::*;
use crate::testing::*;
use crate::{Activation, Device, DeviceKind, ResetDone, feature};

/// A device that records what its transport tells it.
#[derive(Default)]
struct Recorder {
    activations: Mutex<Vec<Activation>>,
    kicks: Mutex<Vec<u16>>,
    resetting: Mutex<Option<ResetDone>>,
    config: Mutex<Vec<(u64, Vec<u8>, u64)>>,
}

impl Device for Recorder {
    fn kind(&self) -> DeviceKind {
        DeviceKind::Block
    }
    fn queue_sizes(&self) -> Vec<u16> {
        vec![8, 16]
    }
    fn features(&self) -> u64 {
        feature::RING | feature::BLK_FLUSH
    }
    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(u8::try_from(offset).unwrap_or(0xFF));
    }
    fn write_config(&self, offset: u64, data: &[u8], features: u64) {
        self.config
            .lock()
            .expect("lock")
            .push((offset, data.to_vec(), features));
    }
    fn activate(&self, activation: Activation) {
        self.activations.lock().expect("lock").push(activation);
    }
    fn notify(&self, queue: u16) {
        self.kicks.lock().expect("lock").push(queue);
    }
    fn reset(&self, done: ResetDone) {
        *self.resetting.lock().expect("lock") = Some(done);
    }
}

#[derive(Default)]
struct Sink {
    sent: Mutex<Vec<u16>>,
    routed: AtomicUsize,
}

impl MsiSink for Sink {
    fn route(&self, _vector: u16, _message: Option<MsiMessage>) {
        self.routed.fetch_add(1, Ordering::Relaxed);
    }
    fn trigger(&self, vector: u16) {
        self.sent.lock().expect("lock").push(vector);
    }
}

#[derive(Default)]
struct Moves(AtomicU16);

impl BarListener for Moves {
    fn bar_moved(&self, _bar: u8, _from: Option<u64>, _to: Option<u64>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Bench {
    device: Arc<Recorder>,
    sink: Arc<Sink>,
    moves: Arc<Moves>,
    function: VirtioPci<GuestMemoryMmap>,
}

const MSIX_TABLE: u64 = 0x8000;

impl Bench {
    fn new() -> Bench {
        let (device, sink, moves) = (
            Arc::<Recorder>::default(),
            Arc::<Sink>::default(),
            Arc::<Moves>::default(),
        );
        let function = VirtioPci::new(device.clone(), memory(), sink.clone(), moves.clone())
            .expect("function");
        Bench {
            device,
            sink,
            moves,
            function,
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        self.function.write_bar(0, offset, data);
    }

    fn read<const N: usize>(&self, offset: u64) -> [u8; N] {
        let mut data = [0xEE; N];
        self.function.read_bar(0, offset, &mut data);
        data
    }

    fn status(&self) -> u8 {
        self.read::<1>(0x14)[0]
    }

    fn set_status(&self, bits: u8) -> u8 {
        self.write(0x14, &[self.status() | bits]);
        self.status()
    }

    fn accept(&self, features: u64) {
        for (select, word) in [(0u32, features), (1, features >> 32)] {
            self.write(0x08, &select.to_le_bytes());
            self.write(0x0C, &word.to_le_bytes()[..4]);
        }
    }

    fn set_queue(&self, index: u16, size: u16, descriptors: u64) {
        self.write(0x16, &index.to_le_bytes());
        self.write(0x18, &size.to_le_bytes());
        self.write(0x1A, &(index + 1).to_le_bytes());
        self.write(0x20, &descriptors.to_le_bytes());
        self.write(0x28, &AVAILABLE.to_le_bytes()[..4]);
        self.write(0x2C, &[0; 4]);
        self.write(0x30, &USED.to_le_bytes());
        self.write(0x1C, &1u16.to_le_bytes());
    }

    /// The whole sequence of 1.2 §3.1.1.
    fn start(&self) {
        self.set_status(ACKNOWLEDGE);
        self.set_status(DRIVER);
        self.accept(feature::VERSION_1 | feature::RING_EVENT_IDX);
        assert_ne!(self.set_status(FEATURES_OK) & FEATURES_OK, 0);
        self.write(0x10, &0u16.to_le_bytes());
        self.set_queue(1, 4, DESCRIPTORS);
        assert_ne!(self.set_status(DRIVER_OK) & DRIVER_OK, 0);
    }

    /// Enables MSI-X with every vector unmasked.
    fn enable_msix(&self) {
        for vector in 0..3 {
            self.write(MSIX_TABLE + vector * 16 + 12, &[0; 4]);
        }
        let at = self.capability(0x11, 0).expect("MSI-X");
        self.function
            .write_config(u16::from(at) + 2, &0x8000u16.to_le_bytes());
    }

    fn config<const N: usize>(&self, offset: u16) -> [u8; N] {
        let mut data = [0; N];
        self.function.read_config(offset, &mut data);
        data
    }

    /// Offset of the capability with this id (and, for vendor ones, this virtio type).
    fn capability(&self, id: u8, kind: u8) -> Option<u8> {
        let mut at = self.config::<1>(0x34)[0];
        while at != 0 {
            let head = self.config::<4>(u16::from(at));
            if head[0] == id && (id != 9 || head[3] == kind) {
                return Some(at);
            }
            at = head[1];
        }
        None
    }
}

#[test]
fn the_driver_finds_its_structures() {
    let bench = Bench::new();
    assert_eq!(bench.config::<4>(0), [0xF4, 0x1A, 0x42, 0x10]);
    let expected = [
        (1, 0, 64),
        (2, 0x3000, 8),
        (3, 0x1000, 1),
        (4, 0x2000, 0x1000),
    ];
    for (kind, offset, length) in expected {
        let at = u16::from(bench.capability(9, kind).expect("capability"));
        assert_eq!(
            bench.config::<4>(at + 8),
            u32::to_le_bytes(offset),
            "offset of {kind}"
        );
        assert_eq!(
            bench.config::<4>(at + 12),
            u32::to_le_bytes(length),
            "length of {kind}"
        );
    }
    let notify = u16::from(bench.capability(9, 2).expect("notify"));
    assert_eq!(bench.config::<4>(notify + 16), 4u32.to_le_bytes());
    let msix = u16::from(bench.capability(0x11, 0).expect("MSI-X"));
    assert_eq!(
        bench.config::<2>(msix + 2),
        2u16.to_le_bytes(),
        "three vectors"
    );
    assert_eq!(notify_address(0x1000, 3), 0x1000 + NOTIFY_OFFSET + 12);
}

#[test]
fn features_are_negotiated_or_refused() {
    let offered = Bench::new();
    offered.write(0, &1u32.to_le_bytes());
    assert_eq!(offered.read::<4>(4), 1u32.to_le_bytes(), "VERSION_1");
    let cases = [
        (feature::VERSION_1, true),
        (feature::VERSION_1 | feature::BLK_FLUSH, true),
        (0, false),
        (feature::VERSION_1 | feature::BLK_RO, false),
        (feature::VERSION_1 | 1 << 40, false),
    ];
    for (features, accepted) in cases {
        let bench = Bench::new();
        bench.set_status(ACKNOWLEDGE | DRIVER);
        bench.accept(features);
        assert_eq!(
            bench.set_status(FEATURES_OK) & FEATURES_OK != 0,
            accepted,
            "{features:#x}"
        );
        assert_eq!(bench.set_status(DRIVER_OK) & DRIVER_OK != 0, accepted);
    }
}

#[test]
fn the_enabled_queues_reach_the_device_once() {
    let bench = Bench::new();
    bench.start();
    {
        let activations = bench.device.activations.lock().expect("lock");
        let [activation] = activations.as_slice() else {
            panic!("{} activations", activations.len())
        };
        let queues: Vec<_> = activation
            .queues
            .iter()
            .map(|q| (q.index, q.queue.size()))
            .collect();
        assert_eq!(queues, [(1, 4)]);
        assert_eq!(
            activation.features,
            feature::VERSION_1 | feature::RING_EVENT_IDX
        );
    }
    // Nothing about a live queue can be changed.
    bench.set_queue(1, 8, DESCRIPTORS + 0x100);
    assert_eq!(bench.read::<2>(0x18), 4u16.to_le_bytes());
    assert_eq!(bench.read::<8>(0x20), DESCRIPTORS.to_le_bytes());
    bench.set_queue(0, 8, DESCRIPTORS);
    assert_eq!(
        bench.read::<2>(0x1C),
        [0, 0],
        "no queue is enabled after DRIVER_OK"
    );
    bench.write(0x14, &[0xFF]);
    assert_eq!(bench.device.activations.lock().expect("lock").len(), 1);
}

#[test]
fn queues_outside_memory_need_a_reset() {
    let bench = Bench::new();
    bench.set_status(ACKNOWLEDGE | DRIVER);
    bench.accept(feature::VERSION_1);
    bench.set_status(FEATURES_OK);
    bench.set_queue(0, 8, MEMORY as u64);
    assert_ne!(bench.set_status(DRIVER_OK) & NEEDS_RESET, 0);
    assert!(bench.device.activations.lock().expect("lock").is_empty());
}

#[test]
fn the_reset_of_an_unused_device_shows_too() {
    let bench = Bench::new();
    bench.write(0x14, &[0]);
    assert_ne!(bench.status(), 0);
    drop(bench.device.resetting.lock().expect("lock").take());
    assert_eq!(bench.status(), 0);
    assert_eq!(bench.set_status(ACKNOWLEDGE), ACKNOWLEDGE);
}

#[test]
fn a_reset_lasts_until_the_device_is_quiet() {
    let bench = Bench::new();
    bench.start();
    bench.write(0x14, &[0]);
    assert_ne!(bench.status(), 0, "still draining");
    bench.accept(feature::VERSION_1);
    bench.write(0x14, &[ACKNOWLEDGE]);
    assert_ne!(
        bench.status() & DRIVER_OK,
        0,
        "nothing but the end of the reset counts"
    );
    bench.write(0x14, &[0]);
    drop(bench.device.resetting.lock().expect("lock").take());
    assert_eq!(bench.status(), 0);
    assert_eq!(bench.read::<2>(0x10), [0xFF; 2], "vectors are forgotten");
    bench.start();
    assert_eq!(bench.device.activations.lock().expect("lock").len(), 2);
}

#[test]
fn kicks_reach_live_devices_only() {
    let bench = Bench::new();
    bench.write(NOTIFY_OFFSET + 4, &[1, 0]);
    assert!(bench.device.kicks.lock().expect("lock").is_empty());
    bench.start();
    bench.write(NOTIFY_OFFSET + 4, &[1, 0]);
    bench.write(NOTIFY_OFFSET + 8, &[2, 0]);
    bench.write(NOTIFY_OFFSET + 0xFFC, &[2, 0]);
    assert_eq!(*bench.device.kicks.lock().expect("lock"), [1]);
}

#[test]
fn interrupts_go_to_the_vector_the_driver_chose() {
    let bench = Bench::new();
    bench.enable_msix();
    bench.start();
    bench.function.interrupts().queue(1);
    bench.function.interrupts().queue(0);
    bench.function.interrupts().queue(9);
    assert_eq!(
        *bench.sink.sent.lock().expect("lock"),
        [2],
        "queue 0 has no vector, 9 does not exist"
    );
    let generation = bench.read::<1>(0x15);
    bench.function.interrupts().config_changed();
    assert_eq!(*bench.sink.sent.lock().expect("lock"), [2, 0]);
    assert_ne!(bench.read::<1>(0x15), generation);
    assert_eq!(bench.read::<1>(0x1000), [3]);
    assert_eq!(bench.read::<1>(0x1000), [0], "reading the ISR clears it");
    bench.function.interrupts().needs_reset();
    assert_ne!(bench.status() & NEEDS_RESET, 0);
    bench.write(0x10, &7u16.to_le_bytes());
    assert_eq!(bench.read::<2>(0x10), [0xFF; 2], "there is no vector 7");
}

#[test]
fn the_bar_is_reachable_through_configuration_space() {
    let bench = Bench::new();
    let at = u16::from(bench.capability(9, 5).expect("window"));
    let aim = |offset: u32, length: u32| {
        bench.function.write_config(at + 4, &[0]);
        bench.function.write_config(at + 8, &offset.to_le_bytes());
        bench.function.write_config(at + 12, &length.to_le_bytes());
    };
    aim(0x14, 1);
    bench.function.write_config(at + 16, &[ACKNOWLEDGE]);
    assert_eq!(bench.status(), ACKNOWLEDGE);
    assert_eq!(bench.config::<1>(at + 16), [ACKNOWLEDGE]);
    aim(0x2005, 1);
    assert_eq!(bench.config::<1>(at + 16), [5]);
    for (offset, length) in [(0x14, 3), (0x15, 2), (0xFFFF_FFFF, 1), (0x14, 0)] {
        aim(offset, length);
        bench.function.write_config(at + 16, &[DRIVER; 4]);
        let _ = bench.config::<4>(at + 16);
    }
    assert_eq!(bench.status(), ACKNOWLEDGE);
}

#[test]
fn device_configuration_and_moves_are_passed_on() {
    let bench = Bench::new();
    assert_eq!(bench.read::<2>(0x2007), [7, 7]);
    bench.start();
    bench.write(0x2020, &[1]);
    let features = feature::VERSION_1 | feature::RING_EVENT_IDX;
    assert_eq!(
        *bench.device.config.lock().expect("lock"),
        [(0x20, vec![1], features)]
    );
    bench.function.write_config(0x14, &0u32.to_le_bytes());
    bench
        .function
        .write_config(0x10, &0xC000_0000u32.to_le_bytes());
    assert_eq!(
        bench.function.bars().first().map(|bar| bar.base),
        Some(0xC000_0000)
    );
    assert_eq!(bench.moves.0.load(Ordering::Relaxed), 1);
}

proptest! {
    /// No sequence of accesses to BAR or configuration space panics.
    #[test]
    fn any_access_is_survived(
        accesses in prop::collection::vec(
            (any::<bool>(), any::<bool>(), prop_oneof![0u64..64, 0u64..0x8_0000], 1usize..9, any::<u64>()), 1..100),
    ) {
        let bench = Bench::new();
        for (bar, write, offset, len, value) in accesses {
            let mut data = value.to_le_bytes();
            let data = &mut data[..len];
            let config = u16::try_from(offset % 4096).expect("small");
            match (bar, write) {
                (true, true) => bench.function.write_bar(0, offset, data),
                (true, false) => bench.function.read_bar(0, offset, data),
                (false, true) => bench.function.write_config(config, data),
                (false, false) => bench.function.read_config(config, data),
            }
            drop(bench.device.resetting.lock().expect("lock").take());
        }
    }
}
