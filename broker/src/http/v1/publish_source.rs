//! `POST …/{version}` with a JSON body: publishes a version whose files are at another server.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use stile_protocol::reply::ErrorCode;
use stile_protocol::strict_json::{FieldError, StrictObject};

use super::modules::ModulePath;
use super::publication::{PublishReply, bad_name, claimed, reply};
use crate::app::Broker;
use crate::app::publish_source::publish_source;
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::read_json;
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::package::source::ModuleSource;

/// The field of the body with the source.
const SOURCE: &str = "source";

/// Publishes a source. The answer is the same as for an archive, with the source in place of the
/// digest.
pub(super) async fn module(
    broker: Arc<Broker>,
    credential: Credential,
    path: Result<Path<ModulePath>, PathRejection>,
    request: Request,
) -> Result<PublishReply, ApiError> {
    let (mut draft, bearer) = credential.authenticate(&broker, Kind::Publish).await?;
    let received = async {
        let Path(path) = path.map_err(|_| ApiError::not_found("there is no such route"))?;
        let access = path.access(&bearer, &mut draft, bad_name)?;
        let version = path.version()?;
        let claimed = claimed(request.headers())?;
        let source = parse(&read_json(request).await?)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.problem))?;
        Ok((access, version, source, claimed))
    }
    .await;
    let (access, version, source, claimed) = match received {
        Ok(received) => received,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every published version has an audit
    // event.
    let published = async move {
        let done =
            publish_source(&broker, &bearer, &access, version, source, claimed, &mut draft).await;
        let namespace = access.address().namespace();
        let done = done.map_err(|error| ApiError::publish_source(error, namespace));
        let answer = done.and_then(|done| {
            let content = (SOURCE, done.source.as_str());
            reply(&done.address, &done.version, content, done.outcome)
        });
        conclude(draft, answer)
    };
    run_detached(published).await
}

/// Parses `{"source": …}`.
fn parse(body: &[u8]) -> Result<ModuleSource, FieldError> {
    let mut object = StrictObject::parse(body)?;
    let text = object.string(SOURCE)?;
    object.finish()?;
    ModuleSource::parse(&text).map_err(|error| FieldError {
        field: SOURCE.to_owned(),
        problem: format!("`{SOURCE}` is not valid: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_source_and_an_error_names_the_field() {
        let problem = |body: &str| parse(body.as_bytes()).unwrap_err().problem;
        for (body, expected) in [
            ("", "the body must be one JSON object in UTF-8"),
            ("[]", "the body must be one JSON object in UTF-8"),
            ("{}", "field `source` is missing"),
            (r#"{"source":null}"#, "`source` must be a string"),
            (r#"{"source":["https://h.example/a.zip"]}"#, "`source` must be a string"),
            (r#"{"Source":"https://h.example/a.zip"}"#, "field `source` is missing"),
            (
                r#"{"source":"https://h.example/a.zip","source":"file:///etc"}"#,
                "field `source` appears twice",
            ),
            (
                r#"{"source":"https://h.example/a.zip","namespace":"other"}"#,
                "field `namespace` is not known",
            ),
            (r#"{"source":"https://h.example/a.zip","object":{}}"#, "field `object` is not known"),
        ] {
            assert_eq!(problem(body), expected, "{body}");
        }
        assert!(
            problem(r#"{"source":"file:///etc/passwd"}"#).starts_with("`source` is not valid: ")
        );
        let source = parse(br#"{"source":"https:\/\/h.example/a.zip"}"#).unwrap();
        assert_eq!(source.as_str(), "https://h.example/a.zip");
    }
}
