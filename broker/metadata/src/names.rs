//! Which files of an archive are read, by their paths.

/// The folder that a file belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Folder {
    /// The top level of the archive.
    Root,
    /// A folder in `modules/`, with its path.
    Submodule(String),
    /// A folder in `examples/`, with its path.
    Example(String),
}

impl Folder {
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Root => "",
            Self::Submodule(path) | Self::Example(path) => path,
        }
    }
}

/// The syntax of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Syntax {
    /// HashiCorp's configuration language.
    Hcl,
    /// Its form in JSON.
    Json,
}

/// What a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `README.md` before `README`.
    Readme { is_plain: bool },
    /// A file with configuration.
    Configuration {
        /// The name without its extension.
        stem: String,
        syntax: Syntax,
        /// Whether only OpenTofu reads it.
        is_tofu: bool,
    },
}

impl Kind {
    /// Returns whether the blocks of the file change blocks of other files.
    pub(crate) fn is_override(&self) -> bool {
        matches!(self, Self::Configuration { stem, .. }
            if stem == "override" || stem.ends_with("_override"))
    }
}

/// Returns the folder and the kind of a file, if it is read at all.
///
/// Like Terraform, it ignores files with a name that begins with a dot.
pub(crate) fn classify(path: &str) -> Option<(Folder, Kind)> {
    let (folder, name) = match path.split('/').collect::<Vec<_>>().as_slice() {
        [name] => (Folder::Root, *name),
        ["modules", folder, name] if !folder.starts_with('.') => {
            (Folder::Submodule(format!("modules/{folder}")), *name)
        }
        ["examples", folder, name] if !folder.starts_with('.') => {
            (Folder::Example(format!("examples/{folder}")), *name)
        }
        _ => return None,
    };
    Some((folder, kind(name)?))
}

fn kind(name: &str) -> Option<Kind> {
    if name.eq_ignore_ascii_case("README.md") {
        return Some(Kind::Readme { is_plain: false });
    }
    if name.eq_ignore_ascii_case("README") {
        return Some(Kind::Readme { is_plain: true });
    }
    let extensions = [
        (".tf", Syntax::Hcl, false),
        (".tofu", Syntax::Hcl, true),
        (".tf.json", Syntax::Json, false),
        (".tofu.json", Syntax::Json, true),
    ];
    let found = extensions.into_iter().find_map(|(extension, syntax, is_tofu)| {
        let stem = name.strip_suffix(extension)?.to_owned();
        Some(Kind::Configuration { stem, syntax, is_tofu })
    });
    found.filter(|_| !name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_only_in_the_root_in_modules_and_in_examples() {
        let none = [
            "",
            "main.tf/x.txt",
            ".main.tf",
            ".tf",
            "main.tf~",
            "main.tf.bak",
            "main.tfvars",
            "tests/main.tf",
            "modules/main.tf",
            "modules/a/b/main.tf",
            "modules/.a/main.tf",
            "Modules/a/main.tf",
            "README.txt",
            "docs/README.md",
        ];
        for path in none {
            assert_eq!(classify(path), None, "{path}");
        }
        for (path, folder, is_readme) in [
            ("main.tf", "", false),
            ("Readme.md", "", true),
            ("modules/a/README", "modules/a", true),
            ("examples/a b/x.tofu.json", "examples/a b", false),
        ] {
            let (found, kind) = classify(path).unwrap();
            assert_eq!((found.path(), matches!(kind, Kind::Readme { .. })), (folder, is_readme));
        }
    }

    #[test]
    fn an_override_is_recognised_by_its_name() {
        for (path, expected) in [
            ("override.tf", true),
            ("x_override.tofu.json", true),
            ("_override.tf.json", true),
            ("overrides.tf", false),
            ("xoverride.tf", false),
            ("README.md", false),
        ] {
            assert_eq!(classify(path).unwrap().1.is_override(), expected, "{path}");
        }
    }
}
