//! Feature bits as masks (virtio 1.2 §6, §5.1.3, §5.2.3).

/// Descriptors may refer to tables of descriptors.
pub const RING_INDIRECT_DESC: u64 = 1 << 28;
/// Kicks and interrupts are suppressed by ring index rather than by flag.
pub const RING_EVENT_IDX: u64 = 1 << 29;
/// The device follows version 1 of the standard; the transport always offers it and insists on it.
pub const VERSION_1: u64 = 1 << 32;
/// What every device of ours offers besides its own bits.
pub const RING: u64 = RING_INDIRECT_DESC | RING_EVENT_IDX;

/// Block: the most segments a request may have is in the configuration.
pub const BLK_SEG_MAX: u64 = 1 << 2;
/// Block: the disk is read-only.
pub const BLK_RO: u64 = 1 << 5;
/// Block: the logical block size is in the configuration.
pub const BLK_BLK_SIZE: u64 = 1 << 6;
/// Block: the flush command exists.
pub const BLK_FLUSH: u64 = 1 << 9;
/// Block: the topology is in the configuration.
pub const BLK_TOPOLOGY: u64 = 1 << 10;
/// Block: the driver chooses between write-back and write-through.
pub const BLK_CONFIG_WCE: u64 = 1 << 11;
/// Block: there is more than one queue.
pub const BLK_MQ: u64 = 1 << 12;
/// Block: the discard command exists.
pub const BLK_DISCARD: u64 = 1 << 13;
/// Block: the write-zeroes command exists.
pub const BLK_WRITE_ZEROES: u64 = 1 << 14;

/// Network: the device takes packets with partial checksums.
pub const NET_CSUM: u64 = 1;
/// Network: the driver takes packets with partial checksums.
pub const NET_GUEST_CSUM: u64 = 1 << 1;
/// Network: the largest frame payload is in the configuration.
pub const NET_MTU: u64 = 1 << 3;
/// Network: the hardware address is in the configuration.
pub const NET_MAC: u64 = 1 << 5;
/// Network: the driver takes TCP segments larger than the MTU (IPv4).
pub const NET_GUEST_TSO4: u64 = 1 << 7;
/// Network: as [`NET_GUEST_TSO4`], for IPv6.
pub const NET_GUEST_TSO6: u64 = 1 << 8;
/// Network: the driver takes such segments with explicit congestion notification.
pub const NET_GUEST_ECN: u64 = 1 << 9;
/// Network: the device takes TCP segments larger than the MTU (IPv4).
pub const NET_HOST_TSO4: u64 = 1 << 11;
/// Network: as [`NET_HOST_TSO4`], for IPv6.
pub const NET_HOST_TSO6: u64 = 1 << 12;
/// Network: the device takes such segments with explicit congestion notification.
pub const NET_HOST_ECN: u64 = 1 << 13;
/// Network: a received packet may spread over several buffers.
pub const NET_MRG_RXBUF: u64 = 1 << 15;
/// Network: the link state is in the configuration.
pub const NET_STATUS: u64 = 1 << 16;
