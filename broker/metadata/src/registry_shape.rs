//! Renders metadata as the public registry does in its answer about one version of a module.
//!
//! Every key is always there. A text that the module does not have is an empty string, as in the
//! public registry. The keys that only Stile has are `null` then.

use serde_json::{Value, json};

use crate::model::{Input, Metadata, Module, Output, Provider, Resource};

/// The host of the public registry, and the namespace of a provider without a source.
const PUBLIC_HOST: &str = "registry.terraform.io";
const DEFAULT_NAMESPACE: &str = "hashicorp";

/// The parts of the public registry's answer that come from the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryShape {
    /// The value of `root`, an object.
    pub root: Value,
    /// The value of `submodules`, a list of such objects.
    pub submodules: Value,
    /// The value of `examples`, a list of such objects.
    pub examples: Value,
}

impl Metadata {
    /// Returns the metadata in the shape of the public registry. `name` is the name of the module,
    /// the second part of its address.
    pub fn registry_shape(&self, name: &str) -> RegistryShape {
        let all = |modules: &[Module]| {
            let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            modules.iter().map(|it| module(it, &last(&it.path))).collect::<Vec<_>>().into()
        };
        RegistryShape {
            root: module(&self.root, name),
            submodules: all(&self.submodules),
            examples: all(&self.examples),
        }
    }
}

fn text(text: Option<&String>) -> &str {
    text.map_or("", String::as_str)
}

fn list<T>(items: &[T], render: impl Fn(&T) -> Value) -> Value {
    items.iter().map(render).collect::<Vec<_>>().into()
}

fn module(module: &Module, name: &str) -> Value {
    json!({
        "path": module.path,
        "name": name,
        "readme": text(module.readme.as_ref()),
        "empty": is_empty(module),
        "inputs": list(&module.inputs, input),
        "outputs": list(&module.outputs, output),
        "dependencies": list(&module.module_calls, |call| json!({
            "name": call.name,
            "source": text(call.source.as_ref()),
            "version": text(call.version.as_ref()),
        })),
        "provider_dependencies": list(&module.providers, provider),
        "resources": list(&module.resources, resource),
        "data_sources": list(&module.data_sources, resource),
        "ephemeral_resources": list(&module.ephemeral_resources, resource),
        "required_version": module.required_version,
    })
}

/// Returns whether a module has no configuration at all.
fn is_empty(module: &Module) -> bool {
    module.inputs.is_empty()
        && module.outputs.is_empty()
        && module.module_calls.is_empty()
        && module.providers.is_empty()
        && module.resources.is_empty()
        && module.data_sources.is_empty()
        && module.ephemeral_resources.is_empty()
}

fn input(input: &Input) -> Value {
    json!({
        "name": input.name,
        "type": text(input.type_constraint.as_ref()),
        "description": text(input.description.as_ref()),
        "default": text(input.default.as_ref()),
        "required": input.default.is_none(),
        "sensitive": input.sensitive,
        "nullable": input.nullable,
        "ephemeral": input.ephemeral,
        "deprecated": input.deprecated,
        "validations": list(&input.validations, |rule| json!({
            "condition": rule.condition,
            "error_message": text(rule.error_message.as_ref()),
        })),
    })
}

fn output(output: &Output) -> Value {
    json!({
        "name": output.name,
        "description": text(output.description.as_ref()),
        "sensitive": output.sensitive,
        "ephemeral": output.ephemeral,
        "deprecated": output.deprecated,
    })
}

/// Renders a provider. Without a source it is the one that Terraform then uses.
fn provider(provider: &Provider) -> Value {
    let source = provider.source.clone();
    let source = source.unwrap_or_else(|| format!("{DEFAULT_NAMESPACE}/{}", provider.name));
    let short = source.strip_prefix(PUBLIC_HOST).and_then(|rest| rest.strip_prefix('/'));
    let source = short.unwrap_or(&source);
    let namespace = match source.split('/').collect::<Vec<_>>().as_slice() {
        [namespace, _] | [_, namespace, _] => *namespace,
        _ => DEFAULT_NAMESPACE,
    };
    json!({
        "name": provider.name,
        "namespace": namespace,
        "source": source,
        "version": text(provider.version.as_ref()),
    })
}

fn resource(resource: &Resource) -> Value {
    json!({ "name": resource.name, "type": resource.resource_type })
}
