//! Where a webhook may lead: only to public addresses, whatever its name resolves to, and wherever
//! its receiver points.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use stile_broker::error_chain::error_chain;
use stile_broker::webhook_client::WebhookClient;
use stile_core::version_event::VersionEvent;
use stile_core::webhook::{WebhookSecret, WebhookUrl, is_global};
use stile_store::{Delivery, Webhook};
use stile_tests::webhook_receiver::WebhookReceiver;

/// The kinds of addresses that are not public, each with an example.
const NOT_PUBLIC: [(&str, &str); 28] = [
    ("this network", "0.0.0.0"),
    ("this network", "0.1.2.3"),
    ("loopback", "127.0.0.1"),
    ("loopback", "127.8.9.10"),
    ("private", "10.0.0.1"),
    ("private", "172.16.0.1"),
    ("private", "172.31.255.254"),
    ("private", "192.168.1.1"),
    ("link-local, the metadata of an instance", "169.254.169.254"),
    ("link-local, the credentials of a container", "169.254.170.2"),
    ("CGNAT", "100.64.0.1"),
    ("CGNAT", "100.127.255.254"),
    ("protocol assignments", "192.0.0.8"),
    ("documentation", "203.0.113.7"),
    ("benchmarks", "198.18.0.1"),
    ("multicast", "224.0.0.1"),
    ("reserved", "240.0.0.1"),
    ("broadcast", "255.255.255.255"),
    ("unspecified", "::"),
    ("loopback", "::1"),
    ("link-local", "fe80::1"),
    ("unique local, the metadata of an instance", "fd00:ec2::254"),
    ("multicast", "ff02::1"),
    ("documentation", "2001:db8::1"),
    ("IPv4-mapped", "::ffff:127.0.0.1"),
    ("NAT64", "64:ff9b::7f00:1"),
    ("6to4", "2002:7f00:1::1"),
    ("Teredo", "2001:0:7f00:1::1"),
];

fn webhook(url: &str) -> Webhook {
    Webhook {
        id: "wh_1".to_owned(),
        name: "ci".parse().unwrap(),
        url: WebhookUrl::parse(url).unwrap(),
        secret: WebhookSecret::random().unwrap(),
        created_by: "test".to_owned(),
        created_at: 7,
    }
}

/// Sends an event, and returns the error with its causes.
async fn send(client: &WebhookClient, webhook: &Webhook) -> Result<(), String> {
    let event = VersionEvent {
        id: "evt_1".to_owned(),
        namespace: "acme".parse().unwrap(),
        kind: "module.published".to_owned(),
        body: "{}".to_owned(),
        at: 7,
    };
    let delivery = Delivery { destination: webhook.destination(), event };
    client.send(webhook, &delivery, 7).await.map_err(|error| error_chain(&error))
}

#[tokio::test]
async fn a_name_that_resolves_to_an_address_that_is_not_public_is_refused() {
    let receiver = WebhookReceiver::start().await;
    let webhook = webhook(&receiver.url("/"));
    for (kind, address) in NOT_PUBLIC {
        let address: IpAddr = address.parse().unwrap();
        let client = receiver.client_with(move |_| vec![address], is_global);
        let error = send(&client, &webhook).await.unwrap_err();
        assert!(error.contains(&format!("{address}, which is not public")), "{kind}: {error}");
        // One public address in the answer does not help.
        let public: IpAddr = "93.184.216.34".parse().unwrap();
        for found in [vec![public, address], vec![address, public]] {
            let client = receiver.client_with(move |_| found.clone(), is_global);
            let error = send(&client, &webhook).await.unwrap_err();
            assert!(error.contains("not public"), "{kind}: {error}");
        }
    }
    assert_eq!(receiver.take().len(), 0);
}

#[test]
fn an_address_that_is_not_public_is_refused_in_the_url() {
    for (kind, address) in NOT_PUBLIC {
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        for url in [format!("https://{host}/"), format!("https://{host}:8443/hook?a=b")] {
            let error = WebhookUrl::parse(&url).unwrap_err().to_string();
            assert!(error.contains("is not a public address"), "{kind}: {error}");
        }
    }
}

#[tokio::test]
async fn an_address_in_a_url_is_checked_again_before_it_is_connected_to() {
    let receiver = WebhookReceiver::start().await;
    // As if a later release parsed fewer URLs than an earlier one stored.
    let client = receiver.client_with(|_| Vec::new(), |_| false);
    let error = send(&client, &webhook("https://93.184.216.34/")).await.unwrap_err();
    assert_eq!(error, "its address 93.184.216.34 is not public");
}

#[tokio::test]
async fn a_program_refuses_the_names_of_this_machine() {
    let client = WebhookClient::new().unwrap();
    for host in ["localhost", "localhost."] {
        let error = send(&client, &webhook(&format!("https://{host}:1/"))).await.unwrap_err();
        assert!(error.contains("not public") || error.contains("lookup"), "{host}: {error}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let receiver = WebhookReceiver::start().await;
    let webhook = webhook(&receiver.url("/"));
    for status in [301, 302, 303, 307, 308] {
        receiver.answers(&[status]);
        let error = send(&receiver.client(), &webhook).await.unwrap_err();
        assert!(error.contains(&status.to_string()), "{error}");
        let paths: Vec<_> = receiver.take().into_iter().map(|got| got.path).collect();
        assert_eq!(paths, ["/"], "{status}");
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_a_moment_later_is_looked_up_and_checked_again() {
    let receiver = WebhookReceiver::start().await;
    let webhook = webhook(&receiver.url("/"));
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let lookup = move |_| {
        let last = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 1 } else { 2 };
        vec![Ipv4Addr::new(127, 0, 0, last).into()]
    };
    let client = receiver.client_with(lookup, |address| address == Ipv4Addr::LOCALHOST);
    send(&client, &webhook).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it connects to the address that it checked");
    send(&client, &webhook).await.unwrap_err();
    assert_eq!((asked.load(Ordering::SeqCst), receiver.take().len()), (2, 1));
}

#[tokio::test]
async fn a_receiver_with_a_certificate_for_another_name_gets_nothing() {
    let receiver = WebhookReceiver::start().await;
    let url = receiver.url("/").replace("receiver.example", "other.example");
    let error = send(&receiver.client(), &webhook(&url)).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");
    assert!(!error.contains("other.example:"), "the error has no URL: {error}");
    assert_eq!(receiver.take().len(), 0);
}
