//! `images import`.

use axum::{
    Json, Router,
    body::Bytes,
    extract::Path,
    http::StatusCode,
    routing::{get, post, put},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::host::{Host, problem};

fn image(state: &str) -> Value {
    json!({"id": "m-1", "name": "probe", "state": state, "parts": [], "created_at": "2026-01-01T00:00:00Z"})
}

/// A host that takes images; what it receives goes through `damage` first.
fn host(damage: fn(Vec<u8>) -> Vec<u8>) -> Host {
    let receive = async move |Path(part): Path<String>, body: Bytes| {
        let body = damage(body.to_vec());
        Json(
            json!({"kind": part, "size_bytes": body.len(), "sha256": hex::encode(Sha256::digest(body))}),
        )
    };
    let routes = Router::new()
        .route(
            "/v1/images",
            post(async || (StatusCode::CREATED, Json(image("Creating")))),
        )
        .route("/v1/images/m-1/{part}", put(receive))
        .route(
            "/v1/images/m-1/complete",
            post(async || Json(image("Available"))),
        )
        .route(
            "/v1/images/m-1",
            get(async || Json(image("Available"))).delete(async || StatusCode::NO_CONTENT),
        );
    Host::start(routes.layer(axum::extract::DefaultBodyLimit::disable()))
}

#[tokio::test]
async fn an_image_arrives_whole() {
    let host = host(|body| body);
    let (kernel, disk) = (host.path("kernel"), host.path("disk"));
    // Not a multiple of anything, and more than one piece.
    let content: Vec<u8> = (0..3_000_001_u32).map(|i| i.to_le_bytes()[1]).collect();
    std::fs::write(&kernel, &content).unwrap();
    std::fs::write(&disk, b"").unwrap();
    let ran = host
        .run(&[
            "images",
            "import",
            "--name",
            "probe",
            "--kernel",
            kernel.to_str().unwrap(),
            "--disk",
            disk.to_str().unwrap(),
            "--cmdline",
            "-x",
            "-o",
            "json",
        ])
        .await;
    assert_eq!(ran.json(), image("Available"));
    let asked = host.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| &*asked.line).collect();
    assert_eq!(
        lines,
        [
            "POST /v1/images",
            "PUT /v1/images/m-1/kernel",
            "PUT /v1/images/m-1/disk",
            "POST /v1/images/m-1/complete"
        ]
    );
    assert_eq!(asked[0].json(), json!({"name": "probe", "cmdline": "-x"}));
    assert!(asked[1].body == content, "the kernel arrived changed");
    assert_eq!(asked[2].body.len(), 0);
}

#[tokio::test]
async fn damage_on_the_way_is_seen_and_nothing_is_left() {
    let host = host(|mut body| {
        body[0] ^= 1;
        body
    });
    let kernel = host.path("kernel");
    std::fs::write(&kernel, b"kernel").unwrap();
    let ran = host
        .run(&[
            "images",
            "import",
            "--name",
            "probe",
            "--kernel",
            kernel.to_str().unwrap(),
        ])
        .await;
    assert!(ran.failed(1).contains("damaged on the way"));
    assert_eq!(host.lines().last().unwrap(), "DELETE /v1/images/m-1");
}

#[tokio::test]
async fn a_missing_file_is_told_before_anything_is_made() {
    let host = host(|body| body);
    let kernel = host.path("kernel");
    std::fs::write(&kernel, b"kernel").unwrap();
    let ran = host
        .run(&[
            "images",
            "import",
            "--name",
            "x",
            "--kernel",
            kernel.to_str().unwrap(),
            "--disk",
            "/no/such/disk",
        ])
        .await;
    assert!(
        ran.failed(1)
            .contains("cannot read the disk /no/such/disk: No such file")
    );
    assert!(host.asked().is_empty());
}

#[tokio::test]
async fn a_refused_part_says_why_and_nothing_is_left() {
    let routes = Router::new()
        .route(
            "/v1/images",
            post(async || (StatusCode::CREATED, Json(image("Creating")))),
        )
        .route(
            "/v1/images/m-1/kernel",
            put(async || problem(507, "NoSpace", "the pool is full")),
        )
        .route(
            "/v1/images/m-1",
            axum::routing::delete(async || StatusCode::NO_CONTENT),
        );
    let host = Host::start(routes);
    let kernel = host.path("kernel");
    std::fs::write(&kernel, vec![1; 1 << 20]).unwrap();
    let ran = host
        .run(&[
            "images",
            "import",
            "--name",
            "x",
            "--kernel",
            kernel.to_str().unwrap(),
        ])
        .await;
    assert!(ran.failed(1).contains("the pool is full"));
    assert_eq!(host.lines().last().unwrap(), "DELETE /v1/images/m-1");
}
