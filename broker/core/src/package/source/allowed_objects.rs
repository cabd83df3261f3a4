//! What an operator allows as objects of S3 buckets: a bucket, or a prefix of its keys.

use serde_json::{Map, Value};
use stile_protocol::region::Region;

use super::location::SourceError;
use super::object::{self, ObjectAddress, check_key, split};
use crate::critical::{self, CRIT};

/// The fields of an entry: its address, and the region of the bucket.
const ADDRESS: &str = "address";
const REGION: &str = "region";

/// Objects that versions of a namespace may be: those of a bucket, or those below a prefix.
///
/// Example: `s3://acme-modules/terraform` includes `s3://acme-modules/terraform/vpc.zip`, and not
/// `s3://acme-modules/terraform-x/vpc.zip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedObjects {
    /// The address without a `/` at its end, unless it is a whole bucket.
    address: String,
    region: &'static str,
    /// Fields that a newer program added.
    unknown: Map<String, Value>,
}

impl AllowedObjects {
    /// Returns whether a text is meant as objects, and not as another source.
    pub fn is_address(text: &str) -> bool {
        text.starts_with(object::SCHEME)
    }

    /// Parses the address that an operator typed, and the region of its bucket. A `/` at the end of
    /// the address has no meaning.
    ///
    /// # Errors
    ///
    /// [`SourceError`], if the address has another spelling, or if AWS has no such region.
    pub fn parse(text: &str, region: &str) -> Result<Self, SourceError> {
        let (_, prefix) = split(text)?;
        let mut address = text;
        if !prefix.is_empty() {
            address = text.strip_suffix('/').unwrap_or(text);
            check_key(prefix.strip_suffix('/').unwrap_or(prefix))?;
        }
        let region = Region::named(region)
            .ok_or_else(|| SourceError::new("the region of its bucket is not a region of AWS"))?;
        Ok(Self { address: address.to_owned(), region: region.name, unknown: Map::new() })
    }

    /// Returns the address in its canonical form.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Returns the region of the bucket.
    pub const fn region(&self) -> &'static str {
        self.region
    }

    /// Gives the bucket the region of another entry.
    pub(super) const fn set_region(&mut self, other: &Self) {
        self.region = other.region;
    }

    /// Returns whether the object has this key or one below. `acme` does not include `acme-x`.
    pub(super) fn includes(&self, object: &ObjectAddress) -> bool {
        object.as_str().strip_prefix(&self.address).is_some_and(|below| {
            below.is_empty() || below.starts_with('/') || self.address.ends_with('/')
        })
    }

    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut unknown = value.as_object()?.clone();
        if !critical::understood(unknown.get(CRIT), &[ADDRESS, REGION]) {
            return None;
        }
        let (address, region) = (unknown.remove(ADDRESS)?, unknown.remove(REGION)?);
        Some(Self { unknown, ..Self::parse(address.as_str()?, region.as_str()?).ok()? })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut fields = self.unknown.clone();
        fields.insert(ADDRESS.to_owned(), self.address.clone().into());
        fields.insert(REGION.to_owned(), self.region.into());
        fields.into()
    }
}
