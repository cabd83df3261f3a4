//! The search for modules: what it finds, for whom, and what it costs.

use std::io::Write as _;

use serde_json::{Value, json};
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::broker::served::Served;
use stile_tests::broker::{Backend, TestBroker, deploy, module_zip, role};
use stile_tests::many_modules::{COMMON, RARE, RARE_MODULE, fill};
use stile_tests::process::programs::{ADMIN, program};
use stile_tests::sts::identity::Identity;

const SEARCH: &str = "/v1/modules/search";

async fn registry() -> Option<(TestBroker, String)> {
    let test = TestBroker::start_on(super::BACKEND).await?;
    for namespace in ["acme", "other"] {
        test.grant(&role("deploy"), namespace, &[Download, Upload]).await;
    }
    let token = test.token(&deploy(), &[Download, Upload]).await;
    for (address, version) in [
        ("acme/vpc/aws", "1.0.0"),
        ("acme/vpc/aws", "1.1.0"),
        ("acme/vpc-peering/aws", "1.0.0"),
        ("acme/network/google", "2.0.0"),
        ("other/vpc/azurerm", "0.1.0"),
    ] {
        let published = test.publish(address, version, module_zip(version), &token).await;
        assert_eq!(published.status, 201);
    }
    Some((test, token))
}

/// Returns the addresses that a query finds, in order.
async fn found(test: &TestBroker, query: &str, token: &str) -> Vec<String> {
    let reply = test.get(&format!("{SEARCH}{query}"), token).await;
    assert_eq!(reply.status, 200, "{query}: {}", reply.text());
    let answer = reply.json();
    let modules = answer["modules"].as_array().unwrap();
    let address = |module: &Value| {
        ["namespace", "name", "provider"].map(|name| module[name].as_str().unwrap().to_owned())
    };
    modules.iter().map(|module| address(module).join("/")).collect()
}

#[tokio::test]
async fn a_query_that_is_malformed_or_of_a_namespace_without_a_right_is_refused() {
    let Some((test, token)) = registry().await else { return };
    let long = "x".repeat(257);
    for (query, status, words) in [
        (format!("?q={long}"), 400, "at most 256 bytes"),
        ("?q=a+b+c+d+e+f+g+h+i".to_owned(), 400, "8 words"),
        ("?limit=x".to_owned(), 400, "whole numbers"),
        ("?offset=-1".to_owned(), 400, "whole numbers"),
        ("?q=a&q=b".to_owned(), 400, "once"),
        ("?provider=A_B".to_owned(), 400, "`provider`"),
        ("?namespace=secret".to_owned(), 403, "no `download`"),
        ("?namespace=Acme".to_owned(), 403, "namespace"),
        ("?namespace=secret&provider=A_B".to_owned(), 403, "no `download`"),
    ] {
        let reply = test.get(&format!("{SEARCH}{query}"), &token).await;
        assert_eq!(reply.status.as_u16(), status, "{query}: {}", reply.text());
        assert!(reply.text().contains(words), "{query}: {}", reply.text());
    }
    assert_eq!(test.get(SEARCH, "nonsense").await.status, 401);
}

#[tokio::test]
async fn the_words_of_a_name_find_a_module_and_pages_follow_each_other() {
    let Some((test, token)) = registry().await else { return };
    for (query, expected) in [
        ("?q=bastion", &[][..]),
        ("?q=VPC", &["acme/vpc/aws", "acme/vpc-peering/aws", "other/vpc/azurerm"]),
        ("?q=peer", &["acme/vpc-peering/aws"]),
        ("?q=vpc&provider=azurerm", &["other/vpc/azurerm"]),
        ("?q=vpc&namespace=other", &["other/vpc/azurerm"]),
        ("?q=google", &["acme/network/google"]),
        ("?q=vpc&limit=1&offset=1", &["acme/vpc-peering/aws"]),
        ("?q=vpc&offset=9", &[]),
        ("", &["acme/network/google", "acme/vpc/aws", "acme/vpc-peering/aws", "other/vpc/azurerm"]),
    ] {
        assert_eq!(found(&test, query, &token).await, expected, "{query}");
    }
    let answer = test.get(&format!("{SEARCH}?q=vpc&limit=2"), &token).await.json();
    assert_eq!(answer["meta"], json!({"limit": 2, "current_offset": 0, "next_offset": 2}));
    assert_eq!(
        answer["modules"][0],
        json!({
            "id": "acme/vpc/aws/1.1.0", "namespace": "acme", "name": "vpc", "provider": "aws",
            "version": "1.1.0", "published_at": "2026-11-20T10:11:12Z", "description": null,
        })
    );
}

#[tokio::test]
async fn a_search_finds_nothing_that_its_caller_may_not_read() {
    let Some((test, token)) = registry().await else { return };
    assert_eq!(found(&test, "?q=vpc", &token).await.len(), 3, "the words are in memory now");
    test.grant(&role("reader"), "other", &[Download]).await;
    let reader = Identity::role("111122223333", "reader", "i-0abc");
    let reader = test.token(&reader, &[Download]).await;
    assert_eq!(found(&test, "?q=vpc", &reader).await, ["other/vpc/azurerm"]);
    assert_eq!(found(&test, "", &reader).await, ["other/vpc/azurerm"]);
    let publisher = test.token(&deploy(), &[Upload]).await;
    assert!(found(&test, "", &publisher).await.is_empty(), "a token without `download`");
    test.grant(&role("everywhere"), "*", &[Download]).await;
    let everywhere = Identity::role("111122223333", "everywhere", "i-0abc");
    let everywhere = test.token(&everywhere, &[Download]).await;
    assert_eq!(found(&test, "?q=vpc", &everywhere).await.len(), 3);
}

#[tokio::test]
async fn a_new_version_is_found_at_once_here_and_after_ten_seconds_by_other_brokers() {
    let Some((test, token)) = registry().await else { return };
    let other = test.restarted();
    for test in [&test, &other] {
        assert!(found(test, "?q=dns", &token).await.is_empty());
    }
    test.publish("acme/dns/aws", "1.0.0", module_zip("dns"), &token).await;
    assert_eq!(found(&test, "?q=dns", &token).await, ["acme/dns/aws"]);
    assert!(found(&other, "?q=dns", &token).await.is_empty());
    other.advance(10);
    assert_eq!(found(&other, "?q=dns", &token).await, ["acme/dns/aws"]);
}

#[tokio::test]
async fn a_warm_search_finds_the_same_and_makes_no_call_of_aws() {
    let Some((test, token)) = registry().await else { return };
    let cold = found(&test, "?q=vpc", &token).await;
    assert_eq!(cold.len(), 3);
    assert_eq!(found(&test, "?q=vpc", &token).await, cold);
    if test.backend() != Backend::Aws {
        return;
    }
    test.aws().proxy.take_names();
    for _ in 0..3 {
        found(&test, "?q=vpc", &token).await;
    }
    assert_eq!(test.aws().proxy.take_names(), Vec::<String>::new());
    test.advance(10);
    found(&test, "?q=vpc", &token).await;
    let calls = test.aws().proxy.take_names();
    assert!(calls.len() <= 5, "the caller, and two queries of each namespace: {calls:?}");
}

#[tokio::test]
async fn of_five_thousand_modules_a_word_of_a_readme_finds_one_and_a_warm_search_makes_no_call() {
    let Some(test) = TestBroker::start_on(super::BACKEND).await else { return };
    test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    test.grant(&role("everywhere"), "*", &[Download]).await;
    let token = test.token(&deploy(), &[Download, Upload]).await;
    let everywhere = Identity::role("111122223333", "everywhere", "i-0abc");
    let everywhere = test.token(&everywhere, &[Download]).await;
    let published = test.publish("acme/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(published.status, 201);
    fill(&test, 5000).await;
    let rare = format!("?q={RARE}");
    let common = format!("?q={COMMON}&limit=2&offset=4999");
    for token in [&token, &everywhere] {
        assert_eq!(found(&test, &rare, token).await, [RARE_MODULE]);
        assert_eq!(found(&test, &common, token).await, ["acme/m4999/aws"], "each but one has it");
    }
    if test.backend() != Backend::Aws {
        return;
    }
    test.aws().proxy.take_names();
    for query in [&rare, &common] {
        for token in [&token, &everywhere] {
            found(&test, query, token).await;
        }
    }
    assert_eq!(test.aws().proxy.take_names(), Vec::<String>::new());
}

#[tokio::test]
async fn who_may_read_every_namespace_finds_a_new_one_at_once_here_and_after_ten_seconds_elsewhere()
{
    let Some((test, token)) = registry().await else { return };
    test.grant(&role("deploy"), "new", &[Download, Upload]).await;
    test.grant(&role("everywhere"), "*", &[Download]).await;
    let everywhere = Identity::role("111122223333", "everywhere", "i-0abc");
    let everywhere = test.token(&everywhere, &[Download]).await;
    let other = test.restarted();
    for test in [&test, &other] {
        // A broker remembers the grants of a caller for ten seconds.
        test.advance(10);
        assert_eq!(found(test, "?q=vpc", &everywhere).await.len(), 3);
    }
    let published = test.publish("new/vpc/aws", "1.0.0", module_zip("x"), &token).await;
    assert_eq!(published.status, 201, "{}", published.text());
    let expected = ["acme/vpc-peering/aws", "acme/vpc/aws", "new/vpc/aws", "other/vpc/azurerm"];
    assert_eq!(found(&test, "?q=vpc", &everywhere).await.len(), 4);
    assert_eq!(found(&other, "?q=vpc", &everywhere).await.len(), 3);
    for test in [&test, &other] {
        test.advance(10);
        let mut found = found(test, "?q=vpc", &everywhere).await;
        found.sort();
        assert_eq!(found, expected);
    }
}

#[tokio::test]
async fn the_program_finds_a_module_by_a_word_of_its_readme_for_who_may_read_it() {
    let Some(served) = Served::start_on(super::BACKEND, |router| router).await else { return };
    served.test.grant(&role("deploy"), "acme", &[Download, Upload]).await;
    served.test.grant(&role("stranger"), "other", &[Download]).await;
    let home = served.home(&deploy());
    let admin = async |words: &[&str]| {
        let host = ["--registry-host", served.host()];
        let words: Vec<&str> = words.iter().chain(&host).copied().collect();
        home.run(&program(ADMIN), &words).await
    };
    for (name, readme) in [
        ("vpc", "# Network\n\nA zeppelin with subnets.\n\n## Notes\n\nIt flies with helium.\n"),
        ("dns", "# Names\n\nZones and records.\n"),
    ] {
        let folder = home.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("README.md"), readme).unwrap();
        std::fs::write(folder.join("main.tf"), "variable \"cidr\" {}\n").unwrap();
        let address = format!("acme/{name}/aws");
        let published = admin(&["module", "publish", &address, "1.0.0", name]).await;
        assert_eq!(published.code, Some(0), "{published:?}");
    }
    let expected = "module        latest  description\n\
                    acme/vpc/aws  1.0.0   A zeppelin with subnets.\n";
    for words in [&["helium"][..], &["zeppelin", "subnet"], &["vpc", "--namespace", "acme"]] {
        let found = admin(&[&["module", "search"][..], words].concat()).await;
        assert_eq!(
            (found.code, found.stdout.as_str()),
            (Some(0), expected),
            "{words:?}: {found:?}"
        );
    }
    let objects = admin(&["module", "search", "cidr", "--output", "json"]).await;
    let objects: Value = serde_json::from_str(&objects.stdout).unwrap();
    let addresses: Vec<_> = objects.as_array().unwrap().iter().map(|it| &it["module"]).collect();
    assert_eq!(addresses, [&json!("acme/dns/aws"), &json!("acme/vpc/aws")]);
    for words in [&["hydrogen"][..], &["helium", "--system", "google"]] {
        let none = admin(&[&["module", "search"][..], words].concat()).await;
        let nothing = (Some(0), "", "notice: there are no such modules\n");
        assert_eq!((none.code, none.stdout.as_str(), none.stderr.as_str()), nothing, "{words:?}");
    }
    let stranger = served.home(&Identity::role("111122223333", "stranger", "i-0abc"));
    let words = ["module", "search", "helium", "--registry-host", served.host()];
    let found = stranger.run(&program(ADMIN), &words).await;
    assert_eq!((found.code, found.stdout.as_str()), (Some(0), ""), "{found:?}");
}

#[tokio::test]
async fn a_caller_with_many_namespaces_costs_one_list_and_the_words_of_those_with_modules() {
    let Some((test, _)) = registry().await else { return };
    for n in 0..40 {
        test.grant(&role("many"), &format!("empty{n}"), &[Download]).await;
    }
    test.grant(&role("many"), "other", &[Download]).await;
    let many = Identity::role("111122223333", "many", "i-0abc");
    let many = test.token(&many, &[Download]).await;
    assert_eq!(found(&test, "?q=vpc", &many).await, ["other/vpc/azurerm"]);
    assert_eq!(found(&test, "", &many).await, ["other/vpc/azurerm"]);
    // A module of a namespace that had none is found at once.
    test.grant(&role("first"), "empty7", &[Upload]).await;
    let first = Identity::role("111122223333", "first", "i-0abc");
    let first = test.token(&first, &[Upload]).await;
    let published = test.publish("empty7/vpc/aws", "1.0.0", module_zip("empty7"), &first).await;
    assert_eq!(published.status, 201, "{}", published.text());
    assert_eq!(found(&test, "?q=vpc", &many).await, ["empty7/vpc/aws", "other/vpc/azurerm"]);
    if test.backend() != Backend::Aws {
        return;
    }
    test.aws().proxy.take_names();
    for _ in 0..3 {
        found(&test, "?q=vpc", &many).await;
    }
    assert_eq!(test.aws().proxy.take_names(), Vec::<String>::new(), "all is in memory");
    test.advance(10);
    found(&test, "?q=vpc", &many).await;
    let calls = test.aws().proxy.take_names();
    assert!(calls.len() <= 6, "the caller, the list, and two queries of two namespaces: {calls:?}");
}

#[tokio::test]
async fn words_are_found_however_their_letters_are_written_and_a_letter_alone_finds_only_itself() {
    let Some((test, token)) = registry().await else { return };
    let archive = module_zip_with("Caf\u{e9} and \u{130}stanbul, re\u{301}sume\u{301}.");
    assert_eq!(test.publish("acme/cafe/aws", "1.0.0", archive, &token).await.status, 201);
    for query in
        ["caf%C3%A9", "cafe%CC%81", "CAF%C3%89", "istanbul", "%C4%B0stan", "r%C3%A9sum%C3%A9"]
    {
        assert_eq!(
            found(&test, &format!("?q={query}"), &token).await,
            ["acme/cafe/aws"],
            "{query}"
        );
    }
    assert_eq!(found(&test, "?q=v", &token).await, [""; 0]);
    let same = "v+".repeat(40);
    assert_eq!(found(&test, &format!("?q=vpc+{same}"), &token).await, [""; 0]);
    assert_eq!(found(&test, &format!("?q={}", "VPC+".repeat(40)), &token).await.len(), 3);
}

/// Returns the archive of a module with a README.
fn module_zip_with(readme: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (path, content) in [("README.md", readme), ("main.tf", "variable \"x\" {}\n")] {
        zip.start_file(path, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
