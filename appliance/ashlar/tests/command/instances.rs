//! `run`, `ps`, `show`, `start`, `stop`, `rm`.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::Query,
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::host::{Host, events, instance, page, problem, state_event};

/// Answers one after the other; the last one again and again.
fn in_turn(
    answers: Vec<Value>,
) -> impl Fn() -> std::future::Ready<Json<Value>> + Clone + Send + Sync + 'static {
    let (answers, turn) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
    move || {
        let turn = turn.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        std::future::ready(Json(answers[turn].clone()))
    }
}

#[tokio::test]
async fn instances_are_a_table_for_people_and_the_answer_for_scripts() {
    let answer = page(&[instance("i-1", "Running"), instance("i-22", "Stopped")]);
    let host =
        Host::start(Router::new().route("/v1/instances", get(in_turn(vec![answer.clone()]))));
    let table = host.run(&["ps"]).await.ok();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    assert_eq!(
        lines[0],
        [
            "ID", "NAME", "STATE", "VCPUS", "MEMORY", "ADDRESS", "IMAGE", "AGE"
        ]
    );
    assert_eq!(
        lines[1][..7],
        ["i-1", "web", "Running", "2", "2 GiB", "10.0.0.5", "m-1"]
    );
    assert_eq!(lines.len(), 3);
    assert!(!table.contains('\u{1b}'), "colour without a terminal");
    assert_eq!(host.run(&["ps", "-q"]).await.ok(), "i-1\ni-22\n");
    assert_eq!(host.run(&["-o", "json", "ps"]).await.json(), answer);
    let show = host
        .run(&[
            "ps", "-a", "--vpc", "vpc-1", "--tag", "a=b", "--tag", "c=d/e",
        ])
        .await;
    show.ok();
    assert_eq!(
        [&*host.lines()[0], &*host.lines()[3]],
        [
            "GET /v1/instances?state=Pending%2CStarting%2CRunning%2CStopping&limit=1000",
            "GET /v1/instances?vpc_id=vpc-1&tags=a%3Db%2Cc%3Dd%2Fe&limit=1000",
        ]
    );
}

#[tokio::test]
async fn every_page_is_fetched() {
    let answer = async |Query(query): Query<Vec<(String, String)>>| {
        let token = query.iter().find(|(name, _)| name == "next_token");
        Json(match token.map(|(_, token)| &**token) {
            None => json!({"items": [instance("i-1", "Running")], "next_token": "to&2"}),
            Some("to&2") => json!({"items": [instance("i-2", "Running")], "next_token": "3"}),
            Some(_) => page(&[instance("i-3", "Running")]),
        })
    };
    let host = Host::start(Router::new().route("/v1/instances", get(answer)));
    assert_eq!(host.run(&["ps", "-q"]).await.ok(), "i-1\ni-2\ni-3\n");
}

#[tokio::test]
async fn run_says_what_was_asked_for_and_waits_on_events() {
    let id = "i-00000000000000001";
    let routes = Router::new()
        .route(
            "/v1/images",
            get(async || {
                let image = |id: &str, name: &str| {
                    json!({"id": id, "name": name, "state": "Available", "parts": [], "created_at": "2026-01-01T00:00:00Z"})
                };
                Json(page(&[image("m-1", "probe"), image("m-2", "twice"), image("m-3", "twice")]))
            }),
        )
        .route("/v1/vswitches", get(async || Json(page(&[json!({
            "id": "vsw-1", "vpc_id": "vpc-1", "cidr": "10.0.0.0/24", "is_default": false,
            "available_ip_count": 250, "created_at": "2026-01-01T00:00:00Z",
        })]))))
        .route("/v1/instances", post(async move || {
            (StatusCode::CREATED, Json(json!({"instances": [instance(id, "Pending")]})))
        }))
        .route(&format!("/v1/instances/{id}"), get(in_turn(vec![instance(id, "Pending"), instance(id, "Running")])))
        .route("/v1/events", get(async move || events(&[
            state_event(1, "i-another", "Running"),
            state_event(2, id, "Running"),
        ])));
    let host = Host::start(routes);
    let ran = host
        .run(&[
            "run",
            "probe",
            "--vcpus",
            "2",
            "-m",
            "2G",
            "--disk",
            "20G",
            "--disk",
            "d-7",
            "--local-disk",
            "100G",
            "--vpc",
            "vpc-1",
            "--sg",
            "sg-1",
            "--cmdline",
            "--quiet",
            "--name",
            "web",
            "--tag",
            "a=b",
            "--client-token",
            "T",
            "--wait",
            "-o",
            "json",
        ])
        .await
        .json();
    assert_eq!(ran["instances"][0]["state"], "Running");
    let asked = host.asked();
    let request = asked
        .iter()
        .find(|asked| asked.line == "POST /v1/instances")
        .unwrap();
    assert_eq!(
        request.json(),
        json!({
            "image_id": "m-1", "vcpus": 2, "memory_mib": 2048, "count": 1, "name": "web", "vswitch_id": "vsw-1",
            "security_group_ids": ["sg-1"], "cmdline": "--quiet", "data_disks": [
                {"size_gib": 100, "category": "local_ssd_pro"}, {"size_gib": 20}, {"disk_id": "d-7"}],
            "start": true, "tags": {"a": "b"}, "client_token": "T",
        })
    );
    // Neither a type nor a number: the smallest that is of use. A type stands for both.
    for (more, vcpus, memory_mib) in [
        (&[][..], json!(1), json!(512)),
        (&["--type", "ecs.g6.large"], json!(null), json!(null)),
    ] {
        let args = [&["run", "probe"], more].concat();
        host.run(&args).await.ok();
        let request = host.asked().pop().unwrap().json();
        assert_eq!(
            (&request["vcpus"], &request["memory_mib"]),
            (&vcpus, &memory_mib),
            "{more:?}"
        );
    }
    let lines = host.lines();
    let at = |line: &str| lines.iter().position(|asked| asked == line).unwrap();
    assert!(
        at("GET /v1/events") < at("POST /v1/instances"),
        "the stream is opened first: {lines:?}"
    );
    for (name, says) in [("none", "no image named"), ("twice", "m-2, m-3")] {
        let error = host.run(&["run", name]).await.failed(1);
        assert!(error.contains(says), "{error}");
    }
}

#[tokio::test]
async fn waiting_ends_in_time_and_with_the_reason() {
    let mut stopped = instance("i-1", "Stopped");
    stopped["intent"] = json!("stopped");
    stopped["state_reason"] =
        json!({"code": "StartFailed", "message": "could not be started: no room"});
    let routes = Router::new()
        .route("/v1/events", get(async || events(&[])))
        .route(
            "/v1/instances/i-0/stop",
            post(in_turn(vec![instance("i-0", "Stopping")])),
        )
        .route(
            "/v1/instances/i-0",
            get(in_turn(vec![instance("i-0", "Stopping")])),
        )
        .route(
            "/v1/instances/i-1/start",
            post(in_turn(vec![instance("i-1", "Pending")])),
        )
        .route("/v1/instances/i-1", get(in_turn(vec![stopped])));
    let host = Host::start(routes);
    let error = host
        .run(&[
            "stop",
            "i-0",
            "--force",
            "--stopped-mode",
            "stop-charging",
            "--wait",
            "--timeout",
            "1",
        ])
        .await
        .failed(4);
    assert!(
        error.contains("waited 1 s for Stopped: i-0 is Stopping"),
        "{error}"
    );
    assert_eq!(
        host.asked()
            .iter()
            .find(|a| a.line.ends_with("/stop"))
            .unwrap()
            .json(),
        json!({"force": true, "stopped_mode": "StopCharging"})
    );
    let error = host.run(&["start", "i-1", "--wait"]).await.failed(1);
    assert!(
        error.contains("i-1 is Stopped: could not be started: no room"),
        "{error}"
    );
}

#[tokio::test]
async fn a_short_life_is_still_seen() {
    // It ran and ended before anyone could look: the event tells.
    let mut ended = instance("i-1", "Stopped");
    ended["intent"] = json!("stopped");
    let mut starting = instance("i-1", "Starting");
    starting["intent"] = json!("running");
    let routes = Router::new()
        .route(
            "/v1/events",
            get(async || {
                events(&[
                    state_event(1, "i-1", "Running"),
                    state_event(2, "i-1", "Stopped"),
                ])
            }),
        )
        .route(
            "/v1/instances/i-1/start",
            post(in_turn(vec![starting.clone()])),
        )
        .route("/v1/instances/i-1", get(in_turn(vec![starting, ended])));
    let host = Host::start(routes);
    let ran = host
        .run(&["start", "i-1", "--wait", "-o", "json"])
        .await
        .json();
    assert_eq!(ran["items"][0]["state"], "Stopped");
}

#[tokio::test]
async fn refusals_are_one_clear_error() {
    let routes = Router::new()
        .route(
            "/v1/instances",
            post(async || problem(403, "OperationDenied.NoStock", "no host has room")),
        )
        .route(
            "/v1/instances/{id}",
            get(async || {
                problem(
                    404,
                    "InvalidInstanceId.NotFound",
                    "There is no instance i-9.",
                )
            })
            .delete(async || problem(400, "DryRunOperation", "It would succeed.")),
        );
    let host = Host::start(routes);
    let error = host
        .run(&[
            "run",
            "m-00000000000000001",
            "--vcpus",
            "9",
            "--memory",
            "1G",
        ])
        .await
        .failed(1);
    assert_eq!(
        error,
        "error: no host has room\n  field: vcpus\n  code: OperationDenied.NoStock, request: R-1\n  next: Do it well.\n"
    );
    host.run(&["show", "i-9"]).await.failed(1);
    let dry = host.run(&["rm", "i-9"]).await;
    assert!(dry.stderr.contains("would succeed"), "{dry:?}");
    assert_eq!(dry.ok(), "");
}

#[tokio::test]
async fn one_instance_is_shown_whole() {
    let mut shown = instance("i-1", "Running");
    shown["api_to_first_guest_output_ms"] = json!(12.3456);
    shown["vmm_pid"] = json!(77);
    shown["cpus"] = json!("2-3");
    shown["cpu_credits"] = json!({
        "balance": 0.5, "max": 576.0, "per_hour": 24.0, "baseline_percent": 20, "throttled": true,
    });
    let host =
        Host::start(Router::new().route("/v1/instances/i-1", get(in_turn(vec![shown.clone()]))));
    let text = host.run(&["show", "i-1"]).await.ok();
    for line in [
        "own cpus            2-3",
        "cpu credits         0.50 of at most 576, 24 an hour, baseline 20 %: used up, held to its baseline",
        "id                  i-1",
        "memory              2 GiB",
        "disks               d-1 vda system",
        "network             eni-1 10.0.0.5 00:16:3e:00:00:01 on vsw-1 in vpc-1, groups sg-1",
        "charge              by the second",
        "first output after  12.35 ms",
        "vmm process         77",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line:?} is missing in\n{text}"
        );
    }
    assert!(!text.contains("stopped"), "{text}");
    assert_eq!(
        host.run(&["show", "i-1", "--output", "json"]).await.json(),
        shown
    );
}

#[tokio::test]
async fn several_are_removed_in_order_and_each_refusal_is_told() {
    let routes = Router::new().route(
        "/v1/instances/{id}",
        axum::routing::delete(
            async |axum::extract::Path(id): axum::extract::Path<String>| {
                if id == "i-2" || id == "i-3" {
                    problem(
                        404,
                        "InvalidInstanceId.NotFound",
                        &format!("no instance {id}"),
                    )
                } else {
                    axum::response::IntoResponse::into_response(StatusCode::NO_CONTENT)
                }
            },
        ),
    );
    let host = Host::start(routes);
    let ran = host.run(&["rm", "-f", "i-1", "i-2", "i-3", "i-4"]).await;
    assert_eq!(ran.stdout, "i-1\ni-4\n");
    let told = ran.failed(1);
    for refused in ["no instance i-2", "no instance i-3"] {
        assert_eq!(told.matches(refused).count(), 1, "{told}");
    }
    assert_eq!(
        host.lines(),
        [
            "DELETE /v1/instances/i-1?force=true",
            "DELETE /v1/instances/i-2?force=true",
            "DELETE /v1/instances/i-3?force=true",
            "DELETE /v1/instances/i-4?force=true"
        ]
    );
}

#[tokio::test]
async fn removing_can_be_waited_for() {
    let looks = Arc::new(AtomicUsize::new(0));
    let look = async move || {
        // There when it is first looked at.
        if looks.fetch_add(1, Ordering::Relaxed) == 0 {
            return axum::response::IntoResponse::into_response(Json(instance("i-1", "Stopped")));
        }
        problem(404, "InvalidInstanceId.NotFound", "gone")
    };
    let released = json!({
        "sequence": 1, "at": "2026-01-01T00:00:00.000Z", "kind": "instance.released", "subject_id": "i-1", "message": "",
    });
    let routes = Router::new()
        .route(
            "/v1/instances/i-1",
            get(look).delete(async || StatusCode::NO_CONTENT),
        )
        .route(
            "/v1/instances/i-2",
            get(async || Json(instance("i-2", "Stopped"))).delete(async || StatusCode::NO_CONTENT),
        )
        .route(
            "/v1/events",
            get(async move || events(std::slice::from_ref(&released))),
        );
    let host = Host::start(routes);
    assert_eq!(host.run(&["rm", "i-1", "--wait"]).await.ok(), "i-1\n");
    let error = host
        .run(&["rm", "i-2", "--wait", "--timeout", "1"])
        .await
        .failed(4);
    assert!(error.contains("waited 1 s for i-2 to be gone"), "{error}");
}

#[tokio::test]
async fn only_what_is_said_is_changed() {
    let modify = axum::routing::patch(async || Json(instance("i-1", "Running")));
    let host = Host::start(Router::new().route("/v1/instances/i-1", modify));
    host.run(&["modify", "i-1", "--protect", "false", "--tag", "a=b"])
        .await
        .ok();
    assert_eq!(
        host.asked()[0].json(),
        json!({"deletion_protection": false, "tags": {"a": "b"}})
    );
    host.run(&["modify", "i-1"]).await.failed(2);
}
