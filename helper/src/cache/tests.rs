//! Tests of the cache: which files are used, replaced and swept.

use std::path::Path;

use stile_protocol::audience::Audience;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission;

use super::*;

/// A timeout that no test reaches.
const LONG: Duration = Duration::from_secs(600);

fn now() -> DateTime<Utc> {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

fn token(minutes: i64) -> Token {
    let expires_at = now() + TimeDelta::minutes(minutes);
    Token {
        secret: "stile_v4.local.x".into(),
        expires_at,
        principal: "aws:111122223333:role/a".into(),
        skew: None,
        shortened_from: None,
        access_key_id: None,
        more_than_asked: None,
        cached: false,
        notices: Vec::new(),
    }
}

fn registry(host: &str) -> RegistryConfig {
    RegistryConfig::new(Audience::parse(host).unwrap()).unwrap()
}

struct TestCache {
    _folder: tempfile::TempDir,
    environment: Environment,
}

impl TestCache {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment =
            Environment { cache_folder: Some(folder.path().to_owned()), ..Environment::default() };
        Self { _folder: folder, environment }
    }

    fn slot(&self, host: &str) -> CacheSlot {
        let registry = registry(host);
        CacheSlot::of(&registry, &registry.scope(), &self.environment).unwrap()
    }
}

/// Writes a cache file with these fields added to a usable token.
fn write_with(slot: &CacheSlot, fields: &serde_json::Value) -> Vec<u8> {
    slot.write(&token(60), now());
    let mut file: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(&slot.path).unwrap()).unwrap();
    file.extend(fields.as_object().unwrap().clone());
    let bytes = serde_json::to_vec(&file).unwrap();
    private_file::write(&slot.path, &bytes, Durability::Cached).unwrap();
    bytes
}

#[test]
fn a_damaged_token_is_not_used() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    for damaged in ["", "stile v4", "stile\n", "stile\u{fffd}", "\0\0\0\0", &"x".repeat(4_097)] {
        write_with(&slot, &serde_json::json!({ "token": damaged }));
        assert!(slot.read(now()).is_none(), "{damaged:?}");
        assert!(slot.read_checked(now()).is_none(), "{damaged:?}");
    }
}

#[test]
fn a_file_of_the_release_before_versions_is_read() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    let fixture = include_bytes!("../../tests/fixtures/before-versions/cached-token.json");
    private_file::write(&slot.path, fixture, Durability::Cached).unwrap();
    assert_eq!(slot.read(now()).unwrap().expose(), "stile_v4.local.x");
}

/// The reader of the release before versions: its cache entry, without the values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CachedTokenBeforeVersions {
    #[serde(rename = "host")]
    _host: String,
    #[serde(rename = "key")]
    _key: String,
    #[serde(rename = "token")]
    _token: String,
    #[serde(rename = "expires_at")]
    _expires_at: DateTime<Utc>,
    #[serde(rename = "principal")]
    _principal: String,
    #[serde(rename = "skew_seconds")]
    _skew_seconds: i64,
}

#[test]
fn the_release_before_versions_reads_its_own_file_and_fetches_a_token_for_a_new_one() {
    let old = include_bytes!("../../tests/fixtures/before-versions/cached-token.json");
    assert!(serde_json::from_slice::<CachedTokenBeforeVersions>(old).is_ok());
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    slot.write(&token(60), now());
    let new = std::fs::read(&slot.path).unwrap();
    assert!(serde_json::from_slice::<CachedTokenBeforeVersions>(&new).is_err());
}

/// The reader of the release before checks: its cache entry, without the values.
#[derive(Deserialize)]
struct CachedTokenBeforeChecks {
    #[serde(rename = "version")]
    _version: u64,
    #[serde(default)]
    crit: Vec<String>,
    #[serde(rename = "host")]
    _host: String,
    #[serde(rename = "key")]
    _key: String,
    token: String,
    #[serde(rename = "expires_at")]
    _expires_at: DateTime<Utc>,
    #[serde(rename = "principal")]
    _principal: String,
    #[serde(rename = "skew_seconds")]
    _skew_seconds: i64,
}

#[test]
fn the_release_before_checks_reads_a_file_with_the_time_of_a_check() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    slot.write(&token(60), now());
    for _ in 0..2 {
        let file = std::fs::read(&slot.path).unwrap();
        let entry: CachedTokenBeforeChecks = serde_json::from_slice(&file).unwrap();
        assert_eq!((entry.token.as_str(), entry.crit.len()), ("stile_v4.local.x", 0));
        slot.mark_checked(&slot.read(now()).unwrap(), now() + TimeDelta::seconds(1));
    }
}

#[test]
fn a_token_without_a_check_in_the_last_minute_is_due() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    let fixture = include_bytes!("../../tests/fixtures/before-versions/cached-token.json");
    private_file::write(&slot.path, fixture, Durability::Cached).unwrap();
    assert!(slot.read(now()).is_some() && slot.read_checked(now()).is_none(), "never checked");
    for (checked_at, fresh) in [
        (serde_json::json!(null), false),
        (serde_json::json!("soon"), false),
        (serde_json::json!(1_795_168_800), false),
        (serde_json::json!({ "at": "2026-11-20T10:00:00Z" }), false),
        (serde_json::json!("2026-11-20T10:01:00Z"), false),
        (serde_json::json!("2027-11-20T10:00:00Z"), false),
        (serde_json::json!("2026-11-20T09:59:00Z"), false),
        (serde_json::json!("2026-11-20T09:59:01Z"), true),
        (serde_json::json!("2026-11-20T10:00:00.001Z"), true),
        (serde_json::json!("2026-11-20T10:00:59Z"), true),
        (serde_json::json!("2026-11-20T11:00:00+01:00"), true),
    ] {
        write_with(&slot, &serde_json::json!({ "checked_at": checked_at }));
        assert!(slot.read(now()).is_some(), "{checked_at}: the token is usable");
        assert_eq!(slot.read_checked(now()).is_some(), fresh, "{checked_at}");
    }
    slot.write(&token(60), now());
    assert!(slot.read_checked(now()).is_some(), "a new token needs no check");
    slot.write(&token(4), now());
    assert!(slot.read_checked(now()).is_none(), "it expires soon");
}

#[test]
fn a_check_changes_only_its_time_and_only_for_the_token_that_was_checked() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    let checked = token(60);
    slot.mark_checked(&checked, now());
    assert!(!slot.path.exists(), "there is no file to mark");
    let before =
        write_with(&slot, &serde_json::json!({ "later": [1], "skew_seconds": 7, "checked_at": 0 }));
    let other = Token { secret: "stile_v4.local.y".into(), ..token(60) };
    slot.mark_checked(&other, now());
    assert_eq!(std::fs::read(&slot.path).unwrap(), before, "another token");
    slot.mark_checked(&checked, now());
    assert!(slot.read_checked(now()).is_some());
    let parse = |bytes: &[u8]| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(bytes).unwrap()
    };
    let (mut was, mut is) = (parse(&before), parse(&std::fs::read(&slot.path).unwrap()));
    assert_ne!(was.remove("checked_at"), is.remove("checked_at"));
    assert_eq!(was, is);
}

#[test]
fn an_unknown_field_is_ignored_unless_it_is_critical() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    for (fields, usable) in [
        (serde_json::json!({ "later": { "any": [1] } }), true),
        (serde_json::json!({ "later": 1, "crit": [] }), true),
        (serde_json::json!({ "crit": ["expires_at"] }), true),
        (serde_json::json!({ "later": 1, "crit": ["later"] }), false),
        (serde_json::json!({ "crit": ["expires_at", "later"] }), false),
        (serde_json::json!({ "crit": "later" }), false),
        (serde_json::json!({ "version": 0 }), false),
        (serde_json::json!({ "version": "1" }), false),
    ] {
        write_with(&slot, &fields);
        assert_eq!(slot.read(now()).is_some(), usable, "{fields}");
        slot.write(&token(60), now());
        assert!(slot.read(now()).is_some(), "{fields}: a new token replaces the file");
    }
}

#[test]
fn a_file_of_a_newer_version_is_neither_used_nor_replaced() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    for fields in [
        serde_json::json!({ "version": 2 }),
        serde_json::json!({ "version": 99, "token": { "sealed": "x" }, "crit": 7 }),
    ] {
        slot.clear().unwrap();
        let newer = write_with(&slot, &fields);
        assert!(slot.read(now()).is_none(), "{fields}");
        slot.write(&token(60), now());
        assert_eq!(std::fs::read(&slot.path).unwrap(), newer, "{fields}");
    }
    slot.sweep(changed(slot.path.parent().unwrap()) + TimeDelta::hours(25));
    slot.write(&token(60), now());
    assert!(slot.read(now()).is_some(), "the sweep deletes an old file of any version");
}

#[test]
fn a_token_that_expires_soon_is_not_used() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    for (minutes, used) in [(-1, false), (0, false), (4, false), (5, true), (60, true)] {
        slot.write(&token(minutes), now());
        assert_eq!(slot.read(now()).is_some(), used, "{minutes} minutes left");
    }
    let behind = Token { skew: Some(TimeDelta::minutes(14)), ..token(18) };
    slot.write(&behind, now());
    assert!(slot.read(now()).is_none(), "only four minutes remain by the broker's clock");
}

#[test]
fn a_file_of_another_token_or_a_truncated_file_is_ignored_and_replaced() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    slot.write(&token(60), now());
    let whole = std::fs::read(&slot.path).unwrap();
    let other = cache.slot("b.example");
    private_file::write(&other.path, &whole, Durability::Cached).unwrap();
    assert!(other.read(now()).is_none(), "another host's");
    for length in [0, 1, whole.len() / 2, whole.len() - 1] {
        private_file::write(&slot.path, whole.get(..length).unwrap(), Durability::Cached).unwrap();
        assert!(slot.read(now()).is_none(), "cut at {length}");
    }
    slot.write(&token(60), now());
    assert_eq!(slot.read(now()).unwrap().expose(), "stile_v4.local.x");
}

#[cfg(unix)]
#[test]
fn a_file_that_other_users_can_read_is_ignored_and_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    slot.write(&token(60), now());
    std::fs::set_permissions(&slot.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(slot.read(now()).is_none());
    slot.write(&token(60), now());
    assert!(slot.read(now()).is_some());
}

#[test]
fn other_credentials_or_another_scope_have_another_cache_key() {
    let cache = TestCache::new();
    let plain = registry("a.example");
    let first = cache.slot("a.example").key;
    let mut others = vec![cache.slot("b.example").key];
    let by_aws = RegistryConfig { proof: Proof::WebIdentity, ..plain.clone() };
    for changed in [
        RegistryConfig { profile: Some("ci".to_owned()), ..plain.clone() },
        RegistryConfig { ttl: 900, ..plain.clone() },
        RegistryConfig { permissions: plain.permissions.with(Permission::Upload), ..plain.clone() },
        RegistryConfig { url: url::Url::parse("https://b.example").unwrap(), ..plain.clone() },
        by_aws.clone(),
        RegistryConfig { trust: Some("ci".to_owned()), ..by_aws },
    ] {
        others.push(key(&changed, &changed.scope(), &cache.environment).unwrap());
    }
    let list = Namespaces::List(vec!["acme".parse().unwrap()]);
    let narrow = TokenScope { namespaces: list, ..plain.scope() };
    others.push(key(&plain, &narrow, &cache.environment).unwrap());
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIA1"),
        ("AWS_ACCESS_KEY_ID", "AKIA2"),
        ("AWS_PROFILE", "x"),
        ("AWS_ROLE_ARN", "y"),
    ] {
        let environment =
            Environment { aws: vec![(name, value.to_owned())], ..cache.environment.clone() };
        others.push(key(&plain, &plain.scope(), &environment).unwrap());
    }
    for (container, computer) in [("1", None), ("2", None), ("1", Some("a")), ("1", Some("b"))] {
        let environment = Environment {
            container_secret_digest: Some(container.to_owned()),
            computer: computer.map(str::to_owned),
            ..cache.environment.clone()
        };
        others.push(key(&plain, &plain.scope(), &environment).unwrap());
    }
    for (at, other) in others.iter().enumerate() {
        assert!(
            *other != first && !others.iter().take(at).any(|earlier| earlier == other),
            "number {at}"
        );
    }
    assert_eq!(cache.slot("a.example").key, first);
}

#[test]
fn keys_in_the_environment_have_one_cache_key_on_every_computer_unless_a_profile_is_named() {
    let cache = TestCache::new();
    let plain = registry("a.example");
    let named = RegistryConfig { profile: Some("ci".to_owned()), ..plain.clone() };
    let aws = vec![("AWS_ACCESS_KEY_ID", "AKIA1".to_owned())];
    let on = |computer: Option<&str>| Environment {
        aws: aws.clone(),
        computer: computer.map(str::to_owned),
        ..cache.environment.clone()
    };
    for (registry, is_same) in [(&plain, true), (&named, false)] {
        let keys: Vec<_> = [None, Some("a"), Some("b")]
            .map(|computer| key(registry, &registry.scope(), &on(computer)))
            .into();
        let (first, others) = keys.split_first().unwrap();
        assert!(others.iter().all(|other| (other == first) == is_same), "{keys:?}");
    }
}

#[test]
fn a_program_that_does_not_know_the_access_key_does_not_use_the_token() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    for (access_key_id, critical) in [(None, 0), (Some("AKIA1"), 1), (Some("ASIA2"), 1)] {
        let for_one_key = Token { access_key_id: access_key_id.map(str::to_owned), ..token(60) };
        slot.write(&for_one_key, now());
        let file = std::fs::read(&slot.path).unwrap();
        let entry: CachedTokenBeforeChecks = serde_json::from_slice(&file).unwrap();
        assert_eq!(entry.crit.len(), critical, "{access_key_id:?}");
        assert_eq!(slot.read(now()).unwrap().access_key_id.as_deref(), access_key_id);
    }
}

#[test]
fn forget_deletes_the_tokens_of_one_host_in_every_format_version() {
    let cache = TestCache::new();
    forget("a.example", &cache.environment).unwrap();
    let (slot, other) = (cache.slot("a.example"), cache.slot("b.example"));
    slot.write(&token(60), now());
    other.write(&token(60), now());
    let newer = slot.path.with_extension("v2.json");
    std::fs::write(&newer, "{\"version\":2}").unwrap();
    forget("a.example", &cache.environment).unwrap();
    assert!(slot.read(now()).is_none() && other.read(now()).is_some());
    assert!(!newer.exists());
}

/// Returns when the newest file in the folder was changed.
fn changed(folder: &Path) -> DateTime<Utc> {
    let changed = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.unwrap().metadata().unwrap().modified().unwrap()
    };
    std::fs::read_dir(folder).unwrap().map(changed).max().unwrap().into()
}

#[test]
fn the_sweep_deletes_old_files_of_the_cache() {
    let cache = TestCache::new();
    let (slot, other) = (cache.slot("a.example"), cache.slot("b.example"));
    drop((slot.lock_fetch(LONG), other.lock_fetch(LONG)));
    slot.write(&token(60), now());
    other.write(&token(60), now());
    let folder = slot.path.parent().unwrap();
    std::fs::write(folder.join(".stile-Ab12Cd.tmp"), "cut off").unwrap();
    let count = || std::fs::read_dir(folder).unwrap().count();
    slot.sweep(changed(folder) + TimeDelta::hours(23));
    assert_eq!(count(), 5);
    slot.sweep(changed(folder) + TimeDelta::hours(25));
    assert_eq!(count(), 0);
}

#[test]
fn the_sweep_keeps_files_with_other_names() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    slot.write(&token(60), now());
    let (folder, own) =
        (slot.path.parent().unwrap(), slot.path.file_name().unwrap().to_str().unwrap());
    let (host, key) = own.strip_suffix(".json").unwrap().split_once('-').unwrap();
    let mut names = vec![
        "tokens.json".to_owned(),
        "tokens.json.lock".to_owned(),
        "config.toml".to_owned(),
        ".tmpAb12Cd".to_owned(),
        ".stile-".to_owned(),
        "notes.tmp".to_owned(),
        format!("{host}.json"),
        format!("{host}-.json"),
        format!("{host}-{host}.json"),
        format!("{host}-{key}"),
        format!("{host}-{key}.toml"),
        format!("{host}-{key}.v2.json"),
        format!("{}-{key}.json", host.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
        format!("x{host}-{key}.json"),
        format!("{host}-{key}.json.lock.lock"),
    ];
    for name in &names {
        std::fs::write(folder.join(name), "other").unwrap();
    }
    names.push(format!("{host}-{}.json", "0".repeat(KEY_DIGITS)));
    std::fs::create_dir(folder.join(names.last().unwrap())).unwrap();
    slot.sweep(changed(folder) + TimeDelta::hours(25));
    let mut left: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    names.sort();
    assert_eq!(left, names);
}

#[test]
fn the_sweep_keeps_a_lock_that_is_held_or_whose_token_exists() {
    let cache = TestCache::new();
    let (held, existing) = (cache.slot("a.example"), cache.slot("b.example"));
    let fetching = held.lock_fetch(LONG);
    drop(existing.lock_fetch(LONG));
    existing.write(&token(60), now());
    let folder = held.path.parent().unwrap();
    let lock = |slot: &CacheSlot| PathBuf::from(format!("{}.lock", slot.path.display()));
    let later = changed(folder) + TimeDelta::hours(25);
    std::fs::File::open(&existing.path).unwrap().set_modified(later.into()).unwrap();
    held.sweep(later);
    assert!(lock(&held).exists() && lock(&existing).exists());
    drop(fetching);
    held.sweep(later);
    assert!(!lock(&held).exists() && lock(&existing).exists());
}

#[cfg(unix)]
#[test]
fn the_sweep_follows_no_symbolic_links() {
    let cache = TestCache::new();
    let slot = cache.slot("a.example");
    slot.write(&token(60), now());
    let folder = slot.path.parent().unwrap();
    let elsewhere = folder.with_file_name("elsewhere");
    std::fs::rename(folder, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder).unwrap();
    slot.sweep(changed(&elsewhere) + TimeDelta::hours(25));
    assert!(slot.path.exists(), "a folder that is a link");
    std::fs::remove_file(folder).unwrap();
    std::fs::rename(&elsewhere, folder).unwrap();
    std::fs::rename(&slot.path, cache.environment.cache_folder.as_ref().unwrap().join("moved"))
        .unwrap();
    std::os::unix::fs::symlink("../moved", &slot.path).unwrap();
    slot.sweep(changed(folder) + TimeDelta::hours(25));
    assert!(std::fs::symlink_metadata(&slot.path).is_ok(), "a link with the name of a cache file");
}
