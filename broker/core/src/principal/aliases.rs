//! The other principals whose grants apply to a role or user, and display names.

use super::{Principal, permission_set_of};

impl Principal {
    /// Returns the flag with which `stile-admin` takes [`Self::display_name`].
    pub const fn flag(&self) -> &'static str {
        match self {
            Self::Role(_) | Self::User(_) => "--role-arn",
            Self::PermissionSet(_)
            | Self::Account(_)
            | Self::Trust(_)
            | Self::Service(_)
            | Self::AwsGroup(_) => "--principal",
        }
    }

    /// Returns the other principals whose grants apply to a role or user: its permission set, if IAM
    /// Identity Center created the role, and its account. Empty for other principals.
    pub fn aliases(&self) -> Vec<Self> {
        let (set, aws) = match self {
            Self::Role(role) => (permission_set_of(role.name()), role),
            Self::User(user) => (None, user),
            Self::PermissionSet(_)
            | Self::Account(_)
            | Self::Trust(_)
            | Self::Service(_)
            | Self::AwsGroup(_) => {
                return Vec::new();
            }
        };
        let set = set.and_then(|set| Self::permission_set(aws.partition(), aws.account(), set));
        set.into_iter().chain(Self::account(aws.partition(), aws.account())).collect()
    }

    /// Returns the name for messages: the ARN of a role or user, and else the canonical text.
    pub fn display_name(&self) -> String {
        let (kind, aws) = match self {
            Self::Role(role) => ("role", role),
            Self::User(user) => ("user", user),
            Self::PermissionSet(_)
            | Self::Account(_)
            | Self::Trust(_)
            | Self::Service(_)
            | Self::AwsGroup(_) => {
                return self.to_string();
            }
        };
        format!("arn:{}:iam::{}:{kind}/{}", aws.partition(), aws.account(), aws.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_principal_has_the_aliases_of_its_caller() {
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
    fn the_display_name_of_a_role_or_user_is_its_arn() {
        for (text, expected) in [
            ("aws-us-gov:111122223333:role/deploy", "arn:aws-us-gov:iam::111122223333:role/deploy"),
            ("aws:111122223333:user/alice", "arn:aws:iam::111122223333:user/alice"),
            ("sso:aws:111122223333/Admin", "sso:aws:111122223333/Admin"),
        ] {
            assert_eq!(Principal::parse_stored(text).unwrap().display_name(), expected);
        }
    }
}
