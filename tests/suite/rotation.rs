//! Tokens of two processes through three rotations of the keys. The broker rejects none before its
//! end, and accepts none after.
//!
//! The processes are two brokers with their own keyrings and caches over one store. The test sets
//! the time, and stops at each critical second. These are the seconds around the publication and
//! the first use of each key, the last second of each token, and the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::Value;
use stile_core::clock::rfc3339;
use stile_core::token::{ACTIVATION_DELAY, ROTATION_INTERVAL};
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::Download;
use stile_protocol::region::REGIONS;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{Backend, HOST, NOW, Place, TestBroker, deploy, role};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::document;

use crate::faults_on_disk::checked;

/// When the test mints tokens, in seconds after the next rotation is due.
const MINTS: [i64; 10] = [
    0,
    1,
    ACTIVATION_DELAY - 1,
    ACTIVATION_DELAY,
    ACTIVATION_DELAY + 1,
    3600,
    20_000,
    43_200,
    60_000,
    ROTATION_INTERVAL - 1,
];

/// The lives of tokens in seconds, in turns: the shortest, the default, and the longest.
const LIVES: [i64; 3] = [60, 3600, 43_200];

/// The number of keys that mint, one after another: three rotations.
const KEYS: i64 = 4;

/// The number of exchanges that each process has in progress at once.
const AT_ONCE: usize = 4;

/// Mints `batch` tokens at each time, in the two processes by turns. Returns the number of tokens,
/// and of those checked at their end.
async fn live_through_rotations(backend: Backend, batch: usize) -> Option<(usize, usize)> {
    let place = Place::new(backend).await?;
    let process =
        || TestBroker::start_at(HOST, 43_200, place.clone(), &REGIONS.iter().collect::<Vec<_>>());
    let (processes, identity) = ([process(), process()], deploy());
    processes[0].grant(&role("deploy"), "acme", &[Download]).await;
    processes.iter().for_each(|process| process.sts.add_identity(identity.clone()));

    let mints: BTreeSet<i64> = (0..KEYS)
        .flat_map(|key| MINTS.map(|after| NOW + key * ROTATION_INTERVAL + after))
        .collect();
    let mut stops = mints.clone();
    // Sorted by the second at which they end.
    let mut alive: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    let (mut minted, mut asked, mut minted_under) = (0, 0, BTreeSet::new());
    while let Some(now) = stops.pop_first() {
        processes.iter().for_each(|process| process.set_time(now));
        for (end, expected) in [(now + 1, 200), (now, 401)] {
            let tokens = alive.get(&end).map_or(&[][..], Vec::as_slice);
            for process in &processes {
                for token in tokens {
                    assert_eq!(
                        process.get("/v1/whoami", token).await.status.as_u16(),
                        expected,
                        "{end} at {now}"
                    );
                }
            }
            asked += tokens.len();
        }
        alive.remove(&now);
        if mints.contains(&now) {
            let each = |at: usize| {
                let (process, identity) = (&processes[at], &identity);
                let lives =
                    (0..batch).filter(move |n| n % 2 == at).map(|n| LIVES[n / 2 % LIVES.len()]);
                stream::iter(lives.map(move |life| mint(process, identity, life)))
                    .buffer_unordered(AT_ONCE)
                    .collect::<Vec<_>>()
            };
            let (mine, yours) = tokio::join!(each(0), each(1));
            for (life, token) in mine.into_iter().chain(yours) {
                minted += 1;
                minted_under.insert(key_id(&token));
                stops.extend([now + life - 1, now + life]);
                alive.entry(now + life).or_default().push(token);
            }
        }
    }
    assert!(alive.is_empty(), "the test checked each token at its end");
    assert_eq!(
        (minted_under.len(), processes[1].store().keyring().await.unwrap().revision),
        (4, 4),
        "three rotations, four keys"
    );
    Some((minted, asked))
}

/// Runs a whole exchange, with a signed proof that the STS verifies.
async fn mint(process: &TestBroker, identity: &Identity, life: i64) -> (i64, String) {
    let document = document(life, Namespaces::All, &[Download]);
    let reply = process.exchange(&process.proof(identity).document(&document).build()).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    (life, reply.json()["token"].as_str().unwrap().to_owned())
}

/// Returns the key id in a token.
fn key_id(token: &str) -> String {
    let footer = URL_SAFE_NO_PAD.decode(token.rsplit('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&footer).unwrap()["kid"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn ten_thousand_tokens_of_two_processes_live_to_their_own_end_through_three_rotations() {
    assert_eq!(live_through_rotations(Backend::Embedded, 250).await, Some((10_000, 20_000)));
}

#[tokio::test]
async fn on_aws_two_hundred_and_forty_do() {
    let Some(counted) = live_through_rotations(Backend::Aws, 6).await else { return };
    assert_eq!(counted, (240, 480));
}

/// Starts one broker with a clock that is ahead, and then serves three days with a correct clock.
/// Returns `None` if the machine lacks a tool.
async fn rotate_after_a_clock_was_ahead(backend: Backend, jump: i64) -> Option<()> {
    let place = Place::new(backend).await?;
    let process =
        || TestBroker::start_at(HOST, 43_200, place.clone(), &REGIONS.iter().collect::<Vec<_>>());
    let (ahead, right, identity) = (process(), process(), deploy());
    right.grant(&role("deploy"), "acme", &[Download]).await;
    right.sts.add_identity(identity.clone());
    let mut minted_under = vec![key_id(&mint(&right, &identity, 3600).await.1)];

    ahead.set_time(NOW + jump);
    assert_eq!(ahead.get_anonymously("/readyz").await.status, 200);
    let keyring = right.store().keyring().await.unwrap();
    assert_eq!(keyring.keys_from_the_future(NOW).count(), 1, "{jump}");

    let journal = Journal::start();
    for day in 1..4 {
        let now = NOW + day * ROTATION_INTERVAL;
        right.set_time(now);
        let (_, before) = mint(&right, &identity, 3600).await;
        assert_eq!(Some(&key_id(&before)), minted_under.last(), "day {day}");
        right.set_time(now + ACTIVATION_DELAY);
        let (_, token) = mint(&right, &identity, 3600).await;
        assert!(!minted_under.contains(&key_id(&token)), "day {day} has its own key");
        minted_under.push(key_id(&token));
        assert_eq!(right.get("/v1/whoami", &before).await.status, 200, "day {day}");
        let ready = right.get_anonymously("/readyz").await.json();
        assert_eq!(
            (&ready["status"], &ready["key_age"]),
            (&"ready".into(), &ACTIVATION_DELAY.into())
        );
    }
    let log = journal.taken().json.text;
    let alarms: Vec<_> =
        log.lines().filter(|line| line.contains(r#""alarm":"key_from_the_future""#)).collect();
    // The revision of the other broker, and the three of this one.
    assert_eq!(alarms.len(), 4, "one for each new revision of the keyring: {log}");
    assert!(alarms.iter().all(|line| line.contains("the clock of this broker")), "{log}");
    Some(())
}

#[tokio::test]
async fn after_a_start_with_a_clock_that_is_ahead_keys_rotate_each_day_and_the_alarm_is_raised() {
    for days in [5, 40, 4000] {
        rotate_after_a_clock_was_ahead(Backend::Embedded, days * ROTATION_INTERVAL).await.unwrap();
    }
}

#[tokio::test]
async fn on_aws_they_do_too() {
    rotate_after_a_clock_was_ahead(Backend::Aws, 40 * ROTATION_INTERVAL).await;
}

/// Lets the clock of one broker jump ahead twice, while another one has a correct clock. Returns
/// `None` if the machine lacks a tool.
async fn jump_twice(backend: Backend) -> Option<()> {
    let place = Place::new(backend).await?;
    let process =
        || TestBroker::start_at(HOST, 43_200, place.clone(), &REGIONS.iter().collect::<Vec<_>>());
    let (ahead, right, identity) = (process(), process(), deploy());
    right.grant(&role("deploy"), "acme", &[Download]).await;
    right.sts.add_identity(identity.clone());
    let (life, token) = mint(&right, &identity, 43_200).await;
    for days in [40, 41] {
        ahead.set_time(NOW + days * ROTATION_INTERVAL);
        assert_eq!(ahead.get_anonymously("/readyz").await.status, 200);
    }
    let keyring = right.store().keyring().await.unwrap();
    assert_eq!(keyring.keys_from_the_future(NOW).count(), 2);
    for (now, expected) in [(NOW + life - 1, 200), (NOW + life, 401)] {
        right.set_time(now);
        assert_eq!(right.get("/v1/whoami", &token).await.status, expected, "{backend:?}");
    }
    Some(())
}

#[tokio::test]
async fn two_jumps_of_a_clock_end_no_token_early() {
    jump_twice(Backend::Embedded).await.unwrap();
}

#[tokio::test]
async fn on_aws_two_jumps_end_no_token_early() {
    jump_twice(Backend::Aws).await;
}

#[tokio::test]
async fn the_check_names_a_key_from_the_future_and_the_age_of_the_key_that_mints() {
    let data = Arc::new(tempfile::tempdir().unwrap());
    let test = TestBroker::start_at(HOST, 43_200, Place::Folder(Arc::clone(&data)), &[]);
    let real = system_time();
    test.set_time(real);
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    let (is_well, said) = checked(data.path());
    let from = format!("ok      keyring, whose key is from {}", rfc3339(real));
    assert!(is_well && said.contains(&from), "{said}");

    test.set_time(real + 40 * ROTATION_INTERVAL);
    assert_eq!(test.get_anonymously("/readyz").await.status, 200);
    let (is_well, said) = checked(data.path());
    assert!(!is_well && said.contains("another key is from the future"), "{said}");
    assert!(said.contains("stile-admin token revoke --all"), "{said}");
}
