//! Appends the `credentials_helper` block to the CLI configuration and keeps every byte before it.

use std::path::Path;

use hcl_edit::expr::{Array, Expression};
use hcl_edit::structure::{Attribute, Block, Body};
use hcl_edit::{Decorate as _, Ident};

use crate::install::file::TextFile;
use crate::terraform::{CliConfig, HELPER, HelperBlock};
use crate::verb::VerbFailure;

/// Returns the text with the block. If the block exists, it returns the text unchanged.
pub(crate) fn edit(file: &TextFile, arguments: &[String]) -> Result<String, VerbFailure> {
    let read = |text: &str| {
        CliConfig::read(text, &file.path)
            .map_err(|problem| unreadable(&file.path, &problem, arguments))
    };
    let config = read(&file.content)?;
    check(&config, &file.path)?;
    if !config.helpers.is_empty() {
        return Ok(file.content.clone());
    }
    let newline = if file.content.contains("\r\n") { "\r\n" } else { "\n" };
    let mut after = file.content.clone();
    if !after.is_empty() {
        let lines = if after.ends_with('\n') { 1 } else { 2 };
        after.push_str(&newline.repeat(lines));
    }
    after.push_str(&block(arguments).replace('\n', newline));
    // The end of the old text may swallow the block, for example in an unterminated comment.
    if check(&read(&after)?, &file.path).is_err() || read(&after)?.own_block().is_none() {
        return Err(unreadable(&file.path, "a block at its end would not be parsed", arguments));
    }
    Ok(after)
}

/// Rejects a file that configures another helper, or several helpers.
pub(crate) fn check(config: &CliConfig, path: &Path) -> Result<(), VerbFailure> {
    match config.helpers.as_slice() {
        [] => Ok(()),
        [helper] if helper.name == HELPER => Ok(()),
        [HelperBlock { name, .. }] => Err(VerbFailure::new(format!(
            "`{}` configures another credentials helper, `{name}`, and Terraform uses only one",
            path.display()
        ))
        .hint("remove its block and run this again, or use `get-token` for this registry")),
        _ => Err(VerbFailure::new(format!(
            "`{}` has more than one `credentials_helper` block",
            path.display()
        ))
        .hint("keep only one, and run this again")),
    }
}

/// Builds the error for a file that cannot be edited safely; the hint gives the block to add.
fn unreadable(path: &Path, problem: &str, arguments: &[String]) -> VerbFailure {
    let block: Vec<_> = block(arguments).split_whitespace().map(str::to_owned).collect();
    VerbFailure::new(format!("cannot edit `{}`: {problem}", path.display()))
        .hint(format!("add `{}` to it", block.join(" ")))
}

fn block(arguments: &[String]) -> String {
    let arguments: Array =
        arguments.iter().map(|argument| Expression::from(argument.as_str())).collect();
    let mut attribute = Attribute::new(Ident::new("args"), Expression::Array(arguments));
    attribute.decor_mut().set_prefix("  ");
    let block =
        Block::builder(Ident::new("credentials_helper")).label(HELPER).attribute(attribute).build();
    Body::builder().block(block).build().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: &str = "credentials_helper \"stile\" {\n  args = []\n}\n";

    fn edited(before: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("terraformrc");
        std::fs::write(&path, before).unwrap();
        let text =
            edit(&TextFile::read(&path).unwrap(), &[]).map_err(|failure| failure.to_string())?;
        std::fs::write(&path, &text).unwrap();
        assert_eq!(
            edit(&TextFile::read(&path).unwrap(), &[]).unwrap(),
            text,
            "a second edit changes nothing"
        );
        Ok(text)
    }

    #[test]
    fn a_file_that_cannot_be_edited_safely_is_rejected() {
        for (before, expected) in [
            ("credentials_helper \"vault\" {}\n", "configures another credentials helper, `vault`"),
            (
                "credentials_helper \"stile\" {}\ncredentials_helper \"x\" {}\n",
                "more than one `credentials_helper` block",
            ),
            (
                "credentials_helper = { vault = {} }\n",
                "configures another credentials helper, `vault`",
            ),
            ("credentials_helper {}\n", "configures another credentials helper"),
            (
                "host \"a\" {\n",
                "line 1 is not valid HCL; hint: add `credentials_helper \"stile\" { args = [] }` to it",
            ),
            ("{\"credentials\": {}}", "is not valid HCL"),
        ] {
            let failure = edited(before).unwrap_err();
            assert!(failure.contains(expected), "{failure}");
        }
    }

    #[test]
    fn an_edit_keeps_every_byte_of_the_file() {
        for (before, between) in [
            ("", ""),
            ("# only a comment", "\n\n"),
            (
                "# c\nplugin_cache_dir   = \"x\" // d\n\n\ncredentials \"a.b\" { token=\"t\" }\n",
                "\n",
            ),
            ("a = 1\n/* open\nand closed */\n", "\n"),
        ] {
            assert_eq!(edited(before).unwrap(), format!("{before}{between}{BLOCK}"), "{before:?}");
        }
        assert_eq!(
            edited("a = 1\r\n").unwrap(),
            format!("a = 1\r\n\r\n{}", BLOCK.replace('\n', "\r\n"))
        );
    }

    #[test]
    fn arguments_are_quoted_as_hcl_strings() {
        let arguments = ["--config".to_owned(), "/a \"b\" ${c}".to_owned()];
        let text = block(&arguments);
        assert_eq!(
            text,
            "credentials_helper \"stile\" {\n  args = [\"--config\", \"/a \\\"b\\\" $${c}\"]\n}\n"
        );
    }
}
