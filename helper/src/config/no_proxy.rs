//! Exempts the endpoints of AWS credentials from the proxies that the environment names.
//!
//! The AWS SDK sends every request through `HTTP_PROXY`. A container endpoint uses plain HTTP, so
//! the proxy would read the workload's authorization token and its credentials.

use url::{Host, Url};

/// The variables that name a proxy. The SDK and the client of the registry read all of them.
const PROXY_VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The variables that list the exempt hosts. The SDK reads the first one that is set.
const EXEMPT_VARIABLES: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The addresses of credential endpoints: loopback, link-local, and AWS's local IPv6 addresses.
const LOCAL: [&str; 5] = ["localhost", "127.0.0.0/8", "::1", "169.254.0.0/16", "fd00:ec2::/32"];

/// Variables with the URL of a credential endpoint.
const ENDPOINT_VARIABLES: [&str; 2] =
    ["AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_EC2_METADATA_SERVICE_ENDPOINT"];

/// Returns the variables to set so that no proxy receives a request for credentials.
///
/// The result is empty if no proxy is configured, or if every endpoint is already exempt.
pub(super) fn missing(
    variable: impl Fn(&'static str) -> Option<String>,
) -> Vec<(&'static str, String)> {
    let is_set = |name| variable(name).is_some_and(|value| !value.is_empty());
    if !PROXY_VARIABLES.into_iter().any(is_set) {
        return Vec::new();
    }
    let mut needed: Vec<String> = LOCAL.into_iter().map(str::to_owned).collect();
    needed
        .extend(ENDPOINT_VARIABLES.into_iter().filter_map(|name| endpoint_host(&variable(name)?)));

    let lists = EXEMPT_VARIABLES.map(|name| (name, variable(name)));
    let effective = lists.iter().find_map(|(name, list)| Some((*name, list.clone()?)));
    let (name, list) = effective.unwrap_or((EXEMPT_VARIABLES[0], String::new()));
    let listed: Vec<&str> = list.split(',').map(str::trim).filter(|it| !it.is_empty()).collect();
    if listed.contains(&"*") {
        return Vec::new();
    }
    needed.retain(|host| !listed.contains(&host.as_str()));
    if needed.is_empty() {
        return Vec::new();
    }
    let all: Vec<&str> = listed.into_iter().chain(needed.iter().map(String::as_str)).collect();
    vec![(name, all.join(","))]
}

/// Returns the host of an endpoint with plain HTTP. TLS hides a request from the proxy.
///
/// The SDK accepts plain HTTP from a container endpoint only if the name resolves to local addresses.
fn endpoint_host(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "http")?;
    Some(match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: &str = "localhost,127.0.0.0/8,::1,169.254.0.0/16,fd00:ec2::/32";

    fn missing_of(variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        missing(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_proxy_variable_exempts_every_credential_endpoint() {
        for name in PROXY_VARIABLES {
            let found = missing_of(&[(name, "http://proxy.example.com:3128")]);
            assert_eq!(found, [("NO_PROXY", ALL.to_owned())], "{name}");
        }
    }

    #[test]
    fn the_exemptions_that_the_user_set_stay() {
        let proxy = ("HTTP_PROXY", "http://proxy.example.com:3128");
        for (list, expected) in [
            (("NO_PROXY", ""), ("NO_PROXY", ALL.to_owned())),
            (
                ("NO_PROXY", "a.example, ::1"),
                (
                    "NO_PROXY",
                    "a.example,::1,localhost,127.0.0.0/8,169.254.0.0/16,fd00:ec2::/32".to_owned(),
                ),
            ),
            (("no_proxy", "a.example"), ("no_proxy", format!("a.example,{ALL}"))),
        ] {
            assert_eq!(missing_of(&[proxy, list]), [expected], "{list:?}");
        }
    }

    #[test]
    fn a_named_endpoint_with_plain_http_is_exempt_and_one_with_tls_is_not() {
        for (url, host) in [
            ("http://agent.internal:8080/creds", Some("agent.internal")),
            ("http://[fd00:ec2::23]/v1/credentials", Some("fd00:ec2::23")),
            ("http://169.254.170.23/v1/credentials", Some("169.254.170.23")),
            ("https://agent.example.com/creds", None),
            ("agent", None),
            ("", None),
        ] {
            for name in ENDPOINT_VARIABLES {
                let [(_, list)] =
                    missing_of(&[("ALL_PROXY", "p"), (name, url)]).try_into().unwrap();
                let expected = host.map_or_else(|| ALL.to_owned(), |host| format!("{ALL},{host}"));
                assert_eq!(list, expected, "{name} {url}");
            }
        }
    }

    #[test]
    fn nothing_changes_without_a_proxy_or_with_every_exemption() {
        for variables in [
            &[][..],
            &[("HTTP_PROXY", ""), ("NO_PROXY", "a.example")],
            &[("HTTP_PROXY", "p"), ("NO_PROXY", "*")],
            &[("HTTP_PROXY", "p"), ("NO_PROXY", ALL)],
            &[("HTTP_PROXY", "p"), ("no_proxy", ALL)],
        ] {
            assert_eq!(missing_of(variables), [], "{variables:?}");
        }
    }
}
