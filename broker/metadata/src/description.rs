//! Finds the description of a module: the first paragraph of its README.

use crate::model::Metadata;

/// Maximum length of a description in characters.
const MAX_CHARS: usize = 300;

impl Metadata {
    /// Returns the first paragraph of the root's README in one line, at most 300 characters.
    ///
    /// Headings, badges, tables, lists, quotes, HTML and code are not a paragraph.
    pub fn description(&self) -> Option<String> {
        let mut words = Vec::new();
        let mut is_code = false;
        for line in self.root.readme.as_deref()?.lines().map(str::trim) {
            let is_fence = line.starts_with("```") || line.starts_with("~~~");
            is_code ^= is_fence;
            let is_other = is_code
                || is_fence
                || line.is_empty()
                || line.starts_with(['#', '!', '<', '|', '>', '=', '-', '*', '+'])
                || line.starts_with("[!");
            match (is_other, words.is_empty()) {
                (true, true) => {}
                (true, false) => break,
                (false, _) => words.extend(line.split_whitespace()),
            }
        }
        let text = words.join(" ");
        let mut short: String = text.chars().take(MAX_CHARS).collect();
        if short.len() < text.len() {
            short.pop();
            short.push('…');
        }
        (!short.is_empty()).then_some(short)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{Metadata, Module};

    fn description(readme: &str) -> Option<String> {
        let root = Module { readme: Some(readme.to_owned()), ..Module::default() };
        Metadata::new(root, Vec::new(), Vec::new(), Vec::new()).description()
    }

    #[test]
    fn the_first_paragraph_of_a_readme_is_the_description() {
        for (readme, expected) in [
            ("", None),
            (
                "# Title\n\n![badge](x)\n[![badge](x)](y)\n<!-- x -->\n\n```\ncode\n```\n- a list\n",
                None,
            ),
            ("# Title\nA VPC\n  with\tsubnets.\n\nMore.", Some("A VPC with subnets.")),
            ("Title\n=====\n", Some("Title")),
            ("~~~\ntext\n~~~\nmore", Some("more")),
            ("> quote\n\n日本語 é.\n| a | b |", Some("日本語 é.")),
        ] {
            assert_eq!(description(readme).as_deref(), expected, "{readme}");
        }
        let long = description(&"é ".repeat(10_000)).unwrap();
        assert_eq!((long.chars().count(), long.ends_with('…')), (300, true));
        assert_eq!(Metadata::new(Module::default(), vec![], vec![], vec![]).description(), None);
    }
}
