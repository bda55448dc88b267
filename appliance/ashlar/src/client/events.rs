//! The event stream: server-sent events, as the HTML standard defines `text/event-stream`.

use api_types::Event;
use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::Error;

/// Longest event that is accepted, bytes.
const MAX_EVENT: usize = 1 << 20;

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream {
    body: Incoming,
    lines: Lines,
}

impl EventStream {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            lines: Lines::default(),
        }
    }

    /// The next event; `None` when the host ended the stream (it goes down, or the reader was too slow).
    ///
    /// # Errors
    /// The host sent something that isn't an event.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if let Some(data) = self.lines.next_data()? {
                return serde_json::from_slice(&data).map(Some).map_err(|source| {
                    Error::NotUnderstood {
                        what: "an event".into(),
                        source: source.into(),
                    }
                });
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.lines.push(&data);
                    }
                }
                // A connection that breaks off is an end like any other: the caller asks again.
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }
}

/// Cuts a byte stream into events; keeps their data, ignores the other fields and the comments.
#[derive(Debug, Default)]
struct Lines {
    buffer: BytesMut,
    data: Vec<u8>,
}

impl Lines {
    fn push(&mut self, bytes: &Bytes) {
        self.buffer.extend_from_slice(bytes);
    }

    fn next_data(&mut self) -> Result<Option<Vec<u8>>, Error> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line.is_empty() {
                if !self.data.is_empty() {
                    return Ok(Some(std::mem::take(&mut self.data)));
                }
            } else if let Some(data) = line.strip_prefix(b"data:") {
                if !self.data.is_empty() {
                    self.data.push(b'\n');
                }
                self.data
                    .extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
            }
        }
        if self.buffer.len() + self.data.len() > MAX_EVENT {
            return Err(Error::NotUnderstood {
                what: "an event".into(),
                source: format!("longer than {MAX_EVENT} bytes").into(),
            });
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_whatever_the_chunks() {
        let text = b": hello\n\nid: 1\nevent: x\ndata: {\"a\":\ndata:1}\r\n\r\ndata: 2\n\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut events = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(&Bytes::copy_from_slice(chunk));
                while let Some(data) = lines.next_data().unwrap() {
                    events.push(String::from_utf8(data).unwrap());
                }
            }
            assert_eq!(events, ["{\"a\":\n1}", "2"], "chunks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut lines = Lines::default();
        lines.push(&Bytes::from(vec![b'x'; MAX_EVENT + 1]));
        assert!(lines.next_data().is_err());
    }
}
