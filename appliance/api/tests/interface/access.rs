//! Who may ask.

use http_body_util::Full;

use crate::host::{Host, TOKEN, request};

#[tokio::test]
async fn tcp_needs_the_token_and_the_unix_socket_does_not() {
    let host = Host::start().await;
    assert_eq!(host.get("/v1/host").await.status, 200);
    let ask = async |authorization: Option<&str>, path: &str| {
        let mut request = request("GET", path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        host.send_tcp(request.body(Full::default()).unwrap()).await
    };
    let good = format!("Bearer {TOKEN}");
    assert_eq!(ask(Some(&good), "/v1/host").await.status, 200);
    let wrong = format!("Bearer {}", TOKEN.replace('0', "1"));
    let basic = format!("Basic {TOKEN}");
    for bad in [
        None,
        Some("Bearer"),
        Some("Bearer "),
        Some(&*wrong),
        Some(&*basic),
    ] {
        for path in ["/v1/host", "/v1/openapi.json", "/v1/no-such-thing", "/"] {
            let answer = ask(bad, path).await;
            let problem = answer.is_problem(401, "InvalidAccessToken");
            assert!(
                answer
                    .header("www-authenticate")
                    .starts_with("Bearer realm="),
                "{bad:?}"
            );
            assert!(problem["next_step"].as_str().unwrap().contains("api-token"));
            assert!(!problem.to_string().contains(TOKEN));
        }
    }
    assert_eq!(ask(None, "/v1/health").await.status, 200);
}
