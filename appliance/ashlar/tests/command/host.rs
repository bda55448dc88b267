//! A host made of canned answers, which remembers what it was asked.

use std::{
    path::PathBuf,
    process::Output,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::UnixListener, process::Command, task::JoinHandle};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method, path and query: `GET /v1/instances?limit=1`.
    pub line: String,
    pub authorization: Option<String>,
    pub body: Bytes,
}

impl Asked {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

type Log = Arc<Mutex<Vec<Asked>>>;

/// Serves canned answers on a unix socket until it is dropped.
pub struct Host {
    pub folder: TempDir,
    log: Log,
    server: JoinHandle<()>,
}

impl Host {
    pub fn start(routes: Router) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("api.sock")).unwrap();
        let (log, routes) = logged(routes);
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self {
            folder,
            log,
            server,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.log.lock().unwrap().clone()
    }

    /// The lines of what was asked so far.
    pub fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }

    /// Runs the program against this host.
    pub async fn run(&self, args: &[&str]) -> Ran {
        let address = format!("unix:{}", self.path("api.sock").display());
        run_with(&[("ASHLAR_HOST", &address)], args).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// `routes` with a log of what they are asked.
pub fn logged(routes: Router) -> (Log, Router) {
    let log = Log::default();
    let layer = middleware::from_fn_with_state(Arc::clone(&log), remember);
    (log, routes.layer(layer))
}

async fn remember(State(log): State<Log>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 64 << 20).await.unwrap();
    log.lock().unwrap().push(Asked {
        line: format!("{} {}", head.method, head.uri),
        authorization: head
            .headers
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned()),
        body: body.clone(),
    });
    next.run(Request::from_parts(head, Body::from(body))).await
}

/// What became of the program.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// It ended well; returns what it printed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.status, 0, "{self:?}");
        self.stdout
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// It ended with that status; returns what it complained about.
    #[track_caller]
    pub fn failed(self, status: i32) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        self.stderr
    }
}

/// Runs the program with nothing of the tests' environment that matters to it.
pub async fn run_with(environment: &[(&str, &str)], args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ashlar"));
    command
        .args(args)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    for name in ["ASHLAR_HOST", "ASHLAR_TOKEN"] {
        command.env_remove(name);
    }
    command.envs(environment.iter().copied());
    let run = tokio::time::timeout(Duration::from_secs(60), command.output());
    let Output {
        status,
        stdout,
        stderr,
    } = run.await.expect("the program ends in time").unwrap();
    Ran {
        status: status.code().expect("it was not killed"),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

/// An instance with that state.
pub fn instance(id: &str, state: &str) -> Value {
    json!({
        "id": id, "name": "web", "state": state, "intent": "running", "vcpus": 2, "memory_mib": 2048,
        "image_id": "m-1", "host_id": "h-1", "decision_id": "dec-1",
        "disks": [{"disk_id": "d-1", "role": "system", "device": "vda"}],
        "network_interfaces": [{
            "id": "eni-1", "vpc_id": "vpc-1", "vswitch_id": "vsw-1", "private_ip": "10.0.0.5",
            "mac": "00:16:3e:00:00:01", "security_group_ids": ["sg-1"],
        }],
        "deletion_protection": false,
        "charge": {"type": "pay_as_you_go"},
        "created_at": "2020-01-01T00:00:00.000Z",
    })
}

/// A page with these items.
pub fn page(items: &[Value]) -> Value {
    json!({"items": items})
}

/// A problem.
pub fn problem(status: u16, code: &str, detail: &str) -> Response {
    let problem = json!({
        "type": "about:blank", "title": "Title", "status": status, "code": code, "detail": detail,
        "next_step": "Do it well.", "field": "vcpus", "request_id": "R-1",
    });
    (
        StatusCode::from_u16(status).unwrap(),
        [("content-type", "application/problem+json")],
        problem.to_string(),
    )
        .into_response()
}

/// An event stream that begins with these events and goes on for ever.
pub fn events(events: &[Value]) -> Response {
    let text: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    let begin =
        futures_util::stream::iter([Ok::<_, std::io::Error>(Bytes::from(format!(":\n\n{text}")))]);
    let stream = futures_util::StreamExt::chain(begin, futures_util::stream::pending());
    (
        [("content-type", "text/event-stream")],
        Body::from_stream(stream),
    )
        .into_response()
}

/// An event about an instance's state.
pub fn state_event(sequence: u64, id: &str, state: &str) -> Value {
    json!({
        "sequence": sequence, "at": "2026-01-01T00:00:00.000Z", "kind": "instance.state", "subject_id": id,
        "state": state, "message": format!("{id} is {state}"),
    })
}
