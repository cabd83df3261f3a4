//! The result of fetching an uploaded object.

/// The object at the key of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FetchedObject {
    /// The object. The store stops reading one chunk after the announced size.
    All {
        /// The version of the object, if the bucket has versioning.
        object_version: Option<String>,
    },
    /// No object.
    Nothing,
}
