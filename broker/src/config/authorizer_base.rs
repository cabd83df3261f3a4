//! The path below which a function guards the routes of a registry, read once.

/// The path below which a guarded registry has its routes: empty for the root, else `/…` without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorizerBase(String);

impl AuthorizerBase {
    /// Reads a path.
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

    /// What every route begins with.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authorizers_base_has_one_spelling() {
        for (given, expected) in [("/", ""), ("/terraform", "/terraform"), ("/a/b.c/", "/a/b.c")] {
            assert_eq!(AuthorizerBase::parse(given).unwrap().as_str(), expected);
        }
        for given in ["", "terraform", "/a//b", "/a/*", "/a/.."] {
            assert_eq!(AuthorizerBase::parse(given), None, "{given}");
        }
    }
}
