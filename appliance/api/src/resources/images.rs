//! `/v1/images`: begin one, send its parts (see `uploads`), complete it.

use api_types::{CreateImage, Image, Page};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands;
use types::ImageId;

use super::instances::Nothing;
use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, OptionalJson},
    paging::{PageQuery, Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// List images.
#[utoipa::path(get, path = "/v1/images", tag = "images", params(PageQuery),
    responses((status = 200, description = "A page of images", body = Page<Image>)))]
pub async fn list_images(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Json<Page<Image>>> {
    let images = shared.control.images().await?;
    page(
        images,
        query.limit,
        query.next_token.as_deref(),
        |i| Place(i.created_at, i.id.to_string()),
        |i| convert::image::to_wire(&i),
    )
    .map(Json)
}

/// Begin an image: then send its parts, then complete it.
#[utoipa::path(post, path = "/v1/images", tag = "images", request_body = CreateImage,
    responses((status = 201, description = "The image, waiting for its parts", body = Image)))]
pub async fn create_image(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<CreateImage>,
) -> ApiResult<(StatusCode, Json<Image>)> {
    let command = commands::CreateImage {
        request: super::request(request.client_token, request.dry_run, received),
        name: request.name,
        description: request.description,
        cmdline: request.cmdline.unwrap_or_default(),
    };
    let image = shared.control.create_image(command).await?;
    Ok((StatusCode::CREATED, Json(convert::image::to_wire(&image))))
}

/// One image.
#[utoipa::path(get, path = "/v1/images/{id}", tag = "images", params(("id" = String, Path, description = "`m-…`")),
    responses((status = 200, description = "The image", body = Image)))]
pub async fn get_image(
    State(shared): State<Shared>,
    ApiId(id): ApiId<ImageId>,
) -> ApiResult<Json<Image>> {
    let image = shared.control.image(id).await?;
    Ok(Json(convert::image::to_wire(&image)))
}

/// Complete an image: its parts are looked at, and from now on instances can be made from it.
#[utoipa::path(post, path = "/v1/images/{id}/complete", tag = "images", params(("id" = String, Path, description = "`m-…`")),
    responses((status = 200, description = "The image, Available", body = Image)))]
pub async fn complete_image(
    State(shared): State<Shared>,
    ApiId(id): ApiId<ImageId>,
    OptionalJson(Nothing {}): OptionalJson<Nothing>,
) -> ApiResult<Json<Image>> {
    let image = shared.control.complete_image(id).await?;
    Ok(Json(convert::image::to_wire(&image)))
}

/// Delete an image that no instance boots from. Disks made from it stay.
#[utoipa::path(delete, path = "/v1/images/{id}", tag = "images", params(("id" = String, Path, description = "`m-…`")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_image(
    State(shared): State<Shared>,
    ApiId(id): ApiId<ImageId>,
) -> ApiResult<StatusCode> {
    shared.control.delete_image(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
