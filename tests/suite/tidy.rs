//! Rules for the source code, checked by reading it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use stile_tests::skipped::{skipped, tool};

struct Source {
    path: String,
    /// The text without the tests at its end.
    code: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    for package in ["broker", "helper", "admin", "tests"] {
        walk(&root().join(package), &mut found);
    }
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("\n#[cfg(test)]\n").next().unwrap_or_default().to_owned();
        Source { path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), code, text }
    };
    let sources: Vec<_> = found.into_iter().map(read).collect();
    assert!(sources.len() > 50, "the test finds the source");
    sources
}

/// Returns the places that contain one of the words, except in files that may.
fn strangers(words: &[&str], may: impl Fn(&str) -> bool) -> Vec<String> {
    let named = |source: &Source| {
        source.code.lines().any(|line| {
            !line.trim_start().starts_with("//") && words.iter().any(|word| line.contains(word))
        })
    };
    sources()
        .into_iter()
        .filter(|source| !may(&source.path) && named(source))
        .map(|source| source.path)
        .collect()
}

const NONE: [&str; 0] = [];

fn is_test(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/")
}

#[test]
fn only_the_http_rooms_name_the_web_framework() {
    let may = |path: &str| {
        path.starts_with("broker/src/http/")
            || path == "broker/src/main.rs"
            || path.starts_with("tests/")
    };
    assert_eq!(strangers(&["axum"], may), NONE);
}

#[test]
fn a_status_is_chosen_in_one_room() {
    let chosen =
        |path: &str| !path.starts_with("broker/src/") || path == "broker/src/http/error.rs";
    // Success, and the 404 of the archive server itself, are not errors of the broker.
    let errors = [
        "BAD_REQUEST",
        "UNAUTHORIZED",
        "FORBIDDEN",
        "CONFLICT",
        "SERVICE_UNAVAILABLE",
        "BAD_GATEWAY",
        "INTERNAL_SERVER_ERROR",
        "TOO_MANY_REQUESTS",
    ];
    assert_eq!(strangers(&errors.map(|name| name), chosen), NONE);
}

#[test]
fn only_the_store_and_boot_name_an_aws_sdk_in_the_broker() {
    let may = |path: &str| {
        !path.starts_with("broker/")
            || path.starts_with("broker/store/src/")
            || path == "broker/src/boot.rs"
    };
    assert_eq!(strangers(&["aws_sdk", "aws_config", "aws_sigv4"], may), NONE);
}

#[test]
fn only_authentication_makes_identities_and_only_the_admin_program_is_an_operator() {
    let identity = |path: &str| {
        path.starts_with("broker/src/authn/")
            || path == "broker/core/src/identity.rs"
            || is_test(path)
    };
    assert_eq!(strangers(&["Identity::from_"], identity), NONE);
    let operator = |path: &str| {
        ["admin/src/commands/mod.rs", "broker/core/src/grants/evidence.rs"].contains(&path)
            // The entry points of fuzz targets. No program uses them.
            || path == "broker/src/http/fuzz.rs"
            || is_test(path)
    };
    assert_eq!(strangers(&["for_store_writer("], operator), NONE);
}

#[test]
fn only_a_test_makes_a_client_of_webhooks_that_connects_to_other_addresses() {
    assert_eq!(strangers(&["WebhookClient::for_test("], is_test), NONE);
    assert_eq!(strangers(&["IssuerClient::for_test("], is_test), NONE);
}

#[test]
fn the_clock_and_the_environment_are_read_where_they_are_read() {
    let clock = strangers(&["SystemTime::now", "Utc::now", "Local::now"], |path| {
        [
            "broker/core/src/clock.rs",
            "helper/src/clock.rs",
            "helper/src/main.rs",
            "admin/src/main.rs",
        ]
        .contains(&path)
            || is_test(path)
    });
    assert_eq!(clock, NONE);
    let environment = strangers(&["env::var"], |path| {
        ["broker/src/config.rs", "helper/src/config.rs", "helper/src/cli.rs", "admin/src/cli.rs"]
            .contains(&path)
            || is_test(path)
    });
    assert_eq!(environment, NONE);
}

#[test]
fn nothing_waits_for_time_to_pass() {
    // A busy registry says how long a client must wait, and so does a system without free file
    // descriptors. A writer that meets another one in a table waits before it tries again, and a
    // file of grants waits for the end of another one's lease.
    let mays = [
        "tests/suite/tidy.rs",
        "admin/src/api.rs",
        // `audit --follow` looks again.
        "admin/src/commands/audit.rs",
        "admin/src/commands/grant_backend.rs",
        // A registry that verifies an archive says when to ask again.
        "admin/src/commands/provider_send.rs",
        "broker/src/http/serve.rs",
        "broker/store/src/retry.rs",
    ];
    assert_eq!(strangers(&["thread::sleep", "time::sleep"], |path| mays.contains(&path)), NONE);
}

#[test]
fn nothing_switches_authentication_off() {
    let words = ["insecure", "danger_accept", "skip_auth", "no_auth", "disable_auth"];
    assert_eq!(strangers(&words, |path| path == "tests/suite/tidy.rs"), NONE);
}

#[test]
fn every_file_says_what_happens_in_it_and_is_one_room() {
    for source in sources() {
        assert!(
            source.text.starts_with("//! "),
            "{} does not start with a `//!` line",
            source.path
        );
        let lines = source.text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines: split it", source.path);
    }
}

#[test]
fn nothing_is_left_for_later_in_the_source() {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), "unimplemented!"];
    assert_eq!(strangers(&words, |path| path == "tests/suite/tidy.rs"), NONE);
}

/// Words and phrases that are not plain English, each with the usual replacement.
const BANNED_PHRASES: [(&str, &str); 17] = [
    ("anew", "again"),
    ("whoever", "the actor, such as \"the caller\""),
    ("whomever", "the actor, such as \"the caller\""),
    ("somebody", "the actor, such as \"a client\""),
    ("anybody", "\"anyone\", or the actor"),
    ("everybody", "\"everyone\", or the actors"),
    ("beside", "next to, except, in addition to"),
    ("besides", "next to, except, in addition to"),
    ("told", "reported, distinguished, configured"),
    ("let in", "has access, is accepted"),
    ("lets in", "gives access, accepts"),
    ("hung up", "closed the connection"),
    ("hangs up", "closes the connection"),
    ("may be had", "is available"),
    ("in earnest", "real, for production"),
    ("upon", "on, after"),
    ("what is no", "\"something that is not\", or the thing itself"),
];

/// Returns whether a phrase is in a text as whole words. In names, `_` separates words.
fn has_phrase(text: &str, phrase: &str) -> bool {
    let is_letter = |letter: Option<char>| letter.is_some_and(char::is_alphabetic);
    text.match_indices(phrase).any(|(at, _)| {
        !is_letter(text[..at].chars().next_back())
            && !is_letter(text[at + phrase.len()..].chars().next())
    })
}

#[test]
fn the_source_is_in_plain_english() {
    let mut found = Vec::new();
    for source in sources() {
        // This file has the list of the phrases.
        if source.path == "tests/suite/tidy.rs" {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let line = line.to_ascii_lowercase().replace('_', " ");
            for (phrase, instead) in BANNED_PHRASES {
                if has_phrase(&line, phrase) {
                    let place = format!("{}:{}", source.path, number + 1);
                    found.push(format!("{place}: `{phrase}`; write instead: {instead}"));
                }
            }
        }
    }
    assert_eq!(found, [""; 0]);
    assert!(has_phrase("a role made anew", "anew") && !has_phrase("renewed anewly", "anew"));
}

#[test]
fn every_page_that_a_page_links_to_is_there() {
    let mut pages: Vec<PathBuf> = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"]
        .iter()
        .map(|page| root().join(page))
        .filter(|page| page.exists())
        .collect();
    for folder in ["docs", "docs/decisions"] {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")),
        );
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(
                page.parent().unwrap().join(target).exists(),
                "{} links to {target}, which does not exist",
                page.display()
            );
        }
    }
}

/// Returns the items that a page links to their file, and the tests in the last cells of its
/// tables.
fn named_in(page: &str) -> (Vec<(String, String)>, Vec<String>) {
    let (mut items, mut tests) = (Vec::new(), Vec::new());
    for row in page.lines().filter(|line| line.starts_with('|')) {
        for (name, rest) in row.split("[`").skip(1).filter_map(|link| link.split_once("`](../")) {
            if let Some((file, _)) = rest.split_once(')').filter(|_| !name.contains('.')) {
                items.push((
                    file.to_owned(),
                    name.rsplit("::").next().unwrap_or_default().to_owned(),
                ));
            }
        }
        let last = row.trim_end_matches(['|', ' ']).rsplit('|').next().unwrap_or_default();
        tests.extend(last.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    (items, tests)
}

#[test]
fn every_defence_and_every_test_that_the_threat_model_names_is_there() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let (items, tests) = named_in(&page);
    assert!(
        items.len() > 50 && tests.len() > 50,
        "the test reads the tables: {} items, {} tests",
        items.len(),
        tests.len()
    );
    for (file, item) in items {
        let text = fs::read_to_string(root().join(&file)).unwrap();
        let kinds = ["fn", "struct", "enum", "const", "static"];
        let there = kinds.iter().any(|kind| {
            text.split(&format!("{kind} {item}"))
                .skip(1)
                .any(|rest| !rest.starts_with(is_of_a_name))
        });
        assert!(there, "`{item}` is not in {file}");
    }
    let sources = sources();
    for test in tests {
        let (module, name) = test
            .rsplit_once("::")
            .map_or((None, test.as_str()), |(module, name)| (Some(module), name));
        let holds = |source: &&Source| source.text.contains(&format!("fn {name}("));
        let file = module.map(|module| format!("tests/suite/{module}.rs"));
        let there = sources
            .iter()
            .filter(holds)
            .any(|source| file.as_ref().is_none_or(|file| *file == source.path));
        assert!(there, "there is no test `{test}`");
    }
}

fn is_of_a_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

#[test]
fn the_threat_model_lists_the_breaks_that_are_tried() {
    let page = fs::read_to_string(root().join("docs/threat-model.md")).unwrap();
    let folder =
        fs::read_dir(root().join("tests/mutations")).unwrap().map(|entry| entry.unwrap().path());
    let mut breaks: Vec<PathBuf> = folder
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .collect();
    breaks.sort();
    assert!(breaks.len() >= 10);
    let git = tool("git");
    if git.is_none() {
        skipped("git", "that the mutations of `make mutations` apply");
    }
    for path in breaks {
        let patch = fs::read_to_string(&path).unwrap();
        let said = |what: &str| {
            patch
                .lines()
                .filter_map(|line| line.strip_prefix(what).map(str::to_owned))
                .collect::<Vec<_>>()
        };
        let tests: Vec<String> = said("Test: ")
            .iter()
            .map(|test| format!("`{}`", test.trim_start_matches("on_embedded::")))
            .collect();
        let row = format!("| {} | {} |", said("Break: ").join(""), tests.join(", "));
        // A change of the source must not break a mutation patch unnoticed.
        if let Some(git) = &git {
            let applies = Command::new(git)
                .args(["apply", "--check"])
                .arg(&path)
                .current_dir(root())
                .output()
                .unwrap();
            assert!(
                applies.status.success(),
                "{} does not apply: {}",
                path.display(),
                String::from_utf8_lossy(&applies.stderr)
            );
        }
        assert!(
            page.contains(&row),
            "{} is not in docs/threat-model.md with this description: {row}",
            path.display()
        );
    }
}
