//! `install`: the program where Terraform looks for it, the helper's configuration, the CLI configuration.
//!
//! Everything is read and decided first, so that a refusal leaves every file as it was. No network.

mod cli_config;
pub(crate) mod file;
mod helper_config;

use std::path::{Path, PathBuf};

use crate::cli::Install;
use crate::install::file::{FileChange, TextFile};
use crate::terminal;
use crate::terraform::{self, CliConfig, HelperBlock};
use crate::verb::{VerbContext, VerbFailure};

/// Installs, or shows what installing would change.
pub(crate) fn run(context: &VerbContext, wanted: &Install) -> Result<(), VerbFailure> {
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
        return Ok(terminal::print(
            &plan.changes.iter().map(FileChange::diff).collect::<String>(),
        )?);
    }
    for change in &plan.changes {
        change.apply()?;
        terminal::note(&change.summary());
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
struct InstallPlan {
    changes: Vec<FileChange>,
    warnings: Vec<String>,
}

fn plan(context: &VerbContext, wanted: &Install) -> Result<InstallPlan, VerbFailure> {
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

    let rc = TextFile::read(&rc_path)?;
    let extra_files = extra_configs(context, &rc)?;
    let rc_said = CliConfig::read(&rc.content, &rc.path);
    let mut all =
        extra_files.iter().map(|extra| (&extra.path, &extra.said)).chain([(&rc.path, &rc_said)]);
    let block =
        all.find_map(|(path, said)| Some((path.as_path(), said.as_ref().ok()?.own_block()?)));
    let mut warnings = override_warnings(context, wanted, &rc, &extra_files);
    let config_path = config_path(context, block, &mut warnings)?;
    let config = TextFile::read(&config_path)?;
    let arguments = arguments(context, &config_path)?;
    let rc_after = if extra_files.iter().any(|extra| extra.names_a_helper()) {
        rc.content.clone()
    } else {
        cli_config::edit(&rc, &arguments)?
    };
    let reads_another =
        |(_, helper): (_, &HelperBlock)| helper.flags().is_ok_and(|flags| flags.config.is_none());
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
        .filter(|folder| !terraform::is_searched(folder, environment))
    {
        warnings.push(format!("Terraform does not look in `{}` for helpers", folder.display()));
    }
    // The CLI configuration comes last: until it is written, Terraform knows nothing of the rest.
    let mut changes = file::programs(&folders)?;
    changes.extend(config.changed_to(helper_config::edit(&config, context, wanted)?)?);
    changes.extend(rc.changed_to(rc_after)?);
    Ok(InstallPlan { changes, warnings })
}

/// A file that Terraform reads beside the CLI configuration, and what it says.
#[derive(Debug)]
struct ExtraConfigFile {
    path: PathBuf,
    said: Result<CliConfig, String>,
}

impl ExtraConfigFile {
    fn names_a_helper(&self) -> bool {
        self.said.as_ref().is_ok_and(|said| !said.helpers.is_empty())
    }
}

/// The files beside the usual CLI configuration; one that names another helper is in the way.
fn extra_configs(
    context: &VerbContext,
    rc: &TextFile,
) -> Result<Vec<ExtraConfigFile>, VerbFailure> {
    if Some(&rc.path) != terraform::usual_rc_file(&context.environment).as_ref() {
        return Ok(Vec::new());
    }
    let mut extra_files = Vec::new();
    for path in terraform::extra_config_files(&context.environment) {
        let said = CliConfig::read(&TextFile::read(&path)?.content, &path);
        if let Ok(said) = &said {
            cli_config::check(said, &path)?;
        }
        extra_files.push(ExtraConfigFile { path, said });
    }
    Ok(extra_files)
}

/// What would silently keep Terraform from asking the helper for this host.
fn override_warnings(
    context: &VerbContext,
    wanted: &Install,
    rc: &TextFile,
    extra_files: &[ExtraConfigFile],
) -> Vec<String> {
    let host = &wanted.registry_host;
    let mut warnings = Vec::new();
    if let Some(name) = terraform::token_variable(&context.environment, host) {
        warnings.push(format!("`{name}` is set, so Terraform will not ask the helper; unset it"));
    }
    let rc_said = CliConfig::read(&rc.content, &rc.path);
    for (path, said) in
        extra_files.iter().map(|extra| (&extra.path, &extra.said)).chain([(&rc.path, &rc_said)])
    {
        let path = path.display();
        match said {
            Err(problem) => warnings.push(format!("`{path}` is left out of account: {problem}")),
            Ok(said) if said.overrides_helper(host) => warnings
                .push(format!("`{path}` has a `credentials \"{host}\"` block, so Terraform will not ask the helper; remove that block")),
            Ok(_) => {}
        }
    }
    warnings
}

/// The configuration to write: the one that the helper will read when Terraform runs it.
fn config_path(
    context: &VerbContext,
    block: Option<(&Path, &HelperBlock)>,
    warnings: &mut Vec<String>,
) -> Result<PathBuf, VerbFailure> {
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
        (Some(named), Some(read)) if is_same_path(&named, &read) => Ok(named),
        (Some(named), Some(read)) => {
            let told = format!(
                "the block in `{file}` has the helper read `{}`, and nobody would read `{}`",
                read.display(),
                named.display()
            );
            Err(VerbFailure::new(told)
                .hint("leave `--config` out, or change the `args` of the block"))
        }
    }
}

/// Whether two paths name one file.
pub(crate) fn is_same_path(one: &Path, extra: &Path) -> bool {
    std::path::absolute(one).ok() == std::path::absolute(extra).ok()
}

/// What Terraform must hand over so that the helper reads the configuration that is written here.
fn arguments(context: &VerbContext, config_path: &Path) -> Result<Vec<String>, VerbFailure> {
    if context.config.is_none()
        || context.environment.default_config().as_deref() == Some(config_path)
    {
        return Ok(Vec::new());
    }
    let path = std::path::absolute(config_path)?;
    let path = path
        .to_str()
        .ok_or_else(|| VerbFailure::new(format!("`{}` is not UTF-8", path.display())))?;
    Ok(vec!["--config".to_owned(), path.to_owned()])
}

fn no_home() -> VerbFailure {
    VerbFailure::new("there is no home folder to install into").hint("set `HOME`")
}
