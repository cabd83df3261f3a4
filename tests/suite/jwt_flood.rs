//! Strangers flood the token exchange with garbage JWTs: no call for each, and no memory.
//!
//! The memory of a process tells nothing while other tests run in it. So the flood is a test that
//! another test starts in a process of its own.

use std::process::Stdio;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use stile_broker::authn::jwt::{Expected, JwtError, UnverifiedJwt, find_trust};
use stile_broker::http::router;
use stile_core::trust::Trust;
use stile_tests::broker::signed_jwts::jwt_request;
use stile_tests::broker::{Backend, HOST};
use stile_tests::jwt::stage::{GITLAB, JwtStage};
use tower::ServiceExt as _;

/// The garbage JWTs.
const GARBAGE: u32 = 1_000_000;

/// The JWTs that the broker gets in one second of its clock.
const PER_SECOND: u32 = 2_000;

/// Of this many JWTs, eight come over HTTP, one of each kind.
const OVER_HTTP: u32 = 160;

/// The JWTs after which the process has all the memory that it needs.
const WARM: u32 = GARBAGE / 5;

/// The most memory that the rest of the flood may take, in KiB. It is noise of the allocator: a
/// hundred bytes for each JWT would be 80,000 KiB.
const GROWTH: u64 = 16 * 1024;

#[tokio::test]
async fn a_million_garbage_jwts_cost_one_look_a_minute_at_the_issuer_and_no_memory() {
    let program = std::env::current_exe().unwrap();
    let mut command = tokio::process::Command::new(program);
    command.args(["--ignored", "--exact", "jwt_flood::in_a_process_of_its_own", "--nocapture"]);
    let ran = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let said =
        String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "`a_million_garbage_jwts_cost_one_look_a_minute_at_the_issuer_and_no_memory` runs it"]
async fn in_a_process_of_its_own() {
    let shows = "a million garbage JWTs cost nothing";
    let Some(stage) = JwtStage::start(Backend::Embedded, shows).await else { return };
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -");
    stage.issuers.take();
    let began = stage.test.time();
    let routes = router(std::sync::Arc::clone(&stage.test.broker));
    let trusts = stage.test.store().trusts().await.unwrap();
    let mut garbage = Garbage::new(&stage);
    let mut warm = 0;
    for n in 0..GARBAGE {
        if n % PER_SECOND == 0 {
            stage.test.advance(1);
            garbage.refresh(&stage);
        }
        if n == WARM {
            warm = memory();
        }
        let (jwt, expected) = garbage.next(n);
        // HTTP takes most of the time, and a part of the flood shows it.
        let got = if n % OVER_HTTP < 8 {
            routes.clone().oneshot(jwt_request(&jwt, &[])).await.unwrap().status().as_u16()
        } else {
            verified(&stage, &trusts, &jwt).await
        };
        assert_eq!(got, expected, "{n}: {jwt}");
    }
    let grown = memory().saturating_sub(warm);
    assert!(grown < GROWTH, "the process grew by {grown} KiB, from {warm} KiB");
    let minutes = usize::try_from((stage.test.time() - began) / 60).unwrap() + 1;
    let fetches = stage.issuers.take();
    assert!(fetches.len() <= 2 * minutes, "{} requests in {minutes} minutes", fetches.len());
    assert_eq!(stage.exchange(&stage.jwt()).await, "200 -", "a good one is as welcome as before");
}

/// Verifies a JWT as the exchange does, without HTTP. Returns the status that a client would get.
async fn verified(stage: &JwtStage, trusts: &[Trust], jwt: &str) -> u16 {
    let Ok(jwt) = UnverifiedJwt::parse(jwt) else { return 400 };
    let (broker, now) = (&stage.test.broker, stage.test.time());
    let expected = Expected { host: &broker.audience, chosen: None, issued_from: None, now };
    let Ok(trust) = find_trust(trusts, &jwt, expected) else { return 401 };
    match broker.jwts.verify(&jwt, trust, now).await {
        Err(JwtError::Refused(_)) => 401,
        other => panic!("{other:?}"),
    }
}

/// Makes garbage: JWTs that get one step further than the one before.
struct Garbage {
    issuer: String,
    now: i64,
    /// The signed text of a good one.
    good: String,
    random: u64,
}

impl Garbage {
    fn new(stage: &JwtStage) -> Self {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).unwrap();
        let random = u64::from_le_bytes(seed) | 1;
        let issuer = stage.issuers.url(GITLAB);
        let mut new = Self { issuer, now: 0, good: String::new(), random };
        new.refresh(stage);
        new
    }

    /// Takes the time of the broker.
    fn refresh(&mut self, stage: &JwtStage) {
        self.now = stage.test.time();
        let (header, claims) = (header("one"), self.claims(&self.issuer, HOST, "3022"));
        self.good = format!("{header}.{claims}");
    }

    /// Returns the next one, and the status that it must get.
    fn next(&mut self, n: u32) -> (String, u16) {
        let random = self.random();
        let signature = "c2lnbmF0dXJl";
        let of = |kid: &str, issuer: &str, audience: &str, project: &str| {
            format!("{}.{}.{signature}", header(kid), self.claims(issuer, audience, project))
        };
        match n % 8 {
            0 => (random, 400),
            1 => (format!("{random}.{random}.{random}"), 400),
            2 => (format!("{}.{random}.{signature}", header("one")), 400),
            3 => (of("one", &format!("https://{random}.example"), HOST, "3022"), 401),
            4 => (of("one", &self.issuer, &random, "3022"), 401),
            5 => (of("one", &self.issuer, HOST, &random), 401),
            6 => (of(&random, &self.issuer, HOST, "3022"), 401),
            // A good text without its signature.
            _ => (format!("{}.{random}AAAA", self.good), 401),
        }
    }

    /// Returns the few claims that the trust needs, in base64url.
    fn claims(&self, issuer: &str, audience: &str, project: &str) -> String {
        let (iat, exp) = (self.now, self.now + 600);
        let claims = format!(
            r#"{{"iss":"{issuer}","aud":"{audience}","sub":"x","iat":{iat},"exp":{exp},"project_id":"{project}","ref_protected":"true"}}"#
        );
        URL_SAFE_NO_PAD.encode(claims)
    }

    /// Returns 16 characters that no other call returns (xorshift64).
    fn random(&mut self) -> String {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        format!("{:016x}", self.random)
    }
}

fn header(kid: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#))
}

/// Returns the resident memory of this process, in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
