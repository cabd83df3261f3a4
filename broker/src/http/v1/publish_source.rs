//! `POST …/{version}` with a JSON body: publishes a version whose files are at another server, or an
//! object of another bucket.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request};
use stile_protocol::reply::ErrorCode;
use stile_protocol::strict_json::{FieldError, StrictObject};

use super::package_path::{ModulePath, PackagePath as _};
use super::publication::{PublishReply, bad_name, claimed, reply};
use crate::app::Broker;
use crate::app::publish_object::{AnnouncedObject, ObjectPublication, publish_object};
use crate::app::publish_source::publish_source;
use crate::http::decision::{Credential, conclude};
use crate::http::error::ApiError;
use crate::http::json_body::read_json;
use crate::http::run_detached::run_detached;
use stile_core::audit::Kind;
use stile_core::package::is_sha256;
use stile_core::package::source::{ModuleSource, ObjectAddress, SourceError};

/// The fields of the body.
const SOURCE: &str = "source";
const OBJECT: &str = "object";
const SHA256: &str = "sha256";

/// The place of the files.
enum Place {
    /// A repository, or an archive at another server.
    Source(ModuleSource),
    /// An object of another bucket.
    Object(AnnouncedObject),
}

/// Publishes a source or an object. The answer is the same as for an archive, with the source in place
/// of the digest, or the object next to it.
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
        let place = parse(&read_json(request).await?)
            .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, error.problem))?;
        Ok((access, version, place, claimed))
    }
    .await;
    let (access, version, place, claimed) = match received {
        Ok(received) => received,
        Err(error) => return conclude(draft, Err(error)),
    };
    // The work continues when the client disconnects, so that every published version has an audit
    // event.
    let published = async move {
        let namespace = access.address().namespace();
        let answer = match place {
            Place::Source(source) => {
                publish_source(&broker, &bearer, &access, version, source, claimed, &mut draft)
                    .await
                    .map_err(|error| ApiError::publish_source(error, namespace))
                    .and_then(|done| {
                        let content = (SOURCE, done.source.as_str());
                        reply(&done.address, &done.version, content, done.outcome)
                    })
            }
            Place::Object(object) => {
                let about = object.clone();
                let done =
                    publish_object(&broker, &bearer, &access, version, object, claimed, &mut draft);
                Box::pin(done)
                    .await
                    .map_err(|error| ApiError::publish_object(error, namespace, &about))
                    .and_then(|done| object_reply(&done))
            }
        };
        conclude(draft, answer)
    };
    run_detached(published).await
}

/// Returns the answer for the publication of an object.
fn object_reply(done: &ObjectPublication) -> Result<PublishReply, ApiError> {
    let ObjectPublication { address, version, sha256, object, outcome, warnings } = done;
    let (status, Json(mut body)) = reply(address, version, (SHA256, sha256), *outcome)?;
    if let Some(object) = object {
        body[OBJECT] = object.as_str().into();
    }
    body["warnings"] = warnings.as_slice().into();
    Ok((status, Json(body)))
}

/// Parses `{"source": …}` or `{"object": …, "sha256": …}`.
fn parse(body: &[u8]) -> Result<Place, FieldError> {
    let mut fields = StrictObject::parse(body)?;
    let invalid = |field: &str, error: &SourceError| FieldError {
        field: field.to_owned(),
        problem: format!("`{field}` is not valid: {error}"),
    };
    if let Some(text) = fields.optional_string(SOURCE)? {
        fields.finish()?;
        let source = ModuleSource::parse(&text).map_err(|error| invalid(SOURCE, &error))?;
        return Ok(Place::Source(source));
    }
    let Some(text) = fields.optional_string(OBJECT)? else {
        return Err(FieldError {
            field: SOURCE.to_owned(),
            problem: format!("field `{SOURCE}` is missing"),
        });
    };
    let sha256 = fields.string(SHA256)?;
    fields.finish()?;
    let address = ObjectAddress::parse(&text).map_err(|error| invalid(OBJECT, &error))?;
    if !is_sha256(&sha256) {
        return Err(FieldError::new(SHA256, "64 lower-case hexadecimal digits"));
    }
    Ok(Place::Object(AnnouncedObject { address, sha256 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_one_source_and_an_error_names_the_field() {
        let problem = |body: &str| match parse(body.as_bytes()) {
            Ok(_) => panic!("{body}"),
            Err(error) => error.problem,
        };
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
            (r#"{"object":"s3://bucket/a.zip"}"#, "field `sha256` is missing"),
            (r#"{"object":7,"sha256":""}"#, "`object` must be a string"),
            (
                r#"{"object":"s3://bucket/a.zip","sha256":"ab"}"#,
                "`sha256` must be 64 lower-case hexadecimal digits",
            ),
            (
                r#"{"object":"s3://bucket/a.zip","sha256":"ab","version_id":"x"}"#,
                "field `version_id` is not known",
            ),
        ] {
            assert_eq!(problem(body), expected, "{body}");
        }
        assert!(
            problem(r#"{"source":"file:///etc/passwd"}"#).starts_with("`source` is not valid: ")
        );
        let place = parse(br#"{"source":"https:\/\/h.example/a.zip"}"#);
        assert!(
            matches!(place, Ok(Place::Source(found)) if found.as_str() == "https://h.example/a.zip")
        );
        assert!(
            problem(&format!(r#"{{"object":"s3://b/a.zip","sha256":"{}"}}"#, "a".repeat(64)))
                .starts_with("`object` is not valid: ")
        );
        let body = format!(r#"{{"object":"s3:\/\/bucket/a.zip","sha256":"{}"}}"#, "a".repeat(64));
        let place = parse(body.as_bytes());
        assert!(
            matches!(place, Ok(Place::Object(found)) if found.address.as_str() == "s3://bucket/a.zip")
        );
    }
}
