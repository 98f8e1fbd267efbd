//! Makes text from outside, such as file names, safe to show, and finds words in text.
//!
//! A name may hold a newline, or an escape sequence that would steer the terminal. These characters are
//! shown as escapes.

use std::borrow::Cow;
use std::path::Path;

/// `text` on one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, steers)
}

/// `path` on one line.
pub fn shown(path: &Path) -> String {
    one_line(&path.to_string_lossy()).into_owned()
}

/// `text` with its newlines and tabs, but without any other character that would steer the terminal.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    escaped(text, |c| steers(c) && !matches!(c, '\n' | '\t'))
}

/// The JSON `text` with the same meaning, without characters that would steer the terminal.
pub fn json_for_terminal(text: &str) -> Cow<'_, str> {
    // All that steer have 16 bits.
    let code = |c: char, out: &mut String| out.push_str(&format!("\\u{:04x}", u32::from(c)));
    replaced(text, |c| steers(c) && c != '\n', code)
}

/// What `error` says of the TOML text `content`, on one line: where, and what was expected.
pub fn toml_error(error: &toml::de::Error, content: &str) -> String {
    let joined = |text: &str| text.trim_end().replace('\n', ", ");
    let Some(span) = error.span() else {
        return joined(&error.to_string());
    };
    let before = content.get(..span.start).unwrap_or(content);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let whole_line = content.lines().nth(line - 1).unwrap_or_default().trim();
    let whole_line: String = whole_line.chars().take(80).collect();
    let message = joined(error.message());
    format!("line {line}, column {column}: {message}, in `{whole_line}`")
}

/// Whether `text` begins with `words`: with "process 1 of 2", but not with the same letters of "process 1 of 20".
pub fn begins_with(text: &str, words: &str) -> bool {
    let rest = text.strip_prefix(words);
    rest.is_some_and(|rest| !splits_a_word(words, rest))
}

/// Whether `words` are somewhere in `text`, and neither begin nor end within one of its words.
pub fn has_words(text: &str, words: &str) -> bool {
    text.match_indices(words).any(|(start, _)| {
        let (before, from_here) = text.split_at(start);
        !splits_a_word(before, words) && begins_with(from_here, words)
    })
}

/// Whether the end of `left` and the beginning of `right` are of one word, if one comes right behind the other.
fn splits_a_word(left: &str, right: &str) -> bool {
    left.ends_with(char::is_alphanumeric) && right.starts_with(char::is_alphanumeric)
}

/// Whether `c` would do more on a terminal than show itself: control characters, line separators, and characters that
/// change the direction of writing.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escaped(text: &str, unwanted: fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, unwanted, |c, out| out.extend(c.escape_default()))
}

/// `text`, with what `instead` writes in the place of each `unwanted` character.
fn replaced(
    text: &str,
    unwanted: fn(char) -> bool,
    instead: impl Fn(char, &mut String),
) -> Cow<'_, str> {
    if !text.contains(unwanted) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match unwanted(c) {
            true => instead(c, &mut out),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[31mb\nc\u{9b}2J\u{202e}gnp.\t\u{7f}é日";

    #[test]
    fn what_steers_a_terminal_is_written_out_and_everything_else_stays() {
        assert_eq!(
            one_line(HOSTILE),
            "a\\u{1b}[31mb\\nc\\u{9b}2J\\u{202e}gnp.\\t\\u{7f}é日"
        );
        assert_eq!(
            for_terminal(HOSTILE),
            "a\\u{1b}[31mb\nc\\u{9b}2J\\u{202e}gnp.\t\\u{7f}é日"
        );
        assert!(matches!(one_line("plain é 日"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "image": HOSTILE, "n": 1 });
        let plain = serde_json::to_string_pretty(&value).unwrap();
        let text = json_for_terminal(&plain);
        assert!(
            !text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7f}']),
            "{text}"
        );
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, value);
    }

    #[test]
    fn words_begin_and_end_where_those_of_the_text_do() {
        assert!(begins_with("process 1 of 2: no", "process 1 of 2"));
        assert!(!begins_with("process 1 of 20: no", "process 1 of 2"));
        assert!(begins_with("any", "any") && begins_with("any", "") && begins_with("", ""));
        // The first of two places is within a word.
        assert!(has_words("12: no, 2: no", "2: no"));
        assert!(has_words("a row, twice", "row") && has_words("(row)", "row"));
        assert!(!has_words("rows", "row") && !has_words("arrow", "row"));
    }

    #[test]
    fn a_fault_in_a_toml_file_is_one_line_that_says_where_it_is() {
        let content = "depth = 11\nlr = = 1\n";
        let error = content.parse::<toml::Table>().unwrap_err();
        let said = toml_error(&error, content);
        assert!(said.starts_with("line 2, column 6: "), "{said}");
        assert!(said.ends_with(", in `lr = = 1`"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
