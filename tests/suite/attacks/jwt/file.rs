//! Reads the corpus of JWTs: what each case sends, and the expected outcome. An unknown word in a
//! file is an error.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use stile_core::trust::{Condition, DEFAULT_MAX_AGE, TrustTerms};

use crate::attacks::file::{Calls, Encoding};

/// One file of the corpus: the cases of one section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One entry of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The number of the entry.
    pub(super) line: u16,
    /// A description of the input.
    pub(super) what: String,
    /// The claims with which every input begins.
    #[serde(default)]
    pub(super) job: Job,
    /// The expected outcome of every input.
    #[serde(default)]
    pub(super) must: Must,
    /// The inputs, which the test sends one after another.
    pub(super) inputs: Vec<Input>,
}

/// The CI system whose claims a JWT has.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Job {
    #[default]
    Github,
    Gitlab,
}

/// The expected outcome of an input. A field that an input leaves out comes from its case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Must {
    /// Status, error of OAuth and code, for example `401 invalid_request jwt_expired`.
    pub(super) answer: Option<String>,
    /// The number of calls, as `STS/KMS/reads/writes`. The default is none.
    pub(super) calls: Option<Calls>,
    /// The number of requests to issuers. The default is none.
    pub(super) fetches: Option<usize>,
    /// Headers of the reply.
    pub(super) header: BTreeMap<String, String>,
    /// Texts that the reply contains.
    pub(super) says: Vec<String>,
    /// Texts that neither the reply nor the log contains.
    pub(super) hides: Vec<String>,
    /// Texts that the log contains.
    pub(super) logs: Vec<String>,
}

impl Must {
    pub(super) fn or(&self, case: &Self) -> Self {
        let list = |mine: &Vec<String>, theirs: &Vec<String>| {
            if mine.is_empty() { theirs.clone() } else { mine.clone() }
        };
        Self {
            answer: self.answer.clone().or_else(|| case.answer.clone()),
            calls: self.calls.or(case.calls),
            fetches: self.fetches.or(case.fetches),
            header: if self.header.is_empty() { case.header.clone() } else { self.header.clone() },
            says: list(&self.says, &case.says),
            hides: list(&self.hides, &case.hides),
            logs: list(&self.logs, &case.logs),
        }
    }
}

/// One request.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Input {
    /// The expected outcome of this input, where it differs from the rest of the case.
    pub(super) must: Must,
    /// The time that passes before, in seconds.
    pub(super) later: i64,
    /// The claims with which this input begins, if they are not those of the case.
    pub(super) job: Option<Job>,
    /// The issuer, a host name. The default is that of the job.
    pub(super) issuer: Option<String>,
    /// The name of the key that signs.
    pub(super) key: Option<String>,
    /// Claims that replace others, or that the test adds.
    pub(super) claims: BTreeMap<String, Value>,
    /// Claims that are times, in seconds from now.
    pub(super) at: BTreeMap<String, i64>,
    /// Claims that the test removes.
    pub(super) drop: Vec<String>,
    /// The text of the claims.
    pub(super) raw_claims: Option<String>,
    /// How the test encodes the text of the claims.
    pub(super) encoding: Encoding,
    /// Parameters of the header that replace others, or that the test adds.
    pub(super) header: BTreeMap<String, Value>,
    /// Parameters of the header that the test removes.
    pub(super) header_drop: Vec<String>,
    /// The text of the header.
    pub(super) raw_header: Option<String>,
    /// The signature.
    pub(super) sign: Sign,
    /// Whether header, claims and signature are those of the input before.
    pub(super) again: bool,
    /// The JWT, from `«header»`, `«payload»` and `«signature»`.
    pub(super) jwt: Option<String>,
    /// Parameters of the form that replace others, or that the test adds.
    pub(super) form: BTreeMap<String, String>,
    /// Parameters of the form that the test removes.
    pub(super) form_drop: Vec<String>,
    /// The body. The default is the form.
    pub(super) body: Option<String>,
    /// How the test encodes the body.
    pub(super) body_encoding: Encoding,
    /// The method. The default is `POST`.
    pub(super) method: Option<String>,
    /// Path and query. The default is `/v1/token`.
    pub(super) path: Option<String>,
    /// Additional headers of the request.
    pub(super) headers: Vec<[String; 2]>,
    /// The content type. An empty text means no such header. The default is that of a form.
    pub(super) content_type: Option<String>,
}

/// How the test makes the signature.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Sign {
    /// With the key.
    #[default]
    Key,
    /// It is empty.
    None,
    /// HMAC, and the secret is the PEM of the public key.
    PublicPem,
    /// HMAC, and the secret is the DER of the public key.
    PublicDer,
    /// HMAC, and the secret is the JWK of the public key.
    PublicJwk,
    /// HMAC, and the secret is empty.
    NoSecret,
    /// The other ECDSA signature of the same key and text: `(r, n − s)`.
    OtherS,
    /// All bytes are zero (CVE-2022-21449).
    Zeros,
    /// The first bit is another one.
    Flipped,
    /// It has one byte more.
    Longer,
}

/// A trust of the corpus.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trust {
    /// The name.
    pub(super) name: String,
    /// The host name of the issuer.
    pub(super) issuer: String,
    /// The flags of `stile-admin trust create`.
    #[serde(default)]
    pub(super) claim: Vec<String>,
    #[serde(default)]
    pub(super) claim_prefix: Vec<String>,
    #[serde(default)]
    pub(super) claim_contains: Vec<String>,
    #[serde(default)]
    pub(super) audience: Option<String>,
    #[serde(default)]
    pub(super) max_age: Option<i64>,
    /// The namespace on which it has `download`, if any.
    pub(super) grant: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trusts {
    trust: Vec<Trust>,
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/attacks/jwt");

impl Trust {
    /// Returns what an operator chose of it, for the issuer at that URL.
    pub(super) fn terms(&self, issuer: &str) -> TrustTerms {
        let equals = self.claim.iter().map(|text| Condition::equals(text));
        let prefix = self.claim_prefix.iter().map(|text| Condition::prefix(text));
        let contains = self.claim_contains.iter().map(|text| Condition::contains(text));
        TrustTerms {
            issuer: issuer.parse().unwrap(),
            audience: self.audience.clone(),
            conditions: equals.chain(prefix).chain(contains).map(Result::unwrap).collect(),
            max_age: self.max_age.unwrap_or(DEFAULT_MAX_AGE),
            keys: None,
            aws: None,
        }
    }
}

/// Returns the trusts of the corpus.
pub(super) fn trusts() -> Vec<Trust> {
    let text = std::fs::read_to_string(Path::new(FOLDER).join("trusts.toml")).unwrap();
    toml::from_str::<Trusts>(&text).unwrap().trust
}

/// Returns every case, by the name of its section.
pub(super) fn read() -> Vec<(String, Vec<Case>)> {
    let mut files: Vec<_> = std::fs::read_dir(FOLDER)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|name| name != "trusts.toml"))
        .collect();
    files.sort();
    let section = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let cases = |path: &Path| {
        let read = toml::from_str::<File>(&std::fs::read_to_string(path).unwrap());
        read.map_err(|error| format!("{}: {error}", path.display())).unwrap().case
    };
    files.iter().map(|path| (section(path), cases(path))).collect()
}
