//! Names the proxy of the environment for HTTPS, so that an error can blame it and not the registry.

use url::Url;

/// The variables that name a proxy for HTTPS, as the HTTP client reads them: of each pair only the
/// first one that is set, and the second pair only if the first one names no proxy.
const PAIRS: [[&str; 2]; 2] = [["HTTPS_PROXY", "https_proxy"], ["ALL_PROXY", "all_proxy"]];

/// The proxy of the environment for HTTPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpsProxy {
    /// The variable that names it.
    pub variable: &'static str,
    /// Its URL, without a user and a password.
    pub address: String,
}

impl std::fmt::Display for HttpsProxy {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "the proxy `{}` of `{}`", self.address, self.variable)
    }
}

/// Returns the proxy for HTTPS, if a variable names one.
pub(super) fn named(variable: impl Fn(&'static str) -> Option<String>) -> Option<HttpsProxy> {
    PAIRS.iter().find_map(|pair| {
        let (name, value) = pair.iter().find_map(|name| Some((*name, variable(name)?)))?;
        Some(HttpsProxy { variable: name, address: address(&value)? })
    })
}

/// Returns the scheme, host and port of a proxy. A value without a scheme is an HTTP proxy.
///
/// It returns nothing for a URL with `@` after its host: a part of a password is there.
fn address(value: &str) -> Option<String> {
    let url = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let (_, rest) = url.split_once("://")?;
    if rest.split_once(['/', '\\', '?', '#']).is_some_and(|(_, after)| after.contains('@')) {
        return None;
    }
    let url = Url::parse(&url).ok()?;
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named_by(variables: &[(&str, &str)]) -> Option<(&'static str, String)> {
        let proxy = named(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        proxy.map(|proxy| (proxy.variable, proxy.address))
    }

    #[test]
    fn a_user_and_a_password_are_not_shown() {
        for (value, shown) in [
            ("http://bob:hunter2@proxy.example.com:3128", Some("http://proxy.example.com:3128")),
            ("bob:hunter2@proxy.example.com:3128", Some("http://proxy.example.com:3128")),
            ("https://hunter2@proxy.example.com/", Some("https://proxy.example.com")),
            ("socks5://bob:hunter2@[fd00::1]:1080", Some("socks5://[fd00::1]:1080")),
            ("http://bob:1/hunter2@proxy.example.com", None),
            ("http://bob:1#hunter2@proxy.example.com", None),
            ("bob:hunter/2@proxy.example.com", None),
            ("http://bob:12345\\hunter2@proxy.example.com:1", None),
            ("", None),
            ("http://", None),
        ] {
            let shown = shown.map(|shown| ("HTTPS_PROXY", shown.to_owned()));
            assert_eq!(named_by(&[("HTTPS_PROXY", value)]), shown, "{value}");
        }
    }

    #[test]
    fn the_variables_are_read_in_the_order_of_the_http_client() {
        let (upper, lower) =
            (("HTTPS_PROXY", "http://a.example:1"), ("https_proxy", "http://b.example:1"));
        let all = ("ALL_PROXY", "http://c.example:1");
        for (variables, expected) in [
            (&[][..], None),
            (&[("HTTP_PROXY", "http://a.example:1")], None),
            (&[all, lower, upper], Some("HTTPS_PROXY")),
            (&[all, lower], Some("https_proxy")),
            (&[all, lower, ("HTTPS_PROXY", "")], Some("ALL_PROXY")),
            (&[("all_proxy", "http://c.example:1")], Some("all_proxy")),
        ] {
            assert_eq!(named_by(variables).map(|(name, _)| name), expected, "{variables:?}");
        }
    }
}
