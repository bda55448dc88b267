//! `/v1/spot-prices`

use api_types::{Page, SetSpotPrice, SpotPrice, SpotPriceHistory};
use axum::{
    Json,
    extract::{Path, State},
};
use control::commands;

use crate::{convert, extract::ApiJson, problem::ApiResult, routes::Shared};

/// List what preemptible instances cost now, of each type that has a market.
#[utoipa::path(get, path = "/v1/spot-prices", tag = "billing",
    responses((status = 200, description = "Every market, on one page", body = Page<SpotPrice>)))]
pub async fn list_spot_prices(State(shared): State<Shared>) -> ApiResult<Json<Page<SpotPrice>>> {
    let markets = shared.control.spot_markets().await?;
    Ok(Json(Page {
        items: markets.iter().map(convert::spot::price_to_wire).collect(),
        next_token: None,
    }))
}

/// What preemptible instances of a type cost over time (ECS DescribeSpotPriceHistory).
#[utoipa::path(get, path = "/v1/spot-prices/{instance_type}", tag = "billing",
    params(("instance_type" = String, Path, description = "Such as `ecs.g6.large`")),
    responses((status = 200, description = "Its price, and those before", body = SpotPriceHistory)))]
pub async fn get_spot_price(
    State(shared): State<Shared>,
    Path(instance_type): Path<String>,
) -> ApiResult<Json<SpotPriceHistory>> {
    let market = shared.control.spot_market(&instance_type).await?;
    Ok(Json(convert::spot::history_to_wire(&market)))
}

/// Set the market price of a type from now on. Instances past their protected hour cost it at once; those that bid less are given
/// notice, told as events `spot.notice`.
#[utoipa::path(put, path = "/v1/spot-prices/{instance_type}", tag = "billing",
    params(("instance_type" = String, Path, description = "Such as `ecs.g6.large`")), request_body = SetSpotPrice,
    responses((status = 200, description = "Its price, and those before", body = SpotPriceHistory)))]
pub async fn set_spot_price(
    State(shared): State<Shared>,
    Path(instance_type): Path<String>,
    ApiJson(request): ApiJson<SetSpotPrice>,
) -> ApiResult<Json<SpotPriceHistory>> {
    let command = commands::SetSpotPrice {
        instance_type,
        price: convert::charge::hourly("price", &request.price)?,
    };
    let market = shared.control.set_spot_price(command).await?;
    Ok(Json(convert::spot::history_to_wire(&market)))
}
