//! Parses the ARN of the request that API Gateway asks its authorizer about.

use axum::http::Method;

/// An ARN of the form `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`, without patterns.
pub(super) struct MethodArn<'a> {
    pub(super) account: &'a str,
    pub(super) api: &'a str,
    pub(super) stage: &'a str,
    method: &'a str,
    path: &'a str,
}

impl<'a> MethodArn<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let &["arn", partition, "execute-api", region, account, resource] = parts.as_slice() else {
            return None;
        };
        let pieces: Vec<&str> = resource.splitn(4, '/').collect();
        let &[api, stage, method, path] = pieces.as_slice() else { return None };
        let word = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let words = [partition, region, account, api, method].into_iter().all(word)
            && (stage == "$default" || word(stage));
        (words && is_plain_path(path)).then_some(Self { account, api, stage, method, path })
    }

    pub(super) fn method(&self) -> Method {
        // The parser accepts only valid methods, so the fallback is never used. No right allows it.
        Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::TRACE)
    }

    pub(super) fn path(&self) -> String {
        format!("/{}", self.path)
    }
}

/// Returns whether the path matches only itself.
///
/// In a policy, `*` and `?` are patterns, and `${` begins a variable. `%` gives a path a second
/// spelling. Another server could resolve `.` and `..`.
fn is_plain_path(path: &str) -> bool {
    path.split('/').all(|part| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|b| {
                b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~' | b'+' | b'@')
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_that_could_match_several_requests_is_rejected() {
        let arn = |path: &str| {
            format!("arn:aws:execute-api:us-east-1:111122223333:abcdef1234/prod/GET/{path}")
        };
        for path in [
            "",
            "*",
            "v1/modules/acme/*",
            "v1/modules/acme/vp?/aws/versions",
            "v1/modules/acme%2Fb/vpc/aws/versions",
            "v1/modules/${aws:username}/vpc/aws/versions",
            "v1/modules//acme/versions",
            "v1/modules/acme/../other/versions",
            "v1/modules/./acme/versions",
            "v1/modules/acme/",
            "v1/modules/acme /versions",
            "v1/modules/ac\u{e9}/versions",
        ] {
            assert!(MethodArn::parse(&arn(path)).is_none(), "{path}");
        }
        for whole in [
            "",
            "*",
            "arn:aws:execute-api:us-east-1:111122223333:abcdef1234/*/GET/v1/modules/acme/vpc",
            "arn:aws:execute-api:us-east-1:111122223333:abcdef1234/prod/*/v1/modules/acme/vpc",
            "arn:aws:execute-api:us-east-1:111122223333:*/prod/GET/v1/modules/acme/vpc",
            "arn:aws:execute-api:*:111122223333:abcdef1234/prod/GET/v1/modules/acme/vpc",
            "arn:aws:execute-api:us-east-1:111122223333:abcdef1234/prod/GET",
            "arn:aws:lambda:us-east-1:111122223333:abcdef1234/prod/GET/v1/modules/acme/vpc",
        ] {
            assert!(MethodArn::parse(whole).is_none(), "{whole}");
        }
        let text = arn("v1/modules/acme/vpc/aws/1.0.0+b/download");
        let read = MethodArn::parse(&text).unwrap();
        assert_eq!((read.account, read.api, read.stage), ("111122223333", "abcdef1234", "prod"));
        assert_eq!(
            (read.method(), read.path().as_str()),
            (Method::GET, "/v1/modules/acme/vpc/aws/1.0.0+b/download")
        );
    }
}
