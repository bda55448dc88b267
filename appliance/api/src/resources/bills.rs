//! `/v1/bills`

use api_types::{Bill, BillReplay, BillSummary, BillVerification, Page};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse as _, Response},
};
use control::{commands::BillSelector, model};
use serde::Deserialize;
use types::{Month, ParseError};
use utoipa::IntoParams;

use crate::{
    convert,
    extract::{ApiId, ApiQuery},
    paging::{PageQuery, Place, page},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// Whose bill, and in which currency.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct WhichBill {
    /// Who pays; the host's account if absent.
    account: Option<String>,
    /// ISO 4217 code; that of the host's prices if absent.
    currency: Option<String>,
}

/// Whose bill, in which currency and how written.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct BillQuery {
    /// Who pays; the host's account if absent.
    account: Option<String>,
    /// ISO 4217 code; that of the host's prices if absent.
    currency: Option<String>,
    /// How it is written; if absent, as the header `Accept` says: `text/csv` or `text/plain`, else JSON.
    #[param(inline)]
    format: Option<BillFormat>,
}

/// How a bill is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BillFormat {
    /// As every other answer.
    Json,
    /// A table (RFC 4180).
    Csv,
    /// A page that people read.
    Page,
}

/// List the bills of every month that was settled.
#[utoipa::path(get, path = "/v1/bills", tag = "billing", params(PageQuery),
    responses((status = 200, description = "A page of bills, oldest first", body = Page<BillSummary>)))]
pub async fn list_bills(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Json<Page<BillSummary>>> {
    let bills = shared.control.bills().await?;
    page(
        bills,
        query.limit,
        query.next_token.as_deref(),
        |b| Place(b.invoice.month.start(), b.invoice.id.to_string()),
        |b| convert::bill::summary_to_wire(&b),
    )
    .map(Json)
}

/// One bill: final if its month is closed, else what it comes to so far.
#[utoipa::path(get, path = "/v1/bills/{month}", tag = "billing", params(("month" = String, Path, description = "`2026-01`"), BillQuery),
    responses((status = 200, description = "The bill", content(
        (Bill = "application/json"), (String = "text/csv"), (String = "text/plain")))))]
pub async fn get_bill(
    State(shared): State<Shared>,
    ApiId(month): ApiId<Month>,
    headers: HeaderMap,
    ApiQuery(query): ApiQuery<BillQuery>,
) -> ApiResult<Response> {
    let format = query.format.unwrap_or_else(|| accepted(&headers));
    let which = WhichBill {
        account: query.account,
        currency: query.currency,
    };
    let bill = shared.control.bill(&selector(month, &which)?).await?;
    Ok(match format {
        BillFormat::Json => Json(convert::bill::to_wire(&bill)).into_response(),
        BillFormat::Csv => text(&bill, "text/csv; charset=utf-8", "csv", bill.to_csv()?),
        BillFormat::Page => text(&bill, "text/plain; charset=utf-8", "txt", bill.to_page()),
    })
}

/// Compare all records of money with each other, and with the instances and disks that there are. What was used is charged and
/// settled first.
#[utoipa::path(post, path = "/v1/bills/verify", tag = "billing",
    responses((status = 200, description = "Everything that is wrong, if anything is", body = BillVerification)))]
pub async fn verify_bills(State(shared): State<Shared>) -> ApiResult<Json<BillVerification>> {
    let verification = shared.control.verify_bills().await?;
    Ok(Json(convert::bill::verification_to_wire(&verification)))
}

/// Make a month's bill again, from charges alone, and price those again by the policies in force; compare with what is kept.
#[utoipa::path(post, path = "/v1/bills/{month}/replay", tag = "billing", params(("month" = String, Path, description = "`2026-01`"), WhichBill),
    responses((status = 200, description = "Every difference, if there is any", body = BillReplay)))]
pub async fn replay_bill(
    State(shared): State<Shared>,
    ApiId(month): ApiId<Month>,
    ApiQuery(which): ApiQuery<WhichBill>,
) -> ApiResult<Json<BillReplay>> {
    let replay = shared
        .control
        .replay_bill(&selector(month, &which)?)
        .await?;
    Ok(Json(convert::bill::replay_to_wire(&replay)))
}

fn selector(month: Month, which: &WhichBill) -> ApiResult<BillSelector> {
    let invalid = |field: &'static str| {
        move |error: ParseError| ApiProblem::invalid(field, error.to_string())
    };
    let account = which.account.as_deref().map(str::parse).transpose();
    let currency = which.currency.as_deref().map(str::parse).transpose();
    Ok(BillSelector {
        month,
        account: account.map_err(invalid("account"))?,
        currency: currency.map_err(invalid("currency"))?,
    })
}

/// The first format that the client names and that there is.
fn accepted(headers: &HeaderMap) -> BillFormat {
    let accept = headers.get(header::ACCEPT);
    let accept = accept.and_then(|value| value.to_str().ok());
    let named = accept.unwrap_or_default().split(',').find_map(|range| {
        let essence = range.split(';').next().unwrap_or_default().trim();
        match essence.to_ascii_lowercase().as_str() {
            "application/json" => Some(BillFormat::Json),
            "text/csv" => Some(BillFormat::Csv),
            "text/plain" => Some(BillFormat::Page),
            _ => None,
        }
    });
    named.unwrap_or(BillFormat::Json)
}

/// A bill as text, with the name of a file that says whether it is final.
fn text(bill: &model::Bill, kind: &'static str, ending: &str, body: String) -> Response {
    let invoice = &bill.invoice;
    let provisional = match bill.state {
        model::BillState::Provisional { .. } => "-provisional",
        model::BillState::Closed { .. } => "",
    };
    let name = format!(
        "bill-{}-{}-{}{provisional}.{ending}",
        invoice.month, invoice.account, invoice.currency
    );
    let disposition = format!("inline; filename=\"{name}\"");
    (
        [
            (header::CONTENT_TYPE, kind.to_owned()),
            (header::CONTENT_DISPOSITION, disposition),
        ],
        body,
    )
        .into_response()
}
