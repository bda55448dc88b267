//! Sending a file to the host: streamed, hashed on the way, with a progress bar for people.

use std::{
    fs::File,
    io::{IsTerminal as _, Read as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::{
    client::{Client, Error},
    output::Output,
};

/// How much is read and sent at a time, bytes.
const CHUNK: usize = 256 << 10;

/// PUTs `length` bytes of `file` to `path`; returns the answer and the SHA-256 of what was sent, lower-case hex.
pub async fn upload<T: DeserializeOwned>(
    client: &Client,
    output: &Output,
    path: &str,
    name: &Path,
    file: File,
    length: u64,
) -> Result<(T, String), Error> {
    let bar = progress_bar(output, name, length);
    let hash = Arc::new(Mutex::new(Sha256::new()));
    let (sender, receiver) = tokio::sync::mpsc::channel(4);
    let reader = {
        let (bar, hash) = (bar.clone(), Arc::clone(&hash));
        tokio::task::spawn_blocking(move || read(file, length, &sender, &bar, &hash))
    };
    let chunks = futures_util::stream::unfold(receiver, async |mut receiver| {
        let chunk: std::io::Result<Bytes> = receiver.recv().await?;
        Some((chunk.map(Frame::data), receiver))
    });
    let answer = client
        .put_stream(path, StreamBody::new(chunks).boxed(), length)
        .await;
    // It ends: either everything was sent, or the receiver is gone.
    let read = reader
        .await
        .unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    bar.finish_and_clear();
    let answer = match (answer, read) {
        // The host's refusal is why the reading ended, not the other way round.
        (Err(error @ Error::Refused(_)), _) => return Err(error),
        (_, Err(source)) => {
            return Err(Error::Local {
                what: format!("reading {}", name.display()),
                source,
            });
        }
        (answer, Ok(())) => answer?,
    };
    let hash = hash.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok((answer, hex::encode(hash.finalize())))
}

type Sender = tokio::sync::mpsc::Sender<std::io::Result<Bytes>>;

/// Reads exactly `length` bytes, hashes them and hands them on; ends early, without an error, when nobody takes them.
fn read(
    mut file: File,
    length: u64,
    sender: &Sender,
    bar: &ProgressBar,
    hash: &Mutex<Sha256>,
) -> std::io::Result<()> {
    let mut left = length;
    while left > 0 {
        let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let mut chunk = vec![0; size];
        if let Err(error) = file.read_exact(&mut chunk) {
            // Breaks off the request: the host must not take a part for the whole.
            let _ = sender.blocking_send(Err(std::io::Error::from(error.kind())));
            return Err(error);
        }
        hash.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .update(&chunk);
        if sender.blocking_send(Ok(chunk.into())).is_err() {
            return Ok(());
        }
        let sent = u64::try_from(size).unwrap_or(left);
        bar.inc(sent);
        left -= sent;
    }
    Ok(())
}

fn progress_bar(output: &Output, name: &Path, length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    bar.set_draw_target(if output.talks() && std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    });
    let template = "{msg} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    let file_name = name.file_name().unwrap_or(name.as_os_str());
    bar.set_message(file_name.to_string_lossy().into_owned());
    bar
}
