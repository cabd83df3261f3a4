//! A stand-in of AWS Sign-In on loopback, and the session files that `aws login` writes.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::support::{ReceivedRequest, Sandbox, StubBroker, http, now, rfc3339};

/// The identity of the sessions. `aws login` writes it into the profile.
pub(crate) const ARN: &str = "arn:aws:sts::111122223333:assumed-role/deploy/first.last";

const CLIENT_ID: &str = "arn:aws:signin:::devtools/same-device";

/// The first bytes of a P-256 key in SEC1 form, without its length.
const SEC1: [u8; 5] = [0x30, 0x6b, 0x02, 0x01, 0x01];

/// Returns the profile of that name, which `aws login` has signed in as [`ARN`].
pub(crate) fn profile(name: &str) -> String {
    format!("[profile {name}]\nlogin_session = {ARN}\n")
}

/// Returns the name of the session's file below a home folder.
pub(crate) fn session_file() -> String {
    format!(".aws/login/cache/{}.json", hex::encode(Sha256::digest(ARN)))
}

/// The key of a session, with which every request to AWS Sign-In is signed.
pub(crate) struct SessionKey(rcgen::KeyPair);

impl SessionKey {
    pub(crate) fn new() -> Self {
        Self(rcgen::KeyPair::generate().unwrap())
    }

    /// Returns the key as `aws login` stores it.
    fn pem(&self) -> String {
        let der = self.0.serialize_der();
        let start = der.windows(SEC1.len()).position(|bytes| bytes == SEC1).unwrap();
        let text = STANDARD.encode(&der[start..]);
        format!(
            "-----BEGIN EC PRIVATE KEY-----\n{}\n{}\n{}\n-----END EC PRIVATE KEY-----\n",
            &text[..64],
            &text[64..128],
            &text[128..]
        )
    }

    /// Returns the coordinates of the public key.
    fn coordinates(&self) -> [String; 2] {
        let point = self.0.public_key_raw();
        [&point[1..33], &point[33..]].map(|half| URL_SAFE_NO_PAD.encode(half))
    }

    /// Returns a session with this access key, which expires after these seconds.
    pub(crate) fn session(&self, access_key_id: &str, seconds: i64) -> Value {
        json!({
            "accessToken": {
                "accessKeyId": access_key_id, "secretAccessKey": "sekret", "sessionToken": "first-sekret",
                "accountId": "111122223333", "expiresAt": rfc3339(now() + TimeDelta::seconds(seconds)),
            },
            "tokenType": "aws_sigv4", "refreshToken": "refresh-sekret", "idToken": "id-sekret",
            "clientId": CLIENT_ID, "dpopKey": self.pem(),
        })
    }

    /// Writes such a session into the home folder.
    pub(crate) fn sign_in(&self, sandbox: &Sandbox, access_key_id: &str, seconds: i64) {
        sandbox.write(&session_file(), &self.session(access_key_id, seconds).to_string());
    }
}

/// AWS Sign-In, which renews a session once: its refresh token is then another one.
pub(crate) struct SignIn {
    endpoint: StubBroker,
}

impl SignIn {
    /// Starts an endpoint that renews the session of this key, and gives it this access key.
    pub(crate) fn renewing(key: &SessionKey, access_key_id: &'static str) -> Self {
        let coordinates = key.coordinates();
        let refresh_token = Arc::new(Mutex::new("refresh-sekret".to_owned()));
        let endpoint = StubBroker::new(move |_, request| {
            let body = request.json();
            check_proof(request, &coordinates);
            let mut refresh_token = refresh_token.lock().unwrap();
            let expected = json!({
                "clientId": CLIENT_ID, "grantType": "refresh_token", "refreshToken": *refresh_token,
            });
            if request.path() != "/v1/token" || body != expected {
                return refused("TOKEN_EXPIRED");
            }
            "next-sekret".clone_into(&mut refresh_token);
            let reply = json!({
                "accessToken": {
                    "accessKeyId": access_key_id, "secretAccessKey": "sekret", "sessionToken": "second-sekret",
                },
                "tokenType": "aws_sigv4", "expiresIn": 900, "refreshToken": *refresh_token,
            });
            http("200 OK", "", &reply.to_string())
        });
        Self { endpoint }
    }

    /// Starts an endpoint that gives every request this response.
    pub(crate) fn answering(response: String) -> Self {
        Self { endpoint: StubBroker::new(move |_, _| response.clone()) }
    }

    /// Points the SDK of a sandbox to this endpoint.
    pub(crate) fn before(&self, sandbox: Sandbox) -> Sandbox {
        sandbox.with("AWS_ENDPOINT_URL_SIGNIN", &self.endpoint.url)
    }

    /// Returns the number of requests.
    pub(crate) fn asked(&self) -> usize {
        self.endpoint.requests().len()
    }
}

/// Returns the response that refuses a session for this reason.
pub(crate) fn refused(reason: &str) -> String {
    let body = json!({ "error": reason, "message": "no" });
    http("400 Bad Request", "x-amzn-errortype: AccessDeniedException\r\n", &body.to_string())
}

/// Checks the proof that the caller has the session's key (RFC 9449), without its signature.
fn check_proof(request: &ReceivedRequest, coordinates: &[String; 2]) {
    let parts: Vec<&str> = request.headers["dpop"].split('.').collect();
    let part = |text: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
    };
    let (head, claims) = (part(parts[0]), part(parts[1]));
    assert_eq!([&head["jwk"]["x"], &head["jwk"]["y"]], [&coordinates[0], &coordinates[1]]);
    assert_eq!(claims["htm"], "POST");
    let target = format!("http://{}{}", request.headers["host"], request.path());
    assert_eq!(claims["htu"], target);
    let made_at: DateTime<Utc> =
        DateTime::from_timestamp(claims["iat"].as_i64().unwrap(), 0).unwrap();
    assert!((now() - made_at).abs() < TimeDelta::minutes(5), "{made_at}");
}
