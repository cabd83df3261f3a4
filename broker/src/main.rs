//! `stile-broker`: `serve` runs the service, `check` says what is wrong with a configuration; under Lambda, neither is said.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use stile_broker::audit::Folding;
use stile_broker::config::{Config, Options, under_lambda};
use stile_broker::{boot, check, http};
use stile_core::clock::Clock;
use stile_core::package::sweep_uploads;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Metadata;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How old an upload is that no process on this machine still writes.
const ABANDONED: Duration = Duration::from_secs(24 * 3600);

/// Lines of the log that may wait to be written: some megabytes, where whoever takes them is slow.
const WAITING_LINES: usize = 8192;

/// Events of the audit log wait in a queue of their own: strangers can fill the other one, and not this one, in which what
/// strangers were refused is one line a minute.
const WAITING_EVENTS: usize = 16_384;

/// Serve a private Terraform registry that callers enter with their AWS identity
#[derive(Parser)]
#[command(name = "stile-broker", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until it is told to stop
    ///
    /// Example: stile-broker serve --host registry.example.com --data /var/lib/stile
    Serve(Options),
    /// Say whether the service could run with this configuration
    ///
    /// Opens and reaches what the configuration names, prints one line for each, and exits 1 if something does not work.
    Check(Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Lambda starts the program without an argument; everything else is in its environment.
    let on_lambda = under_lambda() && std::env::args_os().len() < 2;
    let command =
        if on_lambda { Cli::parse_from(["stile-broker", "serve"]) } else { Cli::parse() }.command;
    let (Command::Serve(options) | Command::Check(options)) = &command;
    let _log = match log(&options.log, on_lambda) {
        Ok(guard) => guard,
        Err(error) => return failed(&error),
    };
    http::have_panics_logged();
    let done = match command {
        Command::Serve(options) if on_lambda => answer_events(options).await.map(|()| true),
        Command::Serve(options) => serve(options).await.map(|()| true),
        Command::Check(options) => look(options).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    let config = Config::try_from(options)?;
    let tls = config.tls.as_ref().map(http::tls).transpose()?;
    let broker = Arc::new(boot::open(&config, Clock::system(), Folding::ByMinute).await?);
    broker.ready().await?;
    sweep_uploads(&broker.store.incoming(), ABANDONED);
    let host = broker.audience.clone();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let server = http::Server::bind(config.listen, tls).await?;
    let address = server.address().context("the address that was taken cannot be read")?;
    tracing::info!(%host, "listening on {scheme}://{address}");
    if config.sts.is_loopback() {
        tracing::warn!(
            "a server on this machine answers for STS: whoever runs it decides who everybody is"
        );
    }
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let audit = Arc::clone(&broker.audit);
    let served = server.run(http::router(broker), async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping: no new connections, requests in the works may end");
    });
    tokio::select! { () = served => {}, () = audit.write_ended_windows() => {} }
    audit.flush();
    Ok(())
}

/// Nothing but the host in the table is reached before the first event asks for it: what is down then is an answer to
/// that, and no failed start. Where the host is told, nothing is reached at all.
async fn answer_events(options: Options) -> anyhow::Result<()> {
    let config = Config::try_from(options)?;
    let broker = Arc::new(boot::open(&config, Clock::system(), Folding::Off).await?);
    // A function that ran out of time is started again where it was, and no other writes there.
    sweep_uploads(&broker.store.incoming(), Duration::ZERO);
    let router = http::router(Arc::clone(&broker));
    http::lambda::serve(router, broker, &config).await.map_err(|error| anyhow::anyhow!(error))
}

async fn look(options: Options) -> anyhow::Result<bool> {
    let config = Config::try_from(options)?;
    let findings = check::check(&config, Clock::system()).await;
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        match &finding.problem {
            None => writeln!(out, "ok      {}", finding.what)?,
            Some(problem) => writeln!(out, "failed  {}: {problem}", finding.what)?,
        }
    }
    Ok(findings.iter().all(|finding| finding.problem.is_none()))
}

/// Human lines, on standard error; colour on a terminal alone. JSON under Lambda, for CloudWatch to read.
///
/// Written by a thread of its own, and lost where nobody takes them: a full disk or a reader that is gone must not stop
/// the service. The guard writes what is left when it is dropped. Under Lambda they are written at once, since a function
/// that has answered is stopped with what it has not yet written.
fn log(level: &str, on_lambda: bool) -> anyhow::Result<Option<[WorkerGuard; 2]>> {
    let filter =
        EnvFilter::try_new(level).with_context(|| format!("`--log {level}` is not a level"))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    if on_lambda {
        lines.with_writer(std::io::stderr).json().flatten_event(true).init();
        return Ok(None);
    }
    let queue =
        |most| NonBlockingBuilder::default().buffered_lines_limit(most).finish(std::io::stderr());
    let (audit, audit_end) = queue(WAITING_EVENTS);
    let (others, others_end) = queue(WAITING_LINES);
    lines.with_writer(Queues { audit, others }).with_ansi(std::io::stderr().is_terminal()).init();
    Ok(Some([audit_end, others_end]))
}

/// Where lines wait to be written.
struct Queues {
    audit: NonBlocking,
    others: NonBlocking,
}

impl MakeWriter<'_> for Queues {
    type Writer = NonBlocking;

    fn make_writer(&self) -> NonBlocking {
        self.others.clone()
    }

    fn make_writer_for(&self, line: &Metadata<'_>) -> NonBlocking {
        if line.target() == "audit" { self.audit.clone() } else { self.others.clone() }
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}
