//! The fuzz target `source`: parses generated sources and the list of what an operator allows. Not
//! part of the service.

use super::{AllowedEntry, AllowedSource, AllowedSources, ModuleSource, SourcesChange};
use crate::fuzz::{Verdict, is_plain};

/// The list of an operator, if the input has none.
const ALLOWED: [&str; 4] = [
    "git::https://git.example.com/acme",
    "git::ssh://git@git.example.com/acme",
    "https://files.example.com/acme/",
    "s3::https://s3.eu-central-1.amazonaws.com/acme",
];

/// All that a source can begin with.
const PREFIXES: [&str; 4] = ["git::https://", "git::ssh://", "https://", "s3::https://"];

/// Reads the first line as a source, and each further line as an allowed address: with ` *` at its
/// end, it allows branches.
///
/// It accepts a source that the list allows.
pub fn source(bytes: &[u8]) -> Verdict {
    let Ok(input) = str::from_utf8(bytes) else { return Verdict::Rejected };
    let mut lines = input.split('\n');
    let text = lines.next().unwrap_or_default();
    let typed: Vec<&str> = lines.filter(|line| !line.is_empty()).take(64).collect();
    let typed = if typed.is_empty() { ALLOWED.to_vec() } else { typed };
    let mut allowed = Vec::new();
    for line in typed {
        let (address, moving) = match line.strip_suffix(" *") {
            Some(address) => (address, true),
            None => (line, false),
        };
        match AllowedSource::parse(address, moving) {
            Ok(entry) => {
                check_address(entry.address());
                assert!(address.starts_with(entry.address()), "`{address}` became another one");
                allowed.push(entry);
            }
            Err(error) => assert!(is_plain(&error.to_string()), "{error:?}"),
        }
    }
    let change = SourcesChange { add: allowed, ..SourcesChange::default() };
    let list = AllowedSources::default().changed(&change).expect("64 entries fit");
    let stored = list.to_text();
    assert_eq!(AllowedSources::read(stored.as_deref()), list, "the list is read as it was written");
    match ModuleSource::parse(text) {
        Err(error) => {
            assert!(is_plain(&error.to_string()), "{error:?}");
            Verdict::Rejected
        }
        Ok(source) => {
            check_source(text, &source);
            match list.permit(&source) {
                Ok(()) => {
                    check_permitted(text, &source, &list);
                    Verdict::Accepted
                }
                Err(refusal) => {
                    assert!(is_plain(&refusal.to_string()), "{refusal:?}");
                    Verdict::Rejected
                }
            }
        }
    }
}

/// Checks what no source may contain, on its bytes.
fn check_source(text: &str, source: &ModuleSource) {
    assert_eq!((source.as_str(), source.to_string().as_str()), (text, text), "it is handed out");
    assert_eq!(ModuleSource::parse(text).as_ref(), Ok(source));
    let (address, query) = text.split_once('?').unwrap_or((text, ""));
    check_address(address);
    assert!(!query.contains(['?', '@']), "{text}");
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').expect("a key has a value");
        let is_git = text.starts_with("git::");
        let keys = if is_git { ["ref", "depth"] } else { ["checksum", "archive"] };
        assert!(keys.contains(&key), "{text}");
        assert!(!value.is_empty() && !value.starts_with('-'), "{text}");
        // The checksum of a file elsewhere would name another source.
        assert!(!value.contains("://") && !value.contains("file:"), "{text}");
    }
    if let Some(git) = source.git() {
        assert_eq!(
            text.strip_prefix("git::").map(|text| text.starts_with(git.repository)),
            Some(true)
        );
        assert_eq!(git.reference.is_some(), query.contains("ref="), "{text}");
    }
    let commit = "0123456789abcdef0123456789abcdef01234567";
    if let Ok(pinned) = source.at_commit(commit) {
        assert!(pinned.has_commit() && !pinned.is_moving(), "{pinned}");
        assert_eq!(pinned.package(), source.package());
    }
}

/// Checks the part of a source, or of an allowed address, before its query.
fn check_address(address: &str) {
    let rest = PREFIXES.iter().find_map(|prefix| address.strip_prefix(prefix));
    let rest = rest.expect("a source begins with one of the ways to fetch it");
    let (authority, path) = rest.split_once('/').expect("a source has a path");
    let is_ssh = address.starts_with("git::ssh://");
    let server = authority.strip_prefix("git@").filter(|_| is_ssh).unwrap_or(authority);
    assert!(!server.is_empty() && !server.contains('@'), "`{address}` has a user");
    assert!(server.split(':').count() <= 2, "`{address}` has a password");
    assert!(!path.contains(['@', ':']), "`{address}` is an address in an address");
    assert!(!path.split('/').any(|part| matches!(part, "." | "..")), "`{address}` leaves its path");
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"%\\\"'`$<>#".contains(&byte);
    assert!(address.bytes().all(is_plain), "`{address}` has another character");
}

/// Checks that an entry of the list allows the source, by the two texts only.
fn check_permitted(text: &str, source: &ModuleSource, list: &AllowedSources) {
    let includes = |entry: &AllowedSource| {
        text.strip_prefix(entry.address()).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with(['/', '?']) || entry.address().ends_with('/')
        })
    };
    let including = list.entries().iter().filter_map(|entry| match entry {
        AllowedEntry::Known(entry) if includes(entry) => Some(entry),
        AllowedEntry::Known(_) | AllowedEntry::Objects(_) | AllowedEntry::Unknown(_) => None,
    });
    let including: Vec<&AllowedSource> = including.collect();
    assert!(!including.is_empty(), "no entry includes `{text}`");
    let longest = including.iter().max_by_key(|entry| entry.address().len());
    let may_move = longest.is_some_and(|entry| entry.moving_refs());
    assert!(may_move || !source.is_moving(), "`{text}` can move");
    let host = |text: &str| text.split('/').nth(2).map(str::to_owned);
    assert!(including.iter().all(|entry| host(entry.address()) == host(text)), "another host");
}
