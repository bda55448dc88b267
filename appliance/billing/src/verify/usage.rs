//! The ledger against what happened, and charges against the policies that set them.

use super::{Evidence, Report, Unpriced, ViolationKind};
use ledger::{
    AMOUNT_DECIMALS, Audit, ChargedSegment, MAX_BATCH, RatingInput, RatingPolicy, UsageInterval,
    UsageKey,
};
use std::{collections::BTreeMap, time::Duration};
use types::{Currency, Money, PolicyIdentity, Timestamp};

/// A stretch of time; without an end, it goes on.
type Span = (Timestamp, Option<Timestamp>);

/// What ledger and history say of one meter, in order of time.
#[derive(Default)]
struct Compared<'a> {
    counted: Vec<&'a UsageInterval>,
    used: Vec<Span>,
}

/// Intervals must be disjoint, cover exactly what was used, be closed when that is over, and charged up to the end.
pub(super) fn compare(report: &mut Report, evidence: &Evidence<'_>, audit: &Audit) {
    let mut meters: BTreeMap<UsageKey, Compared<'_>> = BTreeMap::new();
    for interval in &audit.intervals {
        let meter = meters.entry(interval.usage.key()).or_default();
        meter.counted.push(interval);
        uncharged(report, evidence.metered, interval, audit);
    }
    for span in evidence.history {
        let meter = meters.entry(span.key.clone()).or_default();
        meter.used.push((span.from, span.to));
    }
    for (key, mut meter) in meters {
        meter.counted.sort_by_key(|interval| interval.from);
        overlaps(report, &key, &meter.counted);
        let counted = meter.counted.iter();
        let counted: Vec<Span> = counted
            .map(|interval| (interval.from, interval.to))
            .collect();
        let (counted, used) = (merged(counted), merged(meter.used));
        let slack = evidence.slack;
        for gap in without(&used, &counted, slack) {
            let what = format!("it was in use {}, and the ledger has no usage", said(gap));
            report.add(ViolationKind::Uncounted, &key, what);
        }
        for gap in without(&counted, &used, slack) {
            let (kind, end) = match gap.1 {
                Some(_) => (ViolationKind::Overcounted, ""),
                None => (ViolationKind::OpenEnd, ", and is still open"),
            };
            let what = format!(
                "the ledger has usage {}{end}, and it was not in use",
                said(gap)
            );
            report.add(kind, &key, what);
        }
    }
}

fn uncharged(report: &mut Report, metered: Timestamp, interval: &UsageInterval, audit: &Audit) {
    let charged = audit.charged.get(&interval.id).copied().unwrap_or(0);
    let end = interval.to.map_or(metered, |end| end.min(metered));
    let due = end.saturating_since(interval.from).as_secs();
    if charged < due {
        let what = format!("{charged} of {due} seconds of it are charged");
        report.add(ViolationKind::Uncharged, interval.id, what);
    }
}

fn overlaps(report: &mut Report, key: &UsageKey, counted: &[&UsageInterval]) {
    let mut last: Option<&UsageInterval> = None;
    for interval in counted {
        if let Some(before) = last
            && before.to.is_none_or(|end| end > interval.from)
        {
            let (first, second) = (before.id, interval.id);
            let what = format!(
                "intervals {first} and {second} overlap from {} on",
                interval.from
            );
            report.add(ViolationKind::Overlap, key, what);
        }
        let further = |before: &UsageInterval| match (before.to, interval.to) {
            (Some(before), Some(end)) => end > before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if last.is_none_or(further) {
            last = Some(interval);
        }
    }
}

/// `spans` in order of time, with those that touch made one.
fn merged(mut spans: Vec<Span>) -> Vec<Span> {
    spans.retain(|(from, to)| to.is_none_or(|to| to > *from));
    spans.sort_by_key(|(from, _)| *from);
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for (from, to) in spans {
        match merged.last_mut() {
            Some((_, end)) if end.is_none_or(|end| end >= from) => {
                *end = end.zip(to).map(|(end, to)| end.max(to));
            }
            _ => merged.push((from, to)),
        }
    }
    merged
}

/// What of `spans` is in none of `others`, except parts not longer than `slack`; both merged.
fn without(spans: &[Span], others: &[Span], slack: Duration) -> Vec<Span> {
    let mut rest = Vec::new();
    let mut next = 0;
    for (from, to) in spans {
        let mut from = Some(*from);
        // Those that end before this span begin after none of the later ones either.
        while others
            .get(next)
            .is_some_and(|(_, end)| end.is_some_and(|end| Some(end) <= from))
        {
            next += 1;
        }
        for (start, end) in &others[next..] {
            let Some(reached) = from.filter(|_| to.is_none_or(|to| *start < to)) else {
                break;
            };
            if *start > reached {
                rest.push((reached, Some(*start)));
            }
            from = *end;
        }
        rest.extend(
            from.filter(|from| to.is_none_or(|to| *from < to))
                .map(|from| (from, *to)),
        );
    }
    rest.retain(|(from, to)| to.is_none_or(|to| to.saturating_since(*from) > slack));
    rest
}

fn said((from, to): Span) -> String {
    match to {
        Some(to) => format!("from {from} to {to}"),
        None => format!("since {from}"),
    }
}

/// Every unbroken run of charges by one policy must come to what that policy asks for it, rounded.
pub(super) fn reprice(
    report: &mut Report,
    policies: &[&dyn RatingPolicy],
    segments: &[ChargedSegment],
) {
    let mut groups: BTreeMap<(String, Currency), Vec<&ChargedSegment>> = BTreeMap::new();
    for segment in segments {
        let key = (identity_text(&segment.policy), segment.money.currency);
        groups.entry(key).or_default().push(segment);
    }
    for ((_, currency), segments) in groups {
        let identity = &segments[0].policy;
        let known = policies
            .iter()
            .find(|policy| policy.identity() == *identity);
        let Some(policy) = known else {
            report.unpriced.push(Unpriced {
                policy: identity.clone(),
                runs: segments.len() as u64,
            });
            continue;
        };
        for batch in segments.chunks(MAX_BATCH) {
            match prices(*policy, currency, batch) {
                Ok(prices) => {
                    for (segment, price) in batch.iter().zip(prices) {
                        check_price(report, segment, price);
                    }
                }
                Err(why) => {
                    for segment in batch {
                        let policy = &identity.name;
                        let what = format!("its price by `{policy}` cannot be recomputed: {why}");
                        report.add(ViolationKind::Price, segment.input.interval, what);
                    }
                }
            }
        }
    }
}

fn prices(
    policy: &dyn RatingPolicy,
    currency: Currency,
    batch: &[&ChargedSegment],
) -> Result<Vec<Money>, String> {
    let inputs: Vec<RatingInput> = batch.iter().map(|segment| segment.input.clone()).collect();
    let prices = policy
        .rate(currency, &inputs)
        .map_err(|failure| failure.to_string())?;
    ledger::check_amounts(currency, &inputs, &prices)?;
    Ok(prices)
}

fn check_price(report: &mut Report, segment: &ChargedSegment, price: Money) {
    let price = price.rounded(AMOUNT_DECIMALS);
    if price == segment.money {
        return;
    }
    let (input, policy, charged) = (&segment.input, &segment.policy.name, segment.money);
    let what = format!(
        "{} s from {} are charged {charged}, but `{policy}` asks {price}",
        input.seconds, input.from
    );
    report.add(ViolationKind::Price, input.interval, what);
}

fn identity_text(identity: &PolicyIdentity) -> String {
    let PolicyIdentity {
        name,
        module_sha256,
        configuration_sha256,
    } = identity;
    format!("{configuration_sha256} {module_sha256} {name}")
}
