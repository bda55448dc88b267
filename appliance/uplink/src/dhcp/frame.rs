//! UDP datagrams of DHCP in Ethernet frames, for an interface that has no address yet.

use std::net::Ipv4Addr;

pub(super) const SERVER_PORT: u16 = 67;
pub(super) const CLIENT_PORT: u16 = 68;
const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const UDP_PROTOCOL: u8 = 17;

/// A broadcast from a client without address; `None` when the payload is longer than a datagram can be.
pub(super) fn broadcast(mac: [u8; 6], payload: &[u8]) -> Option<Vec<u8>> {
    let udp_length = u16::try_from(UDP + payload.len()).ok()?;
    let length = u16::try_from(IP + UDP + payload.len()).ok()?;
    let (from, to) = (Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST);
    let mut udp = Vec::with_capacity(UDP + payload.len());
    for field in [CLIENT_PORT, SERVER_PORT, udp_length, 0] {
        udp.extend(field.to_be_bytes());
    }
    udp.extend(payload);
    let sum = match !sum(&udp, pseudo(from, to, udp_length)) {
        0 => 0xffff, // zero says that there is none
        sum => sum,
    };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut ip = vec![0x45, 0x10];
    ip.extend(length.to_be_bytes());
    ip.extend([0, 0, 0x40, 0, 64, UDP_PROTOCOL, 0, 0]);
    ip.extend(from.octets());
    ip.extend(to.octets());
    let sum = !self::sum(&ip, 0);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    Some([&[0xff; 6][..], &mac, &[8, 0], &ip, &udp].concat())
}

/// The payload of a sound datagram to a DHCP client; `None` for everything else.
pub(super) fn payload(frame: &[u8]) -> Option<&[u8]> {
    if frame.get(12..ETHERNET)? != [8, 0] {
        return None;
    }
    let ip = frame.get(ETHERNET..)?;
    let header = usize::from(ip.first()? & 0xf) * 4;
    let length = usize::from(u16_at(ip, 2)?);
    let fragment = u16_at(ip, 6)? & 0x3fff;
    if ip[0] >> 4 != 4 || header < IP || fragment != 0 || *ip.get(9)? != UDP_PROTOCOL {
        return None;
    }
    if sum(ip.get(..header)?, 0) != 0xffff {
        return None;
    }
    let udp = ip.get(..length)?.get(header..)?;
    let udp_length = u16_at(udp, 4)?;
    let datagram = udp.get(..usize::from(udp_length))?;
    if u16_at(udp, 2)? != CLIENT_PORT || datagram.len() < UDP {
        return None;
    }
    let address = |at: usize| {
        Some(Ipv4Addr::from(
            <[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?,
        ))
    };
    let pseudo = pseudo(address(12)?, address(16)?, udp_length);
    // From a sender on the same machine the checksum holds the pseudo header only: its device would have done the rest.
    let given = u16_at(udp, 6)?;
    let unfinished = given == fold(pseudo);
    (given == 0 || unfinished || sum(datagram, pseudo) == 0xffff).then(|| &datagram[UDP..])
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([field[0], field[1]]))
}

fn pseudo(from: Ipv4Addr, to: Ipv4Addr, length: u16) -> u32 {
    let half = |bytes: [u8; 4]| {
        let number = u32::from_be_bytes(bytes);
        (number >> 16) + (number & 0xffff)
    };
    half(from.octets()) + half(to.octets()) + u32::from(UDP_PROTOCOL) + u32::from(length)
}

/// RFC 1071, not complemented.
fn sum(bytes: &[u8], start: u32) -> u16 {
    let words = bytes.chunks(2);
    fold(words.fold(start, |sum, word| {
        let low = word.get(1).copied().unwrap_or(0);
        sum + u32::from(u16::from_be_bytes([word[0], low]))
    }))
}

fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame of the client, turned into one for it, with or without checksum.
    fn to_client(payload: &[u8], checksum: Option<u16>) -> Vec<u8> {
        let mut frame = broadcast([2, 0, 0, 0, 0, 7], payload).expect("short");
        // Swapped ports add up to the same checksum.
        frame[34..38].copy_from_slice(&[0, 67, 0, 68]);
        if let Some(sum) = checksum {
            frame[40..42].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }

    #[test]
    fn sound_datagrams_are_taken() {
        let length = u16::try_from(8 + 5).expect("short");
        let unfinished = fold(pseudo(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, length));
        for sum in [None, Some(0), Some(unfinished)] {
            let mut frame = to_client(b"hello", sum);
            assert_eq!(payload(&frame), Some(&b"hello"[..]), "{sum:?}");
            frame.extend([0; 40]);
            assert_eq!(payload(&frame), Some(&b"hello"[..]), "with padding");
        }
    }

    #[test]
    fn all_else_is_passed_over() {
        let sound = to_client(b"hello", None);
        for (what, at, value) in [
            ("another protocol above Ethernet", 12, 0x86),
            ("IPv6", 14, 0x65),
            ("a short header", 14, 0x44),
            ("a length beyond the frame", 16, 0xff),
            ("a fragment", 21, 1),
            ("TCP", 23, 6),
            ("a wrong header checksum", 24, sound[24] ^ 1),
            ("another port", 37, 67),
            ("a wrong UDP length", 39, 7),
            ("a flipped bit", 42, b'H'),
        ] {
            let mut frame = sound.clone();
            frame[at] = value;
            assert_eq!(payload(&frame), None, "{what}");
        }
        assert_eq!(
            payload(&broadcast([2; 6], b"hello").expect("short")),
            None,
            "to a server"
        );
        for length in 0..sound.len() {
            assert_eq!(payload(&sound[..length]), None, "{length} bytes");
        }
    }

    proptest! {
        #[test]
        fn any_frame_is_read_without_harm(
            at in 0_usize..60, new in proptest::collection::vec(any::<u8>(), 1..48)
        ) {
            let mut frame = to_client(b"hello", None);
            for (place, byte) in frame.iter_mut().skip(at).zip(new) {
                *place = byte;
            }
            let _ = payload(&frame);
        }
    }
}
