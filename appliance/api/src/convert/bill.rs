//! Bills and budgets.

use api_types::{
    Bill, BillFinding, BillLine, BillReplay, BillSummary, BillVerification, Budget, Unpriced,
};
use control::model::{self, BillState};

/// A bill without its lines as it goes over the wire.
pub fn summary_to_wire(bill: &model::Bill) -> BillSummary {
    let invoice = &bill.invoice;
    let (closed_at, sha256, unsettled) = match bill.state {
        BillState::Closed { at, sha256 } => (Some(at.to_string()), Some(sha256.to_string()), None),
        BillState::Provisional { unsettled } => (None, None, Some(unsettled.to_string())),
    };
    BillSummary {
        id: invoice.id.to_string(),
        account: invoice.account.to_string(),
        month: invoice.month.to_string(),
        currency: invoice.currency.to_string(),
        provisional: closed_at.is_none(),
        closed_at,
        sha256,
        unsettled,
        total: invoice.total.to_string(),
    }
}

/// A bill as it goes over the wire.
pub fn to_wire(bill: &model::Bill) -> Bill {
    let invoice = &bill.invoice;
    Bill {
        summary: summary_to_wire(bill),
        lines: invoice.lines.iter().map(line_to_wire).collect(),
        usage: invoice.usage.to_string(),
        carried_in: invoice.carried_in.to_string(),
        carried_out: invoice.carried_out.to_string(),
        settled: invoice.settled.to_string(),
        purchases: invoice.purchases.to_string(),
        refunds: invoice.refunds.to_string(),
    }
}

fn line_to_wire(line: &model::InvoiceLine) -> BillLine {
    BillLine {
        kind: line.kind.name().to_owned(),
        resource_id: line.resource.clone(),
        meter: line.meter.clone(),
        detail: line.detail.clone(),
        from: line.from.to_string(),
        to: line.to.to_string(),
        seconds: line.seconds,
        amount: line.amount.to_string(),
    }
}

/// What came of verifying as it goes over the wire.
pub fn verification_to_wire(verification: &model::Verification) -> BillVerification {
    let finding = |violation: &model::Violation| BillFinding {
        kind: violation.kind.name().to_owned(),
        subject: violation.subject.clone(),
        what: violation.what.clone(),
    };
    BillVerification {
        through: verification.through.to_string(),
        records: verification.records,
        violations: verification.violations.iter().map(finding).collect(),
        unpriced: verification.unpriced.iter().map(unpriced_to_wire).collect(),
    }
}

/// What came of a replay as it goes over the wire.
pub fn replay_to_wire(replay: &model::Replay) -> BillReplay {
    let finding = |difference: &model::ReplayDifference| BillFinding {
        kind: difference.kind.name().to_owned(),
        subject: difference.subject.clone(),
        what: difference.what.clone(),
    };
    BillReplay {
        account: replay.account.to_string(),
        month: replay.month.to_string(),
        currency: replay.currency.to_string(),
        provisional: !replay.closed,
        settlements: replay.settlements,
        runs: replay.runs,
        total: replay.total.to_string(),
        differences: replay.differences.iter().map(finding).collect(),
        unpriced: replay.unpriced.iter().map(unpriced_to_wire).collect(),
    }
}

fn unpriced_to_wire(unpriced: &model::Unpriced) -> Unpriced {
    let policy = &unpriced.policy;
    Unpriced {
        policy: policy.name.clone(),
        module_sha256: super::policy::module(&policy.module_sha256),
        configuration_sha256: policy.configuration_sha256.to_string(),
        runs: unpriced.runs,
    }
}

/// A budget as it goes over the wire.
pub fn budget_to_wire(status: &model::BudgetStatus) -> Budget {
    let budget = &status.budget;
    Budget {
        name: status.name.clone(),
        account: budget.account().to_string(),
        limit: budget.limit().amount.to_string(),
        currency: budget.limit().currency.to_string(),
        thresholds: budget.thresholds().collect(),
        month: status.month.to_string(),
        spent: status.spent.amount.to_string(),
        told: budget.fired(status.month).collect(),
    }
}
