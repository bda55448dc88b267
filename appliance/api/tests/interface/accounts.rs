//! Accounts that pay from a balance, and preemptible instances.

use serde_json::{Value, json};

use crate::commerce::{HOUR, SMALL, Shop, subscribed};

#[tokio::test]
async fn an_account_that_has_nothing_pays_in_first() {
    let shop = Shop::open().await;
    let (account, payments) = ("/v1/accounts/default", "/v1/accounts/default/payments");
    let by_invoice = shop.host.post(payments, json!({"amount": "1"})).await;
    assert_eq!(
        by_invoice.is_problem(400, "InvalidParameter")["field"],
        "account"
    );
    let set = shop
        .done("PUT", account, json!({"pay_by": "balance"}))
        .await;
    assert_eq!(set["pay_by"], "balance");
    let refused = shop.buy(subscribed(None)).await;
    let problem = refused.is_problem(403, "InvalidAccountStatus.NotEnoughBalance");
    assert!(problem["next_step"].as_str().unwrap().contains("Pay in"));

    // The same token pays in once.
    let request = json!({"amount": "2000.50", "currency": "USD", "reference": "transfer 1", "client_token": "t-1"});
    let paid = shop.host.post(payments, request.clone()).await;
    assert_eq!(paid.status, 201, "{paid:?}");
    let paid = paid.json();
    assert_eq!(paid["kind"], "deposit");
    assert_eq!(paid["amount"], "2000.50");
    assert_eq!(paid["reference"], "transfer 1");
    assert_eq!(shop.done("POST", payments, request).await, paid);
    let listed = shop.host.get(payments).await.json();
    assert_eq!(listed, json!({"items": [paid]}));
    let listed = shop.host.get("/v1/accounts").await.json();
    assert_eq!(
        listed["items"],
        json!([{
            "id": "default", "pay_by": "balance", "balances": [{"amount": "2000.50", "currency": "USD"}], "arrears": [],
        }])
    );

    let instance = shop.bought(subscribed(None)).await;
    let price = shop.subscription(&instance).await["purchases"][0]["amount"].clone();
    let left = shop.host.get("/v1/accounts").await.json()["items"][0]["balances"][0].clone();
    let number = |amount: &Value| amount.as_str().unwrap().parse::<f64>().unwrap();
    let sum = number(&left["amount"]) + number(&price);
    assert!((sum - 2000.5).abs() < 1e-9, "{left} is left after {price}");

    // Two cost more than is left: neither is sold.
    let mut two = shop.wanted(subscribed(None));
    two["count"] = json!(2);
    shop.done("POST", payments, json!({"amount": "-500"})).await;
    let refused = shop.host.post("/v1/instances", two).await;
    refused.is_problem(403, "InvalidAccountStatus.NotEnoughBalance");
    let sold = shop.host.get("/v1/subscriptions").await.json();
    assert_eq!(sold["items"].as_array().unwrap().len(), 1, "{sold}");
    shop.done("POST", payments, json!({"amount": "500"})).await;

    // Paid out again, and more than there is: it owes.
    let all = json!({"amount": format!("-{}", left["amount"].as_str().unwrap())});
    shop.done("POST", payments, all).await;
    shop.done("POST", payments, json!({"amount": "-5"})).await;
    let owing = shop.host.get("/v1/accounts").await.json()["items"][0].clone();
    let arrears = &owing["arrears"][0];
    assert_eq!(arrears["currency"], "USD");
    assert!((number(&arrears["owed"]) - 5.0).abs() < 1e-9, "{owing}");
    assert_eq!(arrears["next_action"], "retry");
    assert!(arrears["next_at"].is_string());
    let refused = shop.buy(json!({"type": "pay_as_you_go"})).await;
    refused.is_problem(403, "Account.Arrearage");
    shop.is_sound().await;
}

#[tokio::test]
async fn preemptible_instances_bid_at_least_the_market() {
    let shop = Shop::open().await;
    let path = format!("/v1/spot-prices/{SMALL}");
    let none = shop.host.get(&path).await;
    none.is_problem(404, "InvalidInstanceType.NotFound");
    for price in ["0.10", "0.20"] {
        let set = shop.done("PUT", &path, json!({"price": price})).await;
        assert_eq!(set["price"], price);
    }
    let shown = shop.host.get(&path).await.json();
    assert_eq!(shown["instance_type"], SMALL);
    assert_eq!(shown["history"][0]["price"], "0.10");
    assert_eq!(shown["history"][1]["from"], shown["since"]);
    let listed = shop.host.get("/v1/spot-prices").await.json();
    assert_eq!(
        listed,
        json!({"items": [{
            "instance_type": SMALL, "price": "0.20", "currency": "USD", "since": shown["since"],
        }]})
    );

    let quote = json!({"instance_type": SMALL, "charge": {"type": "preemptible"}});
    let quote = shop.done("POST", "/v1/quotes", quote).await;
    assert_eq!(quote["market_price"], "0.20");
    assert_eq!(quote["total"], "0.200000");
    let low = json!({"type": "preemptible", "price_limit": "0.19"});
    let problem = shop
        .buy(low)
        .await
        .is_problem(400, "InvalidSpotPriceLimit.LowerThanPublicPrice");
    assert_eq!(problem["field"], "charge.price_limit");
    let enough = json!({"type": "preemptible", "price_limit": "0.20"});
    let charge = shop.bought(enough).await["charge"].clone();
    assert_eq!(charge["type"], "preemptible");
    assert_eq!(charge["price_limit"], "0.20");
    assert_eq!(charge["entry_price"], "0.200000");
    assert_eq!(charge["currency"], "USD");
    assert!(charge["protected_until"].is_string());
    assert!(charge.get("notice").is_none(), "{charge}");
    let any = shop.bought(json!({"type": "preemptible"})).await;
    assert!(any["charge"].get("price_limit").is_none(), "{any}");
}

#[tokio::test]
async fn who_bids_less_than_the_market_is_told() {
    let shop = Shop::open().await;
    let bid = json!({"type": "preemptible", "price_limit": "1"});
    let instance = shop.bought(bid).await;
    shop.host.clock.ahead(2 * HOUR);
    let path = format!("/v1/spot-prices/{SMALL}");
    shop.done("PUT", &path, json!({"price": "1.5"})).await;
    let id = instance["id"].as_str().unwrap();
    let told = shop.host.get(&format!("/v1/instances/{id}")).await.json();
    let notice = &told["charge"]["notice"];
    assert_eq!(notice["reason"], "price_above_limit");
    assert_eq!(notice["price"], "1.5");
    assert!(notice["reclaim_at"].as_str() > notice["given_at"].as_str());
    shop.is_sound().await;
}

#[tokio::test]
async fn who_owes_is_stopped_and_runs_again_once_all_is_paid() {
    let shop = Shop::open().await;
    let payments = "/v1/accounts/default/payments";
    let by_balance = json!({"pay_by": "balance"});
    shop.done("PUT", "/v1/accounts/default", by_balance).await;
    shop.done("POST", payments, json!({"amount": "5"})).await;
    let mut wanted = shop.wanted(json!({"type": "pay_as_you_go"}));
    wanted["start"] = json!(true);
    let made = shop.done("POST", "/v1/instances", wanted).await;
    let instance = &made["instances"][0];
    assert_eq!(instance["charge"], json!({"type": "pay_as_you_go"}));
    let id = instance["id"].as_str().unwrap();
    shop.host.reaches(id, "Running").await;
    shop.done("POST", payments, json!({"amount": "-6"})).await;
    shop.host.clock.ahead(16 * 24 * HOUR);
    shop.done("POST", payments, json!({"amount": "0.01"})).await;
    let stopped = shop.host.reaches(id, "Stopped").await;
    assert_eq!(stopped["lock"], json!({"reason": "arrears"}));
    let account = shop.host.get("/v1/accounts").await.json()["items"][0].clone();
    let arrears = &account["arrears"][0];
    assert!(arrears["stopped_at"].is_string(), "{account}");
    assert_eq!(arrears["next_action"], "release");
    shop.is_sound().await;
    shop.done("POST", payments, json!({"amount": "1000"})).await;
    let runs = shop.host.reaches(id, "Running").await;
    assert!(runs.get("lock").is_none(), "{runs}");
    shop.is_sound().await;
}
