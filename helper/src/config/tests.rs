//! Tests of the configuration file and the environment.

use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("config.toml")).map_err(|error| error.to_string())
}

fn table(line: &str) -> Result<Config, String> {
    parse(&format!("[registry.\"registry.example.com\"]\n{line}\n"))
}

#[test]
fn an_invalid_setting_is_rejected_with_a_clear_error() {
    let place = "`config.toml` [registry.\"registry.example.com\"]: ";
    for (line, expected) in [
        (
            "regoin = \"x\"",
            "`config.toml` line 2: unknown field `regoin`, expected one of `region`, `profile`, `service`, `ttl`, `permissions`, `url`, `proof`, `trust`, `audience`, `id_token_env`, `id_token_file`"
                .to_owned(),
        ),
        ("ttl = \"3600\"", "`config.toml` line 2: invalid type: string \"3600\", expected i64".to_owned()),
        ("service = \"ec2\"", "`config.toml` line 2: unknown variant `ec2`, expected one of `sts`, `execute-api`, `lambda`".to_owned()),
        ("ttl = 59", format!("{place}`ttl` must be from 60 to 43200 seconds")),
        ("ttl = 43201", format!("{place}`ttl` must be from 60 to 43200 seconds")),
        ("region = \"us-east-1.evil.org\"", format!("{place}`us-east-1.evil.org` is not an AWS region such as `eu-central-1`")),
        ("permissions = []", format!("{place}`permissions` is empty; a token needs at least one")),
        ("profile = \"\"", format!("{place}`profile` is empty")),
        (
            "url = \"http://registry.example.com\"",
            format!("{place}`http://registry.example.com` is plain HTTP, which only loopback addresses may use; use `https`"),
        ),
        ("url = \"ftp://registry.example.com\"", format!("{place}`url` must be `https`, not `ftp`")),
        ("url = \"https://a@b.example\"", format!("{place}`url` must not have a user, a query or a fragment")),
        ("url = \"https://b.example?x=1\"", format!("{place}`url` must not have a user, a query or a fragment")),
        ("proof = \"jwt\"", "`config.toml` line 2: unknown variant `jwt`, expected one of `sigv4`, `web-identity`, `oidc`".to_owned()),
        ("proof = \"oidc\"\nservice = \"lambda\"", format!("{place}`service = \"lambda\"` needs `proof = \"sigv4\"`: the gateway verifies a signature")),
        ("proof = \"oidc\"\nid_token_env = []", format!("{place}`id_token_env` is empty; name at least one variable")),
        ("proof = \"oidc\"\nid_token_env = \"eyJ.a.b\"", format!("{place}`id_token_env` must name variables: letters, digits and `_`")),
        ("proof = \"oidc\"\nid_token_env = 7", "`config.toml` line 3: invalid type, expected a text or a list of texts".to_owned()),
        ("proof = \"oidc\"\nid_token_env = \"A\"\nid_token_file = \"b\"", format!("{place}only one of `id_token_env` and `id_token_file` can be set")),
        ("proof = \"web-identity\"\nid_token_file = \"b\"", format!("{place}`id_token_env` and `id_token_file` need `proof = \"oidc\"`")),
        ("proof = \"oidc\"\ntrust = \"Ci\"", format!("{place}`trust` must be the name of a trust: lower-case letters, digits and hyphens")),
        ("proof = \"oidc\"\naudience = \"\"", format!("{place}`audience` must have 1 to 500 printable characters, and no space")),
        ("proof = \"oidc\"\naudience = \"a b\"", format!("{place}`audience` must have 1 to 500 printable characters, and no space")),
        ("audience = \"a\"", format!("{place}`audience` needs `proof = \"oidc\"` or `proof = \"web-identity\"`")),
        ("trust = \"ci\"", format!("{place}`trust` needs `proof = \"oidc\"` or `proof = \"web-identity\"`")),
    ] {
        assert_eq!(table(line).unwrap_err(), expected, "{line}");
    }
    assert!(
        parse("[registries]\n")
            .unwrap_err()
            .contains("unknown field `registries`, expected `version` or `registry`")
    );
    assert!(parse("[registry.localhost]\n").unwrap_err().contains("`localhost` has no dot"));
    let duplicate = "[registry.\"a.example\"]\n[registry.\"A.example:443\"]\n";
    assert_eq!(parse(duplicate).unwrap_err(), "`config.toml`: `a.example` has two tables");
}

#[test]
fn a_file_of_another_version_is_rejected_with_both_versions() {
    let table = "[registry.\"a.example\"]\n";
    assert_eq!(parse(&format!("version = 1\n{table}")).unwrap().registries().count(), 1);
    for (text, version) in [
        (format!("version = 2\n{table}later = 1\n"), 2),
        ("version = 99\nregistries = []\n".to_owned(), 99),
        ("version = 0\n".to_owned(), 0),
    ] {
        let program = env!("CARGO_PKG_VERSION");
        assert_eq!(
            parse(&text).unwrap_err(),
            format!(
                "`config.toml`: the file has format version {version}, and this program ({program}) supports version 1"
            )
        );
    }
    assert!(parse("version = \"1\"\n").unwrap_err().contains("line 1: invalid type"));
}

#[test]
fn only_loopback_addresses_may_use_plain_http() {
    for (text, allowed) in [
        ("http://127.0.0.1:8443", true),
        ("http://127.9.9.9", true),
        ("http://[::1]:8443", true),
        ("http://localhost:8443", true),
        ("http://localhost.evil.org", false),
        ("http://127.0.0.1.evil.org", false),
        ("http://10.0.0.1", false),
        ("http://0.0.0.0", false),
        ("https://10.0.0.1", true),
    ] {
        assert_eq!(parse_url(text).is_ok(), allowed, "{text}");
    }
}

#[test]
fn an_empty_table_has_every_default() {
    let config = parse("[registry.\"Registry.Example.com:443\"]\n").unwrap();
    let host = Audience::parse("registry.example.com").unwrap();
    let registry = config.registry(&host).unwrap();
    assert_eq!(registry, &RegistryConfig::new(host).unwrap());
    assert_eq!(
        registry.url_for("/v1/token").unwrap().as_str(),
        "https://registry.example.com/v1/token"
    );
    assert_eq!((registry.ttl, registry.permissions.to_string().as_str()), (3600, "download"));
}

#[test]
fn every_setting_of_a_table_is_used() {
    let config = table(
        "region = \"eu-central-1\"\nprofile = \"ci\"\nservice = \"execute-api\"\nttl = 900\n\
         permissions = [\"upload\", \"download\"]\nurl = \"https://api.example.com/prod/\"",
    )
    .unwrap();
    let registry = config.registries().next().unwrap();
    assert_eq!(registry.region.as_deref(), Some("eu-central-1"));
    assert_eq!(registry.profile.as_deref(), Some("ci"));
    assert_eq!((registry.service, registry.ttl), (Service::ExecuteApi, 900));
    assert_eq!(registry.permissions.to_string(), "download,upload");
    assert_eq!(
        registry.url_for("/v1/token").unwrap().as_str(),
        "https://api.example.com/prod/v1/token"
    );
}

#[test]
fn a_job_can_name_one_variable_or_several() {
    for (value, expected) in [("\"A\"", &["A"][..]), ("[\"B\", \"A\"]", &["B", "A"])] {
        let config = table(&format!("proof = \"oidc\"\nid_token_env = {value}")).unwrap();
        let registry = config.registries().next().unwrap();
        assert_eq!(registry.proof, Proof::Oidc);
        assert_eq!(registry.id_tokens.variables, expected);
    }
}

#[test]
fn only_the_default_file_may_be_missing() {
    let folder = tempfile::tempdir().unwrap();
    let environment =
        Environment { config_folder: Some(folder.path().to_owned()), ..Environment::default() };
    assert_eq!(Config::load(None, &environment).unwrap().registries().count(), 0);
    assert_eq!(Config::load(None, &Environment::default()).unwrap().registries().count(), 0);
    assert!(matches!(
        Config::load(Some(&folder.path().join("x")), &environment),
        Err(ConfigError::Unreadable { .. })
    ));
}

#[test]
fn a_tilde_is_the_home_folder_only_as_the_first_component() {
    let home = Environment { home: Some("/home/a".into()), ..Environment::default() };
    for (path, expected) in [
        ("~user/config", "~user/config"),
        ("/etc/~/config", "/etc/~/config"),
        ("", ""),
        ("~", "/home/a/"),
        ("~/config", "/home/a/config"),
        ("~//aws/config", "/home/a/aws/config"),
    ] {
        assert_eq!(home.expand_home(Path::new(path)), Path::new(expected), "{path}");
    }
    let none = Environment::default();
    assert_eq!(none.expand_home(Path::new("~/config")), Path::new("~/config"));
}

#[test]
fn a_pasted_url_is_its_host_and_no_other_url_is() {
    for text in [
        "http://registry.example.com",
        "https://registry.example.com/v1",
        "https://registry.example.com//",
        "https://a@registry.example.com",
        "https://registry.example.com?x=1",
        "https://https://registry.example.com",
        "https://",
        "https:///",
        "registry.example.com/",
    ] {
        assert!(parse_host(text).is_err(), "{text}");
    }
    for (text, expected) in [
        ("https://registry.example.com", "registry.example.com"),
        ("https://registry.example.com/", "registry.example.com"),
        ("HTTPS://Registry.Example.com:443/", "registry.example.com"),
        ("https://registry.example.com:8443", "registry.example.com:8443"),
        ("https://café.fr/", "xn--caf-dma.fr"),
    ] {
        assert_eq!(parse_host(text).unwrap().as_str(), expected, "{text}");
    }
}

#[test]
fn a_container_secret_comes_from_the_file_if_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let value = |text: &str| Some(OsString::from(text));
    assert_eq!(container_secret(Some(file.clone()), value("variable")), None, "no file");
    std::fs::write(&file, "file").unwrap();
    for (file, variable, expected) in [
        (Some(file.clone()), value("variable"), Some("file")),
        (Some(file), None, Some("file")),
        (None, value("variable"), Some("variable")),
        (None, value(""), None),
        (None, None, None),
    ] {
        let secret = container_secret(file, variable);
        assert_eq!(secret.as_deref(), expected.map(str::as_bytes));
    }
}

#[test]
fn a_computer_is_known_by_its_boot_and_its_host_name() {
    let kernel = tempfile::tempdir().unwrap();
    std::fs::create_dir(kernel.path().join("random")).unwrap();
    assert_eq!(computer(kernel.path()), None);
    std::fs::write(kernel.path().join("random/boot_id"), "1-2-3\n").unwrap();
    assert_eq!(computer(kernel.path()), None, "only one of the two");
    for name in ["a", "b.example", "pod-7"] {
        std::fs::write(kernel.path().join("hostname"), format!("{name}\n")).unwrap();
        assert_eq!(computer(kernel.path()).unwrap(), format!("1-2-3 {name}"));
    }
}
