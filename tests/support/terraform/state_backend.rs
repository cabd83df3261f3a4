//! Creates the state backends of the module's example in an emulator, and projects that use them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::aws::moto::Moto;
use crate::aws::proxy::AwsProxy;
use crate::process::home::CommandOutput;
use crate::process::programs::workspace;
use crate::skipped::{skipped, tool};
use crate::terraform::Terraform;
use crate::terraform::provider::{emulated, terraform_on};
use crate::terraform::running_provider::RunningProvider;

/// The configuration of a project. It needs only Terraform's built-in provider.
const PROJECT: &str = "variable \"word\" {\n  type = string\n}\n\nresource \"terraform_data\" \"it\" {\n  input = var.word\n}\n";

/// A copy of the module and its examples in a home of Terraform.
#[derive(Debug)]
pub struct Module {
    terraform: Terraform,
    folder: PathBuf,
}

impl Module {
    /// Copies the module for use with that emulator.
    ///
    /// Without `terraform` or its provider, it records a skip and returns `None`.
    pub fn copied(endpoint: &str, shows: &str) -> Option<Self> {
        let terraform = terraform_on(endpoint, shows)?;
        let folder = terraform.home.path().join("state-backend");
        copy(&source(), &folder);
        Some(Self { terraform, folder })
    }

    /// Runs a command in a folder of the module, such as `examples/minimal`. An empty name is the
    /// module itself.
    pub async fn run(&self, folder: &str, arguments: &[&str]) -> CommandOutput {
        let place = format!("-chdir={}", self.folder.join(folder).display());
        self.terraform.run(&[&[place.as_str()], arguments].concat()).await
    }

    /// Starts the provider that `init` of the module installed. All later commands use it.
    pub async fn keep_provider(&mut self) -> RunningProvider {
        self.terraform.keep_provider(&self.folder).await
    }

    /// Writes a file into the module.
    pub fn write(&self, file: &str, text: &str) {
        let file = self.folder.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
}

/// Returns the folder of the module's sources.
pub fn source() -> PathBuf {
    workspace().join("infra/state-backend")
}

/// Two backends in their own emulator.
#[derive(Debug)]
pub struct Backends {
    moto: Moto,
    module: Module,
    outputs: Value,
    modules: Vec<Value>,
}

impl Backends {
    /// The example that creates the backends.
    const EXAMPLE: &str = "examples/for-each";

    /// Applies the example. If a tool is missing, it records a skip and returns `None`.
    pub async fn apply(shows: &str) -> Option<Self> {
        let Some(moto) = Moto::start() else {
            skipped("python3", shows);
            return None;
        };
        let module = Module::copied(&moto.endpoint(), shows)?;
        let mut backends = Self { moto, module, outputs: Value::Null, modules: Vec::new() };
        backends.done(&["init", "-input=false", "-no-color"]).await;
        backends
            .done(&[
                "apply",
                "-input=false",
                "-no-color",
                "-auto-approve",
                "-var=force_destroy=true",
            ])
            .await;
        let shown: Value = serde_json::from_str(&backends.done(&["show", "-json"]).await).unwrap();
        backends.outputs = shown["values"]["outputs"]["state"]["value"].clone();
        backends.modules =
            shown["values"]["root_module"]["child_modules"].as_array().unwrap().clone();
        Some(backends)
    }

    /// Returns the URL of the emulator.
    pub fn endpoint(&self) -> String {
        self.moto.endpoint()
    }

    /// Returns the module that created the backends.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Plans again. The exit code is 2 if the plan has changes.
    pub async fn plan(&self) -> CommandOutput {
        self.module
            .run(
                Self::EXAMPLE,
                &[
                    "plan",
                    "-input=false",
                    "-no-color",
                    "-detailed-exitcode",
                    "-var=force_destroy=true",
                ],
            )
            .await
    }

    /// Destroys everything.
    pub async fn destroy(&self) {
        self.done(&[
            "destroy",
            "-input=false",
            "-no-color",
            "-auto-approve",
            "-var=force_destroy=true",
        ])
        .await;
        assert_eq!(self.done(&["state", "list"]).await, "");
    }

    /// Returns an output of the module of that namespace.
    pub fn output(&self, namespace: &str, name: &str) -> &Value {
        let value = &self.outputs[namespace][name];
        assert!(!value.is_null(), "`{namespace}` has no output `{name}`");
        value
    }

    /// Returns an output of the module of that namespace as text.
    pub fn text(&self, namespace: &str, name: &str) -> &str {
        self.output(namespace, name).as_str().unwrap()
    }

    /// Returns the policy of a resource or a data source of that namespace.
    ///
    /// `project` selects one project, if each project has a policy.
    pub fn policy(
        &self,
        namespace: &str,
        kind: &str,
        attribute: &str,
        project: Option<&str>,
    ) -> Value {
        let module = self
            .modules
            .iter()
            .find(|module| module["address"] == format!("module.state[{namespace:?}]").as_str())
            .unwrap();
        let resources = module["resources"].as_array().unwrap().iter();
        let mut fitting = resources
            .filter(|resource| resource["type"] == kind && resource["index"].as_str() == project);
        let found = fitting
            .next()
            .unwrap_or_else(|| panic!("`{namespace}` has no `{kind}` of {project:?}"));
        serde_json::from_str(found["values"][attribute].as_str().unwrap()).unwrap()
    }

    async fn done(&self, arguments: &[&str]) -> String {
        let ran = self.module.run(Self::EXAMPLE, arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}\n{}", ran.stderr, ran.stdout);
        ran.stdout
    }
}

/// A project with its state in a backend.
#[derive(Debug)]
pub struct Project(Terraform);

impl Project {
    /// Creates a project with this text as its `backend.tf`. It reaches AWS through the proxy.
    pub fn new(proxy: &AwsProxy, backend: &str) -> Self {
        Self::run_by(&tool("terraform").unwrap(), proxy, backend)
    }

    /// Creates a project that runs that Terraform program.
    pub fn run_by(program: &Path, proxy: &AwsProxy, backend: &str) -> Self {
        let terraform = emulated(program, &proxy.endpoint());
        terraform.write_main(PROJECT);
        std::fs::write(terraform.configuration().join("backend.tf"), backend).unwrap();
        Self(terraform)
    }

    /// Writes a file to its configuration folder.
    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.configuration().join(file), text).unwrap();
    }

    /// Runs a command.
    pub async fn run(&self, arguments: &[&str]) -> CommandOutput {
        self.0.run(arguments).await
    }

    /// Applies the configuration, which writes a word to the state.
    pub async fn apply(&self, word: &str) -> CommandOutput {
        self.run(&[
            "apply",
            "-input=false",
            "-no-color",
            "-auto-approve",
            &format!("-var=word={word}"),
        ])
        .await
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub async fn done(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments).await;
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.words());
        ran.stdout
    }
}

/// Copies a folder without the files that Terraform creates.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name
            .to_str()
            .is_some_and(|name| name.starts_with(".terraform") || name.contains(".tfstate"))
        {
            continue;
        }
        let place = to.join(&name);
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}
