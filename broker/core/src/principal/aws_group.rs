//! Groups of AWS callers that only AWS's own JWT can show: an organization, an organizational unit,
//! and a principal tag.
//!
//! | text | callers |
//! |---|---|
//! | `org:o-a1b2c3d4e5` | every role and user of the organization |
//! | `ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111` | those of accounts in the unit, and in units below it |
//! | `account:aws:111122223333/tag:team=data` | those of the account with the tag |
//! | `ou:o-a1b2c3d4e5/r-ab12/tag:team=data` | those of the unit with the tag |
//! | `tag:team=data` | those of any account that a trust believes, with the tag |

use stile_protocol::region::Partition;

use super::is_account;

/// The start of the canonical text of an organization.
const ORG: &str = "org:";

/// The start of the canonical text of an organizational unit.
const UNIT: &str = "ou:";

/// The start of the canonical text of a tag, after its scope.
const TAG: &str = "tag:";

/// The start of the scope of a tag of one account.
const ACCOUNT: &str = "account:";

/// How deep organizational units nest below the root (AWS Organizations user guide, "Quotas").
const MAX_DEPTH: usize = 5;

/// The most characters of a tag's key (IAM user guide, "Rules for tagging in IAM and AWS STS").
const MAX_KEY_LEN: usize = 128;

/// The most characters of a tag's value.
const MAX_VALUE_LEN: usize = 256;

/// A group of AWS callers, as one canonical text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsGroup {
    text: String,
    /// In a box, so that every principal stays small.
    kind: Box<AwsGroupKind>,
}

/// What the callers of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AwsGroupKind {
    /// Their account is in this organization.
    Organization(String),
    /// Their account is in this unit or below: organization, root and units, without a slash at the
    /// end.
    Unit(String),
    /// They have this tag.
    Tag {
        /// Where.
        scope: TagScope,
        /// The key. Its case matters here, although IAM ignores it.
        key: String,
        /// The value.
        value: String,
    },
}

/// The callers whose tag counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TagScope {
    /// Those of every account that a trust believes.
    AnyAccount,
    /// Those of one account.
    Account(Partition, String),
    /// Those of accounts in one organizational unit or below.
    Unit(String),
}

impl AwsGroup {
    /// Parses the canonical text and nothing else. `None` if it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let kind = match scoped_tag(text) {
            Some((scope, tag)) => {
                let (key, value) = tag.split_once('=')?;
                if !is_key(key) || !is_value(value) {
                    return None;
                }
                AwsGroupKind::Tag { scope: scope?, key: key.to_owned(), value: value.to_owned() }
            }
            None => match text.strip_prefix(ORG) {
                Some(id) => AwsGroupKind::Organization(is_org_id(id).then(|| id.to_owned())?),
                None => {
                    let path = text.strip_prefix(UNIT)?;
                    AwsGroupKind::Unit(is_unit_path(path).then(|| path.to_owned())?)
                }
            },
        };
        Some(Self { text: text.to_owned(), kind: Box::new(kind) })
    }

    /// Returns what its callers have in common.
    pub fn kind(&self) -> &AwsGroupKind {
        &self.kind
    }

    /// Returns the kind for messages.
    pub(super) fn kind_name(&self) -> &'static str {
        match *self.kind {
            AwsGroupKind::Organization(_) => "organization",
            AwsGroupKind::Unit(_) => "organizational unit",
            AwsGroupKind::Tag { .. } => "principal tag",
        }
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whom a grant reaches, for messages.
    pub fn whom(&self) -> &'static str {
        match self.kind() {
            AwsGroupKind::Organization(_) => {
                "all roles and users of all accounts of the organization"
            }
            AwsGroupKind::Unit(_) => {
                "all roles and users of all accounts in the organizational unit and below"
            }
            AwsGroupKind::Tag { scope: TagScope::AnyAccount, .. } => {
                "all roles and users with the tag, of every account that a trust believes"
            }
            AwsGroupKind::Tag { scope: TagScope::Account(..), .. } => {
                "all roles and users of the account with the tag"
            }
            AwsGroupKind::Tag { scope: TagScope::Unit(_), .. } => {
                "all roles and users with the tag, of all accounts in the organizational unit and below"
            }
        }
    }

    /// Returns whether it is a tag that counts in any account. An administrator of any of them can set
    /// it.
    pub fn is_any_account(&self) -> bool {
        matches!(*self.kind, AwsGroupKind::Tag { scope: TagScope::AnyAccount, .. })
    }
}

/// Splits a tag into its scope and `KEY=VALUE`. `None` if the text is not about a tag. The scope is
/// `None` if it is malformed.
fn scoped_tag(text: &str) -> Option<(Option<TagScope>, &str)> {
    if let Some(tag) = text.strip_prefix(TAG) {
        return Some((Some(TagScope::AnyAccount), tag));
    }
    // The scope has no `=`, so that a value that contains `/tag:` is no scope.
    let (scope, tag) = text.split_once("/tag:")?;
    if let Some(rest) = scope.strip_prefix(ACCOUNT) {
        let account = rest.split_once(':').and_then(|(partition, account)| {
            is_account(account)
                .then_some(TagScope::Account(Partition::named(partition)?, account.to_owned()))
        });
        return Some((account, tag));
    }
    let path = scope.strip_prefix(UNIT)?;
    Some((is_unit_path(path).then(|| TagScope::Unit(path.to_owned())), tag))
}

/// Returns whether a text is the id of an organization (AWS Organizations API reference,
/// `Organization`).
pub fn is_org_id(text: &str) -> bool {
    text.strip_prefix("o-").is_some_and(|id| is_id(id, 10))
}

/// Returns whether a text is an organization, its root, and organizational units, separated by slashes
/// (IAM user guide, "AWS Organizations entity path").
pub fn is_unit_path(text: &str) -> bool {
    let mut parts = text.split('/');
    let org = parts.next().is_some_and(is_org_id);
    let root = parts.next().and_then(|root| root.strip_prefix("r-"));
    let is_root = root.is_some_and(|id| is_id(id, 4));
    let units: Vec<&str> = parts.collect();
    org && is_root && units.len() <= MAX_DEPTH && units.iter().all(|unit| is_unit(unit))
}

fn is_unit(text: &str) -> bool {
    let ids = text.strip_prefix("ou-").and_then(|rest| rest.split_once('-'));
    ids.is_some_and(|(root, unit)| is_id(root, 4) && is_id(unit, 8))
}

fn is_id(text: &str, least: usize) -> bool {
    (least..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Returns whether a text is a tag's key that a grant can name: AWS allows `=`, `/` and spaces in one,
/// too, which would make two readings of one text.
fn is_key(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:+-@".contains(&byte);
    (1..=MAX_KEY_LEN).contains(&text.len())
        && text.bytes().all(plain)
        // AWS sets such tags itself.
        && !text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:"))
}

/// Returns whether a text is a tag's value that a grant can name. An empty one is none: a tag without
/// a value is easily set by mistake.
fn is_value(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/=+-@".contains(&byte);
    (1..=MAX_VALUE_LEN).contains(&text.len()) && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Principal;

    const UNIT_PATH: &str = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111";

    #[test]
    fn a_text_that_is_no_group_is_no_principal() {
        let long_key = format!("tag:{}=x", "k".repeat(129));
        let long_value = format!("tag:k={}", "v".repeat(257));
        let deep = format!("ou:o-a1b2c3d4e5/r-ab12{}", "/ou-ab12-11111111".repeat(6));
        for text in [
            "org:",
            "org:o-",
            "org:o-short",
            "org:O-a1b2c3d4e5",
            "org:o-A1b2c3d4e5",
            "org:o-a1b2c3d4e5/",
            "org:o-a1b2c3d4e5/r-ab12",
            "org:*",
            "ORG:o-a1b2c3d4e5",
            "ou:",
            "ou:o-a1b2c3d4e5",
            "ou:o-a1b2c3d4e5/",
            "ou:r-ab12",
            "ou:o-a1b2c3d4e5/r-ab12/",
            "ou:o-a1b2c3d4e5/r-ab12//ou-ab12-11111111",
            "ou:o-a1b2c3d4e5/r-ab12/ou-ab12",
            "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-1111111",
            "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/",
            "ou:o-a1b2c3d4e5/ou-ab12-11111111",
            "ou:o-a1b2c3d4e5/r-ab12/*",
            &deep,
            "tag:",
            "tag:team",
            "tag:team=",
            "tag:=data",
            "tag:team=da ta",
            "tag:team=data\n",
            "tag:te/am=data",
            "tag:te am=data",
            "tag:team=*",
            "tag:team=d\u{430}ta",
            "tag:aws:createdBy=x",
            "tag:AWS:x=x",
            &long_key,
            &long_value,
            "account:aws:111122223333/tag:",
            "account:aws:111122223333/tag:team",
            "account:aws:11112222333/tag:team=data",
            "account:aws-moon:111122223333/tag:team=data",
            "account:111122223333/tag:team=data",
            "account:aws:111122223333/team=data",
            "ou:o-a1b2c3d4e5/tag:team=data",
            "ou:o-a1b2c3d4e5/r-ab12/tag:team",
            "org:o-a1b2c3d4e5/tag:team=data",
        ] {
            assert!(Principal::parse_stored(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_group_is_no_caller_and_has_no_unique_id() {
        for (text, kind) in [
            ("org:o-a1b2c3d4e5", "organization"),
            ("ou:o-a1b2c3d4e5/r-ab12", "organizational unit"),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111", "organizational unit"),
            ("tag:u:use-case=a/b=c/tag:x=y", "principal tag"),
            ("account:aws-cn:111122223333/tag:team=data", "principal tag"),
            ("ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/tag:team=data", "principal tag"),
        ] {
            let principal = Principal::parse_stored(text).unwrap();
            assert_eq!((principal.as_str(), principal.kind()), (text, kind));
            assert!(matches!(principal, Principal::AwsGroup(_)));
            assert!(!principal.is_caller() && !principal.has_unique_id(), "{text}");
            assert!(principal.aliases().is_empty() && principal.aws().is_none());
            assert_eq!(principal.display_name(), text);
        }
    }

    #[test]
    fn a_tag_says_where_it_counts() {
        let scope = |text: &str| match *AwsGroup::parse(text).unwrap().kind {
            AwsGroupKind::Tag { scope, key, value } => (scope, key, value),
            other => panic!("{other:?}"),
        };
        let (team, data) = ("team".to_owned(), "data".to_owned());
        assert_eq!(scope("tag:team=data"), (TagScope::AnyAccount, team.clone(), data.clone()));
        assert_eq!(
            scope("account:aws:111122223333/tag:team=data"),
            (
                TagScope::Account(Partition::Aws, "111122223333".to_owned()),
                team.clone(),
                data.clone()
            )
        );
        assert_eq!(
            scope(&format!("ou:{UNIT_PATH}/tag:team=data")),
            (TagScope::Unit(UNIT_PATH.to_owned()), team, data)
        );
        assert!(AwsGroup::parse("tag:team=data").unwrap().is_any_account());
        assert!(!AwsGroup::parse("account:aws:111122223333/tag:a=b").unwrap().is_any_account());
    }
}
