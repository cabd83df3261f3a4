//! Parses the base path of the routes that the authorizer guards.

/// The path at which the routes of the guarded registry begin: empty for the root, otherwise `/…`
/// without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizerBase(String);

impl AuthorizerBase {
    /// Parses a path.
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('/')?;
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let plain = |part: &str| {
            !matches!(part, "" | "." | "..")
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        match inner {
            "" => Some(Self(String::new())),
            inner => inner.split('/').all(plain).then(|| Self(format!("/{inner}"))),
        }
    }

    /// Returns the prefix of every guarded route.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_path_has_one_canonical_form() {
        for (given, expected) in [("/", ""), ("/terraform", "/terraform"), ("/a/b.c/", "/a/b.c")] {
            assert_eq!(AuthorizerBase::parse(given).unwrap().as_str(), expected);
        }
        for given in ["", "terraform", "/a//b", "/a/*", "/a/.."] {
            assert_eq!(AuthorizerBase::parse(given), None, "{given}");
        }
    }
}
