//! The TLS certificate of a broker: what `check` says about it, and how a running broker replaces
//! it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use stile_broker::check::{Finding, Verdict, check};
use stile_broker::config::{Config, Options, TlsFiles};
use stile_broker::http::{CertificateReloader, RELOAD_INTERVAL, Tls, Trigger, reload_certificate};
use stile_core::clock::{Clock, rfc3339};
use stile_protocol::audience::Audience;
use stile_protocol::names::Permission::Download;
use stile_tests::broker::journal::Journal;
use stile_tests::broker::served::system_time;
use stile_tests::broker::test_clock::TestClock;
use stile_tests::broker::{HOST, NOW, make_data, role};
use stile_tests::dev_ca::{DevCa, Files};
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{BROKER, Setup, client, free_port, program};
use stile_tests::sts::local::{LocalSts, fixed_clock};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

const DAY: i64 = 24 * 3600;

/// Writes a certificate for the host, which ends that many days after the start of a test.
fn certificate(folder: &Path, days: i64) -> Files {
    // The authority's certificates end 30 days after its time.
    DevCa::new(NOW + (days - 30) * DAY).write(folder, &[HOST])
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

/// Returns what `check` says about the certificate, `days` after the start of a test.
async fn checked(data: &Path, files: &TlsFiles) -> Finding {
    let (cert, key) = (files.cert.to_str().unwrap(), files.key.to_str().unwrap());
    let data = data.to_str().unwrap();
    // No STS listens there, and the test ignores the result about it.
    let sts = ["--regions", "us-east-1", "--sts-endpoint", "http://127.0.0.1:9"];
    let flags = ["x", "--host", HOST, "--data", data, "--tls-cert", cert, "--tls-key", key];
    let options = Cli::try_parse_from([&flags[..], &sts].concat()).unwrap().options;
    let config = Config::try_from(options).unwrap();
    let findings = Box::pin(check(&config, Clock::from_fn(|| NOW))).await;
    findings.into_iter().find(|finding| finding.part.starts_with("TLS certificate")).unwrap()
}

#[tokio::test]
async fn check_rejects_a_certificate_that_clients_reject_and_warns_before_one_ends() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    let names = |names: &[&str]| DevCa::new(NOW).write(folder.path(), names);
    for (days, fails, expected) in [
        (-1, true, "it ended on 2026-11-19T10:11:12Z; hint: renew it"),
        (32, true, "it is not valid before 2026-11-21T10:11:12Z; hint: check the clock"),
        (1, false, "it ends on 2026-11-21T10:11:12Z; hint: renew it"),
        (20, false, "it ends on 2026-12-10T10:11:12Z; hint: renew it"),
    ] {
        let files = certificate(folder.path(), days).of_broker();
        let verdict = checked(&data, &files).await.verdict;
        let says = match &verdict {
            Verdict::Fails(says) if fails => says.as_str(),
            Verdict::WorksForNow(says) if !fails => says.as_str(),
            _ => "",
        };
        assert!(says.contains(expected), "{days}: {verdict:?}");
    }
    for (covered, expected) in [
        (
            &["other.example.com", "127.0.0.1"][..],
            "but `other.example.com`, `127.0.0.1`; hint: get",
        ),
        (&["*.registry.example.com"], "but `*.registry.example.com`; hint: get"),
        (&[], "but no name; hint: get"),
    ] {
        let verdict = checked(&data, &names(covered).of_broker()).await.verdict;
        let Verdict::Fails(says) = &verdict else { panic!("{covered:?}: {verdict:?}") };
        assert!(
            says.starts_with("it does not cover registry host `registry.example.com`, ")
                && says.contains(expected),
            "{covered:?}: {says}"
        );
    }
    for (days, covered) in [(21, HOST), (29, "*.example.com")] {
        let files = DevCa::new(NOW + (days - 30) * DAY).write(folder.path(), &[covered]);
        let found = checked(&data, &files.of_broker()).await;
        let ends = rfc3339(NOW + days * DAY);
        assert_eq!(found.verdict, Verdict::Works, "{days} {covered}");
        assert!(found.part.ends_with(&format!(", which ends on {ends}")), "{found:?}");
    }
}

#[tokio::test]
async fn check_rejects_files_that_do_not_belong_together_or_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    let other = tempfile::tempdir().unwrap();
    let (ours, theirs) = (certificate(folder.path(), 30), certificate(other.path(), 30));
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let (empty, damaged) = (write("empty", ""), write("damaged", "-----BEGIN CERTIFICATE-----\n"));
    let not_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let not_der = write("not-der", not_der);
    let missing = folder.path().join("missing");
    let problem_of = |text: &str, path: &PathBuf| format!("{text} `{}`", path.display());
    for (cert, key, expected) in [
        (&ours.cert, &theirs.key, problem_of("the key in", &theirs.key)),
        (&missing, &ours.key, problem_of("cannot read", &missing) + ": No such file"),
        (&ours.cert, &missing, problem_of("cannot read", &missing) + ": No such file"),
        (&empty, &ours.key, format!("`{}` has no certificate", empty.display())),
        (&ours.key, &ours.key, format!("`{}` has no certificate", ours.key.display())),
        (&damaged, &ours.key, format!("`{}` is not a PEM file", damaged.display())),
        (&not_der, &ours.key, problem_of("cannot read the first certificate of", &not_der)),
        (&ours.cert, &ours.cert, "every user of this machine can access".to_owned()),
    ] {
        let files = TlsFiles { cert: cert.clone(), key: key.clone() };
        let verdict = checked(&data, &files).await.verdict;
        let Verdict::Fails(says) = &verdict else { panic!("{files:?}: {verdict:?}") };
        assert!(says.contains(&expected), "{files:?}: {says}");
    }
}

#[tokio::test]
async fn check_exits_with_1_for_an_expired_certificate_and_with_0_for_one_that_ends_soon() {
    let (folder, now) = (tempfile::tempdir().unwrap(), system_time());
    let data = folder.path().join("data");
    make_data(&data, &role("deploy"), "acme", &[Download]).await;
    let sts = LocalSts::start([], fixed_clock(now));
    let endpoint = sts.endpoint();
    let checked = async |files: &Files| -> CommandOutput {
        let arguments = ["check", "--host", HOST, "--regions", "us-east-1", "--sts-endpoint"];
        let paths = [&data, &files.cert, &files.key].map(|path| path.to_str().unwrap());
        let more = ["--data", paths[0], "--tls-cert", paths[1], "--tls-key", paths[2]];
        let arguments = [&arguments[..], &[endpoint.as_str()], &more].concat();
        Home::temporary().run(&program(BROKER), &arguments).await
    };
    for (days, code, expected) in [
        (-1, Some(1), "failed  TLS certificate "),
        (10, Some(0), "warning TLS certificate "),
        (30, Some(0), "ok      TLS certificate "),
    ] {
        let files = DevCa::new(now + (days - 30) * DAY).write(folder.path(), &[HOST]);
        let ran = checked(&files).await;
        assert_eq!(ran.code, code, "{days}: {ran:?}");
        assert!(ran.stdout.lines().any(|line| line.starts_with(expected)), "{days}: {ran:?}");
    }
}

/// The certificate of a server, and what replaces it.
struct Server {
    folder: TempDir,
    files: Files,
    tls: Tls,
    clock: Arc<TestClock>,
    reloader: CertificateReloader,
    journal: Journal,
}

impl Server {
    /// A server whose certificate ends after 25 days.
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = certificate(folder.path(), 25);
        let (tls, clock) = (files.tls(), Arc::new(TestClock::at(NOW)));
        let now = Arc::clone(&clock);
        let reloader = CertificateReloader::new(
            files.of_broker(),
            tls.clone(),
            Audience::parse(HOST).unwrap(),
            Clock::from_fn(move || now.now()),
        );
        Self { folder, files, tls, clock, reloader, journal: Journal::start() }
    }

    /// Returns the number of days for which the certificate in service is still valid.
    fn days(&self) -> i64 {
        (self.tls.certificate().ends_at() - NOW) / DAY
    }

    /// Returns the lines of the log since the last call.
    fn log(&self) -> Vec<serde_json::Value> {
        let text = self.journal.taken().json.text;
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns how many lines of the log since the last call are the alarm.
    fn alarms(&self) -> usize {
        let is_alarm = |line: &serde_json::Value| {
            line["alarm"] == "certificate_not_reloaded" && line["level"] == "ERROR"
        };
        self.log().iter().filter(|line| is_alarm(line)).count()
    }
}

#[tokio::test]
async fn files_that_the_broker_cannot_use_keep_the_certificate_in_service_and_raise_one_alarm() {
    let other = tempfile::tempdir().unwrap();
    let theirs = certificate(other.path(), 30);
    type Break<'a> = (&'a str, &'a dyn Fn(&Server));
    let ways: [Break<'_>; 6] = [
        ("half a certificate", &|server| {
            let text = fs::read(&server.files.cert).unwrap();
            fs::write(&server.files.cert, &text[..text.len() / 2]).unwrap();
        }),
        ("no key", &|server| fs::remove_file(&server.files.key).unwrap()),
        ("a key of another certificate", &|server| {
            fs::copy(&theirs.key, &server.files.key).map(drop).unwrap();
        }),
        ("an expired certificate", &|server| drop(certificate(server.folder.path(), -1))),
        ("a certificate of the future", &|server| drop(certificate(server.folder.path(), 40))),
        ("a certificate of another host", &|server| {
            drop(DevCa::new(NOW).write(server.folder.path(), &["other.example.com"]));
        }),
    ];
    for (way, spoil) in ways {
        let mut server = Server::start();
        spoil(&server);
        server.reloader.reload(Trigger::Interval);
        assert_eq!((server.days(), server.alarms()), (25, 0), "{way}: it can be half of a renewal");
        server.reloader.reload(Trigger::Interval);
        assert_eq!((server.days(), server.alarms()), (25, 1), "{way}");
        for _ in 0..3 {
            server.reloader.reload(Trigger::Interval);
        }
        assert_eq!((server.days(), server.alarms()), (25, 0), "{way}: one alarm is enough");
        for _ in 0..2 {
            server.reloader.reload(Trigger::Hangup);
            assert_eq!((server.days(), server.alarms()), (25, 1), "{way}: SIGHUP gets an answer");
        }
        certificate(server.folder.path(), 29);
        server.reloader.reload(Trigger::Interval);
        assert_eq!((server.days(), server.alarms()), (29, 0), "{way}: and a renewal ends it");
    }
}

#[tokio::test]
async fn a_changed_certificate_is_in_service_and_the_log_says_when_it_ends() {
    let mut server = Server::start();
    server.reloader.reload(Trigger::Interval);
    assert_eq!((server.days(), server.log().len()), (25, 0), "nothing changed");
    for (trigger, days, level) in [
        (Trigger::Interval, 28, "INFO"),
        (Trigger::Hangup, 29, "INFO"),
        (Trigger::Hangup, 5, "WARN"),
    ] {
        certificate(server.folder.path(), days);
        server.reloader.reload(trigger);
        assert_eq!(server.days(), days, "{trigger:?}");
        let log = server.log();
        let [line] = &log[..] else { panic!("{trigger:?}: {log:?}") };
        assert_eq!(line["level"], level, "{line}");
        assert_eq!(line["ends"], rfc3339(NOW + days * DAY), "{line}");
        assert!(line["message"].as_str().unwrap().starts_with("reloaded the TLS certificate"));
    }
    // When clients reject the certificate in service, another one cannot make it worse.
    server.clock.advance(10 * DAY);
    certificate(server.folder.path(), 8);
    server.reloader.reload(Trigger::Interval);
    assert_eq!(server.days(), 8);
    assert!(server.log()[0]["message"].as_str().unwrap().contains("which clients reject"));
}

#[tokio::test(start_paused = true)]
async fn the_files_of_the_certificate_are_read_again_after_each_interval() {
    let Server { folder, tls, reloader, .. } = Server::start();
    let before = tls.certificate().ends_at();
    certificate(folder.path(), 29);
    let (started, hangup) = (tokio::time::Instant::now(), signal(SignalKind::hangup()).unwrap());
    let running = tokio::spawn(reload_certificate(Some(reloader), hangup, RELOAD_INTERVAL));
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while tls.certificate().ends_at() == before {
        tick.tick().await;
    }
    let waited = started.elapsed();
    assert!((RELOAD_INTERVAL..RELOAD_INTERVAL * 2).contains(&waited), "{waited:?}");
    running.abort();
}

#[tokio::test]
async fn sighup_reloads_the_certificate_and_never_ends_the_broker() {
    let (folder, now) = (tempfile::tempdir().unwrap(), system_time());
    let (data, other) = (folder.path().join("data"), folder.path().join("other"));
    for data in [&data, &other] {
        make_data(data, &role("deploy"), "acme", &[Download]).await;
    }
    let plain = Setup::new(free_port(), &other).start(&folder.path().join("plain.log")).await;
    plain.send_hangup();
    plain.logs("ignored SIGHUP").await;
    let answer = plain.client().get(plain.url("/healthz")).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    drop(plain);

    let files = DevCa::new(now).write(folder.path(), &["127.0.0.1"]);
    let setup = Setup::new(free_port(), &data).tls(&files);
    let mut broker = setup.start(&folder.path().join("tls.log")).await;
    let accepted = async |files: &Files| {
        let answer = client(Some(files)).get(broker.url("/healthz")).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    };
    let old = client(Some(&files));
    // Another authority: the new certificate is the only one that a client of it accepts.
    let files = DevCa::new(now).write(folder.path(), &["127.0.0.1"]);
    assert!(!accepted(&files).await, "before SIGHUP, the old certificate is in service");
    broker.send_hangup();
    broker.logs("reloaded the TLS certificate").await;
    assert!(accepted(&files).await);
    assert!(old.get(broker.url("/healthz")).send().await.is_err(), "the old one is not");
    fs::write(&files.cert, "garbage").unwrap();
    broker.send_hangup();
    broker.logs("certificate_not_reloaded").await;
    assert!(accepted(&files).await, "the previous certificate stays in service");
    assert!(broker.terminate().await.success());
}
