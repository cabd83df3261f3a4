//! Recognises an emulator of AWS in the endpoints that the variables of the AWS SDK name.

use stile_store::AwsEndpoints;

use crate::authn::sigv4::Endpoint;

/// Returns the URL of an emulator on this machine that replaces all of AWS.
///
/// With a variable for one service, the SDK resolves each endpoint, as it does for `stile-admin`.
/// Then one service could be the real one, so there is no emulator that the broker can trust.
pub(super) fn emulator(endpoints: &AwsEndpoints) -> Option<&str> {
    endpoints.of_every_service().filter(|url| is_loopback(url))
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
    fn only_a_loopback_address_is_an_emulator() {
        for no in [
            "",
            "http://localhost:2",
            "http://127.0.0.1.evil.org",
            "https://dynamodb.us-east-1.amazonaws.com",
        ] {
            assert!(!is_loopback(no), "{no:?}");
        }
        for emulator in ["http://127.0.0.1:2/", "http://127.0.0.1:2", "https://[::1]:2"] {
            assert!(is_loopback(emulator), "{emulator:?}");
        }
    }
}
