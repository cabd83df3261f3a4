//! The endpoints that replace those of STS: a VPC endpoint, or an emulator on this machine.
//!
//! An endpoint does not change the signed request. But the server there can give every caller any
//! identity.

use std::collections::HashMap;

use stile_protocol::region::Region;
use stile_settings::mask::mask;
use url::{Host, Url};

/// An endpoint that replaces one of STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An emulator on this machine, for every region.
    Loopback(Url),
    /// An interface VPC endpoint, for one region.
    Vpc(&'static Region, Url),
}

/// The reason why a text is not an endpoint for STS.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The text is not a URL, or the URL has other parts than scheme, host and port.
    #[error("`{url}` must be a URL without user, path, query and fragment", url = mask(.0))]
    Malformed(String),
    /// AWS does not operate the host.
    #[error(
        "`{url}` is neither a loopback address nor an `https` VPC endpoint of STS; hint: write `REGION=https://vpce-….vpce.amazonaws.com`",
        url = mask(.0)
    )]
    UnknownHost(String),
}

impl Endpoint {
    /// Parses `http://127.0.0.1:PORT`, or `REGION=https://….vpce.<suffix>`.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let unknown = || EndpointError::UnknownHost(text.to_owned());
        let (region, address) = match text.split_once('=') {
            Some((region, address)) => (Some(Region::named(region).ok_or_else(unknown)?), address),
            None => (None, text),
        };
        let url = Url::parse(address).map_err(|_| EndpointError::Malformed(text.to_owned()))?;
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if !bare {
            return Err(EndpointError::Malformed(text.to_owned()));
        }
        match (region, url.host()) {
            (None, Some(Host::Ipv4(address))) if address.is_loopback() && is_http(&url) => {
                Ok(Self::Loopback(url))
            }
            (None, Some(Host::Ipv6(address))) if address.is_loopback() && is_http(&url) => {
                Ok(Self::Loopback(url))
            }
            (Some(region), Some(Host::Domain(host)))
                if url.scheme() == "https"
                    && url.port().is_none()
                    && host.ends_with(&format!(".vpce.{}", region.partition.dns_suffix())) =>
            {
                Ok(Self::Vpc(region, url))
            }
            _ => Err(unknown()),
        }
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// The endpoints that the operator configured. For other regions, the broker calls AWS.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    loopback: Option<Url>,
    vpc: HashMap<&'static str, Url>,
}

impl Endpoints {
    /// Collects endpoints. For several endpoints of one region, the last one counts.
    pub fn new(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        let mut all = Self::default();
        for endpoint in endpoints {
            match endpoint {
                Endpoint::Loopback(url) => all.loopback = Some(url),
                Endpoint::Vpc(region, url) => {
                    all.vpc.insert(region.name, url);
                }
            }
        }
        all
    }

    /// Returns whether a server on this machine replaces STS.
    pub const fn is_loopback(&self) -> bool {
        self.loopback.is_some()
    }

    pub(super) fn url(&self, region: &Region, fips: bool) -> Option<Url> {
        if let Some(url) = self.vpc.get(region.name).or(self.loopback.as_ref()) {
            return Some(url.clone());
        }
        Url::parse(&format!("https://{}/", region.host(fips)?)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_vpc_endpoints_of_a_known_region_can_replace_sts() {
        for text in [
            "",
            "127.0.0.1:5000",
            "http://sts.us-east-1.amazonaws.com",
            "https://sts.example.com",
            "http://10.0.0.1",
            "http://localhost:5000",
            "https://evil.org/?a=.vpce.amazonaws.com",
            "us-east-1=http://vpce-1.sts.us-east-1.vpce.amazonaws.com",
            "us-east-1=https://vpce-1.sts.us-east-1.vpce.amazonaws.com.evil.org",
            "us-east-1=https://vpce.amazonaws.com",
            "cn-north-1=https://vpce-1.sts.cn-north-1.vpce.amazonaws.com",
            "nowhere=https://vpce-1.sts.vpce.amazonaws.com",
            "https://vpce-1.sts.us-east-1.vpce.amazonaws.com",
            "http://u@127.0.0.1:5000",
            "http://127.0.0.1:5000/x",
            "http://127.0.0.1/?x",
            "ftp://127.0.0.1",
            "http://127.0.0.1.evil.org",
            "us-east-1=https://vpce-1.vpce.amazonaws.com:8443",
            "us-east-1=http://127.0.0.1:1",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text:?}");
        }
        assert!(matches!(Endpoint::parse("http://127.0.0.1:5000"), Ok(Endpoint::Loopback(_))));
        assert!(matches!(Endpoint::parse("http://[::1]:5000"), Ok(Endpoint::Loopback(_))));
        assert!(matches!(
            Endpoint::parse("cn-north-1=https://vpce-1.sts.cn-north-1.vpce.amazonaws.com.cn"),
            Ok(Endpoint::Vpc(region, _)) if region.name == "cn-north-1"
        ));
    }

    #[test]
    fn a_region_without_an_endpoint_has_the_one_of_aws() {
        let (replaced, other) =
            (Region::named("us-east-1").unwrap(), Region::named("us-west-2").unwrap());
        let endpoints = Endpoints::new([Endpoint::parse(
            "us-east-1=https://vpce-1.sts.us-east-1.vpce.amazonaws.com",
        )
        .unwrap()]);
        assert_eq!(
            endpoints.url(replaced, false).unwrap().as_str(),
            "https://vpce-1.sts.us-east-1.vpce.amazonaws.com/"
        );
        assert_eq!(
            endpoints.url(other, false).unwrap().as_str(),
            "https://sts.us-west-2.amazonaws.com/"
        );
        assert_eq!(
            endpoints.url(other, true).unwrap().as_str(),
            "https://sts-fips.us-west-2.amazonaws.com/"
        );
        assert_eq!(endpoints.url(Region::named("cn-north-1").unwrap(), true), None);
    }
}
