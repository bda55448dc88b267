//! `/v1/instances/{id}/console`

use std::io;

use api_types::{CONSOLE_FROM_HEADER, CONSOLE_NEXT_HEADER, ConsoleChunk};
use axum::{
    Json,
    body::Body,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use control::model::Console;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use types::InstanceId;
use utoipa::{IntoParams, ToSchema};

use crate::{
    extract::{ApiId, ApiQuery, RawBody},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// The most output of one answer that doesn't follow, bytes.
const MAX_CHUNK: usize = 1 << 20;

/// The most input of one request, bytes.
const MAX_INPUT: usize = 64 << 10;

/// Which part of the output, and how.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ConsoleQuery {
    /// Offset of the first byte wanted, counted since the instance was made; 0 if absent.
    #[serde(default)]
    #[param(required = false)]
    from: u64,
    /// Keep the answer open, and send output as it comes.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
    /// Raw bytes (the default) or JSON with the offsets in it.
    #[serde(default)]
    #[param(required = false, inline)]
    format: ConsoleFormat,
}

/// How the output is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConsoleFormat {
    /// The bytes as the guest wrote them.
    #[default]
    Raw,
    /// A `ConsoleChunk`.
    Json,
}

/// Console output: what there is from an offset on (at most 1 MiB), or with `follow` all that comes.
///
/// Offsets are in the headers `x-console-from` and, without `follow`, `x-console-next`. An answer that follows ends
/// when the instance is deleted, when the host's daemon stops, or where output is missing because the reader was too
/// slow: ask again from the offset that was reached.
#[utoipa::path(get, path = "/v1/instances/{id}/console", tag = "instances",
    params(("id" = String, Path, description = "`i-…`"), ConsoleQuery),
    responses((status = 200, description = "Output", content(
        (Vec<u8> = "application/octet-stream"), (ConsoleChunk = "application/json")),
        headers(
            ("x-console-from" = u64, description = "Offset of the body's first byte"),
            ("x-console-next" = u64, description = "Offset after the body's last byte; without `follow`")))))]
pub async fn read_console(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    ApiQuery(query): ApiQuery<ConsoleQuery>,
) -> ApiResult<Response> {
    if query.follow && query.format == ConsoleFormat::Json {
        return Err(
            ApiProblem::invalid("format", "an answer that follows is raw").next_step(
                "leave `format` out, or ask for one chunk after the other without `follow`",
            ),
        );
    }
    let there = shared.control.console(id, query.from, MAX_CHUNK).await?;
    if query.follow {
        return Ok(follow(&shared, id, there));
    }
    let (from, next) = (there.offset, there.next());
    if query.format == ConsoleFormat::Json {
        let text = String::from_utf8_lossy(&there.data).into_owned();
        return Ok(Json(ConsoleChunk { from, next, text }).into_response());
    }
    let headers = [
        (CONSOLE_FROM_HEADER, from.to_string()),
        (CONSOLE_NEXT_HEADER, next.to_string()),
    ];
    Ok((headers, octets(there.data.into())).into_response())
}

/// What is there already, then what comes, as long as no byte is missing between.
fn follow(shared: &Shared, id: InstanceId, there: Console) -> Response {
    let from = there.offset;
    let coming = shared.control.follow_console(id, there.next());
    let chunks = stream::once(std::future::ready(Ok(there.clone()))).chain(coming);
    let bytes = chunks
        .scan(from, |expected, chunk| {
            let chunk = chunk.ok().filter(|chunk| chunk.offset == *expected);
            if let Some(chunk) = &chunk {
                *expected = chunk.next();
            }
            std::future::ready(chunk.map(|chunk| chunk.data))
        })
        .filter(|data| std::future::ready(!data.is_empty()))
        .map(Ok::<Bytes, io::Error>)
        .take_until(Box::pin(shared.stopped()));
    let headers = [(CONSOLE_FROM_HEADER, from.to_string())];
    (headers, octets(Body::from_stream(bytes))).into_response()
}

fn octets(body: Body) -> Response {
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// Type into the console: the body's bytes as they are, at most 64 KiB.
#[utoipa::path(post, path = "/v1/instances/{id}/console", tag = "instances", params(("id" = String, Path, description = "`i-…`")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 204, description = "Typed")))]
pub async fn write_console(
    State(shared): State<Shared>,
    ApiId(id): ApiId<InstanceId>,
    RawBody(input): RawBody<MAX_INPUT>,
) -> ApiResult<StatusCode> {
    shared.control.console_input(id, input).await?;
    Ok(StatusCode::NO_CONTENT)
}
