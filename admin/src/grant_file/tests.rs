//! Tests the file of grants: what is wrong and where, the difference, and the way back to a file.

use stile_core::grants::Grant;
use stile_core::principal::Principal;
use stile_protocol::names::Permission::{self, Download, Upload};
use stile_store::{ListedGrants, UnreadableGrant};

use super::*;

/// 2026-11-20T10:11:12Z.
const NOW: i64 = 1_795_169_472;

fn toml(text: &str) -> Result<GrantFile, Vec<String>> {
    read("grants.toml", text, FileFormat::Toml)
}

fn json(text: &str) -> Result<GrantFile, Vec<String>> {
    read("grants.json", text, FileFormat::Json)
}

fn read(name: &str, text: &str, format: FileFormat) -> Result<GrantFile, Vec<String>> {
    parse(name, text, format, NOW, false)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

/// Returns a file with one grant, whose lines follow line 4.
fn one(lines: &str) -> String {
    format!("version = 1\nowns = [\"acme\"]\n\n[[grant]]\n{lines}")
}

const ROLE: &str = "principal = \"arn:aws:iam::111122223333:role/deploy\"\n";

const ON_ACME: &str = "namespace = \"acme\"\n";

const DOWNLOAD: &str = "permissions = [\"download\"]\n";

#[test]
fn a_wrong_file_is_one_error_with_its_line_and_column_for_each_wrong_place() {
    let with = |lines: &[&str]| one(&lines.concat());
    for (text, place, words) in [
        (String::new(), "line 1, column 1", "no `version`"),
        ("version = 2\nowns = \"all\"".to_owned(), "line 1, column 11", "version `2`"),
        ("version = \"1\"\nowns = \"all\"".to_owned(), "line 1, column 11", "must be a number"),
        ("version = 1".to_owned(), "line 1, column 1", "does not say what it owns"),
        ("version = 1\nowns = \"all\"".to_owned(), "line 1, column 1", "has no `grant`"),
        ("version = 1\nowns = \"acme\"".to_owned(), "line 2, column 8", "not a list of namespaces"),
        ("version = 1\nowns = [\"all\"]".to_owned(), "line 2, column 9", "is reserved"),
        ("version = 1\nowns = [\"a\", \"a\"]".to_owned(), "line 2, column 14", "appears twice"),
        (
            "version = 1\nowns = [1]".to_owned(),
            "line 2, column 9",
            "must be a text, and is a number",
        ),
        (
            "version = 1\nowns = \"all\"\ngrants = []".to_owned(),
            "line 3, column 1",
            "no key `grants`",
        ),
        (
            "version = 1\nowns = \"all\"\ngrant = 1".to_owned(),
            "line 3, column 9",
            "a list of grants",
        ),
        ("version = 1\nowns = \"all\"\ngrant = [1]".to_owned(), "line 3, column 10", "a table"),
        ("version = 1\nowns = \"all\n".to_owned(), "line 2, column 12", "invalid basic string"),
        (
            "version = 1\nversion = 1\nowns = \"all\"".to_owned(),
            "line 2, column 1",
            "duplicate key",
        ),
        (one(""), "line 4, column 1", "the grant has no `principal`"),
        (
            with(&["principal = \"service:renovate\"\n", ON_ACME, DOWNLOAD]),
            "line 5, column 13",
            "a file has no grants of services, and `service:renovate` is one",
        ),
        (with(&[ROLE, ON_ACME]), "line 4, column 1", "the grant has no `permissions`"),
        (with(&[ROLE, DOWNLOAD]), "line 4, column 1", "the grant has no `namespace`"),
        (with(&[ROLE, ON_ACME, "permissions = []\n"]), "line 7, column 15", "no permission"),
        (
            with(&[ROLE, ON_ACME, "permissions = \"download\"\n"]),
            "line 7, column 15",
            "must be a list of permissions, and is a text",
        ),
        (
            with(&[ROLE, ON_ACME, "permissions = [\"download\", \"read\"]\n"]),
            "line 7, column 28",
            "permission `read` must be one of",
        ),
        (
            with(&[ROLE, ON_ACME, "permissions = [\"upload\", \"upload\"]\n"]),
            "line 7, column 26",
            "`upload` appears twice",
        ),
        (
            with(&[ROLE, "namespace = \"Acme\"\n", DOWNLOAD]),
            "line 6, column 13",
            "namespace `Acme`",
        ),
        (
            with(&[ROLE, "namespace = \"web\"\n", DOWNLOAD]),
            "line 6, column 13",
            "does not own the namespace `web`",
        ),
        (
            with(&[ROLE, "namespace = \"*\"\n", DOWNLOAD]),
            "line 6, column 13",
            "does not own the namespace `*`",
        ),
        (
            with(&["principal = \"111122223333\"\n", ON_ACME, DOWNLOAD]),
            "line 5, column 13",
            "does not say which of its roles",
        ),
        (
            with(&["principal = \"arn:aws:iam::111122223333:role/*\"\n", ON_ACME, DOWNLOAD]),
            "line 5, column 13",
            "cannot apply to a pattern",
        ),
        (
            with(&[
                "principal = \"arn:aws:iam::111122223333:role/AWSReservedSSO_Admin_0123456789abcdef\"\n",
                ON_ACME,
                DOWNLOAD,
            ]),
            "line 5, column 13",
            "hint: write `sso:aws:111122223333/Admin`, or \
             `aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef` for the role itself",
        ),
        (
            with(&[ROLE, ON_ACME, DOWNLOAD, "expires = \"90d\"\n"]),
            "line 8, column 11",
            "`90d` is a duration",
        ),
        (
            with(&[ROLE, ON_ACME, DOWNLOAD, "expires = \"soon\"\n"]),
            "line 8, column 11",
            "neither a time",
        ),
        (
            with(&[ROLE, ON_ACME, DOWNLOAD, "expires = 2027-01-31T18:00:00\n"]),
            "line 8, column 11",
            "neither a time",
        ),
        (
            with(&[ROLE, ON_ACME, DOWNLOAD, "expires = 2026-11-20\n"]),
            "line 8, column 11",
            "the grant ended at `2026-11-20`",
        ),
        (
            with(&[ROLE, ON_ACME, DOWNLOAD, "expires = true\n"]),
            "line 8, column 11",
            "and is true or false",
        ),
        (with(&[ROLE, ON_ACME, DOWNLOAD, "expire = 1\n"]), "line 8, column 1", "no key `expire`"),
        (
            with(&[ROLE, ON_ACME, DOWNLOAD, "[[grant]]\n", ROLE, ON_ACME, DOWNLOAD]),
            "line 8, column 1",
            "is there twice, first in line 4",
        ),
        (
            with(&[
                ROLE,
                ON_ACME,
                DOWNLOAD,
                "[[grant]]\nprincipal = \"aws:111122223333:role/Deploy\"\n",
                ON_ACME,
                DOWNLOAD,
            ]),
            "line 8, column 1",
            "differs only by case from `aws:111122223333:role/deploy` in line 4",
        ),
    ] {
        let errors = toml(&text).unwrap_err();
        let start = format!("`grants.toml` {place}: ");
        assert!(
            errors.iter().any(|error| error.starts_with(&start) && error.contains(words)),
            "{text}\n{place} {words}: {errors:#?}"
        );
    }
}

#[test]
fn a_wrong_file_of_json_has_lines_and_columns_too() {
    let grant = r#"{"principal": "account:111122223333", "namespace": "acme", "permissions": ["download"]}"#;
    for (text, place, words) in [
        (String::new(), "line 1, column 1", "EOF"),
        ("{\n  \"version\": 1,\n}".to_owned(), "line 3, column 1", "key must be a string"),
        ("[]".to_owned(), "line 1, column 1", "the file must be a table, and is a list"),
        ("{} {}".to_owned(), "line 1, column 4", "trailing characters"),
        (
            "{\"version\": 1,\n \"version\": 1, \"owns\": \"all\"}".to_owned(),
            "line 2, column 2",
            "the key `version` appears twice",
        ),
        (
            "{\"version\": 1, \"owns\": \"all\", \"ä\": 1, \"x\": 2}".to_owned(),
            "line 1, column 39",
            "no key `x`",
        ),
        (
            "{\"version\": 1, \"owns\": [[[[[[[[1]]]]]]]]}".to_owned(),
            "line 1, column 25",
            "must be a text, and is a list",
        ),
        (
            "{\"version\": 1, \"owns\": \"\\ud800\"}".to_owned(),
            "line 1, column 31",
            "unexpected end of hex escape",
        ),
        (
            format!("{{\"version\": 1, \"owns\": [\"acme\"],\n \"grant\": [{grant},\n  {grant}]}}"),
            "line 3, column 3",
            "is there twice, first in line 2",
        ),
    ] {
        let errors = json(&text).unwrap_err();
        let start = format!("`grants.json` {place}: ");
        assert!(
            errors.iter().any(|error| error.starts_with(&start) && error.contains(words)),
            "{text}\n{place} {words}: {errors:#?}"
        );
    }
}

#[test]
fn every_wrong_place_is_reported_at_once_and_in_order() {
    let text = one(&[
        "principal = \"deploy\"\n",
        "namespace = \"web\"\n",
        "permissions = [\"read\"]\n",
        "expires = \"2020-01-01\"\n",
    ]
    .concat());
    let errors = toml(&text).unwrap_err();
    let lines: Vec<_> = errors.iter().filter_map(|error| error.get(14..20)).collect();
    assert_eq!(lines, ["line 5", "line 6", "line 7", "line 8"], "{errors:#?}");
}

#[test]
fn the_same_file_can_be_toml_or_json() {
    let text = r#"
version = 1
owns = ["acme", "*"]

[[grant]]
principal = "arn:aws:iam::111122223333:role/team/deploy"
namespace = "acme"
permissions = ["upload", "download"]
expires = 2027-01-31

[[grant]]
principal = "account:111122223333"
namespace = "*"
permissions = ["download"]
expires = "never"
"#;
    let same = r#"{ "version": 1, "owns": ["acme", "*"], "grant": [
      { "principal": "arn:aws:iam::111122223333:role/team/deploy", "namespace": "acme",
        "permissions": ["upload", "download"], "expires": "2027-01-31T00:00:00Z" },
      { "principal": "account:aws:111122223333", "namespace": "*", "permissions": ["download"],
        "expires": null } ] }"#;
    let (from_toml, from_json) = (toml(text).unwrap(), json(same).unwrap());
    assert_eq!(from_toml.grants, from_json.grants);
    assert_eq!(from_toml.owned, from_json.owned);
    assert_eq!(from_toml.grants[0].expires_at, Some(1_801_353_600));
    assert_eq!(from_toml.grants[1].expires_at, None);
    assert!(from_toml.notices[0].starts_with("line 6: the path `/team/` is ignored"));
    for (text, format) in [(text, FileFormat::Toml), (same, FileFormat::Json)] {
        assert_eq!(FileFormat::of_text(text), format);
    }
}

#[test]
fn a_file_can_leave_out_grants_that_have_ended() {
    let text = one(&[ROLE, ON_ACME, DOWNLOAD, "expires = \"2026-11-20T10:11:12Z\"\n"].concat());
    assert!(toml(&text).is_err());
    let file = parse("-", &text, FileFormat::Toml, NOW, true).unwrap();
    assert_eq!(file.grants, []);
}

fn listed(grants: &[Grant]) -> ListedGrants {
    ListedGrants { grants: grants.to_vec(), unreadable: Vec::new() }
}

fn held(name: &str, on: &str, permissions: &[Permission], expires_at: Option<i64>) -> Grant {
    Grant {
        principal: Principal::parse_stored(name).unwrap(),
        namespace: on.parse().unwrap(),
        permissions: permissions.iter().copied().collect(),
        expires_at,
        created_by: "test".to_owned(),
        created_at: 0,
    }
}

const DEPLOY: &str = "aws:111122223333:role/deploy";

const ADMIN: &str = "sso:aws:111122223333/Admin";

#[test]
fn the_difference_is_only_in_what_the_file_owns() {
    let file = toml(
        r#"
version = 1
owns = ["acme", "web"]
grant = [
  { principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["download"] },
  { principal = "arn:aws:iam::111122223333:role/deploy", namespace = "web", permissions = ["download", "upload"], expires = "2027-01-31" },
  { principal = "sso:111122223333/Admin", namespace = "web", permissions = ["download"] },
]
"#,
    )
    .unwrap();
    let store = [
        held(DEPLOY, "*", &[Download], None),
        held(DEPLOY, "acme", &[Download], None),
        held(DEPLOY, "other", &[Download], None),
        held(DEPLOY, "web", &[Download], None),
        held(ADMIN, "acme", &[Upload], None),
        // It has ended and allows nothing.
        held("aws:111122223333:user/old", "acme", &[Upload], Some(NOW)),
    ];
    let plan = Plan::between(&file, &listed(&store), NOW);
    let expected = [
        "~ aws:111122223333:role/deploy on web: download -> download,upload until 2027-01-31T00:00:00Z",
        "- sso:aws:111122223333/Admin on acme: upload",
        "+ sso:aws:111122223333/Admin on web: download",
        "1 to create, 1 to change, 1 to delete",
    ];
    assert_eq!(plan.lines(false), expected);
    let painted = plan.lines(true);
    assert_eq!(painted[1], format!("\u{1b}[31m{}\u{1b}[0m", expected[1]));
    assert_eq!(painted[3], expected[3]);
    let json = plan.json();
    assert_eq!(
        (&json["create"], &json["change"], &json["delete"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!(json["changes"][0]["before"]["expires_at"], serde_json::Value::Null);
    assert_eq!(json["changes"][0]["after"]["expires_at"], "2027-01-31T00:00:00Z");
    assert_eq!(json["changes"][2]["before"], serde_json::Value::Null);
}

#[test]
fn a_file_never_owns_the_grants_of_services() {
    let service = "service:renovate";
    let store = ListedGrants {
        grants: vec![
            held(DEPLOY, "acme", &[Download], None),
            held(service, "acme", &[Download], Some(NOW + 60)),
            held(service, "web", &[Upload], None),
            held(service, "*", &[Download], None),
            held("service:old", "acme", &[Download], Some(NOW)),
        ],
        unreadable: vec![UnreadableGrant {
            principal: service.to_owned(),
            namespace: "old".to_owned(),
        }],
    };
    for owns in ["\"all\"", "[\"acme\", \"web\", \"old\", \"*\"]"] {
        let file = toml(&format!("version = 1\nowns = {owns}\ngrant = []\n")).unwrap();
        let plan = Plan::between(&file, &store, NOW);
        let expected = [
            "- aws:111122223333:role/deploy on acme: download",
            "0 to create, 0 to change, 1 to delete",
        ];
        assert_eq!(plan.lines(false), expected, "{owns}");
        let all = plan.mass_deletion();
        assert_eq!(all, Some(Deletions { deleted: 1, owned: 1 }), "services do not count");
        assert!(store.unreadable.iter().all(|one| !file.owned.can_include(one)));
        let left: Vec<&Grant> =
            store.grants.iter().filter(|grant| file.owned.includes_grant(grant)).collect();
        assert_eq!(left, [&store.grants[0]], "an export has no other");
    }
}

#[test]
fn a_grant_that_ended_and_that_the_file_wants_again_changes() {
    let file = toml(&one(&[ROLE, ON_ACME, DOWNLOAD].concat())).unwrap();
    let plan = Plan::between(&file, &listed(&[held(DEPLOY, "acme", &[Download], Some(NOW))]), NOW);
    assert_eq!(plan.counts(), Counts { change: 1, ..Counts::default() });
    let plan = Plan::between(&file, &listed(&[held(DEPLOY, "acme", &[Download], None)]), NOW);
    assert!(plan.is_empty());
}

#[test]
fn only_a_new_or_changed_grant_to_an_account_or_on_every_namespace_is_wide() {
    let file = toml(
        r#"
version = 1
owns = "all"
grant = [
  { principal = "account:111122223333", namespace = "acme", permissions = ["download"] },
  { principal = "account:111122223333", namespace = "web", permissions = ["download"] },
  { principal = "aws:111122223333:role/deploy", namespace = "*", permissions = ["download"] },
  { principal = "aws:111122223333:role/deploy", namespace = "web", permissions = ["download"] },
]
"#,
    )
    .unwrap();
    let account = "account:aws:111122223333";
    let store = [
        held(account, "acme", &[Download], None),
        held(account, "old", &[Download], None),
        held(DEPLOY, "*", &[Upload], None),
    ];
    let plan = Plan::between(&file, &listed(&store), NOW);
    let mut wide: Vec<String> = plan
        .changes()
        .iter()
        .filter(|change| change.confirmation_reason().is_some())
        .map(ToString::to_string)
        .collect();
    let expected = [
        "~ aws:111122223333:role/deploy on *: upload -> download",
        "+ account:aws:111122223333 on web: download",
    ];
    wide.sort_by_key(|line| !line.starts_with('~'));
    assert_eq!(wide, expected, "{:#?}", plan.lines(false));
}

#[test]
fn a_file_of_the_grants_of_a_store_is_like_the_store() {
    let store = [
        held("account:aws:111122223333", "web", &[Download], None),
        held("aws-us-gov:111122223333:user/al@ex", "acme", &Permission::ALL, Some(NOW + 60)),
        held(
            "aws:111122223333:role/AWSReservedSSO_Admin_0123456789abcdef",
            "acme",
            &[Upload],
            None,
        ),
        held(DEPLOY, "*", &[Download], None),
        held(DEPLOY, "old", &[Download], Some(NOW)),
        held(ADMIN, "acme", &[Download], None),
    ];
    let on_acme = ["acme"].map(|name| name.parse().unwrap()).into();
    for owned in [Owned::All, Owned::These(on_acme)] {
        let grants: Vec<Grant> =
            store.iter().filter(|grant| owned.includes(&grant.namespace)).cloned().collect();
        let text = to_toml(&owned, &grants, NOW);
        for file in
            [toml(&text).unwrap(), json(&to_json(&owned, &grants, NOW).to_string()).unwrap()]
        {
            assert!(Plan::between(&file, &listed(&store), NOW).is_empty(), "{text}");
            assert_eq!(file.owned, owned);
            assert_eq!(file.notices, [""; 0]);
        }
    }
    assert_eq!(
        to_toml(&Owned::All, &store[3..], NOW),
        "# This file owns every grant: `grant apply` deletes each one that is not here.\n\
         version = 1\nowns = \"all\"\n\n\
         [[grant]]\nprincipal = \"arn:aws:iam::111122223333:role/deploy\"\nnamespace = \"*\"\n\
         permissions = [\"download\"]\n\n\
         [[grant]]\nprincipal = \"sso:aws:111122223333/Admin\"\nnamespace = \"acme\"\n\
         permissions = [\"download\"]\n"
    );
}

#[test]
fn a_file_without_grants_says_so_and_can_own_nothing() {
    let text = to_toml(&Owned::All, &[], NOW);
    assert!(text.ends_with("owns = \"all\"\ngrant = []\n"), "{text}");
    assert_eq!(toml(&text).unwrap().grants, []);
    let file = json(r#"{"version": 1, "owns": [], "grant": []}"#).unwrap();
    assert_eq!(file.notices, ["line 1: the file owns nothing, so it changes nothing"]);
    let store = [held(DEPLOY, "acme", &[Download], None)];
    assert!(!Plan::between(&file, &listed(&store), NOW).has_drift());
}

#[test]
fn a_grant_that_cannot_be_read_is_drift_if_the_file_can_own_it() {
    let unreadable = |who: &str, on: &str| UnreadableGrant {
        principal: who.to_owned(),
        namespace: on.to_owned(),
    };
    let store = ListedGrants {
        grants: vec![held(DEPLOY, "acme", &[Download], None)],
        unreadable: vec![unreadable(ADMIN, "acme"), unreadable(DEPLOY, "web"), unreadable("", "")],
    };
    let file = toml(&one(&[ROLE, ON_ACME, DOWNLOAD].concat())).unwrap();
    let plan = Plan::between(&file, &store, NOW);
    assert!(plan.is_empty() && plan.has_drift());
    let expected = [
        "? sso:aws:111122223333/Admin on acme: this program cannot read the grant",
        "? an unreadable principal on an unreadable namespace: this program cannot read the grant",
        "0 to create, 0 to change, 0 to delete, 2 that cannot be read",
    ];
    assert_eq!(plan.lines(false), expected);
    assert_eq!(plan.json()["unreadable"][0]["namespace"], "acme");
}

#[test]
fn a_hostile_file_has_few_errors_and_each_byte_of_it_has_a_place() {
    let lines = "[[grant]]\n".repeat(200_000);
    let errors = toml(&format!("version = 1\nowns = [\"acme\"]\n{lines}")).unwrap_err();
    assert_eq!(errors.len(), 21);
    assert_eq!(errors[20], "`grants.toml` has 599980 more wrong places");
    let text = |bytes: &[u8]| text_of("x", bytes.to_vec()).map_err(|error| error.to_string());
    assert_eq!(text("\u{feff}version = 1".as_bytes()).unwrap(), "version = 1");
    assert_eq!(text("\u{feff}\u{feff}".as_bytes()).unwrap(), "\u{feff}", "only one mark");
    let error = text(b"version = 1\n\xc3\xa4 = \xff").unwrap_err();
    assert_eq!(error, "`x` line 2, column 5: the file is not UTF-8");
}
