//! `/v1/meters`

use api_types::{Meter, MeterSetter, Page, SetMeter};
use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use control::{commands, model};

use crate::{
    extract::{ApiJson, parse},
    problem::ApiResult,
    routes::Shared,
};

/// List what is metered beside instances, disks and images themselves.
#[utoipa::path(get, path = "/v1/meters", tag = "billing",
    responses((status = 200, description = "Every meter, on one page", body = Page<Meter>)))]
pub async fn list_meters(State(shared): State<Shared>) -> ApiResult<Json<Page<Meter>>> {
    let meters = shared.control.meters().await?;
    Ok(Json(Page {
        items: meters.into_iter().map(to_wire).collect(),
        next_token: None,
    }))
}

/// Have something metered of a resource, in place of a meter of the same name. The billing policy is asked what `quantity` of it costs as
/// long as it lasts; a policy without a price for the name charges nothing.
#[utoipa::path(put, path = "/v1/meters/{resource}/{name}", tag = "billing",
    params(("resource" = String, Path, description = "Id of an instance, a disk or an image; the meter ends with it"),
        ("name" = String, Path, description = "1 to 64 characters of `[0-9a-z.-]`")), request_body = SetMeter,
    responses((status = 200, description = "The meter", body = Meter)))]
pub async fn set_meter(
    State(shared): State<Shared>,
    Path((resource, name)): Path<(String, String)>,
    ApiJson(request): ApiJson<SetMeter>,
) -> ApiResult<Json<Meter>> {
    let command = commands::SetMeter {
        resource,
        name,
        quantity: parse(
            "quantity",
            &request.quantity,
            "a decimal number such as 2 or 0.5",
        )?,
        while_running: request.while_running,
    };
    Ok(Json(to_wire(shared.control.set_meter(command).await?)))
}

/// End a meter that the operator has set. What it counted stays charged.
#[utoipa::path(delete, path = "/v1/meters/{resource}/{name}", tag = "billing",
    params(("resource" = String, Path, description = "What it is of"), ("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "It is gone")))]
pub async fn delete_meter(
    State(shared): State<Shared>,
    Path((resource, name)): Path<(String, String)>,
) -> ApiResult<StatusCode> {
    shared.control.delete_meter(&resource, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn to_wire(meter: model::Meter) -> Meter {
    Meter {
        resource_id: meter.resource,
        name: meter.name,
        quantity: meter.quantity.to_string(),
        while_running: meter.while_running,
        set_by: match meter.by_policy {
            true => MeterSetter::BillingPolicy,
            false => MeterSetter::Operator,
        },
        created_at: meter.created_at.to_string(),
    }
}
