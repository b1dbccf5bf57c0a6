//! Who may do what: no authentication, Basic, or Bearer with a token service on `/token`.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, Method};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::content::{Target, parameter, parameters};
use super::{Shared, refuse};

/// How the registry asks for credentials.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Not at all.
    None,
    /// User and password with each request.
    Basic(Account),
    /// Access tokens from a token service.
    Bearer(Tokens),
}

/// The one account that exists.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Account {
    pub user: String,
    pub password: String,
}

/// How the token service behaves.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Who gets every scope that is asked for.
    pub account: Account,
    /// A refresh token that is as good as the account.
    pub identity_token: Option<String>,
    /// Whether those without credentials get `pull`.
    pub is_public: bool,
    /// Repositories that nobody gets any scope for.
    pub denied: Vec<String>,
    /// The realm of the challenge; `None` is this registry's own `/token`.
    pub realm: Option<String>,
    /// The scope of the challenge, instead of the true one.
    pub challenge_scope: Option<String>,
    /// Seconds announced as `expires_in`; `None` leaves it out.
    pub expires_in: Option<u64>,
    /// The field of the answer that holds the token: `token` or `access_token`.
    pub field: &'static str,
}

impl Auth {
    /// Basic authentication for one account.
    pub fn basic(user: &str, password: &str) -> Self {
        Self::Basic(Account { user: user.to_owned(), password: password.to_owned() })
    }

    /// Bearer authentication for one account, everything else as usual.
    pub fn bearer(user: &str, password: &str) -> Self {
        Self::Bearer(Tokens::for_account(user, password))
    }
}

impl Tokens {
    /// A token service for one account, everything else as usual.
    pub fn for_account(user: &str, password: &str) -> Self {
        Self {
            account: Account { user: user.to_owned(), password: password.to_owned() },
            identity_token: None,
            is_public: false,
            denied: Vec::new(),
            realm: None,
            challenge_scope: None,
            expires_in: Some(300),
            field: "token",
        }
    }
}

impl Account {
    fn is_in(&self, headers: &HeaderMap) -> bool {
        let expected = format!("Basic {}", STANDARD.encode(format!("{}:{}", self.user, self.password)));
        authorization(headers) == Some(expected.as_str())
    }
}

/// The rules and the tokens handed out.
#[derive(Debug)]
pub(super) struct Access {
    auth: Auth,
    issued: BTreeMap<String, BTreeSet<(String, String)>>,
    count: usize,
}

impl Access {
    pub(super) fn new(auth: Auth) -> Self {
        Self { auth, issued: BTreeMap::new(), count: 0 }
    }

    pub(super) fn expire_tokens(&mut self) {
        self.issued.clear();
    }

    fn issue(&mut self, scopes: BTreeSet<(String, String)>) -> String {
        self.count += 1;
        let token = format!("access-token-{}", self.count);
        self.issued.insert(token.clone(), scopes);
        token
    }

    fn allows(&self, headers: &HeaderMap, wanted: Option<(&str, &str)>) -> bool {
        match &self.auth {
            Auth::None => true,
            Auth::Basic(account) => account.is_in(headers),
            Auth::Bearer(_) => {
                let token = authorization(headers).and_then(|text| text.strip_prefix("Bearer "));
                let scopes = token.and_then(|token| self.issued.get(token));
                scopes.is_some_and(|scopes| {
                    wanted.is_none_or(|(name, action)| scopes.contains(&(name.to_owned(), action.to_owned())))
                })
            }
        }
    }
}

fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization").and_then(|value| value.to_str().ok())
}

/// Tells whether the request with these headers may read `repository`.
pub(super) fn may_pull(shared: &Shared, headers: &HeaderMap, repository: &str) -> bool {
    shared.inner().access.allows(headers, Some((repository, "pull")))
}

/// Returns the refusal of a request that is not allowed.
pub(super) fn refusal(shared: &Shared, request: &Request) -> Option<Response> {
    let target = Target::of(request.uri().path());
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD) && !matches!(target, Target::Upload(..));
    let action = if is_read { "pull" } else { "push" };
    let wanted = target.repository().map(|repository| (repository, action));
    let inner = shared.inner();
    if inner.access.allows(request.headers(), wanted) {
        return None;
    }
    let challenge = match &inner.access.auth {
        Auth::None | Auth::Basic(_) => "Basic realm=\"test, with a comma\"".to_owned(),
        Auth::Bearer(tokens) => {
            let realm = tokens.realm.clone().unwrap_or_else(|| format!("http://{}/token", shared.address));
            let scope = wanted.map(|(name, action)| format!("repository:{name}:{action}"));
            let scope = tokens.challenge_scope.clone().or(scope).unwrap_or_default();
            format!("Bearer realm=\"{realm}\",service=\"test registry\",scope=\"{scope}\"")
        }
    };
    let mut refusal = refuse(401, "UNAUTHORIZED", "authentication required");
    refusal.headers_mut().insert("www-authenticate", challenge.parse().expect("the challenge is a header value"));
    Some(refusal)
}

/// Answers the token service's GET (Basic) and POST (OAuth2 refresh token).
pub(super) async fn token(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let form = if parts.method == Method::POST {
        String::from_utf8_lossy(&body).into_owned()
    } else {
        parts.uri.query().unwrap_or_default().to_owned()
    };
    let mut inner = shared.inner();
    let Auth::Bearer(tokens) = inner.access.auth.clone() else { return refuse(404, "UNSUPPORTED", "no token service") };
    let is_refreshed = parts.method == Method::POST
        && parameter(&form, "grant_type").as_deref() == Some("refresh_token")
        && parameter(&form, "refresh_token") == tokens.identity_token;
    let is_known = is_refreshed || tokens.account.is_in(&parts.headers);
    let is_anonymous = parts.method == Method::GET && authorization(&parts.headers).is_none();
    if !is_known && !is_anonymous {
        return refuse(401, "UNAUTHORIZED", "incorrect username or password");
    }
    let scopes = parameters(&form, "scope");
    let scopes = scopes.iter().flat_map(|text| text.split(' ')).flat_map(scope);
    let is_granted = |(name, action): &(String, String)| {
        !tokens.denied.contains(name) && (is_known || (tokens.is_public && action == "pull"))
    };
    let token = inner.access.issue(scopes.filter(is_granted).collect());
    let mut answer = serde_json::json!({ tokens.field: token });
    if let Some(seconds) = tokens.expires_in {
        answer["expires_in"] = seconds.into();
    }
    Response::builder()
        .header("content-type", "application/json")
        .body(Body::from(answer.to_string()))
        .expect("the parts are valid")
}

fn scope(text: &str) -> Vec<(String, String)> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("repository"), Some(name), Some(actions)) => {
            actions.split(',').map(|action| (name.to_owned(), action.to_owned())).collect()
        }
        _ => Vec::new(),
    }
}
