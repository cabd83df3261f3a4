//! `doctor`: checks every step from AWS credentials to an authorised call, one line for each step.

mod access;
mod cure;
mod id_token;
mod report;
mod token_cache;

use std::path::PathBuf;

use chrono::{SecondsFormat, TimeDelta};
use reqwest::StatusCode;
use stile_protocol::audience::Audience;
use stile_protocol::names::Namespace;
use terraform_credentials_stile::call;
use terraform_credentials_stile::clock::describe_skew;
use terraform_credentials_stile::config::{Config, RegistryConfig};
use terraform_credentials_stile::credentials::{self, RegionSource};
use terraform_credentials_stile::message::chain;
use terraform_credentials_stile::shell::quoted_for_posix;

use crate::doctor::access::AccessCheck;
use crate::doctor::cure::HostCheck;
use crate::doctor::report::DoctorReport;
use crate::failure_log;
use crate::install::file::is_executable;
use crate::install::is_same_path;
use crate::terraform::{self, CliConfig, HELPER};
use crate::verb::{VerbContext, VerbFailure, block_on};

/// Largest accepted clock skew. A broker rejects a proof that is further in the future.
const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(120);

/// Checks one host, or every configured host. It fails if a step fails.
pub(crate) fn run(
    typed: &VerbContext,
    host: Option<&Audience>,
    namespace: Option<&Namespace>,
) -> Result<(), VerbFailure> {
    let mut report = DoctorReport::default();
    // Terraform passes the `args` of the block to the helper, so the checks must use them too.
    let flags =
        terraform::own_block(&typed.environment).and_then(|(_, helper)| helper.flags().ok());
    let context = &flags.map_or_else(|| typed.clone(), |flags| typed.with_fallback(&flags));
    let loaded = context.load_config();
    let hosts: Vec<Audience> = match (host, &loaded) {
        (Some(host), _) => vec![host.clone()],
        (None, Ok(config)) => config.registries().map(|registry| registry.host.clone()).collect(),
        (None, Err(_)) => Vec::new(),
    };
    report.step("plugin", check_plugin(typed, hosts.first()));
    if !report_config(context, loaded, &mut report) {
        return report.end();
    }
    report.step("token cache", token_cache::check(context));
    report_log(context, &mut report);
    if hosts.is_empty() {
        let failure = VerbFailure::new("no registry is configured");
        let hint = format!("run {}", cure::install(typed, None));
        report.step("registry", Err(failure.hint(hint)));
    }
    for host in &hosts {
        check_host(typed, context, host, namespace, &mut report);
    }
    report.end()
}

/// Adds the step of the helper's configuration. It returns whether the configuration is usable.
fn report_config(
    context: &VerbContext,
    loaded: Result<Config, VerbFailure>,
    report: &mut DoctorReport,
) -> bool {
    let named = context.config.clone().or_else(|| context.environment.default_config());
    let shown = |path: Option<PathBuf>| {
        path.map_or_else(String::new, |path| format!("`{}`", path.display()))
    };
    match (loaded, named) {
        (Ok(_), Some(path)) if !path.exists() => {
            let text =
                format!("{} does not exist, so no registry is configured", shown(Some(path)));
            report.note("helper configuration", &text);
            true
        }
        (loaded, named) => report.step("helper configuration", loaded.map(|_| shown(named))),
    }
}

/// Names the log of `get`, which has the failures that Terraform hides.
fn report_log(context: &VerbContext, report: &mut DoctorReport) {
    let Some(path) = failure_log::path(&context.environment) else { return };
    let last = match failure_log::last(&context.environment) {
        Some(last) => format!("last: {last}"),
        None => "no failures yet".to_owned(),
    };
    report.note("log of `get`", &format!("`{}`; {last}", path.display()));
}

fn check_host(
    typed: &VerbContext,
    context: &VerbContext,
    host: &Audience,
    namespace: Option<&Namespace>,
    report: &mut DoctorReport,
) {
    report.step("CLI configuration", check_cli_config(typed, context, host));
    let reached = |registry: &RegistryConfig| {
        format!("`{host}` at {}", registry.url.as_str().trim_end_matches('/'))
    };
    let found = context.registry(host).map_err(|failure| {
        let Some(near) = cure::near_host(context, host) else { return failure };
        let again = cure::command(typed, &format!("doctor {near}"), None);
        let add = cure::install(typed, Some(host));
        failure.hint(format!("run {again}, or add this host with {add}"))
    });
    let Some(registry) = report.step_with("registry", found, reached) else { return };
    let host = HostCheck { typed, context, registry: &registry };
    let signs = if registry.proof.needs_aws() {
        let found = block_on(check_credentials(host));
        let found = report.step_with("AWS credentials", found, String::clone);
        found.filter(|_| id_token::report_web_identity(host, report))
    } else {
        report.step_with("JWT", block_on(id_token::check(host)), String::clone)
    };
    let discovered = block_on(async { Ok(check_discovery(host).await) });
    let answers = match discovered.unwrap_or_else(|failure| Err((failure, Next::Skip))) {
        Ok(text) => report.step("discovery and clock", Ok(text)),
        Err((failure, next)) => {
            report.step("discovery and clock", Err(failure));
            next == Next::Continue
        }
    };
    match signs {
        Some(_) if answers => AccessCheck { host, namespace }.run(report),
        _ => access::skip_from(0, namespace, report),
    }
}

/// Checks that the program is in a folder that Terraform searches, and that it is executable.
fn check_plugin(typed: &VerbContext, host: Option<&Audience>) -> Result<String, VerbFailure> {
    let folders = terraform::plugin_folders(&typed.environment);
    let Some(path) = folders.iter().find_map(|folder| terraform::program_in(folder)) else {
        let searched: Vec<_> =
            folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        let problem = format!("the program is not in {}", searched.join(" or "));
        return Err(VerbFailure::new(problem).hint(format!("run {}", cure::install(typed, host))));
    };
    let shown = path.display().to_string();
    if !is_executable(&path) {
        return Err(VerbFailure::new(format!("`{shown}` is not executable"))
            .hint(format!("run `chmod +x {}`", quoted_for_posix(&shown))));
    }
    Ok(format!("`{shown}`"))
}

/// Checks that Terraform runs this helper for the host, and that no other setting overrides it.
fn check_cli_config(
    typed: &VerbContext,
    context: &VerbContext,
    host: &Audience,
) -> Result<String, VerbFailure> {
    let environment = &context.environment;
    if let Some(name) = terraform::token_variable(environment, host) {
        return Err(VerbFailure::new(format!(
            "`{name}` is set, so Terraform does not run the helper"
        ))
        .hint(format!("run `unset {name}`")));
    }
    let mut helper_in = None;
    for path in terraform::files(environment) {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| VerbFailure::new(format!("cannot read `{shown}`: {error}")))?;
        let config = CliConfig::read(&text, &path)
            .map_err(|problem| VerbFailure::new(format!("`{shown}`: {problem}")))?;
        if config.overrides_helper(host) {
            let failure = VerbFailure::new(format!(
                "`{shown}` has a `credentials \"{host}\"` block, so Terraform does not run the helper"
            ));
            return Err(failure.hint("remove that block"));
        }
        if let Some(other) = config.helpers.iter().find(|helper| helper.name != HELPER) {
            return Err(VerbFailure::new(format!(
                "`{shown}` configures another helper, `{}`",
                other.name
            ))
            .hint("keep only one `credentials_helper` block"));
        }
        if let Some(helper) = config.own_block() {
            let flags = helper
                .flags()
                .map_err(|problem| VerbFailure::new(format!("`{shown}`: {problem}")))?;
            if let (Some(read), Some(looked_at)) = (flags.config, &context.config)
                && !is_same_path(&read, looked_at)
            {
                let problem = format!(
                    "the block in `{shown}` makes the helper read `{}`, not `{}`",
                    read.display(),
                    looked_at.display()
                );
                return Err(VerbFailure::new(problem)
                    .hint("omit `--config`, or change the `args` of the block"));
            }
            helper_in = Some(shown);
        }
    }
    let missing = || VerbFailure::new(format!("found no `credentials_helper \"{HELPER}\"` block"));
    helper_in
        .map(|shown| format!("`{shown}` configures the helper"))
        .ok_or_else(|| missing().hint(format!("run {}", cure::install(typed, Some(host)))))
}

/// Finds the AWS credentials, and describes them without their secrets.
async fn check_credentials(host: HostCheck<'_>) -> Result<String, VerbFailure> {
    let HostCheck { typed, registry, .. } = host;
    let found =
        credentials::load_with_region_source(registry, &typed.environment, typed.clock.now());
    let (loaded, region_source) = match found.await {
        Ok(found) => found,
        Err(error) => {
            let hint = host.credentials(&error).await;
            return Err(VerbFailure::new(chain(&error)).hint(hint));
        }
    };
    let until = credentials::expiry(&loaded.credentials).map_or_else(
        || "without a known expiry".to_owned(),
        |at| format!("valid until {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)),
    );
    let key = loaded.credentials.access_key_id();
    let reason = match region_source {
        RegionSource::Configured => "",
        RegionSource::Default => {
            ", because no region is set (`AWS_REGION`, `region` in `config.toml`)"
        }
    };
    let (provider, region) = (loaded.provider, &loaded.region);
    Ok(format!("`{key}` from {provider}, {until}, for region {region}{reason}"))
}

/// Whether the exchange can succeed after a failed discovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The server does not answer, or is not a registry.
    Skip,
    /// The registry answers, or a gateway that verifies signatures may guard this route.
    Continue,
}

/// Checks that the registry serves Terraform's discovery document, and that its clock agrees.
async fn check_discovery(host: HostCheck<'_>) -> Result<String, (VerbFailure, Next)> {
    let HostCheck { typed, registry, .. } = host;
    let unreached = |error: call::CallError| {
        let failure = VerbFailure { message: chain(&error), hint: host.call(&error) };
        (failure, Next::Skip)
    };
    let client = call::client(&registry.url, &typed.environment).map_err(unreached)?;
    let url = registry
        .url_for("/.well-known/terraform.json")
        .map_err(|error| (VerbFailure::new(error.to_string()), Next::Skip))?;
    let response = call::send(client.get(url), &typed.environment).await.map_err(unreached)?;
    if !response.status.is_success() {
        let refusal = response.refusal();
        let problem = if refusal.is_of_gateway() {
            format!("{} to `{}`", refusal.sentence(), response.url)
        } else {
            format!("`{}` responded with {}", response.url, refusal.message_with_id())
        };
        let is_guarded =
            [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&response.status);
        let next = if is_guarded { Next::Continue } else { Next::Skip };
        return Err((VerbFailure::new(problem).hint(host.response(&refusal)), next));
    }
    let document: Option<serde_json::Value> = serde_json::from_slice(&response.body).ok();
    if document.as_ref().and_then(|document| document.get("modules.v1")?.as_str()).is_none() {
        let failure = VerbFailure::new(format!("`{}` does not list `modules.v1`", response.url));
        return Err((failure.hint(host.wrong_server()), Next::Skip));
    }
    let Some(date) = response.date else {
        return Ok("modules.v1; the response has no `Date` header to compare clocks".to_owned());
    };
    let skew = date - typed.clock.now();
    if skew.abs() > TOLERATED_SKEW {
        let failure = VerbFailure::new(format!(
            "this computer's clock is {} the registry's",
            describe_skew(skew)
        ));
        return Err((failure.hint(cure::CLOCK), Next::Continue));
    }
    Ok("modules.v1; the clocks agree".to_owned())
}
