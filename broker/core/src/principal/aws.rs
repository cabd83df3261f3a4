//! What principals of AWS have in common: a partition, an account and a name, within one canonical text.

use stile_protocol::region::Partition;

/// The digits of an account id.
const ACCOUNT_DIGITS: usize = 12;

/// The longest name IAM gives a role or a user (IAM and AWS STS quotas).
pub(super) const MAX_NAME_LEN: usize = 64;

/// The longest name of a permission set: with `AWSReservedSSO_` and its suffix it fills a role's name.
pub(super) const MAX_PERMISSION_SET_LEN: usize = 32;

/// A principal of one AWS account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsPrincipal {
    text: String,
    partition: Partition,
    account_at: usize,
}

impl AwsPrincipal {
    /// `before`, the partition, the account and what follows it, if account and name have their grammar.
    pub(super) fn new(
        before: &str,
        partition: Partition,
        account: &str,
        after: &str,
        name: Option<(&str, usize)>,
    ) -> Option<Self> {
        let named = name.is_none_or(|(name, longest)| is_name(name, longest));
        if !is_account(account) || !named {
            return None;
        }
        let name = name.map_or("", |(name, _)| name);
        let account_at = before.len() + partition.as_str().len() + 1;
        Some(Self {
            text: format!("{before}{partition}:{account}{after}{name}"),
            partition,
            account_at,
        })
    }

    /// The partition of the account.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// The account: 12 digits, as text, since some begin with a zero.
    pub fn account(&self) -> &str {
        &self.text[self.account_at..self.account_at + ACCOUNT_DIGITS]
    }

    /// The name of a role, a user or a permission set; empty for a whole account.
    pub fn name(&self) -> &str {
        self.text.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

pub(super) fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}
