//! `/v1/plugins`: policies, and who of them decides.

use api_types::{
    ActivatePlugin, InspectPlugin, InstallPlugin, Page, Plugin, PluginComparison, PluginModule,
    ReplayPlugin, RollBackPlugin,
};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use control::{
    commands::{InstallPolicy, PolicySelector, ReplayPeriod},
    model::{PolicyRevision, PolicyRole},
};

use crate::{
    convert::policy as wire,
    extract::{ApiJson, LargeJson, OptionalJson, parse_time},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// Largest body with a module, bytes: base64 of the largest one, and its parameters.
const MAX_MODULE_JSON: usize = 24 << 20;

/// Every policy that is installed, and those in force that aren't.
#[utoipa::path(get, path = "/v1/plugins", tag = "policies",
    responses((status = 200, description = "Every policy, on one page", body = Page<Plugin>)))]
pub async fn list_plugins(State(shared): State<Shared>) -> ApiResult<Json<Page<Plugin>>> {
    let policies = shared.control.policies().await?;
    Ok(Json(Page {
        items: policies.iter().map(wire::plugin_to_wire).collect(),
        next_token: None,
    }))
}

/// Install a policy. It decides nothing until it is activated.
#[utoipa::path(post, path = "/v1/plugins", tag = "policies", request_body = InstallPlugin,
    responses((status = 201, description = "The policy; the same module with the same parameters is installed once", body = Plugin)))]
pub async fn install_plugin(
    State(shared): State<Shared>,
    LargeJson(new): LargeJson<MAX_MODULE_JSON, InstallPlugin>,
) -> ApiResult<(StatusCode, Json<Plugin>)> {
    let command = InstallPolicy {
        name: new.name,
        component: component(&new.component)?,
        parameters: new.parameters,
        signature: new.signature,
        dry_run: new.dry_run,
    };
    let info = shared.control.install_policy(command).await?;
    Ok((StatusCode::CREATED, Json(wire::plugin_to_wire(&info))))
}

/// What a module is, without installing it.
#[utoipa::path(post, path = "/v1/plugins/inspect", tag = "policies", request_body = InspectPlugin,
    responses((status = 200, description = "Its kind, imports and exports", body = PluginModule)))]
pub async fn inspect_plugin(
    State(shared): State<Shared>,
    LargeJson(given): LargeJson<MAX_MODULE_JSON, InspectPlugin>,
) -> ApiResult<Json<PluginModule>> {
    let module = component(&given.component)?;
    let info = shared.control.inspect_policy(module).await?;
    Ok(Json(wire::module_to_wire(&info)))
}

/// One installed policy.
#[utoipa::path(get, path = "/v1/plugins/{name}", tag = "policies", params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 200, description = "The policy", body = Plugin)))]
pub async fn get_plugin(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> ApiResult<Json<Plugin>> {
    let info = shared.control.policy(selector(&name)?).await?;
    Ok(Json(wire::plugin_to_wire(&info)))
}

/// Remove an installed policy that has no role.
#[utoipa::path(delete, path = "/v1/plugins/{name}", tag = "policies", params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 204, description = "It is gone")))]
pub async fn remove_plugin(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> ApiResult<StatusCode> {
    shared.control.remove_policy(selector(&name)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Have a policy decide, at once, about everything or for a share. What is being answered is answered by whom it was asked.
#[utoipa::path(post, path = "/v1/plugins/{name}/activate", tag = "policies", request_body = ActivatePlugin,
    params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 200, description = "The policy with its role", body = Plugin)))]
pub async fn activate_plugin(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    OptionalJson(how): OptionalJson<ActivatePlugin>,
) -> ApiResult<Json<Plugin>> {
    let role = match how.canary_percent {
        Some(percent) => PolicyRole::Canary(percent),
        None => PolicyRole::Active,
    };
    let given = shared.control.give_policy_role(selector(&name)?, role);
    Ok(Json(wire::plugin_to_wire(&given.await?)))
}

/// Have a policy asked, too, what the active one is asked: differences are noted.
#[utoipa::path(post, path = "/v1/plugins/{name}/shadow", tag = "policies",
    params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 200, description = "The policy with its role", body = Plugin)))]
pub async fn shadow_plugin(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> ApiResult<Json<Plugin>> {
    let given = shared
        .control
        .give_policy_role(selector(&name)?, PolicyRole::Shadow);
    Ok(Json(wire::plugin_to_wire(&given.await?)))
}

/// What the shadow would have done, since it is the shadow or the daemon was started.
#[utoipa::path(get, path = "/v1/plugins/{name}/shadow", tag = "policies",
    params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 200, description = "The differences", body = PluginComparison)))]
pub async fn get_plugin_shadow(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> ApiResult<Json<PluginComparison>> {
    let comparison = shared.control.policy_shadow(selector(&name)?).await?;
    Ok(Json(wire::comparison_to_wire(&comparison)))
}

/// Take every role from a policy. In an active one's place decides what the daemon was started with.
#[utoipa::path(post, path = "/v1/plugins/{name}/retire", tag = "policies",
    params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 200, description = "The policy, without a role", body = Plugin)))]
pub async fn retire_plugin(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> ApiResult<Json<Plugin>> {
    let info = shared.control.retire_policy(selector(&name)?).await?;
    Ok(Json(wire::plugin_to_wire(&info)))
}

/// Go back to the policy that was active before.
#[utoipa::path(post, path = "/v1/plugins/rollback", tag = "policies", request_body = RollBackPlugin,
    responses((status = 200, description = "What is active now", body = Plugin)))]
pub async fn roll_back_plugin(
    State(shared): State<Shared>,
    ApiJson(which): ApiJson<RollBackPlugin>,
) -> ApiResult<Json<Plugin>> {
    let kind = wire::kind_from_wire(which.kind);
    let info = shared.control.roll_back_policy(kind).await?;
    Ok(Json(wire::plugin_to_wire(&info)))
}

/// Ask a policy what was asked before: a scheduler about placements, a billing policy about what was charged. Nothing changes.
#[utoipa::path(post, path = "/v1/plugins/{name}/replay", tag = "policies", request_body = ReplayPlugin,
    params(("name" = String, Path, description = "`tiered@3`, or `tiered` for its latest revision")),
    responses((status = 200, description = "What it would have done", body = PluginComparison)))]
pub async fn replay_plugin(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    OptionalJson(period): OptionalJson<ReplayPlugin>,
) -> ApiResult<Json<PluginComparison>> {
    let period = ReplayPeriod {
        from: parse_time("from", period.from.as_ref())?,
        to: parse_time("to", period.to.as_ref())?,
    };
    let comparison = shared
        .control
        .replay_policy(selector(&name)?, period)
        .await?;
    Ok(Json(wire::comparison_to_wire(&comparison)))
}

fn component(base64: &str) -> ApiResult<Vec<u8>> {
    STANDARD
        .decode(base64)
        .map_err(|_| ApiProblem::invalid("component", "it must be the module in base64"))
}

/// The policy that a path names. Something that isn't even a name names nothing that exists.
fn selector(text: &str) -> ApiResult<PolicySelector> {
    if !text.contains('@') {
        return Ok(PolicySelector {
            name: text.to_owned(),
            revision: None,
        });
    }
    let revision: PolicyRevision = text.parse().map_err(|error| {
        ApiProblem::new(
            StatusCode::NOT_FOUND,
            "InvalidPolicy.NotFound",
            format!("{error}"),
        )
        .next_step("list what there is, and check the name")
    })?;
    Ok(PolicySelector {
        name: revision.name().to_owned(),
        revision: Some(revision.number()),
    })
}
