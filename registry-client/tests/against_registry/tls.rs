//! TLS: whom to trust. The certificate is for `localhost`, signed by nobody else, and lasts for a century.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use oci::Reference;
use registry_client::{Client, ClientError, ExchangeError, RequestError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use test_support::{Auth, Registry};

use crate::{chain, insecure, options};

const CERTIFICATE: &[u8] = include_bytes!("localhost.crt");
const KEY: &[u8] = include_bytes!("localhost.key");

/// Answers one TLS request after another with `404 Not Found`; returns the port.
fn serve() -> u16 {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(KEY).unwrap())
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            if tls.read(&mut [0; 4096]).is_ok() {
                let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                drop(tls.write_all(answer).and_then(|()| tls.flush()));
            }
        }
    });
    port
}

/// A name of loopback that is not spoken to in plain http.
fn name(port: u16) -> Reference {
    format!("LOCALHOST:{port}/a:1").parse().unwrap()
}

#[tokio::test]
async fn a_server_is_trusted_when_its_certificate_is_given_and_not_otherwise() {
    let port = serve();
    let error = Client::new(options()).unwrap().resolve(&name(port)).await.unwrap_err();
    assert!(matches!(error.request(), Some(RequestError::Exchange(ExchangeError::Tls { .. }))), "{error:?}");
    let expected = "found no trustworthy TLS server\ninvalid peer certificate: UnknownIssuer";
    assert!(chain(&error).ends_with(expected), "{}", chain(&error));

    let mut options = options();
    options.trust.extra_ca_pem = vec![CERTIFICATE.to_vec()];
    let error = Client::new(options).unwrap().resolve(&name(port)).await.unwrap_err();
    assert!(error.request().unwrap().is_not_found(), "{error:?}");
}

#[tokio::test]
async fn a_plain_server_is_no_tls_server_unless_it_is_listed() {
    let registry = Registry::start(Auth::None);
    let port = registry.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let error = Client::new(options()).unwrap().resolve(&name(port)).await.unwrap_err();
    assert!(matches!(error.request(), Some(RequestError::Exchange(ExchangeError::Tls { .. }))), "{error:?}");
    let mut options = options();
    options.trust.insecure = insecure(&["LOCALHOST"]);
    let error = Client::new(options).unwrap().resolve(&name(port)).await.unwrap_err();
    assert!(error.request().unwrap().is_not_found(), "{error:?}");
}

#[test]
fn what_is_no_certificate_is_refused() {
    let check = |pem: &[u8]| {
        let mut options = options();
        options.trust.extra_ca_pem = vec![CERTIFICATE.to_vec(), pem.to_vec()];
        Client::new(options).map(drop).unwrap_err()
    };
    assert!(matches!(check(b"hello"), ClientError::NoCertificate { number: 1 }));
    let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    assert!(matches!(check(broken), ClientError::Certificate { number: 1, .. }));
}
