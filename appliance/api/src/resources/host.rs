//! `/v1/host` and `/v1/health`

use api_types::{Health, Host};
use axum::{Extension, Json, extract::State, http::StatusCode, response::IntoResponse};

use crate::{convert, envelope::Whole, problem::ApiResult, routes::Shared};

/// The host: its capacity and what of it is given.
#[utoipa::path(get, path = "/v1/host", tag = "host",
    responses((status = 200, description = "The host", body = Host)))]
pub async fn get_host(State(shared): State<Shared>) -> ApiResult<Json<Host>> {
    let host = shared.control.host().await?;
    Ok(Json(convert::host::to_wire(&host)))
}

/// Whether the host works. Needs no token.
#[utoipa::path(get, path = "/v1/health", tag = "host", security(()),
    responses(
        (status = 200, description = "Every check is fine", body = Health),
        (status = 503, description = "Some check is not", body = Health)))]
pub async fn get_health(State(shared): State<Shared>) -> impl IntoResponse {
    health_answer(convert::host::health_to_wire(shared.control.health().await))
}

/// An answer whose status says whether all is well, and whose body says what is not.
pub(crate) fn health_answer(health: Health) -> impl IntoResponse {
    let status = if health.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Extension(Whole), Json(health))
}
