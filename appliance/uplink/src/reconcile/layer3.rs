//! The addresses and routes of the interfaces.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::{Look, Target};
use crate::action::Action;
use crate::dhcp::Held;
use crate::found::{Address, Route};

/// Default routes of interfaces without a metric of their own cost this and more, in the order of their names.
const FIRST_METRIC: u32 = 100;
/// A leased address is given its new life when the kernel's count differs by more seconds.
const SLACK: u32 = 5;

impl Look<'_> {
    pub(super) fn addresses(&self, targets: &[Target]) -> Vec<Action> {
        let mut actions = Vec::new();
        for target in targets {
            let (index, name) = (target.index, target.name.clone());
            let fixed = target.settings.addresses.iter().map(|net| (*net, None));
            let held = self.leases.get(&index).filter(|_| target.settings.dhcp4);
            let leased = held.map(|h| (IpNet::V4(h.lease.address), seconds_left(h, self.now)));
            let wanted: BTreeMap<IpNet, Option<u32>> = leased.into_iter().chain(fixed).collect();
            let is = |a: &&Address| a.index == index;
            for address in self.found.addresses.iter().filter(is) {
                if !address.automatic && !wanted.contains_key(&address.net) {
                    actions.push(Action::RemoveAddress {
                        index,
                        name: name.clone(),
                        net: address.net,
                    });
                }
            }
            for (net, valid) in wanted {
                let there = self
                    .found
                    .addresses
                    .iter()
                    .filter(is)
                    .find(|a| a.net == net);
                let good = there.is_some_and(|a| match (a.valid, valid) {
                    (Some(is), Some(wanted)) => is.abs_diff(wanted) <= SLACK,
                    (is, wanted) => is == wanted,
                });
                if !good {
                    actions.push(Action::AddAddress {
                        index,
                        name: name.clone(),
                        net,
                        valid,
                    });
                }
            }
        }
        actions
    }

    pub(super) fn routes(&self, targets: &[Target]) -> Vec<Action> {
        // What goes, on all interfaces, before what comes: two cannot have the same cost.
        let (mut actions, mut added) = (Vec::new(), Vec::new());
        for (order, target) in (0_u32..).zip(targets) {
            let wanted = self.wanted_routes(target, FIRST_METRIC + order);
            let is: Vec<&Route> = self
                .found
                .routes
                .iter()
                .filter(|r| r.index == target.index)
                .collect();
            let name = || target.name.clone();
            for route in &is {
                if !wanted.contains(route) {
                    actions.push(Action::RemoveRoute {
                        name: name(),
                        route: (*route).clone(),
                    });
                }
            }
            for route in wanted {
                if !is.contains(&&route) {
                    let onlink = route
                        .via
                        .is_some_and(|gateway| !self.reaches(target, gateway));
                    added.push(Action::AddRoute {
                        name: name(),
                        route,
                        onlink,
                    });
                }
            }
        }
        actions.extend(added);
        actions
    }

    /// Those on the link first: gateways of others may lie behind them.
    fn wanted_routes(&self, target: &Target, metric: u32) -> Vec<Route> {
        let index = target.index;
        let settings = &target.settings;
        let metric = settings.metric.unwrap_or(metric);
        let default = |gateway: &IpAddr| {
            if gateway.is_ipv4() {
                v4_default()
            } else {
                v6_default()
            }
        };
        let fixed = settings.gateways.iter().map(|gateway| Route {
            index,
            to: default(gateway),
            via: Some(*gateway),
            metric,
            source: None,
            dhcp: false,
        });
        let further = settings.routes.iter().map(|r| Route {
            index,
            to: r.to.trunc(),
            via: r.via,
            metric: r.metric.unwrap_or(metric),
            source: None,
            dhcp: false,
        });
        let own_gateway = settings.gateways.iter().any(IpAddr::is_ipv4);
        let leased = self.lease(target).into_iter().flat_map(|lease| {
            lease.routes.iter().map(move |(to, via)| Route {
                index,
                to: IpNet::V4(*to),
                via: Some(IpAddr::V4(*via)).filter(|via| !via.is_unspecified()),
                metric,
                source: Some(IpAddr::V4(lease.address.addr())),
                dhcp: true,
            })
        });
        let leased = leased.filter(|r| !(own_gateway && r.to.prefix_len() == 0));
        let mut wanted: Vec<Route> = Vec::new();
        for route in fixed.chain(further).chain(leased) {
            if !wanted
                .iter()
                .any(|w| (w.to, w.metric) == (route.to, route.metric))
            {
                wanted.push(route);
            }
        }
        wanted.sort_by_key(|r| r.via.is_some());
        wanted
    }

    /// Whether a gateway is in one of the interface's subnets.
    fn reaches(&self, target: &Target, gateway: IpAddr) -> bool {
        let leased = self.lease(target).map(|l| IpNet::V4(l.address));
        let link_local = matches!(gateway, IpAddr::V6(g) if g.is_unicast_link_local());
        link_local
            || target
                .settings
                .addresses
                .iter()
                .chain(&leased)
                .any(|net| net.contains(&gateway))
    }
}

fn v4_default() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::default())
}

fn v6_default() -> IpNet {
    IpNet::V6(ipnet::Ipv6Net::default())
}

fn seconds_left(held: &Held, now: Duration) -> Option<u32> {
    held.lease.duration?;
    let left = held.expires().saturating_sub(now).as_secs();
    // The kernel takes zero for a mistake and all ones for ever.
    Some(
        u32::try_from(left)
            .unwrap_or(u32::MAX - 1)
            .clamp(1, u32::MAX - 1),
    )
}
