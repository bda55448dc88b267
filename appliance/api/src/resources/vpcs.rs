//! `/v1/vpcs`

use api_types::{CreateVpc, Page, Vpc};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands;
use types::VpcId;

use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, parse},
    paging::{PageQuery, Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// List VPCs.
#[utoipa::path(get, path = "/v1/vpcs", tag = "networks", params(PageQuery),
    responses((status = 200, description = "A page of VPCs", body = Page<Vpc>)))]
pub async fn list_vpcs(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Json<Page<Vpc>>> {
    let vpcs = shared.control.vpcs().await?;
    page(
        vpcs,
        query.limit,
        query.next_token.as_deref(),
        |v| Place(v.created_at, v.id.to_string()),
        |v| convert::network::vpc_to_wire(&v),
    )
    .map(Json)
}

/// Make a VPC.
#[utoipa::path(post, path = "/v1/vpcs", tag = "networks", request_body = CreateVpc,
    responses((status = 201, description = "The VPC", body = Vpc)))]
pub async fn create_vpc(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<CreateVpc>,
) -> ApiResult<(StatusCode, Json<Vpc>)> {
    let command = commands::CreateVpc {
        request: super::request(request.client_token, request.dry_run, received),
        cidr: parse(
            "cidr",
            &request.cidr,
            "a range of IPv4 addresses such as 10.0.0.0/16",
        )?,
        name: request.name,
    };
    let vpc = shared.control.create_vpc(command).await?;
    Ok((
        StatusCode::CREATED,
        Json(convert::network::vpc_to_wire(&vpc)),
    ))
}

/// One VPC.
#[utoipa::path(get, path = "/v1/vpcs/{id}", tag = "networks", params(("id" = String, Path, description = "`vpc-…`")),
    responses((status = 200, description = "The VPC", body = Vpc)))]
pub async fn get_vpc(
    State(shared): State<Shared>,
    ApiId(id): ApiId<VpcId>,
) -> ApiResult<Json<Vpc>> {
    let vpc = shared.control.vpc(id).await?;
    Ok(Json(convert::network::vpc_to_wire(&vpc)))
}

/// Delete a VPC without vswitches and security groups.
#[utoipa::path(delete, path = "/v1/vpcs/{id}", tag = "networks", params(("id" = String, Path, description = "`vpc-…`")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_vpc(
    State(shared): State<Shared>,
    ApiId(id): ApiId<VpcId>,
) -> ApiResult<StatusCode> {
    shared.control.delete_vpc(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
