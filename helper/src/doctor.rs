//! `doctor`: walks the whole way that a token takes, one line a step, each with its cure.

use chrono::{SecondsFormat, TimeDelta};
use reqwest::StatusCode;
use stile_protocol::audience::Audience;
use terraform_credentials_stile::call;
use terraform_credentials_stile::config::Registry;
use terraform_credentials_stile::credentials::{self, CredentialsError};
use terraform_credentials_stile::message::chain;
use terraform_credentials_stile::token::{self, Token};

use crate::install::file::is_executable;
use crate::install::is_same;
use crate::terraform::{self, HELPER, Said};
use crate::verb::{Context, Failure, wait};
use crate::{terminal, whoami};

/// How far a clock may be off: what a broker takes for a proof from the future.
const TOLERATED_SKEW: TimeDelta = TimeDelta::seconds(120);

/// Walks it for one host, or for every host that is configured; fails if a step did.
pub(crate) fn run(context: &Context, host: Option<&Audience>) -> Result<(), Failure> {
    let mut report = Report::default();
    report.step("plugin", plugin(context));
    // What Terraform passes to the helper decides what the helper does.
    let flags =
        terraform::own_block(&context.environment).and_then(|(_, helper)| helper.flags().ok());
    let context = &flags.map_or_else(|| context.clone(), |flags| context.or(flags));
    let named = context.config.clone().or_else(|| context.environment.default_config());
    let config = match (context.load_config(), named) {
        (Ok(config), Some(path)) if !path.exists() => {
            report.line(
                "-",
                "helper configuration",
                &format!("there is no `{}`, so nothing is signed for anybody", path.display()),
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
        let failure = Failure::new("no registry is configured");
        report.step(
            "registry",
            Err(failure.hint("terraform-credentials-stile install --registry-host HOST")),
        );
    }
    for host in &hosts {
        walk(context, host, &mut report);
    }
    report.end()
}

fn walk(context: &Context, host: &Audience, report: &mut Report) {
    report.step("CLI configuration", cli_configuration(context, host));
    let reached = |registry: &Registry| {
        format!("`{host}` at {}", registry.url.as_str().trim_end_matches('/'))
    };
    let Some(registry) = report.step_with("registry", context.registry(host), reached) else {
        return;
    };
    let found = wait(async { aws(context, &registry).await });
    let signs = report.step("AWS credentials", found);
    report.step("discovery and clock", wait(async { discovery(context, &registry).await }));
    if !signs {
        report.skip("exchange");
        return report.skip("authorised call");
    }
    let minted = wait(async {
        Ok(token::mint(&registry, &registry.scope(), &context.environment, context.clock).await?)
    });
    let told = |token: &Token| {
        let expires = token.expires_at.to_rfc3339_opts(SecondsFormat::Secs, true);
        let notice = token.clock_notice().map_or_else(String::new, |notice| format!("; {notice}"));
        format!("a token for `{}` until {expires}{notice}", token.principal)
    };
    let Some(token) = report.step_with("exchange", minted, told) else {
        return report.skip("authorised call");
    };
    report
        .step("authorised call", wait(async { authorised_call(context, &registry, &token).await }));
}

/// That the program lies where Terraform looks, and runs.
fn plugin(context: &Context) -> Result<String, Failure> {
    let folders = terraform::plugin_folders(&context.environment);
    let cure = "terraform-credentials-stile install --registry-host HOST";
    let Some(path) = folders.iter().find_map(|folder| terraform::program_in(folder)) else {
        let looked: Vec<_> =
            folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
        return Err(
            Failure::new(format!("the program is not in {}", looked.join(" or "))).hint(cure)
        );
    };
    if !is_executable(&path) {
        return Err(Failure::new(format!("`{}` cannot be run", path.display()))
            .hint(format!("chmod +x {}", path.display())));
    }
    Ok(format!("`{}`", path.display()))
}

/// That Terraform will ask this helper for the host, and nothing stands before it.
fn cli_configuration(context: &Context, host: &Audience) -> Result<String, Failure> {
    let environment = &context.environment;
    if let Some(name) = terraform::token_variable(environment, host) {
        return Err(Failure::new(format!("`{name}` is set, so Terraform does not ask the helper"))
            .hint(format!("unset {name}")));
    }
    let mut helper_in = None;
    for path in terraform::files(environment) {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Failure::new(format!("`{shown}` cannot be read: {error}")))?;
        let said = Said::read(&text, &path)
            .map_err(|problem| Failure::new(format!("`{shown}`: {problem}")))?;
        if said.shadows(host) {
            let failure = Failure::new(format!(
                "`{shown}` has a `credentials \"{host}\"` block, so Terraform does not ask the helper"
            ));
            return Err(failure.hint("remove that block"));
        }
        if let Some(other) = said.helpers.iter().find(|helper| helper.name != HELPER) {
            return Err(Failure::new(format!("`{shown}` names another helper, `{}`", other.name))
                .hint("leave one `credentials_helper` block"));
        }
        if let Some(helper) = said.own_block() {
            let flags =
                helper.flags().map_err(|problem| Failure::new(format!("`{shown}`: {problem}")))?;
            if let (Some(read), Some(looked_at)) = (flags.config, &context.config)
                && !is_same(&read, looked_at)
            {
                let told = format!(
                    "`{shown}` has the helper read `{}`, and not `{}`",
                    read.display(),
                    looked_at.display()
                );
                return Err(Failure::new(told)
                    .hint("leave `--config` out, or change the `args` of the block"));
            }
            helper_in = Some(shown);
        }
    }
    let missing = || Failure::new(format!("no `credentials_helper \"{HELPER}\"` block"));
    helper_in.map(|shown| format!("`{shown}` names the helper")).ok_or_else(|| {
        missing().hint(format!("terraform-credentials-stile install --registry-host {host}"))
    })
}

async fn aws(context: &Context, registry: &Registry) -> Result<String, Failure> {
    let failed = |error: CredentialsError| Failure::new(chain(&error)).hint(error.hint());
    let loaded = credentials::load(registry, &context.environment, context.clock.now())
        .await
        .map_err(failed)?;
    let until = credentials::expiry(&loaded.credentials).map_or_else(
        || "no expiry known".to_owned(),
        |at| format!("until {}", at.to_rfc3339_opts(SecondsFormat::Secs, true)),
    );
    let key = loaded.credentials.access_key_id();
    Ok(format!("`{key}` from {}, {until}, signing for {}", loaded.provider, loaded.region))
}

/// That the service is there and offers what Terraform looks for, and that its clock is ours.
async fn discovery(context: &Context, registry: &Registry) -> Result<String, Failure> {
    let client = call::client(&registry.url, &context.environment)?;
    let url = registry
        .at("/.well-known/terraform.json")
        .map_err(|error| Failure::new(error.to_string()))?;
    let answer = call::send(client.get(url)).await?;
    let cure = "look at `url` in the helper's `config.toml`: is that a Stile registry?";
    if !answer.status.is_success() {
        return Err(Failure::new(format!(
            "`{}` answered {}",
            answer.url,
            answer.refusal().message
        ))
        .hint(cure));
    }
    let document: Option<serde_json::Value> = serde_json::from_slice(&answer.body).ok();
    if document.as_ref().and_then(|document| document.get("modules.v1")?.as_str()).is_none() {
        return Err(Failure::new(format!("`{}` offers no `modules.v1`", answer.url)).hint(cure));
    }
    let Some(date) = answer.date else {
        return Ok("modules.v1; the registry does not tell its time".to_owned());
    };
    let skew = date - context.clock.now();
    if skew.abs() > TOLERATED_SKEW {
        let failure = Failure::new(format!(
            "this computer's clock is {} s off the registry's",
            skew.num_seconds().abs()
        ));
        return Err(failure.hint("set the clock, for example by turning time synchronisation on"));
    }
    Ok("modules.v1; the clocks agree".to_owned())
}

/// That a token opens the registry: the kept one, since Terraform gets that as long as there is one, and else the new one.
async fn authorised_call(
    context: &Context,
    registry: &Registry,
    new: &Token,
) -> Result<String, Failure> {
    let scope = registry.scope();
    let Some(kept) = token::cached(registry, &scope, &context.environment, context.clock.now())
    else {
        return grants(&whoami::read(&whoami::ask(context, registry, new).await?)?);
    };
    let answer = whoami::ask(context, registry, &kept).await?;
    if answer.status != StatusCode::UNAUTHORIZED {
        return grants(&whoami::read(&answer)?);
    }
    token::forget(registry, &scope, &context.environment)?;
    let told = "the kept token was refused, so it is dropped; with a new one";
    let known = whoami::ask(context, registry, new).await.and_then(|answer| whoami::read(&answer));
    known
        .and_then(|known| grants(&known))
        .map(|known| format!("{told}: {known}"))
        .map_err(|failure| failure.of(told))
}

fn grants(known: &whoami::Whoami) -> Result<String, Failure> {
    if known.grants.is_empty() {
        let failure = Failure::new(format!("`{}` has no grant", known.principal));
        return Err(failure.hint(format!(
            "ask the registry's operator for `stile-admin grant create --principal {}`",
            known.principal
        )));
    }
    Ok(format!("`{}` holds {} grant(s)", known.principal, known.grants.len()))
}

#[derive(Debug, Default)]
struct Report {
    lines: String,
    failed: usize,
}

impl Report {
    fn step(&mut self, name: &str, outcome: Result<String, Failure>) -> bool {
        self.step_with(name, outcome, String::clone).is_some()
    }

    fn step_with<T>(
        &mut self,
        name: &str,
        outcome: Result<T, Failure>,
        told: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        match outcome {
            Ok(value) => {
                let told = told(&value);
                self.line("ok", name, &told);
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
        self.line("-", name, "not tried");
    }

    fn end(&self) -> Result<(), Failure> {
        terminal::print(&self.lines)?;
        match self.failed {
            0 => Ok(()),
            1 => Err(Failure::new("one step failed")),
            failed => Err(Failure::new(format!("{failed} steps failed"))),
        }
    }

    fn line(&mut self, mark: &str, name: &str, text: &str) {
        let colon = if text.is_empty() { "" } else { ": " };
        self.lines.push_str(&format!("{mark:<5}{name}{colon}{text}\n"));
    }
}
