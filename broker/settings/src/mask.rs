//! Removes passwords, queries and tokens from a text, also from one that is no valid value.

use url::Url;

/// What the output has in place of a secret.
pub const HIDDEN: &str = "****";

/// The beginning of every token of a registry, without a prefix that all have.
const TOKENS: [&str; 3] = ["v4.local.", "v4.public.", "stile_svc_"];

/// The length of every access key id of AWS in its oldest form. Later ones are longer.
const ACCESS_KEY_ID: usize = 16;

/// Hides the user and the password of URLs, their queries and fragments, and tokens of registries.
///
/// The text can be a value, a list of values, or a sentence that quotes a value. A password can have
/// any character, so everything from `://` to the last `@` is hidden.
pub fn mask(text: &str) -> String {
    let text = match text.find("://").map(|at| at + "://".len()) {
        Some(start) => {
            let (scheme, rest) = text.split_at(start);
            let rest = match rest.rfind('@') {
                Some(at) => format!("{HIDDEN}{}", &rest[at..]),
                None => rest.to_owned(),
            };
            format!("{}{}", without_users(scheme), without_queries(&rest))
        }
        None => without_users(text),
    };
    TOKENS.into_iter().fold(text, |text, beginning| without_tokens(&text, beginning))
}

/// Shows the scheme, host and port of a value that is a URL, also without a scheme. It hides any other
/// text.
pub fn mask_url(text: &str) -> String {
    let has_scheme = text.contains("://");
    let url = if has_scheme { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
    // The parser takes a backslash for a slash, and a percent sign can stand for any character.
    let Some(url) = url.ok().filter(|_| !text.contains(['\\', '%'])) else {
        return HIDDEN.to_owned();
    };
    let (Some(host), path) = (url.host_str(), url.path()) else { return HIDDEN.to_owned() };
    // After a slash in a password, the parser takes the rest of the password for a path.
    if path.contains('@') || url.query().is_some_and(|query| query.contains('@')) {
        return HIDDEN.to_owned();
    }
    let scheme = if has_scheme { format!("{}://", url.scheme()) } else { String::new() };
    let user = if text.contains('@') { format!("{HIDDEN}@") } else { String::new() };
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{scheme}{user}{host}{port}")
}

/// Hides the user and the password before the last `@` of each word, if it has a `:` there.
///
/// The name of a session in an ARN can have an `@`, and an ARN has no password.
fn without_users(text: &str) -> String {
    let ends = |letter: char| letter.is_whitespace() || "`'\"<>,=".contains(letter);
    let hidden = |word: &str| match word.rfind('@') {
        Some(at) if word[..at].contains(':') && !word.starts_with("arn:") => {
            format!("{HIDDEN}{}", &word[at..])
        }
        _ => word.to_owned(),
    };
    text.split_inclusive(ends)
        .map(|part| {
            let word = part.trim_end_matches(ends);
            hidden(word) + &part[word.len()..]
        })
        .collect()
}

/// Shows the end of an access key id, by which a user recognises it. It hides any other text.
pub fn mask_access_key_id(text: &str) -> String {
    let is_key_id = text.len() >= ACCESS_KEY_ID
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if is_key_id { format!("{HIDDEN}{}", &text[text.len() - 4..]) } else { HIDDEN.to_owned() }
}

/// Hides what follows `?` or `#` up to the end of the URL.
fn without_queries(text: &str) -> String {
    let ends = |letter: char| letter.is_whitespace() || "`'\"<>,".contains(letter);
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['?', '#']) {
        let after = &rest[at + 1..];
        let end = after.find(ends).unwrap_or(after.len());
        shown.push_str(&rest[..=at]);
        if end > 0 {
            shown.push_str(HIDDEN);
        }
        rest = &after[end..];
    }
    shown + rest
}

/// Hides what follows the beginning of a token.
fn without_tokens(text: &str, beginning: &str) -> String {
    let ends = |letter: char| !(letter.is_ascii_alphanumeric() || "-_.=".contains(letter));
    let mut shown = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(beginning) {
        let (before, after) = rest.split_at(at + beginning.len());
        shown.push_str(before);
        shown.push_str(HIDDEN);
        rest = &after[after.find(ends).unwrap_or(after.len())..];
    }
    shown + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_urls_and_tokens_are_hidden_also_in_sentences() {
        for (text, expected) in [
            ("http://u:S@proxy:3128", "http://****@proxy:3128"),
            ("http://S@proxy", "http://****@proxy"),
            ("http://u:a/S'b @c@proxy/x", "http://****@proxy/x"),
            ("us-east-1=https://u:S@h", "us-east-1=https://****@h"),
            ("`https://u:S@h` must be a URL", "`https://****@h` must be a URL"),
            ("https://h/p?X-Amz-Signature=S", "https://h/p?****"),
            ("`https://h/?a=S` is wrong", "`https://h/?****` is wrong"),
            ("https://h/#S,https://i/?S", "https://h/#****,https://i/?****"),
            ("stile_v4.local.S-S_S", "stile_v4.local.****"),
            ("`stile_svc_S-S` is wrong", "`stile_svc_****` is wrong"),
            ("`v4.public.S` is wrong", "`v4.public.****` is wrong"),
        ] {
            assert_eq!(mask(text), expected);
        }
        for (text, expected) in [
            ("u:S@proxy:3128", "****@proxy:3128"),
            ("us-east-1=u:S@h", "us-east-1=****@h"),
            ("`u:S@h` must be a URL", "`****@h` must be a URL"),
            ("https:u:S@h", "****@h"),
            ("bob:S@h/get?u=https://x", "****@h/get?u=https://x"),
        ] {
            assert_eq!(mask(text), expected);
        }
        for (text, expected) in [
            ("u:S@proxy:3128", "****@proxy:3128"),
            ("http://u:S@h", "http://****@h"),
            ("http://S@h:1/S?S#S", "http://****@h:1"),
            ("proxy:3128?token=S", "proxy:3128"),
            ("http://h/?a=1,S b S", "http://h"),
            ("http%3A%2F%2Fbob%3AS%40p", HIDDEN),
            ("http://bob:1\\S@h", HIDDEN),
            ("http://bob:1/S@h", HIDDEN),
            ("http://bob:1?S@h", HIDDEN),
            ("http://", HIDDEN),
        ] {
            assert_eq!(mask_url(text), expected);
        }
        for text in ["SECRET", "AKIASECRETSECRET/", "akiasecretsecret"] {
            assert_eq!(mask_access_key_id(text), HIDDEN);
        }
    }

    #[test]
    fn a_text_without_a_secret_stays() {
        for text in [
            "",
            "registry.example.com",
            "a@example.com",
            "why?",
            "/var/lib/stile#1",
            "arn:aws:sts::111122223333:assumed-role/deploy/alice@example.com",
            "arn:aws:kms:us-east-1:111122223333:key/b41d0816",
            "us-east-1=https://vpce-0abc.sts.us-east-1.vpce.amazonaws.com",
        ] {
            assert_eq!(mask(text), text);
        }
        assert_eq!(mask_url("proxy:3128"), "proxy:3128");
        assert_eq!(mask_access_key_id("AKIAEXAMPLE234567890"), "****7890");
    }
}
