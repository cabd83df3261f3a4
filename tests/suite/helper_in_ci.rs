//! The real helper in the jobs of CI systems: JWTs for each call, and JWTs that are good once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::{Next, from_fn};
use serde_json::{Value, json};
use stile_core::trust::TrustTerms;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::issuers::terms;
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{deploy, module_zip, role};
use stile_tests::github_actions::GithubActions;
use stile_tests::issuer::jwt::Jwt;
use stile_tests::issuer::signing_key::SigningKey;
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, HELPER, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const GITLAB: &str = "https://gitlab.example.com";

/// A registry that counts the exchanges of JWTs, and believes one issuer.
struct Registry {
    served: Served,
    exchanges: Arc<AtomicUsize>,
}

impl Registry {
    /// Starts a registry with a module and a trust that may read and publish in `acme`.
    ///
    /// The trust has the keys of the issuer, so the registry asks the issuer for nothing.
    async fn start(issuer: &str, key: &SigningKey, conditions: &[&str]) -> Option<Self> {
        let exchanges = Arc::<AtomicUsize>::default();
        let counter = Arc::clone(&exchanges);
        let count = move |request: Request, next: Next| {
            let is_form = request.headers().get("content-type").is_some_and(|value| {
                value.as_bytes().starts_with(b"application/x-www-form-urlencoded")
            });
            if request.method() == Method::POST && is_form {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            next.run(request)
        };
        let layer = |router: axum::Router| router.layer(from_fn(count));
        let served = Served::start_on(super::BACKEND, layer).await?;
        let keys = json!({ "keys": [key.jwk()] }).to_string();
        let terms = TrustTerms { keys: Some(keys), ..terms(issuer, conditions) };
        served.test.trust_with("ci", terms).await;
        for who in ["oidc:ci", &role("deploy")] {
            served.test.grant(who, "acme", &[Download, Upload]).await;
        }
        let publisher = served.test.token(&deploy(), &[Upload]).await;
        let published =
            served.test.publish("acme/vpc/aws", "1.0.0", module_zip("one"), &publisher).await;
        assert_eq!(published.status, 201);
        Some(Self { served, exchanges })
    }

    /// Returns a home without AWS credentials, whose table has these lines.
    fn home(&self, lines: &str) -> Home {
        let mut home = Home::temporary();
        home.trust(&self.served.files.ca);
        home.configure_helper(&format!(
            "[registry.\"{}\"]\nproof = \"oidc\"\n{lines}",
            self.served.host()
        ));
        home
    }

    fn exchanges(&self) -> usize {
        self.exchanges.load(Ordering::Relaxed)
    }

    async fn get_token(&self, home: &Home, flags: &[&str]) -> CommandOutput {
        let always = ["get-token", "token", "--registry-host", self.served.host()];
        home.run(&program(HELPER), &[&always[..], flags].concat()).await
    }

    /// Returns what the registry says about the token that a command printed.
    async fn whoami(&self, printed: &CommandOutput) -> Value {
        assert_eq!(printed.code, Some(0), "{printed:?}");
        let reply = self.served.test.get("/v1/whoami", printed.stdout.trim()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }
}

/// Returns a JWT of a GitLab job for this registry.
fn gitlab_jwt(registry: &Registry, key: &SigningKey, project: &str) -> String {
    let claims = json!({
        "project_id": project, "ref": "main", "ref_type": "branch", "ref_protected": "true",
        "sub": "project_path:acme/app:ref_type:branch:ref:main",
    });
    Jwt::new(GITLAB, registry.served.host(), system_time(), claims).signed(key)
}

#[tokio::test]
async fn a_job_of_github_gets_a_jwt_for_each_exchange_and_no_job_of_another_repository_does() {
    let key = || SigningKey::new("k1", "RS256");
    let (own, stranger) = (key(), key());
    let conditions = ["repository_id=74128573", "ref=refs/heads/main"];
    let Some(registry) = Registry::start(GITHUB, &own, &conditions).await else { return };
    let claims = |id: &str| json!({ "repository_id": id, "ref": "refs/heads/main" });
    let now = system_time();

    let job = GithubActions::start(GITHUB, stranger, now, claims("74128573")).await;
    let mut home = registry.home("");
    job.prepare(&mut home);
    let refused = registry.get_token(&home, &[]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "another key: {refused:?}");

    let job = GithubActions::start(GITHUB, own, now, claims("74128573")).await;
    job.prepare(&mut home);
    for (flags, permissions) in [
        (&["--permission", "download"][..], json!(["download"])),
        (&["--permission", "upload", "--namespace", "acme"], json!(["upload"])),
    ] {
        let known = registry.whoami(&registry.get_token(&home, flags).await).await;
        assert_eq!((&known["principal"], &known["permissions"]), (&json!("oidc:ci"), &permissions));
    }
    let get = home.run(&program(HELPER), &["get", registry.served.host()]).await;
    assert_eq!(get.code, Some(0), "{get:?}");
    let again = home.run(&program(HELPER), &["get", registry.served.host()]).await;
    assert_eq!(again.stdout, get.stdout, "the cached token");
    assert_eq!(job.audiences(), [registry.served.host(); 3]);
}

#[tokio::test]
async fn a_github_job_of_another_repository_gets_no_token() {
    let key = SigningKey::new("k1", "RS256");
    let Some(registry) = Registry::start(GITHUB, &key, &["repository_id=74128573"]).await else {
        return;
    };
    let claims = json!({ "repository_id": "741285730", "repository": "acme/vpc" });
    let job = GithubActions::start(GITHUB, key, system_time(), claims).await;
    let mut home = registry.home("");
    job.prepare(&mut home);
    let refused = registry.get_token(&home, &[]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("no token for"), "{refused:?}");
    assert!(!refused.stderr.contains("eyJ"), "{refused:?}");
}

#[tokio::test]
async fn two_scopes_an_init_and_a_publish_of_one_gitlab_job_share_the_token_of_one_jwt() {
    let shows = "`terraform init` in a job with one fixed JWT";
    let Some(terraform) = tool("terraform") else { return skipped("terraform", shows) };
    let key = SigningKey::new("k1", "RS256");
    let conditions = ["project_id=7", "ref=main", "ref_type=branch", "ref_protected=true"];
    let Some(registry) = Registry::start(GITLAB, &key, &conditions).await else { return };
    let host = registry.served.host().to_owned();
    let mut home = registry.home("permissions = [\"download\", \"upload\"]\n");
    home.variable("STILE_ID_TOKEN", gitlab_jwt(&registry, &key, "7"));

    let first = registry.get_token(&home, &["--permission", "download"]).await;
    let second = registry.get_token(&home, &["--permission", "upload"]).await;
    assert_eq!(first.stdout, second.stdout, "{second:?}");
    assert!(second.stderr.contains("the token has the permissions `download,upload`"));
    let known = registry.whoami(&first).await;
    assert_eq!(known["permissions"], json!(["download", "upload"]));

    let terraform = Terraform::new(&terraform, home);
    terraform.install_helper(&program(HELPER));
    terraform.write_module_call("vpc", &registry.served.source("acme/vpc/aws"), "1.0.0");
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(terraform.installed("vpc").join("main.tf").exists());

    let module = terraform.home.path().join("module");
    std::fs::create_dir(&module).unwrap();
    std::fs::write(module.join("main.tf"), "output \"a\" {\n  value = 1\n}\n").unwrap();
    let path = module.to_str().unwrap();
    let publish = ["module", "publish", "acme/dns/aws", "2.0.0", path, "--registry-host", &host];
    let published = terraform.home.run(&program(ADMIN), &publish).await;
    assert_eq!(published.code, Some(0), "{published:?}");
    assert_eq!(registry.exchanges(), 1);
}

#[tokio::test]
async fn a_gitlab_job_uses_its_next_unused_jwt_and_the_refusal_says_when_there_is_none() {
    let key = SigningKey::new("k1", "RS256");
    let Some(registry) = Registry::start(GITLAB, &key, &["project_id=7"]).await else { return };
    let mut home = registry.home("id_token_env = [\"FIRST\", \"SECOND\"]\n");
    home.variable("FIRST", gitlab_jwt(&registry, &key, "7"));
    home.variable("SECOND", gitlab_jwt(&registry, &key, "7"));
    let narrow = ["--namespace", "acme"];
    for count in 1..=2 {
        let known = registry.whoami(&registry.get_token(&home, &narrow).await).await;
        assert_eq!(known["namespaces"], json!(["acme"]));
        assert_eq!(registry.exchanges(), count);
    }
    let refused = registry.get_token(&home, &narrow).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert!(refused.stderr.contains("the JWTs in `FIRST` and `SECOND` are used"), "{refused:?}");
    assert_eq!(registry.exchanges(), 2);

    // The next job runs on another computer. The registry knows which JWTs were used.
    let mut other = registry.home("id_token_env = [\"FIRST\", \"THIRD\"]\n");
    other.variable("FIRST", home.value("FIRST").unwrap());
    other.variable("THIRD", gitlab_jwt(&registry, &key, "7"));
    let known = registry.whoami(&registry.get_token(&other, &narrow).await).await;
    assert_eq!(known["principal"], "oidc:ci");
    assert_eq!(registry.exchanges(), 4);
}

#[tokio::test]
async fn a_promotion_shows_each_registry_only_the_jwt_that_is_for_it() {
    let key = SigningKey::new("k1", "RS256");
    let start = || Registry::start(GITLAB, &key, &["project_id=7"]);
    let (Some(staging), Some(production)) = (start().await, start().await) else { return };
    let test = &staging.served.test;
    let publisher = test.token(&deploy(), &[Upload]).await;
    let published = test.publish("acme/dns/aws", "1.0.0", module_zip("two"), &publisher).await;
    assert_eq!(published.status, 201);

    let mut home = Home::temporary();
    let both = [&staging, &production];
    let authorities = both.map(|registry| std::fs::read_to_string(&registry.served.files.ca));
    let path = home.path().join("authorities.pem");
    std::fs::write(&path, authorities.map(Result::unwrap).concat()).unwrap();
    home.trust(&path);
    let hosts = both.map(|registry| registry.served.host());
    let settings = "proof = \"oidc\"\npermissions = [\"download\", \"upload\"]\n";
    let tables = hosts.map(|host| format!("[registry.\"{host}\"]\n{settings}"));
    home.configure_helper(&tables.concat());
    // Nothing but the audience says that the first JWT is not for the registry that is asked first.
    home.variable("STILE_ID_TOKEN", gitlab_jwt(&production, &key, "7"));
    home.variable("STILE_ID_TOKEN_2", gitlab_jwt(&staging, &key, "7"));
    let promote = ["promote", "--from", hosts[0], "--to", hosts[1], "acme/dns/aws", "1.0.0"];
    let promoted = home.run(&program(ADMIN), &promote).await;
    assert_eq!(promoted.code, Some(0), "{promoted:?}");
    assert_eq!(both.map(Registry::exchanges), [1, 1], "a wrong JWT would be one more exchange");
}
