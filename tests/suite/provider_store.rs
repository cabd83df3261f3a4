//! Properties of every store: versions of providers that grow, signing keys, and files that wait.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde_json::{Value, json};
use stile_broker::app::authorize::{Bearer, authenticate};
use stile_core::audit::{Event, Kind};
use stile_core::grants::{Download as DownloadRight, PackageAccess, Right, Upload as UploadRight};
use stile_core::package::archive::ArchiveLimits;
use stile_core::package::provider::{KeyAdded, KeyId, Platform, SignerError, SigningKey, Sums};
use stile_core::package::{ArchiveUpload, Explanation, LifeChange, Version};
use stile_protocol::names::Permission::{Download, Upload};
use stile_store::{
    BegunProviderUpload, KeyRetired, LifeChanged, LimitChange, PendingProviderUpload,
    ProviderCompletion, ProviderManifest, ProviderSession, Published, QuotaExceeded,
    SessionFileState, VerificationTurn,
};
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::{Backend, NOW, TestBroker, deploy, role};
use stile_tests::provider::dist::{ProviderDist, SignedDist};
use stile_tests::provider::gnupg::{GnuPg, PublisherKey};

const SHOWS: &str = "that a store keeps what GnuPG signed";

/// A publisher of the provider `acme/dns`.
struct Publisher<'a> {
    test: &'a TestBroker,
    bearer: Bearer,
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn manifest(signed: &SignedDist, key: &PublisherKey<'_>) -> ProviderManifest {
    let provider_type = signed.dist.kind.parse().unwrap();
    let bytes = signed.dist.zips.iter();
    ProviderManifest {
        sums: Sums::parse(&signed.sums, &provider_type, &version(&signed.dist.version)).unwrap(),
        signature: signed.signature.clone(),
        key_id: KeyId::parse(key.id()).unwrap(),
        protocols: vec!["5.0".parse().unwrap()],
        manifest: Some(signed.dist.manifest()),
        bytes: bytes.map(|(of, zip)| (of.parse().unwrap(), zip.len() as u64)).collect(),
        claimed: None,
    }
}

impl<'a> Publisher<'a> {
    async fn new(test: &'a TestBroker) -> Self {
        test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
        let token = SecretString::from(test.token(&deploy(), &[Download, Upload]).await);
        let mut event = Event::new(Kind::Publish);
        let bearer = authenticate(&test.broker, Some(&token), None, &mut event).await.unwrap();
        Self { test, bearer }
    }

    fn access<R: Right>(&self) -> PackageAccess<R> {
        self.bearer.provider("acme", "dns", &mut Event::new(Kind::Publish)).unwrap()
    }

    async fn add_key(&self, key: &PublisherKey<'_>) -> KeyAdded {
        let access = operator().key_access("acme".parse().unwrap());
        let key = SigningKey::parse(&key.armor, NOW).unwrap();
        self.test.store().add_signing_key(&access, &key, &kept(NOW)).await.unwrap()
    }

    async fn retire(&self, key: &PublisherKey<'_>, compromised: bool) -> KeyRetired {
        let access = operator().key_access("acme".parse().unwrap());
        let id = KeyId::parse(key.id()).unwrap();
        let store = self.test.store();
        store.retire_signing_key(&access, &id, compromised, &kept(NOW)).await.unwrap()
    }

    async fn begin(&self, signed: &SignedDist, key: &PublisherKey<'_>) -> BegunProviderUpload {
        let (access, manifest) = (self.access::<UploadRight>(), manifest(signed, key));
        let version = version(&signed.dist.version);
        let store = self.test.store();
        store.begin_provider_upload(&access, &version, &manifest, NOW).await.unwrap()
    }

    async fn session(&self, signed: &SignedDist, key: &PublisherKey<'_>) -> ProviderSession {
        match self.begin(signed, key).await {
            BegunProviderUpload::Session(session) => session,
            other => panic!("{other:?}"),
        }
    }

    async fn pending(&self, signed: &SignedDist, of: &ProviderSession) -> PendingProviderUpload {
        let (access, version) = (self.access::<UploadRight>(), version(&signed.dist.version));
        let found = self.test.store().provider_upload(&access, &version, &of.id, NOW).await;
        found.unwrap().unwrap()
    }

    /// Verifies the file of a platform, as the broker does.
    async fn verify(&self, signed: &SignedDist, pending: &PendingProviderUpload, platform: &str) {
        let store = self.test.store();
        let name = signed.dist.zip_name(platform);
        let turn = match store.begin_verification(pending, &name, true, NOW).await.unwrap() {
            VerificationTurn::Taken(turn) => turn,
            VerificationTurn::Verified => return,
            other => panic!("another has the turn for {name}: {other:?}"),
        };
        let mut upload = ArchiveUpload::start_provider(&store.incoming()).unwrap();
        upload.write(&signed.dist.zips[platform]).await.unwrap();
        let (kind, of): (_, Platform) =
            (signed.dist.kind.parse().unwrap(), platform.parse().unwrap());
        let file = upload.verify_provider(&kind, &of, ArchiveLimits::provider()).await.unwrap();
        assert_eq!(store.put_provider_file(pending, &name, file, NOW).await.unwrap(), None);
        store.end_verification(turn, None).await;
    }

    async fn complete(&self, pending: PendingProviderUpload) -> ProviderCompletion {
        let access = self.access::<UploadRight>();
        let store = self.test.store();
        store.complete_provider_upload(&access, pending, &[], &kept(NOW)).await.unwrap()
    }

    /// Publishes a version with all of its files.
    async fn publish(&self, signed: &SignedDist, key: &PublisherKey<'_>) -> ProviderCompletion {
        let session = self.session(signed, key).await;
        let pending = self.pending(signed, &session).await;
        for platform in signed.dist.zips.keys() {
            self.verify(signed, &pending, platform).await;
        }
        self.complete(pending).await
    }

    async fn document(&self) -> Value {
        let access = self.access::<DownloadRight>();
        let document = self.test.store().versions_document(&access).await.unwrap();
        document.map_or(Value::Null, |document| serde_json::from_slice(&document).unwrap())
    }

    async fn listed(&self) -> Vec<(String, usize)> {
        let document = self.document().await;
        let entries = document["versions"].as_array().cloned().unwrap_or_default();
        let entry = |entry: Value| {
            let platforms = entry["platforms"].as_array().unwrap().len();
            (entry["version"].as_str().unwrap().to_owned(), platforms)
        };
        entries.into_iter().map(entry).collect()
    }

    async fn warnings(&self) -> Vec<String> {
        let document = self.document().await;
        let warnings = document["warnings"].as_array().unwrap().iter();
        warnings.map(|warning| warning.as_str().unwrap().to_owned()).collect()
    }

    async fn change(&self, of: &str, change: LifeChange) -> LifeChanged {
        let access = self.access::<UploadRight>();
        let store = self.test.store();
        store.change_life(&access, &version(of), &change, &[], &kept(NOW)).await.unwrap()
    }
}

fn dist(version: &str, platforms: &[&str]) -> ProviderDist {
    ProviderDist::new("dns", version, platforms)
}

const CREATED: ProviderCompletion = ProviderCompletion::Published(Published::Created);
const GREW: ProviderCompletion = ProviderCompletion::Published(Published::Replaced);

#[tokio::test]
async fn a_version_appears_whole_and_grows_by_platforms_whose_old_lines_stay() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    let first = dist("1.0.0", &["linux_amd64", "darwin_arm64"]).signed(&key);
    let session = publisher.session(&first, &key).await;
    let pending = publisher.pending(&first, &session).await;
    publisher.verify(&first, &pending, "linux_amd64").await;
    let missing = vec![first.dist.zip_name("darwin_arm64")];
    assert_eq!(
        publisher.complete(publisher.pending(&first, &session).await).await,
        ProviderCompletion::Signer(SignerError::NoKeys)
    );
    assert_eq!(publisher.add_key(&key).await, KeyAdded::Added);
    assert_eq!(publisher.add_key(&key).await, KeyAdded::Unchanged);
    assert_eq!(publisher.complete(pending).await, ProviderCompletion::Missing(missing));
    assert_eq!(publisher.document().await, Value::Null, "nothing is half listed");
    let leftovers = test.store().as_operator().leftovers().await.unwrap();
    assert_eq!(leftovers, [], "a refused completion leaves nothing");
    // A later session resumes, because the verified file waits.
    let session = publisher.session(&first, &key).await;
    let states: BTreeMap<_, _> = session
        .files
        .iter()
        .map(|file| (file.platform.to_string(), file.state == SessionFileState::Verified))
        .collect();
    assert_eq!(
        states,
        [("darwin_arm64".to_owned(), false), ("linux_amd64".to_owned(), true)].into()
    );
    assert_eq!(publisher.publish(&first, &key).await, CREATED);
    assert_eq!(publisher.begin(&first, &key).await, BegunProviderUpload::Same);
    assert_eq!(publisher.listed().await, [("1.0.0".to_owned(), 2)]);

    let lacking = dist("1.0.0", &["linux_amd64", "windows_amd64"]).signed(&key);
    let stale = BegunProviderUpload::Stale(vec!["darwin_arm64".parse().unwrap()]);
    assert_eq!(publisher.begin(&lacking, &key).await, stale);
    let mut other = dist("1.0.0", &["linux_amd64", "darwin_arm64"]);
    let bytes = dist("9.9.9", &["linux_amd64"]).zips["linux_amd64"].clone();
    other.zips.insert("linux_amd64".to_owned(), bytes);
    let different = BegunProviderUpload::Different("linux_amd64".parse().unwrap());
    assert_eq!(publisher.begin(&other.signed(&key), &key).await, different);

    let all = dist("1.0.0", &["linux_amd64", "darwin_arm64", "windows_amd64"]).signed(&key);
    assert_eq!(publisher.publish(&all, &key).await, GREW);
    assert_eq!(publisher.listed().await, [("1.0.0".to_owned(), 3)]);
    let access = publisher.access::<DownloadRight>();
    let found = test.store().provider_release(&access, &version("1.0.0")).await.unwrap().unwrap();
    assert_eq!((found.release.sums.text, found.release.files.len()), (all.sums, 3));
    assert!(found.release.files.values().all(|file| file.h1.starts_with("h1:")));
    assert_eq!(test.store().as_operator().package_faults().await.unwrap(), []);
    // Only a bucket has the list that the last one replaced, for clients that still have its URL.
    let leftovers = test.store().as_operator().leftovers().await.unwrap();
    let is_list = |key: &str| key.contains("SHA256SUMS");
    assert!(leftovers.iter().all(|one| is_list(&one.archive)), "{leftovers:?}");
    assert_eq!(leftovers.is_empty(), super::BACKEND == Backend::Embedded, "{leftovers:?}");
    let absent = test.store().provider_release(&access, &version("2.0.0")).await.unwrap();
    assert!(absent.is_none());
}

#[tokio::test]
async fn a_file_that_one_request_verifies_is_not_verified_twice_at_once() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    let signed = dist("1.0.0", &["linux_amd64"]).signed(&key);
    let session = publisher.session(&signed, &key).await;
    let pending = publisher.pending(&signed, &session).await;
    let (store, name) = (test.store(), signed.dist.zip_name("linux_amd64"));
    let begin = async |now| store.begin_verification(&pending, &name, false, now).await.unwrap();
    let VerificationTurn::Taken(turn) = begin(NOW).await else { panic!("the first has it") };
    assert!(matches!(begin(NOW + 119).await, VerificationTurn::InProgress));
    store.end_verification(turn, None).await;
    let VerificationTurn::Taken(lost) = begin(NOW).await else { panic!("it was given back") };
    assert!(matches!(begin(NOW + 120).await, VerificationTurn::Taken(_)), "it ended by itself");
    // The holder that was too slow takes it from nobody.
    store.end_verification(lost, None).await;
    assert!(matches!(begin(NOW + 121).await, VerificationTurn::InProgress));
}

#[tokio::test]
async fn a_session_gets_the_reason_of_a_refusal_that_its_client_did_not_wait_for() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    let signed = dist("1.0.0", &["linux_amd64"]).signed(&key);
    let (store, name) = (test.store(), signed.dist.zip_name("linux_amd64"));
    let session = publisher.session(&signed, &key).await;
    let pending = publisher.pending(&signed, &session).await;
    let other = publisher.session(&signed, &key).await;
    let other = publisher.pending(&signed, &other).await;
    let begin = async |of: &PendingProviderUpload, is_received| {
        store.begin_verification(of, &name, is_received, NOW).await.unwrap()
    };
    let refuse = async |turn| {
        let VerificationTurn::Taken(turn) = turn else { panic!("{turn:?}") };
        store.end_verification(turn, Some("the archive has no provider".to_owned())).await;
    };
    refuse(begin(&pending, false).await).await;
    match begin(&pending, false).await {
        VerificationTurn::Refused(problem) => assert_eq!(problem, "the archive has no provider"),
        other => panic!("{other:?}"),
    }
    // The next request verifies again, and so do a file that is sent again and another session.
    refuse(begin(&pending, false).await).await;
    refuse(begin(&pending, true).await).await;
    assert!(matches!(begin(&other, false).await, VerificationTurn::Taken(_)));
}

#[tokio::test]
async fn ten_versions_and_ten_platforms_at_once_are_all_there_or_stale() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    publisher.add_key(&key).await;
    let versions: Vec<String> = (0..9).map(|n| format!("1.{n}.0")).collect();
    let signed: Vec<_> = versions
        .iter()
        .map(String::as_str)
        .chain(["1.10.0-rc.1"])
        .map(|version| dist(version, &["linux_amd64"]).signed(&key))
        .collect();
    let done =
        futures_util::future::join_all(signed.iter().map(|it| publisher.publish(it, &key))).await;
    assert!(done.iter().all(|done| *done == CREATED), "{done:?}");
    let expected: Vec<_> =
        versions.into_iter().chain(["1.10.0-rc.1".to_owned()]).map(|it| (it, 1)).collect();
    assert_eq!(publisher.listed().await, expected);

    // Each of these lists has its own platform only, so one of them wins, and the others are stale.
    let platforms = ["linux_386", "linux_arm", "linux_arm64", "freebsd_amd64", "darwin_amd64"];
    let signed: Vec<_> = platforms.iter().map(|of| dist("2.0.0", &[*of]).signed(&key)).collect();
    let mut sessions = Vec::new();
    for (signed, platform) in signed.iter().zip(platforms) {
        let session = publisher.session(signed, &key).await;
        let pending = publisher.pending(signed, &session).await;
        publisher.verify(signed, &pending, platform).await;
        sessions.push(pending);
    }
    let done =
        futures_util::future::join_all(sessions.into_iter().map(|it| publisher.complete(it))).await;
    let count = |of: fn(&ProviderCompletion) -> bool| done.iter().filter(|done| of(done)).count();
    assert_eq!(count(|done| *done == CREATED), 1, "{done:?}");
    assert_eq!(count(|done| matches!(done, ProviderCompletion::Stale(_))), 4, "{done:?}");
    assert_eq!(test.store().as_operator().package_faults().await.unwrap(), []);
}

#[tokio::test]
async fn a_compromised_key_is_named_in_a_warning_until_another_key_signs_the_version() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let publisher = Publisher::new(&test).await;
    let (stolen, next) = (gnupg.key("stolen"), gnupg.key("next"));
    assert_eq!(publisher.retire(&stolen, true).await, KeyRetired::Absent);
    for key in [&stolen, &next] {
        publisher.add_key(key).await;
    }
    let of = |version: &str, key| dist(version, &["linux_amd64"]).signed(key);
    assert_eq!(publisher.publish(&of("1.0.0", &stolen), &stolen).await, CREATED);
    assert_eq!(publisher.publish(&of("2.0.0", &next), &next).await, CREATED);
    let begun = publisher.session(&of("3.0.0", &stolen), &stolen).await;
    assert_eq!(publisher.retire(&stolen, false).await, KeyRetired::Done { versions: Vec::new() });
    assert_eq!(publisher.warnings().await, Vec::<String>::new());
    let versions = vec![("acme/dns".parse().unwrap(), version("1.0.0"))];
    let done = KeyRetired::Done { versions: versions.clone() };
    assert_eq!(publisher.retire(&stolen, true).await, done);
    // The first answer can be lost, so the next one names the versions too.
    assert_eq!(publisher.retire(&stolen, true).await, KeyRetired::Unchanged { versions });
    assert_eq!(publisher.add_key(&stolen).await, KeyAdded::Retired);
    let warnings = publisher.warnings().await;
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("acme/dns 1.0.0 is signed by"),
        "{warnings:?}"
    );
    let late = of("3.0.0", &stolen);
    let pending = publisher.pending(&late, &begun).await;
    publisher.verify(&late, &pending, "linux_amd64").await;
    let id = KeyId::parse(stolen.id()).unwrap();
    let refused = ProviderCompletion::Signer(SignerError::Compromised(id.clone()));
    assert_eq!(publisher.complete(pending).await, refused);

    let access = publisher.access::<DownloadRight>();
    let found = test.store().provider_release(&access, &version("1.0.0")).await.unwrap().unwrap();
    assert_eq!(found.keys.for_download(&id), None, "nobody gets it");
    assert_eq!(publisher.publish(&of("1.0.0", &next), &next).await, GREW);
    assert_eq!(publisher.warnings().await, Vec::<String>::new());
    assert_eq!(test.store().as_operator().package_faults().await.unwrap(), []);
}

#[tokio::test]
async fn a_yanked_version_stays_listed_with_a_warning() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    publisher.add_key(&key).await;
    for version in ["1.0.0", "1.1.0"] {
        publisher.publish(&dist(version, &["linux_amd64"]).signed(&key), &key).await;
    }
    let because = |reason: &str| Explanation {
        reason: reason.to_owned(),
        link: None,
        replacement: Some("acme/dns2".to_owned()),
    };
    let deprecate = LifeChange::Deprecate(because("it is old."));
    assert_eq!(publisher.change("1.0.0", deprecate).await, LifeChanged::Done);
    let yank = LifeChange::Unpublish(because("it leaks"));
    assert_eq!(publisher.change("1.1.0", yank.clone()).await, LifeChanged::Done);
    assert_eq!(publisher.change("1.1.0", yank).await, LifeChanged::Unchanged);
    let expected = [
        "acme/dns 1.1.0 is yanked: it leaks; use `acme/dns2`",
        "acme/dns 1.0.0 is deprecated: it is old; use `acme/dns2`",
    ];
    assert_eq!(publisher.warnings().await, expected);
    assert_eq!(publisher.listed().await.len(), 2);
    assert_eq!(publisher.document().await["versions"][0]["protocols"], json!(["5.0"]));
    assert_eq!(test.store().as_operator().package_faults().await.unwrap(), []);
    for (of, change) in [("1.1.0", LifeChange::Restore), ("1.0.0", LifeChange::Undeprecate)] {
        assert_eq!(publisher.change(of, change).await, LifeChanged::Done);
    }
    assert_eq!(publisher.warnings().await, Vec::<String>::new());
}

#[tokio::test]
async fn limits_and_namespaces_count_providers_and_what_their_versions_grow_by() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    publisher.add_key(&key).await;
    let one = dist("1.0.0", &["linux_amd64"]).signed(&key);
    let bytes = |signed: &SignedDist| -> u64 {
        signed.dist.zips.values().map(|zip| zip.len() as u64).sum()
    };
    assert_eq!(publisher.publish(&one, &key).await, CREATED);
    let both = dist("1.0.0", &["linux_amd64", "linux_arm64"]).signed(&key);
    let limit = async |max_bytes, max_versions| {
        let operator = test.store().as_operator();
        let (bytes, versions) = (LimitChange::At(max_bytes), LimitChange::At(max_versions));
        operator.set_limits("acme", bytes, versions, NOW).await.unwrap();
    };
    limit(bytes(&both) - 1, 1).await;
    let exceeded = QuotaExceeded::Bytes {
        max: bytes(&both) - 1,
        used: bytes(&one),
        archive: bytes(&both) - bytes(&one),
    };
    assert_eq!(publisher.begin(&both, &key).await, BegunProviderUpload::OverQuota(exceeded));
    limit(bytes(&both), 1).await;
    assert_eq!(publisher.publish(&both, &key).await, GREW, "it is no new version");
    let next = dist("1.1.0", &["linux_amd64"]).signed(&key);
    limit(10 * bytes(&both), 1).await;
    let full = Published::OverQuota(QuotaExceeded::Versions { max: 1, used: 1 });
    assert_eq!(publisher.publish(&next, &key).await, ProviderCompletion::Published(full));
    let found = test.store().as_operator().namespace(&"acme".parse().unwrap()).await.unwrap();
    let found = found.unwrap();
    let used = found.usage.unwrap();
    assert_eq!((found.providers, found.modules), (1, 0));
    assert_eq!((used.bytes, used.versions), (bytes(&both), 1));
}

#[tokio::test]
async fn files_that_nobody_completes_count_in_a_folder_and_do_not_stop_the_sweep() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let Some(gnupg) = GnuPg::new(NOW, SHOWS) else { return };
    let (publisher, key) = (Publisher::new(&test).await, gnupg.key("acme"));
    publisher.add_key(&key).await;
    let kept = dist("1.0.0", &["linux_amd64"]).signed(&key);
    assert_eq!(publisher.publish(&kept, &key).await, CREATED);
    let platforms: Vec<String> = ["linux", "darwin", "windows", "freebsd", "openbsd", "netbsd"]
        .iter()
        .flat_map(|os| ["386", "amd64", "arm64"].map(|arch| format!("{os}_{arch}")))
        .collect();
    let platforms: Vec<&str> = platforms.iter().map(String::as_str).collect();
    let stopped = dist("1.1.0", &platforms).signed(&key);
    let session = publisher.session(&stopped, &key).await;
    let pending = publisher.pending(&stopped, &session).await;
    for platform in &platforms {
        publisher.verify(&stopped, &pending, platform).await;
    }
    let bytes = |signed: &SignedDist| -> u64 {
        signed.dist.zips.values().map(|zip| zip.len() as u64).sum()
    };
    let next = dist("1.2.0", &["linux_amd64"]).signed(&key);
    let (max, used) = (bytes(&kept) + bytes(&stopped), bytes(&kept) + bytes(&stopped));
    let unlimited = LimitChange::At(100);
    let operator = test.store().as_operator();
    operator.set_limits("acme", LimitChange::At(max), unlimited, NOW).await.unwrap();
    let is_folder = test.backend() == Backend::Embedded;
    let begun = publisher.begin(&next, &key).await;
    if is_folder {
        let exceeded = QuotaExceeded::Bytes { max, used, archive: bytes(&next) };
        assert_eq!(begun, BegunProviderUpload::OverQuota(exceeded));
    } else {
        assert!(matches!(begun, BegunProviderUpload::Session(_)), "only sessions count: {begun:?}");
    }
    // The version itself still fits, and so does the rest of a session that stopped.
    assert!(matches!(publisher.begin(&stopped, &key).await, BegunProviderUpload::Session(_)));

    let later = NOW + 200 * 365 * 24 * 3600;
    let swept = test.store().sweep(later).await.unwrap();
    // A broker deletes nothing in a bucket.
    assert_eq!(swept.archives, if is_folder { platforms.len() } else { 0 });
    assert_eq!(test.store().sweep(later).await.unwrap().archives, 0);
    let access = publisher.access::<DownloadRight>();
    let found = test.store().provider_release(&access, &version("1.0.0")).await.unwrap().unwrap();
    assert_eq!(found.release.files.len(), 1);
    assert_eq!(test.store().as_operator().leftovers().await.unwrap(), []);
}
