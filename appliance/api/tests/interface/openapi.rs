//! The interface's description.

use std::collections::HashSet;

use http_body_util::Full;
use serde_json::Value;

use crate::host::{Host, request};

const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];

fn document() -> Value {
    serde_json::to_value(api::openapi_document()).unwrap()
}

/// Every object in the document that holds `key`.
fn find<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| {
            if name == key {
                found.push(value);
            }
            find(value, key, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| find(item, key, found)),
        _ => {}
    }
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    let all = paths.iter().flat_map(|(path, item)| {
        METHODS.iter().filter_map(move |method| {
            let operation = item.get(method)?.clone();
            Some((path.clone(), (*method).to_owned(), operation))
        })
    });
    all.collect()
}

#[test]
fn the_description_is_sound() {
    let document = document();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    assert!(!document["info"]["title"].as_str().unwrap().is_empty());
    let mut references = Vec::new();
    find(&document, "$ref", &mut references);
    assert!(references.len() > 50);
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
    let mut ids = HashSet::new();
    let tags: HashSet<&Value> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| &tag["name"])
        .collect();
    for (path, method, operation) in operations(&document) {
        let at = format!("{method} {path}");
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{at}: its id is taken"
        );
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{at}"
        );
        assert!(
            operation["tags"]
                .as_array()
                .unwrap()
                .iter()
                .all(|tag| tags.contains(tag)),
            "{at}"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|status| status.starts_with('2')),
            "{at}"
        );
        assert!(
            responses["default"]["content"]
                .get("application/problem+json")
                .is_some(),
            "{at}"
        );
        let declared: Vec<&str> = operation["parameters"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| {
                assert_eq!(parameter["required"], true, "{at}");
                parameter["name"].as_str().unwrap()
            })
            .collect();
        let in_path: Vec<&str> = path
            .split('/')
            .filter_map(|s| s.strip_prefix('{')?.strip_suffix('}'))
            .collect();
        assert_eq!(declared, in_path, "{at}");
        let body = operation.get("requestBody");
        assert!(
            method != "put" || body.is_some(),
            "{at} says nothing of its body"
        );
    }
    assert!(
        document["components"]["securitySchemes"]
            .get("token")
            .is_some()
    );
    assert_eq!(
        document["paths"]["/v1/health"]["get"]["security"],
        serde_json::json!([{}])
    );
}

#[tokio::test]
async fn every_route_is_described_and_every_description_is_a_route() {
    let host = Host::start().await;
    let served = host.get("/v1/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    let document = served.json();
    assert_eq!(document, self::document());
    for (path, described) in document["paths"].as_object().unwrap() {
        let path = ["{id}", "{month}", "{name}", "{instance_type}"]
            .iter()
            .fold(path.clone(), |path, name| path.replace(name, "nonsense"));
        for method in METHODS {
            let request = request(&method.to_uppercase(), &path)
                .body(Full::default())
                .unwrap();
            // Only the head: some answers are streams.
            let status = host.open(request).await.status();
            assert_eq!(
                described.get(method).is_some(),
                status != 405,
                "{method} {path} answers {status}"
            );
        }
    }
    for path in [
        "/v1/instances",
        "/v1/instances/{id}",
        "/v1/instances/{id}/start",
        "/v1/instances/{id}/stop",
        "/v1/instances/{id}/reboot",
        "/v1/instances/{id}/console",
        "/v1/disks",
        "/v1/disks/{id}",
        "/v1/images",
        "/v1/images/{id}",
        "/v1/images/{id}/kernel",
        "/v1/images/{id}/initrd",
        "/v1/images/{id}/disk",
        "/v1/images/{id}/complete",
        "/v1/security-groups",
        "/v1/security-groups/{id}",
        "/v1/security-groups/{id}/authorize",
        "/v1/security-groups/{id}/revoke",
        "/v1/vpcs",
        "/v1/vpcs/{id}",
        "/v1/vswitches",
        "/v1/vswitches/{id}",
        "/v1/deployment-sets",
        "/v1/deployment-sets/{id}",
        "/v1/decisions",
        "/v1/decisions/{id}",
        "/v1/usage",
        "/v1/decisions/{id}/rerun",
        "/v1/bills",
        "/v1/bills/verify",
        "/v1/bills/{month}",
        "/v1/bills/{month}/replay",
        "/v1/budgets",
        "/v1/budgets/{name}",
        "/v1/meters",
        "/v1/meters/{resource}/{name}",
        "/v1/quotes",
        "/v1/subscriptions",
        "/v1/subscriptions/{id}",
        "/v1/subscriptions/{id}/renew",
        "/v1/subscriptions/{id}/change",
        "/v1/accounts",
        "/v1/accounts/{id}",
        "/v1/accounts/{id}/payments",
        "/v1/spot-prices",
        "/v1/spot-prices/{instance_type}",
        "/v1/plugins",
        "/v1/plugins/{name}",
        "/v1/plugins/{name}/activate",
        "/v1/plugins/{name}/shadow",
        "/v1/plugins/{name}/retire",
        "/v1/plugins/{name}/replay",
        "/v1/plugins/inspect",
        "/v1/plugins/rollback",
        "/v1/host",
        "/v1/health",
        "/v1/events",
        "/v1/openapi.json",
    ] {
        assert!(
            document["paths"].get(path).is_some(),
            "{path} is not described"
        );
    }
}
