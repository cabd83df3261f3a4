//! `grant explain` of the program: a refused exchange by the id of its request, and an access through a
//! registry. Also the records that make the first one possible.

use stile_protocol::names::Permission::{CreateGrant, Download};
use stile_protocol::request_id::RequestId;
use stile_tests::aws::proxy::Fault;
use stile_tests::broker::operator::operator;
use stile_tests::broker::served::Served;
use stile_tests::broker::{ACCOUNT, Backend, namespaces, role};
use stile_tests::process::programs::{ADMIN, program};

use super::explain::{HOUR, OTHER, Registry, named, operator_of};

#[tokio::test]
async fn a_refused_exchange_is_explained_with_the_grants_of_today() {
    let Some(registry) = Registry::new().await else { return };
    registry.grant(&role("Release"), "acme", &[Download], None).await;
    let reply =
        registry.exchange(&named(ACCOUNT, "release"), &namespaces(&["acme"]), &[Download]).await;
    let id = reply.request_id().to_owned();
    let refused = registry.explain(&["--request-id", &id]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");

    registry.grant("account:aws:111122223333", "acme", &[Download], None).await;
    let allowed = registry.explain(&["--request-id", &id]).await;
    assert_eq!(allowed.code, Some(0), "{allowed:?}");
    let now = |text: &str| {
        // The hint names the place of the store.
        let steady = text.lines().filter(|line| !line.starts_with("hint: ")).map(|line| {
            let volatile = ["refused at", "unique id"].iter().find(|name| line.starts_with(**name));
            volatile
                .map_or_else(|| line.replace(&id, "<id>"), |name| format!("{name:<12} <{name}>"))
        });
        steady.collect::<Vec<_>>().join("\n")
    };
    let hint = "then `stile-admin grant create --";
    assert!(refused.stdout.contains(hint), "{refused:?}");
    insta::assert_snapshot!(format!(
        "{}\n\n-- and after a grant to the account --\n\n{}\n",
        now(&refused.stdout),
        now(&allowed.stdout)
    ));
}

#[tokio::test]
async fn an_unknown_id_says_what_it_can_mean_and_an_id_is_never_a_key() {
    let Some(registry) = Registry::new().await else { return };
    let unknown = registry.explain(&["--request-id", "0123456789abcdef"]).await;
    assert_eq!(unknown.code, Some(2), "it is no answer: {unknown:?}");
    for part in [
        "no refused exchange with the id `0123456789abcdef`",
        "7 days",
        "`span.id`",
        "--role-arn ARN --namespace NS --permission P`",
    ] {
        assert!(unknown.words().contains(part), "{unknown:?}");
    }
    let long = "a".repeat(65);
    for id in ["", "a b", "a' OR 1=1 --", "../x", "a\u{1b}[2J", &long] {
        let wrong = registry.explain(&["--request-id", id]).await;
        assert_eq!(wrong.code, Some(2), "{id:?}: {wrong:?}");
    }
}

#[tokio::test]
async fn a_flood_of_refusals_leaves_few_records_and_each_answer_is_the_same() {
    let Some(registry) = Registry::new().await else { return };
    let mut kept = 0;
    for at in 0..30 {
        if at == 10 {
            assert_eq!(kept, 3, "the limit of one scope");
        }
        let (who, other) = (named(OTHER, "flood"), format!("n{at}"));
        let on = namespaces(&[if at < 10 { "acme" } else { &other }]);
        let reply = registry.exchange(&who, &on, &[Download]).await;
        assert_eq!(reply.error(), "403 no_grant");
        let id = RequestId::parse(reply.request_id()).unwrap();
        let (store, now) = (registry.test.store(), registry.test.time());
        let found = store.refused_exchange(&operator(), &id, now).await.unwrap();
        kept += usize::from(found.is_some());
        if let Some(found) = found {
            let week = 7 * 24 * HOUR;
            let later = store.refused_exchange(&operator(), &id, found.at + week + 1).await;
            assert_eq!(later.unwrap(), None, "the store keeps it for seven days");
        }
    }
    assert_eq!(kept, 12, "the limit of one principal");
}

#[tokio::test]
async fn a_store_that_keeps_no_record_changes_no_answer_and_uses_up_no_limit() {
    let Some(registry) = Registry::new().await else { return };
    let on_database = |statement: &str| {
        let database = registry.test.data().join("stile.sqlite3");
        rusqlite::Connection::open(database).unwrap().execute_batch(statement).unwrap();
    };
    match registry.test.backend() {
        Backend::Embedded => on_database("ALTER TABLE refused_exchanges RENAME TO away"),
        Backend::Aws => {
            registry.test.aws().proxy.inject("dynamodb TransactWriteItems", .., Fault::Fail);
        }
    }
    let mut ids = Vec::new();
    // More than the limit of one scope.
    for at in 0..5 {
        if at == 4 {
            match registry.test.backend() {
                Backend::Embedded => on_database("ALTER TABLE away RENAME TO refused_exchanges"),
                Backend::Aws => registry.test.aws().proxy.repair(),
            }
        }
        let who = named(ACCOUNT, "nobody");
        let reply = registry.exchange(&who, &namespaces(&["acme"]), &[Download]).await;
        assert_eq!(reply.error(), "403 no_grant", "{reply:?}");
        assert!(reply.text().contains("arn:aws:iam::111122223333:role/nobody"));
        ids.push(RequestId::parse(reply.request_id()).unwrap());
    }
    let (store, now) = (registry.test.store(), registry.test.time());
    let mut kept = Vec::new();
    for id in &ids {
        kept.push(store.refused_exchange(&operator(), id, now).await.unwrap().is_some());
    }
    assert_eq!(kept, [false, false, false, false, true]);
}

#[tokio::test]
async fn a_registry_prints_the_same_explanation_as_its_store() {
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    let test = &served.test;
    test.grant(&role("lead"), "acme", &[CreateGrant]).await;
    test.grant(&role("Release"), "acme", &[Download]).await;
    test.grant_until(&role("late"), "acme", &[Download], Some(test.time() - HOUR)).await;
    let (lead, at_store) = (served.home(&named(ACCOUNT, "lead")), operator_of(test));
    let admin = program(ADMIN);
    for (who, code, difference) in [
        ("release", 1, "differs by case: "),
        ("late", 1, "differs by expiry: "),
        ("stranger", 1, "no similar grant exists"),
        ("Release", 0, "granted: "),
    ] {
        let whose = role(who);
        let asked = ["grant", "explain", "--principal", &whose, "--namespace", "acme"];
        let by_store = at_store.run(&admin, &asked).await;
        let registry = ["--registry-host", served.host()];
        let by_registry = lead.run(&admin, &[&asked[..], &registry].concat()).await;
        assert_eq!((by_store.code, by_registry.code), (Some(code), Some(code)), "{by_registry:?}");
        // The hints are commands, each for its own place.
        let lines = |text: &str| {
            let lines = text.lines().filter(|line| !line.starts_with("hint: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(lines(&by_store.stdout), lines(&by_registry.stdout), "{who}");
        assert!(by_registry.stdout.contains(difference), "{who}: {by_registry:?}");
        for flag in [["--unique-id", "AROAEXAMPLEEXAMPLE222"], ["--token-namespace", "acme"]] {
            let refused = lead.run(&admin, &[&asked[..], &registry, &flag].concat()).await;
            assert!(refused.words().contains("only an operator"), "{flag:?}: {refused:?}");
            assert_eq!(refused.code, Some(2), "it is no answer: {refused:?}");
        }
    }
    let by_id = ["grant", "explain", "--request-id", "1", "--registry-host", served.host()];
    assert!(lead.run(&admin, &by_id).await.words().contains("only an operator"));

    // Only an operator gives a grant to an account, so the hint is no command for the registry.
    let account = format!("account:{ACCOUNT}");
    let at_registry = ["--namespace", "acme", "--registry-host", served.host()];
    let of_account = [&["grant", "explain", "--principal", &account], &at_registry[..]].concat();
    let hinted = lead.run(&admin, &of_account).await;
    assert_eq!(hinted.code, Some(1), "{hinted:?}");
    assert!(hinted.stdout.contains("hint: ask an operator for this grant"), "{hinted:?}");

    // Who may not ask gets no answer, which is not the answer no.
    let reader = served.home(&named(ACCOUNT, "Release"));
    let whose = role("release");
    let asked = [&["grant", "explain", "--principal", &whose], &at_registry[..]].concat();
    let refused = reader.run(&admin, &asked).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.words().contains("create_grant"), "{refused:?}");
}
