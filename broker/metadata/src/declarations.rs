//! What the blocks of a module declare, in both syntaxes, and how files are put together.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::limits::Deadline;
use crate::model::{Resource, Validation};
use crate::notes::Notes;

/// The attributes of a `variable` block that are read.
pub(crate) const OF_VARIABLE: &[&str] =
    &["type", "default", "description", "sensitive", "nullable", "ephemeral", "deprecated"];

/// The attributes of an `output` block that are read.
pub(crate) const OF_OUTPUT: &[&str] = &["description", "sensitive", "ephemeral", "deprecated"];

/// The attributes of a `module` block, and of an entry of `required_providers`, that are read.
pub(crate) const OF_DEPENDENCY: &[&str] = &["source", "version"];

/// The attributes that are expressions. All others are constants, of which the value is read.
const EXPRESSIONS: &[&str] = &["default", "condition"];

/// Returns whether the source text of an attribute is read, and not its value.
pub(crate) fn is_expression(attribute: &str) -> bool {
    EXPRESSIONS.contains(&attribute)
}

/// What one block, or an entry of `required_providers`, says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// The attributes: values of constants, and the source text of all other expressions.
    pub(crate) values: BTreeMap<&'static str, String>,
    pub(crate) validations: Vec<Validation>,
}

impl Declared {
    /// Returns whether an attribute is `true`.
    pub(crate) fn is_true(&self, attribute: &str) -> bool {
        self.values.get(attribute).is_some_and(|value| value == "true")
    }
}

/// Blocks by their name.
pub(crate) type ByName = BTreeMap<String, Declared>;

/// The blocks of one module.
#[derive(Debug, Default)]
pub(crate) struct Declarations {
    pub(crate) variables: ByName,
    pub(crate) outputs: ByName,
    pub(crate) module_calls: ByName,
    pub(crate) providers: ByName,
    /// The resources of each mode: `resource`, `data` and `ephemeral`.
    pub(crate) resources: BTreeMap<&'static str, Vec<Resource>>,
    pub(crate) required_versions: Vec<String>,
}

/// The number of blocks so far in all files, and its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockCount {
    pub(crate) read: usize,
    pub(crate) limit: usize,
}

/// What the reading of a file needs in addition to the file.
pub(crate) struct Context<'a> {
    pub(crate) notes: &'a mut Notes,
    /// The path of the file.
    pub(crate) file: &'a str,
    pub(crate) blocks: &'a mut BlockCount,
    pub(crate) deadline: Deadline,
}

impl Context<'_> {
    pub(crate) fn warn(&mut self, message: &str) {
        self.notes.warn(Some(self.file), message);
    }

    /// Counts one block, and returns whether it can still be read.
    pub(crate) fn block(&mut self) -> bool {
        let BlockCount { read, limit } = *self.blocks;
        if read == limit {
            self.notes.warn(None, &format!("only the first {limit} blocks were read"));
        }
        self.blocks.read = read.saturating_add(1);
        read < limit
    }
}

/// A block with the kind and number of its labels as the language requires.
pub(crate) enum Header {
    Variable(String),
    Output(String),
    ModuleCall(String),
    Resource(&'static str, Resource),
    Terraform,
}

impl Header {
    /// Returns the number of labels that a block of this type has, or `None` if it is not read.
    pub(crate) fn labels(block: &str) -> Option<usize> {
        match block {
            "terraform" => Some(0),
            "variable" | "output" | "module" => Some(1),
            "resource" | "data" | "ephemeral" => Some(2),
            _ => None,
        }
    }

    /// Returns the header with this type and these labels, if it is valid.
    pub(crate) fn new(block: &str, labels: &[&str]) -> Option<Self> {
        let resource = |mode, resource_type: &str, name: &str| {
            let (resource_type, name) = (resource_type.to_owned(), name.to_owned());
            Self::Resource(mode, Resource { resource_type, name })
        };
        Some(match (block, labels) {
            ("terraform", []) => Self::Terraform,
            ("variable", [name]) => Self::Variable((*name).to_owned()),
            ("output", [name]) => Self::Output((*name).to_owned()),
            ("module", [name]) => Self::ModuleCall((*name).to_owned()),
            ("resource", [resource_type, name]) => resource("resource", resource_type, name),
            ("data", [resource_type, name]) => resource("data", resource_type, name),
            ("ephemeral", [resource_type, name]) => resource("ephemeral", resource_type, name),
            _ => return None,
        })
    }
}

impl Declarations {
    /// Adds a block that was read from a file. The first of two with one name counts.
    pub(crate) fn insert(&mut self, header: Header, declared: Declared, context: &mut Context<'_>) {
        let (kind, blocks, name) = match header {
            Header::Variable(name) => ("variable", &mut self.variables, name),
            Header::Output(name) => ("output", &mut self.outputs, name),
            Header::ModuleCall(name) => ("module", &mut self.module_calls, name),
            Header::Resource(mode, resource) => {
                self.resources.entry(mode).or_default().push(resource);
                return;
            }
            Header::Terraform => return,
        };
        insert(kind, blocks, name, declared, context);
    }

    /// Adds an entry of `required_providers`.
    pub(crate) fn insert_provider(
        &mut self,
        name: String,
        declared: Declared,
        context: &mut Context<'_>,
    ) {
        insert("provider", &mut self.providers, name, declared, context);
    }

    /// Adds the blocks of another file of the same module.
    pub(crate) fn append(&mut self, file: Self, context: &mut Context<'_>) {
        for (kind, into, from) in [
            ("variable", &mut self.variables, file.variables),
            ("output", &mut self.outputs, file.outputs),
            ("module", &mut self.module_calls, file.module_calls),
            ("provider", &mut self.providers, file.providers),
        ] {
            for (name, declared) in from {
                insert(kind, into, name, declared, context);
            }
        }
        for (mode, resources) in file.resources {
            self.resources.entry(mode).or_default().extend(resources);
        }
        self.required_versions.extend(file.required_versions);
    }

    /// Changes the blocks as an override file says.
    ///
    /// Like Terraform, it replaces single attributes of blocks, whole entries of
    /// `required_providers`, and the required version.
    pub(crate) fn override_with(&mut self, file: Self, context: &mut Context<'_>) {
        for (kind, into, from) in [
            ("variable", &mut self.variables, file.variables),
            ("output", &mut self.outputs, file.outputs),
            ("module", &mut self.module_calls, file.module_calls),
        ] {
            for (name, declared) in from {
                match into.get_mut(&name) {
                    Some(found) => found.values.extend(declared.values),
                    None => context
                        .warn(&format!("changes the {kind} `{name}`, which no other file has")),
                }
            }
        }
        self.providers.extend(file.providers);
        if !file.required_versions.is_empty() {
            self.required_versions = file.required_versions;
        }
    }
}

fn insert(
    kind: &str,
    blocks: &mut ByName,
    name: String,
    declared: Declared,
    context: &mut Context<'_>,
) {
    match blocks.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(declared);
        }
        Entry::Occupied(entry) => {
            let message =
                format!("has the {kind} `{}` a second time; the first counts", entry.key());
            context.warn(&message);
        }
    }
}
