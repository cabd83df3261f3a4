//! The endpoints in the variables of the AWS SDK, from which the broker recognises an emulator.

use clap::Args;

use crate::authn::sigv4::Endpoint;

/// The variables of the AWS SDK that replace its endpoints. The SDK itself reads them too.
#[derive(Debug, Clone, Default, Args)]
pub struct AwsEndpoints {
    /// The endpoint of every service
    #[arg(long = "aws-endpoint", env = "AWS_ENDPOINT_URL", value_name = "URL", hide = true)]
    all: Option<String>,

    /// The endpoint of DynamoDB only
    #[arg(
        long = "aws-endpoint-dynamodb",
        env = "AWS_ENDPOINT_URL_DYNAMODB",
        value_name = "URL",
        hide = true
    )]
    dynamodb: Option<String>,

    /// The endpoint of S3 only
    #[arg(long = "aws-endpoint-s3", env = "AWS_ENDPOINT_URL_S3", value_name = "URL", hide = true)]
    s3: Option<String>,

    /// The endpoint of KMS only
    #[arg(
        long = "aws-endpoint-kms",
        env = "AWS_ENDPOINT_URL_KMS",
        value_name = "URL",
        hide = true
    )]
    kms: Option<String>,

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
    /// Returns the URL of an emulator on this machine that replaces all of AWS.
    ///
    /// With a variable for one service, the SDK resolves each endpoint, as it does for
    /// `stile-admin`. Then one service could be the real one, so there is no emulator that the
    /// broker can trust.
    pub fn emulator(&self) -> Option<&str> {
        let others = [&self.dynamodb, &self.s3, &self.kms, &self.ignored];
        if others.into_iter().flatten().any(|value| !value.is_empty()) {
            return None;
        }
        self.all.as_deref().filter(|url| is_loopback(url))
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
        let all = |url: &str| AwsEndpoints { all: Some(url.to_owned()), ..Default::default() };
        let set = |value: &str| Some(value.to_owned());
        for no in [
            AwsEndpoints::default(),
            all(""),
            all("http://localhost:2"),
            all("http://127.0.0.1.evil.org"),
            all("https://dynamodb.us-east-1.amazonaws.com"),
            AwsEndpoints { dynamodb: set(emulator), ..all(emulator) },
            AwsEndpoints { s3: set("https://s3.example.com"), ..all(emulator) },
            AwsEndpoints { kms: set(emulator), ..AwsEndpoints::default() },
            AwsEndpoints { ignored: set("true"), ..all(emulator) },
        ] {
            assert_eq!(no.emulator(), None, "{no:?}");
        }
        for yes in [all(emulator), AwsEndpoints { dynamodb: set(""), ..all(emulator) }] {
            assert_eq!(yes.emulator(), Some(emulator), "{yes:?}");
        }
    }
}
