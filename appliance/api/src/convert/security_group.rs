//! Security groups and their rules.

use api_types::{
    AuthorizeRules, Direction, InnerAccessPolicy, NewRule, Protocol, RevokeRules, RulePolicy,
    SecurityGroup, SecurityGroupRule,
};
use control::{
    commands::{self, RuleSelector},
    model::{self, Peer, PortRange, RuleSpec},
};

use crate::{
    extract::{parse, parse_id},
    problem::{ApiProblem, ApiResult},
};

/// Ports of protocols that have none, and every port of those that have.
const ALL_PORTS: &str = "-1/-1";

/// A group as it goes over the wire.
pub fn to_wire(group: &model::SecurityGroup) -> SecurityGroup {
    SecurityGroup {
        id: group.id.to_string(),
        name: group.name.clone(),
        description: group.description.clone(),
        vpc_id: group.vpc.to_string(),
        is_default: group.is_default,
        inner_access_policy: match group.inner_access {
            model::InnerAccessPolicy::Accept => InnerAccessPolicy::Accept,
            model::InnerAccessPolicy::Drop => InnerAccessPolicy::Drop,
        },
        rules: group.rules.iter().map(rule_to_wire).collect(),
        created_at: group.created_at.to_string(),
    }
}

/// The policy inside a group, from the wire.
pub fn inner_access(policy: InnerAccessPolicy) -> model::InnerAccessPolicy {
    match policy {
        InnerAccessPolicy::Accept => model::InnerAccessPolicy::Accept,
        InnerAccessPolicy::Drop => model::InnerAccessPolicy::Drop,
    }
}

fn no_rule() -> ApiProblem {
    ApiProblem::invalid("rules", "no rule is given").code("MissingParameter")
}

/// Rules to add, from the wire.
pub fn new_rules(request: AuthorizeRules) -> ApiResult<Vec<commands::NewRule>> {
    if request.rules.is_empty() {
        return Err(no_rule());
    }
    let rules = request.rules.into_iter().enumerate();
    rules
        .map(|(index, rule)| {
            Ok(commands::NewRule {
                spec: spec(index, &rule)?,
                description: rule.description,
            })
        })
        .collect()
}

/// Rules to take away, from the wire.
pub fn selectors(request: RevokeRules) -> ApiResult<Vec<RuleSelector>> {
    if request.rules.is_empty() && request.rule_ids.is_empty() {
        return Err(no_rule());
    }
    let specs = request
        .rules
        .iter()
        .enumerate()
        .map(|(index, rule)| spec(index, rule).map(RuleSelector::Spec));
    let ids = request
        .rule_ids
        .iter()
        .enumerate()
        .map(|(index, id)| parse_id(&format!("rule_ids[{index}]"), id).map(RuleSelector::Id));
    specs.chain(ids).collect()
}

fn rule_to_wire(rule: &model::SecurityGroupRule) -> SecurityGroupRule {
    let RuleSpec {
        direction,
        policy,
        priority,
        protocol,
        ports,
        source_ports,
        peer,
    } = rule.spec;
    let (peer_cidr, peer_group_id) = match peer {
        Peer::Cidr(cidr) => (Some(cidr.to_string()), None),
        Peer::Group(group) => (None, Some(group.to_string())),
    };
    SecurityGroupRule {
        id: rule.id.to_string(),
        direction: match direction {
            model::Direction::Ingress => Direction::Ingress,
            model::Direction::Egress => Direction::Egress,
        },
        policy: match policy {
            model::RulePolicy::Accept => RulePolicy::Accept,
            model::RulePolicy::Drop => RulePolicy::Drop,
        },
        priority,
        protocol: match protocol {
            model::Protocol::Tcp => Protocol::Tcp,
            model::Protocol::Udp => Protocol::Udp,
            model::Protocol::Icmp => Protocol::Icmp,
            model::Protocol::Icmpv6 => Protocol::Icmpv6,
            model::Protocol::Gre => Protocol::Gre,
            model::Protocol::All => Protocol::All,
        },
        port_range: ports.map_or_else(|| ALL_PORTS.into(), range_to_wire),
        source_port_range: source_ports.map(range_to_wire),
        peer_cidr,
        peer_group_id,
        description: rule.description.clone(),
        created_at: rule.created_at.to_string(),
    }
}

fn range_to_wire(range: PortRange) -> String {
    format!("{}/{}", range.first, range.last)
}

fn spec(index: usize, rule: &NewRule) -> ApiResult<RuleSpec> {
    let field = |name: &str| format!("rules[{index}].{name}");
    let peer = match (&rule.peer_cidr, &rule.peer_group_id) {
        (Some(cidr), None) => Peer::Cidr(parse(
            &field("peer_cidr"),
            cidr,
            "a range of addresses such as 10.0.0.0/24 or fd00::/64",
        )?),
        (None, Some(group)) => Peer::Group(parse_id(&field("peer_group_id"), group)?),
        (Some(_), Some(_)) => {
            return Err(ApiProblem::invalid(
                field("peer_cidr"),
                "a rule has peer_cidr or peer_group_id, not both",
            ));
        }
        (None, None) => {
            return Err(ApiProblem::invalid(
                field("peer_cidr"),
                "a rule needs peer_cidr or peer_group_id",
            )
            .next_step("for everybody, say 0.0.0.0/0"));
        }
    };
    let source_ports = match &rule.source_port_range {
        Some(range) => ports(&field("source_port_range"), range)?,
        None => None,
    };
    Ok(RuleSpec {
        direction: match rule.direction {
            Direction::Ingress => model::Direction::Ingress,
            Direction::Egress => model::Direction::Egress,
        },
        policy: match rule.policy {
            RulePolicy::Accept => model::RulePolicy::Accept,
            RulePolicy::Drop => model::RulePolicy::Drop,
        },
        priority: rule.priority,
        protocol: match rule.protocol {
            Protocol::Tcp => model::Protocol::Tcp,
            Protocol::Udp => model::Protocol::Udp,
            Protocol::Icmp => model::Protocol::Icmp,
            Protocol::Icmpv6 => model::Protocol::Icmpv6,
            Protocol::Gre => model::Protocol::Gre,
            Protocol::All => model::Protocol::All,
        },
        ports: ports(&field("port_range"), &rule.port_range)?,
        source_ports,
        peer,
    })
}

/// `FIRST/LAST`; `-1/-1` is every one.
fn ports(field: &str, text: &str) -> ApiResult<Option<PortRange>> {
    if text == ALL_PORTS {
        return Ok(None);
    }
    let expected = "a range of ports FIRST/LAST such as 22/22, or -1/-1";
    let (first, last) = text.split_once('/').unwrap_or((text, ""));
    Ok(Some(PortRange {
        first: parse(field, first, expected)?,
        last: parse(field, last, expected)?,
    }))
}
