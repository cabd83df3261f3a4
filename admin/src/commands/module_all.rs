//! `module publish --all`: publishes each module in a folder, and reports each on its own.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use stile_core::package::Version;
use stile_protocol::names::{ModuleAddress, ModuleName, Namespace, Permission, System};
use terraform_credentials_stile::message::one_line;

use super::Context;
use super::module_send::{Sent, patterns, pending, publish_archive, version_of};
use super::module_tags::{CommittedFiles, HeadTags};
use crate::api::Api;
use crate::cli::ModulePublish;
use crate::error::CommandError;
use crate::output::{notice, print_error};
use crate::pack::Pattern;
use crate::upload::Archive;

/// The ends of the names of Terraform's and OpenTofu's files.
const MODULE_FILES: [&str; 4] = [".tf", ".tf.json", ".tofu", ".tofu.json"];

/// A module to publish.
struct Planned {
    folder: PathBuf,
    address: ModuleAddress,
    version: Version,
    /// The files that a tag means. `None` if the version comes from a flag.
    committed: Option<CommittedFiles>,
}

/// Where the versions of the modules come from.
enum Versions {
    /// From a flag: all have the same.
    Flag(Version),
    /// From the tags of the repository.
    Tags(HeadTags),
}

/// Publishes every module in the folder.
///
/// A module that fails does not stop the others. The error says how many failed.
pub(super) async fn run(context: &Context, args: &ModulePublish) -> Result<(), CommandError> {
    let folder = folder(&args.what)?;
    let patterns = patterns(&args.include)?;
    let namespace = Namespace::parse(args.several.namespace.as_deref().unwrap_or_default())?;
    let system = System::parse(args.several.system.as_deref().unwrap_or_default())?;
    let version = args.several.version.as_deref().map(version_of).transpose()?;
    let modules = modules_in(&folder)?;
    let versions = match version {
        Some(version) => Versions::Flag(version),
        None => Versions::Tags(HeadTags::read(&folder)?),
    };
    // Without a token, every module would fail for the same reason.
    let api = if args.dry_run {
        None
    } else {
        let api = Api::new(&args.api, Permission::Upload, Some(namespace.clone()), context.now)?;
        api.authenticate().await?;
        Some(api)
    };
    let (mut report, mut untagged) = (Report::default(), Vec::new());
    for (name, path) in modules {
        let planned = plan(&name, (&folder, path), (&namespace, &system), &versions);
        let result = match planned {
            Ok(None) => {
                untagged.push(name);
                continue;
            }
            Ok(Some(planned)) => {
                let done = publish(context, api.as_ref(), &planned, &patterns).await;
                done.map_err(|error| (Some(planned.version), error))
            }
            Err(error) => Err((None, error)),
        };
        let address = format!("{namespace}/{}/{system}", one_line(&name));
        report.add(context, &address, result)?;
    }
    if !untagged.is_empty() {
        if let Versions::Tags(tags) = &versions
            && report.modules.is_empty()
        {
            return Err(tags.none());
        }
        notice(format_args!(
            "not published, because no tag at HEAD names a version: {}",
            untagged.join(", ")
        ));
    }
    report.end(context)
}

/// Returns the only word of the command, which is the folder with the modules.
fn folder(words: &[OsString]) -> Result<PathBuf, CommandError> {
    match words {
        [folder] => Ok(PathBuf::from(folder)),
        _ => Err(CommandError::usage("`--all` takes a folder, and no address and no version")
            .hint("write `--all --namespace NS --system SYSTEM FOLDER`")),
    }
}

/// Returns the folders with modules, by the names of the folders, in their order.
///
/// It skips hidden folders and links, and folders without files of a module.
fn modules_in(folder: &Path) -> Result<Vec<(String, PathBuf)>, CommandError> {
    let unreadable = |path: &Path, error: &std::io::Error| {
        CommandError::failed_because(format_args!("`{}` cannot be read", path.display()), error)
    };
    let mut modules = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let entry = entry.map_err(|error| unreadable(folder, &error))?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if !kind.is_dir() || name.as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if has_module_file(&path).map_err(|error| unreadable(&path, &error))? {
            modules.push((name.to_string_lossy().into_owned(), path));
        }
    }
    if modules.is_empty() {
        let problem = format!("`{}` has no folder with `.tf` or `.tofu` files", folder.display());
        return Err(CommandError::refused(problem)
            .hint("name the folder that contains the folders of the modules"));
    }
    modules.sort();
    Ok(modules)
}

fn has_module_file(folder: &Path) -> std::io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        if MODULE_FILES.iter().any(|end| name.ends_with(end)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Decides the address and the version of a module. Without a tag, it has none.
fn plan(
    name: &str,
    (all, folder): (&Path, PathBuf),
    (namespace, system): (&Namespace, &System),
    versions: &Versions,
) -> Result<Option<Planned>, CommandError> {
    let module = ModuleName::parse(name).map_err(|error| {
        CommandError::from(error).hint("rename the folder, or publish it without `--all`")
    })?;
    let (version, committed) = match versions {
        Versions::Flag(version) => (version.clone(), None),
        Versions::Tags(tags) => match tags.version(&module)? {
            Some(version) => (version, Some(CommittedFiles::read(all, &module)?)),
            None => return Ok(None),
        },
    };
    let (namespace, system) = (namespace.clone(), system.clone());
    Ok(Some(Planned {
        folder,
        address: ModuleAddress { namespace, name: module, system },
        version,
        committed,
    }))
}

/// Publishes one module, or only packs it if there is no registry. Returns a line and JSON.
async fn publish(
    context: &Context,
    api: Option<&Api>,
    planned: &Planned,
    patterns: &[Pattern],
) -> Result<(String, Value), CommandError> {
    let Planned { folder, address, version, committed } = planned;
    let print = |text: &str| notice(format_args!("`{address}`: {text}"));
    let archive = Archive::open(folder, patterns, &print)?;
    if let Some(committed) = committed {
        committed.check(folder, archive.files().iter().map(|file| file.path.as_str()))?;
    }
    let (sha256, bytes) = (archive.sha256(), archive.bytes());
    let Some(api) = api else {
        let files = archive.files().len();
        let line = format!(
            "would publish {address} {version} (sha256:{sha256}): {files} files in {bytes} bytes"
        );
        return Ok((line, pending(address, version, &archive)));
    };
    let Sent { status, warnings } =
        publish_archive(context, api, address, version, &archive).await?;
    for warning in &warnings {
        notice(format_args!("`{address}`: {warning}"));
    }
    let json = json!({
        "status": status,
        "module": address.to_string(),
        "version": version.to_string(),
        "sha256": sha256,
        "skipped": archive.skipped(),
        "source": format!("{}/{address}", api.host()),
    });
    Ok((format!("{status} {address} {version} (sha256:{sha256})"), json))
}

/// The results so far.
#[derive(Default)]
struct Report {
    modules: Vec<Value>,
    failed: Vec<CommandError>,
}

impl Report {
    /// Adds the result of one module, and prints its line. An error goes to standard error.
    fn add(
        &mut self,
        context: &Context,
        address: &str,
        result: Result<(String, Value), (Option<Version>, CommandError)>,
    ) -> Result<(), CommandError> {
        match result {
            Ok((line, json)) => {
                self.modules.push(json);
                context.output.line(line)
            }
            Err((version, error)) => {
                let error = error.about(address);
                print_error(&error);
                self.modules.push(json!({
                    "status": "failed",
                    "module": address,
                    "version": version.map(|version| version.to_string()),
                    "error": error.json(),
                }));
                self.failed.push(error);
                Ok(())
            }
        }
    }

    /// Prints the JSON of all modules. It fails if a module failed.
    fn end(self, context: &Context) -> Result<(), CommandError> {
        let (all, failed) = (self.modules.len(), self.failed.len());
        context.output.json(&self.modules.into())?;
        if failed == 0 {
            return Ok(());
        }
        let message = format!("{failed} of {all} modules failed");
        Err(match self.failed.iter().all(CommandError::is_refusal) {
            true => CommandError::refused(message),
            false => CommandError::failed(message),
        }
        .hint("run the same command again; published modules stay unchanged"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_with_files_of_a_module_are_modules() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "vpc/main.tf",
            "json/main.tf.json",
            "tofu/main.tofu",
            "both/main.tofu.json",
            "docs/README.md",
            "nested/vpc/main.tf",
            "state/terraform.tfstate",
            ".github/main.tf",
            "main.tf",
        ] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        std::os::unix::fs::symlink("vpc", root.path().join("linked")).unwrap();
        let modules = modules_in(root.path()).unwrap();
        let names: Vec<&str> = modules.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["both", "json", "tofu", "vpc"]);
        let error = modules_in(&root.path().join("docs")).unwrap_err().to_string();
        assert!(error.contains("has no folder with `.tf` or `.tofu` files"), "{error}");
    }
}
