//! The task that holds the network to its plan.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use crate::dhcp::{Client, Event, Held, Identity, Lost, Phase};
use crate::failures::Failures;
use crate::found::{Address, Found};
use crate::netlink::{Netlink, Watcher};
use crate::plan::Plan;
use crate::reconcile::{Round, Target, next};
use crate::status::{Interface, State, Status};
use crate::{Error, resolver};

/// Changes come in bursts; so long the first waits for the others.
const SETTLE: Duration = Duration::from_millis(30);
/// All is looked at this often without a reason.
const INTERVAL: Duration = Duration::from_secs(60);
/// The pause after a plan that went in circles.
const RESTLESS: Duration = Duration::from_secs(5);
/// A plan is carried out in five stages, some of them in two steps; more rounds would go in circles.
const ROUNDS: usize = 24;

/// Where things are, other than the plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the list of name servers is written; `None` writes none.
    pub resolv_conf: Option<PathBuf>,
    /// Addresses that interfaces had before, by hardware address: they are asked for again first.
    pub remembered: Vec<([u8; 6], Ipv4Addr)>,
    /// Counts veth pairs as Ethernet interfaces, as in containers and tests.
    pub veth: bool,
    /// Where sysfs is.
    pub sysfs: PathBuf,
    /// Where procfs is.
    pub procfs: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            resolv_conf: Some("/run/ashlar/resolv.conf".into()),
            remembered: Vec::new(),
            veth: false,
            sysfs: "/sys".into(),
            procfs: "/proc".into(),
        }
    }
}

/// The host's network.
#[derive(Debug)]
pub struct Uplink;

impl Uplink {
    /// Starts carrying out a plan in the network namespace of the calling thread. Must be called in a tokio runtime whose
    /// threads are in that namespace too. Kernel modules (`bonding`, `8021q`) are loaded by the caller before.
    ///
    /// # Errors
    /// When netlink sockets cannot be opened. Everything later is in the status.
    pub fn start(plan: Plan, options: Options) -> Result<Handle, Error> {
        let netlink = Netlink::open(&options.sysfs, &options.procfs)?;
        let watcher = Watcher::open()?;
        let (status, watch) = watch::channel(Status::default());
        let (plans, commands) = mpsc::channel(4);
        let (events, heard) = mpsc::channel(64);
        let keeper = Keeper {
            plan,
            options,
            netlink,
            start: Instant::now(),
            clients: BTreeMap::new(),
            events,
            status,
            failures: Failures::default(),
            said: Vec::new(),
        };
        let task = tokio::spawn(keeper.run(watcher, commands, heard));
        Ok(Handle {
            status: watch,
            plans,
            task,
        })
    }
}

/// To talk to the running task. Dropping it ends the task, and leaves the network as it is.
#[derive(Debug)]
pub struct Handle {
    status: watch::Receiver<Status>,
    plans: mpsc::Sender<Option<Plan>>,
    task: JoinHandle<()>,
}

impl Handle {
    /// How the network is, now and later.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Carries out another plan instead.
    ///
    /// # Errors
    /// When the task has ended.
    pub async fn reapply(&self, plan: Plan) -> Result<(), Error> {
        self.plans.send(Some(plan)).await.map_err(|_| Error::Ended)
    }

    /// Waits until the host is reachable, but not longer than this; the last status in any case.
    pub async fn reachable(&self, within: Duration) -> Status {
        let mut status = self.status.clone();
        let _ = timeout(within, status.wait_for(Status::is_reachable)).await;
        status.borrow().clone()
    }

    /// Ends the task. Interfaces keep their addresses, leased ones until their leases end.
    pub async fn shutdown(self) {
        let _ = self.plans.send(None).await;
        let _ = self.task.await;
    }
}

/// A DHCP client and what it last told.
struct Leasing {
    device: String,
    mac: [u8; 6],
    client: Client,
    phase: Phase,
    tries: u32,
    held: Option<Held>,
    lost: Option<String>,
}

struct Keeper {
    plan: Plan,
    options: Options,
    netlink: Netlink,
    start: Instant,
    /// By the interface's index.
    clients: BTreeMap<u32, Leasing>,
    events: mpsc::Sender<(u32, Event)>,
    status: watch::Sender<Status>,
    failures: Failures,
    /// Problems that the log has already.
    said: Vec<String>,
}

impl Keeper {
    async fn run(
        mut self,
        mut watcher: Watcher,
        mut commands: mpsc::Receiver<Option<Plan>>,
        mut heard: mpsc::Receiver<(u32, Event)>,
    ) {
        loop {
            if !self.apply().await {
                sleep(RESTLESS).await;
            }
            let due = self
                .failures
                .due()
                .map_or(INTERVAL, |due| due.saturating_sub(self.start.elapsed()));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Some(plan)) => (self.plan, self.failures) = (plan, Failures::default()),
                    Some(None) | None => return,
                },
                event = heard.recv() => if let Some((index, event)) = event {
                    self.hear(index, event);
                },
                () = watcher.changed() => sleep(SETTLE).await,
                () = sleep(due.min(INTERVAL)) => {}
            }
            // What came meanwhile is carried out together.
            while let Ok((index, event)) = heard.try_recv() {
                self.hear(index, event);
            }
        }
    }

    fn hear(&mut self, index: u32, event: Event) {
        let Some(leasing) = self.clients.get_mut(&index) else {
            return;
        };
        let device = &leasing.device;
        match event {
            Event::Phase { phase, tries } => (leasing.phase, leasing.tries) = (phase, tries),
            Event::Bind(held) => {
                if leasing.held.as_ref().map(|h| &h.lease) != Some(&held.lease) {
                    info!(device, address = %held.lease.address, server = %held.lease.server, "leased an address");
                }
                // A client that is started again, under another name, asks for it first.
                let remembered = &mut self.options.remembered;
                remembered.retain(|(mac, _)| *mac != leasing.mac);
                remembered.push((leasing.mac, held.lease.address.addr()));
                (leasing.held, leasing.lost) = (Some(held), None);
            }
            Event::Unbind(lost) => {
                let why = match lost {
                    Lost::Expired => "its lease expired and no server extended it".to_owned(),
                    Lost::Refused(None) => "the DHCP server refused the address it had".to_owned(),
                    Lost::Refused(Some(text)) => {
                        format!("the DHCP server refused the address it had: {text}")
                    }
                };
                warn!(device, "lost its address: {why}");
                (leasing.held, leasing.lost) = (None, Some(why));
            }
            Event::Broken(e) => {
                warn!(device, "the DHCP client cannot use the interface: {e}");
                leasing.lost = Some(format!("the DHCP client cannot use the interface: {e}"));
            }
        }
    }

    /// Brings the network to the plan as far as it goes now, starts and ends DHCP clients, and says how it is. Whether it came to
    /// rest.
    async fn apply(&mut self) -> bool {
        for _ in 0..ROUNDS {
            let found = match self.netlink.read().await {
                Ok(found) => found,
                Err(e) => {
                    self.status.send_modify(|s| s.problems = vec![e.chain()]);
                    return false;
                }
            };
            let held = |(index, leasing): (&u32, &Leasing)| Some((*index, leasing.held.clone()?));
            let leases = self.clients.iter().filter_map(held).collect();
            let now = self.start.elapsed();
            let given_up = self.failures.held_back(now);
            let round = next(
                &self.plan,
                &found,
                &leases,
                self.options.veth,
                &given_up,
                now,
            );
            if round.actions.is_empty() {
                if self.attend(&round.targets, &found) {
                    continue;
                }
                self.failures.keep(&round.held_back);
                self.publish(&round, &found);
                return true;
            }
            for action in round.actions {
                match self.netlink.execute(&action).await {
                    Ok(()) => self.failures.succeeded(&action),
                    Err(e) => self.failures.failed(action, &e, now),
                }
            }
        }
        let problem = "the network does not come to rest; somebody else changes it, too".to_owned();
        warn!("{problem}");
        self.status.send_modify(|s| s.problems = vec![problem]);
        false
    }

    /// Starts clients where they are wanted, ends them where not, and tells them of their links. Whether one ended: what it had
    /// leased is to be removed then.
    fn attend(&mut self, targets: &[Target], found: &Found) -> bool {
        let wanted = |index: u32, leasing: &Leasing| {
            let target = targets.iter().find(|t| t.index == index);
            let same = |t: &Target| t.settings.dhcp4 && t.name == leasing.device;
            target.is_some_and(same) && found.link(index).is_some_and(|l| l.mac == leasing.mac)
        };
        let before = self.clients.len();
        self.clients
            .retain(|index, leasing| wanted(*index, leasing));
        let ended = self.clients.len() < before;
        for target in targets.iter().filter(|t| t.settings.dhcp4) {
            let Some(link) = found.link(target.index) else {
                continue;
            };
            let remembered = self
                .options
                .remembered
                .iter()
                .find(|(mac, _)| *mac == link.mac);
            let leasing = self.clients.entry(target.index).or_insert_with(|| Leasing {
                device: target.name.clone(),
                mac: link.mac,
                client: Client::start(
                    &target.name,
                    Identity {
                        mac: link.mac,
                        hostname: self.plan.hostname.clone(),
                    },
                    remembered.map(|(_, address)| *address),
                    self.start,
                    target.index,
                    self.events.clone(),
                ),
                phase: Phase::Down,
                tries: 0,
                held: None,
                lost: None,
            });
            leasing.client.link(link.up && link.carrier);
        }
        ended
    }

    fn publish(&mut self, round: &Round, found: &Found) {
        let mut problems: Vec<String> = round
            .problems
            .iter()
            .map(|(name, text)| format!("{name}: {text}"))
            .collect();
        problems.extend(self.failures.messages().map(str::to_owned));
        let before = self.status.borrow().interfaces.clone();
        let interfaces = round.targets.iter().filter_map(|t| {
            let mut interface = self.interface(t, found)?;
            if let Some(old) = before.iter().find(|o| is_still(o, &interface)) {
                interface.since = old.since;
            }
            Some(interface)
        });
        let interfaces: Vec<Interface> = interfaces.collect();
        let leases: Vec<_> = interfaces.iter().filter_map(|i| i.lease.as_ref()).collect();
        let mut dns = self.plan.dns.clone();
        dns.extend(leases.iter().flat_map(|l| &l.dns).map(|ip| IpAddr::V4(*ip)));
        let mut search = self.plan.search.clone();
        search.extend(leases.iter().filter_map(|l| l.domain.clone()));
        if let Some(path) = &self.options.resolv_conf
            && let Err(e) = resolver::write(path, &resolver::render(&dns, &search))
        {
            problems.push(e.chain());
        }
        for problem in problems.iter().filter(|p| !self.said.contains(p)) {
            warn!("{problem}");
        }
        self.said.clone_from(&problems);
        let status = Status {
            ntp: leases.iter().flat_map(|l| l.ntp.clone()).collect(),
            hostname: leases.iter().find_map(|l| l.hostname.clone()),
            interfaces,
            dns,
            search,
            problems,
            applied: true,
        };
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }

    fn interface(&self, target: &Target, found: &Found) -> Option<Interface> {
        let link = found.link(target.index)?;
        let global = |a: &&Address| a.index == target.index && !is_link_local(a.net.addr());
        let addresses: Vec<_> = found
            .addresses
            .iter()
            .filter(global)
            .map(|a| a.net)
            .collect();
        let leasing = self.clients.get(&target.index);
        let failure = self.failures.of(&target.name);
        let state = if !link.carrier {
            State::NoCarrier
        } else if !addresses.is_empty() || target.bond.is_some() && failure.is_none() {
            State::Ready
        } else if let Some(message) = failure {
            State::Failed {
                message: message.to_owned(),
            }
        } else {
            State::NoAddress {
                dhcp: leasing.map(|l| l.phase),
                tries: leasing.map_or(0, |l| l.tries),
                lost: leasing.and_then(|l| l.lost.clone()),
            }
        };
        let defaults = found
            .routes
            .iter()
            .filter(|r| r.index == target.index && r.to.prefix_len() == 0);
        let gateways = defaults.filter_map(|r| r.via);
        Some(Interface {
            name: target.name.clone(),
            mac: link.mac,
            mtu: link.mtu,
            state,
            since: std::time::Instant::now(),
            addresses,
            gateway: gateways.min_by_key(IpAddr::is_ipv6),
            lease: leasing
                .and_then(|l| l.held.as_ref())
                .map(|h| h.lease.clone()),
        })
    }
}

/// Whether an interface is as it was, but for how often it asked.
fn is_still(old: &Interface, new: &Interface) -> bool {
    let kind = |i: &Interface| std::mem::discriminant(&i.state);
    old.name == new.name && kind(old) == kind(new)
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}
