//! Variables that a program's libraries read themselves: those of the AWS SDK and of proxies.

use crate::mask::{mask_access_key_id, mask_url};
use crate::{Setting, Source};

/// What a variable contains, and so what of it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// No secret.
    Plain,
    /// A URL, which can have a password.
    Url,
    /// An access key id.
    AccessKeyId,
    /// A secret as a whole.
    Secret,
}

/// The variables that decide which identity signs, in addition to the profile.
const IDENTITY: [(&str, Content); 12] = [
    ("AWS_ACCESS_KEY_ID", Content::AccessKeyId),
    ("AWS_SECRET_ACCESS_KEY", Content::Secret),
    ("AWS_SESSION_TOKEN", Content::Secret),
    ("AWS_ROLE_ARN", Content::Plain),
    ("AWS_ROLE_SESSION_NAME", Content::Plain),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", Content::Plain),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", Content::Secret),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", Content::Url),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN", Content::Secret),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", Content::Plain),
    ("AWS_CONFIG_FILE", Content::Plain),
    ("AWS_SHARED_CREDENTIALS_FILE", Content::Plain),
];

/// The variables that name a proxy, or the hosts that no proxy is for. Of each pair, programs read only
/// the first one that is set, also if it is set to nothing.
const PROXIES: [([&str; 2], Content); 4] = [
    (["HTTP_PROXY", "http_proxy"], Content::Url),
    (["HTTPS_PROXY", "https_proxy"], Content::Url),
    (["ALL_PROXY", "all_proxy"], Content::Url),
    (["NO_PROXY", "no_proxy"], Content::Plain),
];

/// Returns the set variables that decide which AWS identity signs.
pub fn identity(read: impl Fn(&str) -> Option<String>) -> Vec<Setting> {
    set(&IDENTITY, read)
}

/// Returns the set variables that name a proxy, or the hosts that no proxy is for.
pub fn proxies(read: impl Fn(&str) -> Option<String>) -> Vec<Setting> {
    let read = &read;
    let used = PROXIES.iter().filter_map(|(pair, content)| {
        let name = pair.iter().find(|name| read(name).is_some())?;
        Some((*name, *content))
    });
    set(&used.collect::<Vec<_>>(), read)
}

fn set(known: &[(&str, Content)], read: impl Fn(&str) -> Option<String>) -> Vec<Setting> {
    let setting = |(name, content): &(&str, Content)| {
        let value = read(name).filter(|value| !value.trim().is_empty())?;
        let source = Source::Variable((*name).to_owned());
        Some(match content {
            Content::Plain => Setting::new(*name, Some(value), source),
            Content::Url => Setting::new(*name, Some(mask_url(&value)), source),
            Content::AccessKeyId => Setting::new(*name, Some(mask_access_key_id(&value)), source),
            Content::Secret => Setting::secret(*name, source),
        })
    };
    known.iter().filter_map(setting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_with_a_secret_is_shown_without_it_and_an_empty_one_not_at_all() {
        let url =
            |name: &str| name.ends_with("URI") || name.to_ascii_uppercase().ends_with("PROXY");
        let read = |name: &str| {
            Some(if url(name) { "u:S3CRET@h" } else { "S3CRET" }.to_owned()).filter(|_| {
                !["FILE", "ROLE", "NO_PROXY", "no_proxy"].iter().any(|part| name.contains(part))
            })
        };
        let shown = [identity(read), proxies(read)].concat();
        assert_eq!(shown.len(), IDENTITY.len() + PROXIES.len() - 7);
        assert!(!format!("{shown:?}").contains("S3CRET"), "{shown:?}");
        assert_eq!(identity(|_| Some(" ".to_owned())), []);
    }

    #[test]
    fn of_a_pair_only_the_variable_that_programs_read_is_shown() {
        for (set, expected) in [
            (&[("HTTPS_PROXY", "h:1"), ("https_proxy", "h:2")][..], &["HTTPS_PROXY"][..]),
            (&[("https_proxy", "h:2")], &["https_proxy"]),
            (&[("HTTPS_PROXY", ""), ("https_proxy", "h:2"), ("all_proxy", "h")], &["all_proxy"]),
            (&[("NO_PROXY", "a"), ("no_proxy", "b")], &["NO_PROXY"]),
        ] {
            let read = |name: &str| {
                set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let names: Vec<String> =
                proxies(read).into_iter().map(|setting| setting.name).collect();
            assert_eq!(names, expected, "{set:?}");
        }
    }
}
