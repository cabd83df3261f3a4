//! `grant explain`: tells whether a principal has a permission, and how the nearest grant differs.
//!
//! It uses the same check as the broker. Where that check depends on a fact about the caller that the
//! store does not have, the explanation is a condition and never `yes`.

mod condition;
mod difference;

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::grants::{Grant, GrantNamespace, Pin, PrincipalState, check_grants};
use stile_core::principal::{Principal, UniqueId, parse_typed};
use stile_protocol::names::{Permission, Permissions};

use self::condition::Condition;
use self::difference::Difference;
use super::grant_text::{
    GrantFlags, GrantLine, lookup, namespace, object, permission_flags, unique_id,
};
use super::{CommandResult, Context, OpenStore};
use crate::cli::GrantExplain;
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::StoreTarget;

/// The exit code if the principal has access under a condition that the program cannot check.
const CONDITIONAL: u8 = 3;

/// Prints the explanation to stdout.
///
/// The exit code is 1 if the principal has no access, and [`CONDITIONAL`] if the broker may refuse it.
pub(super) async fn run(context: &Context, args: &GrantExplain) -> CommandResult {
    // The caller is the role itself, even if a permission set could replace it.
    let typed = parse_typed(&args.principal, true)?;
    let caller = typed.principal;
    let id = args.unique_id.as_deref().map(|text| unique_id(&caller, text)).transpose()?;
    let namespace = namespace(&args.on.namespace)?;
    let OpenStore { store, operator } = context.open(&args.store).await?;
    let principals = principals(&caller);
    let state = store.principal_state(principals.clone()).await?;
    let all = spinning("reading the grants", store.grants(&operator, None, None)).await?;
    let revoked = store.revocations(&operator).await?.principals;
    let revoked: Vec<Principal> = revoked.into_iter().map(|revoked| revoked.principal).collect();
    let query = AccessQuery {
        target: &args.store,
        caller: &caller,
        principals: &principals,
        id: id.as_ref(),
        namespace: &namespace,
        permission: args.permission,
        now: context.now,
    };
    let explanation = query.explain(&state, &all, &revoked)?;
    context.output.outcome(query.lines(&explanation), &query.json(&explanation))?;
    Ok(match explanation {
        Explanation::Yes { condition: None, .. } => ExitCode::SUCCESS,
        Explanation::Yes { condition: Some(_), .. } => ExitCode::from(CONDITIONAL),
        Explanation::Revoked(_) | Explanation::No(_) => ExitCode::from(1),
    })
}

/// Returns the principals whose grants apply to the caller, its own first.
fn principals(caller: &Principal) -> Vec<Principal> {
    let mut principals = vec![caller.clone()];
    principals.extend(caller.aliases());
    if let Principal::PermissionSet(set) = caller {
        // Every user of a permission set has a role of the account.
        let account = format!("account:{}:{}", set.partition(), set.account());
        principals.extend(Principal::parse_stored(&account));
    }
    principals
}

/// The access that the command explains.
struct AccessQuery<'a> {
    target: &'a StoreTarget,
    caller: &'a Principal,
    principals: &'a [Principal],
    id: Option<&'a UniqueId>,
    namespace: &'a GrantNamespace,
    permission: Permission,
    now: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Explanation {
    /// The caller has access through these grants. The broker refuses it unless the condition holds.
    Yes { by: Vec<Grant>, condition: Option<Condition> },
    /// An operator revoked this principal.
    Revoked(Principal),
    /// The caller has no access. The value is the nearest grant, with its differences.
    No(Option<(Grant, Vec<Difference>)>),
}

impl AccessQuery<'_> {
    fn explain(
        &self,
        state: &PrincipalState,
        all: &[Grant],
        revoked: &[Principal],
    ) -> Result<Explanation, CommandError> {
        if let Some(principal) = &state.revoked {
            return Ok(Explanation::Revoked(principal.clone()));
        }
        let pinned = match &state.pin {
            Pin::Pinned(id) => Some(id.clone()),
            Pin::Unpinned | Pin::Disabled => None,
        };
        // If no id is pinned and the operator gave none, any id has the same result.
        let any = || {
            UniqueId::parse("AROAANYANYANYANYANYAN")
                .ok_or_else(|| CommandError::failed("cannot create a placeholder unique id"))
        };
        let id = self.id.cloned().or_else(|| pinned.clone()).map_or_else(any, Ok)?;
        let allows = |grant: &&Grant| {
            let namespace = match (self.namespace, &grant.namespace) {
                (GrantNamespace::One(namespace), _) => Some(namespace),
                (GrantNamespace::All, GrantNamespace::All) => None,
                (GrantNamespace::All, GrantNamespace::One(_)) => return false,
            };
            let single = PrincipalState { grants: vec![(*grant).clone()], ..state.clone() };
            check_grants(self.caller, Some(&id), &single, namespace, self.permission, self.now)
                .is_ok()
        };
        let by: Vec<Grant> = state.grants.iter().filter(allows).cloned().collect();
        if by.is_empty() {
            return Ok(Explanation::No(self.nearest(state, all)));
        }
        let only_by_name = by.iter().all(|grant| grant.principal.has_unique_id());
        let pinned = pinned.filter(|_| self.id.is_none() && only_by_name);
        let condition = pinned.map(Condition::UniqueId).or_else(|| self.none_of(revoked));
        Ok(Explanation::Yes { by, condition })
    }

    /// Returns the condition that the caller is no revoked part of this permission set or account.
    fn none_of(&self, revoked: &[Principal]) -> Option<Condition> {
        let is_part =
            |part: &&Principal| *part != self.caller && principals(part).contains(self.caller);
        let parts: Vec<Principal> = revoked.iter().filter(is_part).cloned().collect();
        (!parts.is_empty()).then_some(Condition::NoneOf(parts))
    }

    /// Returns the grant with the fewest and least significant differences.
    fn nearest(&self, state: &PrincipalState, all: &[Grant]) -> Option<(Grant, Vec<Difference>)> {
        let near = all.iter().filter_map(|grant| {
            let mut differences =
                difference::between_principals(self.principals, &grant.principal)?;
            self.rest_differs(state, grant, &mut differences);
            differences.sort();
            Some((grant, differences))
        });
        let rank = |grant: &Grant| match grant.principal {
            Principal::Role(_) | Principal::User(_) => 0,
            Principal::PermissionSet(_) => 1,
            Principal::Account(_) => 2,
        };
        near.min_by_key(|(grant, differences)| {
            (differences.len(), differences.clone(), rank(grant))
        })
        .map(|(grant, differences)| (grant.clone(), differences))
    }

    fn rest_differs(
        &self,
        state: &PrincipalState,
        grant: &Grant,
        differences: &mut Vec<Difference>,
    ) {
        let covered = match self.namespace {
            GrantNamespace::One(namespace) => grant.namespace.covers(namespace),
            GrantNamespace::All => grant.namespace == GrantNamespace::All,
        };
        if !covered {
            differences.push(Difference::Namespace(grant.namespace.to_string()));
        }
        if !grant.permissions.contains(self.permission) {
            differences.push(Difference::Permission(grant.permissions.to_string()));
        }
        if let Some(end) = grant.expires_at.filter(|end| *end <= self.now) {
            differences.push(Difference::Expiry(end));
        }
        if let (Pin::Pinned(pinned), Some(id)) = (&state.pin, self.id)
            && pinned != id
            && grant.principal == *self.caller
        {
            differences.push(Difference::UniqueId(pinned.as_str().to_owned()));
        }
    }

    fn lines(&self, explanation: &Explanation) -> String {
        let Self { namespace, permission, .. } = self;
        let caller = self.caller.display_name();
        match explanation {
            Explanation::Yes { by, condition } => {
                let by: Vec<String> =
                    by.iter().map(|grant| format!("granted: {}", GrantLine(grant))).collect();
                let (only_if, hint) =
                    condition.as_ref().map_or_else(Default::default, |condition| {
                        (format!(", if {condition}"), format!("\nhint: {}", self.check(condition)))
                    });
                format!(
                    "yes{only_if}: {caller} may {permission} on {namespace}\n{}{hint}",
                    by.join("\n")
                )
            }
            Explanation::Revoked(principal) => {
                format!(
                    "no: {caller} has no access, because {principal} is revoked\nhint: {}",
                    self.lift_command(principal)
                )
            }
            Explanation::No(None) => {
                format!(
                    "no: {caller} may not {permission} on {namespace}\nno similar grant exists\nhint: {}",
                    self.create_command()
                )
            }
            Explanation::No(Some((grant, differences))) => {
                let differences: Vec<String> = differences
                    .iter()
                    .map(|difference| format!("differs by {difference}"))
                    .collect();
                let (nearest, differences, hint) =
                    (GrantLine(grant), differences.join("\n"), self.remedy(grant, explanation));
                format!(
                    "no: {caller} may not {permission} on {namespace}\nnearest grant: {nearest}\n{differences}\nhint: {hint}"
                )
            }
        }
    }

    fn json(&self, explanation: &Explanation) -> Value {
        let (allowed, decision) = match explanation {
            Explanation::Yes { condition: None, .. } => (Some(true), "yes"),
            Explanation::Yes { condition: Some(_), .. } => (None, "yes_if"),
            Explanation::Revoked(_) | Explanation::No(_) => (Some(false), "no"),
        };
        let mut json = json!({
            "allowed": allowed, "decision": decision,
            "principal": self.caller, "namespace": self.namespace.to_string(), "permission": self.permission.as_str(),
        });
        match explanation {
            Explanation::Yes { by, condition } => {
                json["grants"] = by.iter().map(object).collect();
                json["unique_id"] = Value::Null;
                if let Some(condition) = condition {
                    json["condition"] = condition.to_string().into();
                    json["hint"] = self.check(condition).into();
                }
                match condition {
                    Some(Condition::UniqueId(id)) => json["unique_id"] = id.as_str().into(),
                    Some(Condition::NoneOf(parts)) => json["none_of"] = json!(parts),
                    None => {}
                }
            }
            Explanation::Revoked(principal) => {
                json["revoked"] = principal.as_str().into();
                json["hint"] = self.lift_command(principal).into();
            }
            Explanation::No(None) => {
                json["nearest"] = Value::Null;
                json["hint"] = self.create_command().into();
            }
            Explanation::No(Some((grant, differences))) => {
                json["nearest"] = object(grant);
                json["differs_by"] = differences.iter().map(Difference::label).collect();
                json["hint"] = self.remedy(grant, explanation).into();
            }
        }
        json
    }

    /// Returns how the operator checks a condition.
    fn check(&self, condition: &Condition) -> String {
        match condition {
            Condition::UniqueId(_) => {
                format!("{}; pass it as `--unique-id`", lookup(self.caller))
            }
            Condition::NoneOf(_) => {
                "pass the ARN of the caller, from `aws sts get-caller-identity`".to_owned()
            }
        }
    }

    /// Returns the commands that would give the caller access.
    fn remedy(&self, grant: &Grant, explanation: &Explanation) -> String {
        let update = || {
            format!(
                "{} {}",
                self.target.command("grant update"),
                GrantFlags(&grant.principal, &grant.namespace)
            )
        };
        match explanation {
            Explanation::No(Some((_, differences))) => match differences.as_slice() {
                [Difference::Expiry(_)] => format!("`{} --expires WHEN`", update()),
                [Difference::Permission(_)] => format!("`{}{}`", update(), self.permission_flag()),
                // The store rejects grants to two names that differ only by case.
                [Difference::Case(..)] if grant.principal.is_caller() => {
                    let delete = self.target.command("grant delete");
                    format!(
                        "`{delete} {}`, then {}",
                        GrantFlags(&grant.principal, &grant.namespace),
                        self.create_command()
                    )
                }
                [Difference::UniqueId(_)] => {
                    format!(
                        "`{} --role-arn {}`, if the recreated principal may have the grant",
                        self.target.command("grant repin"),
                        self.caller.display_name()
                    )
                }
                _ => self.create_command(),
            },
            _ => self.create_command(),
        }
    }

    fn permission_flag(&self) -> String {
        permission_flags(Permissions::NONE.with(self.permission))
    }

    fn create_command(&self) -> String {
        let principal = self
            .principals
            .iter()
            .find(|principal| matches!(principal, Principal::PermissionSet(_)))
            .unwrap_or(self.caller);
        format!(
            "`{} {}{}`",
            self.target.command("grant create"),
            GrantFlags(principal, self.namespace),
            self.permission_flag()
        )
    }

    fn lift_command(&self, principal: &Principal) -> String {
        format!("`{} --principal {principal}`", self.target.command("token lift"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use stile_core::token::KeyringSummary;
    use stile_protocol::names::Namespace;

    use super::*;

    const NOW: i64 = 1000;
    const DEPLOY: &str = "aws:111122223333:role/deploy";
    const SSO: &str = "aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef";

    fn principal(text: &str) -> Principal {
        Principal::parse_stored(text).unwrap()
    }

    fn grant(who: &str, on: &str, expires_at: Option<i64>) -> Grant {
        let permissions = Permissions::NONE.with(Permission::Download);
        Grant {
            principal: principal(who),
            namespace: on.parse().unwrap(),
            permissions,
            expires_at,
            created_by: "x".to_owned(),
            created_at: 0,
        }
    }

    fn unique_id(text: &str) -> UniqueId {
        UniqueId::parse(text).unwrap()
    }

    fn state(grants: Vec<Grant>, pin: Pin) -> PrincipalState {
        PrincipalState {
            grants,
            pin,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
            revisions: stile_core::grants::StateRevisions::default(),
        }
    }

    /// Explains `download` on `acme` for a caller with this pin.
    fn explanation(caller: &str, id: Option<&str>, pin: Pin, all: &[Grant]) -> Explanation {
        explanation_with(caller, id, pin, all, &[])
    }

    /// Explains the same in a store with these revoked principals.
    fn explanation_with(
        caller: &str,
        id: Option<&str>,
        pin: Pin,
        all: &[Grant],
        revoked: &[&str],
    ) -> Explanation {
        let (caller, namespace, id) =
            (principal(caller), "acme".parse().unwrap(), id.map(unique_id));
        let principals = principals(&caller);
        let grants =
            all.iter().filter(|grant| principals.contains(&grant.principal)).cloned().collect();
        let state = state(grants, pin);
        let permission = Permission::Download;
        let revoked: Vec<_> = revoked.iter().map(|text| principal(text)).collect();
        AccessQuery {
            target: &StoreTarget::of("d"),
            caller: &caller,
            principals: &principals,
            id: id.as_ref(),
            namespace: &namespace,
            permission,
            now: NOW,
        }
        .explain(&state, all, &revoked)
        .unwrap()
    }

    #[test]
    fn the_nearest_grant_has_the_fewest_and_least_significant_differences() {
        for (caller, all, nearest, words) in [
            (DEPLOY, vec![grant("aws:111122223333:role/other", "acme", None)], None, vec![]),
            (
                DEPLOY,
                vec![
                    grant("aws:999922223333:role/deploy", "acme", None),
                    grant("aws:111122223333:role/Deploy", "acme", None),
                ],
                Some(1),
                vec!["case"],
            ),
            (
                DEPLOY,
                vec![
                    grant(DEPLOY, "tools", Some(NOW)),
                    grant("aws:111122223333:user/deploy", "acme", None),
                ],
                Some(1),
                vec!["kind"],
            ),
            (
                DEPLOY,
                vec![grant(DEPLOY, "tools", None), grant(DEPLOY, "acme", Some(NOW))],
                Some(1),
                vec!["expiry"],
            ),
            (DEPLOY, vec![grant(DEPLOY, "acme-2", None)], Some(0), vec!["namespace"]),
            (DEPLOY, vec![grant("account:aws:999922223333", "*", None)], Some(0), vec!["account"]),
            (
                SSO,
                vec![grant("sso:aws-us-gov:111122223333/Admin", "acme", None)],
                Some(0),
                vec!["partition"],
            ),
        ] {
            let Explanation::No(found) = explanation(caller, None, Pin::Unpinned, &all) else {
                panic!("{caller} has access through {all:?}")
            };
            let expected = nearest.map(|at| all[at].clone());
            assert_eq!(found.as_ref().map(|(grant, _)| grant.clone()), expected, "{all:?}");
            let found: Vec<_> = found
                .iter()
                .flat_map(|(_, differences)| differences)
                .map(Difference::label)
                .collect();
            assert_eq!(found, words, "{all:?}");
        }
    }

    #[test]
    fn the_explanation_names_each_grant_that_gives_access() {
        for (caller, who, on) in [
            (DEPLOY, DEPLOY, "acme"),
            (DEPLOY, DEPLOY, "*"),
            (DEPLOY, "account:aws:111122223333", "acme"),
            (SSO, SSO, "acme"),
            (SSO, "sso:aws:111122223333/Admin", "acme"),
            ("sso:aws:111122223333/Admin", "account:aws:111122223333", "*"),
        ] {
            let all =
                [grant(who, on, Some(NOW + 1)), grant("aws:111122223333:role/other", "acme", None)];
            let expected = Explanation::Yes { by: vec![all[0].clone()], condition: None };
            assert_eq!(
                explanation(caller, None, Pin::Unpinned, &all),
                expected,
                "{caller} {who} {on}"
            );
        }
    }

    #[test]
    fn a_pinned_id_affects_only_grants_by_name() {
        let (old, new) = ("AROAEXAMPLEEXAMPLE222", "AROAOTHEROTHEROTHER22");
        let by_name = [grant(DEPLOY, "acme", None)];
        let pin = || Pin::Pinned(unique_id(old));
        let yes = |by: &[Grant], condition: Option<&str>| Explanation::Yes {
            by: by.to_vec(),
            condition: condition.map(unique_id).map(Condition::UniqueId),
        };
        assert_eq!(explanation(DEPLOY, None, pin(), &by_name), yes(&by_name, Some(old)));
        assert_eq!(explanation(DEPLOY, Some(old), pin(), &by_name), yes(&by_name, None));
        assert_eq!(explanation(DEPLOY, Some(new), Pin::Disabled, &by_name), yes(&by_name, None));
        let no =
            Explanation::No(Some((by_name[0].clone(), vec![Difference::UniqueId(old.to_owned())])));
        assert_eq!(explanation(DEPLOY, Some(new), pin(), &by_name), no);
        let by_account = [grant("account:aws:111122223333", "acme", None)];
        assert_eq!(explanation(DEPLOY, Some(new), pin(), &by_account), yes(&by_account, None));
    }

    #[test]
    fn an_explanation_is_true_for_every_unique_id_that_the_caller_can_have() {
        let ids = ["AROAEXAMPLEEXAMPLE222", "AROAOTHEROTHEROTHER22"].map(unique_id);
        let by_name = grant(DEPLOY, "acme", None);
        let by_account = grant("account:aws:111122223333", "*", None);
        let expired = grant("account:aws:111122223333", "acme", Some(NOW));
        let (caller, namespace) = (principal(DEPLOY), Namespace::parse("acme").unwrap());
        for grants in [
            vec![],
            vec![by_name.clone()],
            vec![by_account.clone()],
            vec![expired.clone()],
            vec![by_name.clone(), expired],
            vec![by_name, by_account],
        ] {
            for pin in [Pin::Unpinned, Pin::Disabled, Pin::Pinned(ids[0].clone())] {
                for given in [None, Some(&ids[0]), Some(&ids[1])] {
                    let text = given.map(UniqueId::as_str);
                    let explained = explanation(DEPLOY, text, pin.clone(), &grants);
                    for id in ids.iter().filter(|id| given.is_none_or(|given| given == *id)) {
                        let state = state(grants.clone(), pin.clone());
                        let (on, permission) = (Some(&namespace), Permission::Download);
                        let allowed =
                            check_grants(&caller, Some(id), &state, on, permission, NOW).is_ok();
                        let expected = match &explained {
                            Explanation::Yes { condition: None, .. } => true,
                            Explanation::Yes { condition: Some(condition), .. } => {
                                *condition == Condition::UniqueId(id.clone())
                            }
                            Explanation::Revoked(_) | Explanation::No(_) => false,
                        };
                        assert_eq!(allowed, expected, "{grants:?} {pin:?} {given:?} {id:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_revoked_part_of_a_permission_set_or_account_is_a_condition() {
        const SET: &str = "sso:aws:111122223333/Admin";
        const ACCOUNT: &str = "account:aws:111122223333";
        for (caller, revoked, none_of) in [
            (SET, vec![SSO], vec![SSO]),
            (SET, vec![DEPLOY, SSO], vec![SSO]),
            (ACCOUNT, vec![DEPLOY, SET, "aws:999922223333:role/x"], vec![DEPLOY, SET]),
            (ACCOUNT, vec!["aws-cn:111122223333:role/x"], vec![]),
            (SET, vec!["aws:111122223333:role/AWSReservedSSO_Other_0123456789abcdef"], vec![]),
            // The state of a role says whether it is revoked itself.
            (DEPLOY, vec!["aws:111122223333:role/other"], vec![]),
            (SSO, vec!["aws:111122223333:role/AWSReservedSSO_Admin_fedcba9876543210"], vec![]),
        ] {
            let all = [grant(ACCOUNT, "acme", None)];
            let none_of: Vec<_> = none_of.into_iter().map(principal).collect();
            let condition = (!none_of.is_empty()).then_some(Condition::NoneOf(none_of));
            assert_eq!(
                explanation_with(caller, None, Pin::Unpinned, &all, &revoked),
                Explanation::Yes { by: all.to_vec(), condition },
                "{caller} {revoked:?}"
            );
        }
    }

    #[test]
    fn only_a_grant_on_all_namespaces_gives_access_to_all_namespaces() {
        let (caller, all) =
            (principal(DEPLOY), [grant(DEPLOY, "acme", None), grant(DEPLOY, "*", None)]);
        let principals = principals(&caller);
        let namespace = GrantNamespace::All;
        let query = AccessQuery {
            target: &StoreTarget::of("d"),
            caller: &caller,
            principals: &principals,
            id: None,
            namespace: &namespace,
            permission: Permission::Download,
            now: NOW,
        };
        for (grants, allowed) in [(&all[..1], false), (&all[..], true)] {
            let state = state(grants.to_vec(), Pin::Unpinned);
            assert_eq!(
                matches!(query.explain(&state, grants, &[]).unwrap(), Explanation::Yes { .. }),
                allowed
            );
        }
    }
}
