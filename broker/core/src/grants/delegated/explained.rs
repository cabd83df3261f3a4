//! Explains the access of others to a bearer, as far as its right to give grants reaches.

use stile_protocol::names::Permission;

use super::super::decide::{PermittedNamespaces, allowed, permitted_namespaces};
use super::super::explain::{
    AccessQuestion, AskedToken, Condition, Explanation, NearestGrant, Verdict, principals_of,
};
use super::super::{Grant, GrantNamespace, PrincipalState};
use super::DelegationRefusal;
use crate::principal::Principal;
use crate::token::Claims;

/// The right of a bearer to have accesses to one namespace explained. Only [`explain_access`] creates
/// one.
#[derive(Debug)]
pub struct ExplainAccess {
    namespace: GrantNamespace,
    /// Whether the bearer may see the grants on all namespaces.
    sees_all: bool,
    now: i64,
}

/// What the store knows about a question of a bearer.
#[derive(Debug)]
pub struct ExplainFacts {
    /// The state of the principals of the caller that the question is about.
    pub state: PrincipalState,
    /// The grants that can be the nearest one.
    pub others: Vec<Grant>,
    /// The revoked principals.
    pub revoked: Vec<Principal>,
}

/// An explanation as a bearer may see it. Only [`ExplainAccess::explain`] creates one.
#[derive(Debug, PartialEq, Eq)]
pub struct DelegatedExplanation {
    /// The explanation in one word.
    pub verdict: Verdict,
    /// The code of what prevents access ([`Explanation::difference`]).
    pub difference: Option<&'static str>,
    /// The explanation in one sentence.
    pub sentence: String,
    /// The grants that give access.
    pub given_by: Vec<GivenBy>,
    /// The condition under which they do.
    pub condition: Option<Condition>,
    /// The nearest grant, if the caller has no access.
    pub nearest: Option<NearestGrant>,
}

/// A grant that gives access, as a bearer may see it.
#[derive(Debug, PartialEq, Eq)]
pub enum GivenBy {
    /// A grant that the bearer may list.
    Grant(Grant),
    /// A grant of this principal on all namespaces. The bearer may not see its end, its other
    /// permissions and its origin.
    AllNamespaces(Principal),
}

/// Decides whether a bearer may have accesses to a namespace explained: if it has `create_grant` there.
///
/// # Errors
///
/// [`DelegationRefusal`], if it does not have it.
pub fn explain_access(
    claims: &Claims,
    state: &PrincipalState,
    namespace: &GrantNamespace,
    now: i64,
) -> Result<ExplainAccess, DelegationRefusal> {
    let right = Permission::CreateGrant;
    let sees_all = permitted_namespaces(claims, state, right, now) == PermittedNamespaces::All;
    match namespace {
        GrantNamespace::All if !sees_all => return Err(DelegationRefusal::ExplainsAllNamespaces),
        GrantNamespace::All => {}
        GrantNamespace::One(one) => {
            allowed(claims, state, one, right, now).map_err(DelegationRefusal::Refused)?;
        }
    }
    Ok(ExplainAccess { namespace: namespace.clone(), sees_all, now })
}

impl ExplainAccess {
    /// Returns the namespace.
    pub const fn namespace(&self) -> &GrantNamespace {
        &self.namespace
    }

    /// Returns whether the bearer may see the grants on all namespaces.
    pub const fn sees_all(&self) -> bool {
        self.sees_all
    }

    /// Explains whether a caller has a permission on the namespace.
    ///
    /// The nearest grant is one that the bearer may list. The explanation has nothing of another
    /// namespace, except that a grant on all namespaces gives the permission.
    ///
    /// It says that the caller is revoked only if a grant on the namespace concerns the caller. Otherwise
    /// a bearer could ask for every principal of every account whether an operator revoked it.
    pub fn explain(
        &self,
        caller: &Principal,
        permission: Permission,
        facts: &ExplainFacts,
    ) -> DelegatedExplanation {
        let question = AccessQuestion {
            caller,
            unique_id: None,
            namespace: (&self.namespace).into(),
            permission,
            token: AskedToken::default(),
            now: self.now,
        };
        let sees = |grant: &&Grant| self.sees(grant);
        let others: Vec<Grant> = facts.others.iter().filter(sees).cloned().collect();
        let principals = principals_of(caller);
        let is_concerned = others
            .iter()
            .chain(&facts.state.grants)
            .any(|grant| self.concerns(&principals, grant, permission));
        let revoked = facts.state.revoked.clone().filter(|_| is_concerned);
        let state = PrincipalState { revoked, ..facts.state.clone() };
        let explanation =
            question.explain(&state, &others, &facts.revoked).without_secrets_of_operators();
        let (verdict, difference) = (explanation.verdict(), explanation.difference());
        let sentence = question.sentence(&explanation);
        let (given_by, condition, nearest) = match explanation {
            Explanation::Yes { by, condition } => (by, condition, None),
            Explanation::No(nearest) => (Vec::new(), None, nearest),
            Explanation::Revoked(_) | Explanation::Token(_) => (Vec::new(), None, None),
        };
        let given_by = given_by.into_iter().map(|grant| self.given_by(grant)).collect();
        DelegatedExplanation { verdict, difference, sentence, given_by, condition, nearest }
    }

    fn sees(&self, grant: &Grant) -> bool {
        self.sees_all || grant.namespace == self.namespace
    }

    /// Returns whether a grant on the namespace is for one of these principals.
    ///
    /// Of grants on all namespaces that the bearer may not see, only those count that would give the
    /// permission: the answer would have them anyway.
    fn concerns(&self, principals: &[Principal], grant: &Grant, permission: Permission) -> bool {
        let gives = || {
            grant.permissions.contains(permission)
                && grant.expires_at.is_none_or(|end| self.now < end)
        };
        let is_here = grant.namespace == self.namespace
            || (grant.namespace == GrantNamespace::All && (self.sees_all || gives()));
        is_here && principals.contains(&grant.principal)
    }

    fn given_by(&self, grant: Grant) -> GivenBy {
        if self.sees(&grant) {
            GivenBy::Grant(grant)
        } else {
            GivenBy::AllNamespaces(grant.principal)
        }
    }
}

#[cfg(test)]
mod tests {
    use stile_protocol::exchange::Namespaces;
    use stile_protocol::names::Permission::{CreateGrant, DeleteGrant, Download, Upload};

    use super::super::super::Pin;
    use super::super::super::tests::{grant, namespace, principal, state_of};
    use super::*;
    use crate::principal::UniqueId;

    const GIVER: &str = "aws:111122223333:role/giver";
    const DEPLOY: &str = "aws:111122223333:role/deploy";
    const ACCOUNT: &str = "account:aws:111122223333";
    const NOW: i64 = 1000;

    fn access(
        scope: Namespaces,
        may: &[Permission],
        held: Vec<Grant>,
        on: &str,
    ) -> Result<ExplainAccess, DelegationRefusal> {
        let may = may.iter().copied().collect();
        let claims = Claims::for_test(principal(GIVER), scope, may, 0, NOW + 60);
        explain_access(&claims, &state_of(held), &on.parse().unwrap(), NOW)
    }

    /// Explains `download` of `deploy` on `acme` to a giver on that namespace.
    fn explained(held_on: &str, all: &[Grant], pin: Pin) -> DelegatedExplanation {
        let held = vec![grant(GIVER, held_on, &[CreateGrant], None)];
        let access = access(Namespaces::All, &Permission::ALL, held, "acme").unwrap();
        let own = |grant: &&Grant| [DEPLOY, ACCOUNT].contains(&grant.principal.as_str());
        let grants = all.iter().filter(own).cloned().collect();
        let state = PrincipalState { pin, ..state_of(grants) };
        let facts = ExplainFacts { state, others: all.to_vec(), revoked: Vec::new() };
        access.explain(&principal(DEPLOY), Download, &facts)
    }

    #[test]
    fn only_a_bearer_with_create_grant_on_the_namespace_has_it_explained() {
        let acme = || vec![grant(GIVER, "acme", &[CreateGrant, Download], None)];
        let all = || vec![grant(GIVER, "*", &[CreateGrant], None)];
        let takes = || vec![grant(GIVER, "acme", &[DeleteGrant, Download], None)];
        let ended = || vec![grant(GIVER, "acme", &[CreateGrant], Some(NOW))];
        let only = |on: &str| Namespaces::List(vec![namespace(on)]);
        let every = &Permission::ALL[..];
        for (scope, may, held, on, allowed) in [
            (Namespaces::All, every, acme(), "acme", true),
            (only("acme"), every, acme(), "acme", true),
            (Namespaces::All, every, all(), "acme", true),
            (Namespaces::All, every, all(), "*", true),
            (Namespaces::All, every, acme(), "acme-2", false),
            (Namespaces::All, every, acme(), "*", false),
            (Namespaces::All, every, takes(), "acme", false),
            (Namespaces::All, every, ended(), "acme", false),
            (Namespaces::All, &[Download, Upload], acme(), "acme", false),
            (only("other"), every, all(), "acme", false),
            (only("acme"), every, all(), "*", false),
        ] {
            let found = access(scope.clone(), may, held, on);
            assert_eq!(found.is_ok(), allowed, "{scope} {may:?} {on}: {found:?}");
        }
    }

    #[test]
    fn an_explanation_has_nothing_of_another_namespace() {
        let on_other = [
            grant(DEPLOY, "acme-2", &[Download], None),
            grant("aws:111122223333:role/Deploy", "acm", &[Download], None),
            grant("aws:111122223333:role/Deploy", "*", &[Download], None),
        ];
        let found = explained("acme", &on_other, Pin::Unpinned);
        assert_eq!((found.difference, &found.nearest), (Some("no_similar_grant"), &None));
        assert!(!found.sentence.contains("acme-2"), "{found:?}");
        // A holder on all namespaces may list these grants.
        let found = explained("*", &on_other, Pin::Unpinned);
        assert_eq!(found.nearest.unwrap().grant, on_other[2]);
        let found = explained("*", &on_other[..2], Pin::Unpinned);
        assert_eq!(found.difference, Some("namespace"));
    }

    #[test]
    fn a_grant_on_all_namespaces_shows_only_that_it_gives_the_permission() {
        let all = [grant(ACCOUNT, "*", &[Download, Upload], Some(NOW + 1))];
        let found = explained("acme", &all, Pin::Unpinned);
        assert_eq!(found.verdict, Verdict::Yes);
        assert_eq!(found.given_by, [GivenBy::AllNamespaces(principal(ACCOUNT))]);
        let found = explained("*", &all, Pin::Unpinned);
        assert_eq!(found.given_by, [GivenBy::Grant(all[0].clone())]);
    }

    #[test]
    fn a_revocation_shows_only_if_a_grant_on_the_namespace_concerns_the_caller() {
        let held = vec![grant(GIVER, "acme", &[CreateGrant], None)];
        let access = access(Namespaces::All, &Permission::ALL, held, "acme").unwrap();
        for (own, difference) in [
            (vec![], "no_similar_grant"),
            (vec![grant(DEPLOY, "acme-2", &[Download], None)], "no_similar_grant"),
            (vec![grant(DEPLOY, "*", &[Upload], None)], "no_similar_grant"),
            (vec![grant(DEPLOY, "*", &[Download], Some(NOW))], "no_similar_grant"),
            (vec![grant(DEPLOY, "*", &[Download], None)], "revoked"),
            (vec![grant(DEPLOY, "acme", &[Upload], None)], "revoked"),
            (vec![grant(ACCOUNT, "acme", &[Download], Some(NOW))], "revoked"),
        ] {
            let mut state = state_of(own.clone());
            state.revoked = Some(principal(ACCOUNT));
            let others =
                own.iter().filter(|one| one.namespace == *access.namespace()).cloned().collect();
            let facts = ExplainFacts { state, others, revoked: Vec::new() };
            let found = access.explain(&principal(DEPLOY), Download, &facts);
            assert_eq!(
                (found.verdict, found.difference),
                (Verdict::No, Some(difference)),
                "{own:?}"
            );
            let sentence = found.sentence.contains("revoked");
            assert_eq!(sentence, difference == "revoked", "{found:?}");
        }
    }

    #[test]
    fn a_grant_that_was_created_between_two_reads_is_no_difference() {
        let held = vec![grant(GIVER, "acme", &[CreateGrant], None)];
        let access = access(Namespaces::All, &Permission::ALL, held, "acme").unwrap();
        let others = vec![
            grant(DEPLOY, "acme", &[Download], None),
            grant("aws:111122223333:role/Deploy", "acme", &[Download], None),
        ];
        let facts = ExplainFacts { state: state_of(Vec::new()), others, revoked: Vec::new() };
        let found = access.explain(&principal(DEPLOY), Download, &facts);
        assert_eq!(found.difference, Some("case"), "{found:?}");
    }

    #[test]
    fn an_explanation_does_not_name_the_pinned_id_and_the_revoked_principal() {
        let id = UniqueId::parse("AROAEXAMPLEEXAMPLE222").unwrap();
        let all = [grant(DEPLOY, "acme", &[Download], None)];
        let found = explained("*", &all, Pin::Pinned(id));
        assert_eq!((found.verdict, found.difference), (Verdict::YesIf, Some("unique_id")));
        assert!(!format!("{found:?}").contains("AROA"), "{found:?}");

        let held = vec![grant(GIVER, "*", &[CreateGrant], None)];
        let access = access(Namespaces::All, &Permission::ALL, held, "acme").unwrap();
        let mut state = state_of(all.to_vec());
        state.revoked = Some(principal(ACCOUNT));
        let facts = ExplainFacts { state, others: all.to_vec(), revoked: Vec::new() };
        let found = access.explain(&principal(DEPLOY), Download, &facts);
        assert_eq!((found.verdict, found.difference), (Verdict::No, Some("revoked")));
        assert!(!format!("{found:?}").contains(ACCOUNT), "{found:?}");
    }
}
