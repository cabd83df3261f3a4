//! Reads where a version comes from: the repository, commit and run that a CI job names in its
//! environment, or the registry that it is promoted from.
//!
//! The registry records these values as claims. A publisher can set them freely, so they decide
//! nothing. They never contain the user or the password of a URL.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use serde::Serialize;
use serde_json::Value;
use stile_core::package::{Claimed, PromotedFrom};
use stile_protocol::audience::Audience;

/// The request header with the claims of a version whose archive is the body.
pub(crate) const HEADER: &str = "stile-claimed";

/// Maximum length of one value in characters. A longer value is left out.
const MAX_VALUE: usize = 512;

/// The environment of a promoted version without claims of its own.
const PROMOTION: &str = "promotion";

/// What the publisher claims about a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Claims(Claimed);

impl Claims {
    /// Returns the claims of the CI service in whose job the program runs, or `None` elsewhere.
    ///
    /// `variable` returns the value of an environment variable. If several services claim the job,
    /// the first of this order counts: GitHub Actions, GitLab CI, CodeBuild, Jenkins. For example,
    /// CodeBuild runs jobs of GitHub Actions.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let value = |name: &str| variable(name).and_then(|text| plain(&text));
        let url = |name: &str| variable(name).and_then(|text| public_url(&text));
        let is_true = |name: &str| value(name).is_some_and(|text| text == "true");
        if is_true("GITHUB_ACTIONS") {
            let repository = value("GITHUB_SERVER_URL")
                .zip(value("GITHUB_REPOSITORY"))
                .and_then(|(server, name)| public_url(&format!("{server}/{name}")));
            let run = value("GITHUB_RUN_ID").and_then(|id| match &repository {
                Some(repository) => plain(&format!("{repository}/actions/runs/{id}")),
                None => Some(id),
            });
            let commit = value("GITHUB_SHA");
            return Some(Self::of_job("github-actions", (repository, commit, run)));
        }
        if is_true("GITLAB_CI") {
            let claims = (url("CI_PROJECT_URL"), value("CI_COMMIT_SHA"), url("CI_JOB_URL"));
            return Some(Self::of_job("gitlab-ci", claims));
        }
        if let Some(build) = variable("CODEBUILD_BUILD_ARN").filter(|build| !build.is_empty()) {
            let repository = url("CODEBUILD_SOURCE_REPO_URL");
            let commit = value("CODEBUILD_RESOLVED_SOURCE_VERSION");
            return Some(Self::of_job("codebuild", (repository, commit, plain(&build))));
        }
        variable("JENKINS_URL").filter(|server| !server.is_empty()).map(|_| {
            Self::of_job("jenkins", (url("GIT_URL"), value("GIT_COMMIT"), url("BUILD_URL")))
        })
    }

    /// Creates the claims of a job: its repository, commit and run.
    fn of_job(
        environment: &str,
        (repository, commit, run): (Option<String>, Option<String>, Option<String>),
    ) -> Self {
        let environment = environment.to_owned();
        Self(Claimed { environment, repository, commit, run, promoted_from: None })
    }

    /// Creates the claims of a version that is promoted from another registry.
    ///
    /// `provenance` is what that registry says: `claimed`, `published_by` and `published_at`. Claims
    /// that are malformed there are left out.
    pub(crate) fn promoted(registry: &Audience, provenance: &Value) -> Self {
        let claimed = Claimed::parse(&provenance["claimed"]);
        let Self(claimed) =
            claimed.map_or_else(|_| Self::of_job(PROMOTION, (None, None, None)), Self);
        let (by, at) = (provenance["published_by"].as_str(), provenance["published_at"].as_str());
        let from = PromotedFrom::new(registry, by, at);
        Self(Claimed { promoted_from: Some(Box::new(from)), ..claimed })
    }

    /// Returns the value of [`HEADER`]: JSON as base64url without padding.
    pub(crate) fn header(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::json!(self).to_string())
    }
}

/// Returns a value that is printable ASCII of limited length, as the registry requires.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = (1..=MAX_VALUE).contains(&text.len())
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    is_plain.then(|| text.to_owned())
}

/// Returns a URL without user, password, query and fragment, each of which can be a secret.
///
/// The short form of git, `git@HOST:PATH`, becomes an `ssh` URL. A text without a host has no value.
fn public_url(text: &str) -> Option<String> {
    let text = text.trim();
    let mut url = if text.contains("://") {
        Url::parse(text).ok()?
    } else {
        let (host, path) = text.split_once(':')?;
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        // A text with another `@` or `:` can be a URL whose scheme is missing, with a password.
        if host.contains('/') || path.contains(['@', ':']) {
            return None;
        }
        Url::parse(&format!("ssh://{host}/{}", path.trim_start_matches('/'))).ok()?
    };
    if !["https", "http", "ssh", "git"].contains(&url.scheme())
        || url.host_str().is_none_or(str::is_empty)
    {
        return None;
    }
    url.set_username("").ok()?;
    url.set_password(None).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    plain(url.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claims(variables: &[(&str, &str)]) -> Option<Value> {
        let found = Claims::of(|name| {
            let value = variables.iter().find(|(there, _)| *there == name);
            value.map(|(_, value)| (*value).to_owned())
        });
        found.map(|claims| json!(claims))
    }

    #[test]
    fn a_url_gives_no_user_password_query_or_fragment() {
        for (text, expected) in [
            ("", None),
            ("vpc", None),
            ("/srv/git/vpc.git", None),
            ("file:///srv/git/vpc.git", None),
            ("javascript://x/alert", None),
            ("bob:hunter2@example.com/vpc.git", None),
            ("git@example.com:22:hunter2@x", None),
            ("https://", None),
            ("https://example.com/a\u{202e}b", Some("https://example.com/a%E2%80%AEb")),
            ("https://bob:hunter2@example.com/vpc.git", Some("https://example.com/vpc.git")),
            ("https://hunter2@example.com/vpc.git", Some("https://example.com/vpc.git")),
            ("https://example.com/a?t=hunter2#hunter2", Some("https://example.com/a")),
            ("ssh://git:hunter2@example.com:22/vpc", Some("ssh://example.com:22/vpc")),
            ("git@example.com:acme/vpc.git", Some("ssh://example.com/acme/vpc.git")),
            ("example.com:/acme/vpc.git", Some("ssh://example.com/acme/vpc.git")),
        ] {
            assert_eq!(public_url(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_value_that_is_long_or_not_printable_is_left_out() {
        let long = "a".repeat(MAX_VALUE + 1);
        for commit in ["", " ", "a\nb", "a\u{1b}[2J", "caf\u{e9}", &long] {
            let found = claims(&[("GITLAB_CI", "true"), ("CI_COMMIT_SHA", commit)]).unwrap();
            assert_eq!(found, json!({ "environment": "gitlab-ci" }), "{commit:?}");
        }
        let found = claims(&[("GITLAB_CI", "true"), ("CI_COMMIT_SHA", &long[1..])]).unwrap();
        assert_eq!(found["commit"], long[1..]);
    }

    #[test]
    fn a_promoted_version_has_the_claims_of_its_registry_and_names_it() {
        let registry = Audience::parse("staging.example.com").unwrap();
        let bare = json!({ "registry": "staging.example.com" });
        for provenance in [
            json!({}),
            json!({ "claimed": null, "published_by": 7 }),
            json!({ "claimed": { "environment": "A B" }, "published_by": "a\nb" }),
        ] {
            let claims = json!(Claims::promoted(&registry, &provenance));
            let expected = json!({ "environment": "promotion", "promoted_from": bare.clone() });
            assert_eq!(claims, expected, "{provenance}");
        }
        let provenance = json!({
            "claimed": {
                "environment": "jenkins", "commit": "c0ffee",
                "promoted_from": { "registry": "dev.example.com" },
            },
            "published_by": "aws:111122223333:role/deploy", "published_at": "2026-11-20T10:11:12Z",
        });
        let expected = json!({
            "environment": "jenkins", "commit": "c0ffee",
            "promoted_from": {
                "registry": "staging.example.com",
                "published_by": "aws:111122223333:role/deploy",
                "published_at": "2026-11-20T10:11:12Z",
            },
        });
        assert_eq!(json!(Claims::promoted(&registry, &provenance)), expected);
    }

    #[test]
    fn outside_of_a_ci_job_there_are_no_claims() {
        for variables in [
            &[][..],
            &[("GITHUB_ACTIONS", "false"), ("GITHUB_SHA", "c0ffee")],
            &[("GITLAB_CI", ""), ("CI_COMMIT_SHA", "c0ffee")],
            &[("CODEBUILD_BUILD_ARN", ""), ("JENKINS_URL", "")],
            &[("GIT_COMMIT", "c0ffee"), ("GIT_URL", "https://example.com/vpc.git")],
        ] {
            assert_eq!(claims(variables), None, "{variables:?}");
        }
    }

    #[test]
    fn each_ci_service_names_its_repository_commit_and_run() {
        let github = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "acme/vpc"),
            ("GITHUB_SHA", "c0ffee"),
            ("GITHUB_RUN_ID", "42"),
            ("CODEBUILD_BUILD_ARN", "arn:aws:codebuild:eu-central-1:111122223333:build/x:1"),
        ];
        let gitlab = [
            ("GITLAB_CI", "true"),
            ("CI_PROJECT_URL", "https://gitlab.com/acme/vpc"),
            ("CI_COMMIT_SHA", "c0ffee"),
            ("CI_JOB_URL", "https://gitlab.com/acme/vpc/-/jobs/42"),
        ];
        let codebuild = [
            ("CODEBUILD_BUILD_ARN", "arn:aws:codebuild:eu-central-1:111122223333:build/x:1"),
            ("CODEBUILD_SOURCE_REPO_URL", "https://bob:hunter2@example.com/vpc.git"),
            ("CODEBUILD_RESOLVED_SOURCE_VERSION", "c0ffee"),
        ];
        let jenkins = [
            ("JENKINS_URL", "https://ci.example.com/"),
            ("GIT_URL", "git@example.com:acme/vpc.git"),
            ("GIT_COMMIT", "c0ffee"),
            ("BUILD_URL", "https://ci.example.com/job/vpc/42/"),
        ];
        for (variables, environment, repository, run) in [
            (
                &github[..],
                "github-actions",
                "https://github.com/acme/vpc",
                "https://github.com/acme/vpc/actions/runs/42",
            ),
            (
                &gitlab,
                "gitlab-ci",
                "https://gitlab.com/acme/vpc",
                "https://gitlab.com/acme/vpc/-/jobs/42",
            ),
            (
                &codebuild,
                "codebuild",
                "https://example.com/vpc.git",
                "arn:aws:codebuild:eu-central-1:111122223333:build/x:1",
            ),
            (
                &jenkins,
                "jenkins",
                "ssh://example.com/acme/vpc.git",
                "https://ci.example.com/job/vpc/42/",
            ),
        ] {
            let expected = json!({
                "environment": environment, "repository": repository, "commit": "c0ffee", "run": run,
            });
            assert_eq!(claims(variables), Some(expected));
        }
        let bare = claims(&[("GITHUB_ACTIONS", "true"), ("GITHUB_RUN_ID", "42")]).unwrap();
        assert_eq!(bare, json!({ "environment": "github-actions", "run": "42" }));
    }
}
