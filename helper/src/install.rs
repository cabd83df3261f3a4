//! `install`: copies the program, and edits the helper's configuration and the CLI configuration.
//!
//! It plans every change before it writes, so that an error changes no file. It uses no network.

mod cli_config;
pub(crate) mod file;
mod helper_config;

use std::path::{Path, PathBuf};

use terraform_credentials_stile::config::Environment;

use crate::cli::Install;
use crate::install::file::{FileChange, TextFile};
use crate::terminal;
use crate::terraform::{self, CliConfig, HelperBlock};
use crate::verb::{VerbContext, VerbFailure};

/// Installs the helper, or shows the changes with `--dry-run`.
pub(crate) fn run(context: &VerbContext, wanted: &Install) -> Result<(), VerbFailure> {
    let mut plan = plan(context, wanted)?;
    let mut locks = Vec::new();
    if !wanted.dry_run {
        for change in &plan.changes {
            locks.extend(change.lock()?);
        }
        // Another install may have written since the first plan: plan again under the locks.
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
        terminal::note("everything is already installed; nothing changed");
    } else {
        terminal::note(&format!(
            "run `terraform-credentials-stile doctor {}` to check the installation",
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
    let rc_config = CliConfig::read(&rc.content, &rc.path);
    let mut all = extra_files
        .iter()
        .map(|extra| (&extra.path, &extra.config))
        .chain([(&rc.path, &rc_config)]);
    let block =
        all.find_map(|(path, config)| Some((path.as_path(), config.as_ref().ok()?.own_block()?)));
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
            .push(format!("the existing block is unchanged; its `args` should be `{arguments:?}`"));
    }
    if let Some(tofu) = terraform::tofu_rc_file(environment)
        .filter(|tofu| wanted.rc_file.is_none() && *tofu != rc_path)
    {
        warnings.push(format!(
            "OpenTofu reads `{0}` instead; to configure it, run this again with `--rc-file {0}`",
            tofu.display()
        ));
    }
    if let Some(tofu) = terraform::tofu_xdg_file(environment) {
        warnings.extend(xdg_warning(&tofu, &rc_path, environment));
    }
    if let Some(folder) = wanted
        .plugin_directory
        .as_deref()
        .filter(|folder| !terraform::is_searched(folder, environment))
    {
        warnings.push(format!("Terraform does not search `{}` for helpers", folder.display()));
    }
    // The CLI configuration comes last: Terraform runs the helper only after that change.
    let mut changes = file::programs(&folders)?;
    changes.extend(config.changed_to(helper_config::edit(&config, context, wanted)?)?);
    changes.extend(rc.changed_to(rc_after)?);
    Ok(InstallPlan { changes, warnings })
}

/// Explains which program reads the file, if OpenTofu's `tofurc` is the only file so far.
fn xdg_warning(tofu: &Path, rc_path: &Path, environment: &Environment) -> Option<String> {
    let usual = terraform::usual_rc_file(environment)?;
    let (tofu_text, usual_text) = (tofu.display(), usual.display());
    if rc_path == tofu {
        return Some(format!(
            "OpenTofu reads `{tofu_text}` only while `{usual_text}` does not exist, so `install` edits that file; \
             for Terraform, set `TF_CLI_CONFIG_FILE={tofu_text}`"
        ));
    }
    (rc_path == usual).then(|| {
        format!("OpenTofu will ignore `{tofu_text}`, because `{usual_text}` exists after this; merge the two files")
    })
}

/// A file that Terraform reads in addition to the CLI configuration, and its parsed content.
#[derive(Debug)]
struct ExtraConfigFile {
    path: PathBuf,
    config: Result<CliConfig, String>,
}

impl ExtraConfigFile {
    fn names_a_helper(&self) -> bool {
        self.config.as_ref().is_ok_and(|config| !config.helpers.is_empty())
    }
}

/// Reads the additional configuration files. It fails if one of them configures another helper.
fn extra_configs(
    context: &VerbContext,
    rc: &TextFile,
) -> Result<Vec<ExtraConfigFile>, VerbFailure> {
    let environment = &context.environment;
    let without_a_variable =
        [terraform::usual_rc_file(environment), terraform::tofu_xdg_file(environment)];
    if !without_a_variable.contains(&Some(rc.path.clone())) {
        return Ok(Vec::new());
    }
    let mut extra_files = Vec::new();
    for path in terraform::extra_config_files(&context.environment) {
        let config = CliConfig::read(&TextFile::read(&path)?.content, &path);
        if let Ok(config) = &config {
            cli_config::check(config, &path)?;
        }
        extra_files.push(ExtraConfigFile { path, config });
    }
    Ok(extra_files)
}

/// Lists the settings that silently stop Terraform from running the helper for this host.
fn override_warnings(
    context: &VerbContext,
    wanted: &Install,
    rc: &TextFile,
    extra_files: &[ExtraConfigFile],
) -> Vec<String> {
    let host = &wanted.registry_host;
    let mut warnings = Vec::new();
    if let Some(name) = terraform::token_variable(&context.environment, host) {
        warnings.push(format!("`{name}` is set, so Terraform will not run the helper; unset it"));
    }
    let rc_config = CliConfig::read(&rc.content, &rc.path);
    for (path, config) in
        extra_files.iter().map(|extra| (&extra.path, &extra.config)).chain([(&rc.path, &rc_config)])
    {
        let path = path.display();
        match config {
            Err(problem) => warnings.push(format!("ignored `{path}`: {problem}")),
            Ok(config) if config.overrides_helper(host) => warnings
                .push(format!("`{path}` has a `credentials \"{host}\"` block, so Terraform will not run the helper; remove that block")),
            Ok(_) => {}
        }
    }
    warnings
}

/// Returns the configuration file to write: the one that the helper reads when Terraform runs it.
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
                "the block in `{file}` makes the helper read `{}`, so `install` edits that file",
                read.display()
            ));
            Ok(read)
        }
        (Some(named), Some(read)) if is_same_path(&named, &read) => Ok(named),
        (Some(named), Some(read)) => {
            let problem = format!(
                "the block in `{file}` makes the helper read `{}`, so it would ignore `{}`",
                read.display(),
                named.display()
            );
            Err(VerbFailure::new(problem)
                .hint("omit `--config`, or change the `args` of the block"))
        }
    }
}

/// Tells whether two paths are equal as absolute paths.
pub(crate) fn is_same_path(one: &Path, other: &Path) -> bool {
    std::path::absolute(one).ok() == std::path::absolute(other).ok()
}

/// Returns the `args` that make the helper read this configuration file.
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
    VerbFailure::new("cannot find the home folder").hint("set `HOME`")
}
