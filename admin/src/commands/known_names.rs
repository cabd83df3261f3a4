//! Compares the names of a new grant with those in the store, because a new name can be mistyped.

use std::collections::BTreeSet;

use serde_json::Value;
use stile_core::grants::{Grant, GrantNamespace, OperatorAccess, nearest_spelling};
use stile_core::principal::{AwsPrincipal, Principal};
use stile_protocol::names::Namespace;
use stile_protocol::region::Partition;
use stile_store::{Store, StoreError};

use super::grant_backend::KnownNames;
use crate::output::notice;
use crate::progress::spinning;

/// The names of a grant that nothing else in the store mentions, each with the most similar other
/// name of its kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct NewNames {
    namespace: Option<NewName<Namespace>>,
    account: Option<NewName<String>>,
    principal: Option<NewName<Principal>>,
}

#[derive(Debug, PartialEq, Eq)]
struct NewName<T> {
    /// The most similar other name. `None`, if the store has no other.
    nearest: Option<T>,
}

impl NewNames {
    /// Returns the new names of a grant, after the store created it.
    ///
    /// The command must not fail any more. So it prints a notice if the store cannot be read.
    pub(super) async fn find(
        operator: &OperatorAccess,
        store: &Store,
        grant: &Grant,
        new_namespace: bool,
    ) -> Self {
        let known = async {
            let namespaces =
                if new_namespace { namespaces(operator, store).await? } else { vec![] };
            Ok::<_, StoreError>((namespaces, principals(operator, store, grant).await?))
        };
        match spinning("comparing the names", known).await {
            Ok((namespaces, principals)) => {
                Self::compare(grant, new_namespace, &namespaces, &principals)
            }
            Err(error) => {
                notice(format_args!(
                    "the names of the grant were not compared with other names: {error}"
                ));
                Self::compare(grant, new_namespace, &[], std::slice::from_ref(&grant.principal))
            }
        }
    }

    /// Compares a grant with the namespaces in the store, and with the principals of all other
    /// grants and revocations.
    fn compare(
        grant: &Grant,
        new_namespace: bool,
        namespaces: &[Namespace],
        principals: &[Principal],
    ) -> Self {
        let namespace = match &grant.namespace {
            GrantNamespace::One(own) if new_namespace => {
                let others = namespaces.iter().filter(|other| *other != own);
                Some(NewName {
                    nearest: nearest_spelling(own.as_str(), others, ToString::to_string),
                })
            }
            GrantNamespace::One(_) | GrantNamespace::All => None,
        };
        let accounts: BTreeSet<String> =
            principals.iter().filter_map(Principal::aws).map(account_name).collect();
        let account = grant.principal.aws().map(account_name);
        let account = account.filter(|account| !accounts.contains(account)).map(|account| {
            let nearest = nearest_spelling(&account, accounts.iter(), ToString::to_string);
            NewName { nearest }
        });
        // A grant to a whole account names only the account, a group has no name, and a grant to a trust
        // needs the trust.
        let is_known = matches!(
            grant.principal,
            Principal::Account(_) | Principal::AwsGroup(_) | Principal::Trust(_)
        );
        let principal = (!is_known && !principals.contains(&grant.principal)).then(|| {
            // A permission set is not a mistyped role, and its name has another form.
            let single = grant.principal.is_caller();
            let others = principals
                .iter()
                .filter(|other| other.is_caller() == single && other.name().is_some());
            let own = grant.principal.display_name();
            NewName { nearest: nearest_spelling(&own, others, Principal::display_name) }
        });
        Self { namespace, account, principal }
    }

    /// Returns a notice for each new name. It names no role of a new account, and nothing if the
    /// store has no other principal to compare with.
    pub(super) fn notices(&self, grant: &Grant) -> Vec<String> {
        let mut notices = Vec::new();
        let (on, who) = (&grant.namespace, &grant.principal);
        if let Some(NewName { nearest }) = &self.namespace {
            let nearest = likely("namespace", nearest.as_ref().map(Namespace::as_str));
            notices.push(format!(
                "the grant created the namespace `{on}`, which had no grants and no modules{nearest}"
            ));
        }
        match (&self.account, &self.principal) {
            (Some(NewName { nearest: Some(nearest) }), _) => notices.push(format!(
                "nothing else in the store mentions the account `{}`{}",
                who.aws().map(account_name).unwrap_or_default(),
                likely("account", Some(nearest))
            )),
            (None, Some(NewName { nearest })) => {
                let nearest = nearest.as_ref().map(Principal::display_name);
                notices.push(format!(
                    "nothing else in the store mentions the {} `{}`{}",
                    who.kind(),
                    who.display_name(),
                    likely("name", nearest.as_deref())
                ));
            }
            (Some(_), _) | (None, None) => {}
        }
        notices
    }

    /// Adds for each name whether it is new, and the most similar other name.
    pub(super) fn add_to(&self, json: &mut Value) {
        json["new_namespace"] = self.namespace.is_some().into();
        json["new_account"] = self.account.is_some().into();
        json["new_principal"] = self.principal.is_some().into();
        let nearest = self.namespace.as_ref().and_then(|name| name.nearest.as_ref());
        json["nearest_namespace"] = nearest.map(Namespace::as_str).into();
        let nearest = self.account.as_ref().and_then(|name| name.nearest.as_deref());
        json["nearest_account"] = nearest.into();
        let nearest = self.principal.as_ref().and_then(|name| name.nearest.as_ref());
        json["nearest_principal"] = nearest.map(Principal::as_str).into();
    }
}

/// Returns a notice for each of the first `most` names of a plan's new grants that nothing else in the
/// store mentions, and one that counts the others.
pub(super) fn notices_of_plan<'a>(
    created: impl Iterator<Item = (&'a Principal, &'a GrantNamespace)>,
    held: &'a [Grant],
    known: &'a KnownNames,
    most: usize,
) -> Vec<String> {
    let held = held.iter().map(|grant| &grant.principal);
    let principals: BTreeSet<&Principal> = held.chain(&known.revoked).collect();
    let accounts: BTreeSet<String> =
        principals.iter().filter_map(|principal| principal.aws()).map(account_name).collect();
    let (mut notices, mut seen, mut more) = (Vec::new(), BTreeSet::new(), 0_usize);
    let mut add = |name: String, notice: &dyn Fn() -> String| {
        if !seen.insert(name) {
        } else if notices.len() < most {
            notices.push(notice());
        } else {
            more += 1;
        }
    };
    for (who, on) in created {
        // A store without names has nothing to compare with.
        if let GrantNamespace::One(own) = on
            && !known.namespaces.is_empty()
            && !known.namespaces.contains(own)
        {
            add(format!("namespace {own}"), &|| {
                let nearest = nearest_namespace(own, &known.namespaces);
                format!("the store has nothing of the namespace `{own}`{nearest}")
            });
        }
        let account = who.aws().map(account_name).filter(|account| !accounts.contains(account));
        if let Some(account) = account {
            if !accounts.is_empty() {
                add(format!("account {account}"), &|| {
                    let nearest = nearest_spelling(&account, accounts.iter(), ToString::to_string);
                    let nearest = likely("account", nearest.as_deref());
                    format!("nothing in the store mentions the account `{account}`{nearest}")
                });
            }
        } else if !matches!(
            who,
            Principal::Account(_) | Principal::AwsGroup(_) | Principal::Trust(_)
        ) && !principals.contains(who)
        {
            add(who.to_string(), &|| {
                let single = who.is_caller();
                let is_like =
                    |other: &&&Principal| other.is_caller() == single && other.name().is_some();
                let (own, others) = (who.display_name(), principals.iter().filter(is_like));
                let nearest = nearest_spelling(&own, others, |other| other.display_name());
                let nearest = nearest.map(|other| other.display_name());
                let nearest = likely("name", nearest.as_deref());
                format!("nothing in the store mentions the {} `{own}`{nearest}", who.kind())
            });
        }
    }
    if more > 0 {
        notices.push(format!("nothing in the store mentions {more} more names of new grants"));
    }
    notices
}

/// Returns the words about the namespace whose name is the most similar one.
pub(super) fn nearest_namespace(own: &Namespace, known: &[Namespace]) -> String {
    let nearest = nearest_spelling(own.as_str(), known.iter(), ToString::to_string);
    likely("namespace", nearest.as_ref().map(Namespace::as_str))
}

fn likely(what: &str, nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; the nearest known {what} is `{name}`"))
}

async fn namespaces(
    operator: &OperatorAccess,
    store: &Store,
) -> Result<Vec<Namespace>, StoreError> {
    let all = store.namespaces(operator).await?;
    Ok(all.into_iter().map(|found| found.namespace).collect())
}

/// Returns the principals of all other grants, and the revoked ones. If the grant's own principal
/// has another grant, it returns only that principal.
async fn principals(
    operator: &OperatorAccess,
    store: &Store,
    grant: &Grant,
) -> Result<Vec<Principal>, StoreError> {
    let own = &grant.principal;
    let is_other = |other: &Grant| other.principal != *own || other.namespace != grant.namespace;
    if store.grants(operator, Some(own.clone()), None).await?.iter().any(is_other) {
        return Ok(vec![own.clone()]);
    }
    let grants = store.grants(operator, None, None).await?;
    let granted = grants.into_iter().filter(is_other).map(|other| other.principal);
    let revoked = store.revocations(operator).await?.principals;
    Ok(granted.chain(revoked.into_iter().map(|revoked| revoked.principal)).collect())
}

/// Returns the id of an account, with its partition if that is not `aws`.
fn account_name(aws: &AwsPrincipal) -> String {
    match aws.partition() {
        Partition::Aws => aws.account().to_owned(),
        partition => format!("{partition}:{}", aws.account()),
    }
}

#[cfg(test)]
mod tests {
    use stile_protocol::names::{Permission, Permissions};

    use super::*;

    const DEPLOY: &str = "aws:111122223333:role/deploy";

    fn principal(text: &str) -> Principal {
        Principal::parse_stored(text).unwrap()
    }

    fn names(who: &str, on: &str, namespaces: &[&str], principals: &[&str]) -> (Grant, NewNames) {
        let grant = Grant {
            principal: principal(who),
            namespace: on.parse().unwrap(),
            permissions: Permissions::NONE.with(Permission::Download),
            expires_at: None,
            created_by: "x".to_owned(),
            created_at: 0,
        };
        let new_namespace = on != "*" && !namespaces.contains(&on);
        let namespaces: Vec<_> =
            namespaces.iter().map(|name| Namespace::parse(name).unwrap()).collect();
        let principals: Vec<_> = principals.iter().map(|text| principal(text)).collect();
        let names = NewNames::compare(&grant, new_namespace, &namespaces, &principals);
        (grant, names)
    }

    #[test]
    fn a_mistyped_name_has_a_notice_with_the_nearest_known_name() {
        let known = ["aws:111122223333:role/build", DEPLOY, "sso:aws:444455556666/Admin"];
        for (who, expected) in [
            (
                "aws:111122223334:role/deploy",
                "the account `111122223334`; the nearest known account is `111122223333`",
            ),
            (
                "aws:444455565666:role/deploy",
                "the account `444455565666`; the nearest known account is `444455556666`",
            ),
            (
                "account:aws-cn:111122223333",
                "the account `aws-cn:111122223333`; the nearest known account is `111122223333`",
            ),
            (
                "aws:111122223333:role/deplyo",
                "the role `arn:aws:iam::111122223333:role/deplyo`; \
                 the nearest known name is `arn:aws:iam::111122223333:role/deploy`",
            ),
            (
                "aws:111122223333:role/biuld",
                "the role `arn:aws:iam::111122223333:role/biuld`; \
                 the nearest known name is `arn:aws:iam::111122223333:role/build`",
            ),
            (
                "aws:111122223333:user/deploy",
                "the user `arn:aws:iam::111122223333:user/deploy`; \
                 the nearest known name is `arn:aws:iam::111122223333:role/deploy`",
            ),
            (
                "aws:444455556666:role/deploy",
                "the role `arn:aws:iam::444455556666:role/deploy`; \
                 the nearest known name is `arn:aws:iam::111122223333:role/deploy`",
            ),
            (
                "sso:aws:444455556666/Admim",
                "the permission set `sso:aws:444455556666/Admim`; \
                 the nearest known name is `sso:aws:444455556666/Admin`",
            ),
        ] {
            let (grant, names) = names(who, "acme", &["acme"], &known);
            let expected = format!("nothing else in the store mentions {expected}");
            assert_eq!(names.notices(&grant), [expected], "{who}");
        }
        for (on, nearest) in [("acmee", "acme"), ("amce", "acme"), ("tool", "tools"), ("x", "acme")]
        {
            let (grant, names) = names(DEPLOY, on, &["acme", "tools"], &known);
            let expected = format!(
                "the grant created the namespace `{on}`, which had no grants and no modules; \
                 the nearest known namespace is `{nearest}`"
            );
            assert_eq!(names.notices(&grant), [expected], "{on}");
        }
    }

    #[test]
    fn a_known_name_and_the_first_name_of_a_store_have_no_notice() {
        for (who, on, namespaces, principals) in [
            (DEPLOY, "acme", &["acme"][..], &[DEPLOY][..]),
            (DEPLOY, "*", &["acme"], &[DEPLOY]),
            ("account:aws:111122223333", "acme", &["acme"], &[DEPLOY]),
            (DEPLOY, "acme", &["acme"], &[]),
            ("account:aws:111122223333", "acme", &["acme"], &[]),
            ("sso:aws:111122223333/Admin", "acme", &["acme"], &[]),
        ] {
            let (grant, names) = names(who, on, namespaces, principals);
            assert_eq!(names.notices(&grant), [""; 0], "{who} {on}");
        }
        let (grant, names) = names(DEPLOY, "acme", &[], &[]);
        let alone = "the grant created the namespace `acme`, which had no grants and no modules";
        assert_eq!(names.notices(&grant), [alone]);
        let (grant, names) = self::names(DEPLOY, "acme", &["acme"], &["account:aws:111122223333"]);
        let alone =
            "nothing else in the store mentions the role `arn:aws:iam::111122223333:role/deploy`";
        assert_eq!(names.notices(&grant), [alone]);
        let (grant, names) =
            self::names("sso:aws:111122223333/Admin", "acme", &["acme"], &[DEPLOY]);
        let alone =
            "nothing else in the store mentions the permission set `sso:aws:111122223333/Admin`";
        assert_eq!(names.notices(&grant), [alone]);
    }

    #[test]
    fn a_plan_has_few_notices_of_new_names_each_once() {
        let held: Vec<Grant> = [DEPLOY, "sso:aws:444455556666/Admin"]
            .map(|who| names(who, "acme", &["acme"], &[]).0)
            .into();
        let revoked = vec![principal("aws:111122223333:role/left")];
        let known = KnownNames { namespaces: vec![Namespace::parse("acme").unwrap()], revoked };
        let created = [
            ("aws:111122223333:role/left", "acme"),
            ("aws:111122223333:role/deplyo", "amce"),
            ("aws:111122223333:role/deplyo", "acme"),
            ("aws:111122223334:role/deploy", "amce"),
            ("account:aws:111122223335", "*"),
            ("account:aws:111122223336", "*"),
        ]
        .map(|(who, on)| (principal(who), on.parse::<GrantNamespace>().unwrap()));
        let created = || created.iter().map(|(who, on)| (who, on));
        let expected = [
            "the store has nothing of the namespace `amce`; the nearest known namespace is `acme`",
            "nothing in the store mentions the role `arn:aws:iam::111122223333:role/deplyo`; \
             the nearest known name is `arn:aws:iam::111122223333:role/deploy`",
            "nothing in the store mentions the account `111122223334`; \
             the nearest known account is `111122223333`",
            "nothing in the store mentions 2 more names of new grants",
        ];
        assert_eq!(notices_of_plan(created(), &held, &known, 3), expected);
        let none = notices_of_plan(created(), &[], &KnownNames::default(), 9);
        assert_eq!(none, [""; 0], "the first grants of a store");
    }
}
