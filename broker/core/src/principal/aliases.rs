//! What else a role or user is granted through, and how its owner would write it.

use super::{Kind, Principal, permission_set_of};

impl Principal {
    /// The permission set a role stands for, if any, and every role and user of the account; none for what is no role or user.
    pub fn aliases(&self) -> Vec<Self> {
        if !self.is_concrete() {
            return Vec::new();
        }
        let set = if self.kind == Kind::Role { permission_set_of(self.name()) } else { None };
        let set =
            set.and_then(|set| Self::new(Kind::PermissionSet, self.partition, self.account(), set));
        set.into_iter()
            .chain(Self::new(Kind::Account, self.partition, self.account(), ""))
            .collect()
    }

    /// The ARN of a role or user, or the text of another principal: what its owner would look for.
    pub fn as_typed(&self) -> String {
        let kind = match self.kind {
            Kind::Role => "role",
            Kind::User => "user",
            Kind::PermissionSet | Kind::Account => return self.text.clone(),
        };
        format!("arn:{}:iam::{}:{kind}/{}", self.partition, self.account(), self.name())
    }

    fn name(&self) -> &str {
        self.text.rsplit_once('/').map_or("", |(_, name)| name)
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
            assert_eq!(Principal::parse_stored(text).unwrap().as_typed(), expected);
        }
    }
}
