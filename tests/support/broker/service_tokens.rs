//! Issues and revokes service tokens in tests with an operator's access, as the admin program does.

use stile_core::service_token::{NewSecret, ServiceTokenTerms};
use stile_core::token::TokenId;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::{Namespace, Permission};
use stile_store::{IssuedServiceToken, ServiceTokenChanged, ServiceTokenIssued};

use super::TestBroker;
use super::operator::{kept, operator};

/// A service token that a test issued.
#[derive(Debug)]
pub struct Issued {
    /// The whole token.
    pub token: String,
    /// Its public id.
    pub id: TokenId,
    /// What the store says that it changed.
    pub changed: IssuedServiceToken,
}

impl TestBroker {
    /// Returns the terms of a token that ends after this many seconds. No namespace means all.
    pub fn terms(
        &self,
        name: &str,
        on: &[&str],
        may: &[Permission],
        networks: &[&str],
        life: i64,
    ) -> ServiceTokenTerms {
        let list = on.iter().map(|name| Namespace::parse(name).unwrap()).collect::<Vec<_>>();
        let namespaces = if list.is_empty() { Namespaces::All } else { Namespaces::List(list) };
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let (name, may) = (name.parse().unwrap(), may.iter().copied().collect());
        let (end, now) = (self.time() + life, self.time());
        ServiceTokenTerms::new(name, namespaces, may, networks, end, now).unwrap()
    }

    /// Issues a token of an operator that ends after a day.
    pub async fn issue(&self, name: &str, on: &[&str], may: &[Permission]) -> Issued {
        self.issue_with(self.terms(name, on, may, &[], 86_400)).await
    }

    /// Issues a token of an operator with these terms.
    pub async fn issue_with(&self, terms: ServiceTokenTerms) -> Issued {
        let secret = NewSecret::random().unwrap();
        let (operator, kept) = (operator(), kept(self.time()));
        let issued = self.store().issue_service_token(&operator, &secret, terms, &kept).await;
        let ServiceTokenIssued::Done(changed) = issued.unwrap() else { panic!("no token") };
        let (token, id) = (secret.expose().to_string(), changed.token.id().clone());
        Issued { token, id, changed: *changed }
    }

    /// Revokes a service token, as an operator. Returns whether there was one.
    pub async fn revoke_service_token(&self, id: &TokenId) -> bool {
        let (operator, kept) = (operator(), kept(self.time()));
        let revoked = self.store().revoke_service_token(&operator, id, &kept).await.unwrap();
        matches!(revoked, ServiceTokenChanged::Done(_))
    }
}
