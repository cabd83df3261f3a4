//! `grant explain`: whether a principal would be let in, by the broker's own decision, and if not, what the nearest grant differs by.

mod difference;

use std::process::ExitCode;

use serde_json::{Value, json};
use stile_core::grants::{Grant, GrantNamespace, Pin, PrincipalState, check_grants};
use stile_core::principal::{Principal, UniqueId, parse_typed};
use stile_protocol::names::{Permission, Permissions};

use self::difference::Difference;
use super::grant::{Flags, Told, flags, namespace, object, unique_id};
use super::{Context, Done};
use crate::cli::GrantExplain;
use crate::failure::Failure;
use crate::output::notice;
use crate::target::StoreTarget;

/// Answers, on stdout; a "no" exits 1.
pub(super) async fn run(context: &Context, wanted: &GrantExplain) -> Done {
    // The caller is one role, whatever permission set it stands for.
    let typed = parse_typed(&wanted.principal, true)?;
    let caller = typed.principal;
    let id = wanted.unique_id.as_deref().map(|text| unique_id(&caller, text)).transpose()?;
    let namespace = namespace(&wanted.on.namespace)?;
    let store = wanted.store.open().await?;
    let reaching = reaching(&caller);
    let state = store.principal_state(reaching.clone()).await?;
    let all = store.grants(&context.operator(), None, None).await?;
    let question = Question {
        target: &wanted.store,
        caller: &caller,
        reaching: &reaching,
        id: id.as_ref(),
        namespace: &namespace,
        permission: wanted.permission,
        now: context.now,
    };
    let answer = question.answer(&state, &all)?;
    if let Answer::Yes { on_condition_of: Some(pinned), .. } = &answer {
        notice(format_args!(
            "that holds as long as AWS's unique id of it is `{}`; `--unique-id` asks about another",
            pinned.as_str()
        ));
    }
    context.output.outcome(question.lines(&answer), &question.json(&answer))?;
    Ok(if matches!(answer, Answer::Yes { .. }) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The principals whose grants apply to the caller, itself first.
fn reaching(caller: &Principal) -> Vec<Principal> {
    let mut reaching = vec![caller.clone()];
    reaching.extend(caller.aliases());
    if let Principal::PermissionSet(set) = caller {
        // Whoever has the set has a role of the account.
        let account = format!("account:{}:{}", set.partition(), set.account());
        reaching.extend(Principal::parse_stored(&account));
    }
    reaching
}

/// What is asked.
struct Question<'a> {
    target: &'a StoreTarget,
    caller: &'a Principal,
    reaching: &'a [Principal],
    id: Option<&'a UniqueId>,
    namespace: &'a GrantNamespace,
    permission: Permission,
    now: i64,
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// These grants let it in, as long as the pinned id, where there is one and none was given, is still its own.
    Yes { by: Vec<Grant>, on_condition_of: Option<UniqueId> },
    /// An operator revoked it.
    Revoked(Principal),
    /// No grant does; the one that comes nearest, and what it differs by.
    No(Option<(Grant, Vec<Difference>)>),
}

impl Question<'_> {
    fn answer(&self, state: &PrincipalState, all: &[Grant]) -> Result<Answer, Failure> {
        if let Some(principal) = &state.revoked {
            return Ok(Answer::Revoked(principal.clone()));
        }
        let pinned = match &state.pin {
            Pin::Pinned(id) => Some(id.clone()),
            Pin::Unpinned | Pin::Disabled => None,
        };
        // Where nothing is pinned and no id was given, any will do.
        let any = || {
            UniqueId::parse("AROAANYANYANYANYANYAN")
                .ok_or_else(|| Failure::not_tried("no unique id can be made up"))
        };
        let id = self.id.cloned().or_else(|| pinned.clone()).map_or_else(any, Ok)?;
        let lets_in = |grant: &&Grant| {
            let namespace = match (self.namespace, &grant.namespace) {
                (GrantNamespace::One(namespace), _) => Some(namespace),
                (GrantNamespace::All, GrantNamespace::All) => None,
                (GrantNamespace::All, GrantNamespace::One(_)) => return false,
            };
            let alone = PrincipalState { grants: vec![(*grant).clone()], ..state.clone() };
            check_grants(self.caller, Some(&id), &alone, namespace, self.permission, self.now)
                .is_ok()
        };
        let by: Vec<Grant> = state.grants.iter().filter(lets_in).cloned().collect();
        if by.is_empty() {
            return Ok(Answer::No(self.nearest(state, all)));
        }
        let by_name_alone = by.iter().all(|grant| grant.principal.is_concrete());
        let on_condition_of = pinned.filter(|_| self.id.is_none() && by_name_alone);
        Ok(Answer::Yes { by, on_condition_of })
    }

    /// The grant with the fewest and slightest differences.
    fn nearest(&self, state: &PrincipalState, all: &[Grant]) -> Option<(Grant, Vec<Difference>)> {
        let near = all.iter().filter_map(|grant| {
            let mut differences = difference::of_principals(self.reaching, &grant.principal)?;
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

    fn lines(&self, answer: &Answer) -> String {
        let Self { namespace, permission, .. } = self;
        let caller = self.caller.display_name();
        match answer {
            Answer::Yes { by, .. } => {
                let by: Vec<String> =
                    by.iter().map(|grant| format!("granted: {}", Told(grant))).collect();
                format!("yes: {caller} may {permission} on {namespace}\n{}", by.join("\n"))
            }
            Answer::Revoked(principal) => {
                format!(
                    "no: {caller} is kept out, since {principal} is revoked\nhint: {}",
                    self.lift(principal)
                )
            }
            Answer::No(None) => {
                format!(
                    "no: {caller} may not {permission} on {namespace}\nno grant comes near it\nhint: {}",
                    self.create()
                )
            }
            Answer::No(Some((grant, differences))) => {
                let differences: Vec<String> = differences
                    .iter()
                    .map(|difference| format!("differs by {difference}"))
                    .collect();
                let (told, differences, hint) =
                    (Told(grant), differences.join("\n"), self.cure(grant, answer));
                format!(
                    "no: {caller} may not {permission} on {namespace}\nnearest grant: {told}\n{differences}\nhint: {hint}"
                )
            }
        }
    }

    fn json(&self, answer: &Answer) -> Value {
        let mut json = json!({
            "allowed": matches!(answer, Answer::Yes { .. }),
            "principal": self.caller, "namespace": self.namespace.to_string(), "permission": self.permission.as_str(),
        });
        match answer {
            Answer::Yes { by, on_condition_of } => {
                json["grants"] = by.iter().map(object).collect();
                json["unique_id"] = on_condition_of.as_ref().map(UniqueId::as_str).into();
            }
            Answer::Revoked(principal) => {
                json["revoked"] = principal.as_str().into();
                json["hint"] = self.lift(principal).into();
            }
            Answer::No(None) => {
                json["nearest"] = Value::Null;
                json["hint"] = self.create().into();
            }
            Answer::No(Some((grant, differences))) => {
                json["nearest"] = object(grant);
                json["differs_by"] = differences.iter().map(Difference::word).collect();
                json["hint"] = self.cure(grant, answer).into();
            }
        }
        json
    }

    /// What would let it in.
    fn cure(&self, grant: &Grant, answer: &Answer) -> String {
        let update = || {
            format!(
                "{} {}",
                self.target.command("grant update"),
                Flags(&grant.principal, &grant.namespace)
            )
        };
        match answer {
            Answer::No(Some((_, differences))) => match differences.as_slice() {
                [Difference::Expiry(_)] => format!("`{} --expires WHEN`", update()),
                [Difference::Permission(_)] => format!("`{}{}`", update(), self.flag()),
                // Two names that differ by case alone are never both granted.
                [Difference::Case(..)] if grant.principal.is_concrete() => {
                    let delete = self.target.command("grant delete");
                    format!(
                        "`{delete} {}`, then {}",
                        Flags(&grant.principal, &grant.namespace),
                        self.create()
                    )
                }
                [Difference::UniqueId(_)] => {
                    format!(
                        "`{} --role-arn {}`, if the new one is to have it",
                        self.target.command("grant repin"),
                        self.caller.display_name()
                    )
                }
                _ => self.create(),
            },
            _ => self.create(),
        }
    }

    fn flag(&self) -> String {
        flags(Permissions::NONE.with(self.permission))
    }

    fn create(&self) -> String {
        let principal = self
            .reaching
            .iter()
            .find(|principal| matches!(principal, Principal::PermissionSet(_)))
            .unwrap_or(self.caller);
        format!(
            "`{} {}{}`",
            self.target.command("grant create"),
            Flags(principal, self.namespace),
            self.flag()
        )
    }

    fn lift(&self, principal: &Principal) -> String {
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

    /// Asks for `download`, on `acme`, of somebody whose pin is that.
    fn answer(caller: &str, id: Option<&str>, pin: Pin, all: &[Grant]) -> Answer {
        let (caller, namespace, id) =
            (principal(caller), "acme".parse().unwrap(), id.map(unique_id));
        let reaching = reaching(&caller);
        let grants =
            all.iter().filter(|grant| reaching.contains(&grant.principal)).cloned().collect();
        let state = PrincipalState {
            grants,
            pin,
            revoked: None,
            revoked_tokens: HashSet::new(),
            keyring: KeyringSummary::default(),
        };
        let permission = Permission::Download;
        Question {
            target: &StoreTarget::of("d"),
            caller: &caller,
            reaching: &reaching,
            id: id.as_ref(),
            namespace: &namespace,
            permission,
            now: NOW,
        }
        .answer(&state, all)
        .unwrap()
    }

    #[test]
    fn the_nearest_grant_is_the_one_with_the_fewest_and_slightest_differences() {
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
            let Answer::No(found) = answer(caller, None, Pin::Unpinned, &all) else {
                panic!("{caller} is let in by {all:?}")
            };
            let expected = nearest.map(|at| all[at].clone());
            assert_eq!(found.as_ref().map(|(grant, _)| grant.clone()), expected, "{all:?}");
            let found: Vec<_> = found
                .iter()
                .flat_map(|(_, differences)| differences)
                .map(Difference::word)
                .collect();
            assert_eq!(found, words, "{all:?}");
        }
    }

    #[test]
    fn everything_that_lets_a_caller_in_is_named() {
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
            let expected = Answer::Yes { by: vec![all[0].clone()], on_condition_of: None };
            assert_eq!(answer(caller, None, Pin::Unpinned, &all), expected, "{caller} {who} {on}");
        }
    }

    #[test]
    fn a_pinned_id_decides_what_is_granted_by_name_and_nothing_else() {
        let (old, new) = ("AROAEXAMPLEEXAMPLE222", "AROAOTHEROTHEROTHER22");
        let by_name = [grant(DEPLOY, "acme", None)];
        let pin = || Pin::Pinned(unique_id(old));
        let yes = |by: &[Grant], condition: Option<&str>| Answer::Yes {
            by: by.to_vec(),
            on_condition_of: condition.map(unique_id),
        };
        assert_eq!(answer(DEPLOY, None, pin(), &by_name), yes(&by_name, Some(old)));
        assert_eq!(answer(DEPLOY, Some(old), pin(), &by_name), yes(&by_name, None));
        assert_eq!(answer(DEPLOY, Some(new), Pin::Disabled, &by_name), yes(&by_name, None));
        let no = Answer::No(Some((by_name[0].clone(), vec![Difference::UniqueId(old.to_owned())])));
        assert_eq!(answer(DEPLOY, Some(new), pin(), &by_name), no);
        let by_account = [grant("account:aws:111122223333", "acme", None)];
        assert_eq!(answer(DEPLOY, Some(new), pin(), &by_account), yes(&by_account, None));
    }

    #[test]
    fn what_is_asked_of_every_namespace_only_a_grant_on_all_of_them_answers() {
        let (caller, all) =
            (principal(DEPLOY), [grant(DEPLOY, "acme", None), grant(DEPLOY, "*", None)]);
        let reaching = reaching(&caller);
        let namespace = GrantNamespace::All;
        let question = Question {
            target: &StoreTarget::of("d"),
            caller: &caller,
            reaching: &reaching,
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
                matches!(question.answer(&state, grants).unwrap(), Answer::Yes { .. }),
                allowed
            );
        }
    }
}
