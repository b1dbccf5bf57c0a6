//! From a name to an image: resolving, manifests, indexes, configs.
//!
//! ```text
//! name ─HEAD▶ descriptor ─GET▶ index ─platform▶ descriptor ─GET▶ manifest ─GET▶ config
//!             (a claim)        verified                          verified      verified
//! ```

use http_transport::{Answer, ExchangeError, Failure as _};
use oci::{
    Algorithm, Descriptor, Digest, Document, DocumentError, Hasher, ImageConfig, Manifest, ManifestOrIndex, MediaType,
    Platform, Reference,
};
use reqwest::Method;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};

use crate::client::Client;
use crate::error::{PullError, RequestError, ResolveError};
use crate::transport::{Access, Call};

const MAX_DEPTH: usize = 4;
const MAX_LAYERS: usize = 500;
const ACCEPTED: [&MediaType; 4] =
    [&MediaType::OCI_INDEX, &MediaType::OCI_MANIFEST, &MediaType::DOCKER_MANIFEST_LIST, &MediaType::DOCKER_MANIFEST];

/// An image in a registry: its documents, verified. Its layers are still there.
#[derive(Clone, Debug)]
pub struct RemoteImage {
    /// What was asked for.
    pub name: Reference,
    /// What the name stands for: an index, or the manifest itself.
    pub root: Descriptor,
    /// The manifest.
    pub descriptor: Descriptor,
    /// The manifest as received.
    pub manifest: Document<Manifest>,
    /// The config as received; its platform is the asked one only if `root` is an index.
    pub config: Document<ImageConfig>,
    /// The manifest's media type.
    pub media_type: MediaType,
}

impl Client {
    /// Asks what `name` stands for, without fetching it.
    ///
    /// The digest is the registry's claim until the manifest is fetched, except where `name` has one, or where the registry
    /// claims none and the manifest has to be fetched. A name without tag and digest is its tag `latest`.
    ///
    /// # Errors
    ///
    /// [`ResolveError::NotFound`] when the registry has no such manifest, [`ResolveError::Request`] when it cannot be asked.
    pub async fn resolve(&self, name: &Reference) -> Result<Descriptor, ResolveError> {
        let fetch = Fetch::new(self, name, None)?;
        let head = self.transport.retried(&fetch.access, &fetch.call(Method::HEAD)).await;
        if let Some(descriptor) = head.as_ref().ok().and_then(|answer| fetch.claim(answer)) {
            return Ok(descriptor);
        }
        match head {
            // Nothing is gained from asking again.
            Err(error) if error.status().is_none() || error.is_transient() => Err(fetch.failure(error)),
            // Some registries cannot HEAD, some claim nothing, and a refusal has its words only in the body of a GET.
            _ => fetch.run().await.map(|(descriptor, _)| descriptor),
        }
    }

    /// Fetches the manifest or index that `name` stands for, and verifies it.
    ///
    /// `descriptor` is what it must be, out of [`resolve`](Self::resolve) or of an index; without it, a digest in `name` is.
    ///
    /// # Errors
    ///
    /// [`ResolveError::DigestMismatch`] and [`ResolveError::SizeMismatch`] when it is something else,
    /// [`ResolveError::Manifest`] when it is no manifest, and the errors of [`resolve`](Self::resolve).
    pub async fn manifest(
        &self,
        name: &Reference,
        descriptor: Option<&Descriptor>,
    ) -> Result<(Descriptor, ManifestOrIndex), ResolveError> {
        Fetch::new(self, name, descriptor)?.run().await
    }

    /// Fetches and verifies the documents of the image that `name` stands for on `platform`.
    ///
    /// Without an index there is nothing to choose from: then the image's own platform may be another one.
    ///
    /// # Errors
    ///
    /// [`PullError::NoPlatform`] when an index has nothing for `platform`; see [`PullError`] for what a registry may get wrong.
    pub async fn pull_image(&self, name: &Reference, platform: &Platform) -> Result<RemoteImage, PullError> {
        let (root, mut document) = self.manifest(name, None).await?;
        let mut descriptor = root.clone();
        for _ in 0..MAX_DEPTH {
            let index = match document {
                ManifestOrIndex::Manifest(manifest) => return self.complete(name, (root, descriptor), manifest).await,
                ManifestOrIndex::Index(index) => index,
            };
            let chosen = index.value().select(platform).ok_or_else(|| {
                let available = index.value().manifests.iter().filter_map(|entry| entry.platform.clone()).collect();
                PullError::NoPlatform { name: Box::new(name.clone()), platform: Box::new(platform.clone()), available }
            })?;
            (descriptor, document) = self.manifest(name, Some(chosen)).await?;
        }
        match document {
            ManifestOrIndex::Manifest(manifest) => self.complete(name, (root, descriptor), manifest).await,
            ManifestOrIndex::Index(_) => Err(PullError::TooDeep { name: Box::new(name.clone()), limit: MAX_DEPTH }),
        }
    }

    async fn complete(
        &self,
        name: &Reference,
        (root, descriptor): (Descriptor, Descriptor),
        manifest: Document<Manifest>,
    ) -> Result<RemoteImage, PullError> {
        let name = name.clone();
        let described = &manifest.value().config;
        let count = manifest.value().layers.len();
        if !described.media_type.is_config() {
            let name = Box::new(name);
            return Err(PullError::NotAnImage { name, media_type: described.media_type.clone() });
        }
        if count > MAX_LAYERS {
            return Err(PullError::TooManyLayers { name: Box::new(name), count, limit: MAX_LAYERS });
        }
        let bytes = self.small_blob(&name, described, ImageConfig::MAX_SIZE).await?;
        let config = Document::<ImageConfig>::parse(bytes, "image config", ImageConfig::MAX_SIZE)
            .map_err(|source| PullError::Config { name: Box::new(name.clone()), source })?;
        let diff_ids = config.value().rootfs.diff_ids.len();
        if diff_ids != count {
            return Err(PullError::LayerCount { name: Box::new(name), layers: count, diff_ids });
        }
        let media_type = descriptor.media_type.clone();
        Ok(RemoteImage { name, root, descriptor, manifest, config, media_type })
    }

    /// Fetches a blob into memory and verifies it.
    async fn small_blob(&self, name: &Reference, blob: &Descriptor, limit: usize) -> Result<Vec<u8>, PullError> {
        let digest = blob.digest.clone();
        let fail = |source| PullError::of_blob(name, &blob.digest, source);
        let size = usize::try_from(blob.size).unwrap_or(usize::MAX);
        if size > limit {
            let source = DocumentError::TooLarge { what: "image config", size, limit };
            return Err(PullError::Config { name: Box::new(name.clone()), source });
        }
        let access = self.transport.access(name, "pull").map_err(fail)?;
        let call = Call::new(Method::GET, access.repository.url(&format!("blobs/{digest}")));
        let call = call.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let fetched = self.transport.fetch(&access, &call, blob.size, |_| ()).await;
        let ((), bytes) = match fetched {
            Err(RequestError::Exchange(ExchangeError::TooLarge { .. })) => {
                return Err(PullError::TooLong { name: Box::new(name.clone()), digest, size: blob.size });
            }
            other => other.map_err(fail)?,
        };
        let name = Box::new(name.clone());
        let actual = digest_of(&bytes, digest.algorithm());
        if actual != digest {
            let source = oci::BlobError::DigestMismatch { expected: digest.clone(), actual };
            return Err(PullError::Blob { name, digest, source });
        }
        Ok(bytes)
    }
}

impl PullError {
    pub(crate) fn of_blob(name: &Reference, digest: &Digest, source: RequestError) -> Self {
        let (name, digest, source) = (Box::new(name.clone()), digest.clone(), Box::new(source));
        if source.is_not_found() {
            Self::BlobNotFound { name, digest, source }
        } else {
            Self::Request { name, digest, source }
        }
    }
}

/// Computes the digest of `bytes` by any algorithm.
pub(crate) fn digest_of(bytes: &[u8], algorithm: Algorithm) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// One manifest to be fetched, and what it must be.
struct Fetch<'a> {
    client: &'a Client,
    name: &'a Reference,
    access: Access,
    descriptor: Option<&'a Descriptor>,
    digest: Option<Digest>,
}

impl<'a> Fetch<'a> {
    fn new(client: &'a Client, name: &'a Reference, descriptor: Option<&'a Descriptor>) -> Result<Self, ResolveError> {
        let access = client.transport.access(name, "pull");
        let access = access
            .map_err(|source| ResolveError::Request { name: Box::new(name.clone()), source: Box::new(source) })?;
        let digest = descriptor.map(|descriptor| &descriptor.digest).or(name.digest()).cloned();
        Ok(Self { client, name, access, descriptor, digest })
    }

    fn call(&self, method: Method) -> Call {
        let by = self.digest.as_ref().map(ToString::to_string);
        let by = by.or_else(|| self.name.tag().map(str::to_owned)).unwrap_or_else(|| "latest".to_owned());
        let call = Call::new(method, self.access.repository.url(&format!("manifests/{by}")));
        let accepted = ACCEPTED.iter().filter_map(|media_type| HeaderValue::from_str(media_type.as_str()).ok());
        let call = accepted.fold(call, |call, value| call.header(ACCEPT, value));
        call.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }

    /// Reads a descriptor out of the headers of an answer, if they hold a whole one.
    fn claim(&self, answer: &Answer) -> Option<Descriptor> {
        let media_type = content_type(answer).filter(|media_type| media_type.is_manifest() || media_type.is_index())?;
        let claimed =
            answer.header(HeaderName::from_static("docker-content-digest")).and_then(|text| text.parse().ok());
        let digest = self.digest.clone().or(claimed)?;
        Some(Descriptor::new(media_type, digest, answer.content_length().filter(|length| *length > 0)?))
    }

    async fn run(&self) -> Result<(Descriptor, ManifestOrIndex), ResolveError> {
        let limit = Manifest::MAX_SIZE as u64;
        let call = self.call(Method::GET);
        let fetched = self.client.transport.fetch(&self.access, &call, limit, content_type).await;
        let (content_type, bytes) = fetched.map_err(|error| self.failure(error))?;
        let digest = self.verify(&bytes)?;
        let size = bytes.len() as u64;
        let document = self.parse(bytes, content_type);
        let document =
            document.map_err(|source| ResolveError::Manifest { name: Box::new(self.name.clone()), source })?;
        let mut descriptor = Descriptor::new(self.media_type(&document), digest, size);
        descriptor.platform = self.descriptor.and_then(|descriptor| descriptor.platform.clone());
        Ok((descriptor, document.1))
    }

    fn verify(&self, bytes: &[u8]) -> Result<Digest, ResolveError> {
        let name = Box::new(self.name.clone());
        if let Some(descriptor) = self.descriptor.filter(|descriptor| descriptor.size != bytes.len() as u64) {
            let expected = Box::new(descriptor.clone());
            return Err(ResolveError::SizeMismatch { name, expected, actual: bytes.len() as u64 });
        }
        let algorithm = self.digest.as_ref().map_or(Algorithm::Sha256, Digest::algorithm);
        let actual = digest_of(bytes, algorithm);
        match &self.digest {
            Some(expected) if *expected != actual => {
                Err(ResolveError::DigestMismatch { name, expected: expected.clone(), actual })
            }
            _ => Ok(actual),
        }
    }

    /// Parses a manifest that the descriptor and the `Content-Type` announce alike.
    fn parse(
        &self,
        bytes: Vec<u8>,
        content_type: Option<MediaType>,
    ) -> Result<(Option<MediaType>, ManifestOrIndex), DocumentError> {
        let described = self.descriptor.map(|descriptor| descriptor.media_type.clone());
        let announced = match (content_type, described) {
            (Some(inner), Some(outer)) if inner != outer => {
                return Err(DocumentError::MediaTypeMismatch { inner, outer });
            }
            (content_type, described) => described.or(content_type),
        };
        let document = ManifestOrIndex::parse(bytes, announced.as_ref())?;
        Ok((announced, document))
    }

    fn media_type(&self, (announced, document): &(Option<MediaType>, ManifestOrIndex)) -> MediaType {
        let (own, usual) = match document {
            ManifestOrIndex::Manifest(document) => (document.value().media_type.clone(), MediaType::OCI_MANIFEST),
            ManifestOrIndex::Index(document) => (document.value().media_type.clone(), MediaType::OCI_INDEX),
        };
        own.or_else(|| announced.clone()).unwrap_or(usual)
    }

    fn failure(&self, source: RequestError) -> ResolveError {
        let (name, source) = (Box::new(self.name.clone()), Box::new(source));
        if source.is_not_found() {
            ResolveError::NotFound { name, source }
        } else {
            ResolveError::Request { name, source }
        }
    }
}

/// Returns what an answer says it holds; `None` when it does not say.
fn content_type(answer: &Answer) -> Option<MediaType> {
    let media_type = MediaType::from_content_type(answer.header(CONTENT_TYPE)?);
    let says_nothing =
        matches!(media_type.as_str(), "" | "application/json" | "application/octet-stream" | "text/plain");
    (!says_nothing).then_some(media_type)
}
