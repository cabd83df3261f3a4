//! Shows the settings of a program: each value, and where it comes from, without secrets.
//!
//! | module | purpose |
//! |---|---|
//! | [`mask`](mod@mask) | removes passwords, queries and tokens from a text |
//! | [`flags`] | reads from clap which flag or variable gives each value |
//! | [`variables`] | variables of the AWS SDK and of proxies |
//!
//! A program gives its values to [`Settings`], after its own code has read them. So the output is
//! what the program uses.

pub mod flags;
pub mod mask;
pub mod variables;

use std::fmt;

use serde_json::{Value, json};

use crate::mask::{HIDDEN, mask};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A flag of this command, such as `--host`.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// A file, or a profile in the files of AWS.
    File(String),
    /// Neither of them: the program has a value of its own, or none.
    Default,
}

impl Source {
    /// Returns the kind of the source, as JSON has it.
    const fn kind(&self) -> &'static str {
        match self {
            Self::Flag(_) => "flag",
            Self::Variable(_) => "variable",
            Self::File(_) => "file",
            Self::Default => "default",
        }
    }

    /// Returns the name of the flag, variable or file.
    fn name(&self) -> Option<&str> {
        match self {
            Self::Flag(name) | Self::Variable(name) | Self::File(name) => Some(name),
            Self::Default => None,
        }
    }
}

/// One setting: its value without secrets, and where the value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    name: String,
    value: Option<String>,
    note: Option<String>,
    source: Source,
}

impl Setting {
    /// Creates a setting. It hides passwords, queries of URLs and tokens in the value.
    pub fn new(name: impl Into<String>, value: Option<impl AsRef<str>>, source: Source) -> Self {
        let value = value.map(|value| mask(value.as_ref()));
        Self { name: name.into(), value, note: None, source: masked(source) }
    }

    /// Creates a setting whose value is a secret as a whole. The caller does not give it.
    pub fn secret(name: impl Into<String>, source: Source) -> Self {
        Self { name: name.into(), value: Some(HIDDEN.to_owned()), note: None, source }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds what a user must know about the value, for example when it has no effect.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Returns the value and the note, for people.
    fn shown(&self) -> String {
        match (&self.value, &self.note) {
            (Some(value), Some(note)) => format!("{} ({note})", line(value)),
            (Some(value), None) => line(value),
            (None, Some(note)) => format!("({note})"),
            (None, None) => "-".to_owned(),
        }
    }
}

/// Hides secrets in the name of a file.
fn masked(source: Source) -> Source {
    match source {
        Source::File(name) => Source::File(mask(&name)),
        other => other,
    }
}

/// Returns a text without line ends and other control characters, which could change a terminal.
fn line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Settings in groups, in the order in which the program shows them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    groups: Vec<(String, Vec<Setting>)>,
}

impl Settings {
    /// Adds a group. A group without settings is not shown.
    #[must_use]
    pub fn group(mut self, title: impl Into<String>, settings: Vec<Setting>) -> Self {
        if !settings.is_empty() {
            self.groups.push((title.into(), settings));
        }
        self
    }

    /// Returns the settings as a JSON array of objects.
    ///
    /// `value`, `from` and `note` are `null` if there is none.
    pub fn json(&self) -> Value {
        let object = |title: &str, setting: &Setting| {
            json!({
                "group": title,
                "name": setting.name,
                "value": setting.value,
                "source": setting.source.kind(),
                "from": setting.source.name(),
                "note": setting.note,
            })
        };
        let all = self.groups.iter();
        all.flat_map(|(title, settings)| settings.iter().map(|setting| object(title, setting)))
            .collect()
    }
}

/// One line for each setting: its name, its source and its value. The value is last, because it can
/// be long.
impl fmt::Display for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = |setting: &Setting| match setting.source.name() {
            Some(name) => format!("{} {}", setting.source.kind(), line(name)),
            None => setting.source.kind().to_owned(),
        };
        let all = || self.groups.iter().flat_map(|(_, settings)| settings);
        let width = |longest: Option<usize>| longest.unwrap_or_default();
        let names = width(all().map(|setting| setting.name.chars().count()).max());
        let sources = width(all().map(|setting| source(setting).chars().count()).max());
        for (at, (title, settings)) in self.groups.iter().enumerate() {
            if at > 0 {
                writeln!(formatter)?;
            }
            writeln!(formatter, "[{}]", line(title))?;
            for setting in settings {
                let (name, from, value) = (&setting.name, source(setting), setting.shown());
                writeln!(formatter, "{name:names$}  {from:sources$}  {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_in_no_output() {
        let url = "https://user:S3CRET@proxy.example.com?t=S3CRET";
        let settings = Settings::default().group(
            "a",
            vec![
                Setting::secret("token", Source::Variable("TF_TOKEN_x".to_owned())),
                Setting::new("proxy", Some(url), Source::File(url.to_owned())),
            ],
        );
        for output in [settings.to_string(), settings.json().to_string(), format!("{settings:?}")] {
            assert!(!output.contains("S3CRET"), "{output}");
            assert!(output.contains("proxy.example.com"), "{output}");
        }
    }

    #[test]
    fn each_setting_is_one_line_with_its_source_before_its_value() {
        let settings = Settings::default().group("none", Vec::new()).group(
            "one",
            vec![
                Setting::new("host", Some("a\u{1b}[2J\nb"), Source::Flag("--host".to_owned())),
                Setting::new("data", None::<&str>, Source::Default),
                Setting::new("region", None::<&str>, Source::Default).note("from the instance"),
                Setting::new("url", Some("x"), Source::Variable("U".to_owned())).note("not used"),
            ],
        );
        assert_eq!(
            settings.to_string(),
            "[one]\n\
             host    flag --host  a [2J b\n\
             data    default      -\n\
             region  default      (from the instance)\n\
             url     variable U   x (not used)\n"
        );
        let expected = json!({ "group": "one", "name": "url", "value": "x", "source": "variable",
            "from": "U", "note": "not used" });
        assert_eq!(settings.json()[3], expected);
        assert_eq!(settings.json()[1]["from"], Value::Null);
    }
}
