//! Creates trusts in tests, and tokens of their callers without a JWT.

use secrecy::ExposeSecret as _;
use stile_core::grants::{Refusal, entitle};
use stile_core::identity::{Identity, SingleUse};
use stile_core::principal::LocalName;
use stile_core::trust::{Condition, DEFAULT_MAX_AGE, Trust, TrustTerms};
use stile_protocol::exchange::{Namespaces, RequestDocument};
use stile_protocol::names::Permission;
use stile_store::{SingleUseOutcome, TrustChange, TrustCreated, TrustDeleted, TrustUpdated};

use super::TestBroker;
use super::operator::{kept, operator};

/// The issuer of the trusts of tests.
pub const ISSUER: &str = "https://git.corp.example";

/// Returns the name of a trust.
pub fn trust_name(text: &str) -> LocalName {
    text.parse().unwrap()
}

/// Returns the terms of a trust in that issuer, with this condition.
pub fn trust_terms(issuer: &str, claim: &str) -> TrustTerms {
    TrustTerms {
        issuer: issuer.parse().unwrap(),
        audience: None,
        conditions: vec![Condition::equals(claim).unwrap()],
        max_age: DEFAULT_MAX_AGE,
        aws: None,
        keys: None,
    }
}

impl TestBroker {
    /// Creates a trust in [`ISSUER`].
    pub async fn trust(&self, name: &str) -> Trust {
        self.trust_of(name, ISSUER).await
    }

    /// Creates a trust in that issuer.
    pub async fn trust_of(&self, name: &str, issuer: &str) -> Trust {
        let terms = trust_terms(issuer, "project_id=74");
        match self.create_trust(name, terms).await {
            TrustCreated::Done(trust) => *trust,
            other => panic!("{other:?}"),
        }
    }

    /// Creates a trust, as an operator.
    pub async fn create_trust(&self, name: &str, terms: TrustTerms) -> TrustCreated {
        let (operator, kept) = (operator(), kept(self.time()));
        let created = self.store().create_trust(&operator, trust_name(name), terms, &kept);
        created.await.unwrap()
    }

    /// Changes the conditions of a trust to this one, as an operator.
    pub async fn update_trust(&self, name: &str, claim: &str) -> TrustUpdated {
        let conditions = Some(vec![Condition::equals(claim).unwrap()]);
        let change = TrustChange { conditions, ..TrustChange::default() };
        let (operator, name, kept) = (operator(), trust_name(name), kept(self.time()));
        self.store().update_trust(&operator, &name, &change, &kept).await.unwrap()
    }

    /// Deletes a trust, as an operator.
    pub async fn delete_trust(&self, name: &str) -> TrustDeleted {
        let kept = kept(self.time());
        self.store().delete_trust(&operator(), &trust_name(name), &kept).await.unwrap()
    }

    /// Mints a token for a caller whose JWT this trust believes, as the exchange does after it has
    /// verified the JWT.
    pub async fn trust_token(
        &self,
        trust: &Trust,
        permissions: &[Permission],
    ) -> Result<String, Refusal> {
        let (broker, now) = (&self.broker, self.time());
        let identity = Identity::from_trust(trust, "project:74");
        let document = RequestDocument {
            nonce: String::new(),
            ttl: 3600,
            namespaces: Namespaces::All,
            permissions: permissions.iter().copied().collect(),
        };
        let state = broker.store.principal_state(identity.principals().to_vec()).await.unwrap();
        broker.tokens.follow(&state.keyring, &broker.store, now).await.unwrap();
        let entitlement = entitle(identity, &document, &state, now)?;
        let key = broker.tokens.minting_key(&broker.store, now).await.unwrap();
        let recorded =
            broker.store.record(SingleUse::ByIssuer, entitlement.new_pin(), now).await.unwrap();
        let SingleUseOutcome::Recorded(recorded) = recorded else { panic!("{recorded:?}") };
        let (token, _) = broker.tokens.mint(&key, &entitlement, recorded, now).unwrap();
        Ok(token.expose_secret().to_owned())
    }
}
