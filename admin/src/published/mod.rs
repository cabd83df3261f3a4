//! Reads through the API what a registry says of one version, and where it has the archives.
//!
//! Every name of an answer is parsed, and every digest has its form. The signature of a provider is
//! verified with the key that the registry sends.

mod archive;
mod module;
mod provider;

use std::fmt::Display;

use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{Api, ApiResponse};
use crate::error::CommandError;

pub(crate) use archive::{Place, locate};
pub(crate) use module::{Contents, contents};
pub(crate) use provider::{PublishedRelease, keys, release};

/// Sends a GET request.
pub(crate) async fn get(api: &Api, path: &str) -> Result<ApiResponse, CommandError> {
    api.send_json(&Method::GET, &api.at(path)?, &HeaderMap::new(), None).await
}

/// Sends a GET request, and parses the response. `None` if there is no such object.
///
/// # Errors
///
/// [`CommandError`], which names `about`: a refusal, or a registry that does not work.
pub(crate) async fn find<T: DeserializeOwned>(
    api: &Api,
    path: &str,
    about: &dyn Display,
) -> Result<Option<T>, CommandError> {
    let answer = get(api, path).await.map_err(|error| error.about(&about.to_string()))?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    answer.read().map(Some).map_err(|error| error.about(&about.to_string()))
}

/// Creates the error for an answer that no honest registry gives.
pub(crate) fn wrong(about: &dyn Display, problem: impl Display) -> CommandError {
    CommandError::failed(format!("`{about}`: {problem}"))
}

/// Returns a text of an answer.
pub(crate) fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}
