//! Tests of what `module publish` takes: URLs, names of files, and the content of archives.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::broker::{Broker, Request, http};
use crate::support::{Machine, Run};

const HOST: &str = "--registry-host registry.example.com";

/// Accepts every archive.
fn registry() -> Broker {
    Broker::new(|_, request: &Request| {
        let sha256 = hex::encode(Sha256::digest(&request.body));
        let body = serde_json::json!({ "sha256": sha256, "status": "created" });
        http("201 Created", "", &body.to_string())
    })
}

/// Serves responses on loopback, by path, and returns the URL without a `/` at its end.
fn server(respond: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            let headers: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            assert!(
                !headers.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization")),
                "the server of an archive gets no token"
            );
            let _written = stream.write_all(&respond(first.split(' ').nth(1).unwrap()));
        }
    });
    url
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\n{headers}connection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn file(body: &[u8]) -> Vec<u8> {
    answer("200 OK", &format!("content-length: {}\r\n", body.len()), body)
}

/// Writes a module's folder, and packs it with `tar` under that name.
fn packed(machine: &Machine, name: &str, files: &[(&str, &str)]) -> Vec<u8> {
    for (path, text) in files {
        machine.write(&format!("{name}.d/{path}"), text);
    }
    let packed = Command::new("tar")
        .args(["--sort=name", "-czf", name, "-C", &format!("{name}.d"), "."])
        .current_dir(machine.path(""))
        .status()
        .unwrap();
    assert!(packed.success());
    std::fs::read(machine.path(name)).unwrap()
}

fn block(version: &str) -> String {
    format!(
        "\nmodule \"vpc\" {{\n  source  = \"registry.example.com/acme/vpc/aws\"\n  version = \"{version}\"\n}}\n"
    )
}

#[test]
fn an_archive_with_files_that_a_folder_would_not_publish_is_refused() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = broker.machine();
    let key = "-----BEGIN PRIVATE KEY-----\nMIIBVAIBADANBgkqhkiG9w0BAQEFAASCAT4wggE6AgEAAkEA\n";
    packed(
        &machine,
        "leaky.tar.gz",
        &[
            ("main.tf", ""),
            ("prod.tfvars", "password = 1"),
            ("a/.env", "A=1"),
            (".git/config", ""),
            ("server.txt", key),
            ("keys/id_rsa", ""),
        ],
    );
    let unpack = Command::new("python3")
        .args(["-c", "import zipfile\nwith zipfile.ZipFile('leaky.zip', 'w') as archive:\n for name in ['main.tf', 'terraform.tfstate', '.terraform/a']:\n  archive.writestr(name, '')"])
        .current_dir(machine.path(""))
        .status();
    let mut commands = vec![
        format!("module publish acme/vpc/aws 1.2.0 leaky.tar.gz {HOST}"),
        format!(
            "module publish acme/vpc/aws 1.2.0 leaky.tar.gz --include *.tfvars --include .env {HOST}"
        ),
    ];
    if unpack.is_ok_and(|status| status.success()) {
        let run = machine.run(&format!("module publish acme/vpc/aws 1.2.0 leaky.zip {HOST}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 1));
        assert!(run.stderr.contains("`terraform.tfstate`, `.terraform/a`"), "{}", run.stderr);
    }
    commands.push(format!("module publish acme/vpc/aws 1.2.0 leaky.tar.gz --dry-run {HOST}"));
    insta::with_settings!({ prepend_module_to_snapshot => false, snapshot_path => "../snapshots", omit_expression => true }, {
        insta::assert_snapshot!("module-leaks", machine.transcript(&commands.iter().map(String::as_str).collect::<Vec<_>>()));
    });
    assert!(broker.requests().is_empty());
}

#[test]
fn files_that_the_publisher_includes_may_be_in_an_archive() {
    let broker = registry();
    let machine = broker.machine();
    let archive = packed(&machine, "vpc.tar.gz", &[("main.tf", ""), ("dev.tfvars", "a = 1")]);
    let command = format!("module publish acme/vpc/aws 1.2.0 vpc.tar.gz --include *.tfvars {HOST}");
    let run = machine.run(&format!("{command} --include *.pem"));
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.starts_with("notice: `--include *.pem` selects no file")
            && run.stderr.lines().count() == 1,
        "{}",
        run.stderr
    );
    assert_eq!(broker.requests().pop().unwrap().body, archive, "it is sent unchanged");
}

#[test]
fn a_name_says_the_module_and_the_version_and_the_block_to_paste_is_printed() {
    let broker = registry();
    let machine = broker.machine();
    machine.write("vpc/main.tf", "");
    for arguments in ["vpc", "acme/vpc/aws vpc", "acme/vpc/aws 1.2.0 vpc 1.2.0", ""] {
        let run = machine.run(&format!("module publish {arguments} {HOST}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{arguments}: {}", run.stderr);
    }
    assert!(broker.requests().is_empty());

    let name = "terraform-module_acme_vpc_aws_v1.2.0-rc.1.tar.gz";
    let archive = packed(&machine, name, &[("main.tf", "")]);
    let sha256 = hex::encode(Sha256::digest(&archive));
    let run = machine.run(&format!("module publish {name} {HOST}"));
    let stdout =
        format!("published acme/vpc/aws 1.2.0-rc.1 (sha256:{sha256})\n{}", block("1.2.0-rc.1"));
    assert_eq!(run, Run { stdout, stderr: String::new(), code: 0 });
    let upload = broker.requests().pop().unwrap();
    assert_eq!(upload.line, "POST /v1/modules/acme/vpc/aws/1.2.0-rc.1 HTTP/1.1");
    let json = machine.json(&format!("module publish acme/9a/aws 1.0.0 vpc {HOST}"));
    assert_eq!(json["source"], "registry.example.com/acme/9a/aws");
    let block = machine.done(&format!("module publish acme/9a/aws 1.0.0 vpc {HOST}"));
    assert!(block.contains("module \"_9a\" {"), "{block}");
}

#[test]
fn a_url_that_gives_no_archive_publishes_nothing_and_is_named_without_its_query() {
    let broker = Broker::new(|_, _| panic!("the broker receives no request"));
    let machine = broker.machine();
    let url = server(|path| match path.split('?').next().unwrap() {
        "/missing.zip" => answer("404 Not Found", "content-length: 0\r\n", b""),
        "/down.zip" => answer("503 Service Unavailable", "content-length: 0\r\n", b""),
        "/huge.zip" => answer("200 OK", "content-length: 99999999999\r\n", b"PK"),
        "/cut.zip" => answer("200 OK", "content-length: 100\r\n", b"PK\x03\x04"),
        "/page.zip" => file(b"<html>sign in</html>"),
        "/page" => file(b"<html>sign in</html>"),
        "/empty" => file(b""),
        "/away.zip" => answer(
            "302 Found",
            "location: http://example.com/vpc.zip\r\ncontent-length: 0\r\n",
            b"",
        ),
        "/file.zip" => {
            answer("302 Found", "location: file:///etc/passwd\r\ncontent-length: 0\r\n", b"")
        }
        "/loop.zip" => answer("302 Found", "location: /loop.zip\r\ncontent-length: 0\r\n", b""),
        _ => Vec::new(),
    });
    for (name, code, expected) in [
        ("missing.zip", 1, "cannot be published: the server responded with 404 Not Found"),
        ("down.zip", 2, "the server responded with 503 Service Unavailable"),
        ("huge.zip", 1, "it has more than 100000000 bytes"),
        ("cut.zip", 2, "the server did not send all of it"),
        ("page.zip", 1, "is not a zip archive, or is truncated"),
        ("page", 1, "it is neither a zip archive nor a gzip-compressed tar archive"),
        ("empty", 1, "it is neither a zip archive nor a gzip-compressed tar archive"),
        ("away.zip", 2, "redirects away from this machine"),
        ("file.zip", 1, "the server responded with 302 Found"),
        ("loop.zip", 2, "redirects too often"),
        ("closed.zip", 2, "cannot reach"),
    ] {
        let source = format!("{url}/{name}?X-Amz-Signature=a-secret#a-secret");
        let run = machine.run(&format!("module publish acme/vpc/aws 1.2.0 {source} {HOST}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", code), "{name}: {}", run.stderr);
        assert!(run.stderr.contains(expected), "{name}: {}", run.stderr);
        assert!(run.stderr.contains(&format!("`{url}/{name}`")), "{name}: {}", run.stderr);
        assert!(!run.stderr.contains("a-secret"), "{name}: {}", run.stderr);
    }
    for words in [
        "https://h/a.zip?hunter2 1.2.0 x",
        "acme/vpc/aws https://h/a.zip?hunter2 x",
        "acme/vpc/aws 1.2.0 x https://h/a.zip?hunter2",
        "acme/vpc/aws 1.2.0 https:/h/a.zip?hunter2",
        "acme/vpc/aws 1.2.0 https://h/a.zip --timeout https://bob:hunter2@h",
    ] {
        for form in ["", "--output json"] {
            let run = machine.run(&format!("module publish {words} {HOST} {form}"));
            assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{words}: {}", run.stderr);
            assert!(!run.stderr.contains("hunter2"), "{words}: {}", run.stderr);
        }
    }
    for source in ["http://example.com/a.zip", "s3://bucket/a.zip", "https://bob:hunter2@h/a.zip"] {
        let run = machine.run(&format!("module publish acme/vpc/aws 1.2.0 {source} {HOST}"));
        assert_eq!((run.stdout.as_str(), run.code), ("", 2), "{source}: {}", run.stderr);
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    }
    assert!(broker.requests().is_empty());
}

#[test]
fn an_archive_of_a_url_is_published_as_it_is_there() {
    let broker = registry();
    let machine = broker.machine();
    let archive = packed(&machine, "a.tar.gz", &[("main.tf", "locals {}\n")]);
    let leaky = packed(&machine, "b.tar.gz", &[("main.tf", ""), ("prod.tfvars", "a = 1")]);
    let (served, refused) = (archive.clone(), leaky);
    let url = server(move |path| match path.split('?').next().unwrap() {
        "/releases/latest" => answer(
            "302 Found",
            "location: /files/terraform-module_acme_vpc_aws_v1.2.0.tar.gz?signature=1\r\ncontent-length: 0\r\n",
            b"",
        ),
        "/leaky.tar.gz" => file(&refused),
        // Without an announced length.
        "/stream" => answer("200 OK", "", &served),
        _ => file(&served),
    });
    let run = machine.run(&format!("module publish acme/vpc/aws 1.2.0 {url}/leaky.tar.gz {HOST}"));
    assert_eq!((run.stdout.as_str(), run.code), ("", 1));
    assert!(run.stderr.contains("that do not belong to a module: `prod.tfvars`"), "{}", run.stderr);
    assert!(broker.requests().is_empty());

    let sha256 = hex::encode(Sha256::digest(&archive));
    for source in [
        "acme/vpc/aws 1.2.0 URL/vpc.tar.gz",
        "acme/vpc/aws 1.2.0 URL/vpc.tar.gz?X-Amz-Signature=1",
        "acme/vpc/aws 1.2.0 URL/stream",
        "acme/vpc/aws 1.2.0 URL/releases/latest",
        "URL/terraform-module_acme_vpc_aws_v1.2.0.tar.gz?raw=1",
    ] {
        let source = source.replace("URL", &url);
        let run = machine.run(&format!("module publish {source} {HOST}"));
        let stdout = format!("published acme/vpc/aws 1.2.0 (sha256:{sha256})\n{}", block("1.2.0"));
        assert_eq!(run, Run { stdout, stderr: String::new(), code: 0 }, "{source}");
        let upload = broker.requests().pop().unwrap();
        assert_eq!(upload.line, "POST /v1/modules/acme/vpc/aws/1.2.0 HTTP/1.1");
        assert_eq!(
            (upload.headers["content-type"].as_str(), &upload.body),
            ("application/gzip", &archive)
        );
    }
    let dry = machine.json(&format!("module publish acme/vpc/aws 1.2.0 {url}/x.tar.gz --dry-run"));
    assert_eq!((&dry["status"], &dry["sha256"]), (&"pending".into(), &sha256.into()));
}

#[test]
fn a_dry_run_of_a_url_refuses_what_a_publish_refuses_and_shows_nothing() {
    let machine = Machine::new();
    let nested = packed(&machine, "nested.tar.gz", &[("vpc/main.tf", "")]);
    let plain = packed(&machine, "plain.tar.gz", &[("README.md", "")]);
    let leaky = packed(&machine, "leaky.tar.gz", &[("main.tf", ""), ("terraform.tfstate", "{}")]);
    let cut = leaky[..leaky.len() - 9].to_vec();
    let url = server(move |path| match path.split('?').next().unwrap() {
        "/missing.tar.gz" => answer("404 Not Found", "content-length: 0\r\n", b""),
        "/down.tar.gz" => answer("503 Service Unavailable", "content-length: 0\r\n", b""),
        "/short.tar.gz" => answer("200 OK", "content-length: 10000\r\n", &plain),
        "/nested.tar.gz" => file(&nested),
        "/plain.tar.gz" => file(&plain),
        "/leaky.tar.gz" => file(&leaky),
        "/cut.tar.gz" => file(&cut),
        _ => file(b""),
    });
    for (name, code, expected) in [
        ("missing", 1, "the server responded with 404 Not Found"),
        ("down", 2, "the server responded with 503 Service Unavailable"),
        ("short", 2, "the server did not send all of it"),
        ("cut", 1, "cannot be published: the archive"),
        ("empty", 1, "cannot be published: the archive"),
        ("plain", 1, "the archive has no `.tf` file"),
        ("nested", 1, "all its files are in the folder `vpc`"),
        ("leaky", 1, "that do not belong to a module: `terraform.tfstate`"),
    ] {
        let source = format!("{url}/{name}.tar.gz?X-Amz-Signature=hunter2");
        for form in ["", "--output json"] {
            let run = machine
                .run(&format!("module publish acme/vpc/aws 1.2.0 {source} --dry-run {form}"));
            assert_eq!((run.stdout.as_str(), run.code), ("", code), "{name}: {}", run.stderr);
            assert!(run.stderr.contains(expected), "{name}: {}", run.stderr);
            assert!(run.stderr.contains(&format!("{url}/{name}.tar.gz")), "{}", run.stderr);
            assert!(!run.stderr.contains("hunter2"), "{name}: {}", run.stderr);
        }
    }
    let unnamed = machine.run(&format!("module publish {url}/vpc.tar.gz --dry-run"));
    assert_eq!((unnamed.stdout.as_str(), unnamed.code), ("", 2), "{}", unnamed.stderr);
}

#[test]
fn a_dry_run_of_a_url_shows_digest_size_and_files_and_needs_no_registry() {
    let machine = Machine::new();
    let archive =
        packed(&machine, "vpc.tar.gz", &[("main.tf", "locals {}\n"), ("modules/a/main.tf", "")]);
    let (sha256, bytes) = (hex::encode(Sha256::digest(&archive)), archive.len());
    let url = server(move |path| match path {
        "/latest" => answer(
            "302 Found",
            "location: /terraform-module_acme_vpc_aws_v1.2.0.tar.gz\r\ncontent-length: 0\r\n",
            b"",
        ),
        _ => file(&archive),
    });
    let lines = format!(
        "would publish acme/vpc/aws 1.2.0 (sha256:{sha256}): 2 files in {bytes} bytes\n\
         \x20         10  main.tf\n           0  modules/a/main.tf\n"
    );
    for source in [
        format!("acme/vpc/aws 1.2.0 {url}/latest"),
        format!("{url}/terraform-module_acme_vpc_aws_v1.2.0.tar.gz"),
    ] {
        let run = machine.run(&format!("module publish {source} --dry-run"));
        let expected = Run { stdout: lines.clone(), stderr: String::new(), code: 0 };
        assert_eq!(run, expected, "{source}");
        let json = machine.json(&format!("module publish {source} --dry-run"));
        let expected = serde_json::json!({
            "status": "pending", "module": "acme/vpc/aws", "version": "1.2.0", "sha256": sha256,
            "bytes": bytes, "skipped": [],
            "files": [
                { "path": "main.tf", "bytes": 10 }, { "path": "modules/a/main.tf", "bytes": 0 },
            ],
        });
        assert_eq!(json, expected, "{source}");
    }
}

#[test]
fn two_machines_pack_a_folder_to_the_same_digest() {
    let names = [
        "main.tf",
        "B.tf",
        "a.tf",
        "\u{e4}.tf",
        "z/\u{e9}.tf",
        "z/a.tf",
        "run.sh",
        "I.tf",
        "i.tf2",
    ];
    let digest = |umask: &str, locale: &str, zone: &str, reversed: bool| {
        let machine = Machine::new().with("LC_ALL", locale).with("LANG", locale).with("TZ", zone);
        let mut order = names.to_vec();
        if reversed {
            order.reverse();
        }
        let create: Vec<String> =
            order.iter().map(|name| format!("printf '%s' '# {name}' > 'vpc/{name}'")).collect();
        let script = format!(
            "umask {umask}; PATH=$PATH:/usr/bin:/bin; mkdir -p vpc/z; {}; chmod u+x vpc/run.sh; \
             exec stile-admin module publish acme/vpc/aws 1.2.0 vpc --dry-run --output json",
            create.join("; ")
        );
        let run = machine.shell("-e", &script);
        assert_eq!((run.stderr.as_str(), run.code), ("", 0), "{umask} {locale} {zone}");
        let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(json["files"].as_array().unwrap().len(), names.len());
        json["sha256"].clone()
    };
    let first = digest("022", "C", "UTC", false);
    for (umask, locale, zone, reversed) in [
        ("022", "C", "UTC", true),
        ("077", "C", "UTC", false),
        ("002", "tr_TR.UTF-8", "Pacific/Kiritimati", true),
        ("027", "de_DE.UTF-8", "America/St_Johns", false),
        ("000", "POSIX", "XXX-14", true),
    ] {
        assert_eq!(digest(umask, locale, zone, reversed), first, "{umask} {locale} {zone}");
    }
}
