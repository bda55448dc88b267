//! `/v1/deployment-sets`

use api_types::{CreateDeploymentSet, DeploymentSet, ModifyDeploymentSet, Page};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands;
use types::DeploymentSetId;

use crate::{
    convert::deployment_set,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery},
    paging::{PageQuery, Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// List deployment sets with their members.
#[utoipa::path(get, path = "/v1/deployment-sets", tag = "deployment-sets", params(PageQuery),
    responses((status = 200, description = "A page of deployment sets", body = Page<DeploymentSet>)))]
pub async fn list_deployment_sets(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Json<Page<DeploymentSet>>> {
    let sets = shared.control.deployment_sets().await?;
    page(
        sets,
        query.limit,
        query.next_token.as_deref(),
        |s| Place(s.created_at, s.id.to_string()),
        |s| deployment_set::to_wire(&s),
    )
    .map(Json)
}

/// Make a deployment set without members; instances are run into it.
#[utoipa::path(post, path = "/v1/deployment-sets", tag = "deployment-sets", request_body = CreateDeploymentSet,
    responses((status = 201, description = "The deployment set", body = DeploymentSet)))]
pub async fn create_deployment_set(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<CreateDeploymentSet>,
) -> ApiResult<(StatusCode, Json<DeploymentSet>)> {
    let command = commands::CreateDeploymentSet {
        request: super::request(request.client_token, request.dry_run, received),
        name: request.name,
        description: request.description,
        strategy: deployment_set::strategy(request.strategy),
    };
    let set = shared.control.create_deployment_set(command).await?;
    Ok((StatusCode::CREATED, Json(deployment_set::to_wire(&set))))
}

/// One deployment set with its members.
#[utoipa::path(get, path = "/v1/deployment-sets/{id}", tag = "deployment-sets", params(("id" = String, Path, description = "`ds-…`")),
    responses((status = 200, description = "The deployment set", body = DeploymentSet)))]
pub async fn get_deployment_set(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DeploymentSetId>,
) -> ApiResult<Json<DeploymentSet>> {
    let set = shared.control.deployment_set(id).await?;
    Ok(Json(deployment_set::to_wire(&set)))
}

/// Change a deployment set's name or description.
#[utoipa::path(patch, path = "/v1/deployment-sets/{id}", tag = "deployment-sets", params(("id" = String, Path, description = "`ds-…`")),
    request_body = ModifyDeploymentSet,
    responses((status = 200, description = "The deployment set as it is now", body = DeploymentSet)))]
pub async fn modify_deployment_set(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DeploymentSetId>,
    ApiJson(change): ApiJson<ModifyDeploymentSet>,
) -> ApiResult<Json<DeploymentSet>> {
    let change = commands::ModifyDeploymentSet {
        name: change.name,
        description: change.description,
    };
    let set = shared.control.modify_deployment_set(id, change).await?;
    Ok(Json(deployment_set::to_wire(&set)))
}

/// Delete a deployment set that no instance is in.
#[utoipa::path(delete, path = "/v1/deployment-sets/{id}", tag = "deployment-sets", params(("id" = String, Path, description = "`ds-…`")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_deployment_set(
    State(shared): State<Shared>,
    ApiId(id): ApiId<DeploymentSetId>,
) -> ApiResult<StatusCode> {
    shared.control.delete_deployment_set(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
