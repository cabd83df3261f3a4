//! Quotes words for shells, for lines that a user pastes or evaluates.

/// Quotes a word for a POSIX shell, if it needs quotes. A shell expands `~`, and some expand `=`.
pub fn quoted_for_posix(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._+/=".contains(c);
    let starts_plain = |c: char| c.is_ascii_alphanumeric() || c == '/';
    if text.starts_with(starts_plain) && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Quotes a word for fish, where a backslash escapes itself and a quote.
pub fn quoted_for_fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Quotes a word for PowerShell, where a typographic quote also ends a string.
pub fn quoted_for_powershell(text: &str) -> String {
    let mut quoted = String::from("'");
    for c in text.chars() {
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            quoted.push(c);
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_its_own_quotes() {
        for (text, posix, fish, powershell) in [
            ("", "''", "''", "''"),
            ("a.b-c_d/e+f=", "a.b-c_d/e+f=", "'a.b-c_d/e+f='", "'a.b-c_d/e+f='"),
            ("/a/b.c", "/a/b.c", "'/a/b.c'", "'/a/b.c'"),
            ("~root", "'~root'", "'~root'", "'~root'"),
            ("a~b", "'a~b'", "'a~b'", "'a~b'"),
            ("=ls", "'=ls'", "'=ls'", "'=ls'"),
            ("$HOME `id`", "'$HOME `id`'", "'$HOME `id`'", "'$HOME `id`'"),
            ("a'b", r"'a'\''b'", r"'a\'b'", "'a''b'"),
            (r"a\'", r"'a\'\'''", r"'a\\\''", r"'a\'''"),
            ("a\u{2019}b", "'a\u{2019}b'", "'a\u{2019}b'", "'a\u{2019}\u{2019}b'"),
        ] {
            assert_eq!(quoted_for_posix(text), posix, "{text}");
            assert_eq!(quoted_for_fish(text), fish, "{text}");
            assert_eq!(quoted_for_powershell(text), powershell, "{text}");
        }
    }
}
