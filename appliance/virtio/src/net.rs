//! The network device (virtio 1.2 §5.1): configuration, offloads, and how packets lie in chains.
//!
//! Every packet is preceded by a 12-byte header ([`HEADER_BYTES`]) that has the layout of the tap's `vnet_hdr`, so
//! header and packet go to and from the tap in one vectored transfer, checksum and segmentation requests
//! included. Only `num_buffers`, which the tap does not write, is filled in here.

use vm_memory::{Bytes, GuestAddress, GuestMemory};

use crate::{Chain, feature};

/// Length of `struct virtio_net_hdr_v1`; what TUNSETVNETHDRSZ must be set to.
pub const HEADER_BYTES: u32 = 12;
/// Offset of `num_buffers` within the header.
const NUM_BUFFERS: u64 = 10;
/// Index of the receive queue.
pub const RX_QUEUE: u16 = 0;
/// Index of the transmit queue.
pub const TX_QUEUE: u16 = 1;
/// Default size of each queue.
pub const QUEUE_SIZE: u16 = 256;
/// The longest packet with its header: 64 KiB of IP plus Ethernet, rounded as §5.1.6.3.1 does.
pub const MAX_PACKET_BYTES: u32 = 65_550 + HEADER_BYTES;
/// The shortest frame that can be sent: an Ethernet header.
const MIN_FRAME_BYTES: u64 = 14;

const CONFIG_BYTES: usize = 12;
const STATUS_LINK_UP: u16 = 1;

/// `TUNSETOFFLOAD`: the reader of the tap takes partial checksums.
pub const TUN_F_CSUM: u32 = 1;
/// `TUNSETOFFLOAD`: and large TCP segments over IPv4.
pub const TUN_F_TSO4: u32 = 2;
/// `TUNSETOFFLOAD`: and over IPv6.
pub const TUN_F_TSO6: u32 = 4;
/// `TUNSETOFFLOAD`: with congestion notification.
pub const TUN_F_TSO_ECN: u32 = 8;

/// The properties of a network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetConfig {
    /// Hardware address.
    pub mac: [u8; 6],
    /// Largest payload of a frame in bytes, 68 to 65535.
    pub mtu: u16,
    /// Size of each queue, a power of two.
    pub queue_size: u16,
}

impl NetConfig {
    /// Feature bits offered; the tap must have been opened with `IFF_VNET_HDR`.
    pub fn features(&self) -> u64 {
        feature::RING
            | feature::NET_CSUM
            | feature::NET_GUEST_CSUM
            | feature::NET_MTU
            | feature::NET_MAC
            | feature::NET_GUEST_TSO4
            | feature::NET_GUEST_TSO6
            | feature::NET_GUEST_ECN
            | feature::NET_HOST_TSO4
            | feature::NET_HOST_TSO6
            | feature::NET_HOST_ECN
            | feature::NET_MRG_RXBUF
            | feature::NET_STATUS
    }

    /// Reads the configuration structure (§5.1.4).
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let mut image = [0; CONFIG_BYTES];
        image[..6].copy_from_slice(&self.mac);
        image[6..8].copy_from_slice(&STATUS_LINK_UP.to_le_bytes());
        image[8..10].copy_from_slice(&1u16.to_le_bytes());
        image[10..].copy_from_slice(&self.mtu.to_le_bytes());
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = image.get(start.saturating_add(index)).copied().unwrap_or(0);
        }
    }
}

/// The `TUNSETOFFLOAD` flags for what the driver said it can receive.
pub fn tap_offloads(features: u64) -> u32 {
    if features & feature::NET_GUEST_CSUM == 0 {
        // The other offloads depend on checksums (§5.1.3.1).
        return 0;
    }
    let bits = [
        (feature::NET_GUEST_TSO4, TUN_F_TSO4),
        (feature::NET_GUEST_TSO6, TUN_F_TSO6),
        (feature::NET_GUEST_ECN, TUN_F_TSO_ECN),
    ];
    let tso = bits
        .iter()
        .filter(|(bit, _)| features & bit != 0)
        .fold(0, |sum, (_, flag)| sum | flag);
    // ECN alone means nothing to the tap.
    TUN_F_CSUM | if tso == TUN_F_TSO_ECN { 0 } else { tso }
}

/// The most bytes, header included, the tap can hand over for one packet under these features.
pub fn receive_bytes(features: u64, mtu: u16) -> u32 {
    let large = tap_offloads(features) & (TUN_F_TSO4 | TUN_F_TSO6) != 0;
    // 14 bytes of Ethernet header and 4 of a VLAN tag come on top of the MTU.
    if large {
        MAX_PACKET_BYTES
    } else {
        HEADER_BYTES + 18 + u32::from(mtu)
    }
}

/// Whether a chain can be handed to the tap as one frame: header, Ethernet header, and no longer than a packet may be.
pub fn sendable(chain: &Chain) -> bool {
    let len = Chain::total(&chain.readable);
    let least = u64::from(HEADER_BYTES) + MIN_FRAME_BYTES;
    chain.defect.is_none() && (least..=u64::from(MAX_PACKET_BYTES)).contains(&len)
}

/// Whether a chain can take at least the start of a packet (§5.1.6.3.1).
pub fn receivable(chain: &Chain) -> bool {
    chain.defect.is_none() && Chain::total(&chain.writable) > u64::from(HEADER_BYTES)
}

/// Writes `num_buffers` into the header at the start of the first chain of a received packet (§5.1.6.4).
/// Gives `false` if the guest laid the chain out so that this is not possible.
pub fn set_num_buffers<M: GuestMemory>(mem: &M, first: &Chain, count: u16) -> bool {
    let mut skip = NUM_BUFFERS;
    let mut bytes = count.to_le_bytes().into_iter();
    for segment in &first.writable {
        let len = u64::from(segment.len);
        if skip >= len {
            skip -= len;
            continue;
        }
        for at in skip..len {
            let Some(byte) = bytes.next() else {
                return true;
            };
            if mem
                .write_obj(byte, GuestAddress(segment.address + at))
                .is_err()
            {
                return false;
            }
        }
        skip = 0;
    }
    bytes.len() == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Segment;
    use crate::testing::*;

    const CONFIG: NetConfig = NetConfig {
        mac: [2, 0, 0, 0, 0, 9],
        mtu: 1500,
        queue_size: 256,
    };

    fn chain(readable: u32, writable: &[(u64, u32)]) -> Chain {
        let segment = |(address, len): &(u64, u32)| Segment {
            address: *address,
            len: *len,
        };
        Chain {
            readable: vec![Segment {
                address: DATA,
                len: readable,
            }],
            writable: writable.iter().map(segment).collect(),
            ..Chain::default()
        }
    }

    #[test]
    fn offloads_follow_the_driver() {
        use crate::feature::{
            NET_GUEST_CSUM as C, NET_GUEST_ECN as E, NET_GUEST_TSO4 as T4, NET_GUEST_TSO6 as T6,
        };
        let cases = [
            (0, 0),
            (T4 | T6, 0),
            (C, TUN_F_CSUM),
            (C | E, TUN_F_CSUM),
            (C | T4 | E, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN),
            (C | T6, TUN_F_CSUM | TUN_F_TSO6),
        ];
        for (features, flags) in cases {
            assert_eq!(tap_offloads(features), flags, "{features:#x}");
        }
        assert_eq!(receive_bytes(C, 1500), 12 + 18 + 1500);
        assert_eq!(receive_bytes(C | T4, 1500), MAX_PACKET_BYTES);
    }

    #[test]
    fn frames_have_bounds() {
        for (len, ok) in [
            (0, false),
            (25, false),
            (26, true),
            (1526, true),
            (65_562, true),
            (65_563, false),
        ] {
            assert_eq!(sendable(&chain(len, &[])), ok, "{len}");
        }
        let broken = Chain {
            defect: Some(crate::ChainError::Order),
            ..chain(100, &[(DATA, 2000)])
        };
        assert!(!sendable(&broken) && !receivable(&broken));
        assert!(receivable(&chain(0, &[(DATA, 13)])) && !receivable(&chain(0, &[(DATA, 12)])));
    }

    #[test]
    fn the_number_of_buffers_is_found_in_any_layout() {
        let layouts: [&[(u64, u32)]; 3] = [
            &[(DATA, 100)],
            &[(DATA, 10), (DATA + 10, 90)],
            &[(DATA, 11), (DATA + 11, 89)],
        ];
        for layout in layouts {
            let mem = memory();
            assert!(set_num_buffers(&mem, &chain(0, layout), 0x0203));
            assert_eq!(
                mem.read_obj::<u16>(GuestAddress(DATA + 10))
                    .expect("memory"),
                0x0203
            );
            assert_eq!(
                mem.read_obj::<u16>(GuestAddress(DATA + 12))
                    .expect("memory"),
                0
            );
        }
        assert!(!set_num_buffers(&memory(), &chain(0, &[(DATA, 11)]), 1));
    }

    #[test]
    fn the_configuration_holds_address_link_and_mtu() {
        let mut data = [0xEE; 16];
        CONFIG.read(0, &mut data);
        assert_eq!(data, [2, 0, 0, 0, 0, 9, 1, 0, 1, 0, 0xDC, 5, 0, 0, 0, 0]);
    }
}
