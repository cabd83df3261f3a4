//! Checks the JWT that proves the caller's identity, and shows what a trust can say about it.

use secrecy::SecretString;
use serde_json::Value;
use terraform_credentials_stile::config::Proof;
use terraform_credentials_stile::credentials;
use terraform_credentials_stile::id_token::{self, FixedIdTokens, IdTokenError, IdTokens};
use terraform_credentials_stile::message::{chain, one_line};

use crate::doctor::cure::HostCheck;
use crate::doctor::report::DoctorReport;
use crate::verb::{VerbFailure, block_on};

/// Longest claim that a line shows, in characters.
const MAX_CLAIM: usize = 300;

/// The claims that a line shows: those that a trust needs, at the CI systems of `docs/ci.md`.
///
/// No other claim is shown: an issuer can put anything into a JWT, and a job's log can be public.
const SHOWN_CLAIMS: [&str; 12] = [
    "iss",
    "aud",
    "sub",
    // GitHub Actions
    "repository_id",
    "repository_owner_id",
    "ref",
    "environment",
    "job_workflow_ref",
    // GitLab, which also has `ref`
    "project_id",
    "ref_type",
    "ref_protected",
    // HCP Terraform
    "terraform_workspace_id",
];

/// Finds or gets the JWT of the job, and describes it.
pub(super) async fn check(host: HostCheck<'_>) -> Result<String, VerbFailure> {
    let registry = host.registry;
    let (environment, now) = (&host.typed.environment, host.typed.clock.now());
    match IdTokens::find(registry).map_err(|error| failure(&error))? {
        IdTokens::Github(job) => {
            let jwt = job
                .fetch(registry.jwt_audience(), environment)
                .await
                .map_err(|error| failure(&error))?;
            Ok(format!("`{}` gives one for each exchange; {}", job.host(), claims(&jwt)))
        }
        IdTokens::Fixed(tokens) => {
            let count = tokens.len();
            let first = tokens.first().cloned();
            let limit = std::time::Duration::from_secs(1);
            let fixed = FixedIdTokens::locked(&registry.host, tokens, environment, now, limit);
            let unused = fixed.unused();
            let Some(token) = unused.first().cloned().or(first) else {
                return Err(failure(&fixed.all_used()));
            };
            let left = unused.len();
            Ok(format!("{}, {left} of {count} unused; {}", token.place, claims(&token.jwt)))
        }
    }
}

/// Adds the step of AWS's own JWT, if the registry gets one. It returns whether that succeeded.
pub(super) fn report_web_identity(host: HostCheck<'_>, report: &mut DoctorReport) -> bool {
    let registry = host.registry;
    if registry.proof != Proof::WebIdentity {
        return true;
    }
    let environment = &host.typed.environment;
    let asked = block_on(async {
        let found = credentials::load(registry, environment, host.typed.clock.now()).await;
        let loaded = found.map_err(|error| VerbFailure::new(chain(&error)).hint(error.hint()))?;
        let profile = registry.profile.as_deref();
        let audience = registry.jwt_audience();
        let jwt = id_token::web_identity(audience, &loaded, profile, environment).await;
        Ok(claims(&jwt.map_err(|error| failure(&error))?))
    });
    report.step("JWT of AWS", asked)
}

fn failure(error: &IdTokenError) -> VerbFailure {
    VerbFailure::new(chain(error)).hint(error.hint())
}

/// Shows who signed a JWT, for whom, and about whom. Nothing here verifies it.
fn claims(jwt: &SecretString) -> String {
    let Some(claims) = id_token::unverified_claims(jwt) else {
        return "its payload is not readable".to_owned();
    };
    let shown = |name: &str| {
        let text = match claims.get(name)? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let text: String = one_line(&text).chars().take(MAX_CLAIM).collect();
        Some(format!("`{name}` is `{text}`"))
    };
    let lines: Vec<String> = SHOWN_CLAIMS.into_iter().filter_map(shown).collect();
    lines.join(", ")
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    #[test]
    fn only_the_claims_that_a_trust_needs_are_shown() {
        let jwt = |payload: &str| format!("e30.{}.sekret", URL_SAFE_NO_PAD.encode(payload)).into();
        for (payload, expected) in [
            ("", "its payload is not readable"),
            ("[]", "its payload is not readable"),
            ("{}", ""),
            (
                r#"{"iss":"https://a.example","aud":["b"],"sub":"x\u001b[2J","jti":"secret"}"#,
                "`iss` is `https://a.example`, `aud` is `[\"b\"]`, `sub` is `x [2J`",
            ),
            (
                r#"{"repository":"acme/vpc","repository_id":"74128573","repository_owner_id":"9919",
                "ref":"refs/heads/main","ref_type":"branch","environment":"production","actor":"jane",
                "job_workflow_ref":"acme/vpc/.github/workflows/plan.yml@refs/heads/main"}"#,
                "`repository_id` is `74128573`, `repository_owner_id` is `9919`, `ref` is `refs/heads/main`, \
                 `environment` is `production`, `job_workflow_ref` is \
                 `acme/vpc/.github/workflows/plan.yml@refs/heads/main`, `ref_type` is `branch`",
            ),
            (
                r#"{"project_id":"7","ref":"main","ref_type":"branch","ref_protected":"true","user_email":"a@b.example"}"#,
                "`ref` is `main`, `project_id` is `7`, `ref_type` is `branch`, `ref_protected` is `true`",
            ),
            (
                r#"{"terraform_workspace_id":"ws-1","terraform_full_workspace":"organization:acme"}"#,
                "`terraform_workspace_id` is `ws-1`",
            ),
        ] {
            assert_eq!(claims(&jwt(payload)), expected, "{payload}");
        }
    }
}
