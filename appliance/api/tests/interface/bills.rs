//! Bills and budgets.

use std::time::Duration;

use http_body_util::Full;
use serde_json::{Value, json};

use crate::host::{Host, request};

const HOUR: Duration = Duration::from_secs(3600);

/// A host on which a disk was in use for some hours that are settled; the month of its first bill.
async fn billed() -> (Host, String) {
    let host = Host::start().await;
    let disk = host.post("/v1/disks", json!({"size_gib": 100})).await;
    assert_eq!(disk.status, 201, "{disk:?}");
    for _ in 0..2 {
        host.clock.ahead(3 * HOUR);
        assert_sound(&host).await;
    }
    let bills = host.get("/v1/bills").await.json();
    let month = bills["items"][0]["month"].as_str().unwrap().to_owned();
    (host, month)
}

/// Meters; then nothing is wrong.
async fn assert_sound(host: &Host) -> Value {
    let verified = host.post("/v1/bills/verify", json!({})).await;
    assert_eq!(verified.status, 200, "{verified:?}");
    let verified = verified.json();
    assert_eq!(verified["violations"], json!([]));
    assert_eq!(verified["unpriced"], json!([]));
    verified
}

#[tokio::test]
async fn a_bill_is_provisional_until_its_month_is_closed() {
    let (host, month) = billed().await;
    let path = format!("/v1/bills/{month}");
    let bill = host.get(&path).await.json();
    assert_eq!(bill["provisional"], true);
    assert!(bill.get("sha256").is_none(), "{bill}");
    assert!(bill["id"].as_str().unwrap().starts_with("inv-"));
    assert_eq!(bill["account"], "default");
    assert_eq!(bill["currency"], "USD");
    assert_eq!(bill["lines"][0]["meter"], "disk-allocated");
    host.clock.ahead(40 * 24 * HOUR);
    assert!(assert_sound(&host).await["records"].as_u64().unwrap() > 4);
    let closed = host.get(&path).await.json();
    assert_eq!(closed["provisional"], false);
    assert_eq!(closed["sha256"].as_str().unwrap().len(), 64);
    assert!(closed.get("unsettled").is_none(), "{closed}");
    let listed = host.get("/v1/bills?limit=1").await.json();
    assert_eq!(listed["items"][0]["sha256"], closed["sha256"]);
    assert!(listed["items"][0].get("lines").is_none(), "{listed}");
    let again = host.post(&format!("{path}/replay"), json!({})).await.json();
    assert_eq!(again["differences"], json!([]));
    assert_eq!(again["provisional"], false);
    assert_eq!(again["total"], closed["total"]);
}

#[tokio::test]
async fn a_bill_is_written_as_it_is_asked_for() {
    let (host, month) = billed().await;
    let path = format!("/v1/bills/{month}");
    for (query, accept, kind, begins) in [
        (
            "?format=csv",
            "application/json",
            "text/csv",
            "invoice,account,month",
        ),
        ("", "text/csv", "text/csv", "invoice,account,month"),
        ("?format=page", "*/*", "text/plain", "PROVISIONAL: "),
        (
            "",
            "text/html, text/plain;q=0.5",
            "text/plain",
            "PROVISIONAL: ",
        ),
        ("?format=json", "text/csv", "application/json", "{"),
        ("", "*/*", "application/json", "{"),
    ] {
        let get = request("GET", &format!("{path}{query}")).header("accept", accept);
        let answer = host.send(get.body(Full::default()).unwrap()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(
            answer.header("content-type").starts_with(kind),
            "{query} {accept}"
        );
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(text.starts_with(begins), "{query} {accept}: {text}");
        if kind == "text/csv" {
            let name = format!("bill-{month}-default-USD-provisional.csv");
            assert!(answer.header("content-disposition").contains(&name));
        }
    }
}

#[tokio::test]
async fn a_bill_that_is_not_there_is_not_found() {
    let host = Host::start().await;
    assert_eq!(host.get("/v1/bills").await.json(), json!({"items": []}));
    let problem = host.get("/v1/bills/2020-01").await;
    let problem = problem.is_problem(404, "InvalidBillMonth.NotFound");
    assert!(problem["next_step"].as_str().unwrap().contains("List"));
    let nonsense = host.get("/v1/bills/january").await;
    nonsense.is_problem(404, "InvalidBillMonth.NotFound");
    let replay = host.post("/v1/bills/2020-01/replay", json!({})).await;
    replay.is_problem(404, "InvalidBillMonth.NotFound");
    for (query, field) in [
        ("account=a%20b", "account"),
        ("currency=euro", "currency"),
        ("format=pdf", "format"),
    ] {
        let refused = host.get(&format!("/v1/bills/2020-01?{query}")).await;
        let problem = refused.is_problem(400, "InvalidParameter");
        assert!(
            problem["detail"].as_str().unwrap().contains(field) || problem["field"] == field,
            "{problem}"
        );
    }
}

#[tokio::test]
async fn budgets_are_set_told_of_and_removed() {
    let (host, month) = billed().await;
    let spent = host.get(&format!("/v1/bills/{month}")).await.json();
    assert_ne!(spent["total"], "0.00");
    let set = host
        .json("PUT", "/v1/budgets/team", json!({"limit": "0.01"}))
        .await;
    assert_eq!(set.status, 200, "{set:?}");
    let budget = set.json();
    assert_eq!(budget["thresholds"], json!([50, 80, 100]));
    assert_eq!(budget["currency"], "USD");
    let listed = host.get("/v1/budgets").await.json();
    assert_eq!(listed["items"], json!([budget]));
    // What was spent in a month is told in that month.
    if budget["month"] == *month {
        assert_eq!(budget["told"], json!([50, 80, 100]));
    }
    for (body, field) in [
        (json!({"limit": "much"}), "limit"),
        (json!({"limit": "0"}), "limit"),
        (json!({"limit": "1", "thresholds": [0]}), "thresholds"),
        (json!({"limit": "1", "currency": "EUR"}), "currency"),
        (json!({"limit": "1", "currency": "euro"}), "currency"),
    ] {
        let refused = host.json("PUT", "/v1/budgets/team", body).await;
        let problem = refused.is_problem(400, "InvalidParameter");
        assert_eq!(problem["field"], field, "{problem}");
    }
    let refused = host
        .json("PUT", "/v1/budgets/a%20b", json!({"limit": "1"}))
        .await;
    assert_eq!(refused.is_problem(400, "InvalidParameter")["field"], "name");
    assert_eq!(host.delete("/v1/budgets/team").await.status, 204);
    let gone = host.delete("/v1/budgets/team").await;
    gone.is_problem(404, "InvalidBudgetName.NotFound");
}

#[tokio::test]
async fn meters_are_set_listed_and_ended() {
    let host = Host::start().await;
    let image = host.image().await;
    let request = json!({"image_id": image, "vcpus": 1, "memory_mib": 64, "start": false});
    let made = host.json("POST", "/v1/instances", request).await.json();
    let id = made["instances"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/meters/{id}/licence.database");
    let body = json!({"quantity": "4.0", "while_running": true});
    let set = host.json("PUT", &path, body).await;
    assert_eq!(set.status, 200, "{set:?}");
    let meter = set.json();
    assert_eq!(
        (&meter["resource_id"], &meter["quantity"]),
        (&json!(id), &json!("4"))
    );
    assert_eq!(meter["while_running"], true);
    let listed = host.get("/v1/meters").await.json();
    assert_eq!(listed["items"], json!([meter]));
    for (path, body, code, field) in [
        (
            &path,
            json!({"quantity": "much"}),
            "InvalidParameter",
            "quantity",
        ),
        (
            &path,
            json!({"quantity": "0"}),
            "InvalidParameter",
            "quantity",
        ),
        (
            &path,
            json!({"quantity": "0.0000000001"}),
            "InvalidParameter",
            "quantity",
        ),
        (
            &format!("/v1/meters/{id}/Licence"),
            json!({"quantity": "1"}),
            "InvalidParameter",
            "name",
        ),
        (
            &format!("/v1/meters/{id}/disk-allocated"),
            json!({"quantity": "1"}),
            "InvalidParameter",
            "name",
        ),
        (
            &"/v1/meters/d-00000000000000000000/x".to_owned(),
            json!({"quantity": "1"}),
            "InvalidResourceId.NotFound",
            "resource",
        ),
        (
            &"/v1/meters/somebody/x".to_owned(),
            json!({"quantity": "1"}),
            "InvalidResourceId.NotFound",
            "resource",
        ),
    ] {
        let status = if code.ends_with("NotFound") { 404 } else { 400 };
        let refused = host.json("PUT", path, body).await;
        let problem = refused.is_problem(status, code);
        assert_eq!(problem["field"], field, "{problem}");
    }
    assert_eq!(host.delete(&path).await.status, 204);
    let gone = host.delete(&path).await;
    gone.is_problem(404, "InvalidMeter.NotFound");
}
