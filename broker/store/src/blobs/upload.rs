//! What came of fetching an upload.

/// What was where an upload was to be put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetchedObject {
    /// All of it, or as much as was announced and one piece more.
    All {
        /// The version of the object, where objects have versions.
        object_version: Option<String>,
    },
    /// Nothing.
    Nothing,
}
