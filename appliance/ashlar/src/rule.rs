//! Security-group rules as people type them.
//!
//! ```text
//! PROTOCOL[:FIRST[/LAST]] from|to PEER [accept|drop] [priority N]
//! ```
//! `PEER` is a range of addresses (`10.0.0.0/24`), one address, a security group (`sg-…`) or `anywhere`.

use api_types::{Direction, NewRule, Protocol, RulePolicy};

/// How a rule is written, for help and errors.
pub const GRAMMAR: &str =
    "PROTOCOL[:FIRST[/LAST]] from|to CIDR|sg-ID|anywhere [accept|drop] [priority N]";

/// Reads the rules in `words` (each may hold several words, each rule begins with its protocol).
///
/// # Errors
/// Says which word is wrong and how a rule is written.
pub fn parse(direction: Direction, words: &[String]) -> Result<Vec<NewRule>, String> {
    let mut words = words
        .iter()
        .flat_map(|word| word.split_whitespace())
        .peekable();
    let mut rules = Vec::new();
    while let Some(word) = words.next() {
        let (protocol, port_range) = protocol_and_ports(word)?;
        let mut rule = NewRule {
            direction,
            policy: RulePolicy::Accept,
            priority: 1,
            protocol,
            port_range,
            source_port_range: None,
            peer_cidr: None,
            peer_group_id: None,
            description: None,
        };
        while let Some(clause) = words.next_if(|word| is_clause(word)) {
            let mut value = || {
                words
                    .next()
                    .ok_or_else(|| format!("`{clause}` at the end: a rule is {GRAMMAR}"))
            };
            match clause {
                "accept" => rule.policy = RulePolicy::Accept,
                "drop" => rule.policy = RulePolicy::Drop,
                "priority" => rule.priority = priority(value()?)?,
                "from" if direction == Direction::Egress => {
                    return Err("what goes out goes `to` somewhere, not `from`".into());
                }
                "to" if direction == Direction::Ingress => {
                    return Err("what comes in comes `from` somewhere, not `to`".into());
                }
                _ => peer(&mut rule, value()?),
            }
        }
        if rule.peer_cidr.is_none() && rule.peer_group_id.is_none() {
            let preposition = preposition(direction);
            return Err(format!(
                "`{word}` {preposition} where? Say `{word} {preposition} 10.0.0.0/24`, or `{preposition} anywhere`"
            ));
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// A rule as [`parse`] would read it.
#[must_use]
pub fn show(rule: &api_types::SecurityGroupRule) -> String {
    let ports = if rule.port_range == "-1/-1" {
        String::new()
    } else {
        format!(":{}", rule.port_range)
    };
    let peer = rule
        .peer_cidr
        .as_ref()
        .or(rule.peer_group_id.as_ref())
        .map_or("anywhere", String::as_str);
    let policy = match rule.policy {
        RulePolicy::Accept => "accept",
        RulePolicy::Drop => "drop",
    };
    format!(
        "{}{ports} {} {peer} {policy} priority {}",
        rule.protocol.as_str(),
        preposition(rule.direction),
        rule.priority
    )
}

const fn preposition(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    }
}

fn is_clause(word: &str) -> bool {
    matches!(word, "from" | "to" | "accept" | "drop" | "priority")
}

fn priority(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(priority @ 1..=100) => Ok(priority),
        _ => Err(format!("priority `{text}` is not one of 1 to 100")),
    }
}

fn peer(rule: &mut NewRule, text: &str) {
    if text.starts_with("sg-") {
        rule.peer_group_id = Some(text.into());
    } else if text == "anywhere" {
        rule.peer_cidr = Some("0.0.0.0/0".into());
    } else if text.contains('/') {
        rule.peer_cidr = Some(text.into());
    } else if text.contains(':') {
        rule.peer_cidr = Some(format!("{text}/128"));
    } else {
        rule.peer_cidr = Some(format!("{text}/32"));
    }
}

fn protocol_and_ports(word: &str) -> Result<(Protocol, String), String> {
    let (name, ports) = match word.split_once(':') {
        Some((name, ports)) => (name, Some(ports)),
        None => (word, None),
    };
    let protocol = match name {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "icmp" => Protocol::Icmp,
        "icmpv6" => Protocol::Icmpv6,
        "gre" => Protocol::Gre,
        "all" => Protocol::All,
        _ => {
            return Err(format!(
                "`{word}` is not a rule's beginning (tcp, udp, icmp, icmpv6, gre or all): a rule is {GRAMMAR}"
            ));
        }
    };
    let has_ports = matches!(protocol, Protocol::Tcp | Protocol::Udp);
    match ports {
        None if has_ports => Err(format!(
            "`{word}` needs ports: `{word}:22`, `{word}:8000/8080`, or `{word}:1/65535` for all"
        )),
        None => Ok((protocol, "-1/-1".into())),
        Some(_) if !has_ports => Err(format!("{name} has no ports: write `{name}` alone")),
        Some(ports) => {
            let (first, last) = ports.split_once(['/', '-']).unwrap_or((ports, ports));
            let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => {
                    Ok((protocol, format!("{first}/{last}")))
                }
                _ => Err(format!(
                    "`{ports}` is not a range of ports: FIRST or FIRST/LAST, each 1 to 65535"
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(direction: Direction, text: &str) -> Result<NewRule, String> {
        let words: Vec<String> = text.split(' ').map(Into::into).collect();
        let apart = parse(direction, &words)?;
        // Quoted as one word or not: the same rules.
        assert_eq!(apart, parse(direction, &[text.to_owned()])?);
        assert_eq!(apart.len(), 1, "{text}");
        Ok(apart.into_iter().next().unwrap())
    }

    #[test]
    fn rules_as_people_type_them() {
        let check = |text: &str,
                     protocol,
                     ports: &str,
                     cidr: Option<&str>,
                     group: Option<&str>,
                     policy,
                     priority| {
            let rule = one(Direction::Ingress, text).unwrap();
            assert_eq!(
                (
                    rule.protocol,
                    &*rule.port_range,
                    rule.peer_cidr.as_deref(),
                    rule.peer_group_id.as_deref(),
                    rule.policy,
                    rule.priority
                ),
                (protocol, ports, cidr, group, policy, priority),
                "{text}"
            );
        };
        use Protocol::{All, Icmp, Tcp, Udp};
        use RulePolicy::{Accept, Drop};
        check(
            "tcp:8/8 from 10.0.0.0/24",
            Tcp,
            "8/8",
            Some("10.0.0.0/24"),
            None,
            Accept,
            1,
        );
        check(
            "tcp:22 from anywhere",
            Tcp,
            "22/22",
            Some("0.0.0.0/0"),
            None,
            Accept,
            1,
        );
        check(
            "udp:5000-6000 from sg-1",
            Udp,
            "5000/6000",
            None,
            Some("sg-1"),
            Accept,
            1,
        );
        check(
            "icmp from 10.1.2.3 drop priority 9",
            Icmp,
            "-1/-1",
            Some("10.1.2.3/32"),
            None,
            Drop,
            9,
        );
        check(
            "all drop from fd00::1",
            All,
            "-1/-1",
            Some("fd00::1/128"),
            None,
            Drop,
            1,
        );
    }

    #[test]
    fn several_rules_in_one_go() {
        let words = [
            "tcp:22 from anywhere".into(),
            "icmp".into(),
            "from".into(),
            "10.0.0.0/8".into(),
        ];
        assert_eq!(parse(Direction::Ingress, &words).unwrap().len(), 2);
    }

    #[test]
    fn mistakes_are_named() {
        use Direction::{Egress, Ingress};
        for (direction, text, says) in [
            (Ingress, "ssh from anywhere", "`ssh`"),
            (Ingress, "tcp from anywhere", "needs ports"),
            (Ingress, "icmp:8 from anywhere", "no ports"),
            (Ingress, "tcp:0 from anywhere", "`0`"),
            (Ingress, "tcp:9/8 from anywhere", "`9/8`"),
            (Ingress, "tcp:65536 from anywhere", "65535"),
            (Ingress, "tcp:22", "from where"),
            (Ingress, "tcp:22 from", "at the end"),
            (Ingress, "tcp:22 to anywhere", "comes `from`"),
            (Egress, "tcp:22 from anywhere", "goes `to`"),
            (Ingress, "tcp:22 from anywhere priority 0", "1 to 100"),
            (Ingress, "tcp:22 from anywhere maybe", "`maybe`"),
        ] {
            let error = one(direction, text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
