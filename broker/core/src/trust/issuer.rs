//! The issuer of JWTs: a URL that is compared byte for byte.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

/// The most bytes of an issuer's URL.
const MAX_LEN: usize = 500;

/// The reason why a text is not an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IssuerUrlError {
    /// It is no URL, or is too long.
    #[error("it is not a URL of at most 500 ASCII characters")]
    NoUrl,
    /// Its scheme is not `https`.
    #[error("it does not begin with `https://`")]
    NotHttps,
    /// It has a user name, a query or a fragment (OpenID Connect Discovery 1.0, section 3).
    #[error("it has a user name, a query or a fragment")]
    NotPlain,
    /// A client would change it before it sends it, so two texts would lead to one issuer.
    #[error("write it as a client sends it: the host in lower case, no port 443, no `.` or `..`")]
    NotCanonical,
}

/// The issuer of JWTs, as its `iss` claim says it: an `https` URL without user, query and fragment.
///
/// It is compared byte for byte (RFC 7519, section 4.1.1), so a slash at the end makes another issuer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IssuerUrl(String);

impl IssuerUrl {
    /// Returns the text, as the claim `iss` must have it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the URL of the discovery document (OpenID Connect Discovery 1.0, section 4.1).
    pub fn discovery(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.0.strip_suffix('/').unwrap_or(&self.0))
    }

    /// Returns the host, and the port if it is not 443.
    pub fn host(&self) -> &str {
        let rest = self.0.strip_prefix("https://").unwrap_or(&self.0);
        rest.split_once('/').map_or(rest, |(host, _)| host)
    }

    /// Returns the host, if it is an address and not a name.
    pub fn address(&self) -> Option<IpAddr> {
        match Url::parse(&self.0).ok()?.host()? {
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
            Host::Domain(_) => None,
        }
    }
}

impl FromStr for IssuerUrl {
    type Err = IssuerUrlError;

    fn from_str(text: &str) -> Result<Self, IssuerUrlError> {
        let plain = text.len() <= MAX_LEN && text.bytes().all(|byte| byte.is_ascii_graphic());
        let url = Url::parse(text).ok().filter(|_| plain).ok_or(IssuerUrlError::NoUrl)?;
        if url.scheme() != "https" {
            return Err(IssuerUrlError::NotHttps);
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || text.contains(['?', '#', '@', '\\'])
        {
            return Err(IssuerUrlError::NotPlain);
        }
        // Upper case in the host, a default port, `.` and `..` in the path.
        let same = url.as_str() == text || url.as_str().strip_suffix('/') == Some(text);
        if !same {
            return Err(IssuerUrlError::NotCanonical);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for IssuerUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_that_two_texts_could_name_is_refused() {
        let long = format!("https://gitlab.com/{}", "a".repeat(500));
        for text in [
            "",
            "gitlab.com",
            "http://gitlab.com",
            "https://",
            "https://user@gitlab.com",
            "https://gitlab.com?x=1",
            "https://gitlab.com/#",
            "https://GitLab.com",
            "https://gitlab.com:443",
            "https://gitlab.com/a/../b",
            "https://gitlab.com\\evil.org",
            "https://gitlab.com ",
            "https://gitlab.com\n",
            "https://g\u{ef}tlab.com",
            "HTTPS://gitlab.com",
            &long,
        ] {
            assert!(text.parse::<IssuerUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_issuer_keeps_its_bytes_and_a_slash_makes_another_one() {
        let bare: IssuerUrl = "https://gitlab.com".parse().unwrap();
        let slash: IssuerUrl = "https://gitlab.com/".parse().unwrap();
        assert_ne!(bare, slash);
        assert_eq!(bare.as_str(), "https://gitlab.com");
        assert_eq!(bare.discovery(), slash.discovery());
        let deep: IssuerUrl = "https://git.corp.example:8443/api/oidc".parse().unwrap();
        assert_eq!(
            deep.discovery(),
            "https://git.corp.example:8443/api/oidc/.well-known/openid-configuration"
        );
        assert_eq!((deep.host(), deep.address()), ("git.corp.example:8443", None));
        let local: IssuerUrl = "https://10.0.0.7".parse().unwrap();
        assert_eq!(local.address(), Some([10, 0, 0, 7].into()));
    }
}
