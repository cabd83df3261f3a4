//! Checks the direction of imports: packages in one order, the modules of a package in one order,
//! and no cycles between files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The packages of the project, each with its folder and the order of its top modules. A module can
/// import only from the modules before it. A module that is not in the list fails the test.
const PACKAGES: [(&str, &str, &[&str]); 8] = [
    ("stile_settings", "broker/settings/src", &["mask", "variables", "flags"]),
    (
        "stile_protocol",
        "broker/protocol/src",
        &[
            "names",
            "printable",
            "strict_json",
            "audience",
            "region",
            "exchange",
            "token_exchange",
            "request_id",
            "reply",
            "signed_request",
        ],
    ),
    (
        "stile_core",
        "broker/core/src",
        &[
            "fuzz",
            "clock",
            "critical",
            "principal",
            "trust",
            "identity",
            "token",
            "package",
            "search",
            "grants",
            "service_token",
            "refused_exchange",
            "usage",
            "version_event",
            "webhook",
            "audit",
        ],
    ),
    (
        "stile_metadata",
        "broker/metadata/src",
        &[
            "limits",
            "model",
            "notes",
            "names",
            "declarations",
            "cost",
            "hcl",
            "json",
            "assemble",
            "archive",
            "registry_shape",
            "description",
            "fuzz",
        ],
    ),
    (
        "stile_store",
        "broker/store/src",
        &[
            "deadlines",
            "error",
            "blocking",
            "calls",
            "files",
            "answers",
            "grant_changes",
            "outgoing",
            "package_fault",
            "provider_answers",
            "repaired",
            "service_token_answers",
            "trust_answers",
            "retry",
            "aws",
            "event_bus",
            "records",
            "blobs",
            "keys",
            "store",
        ],
    ),
    (
        "terraform_credentials_stile",
        "helper/src",
        &[
            "clock",
            "message",
            "private_file",
            "proof",
            "bearer",
            "config",
            "call",
            "shell",
            "credentials",
            "id_token",
            "settings",
            "cache",
            "iam_exchange",
            "exchange",
            "jwt_exchange",
            "token",
            "terminal",
            "failure_log",
            "notice",
            "installed",
            "lock_file",
            "cli",
            "verb",
            "terraform",
            "stored",
            "whoami",
            "check",
            "install",
            "get_token",
            "show",
            "protocol",
            "doctor",
        ],
    ),
    (
        "stile_broker",
        "broker/src",
        &[
            "error_chain",
            "per_key_limit",
            "client_source",
            "shared_failure_mutex",
            "checked_resolver",
            "metrics",
            "authn",
            "tokens",
            "recent_cache",
            "principal_cache",
            "service_token_cache",
            "search_cache",
            "trust_cache",
            "webhook_client",
            "config",
            "audit",
            "app",
            "boot",
            "show",
            "http",
            "fuzz",
            "check",
        ],
    ),
    (
        "stile_admin",
        "admin/src",
        &[
            "expiry",
            "aws_error",
            "error",
            "output",
            "progress",
            "aws_session",
            "target",
            "claims",
            "cli",
            "grant_file",
            "api",
            "paged",
            "pack",
            "fetch",
            "git",
            "source",
            "upload",
            "direct_upload",
            "provider",
            "published",
            "export",
            "commands",
        ],
    ),
];

/// The packages of the project that each package can import.
const BELOW: [(&str, &[&str]); 8] = [
    ("stile_settings", &[]),
    ("stile_protocol", &[]),
    ("stile_core", &["stile_protocol"]),
    ("stile_metadata", &["stile_protocol", "stile_core"]),
    ("stile_store", &["stile_protocol", "stile_core", "stile_settings"]),
    ("terraform_credentials_stile", &["stile_protocol", "stile_settings"]),
    (
        "stile_broker",
        &["stile_protocol", "stile_core", "stile_metadata", "stile_store", "stile_settings"],
    ),
    (
        "stile_admin",
        &[
            "stile_protocol",
            "stile_core",
            "stile_store",
            "stile_settings",
            "terraform_credentials_stile",
        ],
    ),
];

/// One file of a package, by its module path: `a::b` is `["a", "b"]`, and the root is empty.
struct Module {
    path: Vec<String>,
    /// The paths in its `use` items, each from the root of the package.
    imports: BTreeSet<Vec<String>>,
    /// Its re-exports (`pub use`): a name, and the path of its definition.
    hands_on: BTreeMap<String, Vec<String>>,
    /// The other packages of the project that it uses.
    packages: BTreeSet<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the module path of a file. `main.rs` is its own program, which imports the library by
/// name.
fn module_path(file: &Path, folder: &Path) -> Vec<String> {
    let relative = file.strip_prefix(folder).unwrap().with_extension("");
    let mut path: Vec<String> =
        relative.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
    if path.last().is_some_and(|last| last == "mod")
        || path.len() == 1 && ["lib", "main"].contains(&path[0].as_str())
    {
        path.pop();
    }
    path
}

/// Returns the code without comments, without items that exist only for tests, and without the
/// tests at its end.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut lines = Vec::new();
    let mut skip = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("//") {
            continue;
        }
        if trimmed.starts_with("#[cfg(test)]") || trimmed.starts_with("#[cfg(any(test") {
            skip = true;
            continue;
        }
        if !std::mem::take(&mut skip) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// Returns every path in `use` items, with expanded braces. The second list has
/// the paths of re-exports (`pub use`).
fn uses(code: &str) -> (Vec<Vec<String>>, Vec<Vec<String>>) {
    let (mut imported, mut handed_on) = (Vec::new(), Vec::new());
    for (at, _) in code.match_indices("use ") {
        let found = match code[..at].rsplit('\n').next().unwrap_or_default().trim() {
            "" => &mut imported,
            "pub" | "pub(crate)" | "pub(super)" => &mut handed_on,
            _ => continue,
        };
        let Some(item) = code[at + 4..].split(';').next() else { continue };
        open_braces(item.trim(), &mut Vec::new(), found);
    }
    (imported, handed_on)
}

fn open_braces(item: &str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    let depth = prefix.len();
    let mut rest = item;
    while let Some((part, after)) = rest.split_once("::") {
        if part.contains(['{', ',']) {
            break;
        }
        prefix.push(part.trim().to_owned());
        rest = after;
    }
    if let Some(inner) = rest.trim().strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let (mut level, mut start) = (0, 0);
        for (at, letter) in inner.char_indices() {
            match letter {
                '{' => level += 1,
                '}' => level -= 1,
                ',' if level == 0 => {
                    open_braces(inner[start..at].trim(), prefix, found);
                    start = at + 1;
                }
                _ => {}
            }
        }
        if !inner[start..].trim().is_empty() {
            open_braces(inner[start..].trim(), prefix, found);
        }
    } else {
        let name = rest.split(" as ").next().unwrap_or_default().trim();
        let mut path = prefix.clone();
        if name != "self" {
            path.push(name.to_owned());
        }
        found.push(path);
    }
    prefix.truncate(depth);
}

fn modules(package: &str, folder: &str) -> Vec<Module> {
    let folder = root().join(folder);
    let mut found = Vec::new();
    files(&folder, &mut found);
    let mut modules: BTreeMap<Vec<String>, Module> = BTreeMap::new();
    for file in found {
        let path = module_path(&file, &folder);
        let text = fs::read_to_string(&file).unwrap();
        let (imported, handed_on) = uses(&code(&text));
        let mut packages = BTreeSet::new();
        let mut from_root = |used: &[String]| {
            let (first, rest) = used.split_first().unwrap();
            match first.as_str() {
                "crate" => Some(rest.to_vec()),
                "self" => Some([&path[..], rest].concat()),
                "super" => {
                    let ups = 1 + rest.iter().take_while(|part| *part == "super").count();
                    let base = &path[..path.len().saturating_sub(ups)];
                    Some([base, &rest[ups - 1..]].concat())
                }
                // A program imports its library by name.
                name if name == package => Some(rest.to_vec()),
                name if PACKAGES.iter().any(|(package, ..)| *package == name) => {
                    packages.insert(name.to_owned());
                    None
                }
                // A child of this module, or a library.
                _ => Some([&path[..], used].concat()),
            }
        };
        let imports: Vec<_> = imported.iter().filter_map(|used| from_root(used)).collect();
        let hands_on: Vec<_> = handed_on
            .iter()
            .filter_map(|used| Some((used.last()?.clone(), from_root(used)?)))
            .collect();
        let module = modules.entry(path.clone()).or_insert_with(|| Module {
            path,
            imports: BTreeSet::new(),
            hands_on: BTreeMap::new(),
            packages: BTreeSet::new(),
        });
        module.imports.extend(imports);
        module.hands_on.extend(hands_on);
        module.packages.extend(packages);
    }
    modules.into_values().collect()
}

/// Finds the module that a path leads to: the longest one that is a file, or the origin of a
/// re-export.
fn target<'a>(modules: &'a [Module], path: &[String]) -> Option<&'a Module> {
    let found = (0..=path.len())
        .rev()
        .find_map(|length| modules.iter().find(|module| module.path == path[..length]))?;
    let name = path.get(found.path.len());
    match name.and_then(|name| found.hands_on.get(name)) {
        Some(from) if from != path => target(modules, from),
        _ => Some(found),
    }
}

/// Returns the modules of the same package that a module imports. No module has the name of a
/// library.
fn edges<'a>(modules: &'a [Module], module: &'a Module) -> BTreeSet<&'a [String]> {
    let inside = |path: &&Vec<String>| {
        let top = path.first().map(String::as_str).unwrap_or_default();
        modules.iter().any(|module| module.path.first().is_some_and(|first| first == top))
    };
    let to = module.imports.iter().filter(inside).filter_map(|path| target(modules, path));
    to.map(|to| to.path.as_slice()).filter(|to| *to != module.path).collect()
}

#[test]
fn packages_import_only_those_below_them() {
    for (package, folder, _) in PACKAGES {
        let below = BELOW.iter().find(|(name, _)| *name == package).unwrap().1;
        for module in modules(package, folder) {
            for named in &module.packages {
                let path = module.path.join("::");
                assert!(below.contains(&named.as_str()), "{package}: `{path}` imports {named}");
            }
        }
    }
}

#[test]
fn modules_import_only_those_before_them() {
    let mut upward = Vec::new();
    for (package, folder, order) in PACKAGES {
        let modules = modules(package, folder);
        let place = |path: &[String]| {
            let top = path.first()?;
            let at = order.iter().position(|name| name == top);
            Some(at.unwrap_or_else(|| panic!("{package}: `{top}` is not in the list of modules")))
        };
        for module in &modules {
            for to in edges(&modules, module) {
                if let (Some(from), Some(to_place)) = (place(&module.path), place(to))
                    && to_place > from
                {
                    upward.push(format!(
                        "{package}: {} -> {}",
                        module.path.join("::"),
                        to.join("::")
                    ));
                }
            }
        }
    }
    assert_eq!(upward, [""; 0], "imports against the order");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut circles = Vec::new();
    for (package, folder, _) in PACKAGES {
        let modules = modules(package, folder);
        let reach: BTreeMap<&[String], BTreeSet<&[String]>> = modules
            .iter()
            .map(|module| (module.path.as_slice(), reachable(&modules, module)))
            .collect();
        for (from, all) in &reach {
            for to in all.iter().filter(|to| *to > from && reach[*to].contains(from)) {
                circles.push(format!("{package}: {} <-> {}", from.join("::"), to.join("::")));
            }
        }
    }
    assert_eq!(circles, [""; 0], "files that import each other");
}

/// Returns every module that a module reaches, directly or through other modules.
fn reachable<'a>(modules: &'a [Module], from: &'a Module) -> BTreeSet<&'a [String]> {
    let mut found = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for to in edges(modules, module) {
            if found.insert(to) {
                next.extend(modules.iter().find(|module| module.path == to));
            }
        }
    }
    found
}

#[test]
fn an_import_is_found_however_it_is_written() {
    let code = "use crate::a::{b::C, d::{self, E}, F};\nuse super::g;\npub use h::I;\nuse std::fmt::Write as _;\n";
    let joined =
        |paths: Vec<Vec<String>>| paths.iter().map(|path| path.join("::")).collect::<Vec<_>>();
    let (imported, handed_on) = uses(code);
    let expected = [
        "crate::a::b::C",
        "crate::a::d",
        "crate::a::d::E",
        "crate::a::F",
        "super::g",
        "std::fmt::Write",
    ];
    assert_eq!(joined(imported), expected);
    assert_eq!(joined(handed_on), ["h::I"]);
}
