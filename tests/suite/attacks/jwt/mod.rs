//! Runs every bad and edge JWT of its own corpus on a store.
//!
//! The corpus is in `tests/fixtures/attacks/jwt/`. PyJWT signs each JWT, for issuers that the test
//! serves. Every reply and every log line is searched for the JWT, and every call is counted, also
//! those to the issuers.

mod file;
mod forge;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use axum::body::Body;
use axum::http::Request;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::{Backend, HOST, Place, Reply};
use stile_tests::jwt::issuer::Issuers;
use stile_tests::jwt::signer::{Library, Signer};
use stile_tests::skipped::skipped;
use url::form_urlencoded;

use super::ground::{Ground, Outcome};
use super::input::encoded;
use super::text::{Values, expand};
use super::{on_a_thread, words};
use file::{Case, Input, Must};
use forge::Forge;

/// The host names of the issuers. All of them publish the same keys, as the tenants of one product
/// may.
const ISSUERS: [&str; 4] =
    ["actions.example", "gitlab.example", "gitlab.example.evil.org", "twin.example"];

/// The numbers of the cases.
const LINES: std::ops::RangeInclusive<u16> = 301..=392;

/// A broker that believes the trusts of the corpus, with full caches.
struct JwtGround {
    ground: Ground,
    issuers: Issuers,
    forge: Forge,
}

/// Runs the whole corpus on that store, and prints how much it ran.
pub(crate) async fn run(backend: Backend) {
    let what = "bad and edge JWTs that PyJWT signs are answered as they must be";
    let Some(signer) = Signer::start(Library::PyJwt) else {
        return skipped(Library::PyJwt.tool(), what);
    };
    if Place::new(backend).await.is_none() {
        return;
    }
    let sections = file::read();
    let written: usize = sections.iter().flat_map(|(_, cases)| cases).map(|c| c.inputs.len()).sum();
    // A journal records one thread.
    let running = on_a_thread(move || async move {
        let mut ground = JwtGround::start(backend, signer).await;
        let (mut problems, mut ran) = (Vec::new(), 0);
        for (name, cases) in sections {
            for case in &cases {
                ran += case.inputs.len();
                let found = ground.send_all(case).await;
                let said = |problem| format!("{name} {} ({}): {problem}", case.line, case.what);
                problems.extend(found.into_iter().map(said));
            }
        }
        (problems, ran)
    });
    let (problems, ran) = match running.join() {
        Ok(done) => done,
        Err(panic) => (vec![words(panic.as_ref())], 0),
    };
    let _ = writeln!(
        std::io::stderr(),
        "JWT attack cases on the {backend:?} store: {ran} of {written} inputs"
    );
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert_eq!(ran, written, "the suite ran every case of the corpus");
}

impl JwtGround {
    async fn start(backend: Backend, signer: Signer) -> Self {
        let issuers = Issuers::start(&ISSUERS);
        let ground = Ground::believing(backend, &issuers).await;
        let forge = Forge::new(signer, &issuers, &ISSUERS);
        for trust in file::trusts() {
            let terms = trust.terms(&issuers.url(&trust.issuer));
            ground.test.believe(&trust.name, terms).await;
            if let Some(namespace) = &trust.grant {
                ground.test.grant(&format!("oidc:{}", trust.name), namespace, &[Download]).await;
            }
        }
        let mut all = Self { ground, issuers, forge };
        // The list of trusts is at most this old.
        all.ground.test.advance(11);
        all.ground.refresh().await;
        all.fill().await;
        all
    }

    /// Fills the caches: the trusts, and the keys of the issuers, and the one request a minute for an
    /// unknown key id.
    async fn fill(&mut self) {
        for issuer in ISSUERS {
            for header in [None, Some("made-up")] {
                let mut input = Input { issuer: Some(issuer.to_owned()), ..Input::default() };
                input.header.extend(header.map(|kid| ("kid".to_owned(), kid.into())));
                self.send(&input, file::Job::Github).await;
                self.send(&input, file::Job::Gitlab).await;
            }
        }
        self.issuers.take();
    }

    async fn send_all(&mut self, case: &Case) -> Vec<String> {
        let mut problems = Vec::new();
        for (at, input) in case.inputs.iter().enumerate() {
            let must = input.must.or(&case.must);
            self.ground.test.advance(input.later);
            let (outcome, fetches) = self.send(input, input.job.unwrap_or(case.job)).await;
            let found = self.differs(&outcome, fetches, &must);
            problems.extend(found.into_iter().map(|problem| format!("input {at}: {problem}")));
        }
        problems
    }

    /// Sends an input. Returns the outcome, and the number of requests to issuers.
    async fn send(&mut self, input: &Input, job: file::Job) -> (Outcome, usize) {
        let now = self.ground.test.time();
        let mut values =
            Values::from([("token", self.ground.token.clone()), ("host", HOST.to_owned())]);
        let jwt = self.forge.jwt(&self.issuers, input, job, now, &mut values);
        let secrets: Vec<String> =
            [&jwt, &values["payload"], &values["signature"]].map(Clone::clone).into();
        let request = request(input, &mut values);
        let outcome = self.ground.watch(request, &secrets).await;
        (outcome, self.issuers.take().len())
    }

    fn differs(&self, outcome: &Outcome, fetches: usize, must: &Must) -> Vec<String> {
        let mut problems = outcome.problems.clone();
        let (reply, log) = (&outcome.reply, &outcome.logged.human.text);
        let text = reply.text();
        let mut wrong = |problem: String| problems.push(problem);
        if must.answer.as_deref() != Some(&answer(reply)) {
            wrong(format!("{} instead of {:?}: {text:.300}", answer(reply), must.answer));
        }
        for (name, value) in &must.header {
            if reply.header(name) != value {
                wrong(format!("header {name} is `{}`", reply.header(name)));
            }
        }
        for part in must.says.iter().filter(|part| !text.contains(*part)) {
            wrong(format!("it does not say `{part}`: {text:.300}"));
        }
        for part in must.hides.iter().filter(|part| text.contains(*part) || log.contains(*part)) {
            wrong(format!("it reveals `{part}`: {text:.300}"));
        }
        for part in must.logs.iter().filter(|part| !log.contains(*part)) {
            wrong(format!("the log has no `{part}`: {log}"));
        }
        if let Some(cost) = self.ground.cost(outcome, must.calls.unwrap_or_default()) {
            wrong(cost);
        }
        let allowed = must.fetches.unwrap_or_default();
        if fetches != allowed {
            wrong(format!("the broker sent {fetches} requests to issuers instead of {allowed}"));
        }
        if !must.answer.as_deref().unwrap_or_default().starts_with("200")
            && !reply.json()["access_token"].is_null()
        {
            wrong("it gives a token".to_owned());
        }
        problems
    }
}

/// Builds the request of an input.
fn request(input: &Input, values: &mut Values) -> Request<Body> {
    let mut form: BTreeMap<&str, String> = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", "«jwt»"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    form.extend(input.form.iter().map(|(name, value)| (name.as_str(), value.clone())));
    for name in &input.form_drop {
        form.remove(name.as_str());
    }
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for (name, value) in &form {
        pairs.append_pair(name, &expand(value, values));
    }
    values.insert("form", pairs.finish());
    let method = input.method.as_deref().unwrap_or("POST");
    let path = expand(input.path.as_deref().unwrap_or("/v1/token"), values);
    let mut request = Request::builder().method(method).uri(path);
    let content_type = input.content_type.as_deref().unwrap_or("application/x-www-form-urlencoded");
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    for [name, value] in &input.headers {
        request = request.header(name, expand(value, values));
    }
    let body = expand(input.body.as_deref().unwrap_or("«form»"), values);
    request.body(Body::from(encoded(&body, input.body_encoding))).unwrap()
}

/// Returns status, error of OAuth and code: `401 invalid_request jwt_expired`.
fn answer(reply: &Reply) -> String {
    let json = reply.json();
    let field = |name: &str| json[name].as_str().unwrap_or("-").to_owned();
    format!("{} {} {}", reply.status.as_u16(), field("error"), field("code"))
}

#[test]
fn every_number_has_a_case_and_every_case_a_number() {
    let cases: Vec<Case> = file::read().into_iter().flat_map(|(_, cases)| cases).collect();
    let written: BTreeSet<u16> = cases.iter().map(|case| case.line).collect();
    assert_eq!(written.len(), cases.len(), "no number is there twice");
    assert_eq!(written, LINES.collect());
    for case in &cases {
        assert!(!case.inputs.is_empty(), "line {} does nothing", case.line);
        let has_answer = |input: &Input| input.must.or(&case.must).answer.is_some();
        assert!(case.inputs.iter().all(has_answer), "line {} expects nothing", case.line);
    }
}
