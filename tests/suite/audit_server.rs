//! A server with a data folder signs the audit chains: at its start, and what came after that when it
//! stops. Its key stays.

use serde_json::Value;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::{make_data, role};
use stile_tests::process::home::Home;
use stile_tests::process::programs::{ADMIN, Setup, free_port, program};

#[tokio::test]
async fn a_server_signs_at_its_start_and_when_it_stops_and_keeps_its_key() {
    let home = Home::temporary();
    let (data, log) = (home.path().join("data"), home.path().join("log"));
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    let at = data.to_str().unwrap();
    let admin = async |arguments: &[&str]| {
        let ran = home.run(&program(ADMIN), &[arguments, &["--data", at]].concat()).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {ran:?}");
        ran.stdout
    };
    let mut broker =
        Setup::new(free_port(), &data).env("STILE_LOG_FORMAT", "json").start(&log).await;
    broker.logs("audit_head").await;
    let key = std::fs::read(data.join("audit-key")).unwrap();
    let ci = ["--role-arn", "arn:aws:iam::111122223333:role/ci", "--namespace", "acme"];
    admin(&[&["grant", "create", "--download"], &ci[..]].concat()).await;
    admin(&["token", "revoke", "--all", "--yes"]).await;
    assert!(broker.terminate().await.success(), "{}", broker.log());

    let lines = broker.log();
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let heads: Vec<_> = lines.filter(|line| line["event"] == "audit_head").collect();
    let of = |chain: &str| -> Vec<_> {
        let of_chain = heads.iter().filter(|head| head["chain"] == chain);
        of_chain.map(|head| head["seq"].as_u64().unwrap()).collect()
    };
    assert_eq!(of("acme").last(), Some(&2), "the last event is signed: {heads:?}");
    assert!(!of("*").is_empty(), "{heads:?}");
    assert_eq!(std::fs::read(data.join("audit-key")).unwrap(), key);
    let verified = admin(&["audit", "verify", "--head", log.to_str().unwrap()]).await;
    assert!(verified.ends_with(": 0 faults\n"), "{verified}");
    // What `audit head` prints is the last of the log.
    let printed = admin(&["audit", "head", "--namespace", "acme"]).await;
    let last = heads.iter().rfind(|head| head["chain"] == "acme").unwrap();
    assert_eq!(printed.trim_end(), last["head"].as_str().unwrap());
}
