//! What every answer has in common.

use std::time::Duration;

use api::Options;
use http_body_util::{BodyExt as _, Full};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::host::{Host, request};

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let host = Host::start().await;
    host.get("/nowhere")
        .await
        .is_problem(404, "InvalidPath.NotFound");
    host.get("/v1/instances/")
        .await
        .is_problem(404, "InvalidPath.NotFound");
    let answer = host.bytes("PUT", "/v1/instances", "").await;
    answer.is_problem(405, "MethodNotAllowed");
    let allow = answer.header("allow");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    host.bytes("POST", "/v1/instances", "{}")
        .await
        .is_problem(415, "UnsupportedMediaType");
    let problem = host
        .post("/v1/instances", json!({"image_id": "m-1", "vcpus": "two"}))
        .await
        .is_problem(400, "InvalidParameter");
    assert_eq!(problem["field"], "vcpus");
    let problem = host
        .post("/v1/instances", json!({"image_id": "m-1"}))
        .await
        .is_problem(400, "InvalidImageId.Malformed");
    assert_eq!(problem["field"], "image_id");
    // An array is not taken for an object whose fields come in their order.
    for body in [json!([null, null]), json!([])] {
        let problem = host
            .post("/v1/security-groups", body)
            .await
            .is_problem(400, "InvalidParameter");
        assert_eq!(problem["field"], "body");
    }
    let long = json!({"image_id": "x".repeat(1 << 20)});
    host.post("/v1/instances", long)
        .await
        .is_problem(413, "RequestTooLarge");
    host.get("/v1/instances/nonsense")
        .await
        .is_problem(404, "InvalidInstanceId.NotFound");
    host.get("/v1/instances/i-00000000000000000")
        .await
        .is_problem(404, "InvalidInstanceId.NotFound");
    host.get("/v1/instances/%ff")
        .await
        .is_problem(400, "InvalidPath");
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("next_token=x", "next_token"),
        ("colour=blue", "colour"),
        ("state=Flying", "state"),
        ("vpc_id=x", "vpc_id"),
        ("tags=x", "tags"),
    ] {
        let answer = host.get(&format!("/v1/instances?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert_eq!(answer.json()["field"], field, "{query}: {}", answer.json());
    }
}

#[tokio::test]
async fn every_answer_has_an_id_of_its_own() {
    let host = Host::start().await;
    let (first, second) = (host.get("/v1/health").await, host.get("/v1/health").await);
    assert_eq!(first.status, 200);
    assert_ne!(first.header("x-request-id"), second.header("x-request-id"));
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_idle_ones_are_closed() {
    let options = Options {
        header_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let host = Host::with_options(options).await;
    let mut stream = UnixStream::connect(&host.socket).await.unwrap();
    let mut text = Vec::new();
    for _ in 0..3 {
        stream
            .write_all(b"GET /v1/health HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        text.clear();
        while !text.ends_with(b"}") {
            assert_ne!(
                stream.read_buf(&mut text).await.unwrap(),
                0,
                "closed too early"
            );
        }
        assert!(text.starts_with(b"HTTP/1.1 200"));
    }
    // Half a head, and nothing more.
    stream.write_all(b"GET /v1/he").await.unwrap();
    let mut rest = Vec::new();
    let closed = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(10), closed)
        .await
        .expect("closed in time")
        .unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let options = Options {
        max_connections: 2,
        ..Options::default()
    };
    let host = Host::with_options(options).await;
    let get = || request("GET", "/v1/events").body(Full::default()).unwrap();
    let (first, second) = (host.open(get()).await, host.open(get()).await);
    let health = host.get("/v1/health");
    tokio::pin!(health);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut health).await;
    assert!(
        early.is_err(),
        "a third connection was served beside two streams"
    );
    drop((first, second));
    let answer = tokio::time::timeout(Duration::from_secs(10), health)
        .await
        .expect("its turn comes");
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn stopping_ends_streams_and_stops_listening() {
    let mut host = Host::start().await;
    let events = host
        .open(request("GET", "/v1/events").body(Full::default()).unwrap())
        .await;
    host.stop().await;
    let ended = tokio::time::timeout(Duration::from_secs(5), events.into_body().collect());
    ended.await.expect("the stream ends").expect("and properly");
    assert!(UnixStream::connect(&host.socket).await.is_err());
}
