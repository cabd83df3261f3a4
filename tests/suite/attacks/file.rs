//! Reads the corpus: what each case sends, and the expected outcome. An unknown word in a file is
//! an error.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One file of the corpus: the cases of one section.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One entry of the corpus, or a part of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    /// The number of the entry in the corpus.
    pub(super) line: u16,
    /// A description of the input.
    pub(super) what: String,
    /// The broker of the case, if it is not the broker of the section.
    #[serde(default)]
    pub(super) world: Option<World>,
    /// Principal, namespace and permissions that the test grants before the first input.
    #[serde(default)]
    pub(super) grants: Vec<[String; 3]>,
    /// The expected outcome of every input.
    #[serde(default)]
    pub(super) must: Must,
    /// The inputs, which the test sends one after another.
    #[serde(default)]
    pub(super) inputs: Vec<Input>,
    /// The function that tests what data cannot express.
    #[serde(default)]
    pub(super) shown_by: Option<String>,
}

/// The configuration of a broker that only one case uses.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct World {
    /// The enabled regions. If the list is empty, every region is enabled.
    pub(super) regions: Vec<String>,
    /// The time of the broker's clock, in RFC 3339.
    pub(super) now: Option<String>,
}

/// The expected outcome of an input. A field that an input leaves out comes from its case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Must {
    /// Status and error code, for example `401 proof_expired`. For a program, `exit 1`.
    pub(super) answer: Option<String>,
    /// The number of calls, as `STS/KMS/reads/writes`.
    pub(super) calls: Option<Calls>,
    /// Headers of the reply.
    pub(super) header: BTreeMap<String, String>,
    /// Texts that the reply contains.
    pub(super) says: Vec<String>,
    /// Texts that neither the reply nor the log contains.
    pub(super) hides: Vec<String>,
    /// Texts that the log contains.
    pub(super) logs: Vec<String>,
    /// The host of the STS that the broker called.
    pub(super) host: Option<String>,
    /// The longest allowed line of the log in bytes, if it is shorter than the general limit.
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

/// How often the broker called each service.
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
    /// The expected outcome of this input, where it differs from the rest of the case.
    pub(super) must: Must,
    /// How often the test sends it. The default is once.
    pub(super) times: Option<usize>,
    /// The method. The default is `POST`.
    pub(super) method: Option<String>,
    /// Path and query. The default is `/v1/token`.
    pub(super) path: Option<String>,
    /// Additional headers.
    pub(super) headers: Vec<[String; 2]>,
    /// The content type. An empty text means no such header.
    pub(super) content_type: Option<String>,
    /// The body. The default is the proof.
    pub(super) body: Option<String>,
    /// How the test encodes the body. The default is UTF-8.
    pub(super) encoding: Encoding,
    /// Fields that replace fields of the proof, or that the test adds, after the signature.
    pub(super) set: BTreeMap<String, Value>,
    /// Fields that the test removes from the proof.
    pub(super) drop: Vec<String>,
    /// A request document that the test puts under the signature of another one.
    pub(super) document: Option<String>,
    /// What the test signs.
    pub(super) signed: Signed,
    /// The caller who signs the proof.
    pub(super) caller: Caller,
    /// The answer of STS, if it is not the true one.
    pub(super) sts: Option<Sts>,
    /// A token that the test seals itself. Inputs name it `«forged»`.
    pub(super) forged: Option<Forged>,
    /// The entries of a zip archive that the test publishes, after its `main.tf`.
    pub(super) zip: Vec<Entry>,
    /// The entries of a tar archive that the test publishes, after its `main.tf`.
    pub(super) tar: Vec<Entry>,
    /// The source of a version that the test publishes.
    pub(super) source: Option<String>,
    /// A program of the project with its arguments, instead of a request. It uses the same store.
    pub(super) run: Vec<String>,
}

/// One entry of an archive that the test builds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Entry {
    /// The name. A folder has a `/` at its end.
    pub(super) name: String,
    /// The mode.
    pub(super) mode: Option<u32>,
    /// The form of the header in a tar archive. The default is that of POSIX.
    pub(super) form: Form,
    /// Texts that replace the bytes at a position of the header in a tar archive.
    pub(super) bytes: Vec<(usize, String)>,
    /// The flags in a zip archive, in both headers.
    pub(super) flags: Option<u16>,
    /// The version that a reader of a zip archive needs, in both headers.
    pub(super) needs: Option<u16>,
}

/// The form of a header in a tar archive.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Form {
    #[default]
    Posix,
    Gnu,
    V7,
}

/// How the test encodes a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Encoding {
    #[default]
    Utf8,
    /// Two bytes for each character.
    Utf16le,
    /// One byte for each character. Above 127, this is not valid UTF-8.
    Latin1,
    /// Ten megabytes of zeros, compressed.
    GzipBomb,
}

/// What a proof's signature covers, where an honest helper would sign something else.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Signed {
    /// The time of the signature, in seconds from now.
    pub(super) at: i64,
    pub(super) region: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) headers: Option<String>,
    pub(super) document: Option<String>,
    pub(super) ttl: Option<i64>,
    pub(super) namespaces: Option<Vec<String>>,
    pub(super) permissions: Option<Vec<String>>,
}

/// The signer. The default is the role `deploy`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Caller {
    pub(super) account: Option<String>,
    pub(super) role: Option<String>,
    pub(super) user: Option<String>,
    pub(super) session: Option<String>,
    pub(super) partition: Option<String>,
    /// The ARN that STS returns instead of the right one.
    pub(super) arn: Option<String>,
    pub(super) user_id: Option<String>,
}

/// An answer of STS. Without body and code, it is the caller identity.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sts {
    #[serde(default = "ok")]
    pub(super) status: u16,
    #[serde(default = "xml")]
    pub(super) content_type: String,
    #[serde(default)]
    pub(super) body: Option<String>,
    /// The code and message of an error.
    #[serde(default)]
    pub(super) code: Option<String>,
    #[serde(default)]
    pub(super) message: String,
    /// Texts of the caller identity, each with its replacement.
    #[serde(default)]
    pub(super) replace: Vec<[String; 2]>,
    #[serde(default)]
    pub(super) instead: Option<Instead>,
}

/// What STS sends instead of an answer.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Instead {
    /// An endless body.
    Endless,
    /// A redirect to the same STS.
    Redirect,
}

const fn ok() -> u16 {
    200
}

fn xml() -> String {
    "text/xml".to_owned()
}

/// A token that the test seals under the registry's key, or under another key.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Forged {
    /// Seconds from now.
    pub(super) iat: i64,
    /// Seconds from now.
    pub(super) exp: Option<i64>,
    pub(super) set: BTreeMap<String, Value>,
    pub(super) drop: Vec<String>,
    /// The sealed bytes, instead of claims.
    pub(super) raw: Option<String>,
    pub(super) audience: Option<String>,
    /// Whether the test seals it under a key that is not in the keyring.
    pub(super) unknown_key: bool,
    /// A footer that replaces the right one.
    pub(super) footer: Option<String>,
}

/// Returns every case, by the name of its section.
pub(super) fn read() -> Vec<(String, Vec<Case>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/attacks");
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    // The corpus of JWTs is in a folder of its own.
    files.retain(|path| path.is_file());
    files.sort();
    let section = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let cases = |path: &Path| {
        let read = toml::from_str::<File>(&std::fs::read_to_string(path).unwrap());
        read.map_err(|error| format!("{}: {error}", path.display())).unwrap().case
    };
    files.iter().map(|path| (section(path), cases(path))).collect()
}
