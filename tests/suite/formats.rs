//! Formats of the store across releases. The programs reject a newer format, stores of earlier
//! releases continue to work, and two releases run on one store at the same time.

mod fixture;
mod helpers;
mod make;
mod registry;
mod side_by_side;
mod trusts;

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stile_protocol::names::Permission::{Download, Upload};
use stile_protocol::region::REGIONS;
use stile_store::{LimitChange, LimitsSet, Store};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::kept_events::kept_events;
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::{ACCOUNT, HOST, Place, TestBroker, module_zip};
use stile_tests::process::previous::Release;
use stile_tests::process::programs::{ADMIN, BROKER};
use stile_tests::sts::identity::Identity;
use stile_tests::sts::proof::Proof;
use stile_tests::time_limits;

use self::fixture::{OTHER_ACCOUNT, PINNED_ID};
use self::registry::{Registry, arn, download, publish, session, until, versions, whoami};

/// The release under test.
const NEW: Release = Release::Current;

/// How `stile-broker serve` starts in these tests.
const SERVE: [&str; 5] = ["serve", "--host", HOST, "--listen", "127.0.0.1:0"];

#[tokio::test]
async fn both_programs_refuse_a_folder_of_a_newer_format_and_name_both_versions() {
    let data = Arc::new(tempfile::tempdir().unwrap());
    let registry = Registry::at(Place::Folder(Arc::clone(&data)));
    registry.admin(NEW, &["store", "init"]).await;
    let database = rusqlite::Connection::open(data.path().join("stile.sqlite3")).unwrap();
    let known: i64 = database.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    for (program, arguments) in [(BROKER, &SERVE[..]), (ADMIN, &["grant", "list"])] {
        let ran = registry.run(NEW, program, arguments).await;
        let said = ran.words();
        assert_ne!(ran.code, Some(0), "{program}");
        for part in ["format 99", &known.to_string(), "hint: run a newer release"] {
            assert!(said.contains(part), "{program}: {said}");
        }
    }
}

#[tokio::test]
async fn both_programs_refuse_an_item_of_a_newer_format_and_name_both_versions() {
    let Some(aws) = EmulatedAws::start().await else { return };
    let (table, aws) = (aws.place.table.clone(), Arc::new(aws));
    let registry = Registry::at(Place::Aws(Arc::clone(&aws)));
    for role in ["writer", "reader"] {
        let grant =
            ["grant", "create", "--role-arn", &arn(role), "--namespace", "acme", "--download"];
        registry.admin(NEW, &grant).await;
    }
    let key = format!("principal aws:{ACCOUNT}:role/writer");
    let newer = async |pk: &str, sk: &str| {
        let key = json!({ "pk": { "S": pk }, "sk": { "S": sk } });
        let mut item = aws.dynamodb("GetItem", json!({ "Key": key })).await["Item"].clone();
        assert_eq!(item["v"]["N"], "1", "{pk}: {item}");
        item["v"] = json!({ "N": "99" });
        aws.dynamodb("PutItem", json!({ "Item": item })).await;
    };
    let broker = registry.serve(NEW).await;
    newer(&key, "grants").await;
    let sentence = |key: &str| {
        format!(
            "item `{key}` of table `{table}` has format 99, and this program reads formats up to 1; hint: run a newer release"
        )
    };
    let ran = registry.run(NEW, ADMIN, &["grant", "list", "--principal", &arn("writer")]).await;
    assert!(ran.code == Some(2) && ran.words().contains(&sentence(&key)), "{}", ran.words());
    let refused = registry.exchange(&broker, &session("writer"), &[Download]).await;
    assert_eq!(refused, Err("500 internal".to_owned()));
    until(false, true, async || broker.log().contains(&sentence(&key))).await;
    let other = registry.exchange(&broker, &session("reader"), &[Download]).await;
    assert!(other.is_ok(), "other items are read: {other:?}");

    registry.admin(NEW, &["store", "init", "--host", HOST]).await;
    newer("host", "host").await;
    let ran = registry.run(NEW, BROKER, &SERVE).await;
    assert!(ran.code == Some(1) && ran.words().contains(&sentence("host")), "{}", ran.words());
}

#[tokio::test]
async fn grants_pins_revocations_and_tokens_in_a_folder_of_an_earlier_release_are_in_force() {
    for release in fixture::releases() {
        in_force(&release, Place::Folder(fixture::folder(&release)), "folder").await;
    }
}

#[tokio::test]
async fn grants_pins_revocations_and_tokens_in_a_table_of_an_earlier_release_are_in_force() {
    for release in fixture::releases() {
        let Some(aws) = fixture::table(&release).await else { return };
        in_force(&release, Place::Aws(aws), "table").await;
    }
}

#[tokio::test]
async fn a_folder_of_an_earlier_release_is_brought_to_the_current_format_and_goes_on() {
    for release in fixture::releases() {
        let registry = Registry::at(Place::Folder(fixture::folder(&release)));
        let log = goes_on(&registry, &release, "folder").await;
        let line = log.lines().find(|line| line.contains("this program's format"));
        let line =
            line.unwrap_or_else(|| panic!("{release}: no line says what the broker did:\n{log}"));
        assert!(line.contains("from=0") && line.contains(" to="), "{release}: {line}");
    }
}

#[tokio::test]
async fn a_folder_of_an_earlier_release_is_backed_up_without_a_migration_and_restored() {
    for release in fixture::releases() {
        let (data, out) = (fixture::folder(&release), tempfile::tempdir().unwrap());
        let (out, limits) = (out.path().join("backup"), time_limits::embedded());
        let done =
            Store::back_up_folder(&operator(), data.path(), &out, limits, 0, |_| {}).await.unwrap();
        assert!(done.format == 0 && done.archives > 0, "{release}: {done:?}");
        let pending = Store::pending_migration(data.path(), limits).unwrap();
        assert_eq!(pending.from, 0, "{release}: the data folder is as it was");
        let new = out.with_file_name("new");
        Store::restore_folder(&operator(), &out, &new, &kept(0), |_| {}).await.unwrap();
        let restored = Store::open_folder(&new, limits).unwrap();
        assert_eq!(restored.as_operator().leftovers().await.unwrap(), [], "{release}");
        assert!(!restored.as_operator().grants(None, None).await.unwrap().is_empty(), "{release}");
    }
}

#[tokio::test]
async fn a_table_of_an_earlier_release_goes_on() {
    for release in fixture::releases() {
        let Some(aws) = fixture::table(&release).await else { return };
        goes_on(&Registry::at(Place::Aws(aws)), &release, "table").await;
    }
}

#[tokio::test]
async fn a_limit_counts_the_versions_in_a_folder_and_in_a_table_of_an_earlier_release() {
    for release in fixture::releases() {
        limited(&release, Place::Folder(fixture::folder(&release)), "folder").await;
        let Some(aws) = fixture::table(&release).await else { return };
        limited(&release, Place::Aws(aws), "table").await;
    }
}

/// Sets limits of the namespace in a store of an earlier release, and publishes up to them.
async fn limited(release: &str, place: Place, kind: &str) {
    let what = format!("{release} {kind}");
    let test = TestBroker::start_at(HOST, 3600, place, &REGIONS.iter().collect::<Vec<_>>());
    test.set_time(fixture::facts(release, kind)["made_at"].as_i64().unwrap() + 60);
    let token = test.token(&session("writer"), &[Download, Upload]).await;
    let set = async |max_bytes, max_versions| {
        let store = test.store().as_operator();
        match store.set_limits("acme", max_bytes, max_versions, test.time()).await.unwrap() {
            LimitsSet::Done { usage, .. } => usage.unwrap(),
            LimitsSet::Absent => panic!("{what}: the namespace exists"),
        }
    };
    let publish = async |version: &str| {
        test.publish("acme/vpc/aws", version, module_zip("next"), &token).await.status.as_u16()
    };
    let used = set(LimitChange::Unlimited, LimitChange::At(2)).await;
    assert!(used.versions == 2 && used.bytes > 0, "{what}: {used:?}");
    assert_eq!(publish("3.0.0").await, 413, "{what}: two versions exist");
    set(LimitChange::At(used.bytes), LimitChange::Unlimited).await;
    assert_eq!(publish("3.0.0").await, 413, "{what}: their bytes count");
    set(LimitChange::Unlimited, LimitChange::At(3)).await;
    assert_eq!((publish("3.0.0").await, publish("3.0.1").await), (201, 413), "{what}");
}

/// Checks who has access, first a minute after the release wrote the store, then after a grant has
/// expired.
async fn in_force(release: &str, place: Place, kind: &str) {
    let facts = fixture::facts(release, kind);
    let made_at = facts["made_at"].as_i64().unwrap();
    let test = TestBroker::start_at(HOST, 3600, place, &REGIONS.iter().collect::<Vec<_>>());
    let exchange = async |identity: Identity| {
        test.sts.add_identity(identity.clone());
        let reply = test.exchange(&Proof::build(&test.proof(&identity))).await;
        if reply.status == 200 { "200".to_owned() } else { reply.error() }
    };
    let with_token = async |name: &str| {
        let token = facts["tokens"][name].as_str().unwrap();
        test.get("/v1/whoami", token).await.status.as_u16()
    };

    test.set_time(made_at + 60);
    for refused in ["revoked", "of_a_revoked_principal"] {
        assert_eq!(with_token(refused).await, 401, "{release} {kind}: {refused}");
    }
    let with_id = |role: &str, id: &str| {
        let arn = format!("arn:aws:sts::{ACCOUNT}:assumed-role/{role}/test");
        Identity::temporary(ACCOUNT, arn, format!("{id}:test"))
    };
    let bob = Identity::user(ACCOUNT, "bob");
    for (identity, expected, why) in [
        (session("stranger"), "403 no_grant", "no grant"),
        (session("gone"), "403 principal_revoked", "revoked"),
        (session("writer").recreated(), "403 principal_recreated", "pinned by its first token"),
        (session("pinned"), "403 principal_recreated", "pinned by its grant"),
        (with_id("pinned", PINNED_ID), "200", "has the pinned id"),
        (session("writer"), "200", "has the id of its first token"),
        (bob.clone(), "200", "has a grant"),
        (bob.recreated(), "200", "has no pin"),
        (session("reader"), "200", "its grant has not expired"),
        (session("auditor"), "200", "has a grant on all namespaces"),
        (Identity::role(OTHER_ACCOUNT, "any", "test"), "200", "its account has a grant"),
    ] {
        assert_eq!(exchange(identity).await, expected, "{release} {kind}: {why}");
    }
    for name in ["writer", "reader", "auditor"] {
        assert_eq!(with_token(name).await, 200, "{release} {kind}: {name}");
    }
    test.set_time(made_at + 3600);
    assert_eq!(exchange(session("reader")).await, "403 no_grant", "{release} {kind}: expired");
}

/// Serves the store with the current programs, reads and changes it; returns the log.
async fn goes_on(registry: &Registry, release: &str, kind: &str) -> String {
    let facts = fixture::facts(release, kind);
    let broker = registry.serve(NEW).await;
    let listed = registry.admin(NEW, &["grant", "list", "--output", "json"]).await;
    let mut listed: Value = serde_json::from_str(&listed).unwrap();
    // A newer release may list more about a grant.
    for (listed, written) in
        listed.as_array_mut().unwrap().iter_mut().zip(facts["grants"].as_array().unwrap())
    {
        listed.as_object_mut().unwrap().retain(|name, _| written.get(name).is_some());
    }
    assert_eq!(listed, facts["grants"], "{release} {kind}");
    let revoked = registry.admin(NEW, &["token", "list"]).await;
    assert!(revoked.contains(&format!("aws:{ACCOUNT}:role/gone")), "{release} {kind}: {revoked}");

    let mint = async |role: &str, upload: bool| {
        let permissions = if upload { &[Download, Upload][..] } else { &[Download] };
        registry.exchange(&broker, &session(role), permissions).await
    };
    let (writer, auditor) =
        (mint("writer", true).await.unwrap(), mint("auditor", false).await.unwrap());
    let as_published = async |token: &str| {
        for (version, sha256) in facts["archives"].as_object().unwrap() {
            let bytes = download(&broker, token, version).await;
            let bytes =
                bytes.unwrap_or_else(|status| panic!("{release} {kind} {version}: {status}"));
            let found = hex::encode(Sha256::digest(&bytes));
            assert_eq!(found, sha256.as_str().unwrap(), "{release} {kind}: {version}");
        }
    };
    as_published(&auditor).await;
    assert_eq!(versions(&broker, &auditor).await, ["1.0.0", "1.1.0"], "{release} {kind}");

    let zip = "application/zip";
    let other = publish(&broker, &writer, "1.0.0", zip, module_zip("other")).await;
    assert_eq!(other, 409, "{release} {kind}: a version never changes");
    let same = download(&broker, &writer, "1.0.0").await.unwrap();
    let same = publish(&broker, &writer, "1.0.0", zip, same).await;
    assert_eq!(same, 200, "{release} {kind}: the same bytes are the same version");
    let published = publish(&broker, &writer, "2.0.0", zip, module_zip("the next version")).await;
    assert_eq!(published, 201, "{release} {kind}");
    let grant = ["grant", "create", "--role-arn", &arn("new"), "--namespace", "acme", "--download"];
    registry.admin(NEW, &grant).await;
    let new = mint("new", false).await.unwrap();
    assert_eq!(versions(&broker, &new).await, ["1.0.0", "1.1.0", "2.0.0"], "{release} {kind}");
    assert_eq!(download(&broker, &new, "2.0.0").await, Ok(module_zip("the next version")));
    as_published(&new).await;

    registry.admin(NEW, &["token", "lift", "--principal", &arn("gone")]).await;
    assert!(mint("gone", false).await.is_ok(), "{release} {kind}: an old revocation can be lifted");
    registry.admin(NEW, &["token", "revoke", "--principal", &arn("writer")]).await;
    until(200, 401, async || whoami(&broker, &writer).await).await;
    registry.admin(NEW, &["token", "revoke", "--all", "--yes"]).await;
    until(200, 401, async || whoami(&broker, &new).await).await;
    let again = mint("new", false).await.unwrap();
    assert_eq!(whoami(&broker, &again).await, 200, "{release} {kind}: a new key follows");
    let kept = kept_events(&registry.store()).await;
    let kinds = |chain: &str| -> Vec<&str> {
        kept[chain].iter().map(|event| event["event"].as_str().unwrap()).collect()
    };
    assert_eq!(kinds("acme"), ["publish", "grant"], "{release} {kind}");
    assert_eq!(kinds("*"), ["lift", "revoke", "key"], "{release} {kind}");
    broker.log()
}
