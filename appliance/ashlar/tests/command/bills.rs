//! Bills and budgets.

use axum::{
    Json, Router,
    http::Uri,
    routing::{get, post, put},
};
use serde_json::{Value, json};

use crate::host::{Host, page, problem, run_with};

fn summary(month: &str, provisional: bool) -> Value {
    let mut bill = json!({
        "id": "inv-1", "account": "default", "month": month, "currency": "USD", "provisional": provisional, "total": "12.34",
    });
    let state = if provisional {
        json!({"unsettled": "0.250000"})
    } else {
        json!({"closed_at": "2026-02-01T00:00:03.000Z", "sha256": "ab12"})
    };
    let fields = bill.as_object_mut().unwrap();
    fields.extend(state.as_object().unwrap().clone());
    bill
}

fn bill(month: &str, provisional: bool) -> Value {
    let mut bill = summary(month, provisional);
    let rest = json!({
        "lines": [{
            "kind": "usage", "resource_id": "d-1", "meter": "disk-allocated", "detail": "3 charges",
            "from": "2026-01-01T00:00:00.000Z", "to": "2026-01-31T00:00:00.000Z", "seconds": 60, "amount": "12.345678",
        }],
        "usage": "12.345678", "carried_in": "0.000000", "carried_out": "0.005678", "settled": "12.34",
        "purchases": "0.00", "refunds": "0.00",
    });
    let fields = bill.as_object_mut().unwrap();
    fields.extend(rest.as_object().unwrap().clone());
    bill
}

/// Answers a bill as it is asked for.
async fn answer(uri: Uri) -> String {
    match uri.query().unwrap_or_default() {
        query if query.contains("format=csv") => "invoice,account\ninv-1,default\n".to_owned(),
        query if query.contains("format=page") => "Invoice inv-1\n".to_owned(),
        _ => bill("2026-01", false).to_string(),
    }
}

#[tokio::test]
async fn bills_are_listed_and_shown_as_it_is_asked_for() {
    let all = page(&[summary("2026-01", false), summary("2026-02", true)]);
    let routes = Router::new()
        .route("/v1/bills", get(async move || Json(all.clone())))
        .route("/v1/bills/2026-01", get(answer))
        .route(
            "/v1/bills/2026-02",
            get(async || Json(bill("2026-02", true))),
        );
    let host = Host::start(routes);
    let text = host.run(&["bill", "list"]).await.ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        "2026-01  default  12.34  USD       closed       inv-1"
    );
    assert!(lines[2].contains("provisional"), "{text}");
    assert_eq!(
        host.run(&["bills", "ls", "-q"]).await.ok(),
        "inv-1\ninv-1\n"
    );

    let text = host.run(&["bill", "show", "2026-01"]).await.ok();
    for part in [
        "closed",
        "ab12",
        "disk-allocated",
        "12.345678",
        "= to be paid           12.34 USD",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(!text.contains("not settled yet"), "{text}");
    let text = host.run(&["bill", "show", "2026-02"]).await.ok();
    for part in ["provisional", "not settled yet", "0.250000 USD"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    for arguments in [["-o", "json"], ["--format", "json"]] {
        let shown = host
            .run(&["bill", "show", "2026-01", arguments[0], arguments[1]])
            .await
            .json();
        assert_eq!(shown, bill("2026-01", false));
    }
    let csv = [
        "bill",
        "show",
        "2026-01",
        "--format",
        "csv",
        "--account",
        "a",
        "--currency",
        "EUR",
    ];
    assert_eq!(
        host.run(&csv).await.ok(),
        "invoice,account\ninv-1,default\n"
    );
    let asked = "GET /v1/bills/2026-01?account=a&currency=EUR&format=csv";
    assert_eq!(host.lines().last().unwrap(), asked);
    let text = host
        .run(&["bill", "show", "2026-01", "--format", "page"])
        .await;
    assert_eq!(text.ok(), "Invoice inv-1\n");
}

#[tokio::test]
async fn what_verifying_finds_is_listed_and_is_a_failure() {
    let check = async |violations: Value| {
        let found = json!({
            "through": "2026-01-01T00:00:00.000Z", "records": 42, "violations": violations,
            "unpriced": [{"policy": "old", "configuration_sha256": "cd", "runs": 3}],
        });
        let answer = found.clone();
        let routes =
            Router::new().route("/v1/bills/verify", post(async move || Json(answer.clone())));
        (Host::start(routes), found)
    };
    let (host, _) = check(json!([])).await;
    let text = host.run(&["bill", "verify"]).await.ok();
    assert!(
        text.contains("42") && text.contains("not in force any more"),
        "{text}"
    );

    let violation = json!({"kind": "open-end", "subject": "disk-allocated of d-1", "what": "it was not in use"});
    let (host, found) = check(json!([violation])).await;
    let ran = host.run(&["bill", "verify"]).await;
    assert!(ran.stdout.contains("disk-allocated of d-1"), "{ran:?}");
    let error = ran.failed(1);
    assert!(
        error.contains("1 violation was found") && error.contains("next: "),
        "{error}"
    );
    // Scripts get all of it, and the status.
    let ran = host.run(&["bill", "verify", "-o", "json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), found);
    assert_eq!(ran.status, 1);
}

#[tokio::test]
async fn a_replay_that_comes_out_otherwise_is_a_failure() {
    let replay = |differences: Value| {
        json!({
            "account": "default", "month": "2026-01", "currency": "USD", "provisional": false, "settlements": 7, "runs": 2,
            "total": "12.34", "differences": differences, "unpriced": [],
        })
    };
    let same = replay(json!([]));
    let difference =
        json!({"kind": "invoice", "subject": "inv-1", "what": "its total is 1 and should be 2"});
    let other = replay(json!([difference, difference]));
    let routes = Router::new()
        .route(
            "/v1/bills/2026-01/replay",
            post(async move || Json(same.clone())),
        )
        .route(
            "/v1/bills/2026-02/replay",
            post(async move || Json(other.clone())),
        )
        .route(
            "/v1/bills/2020-01/replay",
            post(async || {
                problem(
                    404,
                    "InvalidBillMonth.NotFound",
                    "There is no bill of 2020-01.",
                )
            }),
        );
    let host = Host::start(routes);
    let text = host.run(&["bill", "replay", "2026-01"]).await.ok();
    assert!(text.contains("differences   0"), "{text}");
    let ran = host.run(&["bill", "replay", "2026-02"]).await;
    assert!(
        ran.stdout.contains("its total is 1 and should be 2"),
        "{ran:?}"
    );
    assert!(ran.failed(1).contains("2 differences were found"));
    let error = host.run(&["bill", "replay", "2020-01"]).await.failed(1);
    assert!(error.contains("There is no bill of 2020-01."), "{error}");
}

#[tokio::test]
async fn budgets_are_set_listed_and_removed() {
    let budget = json!({
        "name": "team", "account": "default", "limit": "200", "currency": "USD", "thresholds": [50, 80, 100],
        "month": "2026-01", "spent": "101.00", "told": [50],
    });
    let (all, set) = (page(std::slice::from_ref(&budget)), budget.clone());
    let routes = Router::new()
        .route("/v1/budgets", get(async move || Json(all.clone())))
        .route(
            "/v1/budgets/team",
            put(async move || Json(set.clone()))
                .delete(async || axum::http::StatusCode::NO_CONTENT),
        );
    let host = Host::start(routes);
    let table = host.run(&["budget", "list"]).await.ok();
    assert_eq!(
        table.lines().nth(1).unwrap(),
        "team  default  2026-01  101.00  200    USD       50%,80%,100%  50%"
    );
    let set = [
        "budget",
        "set",
        "team",
        "--limit",
        "200",
        "--tell-at",
        "50,80",
        "--currency",
        "USD",
    ];
    assert_eq!(host.run(&set).await.ok(), table);
    assert_eq!(
        host.asked()[1].json(),
        json!({"limit": "200", "currency": "USD", "thresholds": [50, 80]})
    );
    let set = ["budget", "set", "team", "--limit", "200", "-o", "json"];
    assert_eq!(host.run(&set).await.json(), budget);
    assert_eq!(
        host.asked()[2].json(),
        json!({"limit": "200", "thresholds": [50, 80, 100]})
    );
    assert_eq!(host.run(&["budget", "rm", "team"]).await.ok(), "team\n");
    host.run(&["budget", "set", "team"]).await.failed(2);
    let help = run_with(&[], &["budget", "set", "--help"]).await.ok();
    assert!(
        help.contains("ashlar budget set team --limit 200"),
        "{help}"
    );
    let help = run_with(&[], &["bill", "verify", "--help"]).await.ok();
    assert!(help.contains("status 1"), "{help}");
}

#[tokio::test]
async fn meters_are_set_listed_and_ended() {
    let meter = json!({
        "resource_id": "i-1", "name": "licence.database", "quantity": "4", "while_running": true,
        "set_by": "billing_policy", "created_at": "2026-01-01T00:00:00Z",
    });
    let (all, set) = (page(std::slice::from_ref(&meter)), meter.clone());
    let routes = Router::new()
        .route("/v1/meters", get(async move || Json(all.clone())))
        .route(
            "/v1/meters/i-1/licence.database",
            put(async move || Json(set.clone()))
                .delete(async || axum::http::StatusCode::NO_CONTENT),
        );
    let host = Host::start(routes);
    let table = host.run(&["meter", "ls"]).await.ok();
    assert_eq!(
        table.lines().nth(1).unwrap(),
        "i-1       licence.database  4         while it runs  billing policy  2026-01-01T00:00:00Z"
    );
    let set = ["meter", "set", "i-1", "licence.database"];
    let counted = [&set[..], &["--quantity", "4", "--while-running"]].concat();
    assert_eq!(host.run(&counted).await.ok(), table);
    assert_eq!(
        host.asked()[1].json(),
        json!({"quantity": "4", "while_running": true})
    );
    host.run(&set).await.ok();
    assert_eq!(
        host.asked()[2].json(),
        json!({"quantity": "1", "while_running": false})
    );
    let removed = host.run(&["meter", "rm", "i-1", "licence.database"]).await;
    assert_eq!(removed.ok(), "licence.database\n");
    let help = run_with(&[], &["meter", "set", "--help"]).await.ok();
    assert!(help.contains("--set meter.licence.database=0.12"), "{help}");
}
