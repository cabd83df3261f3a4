//! Tests a whole configuration: opens the store, calls each service, and reports which parts work.

use crate::app::Broker;
use crate::audit::Folding;
use crate::boot;
use crate::config::{Config, StoreLocation, TlsFiles};
use crate::error_chain::error_chain;
use crate::http::Certificate;
use stile_core::clock::{Clock, rfc3339};
use stile_protocol::audience::Audience;

/// The result for one part of the configuration.
#[derive(Debug)]
pub struct Finding {
    /// The part, for example `keyring`.
    pub part: String,
    /// Whether the part works.
    pub verdict: Verdict,
}

/// Whether a part of the configuration works.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It works.
    Works,
    /// It works now, and soon it will not, or something is missing, for this reason.
    WorksForNow(String),
    /// It does not work, for this reason.
    Fails(String),
}

/// Tests every part of the configuration. A part that fails does not hide the next one.
pub async fn check(config: &Config, clock: Clock) -> Vec<Finding> {
    let opened = boot::open(config, clock.clone(), Folding::Off).await;
    let host = config.host.as_ref().or(opened.as_ref().ok().map(|broker| &broker.audience));
    let tls = config.tls.iter().map(|files| certificate(files, host, clock.now()));
    let mut findings: Vec<Finding> = tls.collect();
    let mut found = |part: String, outcome: Result<(), String>| {
        let verdict = outcome.map_or_else(Verdict::Fails, |()| Verdict::Works);
        findings.push(Finding { part, verdict });
    };
    let mut audit = None;
    match opened {
        Err(error) => found(config.store.to_string(), Err(error_chain(&error))),
        Ok(broker) => {
            let host = format!("registry host {}", broker.audience);
            match broker.store.host().await {
                Ok(None) => found(host, Ok(())),
                Ok(Some(_)) => found(format!("{host}, the same as in {}", config.store), Ok(())),
                Err(error) => found(host, Err(error_chain(&error))),
            }
            for (part, outcome) in broker.store.diagnose().await {
                found(part, outcome.map_err(|error| error_chain(&error)));
            }
            match broker.tokens.minting_key(&broker.store, broker.clock.now()).await {
                Ok(key) => found(
                    format!("keyring, whose key is from {}", rfc3339(key.created_at())),
                    keys_from_the_future(&broker).await,
                ),
                Err(error) => found("keyring".to_owned(), Err(error_chain(&error))),
            }
            audit = Some(audit_key(&broker, config).await);
            if let Some(bus) = broker.events.bus() {
                let outcome = bus.look().await.map_err(|error| error_chain(&error));
                found(format!("event bus {}", bus.name()), outcome);
            }
            // Try each region of a short list. A long list is usually the default, all regions of
            // one network: one of them is enough.
            let tried = if config.regions.len() > 4 { 1 } else { config.regions.len() };
            for region in config.regions.iter().take(tried) {
                found(
                    format!("STS in {}", region.name),
                    broker.sts.health_check(region).await.map_err(|error| error_chain(&error)),
                );
            }
        }
    }
    findings.extend(audit);
    findings
}

/// Tests the audit key. A registry works without one, but then nothing is signed.
async fn audit_key(broker: &Broker, config: &Config) -> Finding {
    let folder = matches!(config.store, StoreLocation::Folder(_));
    let (part, verdict) = match broker.store.audit_key().await {
        Ok(Some(_)) => ("audit key", Verdict::Works),
        Ok(None) if folder => ("audit key, which the first start creates", Verdict::Works),
        Ok(None) => {
            let missing = "no head of the audit chains is signed, so nobody finds a chain that was \
                           written again; hint: give `--audit-key KEY`";
            ("audit key", Verdict::WorksForNow(missing.to_owned()))
        }
        Err(error) => ("audit key", Verdict::Fails(error_chain(&error))),
    };
    Finding { part: part.to_owned(), verdict }
}

/// Tests a certificate and its key. Without a host, it does not test the names.
fn certificate(files: &TlsFiles, host: Option<&Audience>, now: i64) -> Finding {
    let part = format!("TLS certificate {}", files.cert.display());
    let certificate = match Certificate::read(files) {
        Ok(certificate) => certificate,
        Err(error) => return Finding { part, verdict: Verdict::Fails(error_chain(&error)) },
    };
    let ends = rfc3339(certificate.ends_at());
    match certificate.problem(host, now) {
        Some(problem) => Finding { part, verdict: Verdict::Fails(problem.to_string()) },
        None if certificate.ends_soon(now) => Finding {
            part,
            verdict: Verdict::WorksForNow(format!("it ends on {ends}; hint: renew it")),
        },
        None => Finding { part: format!("{part}, which ends on {ends}"), verdict: Verdict::Works },
    }
}

/// Fails if a key of the keyring is from the future.
async fn keys_from_the_future(broker: &Broker) -> Result<(), String> {
    let keyring = broker.store.keyring().await.map_err(|error| error_chain(&error))?;
    let Some(key) = keyring.keys_from_the_future(broker.clock.now()).last() else { return Ok(()) };
    Err(format!(
        "another key is from the future ({}): the clock of this machine is behind, or another broker's was ahead; hint: \
         correct the clock, then run `stile-admin token revoke --all` to remove the key, or wait for its time",
        rfc3339(key.created_at())
    ))
}
