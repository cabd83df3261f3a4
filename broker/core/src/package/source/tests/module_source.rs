//! Which texts are sources, and what each selects.

use super::super::{GitReference, ModuleSource};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Texts that are not sources, and a part of the sentence that says why.
const MALFORMED: [(&str, &str); 124] = [
    // Another way to fetch, or another spelling of one.
    ("", "must begin with"),
    ("x", "must begin with"),
    ("/etc/passwd.zip", "must begin with"),
    ("./modules/vpc", "must begin with"),
    ("../modules/vpc", "must begin with"),
    ("file:///etc/passwd.zip", "must begin with"),
    ("file::https://h.example/a.zip", "must begin with"),
    ("git::file:///srv/git/vpc", "must begin with"),
    ("git::/srv/git/vpc", "must begin with"),
    ("http://h.example/a.zip", "must begin with"),
    ("git::http://h.example/vpc", "must begin with"),
    ("s3::http://h.example/a.zip", "must begin with"),
    ("git::git://h.example/vpc", "must begin with"),
    ("git://h.example/vpc", "must begin with"),
    ("ssh://git@h.example/vpc", "must begin with"),
    ("hg::https://h.example/vpc", "must begin with"),
    ("gcs::https://h.example/a.zip", "must begin with"),
    ("oci://h.example/vpc", "must begin with"),
    ("git::git::https://h.example/vpc", "must begin with"),
    ("git::s3::https://h.example/vpc", "must begin with"),
    ("https::https://h.example/a.zip", "must begin with"),
    ("GIT::https://h.example/vpc", "must begin with"),
    ("Git::https://h.example/vpc", "must begin with"),
    ("git::HTTPS://h.example/vpc", "must begin with"),
    ("HTTPS://h.example/a.zip", "must begin with"),
    ("git:https://h.example/vpc", "must begin with"),
    ("git::https:/h.example/vpc", "must begin with"),
    ("git::https:h.example/vpc", "must begin with"),
    (" git::https://h.example/vpc", "only ASCII"),
    ("git::https://h.example/vpc ", "only ASCII"),
    ("git::https://h.example/vpc\n", "only ASCII"),
    ("git::https://h.example/vpc\r\nX-Other: 1", "only ASCII"),
    ("git::https://h.example/vpc\0", "only ASCII"),
    ("git::https://h.example/vpc\u{7f}", "only ASCII"),
    ("git::git@h.example:acme/vpc.git", "must begin with"),
    ("git@h.example:acme/vpc.git", "must begin with"),
    ("github.com/acme/vpc", "must begin with"),
    ("registry.example/acme/vpc/aws", "must begin with"),
    // Users and passwords.
    ("git::https://git@h.example/vpc", "no user and no password"),
    ("git::https://bob:hunter2@h.example/vpc", "no user and no password"),
    ("git::https://hunter2@h.example/vpc", "no user and no password"),
    ("https://bob@h.example/a.zip", "no user and no password"),
    ("s3::https://AKIA:hunter2@h.example/b/a.zip", "no user and no password"),
    ("git::ssh://bob@h.example/vpc", "no user other than `git`"),
    ("git::ssh://git:hunter2@h.example/vpc", "no user other than `git`"),
    ("git::ssh://git:@h.example/vpc", "no user other than `git`"),
    ("git::ssh://Git@h.example/vpc", "no user other than `git`"),
    ("git::ssh://@h.example/vpc", "no user other than `git`"),
    ("git::ssh://git@git@h.example/vpc", "its host must be"),
    ("https://h.example@evil.example/a.zip", "no user and no password"),
    ("https://h.example\\@evil.example/a.zip", "only ASCII"),
    ("https://h.example%40evil.example/a.zip", "percent-encoded"),
    // Hosts and ports.
    ("https:///a.zip", "its host must be"),
    ("git::https://H.example/vpc", "its host must be"),
    ("git::https://h.EXAMPLE/vpc", "its host must be"),
    ("git::https://h.example./vpc", "its host must be"),
    ("git::https://.h.example/vpc", "its host must be"),
    ("git::https://h..example/vpc", "its host must be"),
    ("git::https://-h.example/vpc", "its host must be"),
    ("git::https://h-.example/vpc", "its host must be"),
    ("git::https://h_x.example/vpc", "its host must be"),
    ("git::https://2130706433/vpc", "its host must be"),
    ("git::https://127.1/vpc", "its host must be"),
    ("git::https://127.0.0.01/vpc", "its host must be"),
    ("git::https://0x7f.0.0.1/vpc", "its host must be"),
    ("git::https://h.0x1/vpc", "its host must be"),
    ("git::https://256.0.0.1/vpc", "its host must be"),
    ("git::https://b\u{fc}cher.example/vpc", "only ASCII"),
    ("git::https://h\u{ff0e}example/vpc", "only ASCII"),
    ("git::https://[::1]/vpc", "only ASCII"),
    ("git::https://h.example", "a `/` and a path"),
    ("git::https://h.example?ref=v1.0.0", "a `/` and a path"),
    ("git::https://h.example:443/vpc", "default port 443"),
    ("git::ssh://git@h.example:22/vpc", "default port 22"),
    ("git::https://h.example:/vpc", "default port"),
    ("git::https://h.example:0/vpc", "default port"),
    ("git::https://h.example:08443/vpc", "default port"),
    ("git::https://h.example:65536/vpc", "default port"),
    ("git::https://h.example:8443:1/vpc", "default port"),
    ("git::ssh://git@h.example:acme/vpc", "default port"),
    // Paths and folders.
    ("git::https://h.example/", "no empty part"),
    ("git::https://h.example//vpc", "no empty part"),
    ("git::https://h.example/acme/", "no empty part"),
    ("git::https://h.example/acme//", "no empty part"),
    ("git::https://h.example/acme///x", "no empty part"),
    ("git::https://h.example/acme//x//y", "no empty part"),
    ("git::https://h.example/acme//x/", "no empty part"),
    ("git::https://h.example/acme/../evil", "`.` and `..`"),
    ("git::https://h.example/acme/./vpc", "`.` and `..`"),
    ("git::https://h.example/..", "`.` and `..`"),
    ("git::https://h.example/acme//..", "`.` and `..`"),
    ("git::https://h.example/acme//x/../../y", "`.` and `..`"),
    ("git::https://h.example/acme/%2e%2e/evil", "percent-encoded"),
    ("git::https://h.example/acme%2fevil", "percent-encoded"),
    ("git::https://h.example/acme//%2e%2e", "percent-encoded"),
    ("git::https://h.example/acme\\..\\evil", "only ASCII"),
    ("git::https://h.example/acme;evil", "only ASCII"),
    ("git::https://h.example/a:b", "its path must have only"),
    ("git::https://h.example/a@b", "its path must have only"),
    ("git::https://h.example/a&b=c", "its path must have only"),
    ("git::https://h.example/acme//mod*", "only ASCII"),
    ("git::https://h.example/vpc#v1.0.0", "only ASCII"),
    ("git::https://h.example/vpc?ref=v1.0.0#x", "only ASCII"),
    // A name that makes a client clone another repository, or read another source from a page.
    ("git::https://h.example/acme/vpc.zip", "name of an archive"),
    ("git::https://h.example/acme/vpc.tar.gz?ref=v1.0.0", "name of an archive"),
    ("git::ssh://git@h.example/acme/vpc.tzst", "name of an archive"),
    ("https://h.example/acme/vpc", "must end with a format"),
    ("https://h.example/acme/vpc.ZIP", "must end with a format"),
    ("https://h.example/acme/zip", "must end with a format"),
    ("https://h.example/acme/vpc//a.zip", "must end with a format"),
    ("s3::https://h.example/bucket/modules", "must end with a format"),
    ("https://h.example/a.zip?archive=false", "`archive` must be"),
    ("https://h.example/a.zip?archive=", "`archive` must be"),
    ("https://h.example/a?archive=ZIP", "`archive` must be"),
    // Queries.
    ("git::https://h.example/vpc?", "only `ref` and `depth`"),
    ("git::https://h.example/vpc?ref=v1.0.0&", "only `ref` and `depth`"),
    ("git::https://h.example/vpc?REF=v1.0.0", "only `ref` and `depth`"),
    ("git::https://h.example/vpc?ref=v1.0.0&sshkey=aGk=", "only `ref` and `depth`"),
    ("git::https://h.example/vpc?archive=zip", "only `ref` and `depth`"),
    ("git::https://h.example/vpc?ref=v1.0.0&ref=main", "has `ref` twice"),
    ("git::https://h.example/vpc?ref=v1.0.0?x", "`ref` must be"),
    ("https://h.example/a.zip?ref=v1.0.0", "only `checksum` and `archive`"),
    ("https://h.example/a.zip?X-Amz-Signature=1", "only `checksum` and `archive`"),
    ("https://h.example/a.zip?aws_access_key_id=x", "only `checksum` and `archive`"),
];

#[test]
fn a_text_with_another_meaning_or_another_spelling_is_not_a_source() {
    for (text, because) in MALFORMED {
        let error = ModuleSource::parse(text).expect_err(text).to_string();
        assert!(error.contains(because), "{text:?}: {error}");
        assert!(!error.contains("hunter2"), "{text:?}: {error}");
    }
    let long = format!("git::https://h.example/{}", "a".repeat(1024));
    assert!(ModuleSource::parse(&long).unwrap_err().to_string().contains("longer than 512"));
    let label = format!("https://{}.example/a.zip", "a".repeat(64));
    assert!(ModuleSource::parse(&label).unwrap_err().to_string().contains("its host must be"));
}

#[test]
fn a_value_in_a_query_is_never_an_option_a_file_or_another_url() {
    let text = |value: &str| format!("git::https://h.example/vpc?ref={value}");
    for reference in [
        "",
        "-",
        "--upload-pack=x",
        "-v1.0.0",
        "a/-b",
        "..",
        "a..b",
        ".a",
        "a/.b",
        "a.",
        "a.lock",
        "/a",
        "a/",
        "a//b",
        "a:b",
        "a@b",
        "a=b",
        &"a".repeat(201),
    ] {
        let error = ModuleSource::parse(&text(reference)).expect_err(reference).to_string();
        assert!(error.contains("`ref` must be"), "{reference:?}: {error}");
    }
    for reference in ["a+b", "a b", "a^b", "a~b", "a%2fb", "a\\b", "a{b", "\u{e9}"] {
        // `~` is valid in a path, but not in the name of a branch.
        ModuleSource::parse(&text(reference)).expect_err(reference);
    }
    for depth in ["", "0", "-1", "+1", "01", "1.0", "1e3", "x", "1000001", "99999999999"] {
        let text = format!("git::https://h.example/vpc?ref=main&depth={depth}");
        ModuleSource::parse(&text).expect_err(&text);
    }
    let digest = "ab".repeat(32);
    for checksum in [
        String::new(),
        digest.clone(),
        format!("sha256:{}", &digest[1..]),
        format!("sha256:{}", digest.to_uppercase()),
        format!("SHA256:{digest}"),
        format!("sha512:{digest}"),
        format!("md5:{}", &digest[32..]),
        "file:https://evil.example/sums".to_owned(),
        "file:/etc/passwd".to_owned(),
    ] {
        let text = format!("https://h.example/a.zip?checksum={checksum}");
        let error = ModuleSource::parse(&text).expect_err(&text).to_string();
        assert!(error.contains("`checksum` must be"), "{text}: {error}");
    }
    let text = format!("git::https://h.example/vpc?ref={COMMIT}&depth=1");
    let error = ModuleSource::parse(&text).unwrap_err().to_string();
    assert!(error.contains("clients cannot use both"), "{error}");
}

#[test]
fn a_source_is_kept_as_it_was_written_and_says_what_it_selects() {
    let sha256_commit = "ab".repeat(32);
    let digest = format!("sha256:{}", "ab".repeat(32));
    let digest_512 = format!("sha512:{}", "ab".repeat(64));
    let git = |text: &str, package: &str, reference: Option<&str>, is_moving: bool| {
        (text.to_owned(), package.to_owned(), true, reference.map(str::to_owned), is_moving)
    };
    let archive =
        |text: &str, package: &str| (text.to_owned(), package.to_owned(), false, None, false);
    let at = |reference: &str| format!("git::https://h.example/acme/vpc?ref={reference}");
    let vpc = "git::https://h.example/acme/vpc";
    for (text, package, is_git, reference, is_moving) in [
        git(vpc, vpc, None, true),
        git(&at("v1.2.0"), vpc, Some("v1.2.0"), false),
        git(&at("v1.2.0-rc.1"), vpc, Some("v1.2.0-rc.1"), false),
        git(&at(COMMIT), vpc, Some(COMMIT), false),
        // In a repository with SHA-1, it can be the name of a branch.
        git(&at(&sha256_commit), vpc, Some(&sha256_commit), true),
        git(&at("1.2.0"), vpc, Some("1.2.0"), true),
        git(&at("v1.2"), vpc, Some("v1.2"), true),
        git(&at("v01.2.0"), vpc, Some("v01.2.0"), true),
        git(&at("vpc-v1.2.0"), vpc, Some("vpc-v1.2.0"), true),
        git(&at("release/v1.2.0"), vpc, Some("release/v1.2.0"), true),
        git(&at("main"), vpc, Some("main"), true),
        git(&at(&COMMIT[1..]), vpc, Some(&COMMIT[1..]), true),
        git(&at(&COMMIT.to_uppercase()), vpc, Some(&COMMIT.to_uppercase()), true),
        git(&format!("{vpc}?depth=1&ref=v1.2.0"), vpc, Some("v1.2.0"), false),
        git(&format!("{vpc}//modules/vpc?ref=v1.2.0"), vpc, Some("v1.2.0"), false),
        git(&format!("{vpc}//-x.y_z~"), vpc, None, true),
        git("git::https://h.example/vpc.git", "git::https://h.example/vpc.git", None, true),
        git("git::https://h.example/x.zip.git", "git::https://h.example/x.zip.git", None, true),
        git("git::https://h.example/vpc//a.zip", "git::https://h.example/vpc", None, true),
        git("git::https://127.0.0.1:8443/vpc", "git::https://127.0.0.1:8443/vpc", None, true),
        git(
            "git::https://xn--bcher-kva.example/v",
            "git::https://xn--bcher-kva.example/v",
            None,
            true,
        ),
        git("git::https://gitlab/a/b/c/d", "git::https://gitlab/a/b/c/d", None, true),
        git("git::ssh://git@h.example/acme/vpc", "git::ssh://git@h.example/acme/vpc", None, true),
        git(
            "git::ssh://h.example:2222/~acme/vpc",
            "git::ssh://h.example:2222/~acme/vpc",
            None,
            true,
        ),
        git("git::ssh://git@h.example:443/vpc", "git::ssh://git@h.example:443/vpc", None, true),
        archive("https://h.example/vpc.zip", "https://h.example/vpc.zip"),
        archive("https://h.example/vpc.tar.gz//modules/x", "https://h.example/vpc.tar.gz"),
        archive("https://h.example/acme/-/vpc.tgz", "https://h.example/acme/-/vpc.tgz"),
        archive("https://h.example/vpc?archive=tar.gz", "https://h.example/vpc"),
        archive(&format!("https://h.example/v.zip?checksum={digest}"), "https://h.example/v.zip"),
        archive(
            &format!("https://h.example/v.zip?checksum={digest_512}"),
            "https://h.example/v.zip",
        ),
        archive(
            &format!("https://h.example/v//x?archive=zip&checksum={digest}"),
            "https://h.example/v",
        ),
        archive(
            "s3::https://b.s3.eu-west-1.amazonaws.com/v.zip",
            "s3::https://b.s3.eu-west-1.amazonaws.com/v.zip",
        ),
    ] {
        let source = ModuleSource::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(source.as_str(), text);
        assert_eq!(source.package(), package, "{text}");
        assert_eq!(source.is_moving(), is_moving, "{text}");
        let expected = is_git.then(|| GitReference {
            repository: package.strip_prefix("git::").unwrap(),
            reference: reference.as_deref(),
        });
        assert_eq!(source.git(), expected, "{text}");
    }
}

#[test]
fn a_source_at_a_commit_keeps_everything_but_its_reference() {
    let source = |text: &str| ModuleSource::parse(text).unwrap();
    for (text, expected) in [
        ("git::https://h.example/vpc", "git::https://h.example/vpc?ref="),
        ("git::https://h.example/vpc?ref=v1.0.0", "git::https://h.example/vpc?ref="),
        ("git::ssh://git@h.example/vpc//x?ref=main", "git::ssh://git@h.example/vpc//x?ref="),
    ] {
        let at = source(text).at_commit(COMMIT).unwrap();
        assert_eq!(at.as_str(), format!("{expected}{COMMIT}"));
        assert!(at.has_commit() && !at.is_moving() && !source(text).has_commit(), "{text}");
    }
    for (text, commit) in [
        ("https://h.example/a.zip", COMMIT),
        ("git::https://h.example/vpc", "main"),
        ("git::https://h.example/vpc", &COMMIT[1..]),
        ("git::https://h.example/vpc?ref=main&depth=1", COMMIT),
    ] {
        source(text).at_commit(commit).expect_err(text);
    }
}
