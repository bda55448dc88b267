//! `/v1/quotes`

use api_types::{Quote, QuoteInstances};
use axum::{Json, extract::State};

use crate::{convert, extract::ApiJson, problem::ApiResult, routes::Shared};

/// What instances would cost (ECS DescribePrice). Nothing is made and nothing reserved.
#[utoipa::path(post, path = "/v1/quotes", tag = "billing", request_body = QuoteInstances,
    responses((status = 200, description = "Line by line, and in all", body = Quote)))]
pub async fn quote_instances(
    State(shared): State<Shared>,
    ApiJson(request): ApiJson<QuoteInstances>,
) -> ApiResult<Json<Quote>> {
    let command = convert::charge::quote_to_command(request)?;
    let per = convert::charge::per(&command.charging);
    let quoted = shared.control.quote(command).await?;
    Ok(Json(convert::charge::quote_to_wire(&quoted, per)))
}
