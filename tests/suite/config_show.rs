//! `config show` of each program: every value, where it comes from, and no secret.

use std::net::TcpListener;

use stile_tests::broker::HOST;
use stile_tests::process::home::{CommandOutput, Home};
use stile_tests::process::programs::{ADMIN, BROKER, HELPER, program};

/// What is in place of each secret.
const SECRET: &str = "S3CRETS3CRET";

/// The flags of a store on AWS.
const AWS: [&str; 6] = ["--table", "t", "--bucket", "b", "--kms-key", "alias/k"];

/// Runs `config show` of a program.
async fn show(name: &str, home: &Home, flags: &[&str]) -> CommandOutput {
    home.run(&program(name), &[&["config", "show"][..], flags].concat()).await
}

/// Returns the source and the value of a setting.
fn row(shown: &CommandOutput, group: &str, name: &str) -> (String, String) {
    let title = format!("[{group}]");
    let mut lines = shown.stdout.lines().skip_while(|line| *line != title).skip(1);
    let lines = lines.by_ref().take_while(|line| !line.is_empty());
    for line in lines {
        let mut parts = line.split("  ").map(str::trim).filter(|part| !part.is_empty());
        if parts.next() == Some(name) {
            let source = parts.next().unwrap().to_owned();
            return (source, parts.next().unwrap_or_default().to_owned());
        }
    }
    panic!("`{name}` is not in group `{group}`: {shown:?}");
}

/// Returns the group of a host.
fn of_registry(host: &str) -> String {
    format!("registry {host}")
}

/// Writes the files of AWS, with a profile whose region is `sa-east-1`.
fn with_profiles(home: &mut Home, content: &str) {
    let file = home.path().join("aws-config");
    let profiles = format!("[default]\nregion = sa-east-1\n{content}[profile dev]\n");
    std::fs::write(&file, profiles).unwrap();
    home.variable("AWS_CONFIG_FILE", file);
}

/// Returns a home without the time limits of tests.
fn home() -> Home {
    let mut home = Home::temporary();
    for name in ["STILE_STORE_TIMEOUT", "STILE_STS_TIMEOUT", "STILE_TIMEOUT"] {
        home.unset(name);
    }
    home
}

#[tokio::test]
async fn an_invalid_setting_is_shown_with_one_error_and_exit_code_2() {
    let data = ["--data", "/nothing/here", "--host", HOST];
    for (name, flags, variable, group, setting, expected) in [
        (BROKER, &data[..], ("STILE_MAX_TTL", "soon"), "broker", "max-ttl", "invalid value 'soon'"),
        (BROKER, &data, ("STILE_MAX_TTL", "59"), "broker", "max-ttl", "from 60 to 43200"),
        (BROKER, &data, ("STILE_LOG", "=loud="), "broker", "log", "is not a log level"),
        (BROKER, &data, ("STILE_TLS_CERT", "/c"), "broker", "tls-cert", "--tls-key"),
        (BROKER, &data, ("STILE_TABLE", "t"), "broker", "table", "exactly one of"),
        (BROKER, &data[..2], ("STILE_HOST", "localhost"), "broker", "host", "not a registry host"),
        (HELPER, &[], ("STILE_TIMEOUT", "0"), "helper", "timeout", "0 is not in 1..=600"),
        (HELPER, &[], ("STILE_CONFIG", "/nothing/here"), "helper", "config", "cannot read"),
        (ADMIN, &[], ("STILE_STORE_TIMEOUT", "601"), "program", "store-timeout", "601 is not in"),
        (ADMIN, &data[..2], ("STILE_TABLE", "t"), "store", "table", "exactly one of"),
        (ADMIN, &[], ("STILE_HOST", "localhost"), "program", "registry-host", "localhost"),
        (ADMIN, &[], ("STILE_CONFIG", "/nothing/here"), "module", "config", "cannot read"),
    ] {
        let mut home = home();
        home.variable(variable.0, variable.1);
        let shown = show(name, &home, flags).await;
        assert_eq!(shown.code, Some(2), "{name} {variable:?}: {shown:?}");
        let (source, value) = row(&shown, group, setting);
        assert_eq!(source, format!("variable {}", variable.0), "{name}: {shown:?}");
        assert!(value.starts_with(variable.1), "{name} {variable:?}: {shown:?}");
        assert_eq!(shown.stderr.lines().count(), 1, "{name} {variable:?}: {shown:?}");
        assert!(shown.stderr.contains(expected), "{name} {variable:?}: {shown:?}");
    }
}

#[tokio::test]
async fn a_region_or_a_profile_with_which_the_helper_cannot_sign_is_an_error() {
    for (name, value, expected) in [
        ("AWS_REGION", "us-attacker-1", "does not know the AWS region `us-attacker-1`"),
        ("AWS_PROFILE", "missing", "the AWS profile `missing` does not exist"),
    ] {
        let mut home = home();
        home.configure_helper(&format!("[registry.\"{HOST}\"]\n"));
        home.variable(name, value);
        let shown = show(HELPER, &home, &[]).await;
        assert_eq!(shown.code, Some(2), "{shown:?}");
        assert!(shown.stderr.contains(expected), "{shown:?}");
    }
    let shown = show(HELPER, &home(), &[HOST]).await;
    assert!(shown.code == Some(2) && shown.stderr.contains("is not configured"), "{shown:?}");
}

/// Runs a program with secrets in its variables and files, and checks that it prints none.
async fn hides_secrets(name: &str, flags: &[&str], home: &Home, expected: Option<i32>) {
    for format in [&[][..], &["--output", "json"]] {
        if name != ADMIN && !format.is_empty() {
            continue;
        }
        let shown = show(name, home, &[flags, format].concat()).await;
        let all = format!("{}{}", shown.stdout, shown.stderr);
        assert!(!all.contains(SECRET), "{name} {flags:?}: {all}");
        assert!(all.contains("****"), "{name} {flags:?}: {all}");
        assert!(expected.is_none() || shown.code == expected, "{name} {flags:?}: {shown:?}");
    }
}

#[tokio::test]
async fn no_secret_of_a_variable_or_a_file_is_in_the_output() {
    let url = format!("https://user:{SECRET}@example.com/?token={SECRET}");
    let token = format!("stile_v4.local.{SECRET}");
    let mut home = home();
    for name in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"] {
        home.variable(name, SECRET);
    }
    for name in ["AWS_CONTAINER_AUTHORIZATION_TOKEN", "TF_TOKEN_registry_example_com"] {
        home.variable(name, SECRET);
    }
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "https_proxy"] {
        home.variable(name, url.clone());
    }
    home.variable("http_proxy", format!("user:{SECRET}@proxy:3128"));
    home.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.clone());
    with_profiles(
        &mut home,
        &format!(
            "aws_secret_access_key = {SECRET}\naws_session_token = {SECRET}\nendpoint_url = {url}\n"
        ),
    );
    home.configure_helper(&format!("[registry.\"{HOST}\"]\n"));
    hides_secrets(BROKER, &[&AWS[..], &["--host", HOST]].concat(), &home, Some(0)).await;
    hides_secrets(HELPER, &[], &home, Some(0)).await;
    hides_secrets(ADMIN, &AWS, &home, Some(0)).await;
    home.variable("AWS_ENDPOINT_URL_S3", url.clone());
    for (name, flags) in [(BROKER, [&AWS[..], &["--host", HOST]].concat()), (ADMIN, AWS.to_vec())] {
        let shown = show(name, &home, &flags).await;
        let all = format!("{}{}", shown.stdout, shown.stderr);
        assert!(shown.code == Some(2) && !all.contains(SECRET), "{name}: {shown:?}");
        assert!(all.contains("`AWS_ENDPOINT_URL_S3` must be a URL"), "{name}: {shown:?}");
    }
    home.unset("AWS_ENDPOINT_URL_S3");

    home.configure_helper(&format!("[registry.\"{HOST}\"]\nurl = \"{url}\"\n"));
    hides_secrets(HELPER, &[], &home, Some(2)).await;
    hides_secrets(ADMIN, &[], &home, Some(2)).await;
    home.configure_helper(&format!("[registry.\"{HOST}\"]\nurl = \"https://u:{SECRET}@h:x\"\n"));
    hides_secrets(HELPER, &[], &home, Some(2)).await;

    // A secret where none belongs is a mistake that users make.
    let variables = [
        "HOST",
        "DATA",
        "TABLE",
        "BUCKET",
        "KMS_KEY",
        "BUCKET_KMS_KEY",
        "LISTEN",
        "TLS_CERT",
        "TLS_KEY",
        "REGIONS",
        "MAX_TTL",
        "DEFAULT_TTL",
        "IAM_SOURCE",
        "TRUSTED_HOPS",
        "AUTHORIZER_BASE",
        "OPENAPI",
        "LINK_TTL",
        "STS_ENDPOINT",
        "STORE_TIMEOUT",
        "DISK_RESERVE",
        "STS_TIMEOUT",
        "LOG",
        "LOG_FORMAT",
        "CONFIG",
        "TIMEOUT",
        "AUDIT_LOG",
    ];
    for variable in variables {
        for value in [&url, &token] {
            let mut home = self::home();
            home.variable(&format!("STILE_{variable}"), value.clone());
            for name in [BROKER, HELPER, ADMIN] {
                let shown = show(name, &home, &[]).await;
                let all = format!("{}{}", shown.stdout, shown.stderr);
                assert!(!all.contains(SECRET), "{name} {variable}: {all}");
            }
        }
    }
}

#[tokio::test]
async fn an_event_bus_is_shown_and_with_it_what_the_sdk_uses_also_for_a_folder() {
    let data = ["--data", "/nothing/here", "--host", HOST];
    let mut home = home();
    let shown = show(BROKER, &home, &data).await;
    assert_eq!(row(&shown, "broker", "event-bus").1, "-");
    assert!(!shown.stdout.contains("EventBridge"), "{shown:?}");
    home.variable("STILE_EVENT_BUS", "stile");
    home.variable("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9");
    let shown = show(BROKER, &home, &data).await;
    assert_eq!(shown.code, Some(0), "{shown:?}");
    let (source, value) = row(&shown, "broker", "event-bus");
    assert_eq!((source.as_str(), value.as_str()), ("variable STILE_EVENT_BUS", "stile"));
    let (source, value) = row(&shown, "AWS", "endpoint of EventBridge");
    assert_eq!(
        (source.as_str(), value.as_str()),
        ("variable AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:9")
    );
    home.variable("AWS_ENDPOINT_URL_EVENTBRIDGE", "");
    let refused = home.run(&program(BROKER), &[&["serve"][..], &data].concat()).await;
    assert!(refused.stderr.contains("`AWS_ENDPOINT_URL_EVENTBRIDGE` is set to nothing"));
}

#[tokio::test]
async fn nothing_is_connected_to_and_nothing_is_created() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let mut home = home();
    home.unset("AWS_EC2_METADATA_DISABLED");
    for name in ["AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL", "HTTP_PROXY"] {
        home.variable(name, url.clone());
    }
    home.configure_helper(&format!("[registry.\"{HOST}\"]\nurl = \"{url}\"\n"));
    let folder = home.path().join("data");
    home.variable("STILE_AUDIT_LOG", home.path().join("audit.log"));
    let data = ["--data", folder.to_str().unwrap()];
    let with_host = |flags: &[&'static str]| [flags, &["--host", HOST]].concat();
    for (name, flags) in [
        (BROKER, with_host(&AWS)),
        (BROKER, [&data[..], &["--host", HOST]].concat()),
        (HELPER, Vec::new()),
        (ADMIN, AWS.to_vec()),
        (ADMIN, data.to_vec()),
    ] {
        let before = std::fs::read_dir(home.path()).unwrap().count();
        let shown = show(name, &home, &flags).await;
        assert_eq!(shown.code, Some(0), "{name} {flags:?}: {shown:?}");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), before, "{name} {flags:?}");
        let connected = listener.accept().map(|_| ()).map_err(|error| error.kind());
        assert_eq!(connected, Err(std::io::ErrorKind::WouldBlock), "{name} {flags:?}");
    }
}

/// A setting, and what gives it a value in each layer: the flag, variables and the file of AWS.
type Layer = (&'static [&'static str], &'static [(&'static str, &'static str)], bool);

/// Checks which layer gives the value of a setting, from the strongest to the weakest.
async fn precedence(
    name: &str,
    base: &[&str],
    group: &str,
    setting: &str,
    cases: &[(Layer, &str, &str)],
) {
    for ((flags, variables, file), source, value) in cases {
        let mut home = home();
        let config = home.path().join("stile.toml");
        let keys = "profile = \"dev\"\nregion = \"eu-west-1\"\nttl = 900\n";
        let keys = if *file { keys } else { "" };
        std::fs::write(&config, format!("[registry.\"{HOST}\"]\n{keys}")).unwrap();
        std::fs::copy(&config, home.path().join("other.toml")).unwrap();
        home.variable("STILE_CONFIG", &config);
        if *file {
            with_profiles(&mut home, "");
        }
        for (variable, value) in *variables {
            home.variable(variable, *value);
        }
        let shown = show(name, &home, &[base, flags].concat()).await;
        assert_eq!(shown.code, Some(0), "{name} {setting} {flags:?} {variables:?}: {shown:?}");
        let (from, shown_value) = row(&shown, group, setting);
        let config = config.display().to_string();
        let expected = (source.replace("@config", &config), value.replace("@config", &config));
        assert_eq!((from, shown_value), expected, "{name} {setting} {flags:?} {variables:?}");
    }
}

#[tokio::test]
async fn a_flag_of_the_broker_precedes_a_variable_a_file_and_the_default() {
    let data = ["--data", "/d", "--host", HOST];
    for (setting, flags, variable, of_flag, of_variable, default) in [
        ("max-ttl", &["--max-ttl", "100"], ("STILE_MAX_TTL", "200"), "100", "200", "3600"),
        (
            "listen",
            &["--listen", "[::1]:1"],
            ("STILE_LISTEN", "127.0.0.1:2"),
            "[::1]:1",
            "127.0.0.1:2",
            "127.0.0.1:8443",
        ),
        ("store-timeout", &["--store-timeout", "7"], ("STILE_STORE_TIMEOUT", "8"), "7", "8", "5"),
        ("sts-timeout", &["--sts-timeout", "7"], ("STILE_STS_TIMEOUT", "8"), "7", "8", "3"),
        ("disk-reserve", &["--disk-reserve", "7"], ("STILE_DISK_RESERVE", "8"), "7", "8", "64"),
        (
            "regions",
            &["--regions", "us-east-1"],
            ("STILE_REGIONS", "eu-west-1,eu-west-2"),
            "us-east-1",
            "eu-west-1,eu-west-2",
            "",
        ),
        (
            "log-format",
            &["--log-format", "json"],
            ("STILE_LOG_FORMAT", "json"),
            "json",
            "json",
            "text",
        ),
    ]
        as [(&str, &'static [&str; 2], (&'static str, &'static str), &str, &str, &str); 7]
    {
        let both: &'static [(&str, &str)] = Box::leak(Box::new([variable]));
        let empty: &'static [(&str, &str)] = Box::leak(Box::new([(variable.0, "")]));
        let mut cases = vec![
            ((&flags[..], both, false), format!("flag --{setting}"), of_flag),
            ((&[], both, false), format!("variable {}", variable.0), of_variable),
        ];
        if !default.is_empty() {
            cases.push(((&[], empty, false), "default".to_owned(), default));
            cases.push(((&[], &[], false), "default".to_owned(), default));
        }
        let cases: Vec<(Layer, &str, &str)> =
            cases.iter().map(|(layer, source, value)| (*layer, source.as_str(), *value)).collect();
        precedence(BROKER, &data, "broker", setting, &cases).await;
    }
    let regions = [("AWS_REGION", "us-west-1"), ("AWS_DEFAULT_REGION", "us-west-2")];
    let both: &'static [(&str, &str)] = Box::leak(Box::new(regions));
    let cases: [(Layer, &str, &str); 4] = [
        ((&[], both, true), "variable AWS_REGION", "us-west-1"),
        ((&[], &both[1..], true), "variable AWS_DEFAULT_REGION", "us-west-2"),
        ((&[], &[], true), "file of the AWS profile", "sa-east-1"),
        ((&[], &[], false), "default", "(that of the instance, if it has one)"),
    ];
    precedence(BROKER, &AWS, "AWS", "region", &cases).await;
}

#[tokio::test]
async fn a_flag_of_the_helper_precedes_a_variable_a_file_and_the_default() {
    let timeouts: [(Layer, &str, &str); 3] = [
        ((&["--timeout", "20"], &[("STILE_TIMEOUT", "30")], true), "flag --timeout", "20"),
        ((&[], &[("STILE_TIMEOUT", "30")], true), "variable STILE_TIMEOUT", "30"),
        ((&[], &[], true), "default", "10"),
    ];
    let configs: [(Layer, &str, &str); 2] = [
        ((&["--config", "other.toml"], &[], true), "flag --config", "other.toml"),
        ((&[], &[], true), "variable STILE_CONFIG", "@config"),
    ];
    for name in [HELPER, ADMIN] {
        let group = if name == HELPER { "helper" } else { "module" };
        precedence(name, &[], group, "timeout", &timeouts).await;
        precedence(name, &[], group, "config", &configs).await;
    }
    let variables = &[("AWS_REGION", "us-west-1"), ("AWS_PROFILE", "dev")];
    let regions: [(Layer, &str, &str); 4] = [
        ((&["--region", "us-east-2"], variables, true), "flag --region", "us-east-2"),
        ((&[], variables, true), "file @config", "eu-west-1"),
        ((&[], &[("AWS_REGION", "us-west-1")], false), "variable AWS_REGION", "us-west-1"),
        ((&[], &[], false), "default", "(that of the instance, or else `us-east-1`)"),
    ];
    let profiles: [(Layer, &str, &str); 3] = [
        ((&["--profile", "default"], variables, true), "flag --profile", "default"),
        ((&[], &[("AWS_PROFILE", "default")], true), "file @config", "dev"),
        ((&[], &[], false), "default", "default"),
    ];
    let lifetimes: [(Layer, &str, &str); 2] =
        [((&[], &[], true), "file @config", "900"), ((&[], &[], false), "default", "3600")];
    for name in [HELPER, ADMIN] {
        precedence(name, &[], &of_registry(HOST), "region", &regions).await;
        precedence(name, &[], &of_registry(HOST), "profile", &profiles).await;
        precedence(name, &[], &of_registry(HOST), "ttl", &lifetimes).await;
    }
}

#[tokio::test]
async fn a_flag_of_the_admin_program_precedes_a_variable_a_file_and_the_default() {
    let other = &[("STILE_HOST", "other.example.com")];
    let hosts: [(Layer, &str, &str); 4] = [
        ((&["--registry-host", HOST], other, true), "flag --registry-host", HOST),
        ((&[], other, true), "variable STILE_HOST", "other.example.com"),
        ((&[], &[("STILE_HOST", "")], true), "file @config", HOST),
        ((&[], &[], true), "file @config", HOST),
    ];
    precedence(ADMIN, &[], "module", "registry-host", &hosts).await;
    let folders: [(Layer, &str, &str); 3] = [
        ((&["--data", "/d"], &[("STILE_DATA", "/e")], false), "flag --data", "/d"),
        ((&[], &[("STILE_DATA", "/e")], false), "variable STILE_DATA", "/e"),
        ((&[], &[], false), "default", "-"),
    ];
    precedence(ADMIN, &[], "store", "data", &folders).await;
    let regions: [(Layer, &str, &str); 2] = [
        ((&[], &[("AWS_REGION", "us-west-1")], true), "variable AWS_REGION", "us-west-1"),
        ((&[], &[], true), "file of the AWS profile", "sa-east-1"),
    ];
    precedence(ADMIN, &AWS, "AWS of the store", "region", &regions).await;
}

#[tokio::test]
async fn each_service_of_aws_is_shown_with_the_endpoint_that_its_client_has() {
    let (every, s3) = ("http://127.0.0.1:1", "http://127.0.0.1:2");
    for (variables, of_s3, of_kms) in [
        (
            &[("AWS_ENDPOINT_URL", every), ("AWS_ENDPOINT_URL_S3", s3)][..],
            ("variable AWS_ENDPOINT_URL_S3", s3),
            ("variable AWS_ENDPOINT_URL", every),
        ),
        (
            &[("AWS_ENDPOINT_URL", every)],
            ("variable AWS_ENDPOINT_URL", every),
            ("variable AWS_ENDPOINT_URL", every),
        ),
        (
            &[("AWS_ENDPOINT_URL", every), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")],
            ("default", "(that of S3 in the region)"),
            ("default", "(that of KMS in the region)"),
        ),
        (&[], ("default", "(that of S3 in the region)"), ("file of the AWS configuration", s3)),
    ] {
        let mut home = home();
        if variables.is_empty() {
            with_profiles(
                &mut home,
                &format!("services = x\n[services x]\nkms =\n  endpoint_url = {s3}\n"),
            );
        }
        for (name, value) in variables {
            home.variable(name, *value);
        }
        for (name, group, flags) in
            [(BROKER, "AWS", &["--host", HOST][..]), (ADMIN, "AWS of the store", &[])]
        {
            let shown = show(name, &home, &[&AWS[..], flags].concat()).await;
            let got = |service: &str| row(&shown, group, &format!("endpoint of {service}"));
            let expected = |(source, value): (&str, &str)| (source.to_owned(), value.to_owned());
            assert_eq!(got("S3"), expected(of_s3), "{name} {variables:?}: {shown:?}");
            assert_eq!(got("KMS"), expected(of_kms), "{name} {variables:?}: {shown:?}");
        }
    }
}

#[tokio::test]
async fn every_flag_of_a_program_is_shown() {
    let home = home();
    for (name, command) in
        [(BROKER, &["serve", "--help"][..]), (ADMIN, &["config", "show", "--help"])]
    {
        let help = home.run(&program(name), command).await.stdout;
        let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
        let flags: Vec<&str> = flags.filter_map(|line| line.split([' ', '<']).next()).collect();
        assert!(flags.len() > 10, "{flags:?}");
        let shown =
            show(name, &home, if name == BROKER { &["--data", "/d", "--host", HOST] } else { &[] });
        let shown = shown.await;
        for flag in
            flags.iter().filter(|flag| !["help", "version", "region", "profile"].contains(flag))
        {
            let is_shown = |line: &str| line.split("  ").next() == Some(flag);
            assert!(shown.stdout.lines().any(is_shown), "{name} {flag}: {shown:?}");
        }
    }
}
