//! The real helper as a process: when it opens no socket, what many do at once, and how it handles
//! a wrong clock and a revocation.

use std::path::Path;

use axum::{Json, Router};
use serde_json::{Value, json};
use stile_core::principal::Principal;
use stile_protocol::names::Permission;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::operator::AsOperator as _;
use stile_tests::broker::served::{Served, system_time};
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{HELPER, free_port, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::identity::Identity;
use terraform_credentials_stile::message::without_request_ids;

/// The host that Terraform asks for on every `init` with an ordinary provider.
const PUBLIC: &str = "registry.terraform.io";

/// Returns the token that the helper prints for Terraform.
fn token(ran: &CommandOutput) -> String {
    let printed: Value = serde_json::from_str(&ran.stdout).unwrap_or_default();
    let token = printed["token"].as_str().unwrap_or_default();
    assert!(
        ran.code == Some(0) && token.starts_with("stile_v4.local."),
        "{:?}: {}",
        ran.code,
        ran.stderr
    );
    token.to_owned()
}

/// Runs a program under strace, and lists the sockets that it and its children create.
async fn sockets(
    strace: &Path,
    home: &Home,
    program: &Path,
    arguments: &[&str],
) -> (CommandOutput, Vec<String>) {
    let list = home.path().join("sockets.txt");
    let mut command = home
        .command(strace, ["-f", "-qq", "-e", "trace=socket,connect", "-e", "signal=none", "-o"]);
    command.arg(&list).arg(program).args(arguments);
    let ran = CommandOutput::of(command).await;
    let traced = std::fs::read_to_string(&list).unwrap_or_default();
    (ran, traced.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn for_a_host_that_is_none_of_ours_it_opens_no_socket() {
    let shows = "`get` opens no socket for other hosts";
    let Some(strace) = tool("strace") else { return skipped("strace", shows) };
    let helper = program(HELPER);
    let plain = Home::temporary();
    let (allowed, _) = sockets(&strace, &plain, Path::new("/bin/sh"), &["-c", "exit 7"]).await;
    if allowed.code != Some(7) {
        return skipped("permission to trace a process", shows);
    }

    let mut configured = Home::temporary();
    configured.act_as(&Identity::role("111122223333", "deploy", "alice"), "us-east-1");
    let nobody = format!("127.0.0.1:{}", free_port());
    configured.configure_helper(&format!(
        "[registry.\"{nobody}\"]\n[registry.\"registry.example.com\"]\n"
    ));
    configured.unset("AWS_EC2_METADATA_DISABLED");
    let mut profiled = Home::temporary();
    profiled.variable("AWS_PROFILE", "sso");
    profiled.variable("HTTPS_PROXY", "http://127.0.0.1:9");
    for (what, home) in [
        ("nothing configured", &plain),
        ("keys and another registry", &configured),
        ("a profile and a proxy", &profiled),
    ] {
        let (ran, sockets) = sockets(&strace, home, &helper, &["get", PUBLIC]).await;
        assert_eq!(
            (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
            (Some(0), "{}\n", ""),
            "{what}"
        );
        assert_eq!(sockets, [""; 0], "{what}");
    }
    let (ran, sockets) = sockets(&strace, &configured, &helper, &["get", &nobody]).await;
    assert_eq!(ran.code, Some(1));
    assert!(
        sockets.iter().any(|line| line.contains("socket(AF_INET")),
        "strace records a socket if there is one: {sockets:?}"
    );
}

#[tokio::test]
async fn of_twenty_at_once_one_gets_the_token_and_all_print_it() {
    let served = Served::start().await;
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    let (home, helper) = (served.home(&deploy()), program(HELPER));
    let running: Vec<_> = (0..20)
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

#[tokio::test]
async fn a_clock_that_is_fourteen_minutes_off_is_corrected_once() {
    let helper = program(HELPER);
    for (ahead, difference) in
        [(14 * 60, "s behind the registry's"), (-14 * 60, "s ahead of the registry's")]
    {
        let served = Served::start_with(ahead, |router| router).await;
        served.test.grant(&role("deploy"), "acme", &[Download]).await;
        let home = served.home(&deploy());
        let ran = home.run(&helper, &["get", served.host()]).await;
        let token = token(&ran);
        let minutes = ["clock is 13 min", "clock is 14 min"]
            .iter()
            .any(|minutes| ran.stderr.contains(minutes));
        assert!(
            minutes && ran.stderr.contains(difference) && ran.stderr.lines().count() == 1,
            "{}",
            ran.stderr
        );
        assert_eq!(
            served.test.sts.calls(),
            1,
            "the broker rejected the first proof without a call to STS"
        );
        assert_eq!(served.test.get("/v1/whoami", &token).await.status, 200);
    }
}

/// What an operator revokes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Revoked {
    Everyone,
    Token,
    Principal,
}

/// Revokes at a broker, and waits with its clock until that has an effect.
async fn revoke(served: &Served, revoked: Revoked, token: &str, seconds_ahead: i64) {
    let (store, now) = (served.test.store(), served.test.time());
    match revoked {
        Revoked::Everyone => {
            store.as_operator().drop_keys().await.unwrap();
        }
        Revoked::Token => {
            let opened = served.test.broker.tokens.open(token, store, now).await.unwrap();
            store.as_operator().revoke_token(opened.claims.id().clone(), now).await.unwrap();
        }
        Revoked::Principal => {
            let principal = Principal::parse_stored(&role("deploy")).unwrap();
            store.as_operator().revoke_principal(principal, now).await.unwrap();
        }
    }
    served.test.follow_system_time(seconds_ahead);
}

/// Changes the last check of the cached token to two minutes ago.
fn make_due(home: &Home) {
    let folder = std::fs::read_dir(home.path().join(".cache/stile")).unwrap();
    let is_json = |path: &std::path::PathBuf| path.extension().is_some_and(|it| it == "json");
    let file = folder.map(|entry| entry.unwrap().path()).find(is_json).unwrap();
    let mut entry: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let earlier = chrono::DateTime::from_timestamp(system_time() - 120, 0).unwrap();
    entry["checked_at"] = json!(earlier.to_rfc3339());
    std::fs::write(&file, entry.to_string()).unwrap();
}

#[tokio::test]
async fn a_revoked_token_is_replaced_within_a_minute_if_the_caller_may_have_another() {
    let served = Served::start().await;
    served.test.grant(&role("deploy"), "acme", &[Download]).await;
    let (home, helper) = (served.home(&deploy()), program(HELPER));
    let get = async || home.run(&helper, &["get", served.host()]).await;
    let mut seconds_ahead = 0;
    for revoked in [Revoked::Everyone, Revoked::Token, Revoked::Principal] {
        let first = token(&get().await);
        seconds_ahead += 11;
        revoke(&served, revoked, &first, seconds_ahead).await;
        assert_eq!(served.test.get("/v1/whoami", &first).await.status, 401, "{revoked:?}");
        let minted = served.test.sts.calls();
        assert_eq!(token(&get().await), first, "{revoked:?}: less than a minute after the mint");
        // A check may take a second. On a busy computer `get` may keep the token once more.
        let mut ran = get().await;
        for _ in 0..20 {
            if !ran.stdout.contains(&first) {
                break;
            }
            make_due(&home);
            ran = get().await;
        }
        if revoked == Revoked::Principal {
            let says = "is revoked";
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
            let cure = "`stile-admin token lift --principal arn:aws:iam::111122223333:role/deploy`";
            assert!(ran.stderr.contains(says) && ran.stderr.contains(cure), "{}", ran.stderr);
        } else {
            let new = token(&ran);
            assert_ne!(new, first, "{revoked:?}");
            assert_eq!(served.test.get("/v1/whoami", &new).await.status, 200, "{revoked:?}");
            assert_eq!(served.test.sts.calls(), minted + 1, "{revoked:?}: one exchange");
        }
    }
}

#[tokio::test]
async fn whoami_and_doctor_work_with_any_permission_and_doctor_explains_a_403() {
    let helper = program(HELPER);
    for permission in Permission::ALL {
        let served = Served::start().await;
        served.test.grant(&role("deploy"), "acme", &[permission]).await;
        let (home, host) = (served.home(&deploy()), served.host());
        let grant = format!("acme: {permission}\n");
        let whoami = home.run(&helper, &["whoami", host]).await;
        assert_eq!((whoami.code, whoami.stderr.as_str()), (Some(0), ""), "{permission}");
        assert!(whoami.stdout.contains(&grant), "{}", whoami.stdout);

        let allowed = format!("ok   namespace: the registry allows `{permission}` on `acme`\n");
        let flag = permission.as_str().replace('_', "-");
        let refused = format!(
            "FAIL namespace: `arn:aws:iam::111122223333:role/deploy` has no `{permission}` on namespace `other`; \
             hint: ask an operator for `stile-admin grant create --role-arn arn:aws:iam::111122223333:role/deploy \
             --namespace other --{flag}`\n"
        );
        for (namespace, line) in [("acme", &allowed), ("other", &refused)] {
            let doctor = home.run(&helper, &["doctor", host, "--namespace", namespace]).await;
            let page = without_request_ids(&doctor.stdout);
            assert!(page.contains(&grant) && page.contains(line), "{page}");
        }
    }
}

/// The variable in which Terraform looks for the token of `registry.example.com`.
const VARIABLE: &str = "TF_TOKEN_registry_example_com";

/// Each shell with its form of `get-token`, and a script that applies `$LINE` and prints the token.
const SHELLS: [(&str, &str, &[&str]); 6] = [
    ("sh", "env", &["-c", "eval \"$LINE\" && printenv \"$NAME\""]),
    ("dash", "env", &["-c", "eval \"$LINE\" && printenv \"$NAME\""]),
    ("bash", "env", &["-c", "eval \"$LINE\" && printenv \"$NAME\""]),
    ("zsh", "env", &["-f", "-c", "eval \"$LINE\" && printenv \"$NAME\""]),
    ("fish", "fish", &["--no-config", "-c", "echo $LINE | source; and printenv $NAME"]),
    (
        "pwsh",
        "powershell",
        &[
            "-NoProfile",
            "-NonInteractive",
            "-Command",
            "Invoke-Expression $env:LINE; [Environment]::GetEnvironmentVariable($env:NAME)",
        ],
    ),
];

#[tokio::test]
async fn every_shell_reads_the_token_that_get_token_prints_for_it() {
    let helper = program(HELPER);
    let on_path = |(shell, form, script)| {
        let path = tool(shell);
        if path.is_none() {
            skipped(shell, &format!("{shell} reads the line of `get-token {form}`"));
        }
        Some((path?, form, script))
    };
    let shells: Vec<_> = SHELLS.into_iter().filter_map(on_path).collect();
    // The registry may issue any token of these characters: letters, digits and `-._~+/=`.
    for expected in ["stile_v4.local.a-_B", "~root/x", "~", "=ls", "-n", "+x=~root", "/etc/.."] {
        let reply = json!({
            "token": expected, "expires_at": "2999-01-01T00:00:00Z", "principal": role("deploy"),
            "namespaces": "all", "permissions": ["download"],
        });
        let issues = |_| Router::new().fallback(async move || Json(reply.clone()));
        let served = Served::start_with(0, issues).await;
        let mut home = served.home(&deploy());
        let url = format!("https://{}", served.host());
        home.configure_helper(&format!("[registry.\"registry.example.com\"]\nurl = \"{url}\"\n"));
        home.variable("NAME", VARIABLE);
        for (shell, form, script) in &shells {
            let arguments = ["get-token", form, "--registry-host", "registry.example.com"];
            let printed = home.run(&helper, &arguments).await;
            assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{form}");
            assert!(printed.stdout.contains(VARIABLE), "{form}: {}", printed.stdout);
            home.variable("LINE", printed.stdout.trim_end());
            let read = home.run(shell, script).await;
            let shown = shell.display();
            assert_eq!(read.stdout.trim_end(), expected, "{shown}: {}", read.stderr);
        }
    }
}
