//! `console` from a script and at a terminal.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Query,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::{StreamExt as _, stream};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use serde::Deserialize;
use tokio::{process::Command, sync::watch};

use crate::host::Host;

#[derive(Deserialize)]
struct Asked {
    from: usize,
    follow: bool,
}

/// A console that says `welcome` once and `echo: …` to what is typed.
fn console(before: &str) -> Router {
    let output = Arc::new(watch::Sender::new(before.as_bytes().to_vec()));
    let typed = Arc::clone(&output);
    let read = async move |Query(asked): Query<Asked>| -> Response {
        let headers = [("x-console-from", asked.from.to_string())];
        if !asked.follow {
            let text = output
                .borrow()
                .get(asked.from..)
                .unwrap_or_default()
                .to_vec();
            return (headers, text).into_response();
        }
        let chunks = stream::unfold(
            (output.subscribe(), asked.from),
            |(mut output, from)| async move {
                let text = output.wait_for(|text| text.len() > from).await.ok()?[from..].to_vec();
                let next = from + text.len();
                Some((Ok::<_, std::io::Error>(Bytes::from(text)), (output, next)))
            },
        );
        (headers, Body::from_stream(chunks.boxed())).into_response()
    };
    let write = async move |input: Bytes| {
        typed.send_modify(|text| text.extend_from_slice(&[b"echo: ", &input[..]].concat()));
        StatusCode::NO_CONTENT
    };
    Router::new().route("/v1/instances/i-1/console", get(read).post(write))
}

#[tokio::test]
async fn what_there_is_is_printed() {
    let host = Host::start(console("booting\nready\n"));
    assert_eq!(
        host.run(&["console", "i-1", "--no-follow"]).await.ok(),
        "booting\nready\n"
    );
    assert_eq!(
        host.run(&["console", "i-1", "--no-follow", "--from", "8"])
            .await
            .ok(),
        "ready\n"
    );
}

#[tokio::test]
async fn text_is_sent_and_the_answer_waited_for() {
    let host = Host::start(console("echo: old\n"));
    let ran = host
        .run(&[
            "console",
            "i-1",
            "--send",
            r"uname\r\x21",
            "--wait-for",
            "echo: .*!",
        ])
        .await;
    assert_eq!(
        ran.ok(),
        "echo: uname\r!",
        "only what came after it counts, and is printed"
    );
    let sent = host
        .asked()
        .into_iter()
        .find(|asked| asked.line.starts_with("POST"))
        .unwrap();
    assert_eq!(sent.body, "uname\r!");
    assert!(
        host.run(&["console", "i-1", "--wait-for", "old"])
            .await
            .ok()
            .contains("echo: old")
    );
}

#[tokio::test]
async fn waiting_for_output_ends_in_time() {
    let host = Host::start(console("booting\n"));
    let ran = host
        .run(&["console", "i-1", "--wait-for", "login:", "--timeout", "1"])
        .await;
    assert_eq!(ran.stdout, "booting\n");
    assert!(
        ran.failed(4)
            .contains("waited 1 s for `login:` on the console of i-1")
    );
}

#[tokio::test]
async fn a_stream_that_breaks_off_is_taken_up_where_it_was() {
    // Two halves, each in a stream of its own, cut in the middle of what is waited for.
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let read = async move |Query(query): Query<Asked>| {
        log.lock().unwrap().push(query.from);
        let text = if query.from == 0 { "log" } else { "in: " };
        ([("x-console-from", query.from.to_string())], text)
    };
    let host = Host::start(Router::new().route("/v1/instances/i-1/console", get(read)));
    let ran = host.run(&["console", "i-1", "--wait-for", "login:"]).await;
    assert_eq!(ran.ok(), "login: ");
    assert_eq!(*asked.lock().unwrap(), [0, 3]);
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_sent() {
    let host = Host::start(console(""));
    for args in [
        &["console", "i-1", "--wait-for", "("][..],
        &["console", "i-1", "--send", r"\q"],
        &["console", "i-1", "--no-follow", "--wait-for", "x"],
        &["console"],
    ] {
        host.run(args).await.failed(2);
    }
    assert!(host.asked().is_empty());
}

/// Reads the terminal until it shows `text`; returns all that it showed.
async fn shows(terminal: &File, text: &'static str) -> String {
    let mut terminal = terminal.try_clone().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut shown = Vec::new();
        let mut buffer = [0; 256];
        while !String::from_utf8_lossy(&shown).contains(text) {
            let count = terminal.read(&mut buffer).unwrap();
            shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    tokio::time::timeout(Duration::from_secs(20), read)
        .await
        .unwrap_or_else(|_| panic!("the terminal does not show {text:?}"))
        .unwrap()
}

#[tokio::test]
async fn every_key_goes_through_and_the_escape_key_leaves() {
    let host = Host::start(console("hello\nlogin: "));
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new())
        .unwrap()
        .into_string()
        .unwrap();
    let side = || File::options().read(true).write(true).open(&name).unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_ashlar"))
        .args([
            "console",
            "i-1",
            "--host",
            &format!("unix:{}", host.path("api.sock").display()),
        ])
        .stdin(side())
        .stdout(side())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let outside = side();
    let is_raw = || {
        !tcgetattr(&outside)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    };
    let mut terminal = File::from(terminal);
    let shown = shows(&terminal, "login: ").await;
    assert!(
        shown.contains("hello\r\n"),
        "a line does not begin at the left: {shown:?}"
    );
    assert!(is_raw(), "the terminal is not raw");
    // Ctrl-c is the guest's, like any other key.
    terminal.write_all(b"a\x03").unwrap();
    let shown = shows(&terminal, "echo: a\x03").await;
    assert!(
        !shown.starts_with('a'),
        "the terminal echoes by itself: {shown:?}"
    );
    terminal.write_all(b"bye\x1d never sent").unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), program.wait());
    assert!(ended.await.expect("it leaves").unwrap().success());
    assert!(!is_raw(), "the terminal was left raw");
    let sent: Vec<_> = host
        .asked()
        .into_iter()
        .filter(|asked| asked.line.starts_with("POST"))
        .collect();
    let typed: Vec<u8> = sent.iter().flat_map(|asked| asked.body.to_vec()).collect();
    assert_eq!(String::from_utf8(typed).unwrap(), "a\x03bye");
}
