//! A program with another library than the broker's, which makes keys and signs JWTs.
//!
//! It runs for a whole test, and answers one JSON object a line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::process::Process;
use crate::process::{node, venv};

/// The folder of the programs.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/support/jwt");

/// The library that signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// `PyJWT`, from PyPI.
    PyJwt,
    /// `jose`, from npm.
    Jose,
}

impl Library {
    /// The tool that a machine lacks on which the library cannot be installed.
    pub fn tool(self) -> &'static str {
        match self {
            Self::PyJwt => "python3",
            Self::Jose => "npm",
        }
    }

    /// Installs the library once. Returns the command that runs its program.
    fn program(self) -> Option<(PathBuf, PathBuf)> {
        match self {
            Self::PyJwt => {
                let python = venv::python("jwt", "jwt/requirements.txt")?;
                Some((python, Path::new(PROGRAMS).join("sign.py")))
            }
            Self::Jose => {
                let (node, folder) = node::jose()?;
                // Node looks for packages next to the script, and not in the current folder.
                let script = folder.join("sign.mjs");
                let text = std::fs::read(Path::new(PROGRAMS).join("sign.mjs")).unwrap();
                if std::fs::read(&script).ok().as_ref() != Some(&text) {
                    let partial = folder.join(format!("sign-{}.mjs", std::process::id()));
                    std::fs::write(&partial, text).unwrap();
                    std::fs::rename(partial, &script).unwrap();
                }
                Some((node, script))
            }
        }
    }
}

/// The public parts of a key.
#[derive(Debug, Clone)]
pub struct PublicKey {
    /// The JWK, with `kid`, `alg` and `use`.
    pub jwk: Value,
    /// The PEM of its SPKI. Empty with [`Library::Jose`].
    pub pem: String,
    /// The DER of its SPKI. Empty with [`Library::Jose`].
    pub der: Vec<u8>,
}

/// A running program. It stops when dropped.
pub struct Signer {
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _process: Process,
}

impl Signer {
    /// Starts the program of that library. Returns `None` if the machine lacks its tool.
    pub fn start(library: Library) -> Option<Self> {
        let (program, script) = library.program()?;
        let mut command = Command::new(program);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let child = process.child();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Some(Self { pipes: Mutex::new((input, BufReader::new(output))), _process: process })
    }

    /// Makes a key for an algorithm, with that name. The JWK names it as its `kid`.
    pub fn key(&self, name: &str, alg: &str) -> PublicKey {
        let made = self.ask(&json!({ "key": name, "alg": alg }));
        let mut jwk = made["jwk"].clone();
        let fields = jwk.as_object_mut().unwrap();
        fields.remove("key_ops");
        fields.extend(
            [("kid", name), ("alg", alg), ("use", "sig")]
                .map(|(field, value)| (field.to_owned(), Value::from(value))),
        );
        PublicKey {
            jwk,
            pem: made["pem"].as_str().unwrap_or_default().to_owned(),
            der: URL_SAFE_NO_PAD.decode(made["der"].as_str().unwrap_or_default()).unwrap(),
        }
    }

    /// Signs claims with the key of that name.
    pub fn sign(&self, key: &str, alg: &str, header: &Value, claims: &Value) -> String {
        let asked = json!({ "sign": key, "alg": alg, "header": header, "claims": claims });
        self.ask(&asked)["jwt"].as_str().unwrap().to_owned()
    }

    /// Signs any bytes with the key of that name. Only [`Library::PyJwt`] does.
    pub fn sign_bytes(&self, key: &str, alg: &str, message: &[u8]) -> Vec<u8> {
        let message = URL_SAFE_NO_PAD.encode(message);
        let signed = self.ask(&json!({ "bytes": key, "alg": alg, "message": message }));
        URL_SAFE_NO_PAD.decode(signed["signature"].as_str().unwrap()).unwrap()
    }

    /// Encrypts claims for the key of that name: a JWE. Only [`Library::Jose`] does.
    pub fn encrypt(&self, key: &str, alg: &str, claims: &Value) -> String {
        let asked = json!({ "encrypt": key, "alg": alg, "claims": claims });
        self.ask(&asked)["jwt"].as_str().unwrap().to_owned()
    }

    fn ask(&self, asked: &Value) -> Value {
        let mut pipes = self.pipes.lock().unwrap();
        let (input, output) = &mut *pipes;
        writeln!(input, "{asked}").unwrap();
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the signer ended: {asked}"))
    }
}

/// Returns a JWK set of these keys.
pub fn key_set<'a>(keys: impl IntoIterator<Item = &'a PublicKey>) -> Value {
    json!({ "keys": keys.into_iter().map(|key| key.jwk.clone()).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::skipped;

    #[test]
    fn both_libraries_sign_what_they_are_given() {
        for library in [Library::PyJwt, Library::Jose] {
            let Some(signer) = Signer::start(library) else {
                skipped(library.tool(), "a JWT of another library has three parts");
                continue;
            };
            for alg in ["RS256", "ES256", "ES384", "EdDSA"] {
                let key = signer.key(alg, alg);
                assert_eq!((&key.jwk["kid"], &key.jwk["alg"]), (&json!(alg), &json!(alg)));
                assert!(key.jwk["d"].is_null(), "the private part stays in the program");
                let jwt =
                    signer.sign(alg, alg, &json!({ "kid": alg }), &json!({ "iss": "https://x" }));
                let parts: Vec<&str> = jwt.split('.').collect();
                let [header, claims, _] = parts[..] else { panic!("{jwt}") };
                let read = |part: &str| -> Value {
                    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
                };
                assert_eq!(read(header)["alg"], alg);
                assert_eq!(read(claims)["iss"], "https://x");
            }
        }
    }
}
