//! Finds the version of each module in the tags of a git repository.

use std::collections::HashSet;
use std::io;
use std::path::Path;
use std::process::Command;

use stile_core::package::Version;
use stile_protocol::names::ModuleName;
use terraform_credentials_stile::message::one_line;

use crate::error::CommandError;

/// What can be between the name of a module and its version in a tag.
const SEPARATORS: [char; 3] = ['/', '-', '@'];

/// The hint if the tags do not say the version.
const VERSION_HINT: &str = "tag the commit, or use `--version`";

/// The tags that point at the commit that is checked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HeadTags(Vec<String>);

impl HeadTags {
    /// Asks git for the tags at HEAD of the repository that contains the folder.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if git cannot be run, or if the folder is in no repository.
    pub(super) fn read(folder: &Path) -> Result<Self, CommandError> {
        let tags = git(folder, &["tag", "--points-at", "HEAD"])?;
        Ok(Self(tags.lines().map(str::to_owned).collect()))
    }

    /// Returns the version of a module: that of its own tag, or else that of a tag for every module.
    /// Without such a tag, the module has no version.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if several tags say different versions.
    pub(super) fn version(&self, name: &ModuleName) -> Result<Option<Version>, CommandError> {
        let own = |tag: &str| {
            let rest = tag.strip_prefix(name.as_str())?.strip_prefix(SEPARATORS)?;
            tagged(rest)
        };
        let mut versions: Vec<Version> = self.0.iter().filter_map(|tag| own(tag)).collect();
        if versions.is_empty() {
            versions = self.0.iter().filter_map(|tag| tagged(tag)).collect();
        }
        versions.dedup();
        match versions.as_slice() {
            [] => Ok(None),
            [version] => Ok(Some(version.clone())),
            several => {
                let several: Vec<_> =
                    several.iter().map(|version| format!("`{version}`")).collect();
                Err(CommandError::refused(format!(
                    "the tags at HEAD name several versions of `{name}`: {}",
                    several.join(", ")
                ))
                .hint("keep one of the tags, or use `--version`"))
            }
        }
    }

    /// Returns the error if no tag names a version of any module.
    pub(super) fn none(&self) -> CommandError {
        let problem = if self.0.is_empty() {
            "no tag points at HEAD, so no module has a version".to_owned()
        } else {
            let tags: Vec<_> = self.0.iter().map(|tag| format!("`{}`", one_line(tag))).collect();
            format!("the tags at HEAD name a version of no module: {}", tags.join(", "))
        };
        CommandError::refused(problem).hint(VERSION_HINT)
    }
}

/// Returns the version in a text such as `v1.2.0`.
fn tagged(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v')?).ok()
}

/// The files of one module in the commit that is checked out, by their paths in the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommittedFiles(HashSet<String>);

impl CommittedFiles {
    /// Reads the files of the module in `folder`, which is the folder with all modules. Otherwise,
    /// git would read another repository if the module is one.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if the module is not as in the commit, or if git cannot tell. A tag would
    /// say a version of other files then.
    pub(super) fn read(folder: &Path, name: &ModuleName) -> Result<Self, CommandError> {
        let name = name.as_str();
        let status = git(folder, &["status", "--porcelain", "--untracked-files=all", "--", name])?;
        if let Some(first) = status.lines().next() {
            return Err(not_as_committed(folder, name, first));
        }
        // `git status` believes these flags, and does not look at such a file.
        let flags = git(folder, &["ls-files", "-v", "-z", "--", name])?;
        let is_unseen =
            |line: &&str| line.starts_with(|flag: char| flag == 'S' || flag.is_lowercase());
        if let Some(unseen) = flags.split('\0').find(is_unseen) {
            return Err(not_as_committed(folder, name, unseen));
        }
        let tree =
            git(folder, &["ls-tree", "-r", "-z", "--name-only", "HEAD", &format!("{name}/")])?;
        let of_module = |path: &str| Some(path.strip_prefix(name)?.strip_prefix('/')?.to_owned());
        Ok(Self(tree.split('\0').filter_map(of_module).collect()))
    }

    /// Checks that every file is in the commit. Files that git ignores are not, and neither are those
    /// of another repository in the folder.
    ///
    /// # Errors
    ///
    /// [`CommandError`], if a file is not.
    pub(super) fn check<'a>(
        &self,
        folder: &Path,
        files: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), CommandError> {
        match files.into_iter().find(|file| !self.0.contains(*file)) {
            None => Ok(()),
            Some(file) => Err(CommandError::refused(format!(
                "`{}` has a file that is not in the tagged commit: `{}`",
                folder.display(),
                one_line(file)
            ))
            .hint("commit it, list it in `.terraformignore`, or use `--version`")),
        }
    }
}

fn not_as_committed(folder: &Path, name: &str, change: &str) -> CommandError {
    CommandError::refused(format!(
        "`{}` is not as in the tagged commit: `{}`",
        folder.join(name).display(),
        one_line(change)
    ))
    .hint("commit or remove the changes, or use `--version`")
}

/// Runs git in a folder, and returns what it prints.
fn git(folder: &Path, arguments: &[&str]) -> Result<String, CommandError> {
    let failed = |problem: String| {
        CommandError::failed(format!(
            "git cannot tell the versions in `{}`: {problem}",
            folder.display()
        ))
        .hint("use `--version`, or a folder of a git repository")
    };
    // A monitor of files is a program that the configuration of the repository names.
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .output()
        .map_err(|error| {
            failed(match error.kind() {
                io::ErrorKind::NotFound => "`git` is not installed".to_owned(),
                _ => one_line(&error.to_string()),
            })
        })?;
    if !output.status.success() {
        return Err(failed(one_line(&String::from_utf8_lossy(&output.stderr))));
    }
    String::from_utf8(output.stdout).map_err(|_| failed("a name is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(tags: &[&str], name: &str) -> Result<Option<String>, String> {
        let tags = HeadTags(tags.iter().map(|tag| (*tag).to_owned()).collect());
        let found = tags.version(&ModuleName::parse(name).unwrap());
        found
            .map(|version| version.map(|version| version.to_string()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn tags_that_disagree_are_an_error() {
        for tags in
            [["vpc/v1.2.0", "vpc/v1.2.1"], ["vpc/v1.2.0", "vpc-v1.3.0"], ["v1.0.0", "v2.0.0"]]
        {
            let error = version(&tags, "vpc").unwrap_err();
            assert!(
                error.starts_with("the tags at HEAD name several versions of `vpc`: "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_tag_of_another_form_or_module_says_no_version() {
        for tag in [
            "",
            "latest",
            "1.2.0",
            "v1.2",
            "v01.2.0",
            "v1.2.0+b1",
            "V1.2.0",
            "vpc/1.2.0",
            "vpc_v1.2.0",
            "vpcv1.2.0",
            "net/v1.2.0",
            "net-vpc-v1.2.0",
            "vpc-net-v1.2.0",
            "modules/vpc/v1.2.0",
        ] {
            assert_eq!(version(&[tag], "vpc"), Ok(None), "{tag}");
        }
    }

    #[test]
    fn the_tag_of_a_module_precedes_the_tag_of_all() {
        for (tags, expected) in [
            (&["vpc/v1.2.0"][..], "1.2.0"),
            (&["vpc-v1.2.0"], "1.2.0"),
            (&["vpc@v1.2.0"], "1.2.0"),
            (&["v1.2.0"], "1.2.0"),
            (&["latest", "v1.2.0-rc.1"], "1.2.0-rc.1"),
            (&["v2.0.0", "vpc-v1.2.0"], "1.2.0"),
            (&["vpc-v1.2.0", "vpc/v1.2.0"], "1.2.0"),
            (&["net/v3.0.0", "v1.2.0"], "1.2.0"),
        ] {
            assert_eq!(version(tags, "vpc"), Ok(Some(expected.to_owned())), "{tags:?}");
        }
    }
}
