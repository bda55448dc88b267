//! Client tokens and dry runs, the same for every use case that makes something.

use crate::{
    ControlError, ErrorKind, Result,
    commands::Request,
    core::{Transaction, sentence},
    records::TokenRecord,
};
use instance::{Admission, ClientToken, TokenRefusal, TokenUse};
use serde::Serialize;
use std::{fmt::Display, str::FromStr, time::Duration};
use types::Sha256Digest;

/// How long an answer is kept for its token.
pub(crate) const TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A request's token, and the digest of its parameters.
pub(crate) struct Ticket {
    key: Option<String>,
    parameters: Sha256Digest,
    dry_run: bool,
}

impl Ticket {
    /// Reads the token of a command for `operation`. What tells two requests apart is everything but when they came.
    pub(crate) fn new(
        operation: &str,
        request: &Request,
        command: &impl Serialize,
    ) -> Result<Self> {
        let mut parameters = serde_json::to_value(command).map_err(|error| {
            ControlError::internal("The request cannot be compared with another.", error)
        })?;
        if let Some(parameters) = parameters.as_object_mut() {
            parameters.remove("request");
        }
        let token = request
            .client_token
            .as_deref()
            .map(str::parse::<ClientToken>)
            .transpose()
            .map_err(|error| {
                ControlError::invalid("client_token", sentence(&error.to_string()))
                    .with_code("InvalidClientToken.Malformed")
            })?;
        Ok(Self {
            key: token.map(|token| format!("{operation} {token}")),
            parameters: Sha256Digest::of(parameters.to_string().as_bytes()),
            dry_run: request.dry_run,
        })
    }

    /// What was answered to the first request with this token; `None` for a request that is to be carried out. Requests with
    /// a token are carried out within the transaction that asks this, so none is ever half done.
    pub(crate) fn former<I: FromStr>(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<Option<Vec<I>>> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let now = transaction.core().now();
        let record = transaction.get::<TokenRecord>(key)?;
        let former = record
            .filter(|record| now.saturating_since(record.at) < TOKEN_LIFETIME)
            .map(|record| record.used);
        match Admission::decide(former.as_ref(), self.parameters) {
            Ok(Admission::Proceed) => Ok(None),
            Ok(Admission::Answered(ids)) => {
                Ok(Some(ids.iter().filter_map(|id| id.parse().ok()).collect()))
            }
            Err(refusal) => Err(refused(refusal)),
        }
    }

    /// Ends a dry run that got this far: everything is fine, and nothing was done.
    pub(crate) fn end_dry_run(&self) -> Result<()> {
        if self.dry_run {
            return Err(ControlError::new(
                ErrorKind::DryRun,
                "DryRunOperation",
                "The request would have succeeded; nothing was done because it was a dry run.",
            )
            .with_next_step("Send it again without dry_run."));
        }
        Ok(())
    }

    /// Keeps the answer for the token, if there is one.
    pub(crate) fn answered<I: Display>(
        &self,
        transaction: &Transaction<'_>,
        ids: &[I],
    ) -> Result<()> {
        let Some(key) = &self.key else {
            return Ok(());
        };
        let answer = Some(ids.iter().map(ToString::to_string).collect());
        let used = TokenUse {
            parameters: self.parameters,
            answer,
        };
        transaction.put(&TokenRecord {
            key: key.clone(),
            used,
            at: transaction.core().now(),
        })
    }
}

fn refused(refusal: TokenRefusal) -> ControlError {
    let (code, next_step) = match refusal {
        TokenRefusal::ParameterMismatch => (
            "IdempotentParameterMismatch",
            "Use a new client token for another request.",
        ),
        TokenRefusal::StillProcessing => (
            "LastTokenProcessing",
            "Wait a moment and send the request again.",
        ),
    };
    ControlError::new(ErrorKind::Conflict, code, sentence(&refusal.to_string()))
        .with_next_step(next_step)
}
