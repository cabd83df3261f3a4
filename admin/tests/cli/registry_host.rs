//! Tests of `--registry-host`: the flag, the variable, and the only configured registry.

use crate::broker::{Broker, http};
use crate::support::{Machine, Run};

const ONE: &str = "one.example.com";
const TWO: &str = "two.example.com";

/// Two registries, each with its own broker.
struct Registries {
    brokers: [(&'static str, Broker); 2],
}

impl Registries {
    fn start() -> Self {
        let empty = r#"{"meta":{"next_offset":null},"modules":[]}"#;
        let broker = || Broker::new(move |_, _| http("200 OK", "", empty));
        Self { brokers: [(ONE, broker()), (TWO, broker())] }
    }

    /// Returns a machine on which these registries are configured.
    fn machine(&self, configured: &[&str]) -> Machine {
        let machine = self.brokers[0].1.machine();
        let tables = self.brokers.iter().filter(|(host, _)| configured.contains(host));
        let tables = tables
            .map(|(host, broker)| format!("[registry.\"{host}\"]\nurl = \"{}\"\n", broker.url));
        machine.write(".config/stile/config.toml", &tables.collect::<String>());
        machine
    }

    /// Returns the registries that got requests.
    fn called(&self) -> Vec<&'static str> {
        let called = self.brokers.iter().filter(|(_, broker)| !broker.requests().is_empty());
        called.map(|(host, _)| *host).collect()
    }
}

/// Lists modules with these registries, this variable and this flag.
fn list(
    configured: &[&str],
    variable: Option<&str>,
    flag: Option<&str>,
) -> (Run, Vec<&'static str>) {
    let registries = Registries::start();
    let machine = registries.machine(configured);
    let machine = match variable {
        Some(host) => machine.with("STILE_HOST", host),
        None => machine,
    };
    let flag = flag.map(|host| format!(" --registry-host {host}")).unwrap_or_default();
    let run = machine.run(&format!("module list{flag}"));
    (run, registries.called())
}

#[test]
fn without_a_name_several_registries_or_none_are_a_usage_error_that_lists_them() {
    for (configured, variable, flag, says) in [
        (&[][..], None, None, "no registry is named, and the helper's `config.toml` has none"),
        (
            &[ONE, TWO],
            None,
            None,
            "no registry is named, and the helper's `config.toml` has several: \
             `one.example.com`, `two.example.com`; hint: use `--registry-host HOST`, or set `STILE_HOST`",
        ),
        (&[ONE], Some("localhost"), None, "invalid value 'localhost'"),
        (&[], Some(""), None, "no registry is named"),
        (&[ONE], Some(ONE), Some("localhost"), "invalid value 'localhost'"),
    ] {
        let (run, called) = list(configured, variable, flag);
        let what = format!("{configured:?} {variable:?} {flag:?}: {}", run.stderr);
        assert_eq!((run.stdout.as_str(), run.code, called), ("", 2, Vec::new()), "{what}");
        assert!(run.stderr.contains(says), "{what}");
    }
}

#[test]
fn a_flag_comes_before_the_variable_and_that_before_the_only_configured_registry() {
    for (configured, variable, flag, expected) in [
        (&[ONE][..], None, None, ONE),
        (&[TWO], None, None, TWO),
        (&[TWO], Some(""), None, TWO),
        (&[ONE, TWO], Some(TWO), None, TWO),
        (&[ONE, TWO], Some(ONE), None, ONE),
        (&[ONE, TWO], None, Some(TWO), TWO),
        (&[ONE, TWO], Some(ONE), Some(TWO), TWO),
        (&[ONE, TWO], Some(TWO), Some(ONE), ONE),
    ] {
        let (run, called) = list(configured, variable, flag);
        let what = format!("{configured:?} {variable:?} {flag:?}: {}", run.stderr);
        assert_eq!((run.code, called), (0, vec![expected]), "{what}");
    }
    // A named registry without a table is not the configured one, and has no server here.
    for (variable, flag) in [(Some("127.0.0.1:1"), None), (None, Some("127.0.0.1:1"))] {
        let (run, called) = list(&[ONE], variable, flag);
        assert_eq!((run.code, called), (2, Vec::new()), "{variable:?} {flag:?}: {}", run.stderr);
        assert!(run.stderr.contains("no token for `127.0.0.1:1`"), "{}", run.stderr);
    }
}

#[test]
fn a_publish_without_a_registry_packs_nothing_and_a_dry_run_needs_none() {
    let machine = Machine::new();
    machine.write("vpc/main.tf", "\n");
    machine.write("vpc/terraform.tfstate", "\n");
    let publish = "module publish acme/vpc/aws 1.0.0 vpc";
    let run = machine.run(publish);
    assert_eq!((run.stdout.as_str(), run.code), ("", 2));
    assert!(run.stderr.starts_with("error: no registry is named"), "{}", run.stderr);
    let run = machine.run(&format!("{publish} --dry-run"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.starts_with("would publish acme/vpc/aws 1.0.0"), "{}", run.stdout);
}

/// Runs `grant list` with this data folder and this host, each as a variable and as a flag.
fn grants(variables: [Option<&str>; 2], flags: &str) -> (Run, Vec<&'static str>) {
    let empty = r#"{"grants":[]}"#;
    let broker = Broker::new(move |_, _| http("200 OK", "", empty));
    let mut machine = broker.machine();
    for (name, value) in ["STILE_DATA", "STILE_HOST"].into_iter().zip(variables) {
        if let Some(value) = value {
            machine = machine.with(name, value);
        }
    }
    let run = machine.run(&format!("grant list {flags}"));
    (run, if broker.requests().is_empty() { vec![] } else { vec!["registry"] })
}

#[test]
fn without_a_store_and_a_registry_grant_names_all_three_ways() {
    let ways = "use `--data DIR`, or `--table NAME --bucket NAME --kms-key KEY`, or \
                `--registry-host HOST`";
    for (config, says) in [
        ("", "no store and no registry is named, and the helper's `config.toml` has none; hint: "),
        (
            "[registry.\"one.example.com\"]\n[registry.\"two.example.com\"]\n",
            "no store and no registry is named, and the helper's `config.toml` has several: \
             `one.example.com`, `two.example.com`; hint: ",
        ),
    ] {
        let machine = Machine::new();
        machine.write(".config/stile/config.toml", config);
        let run = machine.run("grant list");
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{}", run.stderr);
        assert_eq!(run.stderr, format!("error: {says}{ways}\n"));
    }
    let (run, called) = grants([None, None], "--data d --registry-host registry.example.com");
    assert_eq!((run.code, called), (2, vec![]), "{}", run.stderr);
    assert!(run.stderr.contains("cannot be combined with a flag that selects"), "{}", run.stderr);
}

#[test]
fn grant_uses_a_flag_before_a_variable_and_a_store_before_a_registry() {
    const HOST: Option<&str> = Some("registry.example.com");
    for (variables, flags, expected) in [
        ([Some("d"), HOST], "", &[][..]),
        ([None, HOST], "--data d", &[]),
        ([Some("d"), None], "", &[]),
        ([Some("d"), None], "--registry-host registry.example.com", &["registry"]),
        ([None, HOST], "", &["registry"]),
        ([None, None], "", &["registry"]),
    ] {
        let (run, called) = grants(variables, flags);
        assert_eq!(called, expected, "{variables:?} {flags}: {}", run.stderr);
        let code = if expected.is_empty() { 2 } else { 0 };
        assert_eq!(run.code, code, "there is no folder: {}", run.stderr);
    }
}

#[test]
fn a_flag_of_a_registry_with_a_store_and_the_reverse_are_usage_errors() {
    const DATA: Option<&str> = Some("d");
    const HOST: Option<&str> = Some("registry.example.com");
    let table = "--table stile --bucket b --kms-key alias/stile";
    for (variables, flags, flag, selected) in [
        ([None, None], format!("{table} --profile prod"), "--profile", "store"),
        ([None, HOST], format!("{table} --region eu-central-1"), "--region", "store"),
        ([None, None], "--data d --config c.toml".to_owned(), "--config", "store"),
        ([DATA, None], "--profile prod".to_owned(), "--profile", "store"),
        ([DATA, HOST], "--config c.toml".to_owned(), "--config", "store"),
        ([DATA, None], "--timeout 9".to_owned(), "--timeout", "store"),
        ([None, HOST], "--store-timeout 9".to_owned(), "--store-timeout", "registry"),
        (
            [DATA, None],
            "--registry-host registry.example.com --store-timeout 9".to_owned(),
            "--store-timeout",
            "registry",
        ),
    ] {
        let (run, called) = grants(variables, &flags);
        let what = format!("{variables:?} {flags}: {}", run.stderr);
        assert_eq!((run.stdout.as_str(), run.code, called), ("", 2, vec![]), "{what}");
        let other = if selected == "store" { "registry" } else { "store" };
        let says =
            format!("error: `{flag}` is for a {other}, but the command uses a {selected}; hint: ");
        assert!(run.stderr.starts_with(&says), "{what}");
    }
    // A variable is there for other commands, and a registry reads its own flags.
    let machine = Machine::with_store().with("STILE_CONFIG", "c.toml").with("STILE_TIMEOUT", "9");
    machine.done("grant list");
    let flags = "--registry-host registry.example.com --timeout 9 --region eu-central-1";
    let (run, called) = grants([DATA, None], flags);
    assert_eq!((run.code, called), (0, vec!["registry"]), "{}", run.stderr);
}
