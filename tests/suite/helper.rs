//! The real helper as a process: when it opens no socket, what many do at once, and how it handles
//! a wrong clock.

use std::path::Path;

use serde_json::Value;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::served::Served;
use stile_tests::broker::{deploy, role};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{HELPER, free_port, program};
use stile_tests::skipped::{skipped, tool};
use stile_tests::sts::identity::Identity;

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
