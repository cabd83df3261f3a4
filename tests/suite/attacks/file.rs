//! Reads the corpus: what each case sends, and what must come of it. An unknown word in a file is an error.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One file: the cases of one section of the list of bad and edge inputs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One line of the list, or a part of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// Its number in the list.
    pub(super) line: u16,
    /// What is sent, in words.
    pub(super) what: String,
    /// The broker, where it is not the section's own.
    #[serde(default)]
    pub(super) world: Option<World>,
    /// Principal, namespace and permissions, granted before the first input.
    #[serde(default)]
    pub(super) grants: Vec<[String; 3]>,
    /// What must come of every input.
    #[serde(default)]
    pub(super) must: Must,
    /// What is sent, one after another.
    #[serde(default)]
    pub(super) inputs: Vec<Input>,
    /// The function that shows what cannot be written as data.
    #[serde(default)]
    pub(super) shown_by: Option<String>,
}

/// A broker of a case's own.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct World {
    /// The regions that are enabled; all of them where none is named.
    pub(super) regions: Vec<String>,
    /// Its time, RFC 3339.
    pub(super) now: Option<String>,
}

/// What must come of an input; what an input does not say, its case says.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Must {
    /// Status and code, `401 proof_expired`; a program's is `exit 1`.
    pub(super) answer: Option<String>,
    /// `STS/KMS/reads/writes`.
    pub(super) calls: Option<Calls>,
    /// Headers of the reply.
    pub(super) header: BTreeMap<String, String>,
    /// What the reply has in it.
    pub(super) says: Vec<String>,
    /// What neither the reply nor the log has in it.
    pub(super) hides: Vec<String>,
    /// What the log has in it.
    pub(super) logs: Vec<String>,
    /// The host whose STS was asked.
    pub(super) host: Option<String>,
    /// The longest line of the log, in bytes, where it is shorter than any may be.
    pub(super) line: Option<usize>,
}

impl Must {
    pub(super) fn or(&self, case: &Self) -> Self {
        let list = |mine: &Vec<String>, theirs: &Vec<String>| {
            if mine.is_empty() { theirs.clone() } else { mine.clone() }
        };
        Self {
            answer: self.answer.clone().or_else(|| case.answer.clone()),
            calls: self.calls.or(case.calls),
            header: if self.header.is_empty() { case.header.clone() } else { self.header.clone() },
            says: list(&self.says, &case.says),
            hides: list(&self.hides, &case.hides),
            logs: list(&self.logs, &case.logs),
            host: self.host.clone().or_else(|| case.host.clone()),
            line: self.line.or(case.line),
        }
    }
}

/// How often who was called.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Calls {
    pub(super) sts: usize,
    pub(super) kms: usize,
    pub(super) reads: usize,
    pub(super) writes: usize,
}

impl Calls {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<usize> =
            text.split('/').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        let [sts, kms, reads, writes] = numbers[..] else { return None };
        Some(Self { sts, kms, reads, writes })
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}/{}/{}", self.sts, self.kms, self.reads, self.writes)
    }
}

impl<'de> Deserialize<'de> for Calls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("`{text}` is not `STS/KMS/reads/writes`"))
        })
    }
}

/// One request, or one run of a program.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Input {
    /// What must come of it, where that is not what must come of the others.
    pub(super) must: Must,
    /// How often it is sent, once if it is not said.
    pub(super) times: Option<usize>,
    /// The method, `POST` if it is not said.
    pub(super) method: Option<String>,
    /// Path and query, `/v1/token` if it is not said.
    pub(super) path: Option<String>,
    /// More headers.
    pub(super) headers: Vec<[String; 2]>,
    /// The content type; none if it is empty.
    pub(super) content_type: Option<String>,
    /// The body, the proof if it is not said.
    pub(super) body: Option<String>,
    /// How the body becomes bytes, UTF-8 if it is not said.
    pub(super) encoding: Encoding,
    /// Fields put in place of the proof's, or beside them, after it was signed.
    pub(super) set: BTreeMap<String, Value>,
    /// Fields taken out of the proof.
    pub(super) drop: Vec<String>,
    /// The document under the signature of another.
    pub(super) document: Option<String>,
    /// What is signed.
    pub(super) signed: Signed,
    /// Whose proof it is.
    pub(super) caller: Caller,
    /// What STS answers, where that is not the truth.
    pub(super) sts: Option<Sts>,
    /// A token sealed by hand, `«forged»` in what is sent.
    pub(super) forged: Option<Forged>,
    /// A program of ours with its arguments, in place of a request; it finds the same store.
    pub(super) run: Vec<String>,
}

/// How a text becomes bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Encoding {
    #[default]
    Utf8,
    /// Two bytes a letter.
    Utf16le,
    /// One byte a letter, which above 127 is no UTF-8.
    Latin1,
    /// Ten megabytes of zeros, packed.
    GzipBomb,
}

/// What a proof is signed over, where that is not what an honest helper would sign.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Signed {
    /// Seconds from now.
    pub(super) at: i64,
    pub(super) region: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) document: Option<String>,
    pub(super) ttl: Option<i64>,
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) permissions: Option<Vec<String>>,
}

/// Who signs: the role `deploy` where nothing is said.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Caller {
    pub(super) account: Option<String>,
    pub(super) role: Option<String>,
    pub(super) user: Option<String>,
    pub(super) session: Option<String>,
    pub(super) partition: Option<String>,
    /// Whatever STS is to answer in place of the right ARN.
    pub(super) arn: Option<String>,
    pub(super) user_id: Option<String>,
}

/// An answer of STS; the identity where neither body nor code is given.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sts {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default = "xml")]
    pub(super) content_type: String,
    #[serde(default)]
    pub(super) body: Option<String>,
    /// The code of an error, with its message.
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) message: String,
    /// Texts of the identity and what stands in their place.
    #[serde(default)]
    pub(super) replace: Vec<[String; 2]>,
    #[serde(default)]
    pub(super) instead: Option<Instead>,
}

/// What comes in place of an answer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Instead {
    /// A body without end.
    Endless,
    /// A redirect to STS itself.
    Redirect,
}

const fn ok() -> u16 {
    200
}

fn xml() -> String {
    "text/xml".to_owned()
}

/// A token sealed under the registry's own key, or another.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Forged {
    /// Seconds from now.
    pub(super) iat: i64,
    /// Seconds from now.
    pub(super) exp: Option<i64>,
    pub(super) set: BTreeMap<String, Value>,
    pub(super) drop: Vec<String>,
    /// The sealed bytes, in place of claims.
    pub(super) raw: Option<String>,
    pub(super) audience: Option<String>,
    /// Whether it is sealed under a key that is not in the keyring.
    pub(super) unknown_key: bool,
    /// A footer in place of the right one.
    pub(super) footer: Option<String>,
}

/// Every case, by the name of its section.
pub(super) fn read() -> Vec<(String, Vec<Case>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attacks");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let section = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let cases = |path: &Path| {
        let read = toml::from_str::<File>(&std::fs::read_to_string(path).unwrap());
        read.map_err(|error| format!("{}: {error}", path.display())).unwrap().case
    };
    files.iter().map(|path| (section(path), cases(path))).collect()
}
