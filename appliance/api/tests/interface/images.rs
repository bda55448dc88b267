//! Images and their upload.

use std::time::Duration;

use api::Options;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http_body_util::Full;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use crate::host::{Host, pvh_kernel, request};

async fn begun(host: &Host) -> String {
    let image = host.post("/v1/images", json!({"name": "x"})).await;
    assert_eq!(image.status, 201, "{image:?}");
    assert_eq!(image.json()["state"], "Creating");
    format!("/v1/images/{}", image.json()["id"].as_str().unwrap())
}

async fn parts(host: &Host, image: &str) -> Value {
    host.get(image).await.json()["parts"].clone()
}

#[tokio::test]
async fn an_image_is_begun_sent_and_completed() {
    let host = Host::start().await;
    let image = begun(&host).await;
    let kernel = pvh_kernel();
    let sha256 = hex::encode(Sha256::digest(&kernel));
    let part = host
        .bytes("PUT", &format!("{image}/kernel"), kernel.clone())
        .await;
    assert_eq!(
        part.json(),
        json!({"kind": "kernel", "size_bytes": kernel.len(), "sha256": sha256})
    );
    host.bytes("PUT", &format!("{image}/disk"), vec![7; 3 << 20])
        .await;
    let done = host
        .post(&format!("{image}/complete"), json!({}))
        .await
        .json();
    assert_eq!(done["state"], "Available");
    assert_eq!(done["boot_protocol"], "pvh");
    assert_eq!(done["parts"].as_array().unwrap().len(), 2);
    assert_eq!(host.get("/v1/images").await.json()["items"], json!([done]));
    assert_eq!(host.delete(&image).await.status, 204);
    host.get(&image)
        .await
        .is_problem(404, "InvalidImageId.NotFound");
}

#[tokio::test]
async fn a_digest_is_checked_and_a_wrong_one_leaves_nothing() {
    let host = Host::start().await;
    let image = begun(&host).await;
    let kernel = pvh_kernel();
    let put = async |digest: String| {
        let request = request("PUT", &format!("{image}/kernel"))
            .header("content-digest", digest)
            .body(Full::from(kernel.clone()))
            .unwrap();
        host.send(request).await
    };
    let of = |data: &[u8]| format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(data)));
    let problem = put(of(b"something else"))
        .await
        .is_problem(400, "DigestMismatch");
    assert_eq!(problem["field"], "content-digest");
    assert_eq!(parts(&host, &image).await, json!([]));
    put("nonsense".into())
        .await
        .is_problem(400, "InvalidParameter");
    assert_eq!(put(of(&kernel)).await.status, 200);
    assert_eq!(parts(&host, &image).await[0]["kind"], "kernel");
}

#[tokio::test]
async fn an_upload_that_breaks_off_or_stalls_leaves_nothing() {
    let options = Options {
        upload_stall_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let host = Host::with_options(options).await;
    let image = begun(&host).await;
    let head = format!(
        "PUT {image}/kernel HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\nabc"
    );
    // Stalls: the host answers and hangs up.
    let mut stream = UnixStream::connect(&host.socket).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("an answer in time")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("RequestTimeout"), "{answer}");
    // Breaks off.
    let mut stream = UnixStream::connect(&host.socket).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    drop(stream);
    // Its length isn't said.
    let mut stream = UnixStream::connect(&host.socket).await.unwrap();
    let chunked = format!(
        "PUT {image}/kernel HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    );
    stream.write_all(chunked.as_bytes()).await.unwrap();
    answer.clear();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 411") && answer.contains("MissingContentLength"),
        "{answer}"
    );
    assert_eq!(parts(&host, &image).await, json!([]));
}

#[tokio::test]
async fn parts_that_make_no_image_are_refused_with_the_reason() {
    let host = Host::start().await;
    let image = begun(&host).await;
    let complete = format!("{image}/complete");
    let without = host.post(&complete, json!({})).await;
    assert!(without.status.is_client_error(), "{without:?}");
    host.bytes("PUT", &format!("{image}/kernel"), "not a kernel at all")
        .await;
    let wrong = host.post(&complete, json!({})).await;
    assert!(wrong.status.is_client_error(), "{wrong:?}");
    assert!(
        wrong.json()["detail"].as_str().unwrap().contains("kernel"),
        "{wrong:?}"
    );
    assert_eq!(host.get(&image).await.json()["state"], "CreateFailed");
    // Other parts can be sent.
    host.bytes("PUT", &format!("{image}/kernel"), pvh_kernel())
        .await;
    assert_eq!(
        host.post(&complete, json!({})).await.json()["state"],
        "Available"
    );
}
