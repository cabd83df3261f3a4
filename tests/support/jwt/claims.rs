//! The claims of CI systems, after their documentation.

use serde_json::Value;

/// The folder of the claims, one file for each system.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/jwt");

/// Returns the claims of a job of GitHub Actions: a push to `main` of `example-org/infra`.
pub fn github(issuer: &str, now: i64) -> Value {
    // The documentation gives five minutes, and a token that is valid ten minutes before its issue.
    job("github", issuer, [now - 600, now, now + 300])
}

/// Returns the claims of a job of GitLab: a push to the protected branch `main` of
/// `example-group/infra`, in a job that may take an hour.
pub fn gitlab(issuer: &str, now: i64) -> Value {
    job("gitlab", issuer, [now - 5, now, now + 3600])
}

fn job(name: &str, issuer: &str, [nbf, iat, exp]: [i64; 3]) -> Value {
    let text = std::fs::read_to_string(format!("{FIXTURES}/{name}.json")).unwrap();
    let mut claims: Value = serde_json::from_str(&text).unwrap();
    for (claim, value) in [
        ("iss", issuer.into()),
        ("jti", unique().into()),
        ("nbf", nbf.into()),
        ("iat", iat.into()),
        ("exp", exp.into()),
    ] as [(&str, Value); 5]
    {
        claims[claim] = value;
    }
    claims
}

/// Returns a text that no other call returns.
pub fn unique() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).unwrap();
    hex::encode(random)
}
