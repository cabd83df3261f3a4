//! The tables in the README of the registry module, and the number of its variables.

use stile_core::package::MAX_PROVIDER_FILE;
use stile_protocol::region::REGIONS;
use stile_tests::process::programs::workspace;
use stile_tests::terraform::docs::differences;

#[test]
fn the_readme_says_of_variables_and_outputs_what_the_module_says() {
    let wrong = differences(&workspace().join("infra/registry"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn variables_are_few_and_each_is_validated_where_it_can_be_wrong() {
    let text = std::fs::read_to_string(workspace().join("infra/registry/variables.tf")).unwrap();
    let blocks: Vec<&str> = text.split("\nvariable \"").skip(1).collect();
    assert!((20..=41).contains(&blocks.len()), "{}", blocks.len());
    for block in blocks {
        let name = block.split('"').next().unwrap();
        let either = block.contains("  type        = bool");
        assert!(either || block.contains("\n  validation {"), "`{name}` is not validated");
    }
}

#[test]
fn the_module_knows_the_regions_that_the_broker_knows() {
    let text = std::fs::read_to_string(workspace().join("infra/registry/regions.tf")).unwrap();
    let named: Vec<&str> = text.split('"').skip(1).step_by(2).collect();
    assert_eq!(named, REGIONS.iter().map(|region| region.name).collect::<Vec<_>>());
}

#[test]
fn the_function_has_room_for_the_largest_file_of_a_provider() {
    let text = std::fs::read_to_string(workspace().join("infra/registry/function.tf")).unwrap();
    let block = text.split("ephemeral_storage {").nth(1).unwrap();
    let size = block.split("size = ").nth(1).unwrap().lines().next().unwrap();
    let room = size.parse::<u64>().unwrap() << 20;
    assert!(room >= MAX_PROVIDER_FILE + (256 << 20), "{size} MB");
}
