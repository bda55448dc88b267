//! A host of the tests: the real interface over the real use cases over fake adapters, and a client of it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::{Listener, Options, Token};
use bytes::Bytes;
use control::{Control, Settings};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::oneshot,
    task::JoinHandle,
};
use types::ByteCount;

use crate::fakes;

/// The token of the TCP listener.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A host that serves until it is dropped.
pub struct Host {
    pub socket: PathBuf,
    pub tcp: std::net::SocketAddr,
    pub clock: Arc<fakes::FakeClock>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<std::io::Result<()>>,
    _folder: TempDir,
}

/// What the host answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: header::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn header(&self, name: &str) -> &str {
        let value = self
            .headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}"));
        value.to_str().unwrap()
    }

    /// The answer is this problem, and is written as problems are.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{text}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["code"], code, "{text}");
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        assert!(!problem["detail"].as_str().unwrap().is_empty());
        problem
    }
}

impl Host {
    pub async fn start() -> Self {
        Self::with_options(Options::default()).await
    }

    pub async fn with_options(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pool = folder.path().join("pool");
        let state = folder.path().join("state");
        std::fs::create_dir(&pool).unwrap();
        std::fs::create_dir(&state).unwrap();
        let clock = Arc::new(fakes::FakeClock::default());
        let mut settings = Settings::new(state, 64, ByteCount::from_gib(64));
        settings.metering_interval = Duration::from_millis(200);
        let control = Control::open(settings, fakes::ports(pool, clock.clone()))
            .await
            .unwrap();
        let socket = folder.path().join("api.sock");
        let unix = Listener::unix(&socket, None).unwrap();
        let tcp = Listener::tcp("127.0.0.1:0".parse().unwrap(), Token::new(TOKEN))
            .await
            .unwrap();
        let address = tcp.tcp_address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let server = tokio::spawn(api::serve(
            vec![unix, tcp],
            control,
            api::Host::default(),
            options,
            async move {
                let _ = stopped.await;
            },
        ));
        Self {
            socket,
            tcp: address,
            clock,
            stop: Some(stop),
            server,
            _folder: folder,
        }
    }

    /// Stops serving; returns when the server did.
    pub async fn stop(&mut self) {
        drop(self.stop.take());
        let server = &mut self.server;
        tokio::time::timeout(Duration::from_secs(10), server)
            .await
            .expect("the server stops in time")
            .unwrap()
            .unwrap();
    }

    /// Sends a request over the unix socket; returns the head of the answer and its body as it comes.
    pub async fn open(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        exchange(UnixStream::connect(&self.socket).await.unwrap(), request).await
    }

    /// Sends a request over the unix socket and reads the whole answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        read(self.open(request).await).await
    }

    /// Sends a request over TCP and reads the whole answer.
    pub async fn send_tcp(&self, request: Request<Full<Bytes>>) -> Answer {
        read(exchange(TcpStream::connect(self.tcp).await.unwrap(), request).await).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path).body(Full::default()).unwrap())
            .await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(request("DELETE", path).body(Full::default()).unwrap())
            .await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.json("POST", path, body).await
    }

    pub async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        let request = request(method, path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .unwrap();
        self.send(request).await
    }

    pub async fn bytes(&self, method: &str, path: &str, body: impl Into<Bytes>) -> Answer {
        let request = request(method, path).body(Full::new(body.into())).unwrap();
        self.send(request).await
    }

    /// An image that can be booted.
    pub async fn image(&self) -> String {
        let image = self
            .post(
                "/v1/images",
                json!({"name": "probe", "cmdline": "console=ttyS0"}),
            )
            .await;
        assert_eq!(image.status, 201, "{image:?}");
        let id = image.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/images/{id}");
        let part = self
            .bytes("PUT", &format!("{path}/kernel"), pvh_kernel())
            .await;
        assert_eq!(part.status, 200, "{part:?}");
        let done = self.post(&format!("{path}/complete"), json!({})).await;
        assert_eq!(done.status, 200, "{done:?}");
        assert_eq!(done.json()["state"], "Available");
        id
    }

    /// An instance that runs.
    pub async fn running(&self, image: &str) -> String {
        let request = json!({"image_id": image, "vcpus": 1, "memory_mib": 64});
        let created = self.post("/v1/instances", request).await;
        assert_eq!(created.status, 201, "{created:?}");
        let id = created.json()["instances"][0]["id"]
            .as_str()
            .unwrap()
            .to_owned();
        self.reaches(&id, "Running").await;
        id
    }

    /// Waits until the instance is in that state.
    pub async fn reaches(&self, id: &str, state: &str) -> Value {
        let wait = async {
            loop {
                let instance = self.get(&format!("/v1/instances/{id}")).await.json();
                if instance["state"] == state {
                    return instance;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait)
            .await
            .unwrap_or_else(|_| panic!("{id} does not come to {state}"))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A request to begin with.
pub fn request(method: &str, path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "test")
}

async fn exchange(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
) -> Response<Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

pub async fn read(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}

/// The least ELF with a PVH entry note: one program header for the note, one for a page of code at 1 MiB.
pub fn pvh_kernel() -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    const NOTE: u64 = 12 + 4 + 4;
    let code = HEADERS + NOTE;
    let mut elf = Vec::new();
    elf.extend_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2_u16, 62] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    elf.extend_from_slice(&1_u32.to_le_bytes());
    for word in [0x10_0000_u64, 64, 0] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(&0_u32.to_le_bytes());
    for half in [64_u16, 56, 2, 0, 0, 0] {
        elf.extend_from_slice(&half.to_le_bytes());
    }
    let mut program_header = |kind: u32, flags: u32, offset: u64, address: u64, size: u64| {
        elf.extend_from_slice(&kind.to_le_bytes());
        elf.extend_from_slice(&flags.to_le_bytes());
        for word in [offset, address, address, size, size, 4] {
            elf.extend_from_slice(&word.to_le_bytes());
        }
    };
    program_header(4, 4, HEADERS, 0, NOTE);
    program_header(1, 5, code, 0x10_0000, 4);
    for word in [4_u32, 4, 18] {
        elf.extend_from_slice(&word.to_le_bytes());
    }
    elf.extend_from_slice(b"Xen\0");
    elf.extend_from_slice(&0x10_0000_u32.to_le_bytes());
    elf.extend_from_slice(&[0xf4; 4]);
    elf
}
