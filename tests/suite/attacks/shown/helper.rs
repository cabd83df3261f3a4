//! The real helper with a broker on each store: where its proofs go, where its credentials come
//! from, and what it caches.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use serde_json::{Value, json};
use stile_protocol::names::Permission::Download;
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{Backend, deploy, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{HELPER, free_port, program};
use stile_tests::sts::identity::Identity;
use tokio::io::AsyncWriteExt as _;

async fn served(backend: Backend) -> Served {
    let served = Served::start_on(backend, |router| router)
        .await
        .expect("the suite checked the tools before");
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    served
}

async fn get(home: &Home, host: &str) -> CommandOutput {
    home.run(&program(HELPER), &["get", host]).await
}

/// Returns the token on standard output. Checks that the helper printed nothing else, and no part
/// of the token as an error.
fn token(ran: &CommandOutput) -> String {
    let printed: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let token = printed["token"].as_str().unwrap_or_default().to_owned();
    assert!(
        ran.code == Some(0)
            && token.starts_with("stile_v4.local.")
            && !ran.stderr.contains("stile_v4"),
        "{:?}: {}",
        ran.code,
        ran.stderr
    );
    token
}

fn fails(ran: &CommandOutput, says: &[&str]) {
    assert_eq!(
        (ran.code, ran.stdout.as_str(), ran.stderr.lines().count()),
        (Some(1), "", 1),
        "{}",
        ran.stderr
    );
    assert!(says.iter().all(|part| ran.stderr.contains(part)), "{says:?}: {}", ran.stderr);
    assert!(!ran.stderr.contains("stile_v4"), "{}", ran.stderr);
}

pub(super) async fn a_proof_is_never_sent_on(backend: Backend) {
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("http://{}/v1/token", elsewhere.local_addr().unwrap());
    for status in [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ] {
        let location = location.clone();
        let redirects = move |_| {
            Router::new().fallback(async move || (status, [(header::LOCATION, location.clone())]))
        };
        let served =
            Served::start_on(backend, redirects).await.expect("the suite checked the tools before");
        let home = served.home(&deploy());
        fails(
            &get(&home, served.host()).await,
            &["responded with a redirect", "proofs and tokens never follow one"],
        );
        assert_eq!(served.test.sts.calls(), 0);
    }
    let mut plain = Home::temporary();
    plain.act_as(&deploy(), "us-east-1");
    plain.configure_helper(
        "[registry.\"registry.example.com\"]\nurl = \"http://registry.example.com\"\n",
    );
    fails(&get(&plain, "registry.example.com").await, &["plain HTTP"]);
    assert!(elsewhere.accept().is_err(), "no request arrived");
}

pub(super) async fn a_clock_that_is_off_is_corrected_once(backend: Backend) {
    for (ahead, difference) in
        [(14 * 60, "s behind the registry's"), (-14 * 60, "s ahead of the registry's")]
    {
        let served =
            Served::start_ahead(backend, ahead).await.expect("the suite checked the tools before");
        served.test.grant(&role("deploy"), "acme", &[Download]).await;
        let home = served.home(&deploy());
        let ran = get(&home, served.host()).await;
        let minutes = ["clock is 13 min", "clock is 14 min"]
            .iter()
            .any(|minutes| ran.stderr.contains(minutes));
        assert!(
            minutes && ran.stderr.contains(difference) && ran.stderr.lines().count() == 1,
            "{}",
            ran.stderr
        );
        assert_eq!(served.test.get("/v1/whoami", &token(&ran)).await.status, 200);
        assert_eq!(
            served.test.sts.calls(),
            1,
            "the broker rejected the first proof without a call to STS"
        );
    }
}

/// The authorization that a container agent requires before it returns credentials.
const AGENT: &str = "agent";

/// The session token of the instance metadata service, which later requests must send.
const SESSION: &str = "metadata-session";

/// The header that asks for a metadata session and gives its length.
const SECONDS: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// A provider of credentials on a machine of AWS: the agent of a task or pod, and the instance
/// metadata service in its second version only.
struct Provider {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Provider {
    /// Starts a provider whose credentials are valid for so many seconds.
    async fn start(identity: &Identity, seconds: i64) -> Self {
        let identity = identity.clone();
        Self::by_number(move |_| Ok((identity.clone(), seconds))).await
    }

    /// Starts a provider whose answer depends on the number of requests before, or is an error
    /// status.
    async fn by_number(
        gives: impl Fn(usize) -> Result<(Identity, i64), StatusCode> + Clone + Send + Sync + 'static,
    ) -> Self {
        let (listener, url) = listen().await;
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        let answer = async move |method: Method, uri: Uri, headers: HeaderMap| {
            let says =
                |name: &str, value: &str| headers.get(name).is_some_and(|said| said == value);
            let answer = match (method.as_str(), uri.path()) {
                ("GET", "/keys") if says("authorization", AGENT) => {
                    keys(gives(counted.fetch_add(1, Ordering::SeqCst)))
                }
                ("PUT", "/latest/api/token") if headers.contains_key(SECONDS) => {
                    Ok(SESSION.to_owned())
                }
                ("GET", path)
                    if path.starts_with("/latest/meta-data/")
                        && says("x-aws-ec2-metadata-token", SESSION) =>
                {
                    match path.trim_start_matches("/latest/meta-data/iam/security-credentials/") {
                        "" => Ok("deploy".to_owned()),
                        "deploy" => keys(gives(counted.fetch_add(1, Ordering::SeqCst))),
                        _ => Err(StatusCode::NOT_FOUND),
                    }
                }
                _ => Err(StatusCode::UNAUTHORIZED),
            };
            answer.map(|body| ([(SECONDS, "21600")], body))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { url, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Configures a home so that the helper finds this provider as a task's agent.
    fn before(&self, mut home: Home) -> Home {
        home.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", self.url));
        home.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", AGENT);
        home
    }
}

async fn listen() -> (tokio::net::TcpListener, String) {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

/// Writes credentials as agents and instance metadata do.
fn keys(given: Result<(Identity, i64), StatusCode>) -> Result<String, StatusCode> {
    let (identity, seconds) = given?;
    let ends = chrono::DateTime::from_timestamp(system_time() + seconds, 0).unwrap();
    let keys = json!({
        "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": identity.access_key_id, "SecretAccessKey": identity.secret_access_key,
        "Token": identity.session_token, "Expiration": ends.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "LastUpdated": "2026-01-01T00:00:00Z",
    });
    Ok(keys.to_string())
}

/// Starts an instance metadata service one hop too far away. It accepts connections, and its
/// answers never arrive.
async fn too_far_away(closes: bool) -> String {
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            held.push(connection);
            if closes {
                held.clear();
            }
        }
    });
    url
}

/// Returns a home without any credentials.
fn without_keys(served: &Served, identity: &Identity) -> Home {
    let mut home = served.home(identity);
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        home.unset(name);
    }
    home
}

fn write(home: &Home, name: &str, text: &str) -> PathBuf {
    let path = home.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path
}

pub(super) async fn credentials_come_from_wherever_aws_keeps_them(backend: Backend) {
    let served = served(backend).await;
    let identity = deploy();
    let provider = Provider::start(&identity, 3600).await;
    let broken = Provider::by_number(|_| Err(StatusCode::INTERNAL_SERVER_ERROR)).await;

    token(&get(&provider.before(without_keys(&served, &identity)), served.host()).await);

    // The setup of EKS Pod Identity: the token is in a file, which has precedence over a variable.
    let mut pod = provider.before(without_keys(&served, &identity));
    pod.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "another");
    let container = [
        "cannot load AWS credentials from the container endpoint",
        "hint: check `AWS_CONTAINER_CREDENTIALS_FULL_URI`",
    ];
    fails(&get(&pod, served.host()).await, &container);
    pod.variable(
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        pod.path().join("eks-pod-identity-token"),
    );
    fails(&get(&pod, served.host()).await, &container);
    write(&pod, "eks-pod-identity-token", AGENT);
    token(&get(&pod, served.host()).await);

    let mut instance = without_keys(&served, &identity);
    instance.unset("AWS_EC2_METADATA_DISABLED");
    instance.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", provider.url.clone());
    token(&get(&instance, served.host()).await);
    for closes in [false, true] {
        instance.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", too_far_away(closes).await);
        assert_eq!(instance.run(&program(HELPER), &["forget", served.host()]).await.code, Some(0));
        let says = [
            "cannot load AWS credentials from instance metadata",
            "hint: attach a role to the instance",
            "hop limit to 2",
        ];
        fails(&get(&instance, served.host()).await, &says);
    }
    instance
        .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", format!("http://127.0.0.1:{}", free_port()));
    fails(&get(&instance, served.host()).await, &["found no AWS credentials", "hint: "]);

    let process = without_keys(&served, &identity);
    let keys = json!({
        "Version": 1, "AccessKeyId": identity.access_key_id, "SecretAccessKey": identity.secret_access_key,
        "SessionToken": identity.session_token,
    });
    let file = write(&process, "keys.json", &keys.to_string());
    write(
        &process,
        ".aws/config",
        &format!("[default]\ncredential_process = /bin/cat {}\n", file.display()),
    );
    token(&get(&process, served.host()).await);

    fails(&get(&broken.before(without_keys(&served, &identity)), served.host()).await, &container);

    let signed_out = without_keys(&served, &identity);
    let sso = "[default]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Admin\n\
               [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n";
    write(&signed_out, ".aws/config", sso);
    fails(
        &get(&signed_out, served.host()).await,
        &["profile", "`aws sso login --profile default`"],
    );

    let nothing = without_keys(&served, &identity);
    fails(&get(&nothing, served.host()).await, &["found no AWS credentials", "hint: "]);
}

/// The helper asks a provider once more when its credentials expire soon, and never signs with
/// expired ones. It uses the resulting token until the token expires, and then asks the provider
/// again.
pub(super) async fn credentials_that_end_soon_are_loaded_again(backend: Backend) {
    let served = served(backend).await;
    let (old, fresh) = (Identity::role("111122223333", "deploy", "old"), deploy());
    let by_number = |answers: [Option<(&Identity, i64)>; 2]| {
        let answers =
            answers.map(|answer| answer.map(|(identity, seconds)| (identity.clone(), seconds)));
        Provider::by_number(move |number| answers[number % 2].clone().ok_or(StatusCode::FORBIDDEN))
    };
    // STS does not know the old credentials, so only those of the second answer can have signed.
    for (seconds, answers) in [(20, "almost expired"), (-1, "expired")] {
        let provider = by_number([Some((&old, seconds)), Some((&fresh, 3600))]).await;
        let home = provider.before(without_keys(&served, &fresh));
        let first = token(&get(&home, served.host()).await);
        assert_eq!(provider.asked(), 2, "{answers}");
        assert_eq!(token(&get(&home, served.host()).await), first);
        assert_eq!(provider.asked(), 2, "{answers}: a cached token needs no credentials");
    }
    let for_short_tokens = Provider::start(&fresh, 3600).await;
    let mut short = for_short_tokens.before(without_keys(&served, &fresh));
    short.configure_helper(&format!("[registry.\"{}\"]\nttl = 300\n", served.host()));
    let first = token(&get(&short, served.host()).await);
    assert_ne!(
        token(&get(&short, served.host()).await),
        first,
        "the token ends in less than five minutes"
    );
    assert_eq!(for_short_tokens.asked(), 2, "once for each token");

    // Credentials that expire soon still sign if there are no better ones.
    let soon = Provider::start(&fresh, 20).await;
    token(&get(&soon.before(without_keys(&served, &fresh)), served.host()).await);
    let failing = by_number([Some((&fresh, 20)), None]).await;
    token(&get(&failing.before(without_keys(&served, &fresh)), served.host()).await);
    assert_eq!((soon.asked(), failing.asked()), (2, 2));

    let calls = served.test.sts.calls();
    let over = Provider::start(&fresh, -1).await;
    fails(
        &get(&over.before(without_keys(&served, &fresh)), served.host()).await,
        &["credentials from the container endpoint expired at"],
    );
    assert_eq!((over.asked(), served.test.sts.calls()), (2, calls));
}

/// Returns the file of the one cached token.
fn cache_file(folder: &Path) -> PathBuf {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(folder, &mut found);
    found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(super) async fn a_cache_that_others_could_read_or_write_is_not_used(backend: Backend) {
    let served = served(backend).await;
    let home = served.home(&deploy());
    let mut last = token(&get(&home, served.host()).await);
    let path = cache_file(&home.path().join(".cache"));
    let whole = std::fs::read_to_string(&path).unwrap();
    let mode =
        |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let mut minted = 1;
    for way in
        ["readable", "writable", "link", "cut short", "another host", "expired", "another user's"]
    {
        match way {
            "readable" => mode(0o644),
            "writable" => mode(0o620),
            "link" => {
                std::fs::rename(&path, home.path().join("moved")).unwrap();
                symlink(home.path().join("moved"), &path).unwrap();
            }
            "cut short" => std::fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
            "another host" => {
                std::fs::write(&path, whole.replace(served.host(), "registry.example.org"))
                    .unwrap();
            }
            "expired" => std::fs::write(&path, whole.replace("\"20", "\"19")).unwrap(),
            // Only root can give a file away.
            _ if std::os::unix::fs::chown(&path, Some(1), Some(1)).is_err() => continue,
            _ => {}
        }
        let next = token(&get(&home, served.host()).await);
        minted += 1;
        assert!(
            next != last && served.test.sts.calls() == minted,
            "{way}: the helper gets a new token"
        );
        assert_eq!(token(&get(&home, served.host()).await), next, "{way}: and caches it");
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{way}");
        last = next;
    }
}

pub(super) async fn many_processes_mint_once(backend: Backend) {
    let served = served(backend).await;
    let (home, helper) = (served.home(&deploy()), program(HELPER));
    let running: Vec<_> = (0..8)
        .map(|_| tokio::spawn(CommandOutput::of(home.command(&helper, ["get", served.host()]))))
        .collect();
    let mut tokens = Vec::new();
    for ran in running {
        tokens.push(token(&ran.await.unwrap()));
    }
    tokens.dedup();
    assert_eq!((tokens.len(), served.test.sts.calls()), (1, 1));
    assert_eq!(served.test.get("/v1/whoami", &tokens[0]).await.status, 200);
}

pub(super) async fn verbs_follow_the_protocol(backend: Backend) {
    let served = served(backend).await;
    let home = served.home(&deploy());
    let with_stdin = async |arguments: &[&str], stdin: &str| {
        let mut command = home.command(&program(HELPER), arguments);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that fails early does not read its input.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes()).await;
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        CommandOutput {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    };
    let host = served.host();
    fails(
        &with_stdin(&["store", host], "{\"token\":\"stile_v4.local.x\"}").await,
        &["nothing to store"],
    );
    for garbage in [
        "",
        "garbage stile_v4.local.x",
        "{\"token\":7}",
        "[\"stile_v4.local.x\"]",
        "{\"token\":\"a\\nb\"}",
    ] {
        fails(&with_stdin(&["store", "a.example"], garbage).await, &["stdin: "]);
    }
    let unknown = with_stdin(&["revoke", host], "stile_v4.local.x").await;
    assert!(
        unknown.code == Some(1)
            && unknown.stdout.is_empty()
            && !unknown.stderr.contains("stile_v4"),
        "{unknown:?}"
    );
    assert_eq!(served.test.sts.calls(), 0, "and the broker called no STS");
    let first = token(&with_stdin(&["get", host], "garbage").await);
    let forgotten = with_stdin(&["forget", host], "garbage").await;
    assert_eq!(
        (forgotten.code, forgotten.stdout.as_str(), forgotten.stderr.as_str()),
        (Some(0), "", "")
    );
    assert_ne!(token(&get(&home, host).await), first);
}
