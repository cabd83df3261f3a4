//! Hostile HCL: operations that take the parser longer than a life, behind text that hides them
//! from the estimate of their cost.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::{inputs, read_file, warnings};

/// The time after which a test says that the parser does not come back. It is long, because a slow
/// machine must change nothing: what the tests look for takes years.
const FAILURE: Duration = Duration::from_secs(1_200);

/// Ways to nest operations: what opens a level, and what closes it.
const NESTS: [(&str, &str); 6] = [
    ("1 + 1 + (", ")"),
    ("1 + 1 + x[", "]"),
    ("1 + 1 + - (", ")"),
    ("1 + 1 + { a = ", "}"),
    ("1 + 1 + \"${", "}\""),
    ("true ? 0 : 1 + 1 + (", ")"),
];

/// Returns operations of which the parser parses the innermost one 2^`depth` times.
fn bomb(nest: usize, depth: usize) -> String {
    let (open, close) = NESTS[nest % NESTS.len()];
    // A string in an interpolation is two levels, and the estimate allows 64.
    let depth = if open.contains('"') { depth / 2 } else { depth };
    format!("b = {}<{}\n", open.repeat(depth), close.repeat(depth))
}

/// Runs the work in a thread, and fails if it does not end. `current` is what it works on.
fn ends(current: &Arc<Mutex<String>>, work: impl FnOnce() + Send + 'static) {
    let (end, ended) = mpsc::channel::<()>();
    let worker = thread::spawn(move || {
        let _end = end;
        work();
    });
    match ended.recv_timeout(FAILURE) {
        Err(RecvTimeoutError::Timeout) => {
            panic!("the parser does not come back from:\n{}", current.lock().unwrap())
        }
        _ => worker.join().expect("the work has no failed assertion"),
    }
}

/// Text in front of operations, in which the parser ends in code outside of all strings.
const HIDING: &[&str] = &[
    "",
    // The parser stops at the escape, and the reading goes on after the brace.
    "a = \"\\q\n}\n",
    "a = {\n\"\\q\n}\n",
    "a = '\"'\n}\n",
    "a = \"\\q${\"\n}\n",
    "a = 1 \"\n}\n",
    "!\n}\n",
    // The parser reads `<`, and then a heredoc.
    "a = 1 <<<E\n\"\nE\n",
    "a = 1 < <<E\n\"\nE\n",
    "a = 1 <<<-E\n\"\nE\n",
    "a = f(<<E\n(((\"\nE\n)\n",
    "a = <<-E\n  \" ${\"}\"} $${ %%{ \\\n  E\n",
    "a = <<E\n\"\nE \nx\nE\n",
    "a = <<\u{c9}\n\"\n\u{c9}\n",
    "a = <<E-1\n\"\nE\nE-1\n",
    "a = <<E\n%{ if x }\nE\n\"%{ endif }\nE\n",
    "a = <<E\nE\n\"\nE\n",
    "a = \"%{ if x }\"%{ endif }\"\n",
    "a = \"%{~ for x in y ~}\"%{~ endfor ~}\"\n",
    "a = \"%{ /* if */ if x }\"%{ endif }\"\n",
    "a = \"$${ %%{ \\\" # // /* $$${1}\"\n",
    "a = \"${\"}\" /* \" */}\"\n",
    "a = \"${1 # }\" \n}\"\n",
    "# \"\n// \"\n/* \" \n */\n",
    "# \"\r\na = 1\r\n",
    "# \"\ra = 1\n",
    "\u{e9}-b = 1\n",
    "a = x\u{2192}\"\n}\n",
    "\u{feff}a = 1\n",
    "a {\n  c = \"\\q\n}\n",
    "a \"b\" {\n  c = [\n}\n",
];

/// Text in front of operations and behind them, in which the operations are no code until the
/// reading goes on after the broken block.
const RESUMED: &[(&str, &str)] = &[
    ("a = \"\\q\" /*\n}\n", "*/\n"),
    ("a {\n  /*\n}\n", "*/\n  c = [\n}\n"),
    ("a = <<E\n%{ x }\n}\n", "E\n"),
    ("a = \"\\q\"\nc = <<E\n}\n", "E\n"),
    ("a = [ = \"${ x\n}\n", "}\"]\n"),
];

#[test]
fn operations_behind_text_that_hides_them_are_not_parsed() {
    let current = Arc::new(Mutex::new(String::new()));
    let now = Arc::clone(&current);
    ends(&current, move || {
        // The second one ends a string that only one of the two reads as one.
        let hiding = HIDING.iter().flat_map(|before| [(*before, ""), (*before, "# \"\n")]);
        for (before, after) in hiding.chain(RESUMED.iter().copied()) {
            for nest in 0..NESTS.len() {
                let text = format!("{before}{}{after}", bomb(nest, 60));
                now.lock().unwrap().clone_from(&text);
                let metadata = read_file("main.tf", &text);
                assert!(!metadata.warnings.is_empty(), "{text}");
            }
        }
    });
}

#[test]
fn a_block_after_a_broken_one_is_read_only_if_its_parsing_is_cheap() {
    let before = "variable \"a\" {}\nvariable \"b\" {\n  type = \"\\q\"\n}\n";
    let cheap = read_file("main.tf", format!("{before}variable \"c\" {{}}\n"));
    assert_eq!(inputs(&cheap), ["a", "c"]);
    let current = Arc::new(Mutex::new(before.to_owned()));
    ends(&current, move || {
        let metadata =
            read_file("main.tf", format!("{before}variable \"c\" {{}}\n{}", bomb(0, 60)));
        assert_eq!(inputs(&metadata), [""; 0]);
        let expected = "`main.tf` has too many nested operations, or too many keys in one object \
                        or block in line 6, and was not read";
        assert_eq!(warnings(&metadata), [expected]);
    });
}

/// What generated texts consist of.
const TOKENS: &[&str] = &[
    "\"",
    "\"",
    "\n",
    "\n",
    "\n}\n",
    " ",
    "a",
    "a = ",
    "= ",
    "1",
    " + ",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "${",
    "%{ if x }",
    "%{ endif }",
    "%{ for x in y }",
    "%{ endfor }",
    "%{ else }",
    "%{~",
    "$${",
    "%%{",
    "$",
    "%",
    "<<E\n",
    "<<-E\n",
    "\nE\n",
    "E\n",
    "E",
    "<",
    "<<",
    "<<<E\n",
    "#",
    "//",
    "/*",
    "*/",
    "\\",
    "\\q",
    "\\\"",
    "\\u00e9",
    "\r\n",
    "\r",
    "\u{e9}",
    "\u{2192}",
    "\u{feff}",
    "~",
    ":",
    "?",
    ",",
    "=>",
    "==",
    "!",
    "-",
    "x.0-1",
    "[for x in y : x]\n",
    "a \"b\" {\n",
    "a = \"c\"\n",
    "'",
    "\0",
    "\u{c}",
    "...",
    "::",
    "f(",
    "1e5",
    "if",
    "\n  E\n",
    "a = <<E\nx\nE\n",
    "a b {}\n",
    "\"\\q\" /*\n}\n",
    "*/\n",
    "a = <<E\n%{ x }\n}\n",
    "= <<<E\n\"\nE\n",
    "# \"\n",
];

#[test]
fn no_generated_text_around_operations_makes_the_parser_parse_them() {
    let current = Arc::new(Mutex::new(String::new()));
    let now = Arc::clone(&current);
    ends(&current, move || {
        let token = || proptest::sample::select(TOKENS);
        let tokens = |count| prop::collection::vec(token(), 0..count);
        let texts = (tokens(14), 0..NESTS.len(), any::<bool>(), tokens(6));
        let config = ProptestConfig { cases: 20_000, failure_persistence: None, ..<_>::default() };
        let random = proptest::test_runner::TestRng::deterministic_rng(
            proptest::test_runner::RngAlgorithm::ChaCha,
        );
        let tried = TestRunner::new_with_rng(config, random).run(
            &texts,
            |(before, nest, has_line, after)| {
                let line = if has_line { "\n" } else { "" };
                let operations = bomb(nest, 60);
                let text = format!("{}{line}{operations}{}", before.concat(), after.concat());
                now.lock().unwrap().clone_from(&text);
                read_file("main.tf", &text);
                Ok(())
            },
        );
        tried.unwrap();
    });
}
