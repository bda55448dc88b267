//! Policies, and who of them decides.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::host::Host;

fn module(text: &str) -> String {
    STANDARD.encode(text)
}

async fn install(host: &Host, name: &str, text: &str) -> Value {
    let body = json!({"name": name, "component": module(text)});
    let answer = host.post("/v1/plugins", body).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

#[tokio::test]
async fn a_policy_is_installed_activated_and_rolled_back() {
    let host = Host::start().await;
    let built_in = host.get("/v1/plugins").await.json();
    assert_eq!(built_in["items"][0]["roles"], json!(["active"]));
    let looked_at = host
        .post(
            "/v1/plugins/inspect",
            json!({"component": module("bin-pack")}),
        )
        .await
        .json();
    assert_eq!(looked_at["kind"], "scheduler");
    let installed = install(&host, "pack", "bin-pack").await;
    assert_eq!(
        (&installed["name"], &installed["roles"]),
        (&json!("pack@1"), &json!([]))
    );
    assert_eq!(installed["module_sha256"], looked_at["module_sha256"]);
    assert_eq!(install(&host, "pack", "spread").await["name"], "pack@2");
    let active = host.post("/v1/plugins/pack@1/activate", json!({})).await;
    assert_eq!(active.json()["roles"], json!(["active"]));
    let canary = json!({"canary_percent": 20});
    let canary = host.post("/v1/plugins/pack/activate", canary).await.json();
    assert_eq!(canary["name"], "pack@2", "the latest, where none is named");
    assert_eq!(canary["canary_percent"], 20);
    let all = host.get("/v1/plugins").await.json();
    let roles: Vec<(&str, &Value)> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["name"].as_str().unwrap(), &item["roles"]))
        .collect();
    let name = built_in["items"][0]["name"].as_str().unwrap();
    assert_eq!(
        roles,
        [
            (name, &json!([])),
            ("pack@1", &json!(["active"])),
            ("pack@2", &json!(["canary"]))
        ]
    );
    host.delete("/v1/plugins/pack@1")
        .await
        .is_problem(403, "IncorrectPolicyStatus");
    let back = json!({"kind": "scheduler"});
    let back = host.post("/v1/plugins/rollback", back).await.json();
    assert_eq!(back["name"], name);
    assert_eq!(host.delete("/v1/plugins/pack@1").await.status, 204);
    host.get("/v1/plugins/pack@1")
        .await
        .is_problem(404, "InvalidPolicy.NotFound");
    let retired = host.post("/v1/plugins/pack/retire", json!({})).await;
    assert_eq!(retired.json()["roles"], json!([]));
}

#[tokio::test]
async fn a_policy_is_asked_about_the_past_and_beside_the_active_one() {
    let host = Host::start().await;
    let image = host.image().await;
    install(&host, "pack", "bin-pack").await;
    let shadow = host.post("/v1/plugins/pack/shadow", json!({})).await;
    assert_eq!(shadow.json()["roles"], json!(["shadow"]));
    let request = json!({"image_id": image, "vcpus": 1, "memory_mib": 64});
    let created = host.post("/v1/instances", request).await.json();
    let decision = created["instances"][0]["decision_id"].as_str().unwrap();
    let replayed = host.post("/v1/plugins/pack/replay", json!({})).await.json();
    assert_eq!(
        (
            &replayed["plugin"],
            &replayed["compared"],
            &replayed["same"]
        ),
        (&json!("pack@1"), &json!(1), &json!(1))
    );
    let compared = async {
        loop {
            let report = host.get("/v1/plugins/pack/shadow").await.json();
            if report["compared"] == 1 {
                return report;
            }
            tokio::task::yield_now().await;
        }
    };
    let report = tokio::time::timeout(std::time::Duration::from_secs(20), compared)
        .await
        .expect("the shadow is asked");
    assert_eq!(report["differences"], json!([]));
    let path = format!("/v1/decisions/{decision}/rerun");
    let rerun = host.post(&path, json!({})).await.json();
    assert_eq!(rerun["same"], true);
    assert_eq!(rerun["kept_sha256"], rerun["rerun_sha256"]);
    host.post("/v1/plugins/pack/replay", json!({"from": "yesterday"}))
        .await
        .is_problem(400, "InvalidParameter");
}

#[tokio::test]
async fn what_is_no_policy_is_refused_by_name() {
    let host = Host::start().await;
    for (body, field) in [
        (
            json!({"name": "pack", "component": "?"}),
            json!("component"),
        ),
        (
            json!({"name": "Pack", "component": module("spread")}),
            json!("name"),
        ),
        (
            json!({"name": "pack", "component": module("nonsense")}),
            Value::Null,
        ),
    ] {
        let answer = host.post("/v1/plugins", body.clone()).await;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.json()["field"], field, "{body}: {}", answer.json());
    }
    let tried = json!({"name": "pack", "component": module("spread"), "dry_run": true});
    host.post("/v1/plugins", tried)
        .await
        .is_problem(400, "DryRunOperation");
    for name in ["pack", "pack@1", "pack@0", "p@ck"] {
        host.post(&format!("/v1/plugins/{name}/activate"), json!({}))
            .await
            .is_problem(404, "InvalidPolicy.NotFound");
    }
}
