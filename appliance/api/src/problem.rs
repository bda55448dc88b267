//! Errors on the wire: problem details (RFC 9457).

use api_types::Problem;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use control::{ControlError, ErrorKind};

/// A problem on its way to the client. The envelope writes it down, with the request's id.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiProblem {
    status: StatusCode,
    code: String,
    detail: String,
    next_step: Option<String>,
    field: Option<String>,
}

/// What a handler answers with.
pub(crate) type ApiResult<T> = Result<T, ApiProblem>;

impl ApiProblem {
    /// A problem without a next step and not about a field.
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            detail: detail.into(),
            next_step: None,
            field: None,
        }
    }

    /// A parameter is wrong.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "InvalidParameter", detail)
        }
    }

    /// The same with another code.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = code.into();
        self
    }

    /// The same with what to do about it.
    pub fn next_step(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// The same about the field `name`, if it is about `other`.
    pub fn renamed(mut self, other: &str, name: &str) -> Self {
        if self.field.as_deref() == Some(other) {
            self.field = Some(name.to_owned());
        }
        self
    }

    /// As it goes over the wire.
    pub fn with_request_id(self, request_id: &str) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or("Error").into(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            next_step: self.next_step,
            field: self.field,
            request_id: request_id.into(),
        }
    }
}

/// An empty answer with the problem beside it, for the envelope to write down.
impl IntoResponse for ApiProblem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<ControlError> for ApiProblem {
    fn from(error: ControlError) -> Self {
        let status = status(error.kind());
        if status.is_server_error() {
            tracing::error!(code = error.code(), "{}", with_causes(&error));
        }
        Self {
            status,
            code: error.code().to_owned(),
            detail: with_causes(&error),
            next_step: error.next_step().map(Into::into),
            field: error.field().map(wire_field),
        }
    }
}

fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::DryRun => StatusCode::BAD_REQUEST,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::IncorrectState
        | ErrorKind::Denied
        | ErrorKind::QuotaExceeded
        | ErrorKind::NoStock => StatusCode::FORBIDDEN,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{}: {error}", text.trim_end_matches('.'));
        cause = error.source();
    }
    text
}

/// The name a command's field has on the wire: `data_disks[0].size` is `data_disks[0].size_gib`.
fn wire_field(path: &str) -> String {
    let segments = path.split('.').map(|segment| {
        let (name, index) = match segment.find('[') {
            Some(at) => segment.split_at(at),
            None => (segment, ""),
        };
        let name = match name {
            "image" => "image_id",
            "memory" => "memory_mib",
            "amount" => "count",
            "min_amount" => "min_count",
            "vswitch" => "vswitch_id",
            "vpc" => "vpc_id",
            "security_groups" => "security_group_ids",
            "deployment_set" => "deployment_set_id",
            "size" => "size_gib",
            "ports" => "port_range",
            "source_ports" => "source_port_range",
            "inner_access" => "inner_access_policy",
            same => same,
        };
        format!("{name}{index}")
    });
    segments
        .collect::<Vec<_>>()
        .join(".")
        .trim_start_matches("request.")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_status_and_keeps_its_words() {
        for (kind, status) in [
            (ErrorKind::InvalidInput, 400),
            (ErrorKind::DryRun, 400),
            (ErrorKind::NotFound, 404),
            (ErrorKind::IncorrectState, 403),
            (ErrorKind::Denied, 403),
            (ErrorKind::QuotaExceeded, 403),
            (ErrorKind::NoStock, 403),
            (ErrorKind::Conflict, 409),
            (ErrorKind::Timeout, 504),
            (ErrorKind::Internal, 500),
        ] {
            let error = ControlError::new(kind, "Some.Code", "It failed.")
                .with_next_step("Do it well.")
                .with_field("data_disks[2].size")
                .with_source(std::io::Error::other("the cause"));
            let problem = ApiProblem::from(error).with_request_id("r-1");
            assert_eq!(problem.status, status);
            assert_eq!(problem.code, "Some.Code");
            assert_eq!(problem.detail, "It failed: the cause");
            assert_eq!(problem.next_step.as_deref(), Some("Do it well."));
            assert_eq!(problem.field.as_deref(), Some("data_disks[2].size_gib"));
            assert_eq!(problem.request_id, "r-1");
        }
    }

    #[test]
    fn fields_have_the_names_of_the_wire() {
        for (path, wire) in [
            ("amount", "count"),
            ("memory", "memory_mib"),
            ("system_disk.size", "system_disk.size_gib"),
            ("request.client_token", "client_token"),
            ("security_groups[1]", "security_group_ids[1]"),
            ("deployment_set", "deployment_set_id"),
            ("affinity.with[1]", "affinity.with[1]"),
            ("name", "name"),
        ] {
            assert_eq!(wire_field(path), wire);
        }
    }
}
