//! The previous release and the current one on one store at the same time: each reads what the
//! other writes.

use std::sync::Arc;

use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::{HOST, Place, module_zip};
use stile_tests::process::previous::Release::{self, Current, Previous};
use stile_tests::process::programs::Broker;

use super::registry::{
    Registry, arn, download, location, previous_is_built, publish, publish_source, session,
    token_id, until, versions, whoami,
};

#[tokio::test]
async fn two_releases_run_on_one_folder_at_the_same_time() {
    if !previous_is_built("two releases on one folder") {
        return;
    }
    let registry = Registry::at(Place::Folder(Arc::new(tempfile::tempdir().unwrap())));
    registry.admin(Previous, &["store", "init"]).await;
    side_by_side(&registry).await;
}

#[tokio::test]
async fn two_releases_run_on_one_table_at_the_same_time() {
    if !previous_is_built("two releases on one table") {
        return;
    }
    let Some(aws) = EmulatedAws::start_empty() else { return };
    let registry = Registry::at(Place::Aws(Arc::new(aws)));
    registry.admin(Previous, &["store", "init", "--host", HOST]).await;
    side_by_side(&registry).await;
}

/// A release, its running broker, and a name for what it makes.
struct Side<'a> {
    release: Release,
    broker: &'a Broker,
    name: &'a str,
}

async fn side_by_side(registry: &Registry) {
    // The previous release is already running when the current one opens the store.
    let old = registry.serve(Previous).await;
    let new = registry.serve(Current).await;
    let old = Side { release: Previous, broker: &old, name: "old" };
    let new = Side { release: Current, broker: &new, name: "new" };
    for (one, other) in [(&old, &new), (&new, &old)] {
        grants_tokens_and_versions_cross(registry, one, other).await;
    }
    // A broker sees a revocation within ten seconds, so both wait at the same time.
    tokio::join!(
        Box::pin(revocations_cross(registry, &old, &new)),
        Box::pin(revocations_cross(registry, &new, &old)),
    );
    let expected = ["1.0.0-new", "1.0.0-old"];
    for side in [&old, &new] {
        let reader = mint(registry, side, "reader-old").await;
        assert_eq!(versions(side.broker, &reader).await, expected, "{}", side.name);
    }
    for by in [&old, &new] {
        every_key_is_dropped(registry, by, [&old, &new]).await;
    }
    a_source_is_no_place_for_a_release_without_sources(registry, &old, &new).await;
    let expected = ["1.0.0-new", "1.0.0-old", "1.0.0-source"];
    // A broker of either release starts on what both wrote.
    for release in [Previous, Current] {
        let again = registry.serve(release).await;
        let reader = registry.exchange(&again, &session("reader-old"), &[Download]).await.unwrap();
        assert_eq!(versions(&again, &reader).await, expected, "{release:?}");
    }
}

async fn mint(registry: &Registry, side: &Side<'_>, role: &str) -> String {
    registry.exchange(side.broker, &session(role), &[Download]).await.unwrap()
}

/// The current release publishes a version with a source. The previous one cannot read it, and sends
/// clients to no other place.
async fn a_source_is_no_place_for_a_release_without_sources(
    registry: &Registry,
    old: &Side<'_>,
    new: &Side<'_>,
) {
    let (version, source) = ("1.0.0-source", "git::https://git.example.com/acme/vpc?ref=v1.0.0");
    let allow = ["namespace", "set", "acme", "--source", "git::https://git.example.com/acme"];
    registry.admin(new.release, &allow).await;
    let permissions = [Download, Upload];
    let writing =
        registry.exchange(new.broker, &session("writer-new"), &permissions).await.unwrap();
    let other = "git::https://git.example.com/other/vpc?ref=v1.0.0";
    assert_eq!(publish_source(new.broker, &writing, version, other).await, 403);
    for expected in [201, 200] {
        assert_eq!(publish_source(new.broker, &writing, version, source).await, expected);
    }
    // The previous release takes a version that it cannot read for a store that is down.
    assert_eq!(location(old.broker, &writing, version).await, Err(503));
    let zip = "application/zip";
    let taken = publish(old.broker, &writing, version, zip, module_zip("other")).await;
    assert_eq!(taken, 503, "an archive does not replace the source");
    assert_eq!(location(old.broker, &writing, version).await, Err(503));
    assert_eq!(location(new.broker, &writing, version).await, Ok(source.to_owned()));
    for side in [old, new] {
        let archive = download(side.broker, &writing, "1.0.0-new").await;
        assert_eq!(archive, Ok(module_zip("new")), "{}: other versions are served", side.name);
    }
}

/// One release grants, mints and publishes; the other mints, accepts the token and reads the
/// version.
async fn grants_tokens_and_versions_cross(registry: &Registry, one: &Side<'_>, other: &Side<'_>) {
    let (writer, reader) = (format!("writer-{}", one.name), format!("reader-{}", one.name));
    for (role, more) in [(&writer, &["--download", "--upload"][..]), (&reader, &["--download"])] {
        let arn = arn(role);
        let grant = ["grant", "create", "--role-arn", &arn, "--namespace", "acme"];
        registry.admin(one.release, &[&grant, more].concat()).await;
    }
    let permissions = [Download, Upload];
    let writing = registry.exchange(one.broker, &session(&writer), &permissions).await.unwrap();
    let reading = mint(registry, other, &reader).await;
    for (side, token) in [(other, &writing), (one, &reading)] {
        assert_eq!(whoami(side.broker, token).await, 200, "a token of the other, on {}", side.name);
    }
    let recreated = session(&writer).recreated();
    let refused = registry.exchange(other.broker, &recreated, &[Download]).await;
    assert_eq!(refused, Err("403 principal_recreated".to_owned()), "{} pinned it", one.name);

    let (version, archive) = (format!("1.0.0-{}", one.name), module_zip(one.name));
    let zip = "application/zip";
    let published = publish(one.broker, &writing, &version, zip, archive.clone()).await;
    assert_eq!(published, 201, "{version}");
    for token in [&writing, &reading] {
        assert_eq!(download(other.broker, token, &version).await, Ok(archive.clone()), "{version}");
    }
    for (archive, expected) in [(archive, 200), (module_zip("other"), 409)] {
        let again = publish(other.broker, &writing, &version, zip, archive).await;
        assert_eq!(again, expected, "{version} again, through {}", other.name);
    }

    let arn = arn(&reader);
    let grant = ["--role-arn", &arn, "--namespace", "acme"];
    registry
        .admin(other.release, &[&["grant", "update"], &grant[..], &["--expires", "1h"]].concat())
        .await;
    assert_eq!(whoami(one.broker, &reading).await, 200, "its grant has not expired");
    registry.admin(one.release, &[&["grant", "delete"], &grant[..]].concat()).await;
    let refused = registry.exchange(other.broker, &session(&reader), &[Download]).await;
    assert_eq!(refused, Err("403 no_grant".to_owned()), "{} deleted it", one.name);
    registry
        .admin(other.release, &[&["grant", "create"], &grant[..], &["--download"]].concat())
        .await;
    assert!(registry.exchange(one.broker, &session(&reader), &[Download]).await.is_ok());
}

/// One release revokes a token and a principal, and the other refuses both. The other release lifts
/// the second.
async fn revocations_cross(registry: &Registry, one: &Side<'_>, other: &Side<'_>) {
    let role = format!("revoked-by-{}", one.name);
    let arn = arn(&role);
    let grant = ["grant", "create", "--role-arn", &arn, "--namespace", "acme", "--download"];
    registry.admin(other.release, &grant).await;
    let first = mint(registry, other, &role).await;
    assert_eq!(whoami(other.broker, &first).await, 200);
    // The earlier release takes an id that begins with `-` for a flag.
    let id = token_id(other.broker, &role).await;
    registry.admin(one.release, &["token", "revoke", "--", &id]).await;
    until(200, 401, async || whoami(other.broker, &first).await).await;

    let second = mint(registry, other, &role).await;
    assert_eq!(whoami(other.broker, &second).await, 200, "only the first token is revoked");
    registry.admin(one.release, &["token", "revoke", "--principal", &arn]).await;
    let refused = registry.exchange(other.broker, &session(&role), &[Download]).await;
    assert_eq!(refused, Err("403 principal_revoked".to_owned()), "{role}");
    until(200, 401, async || whoami(other.broker, &second).await).await;
    let listed = registry.admin(other.release, &["token", "list"]).await;
    assert!(listed.contains(&format!("role/{role}")), "{listed}");
    registry.admin(other.release, &["token", "lift", "--principal", &arn]).await;
    until(401, 200, async || whoami(one.broker, &second).await).await;
    assert!(registry.exchange(one.broker, &session(&role), &[Download]).await.is_ok());
}

/// One release drops every key; no broker accepts an earlier token, and each mints one that the
/// other accepts.
async fn every_key_is_dropped(registry: &Registry, by: &Side<'_>, sides: [&Side<'_>; 2]) {
    let earlier = mint(registry, sides[0], "writer-old").await;
    // A broker looks for an unknown key once in ten seconds.
    for side in sides {
        until(401, 200, async || whoami(side.broker, &earlier).await).await;
    }
    registry.admin(by.release, &["token", "revoke", "--all", "--yes"]).await;
    for side in sides {
        until(200, 401, async || whoami(side.broker, &earlier).await).await;
    }
    for (minting, reading) in [(sides[0], sides[1]), (sides[1], sides[0])] {
        let token = mint(registry, minting, "writer-old").await;
        until(401, 200, async || whoami(reading.broker, &token).await).await;
    }
}
