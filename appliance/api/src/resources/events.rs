//! `/v1/events`

use std::{convert::Infallible, time::Duration};

use api_types::Event;
use axum::{
    extract::State,
    response::sse::{self, KeepAlive, Sse},
};
use futures_util::{Stream, StreamExt as _, stream};

use crate::{convert, routes::Shared};

/// How often a quiet stream says that it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Watch what happens, as it happens: server-sent events, each with an `Event` as its data.
///
/// Events that happen after the answer's head was sent are on the stream. It ends when the host's daemon stops, or
/// when the reader was too slow and events were lost: look at what matters, and watch anew.
#[utoipa::path(get, path = "/v1/events", tag = "host",
    responses((status = 200, description = "Events", body = Event, content_type = "text/event-stream")))]
pub async fn watch_events(
    State(shared): State<Shared>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let events = stream::unfold(shared.control.subscribe(), |mut events| async move {
        // Lost events and a closed channel alike end the stream.
        let event = events.recv().await.ok()?;
        Some((event, events))
    });
    let events = events
        .map(|event| {
            let event = convert::event::to_wire(&event);
            // Its fields are text and numbers: it can always be written.
            let data = serde_json::to_string(&event).unwrap_or_default();
            Ok(sse::Event::default()
                .id(event.sequence.to_string())
                .event(event.kind)
                .data(data))
        })
        .take_until(Box::pin(shared.stopped()));
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
}
