//! AWS's own JWT: which callers it gives, what ends their tokens, and which groups they are in.

use serde_json::{Value, json};
use stile_core::principal::Principal;
use stile_core::trust::{
    AwsAccounts, AwsCallers, DEFAULT_MAX_AGE, TrustTerms, aws_issuers, issuer_keys,
};
use stile_protocol::names::Permission::{CreateGrant, Download, Upload};
use stile_protocol::region::Partition;
use stile_store::{Created, NewGrant, TrustChange};
use stile_tests::broker::grants::LATER;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::operator::{AsOperator as _, kept, operator};
use stile_tests::broker::served::Served;
use stile_tests::broker::{ACCOUNT, TestBroker, deploy, module_zip, role};
use stile_tests::issuer::jwt::Jwt;
use stile_tests::issuer::signing_key::SigningKey;
use stile_tests::issuer::{AWS_HOSTS, DISCOVERY, Issuer, KEYS};
use stile_tests::skipped::{skipped, tool};
use stile_tests::terraform::Terraform;

/// The claim with what AWS says of its caller.
const CLAIM: &str = "https://sts.amazonaws.com/";

const ORG: &str = "o-a1b2c3d4e5";
const UNIT: &str = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111";

fn issuer_of(account: usize) -> String {
    format!("https://{}", AWS_HOSTS[account])
}

/// Returns the claims of a role, as AWS writes them.
fn claims_of(account: &str, name: &str) -> Value {
    let arn = format!("arn:aws:iam::{account}:role/ci/{name}");
    json!({
        "sub": arn,
        CLAIM: {
            "aws_account": account,
            "source_region": "eu-west-1",
            "org_id": ORG,
            "ou_path": [format!("{UNIT}/ou-ab12-22222222/")],
            "principal_id": arn,
            "principal_tags": {"team": "data"},
            "request_tags": {"team": "security"},
            "lambda_source_function_arn":
                format!("arn:aws:lambda:eu-west-1:{account}:function:build"),
        },
    })
}

fn terms(of: AwsAccounts, keys: Option<&SigningKey>) -> TrustTerms {
    let issuer = match of {
        AwsAccounts::One(..) => issuer_of(0).parse().unwrap(),
        AwsAccounts::Organization(partition, _) => aws_issuers(partition).unwrap(),
    };
    let set = |key: &SigningKey| json!({ "keys": [key.jwk()] }).to_string();
    TrustTerms {
        issuer,
        audience: None,
        conditions: Vec::new(),
        max_age: DEFAULT_MAX_AGE,
        aws: Some(AwsCallers { of, without_pin: false }),
        keys: keys.map(|key| issuer_keys(&set(key)).unwrap()),
    }
}

fn account() -> AwsAccounts {
    AwsAccounts::One(Partition::Aws, ACCOUNT.to_owned())
}

fn organization() -> AwsAccounts {
    AwsAccounts::Organization(Partition::Aws, ORG.to_owned())
}

/// A change of the claims.
type Change = fn(&mut Value);

/// A registry that believes the callers of one account, with the keys of its issuer.
struct OfAccount {
    test: TestBroker,
    key: SigningKey,
}

impl OfAccount {
    async fn start() -> Option<Self> {
        let test = TestBroker::start_on(super::BACKEND).await?;
        let key = SigningKey::new("k1", "ES384");
        test.trust_with("aws", terms(account(), Some(&key))).await;
        Some(Self { test, key })
    }

    fn jwt(&self, claims: Value) -> Jwt {
        self.test.jwt_of(&issuer_of(0), claims)
    }

    async fn token(&self, claims: Value) -> String {
        let reply = self.test.exchange_jwt(&self.jwt(claims).signed(&self.key)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["access_token"].as_str().unwrap().to_owned()
    }

    async fn error(&self, claims: Value) -> String {
        self.test.exchange_jwt(&self.jwt(claims).signed(&self.key)).await.error()
    }

    async fn status(&self, token: &str) -> u16 {
        self.test.get("/v1/modules/acme/vpc/aws/versions", token).await.status.as_u16()
    }
}

#[tokio::test]
async fn a_jwt_that_names_no_caller_of_the_account_is_refused() {
    let Some(of) = OfAccount::start().await else { return };
    of.test.grant(&role("deploy"), "acme", &[Download]).await;
    let cases: [(&str, Change); 9] = [
        ("a root user", |c| c["sub"] = json!("arn:aws:iam::111122223333:root")),
        ("a session", |c| {
            c["sub"] = json!("arn:aws:sts::111122223333:assumed-role/deploy/s1");
        }),
        ("a federated user", |c| {
            c["sub"] = json!("arn:aws:sts::111122223333:federated-user/x");
        }),
        ("a service-linked role", |c| {
            c["sub"] = json!("arn:aws:iam::111122223333:role/AWSServiceRoleForX");
        }),
        ("a role of another account", |c| {
            c["sub"] = json!("arn:aws:iam::444455556666:role/ci/deploy");
        }),
        ("another account", |c| *c = claims_of("444455556666", "deploy")),
        ("another caller than the subject", |c| {
            c[CLAIM]["principal_id"] = json!("arn:aws:iam::111122223333:role/ci/other");
        }),
        ("a person for whom a role acts", |c| c["sub"] = json!("alice@example.com")),
        ("nothing of AWS", |c| c[CLAIM] = json!({})),
    ];
    for (what, change) in cases {
        let mut claims = claims_of(ACCOUNT, "deploy");
        change(&mut claims);
        assert_eq!(of.error(claims).await, "401 jwt_not_trusted", "{what}");
    }
    let other = of.jwt(claims_of(ACCOUNT, "deploy")).with("iss", issuer_of(1));
    let other = of.test.exchange_jwt(&other.signed(&of.key)).await;
    assert_eq!(other.error(), "401 jwt_not_trusted", "the issuer of another account");
    let forged = of.jwt(claims_of(ACCOUNT, "deploy")).signed(&SigningKey::new("k1", "ES384"));
    assert_eq!(of.test.exchange_jwt(&forged).await.error(), "401 jwt_bad_signature");
    assert_eq!(of.test.sts.calls(), 0);
}

#[tokio::test]
async fn a_role_has_the_grants_of_a_signed_request_without_a_call_of_sts() {
    let Some(of) = OfAccount::start().await else { return };
    assert_eq!(of.error(claims_of(ACCOUNT, "deploy")).await, "403 no_grant");
    of.test.grant(&role("deploy"), "acme", &[Download]).await;
    let jwt = of.jwt(claims_of(ACCOUNT, "deploy")).signed(&of.key);
    let reply = of.test.exchange_jwt(&jwt).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["principal"], role("deploy"));
    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    let whoami = of.test.get("/v1/whoami", &token).await.json();
    assert_eq!(whoami["principal"], role("deploy"));
    assert_eq!(of.status(&token).await, 404, "it may read, and there is nothing yet");
    assert_eq!(of.test.exchange_jwt(&jwt).await.error(), "401 jwt_replayed");
    assert_eq!(of.test.sts.calls(), 0);
}

#[tokio::test]
async fn a_role_that_only_looks_like_that_of_a_permission_set_never_gets_its_grants() {
    let Some(of) = OfAccount::start().await else { return };
    of.test.grant("account:aws:111122223333", "acme", &[Download]).await;
    of.test.grant("sso:aws:111122223333/Admin", "secret", &[Download]).await;
    let of_path = |path: &str| {
        let mut claims = claims_of(ACCOUNT, "x");
        let name = "AWSReservedSSO_Admin_0123456789abcdef";
        let arn = json!(format!("arn:aws:iam::{ACCOUNT}:role/{path}{name}"));
        (claims["sub"], claims[CLAIM]["principal_id"]) = (arn.clone(), arn);
        claims
    };
    let secret = "/v1/modules/secret/vpc/aws/versions";
    for path in ["", "dev/"] {
        let token = of.token(of_path(path)).await;
        assert_eq!(of.status(&token).await, 404, "its account has a grant");
        assert_eq!(of.test.get(secret, &token).await.status, 403, "{path}");
    }
    let token = of.token(of_path("aws-reserved/sso.amazonaws.com/eu-west-1/")).await;
    assert_eq!(of.test.get(secret, &token).await.status, 404);
}

#[tokio::test]
async fn a_role_with_a_jwt_issues_no_service_token_which_would_outlive_its_trust() {
    let Some(of) = OfAccount::start().await else { return };
    of.test.grant(&role("deploy"), "acme", &[CreateGrant, Download]).await;
    let jwt = of.jwt(claims_of(ACCOUNT, "deploy")).signed(&of.key);
    let scope = [("scope", "acme:download acme:create_grant")];
    let reply = of.test.exchange_jwt_with(&jwt, &scope).await.json();
    let wanted = json!({
        "name": "renovate", "namespaces": ["acme"], "permissions": ["download"],
        "expires_at": LATER.1,
    });
    let token = reply["access_token"].as_str().unwrap();
    let refused = of.test.ask("POST", "/v1/service-tokens", token, &wanted).await;
    assert_eq!(refused.error(), "403 no_grant", "{}", refused.text());
    assert!(refused.text().contains("a JWT of AWS cannot issue"), "{}", refused.text());
    let listed = of.test.store().service_tokens(&operator()).await.unwrap();
    assert!(listed.tokens.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn a_pinned_role_is_refused_unless_the_trust_gives_up_pins() {
    let Some(of) = OfAccount::start().await else { return };
    of.test.grant(&role("deploy"), "acme", &[Download]).await;
    // Nothing is pinned yet. A signed request then pins the id, and ends the token.
    let early = of.token(claims_of(ACCOUNT, "deploy")).await;
    assert_eq!(of.status(&early).await, 404);
    of.test.token(&deploy(), &[Download]).await;
    of.test.advance(10);
    assert_eq!(of.status(&early).await, 403);
    let refused = of.test.exchange_jwt(&of.jwt(claims_of(ACCOUNT, "deploy")).signed(&of.key)).await;
    assert_eq!(refused.error(), "403 principal_recreated");
    assert!(refused.text().contains("shows none"), "{}", refused.text());

    let without_pin = |given: bool| TrustChange { without_pin: Some(given), ..Default::default() };
    let (name, access) = ("aws".parse().unwrap(), operator());
    let time = kept(of.test.time());
    of.test.store().update_trust(&access, &name, &without_pin(true), &time).await.unwrap();
    of.test.advance(10);
    let token = of.token(claims_of(ACCOUNT, "deploy")).await;
    assert_eq!(of.status(&token).await, 404);
    of.test.store().update_trust(&access, &name, &without_pin(false), &time).await.unwrap();
    of.test.advance(10);
    assert_eq!(of.status(&token).await, 401, "its trust changed");
}

#[tokio::test]
async fn a_token_ends_with_its_trust_and_with_a_revocation_of_its_trust() {
    let Some(of) = OfAccount::start().await else { return };
    of.test.grant(&role("deploy"), "acme", &[Download]).await;
    let (name, time) = ("aws".parse().unwrap(), kept(of.test.time()));
    let trust = Principal::trust(&name);
    let token = of.token(claims_of(ACCOUNT, "deploy")).await;
    of.test.store().as_operator().revoke_principal(trust.clone(), of.test.time()).await.unwrap();
    of.test.advance(10);
    assert_eq!(of.status(&token).await, 401);
    assert_eq!(of.error(claims_of(ACCOUNT, "deploy")).await, "403 principal_revoked");
    of.test.store().as_operator().lift(trust).await.unwrap();
    of.test.advance(10);
    assert_eq!(of.status(&token).await, 404);

    of.test.store().delete_trust(&operator(), &name, &time).await.unwrap();
    of.test.advance(10);
    assert_eq!(of.status(&token).await, 401, "its trust is gone");
    of.test.trust_with("aws", terms(account(), Some(&of.key))).await;
    of.test.advance(10);
    assert_eq!(of.status(&token).await, 401, "another trust has the name");
}

#[tokio::test]
async fn nobody_grants_to_the_name_of_a_trust_in_aws() {
    let Some(of) = OfAccount::start().await else { return };
    let access = operator().grant_access("acme".parse().unwrap());
    let new = NewGrant {
        principal: Principal::parse_stored("oidc:aws").unwrap(),
        permissions: [Download].into_iter().collect(),
        expires_at: None,
        pin: None,
    };
    let created = of.test.store().create_grant(&access, new, &kept(of.test.time())).await;
    assert_eq!(created.unwrap(), Created::TrustOfAws);
}

#[tokio::test]
async fn a_grant_to_a_group_reaches_its_callers_and_no_other() {
    let Some(of) = OfAccount::start().await else { return };
    for group in [
        "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-222222222",
        "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-1111111122",
        "org:o-b1b2c3d4e5",
        "tag:team=security",
        "account:aws:444455556666/tag:team=data",
        "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-33333333/tag:team=data",
    ] {
        of.test.grant(group, "acme", &[Download]).await;
    }
    assert_eq!(of.error(claims_of(ACCOUNT, "deploy")).await, "403 no_grant");
    for group in [
        "org:o-a1b2c3d4e5",
        "ou:o-a1b2c3d4e5/r-ab12",
        &format!("ou:{UNIT}"),
        &format!("ou:{UNIT}/ou-ab12-22222222"),
        "tag:team=data",
        &format!("account:aws:{ACCOUNT}/tag:team=data"),
        &format!("ou:{UNIT}/tag:team=data"),
    ] {
        of.test.grant(group, "acme", &[Download]).await;
        let token = of.token(claims_of(ACCOUNT, "deploy")).await;
        assert_eq!(of.status(&token).await, 404, "{group}");
        assert_eq!(of.test.get("/v1/whoami", &token).await.json()["principal"], role("deploy"));
        let mut plain = claims_of(ACCOUNT, "deploy");
        plain[CLAIM] = json!({ "aws_account": ACCOUNT });
        assert_eq!(of.error(plain).await, "403 no_grant", "it is in no group");

        let principal = Principal::parse_stored(group).unwrap();
        of.test
            .store()
            .as_operator()
            .revoke_principal(principal.clone(), of.test.time())
            .await
            .unwrap();
        of.test.advance(10);
        assert_eq!(of.status(&token).await, 401, "{group} is revoked");
        assert_eq!(of.error(claims_of(ACCOUNT, "deploy")).await, "403 principal_revoked");
        of.test.store().as_operator().lift(principal).await.unwrap();
        of.test.delete_grant(group, "acme").await;
        of.test.advance(10);
        assert_eq!(of.status(&token).await, 403, "{group} has no grant");
        assert_eq!(of.error(claims_of(ACCOUNT, "deploy")).await, "403 no_grant", "{group}");
    }
    // A signed request shows no group.
    of.test.grant("org:o-a1b2c3d4e5", "acme", &[Download]).await;
    let identity = deploy();
    of.test.sts.add_identity(identity.clone());
    let signed = of.test.exchange(&of.test.proof(&identity).build()).await;
    assert_eq!(signed.error(), "403 no_grant");
}

#[tokio::test]
async fn a_trust_in_an_organization_asks_the_issuer_of_each_account() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    let issuer = Issuer::start().await;
    let key = SigningKey::new("k1", "ES384");
    issuer.publish(&[&key]);
    let test = test.believing(&issuer);
    test.trust_with("org", terms(organization(), None)).await;
    test.grant("org:o-a1b2c3d4e5", "acme", &[Download]).await;
    let jwt = |host: &str, claims: Value| test.jwt_of(&format!("https://{host}"), claims);
    // Nothing here costs a request.
    let id = "a1d2b0fd-1177-4468-9351-2f0123456723";
    for host in [
        format!("{id}.tokens.sts.global.api.aws.evil.example"),
        format!("{id}.tokens.sts.global.api.aws:443"),
        format!("{}.tokens.sts.global.api.aws", id.to_uppercase()),
        format!("x.{id}.tokens.sts.global.api.aws"),
        "tokens.sts.global.api.aws".to_owned(),
    ] {
        let jwt = jwt(&host, claims_of(ACCOUNT, "deploy")).signed(&key);
        assert_eq!(test.exchange_jwt(&jwt).await.error(), "401 jwt_not_trusted", "{host}");
    }
    let mut outside = claims_of(ACCOUNT, "deploy");
    outside[CLAIM]["org_id"] = json!("o-b1b2c3d4e5");
    let outside = jwt(AWS_HOSTS[0], outside).signed(&key);
    assert_eq!(test.exchange_jwt(&outside).await.error(), "401 jwt_not_trusted");
    assert_eq!(issuer.requests(DISCOVERY), 0);

    for (account, host) in ["111122223333", "444455556666"].into_iter().zip(AWS_HOSTS) {
        let jwt = jwt(host, claims_of(account, "deploy")).signed(&key);
        let reply = test.exchange_jwt(&jwt).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(reply.json()["principal"], format!("aws:{account}:role/deploy"));
    }
    assert_eq!((issuer.requests(DISCOVERY), issuer.requests(KEYS)), (2, 2));

    // Made-up issuers share ten requests a minute, and an issuer that proved itself needs none.
    let before = issuer.requests(DISCOVERY);
    for n in 0..30 {
        let made_up = format!("a1d2b0fd-1177-4468-9351-{n:012}.tokens.sts.global.api.aws");
        let jwt = jwt(&made_up, claims_of(ACCOUNT, "deploy")).signed(&key);
        assert_eq!(test.exchange_jwt(&jwt).await.error(), "503 issuer_unavailable", "{n}");
    }
    // Two of the ten were those of the accounts above. A certificate ends the others.
    assert_eq!(issuer.requests(DISCOVERY), before);
    let again = jwt(AWS_HOSTS[0], claims_of(ACCOUNT, "deploy")).signed(&key);
    assert_eq!(test.exchange_jwt(&again).await.status, 200);
    assert_eq!(test.sts.calls(), 0);
}

#[tokio::test]
async fn the_audit_event_says_who_believed_the_caller_and_where_it_runs() {
    let Some(of) = OfAccount::start().await else { return };
    of.test.grant(&role("deploy"), "acme", &[Download]).await;
    let journal = Journal::start();
    of.token(claims_of(ACCOUNT, "deploy")).await;
    let [event] = &journal.taken().audit()[..] else { panic!("one event") };
    assert_eq!((&event["event"], &event["by"]), (&json!("exchange"), &json!("jwt")));
    assert_eq!(event["principal"], role("deploy"));
    assert_eq!(event["believed_by"], "oidc:aws");
    assert_eq!(event["region"], "eu-west-1");
    assert_eq!(event["workload"], "arn:aws:lambda:eu-west-1:111122223333:function:build");
}

#[tokio::test]
async fn terraform_installs_with_a_jwt_of_aws() {
    let Some(program) = tool("terraform") else {
        return skipped("terraform", "that Terraform installs with a JWT of AWS");
    };
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    let key = SigningKey::new("k1", "ES384");
    served.test.trust_with("aws", terms(account(), Some(&key))).await;
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    let jwt = served.test.jwt_of(&issuer_of(0), claims_of(ACCOUNT, "deploy"));
    let scope = [("scope", "acme:download acme:upload")];
    let reply = served.test.exchange_jwt_with(&jwt.signed(&key), &scope).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    let archive = module_zip("acme/vpc/aws 1.0.0");
    assert_eq!(served.test.publish("acme/vpc/aws", "1.0.0", archive, &token).await.status, 201);

    let terraform = Terraform::new(&program, served.home(&deploy()));
    let host = served.host();
    terraform.write_rc(&format!("credentials \"{host}\" {{\n  token = \"{token}\"\n}}\n"));
    terraform.write_module_call("vpc", &served.source("acme/vpc/aws"), "1.0.0");
    let ran = terraform.init().await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(terraform.installed("vpc").join("main.tf").exists());
    assert_eq!(served.test.sts.calls(), 0);
}
