//! Security groups: what a rule may say, what a set of groups means for a packet, and the ruleset that makes a kernel
//! act so.
//!
//! ```text
//! RuleSpec ─▶ Group ─▶ VpcPolicy ─┬─ compile ──▶ Ruleset   (plain data; the nft crate puts it into force)
//!                                 └─ evaluate ─▶ Decision  (the meaning, written without looking at compile)
//! ```
//!
//! The meaning follows ECS: the rules of all groups of an interface are merged and ordered by priority; at equal
//! priority, drop wins. Basic groups deny inbound and allow outbound traffic by default and let their members reach
//! each other; advanced groups deny both ways. Connections are followed: what belongs to an accepted one passes.
//!
//! No I/O; knows nothing of nftables' syntax, of namespaces or of instances.

#![forbid(unsafe_code)]

mod compile;
mod evaluate;
mod group;
mod policy;
mod rule;
mod ruleset;

pub use compile::compile;
pub use evaluate::{ConnectionState, Decision, Packet, evaluate};
pub use group::{Group, GroupError, GroupKind, InnerAccessPolicy, MAX_RULES_PER_GROUP, RuleChange};
pub use policy::{
    Interface, MAX_ADVANCED_GROUP_ADDRESSES, MAX_BASIC_GROUP_ADDRESSES, MAX_GROUPS_PER_INTERFACE,
    MAX_RULES_PER_INTERFACE, PolicyError, VpcPolicy,
};
pub use rule::{Direction, Peer, PortRange, Protocol, RuleError, RulePolicy, RuleSpec};
pub use ruleset::{
    BaseChain, Chain, CtState, Element, Field, Hook, Match, Rule, Ruleset, Set, SetKey, Verdict,
    VerdictMap,
};
