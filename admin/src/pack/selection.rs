//! Selects the files of a module by their path: `.terraformignore`, built-in rules, `--include`.

use super::ignore::{IgnoreRules, Pattern};
use super::secrets::{self, Verdict};

/// What the program does with a file, by its path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Pack the file, unless its content is a secret.
    Pack,
    /// Pack the file, whatever its content is, because the publisher asked for it.
    Include,
    /// Leave the file out of the archive.
    Skip,
    /// Pack nothing, because the file is a secret of this kind.
    Refuse(&'static str),
}

/// The rules for the files of one module.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// The rules in the module's `.terraformignore`.
    pub(super) rules: IgnoreRules,
    /// The patterns that the publisher asked for. They override every other rule.
    pub(super) include: &'a [Pattern],
}

impl Selection<'_> {
    /// Returns whether the program skips a folder with everything in it.
    ///
    /// As with Terraform, a rule without a `/` at its end does not apply to the files in a folder.
    pub(super) fn skips_folder(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        let is_included = self.includes(path) || self.includes(&folder);
        secrets::is_local(last(path)) && !is_included
            // A pattern can include a file in a folder that the rules exclude.
            || self.include.is_empty() && self.rules.excludes_all_in(&folder)
    }

    /// Returns whether the rules exclude a folder by its name, but not the files in it.
    pub(super) fn excludes_only_name(&self, path: &str) -> bool {
        self.rules.excludes(path) && !self.rules.excludes(&format!("{path}/"))
    }

    /// Chooses what to do with a file or a symbolic link in a folder that is not skipped.
    pub(super) fn file(&self, path: &str) -> Choice {
        if self.includes(path) {
            return Choice::Include;
        }
        match secrets::of_name(last(path)) {
            Verdict::Skip => Choice::Skip,
            _ if self.rules.excludes(path) => Choice::Skip,
            Verdict::Refuse(kind) => Choice::Refuse(kind),
            Verdict::Pack => Choice::Pack,
        }
    }

    /// Chooses what to do with a file to which a symbolic link leads.
    ///
    /// A link must not publish a file under another name if the program skips or refuses the file.
    pub(super) fn target(&self, path: &str) -> Choice {
        let is_in_skipped_folder =
            path.match_indices('/').any(|(at, _)| self.skips_folder(&path[..at]));
        if is_in_skipped_folder { Choice::Skip } else { self.file(path) }
    }

    fn includes(&self, path: &str) -> bool {
        self.include.iter().any(|pattern| pattern.matches(path))
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection<'a>(rules: &str, include: &'a [Pattern]) -> Selection<'a> {
        Selection { rules: IgnoreRules::parse(rules).unwrap(), include }
    }

    #[test]
    fn a_rule_of_terraformignore_can_only_skip_more() {
        let selection = selection("!*\nid_rsa\ndocs/\n", &[]);
        for path in ["terraform.tfvars", "a/.env", "tfplan", "id_rsa", "a/id_rsa", "docs/a"] {
            assert_eq!(selection.file(path), Choice::Skip, "{path}");
        }
        for path in [".git", "a/.terraform", "node_modules", ".venv", "docs", "a/docs"] {
            assert!(selection.skips_folder(path), "{path}");
        }
        assert_eq!(selection.file("key.p12"), Choice::Refuse("private key"));
        assert_eq!(selection.file("main.tf"), Choice::Pack);
        assert!(!selection.skips_folder("modules"));
    }

    #[test]
    fn an_included_file_is_packed_whatever_the_rules_say() {
        let patterns = ["*.tfvars", "/keys/", "node_modules"];
        let include = patterns.map(|pattern| Pattern::parse(pattern).unwrap());
        let selection = selection("docs/\n", &include);
        for path in ["a.tfvars", "docs/a.tfvars", "keys/id_rsa", "keys/.terraformrc"] {
            assert_eq!(selection.file(path), Choice::Include, "{path}");
        }
        for path in ["docs/a.md", ".env", "terraform.tfstate"] {
            assert_eq!(selection.file(path), Choice::Skip, "{path}");
        }
        assert_eq!(selection.file("a/keys/id_rsa"), Choice::Refuse("private key"));
        assert_eq!(selection.file("node_modules/a.js"), Choice::Pack);
        for (path, is_skipped) in
            [("node_modules", false), ("docs", false), (".terraform", true), (".git", true)]
        {
            assert_eq!(selection.skips_folder(path), is_skipped, "{path}");
        }
    }

    #[test]
    fn the_target_of_a_link_has_the_choice_of_its_own_path() {
        let selection = selection("docs/\n", &[]);
        for path in [".git/config", "a/.terraform/b/c.tf", "docs/a.md", "prod.tfvars"] {
            assert_eq!(selection.target(path), Choice::Skip, "{path}");
        }
        assert_eq!(selection.target("a/key.pfx"), Choice::Refuse("private key"));
        assert_eq!(selection.target("modules/a/main.tf"), Choice::Pack);
    }
}
