//! `ashlar plugins`.

use axum::{
    Json, Router,
    routing::{delete, get, post},
};
use serde_json::{Value, json};

use crate::host::{Host, page};

fn plugin(name: &str, roles: Value) -> Value {
    json!({
        "name": name, "kind": "scheduler", "module_sha256": "ab12cd34ef56ab12cd34", "size_bytes": 70000,
        "installed_at": "2026-01-01T00:00:00Z", "parameters": {"weight": "2"}, "roles": roles, "healthy": true,
        "calls": 7, "fallbacks": 1, "mean_us": 1.5, "max_us": 20.0, "last_error": "trapped: it overflowed",
    })
}

#[tokio::test]
async fn policies_are_listed_with_what_they_are_there_for() {
    let all = page(&[
        json!({"name": "spread", "kind": "scheduler", "roles": [], "healthy": true}),
        plugin("pack@1", json!(["active", "shadow"])),
    ]);
    let routes = Router::new().route("/v1/plugins", get(async move || Json(all.clone())));
    let host = Host::start(routes);
    for command in [&["plugins"][..], &["plugin", "ls"]] {
        let text = host.run(command).await.ok();
        for part in [
            "pack@1",
            "active, shadow",
            "waiting",
            "ab12cd34ef56",
            "overflowed",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}

#[tokio::test]
async fn a_module_goes_out_with_its_parameters_and_signature() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let module = file("pack.wasm", "a module");
    file("pack.wasm.minisig", "signed");
    let parameters = file("parameters.json", r#"{"weight": "1", "zone": "a"}"#);
    let installed = plugin("pack@1", json!([]));
    let active = plugin("pack@1", json!(["active"]));
    let routes = Router::new()
        .route("/v1/plugins", post(async move || Json(installed.clone())))
        .route(
            "/v1/plugins/{name}/activate",
            post(async move || Json(active.clone())),
        );
    let host = Host::start(routes);
    let text = host
        .run(&[
            "plugins",
            "install",
            "pack",
            &module,
            "--parameters-file",
            &parameters,
            "--set",
            "weight=2",
            "--activate",
        ])
        .await
        .ok();
    assert!(text.contains("pack@1") && text.contains("active"), "{text}");
    assert_eq!(
        host.asked()[0].json(),
        json!({
            "name": "pack", "component": "YSBtb2R1bGU=", "parameters": {"weight": "2", "zone": "a"}, "signature": "signed",
        })
    );
    assert_eq!(host.lines()[1], "POST /v1/plugins/pack%401/activate");
    let odd = file("odd.json", "[1]");
    let refused = host
        .run(&[
            "plugins",
            "install",
            "pack",
            &module,
            "--parameters-file",
            &odd,
        ])
        .await
        .failed(2);
    assert!(
        refused.contains("odd.json") && refused.contains("JSON object of strings"),
        "{refused}"
    );
    let missing = host
        .run(&["plugins", "install", "pack", "/nonexistent.wasm"])
        .await
        .failed(1);
    assert!(missing.contains("/nonexistent.wasm"), "{missing}");
}

#[tokio::test]
async fn a_replay_shows_what_would_have_been_otherwise() {
    let comparison = json!({
        "plugin": "tiered@2", "since": "2026-01-01T00:00:00Z", "compared": 10, "same": 8, "failures": 1, "skipped": 0,
        "differences": [
            {"resource_id": "i-1", "active": "1.50", "other": "1.25"},
            {"resource_id": "i-2", "decision_id": "dec-1", "active": "h-1"},
        ],
        "totals": [{"currency": "USD", "active": "30.10", "other": "28.00"}],
        "mean_us": 1.5, "max_us": 9.25,
    });
    let routes = Router::new().route(
        "/v1/plugins/tiered/replay",
        post(async move || Json(comparison.clone())),
    );
    let host = Host::start(routes);
    let text = host
        .run(&[
            "plugins",
            "replay",
            "tiered",
            "--from",
            "2026-01-01T00:00:00Z",
        ])
        .await
        .ok();
    for part in [
        "8 alike, 2 not",
        "1.25",
        "dec-1",
        "30.10 USD charged, 28.00 by this one",
        "9.2",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(
        host.asked()[0].json(),
        json!({"from": "2026-01-01T00:00:00Z"})
    );
    let text = host
        .run(&["bill", "diff", "2026-02", "--policy", "tiered"])
        .await
        .ok();
    assert!(text.contains("28.00 by this one"), "{text}");
    assert_eq!(
        host.asked()[1].json(),
        json!({"from": "2026-02-01T00:00:00.000Z", "to": "2026-03-01T00:00:00.000Z"})
    );
    host.run(&["bill", "diff", "February", "--policy", "tiered"])
        .await
        .failed(2);
}

#[tokio::test]
async fn a_decision_that_comes_out_otherwise_is_a_failure() {
    let decision = json!({
        "id": "dec-1", "instance_id": "i-1", "decided_at": "2026-01-01T00:00:00Z", "policy": "spread",
        "configuration_sha256": "c", "inputs_sha256": "i", "reason": "no room", "elapsed_ms": 0.25, "hosts": [],
    });
    let rerun = |same: bool, now: &str| json!({"same": same, "kept_sha256": "k", "rerun_sha256": now, "decision": decision});
    let (good, bad) = (rerun(true, "k"), rerun(false, "x"));
    let routes = Router::new()
        .route(
            "/v1/decisions/dec-1/rerun",
            post(async move || Json(good.clone())),
        )
        .route(
            "/v1/decisions/dec-2/rerun",
            post(async move || Json(bad.clone())),
        );
    let host = Host::start(routes);
    let text = host.run(&["decisions", "rerun", "dec-1"]).await.ok();
    assert!(text.contains("byte for byte"), "{text}");
    host.run(&["decisions", "rerun", "dec-2"]).await.failed(1);
}

#[tokio::test]
async fn roles_are_given_and_taken() {
    let active = plugin("pack@1", json!(["active"]));
    let answer = move || {
        let active = active.clone();
        async move || Json(active)
    };
    let routes = Router::new()
        .route("/v1/plugins/{name}/activate", post(answer()))
        .route("/v1/plugins/{name}/shadow", post(answer()))
        .route("/v1/plugins/{name}/retire", post(answer()))
        .route("/v1/plugins/rollback", post(answer()))
        .route("/v1/plugins/{name}", delete(async || ()));
    let host = Host::start(routes);
    for command in [
        &["plugins", "activate", "pack", "--canary", "10"][..],
        &["plugins", "shadow", "pack@1"],
        &["plugins", "retire", "pack@1"],
        &["plugins", "rollback", "scheduler"],
        &["plugins", "rm", "pack@1", "pack@2"],
    ] {
        host.run(command).await.ok();
    }
    assert_eq!(
        host.lines(),
        [
            "POST /v1/plugins/pack/activate",
            "POST /v1/plugins/pack%401/shadow",
            "POST /v1/plugins/pack%401/retire",
            "POST /v1/plugins/rollback",
            "DELETE /v1/plugins/pack%401",
            "DELETE /v1/plugins/pack%402",
        ]
    );
    assert_eq!(host.asked()[0].json(), json!({"canary_percent": 10}));
    assert_eq!(host.asked()[3].json(), json!({"kind": "scheduler"}));
    host.run(&["plugins", "activate", "pack", "--canary", "100"])
        .await
        .failed(2);
}
