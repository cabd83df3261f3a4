//! Where Terraform and OpenTofu look, and what their CLI configuration says; nothing is changed here.

use std::path::{Path, PathBuf};

use stile_protocol::audience::Audience;
use terraform_credentials_stile::config::Environment;

/// The name after `terraform-credentials-`, by which the CLI configuration calls the program.
pub(crate) const HELPER: &str = "stile";

/// The program's file name in a plugin folder.
pub(crate) fn program_name() -> String {
    format!("terraform-credentials-{HELPER}{}", std::env::consts::EXE_SUFFIX)
}

/// The CLI configuration file that Terraform reads.
pub(crate) fn rc_file(environment: &Environment) -> Option<PathBuf> {
    environment.terraform_rc.clone().or_else(|| usual_rc_file(environment))
}

/// The CLI configuration file where no variable names one.
pub(crate) fn usual_rc_file(environment: &Environment) -> Option<PathBuf> {
    if cfg!(windows) {
        return Some(environment.app_data.as_ref()?.join("terraform.rc"));
    }
    Some(environment.home.as_ref()?.join(".terraformrc"))
}

/// The file that OpenTofu reads in place of Terraform's, if there is one.
pub(crate) fn tofu_rc_file(environment: &Environment) -> Option<PathBuf> {
    if environment.terraform_rc.is_some() {
        return None;
    }
    Some(environment.home.as_ref()?.join(".tofurc")).filter(|path| path.exists())
}

/// Terraform's own folder, and OpenTofu's if it has been made.
pub(crate) fn plugin_folders(environment: &Environment) -> Vec<PathBuf> {
    let base = if cfg!(windows) {
        environment.app_data.as_ref().map(|folder| folder.join("terraform.d"))
    } else {
        environment.home.as_ref().map(|folder| folder.join(".terraform.d"))
    };
    let tofu = environment.data_folder.as_ref().map(|folder| folder.join("opentofu")).filter(|folder| folder.is_dir());
    [base, tofu].into_iter().flatten().map(|folder| folder.join("plugins")).collect()
}

/// The program in a plugin folder, or in its folder for this platform.
pub(crate) fn program_in(folder: &Path) -> Option<PathBuf> {
    let os = if cfg!(target_os = "macos") { "darwin" } else { std::env::consts::OS };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let places = [folder.to_owned(), folder.join(format!("{os}_{arch}"))];
    places.into_iter().map(|folder| folder.join(program_name())).find(|path| path.exists())
}

/// Files beside the CLI configuration that Terraform reads as well, as long as no variable names another file.
pub(crate) fn other_files(environment: &Environment) -> Vec<PathBuf> {
    let Some(folder) = environment.home.as_ref().map(|home| home.join(".terraform.d")) else { return Vec::new() };
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let named = |path: &PathBuf| path.to_str().is_some_and(|path| path.ends_with(".tfrc") || path.ends_with(".tfrc.json"));
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    files.sort();
    files
}

/// The `TF_TOKEN_…` variable that is set for a host, for which no helper is asked then.
///
/// After the prefix `__` is a dash and `_` a dot; dashes, dots and a port may stand there themselves.
pub(crate) fn token_variable<'a>(environment: &'a Environment, host: &Audience) -> Option<&'a str> {
    let means = |name: &str| Audience::parse(&name.strip_prefix("TF_TOKEN_")?.replace("__", "-").replace('_', ".")).ok();
    environment.token_variables.iter().map(String::as_str).find(|name| means(name).as_ref() == Some(host))
}

/// What a CLI configuration says about credentials.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// The names of the helpers; Terraform wants one at most.
    pub(crate) helpers: Vec<String>,
    /// The hosts that have a `credentials` block, for which no helper is asked.
    pub(crate) hosts: Vec<String>,
}

impl Said {
    /// Reads HCL, or JSON where the file's name says so.
    pub(crate) fn read(text: &str, path: &Path) -> Result<Self, String> {
        if path.extension().is_some_and(|extension| extension == "json") { Self::read_json(text) } else { Self::read_hcl(text) }
    }

    /// Whether a `credentials` block takes the host away from every helper.
    pub(crate) fn shadows(&self, host: &Audience) -> bool {
        self.hosts.iter().any(|said| Audience::parse(said).as_ref() == Ok(host))
    }

    fn read_hcl(text: &str) -> Result<Self, String> {
        let body: hcl_edit::structure::Body = text
            .parse()
            .map_err(|error: hcl_edit::parser::Error| format!("it cannot be read as HCL at line {}", error.location().line()))?;
        let mut said = Self::default();
        for block in body.blocks() {
            let label = block.labels.first().map(|label| label.as_str().to_owned());
            match (block.ident.as_str(), label) {
                ("credentials_helper", label) => said.helpers.push(label.unwrap_or_default()),
                ("credentials", Some(host)) => said.hosts.push(host),
                _ => {}
            }
        }
        Ok(said)
    }

    fn read_json(text: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| "it cannot be read as JSON".to_owned())?;
        let keys = |name: &str| value.get(name).and_then(|it| it.as_object()).map(|it| it.keys().cloned().collect()).unwrap_or_default();
        Ok(Self { helpers: keys("credentials_helper"), hosts: keys("credentials") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_hcl_is_not_guessed_at() {
        assert_eq!(Said::read("a = 1\nb = = 2\n", Path::new("rc")).unwrap_err(), "it cannot be read as HCL at line 2");
        assert!(Said::read("{", Path::new("x.tfrc.json")).is_err());
    }

    #[test]
    fn a_variable_is_known_in_each_of_its_spellings() {
        for (name, host, found) in [
            ("TF_TOKEN_registry_example_com", "registry.example.com", true),
            ("TF_TOKEN_my__registry_example_com", "my-registry.example.com", true),
            ("TF_TOKEN_my-registry.example.com", "my-registry.example.com", true),
            ("TF_TOKEN_xn____caf__dma_fr", "café.fr", true),
            ("TF_TOKEN_127_0_0_1:8443", "127.0.0.1:8443", true),
            ("TF_TOKEN_127_0_0_1", "127.0.0.1:8443", false),
            ("TF_TOKEN_", "registry.example.com", false),
        ] {
            let environment = Environment { token_variables: vec![name.to_owned()], ..Environment::default() };
            assert_eq!(token_variable(&environment, &Audience::parse(host).unwrap()).is_some(), found, "{name}");
        }
    }

    #[test]
    fn helpers_and_hosts_are_found_wherever_they_stand() {
        let hcl = "# credentials_helper \"no\" {}\nplugin_cache_dir = \"x\"\ncredentials_helper \"stile\" { args = [] }\n\
                   credentials \"Registry.example.com\" {\n  token = \"x\"\n}\nhost \"a.example\" {\n  services = {}\n}\n";
        let said = Said::read(hcl, Path::new(".terraformrc")).unwrap();
        assert_eq!(said, Said { helpers: vec!["stile".to_owned()], hosts: vec!["Registry.example.com".to_owned()] });
        assert!(said.shadows(&Audience::parse("registry.example.com").unwrap()));
        assert!(!said.shadows(&Audience::parse("a.example").unwrap()));
        let json = r#"{"credentials":{"app.terraform.io":{"token":"x"}}}"#;
        let said = Said::read(json, Path::new("credentials.tfrc.json")).unwrap();
        assert_eq!(said.hosts, ["app.terraform.io"]);
    }
}
