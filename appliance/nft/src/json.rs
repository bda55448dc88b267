//! Rulesets in the JSON of libnftables (libnftables-json(5)).

use std::collections::BTreeMap;

use ipnet::IpNet;
use security_group::{
    BaseChain, CtState, Element, Field, Hook, Match, PortRange, Rule, Set, SetKey, Verdict,
};
use serde_json::{Value, json};

pub(crate) const FAMILY: &str = "inet";

pub(crate) fn transaction(commands: Vec<Value>) -> String {
    json!({ "nftables": commands }).to_string()
}

pub(crate) fn delete_table(table: &str) -> String {
    transaction(vec![
        json!({ "delete": { "table": { "family": FAMILY, "name": table } } }),
    ])
}

/// The fields that make a chain a base chain, as the tool also lists them.
pub(crate) fn base(base: &BaseChain) -> Value {
    let hook = match base.hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
    };
    let policy = if base.drops { "drop" } else { "accept" };
    json!({ "type": "filter", "hook": hook, "prio": base.priority, "policy": policy })
}

pub(crate) fn set_type(key: SetKey) -> Value {
    match key {
        SetKey::Device => json!("ifname"),
        SetKey::Ipv4 => json!("ipv4_addr"),
        SetKey::Ipv6 => json!("ipv6_addr"),
        SetKey::DeviceMac => json!(["ifname", "ether_addr"]),
        SetKey::DeviceMacIpv4 => json!(["ifname", "ether_addr", "ipv4_addr"]),
        SetKey::DeviceMacIpv6 => json!(["ifname", "ether_addr", "ipv6_addr"]),
    }
}

pub(crate) fn element(element: &Element) -> Value {
    match element {
        Element::Device(device) => json!(device),
        Element::Address(address) => json!(address.to_string()),
        Element::DeviceMac(device, mac) => json!({ "concat": [device, mac.to_string()] }),
        Element::Source(device, mac, address) => {
            json!({ "concat": [device, mac.to_string(), address.to_string()] })
        }
    }
}

/// The expressions of a rule that may look into these sets.
pub(crate) fn rule(rule: &Rule, sets: &BTreeMap<String, Set>) -> Value {
    let ipv6 = is_ipv6(&rule.matches, sets);
    let mut expressions = Vec::new();
    let mut protocol = None;
    for condition in &rule.matches {
        if let Match::Protocol(number) = condition {
            protocol = Some(*number);
        }
        expressions.push(self::condition(condition, ipv6, protocol));
    }
    expressions.push(verdict(&rule.verdict));
    Value::Array(expressions)
}

pub(crate) fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accept => json!({ "accept": null }),
        Verdict::Drop => json!({ "drop": null }),
        Verdict::Return => json!({ "return": null }),
        Verdict::Jump(chain) => json!({ "jump": { "target": chain } }),
        Verdict::ByDevice { field, map } => {
            json!({ "vmap": { "key": self::field(*field, false), "data": format!("@{map}") } })
        }
    }
}

/// Which header the addresses of a rule are in.
fn is_ipv6(matches: &[Match], sets: &BTreeMap<String, Set>) -> bool {
    matches.iter().any(|condition| match condition {
        Match::InSet { set, .. } => sets
            .get(set)
            .is_some_and(|s| matches!(s.key, SetKey::Ipv6 | SetKey::DeviceMacIpv6)),
        Match::Ipv6(ipv6) => *ipv6,
        Match::Address { nets, .. } => matches!(nets.first(), Some(IpNet::V6(_))),
        _ => false,
    })
}

fn condition(condition: &Match, ipv6: bool, protocol: Option<u8>) -> Value {
    match condition {
        Match::CtState(states) => {
            let names: Vec<&str> = states
                .iter()
                .map(|state| match state {
                    CtState::Established => "established",
                    CtState::Related => "related",
                    CtState::Invalid => "invalid",
                })
                .collect();
            equal("in", json!({ "ct": { "key": "state" } }), json!(names))
        }
        Match::InSet {
            field,
            set,
            inverted,
        } => {
            let op = if *inverted { "!=" } else { "==" };
            equal(op, self::field(*field, ipv6), json!(format!("@{set}")))
        }
        Match::Ipv6(ipv6) => equal(
            "==",
            json!({ "meta": { "key": "nfproto" } }),
            json!(if *ipv6 { "ipv6" } else { "ipv4" }),
        ),
        Match::Address { field, nets } => {
            let nets: Vec<Value> = nets
                .iter()
                .map(|net| json!({ "prefix": { "addr": net.network().to_string(), "len": net.prefix_len() } }))
                .collect();
            equal("==", self::field(*field, ipv6), json!({ "set": nets }))
        }
        Match::Protocol(number) => {
            equal("==", json!({ "meta": { "key": "l4proto" } }), json!(number))
        }
        Match::DestinationPorts(ranges) => ports("dport", ranges, protocol),
        Match::SourcePorts(ranges) => ports("sport", ranges, protocol),
    }
}

fn ports(field: &str, ranges: &[PortRange], protocol: Option<u8>) -> Value {
    let header = if protocol == Some(17) { "udp" } else { "tcp" };
    let ranges: Vec<Value> = ranges
        .iter()
        .map(|r| {
            if r.first == r.last {
                json!(r.first)
            } else {
                json!({ "range": [r.first, r.last] })
            }
        })
        .collect();
    equal(
        "==",
        json!({ "payload": { "protocol": header, "field": field } }),
        json!({ "set": ranges }),
    )
}

fn field(field: Field, ipv6: bool) -> Value {
    let ip = if ipv6 { "ip6" } else { "ip" };
    let in_device = json!({ "meta": { "key": "iifname" } });
    let mac = json!({ "payload": { "protocol": "ether", "field": "saddr" } });
    let source = json!({ "payload": { "protocol": ip, "field": "saddr" } });
    match field {
        Field::InDevice => in_device,
        Field::OutDevice => json!({ "meta": { "key": "oifname" } }),
        Field::Source => source,
        Field::Destination => json!({ "payload": { "protocol": ip, "field": "daddr" } }),
        Field::InDeviceMac => json!({ "concat": [in_device, mac] }),
        Field::InDeviceMacSource => json!({ "concat": [in_device, mac, source] }),
    }
}

fn equal(op: &str, left: Value, right: Value) -> Value {
    json!({ "match": { "op": op, "left": left, "right": right } })
}
