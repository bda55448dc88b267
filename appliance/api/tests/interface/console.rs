//! The serial console.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde_json::json;

use crate::{
    fakes::GREETING,
    host::{Host, request},
};

/// Reads until the body has brought `length` bytes.
async fn read(body: &mut Incoming, length: usize) -> Vec<u8> {
    let read = async {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let frame = body.frame().await.expect("more comes").unwrap();
            bytes.extend_from_slice(&frame.into_data().unwrap());
        }
        bytes
    };
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("it comes in time")
}

#[tokio::test]
async fn output_is_read_from_an_offset() {
    let host = Host::start().await;
    let image = host.image().await;
    let id = host.running(&image).await;
    let path = format!("/v1/instances/{id}/console");
    let all = host.get(&path).await;
    assert_eq!(all.body, GREETING);
    assert_eq!(all.header("content-type"), "application/octet-stream");
    assert_eq!(
        (all.header("x-console-from"), all.header("x-console-next")),
        ("0", "21")
    );
    let rest = host.get(&format!("{path}?from=6")).await;
    assert_eq!(rest.body, &GREETING[6..]);
    assert_eq!(rest.header("x-console-from"), "6");
    let none = host.get(&format!("{path}?from=21")).await;
    assert_eq!((none.body.len(), none.header("x-console-next")), (0, "21"));
    let json = host
        .get(&format!("{path}?from=15&format=json"))
        .await
        .json();
    assert_eq!(json, json!({"from": 15, "next": 21, "text": "guest\n"}));
    host.get(&format!("{path}?follow=true&format=json"))
        .await
        .is_problem(400, "InvalidParameter");
    host.get(&format!("{path}?from=-1"))
        .await
        .is_problem(400, "InvalidParameter");
    host.get("/v1/instances/i-00000000000000000/console")
        .await
        .is_problem(404, "InvalidInstanceId.NotFound");
}

#[tokio::test]
async fn output_is_followed_and_input_is_typed() {
    let host = Host::start().await;
    let image = host.image().await;
    let id = host.running(&image).await;
    let path = format!("/v1/instances/{id}/console");
    let get = request("GET", &format!("{path}?from=6&follow=true"))
        .body(Full::default())
        .unwrap();
    let follow = host.open(get).await;
    assert_eq!(follow.headers()["x-console-from"], "6");
    let mut body = follow.into_body();
    assert_eq!(read(&mut body, GREETING.len() - 6).await, &GREETING[6..]);
    let typed = host.bytes("POST", &path, "uname\r").await;
    assert_eq!(typed.status, 204, "{typed:?}");
    assert_eq!(read(&mut body, 6).await, b"uname\r");
    host.bytes("POST", &path, vec![b'x'; (64 << 10) + 1])
        .await
        .is_problem(413, "RequestTooLarge");
    // Released: the stream ends.
    assert_eq!(
        host.delete(&format!("/v1/instances/{id}?force=true"))
            .await
            .status,
        204
    );
    let rest = tokio::time::timeout(Duration::from_secs(10), body.collect());
    rest.await.expect("the stream ends").unwrap();
}
