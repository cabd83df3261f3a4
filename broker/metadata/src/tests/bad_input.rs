//! Bad input: what is too deep, too large, too many, or not text at all.

use std::time::Duration;

use stile_core::package::Format;
use stile_core::package::archive::ArchiveError;

use super::{inputs, limits, packed, read_file, read_files, warnings};
use crate::declarations::{Context, ReadSoFar};
use crate::fuzz::from_files;
use crate::limits::Deadline;
use crate::notes::Notes;
use crate::{Limits, Metadata, hcl, json, read};

/// Each construct that can contain itself: what opens it, what is inside, and what closes it.
const NESTED: &[(&str, &str, &str)] = &[
    ("a = ", "(", ")"),
    ("a = ", "[", "]"),
    ("a = ", "{ b = ", "}"),
    ("a = ", "f(", ")"),
    ("a = ", "\"${", "}\""),
    ("a = ", "\"%{ if true }", "%{ endif }\""),
    ("a = ", "!", ""),
    ("a = ", "- ", ""),
    ("a = ", "x[", "]"),
    ("a = ", "true ? 1 : ", ""),
    ("a = ", "1 + ", ""),
    ("a = ", "[for x in ", " : x]"),
    ("a = ", "{ for x in ", " : x => x }"),
    ("", "a {\n", "\n}\n"),
    ("a = ", "1 + 1 + (", ")"),
    ("a = ", "1 + 1 + \"${", "}\""),
];

#[test]
fn no_depth_of_nesting_overflows_the_stack_or_takes_long() {
    for (before, open, close) in NESTED {
        for depth in [10, 31, 60, 63, 64, 100, 1_000, 20_000] {
            for (middle, is_closed) in [("x", true), ("<", true), ("", false), ("\"%{ y }\"", true)]
            {
                let close = if is_closed { close.repeat(depth) } else { String::new() };
                let text = format!(
                    "variable \"first\" {{}}\n{before}{}{middle}{close}\nvariable \"last\" {{}}\n",
                    open.repeat(depth)
                );
                let metadata = read_file("main.tf", &text);
                let is_valid = metadata.warnings.is_empty();
                assert!(!is_valid || inputs(&metadata) == ["first", "last"], "{text:.300}");
            }
        }
    }
}

#[test]
fn deeply_nested_json_overflows_no_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":[", "]}]")] {
        let deep = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
        let text = format!(r#"{{"variable":{{"x":{{"default":{deep}}}}},"output":{deep}}}"#);
        let metadata = read_file("main.tf.json", &text);
        assert_eq!(inputs(&metadata), ["x"], "{open}");
        assert!(metadata.root.inputs[0].default.as_ref().unwrap().ends_with('…'));
        read_file("main.tf.json", &deep);
        read_file("main.tf.json", &deep[..deep.len() - 5]);
    }
}

#[test]
fn a_file_that_is_not_text_is_a_warning_and_other_files_are_read() {
    let latin = b"variable \"caf\xe9\" {}\n".to_vec();
    for (path, content, expected) in [
        ("main.tf", latin.clone(), "`main.tf` is not UTF-8, and was not read"),
        ("main.tf.json", latin, "`main.tf.json` is not UTF-8, and was not read"),
        ("main.tf", vec![0; 100], "`main.tf` has a NUL or a carriage return"),
        ("main.tf", b"\xff\xfev\0".to_vec(), "`main.tf` is not UTF-8"),
        ("main.tf.json", b"".to_vec(), "`main.tf.json` is not valid JSON in line 1"),
        (
            "main.tf.json",
            b"[1]".to_vec(),
            "`main.tf.json` is neither an object nor a list of objects",
        ),
        ("main.tf.json", b"nul".to_vec(), "`main.tf.json` is not valid JSON"),
        (
            "main.tf",
            b"variable \"x\" \"y\" {}".to_vec(),
            "has a block `variable` with 2 labels in place of 1",
        ),
        ("main.tf", b"a = <<E\nE\n".to_vec(), "has an empty heredoc"),
    ] {
        let files =
            [(path.to_owned(), content), ("z.tf".to_owned(), b"variable \"z\" {}".to_vec())];
        let metadata = from_files(&files, &limits());
        assert!(warnings(&metadata)[0].contains(expected), "{expected}: {:?}", metadata.warnings);
        assert_eq!(inputs(&metadata), ["z"], "{expected}");
    }
    assert_eq!(warnings(&read_file("main.tf", "")), [""; 0]);
}

#[test]
fn a_readme_that_is_not_text_or_too_long_is_kept_as_far_as_possible() {
    let long = "é".repeat(200_000);
    for (content, expected, warning) in [
        (
            b"\xef\xbb\xbfa\xff\r\nb\x1b[31m\0\tc".to_vec(),
            "a\u{fffd}\nb\u{fffd}[31m\u{fffd}\tc",
            None,
        ),
        (long.into_bytes(), "éé", Some("`README.md` is longer than 262144 bytes, and was cut off")),
        (Vec::new(), "", None),
    ] {
        let metadata = read_file("README.md", content);
        let readme = metadata.root.readme.as_ref().unwrap();
        assert!(readme.starts_with(expected), "{readme:.50}");
        assert!(readme.len() <= 256 << 10 && !readme.contains('\0'));
        assert_eq!(warnings(&metadata).first().map(String::as_str), warning);
    }
    let both = read_files("-- README --\nplain\n-- readme.MD --\nmarkdown\n");
    assert_eq!(both.root.readme.as_deref(), Some("markdown\n"));
}

#[test]
fn a_file_that_is_too_long_is_not_read_and_takes_no_space_from_others() {
    let long = format!("variable \"long\" {{}}\n# {}\n", "x".repeat(512 << 10));
    let mut files: Vec<_> =
        (0..20).map(|at| (format!("long{at}.tf"), long.clone().into_bytes())).collect();
    files.push(("main.tf".to_owned(), b"variable \"x\" {}\n".to_vec()));
    let metadata = from_files(&files, &limits());
    assert_eq!(inputs(&metadata), ["x"]);
    assert_eq!(metadata.warnings.len(), 20);
    let expected = "`long0.tf` is longer than 524288 bytes, and was not read";
    assert_eq!(warnings(&metadata)[0], expected);
}

#[test]
fn files_past_the_limits_of_an_archive_are_left_out() {
    let file = |path: &str| (path.to_owned(), b"variable \"x\" {}\n".to_vec());
    let many: Vec<_> = (0..3_000).map(|at| file(&format!("f{at}.tf"))).collect();
    let folders: Vec<_> = (0..300).map(|at| file(&format!("modules/m{at}/main.tf"))).collect();
    let comment = format!("#{}\n", "x".repeat(400_000)).into_bytes();
    let large: Vec<_> = (0..20).map(|at| (format!("f{at}.tf"), comment.clone())).collect();
    for (files, first) in [(many, "f2000.tf"), (folders, "modules/m199/main.tf"), (large, "f10.tf")]
    {
        let metadata = from_files(&files, &limits());
        let expected = format!(
            "`{first}` and some later files of the archive were not read, because it has too many"
        );
        assert_eq!(warnings(&metadata)[0], expected);
    }
}

#[test]
fn a_hundred_thousand_blocks_are_read_up_to_the_limit() {
    let hcl: String = (0..30_000).map(|at| format!("variable \"v{at}\" {{}}\n")).collect();
    let hcl = hcl[..500 << 10].rsplit_once('\n').unwrap().0;
    let json: String = (0..30_000).map(|at| format!(",\"v{at}\":{{}}")).collect();
    let json = format!("{{\"variable\":{{{}}}}}", &json[1..]);
    let small = "a{}\n".repeat(100_000);
    let bare = "output x{}\n".repeat(40_000);
    for (path, text, count) in [
        ("main.tf", hcl, 10_000),
        ("main.tf.json", json.as_str(), 10_000),
        ("main.tf", small.as_str(), 0),
        ("main.tf", bare.as_str(), 0),
    ] {
        let metadata = read_file(path, text);
        assert!(inputs(&metadata).len() <= count, "{}", inputs(&metadata).len());
        assert!(metadata.warnings.len() <= 51, "{}", metadata.warnings.len());
        if count > 0 {
            let all = warnings(&metadata).join("\n");
            assert!(all.contains("only the first 10000 blocks were read"), "{all}");
            assert!(!inputs(&metadata).is_empty());
        }
    }
}

#[test]
fn a_long_name_in_json_is_not_copied_for_each_of_its_blocks() {
    let blocks: String = (0..10_000).map(|at| format!(",\"r{at}\":{{}}")).collect();
    let (long, allowed) = ("x".repeat(300_000), "x".repeat(1_024));
    for kind in ["resource", "data", "ephemeral"] {
        let text = format!("{{\"{kind}\":{{\"{long}\":{{{}}}}}}}", &blocks[1..]);
        let metadata = read_file("main.tf.json", &text);
        assert_eq!(resources(&metadata), 0);
        let expected = "`main.tf.json` has a name of more than 1024 bytes, which was left out";
        assert_eq!(warnings(&metadata), [expected]);
        // What is kept while the files are read is bounded by the size of the result.
        let text = format!("{{\"{kind}\":{{\"{allowed}\":{{{}}}}}}}", &blocks[1..]);
        let metadata = read_file("main.tf.json", &text);
        assert!((1_500..2_048).contains(&resources(&metadata)), "{}", resources(&metadata));
        let expected = "the module says more than the registry keeps; the rest is left out";
        assert_eq!(warnings(&metadata), [expected]);
    }
    let text = format!("{{\"variable\":{{\"{long}\":[{{}}{}]}}}}", ",{}".repeat(9_000));
    assert_eq!(warnings(&read_file("main.tf.json", &text)).len(), 1);
    for text in [
        format!("variable \"{long}\" {{}}\nvariable \"y\" {{}}\n"),
        format!("resource \"{long}\" \"x\" {{}}\nvariable \"y\" {{}}\n"),
        format!("terraform {{\n required_providers {{\n {long} = 1\n}}\n}}\nvariable \"y\" {{}}\n"),
    ] {
        let metadata = read_file("main.tf", &text);
        assert_eq!(inputs(&metadata), ["y"], "{text:.50}");
        assert!(warnings(&metadata)[0].contains("more than 1024 bytes"), "{text:.50}");
    }
}

fn resources(metadata: &Metadata) -> usize {
    let root = &metadata.root;
    root.resources.len() + root.data_sources.len() + root.ephemeral_resources.len()
}

#[test]
fn the_same_resource_is_kept_once() {
    let text = format!("{{\"resource\":{{\"a\":{{\"b\":[{{}}{}]}}}}}}", ",{}".repeat(5_000));
    let metadata = read_file("main.tf.json", &text);
    assert_eq!((resources(&metadata), warnings(&metadata).len()), (1, 0));
}

#[test]
fn rules_of_a_variable_are_kept_only_as_far_as_the_result_has_space() {
    let rules = format!("[{{}}{}]", ",{}".repeat(100_000));
    let text = format!("{{\"variable\":{{\"x\":{{\"validation\":{rules}}},\"y\":{{}}}}}}");
    let metadata = read_file("main.tf.json", &text);
    assert!(inputs(&metadata).is_empty(), "nothing is kept after what did not fit");
    assert!(warnings(&metadata)[0].contains("more than the registry keeps"));
}

#[test]
fn each_value_that_is_no_block_counts_as_one() {
    let values: String = (0..30_000).map(|at| format!(",\"v{at}\":1")).collect();
    let values = &values[1..];
    for (kind, values) in [
        ("variable", format!("{{{values}}}")),
        ("resource", format!("{{\"a\":{{{values}}}}}")),
        ("resource", format!("{{{values}}}")),
    ] {
        let text = format!("{{\"{kind}\":{values},\"output\":{{\"x\":{{}}}}}}");
        let metadata = read_file("main.tf.json", &text);
        assert!(metadata.root.outputs.is_empty(), "{kind}");
        // Of the other warnings, the result has only the number.
        assert_eq!(warnings(&metadata).len(), 51, "{kind}");
        assert!(warnings(&metadata)[0].contains("that is no block"), "{kind}");
        let limits = Limits { blocks: 3, ..limits() };
        let metadata = from_files(&[("main.tf.json".to_owned(), text.into_bytes())], &limits);
        assert_eq!(warnings(&metadata).len(), 4, "{:?}", metadata.warnings);
        assert_eq!(warnings(&metadata)[3], "only the first 3 blocks were read");
    }
}

#[test]
fn no_other_block_of_a_file_is_read_after_the_deadline() {
    for (file, text) in [
        ("main.tf", "variable \"x\" {}\nvariable \"y\" {}\n"),
        ("main.tf.json", r#"{"variable":{"x":{},"y":{}}}"#),
    ] {
        let mut notes = Notes::new(&limits());
        let mut so_far = ReadSoFar { blocks: 0, block_limit: 9, bytes_left: 999 };
        let deadline = Deadline::after(Duration::ZERO);
        let mut context =
            Context { notes: &mut notes, file, so_far: &mut so_far, deadline, is_late: false };
        let found = match file {
            "main.tf" => hcl::read(text, &mut context),
            _ => json::read(text, &mut context),
        };
        assert!(found.variables.is_empty(), "{file}");
        let expected = "has parts that were not read, because that took too long";
        assert_eq!(notes.into_warnings()[0].message, expected);
    }
}

#[test]
fn a_result_that_would_be_too_long_is_cut_off_between_two_items() {
    let text = "\\n\\\"".repeat(4_000);
    let blocks =
        (0..400).map(|at| format!("variable \"v{at:03}\" {{ description = \"{text}\" }}\n"));
    let files = blocks.enumerate().map(|(at, block)| (format!("f{at:03}.tf"), block.into_bytes()));
    let limits = Limits { total_bytes: 100 << 20, ..limits() };
    let metadata = from_files(&files.collect::<Vec<_>>(), &limits);
    let json = metadata.to_json().unwrap();
    assert!((1 << 20..2 << 20).contains(&json.len()), "{} bytes", json.len());
    assert_eq!(
        warnings(&metadata),
        ["the module says more than the registry keeps; the rest is left out"]
    );
    let whole =
        metadata.root.inputs.iter().all(|input| input.description.as_ref().unwrap().len() == 8_000);
    assert!(whole && metadata.root.inputs.len() > 50);
}

#[test]
fn the_blocks_before_and_after_a_broken_one_are_read() {
    let block = |name: &str, body: &str| format!("variable \"{name}\" {{\n{body}}}\n\n");
    let (a, z) = (block("a", ""), block("z", "  type = string\n"));
    for (broken, line) in [
        (block("b", "  type = list(\n"), 6),
        (block("b", "  type = list(\n  default = 1\n"), 6),
        (block("b", "  default = { a = 1, a = 2 }\n"), 5),
        ("variable \"b\" = {\n}\n".to_owned(), 4),
        ("!\n}\n".to_owned(), 4),
    ] {
        let metadata = read_file("main.tf", format!("{a}{broken}{z}"));
        assert_eq!(inputs(&metadata), ["a", "z"], "{broken}");
        let expected = format!("`main.tf` has an error in line {line}");
        assert!(warnings(&metadata)[0].starts_with(&expected), "{:?}", metadata.warnings);
    }
    let many = read_file("main.tf", block("b", "  type = list(\n").repeat(10) + &z);
    assert_eq!(many.warnings.len(), 6);
    assert!(warnings(&many)[5].contains("has more errors"), "{:?}", many.warnings);
}

#[test]
fn one_long_text_is_cut_off_and_marked() {
    let text = "é".repeat(100_000);
    let metadata = read_file("main.tf", format!("variable \"x\" {{ description = \"{text}\" }}\n"));
    let description = metadata.root.inputs[0].description.as_ref().unwrap();
    assert!(description.ends_with("é…") && description.len() <= 32 << 10);
}

#[test]
fn the_source_of_a_provider_is_cut_off_at_a_kilobyte() {
    let source = format!("{}/x", "a".repeat(30_000));
    let provider =
        format!("terraform {{\n required_providers {{\n x = {{ source = \"{source}\" }}\n}}\n}}\n");
    let metadata = read_file("main.tf", provider);
    let source = metadata.root.providers[0].source.as_ref().unwrap();
    assert!(source.ends_with("a…") && source.len() == 1 << 10, "{} bytes", source.len());
}

#[test]
fn no_other_file_is_parsed_after_the_deadline() {
    let limits = Limits { time: Duration::ZERO, ..limits() };
    let files = ["a.tf", "b.tf", "modules/m/c.tf"]
        .map(|path| (path.to_owned(), b"variable \"x\" {}".to_vec()));
    let metadata = from_files(&files, &limits);
    assert_eq!(inputs(&metadata), [""; 0]);
    let expected = "`a.tf` and later files were not read, because that took too long";
    assert_eq!(warnings(&metadata), [expected]);
}

#[test]
fn control_characters_of_a_publisher_never_reach_a_terminal() {
    let metadata = read_files(concat!(
        "variable \"a\\u001b[2J\" { description = \"\\u001b]0;x\\u0007\\u009b\\t\\n\" }\n",
        "output \"\\u0000\" {}\nresource \"x\\u001b\" \"y\" {}\n",
    ));
    let json = String::from_utf8(metadata.to_json().unwrap()).unwrap();
    assert!(!json.contains("\\u00") && !json.contains('\u{9b}'), "{json}");
    let turned =
        read_files("output \"a\u{202e}b\u{200b}\" { description = \"c\u{ad}\u{feff}d\" }\n");
    let output = &turned.root.outputs[0];
    assert_eq!((output.name.as_str(), output.description.as_deref()), ("ab", Some("cd")));
    assert_eq!(
        metadata.root.inputs[0].description.as_deref(),
        Some("\u{fffd}]0;x\u{fffd}\u{fffd}\t\n")
    );
}

#[test]
fn an_archive_that_is_not_accepted_is_an_error_and_not_a_warning() {
    let file = |path: &str| (path.to_owned(), b"x".to_vec());
    for (files, part) in [
        (vec![file("README.md")], "no `.tf` file"),
        (vec![file("../main.tf")], "`..`"),
        (vec![file("main.tf"), file("MAIN.tf")], "differs only by case"),
    ] {
        let mut archive = packed(&files, Format::Zip);
        match read(&mut archive, Format::Zip, &limits()) {
            Err(ArchiveError::Rejected { message, .. }) => {
                assert!(message.contains(part), "{message}");
            }
            other => panic!("{part}: {other:?}"),
        }
    }
    let mut zip = packed(&[file("main.tf")], Format::Zip);
    assert!(read(&mut zip, Format::TarGz, &limits()).is_err());
}

#[test]
fn a_symbolic_link_is_an_error_of_the_archive() {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(
        tempfile::tempfile().unwrap(),
        flate2::Compression::fast(),
    ));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    header.set_mode(0o777);
    tar.append_link(&mut header, "README.md", "/etc/passwd").unwrap();
    let mut file = tar.into_inner().unwrap().finish().unwrap();
    let refused = read(&mut file, Format::TarGz, &limits()).unwrap_err();
    assert!(refused.to_string().contains("symbolic link"), "{refused}");
}
