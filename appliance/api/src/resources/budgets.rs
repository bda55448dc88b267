//! `/v1/budgets`

use api_types::{Budget, Page, SetBudget};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use control::commands;
use types::ParseError;

use crate::{
    convert,
    extract::{ApiJson, parse},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// List budgets with what was spent in the month that it is.
#[utoipa::path(get, path = "/v1/budgets", tag = "billing",
    responses((status = 200, description = "Every budget, on one page", body = Page<Budget>)))]
pub async fn list_budgets(State(shared): State<Shared>) -> ApiResult<Json<Page<Budget>>> {
    let budgets = shared.control.budgets().await?;
    Ok(Json(Page {
        items: budgets.iter().map(convert::bill::budget_to_wire).collect(),
        next_token: None,
    }))
}

/// Set a budget, in place of one of the same name. Thresholds are told as events `budget.alert`, once a month each.
#[utoipa::path(put, path = "/v1/budgets/{name}", tag = "billing",
    params(("name" = String, Path, description = "1 to 64 characters of `[0-9A-Za-z._-]`")), request_body = SetBudget,
    responses((status = 200, description = "The budget", body = Budget)))]
pub async fn set_budget(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    ApiJson(request): ApiJson<SetBudget>,
) -> ApiResult<Json<Budget>> {
    let currency = request.currency.as_deref().map(str::parse).transpose();
    let command = commands::SetBudget {
        name,
        limit: parse("limit", &request.limit, "a decimal number such as 99.50")?,
        currency: currency
            .map_err(|error: ParseError| ApiProblem::invalid("currency", error.to_string()))?,
        thresholds: request.thresholds,
    };
    let budget = shared.control.set_budget(command).await?;
    Ok(Json(convert::bill::budget_to_wire(&budget)))
}

/// Remove a budget.
#[utoipa::path(delete, path = "/v1/budgets/{name}", tag = "billing", params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_budget(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    shared.control.delete_budget(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
