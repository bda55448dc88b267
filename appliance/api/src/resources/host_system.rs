//! `/v1/host/system`, `/v1/host/updates`, `/v1/host/configuration` and the host's end: the machine under the daemon.

use api_types::{
    Enroll, Enrolled, HostConfiguration, HostSystem, HostUpdate, NewHostUpdate, Page,
    PushHostConfiguration, UnlockHost,
};
use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::StatusCode,
};
use boot_disk::InstancesPolicy;
use control::model::NewUpdate;
use futures_util::TryStreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use crate::{
    convert::host_system as wire,
    extract::ApiJson,
    problem::{ApiProblem, ApiResult},
    routes::HostShared,
};

/// The machine under the daemon: slots, faults, addresses.
#[utoipa::path(get, path = "/v1/host/system", tag = "host",
    responses((status = 200, description = "The machine", body = HostSystem)))]
pub async fn get_host_system(State(shared): State<HostShared>) -> ApiResult<Json<HostSystem>> {
    let system = shared.system()?;
    let status = system.status().await?;
    let update = system.update().await?;
    Ok(Json(wire::system_to_wire(&status, update.as_ref())))
}

/// Begin an update: its manifest is verified, then its file is expected.
#[utoipa::path(post, path = "/v1/host/updates", tag = "host", request_body = NewHostUpdate,
    responses((status = 201, description = "The update, which expects its file", body = HostUpdate)))]
pub async fn begin_host_update(
    State(shared): State<HostShared>,
    ApiJson(new): ApiJson<NewHostUpdate>,
) -> ApiResult<(StatusCode, Json<HostUpdate>)> {
    let instances = match new.instances.as_str() {
        "stop" => InstancesPolicy::Stop,
        "drained" => InstancesPolicy::Drained,
        _ => {
            return Err(ApiProblem::invalid(
                "instances",
                "it must be `stop` or `drained`",
            ));
        }
    };
    if !(1..=9).contains(&new.tries) {
        return Err(ApiProblem::invalid("tries", "from 1 to 9 are possible"));
    }
    let update = shared
        .system()?
        .begin_update(
            NewUpdate {
                manifest: new.manifest.into_bytes(),
                signature: new.signature,
                url: new.url,
                instances,
                tries: new.tries,
                live: new.live,
                reboot: new.reboot,
            },
            shared.running_instances(),
        )
        .await?;
    Ok((StatusCode::CREATED, Json(wire::update_to_wire(&update))))
}

/// The newest update.
#[utoipa::path(get, path = "/v1/host/updates", tag = "host",
    responses((status = 200, description = "None or one", body = Page<HostUpdate>)))]
pub async fn list_host_updates(
    State(shared): State<HostShared>,
) -> ApiResult<Json<Page<HostUpdate>>> {
    let update = shared.system()?.update().await?;
    Ok(Json(Page {
        items: update.iter().map(wire::update_to_wire).collect(),
        next_token: None,
    }))
}

/// Send the file of an update. Once it is whole and verified the host reboots into it, unless told otherwise.
#[utoipa::path(put, path = "/v1/host/updates/{id}/image", tag = "host",
    params(("id" = String, Path, description = "The update")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "The update, staged or under way", body = HostUpdate)))]
pub async fn send_host_update(
    State(shared): State<HostShared>,
    Path(id): Path<String>,
    body: Body,
) -> ApiResult<Json<HostUpdate>> {
    let stream = body.into_data_stream().map_err(std::io::Error::other);
    let file = SyncIoBridge::new(Box::pin(StreamReader::new(stream)));
    let update = shared
        .system()?
        .receive(&id, file, shared.running_instances())
        .await?;
    Ok(Json(wire::update_to_wire(&update)))
}

/// Reboot into a staged update, or replace the daemon by it.
#[utoipa::path(post, path = "/v1/host/updates/{id}/apply", tag = "host",
    params(("id" = String, Path, description = "The update")),
    responses((status = 202, description = "The update, under way", body = HostUpdate)))]
pub async fn apply_host_update(
    State(shared): State<HostShared>,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<HostUpdate>)> {
    let running = shared.running_instances().await?;
    let update = shared.system()?.apply(&id, &running).await?;
    Ok((StatusCode::ACCEPTED, Json(wire::update_to_wire(&update))))
}

/// Reboot: instances are stopped, and started again afterwards.
#[utoipa::path(post, path = "/v1/host/reboot", tag = "host",
    responses((status = 202, description = "The host goes down")))]
pub async fn reboot_host(State(shared): State<HostShared>) -> ApiResult<StatusCode> {
    shared.system()?.end(true).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Power off: instances are stopped first.
#[utoipa::path(post, path = "/v1/host/shutdown", tag = "host",
    responses((status = 202, description = "The host goes down")))]
pub async fn shut_down_host(State(shared): State<HostShared>) -> ApiResult<StatusCode> {
    shared.system()?.end(false).await?;
    Ok(StatusCode::ACCEPTED)
}

/// Boot the other slot from now on, and reboot.
#[utoipa::path(post, path = "/v1/host/rollback", tag = "host",
    responses((status = 202, description = "The host goes down")))]
pub async fn roll_back_host(State(shared): State<HostShared>) -> ApiResult<StatusCode> {
    shared.system()?.rollback().await?;
    Ok(StatusCode::ACCEPTED)
}

/// Open the data partition with a key that only you have. The daemon is started anew, and instances run.
#[utoipa::path(post, path = "/v1/host/unlock", tag = "host", request_body = UnlockHost,
    responses((status = 202, description = "The data partition is open")))]
pub async fn unlock_host(
    State(shared): State<HostShared>,
    ApiJson(unlock): ApiJson<UnlockHost>,
) -> ApiResult<StatusCode> {
    let key = hex::decode(&unlock.key)
        .map_err(|error| ApiProblem::invalid("key", format!("it is not hexadecimal: {error}")))?;
    shared.system()?.unlock_data(key).await?;
    Ok(StatusCode::ACCEPTED)
}

/// The configuration in force.
#[utoipa::path(get, path = "/v1/host/configuration", tag = "host",
    responses((status = 200, description = "It", body = HostConfiguration)))]
pub async fn get_host_configuration(
    State(shared): State<HostShared>,
) -> ApiResult<Json<HostConfiguration>> {
    let found = shared.system()?.configuration().await?;
    Ok(Json(wire::configuration_to_wire(found)))
}

/// Use a configuration from the next boot on.
#[utoipa::path(put, path = "/v1/host/configuration", tag = "host", request_body = PushHostConfiguration,
    responses((status = 200, description = "The configuration in force, with another one pending", body = HostConfiguration)))]
pub async fn push_host_configuration(
    State(shared): State<HostShared>,
    ApiJson(new): ApiJson<PushHostConfiguration>,
) -> ApiResult<Json<HostConfiguration>> {
    let system = shared.system()?;
    system.push_configuration(new.text).await?;
    Ok(Json(wire::configuration_to_wire(
        system.configuration().await?,
    )))
}

/// Forget what was pushed, from the next boot on.
#[utoipa::path(delete, path = "/v1/host/configuration", tag = "host",
    responses((status = 204, description = "Forgotten")))]
pub async fn reset_host_configuration(State(shared): State<HostShared>) -> ApiResult<StatusCode> {
    shared.system()?.reset_configuration().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Enrol with the one-time token from the host's screen. Needs no bearer token.
#[utoipa::path(post, path = "/v1/enroll", tag = "host", security(()), request_body = Enroll,
    responses((status = 200, description = "The bearer token", body = Enrolled)))]
pub async fn enroll(
    State(shared): State<HostShared>,
    ApiJson(offered): ApiJson<Enroll>,
) -> ApiResult<Json<Enrolled>> {
    let system = shared.system()?;
    let Some(token) = &shared.api_token else {
        return Err(ApiProblem::new(
            StatusCode::NOT_FOUND,
            "NotAnAppliance",
            "this host has no bearer token to give",
        ));
    };
    system.enroll(&offered.token).await?;
    Ok(Json(Enrolled {
        api_token: token.to_string(),
    }))
}
