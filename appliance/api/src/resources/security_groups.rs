//! `/v1/security-groups`

use api_types::{AuthorizeRules, CreateSecurityGroup, Page, RevokeRules, SecurityGroup};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands;
use serde::Deserialize;
use types::SecurityGroupId;
use utoipa::IntoParams;

use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, parse_optional_id},
    paging::{Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// Which security groups.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroupQuery {
    /// Of this VPC.
    vpc_id: Option<String>,
    /// How many items at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_token` of the page before.
    next_token: Option<String>,
}

/// List security groups with their rules.
#[utoipa::path(get, path = "/v1/security-groups", tag = "security-groups", params(SecurityGroupQuery),
    responses((status = 200, description = "A page of security groups", body = Page<SecurityGroup>)))]
pub async fn list_security_groups(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<SecurityGroupQuery>,
) -> ApiResult<Json<Page<SecurityGroup>>> {
    let vpc = parse_optional_id("vpc_id", query.vpc_id.as_ref())?;
    let groups = shared.control.security_groups(vpc).await?;
    page(
        groups,
        query.limit,
        query.next_token.as_deref(),
        |g| Place(g.created_at, g.id.to_string()),
        |g| convert::security_group::to_wire(&g),
    )
    .map(Json)
}

/// Make a security group without rules: nothing comes in, everything goes out.
#[utoipa::path(post, path = "/v1/security-groups", tag = "security-groups", request_body = CreateSecurityGroup,
    responses((status = 201, description = "The security group", body = SecurityGroup)))]
pub async fn create_security_group(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<CreateSecurityGroup>,
) -> ApiResult<(StatusCode, Json<SecurityGroup>)> {
    let command = commands::CreateSecurityGroup {
        request: super::request(request.client_token, request.dry_run, received),
        vpc: parse_optional_id("vpc_id", request.vpc_id.as_ref())?,
        name: request.name,
        description: request.description,
        inner_access: convert::security_group::inner_access(request.inner_access_policy),
    };
    let group = shared.control.create_security_group(command).await?;
    Ok((
        StatusCode::CREATED,
        Json(convert::security_group::to_wire(&group)),
    ))
}

/// One security group with its rules.
#[utoipa::path(get, path = "/v1/security-groups/{id}", tag = "security-groups", params(("id" = String, Path, description = "`sg-…`")),
    responses((status = 200, description = "The security group", body = SecurityGroup)))]
pub async fn get_security_group(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SecurityGroupId>,
) -> ApiResult<Json<SecurityGroup>> {
    let group = shared.control.security_group(id).await?;
    Ok(Json(convert::security_group::to_wire(&group)))
}

/// Delete a security group that nobody is in and no rule names.
#[utoipa::path(delete, path = "/v1/security-groups/{id}", tag = "security-groups", params(("id" = String, Path, description = "`sg-…`")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_security_group(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SecurityGroupId>,
) -> ApiResult<StatusCode> {
    shared.control.delete_security_group(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Add rules, all or none. Answers when they are in force.
#[utoipa::path(post, path = "/v1/security-groups/{id}/authorize", tag = "security-groups", params(("id" = String, Path, description = "`sg-…`")),
    request_body = AuthorizeRules,
    responses((status = 200, description = "The security group as it is now", body = SecurityGroup)))]
pub async fn authorize_rules(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SecurityGroupId>,
    ApiJson(request): ApiJson<AuthorizeRules>,
) -> ApiResult<Json<SecurityGroup>> {
    let rules = convert::security_group::new_rules(request)?;
    let group = shared.control.authorize_rules(id, rules).await?;
    Ok(Json(convert::security_group::to_wire(&group)))
}

/// Take rules away, all or none. Answers when they are no longer in force.
#[utoipa::path(post, path = "/v1/security-groups/{id}/revoke", tag = "security-groups", params(("id" = String, Path, description = "`sg-…`")),
    request_body = RevokeRules,
    responses((status = 200, description = "The security group as it is now", body = SecurityGroup)))]
pub async fn revoke_rules(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SecurityGroupId>,
    ApiJson(request): ApiJson<RevokeRules>,
) -> ApiResult<Json<SecurityGroup>> {
    let selectors = convert::security_group::selectors(request)?;
    let group = shared.control.revoke_rules(id, &selectors).await?;
    Ok(Json(convert::security_group::to_wire(&group)))
}
