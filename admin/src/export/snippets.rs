//! What a web server needs to know about the tree: media types, and the header that Terraform reads.
//!
//! Terraform takes the place of a module only from the header `X-Terraform-Get`, which no file has.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::path::TreePath;

/// The patterns of paths with their media types. `*` is any text without `/`.
const CONTENT_TYPES: [(&str, &str); 11] = [
    (".well-known/terraform.json", "application/json"),
    ("v1/providers/*/*/versions", "application/json"),
    ("v1/providers/*/*/*/download/*/*", "application/json"),
    ("v1/providers/*/*/*/files/*.zip", "application/zip"),
    ("v1/providers/*/*/*/files/*_manifest.json", "application/json"),
    ("v1/providers/*/*/*/sums/*/*_SHA256SUMS", "text/plain"),
    ("v1/providers/*/*/*/sums/*/*_SHA256SUMS.sig", "application/octet-stream"),
    ("v1/modules/*/*/*/versions", "application/json"),
    ("v1/modules/*/*/*/*/download", "application/json"),
    ("v1/modules/*/*/*/*/archive.zip", "application/zip"),
    ("v1/modules/*/*/*/*/archive.tar.gz", "application/gzip"),
];

/// The largest function that `CloudFront` accepts, in bytes.
///
/// <https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/cloudfront-limits.html>
const MAX_FUNCTION: usize = 10 * 1024;

/// The beginning of the snippet for nginx.
const NGINX: &str = r"# Written by `stile-admin export`. Include it in the `server` block whose `root` is this tree:
#
#     server {
#         listen 443 ssl;
#         root /srv/registry;
#         include /srv/registry/snippets/nginx.conf;
#     }

location = /.well-known/terraform.json {
    types { }
    default_type application/json;
}
location /v1/ {
    types {
        application/zip zip;
        application/gzip gz;
    }
    default_type application/json;
}
location ~ ^/v1/providers/[^/]+/[^/]+/[^/]+/sums/ {
    types {
        application/octet-stream sig;
    }
    default_type text/plain;
}
location ~ ^/(snippets/|content-types\.txt$) {
    return 404;
}
location ~ /\.stile- {
    return 404;
}

# The place of each module, in the header that Terraform reads.
";

/// The function for `CloudFront`, for a table in the function.
const FUNCTION: &str = r"// Written by `stile-admin export`. Run it at each viewer request, with the runtime cloudfront-js-2.0.
// It answers with the place of a module, in the header that Terraform reads.
const locations = LOCATIONS;

function handler(event) {
    const location = locations[event.request.uri];
    if (location === undefined) {
        return event.request;
    }
    return {
        statusCode: 204,
        statusDescription: 'No Content',
        headers: { 'x-terraform-get': { value: location } },
    };
}
";

/// The function for `CloudFront`, for more modules than a function can list.
const FUNCTION_WITH_STORE: &str = r"// Written by `stile-admin export`. Run it at each viewer request, with the runtime cloudfront-js-2.0.
// It answers with the place of a module, in the header that Terraform reads.
// Associate it with a key value store that has the content of `cloudfront-keys.json`.
import cf from 'cloudfront';

const locations = cf.kvs();

async function handler(event) {
    if (!event.request.uri.startsWith('/v1/modules/')) {
        return event.request;
    }
    try {
        const location = await locations.get(event.request.uri);
        return {
            statusCode: 204,
            statusDescription: 'No Content',
            headers: { 'x-terraform-get': { value: location } },
        };
    } catch (absent) {
        return event.request;
    }
}
";

/// The path of a module's download document, and the place of the module.
///
/// Both consist of parsed names only: none has a quote, a `$`, a backslash or a space, which would be
/// code in a snippet.
type Location = (TreePath, String);

/// Returns the list of media types: a pattern and a type on each line.
pub(super) fn content_types() -> String {
    CONTENT_TYPES.iter().fold(String::new(), |mut text, (pattern, media_type)| {
        let _infallible = writeln!(text, "{pattern:<44} {media_type}");
        text
    })
}

/// Returns the snippet for nginx.
pub(super) fn nginx(locations: &[Location]) -> String {
    locations.iter().fold(NGINX.to_owned(), |mut text, (path, location)| {
        let _infallible = write!(
            text,
            "location = /{path} {{\n    add_header X-Terraform-Get \"{location}\";\n    return 204;\n}}\n"
        );
        text
    })
}

/// Returns the function for `CloudFront`.
pub(super) fn cloudfront(locations: &[Location]) -> String {
    let table: Map<String, Value> = locations
        .iter()
        .map(|(path, location)| (format!("/{path}"), location.as_str().into()))
        .collect();
    let function = FUNCTION.replace("LOCATIONS", &format!("{:#}", Value::from(table)));
    if function.len() <= MAX_FUNCTION { function } else { FUNCTION_WITH_STORE.to_owned() }
}

/// Returns the data for a key value store of `CloudFront`, in the form that it imports.
pub(super) fn cloudfront_keys(locations: &[Location]) -> String {
    let data: Vec<Value> = locations
        .iter()
        .map(|(path, location)| json!({ "key": format!("/{path}"), "value": location }))
        .collect();
    format!("{:#}\n", json!({ "data": data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locations(count: usize) -> Vec<Location> {
        let path = |n: usize| {
            let text = format!("v1/modules/acme/vpc/aws/1.0.{n}/download");
            TreePath::parse(&text).unwrap().0
        };
        (0..count).map(|n| (path(n), format!("./archive.zip?checksum=sha256:{n:064}"))).collect()
    }

    #[test]
    fn nginx_gets_one_location_for_each_module() {
        let text = nginx(&locations(2));
        let expected = format!(
            "location = /v1/modules/acme/vpc/aws/1.0.1/download {{\n    add_header X-Terraform-Get \
             \"./archive.zip?checksum=sha256:{:064}\";\n    return 204;\n}}\n",
            1
        );
        assert!(text.ends_with(&expected), "{text}");
        assert_eq!(text.matches("return 204").count(), 2);
    }

    #[test]
    fn a_function_that_would_be_too_large_reads_a_key_value_store() {
        let small = cloudfront(&locations(2));
        assert!(small.contains("\"/v1/modules/acme/vpc/aws/1.0.1/download\": \"./archive.zip?"));
        let large = cloudfront(&locations(1000));
        assert!(large.len() <= MAX_FUNCTION && large.contains("cf.kvs()"), "{large}");
        let keys: Value = serde_json::from_str(&cloudfront_keys(&locations(1000))).unwrap();
        assert_eq!(keys["data"].as_array().unwrap().len(), 1000);
    }

    #[test]
    fn each_kind_of_file_has_a_media_type() {
        let text = content_types();
        assert_eq!(text.lines().count(), CONTENT_TYPES.len());
        assert!(text.contains("v1/modules/*/*/*/*/archive.tar.gz            application/gzip\n"));
    }
}
