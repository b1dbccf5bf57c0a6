//! Resolving names, manifests, indexes and configs.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, Document, DocumentError, Index, ManifestOrIndex, MediaType, Platform};
use registry_client::{PullError, ResolveError};
use test_support::{Auth, Fault, Registry};

use crate::{chain_at, client, put_image};

fn index(registry: &Registry, tag: &str, entries: &[(&str, &Descriptor)]) -> Descriptor {
    let entry = |(platform, descriptor): &(&str, &Descriptor)| {
        let mut descriptor = (*descriptor).clone();
        descriptor.platform = Some(platform.parse().unwrap());
        descriptor
    };
    let index = Index {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX),
        artifact_type: None,
        manifests: entries.iter().map(entry).collect(),
        subject: None,
        annotations: BTreeMap::new(),
    };
    registry.put_manifest("a", tag, MediaType::OCI_INDEX, Document::write(index).bytes())
}

#[tokio::test]
async fn a_tag_resolves_with_one_head() {
    let registry = Registry::start(Auth::None);
    let (descriptor, _) = put_image(&registry, "a", "1", &[b"x"]);
    assert_eq!(client().resolve(&registry.reference("a:1")).await.unwrap(), descriptor);
    let by_digest = registry.reference("a:1").at(descriptor.digest.clone());
    assert_eq!(client().resolve(&by_digest).await.unwrap(), descriptor);
    assert_eq!((registry.count("HEAD", "manifests"), registry.count("GET", "")), (2, 0));
}

#[tokio::test]
async fn where_head_says_too_little_the_manifest_is_fetched() {
    let registry = Registry::start(Auth::None);
    let (descriptor, _) = put_image(&registry, "a", "1", &[b"x"]);
    let faults = [
        Fault::NoHeader("docker-content-digest"),
        Fault::Header("docker-content-digest", "sha256:0".to_owned()),
        Fault::Header("content-type", "text/plain".to_owned()),
        Fault::Status(405),
        Fault::Status(400),
    ];
    for fault in faults {
        registry.fail("HEAD", "manifests", 1, fault.clone());
        assert_eq!(client().resolve(&registry.reference("a:1")).await.unwrap(), descriptor, "{fault:?}");
    }
    assert_eq!(registry.count("GET", "manifests"), 5);
}

#[tokio::test]
async fn a_missing_image_is_told_from_one_that_is_not_allowed_and_from_a_missing_registry() {
    let mut registry = Registry::start(Auth::None);
    let name = registry.reference("team/app:1.4");
    let missing = client().resolve(&name).await.unwrap_err();
    assert!(matches!(missing, ResolveError::NotFound { .. }));
    let expected = "cannot find REGISTRY/team/app:1.4\n\
        GET http://REGISTRY/v2/team/app/manifests/1.4 was not found (404 Not Found)\n\
        registry says MANIFEST_UNKNOWN: manifest unknown";
    assert_eq!(chain_at(&missing, &registry), expected);

    let words = "please connect to the VPN\u{1b}[2J".to_owned();
    registry.fail("HEAD", "manifests", 1, Fault::Status(403));
    registry.fail("GET", "manifests", 1, Fault::Refuse(403, "DENIED", words));
    let denied = client().resolve(&name).await.unwrap_err();
    assert!(denied.request().unwrap().is_denied() && !denied.request().unwrap().is_not_found());
    let expected = "cannot resolve REGISTRY/team/app:1.4\n\
        GET http://REGISTRY/v2/team/app/manifests/1.4 was refused (403 Forbidden)\n\
        registry says DENIED: please connect to the VPN\\u{1b}[2J";
    assert_eq!(chain_at(&denied, &registry), expected);

    registry.stop();
    let down = client().resolve(&name).await.unwrap_err();
    assert!(down.request().unwrap().is_unreachable());
    let expected = "cannot resolve REGISTRY/team/app:1.4\n\
        HEAD http://REGISTRY/v2/team/app/manifests/1.4 found nothing that listens there\n\
        Connection refused (os error 111)";
    assert_eq!(chain_at(&down, &registry), expected);
}

#[tokio::test]
async fn a_manifest_must_be_the_one_that_was_asked_for() {
    let registry = Registry::start(Auth::None);
    let (descriptor, _) = put_image(&registry, "a", "1", &[b"x"]);
    let by_tag = registry.reference("a:1");
    let by_digest = by_tag.at(descriptor.digest.clone());
    let client = client();

    registry.fail("GET", "manifests", 1, Fault::WrongBytes);
    let error = client.manifest(&by_digest, None).await.unwrap_err();
    assert!(matches!(error, ResolveError::DigestMismatch { .. }), "{error:?}");

    registry.fail("GET", "manifests", 1, Fault::Header("docker-content-digest", Digest::of(b"lie").to_string()));
    assert_eq!(client.manifest(&by_digest, None).await.unwrap().0, descriptor);

    registry.fail("GET", "manifests", 1, Fault::LongBody(1));
    let error = client.manifest(&by_digest, Some(&descriptor)).await.unwrap_err();
    assert!(matches!(error, ResolveError::SizeMismatch { .. }), "{error:?}");

    let mut other_type = descriptor.clone();
    other_type.media_type = MediaType::OCI_INDEX;
    let error = client.manifest(&by_digest, Some(&other_type)).await.unwrap_err();
    assert!(
        matches!(error, ResolveError::Manifest { source: DocumentError::MediaTypeMismatch { .. }, .. }),
        "{error:?}"
    );

    let (found, document) = client.manifest(&by_tag, Some(&descriptor)).await.unwrap();
    assert!(matches!(document, ManifestOrIndex::Manifest(_)) && found == descriptor);
}

#[tokio::test]
async fn manifests_are_read_up_to_their_limit() {
    let registry = Registry::start(Auth::None);
    put_image(&registry, "a", "1", &[b"x"]);
    for fault in [Fault::LongBody(4 << 20), Fault::EndlessBody] {
        registry.fail("GET", "manifests", 1, fault);
        let error = client().manifest(&registry.reference("a:1"), None).await.unwrap_err();
        assert!(chain_at(&error, &registry).contains("more than the 4194304 bytes"), "{error:?}");
    }
    let (_, bytes) = registry.manifest("a", "1").unwrap();
    let padded = [bytes.as_slice(), &vec![b' '; (4 << 20) - bytes.len()]].concat();
    registry.put_manifest("a", "big", MediaType::OCI_MANIFEST, &padded);
    assert!(client().manifest(&registry.reference("a:big"), None).await.is_ok());
}

#[tokio::test]
async fn documents_that_are_no_manifests_are_refused() {
    let registry = Registry::start(Auth::None);
    let schema1 = MediaType::from("application/vnd.docker.distribution.manifest.v1+prettyjws".to_owned());
    registry.put_manifest("a", "1", schema1, br#"{"schemaVersion":1,"name":"a"}"#);
    registry.put_manifest("a", "2", MediaType::OCI_MANIFEST, b"<html>");
    registry.put_manifest("a", "3", MediaType::OCI_MANIFEST, br#"{"schemaVersion":2,"layers":[],"manifests":[]}"#);
    for tag in ["1", "2", "3"] {
        let error = client().pull_image(&registry.reference(&format!("a:{tag}")), &Platform::host()).await.unwrap_err();
        assert!(matches!(error, PullError::Resolve(ResolveError::Manifest { .. })), "{error:?}");
    }
}

#[tokio::test]
async fn an_index_leads_to_the_image_of_a_platform() {
    let registry = Registry::start(Auth::None);
    let (amd, _) = put_image(&registry, "a", "amd", &[b"amd"]);
    let (arm, layers) = put_image(&registry, "a", "arm", &[b"arm", b"more"]);
    let root = index(&registry, "1", &[("linux/amd64", &amd), ("linux/arm64", &arm)]);
    let name = registry.reference("a:1");
    let image = client().pull_image(&name, &"linux/arm64".parse().unwrap()).await.unwrap();
    assert_eq!((image.root, image.descriptor.digest, image.name), (root, arm.digest, name.clone()));
    assert_eq!(image.manifest.value().layers, layers);
    assert_eq!(image.media_type, MediaType::OCI_MANIFEST);
    assert_eq!(image.config.digest(), image.manifest.value().config.digest);

    let error = client().pull_image(&name, &"linux/s390x".parse().unwrap()).await.unwrap_err();
    let expected = "cannot pull REGISTRY/a:1: it has no image for linux/s390x (it has linux/amd64, linux/arm64)";
    assert_eq!(chain_at(&error, &registry), expected);
}

#[tokio::test]
async fn indexes_nest_four_deep_and_no_deeper() {
    let registry = Registry::start(Auth::None);
    let (mut inner, _) = put_image(&registry, "a", "0", &[b"x"]);
    for depth in 1..=6 {
        inner = index(&registry, &depth.to_string(), &[("linux/amd64", &inner)]);
        let name = registry.reference(&format!("a:{depth}"));
        let pulled = client().pull_image(&name, &"linux/amd64".parse().unwrap()).await;
        match depth {
            1..=4 => assert!(pulled.is_ok(), "{depth}: {pulled:?}"),
            _ => assert!(matches!(pulled, Err(PullError::TooDeep { .. })), "{depth}: {pulled:?}"),
        }
    }
}

#[tokio::test]
async fn a_config_must_be_the_described_one_and_fit_its_layers() {
    let registry = Registry::start(Auth::None);
    put_image(&registry, "a", "1", &[b"x"]);
    let name = registry.reference("a:1");
    let pull = async || client().pull_image(&name, &Platform::host()).await.unwrap_err();

    registry.fail("GET", "blobs", 1, Fault::WrongBytes);
    assert!(matches!(pull().await, PullError::Blob { .. }));
    registry.fail("GET", "blobs", 1, Fault::LongBody(1));
    assert!(matches!(pull().await, PullError::TooLong { .. }));
    registry.fail("GET", "blobs", 1, Fault::ShortBody(1));
    assert!(matches!(pull().await, PullError::Blob { .. }));
    registry.fail("GET", "blobs", 1, Fault::Status(404));
    assert!(matches!(pull().await, PullError::BlobNotFound { .. }));

    let (_, bytes) = registry.manifest("a", "1").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let twice = text.replace(
        "\"layers\":[",
        &format!("\"layers\":[{},", text.split("\"layers\":[").nth(1).unwrap().split(']').next().unwrap()),
    );
    registry.put_manifest("a", "1", MediaType::OCI_MANIFEST, twice.as_bytes());
    assert!(matches!(pull().await, PullError::LayerCount { layers: 2, diff_ids: 1, .. }));
    let chart = text.replace("application/vnd.oci.image.config.v1+json", "application/vnd.cncf.helm.config.v1+json");
    registry.put_manifest("a", "1", MediaType::OCI_MANIFEST, chart.as_bytes());
    assert!(matches!(pull().await, PullError::NotAnImage { .. }));
}

#[tokio::test]
async fn transient_faults_of_documents_are_survived() {
    let registry = Registry::start(Auth::None);
    put_image(&registry, "a", "1", &[b"x"]);
    let faults = [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(408),
        Fault::RetryAfter(429, "0"),
        Fault::RetryAfter(503, "Thu, 01 Jan 1970 00:00:00 GMT"),
        Fault::Reset,
        Fault::CutBody(3),
    ];
    for fault in faults {
        registry.fail("GET", "manifests", 2, fault.clone());
        registry.fail("GET", "blobs", 2, fault.clone());
        let pulled = client().pull_image(&registry.reference("a:1"), &Platform::host()).await;
        assert!(pulled.is_ok() && registry.faults_left() == 0, "{fault:?}: {pulled:?}");
    }
}

#[tokio::test]
async fn what_does_not_pass_ends_after_five_attempts() {
    let registry = Registry::start(Auth::None);
    put_image(&registry, "a", "1", &[b"x"]);
    registry.fail("GET", "manifests", 100, Fault::Text(502, "Bad\tGateway".to_owned()));
    let error = client().manifest(&registry.reference("a:1"), None).await.unwrap_err();
    let expected = "cannot resolve REGISTRY/a:1\n\
        GET http://REGISTRY/v2/a/manifests/1 failed (502 Bad Gateway)\n\
        registry says Bad Gateway";
    assert_eq!(chain_at(&error, &registry), expected);
    assert_eq!(registry.count("GET", "manifests"), 5);
}

#[tokio::test]
async fn a_long_retry_after_is_reported_instead_of_waited_for() {
    let registry = Registry::start(Auth::None);
    put_image(&registry, "a", "1", &[b"x"]);
    registry.fail("GET", "manifests", 100, Fault::RetryAfter(429, "3600"));
    let error = client().manifest(&registry.reference("a:1"), None).await.unwrap_err();
    let expected = "cannot resolve REGISTRY/a:1\n\
        GET http://REGISTRY/v2/a/manifests/1 was one request too many (429 Too Many Requests); \
        the registry asks to wait 3600 s\n\
        registry says TOOMANYREQUESTS: slow down";
    assert_eq!(chain_at(&error, &registry), expected);
    assert_eq!(registry.count("GET", "manifests"), 1);
}
