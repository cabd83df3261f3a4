//! Issuers at which everyone can get a JWT, with the claims that say whose a JWT is.

use super::{Condition, IssuerUrl, Rule};

/// An issuer that signs JWTs for strangers.
///
/// Without a condition on an owner, a trust in it accepts the jobs of everyone who has an account
/// there.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicIssuer {
    /// The name for messages.
    pub name: &'static str,
    hosts: &'static [&'static str],
    /// The claims that say whose a JWT is by a number or an id, which nobody can take over.
    pub ids: &'static [&'static str],
    /// The claims that say whose a JWT is by a name, which another owner can have later.
    pub names: &'static [&'static str],
}

/// What the conditions of a trust in a public issuer say of the owner of a JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedOwner {
    /// One of them says its id.
    ById,
    /// One of them says its name, and none its id.
    ByName,
    /// None of them says whose a JWT must be, so it can be that of a stranger.
    Nobody,
}

/// The known public issuers. Their claims are from the documentation of each on its OpenID Connect
/// tokens.
///
/// `job_workflow_ref` of GitHub is none: every repository can call a public reusable workflow.
const PUBLIC: &[PublicIssuer] = &[
    PublicIssuer {
        name: "GitHub Actions",
        hosts: &["token.actions.githubusercontent.com"],
        ids: &["repository_id", "repository_owner_id", "enterprise_id"],
        names: &["repository", "repository_owner", "sub"],
    },
    PublicIssuer {
        name: "GitLab.com",
        hosts: &["gitlab.com"],
        ids: &["project_id", "namespace_id"],
        names: &["project_path", "namespace_path", "sub"],
    },
    PublicIssuer {
        name: "Bitbucket Pipelines",
        hosts: &["api.bitbucket.org"],
        ids: &["repositoryUuid", "workspaceUuid", "sub"],
        names: &[],
    },
    PublicIssuer {
        name: "CircleCI",
        hosts: &["oidc.circleci.com"],
        ids: &["oidc.circleci.com/project-id", "sub"],
        names: &[],
    },
    PublicIssuer {
        name: "Buildkite",
        hosts: &["agent.buildkite.com"],
        ids: &["organization_id", "pipeline_id"],
        names: &["organization_slug", "sub"],
    },
    PublicIssuer {
        name: "HCP Terraform",
        hosts: &["app.terraform.io", "app.eu.terraform.io"],
        ids: &["terraform_organization_id", "terraform_project_id", "terraform_workspace_id"],
        names: &["sub"],
    },
    PublicIssuer {
        name: "Google",
        hosts: &["accounts.google.com"],
        ids: &["sub"],
        names: &["email"],
    },
    PublicIssuer {
        name: "Microsoft Entra ID",
        hosts: &["login.microsoftonline.com", "sts.windows.net"],
        ids: &["sub", "oid", "azp", "appid"],
        names: &[],
    },
    PublicIssuer {
        name: "Vercel",
        hosts: &["oidc.vercel.com"],
        ids: &["project_id", "owner_id"],
        names: &["sub"],
    },
    PublicIssuer {
        name: "Fly.io",
        hosts: &["oidc.fly.io"],
        ids: &["app_id", "org_id"],
        names: &["sub"],
    },
];

impl PublicIssuer {
    /// Returns the public issuer that an issuer is, if it is a known one.
    ///
    /// The path does not matter. It names a customer of the issuer, and is no condition on a claim.
    pub fn of(issuer: &IssuerUrl) -> Option<&'static Self> {
        let host = issuer.host();
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        PUBLIC.iter().find(|public| public.hosts.contains(&host))
    }

    /// Returns what the conditions say of the owner of a JWT.
    ///
    /// A prefix never says it: everyone can take a name that begins so.
    pub fn owner_in(&self, conditions: &[Condition]) -> NamedOwner {
        let one_of = |claims: &[&str]| {
            conditions.iter().any(|condition| match condition.rule {
                Rule::Equals(_) => claims.contains(&condition.path.as_str()),
                Rule::Prefix(_) | Rule::Contains(_) => false,
            })
        };
        if one_of(self.ids) {
            NamedOwner::ById
        } else if one_of(self.names) {
            NamedOwner::ByName
        } else {
            NamedOwner::Nobody
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(issuer: &str) -> Option<&'static str> {
        PublicIssuer::of(&issuer.parse().unwrap()).map(|public| public.name)
    }

    #[test]
    fn a_public_issuer_is_known_by_its_host_whatever_its_path() {
        for (issuer, expected) in [
            ("https://token.actions.githubusercontent.com", Some("GitHub Actions")),
            ("https://token.actions.githubusercontent.com/acme", Some("GitHub Actions")),
            ("https://gitlab.com", Some("GitLab.com")),
            ("https://gitlab.com:8443", Some("GitLab.com")),
            ("https://login.microsoftonline.com/1234/v2.0", Some("Microsoft Entra ID")),
            ("https://gitlab.com.corp.example", None),
            ("https://gitlab.corp.example", None),
            ("https://evil-gitlab.com", None),
            ("https://corp.example/gitlab.com", None),
        ] {
            assert_eq!(of(issuer), expected, "{issuer}");
        }
    }

    #[test]
    fn only_an_equal_owner_says_whose_a_jwt_is() {
        let github = &PUBLIC[0];
        let equals = |text| Condition::equals(text).unwrap();
        for (condition, expected) in [
            (equals("ref=refs/heads/main"), NamedOwner::Nobody),
            (equals("environment=production"), NamedOwner::Nobody),
            (equals("job_workflow_ref=acme/ci/x.yml@refs/heads/main"), NamedOwner::Nobody),
            (equals("/repository_id/x=74"), NamedOwner::Nobody),
            (Condition::prefix("repository=acme/*").unwrap(), NamedOwner::Nobody),
            (Condition::contains("repository_id=74").unwrap(), NamedOwner::Nobody),
            (equals("repository_id=74"), NamedOwner::ById),
            (equals("repository=acme/infra"), NamedOwner::ByName),
            (equals("sub=repo:acme/infra:ref:refs/heads/main"), NamedOwner::ByName),
        ] {
            let text = condition.to_string();
            assert_eq!(github.owner_in(&[condition]), expected, "{text}");
        }
        let both = [equals("repository=acme/infra"), equals("repository_owner_id=7")];
        assert_eq!(github.owner_in(&both), NamedOwner::ById);
        assert_eq!(github.owner_in(&[]), NamedOwner::Nobody);
    }

    #[test]
    fn every_public_issuer_has_owners_that_a_condition_can_name() {
        for public in PUBLIC {
            assert!(!public.ids.is_empty(), "{}", public.name);
            for owner in public.ids.iter().chain(public.names) {
                let condition = Condition::equals(&format!("{owner}=x")).unwrap();
                assert_ne!(public.owner_in(&[condition]), NamedOwner::Nobody, "{owner}");
            }
        }
    }
}
