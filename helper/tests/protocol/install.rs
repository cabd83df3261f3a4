//! `install`: the files that it writes, keeps and refuses to edit.

use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::support::{Sandbox, StubBroker};

const INSTALL: [&str; 3] = ["install", "--registry-host", "registry.example.com"];
const BLOCK: &str = "credentials_helper \"stile\" {\n  args = []\n}\n";
const TABLE: &str = "[registry.\"registry.example.com\"]\nttl = 3600\n";

fn mode(sandbox: &Sandbox, name: &str) -> u32 {
    std::fs::metadata(sandbox.path(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_conflicting_file_is_an_error_and_no_file_changes() {
    for (file, text, line) in [
        (
            ".terraformrc",
            "credentials_helper \"vault\" {}\n",
            "`~/.terraformrc` configures another credentials helper, `vault`, and Terraform uses only one; \
             hint: remove its block and run this again, or use `get-token` for this registry",
        ),
        (
            ".terraform.d/own.tfrc",
            "credentials_helper \"vault\" {}\n",
            "`~/.terraform.d/own.tfrc` configures another credentials helper, `vault`, and Terraform uses only one; \
             hint: remove its block and run this again, or use `get-token` for this registry",
        ),
        (
            ".terraformrc",
            "host \"x\" {\n",
            "cannot edit `~/.terraformrc`: line 1 is not valid HCL; \
             hint: add `credentials_helper \"stile\" { args = [] }` to it",
        ),
        (
            ".config/stile/config.toml",
            "[registry.\"a.example\"]\nx = 1\n",
            "`~/.config/stile/config.toml` line 2: unknown field `x`, expected one of \
             `region`, `profile`, `service`, `ttl`, `permissions`, `url`, `proof`, `trust`, `audience`, `id_token_env`, `id_token_file`",
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write(file, text);
        let before = sandbox.files();
        sandbox.run(&INSTALL).fails_with(line);
        assert_eq!(sandbox.files(), before);
    }
}

#[test]
fn a_first_install_writes_three_files_and_a_second_none() {
    let sandbox = Sandbox::new();
    let run = sandbox.run(&INSTALL);
    assert_eq!(
        run.stderr,
        "stile: copied the program to `~/.terraform.d/plugins/terraform-credentials-stile`\n\
         stile: wrote `~/.config/stile/config.toml`\nstile: wrote `~/.terraformrc`\n\
         stile: run `terraform-credentials-stile doctor registry.example.com` to check the installation\n"
    );
    assert_eq!((run.stdout.as_str(), run.code), ("", 0));
    assert_eq!(sandbox.read(".terraformrc"), BLOCK);
    assert_eq!(sandbox.read(".config/stile/config.toml"), TABLE);
    assert_eq!(mode(&sandbox, ".terraformrc"), 0o600);
    assert_eq!(mode(&sandbox, ".config/stile/config.toml"), 0o600);
    assert_eq!(mode(&sandbox, ".terraform.d/plugins/terraform-credentials-stile"), 0o755);

    let before = sandbox.files();
    let again = sandbox.run(&INSTALL);
    assert_eq!(again.stderr, "stile: everything is already installed; nothing changed\n");
    assert_eq!((again.code, sandbox.files()), (0, before));
}

#[test]
fn a_second_registry_is_added_to_the_first() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run(&INSTALL).code, 0);
    let more = [
        "--expiration-window",
        "900",
        "--region",
        "us-east-1",
        "--profile",
        "ci",
        "--service",
        "lambda",
    ];
    assert_eq!(
        sandbox.run(&[&["install", "--registry-host", "b.example"], &more[..]].concat()).code,
        0
    );
    let second = "[registry.\"b.example\"]\nttl = 900\nregion = \"us-east-1\"\nprofile = \"ci\"\nservice = \"lambda\"\n";
    assert_eq!(sandbox.read(".config/stile/config.toml"), format!("{TABLE}\n{second}"));
    assert_eq!(sandbox.read(".terraformrc"), BLOCK);
}

#[test]
fn parallel_installs_keep_every_registry() {
    let sandbox = Sandbox::new();
    let hosts: Vec<_> = (0..8).map(|number| format!("host-{number}.example")).collect();
    std::thread::scope(|scope| {
        for host in &hosts {
            let sandbox = &sandbox;
            scope.spawn(move || {
                assert_eq!(sandbox.run(&["install", "--registry-host", host]).code, 0);
            });
        }
    });
    let config = sandbox.read(".config/stile/config.toml");
    for host in &hosts {
        assert!(config.contains(&format!("[registry.\"{host}\"]")), "{host}: {config}");
    }
    assert_eq!(sandbox.read(".terraformrc"), BLOCK);
}

#[test]
fn an_existing_block_is_not_changed() {
    for (file, text, config, warned) in [
        (
            ".terraformrc",
            "credentials_helper \"stile\" { args = [\"--profile\", \"x\"] }\n",
            None,
            false,
        ),
        (".terraform.d/own.tfrc", "credentials_helper \"stile\" {}\n", None, false),
        (".terraformrc", "credentials_helper \"stile\" {}\n", Some("own.toml"), true),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write(file, text);
        let flags: Vec<_> = config.into_iter().flat_map(|config| ["--config", config]).collect();
        let run = sandbox.run(&[&INSTALL[..], &flags].concat());
        assert_eq!((run.code, sandbox.read(file).as_str()), (0, text));
        assert!(file == ".terraformrc" || !sandbox.path(".terraformrc").exists());
        assert_eq!(
            run.stderr.contains("its `args` should be `[\"--config\""),
            warned,
            "{}",
            run.stderr
        );
    }
}

#[test]
fn install_edits_the_file_that_the_block_makes_the_helper_read() {
    let sandbox = Sandbox::new();
    let own = sandbox.path("own.toml");
    let table = "[registry.\"registry.example.com\"]\nurl = \"http://127.0.0.1:9\"\n";
    sandbox.write("own.toml", table);
    sandbox.write(
        ".terraformrc",
        &format!(
            "credentials_helper \"stile\" {{ args = [\"--config\", \"{}\"] }}\n",
            own.display()
        ),
    );
    let before = sandbox.files();
    sandbox.run(&[&INSTALL[..], &["--config", "other.toml"]].concat()).fails_with(
        "the block in `~/.terraformrc` makes the helper read `~/own.toml`, so it would ignore `other.toml`; \
         hint: omit `--config`, or change the `args` of the block",
    );
    assert_eq!(sandbox.files(), before);
    let run = sandbox.run(&INSTALL);
    let notice = "stile: the block in `~/.terraformrc` makes the helper read `~/own.toml`, so `install` edits that file\n";
    assert!(run.code == 0 && run.stderr.starts_with(notice), "{}", run.stderr);
    assert_eq!(sandbox.read("own.toml"), format!("{table}ttl = 3600\n"));
    assert!(!sandbox.path(".config/stile/config.toml").exists());
    assert_eq!(
        sandbox.run(&[&INSTALL[..], &["--config", "own.toml"]].concat()).stderr,
        "stile: everything is already installed; nothing changed\n"
    );

    let doctor = sandbox.run(&["doctor"]).stdout;
    assert!(
        doctor.contains("ok   helper configuration: `~/own.toml`\n")
            && doctor.contains("ok   registry: `registry.example.com`"),
        "{doctor}"
    );
    let doctor = sandbox.run(&["doctor", "registry.example.com", "--config", "/dev/null"]).stdout;
    assert!(doctor.contains("FAIL CLI configuration: the block in `~/.terraformrc` makes the helper read `~/own.toml`, not `/dev/null`"), "{doctor}");
}

#[test]
fn a_read_only_file_is_not_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write(".terraformrc", "");
    std::fs::set_permissions(sandbox.path(".terraformrc"), std::fs::Permissions::from_mode(0o444))
        .unwrap();
    let before = sandbox.files();
    sandbox.run(&INSTALL).fails_with(
        "`~/.terraformrc` is read-only; hint: run `chmod u+w ~/.terraformrc` to allow the change",
    );
    assert_eq!(sandbox.files(), before);
}

#[test]
fn an_edited_file_keeps_its_content_mode_and_link() {
    let sandbox = Sandbox::new();
    let before = "# mine\nplugin_cache_dir   = \"x\"   # comment\ncredentials \"app.terraform.io\" { token=\"sekret\" }";
    sandbox.write("dotfiles/terraformrc", before);
    std::fs::set_permissions(
        sandbox.path("dotfiles/terraformrc"),
        std::fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    symlink("dotfiles/terraformrc", sandbox.path(".terraformrc")).unwrap();
    assert_eq!(sandbox.run(&INSTALL).code, 0);
    assert!(std::fs::symlink_metadata(sandbox.path(".terraformrc")).unwrap().is_symlink());
    assert_eq!(sandbox.read("dotfiles/terraformrc"), format!("{before}\n\n{BLOCK}"));
    assert_eq!(mode(&sandbox, "dotfiles/terraformrc"), 0o640);
}

#[test]
fn a_dry_run_shows_the_changes_without_secrets_and_makes_none() {
    let sandbox = Sandbox::new();
    sandbox.write(".terraformrc", "credentials \"app.terraform.io\" { token=\"sekret\" }");
    let before = sandbox.files();
    let run = sandbox.run(&[&INSTALL[..], &["--dry-run"]].concat());
    let program = env!("CARGO_BIN_EXE_terraform-credentials-stile");
    insta::assert_snapshot!(run.stdout.replace(program, "PROGRAM"), @r#"
    copy PROGRAM to ~/.terraform.d/plugins/terraform-credentials-stile
    --- ~/.config/stile/config.toml
    +++ ~/.config/stile/config.toml
    @@ -0,0 +1,2 @@
    +[registry."registry.example.com"]
    +ttl = 3600
    --- ~/.terraformrc
    +++ ~/.terraformrc
    @@ -1,0 +2,4 @@
    +
    +credentials_helper "stile" {
    +  args = []
    +}
    "#);
    assert_eq!((run.stderr.as_str(), run.code), ("", 0));
    assert_eq!(sandbox.files(), before);
}

#[test]
fn settings_that_override_the_helper_are_reported() {
    let sandbox = Sandbox::new().with("TF_TOKEN_registry_example_com", "x");
    sandbox.write(".terraformrc", "credentials \"Registry.example.com\" {}\n");
    sandbox.write(
        ".terraform.d/credentials.tfrc.json",
        "{\"credentials\":{\"registry.example.com\":{\"token\":\"x\"}}}",
    );
    sandbox.write(".tofurc", "");
    let run = sandbox.run(&INSTALL);
    for line in [
        "`~/.terraform.d/credentials.tfrc.json` has a `credentials \"registry.example.com\"` block",
        "`~/.terraformrc` has a `credentials \"registry.example.com\"` block",
        "`TF_TOKEN_registry_example_com` is set, so Terraform will not run the helper; unset it",
        "OpenTofu reads `~/.tofurc` instead; to configure it, run this again with `--rc-file ~/.tofurc`",
    ] {
        assert!(run.stderr.contains(line), "{line}\n{}", run.stderr);
    }
    assert_eq!(run.code, 0);
}

#[test]
fn flags_and_variables_choose_the_paths() {
    let sandbox = Sandbox::new().with("TF_CLI_CONFIG_FILE", "named.tfrc");
    std::fs::create_dir_all(sandbox.path(".local/share/opentofu")).unwrap();
    assert_eq!(sandbox.run(&INSTALL).code, 0);
    assert_eq!(sandbox.read("named.tfrc"), BLOCK);
    assert!(sandbox.path(".local/share/opentofu/plugins/terraform-credentials-stile").exists());

    let sandbox = Sandbox::new().with("TF_CLI_CONFIG_FILE", "unused");
    let wanted = ["--rc-file", "rc", "--plugin-directory", "here", "--config", "own/config.toml"];
    let run = sandbox.run(&[&INSTALL[..], &wanted].concat());
    assert_eq!((run.code, run.stderr.lines().count()), (0, 5), "{}", run.stderr);
    assert!(
        run.stderr.starts_with("stile: Terraform does not search `here` for helpers\n"),
        "{}",
        run.stderr
    );
    let usual = sandbox.path(".terraform.d/plugins");
    let run = sandbox.run(
        &[&INSTALL[..], &["--dry-run", "--plugin-directory", usual.to_str().unwrap()]].concat(),
    );
    assert_eq!((run.stderr.as_str(), run.code), ("", 0));
    let config = sandbox.path("own/config.toml");
    assert_eq!(
        sandbox.read("rc"),
        format!(
            "credentials_helper \"stile\" {{\n  args = [\"--config\", \"{}\"]\n}}\n",
            config.display()
        )
    );
    assert_eq!(sandbox.read("own/config.toml"), TABLE);
    let is_lock =
        |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "lock");
    let places: Vec<_> =
        sandbox.files().into_iter().map(|(path, _)| path).filter(|path| !is_lock(path)).collect();
    assert_eq!(
        places,
        [sandbox.path("here/terraform-credentials-stile"), config, sandbox.path("rc")]
    );
}

#[test]
fn a_tofurc_that_a_new_terraformrc_would_hide_gets_the_block() {
    for content in ["", "disable_checkpoint = true\n", "# a comment\nplugin_cache_dir = \"/x\"\n"] {
        let sandbox = Sandbox::new();
        let xdg = sandbox.path("xdg").to_str().unwrap().to_owned();
        let sandbox = sandbox.with("XDG_CONFIG_HOME", &xdg);
        sandbox.write("xdg/opentofu/tofurc", content);
        let run = sandbox.run(&INSTALL);
        let warning = "OpenTofu reads `~/xdg/opentofu/tofurc` only while `~/.terraformrc` does not exist, so `install` \
                       edits that file; for Terraform, set `TF_CLI_CONFIG_FILE=~/xdg/opentofu/tofurc`";
        assert!(run.code == 0 && run.stderr.contains(warning), "{}", run.stderr);
        let after = sandbox.read("xdg/opentofu/tofurc");
        assert!(after.starts_with(content) && after.contains(BLOCK.trim_end()), "{after}");
        assert!(!sandbox.path(".terraformrc").exists(), "{content:?}");
        let report = sandbox.run(&["doctor", "registry.example.com"]).stdout;
        assert!(report.contains("`~/xdg/opentofu/tofurc` configures the helper"), "{report}");
        assert!(sandbox.run(&INSTALL).stderr.contains("nothing changed"));

        let usual = sandbox.path(".terraformrc");
        let run = sandbox.run(&[&INSTALL[..], &["--rc-file", usual.to_str().unwrap()]].concat());
        assert!(
            run.stderr.contains("OpenTofu will ignore `~/xdg/opentofu/tofurc`"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn a_tofurc_that_opentofu_does_not_read_is_not_edited() {
    for other in [".tofurc", ".terraformrc", "TF_CLI_CONFIG_FILE"] {
        let sandbox = Sandbox::new();
        let xdg = sandbox.path("xdg").to_str().unwrap().to_owned();
        let mut sandbox = sandbox.with("XDG_CONFIG_HOME", &xdg);
        sandbox.write("xdg/opentofu/tofurc", "");
        if other.starts_with('.') {
            sandbox.write(other, "");
        } else {
            sandbox = sandbox.with(other, "named.tfrc");
        }
        assert_eq!(sandbox.run(&INSTALL).code, 0, "{other}");
        assert_eq!(sandbox.read("xdg/opentofu/tofurc"), "", "{other}");
    }
}

#[test]
fn a_pasted_url_is_understood_as_its_host_by_every_verb() {
    for pasted in [
        "https://registry.example.com",
        "https://registry.example.com/",
        "HTTPS://Registry.example.com:443/",
    ] {
        let sandbox = Sandbox::new();
        assert_eq!(sandbox.run(&["install", "--registry-host", pasted]).code, 0, "{pasted}");
        assert_eq!(sandbox.read(".config/stile/config.toml"), TABLE, "{pasted}");

        let broker = StubBroker::granting_every_token();
        let sandbox = Sandbox::new()
            .configured(&format!("[registry.\"{pasted}\"]\nurl = \"{}\"\n", broker.url));
        sandbox.run(&["get", pasted]).prints("{\"token\":\"stile_v4.local.number-0\"}\n");
        sandbox
            .run(&["get-token", "token", "--registry-host", pasted])
            .prints("stile_v4.local.number-1\n");
        let run = sandbox.run_with_stdin(&["store", pasted], "{\"token\":\"x\"}");
        assert!(run.stderr.contains("is a Stile registry"), "{}", run.stderr);
        sandbox.run(&["forget", pasted]).prints("");
        for verb in ["whoami", "doctor"] {
            let run = sandbox.run(&[verb, pasted]);
            assert!(!run.stderr.contains("is not a host name"), "{verb}: {}", run.stderr);
            assert!(!run.stderr.contains("not configured"), "{verb}: {}", run.stderr);
        }
    }
    for pasted in ["http://registry.example.com", "https://registry.example.com/x", "https://"] {
        let run = Sandbox::new().run(&["install", "--registry-host", pasted]);
        assert!(run.code == 1 && run.stderr.contains("is not a host name"), "{}", run.stderr);
    }
}
