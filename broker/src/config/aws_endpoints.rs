//! The endpoints in the variables of the AWS SDK, from which the broker recognises an emulator.

use clap::Args;

use crate::authn::sigv4::Endpoint;

/// The variables of the AWS SDK that replace its endpoints. The SDK itself reads them too.
#[derive(Debug, Clone, Default, Args)]
pub struct AwsEndpoints {
    /// The endpoint of every service
    #[arg(long = "aws-endpoint", env = "AWS_ENDPOINT_URL", value_name = "URL", hide = true)]
    every_service: Option<String>,

    /// The endpoint of DynamoDB only
    #[arg(
        long = "aws-endpoint-dynamodb",
        env = "AWS_ENDPOINT_URL_DYNAMODB",
        value_name = "URL",
        hide = true
    )]
    only_dynamodb: Option<String>,

    /// The endpoint of S3 only
    #[arg(long = "aws-endpoint-s3", env = "AWS_ENDPOINT_URL_S3", value_name = "URL", hide = true)]
    only_s3: Option<String>,

    /// The endpoint of KMS only
    #[arg(
        long = "aws-endpoint-kms",
        env = "AWS_ENDPOINT_URL_KMS",
        value_name = "URL",
        hide = true
    )]
    only_kms: Option<String>,

    /// Whether the SDK ignores all of these variables
    #[arg(
        long = "aws-ignore-endpoints",
        env = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        value_name = "BOOL",
        hide = true
    )]
    ignored: Option<String>,
}

impl AwsEndpoints {
    /// Returns the name of a variable that is set to nothing. The SDK would panic because of it.
    pub fn set_to_nothing(&self) -> Option<&'static str> {
        let variables = [
            ("AWS_ENDPOINT_URL", &self.every_service),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.only_dynamodb),
            ("AWS_ENDPOINT_URL_S3", &self.only_s3),
            ("AWS_ENDPOINT_URL_KMS", &self.only_kms),
        ];
        let is_empty = |value: &Option<String>| value.as_deref() == Some("");
        variables.into_iter().find(|(_, value)| is_empty(value)).map(|(name, _)| name)
    }

    /// Returns the URL of an emulator on this machine that replaces all of AWS.
    ///
    /// With a variable for one service, the SDK resolves each endpoint, as it does for
    /// `stile-admin`. Then one service could be the real one, so there is no emulator that the
    /// broker can trust.
    pub fn emulator(&self) -> Option<&str> {
        let of_one_service = [&self.only_dynamodb, &self.only_s3, &self.only_kms];
        let ignores = self.ignored.as_deref().is_some_and(|value| !matches!(value, "" | "false"));
        if ignores || of_one_service.into_iter().any(Option::is_some) {
            return None;
        }
        self.every_service.as_deref().filter(|url| is_loopback(url))
    }
}

/// Returns whether the URL has a loopback address. A host name does not count: it could resolve to
/// any address.
fn is_loopback(url: &str) -> bool {
    matches!(Endpoint::parse(url.trim_end_matches('/')), Ok(Endpoint::Loopback(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_loopback_address_for_every_service_is_an_emulator() {
        let emulator = "http://127.0.0.1:2/";
        let all =
            |url: &str| AwsEndpoints { every_service: Some(url.to_owned()), ..Default::default() };
        let set = |value: &str| Some(value.to_owned());
        for no in [
            AwsEndpoints::default(),
            all(""),
            all("http://localhost:2"),
            all("http://127.0.0.1.evil.org"),
            all("https://dynamodb.us-east-1.amazonaws.com"),
            AwsEndpoints { only_dynamodb: set(emulator), ..all(emulator) },
            AwsEndpoints { only_s3: set("https://s3.example.com"), ..all(emulator) },
            AwsEndpoints { only_kms: set(emulator), ..AwsEndpoints::default() },
            AwsEndpoints { ignored: set("true"), ..all(emulator) },
        ] {
            assert_eq!(no.emulator(), None, "{no:?}");
        }
        let not_ignored = AwsEndpoints { ignored: set("false"), ..all(emulator) };
        assert_eq!(
            (all(emulator).emulator(), not_ignored.emulator()),
            (Some(emulator), Some(emulator))
        );
    }

    #[test]
    fn a_variable_that_is_set_to_nothing_is_named() {
        let nothing = || Some(String::new());
        for (endpoints, expected) in [
            (AwsEndpoints::default(), None),
            (AwsEndpoints { ignored: nothing(), ..AwsEndpoints::default() }, None),
            (
                AwsEndpoints { every_service: nothing(), ..AwsEndpoints::default() },
                Some("AWS_ENDPOINT_URL"),
            ),
            (
                AwsEndpoints { only_s3: nothing(), ..AwsEndpoints::default() },
                Some("AWS_ENDPOINT_URL_S3"),
            ),
            (
                AwsEndpoints { only_kms: nothing(), ..AwsEndpoints::default() },
                Some("AWS_ENDPOINT_URL_KMS"),
            ),
        ] {
            assert_eq!(endpoints.set_to_nothing(), expected, "{endpoints:?}");
        }
    }
}
