//! Pulling blobs.

use std::io;
use std::sync::Arc;

use oci::{BlobError, BlobSink, BlobWriter, Descriptor, MediaType};
use registry_client::{PullError, Transferred};
use test_support::{Auth, Fault, MemoryBlobs, Registry};

use crate::{chain_at, client, content, impatient_client, recovering_client};

const SIZE: usize = 600_000;

struct Case {
    registry: Registry,
    blob: Descriptor,
    sink: MemoryBlobs,
}

fn case() -> Case {
    let registry = Registry::start(Auth::None);
    let blob = registry.put_blob("a", MediaType::OCI_LAYER, &content(SIZE));
    Case { registry, blob, sink: MemoryBlobs::default() }
}

impl Case {
    async fn pull(&self) -> Result<Transferred, PullError> {
        let name = self.registry.reference("a:1");
        client().pull_blob(&name, &self.blob, Arc::new(self.sink.clone())).await
    }

    fn fail(&self, count: usize, fault: Fault) {
        self.registry.fail("GET", "blobs", count, fault);
    }

    fn is_whole(&self) -> bool {
        self.sink.blob(&self.blob.digest).is_some_and(|bytes| bytes == content(SIZE))
    }

    fn ranges(&self) -> Vec<String> {
        let requests = self.registry.requests_of("GET", "blobs");
        requests.iter().map(|request| request.header("range").unwrap_or("whole").to_owned()).collect()
    }
}

#[tokio::test]
async fn a_blob_is_pulled_once() {
    let case = case();
    assert_eq!(case.pull().await.unwrap(), Transferred::Received { bytes: SIZE as u64 });
    assert!(case.is_whole());
    assert_eq!(case.pull().await.unwrap(), Transferred::Existed);
    assert_eq!(case.ranges(), ["whole"]);
    assert_eq!(case.registry.requests()[0].header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn transient_faults_are_survived() {
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(408),
        Fault::RetryAfter(429, "0"),
        Fault::Reset,
        Fault::CutBody(0),
        Fault::CutBody(100_000),
        Fault::ShortBody(100_000),
        Fault::IgnoreRange,
    ];
    for fault in faults {
        let case = case();
        case.fail(2, fault.clone());
        let pulled = case.pull().await;
        assert!(pulled.is_ok() && case.is_whole(), "{fault:?}: {pulled:?}");
    }
}

#[tokio::test]
async fn a_cut_blob_is_resumed_where_it_broke() {
    let case = case();
    case.fail(2, Fault::CutBody(200_000));
    assert_eq!(case.pull().await.unwrap(), Transferred::Received { bytes: SIZE as u64 });
    assert!(case.is_whole() && case.sink.restarts() == 0);
    assert_eq!(case.ranges(), ["whole", "bytes=200000-", "bytes=400000-"]);
}

#[tokio::test]
async fn what_an_earlier_pull_received_is_not_pulled_again() {
    let case = case();
    case.sink.put_partial(case.blob.digest.clone(), &content(SIZE)[..SIZE - 7]);
    assert_eq!(case.pull().await.unwrap(), Transferred::Received { bytes: 7 });
    assert!(case.is_whole());
    case.sink.put_partial(case.blob.digest.clone(), &content(SIZE));
    assert_eq!(case.ranges(), [format!("bytes={}-", SIZE - 7)]);
}

#[tokio::test]
async fn a_wrong_beginning_is_thrown_away() {
    for wrong in [vec![1; 1000], vec![1; SIZE], vec![1; SIZE + 1]] {
        let case = case();
        case.sink.put_partial(case.blob.digest.clone(), &wrong);
        case.pull().await.unwrap();
        assert!(case.is_whole());
        assert_eq!(case.ranges().last().unwrap(), "whole");
    }
}

#[tokio::test]
async fn a_registry_without_ranges_is_pulled_from_the_beginning() {
    let unusable = [
        Fault::IgnoreRange,
        Fault::Status(416),
        Fault::Header("content-range", "bytes 0-9/10".to_owned()),
        Fault::NoHeader("content-range"),
    ];
    for fault in unusable {
        let case = case();
        case.sink.put_partial(case.blob.digest.clone(), &content(SIZE)[..1000]);
        case.fail(1, fault.clone());
        let pulled = case.pull().await;
        assert!(pulled.is_ok() && case.is_whole() && case.sink.restarts() == 1, "{fault:?}: {pulled:?}");
    }
}

#[tokio::test]
async fn wrong_bytes_are_not_kept() {
    let case = case();
    case.fail(1, Fault::WrongBytes);
    let error = case.pull().await.unwrap_err();
    assert!(matches!(&error, PullError::Blob { source: BlobError::DigestMismatch { .. }, .. }), "{error:?}");
    assert!(case.sink.blob(&case.blob.digest).is_none() && case.sink.partial(&case.blob.digest).is_none());
}

#[tokio::test]
async fn no_more_than_the_described_bytes_are_taken() {
    for fault in [Fault::LongBody(1), Fault::EndlessBody] {
        let case = case();
        case.fail(1, fault.clone());
        let error = case.pull().await.unwrap_err();
        assert!(matches!(error, PullError::TooLong { .. }), "{fault:?}: {error:?}");
        assert!(case.sink.partial(&case.blob.digest).is_none_or(|bytes| bytes.len() <= SIZE));
    }
}

#[tokio::test]
async fn a_blob_that_stays_short_is_an_error() {
    let case = case();
    let mut longer = case.blob.clone();
    longer.size += 1;
    let name = case.registry.reference("a:1");
    let error = client().pull_blob(&name, &longer, Arc::new(case.sink.clone())).await.unwrap_err();
    assert!(matches!(error, PullError::Request { .. }), "{error:?}");
}

#[tokio::test]
async fn an_encoded_blob_is_refused() {
    let case = case();
    case.fail(1, Fault::Header("content-encoding", "gzip".to_owned()));
    let error = case.pull().await.unwrap_err();
    assert!(chain_at(&error, &case.registry).contains("it is encoded, though that was not asked for"), "{error:?}");
}

#[tokio::test]
async fn a_missing_blob_is_an_error_of_its_own() {
    let case = case();
    let absent = Descriptor::of(MediaType::OCI_LAYER, b"absent");
    let name = case.registry.reference("a:1");
    let error = client().pull_blob(&name, &absent, Arc::new(case.sink.clone())).await.unwrap_err();
    assert!(matches!(error, PullError::BlobNotFound { .. }));
    let expected = format!(
        "cannot find blob {digest} of REGISTRY/a:1\n\
        GET http://REGISTRY/v2/a/blobs/{digest} was not found (404 Not Found)\n\
        registry says BLOB_UNKNOWN: blob unknown to registry",
        digest = absent.digest
    );
    assert_eq!(chain_at(&error, &case.registry), expected);
}

#[tokio::test]
async fn an_empty_blob_needs_no_request() {
    let registry = Registry::start(Auth::None);
    let empty = Descriptor::of(MediaType::OCI_LAYER, b"");
    let sink = MemoryBlobs::default();
    client().pull_blob(&registry.reference("a:1"), &empty, Arc::new(sink.clone())).await.unwrap();
    assert_eq!((sink.blob(&empty.digest), registry.requests().len()), (Some(Vec::new()), 0));
}

#[tokio::test]
async fn a_registry_that_stalls_is_given_up_and_the_rest_is_pulled() {
    for fault in [Fault::Hang, Fault::StallBody(1000)] {
        let case = case();
        case.fail(1, fault.clone());
        let name = case.registry.reference("a:1");
        let pulled = recovering_client().pull_blob(&name, &case.blob, Arc::new(case.sink.clone())).await;
        assert!(pulled.is_ok() && case.is_whole(), "{fault:?}: {pulled:?}");
        case.fail(2, fault);
        let again = Arc::new(MemoryBlobs::default());
        let error = impatient_client().pull_blob(&name, &case.blob, again).await.unwrap_err();
        assert!(chain_at(&error, &case.registry).contains("took longer than 100ms"), "{error:?}");
    }
}

#[tokio::test]
async fn what_was_received_of_a_failed_pull_is_kept() {
    let case = case();
    case.fail(5, Fault::CutBody(1000));
    assert!(case.pull().await.is_err());
    assert_eq!(case.sink.partial(&case.blob.digest).unwrap(), content(SIZE)[..5000]);
}

/// A sink whose disk is full after some bytes.
struct FullDisk;

struct FullWriter(u64);

impl BlobSink for FullDisk {
    fn begin(&self, _: &Descriptor) -> Result<Option<Box<dyn BlobWriter>>, BlobError> {
        Ok(Some(Box::new(FullWriter(0))))
    }
}

impl io::Write for FullWriter {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.0 > 1000 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0 += buffer.len() as u64;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl BlobWriter for FullWriter {
    fn received(&self) -> u64 {
        self.0
    }

    fn restart(&mut self) -> Result<(), BlobError> {
        self.0 = 0;
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), BlobError> {
        unreachable!("the disk is full")
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_pull() {
    let case = case();
    let name = case.registry.reference("a:1");
    let error = client().pull_blob(&name, &case.blob, Arc::new(FullDisk)).await.unwrap_err();
    let PullError::Blob { source: BlobError::Io { action: "write", source, .. }, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(case.registry.count("GET", "blobs"), 1);
}
