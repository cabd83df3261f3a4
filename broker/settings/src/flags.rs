//! Reads from clap which flag or variable gives each value of a command.

use std::ffi::OsString;

use clap::builder::OsStringValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::mask::mask;
use crate::{Setting, Source};

/// Returns a setting for each visible flag of a command, with the text of its value.
///
/// `value` returns the value that the program derived from the flag, by the name of the flag without
/// dashes. Without one, the setting has the text that the user gave.
pub fn settings(
    command: &Command,
    matches: &ArgMatches,
    value: impl Fn(&str) -> Option<Effective>,
) -> Vec<Setting> {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    shown
        .filter_map(|arg| {
            let name = arg.get_long().filter(|name| !["help", "version"].contains(name))?;
            let given = text(matches, arg.get_id().as_str());
            let effective = value(name).unwrap_or(Effective { value: given, note: None });
            let setting = Setting::new(name, effective.value, source(matches, arg));
            Some(match effective.note {
                Some(note) => setting.note(note),
                None => setting,
            })
        })
        .collect()
}

/// The value that a program derived from a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effective {
    /// The value.
    pub value: Option<String>,
    /// What a user must know about it.
    pub note: Option<String>,
}

impl Effective {
    /// A value without a note.
    pub fn of(value: &(impl ToString + ?Sized)) -> Self {
        Self { value: Some(value.to_string()), note: None }
    }

    /// A note without a value.
    pub fn only(note: impl Into<String>) -> Self {
        Self { value: None, note: Some(note.into()) }
    }
}

/// Returns where the value of an argument comes from.
pub fn source(matches: &ArgMatches, arg: &Arg) -> Source {
    let flag = || Source::Flag(format!("--{}", arg.get_long().unwrap_or_default()));
    match matches.value_source(arg.get_id().as_str()) {
        Some(ValueSource::CommandLine) => flag(),
        Some(ValueSource::EnvVariable) => arg
            .get_env()
            .map_or_else(flag, |name| Source::Variable(name.to_string_lossy().into_owned())),
        _ => Source::Default,
    }
}

/// Returns the source of the argument that has this long flag; [`Source::Default`] if none has it.
pub fn source_of(command: &Command, matches: &ArgMatches, long: &str) -> Source {
    let arg = command.get_arguments().find(|arg| arg.get_long() == Some(long));
    arg.map_or(Source::Default, |arg| source(matches, arg))
}

/// Returns the text of an argument, with commas between several values. No text is no value.
fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    let values = matches.try_get_raw(id).ok().flatten()?;
    let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
    Some(values.join(",")).filter(|text| !text.is_empty())
}

/// Returns the same command, which accepts every text as a value, so that it can show a wrong one.
fn lenient(command: Command) -> Command {
    command
        .ignore_errors(true)
        .mut_args(|arg| match arg.get_action() {
            // A variable can give such a flag any text.
            ArgAction::SetTrue => arg
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .default_value("false")
                .default_missing_value("true")
                .value_parser(OsStringValueParser::new()),
            action if action.takes_values() => arg.value_parser(OsStringValueParser::new()),
            _ => arg,
        })
        .mut_subcommands(lenient)
}

/// Returns what the user gave on a command line whose values clap refused, and `None` if it refused
/// the command line itself.
pub fn with_wrong_values(
    parser: &Command,
    arguments: &[OsString],
    refused: &clap::Error,
) -> Option<ArgMatches> {
    is_about_values(refused)
        .then(|| lenient(parser.clone()).try_get_matches_from(arguments).ok())
        .flatten()
}

/// Returns the command at the end of a path of subcommands and its part of the matches, if the user
/// gave that path.
pub fn below<'a>(
    mut command: &'a Command,
    mut matches: &'a ArgMatches,
    path: &[&str],
) -> Option<(&'a Command, &'a ArgMatches)> {
    for expected in path {
        let (given, inner) = matches.subcommand()?;
        if given != *expected {
            return None;
        }
        command = command.find_subcommand(given)?;
        matches = inner;
    }
    Some((command, matches))
}

/// Returns whether clap refused a value, or values that contradict each other. Otherwise, it did not
/// understand the command line.
fn is_about_values(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidValue
            | ErrorKind::ValueValidation
            | ErrorKind::ArgumentConflict
            | ErrorKind::MissingRequiredArgument
            | ErrorKind::InvalidUtf8
    )
}

/// Returns the error of clap as one sentence.
pub fn sentence(error: &clap::Error) -> String {
    // Before it is cut: a secret can contain an empty line.
    let text = mask(&error.render().to_string());
    let first = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        let number = clap::value_parser!(u16);
        Command::new("x").subcommand(
            Command::new("show")
                .arg(Arg::new("a").long("port").env("PORT_OF_NO_TEST").value_parser(number))
                .arg(Arg::new("b").long("cert").requires("c"))
                .arg(Arg::new("c").long("key"))
                .arg(Arg::new("d").long("dry").action(ArgAction::SetTrue))
                .arg(Arg::new("e").long("list").value_delimiter(',').default_value("p,q"))
                .arg(Arg::new("f").long("hidden").hide(true)),
        )
    }

    #[test]
    fn a_wrong_value_is_shown_as_it_was_given() {
        for line in [
            &["x", "show", "--port", "many", "--dry", "--key", "k"][..],
            &["x", "show", "--cert", "many", "--dry"],
        ] {
            let refused = command().try_get_matches_from(line).unwrap_err();
            assert!(is_about_values(&refused), "{refused}");
            assert!(!sentence(&refused).contains('\n'), "{refused}");
            let (command, line) = (command(), line.iter().map(OsString::from).collect::<Vec<_>>());
            let matches = with_wrong_values(&command, &line, &refused).unwrap();
            assert!(below(&command, &matches, &["other"]).is_none());
            let (show, matches) = below(&command, &matches, &["show"]).unwrap();
            let shown = settings(show, matches, |_| None);
            let flag = line[2].to_str().unwrap();
            let given = Setting::new(&flag[2..], Some("many"), Source::Flag(flag.to_owned()));
            assert!(shown.contains(&given), "{shown:?}");
            let other = Setting::new("dry", Some("true"), Source::Flag("--dry".to_owned()));
            assert!(shown.contains(&other), "{shown:?}");
            let default = Setting::new("list", Some("p,q"), Source::Default);
            assert!(shown.contains(&default), "{shown:?}");
        }
        let refused = command().try_get_matches_from(["x", "show", "--nothing"]).unwrap_err();
        assert!(!is_about_values(&refused));
    }

    #[test]
    fn each_visible_flag_has_its_derived_value_or_else_its_text() {
        let matches =
            command().try_get_matches_from(["x", "show", "--port", "1", "--key", "k"]).unwrap();
        let command = command();
        let show = command.find_subcommand("show").unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let derived = |name: &str| (name == "key").then(|| Effective::of("K"));
        let flag = |name: &str| Source::Flag(name.to_owned());
        assert_eq!(
            settings(show, matches, derived),
            [
                Setting::new("port", Some("1"), flag("--port")),
                Setting::new("cert", None::<&str>, Source::Default),
                Setting::new("key", Some("K"), flag("--key")),
                Setting::new("dry", Some("false"), Source::Default),
                Setting::new("list", Some("p,q"), Source::Default),
            ]
        );
        assert_eq!(source_of(show, matches, "port"), flag("--port"));
        assert_eq!(source_of(show, matches, "nothing"), Source::Default);
    }
}
