//! The tables of the module's README, row by row as the `.tf` files have them; and how many variables there are.

use std::path::PathBuf;

use stile_tests::programs::workspace;

/// A variable or an output, as a row of the README says it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    name: String,
    line: String,
}

fn module() -> PathBuf {
    workspace().join("infra/registry")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(module().join(name)).unwrap()
}

/// Every block of that kind, and each attribute of it that stands on one line or begins there.
fn rows(file: &str, kind: &str, columns: &[&str]) -> Vec<Row> {
    let text = read(file);
    let (start, text) = (format!("\n{kind} \""), format!("\n{text}"));
    let blocks = text.split(start.as_str()).skip(1);
    let mut rows: Vec<Row> = blocks
        .map(|block| {
            let (name, body) = block.split_once('"').unwrap();
            let body = body.split("\n}").next().unwrap();
            let attribute = |wanted: &str| {
                let line = body.lines().find_map(|line| line.strip_prefix("  ")?.strip_prefix(wanted)?.trim_start().strip_prefix("= "));
                line.map(str::trim).unwrap_or_default()
            };
            let cells = columns.iter().map(|column| match (*column, attribute(column)) {
                ("description", text) => text.trim_matches('"').replace('|', "\\|"),
                ("default", "") => "required".to_owned(),
                ("type", text) => text.split('(').next().unwrap().to_owned(),
                (_, text) => format!("`{text}`"),
            });
            let line = format!("| `{name}` | {} |", cells.collect::<Vec<_>>().join(" | "));
            Row { name: name.to_owned(), line }
        })
        .collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

/// The rows of the table below that heading.
fn table(heading: &str) -> Vec<String> {
    let page = read("README.md");
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap().to_owned();
    section.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect()
}

#[test]
fn the_readme_says_of_variables_and_outputs_what_the_module_says() {
    for (heading, file, kind, columns) in [
        ("Inputs", "variables.tf", "variable", &["description", "type", "default"][..]),
        ("Outputs", "outputs.tf", "output", &["description"]),
    ] {
        let wanted: Vec<String> = rows(file, kind, columns).into_iter().map(|row| row.line).collect();
        let found = table(heading);
        assert!(found == wanted, "below `## {heading}` the rows must be:\n{}", wanted.join("\n"));
    }
}

#[test]
fn variables_are_few_and_each_is_typed_described_and_validated_where_it_can_be_wrong() {
    let text = format!("\n{}", read("variables.tf"));
    let blocks: Vec<&str> = text.split("\nvariable \"").skip(1).collect();
    assert!((20..35).contains(&blocks.len()), "{}", blocks.len());
    for block in blocks {
        let name = block.split('"').next().unwrap();
        assert!(block.contains("\n  type ") || block.contains("\n  type="), "`{name}` has no type");
        assert!(block.contains("\n  description = \""), "`{name}` has no description");
        let free = ["  type        = bool", "  type        = map(string)"].iter().any(|kind| block.contains(kind));
        assert!(free || block.contains("\n  validation {") || name == "package_s3", "`{name}` is not validated");
    }
}
