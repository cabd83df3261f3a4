//! Resolves names for clients that connect only to allowed addresses.
//!
//! A client resolves a name once for each connection, checks every address of the answer, and
//! connects to one of these. So a name that leads elsewhere a moment later changes nothing.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The future of a lookup.
pub type Lookup = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks a name up as the system does.
pub fn lookup(name: String) -> Lookup {
    Box::pin(async move {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    })
}

/// A resolver that returns only answers of which every address is allowed.
pub struct CheckedResolver {
    lookup: Arc<dyn Fn(String) -> Lookup + Send + Sync>,
    is_allowed: fn(IpAddr) -> bool,
}

impl CheckedResolver {
    /// Creates a resolver that looks names up in this way.
    pub fn new(
        lookup: impl Fn(String) -> Lookup + Send + Sync + 'static,
        is_allowed: fn(IpAddr) -> bool,
    ) -> Self {
        Self { lookup: Arc::new(lookup), is_allowed }
    }
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (found, is_allowed) = ((self.lookup)(name.as_str().to_owned()), self.is_allowed);
        Box::pin(async move {
            let addresses = checked(found.await?, is_allowed)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Returns the addresses to connect to, with port 0, if all of them are allowed.
fn checked(
    found: Vec<IpAddr>,
    is_allowed: fn(IpAddr) -> bool,
) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    match found.iter().find(|address| !is_allowed(**address)) {
        Some(address) => {
            Err(format!("the name has the address {address}, which is not public").into())
        }
        None => Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use stile_core::webhook::is_global;

    use super::*;

    #[test]
    fn one_address_that_is_not_public_refuses_the_whole_answer() {
        let parsed = |texts: &[&str]| -> Vec<IpAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        for refused in [
            &["127.0.0.1"][..],
            &["93.184.216.34", "10.0.0.1"],
            &["169.254.169.254", "93.184.216.34"],
            &["2606:4700::1111", "::1"],
            &["::ffff:93.184.216.34"],
            &["100.64.0.1"],
            &["224.0.0.1"],
            &["fd00:ec2::254"],
            &["fe80::1"],
        ] {
            assert!(checked(parsed(refused), is_global).is_err(), "{refused:?}");
        }
        let public = checked(parsed(&["93.184.216.34", "2606:4700::1111"]), is_global).unwrap();
        assert_eq!(public.len(), 2);
    }
}
