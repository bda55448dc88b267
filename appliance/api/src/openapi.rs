//! The interface's own description: OpenAPI 3.1.

use std::sync::LazyLock;

use api_types::{PROBLEM_MEDIA_TYPE, Problem};
use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use utoipa::{
    OpenApi,
    openapi::{
        ContentBuilder, PathItem, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

/// What the description begins with.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ashlar host",
        description = "Runs instances on this host, with their disks, networks, security groups and charges.\n\n\
            Every answer carries the header `x-request-id`. Errors are problem details (RFC 9457), media type \
            `application/problem+json`, with an ECS-like `code`.\n\n\
            Requests that make something take `client_token` (the same token and the same parameters answer what the \
            first request answered) and `dry_run` (a request that would succeed answers the problem \
            `DryRunOperation`).\n\n\
            On the unix socket no token is needed: its file mode decides. On TCP a bearer token is.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    tags(
        (name = "instances", description = "Machines, their life and their consoles"),
        (name = "images", description = "What instances boot"),
        (name = "disks", description = "Their disks"),
        (name = "networks", description = "VPCs and vswitches"),
        (name = "security-groups", description = "Who may talk to whom"),
        (name = "deployment-sets", description = "Which instances are on different hosts, or together"),
        (name = "policies", description = "Placement, prices and who decides them"),
        (name = "billing", description = "Prices, subscriptions, accounts, bills and budgets"),
        (name = "host", description = "The host itself")
    )
)]
struct Preamble;

/// The description without its routes.
pub(crate) fn preamble() -> utoipa::openapi::OpenApi {
    Preamble::openapi()
}

/// The whole description: every route, every type, what every route has in common.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = crate::routes::described().into_openapi();
    document.security = Some(vec![
        SecurityRequirement::new("token", Vec::<String>::new()),
        SecurityRequirement::default(),
    ]);
    if let Some(components) = &mut document.components {
        components.add_security_scheme(
            "token",
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
        );
    }
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(add_problem);
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ]
    .into_iter()
    .flatten()
}

/// Any route may answer a problem.
fn add_problem(operation: &mut Operation) {
    let response = ResponseBuilder::new()
        .description("A problem: `code` says which, `next_step` what to do")
        .content(
            PROBLEM_MEDIA_TYPE,
            ContentBuilder::new()
                .schema(Some(RefOr::Ref(Ref::from_schema_name("Problem"))))
                .build(),
        )
        .build();
    operation
        .responses
        .responses
        .insert("default".into(), RefOr::T(response));
}

/// This description.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "host",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")))]
pub(crate) async fn get_openapi() -> Response {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| document().to_json().unwrap_or_default().into());
    (
        [(header::CONTENT_TYPE, "application/json")],
        DOCUMENT.clone(),
    )
        .into_response()
}
