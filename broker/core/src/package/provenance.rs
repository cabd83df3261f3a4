//! Where a version comes from, as its publisher's environment claims it. Nobody verified a claim.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use stile_protocol::audience::Audience;
use stile_protocol::strict_json::{FieldError, StrictObject};

use super::life::is_link;

/// The most characters of one claim.
const MAX_CLAIM: usize = 512;

/// The most characters of the header with all claims.
const MAX_HEADER: usize = 4096;

/// The name of the claims: a field of an announcement, and the rest of the header's name.
pub const CLAIMED: &str = "claimed";

/// The name of the claim about a promotion.
const PROMOTED_FROM: &str = "promoted_from";

/// What the publisher's environment says about a version, for people who look for its source.
///
/// A publisher can claim anything. So nothing decides by it, and the details of a version name it as
/// claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// The kind of environment, such as `github-actions`.
    pub environment: String,
    /// The repository, as a URL or a path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The run or the job, as a number or a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The registry that the version was promoted from. The other claims are then as that registry
    /// recorded them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_from: Option<Box<PromotedFrom>>,
}

/// What the promoter of a version says about the registry that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotedFrom {
    /// The host of the registry.
    pub registry: String,
    /// Who published the version there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<String>,
    /// When, as that registry says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
}

impl PromotedFrom {
    /// Creates the claim. It leaves out a text that cannot be a claim.
    pub fn new(
        registry: &Audience,
        published_by: Option<&str>,
        published_at: Option<&str>,
    ) -> Self {
        let claim = |text: Option<&str>| text.filter(|text| is_claim(text)).map(str::to_owned);
        Self {
            registry: registry.as_str().to_owned(),
            published_by: claim(published_by),
            published_at: claim(published_at),
        }
    }

    /// Parses the object. It ignores the fields that a newer client sends.
    fn parse(value: &Value) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(value.to_string().as_bytes())
            .map_err(|_| FieldError::new(PROMOTED_FROM, "a JSON object"))?;
        let registry = Audience::parse(&object.string("registry")?)
            .map_err(|_| FieldError::new("registry", "the host of a registry"))?;
        let registry = registry.as_str().to_owned();
        let published_by = optional_claim(&mut object, "published_by")?;
        let published_at = optional_claim(&mut object, "published_at")?;
        Ok(Self { registry, published_by, published_at })
    }
}

impl Claimed {
    /// Parses the value of the header `Stile-Claimed`: unpadded base64url of a JSON object.
    ///
    /// # Errors
    ///
    /// [`FieldError`], if the value is malformed.
    pub fn parse_header(value: &str) -> Result<Self, FieldError> {
        let decoded = (value.len() <= MAX_HEADER).then(|| URL_SAFE_NO_PAD.decode(value).ok());
        let decoded = decoded.flatten().ok_or_else(|| {
            FieldError::new(CLAIMED, "unpadded base64url of a JSON object, of at most 4096 bytes")
        })?;
        Self::parse_object(&decoded)
    }

    /// Parses the value of the field [`CLAIMED`].
    ///
    /// # Errors
    ///
    /// [`FieldError`], if the value is malformed.
    pub fn parse(value: &Value) -> Result<Self, FieldError> {
        Self::parse_object(value.to_string().as_bytes())
    }

    /// Parses the object. It ignores the claims that a newer client sends.
    fn parse_object(bytes: &[u8]) -> Result<Self, FieldError> {
        let mut object = StrictObject::parse(bytes)
            .map_err(|_| FieldError::new(CLAIMED, "one JSON object with each field once"))?;
        let environment = object.string("environment")?;
        let is_name = (1..=32).contains(&environment.len())
            && environment
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !is_name {
            return Err(FieldError::new("environment", "a name such as `github-actions`"));
        }
        let repository = optional_claim(&mut object, "repository")?;
        let commit = optional_claim(&mut object, "commit")?;
        let run = optional_claim(&mut object, "run")?;
        let promoted_from = object.take_optional(PROMOTED_FROM);
        let promoted_from =
            promoted_from.as_ref().map(PromotedFrom::parse).transpose()?.map(Box::new);
        Ok(Self { environment, repository, commit, run, promoted_from })
    }

    /// Returns the repository, if it is an `https` URL without a user, a password, a query and a
    /// fragment, each of which can be a secret. The shape of the public registry has it as `source`.
    pub fn repository_url(&self) -> Option<&str> {
        let url = self.repository.as_deref()?;
        let is_plain = is_claim(url) && is_link(url) && !url.contains(['?', '#']);
        is_plain.then_some(url)
    }

    /// Returns the text for the store.
    pub fn to_text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// Reads the text from the store. `None` if it is malformed.
    pub fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// Takes a claim of an object, if it has it.
fn optional_claim(object: &mut StrictObject, name: &str) -> Result<Option<String>, FieldError> {
    match object.optional_string(name)? {
        Some(text) if !is_claim(&text) => Err(FieldError::new(
            name,
            format!("1 to {MAX_CLAIM} printable ASCII characters, without a user in a URL"),
        )),
        claim => Ok(claim),
    }
}

/// Returns whether a text may be stored and printed. A URL with a user can contain a password.
fn is_claim(text: &str) -> bool {
    let has_user = || {
        text.split_once("://").is_some_and(|(_, rest)| {
            rest.split(['/', '?', '#']).next().is_some_and(|host| host.contains('@'))
        })
    };
    (1..=MAX_CLAIM).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && !has_user()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_error_for_a_malformed_claim_names_the_field_and_not_its_value() {
        let with = |field: &str, value: Value| {
            let mut claims = json!({"environment": "github-actions"});
            claims[field] = value;
            claims
        };
        for (value, field) in [
            (json!("x"), CLAIMED),
            (json!({}), "environment"),
            (with("environment", json!("GitHub Actions")), "environment"),
            (with("environment", json!("")), "environment"),
            (with("repository", json!("https://user:secret@example.com/acme/vpc")), "repository"),
            (with("repository", json!("")), "repository"),
            (with("commit", json!("a\nb")), "commit"),
            (with("commit", json!("é")), "commit"),
            (with("run", json!(7)), "run"),
            (with("run", json!("x".repeat(513))), "run"),
            (with("promoted_from", json!("staging.example.com")), "promoted_from"),
            (with("promoted_from", json!({})), "registry"),
            (with("promoted_from", json!({ "registry": "https://secret@x" })), "registry"),
            (
                with(
                    "promoted_from",
                    json!({ "registry": "staging.example.com", "published_by": "a\nb" }),
                ),
                "published_by",
            ),
        ] {
            let error = Claimed::parse(&value).unwrap_err();
            assert_eq!(error.field, field, "{value}");
            assert!(!error.problem.contains("secret"), "{error}");
            let header = URL_SAFE_NO_PAD.encode(value.to_string());
            assert_eq!(Claimed::parse_header(&header).unwrap_err().field, field);
        }
        for header in ["", "e30=", "%%%", &"A".repeat(4097)] {
            Claimed::parse_header(header).unwrap_err();
        }
    }

    #[test]
    fn a_repository_is_a_url_for_programs_only_without_anything_that_can_be_a_secret() {
        let long = format!("https://example.com/{}", "x".repeat(MAX_CLAIM));
        for repository in [
            "",
            "acme/vpc",
            "github.com/acme/vpc",
            "http://github.com/acme/vpc",
            "ssh://git@github.com/acme/vpc",
            "git@github.com:acme/vpc.git",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "HTTPS://github.com/acme/vpc",
            "https://",
            "https:///acme/vpc",
            "https://secret@github.com/acme/vpc",
            "https://user:secret@github.com/acme/vpc",
            "https://github.com\\@evil.example/acme/vpc",
            "https://github.com/acme/vpc?token=secret",
            "https://github.com/acme/vpc#secret",
            "https://github.com/acme/v pc",
            "https://github.com/acme/\u{e9}",
            "https://github.com/acme/\u{1b}[2J",
            &long,
        ] {
            // As a damaged row could have it.
            let claims = json!({"environment": "github-actions", "repository": repository});
            let claimed = Claimed::read(&claims.to_string()).unwrap();
            assert_eq!(claimed.repository_url(), None, "{repository}");
        }
        for repository in ["https://github.com/acme/vpc", "https://git.example.com:8443/a/b.git"] {
            let claims = json!({"environment": "github-actions", "repository": repository});
            assert_eq!(Claimed::parse(&claims).unwrap().repository_url(), Some(repository));
        }
        let without = Claimed::parse(&json!({"environment": "github-actions"})).unwrap();
        assert_eq!(without.repository_url(), None);
    }

    #[test]
    fn a_claim_about_a_promotion_is_read_as_it_was_written_without_what_a_newer_client_adds() {
        let from = json!({
            "registry": "staging.example.com", "published_by": "aws:111122223333:role/deploy",
            "published_at": "2026-11-20T10:11:12Z",
        });
        let mut sent = json!({ "environment": "promotion", "promoted_from": from });
        sent["promoted_from"]["more"] = json!([1]);
        let claimed = Claimed::parse(&sent).unwrap();
        let header = URL_SAFE_NO_PAD.encode(sent.to_string());
        assert_eq!(Claimed::parse_header(&header), Ok(claimed.clone()));
        assert_eq!(json!(claimed.promoted_from), from);
        assert_eq!(Claimed::read(&claimed.to_text().unwrap()), Some(claimed));

        let registry = Audience::parse("staging.example.com").unwrap();
        let least = PromotedFrom::new(&registry, Some("a\nb"), Some(""));
        assert_eq!(json!(least), json!({ "registry": "staging.example.com" }));
    }

    #[test]
    fn the_longest_claims_fit_into_the_header() {
        let long = Some("x".repeat(MAX_CLAIM));
        let registry = format!("{}.example.com", "a".repeat(63));
        let registry = Audience::parse(&registry).unwrap();
        let claimed = Claimed {
            environment: "x".repeat(32),
            repository: long.clone(),
            commit: long.clone(),
            run: long.clone(),
            promoted_from: Some(Box::new(PromotedFrom::new(
                &registry,
                long.as_deref(),
                long.as_deref(),
            ))),
        };
        let header = URL_SAFE_NO_PAD.encode(claimed.to_text().unwrap());
        assert_eq!(Claimed::parse_header(&header), Ok(claimed));
    }

    #[test]
    fn claims_are_read_as_they_were_written_without_those_of_a_newer_client() {
        let sent = json!({
            "environment": "github-actions", "repository": "https://github.com/acme/vpc",
            "commit": "0123abc", "run": "42", "actor": "alice",
        });
        let claimed = Claimed::parse(&sent).unwrap();
        let header = URL_SAFE_NO_PAD.encode(sent.to_string());
        assert_eq!(Claimed::parse_header(&header), Ok(claimed.clone()));
        let text = claimed.to_text().unwrap();
        assert!(!text.contains("alice"));
        assert_eq!(Claimed::read(&text), Some(claimed));
        let least = Claimed::read(r#"{"environment":"jenkins","more":1}"#).unwrap();
        assert_eq!(least.repository, None);
        assert_eq!(Claimed::read("{}"), None);
    }
}
