//! Rules as the kernel's expressions: little programs on registers (linux/netfilter/nf_tables.h).

use std::net::IpAddr;

use ipnet::IpNet;
use security_group::{CtState, Element, Field, Match, PortRange, Rule, SetKey, Verdict};

use crate::wire::Attributes;

/// `NFT_REG_VERDICT`, `NFT_REG_1` (which is `NFT_REG32_00`–`03`), `NFT_REG32_04` and `NFT_REG32_06`.
const VERDICT_REGISTER: u32 = 0;
const FIRST: u32 = 1;
const AFTER_DEVICE: u32 = 12;
const AFTER_MAC: u32 = 14;
/// Attributes: `NFTA_LIST_ELEM`, `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
pub(crate) const LIST_ELEMENT: u16 = 1;
pub(crate) const DATA_VALUE: u16 = 1;
pub(crate) const DATA_VERDICT: u16 = 2;
/// Bytes of a device name in a register or key (`IFNAMSIZ`).
const DEVICE_BYTES: usize = 16;

/// What a set's keys are: nft's number for the type (for its lists), and their length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyType {
    pub(crate) kind: u32,
    pub(crate) length: u32,
}

/// nft's types: ipv4_addr, ipv6_addr, ether_addr, inet_service, ifname; a concatenation has 6 bits for each.
const IPV4: KeyType = KeyType { kind: 7, length: 4 };
const IPV6: KeyType = KeyType {
    kind: 8,
    length: 16,
};
const ETHER: u32 = 9;
const PORT: KeyType = KeyType {
    kind: 13,
    length: 2,
};
pub(crate) const DEVICE: KeyType = KeyType {
    kind: 41,
    length: 16,
};

pub(crate) fn key_type(key: SetKey) -> KeyType {
    let device_mac = DEVICE.kind << 6 | ETHER;
    match key {
        SetKey::Device => DEVICE,
        SetKey::Ipv4 => IPV4,
        SetKey::Ipv6 => IPV6,
        SetKey::DeviceMac => KeyType {
            kind: device_mac,
            length: 24,
        },
        SetKey::DeviceMacIpv4 => KeyType {
            kind: device_mac << 6 | IPV4.kind,
            length: 28,
        },
        SetKey::DeviceMacIpv6 => KeyType {
            kind: device_mac << 6 | IPV6.kind,
            length: 40,
        },
    }
}

/// An element as the bytes of a key; the parts of a concatenation fill whole 32-bit registers.
pub(crate) fn key(element: &Element) -> Vec<u8> {
    let mac_bytes = |mac: &types::MacAddress| [&mac.octets()[..], &[0; 2]].concat();
    match element {
        Element::Device(device) => device_key(device),
        Element::Address(address) => address_bytes(*address),
        Element::DeviceMac(device, mac) => [device_key(device), mac_bytes(mac)].concat(),
        Element::Source(device, mac, address) => {
            [device_key(device), mac_bytes(mac), address_bytes(*address)].concat()
        }
    }
}

pub(crate) fn device_key(device: &str) -> Vec<u8> {
    let mut bytes = device.as_bytes().to_vec();
    bytes.resize(DEVICE_BYTES, 0);
    bytes
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// The kernel's code of a verdict and the chain it leads to; `None` for [`Verdict::ByDevice`], which is a lookup.
pub(crate) fn verdict_code(verdict: &Verdict) -> Option<(i32, Option<&str>)> {
    match verdict {
        Verdict::Drop => Some((0, None)),
        Verdict::Accept | Verdict::AcceptUntracked => Some((1, None)),
        Verdict::Jump(chain) => Some((-3, Some(chain))),
        Verdict::Return => Some((-5, None)),
        Verdict::ByDevice { .. } => None,
    }
}

/// `NFTA_VERDICT_CODE`, `NFTA_VERDICT_CHAIN`.
pub(crate) fn verdict_data(code: i32, chain: Option<&str>) -> Attributes {
    let mut verdict = Attributes::default().number(1, code.cast_unsigned());
    if let Some(chain) = chain {
        verdict = verdict.text(2, chain);
    }
    Attributes::default().nested(DATA_VERDICT, &verdict)
}

/// A list of ranges in a rule, which the kernel keeps as a set without a name of its own.
#[derive(Debug)]
pub(crate) struct Ranges {
    pub(crate) key: KeyType,
    /// First key, and the key after the last unless that is the end of all keys; sorted, disjoint, not adjacent.
    pub(crate) ranges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

/// Writes the expressions of a rule. `ipv6` says of which family a named set is; `ranges` takes a list and gives the
/// transaction's number for it.
pub(crate) struct Writer<'a> {
    pub(crate) is_ipv6: &'a dyn Fn(&str) -> bool,
    pub(crate) ranges: &'a mut dyn FnMut(Ranges) -> u32,
    list: Attributes,
    /// The family that an expression so far has made sure of.
    family: Option<bool>,
}

/// The name under which a set without a name of its own is made and looked up in one transaction.
pub(crate) const ANONYMOUS: &str = "__set%d";

impl<'a> Writer<'a> {
    pub(crate) fn write(
        rule: &Rule,
        is_ipv6: &'a dyn Fn(&str) -> bool,
        ranges: &'a mut dyn FnMut(Ranges) -> u32,
    ) -> Attributes {
        let mut writer = Self {
            is_ipv6,
            ranges,
            list: Attributes::default(),
            family: None,
        };
        for condition in &rule.matches {
            writer.condition(condition);
        }
        writer.verdict(&rule.verdict);
        writer.list
    }

    fn condition(&mut self, condition: &Match) {
        match condition {
            Match::CtState(states) => self.ct_state(states),
            Match::InSet {
                field,
                set,
                inverted,
            } => {
                let ipv6 = (self.is_ipv6)(set);
                self.load(*field, ipv6);
                self.lookup(set, None, false, *inverted);
            }
            Match::Ipv6(ipv6) => self.family(*ipv6),
            Match::Address { field, nets } => {
                let ipv6 = matches!(nets.first(), Some(IpNet::V6(_)));
                self.load(*field, ipv6);
                let key = if ipv6 { IPV6 } else { IPV4 };
                let id = (self.ranges)(Ranges {
                    key,
                    ranges: net_ranges(nets),
                });
                self.lookup(ANONYMOUS, Some(id), false, false);
            }
            Match::Protocol(number) => {
                self.meta(16, FIRST);
                self.equal(&[*number]);
            }
            Match::DestinationPorts(ranges) => self.ports(2, ranges),
            Match::SourcePorts(ranges) => self.ports(0, ranges),
        }
    }

    fn verdict(&mut self, verdict: &Verdict) {
        if *verdict == Verdict::AcceptUntracked {
            self.push("notrack", &Attributes::default());
        }
        match (verdict, verdict_code(verdict)) {
            (Verdict::ByDevice { field, map }, _) => {
                self.load(*field, false);
                self.lookup(map, None, true, false);
            }
            (_, Some((code, chain))) => {
                let data = verdict_data(code, chain);
                self.push(
                    "immediate",
                    &Attributes::default()
                        .number(1, VERDICT_REGISTER)
                        .nested(2, &data),
                );
            }
            (_, None) => {}
        }
    }

    fn load(&mut self, field: Field, ipv6: bool) {
        // Offsets of source and destination in the two IP headers.
        let (source, destination, length) = if ipv6 { (8, 24, 16) } else { (12, 16, 4) };
        match field {
            Field::InDevice => self.meta(6, FIRST),
            Field::OutDevice => self.meta(7, FIRST),
            Field::Source | Field::Destination => {
                self.family(ipv6);
                let offset = if field == Field::Source {
                    source
                } else {
                    destination
                };
                self.payload(1, offset, length, FIRST);
            }
            Field::InDeviceMac => {
                self.meta(6, FIRST);
                self.payload(0, 6, 6, AFTER_DEVICE);
            }
            Field::InDeviceMacSource => {
                self.family(ipv6);
                self.meta(6, FIRST);
                self.payload(0, 6, 6, AFTER_DEVICE);
                self.payload(1, source, length, AFTER_MAC);
            }
        }
    }

    /// `NFT_META_NFPROTO`; once is enough.
    fn family(&mut self, ipv6: bool) {
        if self.family != Some(ipv6) {
            self.meta(15, FIRST);
            self.equal(&[if ipv6 { 10 } else { 2 }]);
            self.family = Some(ipv6);
        }
    }

    /// The state is a mask in the host's byte order, one bit per state.
    fn ct_state(&mut self, states: &[CtState]) {
        let mask: u32 = states
            .iter()
            .map(|state| match state {
                CtState::Invalid => 1,
                CtState::Established => 2,
                CtState::Related => 4,
            })
            .sum();
        self.push("ct", &Attributes::default().number(1, FIRST).number(2, 0));
        let value = |bytes: [u8; 4]| Attributes::default().bytes(DATA_VALUE, &bytes);
        let bitwise = Attributes::default()
            .number(1, FIRST)
            .number(2, FIRST)
            .number(3, 4)
            .nested(4, &value(mask.to_ne_bytes()))
            .nested(5, &value([0; 4]));
        self.push("bitwise", &bitwise);
        self.compare(1, &[0; 4]);
    }

    fn ports(&mut self, offset: u32, ranges: &[PortRange]) {
        self.payload(2, offset, 2, FIRST);
        if let [PortRange { first, last }] = ranges {
            if first == last {
                self.equal(&first.to_be_bytes());
            } else {
                // `NFT_CMP_GTE`, `NFT_CMP_LTE`.
                self.compare(5, &first.to_be_bytes());
                self.compare(3, &last.to_be_bytes());
            }
            return;
        }
        let after = |port: u16| port.checked_add(1).map(|p| p.to_be_bytes().to_vec());
        let ranges = ranges
            .iter()
            .map(|r| (r.first.to_be_bytes().to_vec(), after(r.last)))
            .collect();
        let id = (self.ranges)(Ranges { key: PORT, ranges });
        self.lookup(ANONYMOUS, Some(id), false, false);
    }

    fn meta(&mut self, key: u32, register: u32) {
        self.push(
            "meta",
            &Attributes::default().number(1, register).number(2, key),
        );
    }

    /// `base`: 0 link layer, 1 network, 2 transport header.
    fn payload(&mut self, base: u32, offset: u32, length: u32, register: u32) {
        let payload = Attributes::default()
            .number(1, register)
            .number(2, base)
            .number(3, offset)
            .number(4, length);
        self.push("payload", &payload);
    }

    fn equal(&mut self, value: &[u8]) {
        self.compare(0, value);
    }

    fn compare(&mut self, operator: u32, value: &[u8]) {
        let data = Attributes::default().bytes(DATA_VALUE, value);
        self.push(
            "cmp",
            &Attributes::default()
                .number(1, FIRST)
                .number(2, operator)
                .nested(3, &data),
        );
    }

    fn lookup(&mut self, set: &str, id: Option<u32>, is_map: bool, inverted: bool) {
        let mut lookup = Attributes::default().text(1, set).number(2, FIRST);
        if is_map {
            lookup = lookup.number(3, VERDICT_REGISTER);
        }
        if let Some(id) = id {
            lookup = lookup.number(4, id);
        }
        if inverted {
            lookup = lookup.number(5, 1);
        }
        self.push("lookup", &lookup);
    }

    /// `NFTA_EXPR_NAME`, `NFTA_EXPR_DATA`.
    fn push(&mut self, name: &str, data: &Attributes) {
        let expression = Attributes::default().text(1, name).nested(2, data);
        self.list = std::mem::take(&mut self.list).nested(LIST_ELEMENT, &expression);
    }
}

/// Sorted, disjoint networks as ranges, adjacent ones joined.
fn net_ranges(nets: &[IpNet]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut ranges: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::new();
    for net in nets {
        let (first, after) = (
            address_bytes(net.network()),
            increment(address_bytes(net.broadcast())),
        );
        match ranges.last_mut() {
            Some((_, end)) if end.as_ref() == Some(&first) => *end = after,
            _ => ranges.push((first, after)),
        }
    }
    ranges
}

/// The next number of the same length, big-endian; `None` after the last.
fn increment(mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    for byte in bytes.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_become_ranges_with_adjacent_ones_joined() {
        let nets = |texts: &[&str]| {
            texts
                .iter()
                .map(|t| t.parse().expect("a net"))
                .collect::<Vec<IpNet>>()
        };
        let of = |texts: &[&str]| net_ranges(&nets(texts));
        assert_eq!(
            of(&["10.0.1.0/24", "10.0.2.0/23", "192.168.0.0/16"]),
            [
                (vec![10, 0, 1, 0], Some(vec![10, 0, 4, 0])),
                (vec![192, 168, 0, 0], Some(vec![192, 169, 0, 0]))
            ]
        );
        assert_eq!(of(&["240.0.0.0/4"]), [(vec![240, 0, 0, 0], None)]);
        assert_eq!(of(&["ff00::/8"])[0].1, None);
    }
}
