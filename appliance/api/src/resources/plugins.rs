//! `/v1/plugins`

use api_types::{Page, Plugin};
use axum::{Json, extract::State};

use crate::{convert, routes::Shared};

/// The policies in force.
#[utoipa::path(get, path = "/v1/plugins", tag = "policies",
    responses((status = 200, description = "Every policy, on one page", body = Page<Plugin>)))]
pub async fn list_plugins(State(shared): State<Shared>) -> Json<Page<Plugin>> {
    Json(Page {
        items: shared
            .control
            .policies()
            .iter()
            .map(convert::policy::plugin_to_wire)
            .collect(),
        next_token: None,
    })
}
