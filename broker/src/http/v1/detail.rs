//! What the registry shows of one version of a module, as Terraform's public registry shows it.

use serde_json::{Value, json};

use super::package_path::{ModulePath, no_version};
use super::shown::ShownPackage;
use crate::app::Broker;
use crate::app::catalogue::{self, CatalogueError};
use crate::app::metadata;
use crate::http::error::ApiError;
use stile_core::audit::Event;
use stile_core::clock::rfc3339;
use stile_core::grants::{Download, PackageAccess};
use stile_core::package::source::ModuleSource;
use stile_core::package::{Claimed, Format, Life, Step, Version};
use stile_metadata::Metadata;
use stile_protocol::names::ModuleAddress;
use stile_store::VersionDetails;

impl ShownPackage for ModulePath {
    async fn details(
        broker: &Broker,
        access: &PackageAccess<Download>,
        version: &Version,
        event: &mut Event,
    ) -> Result<Value, ApiError> {
        let details = catalogue::details(broker, access, version, event).await;
        let details = details.map_err(catalogue)?;
        let listed = catalogue::listed(broker, access).await.map_err(catalogue)?;
        // A version with a source has no archive here.
        let metadata = match &details.sha256 {
            None => None,
            Some(sha256) => {
                metadata::of_archive(broker, access, sha256).await.map_err(ApiError::store)?
            }
        };
        let module = access.address().module().ok_or_else(no_version)?;
        Ok(fitting(render(module, version, &details, &listed, metadata.as_ref())))
    }
}

/// Maximum length of an answer in an event of Lambda, in bytes. Lambda allows 6 MB, with headers.
///
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>
const MAX_EVENT: usize = 5_500_000;

/// The fields of an answer that an archive fills.
const OF_ARCHIVE: [&str; 4] = ["readme", "root", "submodules", "examples"];

/// Leaves out READMEs, and then all that the archive says, if the answer would be too long. The field
/// `left_out` has the names of those fields.
fn fitting(mut answer: Value) -> Value {
    answer["left_out"] = json!([]);
    if event_bytes(&answer) <= MAX_EVENT {
        return answer;
    }
    let without_readme = |module: &mut Value| {
        if module.is_object() {
            module["readme"] = "".into();
        }
    };
    answer["readme"] = Value::Null;
    without_readme(&mut answer["root"]);
    for modules in ["submodules", "examples"] {
        answer[modules].as_array_mut().into_iter().flatten().for_each(without_readme);
    }
    answer["left_out"] = json!(["readme"]);
    if event_bytes(&answer) > MAX_EVENT {
        for field in OF_ARCHIVE {
            answer[field] = Value::Null;
        }
        answer["left_out"] = json!(OF_ARCHIVE);
    }
    answer
}

/// Returns the length of a JSON text as a string in another JSON text, which is how an event has it.
fn event_bytes(answer: &Value) -> usize {
    let text = answer.to_string();
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

fn catalogue(error: CatalogueError) -> ApiError {
    ApiError::catalogue(error, no_version)
}

/// Returns the answer. Fields that the public registry has, and this one does not know, are null.
fn render(
    module: &ModuleAddress,
    version: &Version,
    details: &VersionDetails,
    listed: &[Version],
    metadata: Option<&Metadata>,
) -> Value {
    let shape = metadata.map(|metadata| metadata.registry_shape(module.name.as_str()));
    let (root, submodules, examples) =
        shape.map(|shape| (shape.root, shape.submodules, shape.examples)).unwrap_or_default();
    let object = details.object.as_ref();
    let source = details.source.as_ref().map(ModuleSource::as_str);
    let source = source.or_else(|| object.map(|object| object.address.as_str()));
    let mut shown = json!({
        "id": format!("{module}/{version}"),
        "namespace": module.namespace,
        "name": module.name,
        "provider": module.system,
        "version": version.to_string(),
        "description": metadata.and_then(Metadata::description),
        // Clients expect the field, and look for a changelog by it.
        "source": details.claimed.as_ref().and_then(Claimed::repository_url),
        "published_at": rfc3339(details.published_at),
        "versions": listed.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "readme": metadata.and_then(|metadata| metadata.root.readme.as_ref()),
        "root": root,
        "submodules": submodules,
        "examples": examples,
        "provenance": {
            "published_by": details.published_by,
            "published_at": rfc3339(details.published_at),
            "token_id": details.token_id,
            "sha256": details.sha256,
            "bytes": details.bytes,
            "format": details.format.map(Format::extension),
            "source": source,
            "claimed": details.claimed,
        },
    });
    if let Some(object) = object {
        shown["provenance"]["object_version"] = object.version.as_deref().into();
    }
    life_of(&details.life, &mut shown);
    shown
}

/// Adds the fields about the life of a version. Each is null if the version has no such step.
pub(super) fn life_of(life: &Life, shown: &mut Value) {
    let step = |step: &Option<Step>, by: &str, at: &str| {
        step.as_ref().map(|step| {
            let explanation = &step.explanation;
            let mut shown = json!({
                "reason": explanation.reason,
                "link": explanation.link,
                "replacement": explanation.replacement,
            });
            shown[by] = step.by.as_str().into();
            shown[at] = rfc3339(step.at).into();
            shown
        })
    };
    shown["deprecation"] = step(&life.deprecated, "deprecated_by", "deprecated_at").into();
    shown["unpublished"] = step(&life.unpublished, "unpublished_by", "unpublished_at").into();
}

#[cfg(test)]
mod tests {
    use stile_metadata::{Input, Module, Provider};

    use super::*;

    /// Returns an answer as long as the archive can make it, with texts that need the most escapes.
    fn answer(readme: usize, inputs: usize, providers: usize) -> Value {
        let text = |length: usize| "\"".repeat(length);
        let input = |n: usize| Input {
            name: format!("i{n}"),
            default: Some(text(30_000)),
            ..Input::default()
        };
        // The namespace of a provider is a part of its source, and the answer has both.
        let provider = |n: usize| Provider {
            name: format!("{}{n}", text(1_000)),
            source: Some(format!("{}/x", text(1_000))),
            version: None,
        };
        let root = Module {
            readme: Some(text(readme)),
            inputs: (0..inputs).map(input).collect(),
            providers: (0..providers).map(provider).collect(),
            ..Module::default()
        };
        let shape =
            Metadata::new(root.clone(), vec![root], Vec::new(), Vec::new()).registry_shape("vpc");
        json!({
            "id": "acme/vpc/aws/1.0.0",
            "readme": text(readme),
            "root": shape.root,
            "submodules": shape.submodules,
            "examples": shape.examples,
        })
    }

    #[test]
    fn an_answer_that_lambda_would_refuse_leaves_out_what_the_archive_says() {
        for (readme, inputs, providers, left_out) in [
            (100, 1, 1, &[][..]),
            (250_000, 0, 0, &[]),
            (250_000, 15, 0, &["readme"]),
            (100, 30, 0, &OF_ARCHIVE),
            (100, 0, 300, &OF_ARCHIVE),
        ] {
            let answer = fitting(answer(readme, inputs, providers));
            let case = (readme, inputs, providers);
            assert_eq!(answer["left_out"], json!(left_out), "{case:?}");
            let event = json!({ "statusCode": 200, "body": answer.to_string() }).to_string();
            assert!(event.len() < 5_600_000, "{case:?}: {} bytes", event.len());
            assert_eq!(answer["id"], "acme/vpc/aws/1.0.0");
            match left_out {
                [] => assert_eq!(answer["readme"], answer["root"]["readme"]),
                ["readme"] => {
                    assert_eq!(answer["readme"], Value::Null);
                    assert_eq!(answer["root"]["readme"], "");
                    assert_eq!(answer["submodules"][0]["readme"], "");
                    assert_eq!(answer["root"]["inputs"].as_array().unwrap().len(), inputs);
                }
                _ => assert!(OF_ARCHIVE.iter().all(|field| answer[field].is_null())),
            }
        }
    }

    #[test]
    fn a_version_without_metadata_leaves_nothing_out() {
        let nothing = json!({ "readme": null, "root": null, "submodules": null, "examples": null });
        let answer = fitting(nothing.clone());
        assert_eq!(answer["left_out"], json!([]));
        assert!(OF_ARCHIVE.iter().all(|field| answer[field] == nothing[field]));
    }
}
