//! `/v1/decisions`

use api_types::{Decision, DecisionInputs, DecisionRerun, Page};
use axum::{Json, extract::State};
use control::commands::DecisionFilter;
use serde::Deserialize;
use types::DecisionId;
use utoipa::IntoParams;

use crate::{
    convert,
    extract::{ApiId, ApiQuery, parse_optional_id},
    paging::{Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// Which decisions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DecisionQuery {
    /// About this instance.
    instance_id: Option<String>,
    /// How many items at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_token` of the page before.
    next_token: Option<String>,
}

/// List placement decisions, also those that found no host.
#[utoipa::path(get, path = "/v1/decisions", tag = "policies", params(DecisionQuery),
    responses((status = 200, description = "A page of decisions, oldest first", body = Page<Decision>)))]
pub async fn list_decisions(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<DecisionQuery>,
) -> ApiResult<Json<Page<Decision>>> {
    let filter = DecisionFilter {
        instance: parse_optional_id("instance_id", query.instance_id.as_ref())?,
    };
    let decisions = shared.control.decisions(&filter).await?;
    page(
        decisions,
        query.limit,
        query.next_token.as_deref(),
        |d| Place(d.time, d.id.to_string()),
        |d| convert::policy::decision_to_wire(&d),
    )
    .map(Json)
}

/// List what placement decisions were made from: the request and the hosts as they were then. To be replayed elsewhere.
#[utoipa::path(get, path = "/v1/decisions/inputs", tag = "policies", params(DecisionQuery),
    responses((status = 200, description = "A page of them, oldest first", body = Page<DecisionInputs>)))]
pub async fn list_decision_inputs(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<DecisionQuery>,
) -> ApiResult<Json<Page<DecisionInputs>>> {
    let filter = DecisionFilter {
        instance: parse_optional_id("instance_id", query.instance_id.as_ref())?,
    };
    let inputs = shared.control.decision_inputs(&filter).await?;
    page(
        inputs,
        query.limit,
        query.next_token.as_deref(),
        |inputs| Place(inputs.decision.time, inputs.decision.id.to_string()),
        |inputs| convert::policy::inputs_to_wire(&inputs),
    )
    .map(Json)
}

/// One decision: what became of every host, and why.
#[utoipa::path(get, path = "/v1/decisions/{id}", tag = "policies", params(("id" = String, Path, description = "`dec-…`")),
    responses((status = 200, description = "The decision", body = Decision)))]
pub async fn get_decision(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DecisionId>,
) -> ApiResult<Json<Decision>> {
    let decision = shared.control.decision(id).await?;
    Ok(Json(convert::policy::decision_to_wire(&decision)))
}

/// Make a decision again, by the policy that made it and from what it was asked. Nothing changes.
#[utoipa::path(post, path = "/v1/decisions/{id}/rerun", tag = "policies", params(("id" = String, Path, description = "`dec-…`")),
    responses((status = 200, description = "What comes out now, and whether it is the same", body = DecisionRerun)))]
pub async fn rerun_decision(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DecisionId>,
) -> ApiResult<Json<DecisionRerun>> {
    let rerun = shared.control.rerun_decision(id).await?;
    Ok(Json(convert::policy::rerun_to_wire(&rerun)))
}
