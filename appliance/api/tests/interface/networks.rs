//! VPCs, vswitches and security groups.

use serde_json::{Value, json};

use crate::host::Host;

fn path(collection: &str, item: &Value) -> String {
    format!("/v1/{collection}/{}", item["id"].as_str().unwrap())
}

#[tokio::test]
async fn networks_come_and_go() {
    let host = Host::start().await;
    let vpc = host
        .post("/v1/vpcs", json!({"cidr": "10.1.0.0/16", "name": "prod"}))
        .await;
    assert_eq!(vpc.status, 201, "{vpc:?}");
    let vpc = vpc.json();
    let vswitch = host
        .post(
            "/v1/vswitches",
            json!({"vpc_id": vpc["id"], "cidr": "10.1.2.0/24"}),
        )
        .await;
    assert_eq!(vswitch.status, 201, "{vswitch:?}");
    let vswitch = vswitch.json();
    assert_eq!(vswitch["vpc_id"], vpc["id"]);
    assert!(vswitch["available_ip_count"].as_u64().unwrap() > 200);
    assert_eq!(host.get(&path("vpcs", &vpc)).await.json(), vpc);
    let of_vpc = format!("/v1/vswitches?vpc_id={}", vpc["id"].as_str().unwrap());
    assert_eq!(host.get(&of_vpc).await.json()["items"], json!([vswitch]));
    for (collection, body, field) in [
        ("vpcs", json!({"cidr": "ten"}), "cidr"),
        ("vpcs", json!({"cidr": "8.8.0.0/16"}), "cidr"),
        (
            "vswitches",
            json!({"vpc_id": "x", "cidr": "10.1.3.0/24"}),
            "vpc_id",
        ),
        (
            "vswitches",
            json!({"vpc_id": vpc["id"], "cidr": "10.9.3.0/24"}),
            "cidr",
        ),
    ] {
        let answer = host.post(&format!("/v1/{collection}"), body.clone()).await;
        assert!(answer.status.is_client_error(), "{body}: {answer:?}");
        assert_eq!(answer.json()["field"], field, "{body}: {}", answer.json());
    }
    assert!(
        host.delete(&path("vpcs", &vpc))
            .await
            .status
            .is_client_error(),
        "it has a vswitch"
    );
    assert_eq!(host.delete(&path("vswitches", &vswitch)).await.status, 204);
    assert_eq!(host.delete(&path("vpcs", &vpc)).await.status, 204);
    host.get(&path("vswitches", &vswitch))
        .await
        .is_problem(404, "InvalidVSwitchId.NotFound");
}

#[tokio::test]
async fn rules_are_authorized_once_and_revoked() {
    let host = Host::start().await;
    let vpc = host
        .post("/v1/vpcs", json!({"cidr": "10.1.0.0/16"}))
        .await
        .json();
    let group = host
        .post(
            "/v1/security-groups",
            json!({"vpc_id": vpc["id"], "name": "web", "inner_access_policy": "Drop"}),
        )
        .await;
    assert_eq!(group.status, 201, "{group:?}");
    let group = group.json();
    assert_eq!(group["inner_access_policy"], "Drop");
    assert_eq!(group["rules"], json!([]));
    let path = path("security-groups", &group);
    let ssh = json!({"direction": "ingress", "protocol": "tcp", "port_range": "22/22", "peer_cidr": "10.0.0.0/8"});
    let members = json!({"direction": "ingress", "protocol": "all", "policy": "drop", "priority": 9, "peer_group_id": group["id"]});
    let rules = json!({"rules": [ssh, members]});
    let changed = host.post(&format!("{path}/authorize"), rules.clone()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    let changed = changed.json();
    assert_eq!(changed["rules"].as_array().unwrap().len(), 2);
    let kept = &changed["rules"][0];
    assert_eq!(
        (
            &kept["policy"],
            &kept["priority"],
            &kept["port_range"],
            &kept["peer_cidr"]
        ),
        (
            &json!("accept"),
            &json!(1),
            &json!("22/22"),
            &json!("10.0.0.0/8")
        )
    );
    assert_eq!(changed["rules"][1]["peer_group_id"], group["id"]);
    assert_eq!(changed["rules"][1]["port_range"], "-1/-1");
    for action in ["authorize", "revoke"] {
        host.post(&format!("{path}/{action}"), json!({"rules": []}))
            .await
            .is_problem(400, "MissingParameter");
    }
    // Again: nothing changes.
    assert_eq!(
        host.post(&format!("{path}/authorize"), rules).await.json(),
        changed
    );
    let revoked = host
        .post(&format!("{path}/revoke"), json!({"rules": [ssh]}))
        .await
        .json();
    assert_eq!(revoked["rules"].as_array().unwrap().len(), 1);
    let by_id = json!({"rule_ids": [revoked["rules"][0]["id"]]});
    assert_eq!(
        host.post(&format!("{path}/revoke"), by_id).await.json()["rules"],
        json!([])
    );
    for (change, field) in [
        (json!({"peer_cidr": null}), "rules[0].peer_cidr"),
        (json!({"peer_group_id": group["id"]}), "rules[0].peer_cidr"),
        (json!({"peer_cidr": "10.0.0.0/40"}), "rules[0].peer_cidr"),
        (json!({"port_range": "22"}), "rules[0].port_range"),
        (json!({"port_range": "1/70000"}), "rules[0].port_range"),
        (json!({"protocol": "ssh"}), "rules[0].protocol"),
        (json!({"direction": "up"}), "rules[0].direction"),
        (json!({"priority": 300}), "rules[0].priority"),
        (json!({"colour": "red"}), "rules[0].colour"),
    ] {
        let mut rule = ssh.clone();
        rule.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let answer = host
            .post(&format!("{path}/authorize"), json!({"rules": [rule]}))
            .await;
        assert_eq!(answer.status, 400, "{change}: {answer:?}");
        assert_eq!(answer.json()["field"], field, "{change}: {}", answer.json());
    }
    assert_eq!(host.delete(&path).await.status, 204);
}
