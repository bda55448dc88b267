use super::*;
use crate::dhcp::message::tests::{SERVER, ack, identity, reply};
use dhcproto::v4::{DhcpOption, MessageType, OptionCode};

const ADDRESS: &str = "10.1.2.3";
const HOUR: Duration = Duration::from_secs(3600);

/// A machine with its clock.
struct Sim {
    machine: Machine,
    now: Duration,
}

impl Sim {
    fn new(remembered: Option<Ipv4Addr>) -> Self {
        Self {
            machine: Machine::new(identity(), remembered, 1),
            now: Duration::from_secs(1000),
        }
    }

    fn up(&mut self) -> Vec<Act> {
        self.machine.link_up(self.now)
    }

    /// Lets time pass until the machine acts; how long it took.
    fn wait(&mut self) -> (Duration, Vec<Act>) {
        let begun = self.now;
        self.now = self.machine.deadline();
        let acts = self.machine.tick(self.now);
        (self.now - begun, acts)
    }

    fn hear(&mut self, message: &Message) -> Vec<Act> {
        self.machine.receive(self.now, message)
    }

    fn offer(&mut self) -> Vec<Act> {
        let offer = reply(MessageType::Offer, self.machine.xid, ADDRESS);
        self.hear(&offer)
    }

    fn ack(&mut self) -> Vec<Act> {
        let ack = ack(self.machine.xid, ADDRESS);
        self.hear(&ack)
    }

    fn nak(&mut self) -> Vec<Act> {
        let nak = reply(MessageType::Nak, self.machine.xid, "0.0.0.0");
        self.hear(&nak)
    }

    fn bound() -> Self {
        let mut sim = Self::new(None);
        sim.up();
        sim.offer();
        assert!(matches!(&sim.ack()[..], [Act::Bind(_)]));
        sim
    }
}

/// The kind of the one message sent, and whether to everybody.
fn sent(acts: &[Act]) -> (MessageType, bool) {
    let kind = |m: &Message| m.opts().msg_type().expect("a type");
    match acts {
        [Act::Broadcast(message)] => (kind(message), true),
        [Act::Unicast { message, .. }] => (kind(message), false),
        other => panic!("not one message: {other:?}"),
    }
}

#[test]
fn the_first_lease_takes_two_round_trips_and_no_waiting() {
    let mut sim = Sim::new(None);
    assert_eq!(sim.machine.phase(), Phase::Down);
    assert_eq!(sent(&sim.up()), (MessageType::Discover, true));
    assert_eq!(sent(&sim.offer()), (MessageType::Request, true));
    let acts = sim.ack();
    let [Act::Bind(held)] = &acts[..] else {
        panic!("{acts:?}");
    };
    assert_eq!(held.lease.address.to_string(), "10.1.2.3/24");
    assert_eq!(sim.machine.phase(), Phase::Bound);
    assert_eq!(sim.machine.deadline(), sim.now + HOUR / 2);
}

#[test]
fn discovers_are_repeated_ever_more_slowly() {
    let mut sim = Sim::new(None);
    sim.up();
    for expected in [
        500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 64_000, 64_000,
    ] {
        let (waited, acts) = sim.wait();
        assert_eq!(sent(&acts), (MessageType::Discover, true));
        let waited = waited.as_millis();
        assert!(
            (expected * 9 / 10..=expected * 11 / 10).contains(&waited),
            "{waited} instead of {expected} ms"
        );
    }
}

#[test]
fn an_offer_that_is_not_confirmed_is_given_up() {
    let mut sim = Sim::new(None);
    sim.up();
    sim.offer();
    for _ in 1..SELECT_TRIES {
        assert_eq!(sent(&sim.wait().1), (MessageType::Request, true));
    }
    let before = sim.machine.xid;
    assert_eq!(sent(&sim.wait().1), (MessageType::Discover, true));
    assert_ne!(sim.machine.xid, before, "another exchange");
}

#[test]
fn the_first_offer_counts_and_only_its_server_confirms_it() {
    let mut sim = Sim::new(None);
    sim.up();
    sim.offer();
    let xid = sim.machine.xid;
    let other_server = |mut message: Message| {
        message
            .opts_mut()
            .insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 1, 2, 2)));
        message
    };
    for (what, message) in [
        ("another offer", reply(MessageType::Offer, xid, "10.1.2.4")),
        (
            "another server's confirmation",
            other_server(ack(xid, ADDRESS)),
        ),
        ("another address", ack(xid, "10.1.2.4")),
        (
            "another server's refusal",
            other_server(reply(MessageType::Nak, xid, "0.0.0.0")),
        ),
        ("another exchange", ack(xid ^ 1, ADDRESS)),
    ] {
        assert_eq!(sim.hear(&message), [], "{what}");
        assert_eq!(sim.machine.phase(), Phase::Requesting, "{what}");
    }
    assert!(matches!(&sim.ack()[..], [Act::Bind(_)]));
}

#[test]
fn replies_count_in_their_states_only() {
    let mut selecting = Sim::new(None);
    selecting.up();
    assert_eq!(selecting.ack(), [], "nothing was asked for");
    assert_eq!(selecting.nak(), []);
    let mut bound = Sim::bound();
    assert_eq!(
        (bound.offer(), bound.ack(), bound.nak()),
        (vec![], vec![], vec![])
    );
    let mut down = Sim::new(None);
    assert_eq!(down.offer(), []);
}

#[test]
fn a_lease_is_extended_by_its_server_then_by_any_then_lost() {
    let mut sim = Sim::bound();
    let bound_at = sim.now;
    let (waited, acts) = sim.wait();
    assert_eq!(
        (waited, sent(&acts)),
        (HOUR / 2, (MessageType::Request, false))
    );
    let [Act::Unicast { from, to, message }] = &acts[..] else {
        panic!("{acts:?}");
    };
    assert_eq!((from.to_string().as_str(), *to), (ADDRESS, SERVER));
    assert_eq!(message.ciaddr(), *from);
    for absent in [OptionCode::RequestedIpAddress, OptionCode::ServerIdentifier] {
        assert!(
            !message.opts().contains(absent),
            "RFC 2131 §4.3.6: {absent:?}"
        );
    }
    let mut asked = Vec::new();
    let lost = loop {
        let (waited, acts) = sim.wait();
        match &acts[..] {
            [Act::Unbind(lost), rest @ ..] => {
                assert_eq!(
                    sent(rest),
                    (MessageType::Discover, true),
                    "a new one is looked for at once"
                );
                break lost.clone();
            }
            acts => {
                let (_, to_all) = sent(acts);
                let rebinding = sim.now >= bound_at + HOUR / 8 * 7;
                assert_eq!(to_all, rebinding, "at {:?}", sim.now - bound_at);
                asked.push(waited);
            }
        }
    };
    assert_eq!(lost, Lost::Expired);
    assert_eq!(sim.now, bound_at + HOUR);
    let hasty = asked.iter().filter(|w| **w < EXTEND_WAIT).count();
    assert!(
        hasty <= 1,
        "only the last of a phase may come early: {asked:?}"
    );
}

#[test]
fn an_extension_counts_from_its_request() {
    let mut sim = Sim::bound();
    sim.wait();
    let asked = sim.now;
    sim.now += Duration::from_secs(3);
    let acts = sim.ack();
    let [Act::Bind(held)] = &acts[..] else {
        panic!("{acts:?}");
    };
    assert_eq!(held.since, asked);
    assert_eq!(held.expires(), asked + HOUR);
    assert_eq!(sim.machine.deadline(), asked + HOUR / 2);
}

#[test]
fn a_refused_extension_ends_the_lease() {
    for phase in [Phase::Renewing, Phase::Rebinding] {
        let mut sim = Sim::bound();
        while sim.machine.phase() != phase {
            sim.wait();
        }
        let mut nak = reply(MessageType::Nak, sim.machine.xid, "0.0.0.0");
        nak.opts_mut()
            .insert(DhcpOption::Message("moved\u{1b}[2J".into()));
        let acts = sim.hear(&nak);
        let [Act::Unbind(Lost::Refused(Some(reason))), rest @ ..] = &acts[..] else {
            panic!("{acts:?}");
        };
        assert_eq!(reason, "moved[2J", "nothing a terminal would obey");
        assert_eq!(sent(rest), (MessageType::Discover, true));
    }
}

#[test]
fn a_server_that_refuses_again_and_again_is_not_flooded() {
    let mut sim = Sim::new(None);
    sim.up();
    let mut sent_at = Vec::new();
    for _ in 0..6 {
        sim.offer();
        sim.nak();
        while sim.machine.tries() == 0 {
            sim.wait();
        }
        sent_at.push(sim.now);
    }
    let waits: Vec<u128> = sent_at
        .windows(2)
        .map(|w| (w[1] - w[0]).as_millis())
        .collect();
    assert_eq!(waits, [500, 1000, 2000, 4000, 8000]);
    sim.offer();
    sim.ack();
    assert_eq!(sim.machine.refusals, 0);
}

#[test]
fn a_remembered_address_is_asked_for_first() {
    let address: Ipv4Addr = ADDRESS.parse().expect("an address");
    let mut sim = Sim::new(Some(address));
    let acts = sim.up();
    assert_eq!(sent(&acts), (MessageType::Request, true));
    let [Act::Broadcast(message)] = &acts[..] else {
        unreachable!()
    };
    assert_eq!(
        message.opts().get(OptionCode::RequestedIpAddress),
        Some(&DhcpOption::RequestedIpAddress(address))
    );
    assert_eq!(
        sim.hear(&ack(sim.machine.xid, "10.1.2.4")),
        [],
        "not what was asked for"
    );
    assert!(matches!(&sim.ack()[..], [Act::Bind(_)]));

    let mut refused = Sim::new(Some(address));
    refused.up();
    let acts = refused.nak();
    assert_eq!(
        sent(&acts),
        (MessageType::Discover, true),
        "nothing was held, so nothing is lost"
    );

    let mut unanswered = Sim::new(Some(address));
    unanswered.up();
    for _ in 1..REBOOT_TRIES {
        assert_eq!(sent(&unanswered.wait().1), (MessageType::Request, true));
    }
    assert_eq!(sent(&unanswered.wait().1), (MessageType::Discover, true));
}

#[test]
fn a_lease_outlives_a_cut_link_until_it_expires() {
    let mut sim = Sim::bound();
    sim.machine.link_down();
    sim.now += HOUR / 4;
    assert_eq!(
        sim.machine.tick(sim.now),
        [],
        "nothing is sent into a cut cable"
    );
    assert_eq!(sent(&sim.up()), (MessageType::Request, true));
    assert_eq!(sim.machine.phase(), Phase::Rebooting);
    // Nobody confirms it: others are looked for while it is still held.
    while sim.machine.phase() == Phase::Rebooting {
        sim.wait();
    }
    assert!(matches!(&sim.offer()[..], [Act::Broadcast(_)]));
    assert!(matches!(&sim.ack()[..], [Act::Bind(_)]));

    sim.machine.link_down();
    let (_, acts) = sim.wait();
    assert_eq!(acts, [Act::Unbind(Lost::Expired)]);
    assert_eq!(sim.machine.deadline(), NEVER);
    assert_eq!(
        sent(&sim.up()),
        (MessageType::Request, true),
        "the address is still remembered"
    );
}

#[test]
fn a_lease_for_ever_asks_for_nothing() {
    let mut sim = Sim::new(None);
    sim.up();
    sim.offer();
    let mut ack = ack(sim.machine.xid, ADDRESS);
    ack.opts_mut()
        .insert(DhcpOption::AddressLeaseTime(u32::MAX));
    assert!(matches!(&sim.hear(&ack)[..], [Act::Bind(_)]));
    assert_eq!(sim.machine.deadline(), NEVER);
    sim.now += HOUR * 24 * 365;
    assert_eq!(sim.machine.tick(sim.now), []);
}

#[test]
fn a_link_that_comes_up_twice_asks_once() {
    let mut sim = Sim::new(None);
    assert_eq!(sim.up().len(), 1);
    assert_eq!(sim.up(), []);
}

#[test]
fn hosts_switched_on_together_do_not_ask_in_step() {
    let waits: std::collections::BTreeSet<Duration> = (0..16)
        .map(|seed| {
            let mut machine = Machine::new(identity(), None, seed);
            machine.link_up(Duration::ZERO);
            machine.deadline()
        })
        .collect();
    assert!(waits.len() > 8, "{waits:?}");
}
