//! Pushing images.

use std::sync::Arc;

use oci::{BlobError, Digest, MediaType, Platform, Reference};
use registry_client::{Client, LayerEvent, Outcome, Push, PushError, Pushed};
use test_support::{Auth, Fault, MemoryBlobs, Registry, Tokens};
use tokio::sync::mpsc;

use crate::{Image, basic, chain_at, client, client_as, content, image, recovering_client};

fn push<'a>(image: &'a Image, name: &'a Reference) -> Push<'a> {
    Push {
        name,
        image: &image.descriptor,
        manifest: &image.manifest,
        from: Arc::new(image.blobs.clone()),
        mount_from: &[],
        events: None,
    }
}

async fn push_to(client: &Client, image: &Image, name: &Reference) -> Result<Pushed, PushError> {
    client.push_image(push(image, name)).await
}

fn outcomes(pushed: &Pushed) -> Vec<Outcome> {
    pushed.blobs.iter().map(|event| event.outcome).collect()
}

fn big_image() -> Image {
    image(&[&content(600_000), b"small"])
}

fn check_held(registry: &Registry, repository: &str, tag: &str, image: &Image) {
    let (media_type, bytes) = registry.manifest(repository, tag).expect("the manifest is there");
    assert_eq!((media_type.as_str(), bytes.as_slice()), (image.descriptor.media_type.as_str(), image.manifest.bytes()));
    for blob in &image.manifest.value().layers {
        assert_eq!(registry.blob(repository, &blob.digest), image.blobs.blob(&blob.digest));
    }
}

#[tokio::test]
async fn what_is_pushed_can_be_pulled_again() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (big_image(), registry.reference("team/app:1"));
    let client = client();
    let pushed = push_to(&client, &image, &name).await.unwrap();
    assert_eq!((&pushed.digest, pushed.size), (&image.descriptor.digest, image.descriptor.size));
    assert_eq!(outcomes(&pushed), [Outcome::Uploaded; 3]);
    check_held(&registry, "team/app", "1", &image);

    let pulled = client.pull_image(&name, &Platform::host()).await.unwrap();
    assert_eq!(pulled.descriptor, image.descriptor);
    let sink = MemoryBlobs::default();
    for layer in &pulled.manifest.value().layers {
        client.pull_blob(&name, layer, Arc::new(sink.clone())).await.unwrap();
        assert_eq!(sink.blob(&layer.digest), image.blobs.blob(&layer.digest));
    }

    registry.clear_requests();
    assert_eq!(outcomes(&push_to(&client, &image, &name).await.unwrap()), [Outcome::Existed; 3]);
    assert_eq!((registry.count("HEAD", "blobs"), registry.count("POST", ""), registry.count("PUT", "")), (3, 0, 1));
}

#[tokio::test]
async fn blobs_come_before_the_config_and_the_manifest_comes_last() {
    let registry = Registry::start(Auth::None);
    let layers: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 1000]).collect();
    let image = image(&layers.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let name = registry.reference("a:1");
    let (send, mut receive) = mpsc::unbounded_channel();
    let pushed = client().push_image(Push { events: Some(send), ..push(&image, &name) }).await.unwrap();
    let digests: Vec<&Digest> = pushed.blobs.iter().map(|event| &event.digest).collect();
    let manifest = image.manifest.value();
    let expected: Vec<&Digest> = manifest.layers.iter().chain([&manifest.config]).map(|blob| &blob.digest).collect();
    assert_eq!(digests, expected);
    let mut events = Vec::new();
    receive.recv_many(&mut events, 100).await;
    let config = LayerEvent { digest: manifest.config.digest.clone(), outcome: Outcome::Uploaded };
    assert_eq!((events.len(), events.last()), (21, Some(&config)));
    let puts: Vec<_> = registry.requests_of("PUT", "").into_iter().map(|r| format!("{}?{}", r.path, r.query)).collect();
    assert!(puts[puts.len() - 1].ends_with("/manifests/1?"), "{puts:?}");
    assert!(puts[puts.len() - 2].contains(manifest.config.digest.hex()), "{puts:?}");
}

#[tokio::test]
async fn a_layer_that_occurs_twice_is_sent_once() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (image(&[b"same", b"same"]), registry.reference("a:1"));
    assert_eq!(push_to(&client(), &image, &name).await.unwrap().blobs.len(), 2);
    assert_eq!(registry.count("PUT", "blobs"), 2);
}

#[tokio::test]
async fn without_a_tag_the_manifest_is_put_under_its_digest() {
    let registry = Registry::start(Auth::None);
    let image = image(&[b"x"]);
    let name = registry.reference("a:1").at(image.descriptor.digest.clone());
    push_to(&client(), &image, &name).await.unwrap();
    check_held(&registry, "a", &image.descriptor.digest.to_string(), &image);
    let other = name.at(Digest::of(b"other"));
    let error = push_to(&client(), &image, &other).await.unwrap_err();
    assert!(matches!(error, PushError::DigestMismatch { .. }));
}

#[tokio::test]
async fn transient_faults_are_survived() {
    let cases = [
        ("HEAD", "blobs", Fault::Status(503)),
        ("HEAD", "blobs", Fault::Reset),
        ("POST", "uploads", Fault::Status(500)),
        ("POST", "uploads", Fault::RetryAfter(429, "0")),
        ("POST", "uploads", Fault::Reset),
        ("PUT", "uploads", Fault::Status(500)),
        ("PUT", "uploads", Fault::Status(503)),
        ("PUT", "uploads", Fault::RetryAfter(429, "0")),
        ("PUT", "uploads", Fault::Reset),
        ("PUT", "uploads", Fault::CutUpload(0)),
        ("PUT", "uploads", Fault::CutUpload(1)),
        ("PUT", "uploads", Fault::CutUpload(300_000)),
        ("PUT", "uploads", Fault::CutUpload(600_000)),
        ("PUT", "uploads", Fault::LoseUpload),
        ("PUT", "uploads", Fault::CutAnswer),
        ("PUT", "manifests", Fault::Status(500)),
        ("PUT", "manifests", Fault::Reset),
        ("PUT", "manifests", Fault::CutAnswer),
    ];
    for (method, part, fault) in cases {
        let registry = Registry::start(Auth::None);
        let (image, name) = (image(&[&content(600_000)]), registry.reference("a:1"));
        registry.fail(method, part, 2, fault.clone());
        let pushed = push_to(&client(), &image, &name).await;
        assert!(pushed.is_ok() && registry.faults_left() == 0, "{method} {part} {fault:?}: {pushed:?}");
        check_held(&registry, "a", "1", &image);
    }
}

#[tokio::test]
async fn a_cut_upload_goes_on_where_it_broke() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (image(&[&content(600_000)]), registry.reference("a:1"));
    registry.fail("PUT", "uploads", 1, Fault::CutUpload(200_000));
    push_to(&client(), &image, &name).await.unwrap();
    let patch = &registry.requests_of("PATCH", "uploads")[0];
    assert_eq!(
        (patch.header("content-range"), patch.header("content-length")),
        (Some("200000-599999"), Some("400000"))
    );
    assert_eq!((registry.count("POST", "uploads"), registry.count("GET", "uploads")), (2, 1));
    check_held(&registry, "a", "1", &image);
}

#[tokio::test]
async fn a_resumed_upload_that_fails_starts_again() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (image(&[&content(600_000)]), registry.reference("a:1"));
    registry.fail("PUT", "uploads", 1, Fault::CutUpload(200_000));
    registry.fail("PATCH", "uploads", 1, Fault::Status(416));
    push_to(&client(), &image, &name).await.unwrap();
    check_held(&registry, "a", "1", &image);
}

#[tokio::test]
async fn an_upload_that_never_passes_ends() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (image(&[b"x"]), registry.reference("a:1"));
    registry.fail("PUT", "uploads", 100, Fault::Refuse(503, "UNAVAILABLE", "the disk is full".to_owned()));
    let error = push_to(&client(), &image, &name).await.unwrap_err();
    let text = chain_at(&error, &registry);
    let digest = &image.manifest.value().layers[0].digest;
    let expected = format!(
        "cannot push blob {digest} of REGISTRY/a:1\n\
        PUT http://REGISTRY/v2/a/blobs/uploads/5 failed (503 Service Unavailable)\n\
        registry says UNAVAILABLE: the disk is full"
    );
    assert_eq!(text, expected, "the query of the upload's URL is a secret");
    assert!(registry.manifest("a", "1").is_none());
}

#[tokio::test]
async fn a_stalled_upload_is_given_up() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (image(&[&content(8 << 20)]), registry.reference("a:1"));
    registry.fail("PUT", "uploads", 1, Fault::Hang);
    push_to(&recovering_client(), &image, &name).await.unwrap();
    check_held(&registry, "a", "1", &image);
}

#[tokio::test]
async fn a_permanent_refusal_is_not_repeated() {
    let cases = [("POST", "uploads", 403), ("PUT", "uploads", 400), ("PUT", "manifests", 400)];
    for (method, part, status) in cases {
        let registry = Registry::start(Auth::None);
        let (image, name) = (image(&[b"x"]), registry.reference("a:1"));
        registry.fail(method, part, 100, Fault::Refuse(status, "DENIED", "no".to_owned()));
        let error = push_to(&client(), &image, &name).await.unwrap_err();
        assert_eq!(error.request().unwrap().status(), Some(status));
        assert_eq!(registry.count(method, part), 1, "{method} {part}");
        assert!(registry.manifest("a", "1").is_none());
    }
}

#[tokio::test]
async fn a_refused_push_says_what_the_registry_says_and_what_was_tried() {
    let registry = Registry::start(Auth::Bearer(Tokens { is_public: true, ..Tokens::for_account("ana", "pw") }));
    let (image, name) = (image(&[b"x"]), registry.reference("team/app:1.4"));
    let error = push_to(&client(), &image, &name).await.unwrap_err();
    let digest = &image.manifest.value().layers[0].digest;
    let expected = format!(
        "cannot push blob {digest} of REGISTRY/team/app:1.4\n\
        POST http://REGISTRY/v2/team/app/blobs/uploads/ was refused (401 Unauthorized)\n\
        registry says UNAUTHORIZED: authentication required"
    );
    assert_eq!(chain_at(&error, &registry), expected);
    let tried = error.request().unwrap().tried().unwrap().to_string();
    assert_eq!(tried, "no credentials, scope `repository:team/app:pull,push`");
}

#[tokio::test]
async fn a_spoilt_blob_is_not_pushed() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (big_image(), registry.reference("a:1"));
    let layer = image.manifest.value().layers[0].digest.clone();
    image.blobs.put_as(layer.clone(), &vec![0; 600_000]);
    let error = push_to(&client(), &image, &name).await.unwrap_err();
    assert!(matches!(&error, PushError::Blob { source: BlobError::DigestMismatch { .. }, .. }), "{error:?}");
    assert!(registry.blob("a", &layer).is_none() && registry.manifest("a", "1").is_none());
}

#[tokio::test]
async fn a_blob_of_a_repository_beside_is_mounted() {
    let registry = Registry::start(Auth::None);
    let (image, name) = (big_image(), registry.reference("team/app:1"));
    for layer in &image.manifest.value().layers {
        registry.put_blob("base", MediaType::OCI_LAYER, &image.blobs.blob(&layer.digest).unwrap());
    }
    let elsewhere: Reference = "example.com/base:1".parse().unwrap();
    let from =
        [elsewhere, registry.reference("empty:1"), registry.reference("base:1"), registry.reference("team/app:2")];
    let pushed = client().push_image(Push { mount_from: &from, ..push(&image, &name) }).await.unwrap();
    assert_eq!(outcomes(&pushed), [Outcome::Mounted, Outcome::Mounted, Outcome::Uploaded]);
    assert_eq!(registry.count("PUT", "blobs"), 1);
    assert_eq!(registry.count("DELETE", "uploads"), 3, "sessions that were not needed are cancelled");
    check_held(&registry, "team/app", "1", &image);
}

#[tokio::test]
async fn where_mounting_does_not_work_its_session_is_used() {
    for fault in [None, Some(Fault::Status(404)), Some(Fault::Status(405)), Some(Fault::Reset)] {
        let registry = Registry::start(Auth::None);
        let (image, name) = (image(&[b"x"]), registry.reference("a:1"));
        if let Some(fault) = &fault {
            registry.fail("POST", "mount", 100, fault.clone());
        }
        let from = [registry.reference("base:1")];
        let pushed = client().push_image(Push { mount_from: &from, ..push(&image, &name) }).await.unwrap();
        assert_eq!(outcomes(&pushed), [Outcome::Uploaded; 2], "{fault:?}");
        let posts = if fault.is_none() { 2 } else { 4 };
        assert_eq!(registry.count("POST", "uploads"), posts, "{fault:?}");
        check_held(&registry, "a", "1", &image);
    }
}

#[tokio::test]
async fn mounting_asks_for_the_right_to_read_the_other_repository() {
    for denied in [Vec::new(), vec!["base".to_owned()]] {
        let registry =
            Registry::start(Auth::Bearer(Tokens { denied: denied.clone(), ..Tokens::for_account("ana", "pw") }));
        let (image, name) = (image(&[b"x"]), registry.reference("a:1"));
        registry.put_blob("base", MediaType::OCI_LAYER, b"x");
        let from = [registry.reference("base:1")];
        let client = client_as(basic("ana", "pw"));
        let pushed = client.push_image(Push { mount_from: &from, ..push(&image, &name) }).await.unwrap();
        let expected = if denied.is_empty() { Outcome::Mounted } else { Outcome::Uploaded };
        assert_eq!(outcomes(&pushed), [expected, Outcome::Uploaded]);
        let scopes = "scope=repository%3Aa%3Apull%2Cpush&scope=repository%3Abase%3Apull&";
        assert_eq!(registry.count("GET", scopes), 1);
    }
}

#[tokio::test]
async fn a_token_that_expires_during_an_upload_is_renewed() {
    for part in ["POST uploads", "PUT uploads", "PUT manifests"] {
        let registry = Registry::start(Auth::bearer("ana", "pw"));
        let (image, name) = (big_image(), registry.reference("a:1"));
        let (method, path) = part.split_once(' ').unwrap();
        registry.fail(method, path, 1, Fault::ExpireTokens);
        push_to(&client_as(basic("ana", "pw")), &image, &name)
            .await
            .unwrap_or_else(|error| panic!("{part}: {error:?}"));
        check_held(&registry, "a", "1", &image);
        assert_eq!(registry.count("GET", "/token"), 2, "{part}");
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_the_announced_one_is_not_pushed() {
    let registry = Registry::start(Auth::None);
    let (mut image, name) = (image(&[b"x"]), registry.reference("a:1"));
    image.descriptor.digest = Digest::of(b"other");
    let error = push_to(&client(), &image, &name).await.unwrap_err();
    assert!(matches!(error, PushError::DigestMismatch { .. }));
    assert_eq!(registry.requests().len(), 0);
}
