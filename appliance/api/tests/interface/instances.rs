//! Instances, and what comes with them: disks, decisions, charges.

use std::time::Duration;

use serde_json::{Value, json};

use crate::host::Host;

fn id(instance: &Value) -> &str {
    instance["id"].as_str().unwrap()
}

#[tokio::test]
async fn an_instance_lives() {
    let host = Host::start().await;
    let image = host.image().await;
    let request = json!({
        "image_id": image, "vcpus": 2, "memory_mib": 128, "name": "web", "cmdline": "quiet",
        "data_disks": [{"size_gib": 1}], "tags": {"role": "web"},
    });
    let created = host.post("/v1/instances", request).await;
    assert_eq!(created.status, 201, "{created:?}");
    let created = created.json();
    let instance = &created["instances"][0];
    let path = format!("/v1/instances/{}", id(instance));
    let running = host.reaches(id(instance), "Running").await;
    assert_eq!(running["vcpus"], 2);
    assert_eq!(running["memory_mib"], 128);
    assert_eq!(running["name"], "web");
    assert_eq!(running["cmdline"], "quiet");
    assert_eq!(running["tags"], json!({"role": "web"}));
    assert_eq!(running["vmm_pid"], 4242);
    assert_eq!(running["disks"][0]["role"], "data");
    assert_eq!(running["disks"][0]["device"], "vda");
    assert!(running["network_interfaces"][0]["private_ip"].is_string());
    assert!(
        running["network_interfaces"][0]["mac"]
            .as_str()
            .unwrap()
            .contains(':')
    );
    assert!(running.get("state_reason").is_none());

    let decision = host
        .get(&format!(
            "/v1/decisions/{}",
            running["decision_id"].as_str().unwrap()
        ))
        .await
        .json();
    assert_eq!(decision["instance_id"], running["id"]);
    assert_eq!(decision["hosts"][0]["outcome"], "chosen");
    assert_eq!(decision["host_id"], running["host_id"]);

    let renamed = host
        .json(
            "PATCH",
            &path,
            json!({"name": "shop", "deletion_protection": true}),
        )
        .await
        .json();
    assert_eq!(renamed["name"], "shop");
    assert!(
        host.delete(&format!("{path}?force=true"))
            .await
            .status
            .is_client_error()
    );
    host.json("PATCH", &path, json!({"deletion_protection": false}))
        .await;

    // It runs: starting it again makes no sense, and neither does deleting it.
    host.post(&format!("{path}/start"), json!({}))
        .await
        .is_problem(403, "IncorrectInstanceStatus");
    host.delete(&path)
        .await
        .is_problem(403, "IncorrectInstanceStatus");
    // The body may be left out.
    let stopping = host.bytes("POST", &format!("{path}/stop"), "").await;
    assert_eq!(stopping.status, 202, "{stopping:?}");
    let stopped = host.reaches(id(instance), "Stopped").await;
    assert!(stopped["state_reason"]["message"].is_string());
    assert!(stopped.get("vmm_pid").is_none());
    assert_eq!(
        host.bytes("POST", &format!("{path}/start"), "")
            .await
            .status,
        202
    );
    host.reaches(id(instance), "Running").await;
    host.post(&format!("{path}/stop"), json!({"force": true}))
        .await;
    host.reaches(id(instance), "Stopped").await;
    assert_eq!(host.delete(&path).await.status, 204);
    let gone = async {
        while host.get(&path).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .expect("it goes");
}

#[tokio::test]
async fn the_first_output_is_timed() {
    let host = Host::start().await;
    let image = host.image().await;
    let id = host.running(&image).await;
    let timed = async {
        loop {
            let instance = host.get(&format!("/v1/instances/{id}")).await.json();
            if let Some(ms) = instance["api_to_first_guest_output_ms"].as_f64() {
                return (instance, ms);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let (instance, ms) = tokio::time::timeout(Duration::from_secs(10), timed)
        .await
        .expect("it is timed");
    assert!(ms > 0.0, "{ms}");
    assert!(instance["last_start"]["accepted_ms"].as_f64().unwrap() > 0.0);
}

#[tokio::test]
async fn lists_are_filtered_and_paged_in_order() {
    let host = Host::start().await;
    let image = host.image().await;
    let many = json!({"image_id": image, "vcpus": 1, "memory_mib": 16, "count": 7, "start": false, "name": "many"});
    let created = host.post("/v1/instances", many).await.json();
    let mut ids: Vec<String> = created["instances"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| id(i).to_owned())
        .collect();
    let one = json!({"image_id": image, "vcpus": 1, "memory_mib": 16, "start": false, "tags": {"a": "b", "c": "d"}});
    let one = host.post("/v1/instances", one).await.json()["instances"][0].clone();
    let mut seen = Vec::new();
    let mut path = "/v1/instances?name=many&limit=3".to_owned();
    for expected in [3, 3, 1] {
        let page = host.get(&path).await.json();
        let items = page["items"].as_array().unwrap();
        assert_eq!(items.len(), expected);
        seen.extend(items.iter().map(|i| id(i).to_owned()));
        match page["next_token"].as_str() {
            Some(token) => path = format!("/v1/instances?name=many&limit=3&next_token={token}"),
            None => assert_eq!(expected, 1),
        }
    }
    let in_order = seen.clone();
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    let all = host.get("/v1/instances?name=many").await.json();
    let all: Vec<&str> = all["items"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(all, in_order);
    for (query, count) in [
        ("", 8),
        ("state=Stopped", 8),
        ("state=Running", 0),
        ("state=Running,Stopped", 8),
        ("tags=a%3Db", 1),
        ("tags=a%3Db,c%3Dd", 1),
        ("tags=a%3Dx", 0),
        ("name=none", 0),
    ] {
        let page = host.get(&format!("/v1/instances?{query}")).await.json();
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{query}");
    }
    let by_ids = host
        .get(&format!("/v1/instances?ids={},{}", id(&one), ids[0]))
        .await
        .json();
    assert_eq!(by_ids["items"].as_array().unwrap().len(), 2);
    let by_image = host
        .get(&format!("/v1/instances?image_id={image}"))
        .await
        .json();
    assert_eq!(by_image["items"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn a_token_makes_a_request_repeatable_and_a_dry_run_changes_nothing() {
    let host = Host::start().await;
    let image = host.image().await;
    let request = json!({"image_id": image, "vcpus": 1, "memory_mib": 16, "start": false, "client_token": "once"});
    let first = host.post("/v1/instances", request.clone()).await.json();
    let second = host.post("/v1/instances", request.clone()).await.json();
    assert_eq!(first["instances"][0]["id"], second["instances"][0]["id"]);
    let mut other = request;
    other["vcpus"] = json!(2);
    let answer = host.post("/v1/instances", other).await;
    assert!(answer.status.is_client_error());
    assert_eq!(answer.json()["code"], "IdempotentParameterMismatch");
    let dry = json!({"image_id": image, "vcpus": 1, "memory_mib": 16, "dry_run": true});
    host.post("/v1/instances", dry)
        .await
        .is_problem(400, "DryRunOperation");
    let dry_and_wrong =
        json!({"image_id": image, "vcpus": 1000, "memory_mib": 16, "dry_run": true});
    let answer = host.post("/v1/instances", dry_and_wrong).await;
    assert!(answer.status.is_client_error());
    assert_ne!(answer.json()["code"], "DryRunOperation");
    assert_eq!(
        host.get("/v1/instances").await.json()["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn bad_requests_name_the_field() {
    let host = Host::start().await;
    let image = host.image().await;
    for (change, field) in [
        (json!({"vcpus": 0}), "vcpus"),
        (json!({"vcpus": 1000}), "vcpus"),
        (json!({"memory_mib": 0}), "memory_mib"),
        (json!({"count": 0}), "count"),
        (json!({"count": 101}), "count"),
        (json!({"private_ip": "10.0.0"}), "private_ip"),
        (json!({"vswitch_id": "vpc-1"}), "vswitch_id"),
        (
            json!({"security_group_ids": ["sg-1"]}),
            "security_group_ids[0]",
        ),
        (
            json!({"data_disks": [{"size_gib": 1}, {}]}),
            "data_disks[1].size_gib",
        ),
        (
            json!({"data_disks": [{"disk_id": "d-1"}]}),
            "data_disks[0].disk_id",
        ),
        (
            json!({"data_disks": [{"size_gib": 0}]}),
            "data_disks[0].size_gib",
        ),
        (json!({"client_token": "x".repeat(65)}), "client_token"),
    ] {
        let mut request = json!({"image_id": image, "vcpus": 1, "memory_mib": 16});
        request
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let answer = host.post("/v1/instances", request).await;
        assert!(answer.status.is_client_error(), "{change}: {answer:?}");
        assert_eq!(answer.json()["field"], field, "{change}: {}", answer.json());
    }
    assert_eq!(host.get("/v1/instances").await.json()["items"], json!([]));
}

#[tokio::test]
async fn disks_come_and_go() {
    let host = Host::start().await;
    let disk = host
        .post("/v1/disks", json!({"size_gib": 2, "name": "scratch"}))
        .await;
    assert_eq!(disk.status, 201, "{disk:?}");
    let path = format!("/v1/disks/{}", id(&disk.json()));
    let ready = async {
        loop {
            let disk = host.get(&path).await.json();
            if disk["state"] == "Available" {
                return disk;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let disk = tokio::time::timeout(Duration::from_secs(10), ready)
        .await
        .expect("it is made");
    assert_eq!(
        (disk["size_gib"].as_u64(), disk["size_bytes"].as_u64()),
        (Some(2), Some(2 << 30))
    );
    assert_eq!(host.get("/v1/disks").await.json()["items"], json!([disk]));
    assert_eq!(host.delete(&path).await.status, 204);
    let problem = host.post("/v1/disks", json!({"size_gib": 40000})).await;
    assert_eq!(problem.json()["field"], "size_gib", "{problem:?}");
}

#[tokio::test]
async fn use_is_charged_and_the_totals_add_up() {
    let host = Host::start().await;
    let image = host.image().await;
    let id = host.running(&image).await;
    let path = format!("/v1/usage?instance_id={id}");
    let charged = async {
        loop {
            let usage = host.get(&path).await.json();
            if usage["charges"]
                .as_array()
                .is_some_and(|charges| charges.len() >= 2)
            {
                return usage;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let usage = tokio::time::timeout(Duration::from_secs(20), charged)
        .await
        .expect("it is charged");
    let charge = &usage["charges"][0];
    assert_eq!(charge["instance_id"], *id);
    assert_eq!(charge["currency"], "USD");
    assert_eq!(charge["meter"], "instance-running");
    assert!(charge["amount"].as_str().unwrap().parse::<f64>().unwrap() > 0.0);
    assert!(
        charge.get("module_sha256").is_none(),
        "the built-in policy has no module"
    );
    let first_page = host.get(&format!("{path}&limit=1")).await.json();
    assert_eq!(first_page["charges"].as_array().unwrap().len(), 1);
    assert!(first_page["next_token"].is_string());
    assert!(first_page["totals"][0]["seconds"].as_u64() >= Some(2));
    host.get("/v1/usage?from=yesterday")
        .await
        .is_problem(400, "InvalidParameter");
}

#[tokio::test]
async fn a_burstable_instance_shows_its_credits_and_others_none() {
    let host = Host::start().await;
    let image = host.image().await;
    for (instance_type, credits) in [
        (
            "ecs.t6-c1m1.large",
            json!({"balance": 60.0, "max": 576.0, "per_hour": 24.0, "baseline_percent": 20, "throttled": false}),
        ),
        ("ecs.c6.large", Value::Null),
    ] {
        let request = json!({"image_id": image, "instance_type": instance_type});
        let created = host.post("/v1/instances", request).await.json();
        let running = host.reaches(id(&created["instances"][0]), "Running").await;
        assert_eq!(running["cpu_credits"], credits, "{instance_type}");
        assert_eq!(running["cpus"], Value::Null);
    }
}

#[tokio::test]
async fn the_host_and_its_policies_show() {
    let host = Host::start().await;
    let shown = host.get("/v1/host").await.json();
    assert_eq!(
        (
            shown["vcpus_total"].as_u64(),
            shown["memory_total_mib"].as_u64()
        ),
        (Some(64), Some(65536))
    );
    assert_eq!(shown["cpu_control"], "none");
    assert_eq!(shown["cpu_control_missing"], "tests have no control groups");
    let plugins = host.get("/v1/plugins").await.json();
    assert_eq!(plugins["items"][0]["kind"], "scheduler");
    let health = host.get("/v1/health").await;
    assert_eq!(
        (health.status.as_u16(), &health.json()["ok"]),
        (200, &json!(true))
    );
}
