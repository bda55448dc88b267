//! The root bus: both ways into configuration space, decoding, placement.

use std::sync::{Arc, Mutex};

use pci::{
    BarWindow, ConfigPorts, DecodedBar, FunctionConfig, HostBridge, PciFunction, RootBus,
    SlotTaken, place_bars,
};

use crate::config::identity;

/// A function whose BARs are memory that tells what was written last.
struct Scratch {
    config: Mutex<FunctionConfig>,
    written: Mutex<Option<(u8, u64, Vec<u8>)>>,
}

impl Scratch {
    fn new(bars: &[(u8, u64, bool)]) -> Arc<Self> {
        let mut config = FunctionConfig::new(identity());
        for (bar, size, wide) in bars {
            config
                .add_memory_bar(*bar, *size, *wide, false)
                .expect("a good BAR");
        }
        Arc::new(Self {
            config: Mutex::new(config),
            written: Mutex::default(),
        })
    }
}

impl PciFunction for Scratch {
    fn read_config(&self, offset: u16, data: &mut [u8]) {
        self.config.lock().expect("not poisoned").read(offset, data);
    }

    fn write_config(&self, offset: u16, data: &[u8]) {
        self.config
            .lock()
            .expect("not poisoned")
            .write(offset, data);
    }

    fn read_bar(&self, bar: u8, offset: u64, data: &mut [u8]) {
        data.fill(bar + u8::try_from(offset % 16).expect("small"));
    }

    fn write_bar(&self, bar: u8, offset: u64, data: &[u8]) {
        *self.written.lock().expect("not poisoned") = Some((bar, offset, data.to_vec()));
    }

    fn bars(&self) -> Vec<DecodedBar> {
        self.config.lock().expect("not poisoned").bars()
    }
}

fn bus(functions: &[Arc<Scratch>]) -> RootBus {
    let mut bus = RootBus::new();
    bus.insert(0, Arc::new(HostBridge::new())).expect("free");
    for (device, function) in (1..).zip(functions) {
        bus.insert(device, function.clone()).expect("free");
    }
    bus
}

#[test]
fn both_mechanisms_reach_the_same_registers() {
    let bus = bus(&[Scratch::new(&[])]);
    let ports = ConfigPorts::default();
    for (device, expected) in [(0_u32, 0x1100_1AF4_u32), (1, 0x1042_1AF4), (2, u32::MAX)] {
        let (mut by_ecam, mut by_ports) = ([0; 4], [0; 4]);
        bus.read_ecam(u64::from(device) << 15, &mut by_ecam);
        ports.write(&bus, 0, &(0x8000_0000 | device << 11).to_le_bytes());
        ports.read(&bus, 4, &mut by_ports);
        assert_eq!(
            (u32::from_le_bytes(by_ecam), u32::from_le_bytes(by_ports)),
            (expected, expected)
        );
    }
    // Parts of a register, and registers beyond a disabled address.
    ports.write(&bus, 0, &0x8000_0800_u32.to_le_bytes());
    let mut half = [0; 2];
    ports.read(&bus, 6, &mut half);
    assert_eq!(u16::from_le_bytes(half), 0x1042);
    ports.write(&bus, 0, &0x0000_0800_u32.to_le_bytes());
    ports.read(&bus, 4, &mut half);
    assert_eq!(half, [0xFF; 2]);
}

#[test]
fn other_buses_and_functions_are_empty() {
    let bus = bus(&[]);
    for offset in [1 << 12, 1 << 20, u64::MAX] {
        let mut data = [0; 4];
        bus.read_ecam(offset, &mut data);
        assert_eq!(data, [0xFF; 4]);
        bus.write_ecam(offset, &[0; 4]);
    }
}

#[test]
fn bars_are_placed_aligned_and_apart_and_decode() {
    let functions = [
        Scratch::new(&[(0, 0x8_0000, true)]),
        Scratch::new(&[(0, 4096, false), (2, 0x10_0000, true)]),
    ];
    let bus = bus(&functions);
    place_bars(&bus, &mut BarWindow::new(0xC000_0000..0xE000_0000)).expect("room");
    let mut all: Vec<_> = functions
        .iter()
        .flat_map(|function| function.bars())
        .collect();
    assert_eq!(all.len(), 3);
    all.sort_by_key(|bar| bar.base);
    assert!(
        all.iter()
            .all(|bar| bar.base % bar.size == 0 && (0xC000_0000..0xE000_0000).contains(&bar.base))
    );
    assert!(
        all.windows(2)
            .all(|pair| pair[0].base + pair[0].size <= pair[1].base)
    );
    for function in &functions {
        for bar in function.bars() {
            assert!(bus.write_memory(bar.base + 5, &[1, 2]));
            let written = function.written.lock().expect("not poisoned").take();
            assert_eq!(written, Some((bar.bar, 5, vec![1, 2])));
            let mut data = [0; 1];
            assert!(bus.read_memory(bar.base + bar.size - 1, &mut data));
            assert_eq!(data, [bar.bar + 15]);
        }
    }
    assert!(!bus.write_memory(0xDFFF_FFFF, &[0]));
}

#[test]
fn a_bar_that_moved_is_decoded_at_its_new_place_only() {
    let function = Scratch::new(&[(0, 4096, false)]);
    let bus = bus(std::slice::from_ref(&function));
    let mut data = [0; 1];
    bus.write_config(0, 1, 0, 0x10, &0xC000_0000_u32.to_le_bytes());
    assert!(bus.read_memory(0xC000_0000, &mut data));
    bus.write_config(0, 1, 0, 0x10, &0xC100_0000_u32.to_le_bytes());
    assert!(!bus.read_memory(0xC000_0000, &mut data));
    assert!(bus.read_memory(0xC100_0000, &mut data));
    bus.write_config(0, 1, 0, 0x04, &[0, 0]);
    assert!(!bus.read_memory(0xC100_0000, &mut data));
}

#[test]
fn a_full_window_and_a_taken_slot_are_errors() {
    let mut bus = bus(&[Scratch::new(&[(0, 1 << 20, true)])]);
    let full =
        place_bars(&bus, &mut BarWindow::new(0xC000_0000..0xC008_0000)).expect_err("no room");
    assert_eq!((full.device, full.bar, full.size), (1, 0, 1 << 20));
    assert_eq!(
        bus.insert(1, Arc::new(HostBridge::new())),
        Err(SlotTaken(1))
    );
    assert_eq!(
        bus.insert(32, Arc::new(HostBridge::new())),
        Err(SlotTaken(32))
    );
}
