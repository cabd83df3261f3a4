//! What the blocks of a module declare, in both syntaxes, and how files are put together.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use crate::limits::Deadline;
use crate::model::{Resource, Validation};
use crate::notes::Notes;

/// Maximum length of a label of a block, or of the name of a provider, in bytes. JSON can use one
/// label for thousands of blocks.
const MAX_NAME: usize = 1 << 10;

/// What a validation rule costs while the files are read, in bytes, in addition to its texts.
const RULE_BYTES: usize = 200;

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

    /// Returns the bytes of all texts, each as far as the result can have it.
    fn bytes(&self, limit: usize) -> usize {
        let rules = self.validations.iter().flat_map(|rule| {
            [Some(&rule.condition), rule.error_message.as_ref()].into_iter().flatten()
        });
        let texts: usize =
            self.values.values().chain(rules).map(|text| text.len().min(limit)).sum();
        texts + self.validations.len() * RULE_BYTES
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
    pub(crate) resources: BTreeMap<&'static str, BTreeSet<Resource>>,
    pub(crate) required_versions: Vec<String>,
}

/// What was read so far from all files, and its limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadSoFar {
    pub(crate) blocks: usize,
    /// Maximum number of blocks.
    pub(crate) block_limit: usize,
    /// How many bytes of names and texts can still be kept.
    pub(crate) bytes_left: usize,
}

/// What the reading of a file needs in addition to the file.
pub(crate) struct Context<'a> {
    pub(crate) notes: &'a mut Notes,
    /// The path of the file.
    pub(crate) file: &'a str,
    pub(crate) so_far: &'a mut ReadSoFar,
    pub(crate) deadline: Deadline,
    /// Whether the deadline passed in this file.
    pub(crate) is_late: bool,
}

impl Context<'_> {
    pub(crate) fn warn(&mut self, message: &str) {
        self.notes.warn(Some(self.file), message);
    }

    /// Warns as [`Self::warn`] does. It makes no message that the result would not have.
    pub(crate) fn warn_with(&mut self, message: impl FnOnce() -> String) {
        if self.notes.takes_warnings() {
            self.warn(&message());
        }
    }

    /// Counts one block, or what is in its place, and returns whether it can still be read.
    pub(crate) fn block(&mut self) -> bool {
        if self.deadline.has_passed() {
            if !self.is_late {
                self.warn("has parts that were not read, because that took too long");
            }
            self.is_late = true;
            return false;
        }
        let ReadSoFar { blocks, block_limit, .. } = *self.so_far;
        if blocks == block_limit {
            self.notes.warn(None, &format!("only the first {block_limit} blocks were read"));
        }
        self.so_far.blocks = blocks.saturating_add(1);
        blocks < block_limit
    }

    /// Returns whether a name is short enough to be kept, and warns if it is not.
    pub(crate) fn name(&mut self, name: &str) -> bool {
        let fits = name.len() <= MAX_NAME;
        if !fits {
            self.warn_with(|| {
                format!("has a name of more than {MAX_NAME} bytes, which was left out")
            });
        }
        fits
    }

    /// Takes space for texts, and returns whether there is enough. Otherwise nothing else is kept.
    fn keep(&mut self, bytes: usize) -> bool {
        let left = self.so_far.bytes_left.checked_sub(bytes);
        self.so_far.bytes_left = left.unwrap_or_default();
        if left.is_none() {
            self.notes.warn_of_space();
        }
        left.is_some()
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
    /// Adds a block that was read from a file, if there is space. The first of two with one name
    /// counts.
    pub(crate) fn insert(&mut self, header: Header, declared: Declared, context: &mut Context<'_>) {
        let (kind, blocks, name) = match header {
            Header::Variable(name) => ("variable", &mut self.variables, name),
            Header::Output(name) => ("output", &mut self.outputs, name),
            Header::ModuleCall(name) => ("module", &mut self.module_calls, name),
            Header::Resource(mode, resource) => {
                let resources = self.resources.entry(mode).or_default();
                let bytes = resource.resource_type.len() + resource.name.len();
                if !resources.contains(&resource) && context.keep(bytes) {
                    resources.insert(resource);
                }
                return;
            }
            Header::Terraform => return,
        };
        if context.keep(name.len() + declared.bytes(context.notes.text_limit())) {
            insert(kind, blocks, name, declared, context);
        }
    }

    /// Adds an entry of `required_providers`, as [`Self::insert`] does.
    pub(crate) fn insert_provider(
        &mut self,
        name: String,
        declared: Declared,
        context: &mut Context<'_>,
    ) {
        let bytes = name.len() + declared.bytes(context.notes.text_limit());
        if context.name(&name) && context.keep(bytes) {
            insert("provider", &mut self.providers, name, declared, context);
        }
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
                    None => context.warn_with(|| {
                        format!("changes the {kind} `{name}`, which no other file has")
                    }),
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
            context.warn_with(|| {
                format!("has the {kind} `{}` a second time; the first counts", entry.key())
            });
        }
    }
}
