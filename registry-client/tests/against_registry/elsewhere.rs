//! Redirects and upload locations: who gets what.

use std::sync::Arc;

use oci::MediaType;
use registry_client::{Client, Push};
use test_support::{Auth, Fault, MemoryBlobs, Registry};

use crate::{basic, chain_at, client_as, image, insecure, options};

/// A registry that wants a token, and another server that holds the blob without asking.
fn two() -> (Registry, Registry, oci::Descriptor) {
    let registry = Registry::start(Auth::bearer("ana", "pw"));
    let storage = Registry::start(Auth::None);
    let blob = storage.put_blob("a", MediaType::OCI_LAYER, b"content");
    registry.put_blob("a", MediaType::OCI_LAYER, b"content");
    (registry, storage, blob)
}

async fn pull(registry: &Registry, blob: &oci::Descriptor) -> Result<(), registry_client::PullError> {
    let sink = Arc::new(MemoryBlobs::default());
    client_as(basic("ana", "pw")).pull_blob(&registry.reference("a:1"), blob, sink).await.map(drop)
}

#[tokio::test]
async fn a_redirect_is_followed_without_the_token() {
    for status in [301, 302, 303, 307, 308] {
        let (registry, storage, blob) = two();
        let to = format!("http://user:word@{}{{path}}?signature=secret#part", storage.address());
        registry.fail("GET", "blobs", 2, Fault::Redirect(status, to));
        pull(&registry, &blob).await.unwrap();
        let request = &storage.requests()[0];
        assert_eq!((request.header("authorization"), request.query.as_str()), (None, "signature=secret"));
        assert_eq!(storage.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_redirect_within_the_registry_keeps_the_token() {
    let (registry, _storage, blob) = two();
    registry.fail("GET", "blobs", 1, Fault::ExpireTokens);
    registry.fail("GET", "blobs", 1, Fault::Redirect(307, "{path}".to_owned()));
    pull(&registry, &blob).await.unwrap();
    let last = registry.requests().pop().unwrap();
    assert!(last.header("authorization").unwrap().starts_with("Bearer "));
}

#[tokio::test]
async fn a_challenge_elsewhere_is_not_answered() {
    let (registry, _storage, blob) = two();
    let other = Registry::start(Auth::basic("ana", "pw"));
    registry.fail("GET", "blobs", 100, Fault::Redirect(307, format!("http://{}{{path}}", other.address())));
    let error = pull(&registry, &blob).await.unwrap_err();
    assert!(error.request().unwrap().is_denied(), "{error:?}");
    assert!(other.requests().iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn redirects_end() {
    let (registry, _storage, blob) = two();
    registry.fail("GET", "blobs", 100, Fault::Redirect(307, "{path}".to_owned()));
    let error = pull(&registry, &blob).await.unwrap_err();
    assert!(chain_at(&error, &registry).contains("it is one redirect too many"), "{error:?}");
    assert_eq!(registry.count("GET", "blobs"), 6);
    let (registry, _storage, blob) = two();
    registry.fail("GET", "blobs", 1, Fault::Redirect(307, "file:///etc/passwd".to_owned()));
    let error = pull(&registry, &blob).await.unwrap_err();
    assert!(chain_at(&error, &registry).contains("it is neither http nor https"), "{error:?}");
}

#[tokio::test]
async fn metadata_services_are_not_asked_on_behalf_of_a_registry_elsewhere() {
    // The server in memory is the proxy, so that it can answer for example.com.
    let proxy = Registry::start(Auth::None);
    let blob = proxy.put_blob("a", MediaType::OCI_LAYER, b"content");
    let mut options = options();
    options.trust.insecure = insecure(&["example.com"]);
    options.proxies.http = Some(format!("http://{}", proxy.address()));
    let client = Client::new(options).unwrap();
    let name = "example.com/a:1".parse().unwrap();
    for to in ["http://169.254.169.254/latest", "http://[fe80::1]/", "http://metadata.google.internal/"] {
        proxy.fail("GET", "blobs", 1, Fault::Redirect(307, to.to_owned()));
        let error = client.pull_blob(&name, &blob, Arc::new(MemoryBlobs::default())).await.unwrap_err();
        assert!(chain_at(&error, &proxy).contains("it is a link-local address"), "{to}: {error:?}");
    }
    assert_eq!(proxy.requests().len(), 3);
    client.pull_blob(&name, &blob, Arc::new(MemoryBlobs::default())).await.unwrap();
    assert_eq!(proxy.requests()[3].header("host"), Some("example.com"));
}

#[tokio::test]
async fn an_upload_location_elsewhere_gets_the_blob_but_not_the_token() {
    let registry = Registry::start(Auth::bearer("ana", "pw"));
    let storage = Registry::start(Auth::None);
    let (image, name) = (image(&[b"x"]), registry.reference("a:1"));
    registry.fail("HEAD", "blobs", 1, Fault::ExpireTokens);
    let location = format!("http://{}/v2/a/blobs/uploads/1?_state=x", storage.address());
    registry.fail("POST", "uploads", 1, Fault::Header("location", location));
    let push = Push {
        name: &name,
        image: &image.descriptor,
        manifest: &image.manifest,
        from: Arc::new(image.blobs.clone()),
        mount_from: &[],
        events: None,
    };
    // The other server knows no such session, so the push goes on with another one.
    client_as(basic("ana", "pw")).push_image(push).await.unwrap();
    let request = &storage.requests()[0];
    assert_eq!((request.method.as_str(), request.header("authorization")), ("PUT", None));
    assert!(request.query.starts_with("_state=x&digest=sha256%3A"), "{}", request.query);
}
