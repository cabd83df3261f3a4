//! `install`: the program where Terraform looks for it, the helper's configuration, the CLI configuration.
//!
//! Everything is read and decided first, so that a refusal leaves every file as it was. No network.

mod cli_config;
pub(crate) mod file;
mod helper_config;

use std::path::PathBuf;

use crate::cli::Install;
use crate::install::file::{Change, Text};
use crate::terminal;
use crate::terraform::{self, Said};
use crate::verb::{Context, Failure};

/// Installs, or shows what installing would change.
pub(crate) fn run(context: &Context, wanted: &Install) -> Result<(), Failure> {
    let plan = plan(context, wanted)?;
    for warning in &plan.warnings {
        terminal::note(warning);
    }
    if wanted.dry_run {
        return Ok(terminal::print(&plan.changes.iter().map(Change::diff).collect::<String>())?);
    }
    for change in &plan.changes {
        change.make()?;
        terminal::note(&change.told());
    }
    if plan.changes.is_empty() {
        terminal::note("everything is in place already; nothing changed");
    } else {
        terminal::note(&format!("now try `terraform-credentials-stile doctor {}`", wanted.registry_host));
    }
    Ok(())
}

#[derive(Debug)]
struct Plan {
    changes: Vec<Change>,
    warnings: Vec<String>,
}

fn plan(context: &Context, wanted: &Install) -> Result<Plan, Failure> {
    let environment = &context.environment;
    let config_path = context.config.clone().or_else(|| environment.default_config()).ok_or_else(no_home)?;
    let rc_path = wanted.rc_file.clone().or_else(|| terraform::rc_file(environment)).ok_or_else(no_home)?;
    let folders = match &wanted.plugin_directory {
        Some(folder) => vec![folder.clone()],
        None => terraform::plugin_folders(environment),
    };
    if folders.is_empty() {
        return Err(no_home());
    }

    let rc = Text::read(&rc_path)?;
    let config = Text::read(&config_path)?;
    let arguments = arguments(context, &config_path)?;
    let mut warnings = warnings(context, wanted, &rc, &arguments)?;
    // The CLI configuration comes last: until it is written, Terraform knows nothing of the rest.
    let mut changes = file::programs(&folders)?;
    changes.extend(config.replaced(helper_config::edit(&config, context, wanted)?));
    changes.extend(rc.replaced(cli_config::edit(&rc, &arguments)?));
    if let Some(tofu) = terraform::tofu_rc_file(environment).filter(|tofu| wanted.rc_file.is_none() && *tofu != rc_path) {
        warnings.push(format!("OpenTofu reads `{0}` instead; run this again with `--rc-file {0}` for it", tofu.display()));
    }
    Ok(Plan { changes, warnings })
}

/// What Terraform must hand over so that the helper reads the configuration that is written here.
fn arguments(context: &Context, config_path: &std::path::Path) -> Result<Vec<String>, Failure> {
    if context.config.is_none() || context.environment.default_config().as_deref() == Some(config_path) {
        return Ok(Vec::new());
    }
    let path = std::path::absolute(config_path)?;
    let path = path.to_str().ok_or_else(|| Failure::new(format!("`{}` is not UTF-8", path.display())))?;
    Ok(vec!["--config".to_owned(), path.to_owned()])
}

/// What stands in the helper's way elsewhere: refused if Terraform would be confused, told if it would be silent.
fn warnings(context: &Context, wanted: &Install, rc: &Text, arguments: &[String]) -> Result<Vec<String>, Failure> {
    let host = &wanted.registry_host;
    let mut files: Vec<PathBuf> = Vec::new();
    if Some(&rc.path) == terraform::usual_rc_file(&context.environment).as_ref() {
        files = terraform::other_files(&context.environment);
    }
    let mut warnings = Vec::new();
    for path in files.iter().chain([&rc.path]) {
        let text = if *path == rc.path { rc.before.clone() } else { Text::read(path)?.before };
        let said = match Said::read(&text, path) {
            Ok(said) => said,
            Err(problem) if *path == rc.path => return Err(cli_config::unreadable(path, &problem, arguments)),
            Err(problem) => {
                warnings.push(format!("`{}` is left out of account: {problem}", path.display()));
                continue;
            }
        };
        cli_config::check(&said, path)?;
        if said.shadows(host) {
            warnings.push(format!(
                "`{}` has a `credentials \"{host}\"` block, so Terraform will not ask the helper; remove that block",
                path.display()
            ));
        }
        if *path != rc.path && !said.helpers.is_empty() {
            let problem = format!("`{}` has the `credentials_helper` block already", path.display());
            return Err(Failure::new(problem).hint(format!("use `--rc-file {}`", path.display())));
        }
        if *path == rc.path && !said.helpers.is_empty() && arguments.iter().any(|argument| !text.contains(argument.as_str())) {
            warnings.push(format!("`{}` keeps its block; its `args` should be `{arguments:?}`", path.display()));
        }
    }
    let variable = crate::get_token::variable(host).ok().filter(|name| context.environment.token_variables.contains(name));
    if let Some(name) = variable {
        warnings.push(format!("`{name}` is set, so Terraform will not ask the helper; unset it"));
    }
    Ok(warnings)
}

fn no_home() -> Failure {
    Failure::new("there is no home folder to install into").hint("set `HOME`")
}
