//! The variables of the AWS SDK that replace its endpoints, by one rule for all programs.
//!
//! The SDK reads these variables itself. The programs check them first, because the SDK panics if an
//! endpoint is empty, and only logs a wrong boolean.

use clap::Args;
use url::Url;

/// The variables of the AWS SDK that replace its endpoints, as hidden flags of a program.
#[derive(Debug, Clone, Default, Args)]
pub struct AwsEndpoints {
    /// The endpoint of every service
    #[arg(long = "aws-endpoint", env = "AWS_ENDPOINT_URL", value_name = "URL", hide = true)]
    pub(super) every_service: Option<String>,

    /// The endpoint of DynamoDB only
    #[arg(
        long = "aws-endpoint-dynamodb",
        env = "AWS_ENDPOINT_URL_DYNAMODB",
        value_name = "URL",
        hide = true
    )]
    pub(super) only_dynamodb: Option<String>,

    /// The endpoint of S3 only
    #[arg(long = "aws-endpoint-s3", env = "AWS_ENDPOINT_URL_S3", value_name = "URL", hide = true)]
    pub(super) only_s3: Option<String>,

    /// The endpoint of KMS only
    #[arg(
        long = "aws-endpoint-kms",
        env = "AWS_ENDPOINT_URL_KMS",
        value_name = "URL",
        hide = true
    )]
    pub(super) only_kms: Option<String>,

    /// The endpoint of STS only
    #[arg(
        long = "aws-endpoint-sts",
        env = "AWS_ENDPOINT_URL_STS",
        value_name = "URL",
        hide = true
    )]
    pub(super) only_sts: Option<String>,

    /// The endpoint of EventBridge only
    #[arg(
        long = "aws-endpoint-eventbridge",
        env = "AWS_ENDPOINT_URL_EVENTBRIDGE",
        value_name = "URL",
        hide = true
    )]
    pub(super) only_eventbridge: Option<String>,

    /// Whether the SDK ignores all of these variables
    #[arg(
        long = "aws-ignore-endpoints",
        env = "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
        value_name = "BOOL",
        hide = true
    )]
    pub(super) ignored: Option<String>,
}

/// The reason why the AWS SDK cannot use a variable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointsError {
    /// An endpoint is empty.
    #[error("`{0}` is set to nothing, which the AWS SDK does not accept; hint: unset it")]
    Empty(&'static str),
    /// An endpoint is not a URL, or has a user, a password or a query. The SDK would print it with each
    /// request that fails.
    #[error(
        "`{0}` must be a URL such as `https://HOST`, without user, query and fragment; hint: correct it, or unset it"
    )]
    Invalid(&'static str),
    /// The value is not a boolean. The SDK would use the endpoints that the user wants to ignore.
    #[error(
        "`AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is neither `true` nor `false`; hint: set it to `true`, or unset it"
    )]
    NotBoolean,
}

impl AwsEndpoints {
    /// Checks that the SDK can use the variables.
    ///
    /// # Errors
    ///
    /// [`EndpointsError`], if an endpoint that the SDK does not ignore is empty or no plain URL, or if
    /// the boolean is neither `true` nor `false`.
    pub fn check(&self) -> Result<(), EndpointsError> {
        if self.are_ignored()? {
            return Ok(());
        }
        let variables = [
            ("AWS_ENDPOINT_URL", &self.every_service),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.only_dynamodb),
            ("AWS_ENDPOINT_URL_S3", &self.only_s3),
            ("AWS_ENDPOINT_URL_KMS", &self.only_kms),
            ("AWS_ENDPOINT_URL_STS", &self.only_sts),
            ("AWS_ENDPOINT_URL_EVENTBRIDGE", &self.only_eventbridge),
        ];
        for (name, value) in variables {
            match value.as_deref() {
                Some("") => return Err(EndpointsError::Empty(name)),
                Some(url) if !is_plain_url(url) => return Err(EndpointsError::Invalid(name)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Returns the one URL that replaces every service. `None` if the SDK ignores it, or if a service
    /// has its own: then one of the services could be the real one.
    pub fn of_every_service(&self) -> Option<&str> {
        let of_one_service = [
            &self.only_dynamodb,
            &self.only_s3,
            &self.only_kms,
            &self.only_sts,
            &self.only_eventbridge,
        ];
        let is_used = self.are_ignored() == Ok(false);
        let is_alone = of_one_service.into_iter().all(Option::is_none);
        self.every_service.as_deref().filter(|_| is_used && is_alone)
    }

    /// Returns whether the SDK ignores the endpoints. It compares the value in any case.
    fn are_ignored(&self) -> Result<bool, EndpointsError> {
        match self.ignored.as_deref() {
            None | Some("") => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some(_) => Err(EndpointsError::NotBoolean),
        }
    }
}

/// Returns whether a text is a URL of a server, without user, password, query and fragment.
fn is_plain_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && !text.contains(['@', '\\'])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn a_variable_that_the_sdk_cannot_use_is_named() {
        let none = AwsEndpoints::default;
        for (endpoints, expected) in [
            (
                AwsEndpoints { every_service: set(""), ..none() },
                EndpointsError::Empty("AWS_ENDPOINT_URL"),
            ),
            (
                AwsEndpoints { only_dynamodb: set(""), ..none() },
                EndpointsError::Empty("AWS_ENDPOINT_URL_DYNAMODB"),
            ),
            (
                AwsEndpoints { only_eventbridge: set(""), ..none() },
                EndpointsError::Empty("AWS_ENDPOINT_URL_EVENTBRIDGE"),
            ),
            (
                AwsEndpoints { only_s3: set(""), ignored: set("False"), ..none() },
                EndpointsError::Empty("AWS_ENDPOINT_URL_S3"),
            ),
            (
                AwsEndpoints { only_kms: set(""), ignored: set(""), ..none() },
                EndpointsError::Empty("AWS_ENDPOINT_URL_KMS"),
            ),
            (
                AwsEndpoints { only_sts: set(""), ..none() },
                EndpointsError::Empty("AWS_ENDPOINT_URL_STS"),
            ),
            (
                AwsEndpoints { every_service: set("u:S3CRET@h"), ..none() },
                EndpointsError::Invalid("AWS_ENDPOINT_URL"),
            ),
            (
                AwsEndpoints { only_s3: set("https://u:S3CRET@h"), ..none() },
                EndpointsError::Invalid("AWS_ENDPOINT_URL_S3"),
            ),
            (
                AwsEndpoints { only_kms: set("https://h?S3CRET"), ..none() },
                EndpointsError::Invalid("AWS_ENDPOINT_URL_KMS"),
            ),
            (
                AwsEndpoints { only_sts: set("127.0.0.1:1"), ..none() },
                EndpointsError::Invalid("AWS_ENDPOINT_URL_STS"),
            ),
            (AwsEndpoints { ignored: set("1"), ..none() }, EndpointsError::NotBoolean),
            (AwsEndpoints { ignored: set("yes"), ..none() }, EndpointsError::NotBoolean),
            (AwsEndpoints { ignored: set("true "), ..none() }, EndpointsError::NotBoolean),
        ] {
            assert_eq!(endpoints.check(), Err(expected), "{endpoints:?}");
        }
        for usable in [
            none(),
            AwsEndpoints { ignored: set(""), ..none() },
            AwsEndpoints { every_service: set("http://127.0.0.1:1"), ..none() },
            // The SDK does not read an endpoint that it ignores.
            AwsEndpoints { every_service: set(""), ignored: set("TRUE"), ..none() },
        ] {
            assert_eq!(usable.check(), Ok(()), "{usable:?}");
        }
    }

    #[test]
    fn a_url_replaces_every_service_only_if_no_service_has_its_own_and_it_is_not_ignored() {
        let url = "http://127.0.0.1:2/";
        let all = || AwsEndpoints { every_service: set(url), ..AwsEndpoints::default() };
        for no in [
            AwsEndpoints::default(),
            AwsEndpoints { only_dynamodb: set(url), ..all() },
            AwsEndpoints { only_s3: set("https://s3.example.com"), ..all() },
            AwsEndpoints { only_sts: set(url), ..all() },
            AwsEndpoints { only_eventbridge: set(url), ..all() },
            AwsEndpoints { only_kms: set(url), ..AwsEndpoints::default() },
            AwsEndpoints { ignored: set("true"), ..all() },
            AwsEndpoints { ignored: set("True"), ..all() },
            AwsEndpoints { ignored: set("1"), ..all() },
        ] {
            assert_eq!(no.of_every_service(), None, "{no:?}");
        }
        for ignored in [None, set("false"), set("FALSE"), set("")] {
            let used = AwsEndpoints { ignored, ..all() };
            assert_eq!(used.of_every_service(), Some(url), "{used:?}");
        }
    }
}
