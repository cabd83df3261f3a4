//! `grant explain`: tells whether a principal has a permission, and how the nearest grant differs.
//!
//! It uses the same check as the broker.

mod difference;

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::grants::{Grant, GrantNamespace, Pin, PrincipalState, check_grants};
use stile_core::principal::{Principal, UniqueId, parse_typed};
use stile_protocol::names::{Permission, Permissions};

use self::difference::Difference;
use super::grant_text::{GrantFlags, GrantLine, namespace, object, permission_flags, unique_id};
use super::{CommandResult, Context};
use crate::cli::GrantExplain;
use crate::error::CommandError;
use crate::output::notice;
use crate::target::StoreTarget;

/// Prints the explanation to stdout. The exit code is 1 if the principal has no access.
pub(super) async fn run(context: &Context, args: &GrantExplain) -> CommandResult {
    // The caller is the role itself, even if a permission set could replace it.
    let typed = parse_typed(&args.principal, true)?;
    let caller = typed.principal;
    let id = args.unique_id.as_deref().map(|text| unique_id(&caller, text)).transpose()?;
    let namespace = namespace(&args.on.namespace)?;
    let store = args.store.open().await?;
    let principals = principals(&caller);
    let state = store.principal_state(principals.clone()).await?;
    let all = store.grants(&context.operator(), None, None).await?;
    let query = AccessQuery {
        target: &args.store,
        caller: &caller,
        principals: &principals,
        id: id.as_ref(),
        namespace: &namespace,
        permission: args.permission,
        now: context.now,
    };
    let explanation = query.explain(&state, &all)?;
    if let Explanation::Yes { only_for: Some(pinned), .. } = &explanation {
        notice(format_args!(
            "this is only valid for the pinned unique id `{}`; use `--unique-id` for a different id",
            pinned.as_str()
        ));
    }
    context.output.outcome(query.lines(&explanation), &query.json(&explanation))?;
    Ok(if matches!(explanation, Explanation::Yes { .. }) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
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
    /// The caller has access through these grants. `only_for` is the pinned id that the caller must
    /// have, if the operator gave no id.
    Yes { by: Vec<Grant>, only_for: Option<UniqueId> },
    /// An operator revoked this principal.
    Revoked(Principal),
    /// The caller has no access. The value is the nearest grant, with its differences.
    No(Option<(Grant, Vec<Difference>)>),
}

impl AccessQuery<'_> {
    fn explain(&self, state: &PrincipalState, all: &[Grant]) -> Result<Explanation, CommandError> {
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
        let only_by_name = by.iter().all(|grant| grant.principal.is_concrete());
        let only_for = pinned.filter(|_| self.id.is_none() && only_by_name);
        Ok(Explanation::Yes { by, only_for })
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
            Explanation::Yes { by, .. } => {
                let by: Vec<String> =
                    by.iter().map(|grant| format!("granted: {}", GrantLine(grant))).collect();
                format!("yes: {caller} may {permission} on {namespace}\n{}", by.join("\n"))
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
        let mut json = json!({
            "allowed": matches!(explanation, Explanation::Yes { .. }),
            "principal": self.caller, "namespace": self.namespace.to_string(), "permission": self.permission.as_str(),
        });
        match explanation {
            Explanation::Yes { by, only_for } => {
                json["grants"] = by.iter().map(object).collect();
                json["unique_id"] = only_for.as_ref().map(UniqueId::as_str).into();
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
                [Difference::Case(..)] if grant.principal.is_concrete() => {
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

    /// Explains `download` on `acme` for a caller with this pin.
    fn explanation(caller: &str, id: Option<&str>, pin: Pin, all: &[Grant]) -> Explanation {
        let (caller, namespace, id) =
            (principal(caller), "acme".parse().unwrap(), id.map(unique_id));
        let principals = principals(&caller);
        let grants =
            all.iter().filter(|grant| principals.contains(&grant.principal)).cloned().collect();
        let state = PrincipalState {
            grants,
            pin,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
        };
        let permission = Permission::Download;
        AccessQuery {
            target: &StoreTarget::of("d"),
            caller: &caller,
            principals: &principals,
            id: id.as_ref(),
            namespace: &namespace,
            permission,
            now: NOW,
        }
        .explain(&state, all)
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
            let expected = Explanation::Yes { by: vec![all[0].clone()], only_for: None };
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
            only_for: condition.map(unique_id),
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
            let state = PrincipalState {
                grants: grants.to_vec(),
                pin: Pin::Unpinned,
                revoked: None,
                revoked_tokens: HashSet::new(),
                keyring: KeyringSummary::default(),
            };
            assert_eq!(
                matches!(query.explain(&state, grants).unwrap(), Explanation::Yes { .. }),
                allowed
            );
        }
    }
}
