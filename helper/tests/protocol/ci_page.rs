//! The jobs of `docs/ci.md`: each block of YAML parses, and the helper accepts each command.

use std::path::Path;

use saphyr::{LoadableYamlNode as _, Yaml};

use crate::support::Sandbox;

const PROGRAM: &str = "terraform-credentials-stile";

/// A JWT whose only claim is the `aud` of the page: `registry.example.com`.
const JWT: &str = "e30.eyJhdWQiOiJyZWdpc3RyeS5leGFtcGxlLmNvbSJ9.x";

/// A block of code of the page.
struct Block {
    heading: String,
    language: String,
    text: String,
}

fn blocks() -> Vec<Block> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ci.md");
    let (mut blocks, mut heading, mut open) = (Vec::new(), String::new(), None::<Block>);
    for line in std::fs::read_to_string(page).unwrap().lines() {
        match (&mut open, line.strip_prefix("```")) {
            (Some(_), Some("")) => blocks.extend(open.take()),
            (Some(block), _) => block.text += &format!("{line}\n"),
            (None, Some(language)) => {
                let language = language.to_owned();
                open = Some(Block { heading: heading.clone(), language, text: String::new() });
            }
            (None, None) => {
                if let Some(title) = line.strip_prefix("## ") {
                    title.clone_into(&mut heading);
                }
            }
        }
    }
    assert!(open.is_none() && blocks.len() > 10, "the test finds the blocks");
    blocks
}

fn yaml(block: &Block) -> Yaml<'_> {
    let parsed = Yaml::load_from_str(&block.text);
    let documents = parsed.unwrap_or_else(|error| unreachable!("{}: {error}", block.heading));
    let [document] = documents.try_into().unwrap();
    document
}

#[test]
fn each_block_of_yaml_json_and_toml_parses() {
    let mut count = 0;
    for block in blocks() {
        match block.language.as_str() {
            "yaml" => assert!(yaml(&block).is_mapping(), "{}", block.heading),
            "json" => drop(serde_json::from_str::<serde_json::Value>(&block.text).unwrap()),
            "toml" => {
                let sandbox = Sandbox::new().with("STILE_ID_TOKEN", JWT);
                sandbox.write("config.toml", &block.text);
                let run = sandbox.run(&["config", "show", "--config", "config.toml"]);
                assert_eq!(run.code, 0, "{run:?}");
            }
            "sh" | "groovy" | "dockerfile" => continue,
            other => panic!("{}: `{other}`", block.heading),
        }
        count += 1;
    }
    assert!(count > 8);
}

#[test]
fn each_job_of_github_may_get_a_jwt_and_each_of_gitlab_declares_one_for_the_registry() {
    for block in blocks().iter().filter(|block| block.language == "yaml") {
        let job = yaml(block);
        let text = |path: &[&str]| {
            let at = path.iter().try_fold(&job, |at, name| at.as_mapping_get(name));
            at.and_then(Yaml::as_str).map(str::to_owned)
        };
        if block.heading.starts_with("GitHub") {
            assert_eq!(text(&["permissions", "id-token"]).as_deref(), Some("write"));
            assert!(job.as_mapping_get("jobs").is_some());
        }
        for name in ["plan", "publish", "scan", "renovate"] {
            if job.as_mapping_get(name).is_some_and(|job| job.as_mapping_get("script").is_some()) {
                let audience = text(&[name, "id_tokens", "STILE_ID_TOKEN", "aud"]);
                assert_eq!(audience.as_deref(), Some("registry.example.com"), "{name}");
            }
        }
    }
}

#[test]
fn the_helper_accepts_each_command_of_the_page() {
    let mut commands = Vec::new();
    for block in blocks() {
        let text = block.text.replace("\\\n", " ");
        for line in text.lines().filter(|line| !line.contains("COPY")) {
            let Some((_, rest)) = line.split_once(&format!("{PROGRAM} ")) else { continue };
            let command = rest.split([')', '\'']).next().unwrap();
            let command = command.split(" >>").next().unwrap();
            commands.push(command.trim().to_owned());
        }
    }
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands {
        let sandbox = Sandbox::new()
            .without_keys()
            .with("STILE_ID_TOKEN", JWT)
            .with("TFC_WORKLOAD_IDENTITY_TOKEN", JWT)
            .with("HTTPS_PROXY", "http://127.0.0.1:9");
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let run = sandbox.run(&arguments);
        let usage = ["error: ", "Usage:"].iter().any(|text| run.stderr.contains(text));
        assert!(!usage, "{command}: {}", run.stderr);
        assert_eq!(run.code == 0, arguments[0] == "install", "{command}: {}", run.stderr);
    }
}
