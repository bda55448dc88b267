//! `/v1/instances`

use std::collections::BTreeMap;

use api_types::{
    Instance, InstancesCreated, ModifyInstance, Page, RebootInstance, RunInstances, StopInstance,
};
use axum::{Extension, Json, extract::State, http::StatusCode};
use control::commands::InstanceFilter;
use serde::Deserialize;
use types::InstanceId;
use utoipa::IntoParams;

use crate::{
    convert,
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery, OptionalJson, parse_id, parse_optional_id},
    paging::{Place, page},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// Which instances. Everything given must hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct InstanceQuery {
    /// Any of these ids, separated by commas.
    ids: Option<String>,
    /// In any of these states, separated by commas.
    state: Option<String>,
    /// Of this very name.
    name: Option<String>,
    /// Made from this image.
    image_id: Option<String>,
    /// In this VPC.
    vpc_id: Option<String>,
    /// On this vswitch.
    vswitch_id: Option<String>,
    /// In this security group.
    security_group_id: Option<String>,
    /// In this deployment set.
    deployment_set_id: Option<String>,
    /// With all of these labels, `KEY=VALUE` separated by commas.
    tags: Option<String>,
    /// How many items at most: 1 to 1000, 100 if absent.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_token` of the page before.
    next_token: Option<String>,
}

impl InstanceQuery {
    fn filter(&self) -> ApiResult<InstanceFilter> {
        Ok(InstanceFilter {
            ids: listed(self.ids.as_ref())
                .map(|id| parse_id::<InstanceId>("ids", id))
                .collect::<ApiResult<_>>()?,
            states: listed(self.state.as_ref())
                .map(convert::instance::state_named)
                .collect::<ApiResult<_>>()?,
            name: self.name.clone(),
            image: parse_optional_id("image_id", self.image_id.as_ref())?,
            vpc: parse_optional_id("vpc_id", self.vpc_id.as_ref())?,
            vswitch: parse_optional_id("vswitch_id", self.vswitch_id.as_ref())?,
            security_group: parse_optional_id(
                "security_group_id",
                self.security_group_id.as_ref(),
            )?,
            deployment_set: parse_optional_id(
                "deployment_set_id",
                self.deployment_set_id.as_ref(),
            )?,
            tags: listed(self.tags.as_ref())
                .map(|tag| match tag.split_once('=') {
                    Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
                    None => Err(ApiProblem::invalid(
                        "tags",
                        format!("`{tag}` is not KEY=VALUE"),
                    )),
                })
                .collect::<ApiResult<BTreeMap<_, _>>>()?,
        })
    }
}

fn listed(list: Option<&String>) -> impl Iterator<Item = &str> {
    list.map(String::as_str)
        .unwrap_or_default()
        .split(',')
        .filter(|part| !part.is_empty())
}

/// List instances.
#[utoipa::path(get, path = "/v1/instances", tag = "instances", params(InstanceQuery),
    responses((status = 200, description = "A page of instances", body = Page<Instance>)))]
pub async fn list_instances(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<InstanceQuery>,
) -> ApiResult<Json<Page<Instance>>> {
    let instances = shared.control.instances(&query.filter()?).await?;
    page(
        instances,
        query.limit,
        query.next_token.as_deref(),
        |i| Place(i.created_at, i.id.to_string()),
        |i| convert::cpu::instance_to_wire(&shared.control, &i),
    )
    .map(Json)
}

/// Run instances, or with `start: false` only create them.
#[utoipa::path(post, path = "/v1/instances", tag = "instances", request_body = RunInstances,
    responses((status = 201, description = "They were accepted and placed", body = InstancesCreated)))]
pub async fn run_instances(
    State(shared): State<Shared>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<RunInstances>,
) -> ApiResult<(StatusCode, Json<InstancesCreated>)> {
    let command = convert::instance::to_command(request, received)?;
    let instances = shared.control.run_instances(command).await?;
    let shown = |instance| convert::cpu::instance_to_wire(&shared.control, instance);
    let instances = instances.iter().map(shown).collect();
    Ok((StatusCode::CREATED, Json(InstancesCreated { instances })))
}

/// One instance.
#[utoipa::path(get, path = "/v1/instances/{id}", tag = "instances", params(("id" = String, Path, description = "`i-…`")),
    responses((status = 200, description = "The instance", body = Instance)))]
pub async fn get_instance(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
) -> ApiResult<Json<Instance>> {
    let instance = shared.control.instance(id).await?;
    Ok(Json(convert::cpu::instance_to_wire(
        &shared.control,
        &instance,
    )))
}

/// Change an instance's name, description, labels or protection.
#[utoipa::path(patch, path = "/v1/instances/{id}", tag = "instances", params(("id" = String, Path, description = "`i-…`")),
    request_body = ModifyInstance,
    responses((status = 200, description = "The instance as it is now", body = Instance)))]
pub async fn modify_instance(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    ApiJson(change): ApiJson<ModifyInstance>,
) -> ApiResult<Json<Instance>> {
    let change = control::commands::ModifyInstance {
        name: change.name,
        description: change.description,
        deletion_protection: change.deletion_protection,
        tags: change.tags,
    };
    let instance = shared.control.modify_instance(id, change).await?;
    Ok(Json(convert::cpu::instance_to_wire(
        &shared.control,
        &instance,
    )))
}

/// How to delete.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct DeleteQuery {
    /// Also if it runs: take the power away first.
    #[serde(default)]
    #[param(required = false)]
    force: bool,
}

/// Delete an instance, and the disks that go with it. It is gone when asking for it answers 404.
#[utoipa::path(delete, path = "/v1/instances/{id}", tag = "instances",
    params(("id" = String, Path, description = "`i-…`"), DeleteQuery),
    responses((status = 204, description = "It is going")))]
pub async fn delete_instance(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    ApiQuery(query): ApiQuery<DeleteQuery>,
) -> ApiResult<StatusCode> {
    shared.control.delete_instance(id, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Start a stopped instance.
#[utoipa::path(post, path = "/v1/instances/{id}/start", tag = "instances", params(("id" = String, Path, description = "`i-…`")),
    responses((status = 202, description = "It is starting", body = Instance)))]
pub async fn start_instance(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    Extension(received): Extension<Received>,
    OptionalJson(Nothing {}): OptionalJson<Nothing>,
) -> ApiResult<(StatusCode, Json<Instance>)> {
    let instance = shared.control.start_instance(id, Some(received.0)).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(convert::cpu::instance_to_wire(&shared.control, &instance)),
    ))
}

/// Stop an instance: by its power button, or by force; what it keeps then is up to `stopped_mode`.
#[utoipa::path(post, path = "/v1/instances/{id}/stop", tag = "instances", params(("id" = String, Path, description = "`i-…`")),
    request_body(content = Option<StopInstance>),
    responses((status = 202, description = "It is stopping", body = Instance)))]
pub async fn stop_instance(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    OptionalJson(request): OptionalJson<StopInstance>,
) -> ApiResult<(StatusCode, Json<Instance>)> {
    let mode = request.stopped_mode.map(convert::instance::mode_from_wire);
    let instance = shared.control.stop_instance(id, request.force, mode);
    let instance = instance.await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(convert::cpu::instance_to_wire(&shared.control, &instance)),
    ))
}

/// Stop a running instance and start it again.
#[utoipa::path(post, path = "/v1/instances/{id}/reboot", tag = "instances", params(("id" = String, Path, description = "`i-…`")),
    request_body(content = Option<RebootInstance>),
    responses((status = 202, description = "It is stopping, and will start", body = Instance)))]
pub async fn reboot_instance(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    OptionalJson(request): OptionalJson<RebootInstance>,
) -> ApiResult<(StatusCode, Json<Instance>)> {
    let instance = shared.control.reboot_instance(id, request.force).await?;
    Ok((
        StatusCode::ACCEPTED,
        Json(convert::cpu::instance_to_wire(&shared.control, &instance)),
    ))
}

/// A body that says nothing.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
