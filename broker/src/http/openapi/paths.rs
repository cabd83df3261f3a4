//! The table of all routes and methods, in the order of the router.
//!
//! A test compares it with the router, and another one with the answers that the suite sees.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use stile_protocol::reply::ErrorCode::{self, *};

use super::operation::{BODY, Content, Operation, RIGHT, Route, bearer, file, ok, schema};
use super::provider_paths;
use crate::http::error::ErrorShape::{Exchange, Line, List, Object};

/// The errors of a mint, also without a proof.
const MINT: [ErrorCode; 9] = [
    NoGrant,
    UnsupportedPrincipal,
    PrincipalRecreated,
    PrincipalRevoked,
    Throttled,
    StoreUnavailable,
    KeyUnavailable,
    StsBadResponse,
    StsInconsistent,
];

/// The errors of a mint with a proof.
const PROOF: [ErrorCode; 11] = [
    UnsupportedVersion,
    BadRegion,
    RegionNotEnabled,
    ProofExpired,
    ProofFromFuture,
    SignatureMismatch,
    InvalidCredentials,
    ExpiredCredentials,
    ProofReplayed,
    StsUnavailable,
    StsTimeout,
];

/// The errors of a mint with a JWT.
const OF_JWT: [ErrorCode; 11] = [
    UnsupportedGrantType,
    InvalidScope,
    InvalidTarget,
    AmbiguousTrust,
    JwtNotTrusted,
    JwtExpired,
    JwtFromFuture,
    JwtBadSignature,
    JwtReplayed,
    IssuerUnavailable,
    IssuerBadResponse,
];

/// The parameters in the path of a module, and of a version.
const MODULE: [&str; 3] = ["namespace", "name", "system"];
const VERSION: [&str; 4] = ["namespace", "name", "system", "version"];

/// Returns the paths of the document, each with its methods.
pub(super) fn paths() -> Value {
    let mut paths = Map::new();
    for (method, path, operation) in [
        open(),
        token(),
        grants(),
        service_tokens(),
        provider_paths::signing_keys(),
        modules(),
        versions(),
        uploads(),
        provider_paths::providers(),
        provider_paths::life(),
        provider_paths::uploads(),
    ]
    .concat()
    {
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        methods[method] = operation;
    }
    paths.into()
}

fn open() -> Vec<Route> {
    let new = |id, summary| Operation::new(id, "service", Object, summary).open();
    let archive = Operation::new("fetchArchive", "modules", Object, "Fetch an archive")
        .open()
        .description(
            "The address of `X-Terraform-Get`, if the store is embedded. `HEAD` works, too.",
        )
        .parameters(&["file", "expires", "kid", "signature"])
        .answers(
            StatusCode::OK,
            "The archive.",
            &[],
            Content::File(&["application/zip", "application/gzip"]),
        )
        .answers(StatusCode::NOT_MODIFIED, "The client has the archive.", &[], Content::None)
        .answers(StatusCode::PRECONDITION_FAILED, "A condition does not hold.", &[], Content::None)
        .errors(&[OutOfScope, NotFound, StoreUnavailable, KeyUnavailable]);
    vec![
        (
            "get",
            "/.well-known/terraform.json",
            ok(new("discover", "Find the services of the registry"), "Discovery").finish(),
        ),
        ("get", "/healthz", ok(new("isAlive", "Test whether the process runs"), "Alive").finish()),
        (
            "get",
            "/readyz",
            ok(new("isReady", "Test whether the store answers and there is a key"), "Ready")
                .errors(&[StoreUnavailable, KeyUnavailable])
                .finish(),
        ),
        (
            "get",
            "/openapi.json",
            ok(new("describe", "Get this document"), "OpenApi")
                .description("`404` unless the operator switched it on with `--openapi`.")
                .errors(&[NotFound])
                .finish(),
        ),
        ("get", "/v1/archives/{file}", archive.finish()),
    ]
}

fn token() -> Vec<Route> {
    let new =
        |id, shape, summary| Operation::new(id, "tokens", shape, summary).open().errors(&MINT);
    let contents = json!({
        "application/json": { "schema": schema("Proof") },
        "application/x-www-form-urlencoded": { "schema": schema("TokenExchange") },
    });
    let proof = new("exchangeProof", Exchange, "Exchange a signed request, or a JWT, for a token")
        .description(
            "The proof is in the fields of the body. No header authenticates the caller. A form is \
             OAuth 2.0 Token Exchange (RFC 8693), and its answers have the fields of OAuth.",
        )
        .body(&contents)
        .errors(&PROOF)
        .errors(&OF_JWT)
        .errors(&BODY);
    let gateway_summary = "Get a token from a gateway that verified the signature";
    let gateway = new("mintForGateway", Object, gateway_summary)
        .description("`405` unless the request comes through the API in `STILE_IAM_SOURCE`.")
        .parameters(&["expiration_seconds", "scope_namespaces", "scope_permissions"])
        .errors(&[MethodNotAllowed]);
    let whoami = bearer("whoami", "tokens", Object, "Get the claims of the token, and its grants");
    vec![
        ("post", "/v1/token", ok(proof, "ExchangeReply").finish()),
        (
            "get",
            "/v1/token",
            ok(gateway, "Token").finish_with(StatusCode::METHOD_NOT_ALLOWED, "Allow"),
        ),
        ("get", "/v1/whoami", ok(whoami, "Whoami").finish()),
    ]
}

fn grants() -> Vec<Route> {
    let path = "/v1/grants";
    let new = |id, summary| bearer(id, "grants", Object, summary).errors(&RIGHT);
    let changed = |operation: Operation| {
        let content = Content::Json("Grant");
        operation.answers(StatusCode::OK, "The grant, as it is now.", &["ETag"], content)
    };
    let list = new("listGrants", "List grants that the bearer may change, and its own")
        .parameters(&["of_principal", "on_namespace", "exact_limit", "cursor"])
        .answers(StatusCode::OK, "The grants.", &["ETag-of-one"], Content::Json("Grants"));
    let create = changed(new("createGrant", "Create a grant"))
        .json_body("NewGrant")
        .answers(StatusCode::CREATED, "The new grant.", &["ETag"], Content::Json("Grant"))
        .errors(&BODY)
        .errors(&[Conflict]);
    let update = changed(new("updateGrant", "Change a grant"))
        .parameters(&["force", "if_match"])
        .json_body("GrantChange")
        .errors(&BODY)
        .errors(&[NotFound, Conflict, PreconditionFailed]);
    let delete = new("deleteGrant", "Delete a grant")
        .parameters(&["the_principal", "the_namespace", "force", "if_match"])
        .answers(StatusCode::NO_CONTENT, "The grant is deleted.", &[], Content::None)
        .errors(&[NotFound, Conflict, PreconditionFailed]);
    let audit = new("listAuditEvents", "List the changes of namespaces")
        .description("Only of namespaces on which the bearer has `create_grant`, by namespace, and in each the latest first.")
        .parameters(&["by_principal", "of_namespace", "since", "until", "exact_limit", "cursor"]);
    let explain = new("explainGrant", "Explain whether a principal has a permission, and why")
        .description("It needs `create_grant` on the namespace, and shows nothing of another one.")
        .parameters(&["the_principal", "the_namespace", "the_permission"]);
    vec![
        ("get", "/v1/audit", ok(audit, "AuditEvents").finish()),
        ("get", path, list.finish()),
        ("get", "/v1/grants/explain", ok(explain, "AccessExplanation").finish()),
        ("post", path, create.finish()),
        ("patch", path, update.finish()),
        ("delete", path, delete.finish()),
    ]
}

fn service_tokens() -> Vec<Route> {
    let path = "/v1/service-tokens";
    let new = |id, summary| bearer(id, "grants", Object, summary).errors(&RIGHT);
    let list = new("listServiceTokens", "List the service tokens that the bearer may revoke")
        .description("Only those on whose namespaces the bearer has `create_grant`.")
        .parameters(&["any_offset", "exact_limit"]);
    let issue = new("issueServiceToken", "Issue a service token")
        .description("It needs `create_grant` and each permission of the token, on each namespace, until the end of the token. It creates or widens the grants of the service.")
        .json_body("NewServiceToken")
        .answers(
            StatusCode::CREATED,
            "The new token, which no other answer has.",
            &[],
            Content::Json("IssuedServiceToken"),
        )
        .errors(&BODY)
        .errors(&[Conflict]);
    let revoke = new("revokeServiceToken", "Revoke a service token")
        .parameters(&["service_token_id"])
        .answers(StatusCode::NO_CONTENT, "The token is revoked.", &[], Content::None)
        .errors(&[NotFound]);
    vec![
        ("get", path, ok(list, "ServiceTokens").finish()),
        ("post", path, issue.finish()),
        ("delete", "/v1/service-tokens/{id}", revoke.finish()),
    ]
}

/// The routes that read modules.
fn modules() -> Vec<Route> {
    let new = |id, shape, summary| bearer(id, "modules", shape, summary);
    let read = |id, shape, summary| new(id, shape, summary).errors(&RIGHT).errors(&[NotFound]);
    let list = new("listModules", List, "List the modules that the bearer may read")
        .parameters(&["offset", "limit"]);
    let search = new("searchModules", List, "Find modules by words")
        .parameters(&["words", "of_namespace", "of_provider", "offset", "limit"])
        .errors(&RIGHT);
    let list_namespace = read("listModulesOfNamespace", List, "List the modules of a namespace")
        .parameters(&["namespace", "offset", "limit"]);
    let versions = read("listVersions", List, "List the versions of a module").parameters(&MODULE);
    let latest = read("downloadLatest", Line, "Find the download of the latest version")
        .parameters(&MODULE)
        .answers(StatusCode::FOUND, "The path of the download.", &["Location"], Content::None);
    let download = read("download", Line, "Get the address of the archive or the source")
        .parameters(&VERSION)
        .answers(StatusCode::NO_CONTENT, "The address.", &["X-Terraform-Get"], Content::None)
        .errors(&[SourceNotAllowed, Unpublished, ObjectChanged]);
    let usage = read("listDownloads", List, "List which principals download which versions")
        .parameters(&["namespace", "name", "system", "days", "limit", "cursor"]);
    let details = read("showLatest", List, "Show the latest version").parameters(&MODULE);
    let of_version = read("showVersion", List, "Show a version").parameters(&VERSION);
    vec![
        ("get", "/v1/modules", ok(list, "ModuleList").finish()),
        ("get", "/v1/modules/search", ok(search, "SearchResult").finish()),
        ("get", "/v1/modules/{namespace}", ok(list_namespace, "ModuleList").finish()),
        (
            "get",
            "/v1/modules/{namespace}/{name}/{system}/versions",
            ok(versions, "ModuleVersions").finish(),
        ),
        ("get", "/v1/modules/{namespace}/{name}/{system}/download", latest.finish()),
        ("get", "/v1/modules/{namespace}/{name}/{system}/{version}/download", download.finish()),
        ("get", "/v1/modules/{namespace}/{name}/{system}/usage", ok(usage, "Usage").finish()),
        ("get", "/v1/modules/{namespace}/{name}/{system}", ok(details, "ModuleDetails").finish()),
        (
            "get",
            "/v1/modules/{namespace}/{name}/{system}/{version}",
            ok(of_version, "ModuleDetails").finish(),
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

/// Adds the answers of a publication.
fn publishes(operation: Operation) -> Operation {
    let content = Content::Json("Published");
    operation
        .answers(StatusCode::CREATED, "The version is published.", &[], content)
        .answers(StatusCode::OK, "The version was already published.", &[], content)
        .errors(&[Conflict, TooLarge, QuotaExceeded, BadArchive, InsufficientStorage])
}

/// The routes that publish a version, and change its life.
fn versions() -> Vec<Route> {
    let path = "/v1/modules/{namespace}/{name}/{system}/{version}";
    let deprecation = "/v1/modules/{namespace}/{name}/{system}/{version}/deprecation";
    let explained = |operation: Operation| operation.json_body("Explanation").errors(&BODY);
    let publish = publishes(change("publishVersion", "Publish a version"))
        .parameters(&["namespace", "name", "system", "version", "claimed"])
        .body(&json!({
            "application/zip": file(),
            "application/gzip": file(),
            "application/json": {
                "schema": { "oneOf": [schema("NewSource"), schema("NewObject")] },
            },
        }))
        .errors(&BODY)
        .errors(&[SourceNotAllowed]);
    let unpublish = explained(change("unpublishVersion", "Unpublish a version"));
    let restore = change("restoreVersion", "Restore an unpublished version");
    let deprecate = explained(change("deprecateVersion", "Deprecate a version"));
    let undeprecate = change("undeprecateVersion", "Take the deprecation of a version back");
    vec![
        ("post", path, publish.finish()),
        ("delete", path, ok(unpublish, "Changed").finish()),
        (
            "post",
            "/v1/modules/{namespace}/{name}/{system}/{version}/restore",
            ok(restore, "Changed").finish(),
        ),
        ("put", deprecation, ok(deprecate, "Changed").finish()),
        ("delete", deprecation, ok(undeprecate, "Changed").finish()),
    ]
}

/// The routes of upload sessions.
fn uploads() -> Vec<Route> {
    let begin = change("beginUpload", "Begin an upload session")
        .json_body("Announcement")
        .answers(
            StatusCode::CREATED,
            "The session, with the URL for the archive.",
            &[],
            Content::Json("UploadSession"),
        )
        .answers(StatusCode::OK, "No session is necessary.", &[], Content::Json("NoSession"))
        .errors(&BODY)
        .errors(&[Conflict, QuotaExceeded]);
    let complete = publishes(change("completeUpload", "Complete an upload session")).parameters(&[
        "namespace",
        "name",
        "system",
        "version",
        "upload",
    ]);
    vec![
        ("post", "/v1/modules/{namespace}/{name}/{system}/{version}/uploads", begin.finish()),
        (
            "post",
            "/v1/modules/{namespace}/{name}/{system}/{version}/uploads/{upload}",
            complete.finish(),
        ),
    ]
}
