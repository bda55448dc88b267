//! `deployment-sets`, and where `run` wants instances.

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::host::{Host, instance, page, problem};

fn set() -> Value {
    json!({
        "id": "ds-1", "name": "quorum", "strategy": "LowLatency", "instance_ids": ["i-1", "i-2"],
        "created_at": "2020-01-01T00:00:00.000Z",
    })
}

#[tokio::test]
async fn deployment_sets_are_made_listed_shown_changed_and_deleted() {
    let routes = Router::new()
        .route(
            "/v1/deployment-sets",
            get(async || Json(page(&[set()]))).post(async || (StatusCode::CREATED, Json(set()))),
        )
        .route(
            "/v1/deployment-sets/ds-1",
            get(async || Json(set()))
                .patch(async || Json(set()))
                .delete(async || StatusCode::NO_CONTENT),
        )
        .route(
            "/v1/deployment-sets/ds-2",
            axum::routing::delete(async || {
                problem(403, "DependencyViolation.NotEmpty", "i-3 depends on it")
            }),
        );
    let host = Host::start(routes);
    let table = host.run(&["deployment-sets", "ls"]).await.ok();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["ID", "NAME", "STRATEGY", "INSTANCES", "AGE"]);
    assert_eq!(lines[1][..4], ["ds-1", "quorum", "LowLatency", "2"]);
    let listed = host.run(&["deployment-sets", "ls", "-o", "json"]).await;
    assert_eq!(listed.json(), page(&[set()]));

    let create = ["deployment-sets", "create", "-q", "--name", "quorum"];
    assert_eq!(host.run(&create).await.ok(), "ds-1\n");
    let near = ["--strategy", "lowlatency", "--client-token", "T"];
    host.run(&[&create[..], &near].concat()).await.ok();
    let bodies: Vec<Value> = host.asked()[2..].iter().map(|asked| asked.json()).collect();
    assert_eq!(
        bodies,
        [
            json!({"name": "quorum", "strategy": "Availability"}),
            json!({"name": "quorum", "strategy": "LowLatency", "client_token": "T"}),
        ]
    );
    let unknown = ["deployment-sets", "create", "--strategy", "Near"];
    let error = host.run(&unknown).await.failed(2);
    assert!(
        error.contains("Availability") && error.contains("LowLatency"),
        "{error}"
    );

    let shown = host.run(&["deployment-set", "show", "ds-1"]).await.ok();
    for line in ["strategy   LowLatency", "instances  i-1", "           i-2"] {
        assert!(shown.lines().any(|shown| shown == line), "{shown}");
    }
    host.run(&["deployment-sets", "modify", "ds-1", "--name", "trio"])
        .await
        .ok();
    assert_eq!(host.asked().pop().unwrap().json(), json!({"name": "trio"}));
    host.run(&["deployment-sets", "modify", "ds-1"])
        .await
        .failed(2);
    let removed = host.run(&["deployment-sets", "rm", "ds-2", "ds-1"]).await;
    assert_eq!(removed.stdout, "ds-1\n");
    assert!(removed.failed(1).contains("i-3 depends on it"));
}

#[tokio::test]
async fn run_says_where() {
    let id = "i-00000000000000001";
    let mut shown = instance(id, "Running");
    shown["deployment_set_id"] = json!("ds-1");
    shown["affinity"] = json!({"with": ["i-2", "i-3"], "apart_from": ["i-4"]});
    let (made, one) = (json!({"instances": [shown]}), shown.clone());
    let routes = Router::new()
        .route(
            "/v1/instances",
            post(async move || (StatusCode::CREATED, Json(made.clone())))
                .get(async || Json(page(&[]))),
        )
        .route("/v1/instances/i-1", get(async move || Json(one.clone())));
    let host = Host::start(routes);
    let run = ["run", "m-00000000000000001", "--deployment-set", "ds-1"];
    let place = ["--zone", "z", "--with", "i-2", "--with", "i-3"];
    let apart = ["--apart-from", "i-4"];
    host.run(&[&run[..], &place, &apart].concat()).await.ok();
    let request = host.asked()[0].json();
    assert_eq!(
        (
            &request["zone"],
            &request["deployment_set_id"],
            &request["affinity"]
        ),
        (
            &json!("z"),
            &json!("ds-1"),
            &json!({"with": ["i-2", "i-3"], "apart_from": ["i-4"]})
        )
    );
    host.run(&run[..2]).await.ok();
    let request = host.asked()[1].json();
    for field in ["zone", "deployment_set_id", "affinity"] {
        assert!(request.get(field).is_none(), "{request}");
    }
    host.run(&["ps", "-a", "--deployment-set", "ds-1"])
        .await
        .ok();
    assert_eq!(
        host.lines()[2],
        "GET /v1/instances?deployment_set_id=ds-1&limit=1000"
    );
    let text = host.run(&["show", "i-1"]).await.ok();
    let facts: Vec<Vec<&str>> = text
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .collect()
        })
        .collect();
    for fact in [
        &["deployment set", "ds-1"][..],
        &["with", "i-2"],
        &["i-3"],
        &["apart from", "i-4"],
    ] {
        assert!(facts.iter().any(|shown| shown == fact), "{fact:?}: {text}");
    }
}
