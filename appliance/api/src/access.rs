//! Who may ask: on the unix socket whoever the file's mode lets in, on TCP whoever has the token.

use std::{
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use sha2::{Digest as _, Sha256};

use crate::problem::ApiProblem;

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

/// The bearer token of the TCP listener. It is kept as a digest only, and never printed.
#[derive(Clone)]
pub struct Token(Arc<[u8; 32]>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The file with the token cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Reading or writing it failed.
    #[error("cannot {what} the token file {path}")]
    File {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the token file {path} may be read by others (mode {mode:o}): make it 600, or delete it for a new token"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What is in it is no token.
    #[error(
        "the token file {path} holds no token of at least 32 printable characters: delete it for a new one"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
    },
}

impl Token {
    /// The token with that text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(Arc::new(Sha256::digest(text).into()))
    }

    /// The token in the file at `path`; makes both, with mode 0600, when there is no file.
    ///
    /// # Errors
    /// The file cannot be read or made, may be read by others, or holds no token.
    pub fn load_or_create(path: &Path) -> Result<Self, TokenError> {
        Self::text_in(path).map(|text| Self::new(&text))
    }

    /// As [`load_or_create`](Self::load_or_create), but the text itself: to be given to those who enrol.
    ///
    /// # Errors
    /// As there.
    pub fn text_in(path: &Path) -> Result<String, TokenError> {
        let failed = |what, source| TokenError::File {
            what,
            path: path.to_owned(),
            source,
        };
        match fs::read_to_string(path) {
            Ok(text) => {
                let metadata = fs::metadata(path).map_err(|source| failed("read", source))?;
                let mode = metadata.permissions().mode() & 0o7777;
                if mode & 0o077 != 0 {
                    return Err(TokenError::Exposed {
                        path: path.to_owned(),
                        mode,
                    });
                }
                let text = text.trim();
                if text.len() < TOKEN_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(TokenError::Malformed {
                        path: path.to_owned(),
                    });
                }
                Ok(text.to_owned())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = hex::encode(rand::random::<[u8; TOKEN_BYTES]>());
                write_new(path, &text).map_err(|source| failed("create", source))?;
                Ok(text)
            }
            Err(error) => Err(failed("read", error)),
        }
    }

    /// Whether `text` is this token. Takes the same time wherever they differ: digests are compared, and all of them.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let offered: [u8; 32] = Sha256::digest(text).into();
        let difference = self
            .0
            .iter()
            .zip(offered)
            .fold(0, |difference, (ours, theirs)| difference | (ours ^ theirs));
        std::hint::black_box(difference) == 0
    }
}

/// Writes a file that is whole or not there at all, and never open to others.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    // Also when it was left over from before with another mode.
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{text}")?;
    file.sync_all()?;
    fs::rename(&part, path)
}

/// What a listener asks of those who come through it.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Nothing: the socket's file mode let them in.
    Open,
    /// The token.
    Token {
        /// It.
        token: Token,
        /// Whether somebody without it may enrol here.
        enroll: bool,
    },
}

/// Lets a request through, or answers 401 (RFC 6750 §3).
pub(crate) async fn check(State(access): State<Access>, request: Request, next: Next) -> Response {
    let Access::Token { token, enroll } = &access else {
        return next.run(request).await;
    };
    // Whether the host works may be asked by anyone who can reach it; who enrols has another secret.
    let path = request.uri().path();
    if path == "/v1/health" || (*enroll && path == "/v1/enroll") {
        return next.run(request).await;
    }
    let offered = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(HeaderValue::as_bytes);
    let (challenge, detail) = match offered {
        None => ("Bearer realm=\"ashlar\"", "a bearer token is needed"),
        Some(value) => match bearer(value) {
            Some(offered) if token.matches(offered) => return next.run(request).await,
            _ => (
                "Bearer realm=\"ashlar\", error=\"invalid_token\"",
                "the bearer token is not this host's",
            ),
        },
    };
    let problem = ApiProblem::new(StatusCode::UNAUTHORIZED, "InvalidAccessToken", detail).next_step(
        "send `Authorization: Bearer TOKEN` with the token from the file `api-token` in the host's state folder",
    );
    let mut response = problem.into_response();
    response.headers_mut().insert(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static(challenge),
    );
    response
}

/// The token in `Bearer TOKEN`; the scheme's case does not matter (RFC 9110 §11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-token");
        let made = Token::load_or_create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim().len(), 64);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert!(made.matches(text.trim().as_bytes()));
        assert!(
            Token::load_or_create(&path)
                .unwrap()
                .matches(text.trim().as_bytes())
        );
        for wrong in ["", "x", &text.trim()[1..], &text] {
            assert!(!made.matches(wrong.as_bytes()), "{wrong:?}");
        }
        assert!(!format!("{made:?}").contains(text.trim()));
    }

    #[test]
    fn a_token_that_others_may_read_or_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api-token");
        write_new(&path, "short").unwrap();
        assert!(matches!(
            Token::load_or_create(&path),
            Err(TokenError::Malformed { .. })
        ));
        write_new(&path, &"a".repeat(64)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Token::load_or_create(&path),
            Err(TokenError::Exposed { mode: 0o640, .. })
        ));
        let nowhere = folder.path().join("no/where");
        assert!(matches!(
            Token::load_or_create(&nowhere),
            Err(TokenError::File { .. })
        ));
    }

    #[test]
    fn bearer_schemes() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bEARER  abc "), Some(&b"abc"[..]));
        for bad in [&b"Basic abc"[..], b"Bearer", b"", b"Bearerabc"] {
            assert_eq!(bearer(bad), None);
        }
    }
}
