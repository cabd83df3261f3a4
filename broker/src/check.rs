//! Looks at a configuration as a whole: opens and reaches what it names, and says of each whether it works.

use std::error::Error;

use crate::audit::Folding;
use crate::boot;
use crate::config::Config;
use crate::http;
use stile_core::clock::Clock;

/// One thing that was looked at.
#[derive(Debug)]
pub struct Finding {
    /// What.
    pub what: String,
    /// Why it does not work, if it does not.
    pub problem: Option<String>,
}

/// Looks at everything that can be looked at; one thing that fails does not hide the next.
pub async fn check(config: &Config, clock: Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut found = |what: String, outcome: Result<(), String>| {
        findings.push(Finding { what, problem: outcome.err() });
    };
    if let Some(files) = &config.tls {
        found(
            format!("TLS certificate {}", files.cert.display()),
            http::tls(files).map(drop).map_err(|error| told(&error)),
        );
    }
    match boot::open(config, clock, Folding::Off).await {
        Err(error) => found(config.kept.to_string(), Err(told(&error))),
        Ok(broker) => {
            let (as_told, host) =
                (format!("registry host {}", broker.audience), broker.store.host().await);
            match host {
                Ok(None) => found(as_told, Ok(())),
                Ok(Some(_)) => found(format!("{as_told}, as {} says", config.kept), Ok(())),
                Err(error) => found(as_told, Err(told(&error))),
            }
            for (part, outcome) in broker.store.diagnose().await {
                found(part, outcome.map_err(|error| told(&error)));
            }
            let key = broker.tokens.minting_key(&broker.store, broker.clock.now()).await;
            found("keyring".to_owned(), key.map(drop).map_err(|error| told(&error)));
            // One region stands for all of one network; each that was named by hand is tried.
            let tried = if config.regions.len() > 4 { 1 } else { config.regions.len() };
            for region in config.regions.iter().take(tried) {
                found(
                    format!("STS in {}", region.name),
                    broker.sts.health_check(region).await.map_err(|error| told(&error)),
                );
            }
        }
    }
    findings
}

fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
