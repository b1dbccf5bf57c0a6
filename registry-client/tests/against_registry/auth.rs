//! Being let in, and what is told to whom.

use std::sync::{Arc, Mutex};

use oci::Platform;
use registry_client::{
    Client, CredentialError, CredentialSource, Credentials, DockerConfig, FoundCredentials, LoginError, ResolveError,
};
use test_support::{Auth, Fault, Registry, Tokens};

use crate::{basic, chain_at, client, client_as, options, put_image};

async fn pull(client: &Client, registry: &Registry) -> Result<(), registry_client::PullError> {
    client.pull_image(&registry.reference("a/b:1"), &Platform::host()).await.map(drop)
}

fn registry(auth: Auth) -> Registry {
    let registry = Registry::start(auth);
    put_image(&registry, "a/b", "1", &[b"x"]);
    registry
}

#[tokio::test]
async fn basic_credentials_are_sent_after_they_are_asked_for() {
    let registry = registry(Auth::basic("ana", "pa:ss"));
    pull(&client_as(basic("ana", "pa:ss")), &registry).await.unwrap();
    let sent: Vec<_> = registry.requests().iter().map(|r| r.header("authorization").is_some()).collect();
    assert_eq!(sent, [false, true, true]);
}

#[tokio::test]
async fn one_token_serves_all_requests_of_a_scope() {
    let registry = registry(Auth::bearer("ana", "pw"));
    let client = client_as(basic("ana", "pw"));
    pull(&client, &registry).await.unwrap();
    pull(&client, &registry).await.unwrap();
    let tokens = registry.requests_of("GET", "/token");
    assert_eq!(tokens.len(), 1);
    assert_eq!(tokens[0].query, "service=test+registry&scope=repository%3Aa%2Fb%3Apull&account=ana&client_id=wharf");
    assert!(tokens[0].header("authorization").unwrap().starts_with("Basic "));
    let others = registry.requests().into_iter().filter(|r| r.path != "/token");
    assert!(others.filter_map(|r| r.header("authorization").map(str::to_owned)).all(|h| h.starts_with("Bearer ")));
}

#[tokio::test]
async fn simultaneous_requests_share_one_token() {
    let registry = registry(Auth::bearer("ana", "pw"));
    let client = client_as(basic("ana", "pw"));
    let pulls = (0..8).map(|_| pull(&client, &registry));
    futures_util::future::try_join_all(pulls).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 1);
}

#[tokio::test]
async fn a_token_may_be_called_access_token_and_have_no_lifetime() {
    let tokens = Tokens { field: "access_token", expires_in: None, ..Tokens::for_account("ana", "pw") };
    let registry = registry(Auth::Bearer(tokens));
    pull(&client_as(basic("ana", "pw")), &registry).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 1);
}

#[tokio::test]
async fn public_repositories_need_a_token_but_no_account() {
    let registry = registry(Auth::Bearer(Tokens { is_public: true, ..Tokens::for_account("ana", "pw") }));
    pull(&client(), &registry).await.unwrap();
    assert_eq!(registry.requests_of("GET", "/token")[0].header("authorization"), None);
}

#[tokio::test]
async fn an_identity_token_is_exchanged_in_a_form() {
    let tokens = Tokens { identity_token: Some("refresh+me".to_owned()), ..Tokens::for_account("ana", "pw") };
    let registry = registry(Auth::Bearer(tokens));
    pull(&client_as(Credentials::IdentityToken { token: "refresh+me".to_owned() }), &registry).await.unwrap();
    assert_eq!((registry.count("POST", "/token"), registry.count("GET", "/token")), (1, 0));
    let wrong = client_as(Credentials::IdentityToken { token: "wrong".to_owned() });
    let error = pull(&wrong, &registry).await.unwrap_err();
    assert_eq!(error.request().unwrap().tried().unwrap().account.as_deref(), Some("identity token"));
}

#[tokio::test]
async fn a_token_that_has_expired_is_renewed_once() {
    let registry = registry(Auth::bearer("ana", "pw"));
    let client = client_as(basic("ana", "pw"));
    pull(&client, &registry).await.unwrap();
    registry.expire_tokens();
    pull(&client, &registry).await.unwrap();
    assert_eq!(registry.count("GET", "/token"), 2);

    registry.fail("GET", "manifests", 100, Fault::ExpireTokens);
    let error = pull(&client, &registry).await.unwrap_err();
    assert!(error.request().unwrap().is_denied());
    assert_eq!(registry.count("GET", "/token"), 3);
}

#[tokio::test]
async fn a_token_that_says_it_has_expired_is_renewed_before_it_is_used() {
    let registry = registry(Auth::Bearer(Tokens { expires_in: Some(0), ..Tokens::for_account("ana", "pw") }));
    pull(&client_as(basic("ana", "pw")), &registry).await.unwrap();
    let refused =
        registry.requests().iter().filter(|r| r.path != "/token" && r.header("authorization").is_none()).count();
    assert_eq!((refused, registry.count("GET", "/token")), (1, 2));
}

#[tokio::test]
async fn a_refusal_says_what_was_tried() {
    let registry = registry(Auth::bearer("ana", "pw"));
    let error = pull(&client_as(basic("ana", "wrong")), &registry).await.unwrap_err();
    let expected = "cannot resolve REGISTRY/a/b:1\n\
        GET http://REGISTRY/token was refused (401 Unauthorized)\n\
        registry says UNAUTHORIZED: incorrect username or password";
    assert_eq!(chain_at(&error, &registry), expected);
    let tried = error.request().unwrap().tried().unwrap().to_string();
    assert_eq!(tried, "user `ana` from the test, scope `repository:a/b:pull`");

    let error = pull(&client(), &registry).await.unwrap_err();
    assert_eq!(error.request().unwrap().tried().unwrap().to_string(), "no credentials, scope `repository:a/b:pull`");
    assert!(chain_at(&error, &registry).contains("/v2/a/b/manifests/1 was refused (401 Unauthorized)"));
}

#[tokio::test]
async fn wrong_basic_credentials_are_sent_once() {
    let registry = registry(Auth::basic("ana", "pw"));
    let error = pull(&client_as(basic("ana", "wrong")), &registry).await.unwrap_err();
    assert_eq!(error.request().unwrap().tried().unwrap().to_string(), "user `ana` from the test");
    assert_eq!(registry.requests().len(), 2);
    let anonymous = pull(&client(), &registry).await.unwrap_err();
    assert_eq!(anonymous.request().unwrap().tried().unwrap().to_string(), "no credentials");
}

#[tokio::test]
async fn the_scope_that_a_challenge_names_is_not_asked_for() {
    let challenge_scope = Some("repository:secret:pull,push,delete".to_owned());
    let registry = registry(Auth::Bearer(Tokens { challenge_scope, ..Tokens::for_account("ana", "pw") }));
    pull(&client_as(basic("ana", "pw")), &registry).await.unwrap();
    assert_eq!(registry.count("GET", "secret"), 0);
    assert_eq!(registry.count("GET", "scope=repository%3Aa%2Fb%3Apull&"), 1);
}

#[tokio::test]
async fn a_realm_elsewhere_gets_no_password_in_plain_http() {
    let other = Registry::start(Auth::bearer("ana", "pw"));
    let realm = Some(format!("http://{}/token", other.address()));
    let registry = registry(Auth::Bearer(Tokens { realm, ..Tokens::for_account("ana", "pw") }));
    for credentials in [basic("ana", "pw"), Credentials::IdentityToken { token: "t".to_owned() }] {
        let error = pull(&client_as(credentials), &registry).await.unwrap_err();
        let text = chain_at(&error, &registry);
        assert!(text.contains("another server would get the password in plain http"), "{text}");
    }
    assert_eq!(other.requests().len(), 0);
    pull(&client(), &registry).await.unwrap_err();
    assert_eq!(other.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn realms_that_are_no_web_addresses_are_refused() {
    for realm in ["file:///etc/passwd", "ftp://example.com/", "not a url", ""] {
        let registry =
            registry(Auth::Bearer(Tokens { realm: Some(realm.to_owned()), ..Tokens::for_account("ana", "pw") }));
        let error = pull(&client_as(basic("ana", "pw")), &registry).await.unwrap_err();
        assert!(chain_at(&error, &registry).contains("names the token service"), "{realm}: {error:?}");
    }
}

#[tokio::test]
async fn a_token_service_may_fail_for_a_moment_but_must_answer_sense() {
    let registry = registry(Auth::bearer("ana", "pw"));
    registry.fail("GET", "/token", 2, Fault::Status(503));
    registry.fail("GET", "/token", 1, Fault::Reset);
    pull(&client_as(basic("ana", "pw")), &registry).await.unwrap();

    let bad = ["", "{}", "[]", r#"{"token":""}"#, r#"{"token":"a\nb"}"#, r#"{"token":5}"#];
    for text in bad {
        registry.fail("GET", "/token", 1, Fault::Text(200, text.to_owned()));
        let error = pull(&client_as(basic("ana", "pw")), &registry).await.unwrap_err();
        assert!(chain_at(&error, &registry).contains("was answered against the protocol"), "{text}: {error:?}");
    }
    for fault in [Fault::LongBody(1 << 20), Fault::EndlessBody] {
        registry.fail("GET", "/token", 1, fault);
        let error = pull(&client_as(basic("ana", "pw")), &registry).await.unwrap_err();
        assert!(chain_at(&error, &registry).contains("more than the 1048576 bytes"), "{error:?}");
    }
    for lifetime in ["-5", "1e300", "0.5", "18446744073709551615"] {
        let text = format!(r#"{{"token":"t","expires_in":{lifetime}}}"#);
        registry.fail("GET", "/token", 1, Fault::Text(200, text));
        let error = pull(&client_as(basic("ana", "pw")), &registry).await;
        assert!(error.is_ok() || error.unwrap_err().request().unwrap().is_denied());
    }
}

#[tokio::test]
async fn an_identity_token_does_not_follow_a_redirect_elsewhere() {
    let other = Registry::start(Auth::None);
    let tokens = Tokens { identity_token: Some("refresh-me".to_owned()), ..Tokens::for_account("ana", "pw") };
    let registry = registry(Auth::Bearer(tokens));
    registry.fail("POST", "/token", 1, Fault::Redirect(307, format!("http://{}/token", other.address())));
    let client = client_as(Credentials::IdentityToken { token: "refresh-me".to_owned() });
    let error = pull(&client, &registry).await.unwrap_err();
    assert!(chain_at(&error, &registry).contains("another server would get the identity token"), "{error:?}");
    assert_eq!(other.requests().len(), 0);
}

#[tokio::test]
async fn login_tells_good_credentials_from_bad_ones() {
    let identity_token = Some("refresh-me".to_owned());
    let tokens = Tokens { identity_token, ..Tokens::for_account("ana", "pw") };
    for auth in [Auth::basic("ana", "pw"), Auth::Bearer(tokens)] {
        let is_bearer = matches!(auth, Auth::Bearer(_));
        let registry = registry(auth);
        client().login(&registry.address(), &basic("ana", "pw")).await.unwrap();
        let error = client().login(&registry.address(), &basic("ana", "wrong")).await.unwrap_err();
        assert!(matches!(error, LoginError::Refused { .. }), "{error:?}");
        assert!(chain_at(&error, &registry).starts_with("REGISTRY does not accept these credentials\n"));
        let token = Credentials::IdentityToken { token: "refresh-me".to_owned() };
        assert_eq!(client().login(&registry.address(), &token).await.is_ok(), is_bearer);
    }
}

#[tokio::test]
async fn login_needs_the_name_of_a_registry() {
    for name in ["", "a b", "example.com/team", "https://example.com", "word", "-"] {
        let error = client().login(name, &basic("ana", "pw")).await.unwrap_err();
        assert!(matches!(error, LoginError::Name { .. }), "{name}: {error:?}");
    }
    let mut gone = Registry::start(Auth::None);
    client().login(&gone.address(), &basic("ana", "pw")).await.unwrap();
    gone.stop();
    let error = client().login(&gone.address(), &basic("ana", "pw")).await.unwrap_err();
    assert!(matches!(&error, LoginError::Request { .. }) && error.request().unwrap().is_unreachable(), "{error:?}");
}

#[tokio::test]
async fn credentials_of_config_json_are_used_for_their_registry() {
    let registry = registry(Auth::bearer("ana", "pw"));
    let dir = tempfile::tempdir().unwrap();
    let config = DockerConfig::new(dir.path().join("config.json"), Vec::new());
    config.store(&registry.address(), &basic("ana", "pw")).unwrap();
    let mut options = options();
    options.credentials = Arc::new(config);
    pull(&Client::new(options).unwrap(), &registry).await.unwrap();
}

/// Knows nothing, and remembers what it was asked for.
#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl CredentialSource for Asked {
    fn credentials(&self, registry: &str, path: &str) -> Result<Option<FoundCredentials>, CredentialError> {
        self.0.lock().unwrap().push(format!("{registry} {path}"));
        Err(CredentialError::HelperMissing { program: "docker-credential-test".to_owned() })
    }
}

#[tokio::test]
async fn credentials_are_looked_up_by_registry_and_path_and_only_when_needed() {
    let open = registry(Auth::None);
    let closed = registry(Auth::basic("ana", "pw"));
    let asked = Arc::new(Asked::default());
    let mut options = options();
    options.credentials = Arc::clone(&asked) as Arc<dyn CredentialSource>;
    let client = Client::new(options).unwrap();
    pull(&client, &open).await.unwrap();
    let error = client.resolve(&closed.reference("a/b:1")).await.unwrap_err();
    assert!(matches!(error, ResolveError::Request { .. }));
    let expected = format!("cannot read the credentials for {}", closed.address());
    assert_eq!(error.request().unwrap().to_string(), expected);
    assert_eq!(*asked.0.lock().unwrap(), [format!("{} a/b", closed.address())]);
}
