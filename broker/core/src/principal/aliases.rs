//! What else a role or user is granted through, and how its owner would write it.

use super::{Principal, permission_set_of};

impl Principal {
    /// What else a caller's grants come through: the permission set that a role stands for, and every role and user of
    /// the account. Empty for what is not one caller.
    pub fn aliases(&self) -> Vec<Self> {
        let (set, aws) = match self {
            Self::Role(role) => (permission_set_of(role.name()), role),
            Self::User(user) => (None, user),
            Self::PermissionSet(_) | Self::Account(_) => return Vec::new(),
        };
        let set = set.and_then(|set| Self::permission_set(aws.partition(), aws.account(), set));
        set.into_iter().chain(Self::account(aws.partition(), aws.account())).collect()
    }

    /// The ARN of a role or user, or the text of another principal: what its owner would look for.
    pub fn display_name(&self) -> String {
        let (kind, aws) = match self {
            Self::Role(role) => ("role", role),
            Self::User(user) => ("user", user),
            Self::PermissionSet(_) | Self::Account(_) => return self.to_string(),
        };
        format!("arn:{}:iam::{}:{kind}/{}", aws.partition(), aws.account(), aws.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_the_aliases_its_caller_had() {
        for (text, aliases) in [
            ("aws:111122223333:role/deploy", vec!["account:aws:111122223333"]),
            (
                "aws:111122223333:user/AWSReservedSSO_Admin_0123456789abcdef",
                vec!["account:aws:111122223333"],
            ),
            (
                "aws-cn:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef",
                vec!["sso:aws-cn:111122223333/Admin", "account:aws-cn:111122223333"],
            ),
            ("account:aws:111122223333", vec![]),
        ] {
            let found: Vec<String> = Principal::parse_stored(text)
                .unwrap()
                .aliases()
                .iter()
                .map(ToString::to_string)
                .collect();
            assert_eq!(found, aliases, "{text}");
        }
    }

    #[test]
    fn a_role_is_told_as_its_arn() {
        for (text, expected) in [
            ("aws-us-gov:111122223333:role/deploy", "arn:aws-us-gov:iam::111122223333:role/deploy"),
            ("aws:111122223333:user/alice", "arn:aws:iam::111122223333:user/alice"),
            ("sso:aws:111122223333/Admin", "sso:aws:111122223333/Admin"),
        ] {
            assert_eq!(Principal::parse_stored(text).unwrap().display_name(), expected);
        }
    }
}
