//! The common part of AWS principals: partition, account and name within one canonical text.

use stile_protocol::region::Partition;

/// Number of digits of an account id.
const ACCOUNT_DIGITS: usize = 12;

/// Maximum length of a role or user name (IAM user guide, "IAM and AWS STS quotas").
pub(super) const MAX_NAME_LEN: usize = 64;

/// Maximum length of a permission set name. With `AWSReservedSSO_` and the suffix, it fits into a
/// role name.
pub(super) const MAX_PERMISSION_SET_LEN: usize = 32;

/// A principal of one AWS account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AwsPrincipal {
    text: String,
    partition: Partition,
    account_at: usize,
}

impl AwsPrincipal {
    /// Creates the canonical text `<before><partition>:<account><after><name>`.
    ///
    /// Returns `None`, if the account or the name is invalid. `name` contains the name and its maximum
    /// length.
    pub(super) fn new(
        before: &str,
        partition: Partition,
        account: &str,
        after: &str,
        name: Option<(&str, usize)>,
    ) -> Option<Self> {
        let named = name.is_none_or(|(name, max_len)| is_name(name, max_len));
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

    /// Returns the AWS partition of the account.
    pub const fn partition(&self) -> Partition {
        self.partition
    }

    /// Returns the account id: 12 digits, as text, because leading zeros count.
    pub fn account(&self) -> &str {
        &self.text[self.account_at..self.account_at + ACCOUNT_DIGITS]
    }

    /// Returns the name of the role, user or permission set. Empty for an account.
    pub fn name(&self) -> &str {
        self.text.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// Returns the canonical text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// Returns whether a text is the id of an account: 12 digits.
pub fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(text: &str, max_len: usize) -> bool {
    (1..=max_len).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b))
}
