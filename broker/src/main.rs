//! The program `stile-broker`: `serve` runs the service, `check` tests a configuration, `config
//! show` shows it, and `openapi` describes the API.
//!
//! On Lambda, the program has no arguments and serves events.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use stile_broker::app::audit_heads::{SIGN_INTERVAL, sign_audit_heads, sign_last};
use stile_broker::app::event_sender::{SEND_INTERVAL, send_events};
use stile_broker::app::{
    BACKLOG_INTERVAL, Broker, SWEEP_INTERVAL, sweep_store, usage, watch_backlog,
};
use stile_broker::audit::Folding;
use stile_broker::check::Verdict;
use stile_broker::config::{Config, LogFormat, Options, under_lambda, without_empty_variables};
use stile_broker::error_chain::error_chain;
use stile_broker::http::{Certificate, CertificateReloader, RELOAD_INTERVAL, Tls};
use stile_broker::show::{self, Shown};
use stile_broker::{boot, check, http};
use stile_core::clock::{Clock, rfc3339};
use stile_core::package::sweep_uploads;
use stile_settings::flags;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Metadata;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The capacity of the log queue, in lines: some megabytes, for a slow reader.
const LOG_QUEUE: usize = 8192;

/// The capacity of the audit log's own queue, in events.
///
/// Unknown callers can fill the queue of the log, but not this one: their refusals are one line a
/// minute.
const AUDIT_QUEUE: usize = 16_384;

/// Serve a private Terraform registry to which callers authenticate with their AWS identity
#[derive(Parser)]
#[command(name = "stile-broker", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT
    ///
    /// With TLS, it reads the certificate again on SIGHUP, and within two minutes after its files
    /// change. If it cannot use the new files, it keeps the previous certificate, and the log has an
    /// alarm.
    ///
    /// Example: stile-broker serve --host registry.example.com --data /var/lib/stile
    Serve(Options),
    /// Test whether the service can run with this configuration
    ///
    /// Opens the store, calls the services that the configuration names, and prints one line for
    /// each. Exits 1 if something does not work. Warns if the TLS certificate ends within 21 days.
    Check(Options),
    /// Show the configuration of this program
    Config {
        #[command(subcommand)]
        verb: ConfigVerb,
    },
    /// Print the OpenAPI document of the API
    ///
    /// The document is JSON, in version 3.1 of OpenAPI. `serve --openapi` serves the same document at
    /// `/openapi.json`.
    ///
    /// Example: stile-broker openapi > stile.openapi.json
    Openapi,
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Show each setting, where it comes from, and its value
    ///
    /// A value comes from a flag, a variable, a file of AWS, or is the default. The output has no
    /// secrets. It opens no store and sends nothing. Exits 2 if a setting is invalid, and says why.
    /// `check` finds what only a connection can show.
    ///
    /// Example: stile-broker config show --host registry.example.com --data /var/lib/stile
    Show(Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Lambda starts the program without arguments. The configuration is in the environment.
    let on_lambda = under_lambda() && std::env::args_os().len() < 2;
    let arguments = if on_lambda {
        ["stile-broker", "serve"].map(OsString::from).to_vec()
    } else {
        std::env::args_os().collect()
    };
    let parser = without_empty_variables(Cli::command());
    let matches = match parser.clone().try_get_matches_from(&arguments) {
        Ok(matches) => matches,
        Err(error) => match invalid(&parser, &arguments, &error) {
            Some(shown) => return print_configuration(&shown),
            None => error.exit(),
        },
    };
    let command = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()).command;
    let options = match &command {
        Command::Serve(options) | Command::Check(options) => options,
        Command::Config { verb: ConfigVerb::Show(options) } => {
            return print_configuration(&show_configuration(&parser, &matches, options).await);
        }
        Command::Openapi => return print_openapi(),
    };
    let format = if on_lambda { LogFormat::Json } else { options.log_format };
    let _log = match log(&options.log, format, on_lambda) {
        Ok(guard) => guard,
        Err(error) => return failed(&error, format),
    };
    http::log_panics();
    let done = match command {
        Command::Serve(options) if on_lambda => answer_events(options).await.map(|()| true),
        Command::Serve(options) => serve(options).await.map(|()| true),
        Command::Check(options) => Box::pin(check_configuration(options)).await,
        Command::Config { .. } | Command::Openapi => Ok(true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error, format),
    }
}

async fn serve(options: Options) -> anyhow::Result<()> {
    // From here on, SIGHUP does not end the program.
    let hangup = signal(SignalKind::hangup())?;
    let config = Config::try_from(options)?;
    let tls = config.tls.as_ref().map(Certificate::read).transpose()?.map(Tls::new);
    let broker = Arc::new(boot::open(&config, Clock::system(), Folding::ByMinute).await?);
    let metrics = metrics_server(&config).await?;
    broker.store.record_served_host().await?;
    broker.ready().await?;
    broker.store.create_audit_key().await?;
    tokio::spawn(sign_audit_heads(Arc::clone(&broker), SIGN_INTERVAL));
    tokio::spawn(sweep_store(Arc::clone(&broker), SWEEP_INTERVAL));
    tokio::spawn(send_events(Arc::clone(&broker), SEND_INTERVAL));
    let host = broker.audience.clone();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let reloader = config.tls.zip(tls.clone()).map(|(files, tls)| {
        tls.certificate().log("loaded", &files, &host, broker.clock.now());
        CertificateReloader::new(files, tls, host.clone(), broker.clock.clone())
    });
    tokio::spawn(http::reload_certificate(reloader, hangup, RELOAD_INTERVAL));
    let server = http::Server::bind(config.listen, tls).await?.with_clients(config.clients);
    let server = server.counting(broker.metrics.connections().clone());
    let address = server.address().context("cannot read the address of the listening socket")?;
    tracing::info!(%host, "listening on {scheme}://{address}");
    if let Some(metrics) = metrics {
        serve_metrics(metrics, &broker)?;
    }
    if config.sts.is_loopback() {
        tracing::warn!(
            "a server on this machine replaces STS: it can give every caller any identity"
        );
    }
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let audit = Arc::clone(&broker.audit);
    let served = server.run(http::router(Arc::clone(&broker)), async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!(
            "stopping: the broker accepts no new connections and finishes open requests"
        );
    });
    tokio::select! { () = served => {}, () = audit.write_ended_windows() => {} }
    usage::flush(&broker).await;
    sign_last(&broker).await;
    audit.flush();
    Ok(())
}

/// Binds the endpoint of metrics, if the configuration has one.
async fn metrics_server(config: &Config) -> anyhow::Result<Option<http::Server>> {
    let Some(address) = config.metrics.listen else { return Ok(None) };
    let server = http::Server::bind(address, None).await;
    Ok(Some(server.context("`--metrics-listen` does not work")?.for_metrics()))
}

/// Serves metrics until the program ends.
fn serve_metrics(server: http::Server, broker: &Arc<Broker>) -> anyhow::Result<()> {
    let address = server.address().context("cannot read the address of the listening socket")?;
    tracing::info!("metrics are at http://{address}/metrics");
    tokio::spawn(watch_backlog(Arc::clone(broker), BACKLOG_INTERVAL));
    let router = http::metrics_router(Arc::clone(broker));
    tokio::spawn(async move { server.run(router, std::future::pending()).await });
    Ok(())
}

/// Serves Lambda events.
///
/// Before the first event, the broker calls nothing except the table, and that only to read a host
/// that is not configured. So an outage fails one event, and not the start of the function.
async fn answer_events(options: Options) -> anyhow::Result<()> {
    let config = Config::try_from(options)?;
    let broker = Arc::new(boot::open(&config, Clock::system(), Folding::Off).await?);
    broker.store.record_served_host().await?;
    // After a timeout, Lambda starts the function again with the same files. A process that still
    // writes to one, on a machine that is no Lambda, has locked it.
    sweep_uploads(&broker.store.incoming(), 0, broker.clock.now());
    let router = http::router(Arc::clone(&broker));
    http::lambda::serve(router, broker, &config).await.map_err(|error| anyhow::anyhow!(error))
}

/// Prints one line for each part of the configuration, and returns whether all of them work.
async fn check_configuration(options: Options) -> anyhow::Result<bool> {
    let config = Config::try_from(options)?;
    let findings = Box::pin(check::check(&config, Clock::system())).await;
    let mut out = std::io::stdout().lock();
    for finding in &findings {
        match &finding.verdict {
            Verdict::Works => writeln!(out, "ok      {}", finding.part)?,
            Verdict::WorksForNow(reason) => writeln!(out, "warning {}: {reason}", finding.part)?,
            Verdict::Fails(reason) => writeln!(out, "failed  {}: {reason}", finding.part)?,
        }
    }
    Ok(!findings.iter().any(|finding| matches!(finding.verdict, Verdict::Fails(_))))
}

/// The command that shows the configuration, below the program.
const SHOW: [&str; 2] = ["config", "show"];

/// Returns the settings of this process, or those that no broker accepts.
async fn show_configuration(
    parser: &clap::Command,
    matches: &ArgMatches,
    options: &Options,
) -> Shown {
    let Some((command, matches)) = flags::below(parser, matches, &SHOW) else {
        return Shown::default();
    };
    match log_filter(&options.log) {
        Ok(_) => show::shown(command, matches, options.clone()).await,
        Err(error) => show::as_given(command, matches, &error_chain(error.as_ref())),
    }
}

/// Returns the settings of a command line with a value that clap refuses, if the command shows them.
fn invalid(parser: &clap::Command, arguments: &[OsString], error: &clap::Error) -> Option<Shown> {
    let matches = flags::with_wrong_values(parser, arguments, error)?;
    let (command, matches) = flags::below(parser, &matches, &SHOW)?;
    Some(show::as_given(command, matches, &flags::sentence(error)))
}

/// Prints the settings, and the error to standard error.
fn print_configuration(shown: &Shown) -> ExitCode {
    let printed = write!(std::io::stdout(), "{}", shown.settings);
    match &shown.error {
        Some(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
        None if printed.is_err_and(|error| error.kind() != ErrorKind::BrokenPipe) => {
            ExitCode::from(2)
        }
        None => ExitCode::SUCCESS,
    }
}

/// Prints the OpenAPI document.
fn print_openapi() -> ExitCode {
    let printed = match http::openapi_document() {
        Ok(document) => writeln!(std::io::stdout(), "{document:#}"),
        Err(error) => Err(error.into()),
    };
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            let _ = writeln!(std::io::stderr(), "error: cannot print the document: {error}");
            ExitCode::from(2)
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Parses the level of the log.
fn log_filter(level: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(level).with_context(|| format!("`--log {level}` is not a log level"))
}

/// Starts the log on standard error, in that format. Text is in colour on a terminal.
///
/// A thread of its own writes the lines, and loses them if the reader does not take them. A full
/// disk or a reader that ended must not stop the service. The guards write the rest when they are
/// dropped. On Lambda the broker writes each line at once, because Lambda freezes a function after
/// its answer, and lines in a queue would be lost.
fn log(
    level: &str,
    format: LogFormat,
    on_lambda: bool,
) -> anyhow::Result<Option<[WorkerGuard; 2]>> {
    let filter = log_filter(level)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    if on_lambda {
        let lines = lines.with_writer(std::io::stderr).json().flatten_event(true).finish();
        lines.with(without_bodies()).init();
        return Ok(None);
    }
    let queue = |capacity| {
        NonBlockingBuilder::default().buffered_lines_limit(capacity).finish(std::io::stderr())
    };
    let (audit, audit_guard) = queue(AUDIT_QUEUE);
    let (others, others_guard) = queue(LOG_QUEUE);
    let lines = lines.with_writer(Queues { audit, others });
    match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).finish().with(without_bodies()).init();
        }
        LogFormat::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal()).finish();
            lines.with(without_bodies()).init();
        }
    }
    Ok(Some([audit_guard, others_guard]))
}

/// Leaves out the most detailed lines of the AWS SDK, whatever the configured level is: they have
/// the bodies of calls, and with them the secrets of webhooks.
fn without_bodies() -> FilterFn {
    FilterFn::new(|line| {
        *line.level() != tracing::Level::TRACE || !line.target().starts_with("aws_")
    })
}

/// The queues of lines to write: one for the audit log, and one for the other lines.
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

/// Prints the error that ends the program, in the format of the log.
fn failed(error: &anyhow::Error, format: LogFormat) -> ExitCode {
    let message = error_chain(error.as_ref());
    let line = match format {
        LogFormat::Json => {
            let now = rfc3339(Clock::system().now());
            serde_json::json!({ "timestamp": now, "level": "ERROR", "message": message })
                .to_string()
        }
        LogFormat::Text => format!("error: {message}"),
    };
    let _ = writeln!(std::io::stderr(), "{line}");
    ExitCode::FAILURE
}
