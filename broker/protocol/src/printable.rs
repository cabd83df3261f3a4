//! Which characters of a foreign text a program can print to a terminal as they are.

/// Returns whether a terminal could take the character for something other than text, or could
/// print it in another place: control characters, characters without a width, separators of lines,
/// and marks that turn the direction of a text.
pub fn is_unprintable(character: char) -> bool {
    character.is_control() || is_invisible(character)
}

/// Returns whether a character that is not a control character prints as nothing, and can still
/// change what a reader sees.
pub const fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_or_hides_is_unprintable_and_letters_of_all_scripts_are_not() {
        for character in [
            '\0', '\t', '\n', '\u{1b}', '\u{7f}', '\u{9b}', '\u{ad}', '\u{61c}', '\u{180e}',
            '\u{200b}', '\u{200d}', '\u{200f}', '\u{2028}', '\u{202e}', '\u{2060}', '\u{2066}',
            '\u{2069}', '\u{feff}', '\u{fff9}',
        ] {
            assert!(is_unprintable(character), "{character:?}");
        }
        for character in ['a', ' ', 'é', '\u{301}', 'ß', 'İ', 'ש', 'ع', '漢', '😀', '\u{fffd}']
        {
            assert!(!is_unprintable(character), "{character:?}");
        }
    }
}
