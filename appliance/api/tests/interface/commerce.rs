//! How things are paid for: quotes and subscriptions; and what makes no sense about money.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::{Answer, Host};

pub const HOUR: Duration = Duration::from_secs(3600);
pub const SMALL: &str = "ecs.c6.large";
const LARGE: &str = "ecs.c6.xlarge";

pub fn month() -> Value {
    json!({"count": 1, "unit": "month"})
}

pub fn subscribed(auto_renew: Option<Value>) -> Value {
    let mut charge = json!({"type": "subscription", "period": month()});
    if let Some(auto_renew) = auto_renew {
        charge["auto_renew"] = auto_renew;
    }
    charge
}

/// A host with an image, of which it runs small instances with a disk.
pub struct Shop {
    pub host: Host,
    image: String,
}

impl Shop {
    pub async fn open() -> Self {
        let host = Host::start().await;
        let image = host.image().await;
        Self { host, image }
    }

    pub fn wanted(&self, charge: Value) -> Value {
        json!({
            "image_id": self.image, "instance_type": SMALL, "data_disks": [{"size_gib": 20}], "start": false,
            "charge": charge,
        })
    }

    pub async fn buy(&self, charge: Value) -> Answer {
        self.host.post("/v1/instances", self.wanted(charge)).await
    }

    /// A stopped instance that is paid for like that.
    pub async fn bought(&self, charge: Value) -> Value {
        let bought = self.buy(charge).await;
        assert_eq!(bought.status, 201, "{bought:?}");
        bought.json()["instances"][0].clone()
    }

    /// The subscription that an instance has.
    pub async fn subscription(&self, instance: &Value) -> Value {
        let id = instance["charge"]["subscription_id"].as_str().unwrap();
        let path = format!("/v1/subscriptions/{id}");
        self.host.get(&path).await.json()
    }

    /// All records of money agree.
    pub async fn is_sound(&self) {
        let verified = self.done("POST", "/v1/bills/verify", json!({})).await;
        assert_eq!(verified["violations"], json!([]));
    }

    pub async fn done(&self, method: &str, path: &str, body: Value) -> Value {
        let done = self.host.json(method, path, body).await;
        assert!(done.status.is_success(), "{method} {path}: {done:?}");
        done.json()
    }
}

#[tokio::test]
async fn a_quote_is_what_a_subscription_then_pays() {
    let shop = Shop::open().await;
    let ask = |charge: Value, count: u32| json!({"instance_type": SMALL, "disks": [{"size_gib": 20}], "charge": charge, "count": count});
    let quote = shop
        .done("POST", "/v1/quotes", ask(subscribed(None), 1))
        .await;
    assert_eq!(quote["per"], "term");
    assert_eq!(quote["currency"], "USD");
    assert_eq!(quote["policy"], "standard-terms");
    assert_eq!(quote["configuration_sha256"].as_str().unwrap().len(), 64);
    assert!(quote.get("fallback_reason").is_none(), "{quote}");
    let lines = quote["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 2, "{quote}");
    assert!(lines[1]["item"].as_str().unwrap().contains("20 GiB"));
    let hourly = json!({"instance_type": SMALL, "count": 2});
    let hourly = shop.done("POST", "/v1/quotes", hourly).await;
    assert_eq!(hourly["per"], "hour");
    assert_eq!(hourly["total"], "1.728000", "2 × (2 × 0.36 + 4 × 0.036)");

    let instance = shop.bought(subscribed(None)).await;
    assert_eq!(instance["charge"]["type"], "subscription");
    assert!(instance.get("lock").is_none(), "{instance}");
    let subscription = shop.subscription(&instance).await;
    assert_eq!(subscription["resource_id"], instance["id"]);
    assert_eq!(subscription["state"], "active");
    assert_eq!(subscription["plan"], SMALL);
    assert_eq!(subscription["period"], month());
    assert!(subscription.get("auto_renew").is_none(), "{subscription}");
    let paid = &subscription["purchases"][0];
    assert_eq!(paid["kind"], "new");
    assert_eq!(paid["amount"], quote["total"]);
    assert_eq!(paid["currency"], quote["currency"]);
    assert_eq!(paid["to"], subscription["expires_at"]);
    let listed = shop.host.get("/v1/subscriptions?limit=1").await.json();
    assert_eq!(listed["items"], json!([subscription]));
}

#[tokio::test]
async fn what_is_subscribed_is_renewed_and_not_released() {
    let shop = Shop::open().await;
    let instance = shop.bought(subscribed(Some(month()))).await;
    let instance_path = format!("/v1/instances/{}", instance["id"].as_str().unwrap());
    let refused = shop.host.delete(&instance_path).await;
    let problem = refused.is_problem(403, "ChargeTypeViolation");
    assert!(problem["next_step"].is_string());

    let bought = shop.subscription(&instance).await;
    assert_eq!(bought["auto_renew"], month());
    let path = format!("/v1/subscriptions/{}", bought["id"].as_str().unwrap());
    let off = shop.done("PATCH", &path, json!({"auto_renew": null})).await;
    assert!(off.get("auto_renew").is_none(), "{off}");
    let weeks = json!({"count": 2, "unit": "week"});
    let on = shop
        .done("PATCH", &path, json!({"auto_renew": weeks}))
        .await;
    assert_eq!(on["auto_renew"], weeks);

    let year = json!({"count": 1, "unit": "year"});
    let renew = format!("{path}/renew");
    let dry = json!({"period": year, "dry_run": true});
    let dry = shop.host.post(&renew, dry).await;
    dry.is_problem(400, "DryRunOperation");
    // The same token buys once.
    let request = json!({"period": year, "client_token": "a-year"});
    let renewed = shop.done("POST", &renew, request.clone()).await;
    assert_eq!(shop.done("POST", &renew, request).await, renewed);
    let purchases = renewed["purchases"].as_array().unwrap();
    assert_eq!(purchases.len(), 2, "{renewed}");
    assert_eq!(purchases[1]["kind"], "renewal");
    assert_eq!(purchases[1]["from"], bought["expires_at"]);
    assert_eq!(purchases[1]["to"], renewed["expires_at"]);
    assert_eq!(renewed["period"], year);
}

#[tokio::test]
async fn what_has_expired_stops_and_runs_again_once_it_is_renewed() {
    let shop = Shop::open().await;
    let mut wanted = shop.wanted(subscribed(None));
    wanted["start"] = json!(true);
    let made = shop.done("POST", "/v1/instances", wanted).await;
    let instance = &made["instances"][0];
    let id = instance["id"].as_str().unwrap();
    shop.host.reaches(id, "Running").await;
    shop.host.clock.ahead(33 * 24 * HOUR);
    // Whoever changes something about money has done what is due.
    let price = "/v1/spot-prices/ecs.g6.large";
    shop.done("PUT", price, json!({"price": "0.1"})).await;
    let stopped = shop.host.reaches(id, "Stopped").await;
    assert_eq!(stopped["lock"], json!({"reason": "expired"}));
    let start = format!("/v1/instances/{id}/start");
    let refused = shop.host.post(&start, json!({})).await;
    refused.is_problem(403, "InstanceExpiredOrInArrears");
    let subscription = shop.subscription(instance).await;
    assert_eq!(subscription["state"], "stopped");
    let path = format!("/v1/subscriptions/{}", subscription["id"].as_str().unwrap());
    let auto_renew = json!({"auto_renew": month()});
    let refused = shop.host.json("PATCH", &path, auto_renew).await;
    refused.is_problem(403, "IncorrectSubscriptionStatus");
    let renew = format!("{path}/renew");
    let renewed = shop.done("POST", &renew, json!({"period": month()})).await;
    assert_eq!(renewed["state"], "active");
    let runs = shop.host.reaches(id, "Running").await;
    assert!(runs.get("lock").is_none(), "{runs}");
    let change = json!({"instance_type": LARGE});
    let refused = shop.host.post(&format!("{path}/change"), change).await;
    refused.is_problem(403, "IncorrectInstanceStatus");
    shop.is_sound().await;
}

#[tokio::test]
async fn a_subscription_changes_its_type_for_the_difference() {
    let shop = Shop::open().await;
    let instance = shop.bought(subscribed(None)).await;
    let bought = shop.subscription(&instance).await;
    let path = format!(
        "/v1/subscriptions/{}/change",
        bought["id"].as_str().unwrap()
    );
    let changed = shop
        .done("POST", &path, json!({"instance_type": LARGE}))
        .await;
    assert_eq!(changed["plan"], LARGE);
    assert_eq!(changed["expires_at"], bought["expires_at"]);
    assert_eq!(changed["purchases"][1]["kind"], "upgrade");
    let back = json!({"instance_type": SMALL, "client_token": "back"});
    let back = shop.done("POST", &path, back).await;
    let refund = &back["purchases"][2];
    assert_eq!(refund["kind"], "downgrade");
    assert!(refund["amount"].as_str().unwrap().starts_with('-'));
    let id = instance["id"].as_str().unwrap();
    let shown = shop.host.get(&format!("/v1/instances/{id}")).await.json();
    assert_eq!(shown["instance_type"], SMALL);
    shop.is_sound().await;
    let refused = shop.host.post(&path, json!({"instance_type": "huge"}));
    let problem = refused
        .await
        .is_problem(400, "InvalidInstanceType.ValueNotSupported");
    assert_eq!(problem["field"], "instance_type");
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_by_its_field() {
    let shop = Shop::open().await;
    let sub = "/v1/subscriptions/sub-00000000000000000";
    let charge = |charge: Value| json!({"instance_type": SMALL, "charge": charge});
    let renew = format!("{sub}/renew");
    let spot = format!("/v1/spot-prices/{SMALL}");
    for (method, path, body, field) in [
        ("POST", "/v1/quotes", json!({"type": SMALL}), "type"),
        ("POST", "/v1/quotes", json!({"vcpus": 2}), "memory_mib"),
        (
            "POST",
            "/v1/quotes",
            json!({"vcpus": 0, "memory_mib": 512}),
            "vcpus",
        ),
        (
            "POST",
            "/v1/quotes",
            charge(json!({"type": "preemptible", "price_limit": "-1"})),
            "charge.price_limit",
        ),
        (
            "POST",
            "/v1/quotes",
            json!({"instance_type": SMALL, "disks": [{"size_gib": 20}, {"size": 1}]}),
            "disks[1].size",
        ),
        (
            "POST",
            "/v1/quotes",
            json!({"instance_type": SMALL, "disks": [{"size_gib": 0}]}),
            "disks[0]",
        ),
        (
            "POST",
            "/v1/quotes",
            json!({"instance_type": SMALL, "count": 101}),
            "count",
        ),
        (
            "POST",
            "/v1/quotes",
            charge(json!({"type": "free"})),
            "charge.type",
        ),
        (
            "POST",
            "/v1/quotes",
            charge(json!({"type": "subscription", "period": {"count": 1, "unit": "day"}})),
            "charge.period.unit",
        ),
        (
            "POST",
            "/v1/quotes",
            charge(
                json!({"type": "subscription", "period": {"count": 1, "unit": "week", "of": 1}}),
            ),
            "charge.period.of",
        ),
        (
            "POST",
            "/v1/quotes",
            charge(json!({"type": "pay_as_you_go", "limit": "1"})),
            "charge.limit",
        ),
        ("POST", &renew, json!({"period": month(), "for": 1}), "for"),
        ("POST", &renew, json!({}), "period"),
        ("PATCH", sub, json!({}), "auto_renew"),
        ("PATCH", sub, json!({"auto_renew": null, "x": 1}), "x"),
        ("PUT", "/v1/accounts/a", json!({"pay_by": "card"}), "pay_by"),
        ("PUT", "/v1/accounts/a", json!({"pay": "balance"}), "pay"),
        (
            "POST",
            "/v1/accounts/a/payments",
            json!({"amount": "much"}),
            "amount",
        ),
        (
            "POST",
            "/v1/accounts/a/payments",
            json!({"amount": "1.234"}),
            "amount",
        ),
        (
            "POST",
            "/v1/accounts/a/payments",
            json!({"amount": "1", "currency": "euro"}),
            "currency",
        ),
        (
            "POST",
            "/v1/accounts/a/payments",
            json!({"amount": "1", "note": ""}),
            "note",
        ),
        ("PUT", &spot, json!({"price": "-1"}), "price"),
        ("PUT", &spot, json!({"price": "1", "x": 1}), "x"),
    ] {
        let refused = shop.host.json(method, path, body.clone()).await;
        assert_eq!(refused.status, 400, "{method} {path} {body}: {refused:?}");
        let problem = refused.json();
        assert_eq!(problem["field"], field, "{method} {path} {body}: {problem}");
    }
    let count = json!({"period": {"count": 61, "unit": "month"}});
    let refused = shop.host.post(&renew, count).await;
    let problem = refused.is_problem(400, "InvalidPeriod.ValueNotSupported");
    assert_eq!(problem["field"], "period.count");
    for id in ["sub-00000000000000000", "nonsense"] {
        let missing = shop.host.get(&format!("/v1/subscriptions/{id}")).await;
        missing.is_problem(404, "InvalidSubscriptionId.NotFound");
    }
    let missing = shop.host.get("/v1/accounts/a%20b/payments").await;
    missing.is_problem(404, "InvalidAccountId.NotFound");
    let no_type = shop
        .host
        .json("PUT", "/v1/spot-prices/huge", json!({"price": "1"}));
    let problem = no_type
        .await
        .is_problem(400, "InvalidInstanceType.ValueNotSupported");
    assert_eq!(problem["field"], "instance_type");
}
