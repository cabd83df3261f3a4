//! The tables of the registry's README, and how many variables there are.

use stile_tests::programs::workspace;
use stile_tests::terraform_docs::differences;

#[test]
fn the_readme_says_of_variables_and_outputs_what_the_module_says() {
    let wrong = differences(&workspace().join("infra/registry"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn variables_are_few_and_each_is_validated_where_it_can_be_wrong() {
    let text = std::fs::read_to_string(workspace().join("infra/registry/variables.tf")).unwrap();
    let blocks: Vec<&str> = text.split("\nvariable \"").skip(1).collect();
    assert!((20..35).contains(&blocks.len()), "{}", blocks.len());
    for block in blocks {
        let name = block.split('"').next().unwrap();
        let free = ["  type        = bool", "  type        = map(string)"].iter().any(|kind| block.contains(kind));
        assert!(free || block.contains("\n  validation {") || name == "package_s3", "`{name}` is not validated");
    }
}
