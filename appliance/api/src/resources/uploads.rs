//! `/v1/images/{id}/kernel|initrd|disk`: an image's parts, streamed.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use api_types::ImagePart;
use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::State,
    http::{HeaderMap, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use control::model::ImagePartKind;
use futures_util::{Stream, StreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, Sleep};
use types::ImageId;

use crate::{
    convert,
    extract::{ApiId, parse},
    problem::{ApiProblem, ApiResult},
    routes::Shared,
};

/// Send the kernel: an ELF with a PVH entry, or a Linux bzImage.
///
/// `Content-Length` is needed; `Content-Digest: sha-256=:…:` (RFC 9530) is checked if it is there.
#[utoipa::path(put, path = "/v1/images/{id}/kernel", tag = "images", params(("id" = String, Path, description = "`m-…`")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "What arrived", body = ImagePart)))]
pub async fn upload_kernel(
    state: State<Shared>,
    id: ApiId<ImageId>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<ImagePart>> {
    upload(state, id, ImagePartKind::Kernel, &headers, body).await
}

/// Send the initial RAM disk. See the kernel.
#[utoipa::path(put, path = "/v1/images/{id}/initrd", tag = "images", params(("id" = String, Path, description = "`m-…`")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "What arrived", body = ImagePart)))]
pub async fn upload_initrd(
    state: State<Shared>,
    id: ApiId<ImageId>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<ImagePart>> {
    upload(state, id, ImagePartKind::Initrd, &headers, body).await
}

/// Send what the system disk starts as, raw. See the kernel.
#[utoipa::path(put, path = "/v1/images/{id}/disk", tag = "images", params(("id" = String, Path, description = "`m-…`")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, description = "What arrived", body = ImagePart)))]
pub async fn upload_disk(
    state: State<Shared>,
    id: ApiId<ImageId>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<ImagePart>> {
    upload(state, id, ImagePartKind::Disk, &headers, body).await
}

async fn upload(
    State(shared): State<Shared>,
    ApiId(id): ApiId<ImageId>,
    kind: ImagePartKind,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<Json<ImagePart>> {
    let length = content_length(headers)?;
    let digest = content_digest(headers)?;
    let why = Arc::default();
    let content = Checked {
        body: body.into_data_stream(),
        left: length,
        digest: digest.map(|wanted| (Sha256::new(), wanted)),
        stall: shared.upload_stall_timeout,
        timer: Box::pin(tokio::time::sleep(shared.upload_stall_timeout)),
        done: false,
        why: Arc::clone(&why),
    };
    let received = shared.control.upload_image_part(id, kind, content).await;
    // The stream knows better than the use case why it ended.
    if let Some(problem) = why.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(problem);
    }
    Ok(Json(convert::image::part_to_wire(kind, &received?)))
}

fn content_length(headers: &HeaderMap) -> ApiResult<u64> {
    let Some(value) = headers.get(header::CONTENT_LENGTH) else {
        return Err(ApiProblem::new(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "an upload must say how long it is",
        )
        .next_step("send the header `content-length`"));
    };
    parse(
        "content-length",
        value.to_str().unwrap_or_default(),
        "a number of bytes",
    )
}

/// The SHA-256 of RFC 9530's `Content-Digest`, if the header names one; other algorithms are not checked (§2).
fn content_digest(headers: &HeaderMap) -> ApiResult<Option<[u8; 32]>> {
    let Some(value) = headers.get("content-digest") else {
        return Ok(None);
    };
    let malformed = || {
        ApiProblem::invalid(
            "content-digest",
            "the header is not `sha-256=:BASE64 OF 32 BYTES:` (RFC 9530)",
        )
    };
    let value = value.to_str().map_err(|_| malformed())?;
    for digest in value.split(',') {
        let (algorithm, digest) = digest.trim().split_once('=').ok_or_else(malformed)?;
        if !algorithm.eq_ignore_ascii_case("sha-256") {
            continue;
        }
        let base64 = digest
            .strip_prefix(':')
            .and_then(|rest| rest.strip_suffix(':'));
        let bytes = STANDARD
            .decode(base64.ok_or_else(malformed)?)
            .map_err(|_| malformed())?;
        return bytes.try_into().map(Some).map_err(|_| malformed());
    }
    Ok(None)
}

/// A body that ends with an error unless every byte came, in time, and they are the ones that were announced.
struct Checked {
    body: BodyDataStream,
    left: u64,
    digest: Option<(Sha256, [u8; 32])>,
    stall: Duration,
    timer: Pin<Box<Sleep>>,
    done: bool,
    why: Arc<Mutex<Option<ApiProblem>>>,
}

impl Checked {
    fn fail(&mut self, problem: ApiProblem) -> io::Error {
        self.done = true;
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
        io::Error::other("the upload failed")
    }

    fn end(&mut self) -> Option<io::Result<Bytes>> {
        self.done = true;
        if self.left > 0 {
            let detail = format!("the upload ended {} bytes too early", self.left);
            let problem = ApiProblem::new(StatusCode::BAD_REQUEST, "IncompleteBody", detail);
            return Some(Err(self.fail(problem)));
        }
        let (hash, wanted) = self.digest.take()?;
        let found: [u8; 32] = hash.finalize().into();
        if found == wanted {
            return None;
        }
        let detail = format!(
            "what arrived has the SHA-256 {}, not the announced {}",
            hex::encode(found),
            hex::encode(wanted)
        );
        let problem = ApiProblem::invalid("content-digest", detail)
            .code("DigestMismatch")
            .next_step("send it again");
        Some(Err(self.fail(problem)))
    }
}

impl Stream for Checked {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.done {
            return Poll::Ready(None);
        }
        let Poll::Ready(next) = self.body.poll_next_unpin(context) else {
            ready!(self.timer.as_mut().poll(context));
            let detail = format!("nothing came for {} s", self.stall.as_secs());
            let problem = ApiProblem::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", detail);
            return Poll::Ready(Some(Err(self.fail(problem))));
        };
        let deadline = Instant::now() + self.stall;
        self.timer.as_mut().reset(deadline);
        Poll::Ready(match next {
            None => self.end(),
            Some(Err(error)) => {
                let detail = format!("the upload broke off: {error}");
                let problem = ApiProblem::new(StatusCode::BAD_REQUEST, "IncompleteBody", detail);
                Some(Err(self.fail(problem)))
            }
            Some(Ok(bytes)) => {
                if let Some((hash, _)) = &mut self.digest {
                    hash.update(&bytes);
                }
                let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                self.left = self.left.saturating_sub(count);
                Some(Ok(bytes))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-digest", value.parse().unwrap());
        headers
    }

    #[test]
    fn digests_of_rfc_9530() {
        let digest: [u8; 32] = Sha256::digest(b"x").into();
        let base64 = STANDARD.encode(digest);
        for good in [
            format!("sha-256=:{base64}:"),
            format!("sha-512=:AAAA:, SHA-256=:{base64}:"),
        ] {
            assert_eq!(
                content_digest(&headers(&good)).unwrap(),
                Some(digest),
                "{good}"
            );
        }
        assert_eq!(content_digest(&headers("sha-512=:AAAA:")).unwrap(), None);
        assert_eq!(content_digest(&HeaderMap::new()).unwrap(), None);
        for bad in ["sha-256", "sha-256=:AAAA:", "sha-256=AAAA", "sha-256=:!:"] {
            assert!(content_digest(&headers(bad)).is_err(), "{bad}");
        }
    }
}
