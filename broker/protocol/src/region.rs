//! The table of AWS regions with their partitions and STS hosts. No host is ever built from input.
//!
//! In CVE-2025-49827 Conjur inserted a region from a request into a host name. Here only a region
//! in the table has a host.

use std::fmt;

/// An AWS partition: a group of regions with its own accounts and ARNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Partition {
    /// The commercial regions.
    Aws,
    /// China.
    AwsCn,
    /// GovCloud (US).
    AwsUsGov,
    /// The European Sovereign Cloud.
    AwsEusc,
    /// The isolated regions of `aws-iso`.
    AwsIso,
    /// The isolated regions of `aws-iso-b`.
    AwsIsoB,
    /// The isolated regions of `aws-iso-e`.
    AwsIsoE,
    /// The isolated regions of `aws-iso-f`.
    AwsIsoF,
}

impl Partition {
    /// Every partition.
    pub const ALL: [Self; 8] = [
        Self::Aws,
        Self::AwsCn,
        Self::AwsUsGov,
        Self::AwsEusc,
        Self::AwsIso,
        Self::AwsIsoB,
        Self::AwsIsoE,
        Self::AwsIsoF,
    ];

    /// Returns the name as in ARNs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::AwsCn => "aws-cn",
            Self::AwsUsGov => "aws-us-gov",
            Self::AwsEusc => "aws-eusc",
            Self::AwsIso => "aws-iso",
            Self::AwsIsoB => "aws-iso-b",
            Self::AwsIsoE => "aws-iso-e",
            Self::AwsIsoF => "aws-iso-f",
        }
    }

    /// Returns the suffix of its host names, without a leading dot.
    pub const fn dns_suffix(self) -> &'static str {
        match self {
            Self::Aws | Self::AwsUsGov => "amazonaws.com",
            Self::AwsCn => "amazonaws.com.cn",
            Self::AwsEusc => "amazonaws.eu",
            Self::AwsIso => "c2s.ic.gov",
            Self::AwsIsoB => "sc2s.sgov.gov",
            Self::AwsIsoE => "cloud.adc-e.uk",
            Self::AwsIsoF => "csp.hci.ic.gov",
        }
    }

    /// Returns the partition with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|partition| partition.as_str() == name)
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A region with its partition and its STS hosts: one row of the table.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Region {
    /// The region's name.
    pub name: &'static str,
    /// The partition of the region. Callers must belong to it.
    pub partition: Partition,
    /// The STS host, which the signature covers.
    pub host: &'static str,
    /// The STS host for callers that require FIPS 140 endpoints.
    pub fips_host: Option<&'static str>,
}

impl Region {
    /// Returns the region with exactly this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        REGIONS.iter().find(|region| region.name == name)
    }

    /// Returns the STS host to sign for.
    pub fn host(&self, fips: bool) -> Option<&'static str> {
        if fips { self.fips_host } else { Some(self.host) }
    }
}

macro_rules! regions {
    ($($partition:ident $suffix:literal: $($name:literal $($fips:ident)?),+;)+) => {
        &[$($(Region {
            name: $name,
            partition: Partition::$partition,
            host: concat!("sts.", $name, ".", $suffix),
            fips_host: regions!(@fips $name $suffix $($fips)?),
        },)+)+]
    };
    (@fips $name:literal $suffix:literal) => { None };
    (@fips $name:literal $suffix:literal fips) => { Some(concat!("sts-fips.", $name, ".", $suffix)) };
    (@fips $name:literal $suffix:literal plain) => { Some(concat!("sts.", $name, ".", $suffix)) };
}

/// Every region, from the endpoint metadata that AWS publishes with its SDKs (botocore 1.44.5).
///
/// The global endpoint is missing on purpose: a proof for it would not name a region.
pub static REGIONS: &[Region] = regions! {
    Aws "amazonaws.com":
        "af-south-1", "ap-east-1", "ap-east-2", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3", "ap-south-1", "ap-south-2",
        "ap-southeast-1", "ap-southeast-2", "ap-southeast-3", "ap-southeast-4", "ap-southeast-5", "ap-southeast-6", "ap-southeast-7",
        "ca-central-1", "ca-west-1", "eu-central-1", "eu-central-2", "eu-north-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2",
        "eu-west-3", "il-central-1", "me-central-1", "me-south-1", "me-west-1", "mx-central-1", "sa-east-1", "sa-west-1",
        "us-east-1" fips, "us-east-2" fips, "us-west-1" fips, "us-west-2" fips;
    AwsCn "amazonaws.com.cn": "cn-north-1", "cn-northwest-1";
    AwsUsGov "amazonaws.com": "us-gov-east-1" plain, "us-gov-west-1" plain;
    AwsEusc "amazonaws.eu": "eusc-de-east-1";
    AwsIso "c2s.ic.gov": "us-iso-east-1", "us-iso-west-1";
    AwsIsoB "sc2s.sgov.gov": "us-isob-east-1", "us-isob-west-1";
    AwsIsoE "cloud.adc-e.uk": "eu-isoe-west-1";
    AwsIsoF "csp.hci.ic.gov": "us-isof-east-1", "us-isof-south-1";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_in_the_region_table_has_no_host() {
        for name in [
            "evil.org?us-east-1",
            "us-east-1.evil.org",
            "us-east-1@evil.org",
            "us-east-1#",
            "us-east-1/",
            "us-east-1%2e",
            "us-east-1.",
            "us-east-1:443",
            "not-a-region",
            "us-attacker-1",
            "fake-region-1",
            "us-northeast-1",
            "",
            ".",
            "..",
            "💩",
            "us‐east‐1",
            "ｕs-east-1",
            "US-EAST-1",
            " us-east-1",
            "us-east-1 ",
            "us-east-1\0",
            "us-east-1\n",
            "global",
            "aws-global",
        ] {
            assert_eq!(Region::named(name), None, "{name:?}");
        }
    }

    #[test]
    fn every_host_consists_of_sts_the_region_and_the_suffix_of_the_partition() {
        for region in REGIONS {
            assert_eq!(
                region.host,
                format!("sts.{}.{}", region.name, region.partition.dns_suffix())
            );
            if let Some(host) = region.fips_host {
                let expected =
                    if region.partition == Partition::AwsUsGov { "sts" } else { "sts-fips" };
                assert_eq!(
                    host,
                    format!("{expected}.{}.{}", region.name, region.partition.dns_suffix())
                );
            }
            assert_eq!(Region::named(region.name), Some(region), "every name is unique");
        }
    }

    #[test]
    fn regions_outside_the_commercial_partition_have_their_own_suffix() {
        for (name, host) in [
            ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", "sts.us-gov-west-1.amazonaws.com"),
            ("eusc-de-east-1", "sts.eusc-de-east-1.amazonaws.eu"),
            ("ap-southeast-5", "sts.ap-southeast-5.amazonaws.com"),
            ("mx-central-1", "sts.mx-central-1.amazonaws.com"),
        ] {
            assert_eq!(Region::named(name).unwrap().host, host);
        }
        assert_eq!(Region::named("cn-north-1").unwrap().host(true), None);
    }
}
