//! The client against the registry in memory: every fault is survived, or ends in the error that names it.

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod auth;
mod elsewhere;
mod manifests;
mod pull;
mod push;
mod tls;

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use oci::{Descriptor, Digest, Document, ImageConfig, Manifest, MediaType, Platform};
use registry_client::{
    Client, ClientOptions, CredentialError, CredentialSource, Credentials, FoundCredentials, RetryPolicy, Timeouts,
};
use test_support::{MemoryBlobs, Registry};

/// A client that repeats at once.
fn client() -> Client {
    Client::new(options()).unwrap()
}

fn client_as(credentials: Credentials) -> Client {
    let mut options = options();
    options.credentials = Arc::new(Fixed(credentials));
    Client::new(options).unwrap()
}

fn options() -> ClientOptions {
    let mut options = ClientOptions::new("wharf-test/1");
    options.retry = RetryPolicy { attempts: 5, base: Duration::ZERO, cap: Duration::ZERO };
    options
}

/// A client that is to meet nothing but silence: it waits no longer than a test can.
fn impatient_client() -> Client {
    client_with(Duration::from_millis(100), 2)
}

/// A client that is to get over a silence: on a busy machine too, the registry is faster than this in one of its attempts.
fn recovering_client() -> Client {
    client_with(Duration::from_secs(1), 5)
}

fn client_with(patience: Duration, attempts: u32) -> Client {
    let mut options = options();
    options.timeouts = Timeouts { connect: Duration::from_secs(10), head: patience, stall: patience };
    options.retry.attempts = attempts;
    Client::new(options).unwrap()
}

fn basic(username: &str, password: &str) -> Credentials {
    Credentials::Basic { username: username.to_owned(), password: password.to_owned() }
}

/// The same credentials for everybody.
struct Fixed(Credentials);

impl CredentialSource for Fixed {
    fn credentials(&self, _: &str, _: &str) -> Result<Option<FoundCredentials>, CredentialError> {
        let source = "the test".to_owned();
        Ok(Some(FoundCredentials { credentials: self.0.clone(), source }))
    }
}

/// An image whose blobs are in memory.
struct Image {
    blobs: MemoryBlobs,
    descriptor: Descriptor,
    manifest: Document<Manifest>,
}

/// Makes an image of layers with this content.
fn image(layers: &[&[u8]]) -> Image {
    let blobs = MemoryBlobs::default();
    let mut config = ImageConfig::empty(Platform::host());
    config.rootfs.diff_ids = layers.iter().map(|layer| oci::DiffId(Digest::of(layer))).collect();
    let config = blobs.put(MediaType::OCI_CONFIG, Document::write(config).bytes());
    let layers = layers.iter().map(|layer| blobs.put(MediaType::OCI_LAYER, layer)).collect();
    let manifest = Document::write(Manifest::new(config, layers));
    Image { blobs, descriptor: manifest.descriptor(MediaType::OCI_MANIFEST), manifest }
}

/// Puts an image into a registry; returns its descriptor and layers.
fn put_image(registry: &Registry, repository: &str, tag: &str, layers: &[&[u8]]) -> (Descriptor, Vec<Descriptor>) {
    let image = image(layers);
    let manifest = image.manifest.value();
    for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
        registry.put_blob(repository, blob.media_type.clone(), &image.blobs.blob(&blob.digest).unwrap());
    }
    let descriptor = registry.put_manifest(repository, tag, MediaType::OCI_MANIFEST, image.manifest.bytes());
    (descriptor, manifest.layers.clone())
}

/// Bytes that differ from place to place.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251).to_le_bytes()[0] ^ (n / 251).to_le_bytes()[0]).collect()
}

/// An error and its causes, one line each.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The same with this registry's address replaced by `REGISTRY`.
fn chain_at(error: &dyn Error, registry: &Registry) -> String {
    chain(error).replace(&registry.address(), "REGISTRY")
}

fn insecure(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
