//! `/v1/usage`

use api_types::Usage;
use axum::{Json, extract::State};
use control::commands::ChargeFilter;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{
    convert,
    extract::{ApiQuery, parse_optional_id, parse_time},
    paging::{Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// Which charges.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// For the running of this instance.
    instance_id: Option<String>,
    /// Of stretches that end after this (RFC 3339).
    #[param(format = DateTime)]
    from: Option<String>,
    /// Of stretches that begin before this (RFC 3339).
    #[param(format = DateTime)]
    to: Option<String>,
    /// How many charges at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_token` of the page before.
    next_token: Option<String>,
}

/// What was used and what it costs: charges, a page at a time, and the totals over all that was asked for.
#[utoipa::path(get, path = "/v1/usage", tag = "policies", params(UsageQuery),
    responses((status = 200, description = "Charges and totals", body = Usage)))]
pub async fn get_usage(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<UsageQuery>,
) -> ApiResult<Json<Usage>> {
    let filter = ChargeFilter {
        instance: parse_optional_id("instance_id", query.instance_id.as_ref())?,
        from: parse_time("from", query.from.as_ref())?,
        to: parse_time("to", query.to.as_ref())?,
    };
    let charges = shared.control.charges(&filter).await?;
    let totals = shared.control.charge_totals(&filter).await?;
    let page = page(
        charges,
        query.limit,
        query.next_token.as_deref(),
        |c| Place(c.from, c.id.to_string()),
        |c| convert::policy::charge_to_wire(&c),
    )?;
    Ok(Json(Usage {
        charges: page.items,
        totals: totals.iter().map(convert::policy::total_to_wire).collect(),
        next_token: page.next_token,
    }))
}
