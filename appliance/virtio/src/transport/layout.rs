//! Where things lie in the BAR, and the capabilities that tell the driver (virtio 1.2 §4.1.4).

use pci::{CAPABILITY_VENDOR, ConfigError, FunctionConfig, Identity};

use crate::DeviceKind;

/// The one BAR.
pub(crate) const BAR: u8 = 0;
/// Its size; it takes two registers.
pub(crate) const BAR_BYTES: u64 = 512 << 10;

/// The longest of the regions before the MSI-X table.
const REGION: u64 = 0x1000;
pub(crate) const COMMON: u64 = 0;
pub(crate) const ISR: u64 = REGION;
pub(crate) const DEVICE: u64 = 2 * REGION;
/// Offset of the first queue's notification slot in the BAR.
pub const NOTIFY_OFFSET: u64 = 3 * REGION;
/// Bytes from one queue's notification slot to the next.
pub(crate) const NOTIFY_MULTIPLIER: u32 = 4;
pub(crate) const MSIX_TABLE: u64 = 0x8000;
pub(crate) const MSIX_PBA: u64 = 0x4_8000;

const COMMON_BYTES: u32 = 64;
const ISR_BYTES: u32 = 1;
/// A device has at most as many queues as fit the notification region.
const MAX_QUEUES: usize = 1024;

const CFG_COMMON: u8 = 1;
const CFG_NOTIFY: u8 = 2;
const CFG_ISR: u8 = 3;
const CFG_DEVICE: u8 = 4;
const CFG_PCI: u8 = 5;

const VENDOR: u16 = 0x1AF4;
const DEVICE_BASE: u16 = 0x1040;

/// A device that cannot be put on PCI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// See the message.
    #[error("a virtio-pci device has 1 to 1024 queues, not {0}")]
    Queues(usize),
    /// See the message.
    #[error("the configuration space of a virtio device cannot be laid out")]
    Config(#[from] ConfigError),
}

/// Where in guest-physical space a kick of `queue` is written, with the BAR at `bar_base`.
pub fn notify_address(bar_base: u64, queue: u16) -> u64 {
    bar_base
        .wrapping_add(NOTIFY_OFFSET)
        .wrapping_add(u64::from(queue) * u64::from(NOTIFY_MULTIPLIER))
}

/// Offset of the PCI configuration access capability's fields from its start (§4.1.4.9).
pub(crate) const PCI_CFG_BAR: u8 = 4;
pub(crate) const PCI_CFG_OFFSET: u8 = 8;
pub(crate) const PCI_CFG_LENGTH: u8 = 12;
pub(crate) const PCI_CFG_DATA: u8 = 16;

/// Builds the configuration space; also gives the offset of the PCI configuration access capability.
pub(crate) fn config_space(
    kind: DeviceKind,
    queues: usize,
) -> Result<(FunctionConfig, u8), LayoutError> {
    let (true, Ok(vectors)) = (
        (1..=MAX_QUEUES).contains(&queues),
        u16::try_from(queues + 1),
    ) else {
        return Err(LayoutError::Queues(queues));
    };
    let mut config = FunctionConfig::new(Identity {
        vendor: VENDOR,
        device: DEVICE_BASE + kind as u16,
        revision: 1,
        class: kind.pci_class(),
        subsystem_vendor: VENDOR,
        subsystem: DEVICE_BASE + kind as u16,
    });
    config.add_memory_bar(BAR, BAR_BYTES, true, false)?;
    let notify_bytes = u32::from(vectors - 1) * NOTIFY_MULTIPLIER;
    let device_bytes = u32::try_from(REGION).unwrap_or(u32::MAX);
    config.add_capability(
        CAPABILITY_VENDOR,
        &body(CFG_COMMON, COMMON, COMMON_BYTES, &[]),
        &[],
    )?;
    let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
    config.add_capability(
        CAPABILITY_VENDOR,
        &body(CFG_NOTIFY, NOTIFY_OFFSET, notify_bytes, &multiplier),
        &[],
    )?;
    config.add_capability(CAPABILITY_VENDOR, &body(CFG_ISR, ISR, ISR_BYTES, &[]), &[])?;
    config.add_capability(
        CAPABILITY_VENDOR,
        &body(CFG_DEVICE, DEVICE, device_bytes, &[]),
        &[],
    )?;
    // Bar, offset, length and data are the driver's to write; the mask leaves length-of-capability and type alone.
    let mut writable = [0; 18];
    writable[usize::from(PCI_CFG_BAR) - 2] = 0xFF;
    writable[usize::from(PCI_CFG_OFFSET) - 2..].fill(0xFF);
    let window =
        config.add_capability(CAPABILITY_VENDOR, &body(CFG_PCI, 0, 0, &[0; 4]), &writable)?;
    let offset = |at: u64| u32::try_from(at).unwrap_or(u32::MAX);
    config.add_msix(vectors, BAR, offset(MSIX_TABLE), offset(MSIX_PBA))?;
    Ok((config, window))
}

/// `struct virtio_pci_cap` after its id and next pointer, and what follows it.
fn body(kind: u8, offset: u64, length: u32, more: &[u8]) -> Vec<u8> {
    let total = u8::try_from(16 + more.len()).unwrap_or(u8::MAX);
    let mut body = vec![total, kind, BAR, 0, 0, 0];
    body.extend(u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes());
    body.extend(length.to_le_bytes());
    body.extend(more);
    body
}
