//! Where instances may be: zones, deployment sets, and with or apart from others.

use serde_json::{Value, json};

use crate::host::Host;

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

/// A request for one small instance, with more.
fn small(image: &str, more: Value) -> Value {
    let mut request = json!({"image_id": image, "vcpus": 1, "memory_mib": 16});
    let more = more.as_object().unwrap().clone();
    request.as_object_mut().unwrap().extend(more);
    request
}

#[tokio::test]
async fn deployment_sets_come_and_go() {
    let host = Host::start().await;
    let image = host.image().await;
    let body = json!({"name": "quorum", "client_token": "T"});
    let made = host.post("/v1/deployment-sets", body.clone()).await;
    assert_eq!(made.status, 201, "{made:?}");
    let set = made.json();
    assert_eq!(
        (&set["name"], &set["strategy"], &set["instance_ids"]),
        (&json!("quorum"), &json!("Availability"), &json!([]))
    );
    assert_eq!(host.post("/v1/deployment-sets", body).await.json(), set);
    host.post("/v1/deployment-sets", json!({"dry_run": true}))
        .await
        .is_problem(400, "DryRunOperation");
    let wrong = host.post("/v1/deployment-sets", json!({"strategy": "Near"}));
    assert_eq!(wrong.await.json()["field"], "strategy");
    let near = host
        .post("/v1/deployment-sets", json!({"strategy": "LowLatency"}))
        .await
        .json();
    assert_eq!(near["strategy"], "LowLatency");

    let path = format!("/v1/deployment-sets/{}", text(&set["id"]));
    let change = json!({"name": "trio", "description": "three"});
    let set = host.json("PATCH", &path, change).await.json();
    assert_eq!(
        (&set["name"], &set["description"]),
        (&json!("trio"), &json!("three"))
    );
    assert_eq!(host.get(&path).await.json(), set);
    let first = host.get("/v1/deployment-sets?limit=1").await.json();
    assert_eq!(first["items"], json!([set]));
    let rest = format!(
        "/v1/deployment-sets?next_token={}",
        text(&first["next_token"])
    );
    assert_eq!(host.get(&rest).await.json()["items"], json!([near]));

    let request = small(&image, json!({"deployment_set_id": set["id"]}));
    let made = host.post("/v1/instances", request.clone()).await.json();
    let member = &made["instances"][0];
    assert_eq!(member["deployment_set_id"], set["id"]);
    assert_eq!(
        host.get(&path).await.json()["instance_ids"],
        json!([member["id"]])
    );
    let of_set = format!("/v1/instances?deployment_set_id={}", text(&set["id"]));
    let of_set = host.get(&of_set).await.json();
    assert_eq!(of_set["items"].as_array().unwrap().len(), 1);
    let refused = host.post("/v1/instances", request).await;
    let problem = refused.is_problem(403, "OperationDenied.NoStock");
    assert!(
        text(&problem["detail"]).contains("constraint `deployment-set`"),
        "{problem}"
    );
    assert!(
        text(&problem["next_step"]).contains("member of the deployment set"),
        "{problem}"
    );
    host.delete(&path)
        .await
        .is_problem(403, "DependencyViolation.NotEmpty");
    let near = format!("/v1/deployment-sets/{}", text(&near["id"]));
    assert_eq!(host.delete(&near).await.status, 204);
    host.get(&near)
        .await
        .is_problem(404, "InvalidDeploymentSetId.NotFound");
    host.get("/v1/deployment-sets/nonsense")
        .await
        .is_problem(404, "InvalidDeploymentSetId.NotFound");
}

#[tokio::test]
async fn instances_are_run_where_others_are_or_are_not() {
    let host = Host::start().await;
    let image = host.image().await;
    let first = host.running(&image).await;
    let request = small(&image, json!({"affinity": {"with": [first]}}));
    let made = host.post("/v1/instances", request).await.json();
    let near = &made["instances"][0];
    assert_eq!(near["affinity"], json!({"with": [first]}));
    let zone = host.get("/v1/host").await.json()["zone"].clone();
    let request = small(&image, json!({"zone": zone}));
    let made = host.post("/v1/instances", request).await.json();
    assert!(made["instances"][0].get("affinity").is_none(), "{made}");

    let request = small(&image, json!({"affinity": {"apart_from": [first]}}));
    let refused = host.post("/v1/instances", request).await;
    let problem = refused.is_problem(403, "OperationDenied.NoStock");
    assert!(
        text(&problem["detail"]).contains("constraint `affinity`"),
        "{problem}"
    );
    let none = "i-zzzzzzzzzzzzzzzzz";
    for (more, status, code, field) in [
        (
            json!({"zone": "elsewhere"}),
            404,
            "InvalidZoneId.NotFound",
            "zone",
        ),
        (
            json!({"deployment_set_id": "ds-zzzzzzzzzzzzzzzzz"}),
            404,
            "InvalidDeploymentSetId.NotFound",
            "deployment_set_id",
        ),
        (
            json!({"deployment_set_id": "ds"}),
            400,
            "InvalidDeploymentSetId.Malformed",
            "deployment_set_id",
        ),
        (
            json!({"affinity": {"with": [first, none]}}),
            404,
            "InvalidInstanceId.NotFound",
            "affinity.with[1]",
        ),
        (
            json!({"affinity": {"apart_from": ["x"]}}),
            400,
            "InvalidInstanceId.Malformed",
            "affinity.apart_from[0]",
        ),
        (
            json!({"affinity": {"with": [first], "apart_from": [first]}}),
            400,
            "InvalidParameter",
            "affinity.apart_from[0]",
        ),
    ] {
        let answer = host.post("/v1/instances", small(&image, more)).await;
        assert_eq!(answer.is_problem(status, code)["field"], field);
    }
}
