//! The one error of the use cases: a kind to branch on, ECS's code, a sentence, and what to do.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// What a use case answers with.
pub type Result<T> = std::result::Result<T, ControlError>;

/// What sort of failure, for callers that branch (an HTTP status, an exit code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request itself is wrong (400).
    InvalidInput,
    /// It would have succeeded, but was only to be tried (400, `DryRunOperation`).
    DryRun,
    /// What it names does not exist (404).
    NotFound,
    /// What it names is not in a state that allows it (403).
    IncorrectState,
    /// It is protected, in use, or the like (403).
    Denied,
    /// A limit is reached (403).
    QuotaExceeded,
    /// No host has room for it (403).
    NoStock,
    /// It contradicts another request that is under way or was answered (409).
    Conflict,
    /// The guest or an adapter did not answer in time (504).
    Timeout,
    /// Something on the host failed (500).
    Internal,
}

/// Why a use case failed. `Display` is the message alone; the cause is in `source`.
#[derive(Clone, Debug)]
pub struct ControlError {
    kind: ErrorKind,
    code: Cow<'static, str>,
    message: String,
    next_step: Option<String>,
    field: Option<String>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl ControlError {
    /// A failure of that kind; `code` is ECS's where ECS has one.
    pub fn new(
        kind: ErrorKind,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            code: code.into(),
            message: message.into(),
            next_step: None,
            field: None,
            source: None,
        }
    }

    /// A parameter is wrong; `field` is its path in the command, such as `data_disks[0].size`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        let field = field.into();
        Self {
            field: Some(field),
            ..Self::new(ErrorKind::InvalidInput, "InvalidParameter", message)
        }
    }

    /// There is no such `what`, whose code is `Invalid<resource>.NotFound`.
    pub fn not_found(resource: &str, what: &str, id: &dyn fmt::Display) -> Self {
        Self::new(
            ErrorKind::NotFound,
            format!("Invalid{resource}.NotFound"),
            format!("There is no {what} {id}."),
        )
        .with_next_step(format!(
            "List what there is, and check the id: a deleted {what} is gone."
        ))
    }

    /// Something on the host failed while doing `what`.
    pub fn internal(
        what: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self {
            source: Some(Arc::new(source)),
            ..Self::new(ErrorKind::Internal, "InternalError", what)
        }
    }

    /// The same with another code.
    #[must_use]
    pub fn with_code(mut self, code: impl Into<Cow<'static, str>>) -> Self {
        self.code = code.into();
        self
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_next_step(mut self, next_step: impl Into<String>) -> Self {
        self.next_step = Some(next_step.into());
        self
    }

    /// The same with the parameter that was wrong.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same with its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn with_shared_source(mut self, source: Arc<dyn StdError + Send + Sync>) -> Self {
        self.source = Some(source);
        self
    }

    /// What sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// For programs: `InvalidInstanceId.NotFound`.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// What went wrong, of what, in a sentence.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.next_step.as_deref()
    }

    /// The path of the parameter that was wrong.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for ControlError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}
