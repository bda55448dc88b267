//! Whether the daemon is well: what its own interface says.

use std::{path::Path, time::Duration};

use serde::Deserialize;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// How long the daemon may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read, bytes.
const MAX_ANSWER: u64 = 256 << 10;

#[derive(Deserialize)]
struct Health {
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    ok: bool,
    message: Option<String>,
}

/// Asks the daemon on its socket. `Err` says in one line what is wrong.
///
/// # Errors
/// It does not answer, or not well.
pub(crate) async fn check(socket: &Path) -> Result<(), String> {
    match timeout(TIMEOUT, ask(socket)).await {
        Err(_) => Err(format!(
            "the daemon does not answer within {} s",
            TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(format!("the daemon cannot be asked: {error}")),
        Ok(Ok(answer)) => judge(&answer),
    }
}

async fn ask(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream
        .write_all(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn judge(answer: &str) -> Result<(), String> {
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if status == "200" {
        return Ok(());
    }
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    // The body may come in chunks (RFC 9112 §7.1); what is between the outer braces is the JSON all the same when it is short.
    let json = body
        .find('{')
        .zip(body.rfind('}'))
        .map_or("", |(from, to)| &body[from..=to]);
    let Ok(health) = serde_json::from_str::<Health>(json) else {
        return Err(format!("the daemon answers with status {status}"));
    };
    let wrong: Vec<String> = health
        .checks
        .iter()
        .filter(|check| !check.ok)
        .map(|check| {
            format!(
                "{}: {}",
                check.name,
                check.message.as_deref().unwrap_or("not well")
            )
        })
        .collect();
    Err(format!("the daemon is not well: {}", wrong.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_judged() {
        assert_eq!(judge("HTTP/1.1 200 OK\r\n\r\n{}"), Ok(()));
        let ill = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 9\r\n\r\n{\"ok\":false,\"checks\":[{\"name\":\"pool\",\"ok\":false,\"message\":\"gone\"},{\"name\":\"store\",\"ok\":true,\"message\":null}]}";
        assert_eq!(judge(ill), Err("the daemon is not well: pool: gone".into()));
        assert_eq!(
            judge("HTTP/1.1 500 x\r\n\r\nno"),
            Err("the daemon answers with status 500".into())
        );
        assert!(judge("").is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_daemon_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let error = check(&folder.path().join("none")).await.unwrap_err();
        assert!(error.contains("cannot be asked"), "{error}");
    }
}
