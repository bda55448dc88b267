//! Taking requests apart: JSON bodies, queries and ids, each with errors that name the field.

use std::{str::FromStr, time::Duration};

use axum::{
    body::{Bytes, HttpBody as _},
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::problem::{ApiProblem, ApiResult};

/// Largest JSON body, bytes.
pub(crate) const MAX_JSON: usize = 1 << 20;

/// How long a client may take to send a body that is read whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// A JSON body.
#[derive(Debug)]
pub(crate) struct ApiJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, _state: &S) -> ApiResult<Self> {
        expect_json(request.headers())?;
        from_json(&whole_body(request, MAX_JSON).await?).map(Self)
    }
}

/// A JSON body of at most `MAX` bytes.
#[derive(Debug)]
pub(crate) struct LargeJson<const MAX: usize, T>(pub T);

impl<S: Send + Sync, const MAX: usize, T: DeserializeOwned> FromRequest<S> for LargeJson<MAX, T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, _state: &S) -> ApiResult<Self> {
        expect_json(request.headers())?;
        from_json(&whole_body(request, MAX).await?).map(Self)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, _state: &S) -> ApiResult<Self> {
        let is_json = expect_json(request.headers());
        let body = whole_body(request, MAX_JSON).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        is_json?;
        from_json(&body).map(Self)
    }
}

/// The body as it is, at most `MAX` bytes.
#[derive(Debug)]
pub(crate) struct RawBody<const MAX: usize>(pub Bytes);

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for RawBody<MAX> {
    type Rejection = ApiProblem;

    async fn from_request(request: Request, _state: &S) -> ApiResult<Self> {
        whole_body(request, MAX).await.map(Self)
    }
}

/// The query.
#[derive(Debug)]
pub(crate) struct ApiQuery<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> ApiResult<Self> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Self(query.0))
            .map_err(|error| {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let detail = cause.unwrap_or_else(|| error.body_text());
                let (field, detail) = match detail.split_once(": ") {
                    Some((field, rest)) if !field.contains(' ') => {
                        (field.to_owned(), rest.to_owned())
                    }
                    _ => (quoted(&detail).unwrap_or("query").to_owned(), detail),
                };
                ApiProblem::invalid(field, format!("the query makes no sense: {detail}"))
            })
    }
}

/// The id in the path of one item. Something that isn't even an id names nothing that exists.
#[derive(Debug)]
pub(crate) struct ApiId<T>(pub T);

impl<S: Send + Sync, T: Named> FromRequestParts<S> for ApiId<T> {
    type Rejection = ApiProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> ApiResult<Self> {
        let axum::extract::Path(text) =
            axum::extract::Path::<String>::from_request_parts(parts, state)
                .await
                .map_err(|error| {
                    ApiProblem::new(error.status(), "InvalidPath", error.body_text())
                })?;
        text.parse().map(Self).map_err(|error: types::ParseError| {
            ApiProblem::new(
                StatusCode::NOT_FOUND,
                format!("Invalid{}.NotFound", T::CODE),
                error.to_string(),
            )
            .next_step("list what there is, and check the id")
        })
    }
}

/// Ids as problems name them.
pub(crate) trait Named: FromStr<Err = types::ParseError> {
    /// The parameter's name in ECS's error codes: `InstanceId`.
    const CODE: &'static str;
}

/// Bills are named by their month.
impl Named for types::Month {
    const CODE: &'static str = "BillMonth";
}

macro_rules! named {
    ($($id:ident = $code:literal;)*) => {$(
        impl Named for types::$id {
            const CODE: &'static str = $code;
        }
    )*};
}

named! {
    InstanceId = "InstanceId";
    DiskId = "DiskId";
    ImageId = "ImageId";
    SecurityGroupId = "SecurityGroupId";
    RuleId = "SecurityGroupRuleId";
    VpcId = "VpcId";
    VswitchId = "VSwitchId";
    DeploymentSetId = "DeploymentSetId";
    DecisionId = "DecisionId";
    SubscriptionId = "SubscriptionId";
    AccountId = "AccountId";
}

/// The id in a field of a request.
pub(crate) fn parse_id<T: Named>(field: &str, text: &str) -> ApiResult<T> {
    text.parse().map_err(|error: types::ParseError| {
        ApiProblem::invalid(field, error.to_string()).code(format!("Invalid{}.Malformed", T::CODE))
    })
}

/// The id in a field that may be left out.
pub(crate) fn parse_optional_id<T: Named>(
    field: &str,
    text: Option<&String>,
) -> ApiResult<Option<T>> {
    text.map(|text| parse_id(field, text)).transpose()
}

/// A point in time in RFC 3339, if there is one.
pub(crate) fn parse_time(
    field: &str,
    text: Option<&String>,
) -> ApiResult<Option<types::Timestamp>> {
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error: types::ParseError| ApiProblem::invalid(field, error.to_string()))
}

/// A value in a field of a request, of a type whose errors speak for themselves.
pub(crate) fn parse<T: FromStr>(field: &str, text: &str, expected: &str) -> ApiResult<T> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
        ApiProblem::invalid(field, format!("`{shown}` is not {expected}"))
    })
}

fn expect_json(headers: &HeaderMap) -> ApiResult<()> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let said = if essence.is_empty() {
        "nothing"
    } else {
        essence
    };
    Err(ApiProblem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        format!("the body's content type must be application/json; the request says {said}"),
    )
    .next_step("send the header `content-type: application/json`"))
}

async fn whole_body(request: Request, max: usize) -> ApiResult<Bytes> {
    let too_large = || {
        ApiProblem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestTooLarge",
            format!("the body is larger than {max} bytes"),
        )
    };
    let announced = request.body().size_hint().lower();
    if announced > u64::try_from(max).unwrap_or(u64::MAX) {
        return Err(too_large());
    }
    let collected = Limited::new(request.into_body(), max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Err(_) => Err(ApiProblem::new(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()),
        )),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
        Ok(Err(error)) => Err(ApiProblem::new(
            StatusCode::BAD_REQUEST,
            "IncompleteBody",
            format!("the body broke off: {error}"),
        )),
    }
}

fn from_json<T: DeserializeOwned>(body: &[u8]) -> ApiResult<T> {
    // Serde also takes an array for a struct, field by field in their order: nobody means that.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(ApiProblem::invalid(
            "body",
            "the body makes no sense: it is an array, expected an object",
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        let detail = format!("the body makes no sense: {inner}");
        if !inner.is_data() {
            return ApiProblem::new(StatusCode::BAD_REQUEST, "MalformedJson", detail);
        }
        ApiProblem::invalid(field_of(&path, &inner.to_string()), detail)
    })?;
    reader.end().map_err(|error| {
        ApiProblem::new(
            StatusCode::BAD_REQUEST,
            "MalformedJson",
            format!("there is something after the body's JSON: {error}"),
        )
    })?;
    Ok(value)
}

/// Which field an error is about: a missing or unknown one is named in the message, not in the path.
fn field_of(path: &str, message: &str) -> String {
    let named = (message.starts_with("missing field") || message.starts_with("unknown field"))
        .then(|| quoted(message))
        .flatten();
    match (path, named) {
        ("." | "?", None) => "body".into(),
        (path, None) => path.into(),
        ("." | "?", Some(name)) => name.into(),
        (path, Some(name)) => {
            let parent = path
                .strip_suffix(name)
                .map_or(path, |parent| parent.trim_end_matches('.'));
            if parent.is_empty() {
                name.into()
            } else {
                format!("{parent}.{name}")
            }
        }
    }
}

/// The first text between backquotes.
fn quoted(message: &str) -> Option<&str> {
    message.split('`').nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api_types::RunInstances;

    #[test]
    fn bad_json_says_which_field() {
        let check = |body: &str, field: Option<&str>, code: &str, says: &str| {
            let problem = from_json::<RunInstances>(body.as_bytes())
                .unwrap_err()
                .with_request_id("");
            assert_eq!(problem.field.as_deref(), field, "{body}: {problem:?}");
            assert_eq!(problem.code, code, "{body}");
            assert!(problem.detail.contains(says), "{body}: {}", problem.detail);
        };
        check("{}", Some("image_id"), "InvalidParameter", "missing field");
        check(
            r#"{"image_id":"m-1","cpus":1}"#,
            Some("cpus"),
            "InvalidParameter",
            "unknown field",
        );
        check(
            r#"{"image_id":"m-1","vcpus":-1}"#,
            Some("vcpus"),
            "InvalidParameter",
            "-1",
        );
        check(
            r#"{"image_id":"m-1","vcpus":"two"}"#,
            Some("vcpus"),
            "InvalidParameter",
            "two",
        );
        check(
            r#"{"image_id":"m-1","data_disks":[{"size_gib":1},{"size_gib":"x"}]}"#,
            Some("data_disks[1].size_gib"),
            "InvalidParameter",
            "x",
        );
        check(
            r#"{"image_id":"m-1","data_disks":[{"size":1}]}"#,
            Some("data_disks[0].size"),
            "InvalidParameter",
            "unknown field",
        );
        check("[]", Some("body"), "InvalidParameter", "");
        check("{", None, "MalformedJson", "EOF");
        check("", None, "MalformedJson", "EOF");
        check(r#"{"image_id":"m-1"} x"#, None, "MalformedJson", "after");
    }
}
