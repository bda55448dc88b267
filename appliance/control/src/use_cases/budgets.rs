//! Budgets: told as events when what was settled in a month passes a part of what was planned.

use crate::{
    Control, ControlError, ErrorKind, Result,
    commands::SetBudget,
    core::{Core, blocking, check_room},
    model::BudgetStatus,
    reconcile::meter::tell_budgets,
    records::BudgetRecord,
};
use billing::{Budget, InvalidBudget};
use store::Record as _;
use types::{AccountId, Money, Month};

/// The most budgets of a host.
const MAX_BUDGETS: u32 = 100;
/// The longest name, in characters.
const MAX_NAME: usize = 64;

impl Control {
    /// All budgets, by name.
    pub async fn budgets(&self) -> Result<Vec<BudgetStatus>> {
        let core = self.core();
        let records = core.list::<BudgetRecord>()?;
        Ok(records
            .into_iter()
            .map(|record| status(core, record))
            .collect())
    }

    /// Sets a budget of the host's account. Thresholds that are passed already are told at once. One that is set as it is does not
    /// change; one that is set otherwise tells its thresholds anew.
    pub async fn set_budget(&self, command: SetBudget) -> Result<BudgetStatus> {
        let core = self.core().clone();
        blocking(move || set(&core, command)).await?
    }

    /// Removes a budget of the host's account (`InvalidBudgetName.NotFound`).
    pub async fn delete_budget(&self, name: &str) -> Result<()> {
        let key = BudgetRecord::key_of(&self.core().settings.account, name);
        let unknown = unknown(name);
        let delete = move |transaction: &mut crate::core::Transaction<'_>| {
            let found = transaction.delete::<BudgetRecord>(&key)?;
            found.then_some(()).ok_or(unknown)
        };
        self.core().write(delete).await
    }
}

fn set(core: &Core, command: SetBudget) -> Result<BudgetStatus> {
    let account = &core.settings.account;
    let record = judge(core, account, command)?;
    let month = Month::of(core.now());
    // What is settled meanwhile would not be told.
    let _metering = core.metering();
    let spent = core
        .books()
        .bills
        .spent(account, record.budget.limit().currency, month);
    let record = core.write_blocking(true, |transaction| {
        let kept = transaction.get::<BudgetRecord>(record.key())?;
        if let Some(kept) = kept.filter(|kept| same(&kept.budget, &record.budget)) {
            return Ok(kept);
        }
        let others = transaction.list::<BudgetRecord>()?;
        let others = others.iter().filter(|other| other.key() != record.key());
        check_room("budgets", others.count(), 1, MAX_BUDGETS)?;
        transaction.put(&record)?;
        tell_budgets(transaction, account, month, spent)?;
        Ok(transaction.get(record.key())?.unwrap_or(record))
    })?;
    Ok(status(core, record))
}

/// The budget that is asked for, unless it makes no sense.
fn judge(core: &Core, account: &AccountId, command: SetBudget) -> Result<BudgetRecord> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let fits = (1..=MAX_NAME).contains(&command.name.len());
    if !fits || !command.name.bytes().all(known) {
        let message = format!(
            "The name of a budget is 1 to {MAX_NAME} characters of 0-9, A-Z, a-z, `.`, `_` and `-`."
        );
        return Err(ControlError::invalid("name", message));
    }
    let charged = core.policies.in_force().currency();
    let currency = command.currency.unwrap_or(charged);
    if currency != charged {
        let message =
            format!("Prices here are in {charged}: a budget in {currency} would never be used up.");
        return Err(ControlError::invalid("currency", message));
    }
    let limit = Money::new(command.limit, currency);
    let budget = Budget::new(account.clone(), limit, &command.thresholds).map_err(|error| {
        let field = match error {
            InvalidBudget::Limit(_) => "limit",
            InvalidBudget::Thresholds(_) => "thresholds",
        };
        ControlError::invalid(field, crate::core::sentence(&error.to_string()))
    })?;
    Ok(BudgetRecord::new(command.name, budget))
}

/// Whether both plan the same, whatever was told of them.
fn same(one: &Budget, other: &Budget) -> bool {
    one.limit() == other.limit() && one.thresholds().eq(other.thresholds())
}

fn status(core: &Core, record: BudgetRecord) -> BudgetStatus {
    let BudgetRecord { name, budget, .. } = record;
    let month = Month::of(core.now());
    let currency = budget.limit().currency;
    let spent = core.books().bills.spent(budget.account(), currency, month);
    BudgetStatus {
        name,
        budget,
        month,
        spent,
    }
}

fn unknown(name: &str) -> ControlError {
    let shown: String = name.chars().take(MAX_NAME).collect();
    ControlError::new(
        ErrorKind::NotFound,
        "InvalidBudgetName.NotFound",
        format!("There is no budget {shown}."),
    )
    .with_next_step("List the budgets, and check the name.")
}
