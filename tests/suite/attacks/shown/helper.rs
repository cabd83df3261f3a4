//! The real helper before a broker on each store: where its proofs go, where its credentials come from, what it keeps.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use serde_json::{Value, json};
use stile_protocol::names::Permission::Download;
use stile_tests::home::{Home, Ran};
use stile_tests::identity::Identity;
use stile_tests::programs::{HELPER, program};
use stile_tests::served::{Served, system_time};
use stile_tests::test_broker::{Backend, deploy, role};
use tokio::io::AsyncWriteExt as _;

async fn served(backend: Backend) -> Served {
    let served = Served::start_on(backend, |router| router).await.expect("the tools were looked for before");
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    served
}

async fn get(home: &Home, host: &str) -> Ran {
    home.run(&program(HELPER), &["get", host]).await
}

/// The token that was printed; nothing else was, and none of it where errors go.
fn token(ran: &Ran) -> String {
    let printed: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let token = printed["token"].as_str().unwrap_or_default().to_owned();
    assert!(
        ran.code == Some(0) && token.starts_with("stile_v4.local.") && !ran.stderr.contains("stile_v4"),
        "{:?}: {}",
        ran.code,
        ran.stderr
    );
    token
}

fn fails(ran: &Ran, says: &[&str]) {
    assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.lines().count()), (Some(1), "", 1), "{}", ran.stderr);
    assert!(says.iter().all(|part| ran.stderr.contains(part)), "{says:?}: {}", ran.stderr);
    assert!(!ran.stderr.contains("stile_v4"), "{}", ran.stderr);
}

pub(super) async fn a_proof_is_never_sent_on(backend: Backend) {
    let elsewhere = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let location = format!("http://{}/v1/token", elsewhere.local_addr().unwrap());
    for status in [StatusCode::MOVED_PERMANENTLY, StatusCode::FOUND, StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT] {
        let location = location.clone();
        let redirects = move |_| Router::new().fallback(async move || (status, [(header::LOCATION, location.clone())]));
        let served = Served::start_on(backend, redirects).await.expect("the tools were looked for before");
        let home = served.home(&deploy());
        fails(&get(&home, served.host()).await, &["answered with a redirect", "never sent on"]);
        assert_eq!(served.test.sts.calls(), 0);
    }
    let mut plain = Home::temporary();
    plain.act_as(&deploy(), "us-east-1");
    plain.configure_helper("[registry.\"registry.example.com\"]\nurl = \"http://registry.example.com\"\n");
    fails(&get(&plain, "registry.example.com").await, &["plain HTTP"]);
    assert!(elsewhere.accept().is_err(), "nobody came");
}

pub(super) async fn a_clock_that_is_off_is_corrected_once(backend: Backend) {
    // Built before the broker's clock is set, which stands still.
    program(HELPER);
    for (ahead, told) in [(14 * 60, "s behind the registry's"), (-14 * 60, "s ahead of the registry's")] {
        let served = Served::start_ahead(backend, ahead).await.expect("the tools were looked for before");
        served.test.grant(&role("deploy"), "acme", &[Download]).await;
        let home = served.home(&deploy());
        let ran = get(&home, served.host()).await;
        let minutes = ["clock is 13 min", "clock is 14 min"].iter().any(|minutes| ran.stderr.contains(minutes));
        assert!(minutes && ran.stderr.contains(told) && ran.stderr.lines().count() == 1, "{}", ran.stderr);
        assert_eq!(served.test.get("/v1/whoami", &token(&ran)).await.status, 200);
        assert_eq!(served.test.sts.calls(), 1, "the first proof was refused before anybody was asked");
    }
}

/// Whoever hands out credentials on a machine of AWS's: a task's agent, and an instance's metadata in its second version.
struct Provider {
    url: String,
    calls: Arc<AtomicUsize>,
}

impl Provider {
    /// One that hands out those, good for so many seconds, or fails with that status.
    async fn start(identity: &Identity, seconds: i64, fails: Option<StatusCode>) -> Self {
        let ends = chrono::DateTime::from_timestamp(system_time() + seconds, 0).unwrap();
        let keys = json!({
            "Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": identity.access_key_id, "SecretAccessKey": identity.secret_access_key,
            "Token": identity.session_token, "Expiration": ends.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
            "LastUpdated": "2026-01-01T00:00:00Z",
        })
        .to_string();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (url, calls) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
        let counted = Arc::clone(&calls);
        let answer = async move |uri: Uri| {
            if let Some(status) = fails {
                return (status, [("x-aws-ec2-metadata-token-ttl-seconds", "21600")], "down".to_owned());
            }
            let (status, body) = match uri.path() {
                "/keys" => (StatusCode::OK, keys.clone()),
                "/latest/api/token" => (StatusCode::OK, "metadata-token".to_owned()),
                "/latest/meta-data/iam/security-credentials/" => (StatusCode::OK, "deploy".to_owned()),
                "/latest/meta-data/iam/security-credentials/deploy" => (StatusCode::OK, keys.clone()),
                _ => (StatusCode::NOT_FOUND, String::new()),
            };
            if body.contains("AccessKeyId") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            (status, [("x-aws-ec2-metadata-token-ttl-seconds", "21600")], body)
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        Self { url, calls }
    }
}

/// A home in which no credentials are to be found.
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
    let provider = Provider::start(&identity, 3600, None).await;
    let broken = Provider::start(&identity, 3600, Some(StatusCode::INTERNAL_SERVER_ERROR)).await;

    let mut container = without_keys(&served, &identity);
    container.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", provider.url));
    container.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN", "agent");
    token(&get(&container, served.host()).await);

    let mut instance = without_keys(&served, &identity);
    instance.unset("AWS_EC2_METADATA_DISABLED");
    instance.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", provider.url.clone());
    token(&get(&instance, served.host()).await);

    let process = without_keys(&served, &identity);
    let keys = json!({
        "Version": 1, "AccessKeyId": identity.access_key_id, "SecretAccessKey": identity.secret_access_key,
        "SessionToken": identity.session_token,
    });
    let file = write(&process, "keys.json", &keys.to_string());
    write(&process, ".aws/config", &format!("[default]\ncredential_process = /bin/cat {}\n", file.display()));
    token(&get(&process, served.host()).await);

    let mut down = without_keys(&served, &identity);
    down.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", broken.url));
    fails(&get(&down, served.host()).await, &["container", "hint: look at `AWS_CONTAINER_CREDENTIALS_FULL_URI`"]);

    let signed_out = without_keys(&served, &identity);
    let sso = "[default]\nsso_session = corp\nsso_account_id = 111122223333\nsso_role_name = Admin\n\
               [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://corp.awsapps.com/start\n";
    write(&signed_out, ".aws/config", sso);
    fails(&get(&signed_out, served.host()).await, &["profile", "`aws sso login`"]);

    let nothing = without_keys(&served, &identity);
    fails(&get(&nothing, served.host()).await, &["no AWS credentials were found", "hint: "]);
}

/// Whatever hands them out is asked anew for each token, so that it refreshes what is nearly over; what is over signs nothing.
pub(super) async fn credentials_that_end_soon_are_got_anew(backend: Backend) {
    let served = served(backend).await;
    let identity = deploy();
    let (soon, over) = (Provider::start(&identity, 20, None).await, Provider::start(&identity, -1, None).await);
    let mut home = without_keys(&served, &identity);
    home.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", soon.url));
    for asked in 1..=2 {
        token(&get(&home, served.host()).await);
        assert!(soon.calls.load(Ordering::SeqCst) >= asked, "it is asked each time");
        assert_eq!(home.run(&program(HELPER), &["forget", served.host()]).await.code, Some(0));
    }
    home.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", over.url));
    fails(&get(&home, served.host()).await, &["credentials", "container"]);
    assert_eq!(served.test.sts.calls(), 2);
}

/// The file in which the one token is kept.
fn kept(folder: &Path) -> PathBuf {
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
    let path = kept(&home.path().join(".cache"));
    let whole = std::fs::read_to_string(&path).unwrap();
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let mut minted = 1;
    for way in ["readable", "writable", "link", "cut short", "another host", "expired", "another user's"] {
        match way {
            "readable" => mode(0o644),
            "writable" => mode(0o620),
            "link" => {
                std::fs::rename(&path, home.path().join("moved")).unwrap();
                symlink(home.path().join("moved"), &path).unwrap();
            }
            "cut short" => std::fs::write(&path, &whole[..whole.len() / 2]).unwrap(),
            "another host" => std::fs::write(&path, whole.replace(served.host(), "registry.example.org")).unwrap(),
            "expired" => std::fs::write(&path, whole.replace("\"20", "\"19")).unwrap(),
            // Giving a file away takes root's right.
            _ if std::os::unix::fs::chown(&path, Some(1), Some(1)).is_err() => continue,
            _ => {}
        }
        let next = token(&get(&home, served.host()).await);
        minted += 1;
        assert!(next != last && served.test.sts.calls() == minted, "{way}: it is got anew");
        assert_eq!(token(&get(&home, served.host()).await), next, "{way}: and kept");
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.is_file() && found.permissions().mode() & 0o777 == 0o600, "{way}");
        last = next;
    }
}

pub(super) async fn many_processes_mint_once(backend: Backend) {
    let served = served(backend).await;
    let (home, helper) = (served.home(&deploy()), program(HELPER));
    let running: Vec<_> = (0..8).map(|_| tokio::spawn(Ran::of(home.command(&helper, ["get", served.host()])))).collect();
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
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A program that fails early does not read it.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes()).await;
        let output = child.wait_with_output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    };
    let host = served.host();
    fails(&with_stdin(&["store", host], "{\"token\":\"stile_v4.local.x\"}").await, &["nothing to store"]);
    for garbage in ["", "garbage stile_v4.local.x", "{\"token\":7}", "[\"stile_v4.local.x\"]", "{\"token\":\"a\\nb\"}"] {
        fails(&with_stdin(&["store", "a.example"], garbage).await, &["standard input"]);
    }
    let unknown = with_stdin(&["revoke", host], "stile_v4.local.x").await;
    assert!(unknown.code == Some(1) && unknown.stdout.is_empty() && !unknown.stderr.contains("stile_v4"), "{unknown:?}");
    assert_eq!(served.test.sts.calls(), 0, "and nobody was asked");
    let first = token(&with_stdin(&["get", host], "garbage").await);
    let forgotten = with_stdin(&["forget", host], "garbage").await;
    assert_eq!((forgotten.code, forgotten.stdout.as_str(), forgotten.stderr.as_str()), (Some(0), "", ""));
    assert_ne!(token(&get(&home, host).await), first);
}
