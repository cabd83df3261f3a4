//! The routes of providers and of signing keys, in the order of the router.

use axum::http::StatusCode;
use stile_protocol::reply::ErrorCode::*;

use super::operation::{BODY, Content, Operation, RIGHT, Route, bearer, ok};
use crate::http::error::ErrorShape::{List, Object};

/// The parameters in the path of a provider, and of a version.
const PROVIDER: [&str; 2] = ["namespace", "type"];
const VERSION: [&str; 3] = ["namespace", "type", "provider_version"];

/// The routes of the signing keys of a namespace.
pub(super) fn signing_keys() -> Vec<Route> {
    let new = |id, summary| bearer(id, "providers", Object, summary).errors(&RIGHT);
    let path = "/v1/namespaces/{namespace}/signing-keys";
    let list = new("listSigningKeys", "List the keys that sign the providers of a namespace")
        .description("It needs `create_grant` or `upload` on the namespace.")
        .parameters(&["namespace"])
        .errors(&[NotFound]);
    let add = new("addSigningKey", "Add a key that can sign providers")
        .description("It needs `create_grant` on the namespace.")
        .parameters(&["namespace"])
        .json_body("NewSigningKey")
        .errors(&BODY)
        .errors(&[NotFound, Conflict])
        .answers(StatusCode::CREATED, "The key is new.", &[], Content::Json("AddedSigningKey"));
    let retire = new("retireSigningKey", "Retire a key, so that it signs no new version")
        .description("It needs `create_grant` on the namespace. The answer to `compromised` names the versions that the key signed: clients get none of them until it is signed again.")
        .parameters(&["namespace", "key_id", "compromised"])
        .errors(&[NotFound]);
    vec![
        ("get", path, ok(list, "SigningKeys").finish()),
        ("post", path, ok(add, "AddedSigningKey").finish()),
        (
            "delete",
            "/v1/namespaces/{namespace}/signing-keys/{key_id}",
            ok(retire, "RetiredSigningKey").finish(),
        ),
    ]
}

/// The routes that read providers.
pub(super) fn providers() -> Vec<Route> {
    let new = |id, summary| bearer(id, "providers", List, summary);
    let read = |id, summary| new(id, summary).errors(&RIGHT).errors(&[NotFound]);
    let list = new("listProviders", "List the providers that the bearer may read")
        .parameters(&["offset", "limit"]);
    let list_namespace = read("listProvidersOfNamespace", "List the providers of a namespace")
        .parameters(&["namespace", "offset", "limit"]);
    let latest = read("showLatestProvider", "Show the latest version").parameters(&PROVIDER);
    let versions = read("listProviderVersions", "List the versions of a provider")
        .description(
            "The answer has versions that were taken back, too: clients can have them locked.",
        )
        .parameters(&PROVIDER);
    let version = read("showProviderVersion", "Show a version").parameters(&VERSION);
    let signed = Operation::new("fetchProviderFile", "providers", Object, "Fetch a signed list")
        .open()
        .description(
            "The addresses of `shasums_url` and `shasums_signature_url`, if the store is embedded.",
        )
        .parameters(&[
            "namespace",
            "type",
            "provider_version",
            "sums_file",
            "expires",
            "kid",
            "signature",
        ])
        .answers(
            StatusCode::OK,
            "The list of digests, or its signature.",
            &[],
            Content::File(&["text/plain", "application/octet-stream"]),
        )
        .errors(&[OutOfScope, NotFound, StoreUnavailable, KeyUnavailable]);
    let download = read("downloadProvider", "Get the addresses of a file and of what verifies it")
        .parameters(&["namespace", "type", "provider_version", "os", "arch"])
        .errors(&[CompromisedKey]);
    vec![
        ("get", "/v1/providers-files/{namespace}/{type}/{version}/{file}", signed.finish()),
        ("get", "/v1/providers", ok(list, "ProviderList").finish()),
        ("get", "/v1/providers/{namespace}", ok(list_namespace, "ProviderList").finish()),
        ("get", "/v1/providers/{namespace}/{type}", ok(latest, "ProviderDetails").finish()),
        (
            "get",
            "/v1/providers/{namespace}/{type}/versions",
            ok(versions, "ProviderVersions").finish(),
        ),
        (
            "get",
            "/v1/providers/{namespace}/{type}/{version}/download/{os}/{arch}",
            ok(download, "ProviderDownload").finish(),
        ),
        (
            "get",
            "/v1/providers/{namespace}/{type}/{version}",
            ok(version, "ProviderDetails").finish(),
        ),
    ]
}

/// Begins the description of a route that changes a version.
fn change(id: &str, summary: &str) -> Operation {
    bearer(id, "publishing", List, summary)
        .parameters(&VERSION)
        .errors(&RIGHT)
        .errors(&[NotFound, TooLarge, Throttled])
}

/// The routes that change the life of a version.
pub(super) fn life() -> Vec<Route> {
    let path = "/v1/providers/{namespace}/{type}/{version}";
    let deprecation = "/v1/providers/{namespace}/{type}/{version}/deprecation";
    let explained = |operation: Operation| operation.json_body("Explanation").errors(&BODY);
    let take_back = explained(change("unpublishProviderVersion", "Take a version back"))
        .description("It stays listed with a warning, because clients can have it locked.");
    let restore = change("restoreProviderVersion", "Restore a version that was taken back");
    let deprecate = explained(change("deprecateProviderVersion", "Deprecate a version"));
    let undeprecate =
        change("undeprecateProviderVersion", "Take the deprecation of a version back");
    vec![
        ("delete", path, ok(take_back, "ProviderChanged").finish()),
        (
            "post",
            "/v1/providers/{namespace}/{type}/{version}/restore",
            ok(restore, "ProviderChanged").finish(),
        ),
        ("put", deprecation, ok(deprecate, "ProviderChanged").finish()),
        ("delete", deprecation, ok(undeprecate, "ProviderChanged").finish()),
    ]
}

/// The routes of upload sessions.
pub(super) fn uploads() -> Vec<Route> {
    let published = Content::Json("ProviderPublished");
    let begin = change("beginProviderUpload", "Begin an upload session")
        .json_body("AnnouncedRelease")
        .answers(
            StatusCode::CREATED,
            "The session, with the files that the registry needs.",
            &[],
            Content::Json("ProviderUploadSession"),
        )
        .answers(StatusCode::OK, "Exactly this is published.", &[], published)
        .errors(&BODY)
        .errors(&[Conflict, QuotaExceeded]);
    let verify = change("verifyProviderFile", "Verify a file of an upload session")
        .description("Without a body, the file is the one that was put to its `url`. A file without a `url` is the body. It is safe to repeat.")
        .parameters(&["namespace", "type", "provider_version", "upload", "provider_file"])
        .optional_body(&["application/zip", "application/octet-stream"])
        .answers(StatusCode::OK, "The file is verified.", &[], Content::Json("VerifiedFile"))
        .answers(
            StatusCode::ACCEPTED,
            "The registry verifies the file. Ask again.",
            &["Retry-After"],
            Content::Json("UnverifiedFile"),
        )
        .errors(&BODY)
        .errors(&[Conflict, BadArchive, InsufficientStorage]);
    let complete = change("completeProviderUpload", "Complete an upload session")
        .description("It reads no file. All files must be verified.")
        .parameters(&["namespace", "type", "provider_version", "upload"])
        .answers(StatusCode::CREATED, "The version is published.", &[], published)
        .answers(
            StatusCode::OK,
            "The version has more files or another signature now, or was already published.",
            &[],
            published,
        )
        .errors(&[Conflict, TooLarge, QuotaExceeded]);
    vec![
        ("post", "/v1/providers/{namespace}/{type}/{version}/uploads", begin.finish()),
        ("post", "/v1/providers/{namespace}/{type}/{version}/uploads/{upload}", complete.finish()),
        (
            "post",
            "/v1/providers/{namespace}/{type}/{version}/uploads/{upload}/files/{file}",
            verify.finish(),
        ),
    ]
}
