//! Configuration space: identification, BARs, capabilities, masks.

use pci::{BarMove, CAPABILITY_MSIX, CAPABILITY_VENDOR, ConfigError, FunctionConfig, Identity};
use proptest::prelude::*;

pub fn identity() -> Identity {
    Identity {
        vendor: 0x1AF4,
        device: 0x1042,
        revision: 1,
        class: 0x01_80_00,
        subsystem_vendor: 0x1AF4,
        subsystem: 0x40,
    }
}

fn read32(config: &FunctionConfig, offset: u16) -> u32 {
    let mut data = [0; 4];
    config.read(offset, &mut data);
    u32::from_le_bytes(data)
}

fn write32(config: &mut FunctionConfig, offset: u16, value: u32) -> Vec<BarMove> {
    config.write(offset, &value.to_le_bytes()).moves
}

#[test]
fn identification_cannot_be_changed() {
    let mut config = FunctionConfig::new(identity());
    for offset in [0x00, 0x08, 0x2C] {
        let before = read32(&config, offset);
        write32(&mut config, offset, !before);
        assert_eq!(read32(&config, offset), before);
    }
    assert_eq!(read32(&config, 0x00), 0x1042_1AF4);
    assert_eq!(read32(&config, 0x08), 0x0180_0001);
    assert_eq!(read32(&config, 0x2C), 0x0040_1AF4);
    assert_eq!(read32(&config, 0x3C) & 0xFF00, 0, "no interrupt pin");
}

#[test]
fn a_wide_bar_is_sized_placed_moved_and_disabled() {
    let mut config = FunctionConfig::new(identity());
    config
        .add_memory_bar(0, 0x8_0000, true, true)
        .expect("a good BAR");
    assert_eq!(write32(&mut config, 0x10, 0xFFFF_FFFF), []);
    assert_eq!(write32(&mut config, 0x14, 0xFFFF_FFFF), []);
    assert_eq!(
        (read32(&config, 0x10), read32(&config, 0x14)),
        (0xFFF8_000C, 0xFFFF_FFFF)
    );
    assert_eq!(write32(&mut config, 0x14, 0), []);
    let at = |from, to| [BarMove { bar: 0, from, to }];
    assert_eq!(
        write32(&mut config, 0x10, 0xC008_0000),
        at(None, Some(0xC008_0000))
    );
    assert_eq!(config.bars()[0].size, 0x8_0000);
    assert_eq!(
        write32(&mut config, 0x10, 0xC010_1234),
        at(Some(0xC008_0000), Some(0xC010_0000))
    );
    assert_eq!(write32(&mut config, 0x04, 0), at(Some(0xC010_0000), None));
    assert_eq!(config.bars(), []);
    assert_eq!(write32(&mut config, 0x10, 0xC000_0000), []);
    assert_eq!(
        write32(&mut config, 0x04, 0b110),
        at(None, Some(0xC000_0000))
    );
    assert!(config.bus_master());
}

#[test]
fn a_narrow_bar_needs_one_register() {
    let mut config = FunctionConfig::new(identity());
    config
        .add_memory_bar(1, 4096, false, false)
        .expect("a good BAR");
    write32(&mut config, 0x14, 0xFFFF_FFFF);
    assert_eq!(read32(&config, 0x14), 0xFFFF_F000);
    assert_eq!(write32(&mut config, 0x14, 0xD000_0000).len(), 1);
    assert_eq!(config.bars()[0].base, 0xD000_0000);
}

#[test]
fn bad_layouts_are_refused() {
    let mut config = FunctionConfig::new(identity());
    config
        .add_memory_bar(2, 4096, true, false)
        .expect("a good BAR");
    for (bar, size, wide, expected) in [
        (2, 4096, false, ConfigError::BarTaken(2)),
        (3, 4096, false, ConfigError::BarTaken(3)),
        (1, 4096, true, ConfigError::BarTaken(1)),
        (5, 4096, true, ConfigError::BarTaken(5)),
        (6, 4096, false, ConfigError::BarTaken(6)),
        (0, 4097, false, ConfigError::BarSize(4097)),
        (0, 8, false, ConfigError::BarSize(8)),
        (0, 1 << 32, false, ConfigError::BarSize(1 << 32)),
    ] {
        assert_eq!(config.add_memory_bar(bar, size, wide, false), Err(expected));
    }
    assert_eq!(config.add_msix(0, 0, 0, 0), Err(ConfigError::MsixLayout));
    assert_eq!(config.add_msix(2049, 0, 0, 0), Err(ConfigError::MsixLayout));
    assert_eq!(config.add_msix(1, 0, 4, 0), Err(ConfigError::MsixLayout));
    let long = [0; 200];
    assert_eq!(
        config.add_capability(9, &long, &[]),
        Err(ConfigError::CapabilityTooLong(9))
    );
}

#[test]
fn capabilities_form_a_list_with_their_own_masks() {
    let mut config = FunctionConfig::new(identity());
    assert_eq!(read32(&config, 0x04) >> 16 & 0x10, 0);
    let first = config
        .add_capability(CAPABILITY_VENDOR, &[16, 1, 2, 3, 4], &[0, 0, 0xF0])
        .expect("room");
    let second = config.add_msix(3, 0, 0x1000, 0x2000).expect("room");
    assert_eq!(
        read32(&config, 0x04) >> 16 & 0x10,
        0x10,
        "status says there are capabilities"
    );
    assert_eq!(read32(&config, 0x34) & 0xFF, u32::from(first));
    let header = read32(&config, u16::from(first));
    assert_eq!(
        header & 0xFFFF,
        u32::from(second) << 8 | u32::from(CAPABILITY_VENDOR)
    );
    assert_eq!(
        read32(&config, u16::from(second)) & 0xFFFF,
        u32::from(CAPABILITY_MSIX)
    );
    config.write(u16::from(first) + 2, &[0xFF; 5]);
    let mut body = [0; 5];
    config.read(u16::from(first) + 2, &mut body);
    assert_eq!(body, [16, 1, 0xF2, 3, 4]);
}

#[test]
fn msix_control_is_reported_however_it_is_written() {
    let mut config = FunctionConfig::new(identity());
    let at = u16::from(config.add_msix(3, 0, 0x1000, 0x2000).expect("room"));
    assert_eq!(
        config.write(at + 2, &0xC000_u16.to_le_bytes()).msix_control,
        Some(0xC002)
    );
    assert_eq!(config.write(at + 3, &[0x80]).msix_control, Some(0x8002));
    assert_eq!(config.write(at, &[0, 0, 0, 0]).msix_control, Some(2));
    assert_eq!(config.write(at + 4, &[0xFF; 4]).msix_control, None);
    assert_eq!(
        (read32(&config, at + 4), read32(&config, at + 8)),
        (0x1000, 0x2000)
    );
}

#[test]
fn the_extended_space_is_empty() {
    let config = FunctionConfig::new(identity());
    assert_eq!(read32(&config, 0x100), 0);
    assert_eq!(read32(&config, 4096), u32::MAX);
}

proptest! {
    /// Whatever is written, wherever: read-only bits stay, and the moves tell the whole story.
    #[test]
    fn writes_keep_the_masks_and_report_every_move(
        writes in prop::collection::vec((0_u16..300, prop::collection::vec(any::<u8>(), 1..9)), 0..64)
    ) {
        let mut config = FunctionConfig::new(identity());
        config.add_memory_bar(0, 0x8_0000, true, true).expect("a good BAR");
        config.add_msix(3, 0, 0x1000, 0x2000).expect("room");
        let (mut decoded, fixed) = (None, read32(&config, 0));
        for (offset, data) in writes {
            for moved in config.write(offset, &data).moves {
                prop_assert_eq!(moved.from, decoded);
                prop_assert_ne!(moved.from, moved.to);
                decoded = moved.to;
            }
            prop_assert_eq!(config.bars().first().map(|bar| bar.base), decoded);
            prop_assert!(decoded.is_none_or(|base| base % 0x8_0000 == 0));
            prop_assert_eq!(read32(&config, 0), fixed);
        }
    }
}
