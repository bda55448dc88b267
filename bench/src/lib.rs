//! Paired measurements: what their programs share.
//!
//! Each program prints its table on standard output and writes its figures as one JSON object to the file that
//! `ASHLAR_BENCH_JSON` names, if it is set. What is compared takes turns within one run; the same thing measured twice (A/A)
//! tells how much of a difference is noise.

use anyhow::{Context, Result};
use plugin_host::PluginHost;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Writes the figures of a measurement where its caller wants them.
///
/// # Errors
/// The file that `ASHLAR_BENCH_JSON` names cannot be written.
pub fn keep(figures: &Value) -> Result<()> {
    let Some(file) = std::env::var_os("ASHLAR_BENCH_JSON") else {
        return Ok(());
    };
    std::fs::write(&file, figures.to_string())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The sample policy of that name, from the folder that ASHLAR_PLUGINS names, else from `target/ashlar/plugins`.
///
/// # Errors
/// It was not built, or cannot be read.
pub fn component(host: &PluginHost, name: &str) -> Result<Vec<u8>> {
    let folder = std::env::var_os("ASHLAR_PLUGINS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ashlar/plugins"),
        PathBuf::from,
    );
    host.read(&folder.join(format!("{name}.wasm")))
        .context("build the sample policies with `cargo xtask targets`")
}

/// The upper median; NaN when there are no values.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The least; NaN when there are no values.
pub fn least(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().fold(f64::NAN, f64::min)
}

/// What the daemon behind a unix socket answers to one request: its status and body (RFC 9112; a connection for each).
///
/// # Errors
/// It cannot be reached, or answers with something else than HTTP.
pub fn ask(socket: &Path, method: &str, path: &str, body: &Value) -> Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket).context("the daemon cannot be reached")?;
    let body = body.to_string();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}
