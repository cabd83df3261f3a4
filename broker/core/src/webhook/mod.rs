//! Webhooks: their names, URLs and secrets, and which addresses a webhook may have.

mod address;
mod secret;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

pub use address::is_global;
pub use secret::{SecretError, WebhookSecret};

/// The most characters of a webhook's name.
const MAX_NAME: usize = 64;

/// The most characters of a webhook's URL, encoded.
const MAX_URL: usize = 2000;

/// The most webhooks of a registry. Each event is kept once for each of them.
pub const MAX_WEBHOOKS: usize = 10;

/// The reason why a text is not the name of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to 64 lower-case letters, digits and hyphens, and begins with a letter")]
pub struct NameError;

/// The name of a webhook, by which an operator knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WebhookName(String);

impl WebhookName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = text.len() <= MAX_NAME
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(allowed);
        if is_name { Ok(Self(text.to_owned())) } else { Err(NameError) }
    }
}

impl fmt::Display for WebhookName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The reason why a text is not the URL of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It is no URL, or is too long.
    #[error("it is not a URL of at most 2000 characters")]
    NoUrl,
    /// Its scheme is not `https`.
    #[error("it does not begin with `https://`")]
    NotHttps,
    /// It has a user name or a password, which would be in logs.
    #[error("it has a user name or a password")]
    User,
    /// It has a fragment, which no client sends.
    #[error("it has a fragment")]
    Fragment,
    /// Its host is an address that is not public.
    #[error("its host `{0}` is not a public address")]
    NotPublic(IpAddr),
}

/// The URL of a webhook: `https`, without a user, and with no host that is an address in a network
/// that is not public.
///
/// A name can still lead to such an address. The sender checks each address before it connects.
///
/// Its path or query can contain a secret of the receiver, so [`fmt::Debug`] shows only the host.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// Parses a URL that an operator typed.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let url = Url::parse(text).map_err(|_| UrlError::NoUrl)?;
        // As the store will read it: other characters than those of ASCII are encoded by now.
        if url.as_str().len() > MAX_URL {
            return Err(UrlError::NoUrl);
        }
        if url.scheme() != "https" {
            return Err(UrlError::NotHttps);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(UrlError::User);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let url = Self(url);
        match url.address() {
            Some(address) if !is_global(address) => Err(UrlError::NotPublic(address)),
            _ => Ok(url),
        }
    }

    /// Returns the host, if it is an address and not a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self.0.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            _ => None,
        }
    }

    /// Returns the URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("WebhookUrl").field(&self.0.host_str().unwrap_or_default()).finish()
    }
}

impl fmt::Display for WebhookUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_letters_digits_and_hyphens() {
        let long = "a".repeat(65);
        for text in ["", "-a", "1a", "A", "a_b", "a b", "a/b", "\u{e9}", "a\n", &long] {
            assert_eq!(text.parse::<WebhookName>(), Err(NameError), "{text}");
        }
        for text in ["a", "ci", "chat-2", &long[..64]] {
            assert_eq!(text.parse::<WebhookName>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn a_url_that_is_not_https_or_names_a_private_address_is_refused() {
        let not_public = |text: &str| UrlError::NotPublic(text.parse().unwrap());
        for (text, error) in [
            ("", UrlError::NoUrl),
            ("example.com/hook", UrlError::NoUrl),
            ("https://", UrlError::NoUrl),
            ("https://example.com:99999/", UrlError::NoUrl),
            ("http://example.com/", UrlError::NotHttps),
            ("file:///etc/passwd", UrlError::NotHttps),
            ("https://user@example.com/", UrlError::User),
            ("https://:secret@example.com/", UrlError::User),
            ("https://example.com/#a", UrlError::Fragment),
            ("https://127.0.0.1/", not_public("127.0.0.1")),
            ("https://2130706433/", not_public("127.0.0.1")),
            ("https://0x7f.1/", not_public("127.0.0.1")),
            ("https://0177.0.0.1/", not_public("127.0.0.1")),
            ("https://\u{ff11}27.0.0.1/", not_public("127.0.0.1")),
            ("https://10.0.0.1./", not_public("10.0.0.1")),
            ("https://169.254.169.254/latest", not_public("169.254.169.254")),
            ("https://[::1]/", not_public("::1")),
            ("https://[::ffff:10.0.0.1]/", not_public("::ffff:10.0.0.1")),
        ] {
            assert_eq!(WebhookUrl::parse(text), Err(error), "{text}");
        }
        for (letter, most) in [("a", 1980), ("\u{e9}", 330)] {
            let of =
                |count| WebhookUrl::parse(&format!("https://example.com/{}", letter.repeat(count)));
            let longest = of(most).unwrap();
            assert_eq!(WebhookUrl::parse(longest.as_str()), Ok(longest.clone()), "{letter}");
            assert_eq!(of(most + 1), Err(UrlError::NoUrl), "{letter}");
        }
        let url = WebhookUrl::parse("https://example.com/S3CRET?S3CRET").unwrap();
        assert_eq!(format!("{url:?}"), "WebhookUrl(\"example.com\")");
        for text in ["https://example.com/hook?a=b", "https://93.184.216.34:8443/"] {
            assert_eq!(WebhookUrl::parse(text).unwrap().as_str(), text);
        }
    }
}
