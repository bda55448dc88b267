//! `/v1/accounts`

use api_types::{Account, Page, PayIn, Payment, SetAccount};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands;
use types::{AccountId, ParseError};

use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, parse},
    paging::{PageQuery, Place, page},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// List accounts: the host's, and all others that used or paid something.
#[utoipa::path(get, path = "/v1/accounts", tag = "billing",
    responses((status = 200, description = "Every account, on one page", body = Page<Account>)))]
pub async fn list_accounts(State(shared): State<Shared>) -> ApiResult<Json<Page<Account>>> {
    let accounts = shared.control.accounts().await?;
    Ok(Json(Page {
        items: accounts.iter().map(convert::account::to_wire).collect(),
        next_token: None,
    }))
}

/// Say how an account pays. What it had used and bought before it begins to pay from its balance is paid by invoice.
#[utoipa::path(put, path = "/v1/accounts/{id}", tag = "billing",
    params(("id" = String, Path, description = "1 to 64 characters of `[0-9A-Za-z._-]`")), request_body = SetAccount,
    responses((status = 200, description = "The account", body = Account)))]
pub async fn set_account(
    State(shared): State<Shared>,
    ApiId(id): ApiId<AccountId>,
    ApiJson(request): ApiJson<SetAccount>,
) -> ApiResult<Json<Account>> {
    let command = commands::SetAccount {
        account: Some(id),
        pay_by: convert::account::pay_by(request.pay_by),
    };
    let account = shared.control.set_account(command).await?;
    Ok(Json(convert::account::to_wire(&account)))
}

/// List what an account paid.
#[utoipa::path(get, path = "/v1/accounts/{id}/payments", tag = "billing", params(("id" = String, Path, description = "Its id"), PageQuery),
    responses((status = 200, description = "A page of payments, oldest first", body = Page<Payment>)))]
pub async fn list_payments(
    State(shared): State<Shared>,
    ApiId(id): ApiId<AccountId>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Json<Page<Payment>>> {
    let payments = shared.control.payments(Some(id)).await?;
    page(
        payments,
        query.limit,
        query.next_token.as_deref(),
        |p| Place(p.at, p.id.to_string()),
        |p| convert::account::payment_to_wire(&p),
    )
    .map(Json)
}

/// Note that an account paid. Once it has paid all that it owed, what was stopped for that starts again.
#[utoipa::path(post, path = "/v1/accounts/{id}/payments", tag = "billing", params(("id" = String, Path, description = "Its id")),
    request_body = PayIn,
    responses((status = 201, description = "The payment", body = Payment)))]
pub async fn pay_in(
    State(shared): State<Shared>,
    ApiId(id): ApiId<AccountId>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<PayIn>,
) -> ApiResult<(StatusCode, Json<Payment>)> {
    let currency = request.currency.as_deref().map(str::parse).transpose();
    let command = commands::PayIn {
        request: super::request(request.client_token, request.dry_run, received),
        account: Some(id),
        amount: parse("amount", &request.amount, "a decimal number such as 99.50")?,
        currency: currency
            .map_err(|error: ParseError| ApiProblem::invalid("currency", error.to_string()))?,
        reference: request.reference,
    };
    let payment = shared.control.pay_in(command).await;
    // Elsewhere an amount is how many.
    let payment = payment.map_err(|error| ApiProblem::from(error).renamed("count", "amount"))?;
    let payment = convert::account::payment_to_wire(&payment);
    Ok((StatusCode::CREATED, Json(payment)))
}
