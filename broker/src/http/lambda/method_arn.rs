//! Reads the ARN of the one request that API Gateway asks its authorizer about.

use axum::http::Method;

/// `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`, in which nothing stands for more than itself.
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
        // A word is a method's token, so the fallback is never taken; it is one that nothing is allowed for.
        Method::from_bytes(self.method.as_bytes()).unwrap_or(Method::TRACE)
    }

    pub(super) fn path(&self) -> String {
        format!("/{}", self.path)
    }
}

/// No `*` or `?`, which a policy takes for patterns; no `${`, its variables; no `%`, which has a second spelling; and no
/// segment that somebody else's server might resolve.
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
    fn an_arn_that_could_stand_for_more_than_one_request_is_refused() {
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
