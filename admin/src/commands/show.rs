//! `show`: reads one version of a package, and prints its page.

use std::fmt::Display;

use serde_json::Value;
use stile_protocol::names::{Namespace, Permission};

use super::Context;
use super::module_send::version_of;
use super::page::Page;
use crate::api::Api;
use crate::error::CommandError;
use crate::progress::spinning;
use crate::target::ApiTarget;

/// Reads a version, or the latest one without `version`, and prints its page.
///
/// `path` is that of the packages of this kind. `page` makes the page of an answer, of which any field may
/// be missing.
///
/// # Errors
///
/// [`CommandError`], if the version has another form, or if the registry does not send an object.
pub(super) async fn show(
    context: &Context,
    target: &ApiTarget,
    path: &str,
    (address, namespace): (&impl Display, &Namespace),
    version: Option<&str>,
    page: impl FnOnce(&Value) -> Page,
) -> Result<(), CommandError> {
    let version = version.map(version_of).transpose()?;
    let (path, what) = match version {
        Some(version) => (format!("{path}/{address}/{version}"), format!("`{address}` {version}")),
        None => (format!("{path}/{address}"), format!("`{address}`")),
    };
    let api = Api::new(target, Permission::Download, Some(namespace.clone()), context.now)?;
    let found: Value = spinning("reading the version", Box::pin(api.read(&path)))
        .await
        .map_err(|error| error.context(what))?;
    if !found.is_object() {
        return Err(CommandError::failed("the registry sent an unexpected response"));
    }
    context.output.outcome(page(&found).into_text().trim_end(), &found)
}
