//! The messages of a client, and which replies are for it.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, HType, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::lease::Lease;

/// What is asked for: all that a lease holds.
const ASKED: [OptionCode; 11] = [
    OptionCode::SubnetMask,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::Hostname,
    OptionCode::DomainName,
    OptionCode::InterfaceMtu,
    OptionCode::NtpServers,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
    OptionCode::ClasslessStaticRoute,
];
/// What a reply says besides.
const SAID: [OptionCode; 3] = [
    OptionCode::MessageType,
    OptionCode::ServerIdentifier,
    OptionCode::Message,
];
const END: u8 = 255;
/// The largest reply taken: what fits a frame of 1500 bytes.
pub(super) const LARGEST_REPLY: u16 = 1472;
/// BOOTP's smallest message; some servers ignore shorter ones.
const SMALLEST: usize = 300;
const COOKIE_AT: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    /// The interface's hardware address.
    pub(crate) mac: [u8; 6],
    /// The name sent along.
    pub(crate) hostname: Option<String>,
}

/// What a client says (RFC 2131 §4.3.6, table 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    Discover { wish: Option<Ipv4Addr> },
    Select { address: Ipv4Addr, server: Ipv4Addr },
    Reboot { address: Ipv4Addr },
    Extend { address: Ipv4Addr },
}

pub(super) fn write(identity: &Identity, xid: u32, seconds: u16, ask: Ask) -> Message {
    let none = Ipv4Addr::UNSPECIFIED;
    let (kind, held, wish, server) = match ask {
        Ask::Discover { wish } => (MessageType::Discover, none, wish, None),
        Ask::Select { address, server } => {
            (MessageType::Request, none, Some(address), Some(server))
        }
        Ask::Reboot { address } => (MessageType::Request, none, Some(address), None),
        Ask::Extend { address } => (MessageType::Request, address, None, None),
    };
    let mut message = Message::new_with_id(xid, held, none, none, none, &identity.mac);
    message.set_secs(seconds);
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    let mut client = vec![1];
    client.extend(identity.mac);
    options.insert(DhcpOption::ClientIdentifier(client));
    options.insert(DhcpOption::MaxMessageSize(LARGEST_REPLY));
    options.insert(DhcpOption::ParameterRequestList(ASKED.to_vec()));
    if let Some(wish) = wish {
        options.insert(DhcpOption::RequestedIpAddress(wish));
    }
    if let Some(server) = server {
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    if let Some(name) = &identity.hostname {
        options.insert(DhcpOption::Hostname(name.clone()));
    }
    message
}

/// As bytes, padded to what every server takes; `None` when an option is too long to be written.
pub(super) fn encode(message: &Message) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(SMALLEST);
    message.encode(&mut Encoder::new(&mut bytes)).ok()?;
    bytes.resize(bytes.len().max(SMALLEST), 0);
    Some(bytes)
}

/// A message from anybody; `None` when it is none.
pub(super) fn decode(bytes: &[u8]) -> Option<Message> {
    // The library does not look at the cookie.
    let options = COOKIE_AT + COOKIE.len();
    if bytes.get(COOKIE_AT..options)? != COOKIE {
        return None;
    }
    let known = [&bytes[..options], &known_options(&bytes[options..])].concat();
    Message::decode(&mut Decoder::new(&known)).ok()
}

/// The options that are of use here. The library panics at some of the others when they are malformed (80, Rapid Commit).
fn known_options(mut rest: &[u8]) -> Vec<u8> {
    let mut known = Vec::with_capacity(rest.len());
    while let [code, after @ ..] = rest {
        match (OptionCode::from(*code), after) {
            (OptionCode::End, _) => break,
            (OptionCode::Pad, _) => rest = after,
            (code, [length, value @ ..]) if usize::from(*length) <= value.len() => {
                let (option, next) = rest.split_at(2 + usize::from(*length));
                if ASKED.contains(&code) || SAID.contains(&code) {
                    known.extend(option);
                }
                rest = next;
            }
            _ => break,
        }
    }
    known.push(END);
    known
}

/// A reply that is for this client.
#[derive(Debug)]
pub(super) enum Reply {
    Offer(Lease),
    Ack(Lease),
    Nak {
        server: Option<Ipv4Addr>,
        reason: Option<String>,
    },
}

/// What a message says to the client that made the request `xid`; says why it is passed over otherwise.
pub(super) fn read(
    identity: &Identity,
    xid: u32,
    message: &Message,
) -> Result<Reply, &'static str> {
    // The length comes first: the library's `chaddr` trusts it.
    let own = message.hlen() == 6 && message.chaddr() == identity.mac;
    if message.opcode() != Opcode::BootReply || message.htype() != HType::Eth || !own {
        return Err("it is not for this interface");
    }
    if message.xid() != xid {
        return Err("it answers another request");
    }
    let Some(DhcpOption::MessageType(kind)) = message.opts().get(OptionCode::MessageType) else {
        return Err("it has no type");
    };
    match kind {
        MessageType::Offer => Lease::read(message).map(Reply::Offer),
        MessageType::Ack => Lease::read(message).map(Reply::Ack),
        MessageType::Nak => Ok(Reply::Nak {
            server: match message.opts().get(OptionCode::ServerIdentifier) {
                Some(DhcpOption::ServerIdentifier(server)) => Some(*server),
                _ => None,
            },
            reason: match message.opts().get(OptionCode::Message) {
                Some(DhcpOption::Message(text)) => Some(printable(text)),
                _ => None,
            },
        }),
        _ => Err("it is no reply"),
    }
}

fn printable(text: &str) -> String {
    let clean = text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ');
    clean.take(80).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ipnet::Ipv4Net;
    use proptest::prelude::*;

    pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
    pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 1, 2, 1);

    pub(crate) fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a network")
    }

    pub(crate) fn identity() -> Identity {
        Identity {
            mac: MAC,
            hostname: Some("stone".into()),
        }
    }

    /// A sound reply of a kind with a lease of an hour.
    pub(crate) fn reply(kind: MessageType, xid: u32, address: &str) -> Message {
        let none = Ipv4Addr::UNSPECIFIED;
        let address: Ipv4Addr = address.parse().expect("an address");
        let mut message = Message::new_with_id(xid, none, address, none, none, &MAC);
        message.set_opcode(Opcode::BootReply);
        for option in [
            DhcpOption::MessageType(kind),
            DhcpOption::ServerIdentifier(SERVER),
            DhcpOption::AddressLeaseTime(3600),
            DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
        ] {
            message.opts_mut().insert(option);
        }
        message
    }

    pub(crate) fn ack(xid: u32, address: &str) -> Message {
        reply(MessageType::Ack, xid, address)
    }

    #[test]
    fn what_is_sent_can_be_read_and_says_what_the_rfc_wants() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        let server = SERVER;
        for (ask, kind, held, wish, from) in [
            (
                Ask::Discover { wish: None },
                MessageType::Discover,
                Ipv4Addr::UNSPECIFIED,
                None,
                None,
            ),
            (
                Ask::Select { address, server },
                MessageType::Request,
                Ipv4Addr::UNSPECIFIED,
                Some(address),
                Some(server),
            ),
            (
                Ask::Reboot { address },
                MessageType::Request,
                Ipv4Addr::UNSPECIFIED,
                Some(address),
                None,
            ),
            (
                Ask::Extend { address },
                MessageType::Request,
                address,
                None,
                None,
            ),
        ] {
            let bytes = encode(&write(&identity(), 9, 3, ask)).expect("short options");
            assert!(bytes.len() >= SMALLEST);
            let message = Message::decode(&mut Decoder::new(&bytes)).expect("a message");
            assert_eq!((message.xid(), message.secs()), (9, 3));
            assert_eq!(message.opts().msg_type(), Some(kind), "{ask:?}");
            assert_eq!(message.ciaddr(), held, "{ask:?}");
            let wished = message.opts().get(OptionCode::RequestedIpAddress);
            assert_eq!(
                wished,
                wish.map(DhcpOption::RequestedIpAddress).as_ref(),
                "{ask:?}"
            );
            let server = message.opts().get(OptionCode::ServerIdentifier);
            assert_eq!(
                server,
                from.map(DhcpOption::ServerIdentifier).as_ref(),
                "{ask:?}"
            );
        }
    }

    #[test]
    fn replies_for_others_are_passed_over() {
        let sound = ack(9, "10.1.2.3");
        assert!(matches!(read(&identity(), 9, &sound), Ok(Reply::Ack(_))));
        let mut request = sound.clone();
        request.set_opcode(Opcode::BootRequest);
        let mut other = sound.clone();
        other.set_chaddr(&[2, 0, 0, 0, 0, 8]);
        let mut token_ring = sound.clone();
        token_ring.set_htype(HType::from(6));
        let mut untyped = sound.clone();
        untyped.opts_mut().remove(OptionCode::MessageType);
        let discover = reply(MessageType::Discover, 9, "10.1.2.3");
        for (what, message, xid) in [
            ("another transaction", &sound, 10),
            ("a request", &request, 9),
            ("another interface", &other, 9),
            ("another kind of link", &token_ring, 9),
            ("no type", &untyped, 9),
            ("a discover", &discover, 9),
        ] {
            assert!(read(&identity(), xid, message).is_err(), "{what}");
        }
    }

    #[test]
    fn a_hardware_address_longer_than_its_field_does_no_harm() {
        let mut bytes = encode(&ack(9, "10.1.2.3")).expect("short options");
        bytes[2] = 255;
        let message = decode(&bytes).expect("a message");
        assert!(read(&identity(), 9, &message).is_err());
    }

    #[test]
    fn every_truncation_is_refused_or_read_without_harm() {
        let bytes = encode(&ack(9, "10.1.2.3")).expect("short options");
        for length in 0..bytes.len() {
            if let Some(message) = decode(&bytes[..length]) {
                let _ = read(&identity(), 9, &message);
            }
        }
        let mut no_cookie = bytes;
        no_cookie[COOKIE_AT] = 0;
        assert!(decode(&no_cookie).is_none());
    }

    #[test]
    fn a_malformed_option_of_no_use_hides_nothing() {
        let mut bytes = encode(&ack(9, "10.1.2.3")).expect("short options");
        let options = COOKIE_AT + COOKIE.len();
        bytes.splice(options..options, [80, 1, 0, 119, 2, 0xc0, 0]);
        let message = decode(&bytes).expect("a message");
        assert!(matches!(read(&identity(), 9, &message), Ok(Reply::Ack(_))));
    }

    proptest! {
        #[test]
        fn any_options_are_read_without_harm(options in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut bytes = encode(&ack(9, "10.1.2.3")).expect("short options");
            bytes.truncate(COOKIE_AT + COOKIE.len());
            bytes.extend(options);
            if let Some(message) = decode(&bytes) {
                let _ = read(&identity(), 9, &message);
            }
        }

        #[test]
        fn any_bytes_are_read_without_harm(
            at in 0_usize..300, new in proptest::collection::vec(any::<u8>(), 1..64)
        ) {
            let mut bytes = encode(&ack(9, "10.1.2.3")).expect("short options");
            for (place, byte) in bytes.iter_mut().skip(at).zip(new) {
                *place = byte;
            }
            if let Some(message) = decode(&bytes) {
                let _ = read(&identity(), 9, &message);
            }
        }
    }
}
