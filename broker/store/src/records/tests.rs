//! Tests the rules on a SQLite database, also with rows that this program did not write.

use std::path::PathBuf;

use rusqlite::Connection;
use stile_core::audit::{Event, Kept, Kind};
use stile_core::grants::{Grant, GrantNamespace, GrantTag, Pin, StateRevisions};
use stile_core::package::source::{ModuleSource, ObjectAddress};
use stile_core::package::{
    AnnouncedArchive, Explanation, Format, Life, LifeChange, PackageAddress, SearchText, UploadId,
    Version,
};
use stile_core::principal::{Principal, UniqueId};
use stile_core::token::{KeyringSummary, TokenId};
use stile_protocol::exchange::MAX_TTL;
use stile_protocol::names::{Permission, Permissions};

use super::model::{
    AnnouncedUpload, ClearKey, Content, Revision, SealedKeyring, StoredArchive, VersionRecord,
};
use super::mutation::{GrantsChange, Mutation, Outcome};
use super::retention::{EXPIRED_GRANT_RETENTION, MARGIN};
use super::stored_object::{ObjectState, StoredObject};
use super::*;
use crate::{
    Change, Created, Deleted, EmbeddedDeadlines, ExpiryChange, HostRecorded, LifeChanged,
    Published, SingleUseOutcome, UnreadableGrant, Updated,
};

/// A database in its own temporary folder.
struct Database {
    _folder: tempfile::TempDir,
    path: PathBuf,
    records: Records,
}

impl Database {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stile.sqlite3");
        Sqlite::init(&path, EmbeddedDeadlines::default()).unwrap();
        let records = Sqlite::open(&path, EmbeddedDeadlines::default()).unwrap();
        Self { _folder: folder, path, records: Records::Sqlite(records) }
    }

    /// Executes SQL directly on the database.
    fn by_hand(&self, sql: &str) {
        Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }

    fn text(&self, sql: &str) -> Option<String> {
        Connection::open(&self.path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    async fn state(&self, principals: &[&Principal]) -> stile_core::grants::PrincipalState {
        let principals = principals.iter().map(|principal| (*principal).clone()).collect();
        principal_state(self.records.caller(principals).await.unwrap(), KeyringSummary::default())
    }
}

/// Changes of single grants, which need no lease.
impl Records {
    async fn create_alone(&self, grant: Grant, pin: Option<Pin>) -> Result<Created, StoreError> {
        self.create_grant(grant, pin, None, &kept(0)).await.map(done)
    }

    async fn update_alone(
        &self,
        principal: Principal,
        on: GrantNamespace,
        change: Change,
        tag: Option<&GrantTag>,
    ) -> Result<Updated, StoreError> {
        self.update_grant(principal, on, change, tag, None, &kept(0)).await.map(done)
    }

    async fn add_alone(
        &self,
        address: &PackageAddress,
        text: &str,
        record: VersionRecord,
    ) -> Published {
        self.add_version(address, &version(text), record, None, &kept(0)).await.unwrap()
    }

    async fn delete_alone(
        &self,
        principal: Principal,
        on: GrantNamespace,
        tag: Option<&GrantTag>,
    ) -> Result<Deleted, StoreError> {
        self.delete_grant(principal, on, tag, None, &kept(0)).await.map(done)
    }
}

fn done<T>(leased: Leased<T>) -> T {
    match leased {
        Leased::Done(answer) => answer,
        Leased::Lost => panic!("a change without a lease has lost it"),
    }
}

fn kept(now: i64) -> Kept {
    Kept::new(&Event::new(Kind::Store), now)
}

fn principal(text: &str) -> Principal {
    Principal::parse_stored(text).unwrap()
}

fn deploy() -> Principal {
    principal("aws:111122223333:role/deploy")
}

fn grant(namespace: &str) -> Grant {
    Grant {
        principal: deploy(),
        namespace: namespace.parse().unwrap(),
        permissions: Permissions::NONE.with(Permission::Download),
        expires_at: None,
        created_by: "test".to_owned(),
        created_at: 0,
    }
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn archive(digest: &str, object_version: Option<&str>) -> Content {
    Content::Archive(StoredArchive {
        sha256: digest.to_owned(),
        format: Format::Zip,
        object_version: object_version.map(str::to_owned),
    })
}

/// Returns a version whose archive has that digest.
fn record(digest: &str) -> VersionRecord {
    VersionRecord {
        content: archive(digest, None),
        bytes: 5,
        published_by: "x".to_owned(),
        published_at: 7,
        token_id: None,
        claimed: None,
        life: Life::default(),
        search: SearchText::default(),
    }
}

fn id(text: &str) -> UniqueId {
    UniqueId::parse(text).unwrap()
}

fn announced() -> AnnouncedUpload {
    let (format, sha256) = (Format::Zip, "ab".repeat(32));
    AnnouncedUpload::Archive(AnnouncedArchive { format, bytes: 7, sha256, claimed: None })
}

#[tokio::test]
async fn a_pin_never_replaces_another() {
    let database = Database::new();
    let store = &database.records;
    let first = Pin::Pinned(id("AROAEXAMPLEEXAMPLE222"));
    assert_eq!(
        store.create_alone(grant("prod"), Some(first.clone())).await.unwrap(),
        Created::Done { grant: grant("prod"), new_namespace: true }
    );
    for other in [Pin::Disabled, Pin::Pinned(id("AROAOTHEROTHEROTHER22"))] {
        let created = store.create_alone(grant("sandbox"), Some(other)).await.unwrap();
        assert_eq!(created, Created::PinnedOtherwise(first.clone()));
    }
    assert_eq!(store.grants(None, None).await.unwrap().len(), 1);
    for same in [None, Some(first)] {
        let namespace = if same.is_some() { "same" } else { "none" };
        assert_eq!(
            store.create_alone(grant(namespace), same).await.unwrap(),
            Created::Done { grant: grant(namespace), new_namespace: true }
        );
    }
}

#[tokio::test]
async fn a_grant_that_this_program_does_not_understand_allows_nothing_and_is_not_overwritten() {
    let database = Database::new();
    for namespace in ["acme", "bare", "odd", "restricted"] {
        database.records.create_alone(grant(namespace), None).await.unwrap();
    }
    database.by_hand(
        r#"UPDATE grants SET crit = '["hours"]' WHERE namespace = 'restricted';
           UPDATE grants SET crit = 'hours' WHERE namespace = 'odd';
           UPDATE grants SET crit = '["expires_at"]' WHERE namespace = 'bare';"#,
    );
    let state = database.state(&[&deploy()]).await;
    let on: Vec<String> = state.grants.iter().map(|grant| grant.namespace.to_string()).collect();
    assert_eq!(on, ["acme", "bare"]);
    let listed = database.records.listed_grants().await.unwrap();
    let unreadable = |on: &str| UnreadableGrant {
        principal: deploy().as_str().to_owned(),
        namespace: on.to_owned(),
    };
    assert_eq!(listed.unreadable, ["odd", "restricted"].map(unreadable));
    for namespace in ["odd", "restricted"] {
        let namespace = || namespace.parse().unwrap();
        let again = Grant { namespace: namespace(), ..grant("x") };
        let refused = database.records.create_alone(again, None).await.unwrap_err();
        assert_eq!(refused.kind(), crate::StoreErrorKind::Corrupt, "{refused}");
        let change = Change { expires_at: ExpiryChange::At(5), ..Change::default() };
        database.records.update_alone(deploy(), namespace(), change, None).await.unwrap_err();
        let tag = GrantTag::of(&grant("x"));
        database.records.delete_alone(deploy(), namespace(), Some(&tag)).await.unwrap_err();
        let deleted = database.records.delete_alone(deploy(), namespace(), None).await.unwrap();
        assert_eq!(deleted, Deleted::Done(None));
    }
}

#[tokio::test]
async fn a_change_preserves_the_columns_of_a_newer_program() {
    let database = Database::new();
    let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
    let store = &database.records;
    store.create_alone(grant("acme"), None).await.unwrap();
    let first = store.add_alone(&address, "1.0.0", record("aa")).await;
    assert_eq!(first, Published::Created);
    database.by_hand(
        "ALTER TABLE grants ADD COLUMN note TEXT; UPDATE grants SET note = 'x';
         ALTER TABLE modules ADD COLUMN note TEXT; UPDATE modules SET note = 'y';",
    );
    let change = Change { expires_at: ExpiryChange::At(5), ..Change::default() };
    store.update_alone(deploy(), "acme".parse().unwrap(), change, None).await.unwrap();
    let second = store.add_alone(&address, "1.1.0", record("bb")).await;
    assert_eq!(second, Published::Created);
    assert_eq!(database.text("SELECT note FROM grants").as_deref(), Some("x"));
    assert_eq!(database.text("SELECT note FROM modules").as_deref(), Some("y"));
    for (digest, expected) in [("bb", Published::Same), ("cc", Published::Different)] {
        let again = store.add_alone(&address, "1.1.0", record(digest)).await;
        assert_eq!(again, expected);
    }
}

#[tokio::test]
async fn a_version_is_read_as_it_was_written_and_not_at_all_if_it_is_damaged() {
    let database = Database::new();
    let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
    let moved = VersionRecord { content: archive("aa", Some("x")), ..record("aa") };
    let source = ModuleSource::parse("git::https://h.example/vpc?ref=v1.0.0").unwrap();
    let source = VersionRecord { content: Content::Source(source), ..record("aa") };
    let object = StoredObject {
        address: ObjectAddress::parse("s3://bucket/vpc.zip").unwrap(),
        sha256: "aa".to_owned(),
        format: Format::Zip,
        bytes: 7,
        state: ObjectState::Entity("\"e\"".to_owned()),
    };
    let object = VersionRecord { content: Content::Object(object), ..record("aa") };
    let records = [("1.0.0", record("aa")), ("1.1.0", moved), ("1.2.0", source), ("1.3.0", object)];
    for (text, record) in records {
        let version = version(text);
        assert_eq!(database.records.version(&address, &version).await.unwrap(), None);
        database.records.add_alone(&address, text, record.clone()).await;
        assert_eq!(database.records.version(&address, &version).await.unwrap(), Some(record));
    }
    database.by_hand("UPDATE module_versions SET bytes = -1 WHERE version = '1.1.0'");
    let damaged = database.records.version(&address, &version("1.1.0")).await.unwrap_err();
    assert_eq!(damaged.kind(), crate::StoreErrorKind::Corrupt, "{damaged}");
    assert!(database.records.version(&address, &version("1.0.0")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_package_takes_ten_thousand_versions_and_no_more() {
    let database = Database::new();
    let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
    let publish = async |text: &str, digest: &str| {
        database.records.add_alone(&address, text, record(digest)).await
    };
    assert_eq!(publish("0.0.0", "aa").await, Published::Created);
    let listed: Vec<Version> = (0..9_999).map(|patch| version(&format!("0.0.{patch}"))).collect();
    let document = stile_core::package::versions_document(listed.iter());
    database.by_hand(&format!("UPDATE modules SET versions_document = '{document}'"));
    assert_eq!(publish("1.0.0", "bb").await, Published::Created);
    for (text, digest, expected) in [
        ("1.0.1", "cc", Published::Full),
        ("1.0.0", "bb", Published::Same),
        ("1.0.0", "cc", Published::Different),
    ] {
        assert_eq!(publish(text, digest).await, expected, "{text} {digest}");
    }
    let other = PackageAddress::Module("acme/dns/aws".parse().unwrap());
    let added = database.records.add_alone(&other, "1.0.0", record("dd")).await;
    assert_eq!(added, Published::Created);
}

#[tokio::test]
async fn creating_a_grant_deletes_grants_that_ended_long_ago() {
    let database = Database::new();
    let ended = Grant { expires_at: Some(100), ..grant("old") };
    database.records.create_alone(ended.clone(), None).await.unwrap();
    for (namespace, now, listed) in
        [("a", 99 + EXPIRED_GRANT_RETENTION, true), ("b", 100 + EXPIRED_GRANT_RETENTION, false)]
    {
        let next = Grant { created_at: now, ..grant(namespace) };
        database.records.create_alone(next, None).await.unwrap();
        let grants = database.records.grants(None, None).await.unwrap();
        assert_eq!(grants.contains(&ended), listed, "{now}");
    }
}

#[tokio::test]
async fn a_token_stays_revoked_until_every_token_of_its_age_has_expired() {
    let database = Database::new();
    let store = &database.records;
    let (first, second) = (TokenId::random().unwrap(), TokenId::random().unwrap());
    store.revoke_token(first.clone(), &kept(1000)).await.unwrap();
    for (now, remembered) in
        [(1000 + MAX_TTL, true), (1000 + MAX_TTL + 60, true), (1000 + MAX_TTL + 61 + MARGIN, false)]
    {
        store.revoke_token(second.clone(), &kept(now)).await.unwrap();
        let tokens: Vec<TokenId> =
            store.revocations().await.unwrap().tokens.into_iter().map(|token| token.id).collect();
        assert_eq!(tokens.contains(&first), remembered, "{now}");
        let state = database.state(&[]).await;
        assert_eq!(state.revoked_tokens.contains(&first), remembered, "{now}");
        assert!(tokens.contains(&second));
    }
}

#[tokio::test]
async fn a_principal_is_revoked_until_an_operator_lifts_the_revocation() {
    let database = Database::new();
    let store = &database.records;
    let account = principal("account:aws:111122223333");
    assert!(!store.lift(account.clone(), &kept(0)).await.unwrap());
    assert!(store.revoke_principal(account.clone(), &kept(5)).await.unwrap());
    assert!(
        !store.revoke_principal(account.clone(), &kept(9)).await.unwrap(),
        "the first time counts"
    );
    let revoked = store.revocations().await.unwrap().principals;
    assert_eq!(revoked, [crate::RevokedPrincipal { principal: account.clone(), revoked_at: 5 }]);
    assert_eq!(database.state(&[&deploy(), &account]).await.revoked, Some(account.clone()));
    assert!(store.lift(account.clone(), &kept(0)).await.unwrap());
    assert_eq!(database.state(&[&deploy(), &account]).await.revoked, None);
}

#[tokio::test]
async fn the_next_mint_sets_a_pin_that_was_removed() {
    let database = Database::new();
    let store = &database.records;
    let (old, new) = (id("AROAEXAMPLEEXAMPLE222"), id("AROAOTHEROTHEROTHER22"));
    let record = async |digest: u8, id: &UniqueId| {
        let pin = Some((deploy(), id.clone()));
        store.record_single_use(vec![[digest; 32]], 100, pin, 0).await.unwrap()
    };
    assert!(!store.unpin(deploy(), &kept(0)).await.unwrap());
    assert!(matches!(record(1, &old).await, SingleUseOutcome::Recorded(_)));
    assert!(matches!(record(2, &new).await, SingleUseOutcome::PinnedToAnother));
    assert!(store.unpin(deploy(), &kept(0)).await.unwrap());
    assert!(
        matches!(record(2, &new).await, SingleUseOutcome::Recorded(_)),
        "both or neither: the refused proof was not recorded"
    );
    assert!(matches!(record(2, &new).await, SingleUseOutcome::Replayed));
    assert_eq!(database.state(&[&deploy()]).await.pin, Pin::Pinned(new));
}

#[tokio::test]
async fn an_unreadable_revocation_does_not_affect_the_others() {
    let database = Database::new();
    database.by_hand(
        "INSERT INTO revoked_tokens VALUES ('x', 5);
         INSERT INTO revoked_principals VALUES ('x|.*', 5), ('aws:111122223333:role/deploy', 6);",
    );
    let revocations = database.records.revocations().await.unwrap();
    assert!(revocations.tokens.is_empty());
    assert_eq!(revocations.principals.len(), 1);
    database.records.revoke_token(TokenId::random().unwrap(), &kept(0)).await.unwrap();
    let row = database.text("SELECT principal FROM revoked_principals WHERE principal = 'x|.*'");
    assert!(row.is_some(), "the next change preserves an unreadable row");
}

#[tokio::test]
async fn a_refused_commit_changes_nothing() {
    let database = Database::new();
    let host = Audience::parse("registry.example.com").unwrap();
    let single = || Mutation::RecordSingleUse { digest: [1; 32], keep_until: 9, forget_before: 0 };
    let commit = async |mutations| database.records.commit(mutations).await.unwrap();
    assert_eq!(commit(vec![Mutation::AddHost(host.clone())]).await, Outcome::Done);
    let both = vec![single(), Mutation::AddHost(host)];
    assert_eq!(commit(both).await, Outcome::Refused(1));
    assert_eq!(commit(vec![single()]).await, Outcome::Done, "it was not recorded");
    assert_eq!(commit(vec![single()]).await, Outcome::Refused(0));
}

#[tokio::test]
async fn only_one_of_two_changes_of_a_revision_takes_effect() {
    let database = Database::new();
    let before = database.records.principal_grants(&deploy()).await.unwrap();
    let create = |namespace| Mutation::ChangeGrants {
        principal: deploy(),
        before: before.clone(),
        change: GrantsChange::Create { grant: grant(namespace), forget: vec![], reserves: true },
    };
    let commit = async |mutation| database.records.commit(vec![mutation]).await.unwrap();
    assert_eq!(commit(create("a")).await, Outcome::Done);
    assert_eq!(commit(create("b")).await, Outcome::Refused(0));
}

#[tokio::test]
async fn a_commit_can_keep_the_grants_and_the_revocations_that_a_decision_saw() {
    let database = Database::new();
    let seen = async || database.state(&[&deploy()]).await.revisions;
    let keep = async |seen: &StateRevisions| {
        let (principal, before) = seen.grants[0].clone();
        let grants = Mutation::KeepGrants { principal, before: Revision(before) };
        let revocations = Mutation::KeepRevocations { before: Revision(seen.revocations) };
        database.records.commit(vec![grants, revocations]).await.unwrap()
    };
    let before = seen().await;
    assert_eq!(keep(&before).await, Outcome::Done);
    let other = principal("aws:111122223333:role/other");
    database.records.revoke_principal(other, &kept(5)).await.unwrap();
    assert_eq!(keep(&before).await, Outcome::Refused(1));
    let before = seen().await;
    assert_eq!(keep(&before).await, Outcome::Done);
    database.records.create_alone(grant("a"), None).await.unwrap();
    assert_eq!(keep(&before).await, Outcome::Refused(0));
}

#[tokio::test]
async fn only_its_sender_can_complete_an_upload_and_only_in_time() {
    let database = Database::new();
    let store = &database.records;
    let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
    let version = Version::parse("1.0.0").unwrap();
    let upload = UploadId::random().unwrap();
    let sender = deploy();
    let add = store.add_upload(upload.clone(), &sender, &address, &version, announced(), 1000);
    add.await.unwrap();
    let pending = async |who: &Principal, id: &UploadId, now| {
        store.pending_upload(who, &address, &version, id, now).await.unwrap()
    };
    let found = pending(&deploy(), &upload, 1000 + 3599).await.unwrap();
    assert_eq!(found.announced, announced());
    let other = principal("aws:111122223333:role/other");
    assert!(pending(&other, &upload, 1000).await.is_none());
    assert!(pending(&deploy(), &UploadId::random().unwrap(), 1000).await.is_none());
    assert!(pending(&deploy(), &upload, 1000 + 3600).await.is_none());
    store.end_upload(upload.clone(), address.namespace()).await;
    assert!(pending(&deploy(), &upload, 1000).await.is_none());
}

#[tokio::test]
async fn open_uploads_are_limited_for_each_principal_and_namespace_until_their_time() {
    let database = Database::new();
    let store = &database.records;
    let add = async |who: &str, address: &str, now| {
        let address = PackageAddress::Module(address.parse().unwrap());
        let (id, who) = (UploadId::random().unwrap(), principal(who));
        let version = version("1.0.0");
        let added = store.add_upload(id.clone(), &who, &address, &version, announced(), now);
        (added.await.unwrap(), id)
    };
    let [one, two] = ["aws:111122223333:role/one", "aws:111122223333:role/two"];
    for n in 0..48 {
        assert_eq!(add(one, "acme/vpc/aws", 1000).await.0, UploadAdded::Done, "{n}");
    }
    assert_eq!(add(one, "acme/vpc/aws", 1000).await.0, UploadAdded::TooManyOpen);
    let (added, last) = add(two, "acme/vpc/aws", 1001).await;
    assert_eq!(added, UploadAdded::Done);
    for _ in 0..15 {
        assert_eq!(add(two, "acme/vpc/aws", 1001).await.0, UploadAdded::Done);
    }
    assert_eq!(add(two, "acme/dns/aws", 1001).await.0, UploadAdded::TooManyOpen);
    for elsewhere in ["acme-x/vpc/aws", "acm/vpc/aws", "acme0/vpc/aws"] {
        assert_eq!(add(two, elsewhere, 1001).await.0, UploadAdded::Done, "{elsewhere}");
    }
    store.end_upload(last, &"acme".parse().unwrap()).await;
    assert_eq!(add(two, "acme/vpc/aws", 1001).await.0, UploadAdded::Done, "one has ended");
    assert_eq!(add(two, "acme/vpc/aws", 4599).await.0, UploadAdded::TooManyOpen);
    assert_eq!(add(one, "acme/vpc/aws", 4600).await.0, UploadAdded::Done, "48 have expired");
}

#[tokio::test]
async fn an_unpublished_version_is_not_listed_and_its_number_stays_taken() {
    let database = Database::new();
    let store = &database.records;
    let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
    let because =
        |reason: &str| Explanation { reason: reason.to_owned(), link: None, replacement: None };
    let change = async |text: &str, change: LifeChange| {
        store
            .change_life(
                &address,
                &version(text),
                &change,
                ("role/a", &kept(9)),
                |_| Err(StoreError::busy("no listener")),
                &[],
            )
            .await
            .unwrap()
    };
    let listed = async || {
        let modules = store.all_summaries(PackageKind::Module, None).await.unwrap();
        let latest = modules.first().map(|module| (module.latest.to_string(), module.published_at));
        let document = store.package_document(&address).await.unwrap().unwrap();
        (String::from_utf8(document.to_vec()).unwrap().matches("version\"").count(), latest)
    };
    assert_eq!(change("1.0.0", LifeChange::Restore).await, LifeChanged::Absent);
    for (at, text) in [(1, "1.0.0"), (2, "1.1.0")] {
        let record = VersionRecord { published_at: at, ..record(text) };
        let added = store.add_alone(&address, text, record).await;
        assert_eq!(added, Published::Created);
    }
    for (text, step, expected, left) in [
        ("1.1.0", LifeChange::Undeprecate, LifeChanged::Unchanged, (2, Some(("1.1.0", 2)))),
        (
            "1.1.0",
            LifeChange::Deprecate(because("old")),
            LifeChanged::Done,
            (2, Some(("1.1.0", 2))),
        ),
        (
            "1.1.0",
            LifeChange::Unpublish(because("bad")),
            LifeChanged::Done,
            (1, Some(("1.0.0", 1))),
        ),
        (
            "1.1.0",
            LifeChange::Unpublish(because("bad")),
            LifeChanged::Unchanged,
            (1, Some(("1.0.0", 1))),
        ),
        ("1.0.0", LifeChange::Unpublish(because("bad")), LifeChanged::Done, (0, None)),
        ("1.1.0", LifeChange::Restore, LifeChanged::Done, (1, Some(("1.1.0", 2)))),
    ] {
        assert_eq!(change(text, step).await, expected, "{text}");
        let left = (left.0, left.1.map(|(latest, at)| (latest.to_owned(), at)));
        assert_eq!(listed().await, left, "{text}");
    }
    for (digest, expected) in [("1.0.0", Published::Unpublished), ("other", Published::Different)] {
        let again = store.add_alone(&address, "1.0.0", record(digest)).await;
        assert_eq!(again, expected, "{digest}");
    }
    let life = store.version(&address, &version("1.1.0")).await.unwrap().unwrap().life;
    assert_eq!(life.deprecated.unwrap().explanation, because("old"), "a restore keeps the warning");
}

#[tokio::test]
async fn of_two_changes_of_one_life_the_second_sees_the_first() {
    let database = Database::new();
    let store = &database.records;
    let address = PackageAddress::Module("acme/vpc/aws".parse().unwrap());
    store.add_alone(&address, "1.0.0", record("x")).await;
    let unpublished = Explanation { reason: "x".to_owned(), link: None, replacement: None };
    let before = Life::default();
    let after = before.after(LifeChange::Unpublish(unpublished), "role/a", 1).unwrap();
    let step = || Mutation::ChangeLife {
        address: address.clone(),
        version: version("1.0.0"),
        before: before.clone(),
        after: after.clone(),
    };
    for expected in [Outcome::Done, Outcome::Refused(0)] {
        assert_eq!(store.commit(vec![step()]).await.unwrap(), expected);
    }
    database.by_hand(r#"UPDATE module_versions SET life = '{"crit":["quarantined"]}'"#);
    let refused = store.version(&address, &version("1.0.0")).await.unwrap_err();
    assert_eq!(refused.kind(), crate::StoreErrorKind::Corrupt, "a newer program restricts it");
}

#[tokio::test]
async fn sqlite_stores_a_sealed_keyring_and_the_host() {
    let database = Database::new();
    let store = &database.records;
    let host = Audience::parse("registry.example.com").unwrap();
    let keyring = |revision| SealedKeyring {
        revision,
        audience: host.to_string(),
        keys: vec![ClearKey { id: "x".to_owned(), created_at: 1, mints_from: 2 }],
        blob: Some(vec![7]),
    };
    for (before, next, expected) in
        [(0, 1, Outcome::Done), (0, 1, Outcome::Refused(0)), (1, 2, Outcome::Done)]
    {
        let put = Mutation::PutKeyring { before, keyring: keyring(next) };
        assert_eq!(store.commit_with_retries(vec![put]).await.unwrap(), expected);
    }
    assert_eq!(store.caller(vec![]).await.unwrap().keyring, Some(keyring(2)));
    let other = Audience::parse("other.example.com").unwrap();
    let another = HostRecorded::Another(host.to_string());
    assert_eq!(store.record_host(&other, None).await.unwrap(), another, "by the keyring");
    assert_eq!(store.record_host(&host, None).await.unwrap(), HostRecorded::Created);
    assert_eq!(store.record_host(&host, None).await.unwrap(), HostRecorded::Same);
    assert_eq!(store.host().await.unwrap(), Some(host));
}
