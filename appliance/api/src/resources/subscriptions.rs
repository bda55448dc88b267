//! `/v1/subscriptions`

use api_types::{ChangeSubscription, ModifySubscription, Page, RenewSubscription, Subscription};
use axum::{Extension, Json, extract::State};
use control::commands;
use types::SubscriptionId;

use crate::{
    convert::{self, charge::period},
    envelope::Received,
    extract::{ApiId, ApiJson, ApiQuery},
    paging::{PageQuery, Place, page},
    problem::ApiResult,
    routes::Shared,
};

/// List subscriptions with what was paid for them.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "billing", params(PageQuery),
    responses((status = 200, description = "A page of subscriptions, oldest first", body = Page<Subscription>)))]
pub async fn list_subscriptions(
    State(shared): State<Shared>,
    ApiQuery(query): ApiQuery<PageQuery>,
) -> ApiResult<Json<Page<Subscription>>> {
    let subscriptions = shared.control.subscriptions().await?;
    page(
        subscriptions,
        query.limit,
        query.next_token.as_deref(),
        |s| {
            let bought = s.purchases.first().map(|first| first.at);
            Place(bought.unwrap_or_default(), s.subscription.id().to_string())
        },
        |s| convert::subscription::to_wire(&s),
    )
    .map(Json)
}

/// One subscription.
#[utoipa::path(get, path = "/v1/subscriptions/{id}", tag = "billing", params(("id" = String, Path, description = "`sub-…`")),
    responses((status = 200, description = "The subscription", body = Subscription)))]
pub async fn get_subscription(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SubscriptionId>,
) -> ApiResult<Json<Subscription>> {
    let status = shared.control.subscription(id).await?;
    Ok(Json(convert::subscription::to_wire(&status)))
}

/// Have a subscription renewed by itself, or not any more (ECS ModifyInstanceAutoRenewAttribute).
#[utoipa::path(patch, path = "/v1/subscriptions/{id}", tag = "billing", params(("id" = String, Path, description = "`sub-…`")),
    request_body = ModifySubscription,
    responses((status = 200, description = "The subscription as it is now", body = Subscription)))]
pub async fn modify_subscription(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SubscriptionId>,
    ApiJson(request): ApiJson<ModifySubscription>,
) -> ApiResult<Json<Subscription>> {
    let auto_renew = request.auto_renew.map(|term| period("auto_renew", term));
    let status = shared
        .control
        .set_auto_renew(id, auto_renew.transpose()?)
        .await?;
    Ok(Json(convert::subscription::to_wire(&status)))
}

/// Buy another term (ECS RenewInstance). What had stopped because it expired starts again if it ran.
#[utoipa::path(post, path = "/v1/subscriptions/{id}/renew", tag = "billing", params(("id" = String, Path, description = "`sub-…`")),
    request_body = RenewSubscription,
    responses((status = 200, description = "The subscription as it is now", body = Subscription)))]
pub async fn renew_subscription(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SubscriptionId>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<RenewSubscription>,
) -> ApiResult<Json<Subscription>> {
    let command = commands::RenewSubscription {
        request: super::request(request.client_token, request.dry_run, received),
        subscription: id,
        period: period("period", request.period)?,
    };
    let status = shared.control.renew_subscription(command).await?;
    Ok(Json(convert::subscription::to_wire(&status)))
}

/// Give a stopped instance another type for the rest of what is paid (ECS ModifyPrepayInstanceSpec). The difference is paid, or paid
/// back, at once.
#[utoipa::path(post, path = "/v1/subscriptions/{id}/change", tag = "billing", params(("id" = String, Path, description = "`sub-…`")),
    request_body = ChangeSubscription,
    responses((status = 200, description = "The subscription as it is now", body = Subscription)))]
pub async fn change_subscription(
    State(shared): State<Shared>,
    ApiId(id): ApiId<SubscriptionId>,
    Extension(received): Extension<Received>,
    ApiJson(request): ApiJson<ChangeSubscription>,
) -> ApiResult<Json<Subscription>> {
    let command = commands::ChangeSubscription {
        request: super::request(request.client_token, request.dry_run, received),
        subscription: id,
        instance_type: request.instance_type,
    };
    let status = shared.control.change_subscription(command).await?;
    Ok(Json(convert::subscription::to_wire(&status)))
}
