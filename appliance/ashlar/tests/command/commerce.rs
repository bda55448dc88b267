//! How things are paid for: prices, subscriptions, accounts, the market.

use axum::{
    Json, Router,
    http::StatusCode,
    routing::{get, post, put},
};
use serde_json::{Value, json};

use crate::host::{Host, instance, page, problem, run_with};

const AT: &str = "2026-01-01T00:00:00.000Z";
const IMAGE: &str = "m-00000000000000001";

/// Answers that, whatever is asked.
fn answer(
    answer: &Value,
) -> impl Fn() -> std::future::Ready<Json<Value>> + Clone + Send + Sync + 'static {
    let answer = answer.clone();
    move || std::future::ready(Json(answer.clone()))
}

#[tokio::test]
async fn a_price_is_a_table_with_a_total() {
    let quote = json!({
        "lines": [
            {"item": "3 × ecs.g6.large", "amount": "90.00", "discount": "10 % off a year"},
            {"item": "3 × cloud_essd of 20 GiB", "amount": "9.00"},
        ],
        "total": "99.00", "currency": "USD", "per": "term", "policy": "standard-terms", "configuration_sha256": "ab",
    });
    let host = Host::start(Router::new().route("/v1/quotes", post(answer(&quote))));
    let text = host
        .run(&[
            "price",
            "--type",
            "ecs.g6.large",
            "--disk",
            "20G",
            "--count",
            "3",
            "--period",
            "1-year",
        ])
        .await
        .ok();
    for line in [
        "FOR                       PRICE  DISCOUNT",
        "3 × cloud_essd of 20 GiB  9.00   -",
        "total      99.00 USD for the whole period",
        "prices of  standard-terms",
    ] {
        assert!(
            text.lines().any(|shown| shown == line),
            "{line:?} is missing in\n{text}"
        );
    }
    assert_eq!(
        host.asked()[0].json(),
        json!({
            "instance_type": "ecs.g6.large", "disks": [{"size_gib": 20}], "count": 3,
            "charge": {"type": "subscription", "period": {"count": 1, "unit": "year"}},
        })
    );
    let bid = ["price", "--preemptible", "--price-limit", "0.12", "-q"];
    assert_eq!(host.run(&bid).await.ok(), "99.00\n");
    assert_eq!(
        host.asked()[1].json(),
        json!({
            "vcpus": 1, "memory_mib": 512, "count": 1, "charge": {"type": "preemptible", "price_limit": "0.12"},
        })
    );
    assert_eq!(host.run(&["quote", "-o", "json"]).await.json(), quote);
    for wrong in [
        ["--period", "1-day"].as_slice(),
        &["--period", "1m", "--preemptible"],
        &["--price-limit", "1"],
        &["--disk", "d-1"],
    ] {
        let mut args = vec!["price"];
        args.extend(wrong);
        host.run(&args).await.failed(2);
    }
}

#[tokio::test]
async fn instances_are_run_and_shown_as_they_are_paid_for() {
    let mut locked = instance("i-1", "Stopped");
    locked["charge"] = json!({"type": "subscription", "subscription_id": "sub-1"});
    locked["lock"] = json!({"reason": "expired"});
    let mut spot = instance("i-2", "Running");
    spot["charge"] = json!({
        "type": "preemptible", "price_limit": "0.12", "entry_price": "0.100000", "currency": "USD",
        "protected_until": "2026-01-01T01:00:00.000Z",
        "notice": {
            "given_at": "2026-01-01T02:00:00.000Z", "reclaim_at": "2026-01-01T02:05:00.000Z",
            "reason": "price_above_limit", "price": "0.13",
        },
    });
    let made = json!({"instances": [instance("i-1", "Pending")]});
    let routes = Router::new()
        .route("/v1/instances", post(answer(&made)))
        .route("/v1/instances/i-1", get(answer(&locked)))
        .route("/v1/instances/i-2", get(answer(&spot)));
    let host = Host::start(routes);
    let advance = [
        "run",
        IMAGE,
        "--period",
        "1-month",
        "--auto-renew",
        "2w",
        "-q",
    ];
    assert_eq!(host.run(&advance).await.ok(), "i-1\n");
    host.run(&["run", IMAGE, "--preemptible"]).await.ok();
    host.run(&["run", IMAGE]).await.ok();
    let charges: Vec<Value> = host
        .asked()
        .iter()
        .map(|asked| asked.json()["charge"].clone())
        .collect();
    assert_eq!(
        charges,
        [
            json!({
                "type": "subscription", "period": {"count": 1, "unit": "month"}, "auto_renew": {"count": 2, "unit": "week"},
            }),
            json!({"type": "preemptible"}),
            Value::Null,
        ]
    );
    host.run(&["run", IMAGE, "--auto-renew", "1m"])
        .await
        .failed(2);

    let text = host.run(&["show", "i-1"]).await.ok();
    assert!(text.contains("subscription sub-1"), "{text}");
    assert!(text.contains("expired: its subscription is over"), "{text}");
    let text = host.run(&["show", "i-2"]).await.ok();
    for part in [
        "preemptible, at most 0.12 USD per hour",
        "0.100000 USD per hour and protected until 2026-01-01T01:00:00.000Z",
        "reclaimed at 2026-01-01T02:05:00.000Z: the price of 0.13 USD per hour is above its limit",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let shown = host.run(&["show", "i-2", "-o", "json"]).await.json();
    assert_eq!(shown, spot);
}

#[tokio::test]
async fn subscriptions_are_listed_renewed_and_changed() {
    let subscription = json!({
        "id": "sub-1", "account": "default", "resource_id": "i-1", "plan": "ecs.g6.large", "state": "active",
        "period": {"count": 1, "unit": "month"}, "expires_at": "2026-02-02T00:00:00.000Z",
        "auto_renew": {"count": 2, "unit": "week"},
        "purchases": [{
            "id": "pur-1", "kind": "new", "plan": "ecs.g6.large", "at": AT, "from": AT, "to": "2026-02-02T00:00:00.000Z",
            "amount": "30.00", "currency": "USD",
        }],
    });
    let all = page(std::slice::from_ref(&subscription));
    let one = "/v1/subscriptions/sub-1";
    let routes = Router::new()
        .route("/v1/subscriptions", get(answer(&all)))
        .route(one, get(answer(&subscription)).patch(answer(&subscription)))
        .route(&format!("{one}/renew"), post(answer(&subscription)))
        .route(&format!("{one}/change"), post(answer(&subscription)));
    let host = Host::start(routes);
    let table = host.run(&["subscription", "ls"]).await.ok();
    assert_eq!(
        table.lines().nth(1).unwrap(),
        "sub-1  i-1  ecs.g6.large  active  2026-02-02T00:00:00.000Z  2 weeks"
    );
    let text = host.run(&["subscription", "show", "sub-1"]).await.ok();
    for part in ["period      1 month", "auto-renew  2 weeks", "new", "30.00"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let shown = ["subscriptions", "show", "sub-1", "-o", "json"];
    assert_eq!(host.run(&shown).await.json(), subscription);
    for (args, line, body) in [
        (
            ["renew", "sub-1", "--period", "1y"],
            "POST /v1/subscriptions/sub-1/renew",
            json!({"period": {"count": 1, "unit": "year"}}),
        ),
        (
            ["auto-renew", "sub-1", "--period", "3-months"],
            "PATCH /v1/subscriptions/sub-1",
            json!({"auto_renew": {"count": 3, "unit": "month"}}),
        ),
        (
            ["auto-renew", "sub-1", "--off", "--quiet"],
            "PATCH /v1/subscriptions/sub-1",
            json!({"auto_renew": null}),
        ),
        (
            ["change", "sub-1", "--type", "ecs.g6.xlarge"],
            "POST /v1/subscriptions/sub-1/change",
            json!({"instance_type": "ecs.g6.xlarge"}),
        ),
    ] {
        let mut all = vec!["subscription"];
        all.extend(args);
        let text = host.run(&all).await.ok();
        assert!(text.contains("sub-1"), "{text}");
        let asked = host.asked().pop().unwrap();
        assert_eq!((asked.line.as_str(), asked.json()), (line, body));
    }
    for wrong in [
        ["subscription", "auto-renew", "sub-1"].as_slice(),
        &[
            "subscription",
            "auto-renew",
            "sub-1",
            "--off",
            "--period",
            "1m",
        ],
        &["subscription", "renew", "sub-1"],
    ] {
        host.run(wrong).await.failed(2);
    }
}

#[tokio::test]
async fn accounts_are_listed_set_and_paid_in_to() {
    let account = json!({
        "id": "default", "pay_by": "balance", "balances": [{"amount": "-5.00", "currency": "USD"}],
        "arrears": [{"owed": "5.00", "currency": "USD", "since": AT, "next_action": "stop", "next_at": "2026-01-16T00:00:00.000Z"}],
    });
    let payment = json!({
        "id": "pay-1", "account": "default", "amount": "100", "currency": "USD", "at": AT, "kind": "deposit",
        "reference": "transfer 4711",
    });
    let one = "/v1/accounts/default";
    let (made, payments) = (payment.clone(), page(std::slice::from_ref(&payment)));
    let routes = Router::new()
        .route(
            "/v1/accounts",
            get(answer(&page(std::slice::from_ref(&account)))),
        )
        .route(one, put(answer(&account)))
        .route(
            &format!("{one}/payments"),
            get(answer(&payments)).post(async move || (StatusCode::CREATED, Json(made.clone()))),
        )
        .route(
            "/v1/accounts/other/payments",
            post(async || problem(400, "InvalidParameter", "It pays by invoice.")),
        );
    let host = Host::start(routes);
    let table = host.run(&["account", "ls"]).await.ok();
    assert_eq!(
        table.lines().nth(1).unwrap(),
        "default  balance  -5.00 USD  5.00 USD since 2026-01-01T00:00:00.000Z  stop at 2026-01-16T00:00:00.000Z"
    );
    let set = ["account", "set", "--pay-by", "balance"];
    assert_eq!(host.run(&set).await.ok(), table);
    assert_eq!(host.asked()[1].json(), json!({"pay_by": "balance"}));
    let pay = [
        "account",
        "pay",
        "100",
        "--currency",
        "USD",
        "--reference",
        "transfer 4711",
        "--client-token",
        "t",
    ];
    let paid = host.run(&pay).await.ok();
    assert_eq!(
        host.asked()[2].json(),
        json!({"amount": "100", "currency": "USD", "reference": "transfer 4711", "client_token": "t"})
    );
    assert_eq!(host.run(&["account", "payments"]).await.ok(), paid);
    assert!(paid.contains("transfer 4711"), "{paid}");
    let out = ["accounts", "pay", "-12.50", "-o", "json"];
    assert_eq!(host.run(&out).await.json(), payment);
    assert_eq!(
        host.asked().pop().unwrap().json(),
        json!({"amount": "-12.50"})
    );
    let refused = host.run(&["account", "pay", "1", "--account", "other"]);
    let error = refused.await.failed(1);
    assert!(error.contains("It pays by invoice."), "{error}");
    host.run(&["account", "set", "--pay-by", "card"])
        .await
        .failed(2);
}

#[tokio::test]
async fn the_market_is_listed_shown_and_set() {
    let price =
        json!({"instance_type": "ecs.g6.large", "price": "0.12", "currency": "USD", "since": AT});
    let mut market = price.clone();
    market["history"] = json!([{"from": "2025-12-31T00:00:00.000Z", "price": "0.10"}, {"from": AT, "price": "0.12"}]);
    let one = "/v1/spot-prices/ecs.g6.large";
    let routes = Router::new()
        .route("/v1/spot-prices", get(answer(&page(&[price]))))
        .route(one, get(answer(&market)).put(answer(&market)));
    let host = Host::start(routes);
    let table = host.run(&["spot", "ls"]).await.ok();
    assert_eq!(
        table.lines().nth(1).unwrap(),
        "ecs.g6.large  0.12   USD       2026-01-01T00:00:00.000Z"
    );
    let set = ["spot", "set", "ecs.g6.large", "0.12"];
    assert_eq!(host.run(&set).await.ok(), table);
    assert_eq!(host.asked()[1].json(), json!({"price": "0.12"}));
    let text = host.run(&["spot", "show", "ecs.g6.large"]).await.ok();
    for part in ["0.12 USD per hour", "2025-12-31T00:00:00.000Z  0.10"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    let shown = ["spot", "show", "ecs.g6.large", "-o", "json"];
    assert_eq!(host.run(&shown).await.json(), market);
}

#[tokio::test]
async fn the_help_teaches_how_to_pay() {
    for (args, example) in [
        (
            ["price", "--help"].as_slice(),
            "ashlar price --type ecs.g6.large --period 1-year",
        ),
        (&["run", "--help"], "--period 1-month --auto-renew 1-month"),
        (
            &["subscription", "auto-renew", "--help"],
            "ashlar subscription auto-renew sub-… --off",
        ),
        (&["account", "pay", "--help"], "ashlar account pay 100"),
        (
            &["spot", "set", "--help"],
            "ashlar spot set ecs.g6.large 0.12",
        ),
    ] {
        let help = run_with(&[], args).await.ok();
        assert!(help.contains(example), "{example} is missing in\n{help}");
    }
}
