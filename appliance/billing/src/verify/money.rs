//! Settlements, purchases and invoices against the records they are made of.

use super::{Evidence, Report, ViolationKind};
use crate::{Books, Purchase, Settlement, SettlementError, Settler};
use ledger::Charge;
use std::collections::{BTreeMap, BTreeSet};
use types::{AccountId, ChargeId, Currency, InvoiceId, PurchaseId, SubscriptionId};

/// Each charge is settled once, by its owner's account, and each settlement adds up and follows on the one before it.
pub(super) fn settlements(report: &mut Report, evidence: &Evidence<'_>) {
    let mut settlers: BTreeMap<(&AccountId, Currency), Settler> = BTreeMap::new();
    let mut ownerless = BTreeSet::new();
    let charges: BTreeMap<ChargeId, &Charge> = evidence
        .charges
        .iter()
        .map(|charge| (charge.id, charge))
        .collect();
    for charge in charges.values() {
        let Some(owner) = evidence.owners.get(&charge.resource) else {
            if ownerless.insert(&charge.resource) {
                report.add(
                    ViolationKind::Owner,
                    &charge.resource,
                    "it is charged for, and nobody is known to own it",
                );
            }
            continue;
        };
        let currency = charge.money.currency;
        let settler = settlers.entry((owner, currency));
        let settler = settler.or_insert_with(|| Settler::new(owner.clone(), currency));
        if let Err(error) = settler.add(charge) {
            report.add(ViolationKind::Charge, charge.id, error.to_string());
        }
    }
    let mut ordered: Vec<&Settlement> = evidence.settlements.iter().collect();
    ordered.sort_by_key(|settlement| (settlement.to, settlement.id));
    for settlement in ordered {
        let key = (&settlement.account, settlement.currency);
        let settler = settlers.entry(key);
        let settler = settler
            .or_insert_with(|| Settler::new(settlement.account.clone(), settlement.currency));
        if let Err(error) = settler.record(settlement) {
            report.add(ViolationKind::Settlement, settlement.id, error.to_string());
            // Its successor carries on from what it says.
            if !matches!(error, SettlementError::AlreadySettled { .. }) {
                settler.resume_at(settlement);
            }
        }
    }
    for invoice in evidence.invoices {
        let end = invoice.month.end();
        let settler = settlers.get_mut(&(&invoice.account, invoice.currency));
        if let Some(settler) = settler.filter(|_| end <= evidence.invoiced) {
            settler.close(end);
        }
    }
    for settler in settlers.values() {
        for charge in settler.overdue(evidence.metered) {
            report.add(
                ViolationKind::Unsettled,
                charge,
                "its hour is over, and no settlement has it",
            );
        }
    }
}

/// The purchases of each subscription are there once each and come to what was paid for its terms, which follow on each other.
pub(super) fn subscriptions(report: &mut Report, evidence: &Evidence<'_>) {
    let mut purchases: BTreeMap<SubscriptionId, Vec<&Purchase>> = BTreeMap::new();
    for purchase in evidence.purchases {
        let of = purchases.entry(purchase.subscription).or_default();
        of.push(purchase);
    }
    for subscription in evidence.subscriptions {
        let kind = ViolationKind::Subscription;
        let id = subscription.id();
        let made = purchases.remove(&id).unwrap_or_default();
        let mut missing: BTreeSet<PurchaseId> = subscription.purchase_ids().collect();
        for purchase in &made {
            if !missing.remove(&purchase.id) {
                let what = format!("it is twice among the records, or {id} never made it");
                report.add(kind, purchase.id, what);
            }
            if purchase.account != *subscription.account() {
                let owner = subscription.account();
                let what = format!("{} pays it, but {id} is of {owner}", purchase.account);
                report.add(kind, purchase.id, what);
            }
        }
        for purchase in missing {
            report.add(
                kind,
                purchase,
                format!("{id} made it, and there is no record of it"),
            );
        }
        let sum = made
            .iter()
            .try_fold(None, |sum: Option<types::Money>, next| match sum {
                Some(sum) => sum.checked_add(next.money).map(Some),
                None => Ok(Some(next.money)),
            });
        match (sum, subscription.paid()) {
            (Ok(Some(sum)), Ok(paid)) if sum != paid => {
                let what = format!("its purchases come to {sum}, its terms to {paid}");
                report.add(kind, id, what);
            }
            (Err(error), _) | (_, Err(error)) => report.add(kind, id, error.to_string()),
            _ => {}
        }
        for what in subscription.gaps() {
            report.add(kind, id, what);
        }
    }
    for purchase in purchases.values().flatten() {
        let what = format!("it is for {}, which is not known", purchase.subscription);
        report.add(ViolationKind::Subscription, purchase.id, what);
    }
}

/// Every invoice is what the records come to, and there is one for each month that ended.
pub(super) fn invoices(report: &mut Report, evidence: &Evidence<'_>) {
    let kind = ViolationKind::Invoice;
    let books = Books::new(evidence.charges, evidence.settlements, evidence.purchases);
    let mut seen: BTreeSet<InvoiceId> = BTreeSet::new();
    for invoice in evidence.invoices {
        match books.invoice(&invoice.account, invoice.currency, invoice.month) {
            Ok(expected) => {
                for what in invoice.differences(&expected) {
                    report.add(kind, invoice.id, what);
                }
                if invoice.month.end() > evidence.invoiced {
                    report.add(kind, invoice.id, "its month is not over");
                }
                if !seen.insert(expected.id) {
                    report.add(kind, invoice.id, "the month is invoiced twice");
                }
            }
            Err(error) => report.add(kind, invoice.id, error.to_string()),
        }
    }
    for (account, currency) in books.accounts() {
        for month in books.months(account, currency) {
            let over = month.end() <= evidence.invoiced;
            if let Ok(expected) = books.invoice(account, currency, month)
                && over
                && !seen.contains(&expected.id)
            {
                let what = format!("{month} of {account} in {currency} is not invoiced");
                report.add(kind, expected.id, what);
            }
        }
    }
}
