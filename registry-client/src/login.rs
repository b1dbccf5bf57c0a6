//! Checking credentials against a registry; keeping them is `DockerConfig`'s work.

use std::sync::Arc;

use oci::Reference;
use reqwest::Method;

use crate::client::Client;
use crate::credentials::{CredentialError, CredentialSource, Credentials, FoundCredentials};
use crate::error::LoginError;
use crate::transport::Call;

impl Client {
    /// Asks `registry` (`host`, `host:port` or `docker.io`) whether it accepts these credentials.
    ///
    /// A registry that asks nobody for credentials accepts any.
    ///
    /// # Errors
    ///
    /// [`LoginError::Refused`] when it does not, [`LoginError::Request`] when it cannot be asked.
    pub async fn login(&self, registry: &str, credentials: &Credentials) -> Result<(), LoginError> {
        let registry = registry.to_owned();
        let is_name = |name: &Reference| name.registry() == registry;
        if !format!("{registry}/name").parse().is_ok_and(|name| is_name(&name)) {
            return Err(LoginError::Name { registry });
        }
        let transport = self.transport.with_credentials(Arc::new(Given(credentials.clone())));
        let asked = async {
            let access = transport.access_registry(&registry)?;
            let call = Call::new(Method::GET, access.repository.url(""));
            transport.retried(&access, &call).await
        };
        match asked.await {
            Ok(_) => Ok(()),
            Err(error) if error.is_denied() => Err(LoginError::Refused { registry, source: Box::new(error) }),
            Err(error) => Err(LoginError::Request { registry, source: Box::new(error) }),
        }
    }
}

/// The credentials that were given, whatever is asked for.
struct Given(Credentials);

impl CredentialSource for Given {
    fn credentials(&self, _: &str, _: &str) -> Result<Option<FoundCredentials>, CredentialError> {
        let source = "what was typed in".to_owned();
        Ok(Some(FoundCredentials { credentials: self.0.clone(), source }))
    }
}
