//! `doctor`: checks every step from AWS credentials to an authorised call, one line for each step.

use chrono::{SecondsFormat, TimeDelta};
use reqwest::StatusCode;
use stile_protocol::audience::Audience;
use terraform_credentials_stile::call;
use terraform_credentials_stile::config::RegistryConfig;
use terraform_credentials_stile::credentials::{self, CredentialsError, RegionSource};
use terraform_credentials_stile::message::chain;
use terraform_credentials_stile::token::{self, Token};

use crate::install::file::is_executable;
use crate::install::is_same_path;
use crate::terraform::{self, CliConfig, HELPER};
use crate::verb::{VerbContext, VerbFailure, block_on};
use crate::{terminal, whoami};

/// Largest accepted clock skew. A broker rejects a proof that is further in the future.
const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(120);

/// Checks one host, or every configured host. It fails if a step fails.
pub(crate) fn run(context: &VerbContext, host: Option<&Audience>) -> Result<(), VerbFailure> {
    let mut report = DoctorReport::default();
    report.step("plugin", check_plugin(context));
    // Terraform passes the `args` of the block to the helper, so the checks must use them too.
    let flags =
        terraform::own_block(&context.environment).and_then(|(_, helper)| helper.flags().ok());
    let context = &flags.map_or_else(|| context.clone(), |flags| context.with_fallback(flags));
    let named = context.config.clone().or_else(|| context.environment.default_config());
    let config = match (context.load_config(), named) {
        (Ok(config), Some(path)) if !path.exists() => {
            report.line(
                "-",
                "helper configuration",
                &format!("`{}` does not exist, so no registry is configured", path.display()),
            );
            config
        }
        (loaded, named) => {
            let read =
                |_: &_| named.map_or_else(String::new, |path| format!("`{}`", path.display()));
            let Some(config) = report.step_with("helper configuration", loaded, read) else {
                return report.end();
            };
            config
        }
    };
    let hosts: Vec<Audience> = match host {
        Some(host) => vec![host.clone()],
        None => config.registries().map(|registry| registry.host.clone()).collect(),
    };
    if hosts.is_empty() {
        let failure = VerbFailure::new("no registry is configured");
        report.step(
            "registry",
            Err(failure.hint("run `terraform-credentials-stile install --registry-host HOST`")),
        );
    }
    for host in &hosts {
        check_host(context, host, &mut report);
    }
    report.end()
}

fn check_host(context: &VerbContext, host: &Audience, report: &mut DoctorReport) {
    report.step("CLI configuration", check_cli_config(context, host));
    let reached = |registry: &RegistryConfig| {
        format!("`{host}` at {}", registry.url.as_str().trim_end_matches('/'))
    };
    let Some(registry) = report.step_with("registry", context.registry(host), reached) else {
        return;
    };
    let found = block_on(async { check_credentials(context, &registry).await });
    let signs = report.step("AWS credentials", found);
    report
        .step("discovery and clock", block_on(async { check_discovery(context, &registry).await }));
    if !signs {
        report.skip("exchange");
        return report.skip("authorised call");
    }
    let minted = block_on(async {
        Ok(token::mint(&registry, &registry.scope(), &context.environment, context.clock).await?)
    });
    let described = |token: &Token| {
        let mut text =
            format!("got a token for `{}`, valid until {}", token.principal, token.expiry_text());
        for notice in [token.clock_notice(), token.lifetime_notice()].into_iter().flatten() {
            text = format!("{text}; {notice}");
        }
        text
    };
    let Some(token) = report.step_with("exchange", minted, described) else {
        return report.skip("authorised call");
    };
    report.step(
        "authorised call",
        block_on(async { check_authorised_call(context, &registry, &token).await }),
    );
}

/// Checks that the program is in a folder that Terraform searches, and that it is executable.
fn check_plugin(context: &VerbContext) -> Result<String, VerbFailure> {
    let folders = terraform::plugin_folders(&context.environment);
    let hint = "run `terraform-credentials-stile install --registry-host HOST`";
    let Some(path) = folders.iter().find_map(|folder| terraform::program_in(folder)) else {
        let searched: Vec<_> =
            folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        return Err(
            VerbFailure::new(format!("the program is not in {}", searched.join(" or "))).hint(hint)
        );
    };
    if !is_executable(&path) {
        return Err(VerbFailure::new(format!("`{}` is not executable", path.display()))
            .hint(format!("run `chmod +x {}`", path.display())));
    }
    Ok(format!("`{}`", path.display()))
}

/// Checks that Terraform runs this helper for the host, and that no other setting overrides it.
fn check_cli_config(context: &VerbContext, host: &Audience) -> Result<String, VerbFailure> {
    let environment = &context.environment;
    if let Some(name) = terraform::token_variable(environment, host) {
        return Err(VerbFailure::new(format!(
            "`{name}` is set, so Terraform does not run the helper"
        ))
        .hint(format!("unset `{name}`")));
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
    helper_in.map(|shown| format!("`{shown}` configures the helper")).ok_or_else(|| {
        missing().hint(format!("run `terraform-credentials-stile install --registry-host {host}`"))
    })
}

async fn check_credentials(
    context: &VerbContext,
    registry: &RegistryConfig,
) -> Result<String, VerbFailure> {
    let failed = |error: CredentialsError| VerbFailure::new(chain(&error)).hint(error.hint());
    let (loaded, region_source) =
        credentials::load_with_region_source(registry, &context.environment, context.clock.now())
            .await
            .map_err(failed)?;
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
    Ok(format!("`{key}` from {}, {until}, for region {}{reason}", loaded.provider, loaded.region))
}

/// Checks that the registry serves Terraform's discovery document, and that its clock agrees.
async fn check_discovery(
    context: &VerbContext,
    registry: &RegistryConfig,
) -> Result<String, VerbFailure> {
    let client = call::client(&registry.url, &context.environment)?;
    let url = registry
        .url_for("/.well-known/terraform.json")
        .map_err(|error| VerbFailure::new(error.to_string()))?;
    let response = call::send(client.get(url)).await?;
    let hint = "check that `url` in the helper's `config.toml` is the address of a Stile registry";
    if !response.status.is_success() {
        return Err(VerbFailure::new(format!(
            "`{}` responded with {}",
            response.url,
            response.refusal().message
        ))
        .hint(hint));
    }
    let document: Option<serde_json::Value> = serde_json::from_slice(&response.body).ok();
    if document.as_ref().and_then(|document| document.get("modules.v1")?.as_str()).is_none() {
        return Err(
            VerbFailure::new(format!("`{}` does not list `modules.v1`", response.url)).hint(hint)
        );
    }
    let Some(date) = response.date else {
        return Ok("modules.v1; the response has no `Date` header to compare clocks".to_owned());
    };
    let skew = date - context.clock.now();
    if skew.abs() > TOLERATED_SKEW {
        let failure = VerbFailure::new(format!(
            "this computer's clock differs from the registry's by {} s",
            skew.num_seconds().abs()
        ));
        return Err(failure.hint("correct the clock, for example by enabling time synchronisation"));
    }
    Ok("modules.v1; the clocks agree".to_owned())
}

/// Checks that the registry accepts a token: the cached one, which Terraform would get, or the new.
async fn check_authorised_call(
    context: &VerbContext,
    registry: &RegistryConfig,
    new: &Token,
) -> Result<String, VerbFailure> {
    let scope = registry.scope();
    let environment = &context.environment;
    let Some(cached) = token::cached(registry, &scope, environment, context.clock).await? else {
        return describe_grants(&whoami::parse(&whoami::request(context, registry, new).await?)?);
    };
    let response = whoami::request(context, registry, &cached).await?;
    if response.status != StatusCode::UNAUTHORIZED {
        return describe_grants(&whoami::parse(&response)?);
    }
    token::forget(registry, &scope, &context.environment)?;
    let described = "the registry rejected the cached token, now deleted; with a new token";
    let known =
        whoami::request(context, registry, new).await.and_then(|response| whoami::parse(&response));
    known
        .and_then(|known| describe_grants(&known))
        .map(|known| format!("{described}: {known}"))
        .map_err(|failure| failure.context(described))
}

fn describe_grants(known: &whoami::WhoamiReply) -> Result<String, VerbFailure> {
    if known.grants.is_empty() {
        let failure = VerbFailure::new(format!("`{}` has no grants", known.principal));
        return Err(failure.hint(format!(
            "ask the registry's operator to run `stile-admin grant create --principal {}`",
            known.principal
        )));
    }
    Ok(format!("`{}` has {} grant(s)", known.principal, known.grants.len()))
}

#[derive(Debug, Default)]
struct DoctorReport {
    lines: String,
    failed: usize,
}

impl DoctorReport {
    fn step(&mut self, name: &str, outcome: Result<String, VerbFailure>) -> bool {
        self.step_with(name, outcome, String::clone).is_some()
    }

    fn step_with<T>(
        &mut self,
        name: &str,
        outcome: Result<T, VerbFailure>,
        described: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                let described = described(&value);
                self.line("ok", name, &described);
                Some(value)
            }
            Err(failure) => {
                self.failed += 1;
                self.line("FAIL", name, &failure.to_string());
                None
            }
        }
    }

    fn skip(&mut self, name: &str) {
        self.line("-", name, "skipped");
    }

    fn end(&self) -> Result<(), VerbFailure> {
        terminal::print(&self.lines)?;
        match self.failed {
            0 => Ok(()),
            1 => Err(VerbFailure::new("one step failed")),
            failed => Err(VerbFailure::new(format!("{failed} steps failed"))),
        }
    }

    fn line(&mut self, mark: &str, name: &str, text: &str) {
        let colon = if text.is_empty() { "" } else { ": " };
        self.lines.push_str(&format!("{mark:<5}{name}{colon}{text}\n"));
    }
}
