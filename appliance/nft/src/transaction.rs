//! The one transaction that leads from what is in force to what should be.

use crate::expression::{
    ANONYMOUS, DATA_VALUE, DEVICE, KeyType, LIST_ELEMENT, Ranges, Writer, key_type, verdict_data,
};
use crate::state::{COMMENT, Chain, Rule, State, Target};
use crate::wire::{ACK, APPEND, Attributes, CREATE, message};
use security_group::SetKey;

/// `NFT_MSG_…`.
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DELETE_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const DELETE_SET: u16 = 11;
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
/// `NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL`, and `NFT_SET_MAP`.
const RANGES: u32 = 1 | 2 | 4;
const MAP: u32 = 8;
/// `NFTA_SET_DATA_TYPE` of a verdict.
const VERDICT_TYPE: u32 = 0xffff_ff00;
/// User data: key byte order (0), 4 bytes, `BYTEORDER_HOST_ENDIAN`.
const HOST_ORDER: [u8; 6] = {
    let [a, b, c, d] = 1_u32.to_ne_bytes();
    [0, 4, a, b, c, d]
};
/// A message's list of elements stays under the 64 KiB of an attribute.
const LIST_BYTES: usize = 32 << 10;

/// Commands in order, each with its name for an error.
pub(crate) struct Transaction<'a> {
    table: &'a str,
    commands: Vec<(u16, u16, Attributes, String)>,
    sets: u32,
}

impl<'a> Transaction<'a> {
    /// From `held` (`None`: no table) to `wanted`.
    pub(crate) fn between(table: &'a str, held: Option<&State>, wanted: &State) -> Self {
        let mut transaction = Self {
            table,
            commands: Vec::new(),
            sets: 0,
        };
        let rebased = |held: &State| {
            let changed = |(name, chain): (&String, &Chain)| {
                held.chains.get(name).is_some_and(|h| h.base != chain.base)
            };
            wanted.chains.iter().any(changed)
        };
        let retyped = |held: &State| {
            let kind = |state: &State, name: &String| state.sets.get(name).map(|s| s.key);
            let sets = wanted.sets.keys().any(|name| {
                held.maps.contains_key(name)
                    || kind(held, name).is_some_and(|k| Some(k) != kind(wanted, name))
            });
            sets || wanted.maps.keys().any(|name| held.sets.contains_key(name))
        };
        match held {
            Some(held) if !rebased(held) && !retyped(held) => transaction.difference(held, wanted),
            _ => {
                // What the kernel cannot change in place is replaced with its table.
                if held.is_some() {
                    transaction.delete_table();
                }
                let name = Attributes::default().text(1, table);
                transaction.push(NEW_TABLE, CREATE, name, "add the table".into());
                transaction.difference(&State::default(), wanted);
            }
        }
        transaction
    }

    pub(crate) fn removal(table: &'a str) -> Self {
        let mut transaction = Self {
            table,
            commands: Vec::new(),
            sets: 0,
        };
        transaction.delete_table();
        transaction
    }

    pub(crate) fn len(&self) -> usize {
        self.commands.len()
    }

    /// What command `number` (from 1) was to do; 0 is the whole.
    pub(crate) fn name(&self, number: usize) -> String {
        let name = number
            .checked_sub(1)
            .and_then(|index| self.commands.get(index))
            .map(|(.., name)| name.clone());
        format!(
            "{} in table {}",
            name.unwrap_or_else(|| "run the transaction".into()),
            self.table
        )
    }

    pub(crate) fn messages(&self) -> Vec<Vec<u8>> {
        let last = self.commands.len();
        let numbered = (1_u32..).zip(&self.commands);
        numbered
            .map(|(number, (kind, flags, attributes, _))| {
                let ack = if usize::try_from(number) == Ok(last) {
                    ACK
                } else {
                    0
                };
                message(*kind, flags | ack, number, attributes)
            })
            .collect()
    }

    fn difference(&mut self, held: &State, wanted: &State) {
        // 1. Everything that others refer to.
        for (name, chain) in wanted
            .chains
            .iter()
            .filter(|(name, _)| !held.chains.contains_key(*name))
        {
            self.add_chain(name, chain);
        }
        for (name, set) in wanted
            .sets
            .iter()
            .filter(|(name, _)| !held.sets.contains_key(*name))
        {
            self.add_set(name, 0, set.key);
        }
        for name in wanted
            .maps
            .keys()
            .filter(|name| !held.maps.contains_key(*name))
        {
            self.add_set(name, MAP, DEVICE);
        }
        // 2. The contents of sets.
        for (name, set) in &wanted.sets {
            let before = held.sets.get(name).map(|s| &s.elements);
            let gone = before
                .into_iter()
                .flatten()
                .filter(|e| !set.elements.contains(*e));
            self.elements(DELETE_ELEMENTS, name, None, gone.map(|key| element(key)));
            let new = set
                .elements
                .iter()
                .filter(|e| before.is_none_or(|b| !b.contains(*e)));
            self.elements(NEW_ELEMENTS, name, None, new.map(|key| element(key)));
        }
        // 3. Rules, whole chains at a time.
        for (name, chain) in &wanted.chains {
            let before = held.chains.get(name).map_or(&[][..], |c| &c.rules);
            if before != chain.rules {
                if !before.is_empty() {
                    self.named(DELETE_RULE, 2, name, "empty the chain");
                }
                chain
                    .rules
                    .iter()
                    .for_each(|rule| self.add_rule(wanted, name, rule));
            }
        }
        // 4. Where maps lead.
        for (name, map) in &wanted.maps {
            let before = held.maps.get(name);
            let gone = before
                .into_iter()
                .flatten()
                .filter(|(device, to)| map.get(*device) != Some(*to));
            self.elements(
                DELETE_ELEMENTS,
                name,
                None,
                gone.map(|(device, _)| element(device)),
            );
            let new = map
                .iter()
                .filter(|(device, to)| before.and_then(|b| b.get(*device)) != Some(*to));
            self.elements(
                NEW_ELEMENTS,
                name,
                None,
                new.map(|(device, to)| map_element(device, to)),
            );
        }
        // 5. What nothing refers to any more.
        let gone: Vec<&String> = held
            .chains
            .keys()
            .filter(|name| !wanted.chains.contains_key(*name))
            .collect();
        for name in &gone {
            self.named(DELETE_RULE, 2, name, "empty the chain");
        }
        for name in held
            .maps
            .keys()
            .filter(|name| !wanted.maps.contains_key(*name))
        {
            self.named(DELETE_SET, 2, name, "delete the map");
        }
        for name in gone {
            self.named(DELETE_CHAIN, 3, name, "delete the chain");
        }
        for name in held
            .sets
            .keys()
            .filter(|name| !wanted.sets.contains_key(*name))
        {
            self.named(DELETE_SET, 2, name, "delete the set");
        }
    }

    fn add_chain(&mut self, name: &str, chain: &Chain) {
        let mut attributes = self.of_table().text(3, name);
        if let Some(base) = chain.base {
            let hook = Attributes::default()
                .number(1, base.hook)
                .number(2, base.priority.cast_unsigned());
            attributes = attributes
                .nested(4, &hook)
                .number(5, u32::from(!base.drops))
                .text(7, "filter");
        }
        self.push(
            NEW_CHAIN,
            CREATE,
            attributes,
            format!("add the chain {name}"),
        );
    }

    /// The transaction's number for the set.
    fn add_set(&mut self, name: &str, flags: u32, key: KeyType) -> u32 {
        self.sets += 1;
        let id = self.sets;
        let mut attributes = self
            .of_table()
            .text(2, name)
            .number(3, flags)
            .number(4, key.kind)
            .number(5, key.length);
        if flags & MAP != 0 {
            attributes = attributes.number(6, VERDICT_TYPE);
        }
        if key == DEVICE {
            // For the lists of the nft tool only.
            attributes = attributes.bytes(13, &HOST_ORDER);
        }
        self.push(
            NEW_SET,
            CREATE,
            attributes.number(10, id),
            format!("add the set {name}"),
        );
        id
    }

    fn add_rule(&mut self, wanted: &State, chain: &str, rule: &Rule) {
        let Some(source) = &rule.source else { return };
        let is_ipv6 = |set: &str| {
            let ipv6 = [SetKey::Ipv6, SetKey::DeviceMacIpv6].map(key_type);
            wanted.sets.get(set).is_some_and(|s| ipv6.contains(&s.key))
        };
        let expressions = Writer::write(source, &is_ipv6, &mut |ranges| self.add_ranges(&ranges));
        let comment = [rule.digest.as_bytes(), &[0]].concat();
        let length = u8::try_from(comment.len()).unwrap_or(0);
        let attributes = self
            .of_table()
            .text(2, chain)
            .nested(4, &expressions)
            .bytes(7, &[&[COMMENT, length], &comment[..]].concat());
        self.push(
            NEW_RULE,
            CREATE | APPEND,
            attributes,
            format!("add a rule to the chain {chain}"),
        );
    }

    fn add_ranges(&mut self, ranges: &Ranges) -> u32 {
        let id = self.add_set(ANONYMOUS, RANGES, ranges.key);
        let bounds = ranges.ranges.iter().flat_map(|(first, after)| {
            // `NFTA_SET_ELEM_FLAGS`: `NFT_SET_ELEM_INTERVAL_END`.
            let end = after.as_ref().map(|key| element(key).number(3, 1));
            [Some(element(first)), end].into_iter().flatten()
        });
        self.elements(NEW_ELEMENTS, ANONYMOUS, Some(id), bounds);
        id
    }

    fn elements(
        &mut self,
        kind: u16,
        set: &str,
        id: Option<u32>,
        elements: impl Iterator<Item = Attributes>,
    ) {
        let (verb, flags) = if kind == NEW_ELEMENTS {
            ("add", CREATE)
        } else {
            ("delete", 0)
        };
        let mut list = Attributes::default();
        let mut send = |list: &mut Attributes| {
            let mut attributes = self
                .of_table()
                .text(2, set)
                .nested(3, &std::mem::take(list));
            if let Some(id) = id {
                attributes = attributes.number(4, id);
            }
            self.push(
                kind,
                flags,
                attributes,
                format!("{verb} elements of the set {set}"),
            );
        };
        for element in elements {
            list = list.nested(LIST_ELEMENT, &element);
            if list.len() > LIST_BYTES {
                send(&mut list);
            }
        }
        if list.len() > 0 {
            send(&mut list);
        }
    }

    fn delete_table(&mut self) {
        let name = Attributes::default().text(1, self.table);
        self.push(DELETE_TABLE, 0, name, "delete the table".into());
    }

    fn named(&mut self, kind: u16, attribute: u16, name: &str, what: &str) {
        self.push(
            kind,
            0,
            self.of_table().text(attribute, name),
            format!("{what} {name}"),
        );
    }

    /// The table is attribute 1 of every object but itself.
    fn of_table(&self) -> Attributes {
        Attributes::default().text(1, self.table)
    }

    fn push(&mut self, kind: u16, flags: u16, attributes: Attributes, name: String) {
        self.commands.push((kind, flags, attributes, name));
    }
}

/// `NFTA_SET_ELEM_KEY`.
fn element(key: &[u8]) -> Attributes {
    Attributes::default().nested(1, &Attributes::default().bytes(DATA_VALUE, key))
}

/// With `NFTA_SET_ELEM_DATA`.
fn map_element(device: &[u8], (code, chain): &Target) -> Attributes {
    element(device).nested(2, &verdict_data(*code, chain.as_deref()))
}
