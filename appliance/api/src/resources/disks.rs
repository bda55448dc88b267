//! `/v1/disks`

use api_types::{CreateDisk, Disk, Page};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands::{self, DiskFilter};
use serde::Deserialize;
use types::{ByteCount, DiskId};
use utoipa::IntoParams;

use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, parse_optional_id},
    paging::{Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// Which disks.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DiskQuery {
    /// Of this instance.
    instance_id: Option<String>,
    /// How many items at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_token` of the page before.
    next_token: Option<String>,
}

/// List disks.
#[utoipa::path(get, path = "/v1/disks", tag = "disks", params(DiskQuery),
    responses((status = 200, description = "A page of disks", body = Page<Disk>)))]
pub async fn list_disks(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<DiskQuery>,
) -> ApiResult<Json<Page<Disk>>> {
    let filter = DiskFilter {
        ids: Vec::new(),
        instance: parse_optional_id("instance_id", query.instance_id.as_ref())?,
    };
    let disks = shared.control.disks(&filter).await?;
    page(
        disks,
        query.limit,
        query.next_token.as_deref(),
        |d| Place(d.created_at, d.id.to_string()),
        |d| convert::disk::to_wire(&d),
    )
    .map(Json)
}

/// Make an empty data disk.
#[utoipa::path(post, path = "/v1/disks", tag = "disks", request_body = CreateDisk,
    responses((status = 201, description = "The disk", body = Disk)))]
pub async fn create_disk(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<CreateDisk>,
) -> ApiResult<(StatusCode, Json<Disk>)> {
    let command = commands::CreateDisk {
        request: super::request(request.client_token, request.dry_run, received),
        size: ByteCount::from_gib(request.size_gib),
        name: request.name,
    };
    let disk = shared.control.create_disk(command).await?;
    Ok((StatusCode::CREATED, Json(convert::disk::to_wire(&disk))))
}

/// One disk.
#[utoipa::path(get, path = "/v1/disks/{id}", tag = "disks", params(("id" = String, Path, description = "`d-…`")),
    responses((status = 200, description = "The disk", body = Disk)))]
pub async fn get_disk(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DiskId>,
) -> ApiResult<Json<Disk>> {
    let disk = shared.control.disk(id).await?;
    Ok(Json(convert::disk::to_wire(&disk)))
}

/// Delete a disk that is Available.
#[utoipa::path(delete, path = "/v1/disks/{id}", tag = "disks", params(("id" = String, Path, description = "`d-…`")),
    responses((status = 204, description = "It is going")))]
pub async fn delete_disk(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DiskId>,
) -> ApiResult<StatusCode> {
    shared.control.delete_disk(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
