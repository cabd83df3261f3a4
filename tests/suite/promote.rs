//! Promotion: `stile-admin promote` between two registries, with the same bytes on both sides.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{deploy, module_zip, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::provider::dist::{PLATFORMS, ProviderDist, SignedDist};
use stile_tests::provider::publisher::{ProviderPublisher, Wire};
use stile_tests::provider::{TestSigner, add_key};
use stile_tests::sts::identity::Identity;

const DNS: &str = "/v1/providers/acme/dns/1.2.0";
const VPC: &str = "/v1/modules/acme/vpc/aws/1.2.0";

/// A layer around a registry: it records tokens, and can be down or send other archives.
#[derive(Clone, Default)]
struct OnTheWay(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    tokens: Vec<String>,
    is_down: bool,
    /// The registry is down for paths with this text only.
    stops_at: Option<&'static str>,
    /// The bytes that clients get in place of each archive.
    other: Option<Vec<u8>>,
}

impl OnTheWay {
    fn around(&self, router: Router) -> Router {
        let layer = self.clone();
        router.layer(from_fn(move |request, next| {
            let layer = layer.clone();
            async move { layer.through(request, next).await }
        }))
    }

    async fn through(&self, request: Request, next: Next) -> Response {
        let path = request.uri().path().to_owned();
        let (is_down, other) = {
            let mut state = self.0.lock().unwrap();
            let token = request.headers().get("authorization");
            state.tokens.extend(token.map(|token| token.to_str().unwrap().to_owned()));
            let stops = state.stops_at.is_some_and(|part| path.contains(part));
            (state.is_down || stops, state.other.clone())
        };
        if is_down {
            return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response();
        }
        let Some(other) = other else { return next.run(request).await };
        if path == "/other" {
            return other.into_response();
        }
        let mut answer = next.run(request).await;
        if answer.headers().contains_key("x-terraform-get") {
            let place = HeaderValue::from_static("/other?archive=zip&secret=1");
            answer.headers_mut().insert("x-terraform-get", place);
            return answer;
        }
        if !path.contains("/download/") || answer.status() != StatusCode::OK {
            return answer;
        }
        let (mut head, body) = answer.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let mut document: Value = serde_json::from_slice(&body).unwrap();
        document["download_url"] = "/other?secret=1".into();
        head.headers.remove("content-length");
        Response::from_parts(head, Body::from(document.to_string()))
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap());
    }

    fn take_tokens(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().tokens)
    }
}

/// Two registries, and a job that may promote from the first to the second.
struct Stage {
    from: Served,
    to: Served,
    at_from: OnTheWay,
    at_to: OnTheWay,
    identity: Identity,
    signer: TestSigner,
    job: Home,
}

impl Stage {
    async fn start() -> Option<Self> {
        let (at_from, at_to) = (OnTheWay::default(), OnTheWay::default());
        let from = Served::start_on(super::BACKEND, |router| at_from.around(router)).await?;
        let to = Served::start_on(super::BACKEND, |router| at_to.around(router)).await?;
        let (identity, rights) = (deploy(), [CreateGrant, Download, Upload]);
        for served in [&from, &to] {
            served.test.grant(&role("deploy"), "acme", &rights).await;
        }
        let signer = TestSigner::new("acme", system_time() - 24 * 3600);
        let job = home(&from, &to, &identity);
        let stage = Self { from, to, at_from, at_to, identity, signer, job };
        stage.register(&stage.from).await;
        Some(stage)
    }

    /// Registers the key of the publisher.
    async fn register(&self, at: &Served) {
        let token = at.test.token(&self.identity, &[CreateGrant]).await;
        assert_eq!(add_key(&at.test, "acme", &self.signer, &token).await.status, 201);
    }

    /// Reports at the second registry that the key of the publisher was stolen.
    async fn report_stolen(&self) {
        let token = self.to.test.token(&self.identity, &[CreateGrant]).await;
        let publisher = ProviderPublisher::new(Wire::InMemory(&self.to.test), &token);
        let retired = publisher.retire_key("acme", &self.signer.key_id(), true).await;
        assert_eq!(retired.status, 200, "{retired:?}");
    }

    fn release(&self, platforms: &[&str]) -> SignedDist {
        let dist = ProviderDist::new("dns", "1.2.0", platforms);
        let sums = dist.sums();
        let signature = STANDARD.decode(self.signer.sign(&sums, system_time())).unwrap();
        SignedDist { dist, sums, signature }
    }

    async fn provider(&self, at: &Served, release: &SignedDist) {
        let token = at.test.token(&self.identity, &[Download, Upload]).await;
        let publisher = ProviderPublisher::new(Wire::InMemory(&at.test), &token);
        publisher.publish("acme", release).await;
    }

    async fn module(&self, at: &Served, says: &str) {
        let token = at.test.token(&self.identity, &[Upload]).await;
        let reply = at.test.publish("acme/vpc/aws", "1.2.0", module_zip(says), &token).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    /// Reads the details of a version.
    async fn details(&self, at: &Served, path: &str) -> Option<Value> {
        let token = at.test.token(&self.identity, &[Download]).await;
        let reply = at.test.get(path, &token).await;
        (reply.status == 200).then(|| reply.json())
    }

    async fn promote_as(&self, job: &Home, words: &[&str]) -> CommandOutput {
        let hosts = ["promote", "--from", self.from.host(), "--to", self.to.host()];
        let ran = job.run(&program(ADMIN), &[&hosts[..], words].concat()).await;
        assert!(!ran.stderr.contains("secret="), "{ran:?}");
        ran
    }

    /// Promotes, and returns the JSON that it printed.
    async fn promote(&self, address: &str) -> Value {
        let ran = self.promote_as(&self.job, &[address, "1.2.0", "--output", "json"]).await;
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    }

    /// Checks that a promotion ends with this code and this sentence.
    async fn fails(&self, address: &str, code: i32, sentence: &str) {
        let ran = self.promote_as(&self.job, &[address, "1.2.0"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{sentence}: {ran:?}");
        assert!(ran.stderr.contains(sentence), "{sentence}: {ran:?}");
    }

    /// Checks that the second registry lists nothing.
    async fn nothing_is_promoted(&self) {
        for path in [DNS, VPC] {
            assert_eq!(self.details(&self.to, path).await, None, "{path}");
        }
        assert_eq!(self.to.test.archives().await, 0);
    }
}

/// Creates a home that is configured for both registries and trusts both.
fn home(from: &Served, to: &Served, identity: &Identity) -> Home {
    let mut home = from.home(identity);
    to.test.sts.add_identity(identity.clone());
    let authorities = [from, to].map(|served| std::fs::read_to_string(&served.files.ca).unwrap());
    let both = home.path().join("authorities.pem");
    std::fs::write(&both, authorities.concat()).unwrap();
    home.trust(&both);
    let hosts = [from.host(), to.host()].map(|host| format!("[registry.\"{host}\"]\n"));
    home.configure_helper(&hosts.concat());
    home
}

#[tokio::test]
async fn a_byte_that_changed_on_the_way_is_refused_and_nothing_is_listed() {
    let Some(stage) = Stage::start().await else { return };
    let release = stage.release(&["linux_amd64"]);
    stage.provider(&stage.from, &release).await;
    stage.module(&stage.from, "promoted").await;
    stage.register(&stage.to).await;
    for (address, bytes) in [
        ("acme/dns", release.dist.zips["linux_amd64"].clone()),
        ("acme/vpc/aws", module_zip("promoted")),
    ] {
        let mut flipped = bytes;
        *flipped.last_mut().unwrap() ^= 1;
        stage.at_from.set(|state| state.other = Some(flipped));
        let sentence = format!("`{address}` 1.2.0 was not promoted: `");
        stage.fails(address, 1, &sentence).await;
        stage.fails(address, 1, "has the SHA-256 ").await;
        stage.nothing_is_promoted().await;
    }
    // The next run promotes the right bytes.
    stage.at_from.set(|state| state.other = None);
    assert_eq!(stage.promote("acme/dns").await["status"], "promoted");
    assert_eq!(stage.promote("acme/vpc/aws").await["status"], "promoted");
}

#[tokio::test]
async fn who_lacks_a_grant_at_one_registry_promotes_nothing() {
    let Some(stage) = Stage::start().await else { return };
    stage.provider(&stage.from, &stage.release(&["linux_amd64"])).await;
    stage.module(&stage.from, "promoted").await;
    stage.register(&stage.to).await;
    stage.from.test.grant(&role("only-from"), "acme", &[Download, Upload]).await;
    stage.to.test.grant(&role("only-from"), "acme", &[Download]).await;
    stage.to.test.grant(&role("only-to"), "acme", &[Download, Upload]).await;
    for name in ["only-from", "only-to"] {
        let job = home(&stage.from, &stage.to, &Identity::role("111122223333", name, "i-0abc"));
        let denied = if name == "only-to" { stage.from.host() } else { stage.to.host() };
        for address in ["acme/dns", "acme/vpc/aws"] {
            let ran = stage.promote_as(&job, &[address, "1.2.0"]).await;
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{name}: {ran:?}");
            assert!(ran.stderr.contains(&format!("no token for `{denied}`")), "{name}: {ran:?}");
        }
    }
    stage.nothing_is_promoted().await;
}

#[tokio::test]
async fn a_registry_that_is_down_is_not_one_that_says_no() {
    let Some(stage) = Stage::start().await else { return };
    stage.provider(&stage.from, &stage.release(&["linux_amd64"])).await;
    stage.module(&stage.from, "promoted").await;
    stage.register(&stage.to).await;
    for (layer, served) in [(&stage.at_from, &stage.from), (&stage.at_to, &stage.to)] {
        layer.set(|state| state.is_down = true);
        for address in ["acme/dns", "acme/vpc/aws"] {
            stage.fails(address, 2, &format!("`{}`", served.host())).await;
        }
        layer.set(|state| state.is_down = false);
    }
    stage.fails("acme/mail", 1, "there is no such version").await;
    stage.nothing_is_promoted().await;
}

#[tokio::test]
async fn a_promotion_that_stops_half_way_lists_nothing_and_the_next_one_completes_it() {
    let Some(stage) = Stage::start().await else { return };
    stage.provider(&stage.from, &stage.release(&PLATFORMS)).await;
    stage.register(&stage.to).await;
    stage.at_to.set(|state| state.stops_at = Some("/files/terraform-provider-dns_1.2.0_windows"));
    stage.fails("acme/dns", 2, "`acme/dns` 1.2.0 was not promoted: ").await;
    assert_eq!(stage.details(&stage.to, DNS).await, None);
    stage.at_to.set(|state| state.stops_at = None);
    assert_eq!(stage.promote("acme/dns").await["status"], "promoted");
}

#[tokio::test]
async fn a_provider_needs_its_key_at_the_second_registry() {
    let Some(stage) = Stage::start().await else { return };
    stage.provider(&stage.from, &stage.release(&["linux_amd64"])).await;
    let sentence = format!("has not registered key {}", stage.signer.key_id());
    stage.fails("acme/dns", 1, &sentence).await;
    stage
        .fails("acme/dns", 1, "hint: register an active key there: `stile-admin provider keys add")
        .await;
    stage.nothing_is_promoted().await;
    stage.register(&stage.to).await;
    assert_eq!(stage.promote("acme/dns").await["status"], "promoted");
}

#[tokio::test]
async fn the_signature_of_a_stolen_key_is_replaced_by_a_new_one_of_the_first_registry() {
    let Some(mut stage) = Stage::start().await else { return };
    stage.provider(&stage.from, &stage.release(&["linux_amd64"])).await;
    stage.register(&stage.to).await;
    assert_eq!(stage.promote("acme/dns").await["status"], "promoted");
    stage.report_stolen().await;
    let sentence = format!("accepts no new signature of key {}", stage.signer.key_id());
    stage.fails("acme/dns", 1, &sentence).await;

    stage.signer = TestSigner::new("next", system_time() - 24 * 3600);
    stage.register(&stage.from).await;
    stage.register(&stage.to).await;
    stage.provider(&stage.from, &stage.release(&["linux_amd64"])).await;
    assert_eq!(stage.promote("acme/dns").await["status"], "changed");
    let at_from = stage.details(&stage.from, DNS).await.unwrap();
    let at_to = stage.details(&stage.to, DNS).await.unwrap();
    assert_eq!(
        (&at_to["signature"], &at_to["compromised_key"]),
        (&at_from["signature"], &Value::Null)
    );
    assert_eq!(stage.promote("acme/dns").await["status"], "unchanged");
}

#[tokio::test]
async fn other_bytes_at_the_second_registry_stay_and_both_digests_are_named() {
    let Some(stage) = Stage::start().await else { return };
    stage.register(&stage.to).await;
    let release = stage.release(&["linux_amd64"]);
    let mut other = release.clone();
    let bytes = ProviderDist::new("dns", "1.2.0", &["linux_arm64"]).zips["linux_arm64"].clone();
    other.dist.zips.insert("linux_amd64".to_owned(), bytes);
    other.sums = other.dist.sums();
    other.signature = STANDARD.decode(stage.signer.sign(&other.sums, system_time())).unwrap();
    stage.provider(&stage.from, &release).await;
    stage.provider(&stage.to, &other).await;
    stage.module(&stage.from, "promoted").await;
    stage.module(&stage.to, "other").await;
    for (address, path) in [("acme/dns", DNS), ("acme/vpc/aws", VPC)] {
        let before = stage.details(&stage.to, path).await;
        let digest = |details: &Option<Value>| {
            let details = details.as_ref().unwrap();
            let sha256 = match address {
                "acme/dns" => &details["platforms"][0]["sha256"],
                _ => &details["provenance"]["sha256"],
            };
            sha256.as_str().unwrap().to_owned()
        };
        let (own, theirs) = (digest(&stage.details(&stage.from, path).await), digest(&before));
        let (from, to) = (stage.from.host(), stage.to.host());
        let sentence = format!("has the SHA-256 {own} at `{from}`, and {theirs} at `{to}`");
        stage.fails(address, 1, &sentence).await;
        assert_eq!(stage.details(&stage.to, path).await, before);
    }
}

#[tokio::test]
async fn a_provider_has_the_same_files_and_signature_at_both_registries() {
    let Some(stage) = Stage::start().await else { return };
    stage.register(&stage.to).await;
    stage.provider(&stage.from, &stage.release(&PLATFORMS[..2])).await;
    let dry = stage.promote_as(&stage.job, &["acme/dns", "1.2.0", "--dry-run"]).await;
    assert!(
        dry.code == Some(0) && dry.stdout.starts_with("would promote acme/dns 1.2.0"),
        "{dry:?}"
    );
    stage.nothing_is_promoted().await;

    stage.at_from.take_tokens();
    stage.at_to.take_tokens();
    assert_eq!(stage.promote("acme/dns").await["status"], "promoted");
    let (sent, received) = (stage.at_from.take_tokens(), stage.at_to.take_tokens());
    assert!(!sent.is_empty() && !received.is_empty());
    assert!(!sent.iter().any(|token| received.contains(token)), "each gets only its own token");
    assert_eq!(stage.promote("acme/dns").await["status"], "unchanged");

    // A platform that came later makes a new list, and the old files stay.
    for expected in ["promoted", "changed"] {
        let (from, to) = (
            stage.details(&stage.from, DNS).await.unwrap(),
            stage.details(&stage.to, DNS).await.unwrap(),
        );
        let same = ["sha256sums", "signature", "key_id", "manifest", "protocols", "platforms"];
        for field in same {
            assert!(from[field] == to[field] && from[field] != Value::Null, "{expected} {field}");
        }
        let claimed = json!({
            "environment": "promotion",
            "promoted_from": {
                "registry": stage.from.host(),
                "published_by": from["published_by"], "published_at": from["published_at"],
            },
        });
        assert_eq!(to["claimed"], claimed, "{expected}");
        if expected == "promoted" {
            stage.provider(&stage.from, &stage.release(&PLATFORMS)).await;
            assert_eq!(stage.promote("acme/dns").await["status"], "changed");
        }
    }
    let show = ["provider", "show", "acme/dns", "1.2.0", "--registry-host", stage.to.host()];
    let shown = stage.job.run(&program(ADMIN), &show).await.stdout;
    let line = format!("promotion (claimed)   promoted from {}\n", stage.from.host());
    assert!(shown.contains(&line), "{shown}");
}

#[tokio::test]
async fn a_module_has_the_same_archive_and_the_claims_of_its_first_publisher() {
    let Some(mut stage) = Stage::start().await else { return };
    let folder = stage.job.path().join("vpc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("main.tf"), "output \"a\" {\n  value = 1\n}\n").unwrap();
    let job = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://github.com"),
        ("GITHUB_REPOSITORY", "acme/vpc"),
        ("GITHUB_SHA", "c0ffee"),
    ];
    for (name, value) in job {
        stage.job.variable(name, value);
    }
    let host = stage.from.host().to_owned();
    let publish = ["module", "publish", "acme/vpc/aws", "1.2.0", "vpc", "--registry-host", &host];
    let ran = stage.job.run(&program(ADMIN), &publish).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // The job that promotes is another one, and its variables are no claims about the version.
    stage.job.variable("GITHUB_SHA", "decaf");
    let done = stage.promote("acme/vpc/aws").await;
    assert_eq!(done["status"], "promoted", "{done}");
    assert_eq!(stage.promote("acme/vpc/aws").await["status"], "unchanged");
    let (from, to) = (
        stage.details(&stage.from, VPC).await.unwrap(),
        stage.details(&stage.to, VPC).await.unwrap(),
    );
    for field in ["sha256", "bytes", "format"] {
        assert_eq!(from["provenance"][field], to["provenance"][field], "{field}");
    }
    assert_eq!(done["sha256"], to["provenance"]["sha256"]);
    assert_eq!((&to["root"], &to["source"]), (&from["root"], &from["source"]));
    let mut claimed = from["provenance"]["claimed"].clone();
    claimed["promoted_from"] = json!({
        "registry": host,
        "published_by": from["provenance"]["published_by"],
        "published_at": from["provenance"]["published_at"],
    });
    assert_eq!((&to["provenance"]["claimed"], &claimed["commit"]), (&claimed, &json!("c0ffee")));
    let show = ["module", "show", "acme/vpc/aws", "1.2.0", "--registry-host", stage.to.host()];
    let shown = stage.job.run(&program(ADMIN), &show).await.stdout;
    let line = format!("promotion (claimed)   promoted from {host}\n");
    assert!(shown.contains(&line) && shown.contains("commit (claimed)      c0ffee\n"), "{shown}");
}
