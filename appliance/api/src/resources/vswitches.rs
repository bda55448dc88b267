//! `/v1/vswitches`

use api_types::{CreateVswitch, Page, Vswitch};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands;
use serde::Deserialize;
use types::VswitchId;
use utoipa::IntoParams;

use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, parse, parse_id, parse_optional_id},
    paging::{Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// Which vswitches.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct VswitchQuery {
    /// Of this VPC.
    vpc_id: Option<String>,
    /// How many items at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_token` of the page before.
    next_token: Option<String>,
}

/// List vswitches.
#[utoipa::path(get, path = "/v1/vswitches", tag = "networks", params(VswitchQuery),
    responses((status = 200, description = "A page of vswitches", body = Page<Vswitch>)))]
pub async fn list_vswitches(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<VswitchQuery>,
) -> ApiResult<Json<Page<Vswitch>>> {
    let vpc = parse_optional_id("vpc_id", query.vpc_id.as_ref())?;
    let vswitches = shared.control.vswitches(vpc).await?;
    page(
        vswitches,
        query.limit,
        query.next_token.as_deref(),
        |v| Place(v.created_at, v.id.to_string()),
        |v| convert::network::vswitch_to_wire(&v),
    )
    .map(Json)
}

/// Make a vswitch.
#[utoipa::path(post, path = "/v1/vswitches", tag = "networks", request_body = CreateVswitch,
    responses((status = 201, description = "The vswitch", body = Vswitch)))]
pub async fn create_vswitch(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<CreateVswitch>,
) -> ApiResult<(StatusCode, Json<Vswitch>)> {
    let command = commands::CreateVswitch {
        request: super::request(request.client_token, request.dry_run, received),
        vpc: parse_id("vpc_id", &request.vpc_id)?,
        cidr: parse(
            "cidr",
            &request.cidr,
            "a range of IPv4 addresses such as 10.0.1.0/24",
        )?,
        name: request.name,
    };
    let vswitch = shared.control.create_vswitch(command).await?;
    Ok((
        StatusCode::CREATED,
        Json(convert::network::vswitch_to_wire(&vswitch)),
    ))
}

/// One vswitch.
#[utoipa::path(get, path = "/v1/vswitches/{id}", tag = "networks", params(("id" = String, Path, description = "`vsw-…`")),
    responses((status = 200, description = "The vswitch", body = Vswitch)))]
pub async fn get_vswitch(
    State(shared): State<Shared>,
    ApiId(id): ApiId<VswitchId>,
) -> ApiResult<Json<Vswitch>> {
    let vswitch = shared.control.vswitch(id).await?;
    Ok(Json(convert::network::vswitch_to_wire(&vswitch)))
}

/// Delete a vswitch that nobody is on.
#[utoipa::path(delete, path = "/v1/vswitches/{id}", tag = "networks", params(("id" = String, Path, description = "`vsw-…`")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_vswitch(
    State(shared): State<Shared>,
    ApiId(id): ApiId<VswitchId>,
) -> ApiResult<StatusCode> {
    shared.control.delete_vswitch(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
