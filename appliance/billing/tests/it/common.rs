//! Made-up records, and what a store does to them.

use ledger::{Charge, ModuleDigest};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use types::{AccountId, ChargeId, Currency, Decimal, Money, Sha256Digest, Timestamp, UsageId};

pub const MINUTE: i64 = 60_000;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// That many milliseconds after the start of 2026.
pub fn at(millis: i64) -> Timestamp {
    Timestamp::from_unix_millis(1_767_225_600_000 + millis).unwrap()
}

pub fn decimal(text: &str) -> Decimal {
    text.parse().unwrap()
}

pub fn cny(text: &str) -> Money {
    Money::new(decimal(text), Currency::CNY)
}

pub fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

/// As it is after it was stored and read.
pub fn stored<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(value).unwrap()).unwrap()
}

/// A charge of `micros` millionths, up to `to` milliseconds after the start of 2026.
pub fn charge(number: u128, to: i64, micros: i64) -> Charge {
    Charge {
        id: ChargeId::generate(number),
        interval: UsageId::generate(number),
        resource: format!("i-{:017}", number % 3),
        meter: "instance-running".to_owned(),
        from: at(to - 1_000),
        to: at(to),
        seconds: 1,
        money: Money::new(Decimal::new(micros, 6), Currency::CNY),
        policy: "price-list".to_owned(),
        module_sha256: ModuleDigest::BuiltIn,
        configuration_sha256: Sha256Digest::of(b""),
        fallback: None,
    }
}

/// Points in time to look at something, in any order of asking, all within `days`.
pub fn looks(days: i64) -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(-DAY..days * DAY, 0..20)
}

/// A small generator of numbers: the same seed gives the same year.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// From 0 to less than `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn range(&mut self, from: i64, end: i64) -> i64 {
        from + i64::try_from(self.below((end - from).unsigned_abs())).unwrap()
    }

    /// Once in `of` times.
    pub fn once_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}
