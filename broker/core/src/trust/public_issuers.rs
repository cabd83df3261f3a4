//! Issuers at which everybody can get a JWT, with the claims that say whose a JWT is.

use super::{Condition, IssuerUrl, Rule};

/// An issuer that signs JWTs for strangers.
///
/// Without a condition on an owner, a trust in it lets in the jobs of everybody who has an account
/// there.
#[derive(Debug, PartialEq, Eq)]
pub struct PublicIssuer {
    /// The name for messages.
    pub name: &'static str,
    hosts: &'static [&'static str],
    /// The claims that say whose a JWT is. A condition that one of them equals a value is enough.
    pub owners: &'static [&'static str],
}

/// The known public issuers. Their claims are from the documentation of each on its OpenID Connect
/// tokens.
///
/// `job_workflow_ref` of GitHub is none: every repository can call a public reusable workflow.
const PUBLIC: &[PublicIssuer] = &[
    PublicIssuer {
        name: "GitHub Actions",
        hosts: &["token.actions.githubusercontent.com"],
        owners: &[
            "repository_id",
            "repository_owner_id",
            "enterprise_id",
            "repository",
            "repository_owner",
            "sub",
        ],
    },
    PublicIssuer {
        name: "GitLab.com",
        hosts: &["gitlab.com"],
        owners: &["project_id", "namespace_id", "project_path", "namespace_path", "sub"],
    },
    PublicIssuer {
        name: "Bitbucket Pipelines",
        hosts: &["api.bitbucket.org"],
        owners: &["repositoryUuid", "workspaceUuid", "sub"],
    },
    PublicIssuer {
        name: "CircleCI",
        hosts: &["oidc.circleci.com"],
        owners: &["oidc.circleci.com/project-id", "sub"],
    },
    PublicIssuer {
        name: "Buildkite",
        hosts: &["agent.buildkite.com"],
        owners: &["organization_id", "pipeline_id", "organization_slug", "sub"],
    },
    PublicIssuer {
        name: "HCP Terraform",
        hosts: &["app.terraform.io", "app.eu.terraform.io"],
        owners: &[
            "terraform_organization_id",
            "terraform_project_id",
            "terraform_workspace_id",
            "sub",
        ],
    },
    PublicIssuer { name: "Google", hosts: &["accounts.google.com"], owners: &["sub", "email"] },
    PublicIssuer {
        name: "Microsoft Entra ID",
        hosts: &["login.microsoftonline.com", "sts.windows.net"],
        owners: &["sub", "oid", "azp", "appid"],
    },
    PublicIssuer {
        name: "Vercel",
        hosts: &["oidc.vercel.com"],
        owners: &["project_id", "owner_id", "sub"],
    },
    PublicIssuer { name: "Fly.io", hosts: &["oidc.fly.io"], owners: &["app_id", "org_id", "sub"] },
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

    /// Returns whether a condition says whose a JWT must be.
    ///
    /// A prefix never does: everybody can take a name that begins so.
    pub fn is_narrowed_by(&self, conditions: &[Condition]) -> bool {
        conditions.iter().any(|condition| match condition.rule {
            Rule::Equals(_) => self.owners.contains(&condition.path.as_str()),
            Rule::Prefix(_) | Rule::Contains(_) => false,
        })
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
            (equals("ref=refs/heads/main"), false),
            (equals("environment=production"), false),
            (equals("job_workflow_ref=acme/ci/.github/workflows/x.yml@refs/heads/main"), false),
            (equals("/repository_id/x=74"), false),
            (Condition::prefix("repository=acme/*").unwrap(), false),
            (Condition::contains("repository_id=74").unwrap(), false),
            (equals("repository_id=74"), true),
            (equals("sub=repo:acme/infra:ref:refs/heads/main"), true),
        ] {
            let text = condition.to_string();
            assert_eq!(github.is_narrowed_by(&[condition]), expected, "{text}");
        }
        assert!(!github.is_narrowed_by(&[]));
    }

    #[test]
    fn every_public_issuer_has_owners_that_a_condition_can_name() {
        for public in PUBLIC {
            for owner in public.owners {
                let condition = Condition::equals(&format!("{owner}=x")).unwrap();
                assert!(public.is_narrowed_by(&[condition]), "{} {owner}", public.name);
            }
        }
    }
}
