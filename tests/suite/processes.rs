//! Four brokers, each in its own process, over one table. Concurrent publishers meet only in that
//! table.

use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::Value;
use stile_protocol::exchange::Namespaces;
use stile_protocol::names::Permission::{Download, Upload};
use stile_tests::aws::emulated::EmulatedAws;
use stile_tests::broker::kept_events::kept_events;
use stile_tests::broker::served::system_time;
use stile_tests::broker::{HOST, allow, deploy, module_zip, role};
use stile_tests::process::programs::{Broker, Setup, free_port};
use stile_tests::sts::local::LocalSts;
use stile_tests::sts::proof::{Proof, document};
use tempfile::TempDir;

/// The number of brokers.
const PROCESSES: usize = 4;

/// A registry that four processes serve, and a token that reads and writes its one namespace.
struct Registry {
    brokers: Vec<Broker>,
    token: String,
    aws: EmulatedAws,
    _sts: LocalSts,
    _logs: TempDir,
}

impl Registry {
    async fn start() -> Option<Self> {
        let aws = EmulatedAws::start().await?;
        let identity = deploy();
        let sts = LocalSts::start([identity.clone()], Arc::new(system_time));
        let logs = tempfile::tempdir().unwrap();
        let mut brokers = Vec::new();
        for n in 0..PROCESSES {
            let setup =
                Setup::on_aws(free_port(), &aws).env("STILE_HOST", HOST).sts(&sts.endpoint());
            brokers.push(setup.start(&logs.path().join(format!("{n}"))).await);
        }
        let ids: std::collections::BTreeSet<u32> = brokers.iter().map(Broker::id).collect();
        assert_eq!(ids.len(), PROCESSES, "each broker is its own process");
        allow(&aws, &role("deploy"), "acme", &[Download, Upload]).await;
        let proof = Proof::new(&identity).audience(HOST).now(system_time());
        let proof = proof.document(&document(3600, Namespaces::All, &[Download, Upload])).build();
        let asked = brokers[0]
            .client()
            .post(brokers[0].url("/v1/token"))
            .header("content-type", "application/json");
        let answer = asked.body(proof.to_string()).send().await.unwrap();
        let (status, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{body}");
        let token =
            serde_json::from_str::<Value>(&body).unwrap()["token"].as_str().unwrap().to_owned();
        Some(Self { brokers, token, aws, _sts: sts, _logs: logs })
    }

    /// Publishes through the process of that number, and returns the status.
    async fn publish(&self, process: usize, version: &str, archive: Vec<u8>) -> u16 {
        let broker = &self.brokers[process % PROCESSES];
        let sent = broker
            .client()
            .post(broker.url(&format!("/v1/modules/acme/vpc/aws/{version}")))
            .bearer_auth(&self.token)
            .header("content-type", "application/zip")
            .body(archive);
        sent.send().await.unwrap().status().as_u16()
    }

    async fn listed(&self, process: usize) -> Vec<String> {
        let broker = &self.brokers[process];
        let asked = broker
            .client()
            .get(broker.url("/v1/modules/acme/vpc/aws/versions"))
            .bearer_auth(&self.token);
        let body: Value =
            serde_json::from_str(&asked.send().await.unwrap().text().await.unwrap()).unwrap();
        let versions =
            body["modules"][0]["versions"].as_array().unwrap_or_else(|| panic!("{body}"));
        let mut listed: Vec<_> = versions
            .iter()
            .map(|version| version["version"].as_str().unwrap().to_owned())
            .collect();
        listed.sort();
        listed
    }
}

/// Sorts the statuses.
fn statuses(mut statuses: Vec<u16>) -> Vec<u16> {
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn of_twenty_who_create_one_version_through_four_processes_one_does_and_ten_versions_at_once_are_all_listed()
 {
    let Some(registry) = Registry::start().await else { return };
    let others = (0..20).map(|n| registry.publish(n, "1.0.0", module_zip(&format!("{n}"))));
    assert_eq!(
        statuses(join_all(others).await),
        [vec![201], vec![409; 19]].concat(),
        "each with other bytes"
    );
    let same = (0..20).map(|n| registry.publish(n, "2.0.0", module_zip("same")));
    assert_eq!(
        statuses(join_all(same).await),
        [vec![200; 19], vec![201]].concat(),
        "all with the same bytes"
    );

    let versions: Vec<String> = (0..10).map(|n| format!("3.0.{n}")).collect();
    let ten = versions
        .iter()
        .enumerate()
        .map(|(n, version)| registry.publish(n, version, module_zip(version)));
    assert_eq!(join_all(ten).await, [201; 10]);
    let expected: Vec<String> =
        ["1.0.0", "2.0.0"].map(str::to_owned).into_iter().chain(versions).collect();
    for process in 0..PROCESSES {
        assert_eq!(registry.listed(process).await, expected, "through process {process}");
    }
    assert_eq!(registry.aws.objects().await, 12, "who loses the race stores nothing");
    let mut events = kept_events(&registry.aws.store(None)).await.remove("acme").unwrap();
    events.retain(|event| event["event"] == "publish");
    assert_eq!(events.len(), 12, "one for each version");
}
