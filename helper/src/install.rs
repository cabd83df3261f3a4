//! `install`: the program where Terraform looks for it, the helper's configuration, the CLI configuration.
//!
//! Everything is read and decided first, so that a refusal leaves every file as it was. No network.

mod cli_config;
pub(crate) mod file;
mod helper_config;

use std::path::{Path, PathBuf};

use crate::cli::Install;
use crate::install::file::{Change, Text};
use crate::terminal;
use crate::terraform::{self, Helper, Said};
use crate::verb::{Context, Failure};

/// Installs, or shows what installing would change.
pub(crate) fn run(context: &Context, wanted: &Install) -> Result<(), Failure> {
    let mut plan = plan(context, wanted)?;
    let mut locks = Vec::new();
    if !wanted.dry_run {
        for change in &plan.changes {
            locks.extend(change.lock()?);
        }
        // What another install wrote since then is there now, and stays.
        plan = self::plan(context, wanted)?;
    }
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
        terminal::note(&format!(
            "now try `terraform-credentials-stile doctor {}`",
            wanted.registry_host
        ));
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
    let rc_path =
        wanted.rc_file.clone().or_else(|| terraform::rc_file(environment)).ok_or_else(no_home)?;
    let folders = match &wanted.plugin_directory {
        Some(folder) => vec![folder.clone()],
        None => terraform::plugin_folders(environment),
    };
    if folders.is_empty() {
        return Err(no_home());
    }

    let rc = Text::read(&rc_path)?;
    let others = others(context, &rc)?;
    let rc_said = Said::read(&rc.before, &rc.path);
    let mut all =
        others.iter().map(|other| (&other.path, &other.said)).chain([(&rc.path, &rc_said)]);
    let block =
        all.find_map(|(path, said)| Some((path.as_path(), said.as_ref().ok()?.own_block()?)));
    let mut warnings = shadows(context, wanted, &rc, &others);
    let config_path = config_path(context, block, &mut warnings)?;
    let config = Text::read(&config_path)?;
    let arguments = arguments(context, &config_path)?;
    let rc_after = if others.iter().any(|other| other.names_a_helper()) {
        rc.before.clone()
    } else {
        cli_config::edit(&rc, &arguments)?
    };
    let reads_another =
        |(_, helper): (_, &Helper)| helper.flags().is_ok_and(|flags| flags.config.is_none());
    if !arguments.is_empty() && block.is_some_and(reads_another) {
        warnings
            .push(format!("the block that is there stays; its `args` should be `{arguments:?}`"));
    }
    if let Some(tofu) = terraform::tofu_rc_file(environment)
        .filter(|tofu| wanted.rc_file.is_none() && *tofu != rc_path)
    {
        warnings.push(format!(
            "OpenTofu reads `{0}` instead; run this again with `--rc-file {0}` for it",
            tofu.display()
        ));
    }
    if let Some(folder) = wanted
        .plugin_directory
        .as_deref()
        .filter(|folder| !terraform::is_looked_in(folder, environment))
    {
        warnings.push(format!("Terraform does not look in `{}` for helpers", folder.display()));
    }
    // The CLI configuration comes last: until it is written, Terraform knows nothing of the rest.
    let mut changes = file::programs(&folders)?;
    changes.extend(config.replaced(helper_config::edit(&config, context, wanted)?)?);
    changes.extend(rc.replaced(rc_after)?);
    Ok(Plan { changes, warnings })
}

/// A file that Terraform reads beside the CLI configuration, and what it says.
#[derive(Debug)]
struct Other {
    path: PathBuf,
    said: Result<Said, String>,
}

impl Other {
    fn names_a_helper(&self) -> bool {
        self.said.as_ref().is_ok_and(|said| !said.helpers.is_empty())
    }
}

/// The files beside the usual CLI configuration; one that names another helper is in the way.
fn others(context: &Context, rc: &Text) -> Result<Vec<Other>, Failure> {
    if Some(&rc.path) != terraform::usual_rc_file(&context.environment).as_ref() {
        return Ok(Vec::new());
    }
    let mut others = Vec::new();
    for path in terraform::other_files(&context.environment) {
        let said = Said::read(&Text::read(&path)?.before, &path);
        if let Ok(said) = &said {
            cli_config::check(said, &path)?;
        }
        others.push(Other { path, said });
    }
    Ok(others)
}

/// What would silently keep Terraform from asking the helper for this host.
fn shadows(context: &Context, wanted: &Install, rc: &Text, others: &[Other]) -> Vec<String> {
    let host = &wanted.registry_host;
    let mut warnings = Vec::new();
    if let Some(name) = terraform::token_variable(&context.environment, host) {
        warnings.push(format!("`{name}` is set, so Terraform will not ask the helper; unset it"));
    }
    let rc_said = Said::read(&rc.before, &rc.path);
    for (path, said) in
        others.iter().map(|other| (&other.path, &other.said)).chain([(&rc.path, &rc_said)])
    {
        let path = path.display();
        match said {
            Err(problem) => warnings.push(format!("`{path}` is left out of account: {problem}")),
            Ok(said) if said.shadows(host) => warnings
                .push(format!("`{path}` has a `credentials \"{host}\"` block, so Terraform will not ask the helper; remove that block")),
            Ok(_) => {}
        }
    }
    warnings
}

/// The configuration to write: the one that the helper will read when Terraform runs it.
fn config_path(
    context: &Context,
    block: Option<(&Path, &Helper)>,
    warnings: &mut Vec<String>,
) -> Result<PathBuf, Failure> {
    let default = || context.environment.default_config().ok_or_else(no_home);
    let Some((file, helper)) = block else {
        return context.config.clone().map_or_else(default, Ok);
    };
    let file = file.display();
    let read = match helper.flags() {
        Ok(flags) => flags.config,
        Err(problem) => {
            warnings.push(format!("`{file}`: {problem}"));
            None
        }
    };
    match (context.config.clone(), read) {
        (None, None) => default(),
        (Some(named), None) => Ok(named),
        (None, Some(read)) => {
            warnings.push(format!(
                "the block in `{file}` has the helper read `{}`, so it is that file that counts",
                read.display()
            ));
            Ok(read)
        }
        (Some(named), Some(read)) if is_same(&named, &read) => Ok(named),
        (Some(named), Some(read)) => {
            let told = format!(
                "the block in `{file}` has the helper read `{}`, and nobody would read `{}`",
                read.display(),
                named.display()
            );
            Err(Failure::new(told).hint("leave `--config` out, or change the `args` of the block"))
        }
    }
}

/// Whether two paths name one file.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    std::path::absolute(one).ok() == std::path::absolute(other).ok()
}

/// What Terraform must hand over so that the helper reads the configuration that is written here.
fn arguments(context: &Context, config_path: &Path) -> Result<Vec<String>, Failure> {
    if context.config.is_none()
        || context.environment.default_config().as_deref() == Some(config_path)
    {
        return Ok(Vec::new());
    }
    let path = std::path::absolute(config_path)?;
    let path =
        path.to_str().ok_or_else(|| Failure::new(format!("`{}` is not UTF-8", path.display())))?;
    Ok(vec!["--config".to_owned(), path.to_owned()])
}

fn no_home() -> Failure {
    Failure::new("there is no home folder to install into").hint("set `HOME`")
}
