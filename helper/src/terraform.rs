//! Finds and parses the CLI configuration of Terraform and OpenTofu. It changes nothing.

use std::path::{Path, PathBuf};

use hcl_edit::expr::{Expression, ObjectKey};
use hcl_edit::structure::{Body, Structure};
use serde_json::Value;
use stile_protocol::audience::Audience;
use terraform_credentials_stile::config::Environment;

use crate::cli::Cli;

/// The helper's name in the CLI configuration: the part after `terraform-credentials-`.
pub(crate) const HELPER: &str = "stile";

/// Returns the program's file name in a plugin folder.
pub(crate) fn program_name() -> String {
    format!("terraform-credentials-{HELPER}{}", std::env::consts::EXE_SUFFIX)
}

/// Returns the CLI configuration file to use: Terraform's, or OpenTofu's if only that one exists.
pub(crate) fn rc_file(environment: &Environment) -> Option<PathBuf> {
    let named = environment.terraform_rc.clone();
    named.or_else(|| tofu_xdg_file(environment)).or_else(|| usual_rc_file(environment))
}

/// Returns `$XDG_CONFIG_HOME/opentofu/tofurc`, if it exists and OpenTofu reads it.
///
/// OpenTofu ignores this file as soon as `~/.tofurc` or `~/.terraformrc` exists.
pub(crate) fn tofu_xdg_file(environment: &Environment) -> Option<PathBuf> {
    let home = environment.home.as_ref()?;
    let hidden = [".tofurc", ".terraformrc"].iter().any(|name| home.join(name).exists());
    if cfg!(windows) || environment.terraform_rc.is_some() || hidden {
        return None;
    }
    let file = environment.xdg_config_home.as_ref()?.join("opentofu").join("tofurc");
    Some(file).filter(|file| file.exists())
}

/// Returns the default CLI configuration file.
pub(crate) fn usual_rc_file(environment: &Environment) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(environment.app_data.as_ref()?.join("terraform.rc"));
    }
    Some(environment.home.as_ref()?.join(".terraformrc"))
}

/// Returns the file that OpenTofu reads instead of Terraform's, if it exists.
pub(crate) fn tofu_rc_file(environment: &Environment) -> Option<PathBuf> {
    if environment.terraform_rc.is_some() {
        return None;
    }
    Some(environment.home.as_ref()?.join(".tofurc")).filter(|path| path.exists())
}

/// Returns Terraform's plugin folder, and OpenTofu's if OpenTofu has a folder.
pub(crate) fn plugin_folders(environment: &Environment) -> Vec<PathBuf> {
    let base = if cfg!(windows) {
        environment.app_data.as_ref().map(|folder| folder.join("terraform.d"))
    } else {
        environment.home.as_ref().map(|folder| folder.join(".terraform.d"))
    };
    let tofu = environment
        .data_folder
        .as_ref()
        .map(|folder| folder.join("opentofu"))
        .filter(|folder| folder.is_dir());
    [base, tofu].into_iter().flatten().map(|folder| folder.join("plugins")).collect()
}

/// Finds the program in a plugin folder or in its subfolder for this platform.
pub(crate) fn program_in(folder: &Path) -> Option<PathBuf> {
    search_folders(folder)
        .into_iter()
        .map(|folder| folder.join(program_name()))
        .find(|path| path.exists())
}

/// Tells whether Terraform or OpenTofu searches a folder for helpers.
pub(crate) fn is_searched(folder: &Path, environment: &Environment) -> bool {
    let absolute =
        |folder: &Path| std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    plugin_folders(environment)
        .iter()
        .flat_map(|plugins| search_folders(plugins))
        .any(|place| absolute(&place) == absolute(folder))
}

fn search_folders(folder: &Path) -> [PathBuf; 2] {
    let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    [folder.to_owned(), folder.join(format!("{os}_{arch}"))]
}

/// Returns the additional files that Terraform reads if no variable names another file.
pub(crate) fn extra_config_files(environment: &Environment) -> Vec<PathBuf> {
    let Some(folder) = environment.home.as_ref().map(|home| home.join(".terraform.d")) else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let named = |path: &PathBuf| {
        path.to_str().is_some_and(|path| path.ends_with(".tfrc") || path.ends_with(".tfrc.json"))
    };
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    files.sort();
    files
}

/// Returns the `TF_TOKEN_…` variable that is set for a host. It makes Terraform ignore the helper.
///
/// In its name `__` means a dash and `_` a dot. Dashes, dots and a port may also appear directly.
pub(crate) fn token_variable<'a>(environment: &'a Environment, host: &Audience) -> Option<&'a str> {
    let means = |name: &str| {
        Audience::parse(&name.strip_prefix("TF_TOKEN_")?.replace("__", "-").replace('_', ".")).ok()
    };
    environment
        .token_variables
        .iter()
        .map(String::as_str)
        .find(|name| means(name).as_ref() == Some(host))
}

/// Finds the block that configures this helper, and the file that contains it.
pub(crate) fn own_block(environment: &Environment) -> Option<(PathBuf, HelperBlock)> {
    files(environment).into_iter().find_map(|path| {
        let config = CliConfig::read(&std::fs::read_to_string(&path).ok()?, &path).ok()?;
        Some((path, config.own_block()?.clone()))
    })
}

/// Returns every CLI configuration file that Terraform reads.
pub(crate) fn files(environment: &Environment) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        rc_file(environment).into_iter().filter(|path| path.exists()).collect();
    if environment.terraform_rc.is_none() {
        files.extend(extra_config_files(environment));
    }
    files
}

/// The settings of a CLI configuration that concern credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct CliConfig {
    /// The `credentials_helper` blocks. Terraform accepts at most one.
    pub(crate) helpers: Vec<HelperBlock>,
    /// The hosts with a `credentials` block. Terraform ignores the helper for them.
    pub(crate) hosts: Vec<String>,
}

/// One `credentials_helper` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelperBlock {
    /// The helper's name. It is empty for a block without a label.
    pub(crate) name: String,
    /// The arguments before the verb, or `None` if they are not a list of strings.
    args: Option<Vec<String>>,
}

impl HelperBlock {
    /// Parses `args` as the program itself does.
    pub(crate) fn flags(&self) -> Result<Cli, String> {
        let problem = || "the `args` of the block are not flags of this program".to_owned();
        Cli::parse_before_verb(self.args.as_ref().ok_or_else(problem)?).ok_or_else(problem)
    }
}

impl CliConfig {
    /// Parses HCL, or JSON if the file's extension is `json`.
    pub(crate) fn read(text: &str, path: &Path) -> Result<Self, String> {
        if path.extension().is_some_and(|extension| extension == "json") {
            Self::read_json(text)
        } else {
            Self::read_hcl(text)
        }
    }

    /// Tells whether a `credentials` block makes Terraform ignore the helper for a host.
    pub(crate) fn overrides_helper(&self, host: &Audience) -> bool {
        self.hosts.iter().any(|label| Audience::parse(label).as_ref() == Ok(host))
    }

    /// Returns the block that configures this helper.
    pub(crate) fn own_block(&self) -> Option<&HelperBlock> {
        self.helpers.iter().find(|helper| helper.name == HELPER)
    }

    /// Parses HCL. To Terraform, `name "label" {…}` and `name = { label = {…} }` mean the same.
    fn read_hcl(text: &str) -> Result<Self, String> {
        let body: Body = text.parse().map_err(|error: hcl_edit::parser::Error| {
            format!("line {} is not valid HCL", error.location().line())
        })?;
        let mut config = Self::default();
        for structure in &body {
            match structure {
                Structure::Attribute(attribute) => {
                    config.add(attribute.key.as_str(), &value(&attribute.value));
                }
                Structure::Block(block) => {
                    let content =
                        block.body.attributes().map(|it| (it.key.to_string(), value(&it.value)));
                    let label = block.labels.first().map_or("", |label| label.as_str());
                    config.add_one(block.ident.as_str(), label, &Value::Object(content.collect()));
                }
            }
        }
        Ok(config)
    }

    fn read_json(text: &str) -> Result<Self, String> {
        let value: Value =
            serde_json::from_str(text).map_err(|_| "it is not valid JSON".to_owned())?;
        let mut config = Self::default();
        value
            .as_object()
            .into_iter()
            .flatten()
            .for_each(|(name, labelled)| config.add(name, labelled));
        Ok(config)
    }

    fn add(&mut self, name: &str, labelled: &Value) {
        match labelled {
            Value::Object(labelled) => {
                labelled.iter().for_each(|(label, content)| self.add_one(name, label, content));
            }
            Value::Array(several) => several.iter().for_each(|labelled| self.add(name, labelled)),
            _ => {}
        }
    }

    fn add_one(&mut self, name: &str, label: &str, content: &Value) {
        let strings =
            |list: &Vec<Value>| list.iter().map(|it| it.as_str().map(str::to_owned)).collect();
        match name {
            "credentials_helper" => {
                let args = content
                    .get("args")
                    .map_or(Some(Vec::new()), |args| args.as_array().and_then(strings));
                self.helpers.push(HelperBlock { name: label.to_owned(), args });
            }
            "credentials" if !label.is_empty() => self.hosts.push(label.to_owned()),
            _ => {}
        }
    }
}

/// Converts strings, lists and objects to JSON. Expressions that need evaluation become null.
fn value(expression: &Expression) -> Value {
    match expression {
        Expression::String(text) => Value::String(text.as_str().to_owned()),
        Expression::Array(list) => list.iter().map(value).collect(),
        Expression::Object(object) => {
            let name = |key: &ObjectKey| match key {
                ObjectKey::Ident(name) => Some(name.as_str().to_owned()),
                ObjectKey::Expression(name) => name.as_str().map(str::to_owned),
            };
            Value::Object(
                object
                    .iter()
                    .filter_map(|(key, it)| Some((name(key)?, value(it.expr()))))
                    .collect(),
            )
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_hcl_or_json_is_an_error() {
        assert_eq!(
            CliConfig::read("a = 1\nb = = 2\n", Path::new("rc")).unwrap_err(),
            "line 2 is not valid HCL"
        );
        assert!(CliConfig::read("{", Path::new("x.tfrc.json")).is_err());
    }

    #[test]
    fn a_token_variable_is_recognised_in_each_spelling() {
        for (name, host, found) in [
            ("TF_TOKEN_registry_example_com", "registry.example.com", true),
            ("TF_TOKEN_my__registry_example_com", "my-registry.example.com", true),
            ("TF_TOKEN_my-registry.example.com", "my-registry.example.com", true),
            ("TF_TOKEN_xn____caf__dma_fr", "café.fr", true),
            ("TF_TOKEN_127_0_0_1:8443", "127.0.0.1:8443", true),
            ("TF_TOKEN_127_0_0_1", "127.0.0.1:8443", false),
            ("TF_TOKEN_", "registry.example.com", false),
        ] {
            let environment =
                Environment { token_variables: vec![name.to_owned()], ..Environment::default() };
            assert_eq!(
                token_variable(&environment, &Audience::parse(host).unwrap()).is_some(),
                found,
                "{name}"
            );
        }
    }

    #[test]
    fn helper_blocks_and_hosts_are_found_in_hcl_and_json() {
        let hcl = "# credentials_helper \"no\" {}\nplugin_cache_dir = \"x\"\ncredentials_helper \"stile\" { args = [] }\n\
                   credentials \"Registry.example.com\" {\n  token = \"x\"\n}\nhost \"a.example\" {\n  services = {}\n}\n";
        let config = CliConfig::read(hcl, Path::new(".terraformrc")).unwrap();
        let helper = HelperBlock { name: "stile".to_owned(), args: Some(Vec::new()) };
        assert_eq!(
            config,
            CliConfig { helpers: vec![helper], hosts: vec!["Registry.example.com".to_owned()] }
        );
        assert!(config.overrides_helper(&Audience::parse("registry.example.com").unwrap()));
        assert!(!config.overrides_helper(&Audience::parse("a.example").unwrap()));
        let json = r#"{"credentials":{"app.terraform.io":{"token":"x"}}}"#;
        let config = CliConfig::read(json, Path::new("credentials.tfrc.json")).unwrap();
        assert_eq!(config.hosts, ["app.terraform.io"]);
    }

    #[test]
    fn an_attribute_means_the_same_as_a_block() {
        let args = "args = [\"--config\", \"x\"]";
        let block =
            format!("credentials_helper \"vault\" {{ {args} }}\ncredentials \"a.example\" {{}}\n");
        let expected = CliConfig::read(&block, Path::new("rc")).unwrap();
        assert_eq!(expected.helpers[0].args.as_deref().unwrap(), ["--config", "x"]);
        for (text, name) in [
            (format!("credentials_helper = {{ vault = {{ {args} }} }}\ncredentials = {{ \"a.example\" = {{}} }}\n"), "rc"),
            (format!("credentials_helper = [{{ \"vault\" = {{ {args} }} }}]\ncredentials = [{{ \"a.example\" = {{}} }}]\n"), "rc"),
            (r#"{"credentials":{"a.example":{}},"credentials_helper":[{"vault":{"args":["--config","x"]}}]}"#.to_owned(), "x.json"),
        ] {
            assert_eq!(CliConfig::read(&text, Path::new(name)).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn arguments_that_are_not_flags_are_an_error() {
        for args in ["\"x\"", "[1]", "[\"get\"]", "[\"--no-such\"]", "[\"--config\"]", "[local.x]"]
        {
            let config = CliConfig::read(
                &format!("credentials_helper \"stile\" {{ args = {args} }}\n"),
                Path::new("rc"),
            )
            .unwrap();
            assert!(config.own_block().unwrap().flags().is_err(), "{args}");
        }
        let config = CliConfig::read(
            "credentials_helper \"stile\" { args = [\"--config=x\", \"--profile\", \"y\"] }\n",
            Path::new("rc"),
        )
        .unwrap();
        let flags = config.own_block().unwrap().flags().unwrap();
        assert_eq!(
            (flags.config.unwrap().to_str(), flags.profile.as_deref()),
            (Some("x"), Some("y"))
        );
    }
}
