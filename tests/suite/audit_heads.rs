//! Signed heads: `audit verify` names each change of the kept events, and `audit expire` removes
//! only what is old and signed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stile_core::audit::{Chain, SignedHead};
use stile_core::clock::rfc3339;
use stile_protocol::audience::Audience;
use stile_protocol::names::Permission::Download;
use stile_tests::audited_registry::{AuditedRegistry, CHAIN, create_key, signed_now};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::operator;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, HOST, Place, TestBroker, role};

use crate::lambda::answer;

/// The seconds of a day.
const DAY: i64 = 24 * 3600;

/// The changes of the large test. An emulated AWS takes some milliseconds for each, so it gets fewer:
/// still two segments.
fn many() -> u64 {
    match super::BACKEND {
        Backend::Embedded => 10_000,
        Backend::Aws => 520,
    }
}

fn faults(lines: &[String]) -> Vec<&str> {
    let about = format!("chain `{CHAIN}`: ");
    lines.iter().filter_map(|line| line.strip_prefix(about.as_str())).collect()
}

#[tokio::test]
async fn one_run_names_each_event_that_is_removed_changed_or_moved_and_the_tail_that_is_cut() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let (now, count) = (system_time(), many());
    test.change(count, now).await;
    assert!(test.sign(now).await >= 2);
    let outside = test.keep_heads("heads.jsonl").await;
    // One event of the other chain is the recorded host.
    let read = |events: u64, faults: u64| {
        format!("read {} events of 2 chains: {faults} faults", events + 1)
    };
    let (code, lines) = test.verify(&["--head", &outside]).await;
    assert_eq!((code, lines), (Some(0), vec![read(count, 0)]));

    test.remove_events([17].into_iter()).await;
    test.change_event(40, "\"store\"", "\"other\"").await;
    test.swap_events(60, 70).await;
    let (code, lines) = test.verify(&["--head", &outside]).await;
    assert_eq!(code, Some(1), "{lines:?}");
    let expected = [
        "the events 17 to 17 are missing",
        "event 40 was changed, or the hash of the one before it",
        "event 60 was moved: its text is of another place",
        "event 70 was moved: its text is of another place",
    ];
    assert_eq!(faults(&lines), expected);
    assert_eq!(lines.last(), Some(&read(count - 1, 4)));
    // Of another chain, nothing is wrong.
    assert_eq!(test.verify(&["--namespace", "*"]).await.0, Some(0));

    let last = count - 5;
    test.cut_tail(last).await;
    let (code, without) = test.verify(&[]).await;
    assert_eq!((code, faults(&without)), (Some(1), expected.to_vec()));
    let (code, with) = test.verify(&["--head", &outside]).await;
    let cut = format!(
        "the chain ends at event {last}, and a head proves event {count}: its tail was cut off"
    );
    assert_eq!((code, faults(&with).last().copied()), (Some(1), Some(cut.as_str())), "{with:?}");
}

#[tokio::test]
async fn a_head_that_does_not_count_is_a_fault_and_the_others_still_count() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let Some(other) = AuditedRegistry::new(super::BACKEND).await else { return };
    for registry in [&test, &other] {
        registry.change(3, 1_700_000_000).await;
        registry.sign(1_700_000_000).await;
    }
    let foreign = other.store.clone().for_registry(Audience::parse("other.example.com").unwrap());
    other.change(1, 1_700_000_000).await;
    let of_other_host = signed_now(&foreign, 1_700_000_002).await;

    let ours = std::fs::read_to_string(test.keep_heads("ours").await).unwrap();
    let theirs = std::fs::read_to_string(other.keep_heads("theirs").await).unwrap();
    let line = ours.lines().last().unwrap();
    let head = SignedHead::parse(line).unwrap();
    let mut changed = head.clone();
    changed.statement.seq += 1;
    let operators = ours.lines().next().unwrap();
    let by_other_key = theirs.lines().find(|line| line.contains("\"chain\":\"*\"")).unwrap();
    let key = SignedHead::parse(by_other_key).unwrap().key_id;
    for (text, expected) in [
        (String::new(), "`FILE` has no signed head of chain `acme`".to_owned()),
        (line[..40].to_owned(), "`FILE`, line 1: it is not a signed head".to_owned()),
        (
            format!("{operators}\n\n{}", changed.to_json()),
            "`FILE`, line 3: the signature does not match, so the head was changed".to_owned(),
        ),
        (
            line.replacen("\"v\":1", "\"v\":9", 1),
            "`FILE`, line 1: it has format 9, and this program reads formats up to 1; hint: run a newer release".to_owned(),
        ),
        (
            of_other_host[0].to_json(),
            format!("`FILE`, line 1: it is a head of registry `other.example.com`, and not of `{HOST}`"),
        ),
        (
            by_other_key.to_owned(),
            format!("`FILE`, line 1: the audit key of this registry did not sign it, but `{key}`; hint: if that is an earlier key that you trust, repeat with `--public-key`"),
        ),
        (operators.to_owned(), "`FILE` has no signed head of chain `acme`".to_owned()),
    ] {
        let file = test.home.path().join("head");
        std::fs::write(&file, &text).unwrap();
        let file = file.to_str().unwrap();
        let (code, lines) = test.verify(&["--head", file, "--namespace", CHAIN]).await;
        let sentence = lines[0].replace(file, "FILE");
        assert_eq!((code, sentence), (Some(1), expected), "{lines:?}");
        std::fs::write(file, format!("{text}\n{line}")).unwrap();
        let (_, lines) = test.verify(&["--head", file]).await;
        assert!(!lines.iter().any(|line| line.contains("has no signed head")), "{lines:?}");
    }
    std::fs::write(test.home.path().join("head"), [0xff, 0xfe]).unwrap();
    let (code, lines) =
        test.verify(&["--head", test.home.path().join("head").to_str().unwrap()]).await;
    assert!(code == Some(1) && lines[0].contains("is not text"), "{lines:?}");
    let ran = test.audit(&["verify", "--head", "/no/such/file"]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("cannot read"), "{ran:?}");
    let ran = test.audit(&["verify", "--public-key", "ed25519:!"]).await;
    assert!(ran.code == Some(2) && ran.stderr.contains("is not a public key"), "{ran:?}");
}

#[tokio::test]
async fn a_line_of_the_log_proves_as_much_as_a_line_of_audit_head() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    test.change(4, now).await;
    let signed = signed_now(&test.store, now).await;
    let line = |head: &SignedHead| {
        json!({
            "timestamp": "2026-11-30T16:43:46Z", "level": "INFO", "target": "audit", "v": 1,
            "event": "audit_head", "chain": head.statement.chain.as_str(),
            "seq": head.statement.seq, "head": head.to_json(),
        })
        .to_string()
    };
    let other = json!({ "level": "INFO", "event": "whoami", "target": "audit" }).to_string();
    let log: Vec<String> = signed.iter().map(line).chain([other]).collect();
    let file = test.home.path().join("log");
    std::fs::write(&file, log.join("\n")).unwrap();
    let head = ["--head", file.to_str().unwrap()];
    assert_eq!(test.verify(&head).await.0, Some(0));
    test.cut_tail(2).await;
    let (code, lines) = test.verify(&head).await;
    assert_eq!((code, faults(&lines).len()), (Some(1), 1), "{lines:?}");
}

#[tokio::test]
async fn a_chain_that_was_written_again_does_not_match_its_signed_heads() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    test.change(4, 1_700_000_000).await;
    test.sign(1_700_000_000).await;
    let signed = test.store.signed_heads(Some(&Chain::parse_stored(CHAIN).unwrap())).await.unwrap();
    // The last events are removed without their signed head, and others are written in their place.
    test.cut_tail(2).await;
    test.store_signed(&signed).await;
    test.change(2, 1_700_000_100).await;
    let (code, lines) = test.verify(&[]).await;
    let expected = ["event 4 is not the one that a head proves"];
    assert_eq!((code, faults(&lines)), (Some(1), expected.to_vec()), "{lines:?}");
}

#[tokio::test]
async fn a_broker_does_not_sign_a_chain_that_is_shorter_than_what_it_signed() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    test.change(4, 1_700_000_000).await;
    test.sign(1_700_000_000).await;
    test.cut_tail(2).await;
    assert_eq!(test.sign(1_700_000_060).await, 0, "an alarm instead");
    test.change(3, 1_700_000_060).await;
    assert_eq!(test.sign(1_700_000_120).await, 0, "it does not continue what was signed");
}

#[tokio::test]
async fn a_broker_does_not_sign_a_chain_that_was_written_again_and_keeps_the_head_that_shows_it() {
    let journal = Journal::start();
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    test.change(4, now).await;
    test.sign(now).await;
    let chain = Chain::parse_stored(CHAIN).unwrap();
    let signed = test.store.signed_heads(Some(&chain)).await.unwrap();
    test.cut_tail(2).await;
    test.store_signed(&signed).await;
    test.change(5, now).await;
    let broker = Audience::parse(HOST).unwrap();
    for store in [test.store.clone(), test.opened_again().for_registry(broker)] {
        journal.taken();
        for _ in 0..2 {
            assert_eq!(signed_now(&store, now + 60).await.len(), 0);
        }
        let lines = journal.taken().json.text;
        assert_eq!(lines.matches(r#""alarm":"audit_chain_damaged""#).count(), 1, "{lines}");
        assert_eq!(store.signed_heads(Some(&chain)).await.unwrap(), signed);
    }
    let (code, lines) = test.verify(&[]).await;
    let expected = ["event 4 is not the one that a head proves"];
    assert_eq!((code, faults(&lines)), (Some(1), expected.to_vec()), "{lines:?}");
}

#[tokio::test]
async fn one_damaged_chain_does_not_stop_the_signature_or_the_verification_of_another_one() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    test.change(2, now).await;
    test.damage_head().await;
    assert_eq!(test.sign(now).await, 1, "the chain of operators");
    let (code, lines) = test.verify(&[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(faults(&lines).len(), 1, "{lines:?}");
    assert!(faults(&lines)[0].starts_with("its head cannot be read"), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "read 3 events of 2 chains: 1 faults");
}

#[tokio::test]
async fn a_call_without_time_signs_one_chain_and_the_next_call_goes_on() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    test.change(1, 1_700_000_000).await;
    let mut chains = Vec::new();
    for _ in 0..3 {
        let add = |head: &SignedHead| chains.push(head.statement.chain.as_str().to_owned());
        test.store.sign_audit_heads(1_700_000_000, Duration::ZERO, add).await.unwrap();
    }
    assert_eq!(chains, ["*", CHAIN]);
}

#[tokio::test]
async fn a_chain_at_rest_is_signed_once() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    test.change(2, 1_700_000_000).await;
    assert_eq!(test.sign(1_700_000_000).await, 2, "one of the namespace, one of the operators");
    assert_eq!(test.sign(1_700_000_060).await, 0);
    let chain = Chain::parse_stored(CHAIN).unwrap();
    test.change(1, 1_700_000_000).await;
    assert_eq!(test.sign(1_700_000_120).await, 1);
    let stored = test.store.signed_heads(Some(&chain)).await.unwrap();
    let [last] = &stored[..] else { panic!("one for each segment: {stored:?}") };
    let last = last.in_place().unwrap();
    assert_eq!((last.statement.seq, last.statement.time), (3, 1_700_000_120));
    assert!(last.is_signed_by(&[test.store.audit_key().await.unwrap().unwrap()]));
}

#[tokio::test]
async fn without_an_audit_key_every_program_says_that_nothing_is_signed() {
    let Some(test) = AuditedRegistry::with_key(super::BACKEND, false).await else { return };
    test.change(3, 1_700_000_000).await;
    assert_eq!(test.sign(1_700_000_000).await, 0);
    let head = test.audit(&["head"]).await;
    assert!(head.code == Some(1) && head.stderr.contains("has no audit key"), "{head:?}");
    let verified = test.audit(&["verify"]).await;
    assert_eq!(
        (verified.code, verified.stdout.as_str()),
        (Some(0), "read 4 events of 2 chains: 0 faults\n")
    );
    assert!(verified.stderr.contains("no head is signed"), "{verified:?}");
    let expire = test.audit(&["expire"]).await;
    assert!(expire.code == Some(1) && expire.stderr.contains("has no audit key"), "{expire:?}");
}

#[tokio::test]
async fn a_tick_signs_the_chains_that_moved_and_the_log_has_each_head() {
    let journal = Journal::start();
    let test = match super::BACKEND {
        Backend::Embedded => TestBroker::start(),
        Backend::Aws => {
            let Some(mut aws) = EmulatedAws::start().await else { return };
            aws.place.audit_key = Some(create_key(&aws).await);
            TestBroker::start_in_place(Place::Aws(Arc::new(aws)))
        }
    };
    let store = test.store().clone().for_registry(Audience::parse(HOST).unwrap());
    let test = test.over(store);
    test.store().create_audit_key().await.unwrap();
    test.grant(&role("deploy"), CHAIN, &[Download]).await;
    let tick = json!({"stile": {"internal": "tick", "v": 1}});
    for expected in [1, 0] {
        journal.taken();
        answer(&test.function(None, None), &tick).await.unwrap();
        let events = journal.taken().audit();
        let heads: Vec<_> = events.iter().filter(|event| event["event"] == "audit_head").collect();
        assert_eq!(heads.len(), expected, "{events:?}");
        let key = test.store().audit_key().await.unwrap().unwrap();
        for event in heads {
            let head = SignedHead::parse(event["head"].as_str().unwrap()).unwrap();
            assert!(head.is_signed_by(std::slice::from_ref(&key)));
            assert_eq!((&event["chain"], &event["seq"]), (&json!(CHAIN), &json!(1)));
        }
    }
}

/// Makes a chain with two segments that ended 420 days ago or earlier, and one with newer events. A
/// segment also ends when it is 30 days old.
async fn with_old_segments(test: &AuditedRegistry, now: i64) {
    for (count, at) in [(5, now - 500 * DAY), (4, now - 460 * DAY), (5, now - 420 * DAY)] {
        test.change(count, at).await;
        test.sign(at).await;
    }
}

#[tokio::test]
async fn only_whole_old_segments_expire_and_every_other_fault_is_still_found() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    with_old_segments(&test, now).await;
    let outside = test.keep_heads("heads.jsonl").await;
    let row = json!([{
        "chain": CHAIN, "from": 1, "to": 9, "segments": 2,
        "ended_at": rfc3339(now - 420 * DAY), "removed": false,
    }]);
    let would = test.audit(&["expire", "--dry-run", "--output", "json"]).await;
    assert_eq!(would.code, Some(0), "{would:?}");
    assert_eq!(serde_json::from_str::<Value>(&would.stdout).unwrap(), row);
    assert_eq!(test.verify(&[]).await.1, ["read 15 events of 2 chains: 0 faults"]);
    let nothing = test.audit(&["expire", "--audit-days", "500"]).await;
    assert!(nothing.code == Some(0) && nothing.stdout.is_empty(), "{nothing:?}");

    let mut removed = row;
    removed[0]["removed"] = true.into();
    let ran = test.audit(&["expire", "--output", "json"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), removed);
    assert_eq!(test.audit(&["expire", "--output", "json"]).await.stdout, "[]\n");
    let gone = format!("events up to 9 have expired; the last was of {}", rfc3339(now - 420 * DAY));
    let (code, lines) = test.verify(&["--head", &outside]).await;
    assert_eq!((code, faults(&lines)), (Some(0), vec![gone.as_str()]), "{lines:?}");
    // The chain of operators has the event of the expiry.
    assert_eq!(lines.last().unwrap(), "read 7 events of 2 chains: 0 faults");
    let listed = test.audit(&["--namespace", "*", "--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    let last = listed.as_array().unwrap().last().unwrap();
    assert_eq!((&last["event"], &last["decision"]), (&json!("expire"), &json!("deleted")));

    let (code, lines) = test.verify(&["--audit-days", "500"]).await;
    let young =
        format!("events up to 9 are gone, and the last was only of {}", rfc3339(now - 420 * DAY));
    assert_eq!((code, faults(&lines)), (Some(1), vec![young.as_str(), gone.as_str()]));
    test.change_event(11, "\"store\"", "\"other\"").await;
    test.remove_events([13].into_iter()).await;
    let (code, lines) = test.verify(&[]).await;
    let expected = [
        "event 11 was changed, or the hash of the one before it",
        "the events 13 to 13 are missing",
        gone.as_str(),
    ];
    assert_eq!((code, faults(&lines)), (Some(1), expected.to_vec()), "{lines:?}");
}

#[tokio::test]
async fn an_expiry_that_was_killed_is_repeated_and_two_at_once_do_the_same() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    with_old_segments(&test, now).await;
    // DynamoDB deletes a large segment in several transactions, and the kill came between two.
    test.remove_events(1..=7).await;
    let (code, lines) = test.verify(&[]).await;
    let missing = "the events 6 to 7 are missing; if an expiry was stopped, repeat `stile-admin audit expire`";
    assert_eq!((code, faults(&lines)[0]), (Some(1), missing), "{lines:?}");
    let expire = ["expire", "--output", "json"];
    let (one, two) = tokio::join!(test.audit(&expire), test.audit(&expire));
    assert_eq!((one.code, two.code), (Some(0), Some(0)), "{one:?} {two:?}");
    let (code, lines) = test.verify(&[]).await;
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(faults(&lines)[0].starts_with("events up to 9 have expired"), "{lines:?}");
}

#[tokio::test]
async fn nothing_expires_beyond_what_is_signed_or_from_a_chain_that_was_changed() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    test.change(4, now - 440 * DAY).await;
    test.change(1, now - 405 * DAY).await;
    let ran = test.audit(&["expire", "--output", "json"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "[]\n"), "nothing is signed: {ran:?}");
    test.sign(now - 405 * DAY).await;
    let would = test.audit(&["expire", "--dry-run", "--output", "json"]).await;
    assert!(would.code == Some(0) && would.stdout.contains("\"to\": 4"), "{would:?}");
    let chain = Chain::parse_stored(CHAIN).unwrap();
    // The evidence of a change stays: an event inside the segment, then also its end.
    test.change_event(2, "\"store\"", "\"other\"").await;
    for _ in 0..2 {
        let ran = test.audit(&["expire", "--output", "json"]).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "[]\n"), "{ran:?}");
        let expected = "the events up to 4 are not those that were signed";
        assert!(ran.stderr.contains(expected), "{ran:?}");
        assert_eq!(test.store.audit_page(&chain, 0, 1).await.unwrap().links[0].seq, 1);
        test.change_hash(4).await;
    }
}

#[tokio::test]
async fn an_event_with_a_wrong_time_does_not_let_young_events_expire() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    // The last event of the first segment is of 1970.
    for (count, at) in [(5, now - 90 * DAY), (1, 0), (3, now - 50 * DAY)] {
        test.change(count, at).await;
    }
    test.sign(now - 50 * DAY).await;
    let ran = test.audit(&["expire", "--output", "json"]).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "[]\n"), "{ran:?}");
    let ran = test.audit(&["expire", "--audit-days", "49", "--output", "json"]).await;
    let rows: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&rows[0]["to"], &rows[0]["ended_at"]),
        (&json!(6), &json!(rfc3339(now - 50 * DAY)))
    );
    let (code, lines) = test.verify(&[]).await;
    let young = "events up to 6 are gone, and the last was only of";
    assert!(code == Some(1) && faults(&lines)[0].starts_with(young), "{lines:?}");
}

#[tokio::test]
async fn a_chain_without_its_signed_heads_is_a_fault() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let now = system_time();
    with_old_segments(&test, now).await;
    let json = ["verify", "--output", "json", "--namespace", CHAIN];
    let signed = async || {
        let ran = test.audit(&json).await;
        serde_json::from_str::<Value>(&ran.stdout).unwrap()["signed"].clone()
    };
    assert_eq!(signed().await, true);
    // Only the signed heads are gone.
    test.cut_tail(14).await;
    let (code, lines) = test.verify(&[]).await;
    let expected = [
        "no signature is at or after event 1",
        "segment 1 ended at event 5 without a signature",
        "segment 2 ended at event 9 without a signature",
    ];
    assert_eq!((code, faults(&lines)), (Some(1), expected.to_vec()), "{lines:?}");
    assert_eq!(signed().await, false);
    // A chain that is not signed yet is no fault.
    let Some(fresh) = AuditedRegistry::new(super::BACKEND).await else { return };
    fresh.change(3, now).await;
    assert_eq!(fresh.verify(&["--namespace", CHAIN]).await.0, Some(0));
}

#[tokio::test]
async fn a_head_is_printed_only_if_the_audit_key_signed_it() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let Some(thief) = AuditedRegistry::new(super::BACKEND).await else { return };
    for (registry, count) in [(&test, 3), (&thief, 4)] {
        registry.change(count, 1_700_000_000).await;
        registry.sign(1_700_000_000).await;
    }
    let chain = Chain::parse_stored(CHAIN).unwrap();
    let forged = thief.store.signed_heads(Some(&chain)).await.unwrap();
    test.store_signed(&forged).await;
    let ran = test.audit(&["head"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!ran.stdout.contains("\"seq\":4"), "{ran:?}");
    let notice = "the audit key did not sign the signed head of event 4 of chain `acme`";
    assert!(ran.stderr.contains(notice), "{ran:?}");
}

#[tokio::test]
async fn the_owner_of_a_stolen_store_without_the_key_proves_nothing_with_a_key_of_their_own() {
    let Some(test) = AuditedRegistry::new(super::BACKEND).await else { return };
    let Some(thief) = AuditedRegistry::new(super::BACKEND).await else { return };
    test.change(3, 1_700_000_000).await;
    thief.change(3, 1_700_000_007).await;
    thief.sign(1_700_000_000).await;
    let chain = Chain::parse_stored(CHAIN).unwrap();
    let forged = thief.store.signed_heads(Some(&chain)).await.unwrap();
    test.store_signed(&forged).await;
    let (code, lines) = test.verify(&[]).await;
    assert_eq!(code, Some(1));
    let said = faults(&lines);
    assert!(
        said[0].starts_with("the signed head of event 3 has the signature of another key"),
        "{said:?}"
    );
    let key = forged[0].in_place().unwrap().key.text();
    let (code, lines) = test.verify(&["--public-key", &key]).await;
    assert_eq!(code, Some(1), "also if an operator trusts it, the chain differs: {lines:?}");
    let expired = test.store.expired_events(&operator(), &[], &chain, i64::MAX).await.unwrap();
    assert!(expired.is_err(), "without a key nothing expires");
}
