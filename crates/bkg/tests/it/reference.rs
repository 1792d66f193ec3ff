//! The description of the HTTP surface: complete, the committed one, and for each caller what that
//! caller may use.

use std::path::Path;

use bkg::reference::document;
use http::Method;
use serde_json::Value;

use crate::host::TestHost;

/// Set, it makes the test write the document instead of comparing it.
const BLESS: &str = "BKG_BLESS";

#[tokio::test]
async fn the_committed_document_is_that_of_the_routes() {
    let host = TestHost::builder().start().await;
    let made = serde_json::to_string_pretty(&document(host.host().routes())).unwrap() + "\n";
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
    let document = document(host.host().routes());
    let schemas = document["components"]["schemas"].as_object().unwrap();
    // A number at the end is how a second type of one name is told from the first.
    let doubled: Vec<_> = schemas.keys().filter(|name| name.ends_with(char::is_numeric)).collect();
    assert!(doubled.is_empty(), "give one of each two another name: {doubled:?}");
}
