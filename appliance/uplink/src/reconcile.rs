//! From a plan, the leases and the network as it is: what to do next. It decides everything and touches nothing.
//!
//! A round yields the steps of one stage; the next round looks again. Stages: names, devices, links, addresses, routes.

mod layer3;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::action::Action;
use crate::dhcp::{Held, Lease};
use crate::found::{Found, Kind, Link};
use crate::names::{Named, assign};
use crate::plan::{Bond, BondMode, Plan, Settings};

/// Devices with this at the start of their alias were made here; the rest tells how, so that a change is seen.
const OURS: &str = "ashlar ";

/// An interface with what it shall carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) settings: Settings,
    /// The bond it is a member of, by name.
    pub(crate) bond: Option<String>,
}

/// What to do next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) actions: Vec<Action>,
    /// Every interface of the plan that is there.
    pub(crate) targets: Vec<Target>,
    /// What the plan wants and cannot be, with the name of the interface.
    pub(crate) problems: Vec<(String, String)>,
    /// Steps that would be next if they were not given up.
    pub(crate) held_back: Vec<Action>,
}

/// What is given to every stage.
struct Look<'a> {
    plan: &'a Plan,
    found: &'a Found,
    leases: &'a BTreeMap<u32, Held>,
    now: Duration,
}

type Stage<'a> = &'a dyn Fn(&mut Round) -> Vec<Action>;

/// The next steps; none when all is as it shall be. `given_up` are steps that failed and are not to be repeated now.
pub(crate) fn next(
    plan: &Plan,
    found: &Found,
    leases: &BTreeMap<u32, Held>,
    veth: bool,
    given_up: &[Action],
    now: Duration,
) -> Round {
    let look = Look {
        plan,
        found,
        leases,
        now,
    };
    let named = assign(plan, &found.links, veth);
    let mut round = Round::default();
    let stages: [Stage; 5] = [
        &|round| look.renames(&named, round),
        &|round| look.devices(round),
        &|round| {
            round.targets = look.targets(&named, round);
            look.links(&round.targets)
        },
        &|round| look.addresses(&round.targets),
        &|round| look.routes(&round.targets),
    ];
    for stage in stages {
        let given_up = |a: &Action| given_up.iter().any(|g| g.is_again(a));
        let (held_back, actions): (Vec<_>, Vec<_>) =
            stage(&mut round).into_iter().partition(given_up);
        round.held_back.extend(held_back);
        if !actions.is_empty() {
            round.actions = actions;
            return round;
        }
    }
    round
}

impl Look<'_> {
    fn renames(&self, named: &[Named], round: &mut Round) -> Vec<Action> {
        let mut actions = Vec::new();
        // What somebody else uses, without a rule here, is not taken down for a name.
        let is = |n: &Named| {
            self.found
                .link(n.index)
                .filter(|l| n.rule.is_some() || !l.up)
                .map(|l| l.name.clone())
        };
        let wrong: Vec<(&Named, String)> = named
            .iter()
            .filter_map(|n| is(n).filter(|is| *is != n.name).map(|is| (n, is)))
            .collect();
        for (n, from) in &wrong {
            let rename = |index, from: &str, to: String| Action::Rename {
                index,
                from: from.to_owned(),
                to,
            };
            match self.found.named(&n.name) {
                None => actions.push(rename(n.index, from, n.name.clone())),
                // The holder moves out of the way first; its own name it gets in the next round.
                Some(holder) if wrong.iter().any(|(w, _)| w.index == holder.index) => {
                    actions.push(rename(
                        holder.index,
                        &holder.name,
                        format!("moving{}", holder.index),
                    ));
                }
                Some(holder) => round.problems.push((
                    from.clone(),
                    format!(
                        "its name {} is taken by another device ({:?})",
                        n.name, holder.kind
                    ),
                )),
            }
        }
        actions
    }

    /// Bonds and VLANs that are missing, and those that are no longer wanted.
    fn devices(&self, round: &mut Round) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut wanted = BTreeMap::new();
        for bond in &self.plan.bonds {
            let add = Action::AddBond {
                bond: bond.clone(),
                alias: bond_alias(bond),
            };
            wanted.insert(
                bond.name.as_str(),
                (Kind::Bond, bond_alias(bond), Some(add)),
            );
        }
        for vlan in &self.plan.vlans {
            let parent = self.found.named(&vlan.parent);
            let alias = format!(
                "{OURS}vlan {} on {}",
                vlan.id,
                parent.map_or(0, |p| p.index)
            );
            let add = parent.map(|p| Action::AddVlan {
                name: vlan.name.clone(),
                id: vlan.id,
                parent: p.index,
                alias: alias.clone(),
            });
            if parent.is_none() && !self.plan.bonds.iter().any(|b| b.name == vlan.parent) {
                let message = format!("the interface {} that carries it is not there", vlan.parent);
                round.problems.push((vlan.name.clone(), message));
            }
            wanted.insert(vlan.name.as_str(), (Kind::Vlan, alias, add));
        }
        for link in &self.found.links {
            let remove = || Action::Remove {
                index: link.index,
                name: link.name.clone(),
            };
            let ours = link.alias.as_ref().is_some_and(|a| a.starts_with(OURS));
            match wanted.remove(link.name.as_str()) {
                // One of another make, or the one that the kernel module makes by itself.
                Some((kind, alias, _)) if link.kind == kind => {
                    let other = link.alias.as_ref() != Some(&alias);
                    actions.extend(other.then(remove));
                }
                Some((kind, ..)) => {
                    let message = format!("the name of this {kind:?} is taken by another device");
                    round
                        .problems
                        .push((link.name.clone(), message.to_lowercase()));
                }
                None if ours => actions.push(remove()),
                None => {}
            }
        }
        if actions.is_empty() {
            actions.extend(wanted.into_values().filter_map(|(.., add)| add));
        }
        actions
    }

    fn targets(&self, named: &[Named], round: &mut Round) -> Vec<Target> {
        let bond_of = |name: &str| {
            let bond = self
                .plan
                .bonds
                .iter()
                .find(|b| b.members.iter().any(|m| m == name));
            bond.map(|b| b.name.clone())
        };
        let mut targets = Vec::new();
        for n in named {
            let bond = bond_of(&n.name);
            let settings = match (&bond, n.rule) {
                (Some(_), rule) => Settings {
                    mtu: rule.and_then(|r| self.plan.ethernets[r].settings.mtu),
                    ..Settings::default()
                },
                (None, Some(rule)) => self.plan.ethernets[rule].settings.clone(),
                (None, None) => continue,
            };
            // A name that could not be given must not hide the interface.
            let name = self
                .found
                .link(n.index)
                .map_or(&n.name, |l| &l.name)
                .clone();
            targets.push(Target {
                index: n.index,
                name,
                settings,
                bond,
            });
        }
        let bonds = self
            .plan
            .bonds
            .iter()
            .map(|b| (&b.name, Kind::Bond, &b.settings));
        let vlans = self
            .plan
            .vlans
            .iter()
            .map(|v| (&v.name, Kind::Vlan, &v.settings));
        for (name, kind, settings) in bonds.chain(vlans) {
            if let Some(link) = self.found.named(name).filter(|l| l.kind == kind) {
                let (name, settings) = (name.clone(), settings.clone());
                targets.push(Target {
                    index: link.index,
                    name,
                    settings,
                    bond: None,
                });
            }
        }
        for bond in &self.plan.bonds {
            for member in &bond.members {
                if !named.iter().any(|n| n.name == *member) {
                    let message = format!("its member {member} is not there");
                    round.problems.push((bond.name.clone(), message));
                }
            }
        }
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        targets
    }

    fn links(&self, targets: &[Target]) -> Vec<Action> {
        let mut actions = Vec::new();
        let loopback = self
            .found
            .links
            .iter()
            .find(|l| l.kind == Kind::Loopback && !l.up);
        actions.extend(loopback.map(up));
        // Devices before those on top of them.
        let mut ordered: Vec<(&Target, &Link)> = targets
            .iter()
            .filter_map(|t| Some((t, self.found.link(t.index)?)))
            .collect();
        ordered.sort_by_key(|(t, l)| (t.bond.is_none(), l.kind == Kind::Vlan));
        for (target, link) in ordered {
            let (index, name) = (link.index, target.name.clone());
            let bond = target
                .bond
                .as_ref()
                .and_then(|b| self.found.named(b))
                .map(|b| b.index);
            match (bond, link.controller) {
                (Some(bond), is) if is != Some(bond) => {
                    actions.push(Action::Join {
                        index,
                        name: name.clone(),
                        bond,
                    });
                }
                (None, Some(controller)) if self.is_bond(controller) => {
                    actions.push(Action::Leave {
                        index,
                        name: name.clone(),
                    });
                }
                _ => {}
            }
            let leased = self.lease(target).and_then(|l| l.mtu).map(u32::from);
            if let Some(mtu) = target
                .settings
                .mtu
                .or(leased)
                .filter(|mtu| *mtu != link.mtu)
            {
                actions.push(Action::Mtu {
                    index,
                    name: name.clone(),
                    mtu,
                });
            }
            let accept = target.settings.accept_ra;
            if link
                .accept_ra
                .is_some_and(|is| is != if accept { 2 } else { 0 })
            {
                actions.push(Action::AcceptRa {
                    name: name.clone(),
                    accept,
                });
            }
            if !link.up {
                actions.push(up(link));
            }
        }
        actions
    }

    fn is_bond(&self, index: u32) -> bool {
        self.found.link(index).is_some_and(|l| l.kind == Kind::Bond)
    }

    fn lease(&self, target: &Target) -> Option<&Lease> {
        let dynamic = target.settings.dhcp4;
        self.leases
            .get(&target.index)
            .map(|h| &h.lease)
            .filter(|_| dynamic)
    }
}

fn up(link: &Link) -> Action {
    Action::Up {
        index: link.index,
        name: link.name.clone(),
    }
}

fn bond_alias(bond: &Bond) -> String {
    let rate = if bond.lacp_fast && bond.mode == BondMode::Lacp {
        " fast"
    } else {
        ""
    };
    format!("{OURS}bond {:?} {} ms{rate}", bond.mode, bond.miimon_ms)
}

#[cfg(test)]
mod tests;
