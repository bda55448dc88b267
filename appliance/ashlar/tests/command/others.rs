//! The other commands, and what all have in common.

use std::os::unix::fs::PermissionsExt as _;

use axum::{
    Json, Router,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::host::{Host, events, logged, page, run_with, state_event};

fn group(rules: Value) -> Value {
    json!({
        "id": "sg-1", "name": "web", "vpc_id": "vpc-1", "is_default": false, "inner_access_policy": "Accept",
        "rules": rules, "created_at": "2026-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn rules_go_out_as_they_were_typed() {
    let rule = json!({
        "id": "sgr-1", "direction": "ingress", "policy": "drop", "priority": 5, "protocol": "tcp", "port_range": "22/22",
        "peer_cidr": "10.0.0.0/8", "description": "office", "created_at": "2026-01-01T00:00:00Z",
    });
    let shown = group(json!([rule]));
    let answer = shown.clone();
    let change = async move || Json(answer.clone());
    let routes = Router::new()
        .route("/v1/security-groups/sg-1/authorize", post(change.clone()))
        .route("/v1/security-groups/sg-1/revoke", post(change));
    let host = Host::start(routes);
    let text = host
        .run(&[
            "sg",
            "authorize",
            "sg-1",
            "--ingress",
            "tcp:22",
            "from",
            "10.0.0.0/8",
            "drop",
            "priority",
            "5",
            "--egress",
            "all to anywhere",
            "--description",
            "office",
        ])
        .await
        .ok();
    assert!(
        text.contains("sgr-1  ingress tcp:22/22 from 10.0.0.0/8 drop priority 5  # office"),
        "{text}"
    );
    assert_eq!(
        host.asked()[0].json(),
        json!({"rules": [
            {"direction": "ingress", "policy": "drop", "priority": 5, "protocol": "tcp", "port_range": "22/22", "peer_cidr": "10.0.0.0/8", "description": "office"},
            {"direction": "egress", "policy": "accept", "priority": 1, "protocol": "all", "port_range": "-1/-1", "peer_cidr": "0.0.0.0/0", "description": "office"},
        ]})
    );
    let revoked = host
        .run(&["sg", "revoke", "sg-1", "--rule", "sgr-1", "-o", "json"])
        .await
        .json();
    assert_eq!(revoked, shown);
    assert_eq!(host.asked()[1].json(), json!({"rule_ids": ["sgr-1"]}));
    let error = host
        .run(&["sg", "authorize", "sg-1", "--ingress", "ssh"])
        .await
        .failed(2);
    assert!(error.contains("`ssh`"), "{error}");
    host.run(&["sg", "revoke", "sg-1"]).await.failed(2);
}

#[tokio::test]
async fn a_decision_is_explained_by_its_instance() {
    let decision = |id: &str, at: &str| {
        json!({
            "id": id, "instance_id": "i-00000000000000001", "decided_at": at, "policy": "spread", "module_sha256": "ab12",
            "configuration_sha256": "c", "inputs_sha256": "i", "host_id": "h-1", "reason": "most room", "elapsed_ms": 0.25,
            "hosts": [
                {"host_id": "h-1", "outcome": "chosen", "score": 12.5},
                {"host_id": "h-2", "outcome": "rejected", "constraint": "memory"},
            ],
        })
    };
    let latest = decision("dec-2", "2026-01-02T00:00:00Z");
    let both = page(&[decision("dec-1", "2026-01-01T00:00:00Z"), latest.clone()]);
    let routes = Router::new()
        .route("/v1/decisions", get(async move || Json(both.clone())))
        .route(
            "/v1/decisions/dec-2",
            get(async move || Json(latest.clone())),
        );
    let host = Host::start(routes);
    let text = host
        .run(&["decisions", "show", "i-00000000000000001"])
        .await
        .ok();
    for part in [
        "dec-2",
        "most room",
        "ab12",
        "0.250 ms",
        "chosen",
        "12.5",
        "rejected",
        "memory",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(host.lines()[1], "GET /v1/decisions/dec-2");
}

#[tokio::test]
async fn usage_is_totals_for_people_and_everything_for_scripts() {
    let charge = json!({
        "id": "chg-1", "resource_id": "i-1", "instance_id": "i-1", "meter": "instance-running",
        "from": "2026-01-01T00:00:00.000Z", "to": "2026-01-01T00:01:00.000Z", "seconds": 60, "amount": "0.006000",
        "currency": "USD", "policy": "payg", "module_sha256": "ab", "configuration_sha256": "c",
    });
    let answer = json!({
        "charges": [charge],
        "totals": [{"resource_id": "i-1", "meter": "instance-running", "instance_id": "i-1", "seconds": 60, "amount": "0.006000", "currency": "USD"}],
    });
    let sent = answer.clone();
    let host = Host::start(Router::new().route("/v1/usage", get(async move || Json(sent.clone()))));
    assert_eq!(
        host.run(&["usage"]).await.ok(),
        "RESOURCE  METER             SECONDS  AMOUNT    CURRENCY\ni-1       instance-running  60       0.006000  USD\n"
    );
    assert!(
        host.run(&["usage", "--charges"])
            .await
            .ok()
            .contains("instance-running")
    );
    assert_eq!(
        host.run(&["usage", "-o", "json", "--instance", "i-1"])
            .await
            .json(),
        answer
    );
    assert_eq!(host.lines()[2], "GET /v1/usage?instance_id=i-1&limit=1000");
}

#[tokio::test]
async fn events_are_lines() {
    let routes = Router::new().route(
        "/v1/events",
        get(async || {
            events(&[
                state_event(1, "i-1", "Running"),
                state_event(2, "i-2", "Running"),
                state_event(3, "i-1", "Stopped"),
            ])
        }),
    );
    let host = Host::start(routes);
    let text = host
        .run(&["events", "--subject", "i-1", "--count", "2"])
        .await
        .ok();
    assert_eq!(text.lines().count(), 2);
    assert!(
        text.lines().all(|line| line.contains("instance.state")),
        "{text}"
    );
    let json = host
        .run(&["events", "--count", "1", "-o", "json"])
        .await
        .json();
    assert_eq!(json, state_event(1, "i-1", "Running"));
}

#[tokio::test]
async fn tcp_hosts_get_the_token() {
    let host = json!({
        "id": "h-1", "version": "1", "vcpus_total": 4, "vcpus_used": 1, "memory_total_mib": 4096, "memory_used_mib": 512,
        "disk_total_gib": 10, "disk_used_gib": 1, "instances_running": 1, "instances_total": 2,
        "started_at": "2026-01-01T00:00:00Z",
    });
    let (log, routes) =
        logged(Router::new().route("/v1/host", get(async move || Json(host.clone()))));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-file\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = run_with(
        &[("ASHLAR_TOKEN", "from-environment")],
        &["--host", &address, "host"],
    )
    .await
    .ok();
    assert!(text.contains("1 given of 4"), "{text}");
    let arguments = [
        "--host",
        &address,
        "--token-file",
        file.to_str().unwrap(),
        "host",
    ];
    run_with(&[("ASHLAR_TOKEN", "from-environment")], &arguments)
        .await
        .ok();
    run_with(&[], &["--host", &address, "host"]).await.ok();
    let tokens: Vec<Option<String>> = log
        .lock()
        .unwrap()
        .iter()
        .map(|asked| asked.authorization.clone())
        .collect();
    assert_eq!(
        tokens,
        [
            Some("Bearer from-environment".into()),
            Some("Bearer from-file".into()),
            None
        ]
    );
    server.abort();
}

#[tokio::test]
async fn a_host_that_is_not_there_has_a_status_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", folder.path().join("api.sock").display());
    let error = run_with(&[], &["--host", &socket, "ps"]).await.failed(3);
    assert!(
        error.contains("cannot reach the host at unix:") && error.contains("is ashlard running"),
        "{error}"
    );
    // A socket without anyone behind it.
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("api.sock")).unwrap());
    let error = run_with(&[], &["--host", &socket, "ps"]).await.failed(3);
    assert!(error.contains("nobody listens"), "{error}");
    let error = run_with(&[], &["--host", "nonsense", "ps"]).await;
    assert_eq!(error.status, 2);
    assert!(
        error
            .stderr
            .contains("unix:PATH, http://HOST:PORT or https://HOST:PORT"),
        "{error:?}"
    );
}

#[tokio::test]
async fn something_that_is_no_host_is_told_apart() {
    let host = Host::start(Router::new().route("/v1/host", get(async || "hello")));
    let error = host.run(&["host"]).await.failed(1);
    assert!(
        error.contains("cannot make sense of the answer to /v1/host"),
        "{error}"
    );
    let error = host.run(&["ps"]).await.failed(1);
    assert!(error.contains("404"), "{error}");
}

#[tokio::test]
async fn help_completion_and_manual_need_no_host() {
    let help = run_with(&[], &["--help"]).await.ok();
    assert!(
        help.contains("Exit status:") && help.contains("ashlar run probe"),
        "{help}"
    );
    assert!(
        run_with(&[], &["completion", "bash"])
            .await
            .ok()
            .contains("_ashlar")
    );
    assert!(run_with(&[], &["man"]).await.ok().contains(".TH"));
    assert_eq!(run_with(&[], &["no-such-command"]).await.status, 2);
    assert_eq!(run_with(&[], &[]).await.status, 2);
}
