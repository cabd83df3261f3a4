//! Runs moto, an emulator of AWS in Python.
//!
//! moto verifies signatures with botocore's code, and replaces AWS for the store on AWS.
//!
//! Unlike AWS, moto gives IAM users ids that do not start with `AIDA`, so tests only use its
//! assumed roles.

use std::path::PathBuf;

use crate::aws::python_server::PythonServer;
use crate::process::programs::client;
use crate::process::venv;
use crate::sts::identity::Identity;

/// The script that runs moto.
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/moto_server.py");

/// The account in which moto creates every resource.
pub const ACCOUNT: &str = "123456789012";

/// A running moto. It stops when dropped, and when this process ends.
#[derive(Debug)]
pub struct Moto {
    server: PythonServer,
    client: reqwest::Client,
}

impl Moto {
    /// Returns the Python program of moto's environment, and first creates that environment if
    /// necessary. Returns `None` without `python3`.
    pub fn python() -> Option<PathBuf> {
        venv::python("moto", "moto-requirements.txt")
    }

    /// Starts moto, and first creates its Python environment if necessary. Returns `None` without
    /// `python3`.
    ///
    /// moto does not authenticate callers until [`Self::role_credentials`] returns.
    pub fn start() -> Option<Self> {
        let python = Self::python()?;
        Some(Self { server: PythonServer::start(&python, SERVER, &[]), client: client(None) })
    }

    /// Returns the URL that it listens on: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.server.endpoint()
    }

    /// Creates the role if necessary, assumes it as session `tests`, and turns authentication on.
    ///
    /// Until it returns, authentication is off. Get all roles before you test that moto rejects a
    /// caller.
    pub async fn role_credentials(&self, role: &str) -> Identity {
        self.authentication("inf").await;
        let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}"#;
        let created = self
            .call(
                "iam",
                &[
                    ("Action", "CreateRole"),
                    ("Version", "2010-05-08"),
                    ("RoleName", role),
                    ("AssumeRolePolicyDocument", trust),
                ],
            )
            .await;
        assert!(created.contains("<Arn>") || created.contains("EntityAlreadyExists"), "{created}");
        let arn = format!("arn:aws:iam::{ACCOUNT}:role/{role}");
        let assumed = self
            .call(
                "sts",
                &[
                    ("Action", "AssumeRole"),
                    ("Version", "2011-06-15"),
                    ("RoleArn", &arn),
                    ("RoleSessionName", "tests"),
                ],
            )
            .await;
        self.authentication("0").await;
        let document = roxmltree::Document::parse(&assumed).unwrap();
        let text = |name: &str| match document
            .descendants()
            .find(|node| node.tag_name().name() == name)
            .and_then(|node| node.text())
        {
            Some(text) => text.to_owned(),
            None => panic!("moto did not assume the role `{role}`:\n{assumed}"),
        };
        Identity {
            access_key_id: text("AccessKeyId"),
            secret_access_key: text("SecretAccessKey"),
            session_token: Some(text("SessionToken")),
            account: ACCOUNT.to_owned(),
            arn: text("Arn"),
            user_id: text("AssumedRoleId"),
            expires_at: None,
        }
    }

    /// Makes moto accept that many calls without verifying their signatures. `0` verifies every
    /// call.
    async fn authentication(&self, unchecked_calls: &'static str) {
        let reset = self
            .client
            .post(format!("{}/moto-api/reset-auth", self.endpoint()))
            .body(unchecked_calls)
            .send()
            .await
            .unwrap();
        assert_eq!(reset.status(), 200);
    }

    /// Calls an action without a valid signature: the header only names the service.
    async fn call(&self, service: &str, form: &[(&str, &str)]) -> String {
        let body: Vec<_> =
            form.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        let scope = format!(
            "AWS4-HMAC-SHA256 Credential=none/20200101/us-east-1/{service}/aws4_request, SignedHeaders=host, Signature=00"
        );
        let request = self.client.post(self.endpoint()).header("authorization", scope);
        let request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.join("&"));
        request.send().await.unwrap().text().await.unwrap()
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skipped::skipped;
    use crate::sts::proof::Proof;

    const NOW: i64 = 1_795_169_472;

    async fn send(moto: &Moto, proof: &Proof, audience: Option<&str>) -> (u16, String) {
        let (headers, body) = proof.sts_request();
        let mut request = moto.client.post(moto.endpoint()).body(body);
        for (name, value) in headers {
            let bent = audience.filter(|_| name == "x-stile-audience").map(str::to_owned);
            request = request.header(name, bent.unwrap_or(value));
        }
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    #[tokio::test]
    async fn moto_accepts_a_proof_and_rejects_a_changed_one() {
        let Some(moto) = Moto::start() else {
            return skipped("python3", "moto checks a proof's signature");
        };
        let (first, second) =
            (moto.role_credentials("deploy").await, moto.role_credentials("deploy").await);
        assert_eq!(first.user_id, second.user_id, "moto created the role once");
        let proof = Proof::new(&first).audience("127.0.0.1:8443").now(NOW);
        let (status, body) = send(&moto, &proof, Some("127.0.0.1:8444")).await;
        assert_eq!(status, 403, "{body}");
        assert!(body.contains("SignatureDoesNotMatch"), "{body}");
        let wrong =
            Identity { secret_access_key: second.secret_access_key.clone(), ..first.clone() };
        let (status, body) =
            send(&moto, &Proof::new(&wrong).audience("127.0.0.1:8443").now(NOW), None).await;
        assert!(status == 403 && body.contains("SignatureDoesNotMatch"), "{body}");
        let (status, body) = send(&moto, &proof, None).await;
        assert_eq!(status, 200, "{body}");
        for part in [&first.arn, &first.user_id, &first.account] {
            assert!(body.contains(part.as_str()), "{part}: {body}");
        }
    }
}
