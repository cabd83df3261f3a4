//! Puts the files of an archive together: one module for each folder.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::declarations::{ByName, Context, Declarations, Declared, ReadSoFar};
use crate::limits::{Deadline, Limits};
use crate::model::{Input, Metadata, Module, ModuleCall, Output, Provider, Resource, Validation};
use crate::names::{Folder, Kind, Syntax};
use crate::notes::Notes;
use crate::{hcl, json};

/// Maximum length of the source of a provider, in bytes. The rest of it is cut off.
const MAX_ADDRESS: usize = 1 << 10;

/// A file of the archive.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) folder: Folder,
    pub(crate) kind: Kind,
    pub(crate) content: Vec<u8>,
    /// Whether the archive has more of the file than `content`.
    pub(crate) is_cut: bool,
}

/// Reads the files. `warnings` are those that are already known.
pub(crate) fn assemble(
    files: Vec<SourceFile>,
    warnings: Vec<(Option<String>, String)>,
    limits: &Limits,
) -> Metadata {
    let mut notes = Notes::new(limits);
    for (file, message) in warnings {
        notes.warn(file.as_deref(), &message);
    }
    let mut folders: BTreeMap<Folder, Vec<SourceFile>> = BTreeMap::new();
    for file in files {
        folders.entry(file.folder.clone()).or_default().push(file);
    }
    let mut reader = Reader {
        notes,
        limits,
        deadline: Deadline::after(limits.time),
        so_far: ReadSoFar {
            blocks: 0,
            block_limit: limits.blocks,
            bytes_left: limits.output_bytes,
        },
        is_late: false,
    };
    let root = folders.remove(&Folder::Root).unwrap_or_default();
    let root = reader.module(&Folder::Root, root);
    let (mut submodules, mut examples) = (Vec::new(), Vec::new());
    for (folder, files) in folders {
        // A folder with only a README is not a module.
        if !files.iter().any(|file| matches!(file.kind, Kind::Configuration { .. })) {
            continue;
        }
        let module = reader.module(&folder, files);
        match folder {
            Folder::Example(_) => examples.push(module),
            Folder::Root | Folder::Submodule(_) => submodules.push(module),
        }
    }
    Metadata::new(root, submodules, examples, reader.notes.into_warnings())
}

struct Reader<'a> {
    notes: Notes,
    limits: &'a Limits,
    deadline: Deadline,
    so_far: ReadSoFar,
    is_late: bool,
}

impl Reader<'_> {
    fn module(&mut self, folder: &Folder, mut files: Vec<SourceFile>) -> Module {
        files.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        let readme = self.readme(&files);
        drop_tofu_twins(&mut files);
        let mut declarations = Declarations::default();
        // Override files change the blocks of all other files.
        for is_override in [false, true] {
            for file in files.iter().filter(|file| file.kind.is_override() == is_override) {
                self.file(file, is_override, &mut declarations);
            }
        }
        self.render(folder, readme, declarations)
    }

    fn readme(&mut self, files: &[SourceFile]) -> Option<String> {
        let plainness = |file: &&SourceFile| match file.kind {
            Kind::Readme { is_plain } => Some(is_plain),
            Kind::Configuration { .. } => None,
        };
        let file = files
            .iter()
            .filter(|file| plainness(file).is_some())
            .min_by_key(|file| plainness(file))?;
        if file.is_cut {
            let limit = self.limits.readme_bytes;
            self.notes
                .warn(Some(&file.path), &format!("is longer than {limit} bytes, and was cut off"));
        }
        let text = String::from_utf8_lossy(&file.content);
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let text = self.notes.bounded(text, self.limits.readme_bytes);
        (!self.notes.is_full()).then_some(text)
    }

    fn file(&mut self, file: &SourceFile, is_override: bool, into: &mut Declarations) {
        let Kind::Configuration { syntax, .. } = file.kind else { return };
        if self.deadline.has_passed() {
            if !self.is_late {
                self.notes.warn(
                    Some(&file.path),
                    "and later files were not read, because that took too long",
                );
            }
            self.is_late = true;
            return;
        }
        let mut context = Context {
            notes: &mut self.notes,
            file: &file.path,
            so_far: &mut self.so_far,
            deadline: self.deadline,
            is_late: false,
        };
        if file.is_cut {
            let limit = self.limits.file_bytes;
            context.warn(&format!("is longer than {limit} bytes, and was not read"));
            return;
        }
        let Ok(text) = str::from_utf8(&file.content) else {
            context.warn("is not UTF-8, and was not read");
            return;
        };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let found = match syntax {
            Syntax::Hcl => hcl::read(&text, &mut context),
            Syntax::Json => json::read(&text, &mut context),
        };
        if is_override {
            into.override_with(found, &mut context);
        } else {
            into.append(found, &mut context);
        }
    }

    fn render(&mut self, folder: &Folder, readme: Option<String>, found: Declarations) -> Module {
        let versions = found.required_versions.join(", ");
        let mut resources = found.resources;
        let mut of = |mode| resources.remove(mode).unwrap_or_default();
        let (managed, data, ephemeral) = (of("resource"), of("data"), of("ephemeral"));
        Module {
            path: folder.path().to_owned(),
            readme,
            required_version: Some(self.notes.text(&versions)).filter(|text| !text.is_empty()),
            inputs: self.all(found.variables, |reader, name, declared| Input {
                name,
                type_constraint: reader.value(declared, "type"),
                default: reader.value(declared, "default"),
                description: reader.value(declared, "description"),
                sensitive: declared.is_true("sensitive"),
                nullable: declared.values.get("nullable").is_none_or(|value| value != "false"),
                ephemeral: declared.is_true("ephemeral"),
                deprecated: reader.value(declared, "deprecated"),
                validations: reader.validations(&declared.validations),
            }),
            outputs: self.all(found.outputs, |reader, name, declared| Output {
                name,
                description: reader.value(declared, "description"),
                sensitive: declared.is_true("sensitive"),
                ephemeral: declared.is_true("ephemeral"),
                deprecated: reader.value(declared, "deprecated"),
            }),
            module_calls: self.all(found.module_calls, |reader, name, declared| ModuleCall {
                name,
                source: reader.value(declared, "source"),
                version: reader.value(declared, "version"),
            }),
            providers: self.all(found.providers, |reader, name, declared| Provider {
                name,
                source: reader.address(declared),
                version: reader.value(declared, "version"),
            }),
            resources: self.resources(managed),
            data_sources: self.resources(data),
            ephemeral_resources: self.resources(ephemeral),
        }
    }

    fn all<T>(
        &mut self,
        blocks: ByName,
        render: impl Fn(&mut Self, String, &Declared) -> T,
    ) -> Vec<T> {
        let mut all = Vec::new();
        for (name, declared) in blocks {
            if !self.notes.item() {
                break;
            }
            let name = self.notes.text(&name);
            let item = render(self, name, &declared);
            // An item of which a text does not fit is left out whole.
            if self.notes.is_full() {
                break;
            }
            all.push(item);
        }
        all
    }

    fn value(&mut self, declared: &Declared, attribute: &str) -> Option<String> {
        declared.values.get(attribute).map(|value| self.notes.text(value))
    }

    /// Returns the address of a provider. It is short, because an answer shows parts of it again.
    fn address(&mut self, declared: &Declared) -> Option<String> {
        declared.values.get("source").map(|value| self.notes.bounded(value, MAX_ADDRESS))
    }

    fn validations(&mut self, rules: &[Validation]) -> Vec<Validation> {
        let mut all = Vec::new();
        for rule in rules {
            if !self.notes.item() {
                break;
            }
            all.push(Validation {
                condition: self.notes.text(&rule.condition),
                error_message: rule.error_message.as_ref().map(|text| self.notes.text(text)),
            });
        }
        all
    }

    fn resources(&mut self, resources: BTreeSet<Resource>) -> Vec<Resource> {
        let mut all = Vec::new();
        for resource in resources {
            if !self.notes.item() {
                break;
            }
            let resource = Resource {
                resource_type: self.notes.text(&resource.resource_type),
                name: self.notes.text(&resource.name),
            };
            if self.notes.is_full() {
                break;
            }
            all.push(resource);
        }
        all
    }
}

/// Removes each file that only OpenTofu reads and that has a twin for Terraform, such as `a.tofu`
/// next to `a.tf`.
fn drop_tofu_twins(files: &mut Vec<SourceFile>) {
    let of_terraform = files.iter().filter_map(|file| match &file.kind {
        Kind::Configuration { stem, syntax, is_tofu: false } => Some((stem.clone(), *syntax)),
        _ => None,
    });
    let of_terraform: HashSet<_> = of_terraform.collect();
    files.retain(|file| match &file.kind {
        Kind::Configuration { stem, syntax, is_tofu: true } => {
            !of_terraform.contains(&(stem.clone(), *syntax))
        }
        _ => true,
    });
}
