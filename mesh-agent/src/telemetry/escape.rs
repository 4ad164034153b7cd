//! Text from outside, made fit for a terminal and for one line of a log: a name in a manifest may hold anything.

use std::borrow::Cow;

/// The text with every character escaped that moves a cursor, breaks a line or turns the reading direction.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unfit) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unfit(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Control characters of both tables, line and paragraph separators, and Unicode's invisible marks and overrides.
fn is_unfit(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_unfit_is_escaped() {
        for (text, shown) in [
            ("web-0", "web-0"),
            ("Größe 大", "Größe 大"),
            ("a\nb\tc", "a\\nb\\tc"),
            ("\u{1b}[31m", "\\u{1b}[31m"),
            ("\u{9b}2J\u{7f}", "\\u{9b}2J\\u{7f}"),
            ("abc\u{202e}def", "abc\\u{202e}def"),
        ] {
            assert_eq!(escape(text), shown);
        }
    }
}
