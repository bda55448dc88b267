//! The client's states and timers: pure, told the time and what arrived, it says what to send and what to configure.

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::lease::Lease;
use super::message::{self, Ask, Identity, Reply};

/// The first wait for an answer; every further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// So often an offered address is asked for before the offer is given up.
const SELECT_TRIES: u32 = 4;
/// So often a remembered address is asked for before any address will do.
const REBOOT_TRIES: u32 = 3;
/// RFC 2131 §4.4.5: an extension is not asked for more often than this.
const EXTEND_WAIT: Duration = Duration::from_secs(60);
const NEVER: Duration = Duration::MAX;

/// Time since some moment that is the same for all calls of one machine.
pub(crate) type Instant = Duration;

/// Where a client is (RFC 2131 §4.4, figure 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for the link.
    Down,
    /// Looking for a server.
    Selecting,
    /// An offer was taken up.
    Requesting,
    /// Asking whether a remembered address is still good.
    Rebooting,
    /// The lease holds.
    Bound,
    /// Asking the lease's server for more time.
    Renewing,
    /// Asking any server for more time.
    Rebinding,
}

/// A lease that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) lease: Lease,
    /// When it was asked for; its times count from here.
    pub(crate) since: Instant,
}

impl Held {
    /// When it ends.
    pub(crate) fn expires(&self) -> Instant {
        let duration = self.lease.duration.unwrap_or(NEVER);
        self.since.saturating_add(duration)
    }

    fn renew_at(&self) -> Instant {
        match self.lease.duration {
            Some(_) => self.since.saturating_add(self.lease.renew_after),
            None => NEVER,
        }
    }

    fn rebind_at(&self) -> Instant {
        match self.lease.duration {
            Some(_) => self.since.saturating_add(self.lease.rebind_after),
            None => NEVER,
        }
    }
}

/// Why a lease no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    Expired,
    Refused(Option<String>),
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Send to everybody on the link.
    Broadcast(Message),
    /// Send to one server, from the leased address.
    Unicast {
        from: Ipv4Addr,
        to: Ipv4Addr,
        message: Message,
    },
    /// Configure this lease instead of the one before.
    Bind(Held),
    /// Remove what the lease brought.
    Unbind(Lost),
}

#[derive(Debug)]
enum State {
    Down,
    Selecting,
    Requesting { address: Ipv4Addr, server: Ipv4Addr },
    Rebooting { address: Ipv4Addr },
    Bound,
    Renewing,
    Rebinding,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Machine {
    identity: Identity,
    rng: StdRng,
    state: State,
    held: Option<Held>,
    remembered: Option<Ipv4Addr>,
    xid: u32,
    /// When this exchange began.
    began: Instant,
    /// How often the current message was sent, and when last.
    tries: u32,
    sent: Instant,
    /// When the state wants to be heard next.
    next: Instant,
    refusals: u32,
}

impl Machine {
    /// One that waits for [`link_up`](Self::link_up); `remembered` is an address it had before.
    pub(crate) fn new(identity: Identity, remembered: Option<Ipv4Addr>, seed: u64) -> Self {
        Self {
            identity,
            rng: StdRng::seed_from_u64(seed),
            state: State::Down,
            held: None,
            remembered,
            xid: 0,
            began: Duration::ZERO,
            tries: 0,
            sent: Duration::ZERO,
            next: NEVER,
            refusals: 0,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Down => Phase::Down,
            State::Selecting => Phase::Selecting,
            State::Requesting { .. } => Phase::Requesting,
            State::Rebooting { .. } => Phase::Rebooting,
            State::Bound => Phase::Bound,
            State::Renewing => Phase::Renewing,
            State::Rebinding => Phase::Rebinding,
        }
    }

    /// How often the current message was sent without an answer.
    pub(crate) fn tries(&self) -> u32 {
        self.tries
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn deadline(&self) -> Instant {
        let expiry = self.held.as_ref().map_or(NEVER, Held::expires);
        self.next.min(expiry)
    }

    /// The link works: a remembered address is confirmed, otherwise one is looked for. At once.
    pub(crate) fn link_up(&mut self, now: Instant) -> Vec<Act> {
        if matches!(self.state, State::Down) {
            let held = self.held.as_ref().map(|h| h.lease.address.addr());
            match held.or(self.remembered) {
                Some(address) => self.enter(State::Rebooting { address }, now),
                None => self.enter(State::Selecting, now),
            }
        }
        self.tick(now)
    }

    /// The link does not work: nothing is sent; a lease is held until it expires.
    pub(crate) fn link_down(&mut self) {
        self.state = State::Down;
        self.next = NEVER;
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.held.as_ref().is_some_and(|h| h.expires() <= now) {
            self.held = None;
            acts.push(Act::Unbind(Lost::Expired));
            if matches!(
                self.state,
                State::Bound | State::Renewing | State::Rebinding
            ) {
                self.enter(State::Selecting, now);
            }
        }
        // At most two moves lead from a state without anything to send to one with.
        for _ in 0..3 {
            if now < self.next {
                break;
            }
            match self.moved(now) {
                Some(state) => self.enter(state, now),
                None => {
                    acts.push(self.send(now));
                    break;
                }
            }
        }
        acts
    }

    /// Takes a message from the link.
    pub(crate) fn receive(&mut self, now: Instant, message: &Message) -> Vec<Act> {
        let reply = match message::read(&self.identity, self.xid, message) {
            Ok(reply) => reply,
            Err(why) => {
                tracing::debug!("a DHCP message is passed over: {why}");
                return Vec::new();
            }
        };
        let held = self.held.as_ref().map(|h| h.lease.address.addr());
        match (&self.state, reply) {
            (State::Selecting, Reply::Offer(offer)) => {
                let (address, server) = (offer.address.addr(), offer.server);
                self.state = State::Requesting { address, server };
                self.tries = 0;
                self.next = now;
                self.tick(now)
            }
            (State::Requesting { address, server }, Reply::Ack(lease))
                if lease.address.addr() == *address && lease.server == *server =>
            {
                self.bind(lease, now)
            }
            (State::Rebooting { address }, Reply::Ack(lease))
                if lease.address.addr() == *address =>
            {
                self.bind(lease, now)
            }
            (State::Renewing | State::Rebinding, Reply::Ack(lease))
                if Some(lease.address.addr()) == held =>
            {
                self.bind(lease, now)
            }
            (
                State::Requesting { server, .. },
                Reply::Nak {
                    server: Some(from),
                    reason,
                },
            ) if from == *server => self.refused(reason, now),
            (
                State::Rebooting { .. } | State::Renewing | State::Rebinding,
                Reply::Nak { reason, .. },
            ) => self.refused(reason, now),
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, lease: Lease, now: Instant) -> Vec<Act> {
        let held = Held {
            lease,
            since: self.sent,
        };
        self.remembered = Some(held.lease.address.addr());
        self.held = Some(held.clone());
        self.refusals = 0;
        self.enter(State::Bound, now);
        self.next = held.renew_at();
        vec![Act::Bind(held)]
    }

    fn refused(&mut self, reason: Option<String>, now: Instant) -> Vec<Act> {
        let held = self.held.take();
        self.remembered = None;
        self.enter(State::Selecting, now);
        // The first refusal is ordinary: the host moved. More of them must not become a flood.
        if self.refusals > 0 {
            self.next = now + backoff(self.refusals);
        }
        self.refusals = self.refusals.saturating_add(1);
        let mut acts: Vec<Act> = held
            .map(|_| Act::Unbind(Lost::Refused(reason)))
            .into_iter()
            .collect();
        acts.extend(self.tick(now));
        acts
    }

    /// Begins an exchange, whose first message is due at once.
    fn enter(&mut self, state: State, now: Instant) {
        self.state = state;
        self.xid = self.rng.random();
        self.began = now;
        self.tries = 0;
        self.next = now;
    }

    /// The state that follows because time passed; `None` when the current one sends (again).
    fn moved(&self, now: Instant) -> Option<State> {
        let rebind = self.held.as_ref().is_some_and(|h| h.rebind_at() <= now);
        match self.state {
            State::Requesting { .. } if self.tries >= SELECT_TRIES => Some(State::Selecting),
            State::Rebooting { .. } if self.tries >= REBOOT_TRIES => Some(State::Selecting),
            State::Bound => Some(State::Renewing),
            State::Renewing if rebind => Some(State::Rebinding),
            _ => None,
        }
    }

    fn send(&mut self, now: Instant) -> Act {
        let held = self.held.as_ref().map(|h| {
            (
                h.lease.address.addr(),
                h.lease.server,
                h.rebind_at(),
                h.expires(),
            )
        });
        let (ask, to) = match (&self.state, held) {
            (State::Requesting { address, server }, _) => (
                Ask::Select {
                    address: *address,
                    server: *server,
                },
                None,
            ),
            (State::Rebooting { address }, _) => (Ask::Reboot { address: *address }, None),
            (State::Renewing, Some((address, server, ..))) => {
                (Ask::Extend { address }, Some((address, server)))
            }
            (State::Rebinding, Some((address, ..))) => (Ask::Extend { address }, None),
            _ => (
                Ask::Discover {
                    wish: self.remembered,
                },
                None,
            ),
        };
        let seconds = now.saturating_sub(self.began).as_secs();
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        let message = message::write(&self.identity, self.xid, seconds, ask);
        self.tries = self.tries.saturating_add(1);
        self.sent = now;
        let half_way = |end: Instant| {
            let wait = (end.saturating_sub(now) / 2).max(EXTEND_WAIT);
            now.saturating_add(wait).min(end)
        };
        self.next = match (&self.state, held) {
            (State::Renewing, Some((.., rebind, _))) => half_way(rebind),
            (State::Rebinding, Some((.., expires))) => half_way(expires),
            _ => {
                // Hosts that were switched on together shall not ask together for ever.
                let spread = self.rng.random_range(900..=1100);
                now + backoff(self.tries) * spread / 1000
            }
        };
        match to {
            Some((from, to)) => Act::Unicast { from, to, message },
            None => Act::Broadcast(message),
        }
    }
}

/// The wait after the `n`-th message.
fn backoff(n: u32) -> Duration {
    let doublings = n.saturating_sub(1).min(16);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests;
