//! A statement's words: positional ones and `name=value`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// What is left of a statement while its arguments are taken.
pub(crate) struct Words<'a> {
    positional: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let mut words = Self {
            positional: Vec::new(),
            named: Vec::new(),
        };
        for word in text.split_ascii_whitespace() {
            match word.split_once('=') {
                Some(pair) => words.named.push(pair),
                None => words.positional.push(word),
            }
        }
        words.positional.reverse();
        words
    }

    /// The next positional word.
    pub(crate) fn next(&mut self) -> Option<&'a str> {
        self.positional.pop()
    }

    /// The next positional word, which must be there.
    pub(crate) fn require(&mut self, what: &str) -> Result<&'a str, String> {
        self.next().ok_or_else(|| format!("{what} is missing"))
    }

    /// The value of a name, if given.
    pub(crate) fn named(&mut self, name: &str) -> Option<&'a str> {
        let index = self.named.iter().position(|(given, _)| *given == name)?;
        Some(self.named.remove(index).1)
    }

    /// The value of a name, read by a function; or a default.
    pub(crate) fn named_or<T>(
        &mut self,
        name: &str,
        default: T,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, String> {
        match self.named(name) {
            Some(value) => read(value).ok_or_else(|| format!("{name}={value} is not valid")),
            None => Ok(default),
        }
    }

    /// Nothing may be left.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if let Some((name, _)) = self.named.first() {
            return Err(format!("there is no argument {name}="));
        }
        match self.next() {
            Some(word) => Err(format!("did not expect {word}")),
            None => Ok(()),
        }
    }
}

/// A number, decimal or `0x…`.
pub(crate) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A number with an optional binary suffix K, M, G or T.
pub(crate) fn size(text: &str) -> Option<u64> {
    for (suffix, shift) in [("K", 10), ("M", 20), ("G", 30), ("T", 40)] {
        if let Some(digits) = text.strip_suffix(suffix) {
            return number(digits)?.checked_mul(1 << shift);
        }
    }
    number(text)
}

/// A duration in microseconds: a number with `us`, `ms` (the default) or `s`.
pub(crate) fn duration_us(text: &str) -> Option<u64> {
    for (suffix, factor) in [("us", 1), ("ms", 1000), ("s", 1_000_000)] {
        if let Some(digits) = text.strip_suffix(suffix) {
            return number(digits)?.checked_mul(factor);
        }
    }
    number(text)?.checked_mul(1000)
}

/// `a.b.c.d:port`.
pub(crate) fn endpoint(text: &str) -> Option<(Ipv4Addr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    Some((
        address.parse().ok()?,
        port.parse().ok().filter(|port| *port != 0)?,
    ))
}

/// `a.b.c.d/prefix`.
pub(crate) fn network(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    Some((
        address.parse().ok()?,
        prefix.parse().ok().filter(|prefix| *prefix <= 32)?,
    ))
}

/// Ports separated by commas.
pub(crate) fn ports(text: &str) -> Option<Vec<u16>> {
    text.split(',')
        .map(|port| port.parse().ok().filter(|port| *port != 0))
        .collect()
}

/// Reads a value or says which one it was.
pub(crate) fn read<T>(
    what: &str,
    text: &str,
    reader: impl Fn(&str) -> Option<T>,
) -> Result<T, String> {
    reader(text).ok_or_else(|| {
        let mut reason = what.to_string();
        reason.push_str(" is not valid: ");
        reason.push_str(text);
        reason
    })
}
