//! The same year's money reckoned again, by whole numbers and without a line of the code under test.

use std::collections::BTreeMap;

/// `amount × part ÷ whole`, rounded half to even. None is negative.
pub fn share(amount: i128, part: i128, whole: i128) -> i128 {
    let (quotient, rest) = (amount * part / whole, amount * part % whole);
    let up = rest * 2 > whole || (rest * 2 == whole && quotient % 2 == 1);
    quotient + i128::from(up)
}

/// Something in use, or that was and is not wholly charged.
struct Meter {
    account: usize,
    from: i64,
    to: Option<i64>,
    /// What it costs per hour by each tariff, in millionths.
    hourly: Vec<i128>,
    /// By which tariff how many seconds were charged, in their order.
    charged: Vec<(usize, i64)>,
}

impl Meter {
    fn seconds(&self) -> i64 {
        self.charged.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Millionths.
    fn cost(&self) -> i128 {
        let cost = |(tariff, seconds): &(usize, i64)| {
            share(self.hourly[*tariff], i128::from(*seconds), 3600)
        };
        self.charged.iter().map(cost).sum()
    }
}

/// Usage of all accounts.
#[derive(Default)]
pub struct Meters {
    /// The latest time anything was noted at.
    last: i64,
    running: BTreeMap<String, Meter>,
    over: Vec<Meter>,
}

impl Meters {
    /// Use begins; when it counts as begun.
    pub fn open(&mut self, name: String, account: usize, hourly: Vec<i128>, clock: i64) -> i64 {
        self.last = self.last.max(clock);
        let meter = Meter {
            account,
            from: self.last,
            to: None,
            hourly,
            charged: Vec::new(),
        };
        assert!(self.running.insert(name, meter).is_none());
        self.last
    }

    /// Use ends; when it began and when it counts as ended.
    pub fn close(&mut self, name: &str, clock: i64) -> (i64, i64) {
        let mut meter = self.running.remove(name).unwrap();
        let charged = meter.from + meter.seconds() * 1000;
        self.last = self.last.max(clock).max(charged);
        meter.to = Some(self.last);
        let span = (meter.from, self.last);
        self.over.push(meter);
        span
    }

    /// Everything is charged up to `clock`, by `tariff`.
    pub fn tick(&mut self, tariff: usize, clock: i64) {
        for meter in self.running.values_mut().chain(&mut self.over) {
            let end = meter.to.unwrap_or(clock).max(meter.from);
            let more = (end - meter.from) / 1000 - meter.seconds();
            if more > 0 {
                match meter.charged.last_mut() {
                    Some((last, seconds)) if *last == tariff => *seconds += more,
                    _ => meter.charged.push((tariff, more)),
                }
            }
        }
    }

    /// How much is still in use.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// What the account was charged, in millionths.
    pub fn cost(&self, account: usize) -> i128 {
        let all = self.running.values().chain(&self.over);
        let own = all.filter(|meter| meter.account == account);
        own.map(Meter::cost).sum()
    }
}

const DAY: i64 = 24 * 3600 * 1000;
/// Days begin at 16:00 UTC: eight hours ahead.
const AHEAD: i64 = 8 * 3600 * 1000;
const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Month 0 is January 2026; none of the years until 2028 is a leap year.
fn month_and_day(mut day: i64) -> (usize, i64) {
    let mut month = 0;
    while day >= LENGTHS[month % 12] {
        day -= LENGTHS[month % 12];
        month += 1;
    }
    (month, day + 1)
}

fn day_number(month: usize, day: i64) -> i64 {
    (0..month).map(|month| LENGTHS[month % 12]).sum::<i64>() + day - 1
}

/// A subscription's term, in parts with what was paid for them in cents.
struct Term {
    from: i64,
    to: i64,
    months: usize,
    parts: Vec<(i64, i64, i128)>,
}

/// A subscription in months.
pub struct Prepaid {
    anchor: i64,
    /// What a month costs, in cents.
    price: i128,
    terms: Vec<Term>,
    /// What was paid less what was paid back, in cents.
    pub paid: i128,
}

impl Prepaid {
    pub fn buy(months: usize, price: i128, now: i64) -> Self {
        let mut bought = Self {
            anchor: 0,
            price,
            terms: Vec::new(),
            paid: 0,
        };
        bought.begin(months, now);
        bought
    }

    pub fn expires(&self) -> i64 {
        self.terms.last().unwrap().to
    }

    /// A term that begins now.
    pub fn begin(&mut self, months: usize, now: i64) {
        let today = (now + AHEAD).div_euclid(DAY);
        self.anchor = month_and_day(today).1;
        self.add(months, now, today);
    }

    /// A term that follows on the last.
    pub fn extend(&mut self, months: usize) {
        let from = self.expires();
        self.add(months, from, (from + AHEAD) / DAY - 1);
    }

    fn add(&mut self, months: usize, from: i64, last_day: i64) {
        let month = month_and_day(last_day).0 + months;
        let day = self.anchor.min(LENGTHS[month % 12]);
        let to = (day_number(month, day) + 1) * DAY - AHEAD;
        let cents = self.price * months as i128;
        self.paid += cents;
        self.terms.push(Term {
            from,
            to,
            months,
            parts: vec![(from, to, cents)],
        });
    }

    pub fn change(&mut self, price: i128, now: i64) {
        self.price = price;
        let used = |cents: i128, from: i64, to: i64| {
            let (part, whole) = (now.clamp(from, to) - from, to - from);
            share(cents, i128::from(part), i128::from(whole))
        };
        for term in self.terms.iter_mut().filter(|term| term.to > now) {
            let before: i128 = term.parts.iter().map(|(_, _, cents)| cents).sum();
            let cut = |(from, to, cents): &(i64, i64, i128)| {
                (*from, now.clamp(*from, *to), used(*cents, *from, *to))
            };
            let whole = price * term.months as i128;
            let rest = whole - used(whole, term.from, term.to);
            let mut parts: Vec<_> = term.parts.iter().map(cut).collect();
            parts.retain(|(from, to, _)| from < to);
            parts.push((now.max(term.from), term.to, rest));
            term.parts = parts;
            let after: i128 = term.parts.iter().map(|(_, _, cents)| cents).sum();
            self.paid += after - before;
        }
    }
}
