//! The metadata of a module version, and its stored format.

use serde::{Deserialize, Serialize};

/// The version of the stored format that this release writes and reads.
///
/// A field can be added without another version: a reader ignores a field that it does not know.
pub const FORMAT: u32 = 1;

/// What an archive says about the module in it.
///
/// All texts are from the publisher, and nobody verified them. They contain no control characters
/// except line feeds and tabs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// The version of the format, [`FORMAT`].
    v: u32,
    /// The module at the top level of the archive.
    pub root: Module,
    /// The modules in `modules/`, in the order of their paths.
    #[serde(default)]
    pub submodules: Vec<Module>,
    /// The modules in `examples/`, in the order of their paths.
    #[serde(default)]
    pub examples: Vec<Module>,
    /// What could not be read, and why.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// One folder with configuration. All lists are in the order of the names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Module {
    /// The path of the folder in the archive. It is empty for the root.
    pub path: String,
    /// The text of `README.md` or `README`.
    pub readme: Option<String>,
    /// The version constraint of Terraform itself. Several are joined by a comma.
    pub required_version: Option<String>,
    /// The variables.
    pub inputs: Vec<Input>,
    /// The outputs.
    pub outputs: Vec<Output>,
    /// The resources.
    pub resources: Vec<Resource>,
    /// The data sources.
    pub data_sources: Vec<Resource>,
    /// The ephemeral resources.
    pub ephemeral_resources: Vec<Resource>,
    /// The calls of other modules.
    pub module_calls: Vec<ModuleCall>,
    /// The providers in `required_providers`.
    pub providers: Vec<Provider>,
}

/// A `variable` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// The name.
    pub name: String,
    /// The type constraint as written.
    #[serde(rename = "type")]
    pub type_constraint: Option<String>,
    /// The default as written. Without one, the caller must give a value.
    pub default: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Whether Terraform hides the value in its output.
    pub sensitive: bool,
    /// Whether the value can be null. It can unless the module says otherwise.
    pub nullable: bool,
    /// Whether Terraform keeps the value out of state and plan.
    pub ephemeral: bool,
    /// The deprecation message.
    pub deprecated: Option<String>,
    /// The validation rules, in the order of the source.
    pub validations: Vec<Validation>,
}

/// A `validation` block of a variable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Validation {
    /// The condition as written.
    pub condition: String,
    /// The error message.
    pub error_message: Option<String>,
}

/// An `output` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Output {
    /// The name.
    pub name: String,
    /// The description.
    pub description: Option<String>,
    /// Whether Terraform hides the value in its output.
    pub sensitive: bool,
    /// Whether Terraform keeps the value out of state and plan.
    pub ephemeral: bool,
    /// The deprecation message.
    pub deprecated: Option<String>,
}

/// A resource, a data source or an ephemeral resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Resource {
    /// The type, for example `aws_vpc`.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// The name.
    pub name: String,
}

/// A `module` block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModuleCall {
    /// The name.
    pub name: String,
    /// The source. An expression that is not a constant is as written.
    pub source: Option<String>,
    /// The version constraint.
    pub version: Option<String>,
}

/// An entry of `required_providers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Provider {
    /// The local name.
    pub name: String,
    /// The source address, as written.
    pub source: Option<String>,
    /// The version constraint.
    pub version: Option<String>,
}

/// Something that could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Warning {
    /// The path of the file, if it is about one.
    pub file: Option<String>,
    /// One sentence, without a full stop.
    pub message: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.file {
            Some(file) => write!(f, "`{file}` {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

/// The reason why stored metadata cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The text is not metadata.
    #[error("the stored metadata is not valid")]
    Invalid(#[from] serde_json::Error),
    /// A newer release wrote it.
    #[error("the stored metadata has the format {0}, and this release reads {FORMAT}")]
    Newer(u32),
}

impl Metadata {
    /// Creates metadata in the current format.
    pub fn new(
        root: Module,
        submodules: Vec<Module>,
        examples: Vec<Module>,
        warnings: Vec<Warning>,
    ) -> Self {
        Self { v: FORMAT, root, submodules, examples, warnings }
    }

    /// Returns the stored form.
    ///
    /// # Errors
    ///
    /// [`FormatError::Invalid`], which no metadata of this release causes.
    pub fn to_json(&self) -> Result<Vec<u8>, FormatError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Reads the stored form. It ignores fields that it does not know.
    ///
    /// # Errors
    ///
    /// [`FormatError`], if the text is not metadata, or is in a newer format.
    pub fn from_json(text: &[u8]) -> Result<Self, FormatError> {
        #[derive(Deserialize)]
        struct Header {
            v: u32,
        }
        match serde_json::from_slice::<Header>(text)?.v {
            FORMAT => Ok(serde_json::from_slice(text)?),
            newer => Err(FormatError::Newer(newer)),
        }
    }
}
