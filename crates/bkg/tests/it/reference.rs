//! The description of the HTTP surface: complete, the committed one, and for each caller what that
//! caller may use.

use std::path::Path;

use bkg::reference::document;
use http::Method;
use serde_json::{Value, json};

use crate::host::TestHost;

/// Set, it makes the test write the document instead of comparing it.
const BLESS: &str = "BKG_BLESS";

#[tokio::test]
async fn the_committed_document_is_that_of_the_routes() {
    let host = TestHost::builder().start().await;
    let made = serde_json::to_string_pretty(&document(host.host().routes(), &[])).unwrap() + "\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/openapi.json");
    if std::env::var_os(BLESS).is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == committed,
        "routes changed: `scripts/generate` writes the document and what is made of it"
    );
}

#[tokio::test]
async fn the_root_key_sees_every_route_but_those_for_logins() {
    let host = TestHost::builder().start().await;
    let shown = host.get("/openapi.json").await.json();
    for endpoint in host.host().routes().iter().filter(|endpoint| !endpoint.catches_all) {
        let path = endpoint.path.replace("{*", "{");
        let operation = &shown["paths"][&path][endpoint.method.as_str().to_ascii_lowercase()];
        let for_logins = endpoint.access == bkg::web::Access::Login;
        assert_eq!(operation == &Value::Null, for_logins, "{} {path}", endpoint.method);
    }
}

#[tokio::test]
async fn a_document_that_one_has_is_not_sent_again() {
    let host = TestHost::builder().start().await;
    let first = host.get("/openapi.json").await;
    let etag = first.headers["etag"].clone();
    let mut again = host.request(Method::GET, "/openapi.json", None);
    again.headers_mut().insert("if-none-match", etag.clone());
    let again = host.send_request(again).await;
    assert_eq!((again.status.as_u16(), again.text.as_str(), &again.headers["etag"]), (304, "", &etag));
    let mut other = host.request(Method::GET, "/openapi.json", None);
    other.headers_mut().insert("if-none-match", "\"other\"".parse().unwrap());
    assert_eq!(host.send_request(other).await.status, 200);
}

#[tokio::test]
async fn one_name_in_the_document_is_one_schema() {
    let host = TestHost::builder().start().await;
    let document = document(host.host().routes(), &[]);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    // A number at the end is how a second type of one name is told from the first.
    let doubled: Vec<_> = schemas.keys().filter(|name| name.ends_with(char::is_numeric)).collect();
    assert!(doubled.is_empty(), "give one of each two another name: {doubled:?}");
}

/// What somebody with these scopes is shown; `otherauth` reads them from the token.
async fn shown_to(host: &TestHost, scopes: &str) -> Value {
    let mut request = host.request(Method::GET, "/openapi.json", None);
    let token = format!("Bearer test_key~{scopes}");
    request.headers_mut().insert("authorization", token.parse().unwrap());
    let reply = host.send_request(request).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

#[tokio::test]
async fn everybody_sees_what_they_may_use_and_nothing_else() {
    let routes = json!([
        { "method": "GET", "path": "/see/{one}", "capability": "test.frame" },
        { "method": "POST", "path": "/files/{*rest}", "capability": "test.echo" },
        { "method": "PUT", "path": "/see/{other}", "capability": "test.frame" },
    ]);
    let host = TestHost::builder()
        .plugin("otherauth")
        .plugin_as("misbehave", "misbehave", json!({ "settings": { "routes": routes } }))
        .config("[auth]\nprovider = \"otherauth\"")
        .start()
        .await;
    host.start_plugin("misbehave").await;
    let live = ["/api/plugins/misbehave/see/{one}", "/api/plugins/misbehave/files/{rest}"];
    let paths = |document: &Value| -> Vec<String> {
        document["paths"].as_object().unwrap().keys().cloned().collect()
    };
    let has = |document: &Value, path: &str| paths(document).iter().any(|shown| shown == path);

    let all = shown_to(&host, "admin").await;
    assert!(live.iter().all(|path| has(&all, path)) && has(&all, "/admin/users"), "{:?}", paths(&all));
    let operation = &all["paths"][live[0]]["get"];
    assert_eq!(operation["security"], json!([{ "bearer": ["test.frame"] }, { "cookie": ["test.frame"] }]));
    assert_eq!(operation["parameters"][0]["name"], "one");
    // To a reader of the document, parameters of other names make no other path.
    assert!(!has(&all, "/api/plugins/misbehave/see/{other}"), "{:?}", paths(&all));
    assert_eq!(all["paths"][live[0]]["put"]["parameters"][0]["name"], "one");

    let some = shown_to(&host, "test.frame").await;
    assert!(has(&some, live[0]) && !has(&some, live[1]), "{:?}", paths(&some));
    assert!(has(&some, "/v1/models") && has(&some, "/health"), "{:?}", paths(&some));
    for guarded in ["/admin/users", "/admin/plugins", "/v1/chat/completions", "/auth/logout"] {
        assert!(!has(&some, guarded), "{guarded} is shown to who may not use it");
    }

    host.post("/admin/plugins/misbehave/stop?wait=30", json!({})).await;
    let stopped = shown_to(&host, "admin").await;
    assert!(live.iter().all(|path| has(&stopped, path)), "the routes of a stopped plugin stay");
}
