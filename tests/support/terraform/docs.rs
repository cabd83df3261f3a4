//! Compares the tables in a module's README with the module's variables and outputs.

use std::path::Path;

use hcl_edit::expr::Expression;
use hcl_edit::structure::{Block, Body};

/// Returns the errors in a module's README, variables and outputs. Empty without errors.
///
/// The README has tables under `## Inputs` and `## Outputs`.
///
/// A row of inputs is ``| `name` | description | `type` | `default` |``. Without a default, the last
/// cell is `required`. A row of outputs is ``| `name` | description |``. Both have the order of the
/// `.tf` files.
pub fn differences(module: &Path) -> Vec<String> {
    let read = |name: &str| std::fs::read_to_string(module.join(name)).unwrap();
    let readme = read("README.md");
    let (mut wrong, mut rows) = (Vec::new(), Vec::new());
    for (file, kind, heading) in
        [("variables.tf", "variable", "## Inputs"), ("outputs.tf", "output", "## Outputs")]
    {
        let body: Body = read(file).parse().unwrap();
        let expected: Vec<_> =
            body.get_blocks(kind).map(|block| row(kind, block, &mut wrong)).collect();
        let written = table(&readme, heading);
        rows.extend(
            expected
                .iter()
                .filter(|row| !written.contains(row))
                .map(|row| format!("{heading} lacks: {row}")),
        );
        rows.extend(
            written
                .iter()
                .filter(|row| !expected.contains(row))
                .map(|row| format!("{heading} has: {row}")),
        );
        if rows.is_empty() && expected != written {
            rows.push(format!("{heading} is not in the order of {file}"));
        }
    }
    wrong.extend(rows);
    wrong
}

fn row(kind: &str, block: &Block, wrong: &mut Vec<String>) -> String {
    let name = block.labels.first().map_or_else(String::new, |label| label.as_str().to_owned());
    let mut attribute = |name_of: &str| match block.body.get_attribute(name_of) {
        Some(attribute) => one_line(&attribute.value),
        None => {
            wrong.push(format!("{kind} `{name}` has no {name_of}"));
            String::new()
        }
    };
    let description = attribute("description");
    if kind == "output" {
        return format!("| `{name}` | {description} |");
    }
    let is = attribute("type");
    let default = block
        .body
        .get_attribute("default")
        .map(|attribute| format!("`{}`", one_line(&attribute.value)));
    format!(
        "| `{name}` | {description} | `{is}` | {} |",
        default.unwrap_or_else(|| "required".to_owned())
    )
}

/// Formats an expression as a table cell: a string without quotes, an object on one line.
fn one_line(value: &Expression) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut line = String::new();
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        let part = part.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.chars().last() {
            None => {}
            Some('{' | '(' | '[') => line.push(' '),
            Some(',') => line.push(' '),
            Some(_) if part.starts_with(['}', ')', ']']) => line.push(' '),
            Some(_) => line.push_str(", "),
        }
        line.push_str(&part);
    }
    line.replace('|', "\\|")
}

/// Returns the rows of the first table under a heading, without the table's head.
fn table(readme: &str, heading: &str) -> Vec<String> {
    let under = readme
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "));
    under
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIABLES: &str = r#"
variable "projects" {
  description = "Who | what."
  type = map(object({
    arns = set(string)
    id   = optional(string)
  }))
}

variable "days" {
  description = "How long."
  type        = number
  default     = 7
}
"#;

    fn found(variables: &str, outputs: &str, readme: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("variables.tf", variables), ("outputs.tf", outputs), ("README.md", readme)]
        {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        differences(folder.path())
    }

    #[test]
    fn a_readme_that_lacks_or_invents_a_row_is_reported() {
        let projects = "| `projects` | Who \\| what. | `map(object({ arns = set(string), id = optional(string) }))` | required |";
        let days = "| `days` | How long. | `number` | `7` |";
        let head = "# M\n\n## Inputs\n\n| name | is | type | default |\n|---|---|---|---|\n";
        let rest = "\n## Outputs\n\n| name | is |\n|---|---|\n";
        for (readme, expected) in [
            (format!("{head}{projects}\n{rest}"), vec![format!("## Inputs lacks: {days}")]),
            (
                format!("{head}{projects}\n{days}\n| `x` |\n{rest}"),
                vec!["## Inputs has: | `x` |".to_owned()],
            ),
            (
                format!("{head}{days}\n{projects}\n{rest}"),
                vec!["## Inputs is not in the order of variables.tf".to_owned()],
            ),
            (
                format!("{head}{projects}\n{days}\n{rest}| `x` | y |\n"),
                vec!["## Outputs has: | `x` | y |".to_owned()],
            ),
            (format!("{head}{projects}\n{days}\n{rest}"), vec![]),
        ] {
            assert_eq!(found(VARIABLES, "", &readme), expected, "{readme}");
        }
    }

    #[test]
    fn a_variable_without_type_or_description_is_reported() {
        let wrong = found("variable \"a\" {}\n", "output \"b\" {\n  value = 1\n}\n", "");
        assert_eq!(
            wrong[..3],
            [
                "variable `a` has no description",
                "variable `a` has no type",
                "output `b` has no description"
            ]
        );
    }
}
