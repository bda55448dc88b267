//! The event stream.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use serde_json::{Value, json};

use crate::host::{Host, request};

#[tokio::test]
async fn a_life_is_told_in_order() {
    let host = Host::start().await;
    let image = host.image().await;
    let get = request("GET", "/v1/events").body(Full::default()).unwrap();
    let events = host.open(get).await;
    assert_eq!(events.headers()["content-type"], "text/event-stream");
    let mut body = events.into_body();
    let id = host.running(&image).await;
    host.post(&format!("/v1/instances/{id}/stop"), json!({"force": true}))
        .await;
    let told = async {
        let mut text = String::new();
        let mut states = Vec::new();
        loop {
            let frame = body.frame().await.expect("the stream goes on").unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                let event: Option<Value> = data.map(|data| serde_json::from_str(data).unwrap());
                text = rest.to_owned();
                if let Some(event) = event
                    .filter(|event| event["subject_id"] == *id && event["kind"] == "instance.state")
                {
                    states.push(event["state"].as_str().unwrap().to_owned());
                    if event["state"] == "Stopped" {
                        return states;
                    }
                }
            }
        }
    };
    let states = tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("it is told");
    let running = states
        .iter()
        .position(|state| state == "Running")
        .expect("it ran");
    assert_eq!(states.last().unwrap(), "Stopped");
    assert!(running < states.len() - 1, "{states:?}");
}
