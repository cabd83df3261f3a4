//! Replaces the TLS certificate while the server runs: on SIGHUP, and when its files change.

use std::error::Error;
use std::time::Duration;

use sha2::{Digest, Sha256};
use stile_core::clock::{Clock, rfc3339};
use stile_protocol::audience::Audience;
use tokio::signal::unix::Signal;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::tls::{Certificate, Contents, Tls, TlsError};
use crate::config::TlsFiles;

/// The time between two looks at the files of the certificate.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(60);

/// The reason for a look at the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The interval is over.
    Interval,
    /// An operator sent SIGHUP, and wants an answer in the log.
    Hangup,
}

/// Replaces the certificate of a server, if its files contain another valid one.
pub struct CertificateReloader {
    files: TlsFiles,
    tls: Tls,
    host: Audience,
    clock: Clock,
    /// The last content that the server cannot use.
    unusable: Option<Unusable>,
}

/// A state of the files that the server cannot use.
#[derive(Clone, Copy)]
struct Unusable {
    digest: [u8; 32],
    is_reported: bool,
}

impl CertificateReloader {
    /// Creates a reloader for the files that the certificate in service is from.
    pub const fn new(files: TlsFiles, tls: Tls, host: Audience, clock: Clock) -> Self {
        Self { files, tls, host, clock, unusable: None }
    }

    /// Looks at the files, and uses a changed certificate for new connections.
    ///
    /// If the server cannot use the changed files, the previous certificate stays in service. The
    /// log has one error for such a change. At an interval, the error comes only with the second
    /// look: between two writes of a renewal, the files do not belong together.
    pub fn reload(&mut self, trigger: Trigger) {
        let contents = Contents::read(&self.files);
        let digest = contents.as_ref().map_or_else(digest_of, Contents::digest);
        if trigger == Trigger::Interval && digest == self.tls.certificate().digest() {
            self.unusable = None;
            return;
        }
        let read = contents.and_then(|contents| Certificate::parse(&self.files, &contents));
        match read.and_then(|certificate| self.accept(certificate)) {
            Ok(certificate) => {
                certificate.log("reloaded", &self.files, &self.host, self.clock.now());
                self.tls.replace(certificate);
                self.unusable = None;
            }
            Err(error) => self.keep(trigger, digest, &error),
        }
    }

    /// Rejects a certificate that clients reject, unless they also reject the one in service.
    fn accept(&self, certificate: Certificate) -> Result<Certificate, TlsError> {
        let (host, now) = (Some(&self.host), self.clock.now());
        match certificate.problem(host, now) {
            Some(problem) if self.tls.certificate().problem(host, now).is_none() => {
                Err(TlsError::Rejected(self.files.cert.display().to_string(), problem))
            }
            _ => Ok(certificate),
        }
    }

    /// Keeps the certificate in service, and logs the error once.
    fn keep(&mut self, trigger: Trigger, digest: [u8; 32], error: &TlsError) {
        let seen = self.unusable.filter(|unusable| unusable.digest == digest);
        let report = match trigger {
            Trigger::Hangup => true,
            Trigger::Interval => seen.is_some_and(|unusable| !unusable.is_reported),
        };
        if report {
            tracing::error!(
                alarm = "certificate_not_reloaded",
                certificate = %self.files.cert.display(),
                ends = %rfc3339(self.tls.certificate().ends_at()),
                error = error as &dyn Error,
                "cannot use the TLS files; the previous certificate stays in service"
            );
        }
        let is_reported = report || seen.is_some_and(|unusable| unusable.is_reported);
        self.unusable = Some(Unusable { digest, is_reported });
    }
}

/// Returns the digest of an error, for files without a usable content.
fn digest_of(error: &TlsError) -> [u8; 32] {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    Sha256::digest(format!("{error}: {cause}")).into()
}

/// Looks at the files of the certificate after each interval and each SIGHUP, until the program
/// ends. Without TLS, it only logs each SIGHUP.
///
/// A program that handles SIGHUP does not end because of it.
pub async fn reload_certificate(
    reloader: Option<CertificateReloader>,
    mut hangup: Signal,
    every: Duration,
) {
    let Some(mut reloader) = reloader else {
        while hangup.recv().await.is_some() {
            tracing::info!("ignored SIGHUP: the broker has no TLS certificate to reload");
        }
        return;
    };
    let mut interval = interval_at(Instant::now() + every, every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let trigger = tokio::select! {
            _ = interval.tick() => Trigger::Interval,
            Some(()) = hangup.recv() => Trigger::Hangup,
        };
        let looked = tokio::task::spawn_blocking(move || {
            reloader.reload(trigger);
            reloader
        });
        match looked.await {
            Ok(same) => reloader = same,
            // It panicked, which the log has.
            Err(_) => return,
        }
    }
}
