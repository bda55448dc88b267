//! A client of the host's REST interface: HTTP/1.1 over a unix socket, over loopback TCP, or over TLS.
//!
//! Each request has a connection of its own: connecting to a unix socket costs tens of microseconds, and a stream
//! that is left half-way is simply closed.

mod address;
mod error;
mod events;
mod tls;

use std::time::Duration;

use api_types::{Page, Problem};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::{TcpStream, UnixStream};

pub use address::{Address, AddressError};
pub use error::Error;
pub use events::EventStream;
use tls::Handshake;

/// Largest JSON answer that is read, bytes.
const MAX_ANSWER: usize = 64 << 20;

/// A request's body: whole or streamed.
pub type RequestBody = BoxBody<Bytes, std::io::Error>;

/// Talks to one host.
#[derive(Clone, Debug)]
pub struct Client {
    address: Address,
    token: Option<String>,
    pinned: Option<String>,
    connect_timeout: Duration,
    answer_timeout: Duration,
}

impl Client {
    /// A client of the host at `address`; `token` is sent as bearer token.
    #[must_use]
    pub fn new(address: Address, token: Option<String>) -> Self {
        Self {
            address,
            token,
            pinned: None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(120),
        }
    }

    /// The same, talking over TLS only to the host whose certificate has this digest: `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn pinned(mut self, fingerprint: Option<&str>) -> Self {
        self.pinned = fingerprint.map(str::to_owned);
        self
    }

    /// The host's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// GET `path` (with its query) as JSON.
    ///
    /// # Errors
    /// The host cannot be reached, it refused, or it answered something else than a `T`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.json(Method::GET, path, empty()).await
    }

    /// GET `path` as it is answered, up to 64 MiB.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes, Error> {
        read(self.stream(path).await?).await
    }

    /// POST `body` as JSON to `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.json(Method::POST, path, json_body(body)?).await
    }

    /// PUT `body` as JSON to `path`.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.json(Method::PUT, path, json_body(body)?).await
    }

    /// POST nothing to `path`, where nothing is answered either.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn post_empty(&self, path: &str) -> Result<(), Error> {
        let request = self.request(Method::POST, path, empty(), None)?;
        drop(self.send(request).await?);
        Ok(())
    }

    /// POST `body` as JSON to `path`, where nothing is answered.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn post_only(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<(), Error> {
        let body = json_body(body)?;
        let request = self.request(Method::POST, path, body, Some("application/json"))?;
        drop(self.send(request).await?);
        Ok(())
    }

    /// PATCH `path` with `body` as JSON.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.json(Method::PATCH, path, json_body(body)?).await
    }

    /// DELETE `path`.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        let request = self.request(Method::DELETE, path, empty(), None)?;
        drop(self.send(request).await?);
        Ok(())
    }

    /// POST `bytes` as they are to `path`.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn post_bytes(&self, path: &str, bytes: Bytes) -> Result<(), Error> {
        let body = Full::new(bytes).map_err(|never| match never {}).boxed();
        let request = self.request(Method::POST, path, body, Some("application/octet-stream"))?;
        drop(self.send(request).await?);
        Ok(())
    }

    /// PUT a streamed body of exactly `length` bytes to `path`.
    ///
    /// # Errors
    /// As [`Client::get`], or when reading the body failed.
    pub async fn put_stream<T: DeserializeOwned>(
        &self,
        path: &str,
        body: RequestBody,
        length: u64,
    ) -> Result<T, Error> {
        let mut request =
            self.request(Method::PUT, path, body, Some("application/octet-stream"))?;
        request
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length.into());
        // No time limit: the body may be as large as a disk; the host closes a connection that stalls.
        let response = self.exchange(request, None).await?;
        self.read_json(path, response).await
    }

    /// GET `path`; the answer's body is streamed, for as long as the host has something to say.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn stream(&self, path: &str) -> Result<Response<Incoming>, Error> {
        self.send(self.request(Method::GET, path, empty(), None)?)
            .await
    }

    /// The host's events from now on, optionally only those about one subject.
    ///
    /// # Errors
    /// The host cannot be reached, or it refused.
    pub async fn events(&self) -> Result<EventStream, Error> {
        let response = self.stream("/v1/events").await?;
        Ok(EventStream::new(response.into_body()))
    }

    /// Every item of a list, page by page. `path` may have a query.
    ///
    /// # Errors
    /// As [`Client::get`].
    pub async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Page<T>, Error> {
        let mut items = Vec::new();
        let mut next: Option<String> = None;
        loop {
            let path = Query::of(path)
                .add("limit", Some(api_types::MAX_PAGE_ITEMS))
                .add("next_token", next.as_deref())
                .finish();
            let page: Page<T> = self.get(&path).await?;
            let turned = !page.items.is_empty();
            items.extend(page.items);
            next = page.next_token;
            if next.is_none() || !turned {
                return Ok(Page {
                    items,
                    next_token: None,
                });
            }
        }
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
    ) -> Result<T, Error> {
        let request = self.request(method, path, body, Some("application/json"))?;
        let response = self.send(request).await?;
        self.read_json(path, response).await
    }

    async fn read_json<T: DeserializeOwned>(
        &self,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<T, Error> {
        let bytes = read(response).await?;
        serde_json::from_slice(&bytes).map_err(|source| Error::NotUnderstood {
            what: format!("the answer to {path}"),
            source: source.into(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
        content_type: Option<&str>,
    ) -> Result<Request<RequestBody>, Error> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, self.address.host_header())
            .header(
                header::USER_AGENT,
                concat!("ashlar/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(content_type) = content_type {
            request = request.header(header::CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request
            .body(body)
            .map_err(|source| Error::Usage(format!("`{path}` cannot be asked for: {source}")))
    }

    async fn send(&self, request: Request<RequestBody>) -> Result<Response<Incoming>, Error> {
        self.exchange(request, Some(self.answer_timeout)).await
    }

    /// Sends a request on a new connection and reads the head of the answer; an answer from 400 up is an error.
    async fn exchange(
        &self,
        request: Request<RequestBody>,
        limit: Option<Duration>,
    ) -> Result<Response<Incoming>, Error> {
        let connected = tokio::time::timeout(self.connect_timeout, self.connect()).await;
        let io = connected.map_err(|_| self.unreachable(std::io::ErrorKind::TimedOut.into()))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io?))
            .await
            .map_err(|source| self.broken(source))?;
        // Ends by itself once the answer was read or dropped.
        tokio::spawn(connection);
        let answer = sender.send_request(request);
        let response = match limit {
            Some(limit) => tokio::time::timeout(limit, answer)
                .await
                .map_err(|_| Error::TimedOut(format!("no answer within {} s", limit.as_secs())))?,
            None => answer.await,
        }
        .map_err(|source| self.broken(source))?;
        if response.status().is_client_error() || response.status().is_server_error() {
            return Err(refusal(response).await);
        }
        Ok(response)
    }

    async fn connect(&self) -> Result<Box<dyn Io>, Error> {
        Ok(match &self.address {
            Address::Unix(path) => Box::new(
                UnixStream::connect(path)
                    .await
                    .map_err(|source| self.unreachable(source))?,
            ),
            Address::Tcp { host, port } | Address::Tls { host, port } => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|source| self.unreachable(source))?;
                // Console input is small writes that must not wait for each other.
                stream
                    .set_nodelay(true)
                    .map_err(|source| self.unreachable(source))?;
                if matches!(self.address, Address::Tcp { .. }) {
                    return Ok(Box::new(stream));
                }
                match tls::connect(stream, host, self.pinned.as_deref()).await {
                    Handshake::Done(stream) => stream,
                    Handshake::Failed(source) => return Err(self.unreachable(source)),
                    Handshake::Unknown(seen) => {
                        return Err(Error::Untrusted {
                            address: self.address.clone(),
                            seen,
                            expected: self.pinned.clone(),
                        });
                    }
                }
            }
        })
    }

    fn unreachable(&self, source: std::io::Error) -> Error {
        Error::Unreachable {
            address: self.address.clone(),
            source,
        }
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Broken {
            address: self.address.clone(),
            source,
        }
    }
}

/// What a connection is made of.
trait Io: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Io for T {}

fn empty() -> RequestBody {
    Full::default().map_err(|never| match never {}).boxed()
}

fn json_body(body: &impl Serialize) -> Result<RequestBody, Error> {
    let bytes = serde_json::to_vec(body).map_err(|source| {
        Error::Usage(format!("the request cannot be written as JSON: {source}"))
    })?;
    Ok(Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed())
}

async fn read(response: Response<Incoming>) -> Result<Bytes, Error> {
    http_body_util::Limited::new(response.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .map_err(|source| Error::NotUnderstood {
            what: "the answer".into(),
            source,
        })
}

/// The problem an answer carries, or what can be said without one.
async fn refusal(response: Response<Incoming>) -> Error {
    let status = response.status();
    let problem = match read(response).await {
        Ok(bytes) => serde_json::from_slice::<Problem>(&bytes).ok(),
        Err(_) => None,
    };
    Error::Refused(Box::new(problem.unwrap_or_else(|| Problem {
        kind: "about:blank".into(),
        title: title(status),
        status: status.as_u16(),
        code: title(status).replace(' ', ""),
        detail: format!("the host answered {status} and did not say why"),
        next_step: Some("check that the address is that of an ashlard".into()),
        ..Problem::default()
    })))
}

fn title(status: StatusCode) -> String {
    status.canonical_reason().unwrap_or("Error").to_owned()
}

/// Puts a query together; values are percent-encoded.
#[derive(Debug)]
pub struct Query {
    path: String,
}

impl Query {
    /// A query of `path`, which may already have one.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Self { path: path.into() }
    }

    /// Adds `name=value`, if there is a value.
    #[must_use]
    pub fn add(mut self, name: &str, value: Option<impl ToString>) -> Self {
        if let Some(value) = value {
            self.path
                .push(if self.path.contains('?') { '&' } else { '?' });
            self.path.push_str(name);
            self.path.push('=');
            self.path.push_str(&encode(&value.to_string()));
        }
        self
    }

    /// The path with its query.
    #[must_use]
    pub fn finish(self) -> String {
        self.path
    }
}

/// Percent-encodes what may not stand in a path segment or a query value (RFC 3986 §2.3: all but the unreserved).
#[must_use]
pub fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_encoded() {
        let path = Query::of("/v1/instances")
            .add("state", Some("Running,Stopped"))
            .add("vpc_id", None::<&str>)
            .add("name", Some("a b&c=d/ü"))
            .finish();
        assert_eq!(
            path,
            "/v1/instances?state=Running%2CStopped&name=a%20b%26c%3Dd%2F%C3%BC"
        );
    }
}
