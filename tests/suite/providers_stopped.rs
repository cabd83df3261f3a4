//! `stile-admin provider publish` that is killed or interrupted at any moment, and ten of it at the same
//! time.
//!
//! The moments follow from a seed, which a run prints and `STILE_TEST_SEED` sets.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use stile_protocol::names::Permission::Download;
use stile_store::Blobs;
use stile_tests::broker::{Backend, deploy};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::seed::SeededRandom;
use stile_tests::time_limits;

use super::providers_program::{Stage, key, text};
use super::providers_served::{TEN, VERSIONS, platforms};
use crate::kills_aim::moment;

/// The number of times that a publish is cut on this store. A namespace has at most 64 open uploads.
const CUTS: u32 = match super::BACKEND {
    Backend::Embedded => 40,
    Backend::Aws => 16,
};

/// The platforms of each version.
const PLATFORMS: [&str; 3] = ["darwin_arm64", "linux_amd64", "windows_amd64"];

/// Returns the platforms that a client can install, by version. Each must have its files.
async fn listed(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    let test = &stage.served.test;
    let token = test.token(&deploy(), &[Download]).await;
    let reply = test.get("/v1/providers/acme/dns/versions", &token).await;
    if reply.status == 404 {
        return BTreeMap::new();
    }
    let list = reply.json();
    let mut found = BTreeMap::new();
    for version in list["versions"].as_array().unwrap() {
        let name = version["version"].as_str().unwrap().to_owned();
        for platform in platforms(version) {
            let (os, arch) = platform.split_once('_').unwrap();
            let path = format!("/v1/providers/acme/dns/{name}/download/{os}/{arch}");
            assert_eq!(test.get(&path, &token).await.status, 200, "{path}");
        }
        assert!(found.insert(name, platforms(version)).is_none(), "{list}");
    }
    found
}

/// Writes the same release as tarballs.
fn tarballs(folder: &Path, version: &str) {
    std::fs::create_dir(folder).unwrap();
    for platform in PLATFORMS {
        let name = format!("terraform-provider-dns-v{version}-{}", platform.replace('_', "-"));
        let file = std::fs::File::create(folder.join(format!("{name}-bin.tar.gz"))).unwrap();
        let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
        let content = format!("{version} {platform}");
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        tar.append_data(&mut header, "terraform-provider-dns", content.as_bytes()).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_is_killed_or_interrupted_at_any_moment_ends_with_the_next_run() {
    let Some(mut stage) = Stage::start().await else { return };
    let mut chance = SeededRandom::new("cuts of the program that publishes providers");
    let temporary = stage.job.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    stage.job.variable("TMPDIR", temporary.clone());
    stage.done(&["keys", "add", text(&key("other.public.asc")), "--namespace", "acme"]).await;
    let (secret, host) = (key("other.asc"), stage.served.host().to_owned());
    let (mut longest, mut cut) = (Duration::ZERO, 0);
    for round in 0..=CUTS {
        let version = format!("{round}.0.0");
        let folder = if round % 4 < 2 {
            stage.dist(&version, &version, &PLATFORMS)
        } else {
            let folder = stage.job.path().join(&version);
            tarballs(&folder, &version);
            text(&folder).to_owned()
        };
        let publish = ["publish", "acme/dns", &version, &folder, "--protocol", "5.0", "--key"];
        // The manifest of the folder says the protocol already.
        let publish = if round % 4 < 2 {
            [&publish[..4], &publish[6..], &[text(&secret)]].concat()
        } else {
            [&publish[..], &[text(&secret)]].concat()
        };
        if round == 0 {
            let begun = Instant::now();
            stage.done(&publish).await;
            longest = begun.elapsed();
            continue;
        }
        let all = [&["provider"][..], &publish, &["--registry-host", &host]].concat();
        let mut command = stage.job.command(&program(ADMIN), all);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        moment(&mut chance, longest).await;
        let signal = if round % 2 == 0 { Signal::KILL } else { Signal::INT };
        let pid = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        let _has_ended = kill_process(pid, signal);
        let status = time_limits::wait(child.wait()).await.unwrap().unwrap();
        cut += u32::from(!status.success());

        let what = format!("seed {}, cut {round}", chance.seed());
        if let Some(found) = listed(&stage).await.get(&version) {
            assert_eq!(found, &PLATFORMS, "{what}");
        }
        let said = stage.done(&publish).await;
        let word = said.split(' ').next().unwrap();
        assert!(["published", "unchanged"].contains(&word), "{what}: {said}");
        let found = listed(&stage).await;
        assert_eq!(
            (found.len(), &found[&version][..]),
            (round as usize + 1, &PLATFORMS.map(str::to_owned)[..])
        );
    }
    let _ = writeln!(std::io::stderr(), "{cut} of {CUTS} signals cut a publish");
    assert!(cut > 0, "seed {}", chance.seed());
    assert_eq!(std::fs::read_dir(&temporary).unwrap().count(), 0, "no file is left");
    if let Blobs::Disk(_) = stage.served.test.store().blobs() {
        let incoming = stage.served.test.store().incoming();
        let is_empty = time_limits::wait(async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while std::fs::read_dir(&incoming).unwrap().count() > 0 {
                tick.tick().await;
            }
        });
        assert!(is_empty.await.is_some(), "a file is left in `{}`", incoming.display());
    }
}

/// Publishes several folders at the same time, each with a program of its own.
async fn publish_at_once(stage: &Stage, folders: &[(&str, String)]) {
    let secret = key("other.asc");
    let one = async |version: &str, folder: &str| {
        stage.provider(&["publish", "acme/dns", version, folder, "--key", text(&secret)]).await
    };
    let ran = join_all(folders.iter().map(|(version, folder)| one(version, folder))).await;
    assert!(ran.iter().all(|ran| ran.code == Some(0)), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_programs_at_once_publish_ten_versions_which_are_listed_in_their_order() {
    let Some(stage) = Stage::start().await else { return };
    stage.done(&["keys", "add", text(&key("other.public.asc")), "--namespace", "acme"]).await;
    let folders = VERSIONS.map(|version| (version, stage.dist(version, version, &PLATFORMS)));
    publish_at_once(&stage, &folders).await;
    let test = &stage.served.test;
    let token = test.token(&deploy(), &[Download]).await;
    let list = test.get("/v1/providers/acme/dns/versions", &token).await.json();
    let names: Vec<&Value> =
        list["versions"].as_array().unwrap().iter().map(|version| &version["version"]).collect();
    assert_eq!(names, VERSIONS);
    assert!(listed(&stage).await.values().all(|found| *found == PLATFORMS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_programs_at_once_add_ten_platforms_to_one_version() {
    let Some(stage) = Stage::start().await else { return };
    stage.done(&["keys", "add", text(&key("other.public.asc")), "--namespace", "acme"]).await;
    let folders = TEN.map(|platform| ("1.0.0", stage.dist(platform, "1.0.0", &[platform])));
    publish_at_once(&stage, &folders).await;
    assert_eq!(listed(&stage).await["1.0.0"], TEN);
    let test = &stage.served.test;
    let token = test.token(&deploy(), &[Download]).await;
    let detail = test.get("/v1/providers/acme/dns/1.0.0", &token).await.json();
    let sums = detail["sha256sums"].as_str().unwrap();
    assert_eq!(sums.lines().count(), 11, "ten archives and the manifest: {sums}");
    for (_, folder) in &folders {
        let again = stage.publish("1.0.0", folder, "other.asc").await;
        assert_eq!(again, "unchanged");
    }
}
