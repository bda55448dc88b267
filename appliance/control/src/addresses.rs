//! Addresses: which ranges may be, which address comes next, and hardware addresses made from ids.
//!
//! In a vswitch the first address and the last three are the system's, as in ECS: of 192.168.1.0/24 .0, .253 (the gateway),
//! .254 and .255.

use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::Ipv4Addr};
use types::{InterfaceId, MacAddress, Sha256Digest};

/// The ranges a VPC lies in (RFC 1918).
const PRIVATE: [(Ipv4Addr, u8); 3] = [
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// The vendor's prefix of hardware addresses, as ECS's instances have it.
const MAC_PREFIX: [u8; 3] = [0x00, 0x16, 0x3e];

/// What is wrong with a VPC's range, if anything.
pub(crate) fn vpc_fault(cidr: Ipv4Net) -> Option<String> {
    if cidr != cidr.trunc() {
        return Some(format!(
            "{cidr} has host bits set: the network is {}",
            cidr.trunc()
        ));
    }
    let private = PRIVATE.iter().any(|(address, prefix)| {
        Ipv4Net::new(*address, *prefix).is_ok_and(|range| range.contains(&cidr))
    });
    if !private || cidr.prefix_len() > 28 {
        return Some(format!(
            "{cidr} is not 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or a part of one, /28 at the smallest"
        ));
    }
    None
}

/// What is wrong with a vswitch's range in a VPC beside others, if anything.
pub(crate) fn vswitch_fault(cidr: Ipv4Net, vpc: Ipv4Net, others: &[Ipv4Net]) -> Option<String> {
    if cidr != cidr.trunc() {
        return Some(format!(
            "{cidr} has host bits set: the network is {}",
            cidr.trunc()
        ));
    }
    if !(16..=29).contains(&cidr.prefix_len()) {
        return Some(format!("{cidr} is not a /16 to /29"));
    }
    if !vpc.contains(&cidr) {
        return Some(format!("{cidr} is not within the VPC's {vpc}"));
    }
    let overlap = others
        .iter()
        .find(|other| other.contains(&cidr) || cidr.contains(*other));
    overlap.map(|other| format!("{cidr} overlaps the vswitch {other}"))
}

/// The gateway's address: the last but two.
pub(crate) fn gateway(cidr: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from_bits(cidr.broadcast().to_bits().saturating_sub(2))
}

/// The first and last address an instance may have.
fn usable(cidr: Ipv4Net) -> (u32, u32) {
    (
        cidr.network().to_bits() + 1,
        cidr.broadcast().to_bits().saturating_sub(3),
    )
}

/// How many addresses instances may have.
pub(crate) fn capacity(cidr: Ipv4Net) -> u64 {
    let (first, last) = usable(cidr);
    u64::from(last.saturating_sub(first)) + 1
}

/// What is wrong with that address for an instance, if anything.
pub(crate) fn address_fault(
    address: Ipv4Addr,
    cidr: Ipv4Net,
    taken: &BTreeSet<Ipv4Addr>,
) -> Option<String> {
    let (first, last) = usable(cidr);
    if !(first..=last).contains(&address.to_bits()) {
        let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last));
        return Some(format!(
            "{address} is not one of the vswitch's addresses for instances, {first} to {last}"
        ));
    }
    taken
        .contains(&address)
        .then(|| format!("{address} is taken"))
}

/// The lowest free address.
pub(crate) fn next_address(cidr: Ipv4Net, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let (first, last) = usable(cidr);
    // Bounded by the number of addresses taken: one more candidate than those is always enough.
    (first..=last)
        .map(Ipv4Addr::from_bits)
        .find(|address| !taken.contains(address))
}

/// The hardware address of an interface: always the same for an id, unless that one is taken in its VPC.
pub(crate) fn mac_of(id: InterfaceId, taken: &BTreeSet<MacAddress>) -> MacAddress {
    let [a, b, c] = MAC_PREFIX;
    let mut attempt = 0_u32;
    loop {
        let digest = Sha256Digest::of(format!("{id} {attempt}").as_bytes());
        let [d, e, f, ..] = *digest.bytes();
        let mac = MacAddress::new([a, b, c, d, e, f]);
        // A VPC has far fewer interfaces than there are attempts: this ends.
        if !taken.contains(&mac) || attempt == u32::MAX {
            return mac;
        }
        attempt += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn vpcs_lie_in_private_ranges() {
        for (cidr, good) in [
            ("10.0.0.0/8", true),
            ("172.16.0.0/12", true),
            ("192.168.0.0/16", true),
            ("192.168.16.16/28", true),
            ("192.168.16.16/29", false),
            ("172.32.0.0/16", false),
            ("10.0.0.1/8", false),
            ("8.8.8.0/24", false),
            ("0.0.0.0/0", false),
        ] {
            assert_eq!(vpc_fault(net(cidr)).is_none(), good, "{cidr}");
        }
    }

    #[test]
    fn vswitches_lie_in_their_vpc_side_by_side() {
        let others = [net("10.0.1.0/24")];
        for (cidr, part) in [
            ("10.0.2.0/24", None),
            ("10.0.2.0/29", None),
            ("10.0.2.0/30", Some("/16 to /29")),
            ("10.0.1.128/25", Some("overlaps")),
            ("10.0.0.0/16", Some("overlaps")),
            ("10.1.0.0/24", Some("not within")),
            ("10.0.2.1/24", Some("host bits")),
        ] {
            let fault = vswitch_fault(net(cidr), net("10.0.0.0/16"), &others);
            match part {
                Some(part) => assert!(
                    fault.as_ref().is_some_and(|fault| fault.contains(part)),
                    "{cidr}: {fault:?}"
                ),
                None => assert_eq!(fault, None, "{cidr}"),
            }
        }
    }

    #[test]
    fn a_vswitch_gives_out_every_address_but_the_systems() {
        let cidr = net("192.168.1.8/29");
        let mut taken = BTreeSet::new();
        while let Some(address) = next_address(cidr, &taken) {
            assert_eq!(address_fault(address, cidr, &taken), None);
            assert!(taken.insert(address));
            assert!(
                address_fault(address, cidr, &taken).is_some_and(|fault| fault.contains("taken"))
            );
        }
        let expected: BTreeSet<Ipv4Addr> = (9..=12)
            .map(|last| Ipv4Addr::new(192, 168, 1, last))
            .collect();
        assert_eq!(taken, expected);
        assert_eq!(capacity(cidr), 4);
        assert_eq!(
            gateway(net("192.168.1.0/24")),
            Ipv4Addr::new(192, 168, 1, 253)
        );
        assert_eq!(capacity(net("192.168.1.0/24")), 252);
        for last in [8, 13, 14, 15, 16] {
            let address = Ipv4Addr::new(192, 168, 1, last);
            assert!(
                address_fault(address, cidr, &BTreeSet::new()).is_some(),
                "{address}"
            );
        }
    }

    #[test]
    fn a_mac_follows_from_the_id() {
        let id = InterfaceId::generate(7);
        let first = mac_of(id, &BTreeSet::new());
        assert_eq!(first, mac_of(id, &BTreeSet::new()));
        assert!(first.to_string().starts_with("00:16:3e:"));
        assert_ne!(first, mac_of(id, &BTreeSet::from([first])));
    }
}
