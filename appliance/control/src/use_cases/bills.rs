//! Bills, and doubting them: whether all records of money agree, and whether a month comes to the same when it is made again.

use crate::{
    Control, ControlError, ErrorKind, Result,
    bills::{refused, unreadable},
    commands::BillSelector,
    core::{Core, blocking},
    model::{
        Bill, BillState, Disk, Image, ImageState, Instance, Intent, Meter, Replay,
        ReplayDifference, ReplayKind, State, Verification,
    },
    policies,
    records::{
        ChargeRecord, EntryRecord, InvoiceRecord, OwnerRecord, PurchaseRecord, SettlementRecord,
        SubscriptionRecord,
    },
    use_cases::meters,
};
use billing::{
    Books, Evidence, Invoice, Purchase, Replayed, Settlement, Subscription, UsedSpan, Violation,
    ViolationKind,
};
use ledger::{Audit, Charge, Entry, Rater, RatingPolicy, UsageKey};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use types::{
    AccountId, ChargeId, Currency, Decimal, InvoiceId, Month, Sha256Digest, Timestamp, UsageId,
};

impl Control {
    /// The bills of every month that was settled, oldest first.
    pub async fn bills(&self) -> Result<Vec<Bill>> {
        let core = self.core().clone();
        blocking(move || list(&Records::read(&core)?)).await?
    }

    /// What an account pays for a month; of the month that it is, what it comes to so far (`InvalidBillMonth.NotFound`).
    pub async fn bill(&self, selector: &BillSelector) -> Result<Bill> {
        let (core, selector) = (self.core().clone(), selector.clone());
        let show = move || {
            let which = Which::of(&core, &selector);
            Records::read(&core)?.bill(&which, core.now())
        };
        blocking(show).await?
    }

    /// Meters, then compares all records with each other and with what there is.
    pub async fn verify_bills(&self) -> Result<Verification> {
        let core = self.core().clone();
        blocking(move || verify(&core)).await?
    }

    /// Meters, then makes a month's settlements and invoice again, from charges alone, and prices the charges again
    /// (`InvalidBillMonth.NotFound`).
    pub async fn replay_bill(&self, selector: &BillSelector) -> Result<Replay> {
        let (core, selector) = (self.core().clone(), selector.clone());
        blocking(move || replay(&core, &Which::of(&core, &selector))).await?
    }
}

/// A month of an account in a currency.
struct Which {
    account: AccountId,
    currency: Currency,
    month: Month,
}

impl Which {
    fn of(core: &Core, selector: &BillSelector) -> Self {
        let account = selector.account.as_ref();
        let currency = selector.currency;
        Self {
            account: account.unwrap_or(&core.settings.account).clone(),
            currency: currency.unwrap_or_else(|| core.policies.in_force().currency()),
            month: selector.month,
        }
    }

    /// Whether that is the invoice of an earlier month of the same account in the same currency.
    fn follows(&self, record: &InvoiceRecord) -> bool {
        (&self.account, self.currency) == (&record.account, record.currency)
            && record.month < self.month
    }
}

/// Everything bills are made of, as of one point in time.
struct Records {
    entries: Vec<Entry>,
    charges: Vec<Charge>,
    owners: BTreeMap<String, AccountId>,
    settlements: Vec<Settlement>,
    subscriptions: Vec<Subscription>,
    purchases: Vec<Purchase>,
    invoices: BTreeMap<String, InvoiceRecord>,
    instances: Vec<Instance>,
    disks: Vec<Disk>,
    images: Vec<Image>,
    meters: Vec<Meter>,
}

impl Records {
    fn read(core: &Core) -> Result<Self> {
        core.read(|reader| {
            let entries = reader.list::<EntryRecord>()?.into_iter();
            let charges = reader.list::<ChargeRecord>()?.into_iter();
            let owners = reader.list::<OwnerRecord>()?.into_iter();
            let settlements = reader.list::<SettlementRecord>()?.into_iter();
            let invoices = reader.list::<InvoiceRecord>()?.into_iter();
            let subscriptions = reader.list::<SubscriptionRecord>()?.into_iter();
            let purchases = reader.list::<PurchaseRecord>()?.into_iter();
            Ok(Self {
                entries: entries.map(|record| record.entry).collect(),
                charges: charges.map(|record| record.charge).collect(),
                owners: owners
                    .map(|record| (record.resource, record.account))
                    .collect(),
                settlements: settlements.map(|record| record.settlement).collect(),
                subscriptions: subscriptions.map(|record| record.subscription).collect(),
                purchases: purchases.map(|record| record.purchase).collect(),
                invoices: invoices
                    .map(|record| (record.key.clone(), record))
                    .collect(),
                instances: reader.list()?,
                disks: reader.list()?,
                images: reader.list()?,
                meters: reader.list()?,
            })
        })
    }

    fn books(&self) -> Books<'_> {
        Books::new(&self.charges, &self.settlements, &self.purchases)
    }

    /// The kept invoice of a month that is closed.
    fn closed(&self, which: &Which) -> Option<&InvoiceRecord> {
        let key = InvoiceRecord::key_of(&which.account, which.currency, which.month);
        self.invoices.get(&key)
    }

    /// The charges that an account pays in a currency.
    fn charges_of(&self, account: &AccountId, currency: Currency) -> Vec<&Charge> {
        let charges = self.charges.iter();
        charges
            .filter(|charge| {
                charge.money.currency == currency
                    && self.owners.get(&charge.resource) == Some(account)
            })
            .collect()
    }

    /// The bill of a month; at `now` there is one of the month that it is, whatever was used.
    fn bill(&self, which: &Which, now: Timestamp) -> Result<Bill> {
        if let Some(record) = self.closed(which) {
            return closed_bill(record);
        }
        let books = self.books();
        let months = books.months(&which.account, which.currency);
        if which.month != Month::of(now) && !months.contains(&which.month) {
            return Err(unknown(which));
        }
        self.provisional(&books, which)
    }

    fn provisional(&self, books: &Books<'_>, which: &Which) -> Result<Bill> {
        let invoice = books
            .invoice(&which.account, which.currency, which.month)
            .map_err(|error| ControlError::internal("A bill cannot be made.", error))?;
        let settled: BTreeSet<ChargeId> = named(&self.settlements).collect();
        let unsettled = self
            .charges_of(&which.account, which.currency)
            .into_iter()
            .filter(|charge| !settled.contains(&charge.id))
            .fold(Decimal::ZERO, |sum, charge| {
                sum.saturating_add(charge.money.amount)
            });
        Ok(Bill {
            invoice,
            state: BillState::Provisional { unsettled },
        })
    }
}

fn list(records: &Records) -> Result<Vec<Bill>> {
    let books = records.books();
    let mut bills: Vec<Bill> = records
        .invoices
        .values()
        .map(closed_bill)
        .collect::<Result<_>>()?;
    for (account, currency) in books.accounts() {
        for month in books.months(account, currency) {
            let which = Which {
                account: account.clone(),
                currency,
                month,
            };
            if records.closed(&which).is_none() {
                bills.push(records.provisional(&books, &which)?);
            }
        }
    }
    bills.sort_by_cached_key(|bill| {
        let invoice = &bill.invoice;
        (invoice.month, invoice.account.clone(), invoice.currency)
    });
    Ok(bills)
}

fn closed_bill(record: &InvoiceRecord) -> Result<Bill> {
    Ok(Bill {
        invoice: record
            .invoice()
            .map_err(|error| unreadable(record, error))?,
        state: BillState::Closed {
            at: record.closed_at,
            sha256: record.sha256,
        },
    })
}

/// The charges that settlements name.
fn named<'a>(
    settlements: impl IntoIterator<Item = &'a Settlement>,
) -> impl Iterator<Item = ChargeId> {
    settlements
        .into_iter()
        .flat_map(|settlement| settlement.charges.iter().copied())
}

fn verify(core: &Core) -> Result<Verification> {
    let (metered, records) = core.metered(|now| Ok((now, Records::read(core)?)))?;
    let (invoices, mut altered) = readable(&records);
    let closed = records.invoices.values().map(|record| record.closed_at);
    let raters = policies::raters_of(core, &records.charges)?;
    let raters: Vec<&dyn RatingPolicy> = raters.iter().flat_map(Rater::policies).collect();
    let report = billing::verify(&Evidence {
        entries: &records.entries,
        charges: &records.charges,
        policies: &raters,
        history: &history(&records),
        slack: Duration::ZERO,
        owners: &records.owners,
        settlements: &records.settlements,
        subscriptions: &records.subscriptions,
        purchases: &records.purchases,
        invoices: &invoices,
        metered,
        // The clock may have gone back since.
        invoiced: closed.fold(metered, Timestamp::max),
    });
    let mut violations = report.violations;
    violations.append(&mut altered);
    Ok(Verification {
        through: metered,
        records: report.records,
        violations,
        unpriced: report.unpriced,
    })
}

/// The kept invoices that can be read, and what is wrong with the bytes of any.
fn readable(records: &Records) -> (Vec<Invoice>, Vec<Violation>) {
    let mut invoices = Vec::new();
    let mut violations = Vec::new();
    for record in records.invoices.values() {
        let mut wrong = |what: String| {
            violations.push(Violation {
                kind: ViolationKind::Invoice,
                subject: record.key.clone(),
                what,
            });
        };
        if let Some(what) = altered(record) {
            wrong(what);
        }
        match record.invoice() {
            Ok(invoice) => invoices.push(invoice),
            Err(error) => wrong(format!("it cannot be read: {error}")),
        }
    }
    (invoices, violations)
}

/// How it shows that a kept invoice is not what was written down when its month was closed.
fn altered(record: &InvoiceRecord) -> Option<String> {
    let digest = Sha256Digest::of(record.text.as_bytes());
    (digest != record.sha256).then(|| {
        let was = record.sha256;
        format!("it was altered: its digest is {digest} and was {was} when the month was closed")
    })
}

/// When what was in use. Of what is in use the records of what is there tell, of what was only the ledger does.
fn history(records: &Records) -> Vec<UsedSpan> {
    let mut used: BTreeMap<UsageKey, Timestamp> = BTreeMap::new();
    // Those that are being stopped were in use if they ran before, which nobody writes down.
    let mut perhaps: BTreeSet<UsageKey> = BTreeSet::new();
    let metered = |instance: &&Instance| instance.charge.subscription().is_none();
    for instance in records.instances.iter().filter(metered) {
        let running = UsageKey::instance_running(instance.id);
        match instance.state {
            State::Running => {
                let since = instance.started_at.unwrap_or(instance.created_at);
                used.insert(running, since);
            }
            State::Stopping => {
                perhaps.insert(running);
            }
            State::Stopped if instance.holds_capacity() && instance.intent != Intent::Released => {
                let since = instance.stopped_at.unwrap_or(instance.created_at);
                used.insert(UsageKey::instance_stopped(instance.id), since);
            }
            State::Pending | State::Starting | State::Stopped => {}
        }
    }
    for disk in records
        .disks
        .iter()
        .filter(|disk| disk.allocated && !disk.prepaid)
    {
        used.insert(UsageKey::disk_allocated(disk.id), disk.created_at);
    }
    let images = records.images.iter();
    for image in images.filter(|image| image.state == ImageState::Available) {
        used.insert(meters::image_key(image), image.created_at);
    }
    let states: BTreeMap<String, State> = records
        .instances
        .iter()
        .map(|instance| (instance.id.to_string(), instance.state))
        .collect();
    for meter in &records.meters {
        match states.get(&meter.resource) {
            Some(State::Stopping) if meter.while_running => {
                perhaps.insert(meter.usage_key());
            }
            Some(state) if meter.while_running && *state != State::Running => {}
            _ => {
                used.insert(meter.usage_key(), meter.created_at);
            }
        }
    }
    let mut history = Vec::new();
    let mut counted: BTreeSet<UsageKey> = BTreeSet::new();
    for interval in Audit::of(&records.entries, []).intervals {
        let key = interval.usage.key();
        let open = interval.to.is_none();
        if open && !used.contains_key(&key) && !perhaps.contains(&key) {
            continue;
        }
        if open {
            counted.insert(key.clone());
        }
        history.push(UsedSpan {
            key,
            from: interval.from,
            to: interval.to,
        });
    }
    used.retain(|key, _| !counted.contains(key));
    history.extend(used.into_iter().map(|(key, from)| UsedSpan {
        key,
        from,
        to: None,
    }));
    history
}

fn replay(core: &Core, which: &Which) -> Result<Replay> {
    let (metered, records) = core.metered(|now| Ok((now, Records::read(core)?)))?;
    records.bill(which, metered).map(drop).or_else(|error| {
        // An invoice that cannot be read is a difference, not the end.
        let kept = records.closed(which).is_some();
        kept.then_some(()).ok_or(error)
    })?;
    let replayed = settle_again(&records, which, metered)?;
    let invoice = invoice_again(&records, which, &replayed)?;
    let mut differences: Vec<ReplayDifference> = replayed
        .differences
        .iter()
        .map(|(subject, what)| ReplayDifference {
            kind: ReplayKind::Settlement,
            subject: subject.clone(),
            what: what.clone(),
        })
        .collect();
    let kept = records.closed(which);
    if let Some(record) = kept {
        differences.extend(compare(record, &invoice)?);
    }
    let prices = price_again(core, &records, &replayed)?;
    let wrong = prices
        .violations
        .into_iter()
        .map(|violation| ReplayDifference {
            kind: ReplayKind::Price,
            subject: violation.subject,
            what: violation.what,
        });
    differences.extend(wrong);
    let Which {
        account,
        currency,
        month,
    } = which;
    Ok(Replay {
        account: account.clone(),
        month: *month,
        currency: *currency,
        closed: kept.is_some(),
        settlements: u64::try_from(replayed.settlements.len()).unwrap_or(u64::MAX),
        runs: prices.records,
        total: invoice.total,
        differences,
        unpriced: prices.unpriced,
    })
}

fn settle_again(records: &Records, which: &Which, metered: Timestamp) -> Result<Replayed> {
    let closed = records
        .invoices
        .values()
        .filter(|record| which.follows(record))
        .map(|record| record.month.end())
        .max();
    let settlements: Vec<&Settlement> = settlements_of(records, which).collect();
    billing::Replay {
        account: &which.account,
        currency: which.currency,
        month: which.month,
        charges: &records.charges_of(&which.account, which.currency),
        settlements: &settlements,
        closed,
        settled: metered,
    }
    .run()
    .map_err(|error| refused(error, "be made again"))
}

fn settlements_of<'a>(
    records: &'a Records,
    which: &'a Which,
) -> impl Iterator<Item = &'a Settlement> {
    records.settlements.iter().filter(|settlement| {
        (&settlement.account, settlement.currency) == (&which.account, which.currency)
    })
}

/// The invoice of settlements that were made again, after those of the months before.
fn invoice_again(records: &Records, which: &Which, replayed: &Replayed) -> Result<Invoice> {
    let before =
        settlements_of(records, which).filter(|settlement| settlement.to <= which.month.start());
    Books::new(
        &records.charges,
        before.chain(&replayed.settlements),
        &records.purchases,
    )
    .invoice(&which.account, which.currency, which.month)
    .map_err(|error| ControlError::internal("The invoice cannot be made again.", error))
}

/// In what the kept invoice is not `expected`, byte by byte.
fn compare(record: &InvoiceRecord, expected: &Invoice) -> Result<Vec<ReplayDifference>> {
    let again = InvoiceRecord::new(expected, record.closed_at)
        .map_err(|error| ControlError::internal("The invoice cannot be written down.", error))?;
    let mut found: Vec<String> = altered(record).into_iter().collect();
    match record.invoice() {
        Ok(invoice) => found.extend(invoice.differences(expected)),
        Err(error) => found.push(format!("it cannot be read: {error}")),
    }
    if found.is_empty() && again.text != record.text {
        let (is, should) = (record.sha256, again.sha256);
        found.push(format!(
            "its bytes have the digest {is} and should have {should}"
        ));
    }
    let id: InvoiceId = expected.id;
    Ok(found
        .into_iter()
        .map(|what| ReplayDifference {
            kind: ReplayKind::Invoice,
            subject: id.to_string(),
            what,
        })
        .collect())
}

/// Prices again, from their beginning, the runs of charges that the month's settlements have a part of.
fn price_again(core: &Core, records: &Records, replayed: &Replayed) -> Result<billing::Report> {
    let settled: BTreeSet<ChargeId> = named(&replayed.settlements).collect();
    let intervals: BTreeSet<UsageId> = records
        .charges
        .iter()
        .filter(|charge| settled.contains(&charge.id))
        .map(|charge| charge.interval)
        .collect();
    let mut segments = Audit::of(&records.entries, &records.charges).segments;
    segments.retain(|segment| intervals.contains(&segment.input.interval));
    let raters = policies::raters_of(core, &records.charges)?;
    let raters: Vec<&dyn RatingPolicy> = raters.iter().flat_map(Rater::policies).collect();
    Ok(billing::reprice(&segments, &raters))
}

fn unknown(which: &Which) -> ControlError {
    let Which {
        account,
        currency,
        month,
    } = which;
    ControlError::new(
        ErrorKind::NotFound,
        "InvalidBillMonth.NotFound",
        format!(
            "There is no bill of {month} for {account} in {currency}: nothing was settled then."
        ),
    )
    .with_next_step("List the bills, and check month, account and currency.")
}
