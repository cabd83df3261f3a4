//! Tests of `trust`, and of grants to a trust.

use serde_json::json;

use crate::support::Machine;

const GITHUB: &str = "https://token.actions.githubusercontent.com";
const OWN: &str = "https://git.corp.example";
const AWS: &str = "https://a1d2b0fd-1177-4468-9351-2f0123456723.tokens.sts.global.api.aws";

#[test]
fn a_trust_that_believes_too_much_is_refused_and_the_reason_is_given() {
    let machine = Machine::with_store();
    machine.write(
        "private.json",
        r#"{"keys":[{"kty":"RSA","kid":"a","n":"x","e":"y","d":"S3CRET"}]}"#,
    );
    machine.write("empty.json", r#"{"keys":[]}"#);
    let own = format!("create ci --issuer {OWN}");
    let github = format!("create ci --issuer {GITHUB}");
    for (arguments, code, reason) in [
        (own.clone(), 2, "--claim"),
        (format!("{own} --claim ref"), 2, "`--claim ref`: it is not `CLAIM=VALUE`"),
        (format!("{own} --claim ref=release-*"), 2, "use `--claim-prefix` for a prefix"),
        (format!("{own} --claim-prefix ref=main"), 2, "one `*` at its end"),
        (format!("{own} --claim a=b --claim a=c"), 2, "two conditions are on the claim `a`"),
        (format!("{own} --claim a=b --max-age 25h"), 2, "between 60 seconds and 24 hours"),
        (format!("{own} --claim a=b --max-age soon"), 2, "write it as `90m` or `4h`"),
        (format!("{own} --claim a=b --audience="), 2, "an audience has 1 to 500"),
        (format!("{own} --claim a=b --jwks no.json"), 2, "cannot read `no.json`"),
        (format!("{own} --claim a=b --jwks empty.json"), 2, "it has no key"),
        (format!("{own} --claim a=b --jwks private.json"), 2, "its private part"),
        ("create ci --issuer http://git.corp.example --claim a=b".to_owned(), 2, "`https://`"),
        ("create ci --issuer https://Git.corp.example --claim a=b".to_owned(), 2, "lower case"),
        ("create CI --issuer https://git.corp.example --claim a=b".to_owned(), 2, "lower-case"),
        (format!("{github} --claim ref=refs/heads/main"), 2, "add `--claim repository_id=ID`"),
        (format!("{github} --claim-prefix repository=acme/*"), 2, "everyone can get a JWT of"),
        ("show ci".to_owned(), 1, "there is no trust `ci`"),
        ("update ci --claim a=b".to_owned(), 1, "there is no trust `ci`"),
        ("update ci".to_owned(), 2, "the update has no changes"),
        ("update ci --audience a --no-audience".to_owned(), 2, "cannot be used with"),
        ("delete ci".to_owned(), 1, "there is no trust `ci`"),
        ("delete ci --with-grants".to_owned(), 1, "there is no trust `ci`"),
    ] {
        let run = machine.run(&format!("trust {arguments}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(reason), "{arguments}: {}", run.stderr);
        assert!(!run.stderr.contains("S3CRET"), "{arguments}: {}", run.stderr);
    }
    assert_eq!(machine.json("trust list"), json!([]));
}

#[test]
fn a_trust_is_created_once_changed_by_name_and_deleted_once() {
    let machine = Machine::with_store();
    machine
        .write("jwks.json", r#"{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"x","y":"y"}]}"#);
    let create = format!(
        "trust create ci --issuer {OWN} --claim project_id=74 --claim protected:=true \
         --claim-prefix ref=release-* --claim-contains groups=platform"
    );
    let created = machine.json(&create);
    assert_eq!(created["status"], "created");
    assert_eq!((&created["principal"], &created["revision"]), (&json!("oidc:ci"), &json!(1)));
    assert_eq!(
        created["conditions"],
        json!([
            {"claim": "project_id", "equals": "74"}, {"claim": "protected", "equals": true},
            {"claim": "ref", "prefix": "release-"}, {"claim": "groups", "contains": "platform"},
        ])
    );
    assert_eq!((&created["max_age"], &created["audience"]), (&json!(3600), &json!(null)));
    assert!(created["id"].as_str().unwrap().starts_with("OIDC"), "{created}");
    let again = machine.json(&create);
    assert_eq!((&again["status"], &again["id"]), (&json!("unchanged"), &created["id"]));
    let other = machine.run(&format!("trust create ci --issuer {OWN} --claim project_id=75"));
    assert_eq!((other.stdout.as_str(), other.code), ("", 1));
    assert!(other.stderr.contains("trust update"), "{other:?}");

    let change =
        "trust update ci --claim project_id=75 --audience stile --max-age 2h --jwks jwks.json";
    let updated = machine.json(change);
    assert_eq!(
        (&updated["status"], &updated["id"], &updated["revision"]),
        (&json!("updated"), &created["id"], &json!(2))
    );
    assert_eq!(updated["conditions"], json!([{"claim": "project_id", "equals": "75"}]));
    assert_eq!(
        (&updated["audience"], &updated["max_age"], &updated["own_keys"], &updated["issuer"]),
        (&json!("stile"), &json!(7200), &json!(false), &json!(OWN))
    );
    let again = machine.json(change);
    assert_eq!((&again["status"], &again["revision"]), (&json!("unchanged"), &json!(2)));
    let reset = machine.json("trust update ci --no-audience --no-jwks");
    assert_eq!(
        (&reset["audience"], &reset["own_keys"], &reset["revision"], &reset["conditions"]),
        (&json!(null), &json!(true), &json!(3), &updated["conditions"])
    );
    let shown = machine.run("trust show ci");
    for line in ["principal    oidc:ci", "revision     3", "condition    --claim project_id=75"] {
        assert!(shown.stdout.contains(line), "{line}: {shown:?}");
    }
    assert_eq!(machine.json("trust list").as_array().unwrap().len(), 1);
    assert_eq!(
        machine.json("trust delete ci"),
        json!({"status": "deleted", "trust": "ci", "grants": 0})
    );
    assert_eq!(machine.run("trust delete ci").code, 1);
    let new = machine.json(&create);
    assert_ne!(new["id"], created["id"]);
}

#[test]
fn a_trust_with_a_name_of_a_public_issuer_only_is_created_with_a_notice() {
    let machine = Machine::with_store();
    for (claims, expected) in [
        ("--claim repository=acme/infra --claim ref=refs/heads/main", true),
        ("--claim sub=repo:acme/infra:ref:refs/heads/main", true),
        ("--claim repository=acme/infra --claim repository_owner_id=7", false),
        ("--claim repository_id=74", false),
    ] {
        let run = machine.run(&format!("trust create ci --issuer {GITHUB} {claims}"));
        assert_eq!(run.code, 0, "{claims}: {run:?}");
        assert_eq!(run.stderr.contains("another owner can have later"), expected, "{run:?}");
        assert_eq!(machine.run("trust delete ci").code, 0);
    }
}

#[test]
fn a_grant_needs_its_trust_and_the_trust_goes_with_its_grants_only() {
    let machine = Machine::with_store();
    let create = "grant create --principal oidc:ci --namespace acme --download";
    let refused = machine.run(create);
    assert_eq!((refused.stdout.as_str(), refused.code), ("", 1));
    assert!(refused.stderr.contains("there is no trust `ci`"), "{refused:?}");
    assert!(refused.stderr.contains("`stile-admin trust create"), "{refused:?}");
    machine.done(&format!("trust create ci --issuer {OWN} --claim project_id=74"));
    for flag in ["--no-pin", "--unique-id OIDCEXAMPLEEXAMPLE22"] {
        let refused = machine.run(&format!("{create} {flag}"));
        assert_eq!((refused.stdout.as_str(), refused.code), ("", 2), "{flag}: {refused:?}");
    }
    for namespace in ["acme", "beta", "* --yes"] {
        machine.done(&format!(
            "--quiet grant create --principal oidc:ci --namespace {namespace} --download"
        ));
    }
    let explained =
        machine.run("grant explain --principal oidc:ci --namespace acme --permission download");
    assert_eq!(explained.code, 0, "{explained:?}");
    let refused = machine.run("trust delete ci");
    assert_eq!((refused.stdout.as_str(), refused.code), ("", 1));
    assert!(refused.stderr.contains("has grants on `*`, `acme`, `beta`"), "{refused:?}");
    assert!(refused.stderr.contains("--with-grants"), "{refused:?}");
    assert_eq!(machine.json("grant list").as_array().unwrap().len(), 3);
    let deleted = machine.json("trust delete ci --with-grants");
    assert_eq!(deleted, json!({"status": "deleted", "trust": "ci", "grants": 3}));
    assert_eq!(machine.json("grant list"), json!([]));
    let explained =
        machine.run("grant explain --principal oidc:ci --namespace acme --permission download");
    assert_eq!(explained.code, 1, "{explained:?}");
    let events = machine.json("audit list");
    let of_trust: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| event["event"] == "trust")
        .map(|event| (event["decision"].as_str().unwrap(), event["about"].as_str().unwrap()))
        .collect();
    assert_eq!(of_trust.len(), 2, "{events}");
}

#[test]
fn a_file_of_grants_can_name_a_trust_that_exists() {
    let machine = Machine::with_store();
    machine.write(
        "grants.toml",
        "version = 1\nowns = [\"acme\"]\n\n[[grant]]\nprincipal = \"oidc:ci\"\nnamespace = \"acme\"\npermissions = [\"download\"]\n",
    );
    let refused = machine.run("grant apply grants.toml --yes");
    assert_ne!(refused.code, 0, "{refused:?}");
    assert!(refused.stderr.contains("there is no trust `ci`"), "{refused:?}");
    machine.done(&format!("trust create ci --issuer {OWN} --claim project_id=74"));
    let applied = machine.run("grant apply grants.toml --yes");
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(machine.json("grant list")[0]["principal"], "oidc:ci");
    let shown = machine.json("grant show --principal oidc:ci --namespace acme");
    assert_eq!(shown["unique_id"], machine.json("trust show ci")["id"], "{shown}");
}

#[test]
fn a_trust_in_aws_with_other_terms_than_those_of_aws_is_refused() {
    let machine = Machine::with_store();
    machine
        .write("jwks.json", r#"{"keys":[{"kty":"EC","kid":"a","crv":"P-256","x":"x","y":"y"}]}"#);
    let account = "--aws-account 111122223333";
    let org = "--aws-org o-a1b2c3d4e5";
    let tags = "--claim /https:~1~1sts.amazonaws.com~1/request_tags/team=data";
    for (arguments, reason) in [
        (account.to_owned(), "--issuer"),
        (format!("{account} --issuer {OWN}"), "where AWS signs JWTs"),
        (format!("{account} --issuer {OWN}"), "get-outbound-web-identity-federation-info"),
        (format!("{account} --issuer https://tokens.sts.global.api.aws"), "where AWS signs JWTs"),
        (format!("--aws-account aws-cn:111122223333 --issuer {AWS}"), "where AWS signs JWTs"),
        (format!("--aws-account 11112222333 --issuer {AWS}"), "an account has 12 digits"),
        (format!("--aws-account o-a1b2c3d4e5 --issuer {AWS}"), "an account has 12 digits"),
        ("--aws-org 111122223333".to_owned(), "is like `o-a1b2c3d4e5`"),
        ("--aws-org aws-cn:o-a1b2c3d4e5".to_owned(), "where AWS signs JWTs"),
        (format!("{org} {account}"), "cannot be used with"),
        (format!("{org} --issuer {AWS}"), "cannot be used with"),
        (format!("{org} --jwks jwks.json"), "cannot be used with"),
        (format!("{org} {tags}"), "the caller chooses `request_tags`"),
        (format!("{account} --issuer {AWS} {tags}"), "the caller chooses `request_tags`"),
        (format!("--issuer {OWN} --claim a=b --without-pin"), "is for callers of AWS"),
        ("--without-pin".to_owned(), "--issuer"),
    ] {
        let run = machine.run(&format!("trust create aws {arguments}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arguments}: {}", run.stderr);
        assert!(run.stderr.contains(reason), "{arguments}: {}", run.stderr);
    }
    assert_eq!(machine.json("trust list"), json!([]));
}

#[test]
fn a_trust_in_aws_believes_an_account_or_an_organization_and_has_no_grants() {
    let machine = Machine::with_store();
    let create = format!("trust create aws --aws-account 111122223333 --issuer {AWS}");
    let created = machine.json(&create);
    assert_eq!(
        (&created["status"], &created["aws"], &created["conditions"], &created["issuer"]),
        (&json!("created"), &json!("aws-account=aws:111122223333"), &json!([]), &json!(AWS))
    );
    let again = machine.json(&create);
    assert_eq!((&again["status"], &again["id"]), (&json!("unchanged"), &created["id"]));
    let other = machine.run(&format!("{create} --without-pin"));
    assert_eq!((other.stdout.as_str(), other.code), ("", 1), "{other:?}");
    assert!(other.stderr.contains("there is a different trust `aws` already"), "{other:?}");
    let all = machine.json("trust create all --aws-org o-a1b2c3d4e5 --without-pin");
    assert_eq!(all["aws"], "aws-org=aws:o-a1b2c3d4e5 without-pin", "{all}");
    assert_eq!(all["issuer"], "https://tokens.sts.global.api.aws", "{all}");

    for (flag, aws, revision) in [
        ("--without-pin", "aws-account=aws:111122223333 without-pin", 2),
        ("--without-pin=false", "aws-account=aws:111122223333", 3),
    ] {
        let updated = machine.json(&format!("trust update aws {flag}"));
        assert_eq!(
            (&updated["status"], &updated["aws"], &updated["revision"]),
            (&json!("updated"), &json!(aws), &json!(revision))
        );
    }
    let shown = machine.run("trust show all");
    for line in [
        "principal    the role or user of AWS that the JWT names",
        "condition    --aws-org aws:o-a1b2c3d4e5",
        "condition    --without-pin",
    ] {
        assert!(shown.stdout.contains(line), "{line}: {shown:?}");
    }
    let listed = machine.done("trust list");
    for flags in ["--aws-account aws:111122223333", "--aws-org aws:o-a1b2c3d4e5 --without-pin"] {
        assert!(listed.contains(flags), "{flags}: {listed}");
    }

    let refused = machine.run("grant create --principal oidc:aws --namespace acme --download");
    assert_eq!((refused.stdout.as_str(), refused.code), ("", 1), "{refused:?}");
    assert!(refused.stderr.contains("so its name has no grants"), "{refused:?}");
    assert_eq!(machine.json("grant list"), json!([]));
    machine.done("token revoke --principal oidc:aws");
    machine.done("trust delete aws");
}
