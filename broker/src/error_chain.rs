//! Joins an error and its causes into one text, in which no cause appears twice.

use std::error::Error;

/// Returns the message of an error with the messages of its causes.
pub fn error_chain(error: &dyn Error) -> String {
    with_causes(error.to_string(), error.source())
}

/// Adds the messages of a cause and of its causes to a text.
///
/// It omits a message that the text already contains. Some libraries put the message of the cause
/// into their own.
pub fn with_causes(mut text: String, cause: Option<&(dyn Error + 'static)>) -> String {
    let mut next = cause;
    while let Some(error) = next {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        next = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{message}")]
    struct Chained {
        message: &'static str,
        source: Option<Box<Chained>>,
    }

    #[test]
    fn a_message_that_the_text_already_contains_is_omitted() {
        for (messages, expected) in [
            (vec!["no"], "no"),
            (vec!["cannot read `a`", "no such file"], "cannot read `a`: no such file"),
            (vec!["`a`: no such file", "no such file"], "`a`: no such file"),
            (vec!["`a`", "no such file", "no such file", "os"], "`a`: no such file: os"),
        ] {
            let chained = messages
                .iter()
                .rev()
                .fold(None, |source, message| Some(Box::new(Chained { message, source })));
            assert_eq!(error_chain(&*chained.unwrap()), expected, "{messages:?}");
        }
    }
}
