//! What every answer has in common: an id, a line in the log, and errors written as problems.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use api_types::PROBLEM_MEDIA_TYPE;
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use control::Control;
use futures_util::FutureExt as _;
use tracing::Instrument as _;

use crate::problem::ApiProblem;

/// Carries the request's id.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// When the request was received: nanoseconds of the host's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received(pub u64);

/// Marks an answer whose body says all there is to say, although its status is that of an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole;

/// Tells nanoseconds of the host's monotonic clock.
pub(crate) type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The clock of the control plane.
pub(crate) fn clock(control: Control) -> Clock {
    Arc::new(move || control.monotonic_ns())
}

/// Where nothing is timed.
pub(crate) fn no_clock() -> Clock {
    Arc::new(|| 0)
}

/// Wraps a request's whole handling.
pub(crate) async fn wrap(State(clock): State<Clock>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    request.extensions_mut().insert(Received(clock()));
    let id = new_request_id();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let span = tracing::info_span!("request", id, %method, path);
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind();
    let mut response = match answer.instrument(span.clone()).await {
        Ok(response) => response,
        Err(panic) => {
            span.in_scope(|| tracing::error!("the handler panicked: {}", panic_message(&*panic)));
            ApiProblem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "InternalError",
                "the host failed while handling the request",
            )
            .next_step("look for the request's id in the host's log, and report it")
            .into_response()
        }
    };
    let refused = response.status().is_client_error() || response.status().is_server_error();
    if refused && response.extensions().get::<Whole>().is_none() {
        response = as_problem(response, &id, &method, &path).await;
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let status = response.status().as_u16();
    let elapsed_us = started.elapsed().as_micros();
    // Looking changes nothing and happens all the time: a refusal or a change is what an operator wants to see.
    span.in_scope(|| {
        if method == Method::GET && status < 400 {
            tracing::debug!(status, elapsed_us, "answered");
        } else {
            tracing::info!(status, elapsed_us, "answered");
        }
    });
    response
}

/// A random UUID (RFC 9562 version 4), as ECS makes its request ids.
fn new_request_id() -> String {
    let bits = rand::random::<u128>() & !(0xf << 76) | (0x4 << 76);
    let bits = bits & !(0x3 << 62) | (0x2 << 62);
    let hex = format!("{bits:032X}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// Writes the problem beside a refusal into its body; makes one for refusals that come from below the handlers.
async fn as_problem(response: Response, id: &str, method: &Method, path: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let problem = match parts.extensions.remove::<ApiProblem>() {
        Some(problem) => problem,
        None => below_the_handlers(parts.status, body, method, path).await,
    };
    let problem = problem.with_request_id(id);
    // Its only maps have text as keys: it can always be written.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(PROBLEM_MEDIA_TYPE),
    );
    Response::from_parts(parts, Body::from(body))
}

async fn below_the_handlers(
    status: StatusCode,
    body: Body,
    method: &Method,
    path: &str,
) -> ApiProblem {
    match status {
        StatusCode::NOT_FOUND => ApiProblem::new(
            status,
            "InvalidPath.NotFound",
            format!("there is nothing at {path}"),
        )
        .next_step("see /v1/openapi.json for what there is"),
        StatusCode::METHOD_NOT_ALLOWED => ApiProblem::new(
            status,
            "MethodNotAllowed",
            format!("{path} cannot be asked to {method}"),
        )
        .next_step("the header `allow` says what it can be asked"),
        _ => {
            // What the framework says about a request it could not take apart: a short text.
            let text = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let title = status.canonical_reason().unwrap_or("Error");
            let detail = if text.is_empty() {
                title.to_owned()
            } else {
                text
            };
            ApiProblem::new(status, title.replace(' ', ""), detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_random_uuids() {
        let id = new_request_id();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4', "version: {id}");
        assert!(b"89AB".contains(&id.as_bytes()[19]), "variant: {id}");
        assert_ne!(id, new_request_id());
    }
}
