//! Netlink messages of the nf_tables subsystem (linux/netlink.h, linux/netfilter/nfnetlink.h): writing and reading.

use std::io;

/// `NFNL_SUBSYS_NFTABLES` and `NFPROTO_INET`; `NFNL_SUBSYS_CTNETLINK`.
const SUBSYSTEM: u16 = 10;
const FAMILY_INET: u8 = 1;
const CONNECTIONS: u16 = 1;
/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// Flags of a request.
const REQUEST: u16 = 1;
/// `NLM_F_DUMP_INTR`, in an answer.
const INTERRUPTED: u16 = 0x10;
pub(crate) const ACK: u16 = 4;
pub(crate) const DUMP: u16 = 0x300;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
/// A nested attribute; the two highest bits of a type are flags.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Attributes being written. One attribute holds less than 64 KiB: callers split lists before that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// nf_tables numbers are big-endian.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(crate) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }

    /// Nested attributes that are bytes already.
    pub(crate) fn bytes_nested(self, kind: u16, value: &[u8]) -> Self {
        self.bytes(kind | NESTED, value)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// One message, ready to be sent.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, attributes: &Attributes) -> Vec<u8> {
    frame(
        SUBSYSTEM << 8 | kind,
        flags,
        sequence,
        [FAMILY_INET, 0, 0, 0],
        &attributes.0,
    )
}

/// One message to connection tracking, about this address family (0: any, 2: IPv4, 10: IPv6).
pub(crate) fn connection_message(
    kind: u16,
    flags: u16,
    family: u8,
    attributes: &Attributes,
) -> Vec<u8> {
    frame(
        CONNECTIONS << 8 | kind,
        flags,
        1,
        [family, 0, 0, 0],
        &attributes.0,
    )
}

/// A transaction around messages numbered `1..=count`: all or nothing.
pub(crate) fn batch(messages: &[Vec<u8>]) -> Vec<u8> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let end = u32::try_from(messages.len() + 1).unwrap_or(u32::MAX);
    let mut bytes = frame(BATCH_BEGIN, 0, 0, [0, 0, high, low], &[]);
    bytes.extend(messages.iter().flatten());
    bytes.extend(frame(BATCH_END, 0, end, [0, 0, high, low], &[]));
    bytes
}

fn frame(
    kind: u16,
    flags: u16,
    sequence: u32,
    generic: [u8; GENERIC],
    attributes: &[u8],
) -> Vec<u8> {
    let length = u32::try_from(HEADER + GENERIC + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + GENERIC + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The port id, filled in by the kernel.
    bytes.extend([0; 4]);
    bytes.extend(generic);
    bytes.extend(attributes);
    bytes
}

/// A message from the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// The request with this number went well (`Ok`) or not.
    Result { sequence: u32, errno: i32 },
    /// A list ends here.
    Done,
    /// The list changed while it was read: it may be wrong.
    Changed,
    /// An object of a list: its attributes.
    Object(&'a [u8]),
}

/// The messages in a datagram from the kernel.
pub(crate) fn answers(mut datagram: &[u8]) -> io::Result<Vec<Answer<'_>>> {
    let mut answers = Vec::new();
    while !datagram.is_empty() {
        let length = word(datagram, 0)
            .and_then(|l| usize::try_from(l).ok())
            .unwrap_or(0);
        if length < HEADER || length > datagram.len() {
            return Err(malformed());
        }
        let body = &datagram[HEADER..length];
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        let flags = u16::from_ne_bytes([datagram[6], datagram[7]]);
        if flags & INTERRUPTED != 0 && kind != ERROR {
            answers.push(Answer::Changed);
        }
        let sequence = word(datagram, 8).ok_or_else(malformed)?;
        answers.push(match kind {
            ERROR => {
                let errno = word(body, 0).ok_or_else(malformed)?.cast_signed();
                Answer::Result {
                    sequence,
                    errno: errno.wrapping_neg(),
                }
            }
            DONE => Answer::Done,
            _ => Answer::Object(body.get(GENERIC..).ok_or_else(malformed)?),
        });
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
    }
    Ok(answers)
}

/// The attributes in some bytes: type and value.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]));
        let kind = u16::from_ne_bytes([*bytes.get(2)?, *bytes.get(3)?]) & TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of this type.
pub(crate) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes)
        .find(|(k, _)| *k == kind)
        .map(|(_, value)| value)
}

pub(crate) fn find_text(bytes: &[u8], kind: u16) -> Option<String> {
    let value = find(bytes, kind)?;
    Some(String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned())
}

pub(crate) fn find_number(bytes: &[u8], kind: u16) -> Option<u32> {
    Some(u32::from_be_bytes(find(bytes, kind)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a malformed netlink message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let inner = Attributes::default().number(7, 0x0102_0304);
        let written = Attributes::default()
            .text(1, "abc")
            .nested(2, &inner)
            .bytes(3, &[9]);
        assert_eq!(written.len() % 4, 0);
        assert_eq!(find_text(&written.0, 1).as_deref(), Some("abc"));
        assert_eq!(
            find(&written.0, 2).and_then(|nested| find_number(nested, 7)),
            Some(0x0102_0304)
        );
        assert_eq!(find(&written.0, 3), Some(&[9][..]));
        assert_eq!(find(&written.0, 4), None);
    }

    #[test]
    fn truncated_answers_are_refused() {
        let good = message(1, 0, 5, &Attributes::default().text(1, "x"));
        assert!(matches!(
            answers(&good).expect("good")[..],
            [Answer::Object(_)]
        ));
        for length in 1..good.len() {
            assert!(answers(&good[..length]).is_err(), "{length} bytes");
        }
        // Attributes whose length lies are where the list ends.
        assert_eq!(attributes(&[255, 255, 1, 0, 0, 0, 0, 0]).count(), 0);
        assert_eq!(attributes(&[0, 0, 1, 0]).count(), 0);
    }
}
