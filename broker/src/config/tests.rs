//! Tests of the configuration: what it rejects, and what a flag or variable means.

use clap::{Arg, CommandFactory, Parser};

use stile_protocol::region::Partition;

use super::*;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn config(flags: &[&str]) -> Result<Config, ConfigError> {
    config_of(&[&["--data", "/d"], flags].concat())
}

fn config_of(flags: &[&str]) -> Result<Config, ConfigError> {
    config_without_host(&[&["--host", "registry.example.com"], flags].concat())
}

fn config_without_host(flags: &[&str]) -> Result<Config, ConfigError> {
    Cli::try_parse_from(["x"].iter().chain(flags)).unwrap().options.try_into()
}

#[test]
fn an_invalid_configuration_is_rejected_with_a_hint() {
    for (flags, expected) in [
        (vec!["--listen", "0.0.0.0:8443"], "`--behind-proxy`"),
        (vec!["--max-ttl", "43201"], "from 60 to 43200"),
        (vec!["--max-ttl", "59"], "from 60 to 43200"),
        (vec!["--default-ttl", "59"], "from 60 to 43200"),
        (vec!["--iam-source", "abcdef1234"], "111122223333/abcdef1234"),
        (vec!["--authorizer-base", "terraform"], "such as `/`"),
        (vec!["--authorizer-base", "/a//b"], "such as `/`"),
        (vec!["--authorizer-base", "/a/*"], "such as `/`"),
        (vec!["--authorizer-base", "/a/.."], "such as `/`"),
        (vec!["--regions", "us-attacker-1"], "no region `us-attacker-1`"),
        (vec!["--regions", "us-east-1,"], "no region ``"),
        (vec!["--regions", "us-east-1,cn-north-1", "--fips"], "`cn-north-1` has no FIPS endpoint"),
        (vec!["--sts-endpoint", "https://sts.example.com"], "VPC endpoint"),
        (vec!["--link-ttl", "59"], "from 60 to 3600"),
        (vec!["--link-ttl", "3601"], "from 60 to 3600"),
        (vec!["--store-timeout", "0"], "`--store-timeout` must be from 1 to 600 seconds"),
        (vec!["--store-timeout", "601"], "`--store-timeout` must be from 1 to 600 seconds"),
        (vec!["--sts-timeout", "0"], "`--sts-timeout` must be from 1 to 600 seconds"),
        (vec!["--sts-timeout", "601"], "`--sts-timeout` must be from 1 to 600 seconds"),
        (vec!["--disk-reserve", "0"], "`--disk-reserve` must be from 1 to 1048576 MiB"),
        (vec!["--disk-reserve", "1048577"], "`--disk-reserve` must be from 1 to 1048576 MiB"),
        (vec!["--table", "t"], "exactly one of `--data` and `--table`"),
        (vec!["--bucket", "b"], "`--bucket` requires `--table`"),
    ] {
        let error = format!("{:#}", anyhow::Error::from(config(&flags).unwrap_err()));
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
}

#[test]
fn a_store_on_aws_requires_every_flag_and_the_real_sts_unless_aws_is_emulated() {
    let aws = ["--table", "t", "--bucket", "b", "--kms-key", "k"];
    let (sts, emulator) =
        (["--sts-endpoint", "http://127.0.0.1:1"], ["--aws-endpoint", "http://127.0.0.1:2/"]);
    for (flags, expected) in [
        (vec![], "exactly one of"),
        (aws[..2].to_vec(), "`--table` requires `--bucket`"),
        (aws[..4].to_vec(), "`--table` requires `--kms-key`"),
        ([&aws[..], &["--disk-reserve", "1"]].concat(), "`--disk-reserve` requires `--data`"),
        ([&aws[..], &sts].concat(), "`AWS_ENDPOINT_URL`"),
        (
            [&aws[..], &sts, &["--aws-endpoint", "http://localhost:2"]].concat(),
            "`AWS_ENDPOINT_URL`",
        ),
        (
            [&aws[..], &sts, &["--aws-endpoint", "https://dynamodb.us-east-1.amazonaws.com"]]
                .concat(),
            "`AWS_ENDPOINT_URL`",
        ),
        (
            [&aws[..], &sts, &["--aws-endpoint", "http://127.0.0.1.evil.org"]].concat(),
            "`AWS_ENDPOINT_URL`",
        ),
        (
            [&aws[..], &sts, &emulator, &["--aws-ignore-endpoints", "true"]].concat(),
            "`AWS_ENDPOINT_URL`",
        ),
        (
            [&aws[..], &["--aws-ignore-endpoints", "1"]].concat(),
            "`AWS_IGNORE_CONFIGURED_ENDPOINT_URLS` is neither `true` nor `false`",
        ),
    ] {
        let error = config_of(&flags).unwrap_err().to_string();
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
    assert!(config_of(&aws).is_ok());
    let all = config_of(&[&aws[..], &sts, &emulator].concat()).unwrap();
    assert!(matches!(
        all.store,
        StoreLocation::Aws { emulator: Some(url), .. } if url == emulator[1]
    ));
}

#[test]
fn the_host_is_required_with_a_folder_and_optional_with_a_table() {
    let aws = ["--table", "t", "--bucket", "b", "--kms-key", "k"];
    for (flags, expected) in [
        (vec!["--data", "/d"], "`--host` is required with `--data`"),
        (vec!["--data", "/d", "--host", ""], "`--host` is required with `--data`"),
        ([&aws[..], &["--host", "localhost"]].concat(), "not a registry host"),
    ] {
        let error = config_without_host(&flags).unwrap_err().to_string();
        assert!(error.contains(expected), "{flags:?}: {error}");
    }
    for (flags, expected) in [
        (aws.to_vec(), None),
        ([&aws[..], &["--host", ""]].concat(), None),
        (
            [&aws[..], &["--host", "Registry.example.com:443"]].concat(),
            Some("registry.example.com"),
        ),
    ] {
        assert_eq!(
            config_without_host(&flags).unwrap().host.as_ref().map(Audience::as_str),
            expected,
            "{flags:?}"
        );
    }
}

#[test]
fn by_default_every_commercial_region_is_enabled_and_no_other() {
    assert!(
        config(&["--regions", "", "--sts-endpoint", ""]).unwrap().regions.len() > 30,
        "an option without a value counts as not set"
    );
    let regions = config(&[]).unwrap().regions;
    assert!(regions.iter().all(|region| region.partition == Partition::Aws) && regions.len() > 30);
    assert!(config(&["--fips"]).unwrap().regions.iter().all(|region| region.fips_host.is_some()));
    assert_eq!(
        config(&["--regions", "cn-north-1"]).unwrap().regions[0].host,
        "sts.cn-north-1.amazonaws.com.cn"
    );
}

#[test]
fn an_operator_can_set_the_timeouts_for_store_and_sts() {
    let unset = config(&[]).unwrap();
    assert_eq!((unset.store_timeout, unset.sts_timeouts.total.as_secs()), (None, 3));
    let set = config(&["--store-timeout", "600", "--sts-timeout", "60"]).unwrap();
    assert_eq!(set.store_timeout, Some(Duration::from_secs(600)));
    assert_eq!((set.sts_timeouts.connect.as_secs(), set.sts_timeouts.total.as_secs()), (20, 60));
}

#[test]
fn the_disk_reserve_is_given_in_mib() {
    assert_eq!(config(&[]).unwrap().disk_reserve, None);
    assert_eq!(config(&["--disk-reserve", "1"]).unwrap().disk_reserve, Some(1_048_576));
}

#[test]
fn plain_http_requires_loopback_or_a_proxy() {
    assert!(config(&["--listen", "127.0.0.1:0"]).is_ok());
    assert!(config(&["--listen", "0.0.0.0:80", "--behind-proxy"]).is_ok());
    assert!(
        config(&["--listen", "0.0.0.0:443", "--tls-cert", "c", "--tls-key", "k"])
            .unwrap()
            .tls
            .is_some()
    );
}

#[test]
fn http_is_plain_only_if_nothing_terminates_tls() {
    assert!(config(&[]).unwrap().plain_http);
    for flags in [
        ["--behind-proxy", "--listen", "127.0.0.1:80"].as_slice(),
        &["--tls-cert", "c", "--tls-key", "k"],
        &["--tls-cert", "c", "--tls-key", "k", "--listen", "0.0.0.0:443"],
    ] {
        assert!(!config(flags).unwrap().plain_http, "{flags:?}");
    }
}

#[test]
fn the_log_is_text_unless_json_is_chosen() {
    let parsed = |flags: &[&str]| {
        let flags = [&["x", "--host", "registry.example.com", "--data", "/d"], flags].concat();
        Cli::try_parse_from(flags).map(|cli| cli.options.log_format).map_err(|error| error.kind())
    };
    for format in ["yaml", "JSON", "json,text"] {
        let refused = parsed(&["--log-format", format]);
        assert_eq!(refused, Err(clap::error::ErrorKind::InvalidValue), "{format}");
    }
    for (flags, expected) in [
        (&[][..], LogFormat::Text),
        (&["--log-format", ""], LogFormat::Text),
        (&["--log-format", "text"], LogFormat::Text),
        (&["--log-format", "json"], LogFormat::Json),
    ] {
        assert_eq!(parsed(flags), Ok(expected), "{flags:?}");
    }
}

#[test]
fn only_variables_of_the_broker_that_are_set_to_nothing_are_ignored() {
    let names = |command: &Command| -> Vec<String> {
        let names = command.get_arguments().filter_map(Arg::get_env);
        names.map(|name| name.to_str().unwrap().to_owned()).collect()
    };
    let all = names(&Cli::command());
    assert!(all.len() > 20, "{all:?}");
    assert_eq!(names(&without_variables(Cli::command(), &|_| false)), all);
    let left = names(&without_variables(Cli::command(), &|name| name != OsStr::new("STILE_DATA")));
    let expected: Vec<String> = all
        .into_iter()
        .filter(|name| name == "STILE_DATA" || !name.starts_with("STILE_"))
        .collect();
    assert_eq!(left, expected);
    let with_subcommand = Command::new("x").subcommand(Cli::command().name("serve"));
    let left = without_variables(with_subcommand, &|_| true);
    let serve = left.get_subcommands().next().unwrap();
    assert!(names(serve).iter().all(|name| !name.starts_with("STILE_")));
}
