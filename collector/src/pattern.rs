//! Regular expressions as otelcol's users write them.
//!
//! In: a pattern in Go's syntax. Out: a compiled one with the same meaning.
//! Invariant: `\d`, `\w`, `\s` and `\b` mean ASCII, as in Go, and matching time is linear.

use regex::bytes::{Regex, RegexBuilder};

/// How large a compiled pattern may become.
const SIZE_LIMIT: usize = 4 << 20;

/// Compiles a pattern; the error is one line.
pub fn compile(pattern: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(pattern))
        .size_limit(SIZE_LIMIT)
        .build()
        .map_err(|error| match &error {
            regex::Error::Syntax(text) => {
                let last = text.lines().last().unwrap_or(text).trim();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            }
            regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
            _ => error.to_string(),
        })
}

/// The pattern in the syntax of the `regex` crate, which differs in a few places.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern.char_indices().peekable();
    let mut in_class = false;
    while let Some((index, character)) = rest.next() {
        let after = &pattern[index + character.len_utf8()..];
        match character {
            '\\' => match rest.next() {
                Some((_, 'Q')) => {
                    let literal = after[1..].split("\\E").next().unwrap_or_default();
                    out.push_str(&regex::escape(literal));
                    let end = index + 2 + literal.len();
                    let closed = pattern[end..].starts_with("\\E");
                    let end = end + if closed { 2 } else { 0 };
                    while rest.peek().is_some_and(|(at, _)| *at < end) {
                        rest.next();
                    }
                }
                Some((_, escape)) => push_escape(&mut out, escape, in_class),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if after.starts_with('^') {
                    rest.next();
                    out.push('^');
                }
                // A bracket that closes at once is one of the class.
                if rest.peek().is_some_and(|(_, next)| *next == ']') {
                    rest.next();
                    out.push_str("\\]");
                }
            }
            '[' if after.starts_with(':') => out.push('['),
            '[' | '&' | '~' if in_class => out.extend(['\\', character]),
            ':' if in_class && after.starts_with(']') => {
                // The end of a named class such as [:alpha:].
                out.push_str(":]");
                rest.next();
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '{' if !in_class && !is_repetition(after) => out.push_str("\\{"),
            _ => out.push(character),
        }
    }
    out
}

fn push_escape(out: &mut String, escape: char, in_class: bool) {
    let class = match escape {
        'd' => "0-9",
        'w' => "0-9A-Za-z_",
        's' => "\\t\\n\\x0C\\r ",
        'D' => "^0-9",
        'W' => "^0-9A-Za-z_",
        'S' => "^\\t\\n\\x0C\\r ",
        'b' if !in_class => return out.push_str("(?-u:\\b)"),
        'B' if !in_class => return out.push_str("(?-u:\\B)"),
        _ => return out.extend(['\\', escape]),
    };
    match in_class && !class.starts_with('^') {
        true => out.push_str(class),
        false => out.extend(["[", class, "]"]),
    }
}

/// Whether what follows a brace is a repetition such as `3}`, `3,}` or `3,5}`.
fn is_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else {
        return false;
    };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    !least.is_empty() && digits(least) && digits(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().is_match(text.as_bytes())
    }

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, expected) in [
            (r"^\d+$", "123", true),
            (r"^\d+$", "١٢", false),
            (r"^\w+$", "ä", false),
            (r"^[\w-]+$", "a-b", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[\D]+$", "ab", true),
            (r"a{b}", "a{b}", true),
            (r"^a{2}$", "aa", true),
            (r"^a{1,}$", "aaa", true),
            (r"[[]x", "[x", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&&", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\Qa.b\E+$", "a.bb", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^.$", "ä", true),
            (r"(?i)HEALTH", "health", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} on {text}");
        }
    }

    #[test]
    fn what_does_not_compile_is_said_in_one_line() {
        assert_eq!(compile("a(b").unwrap_err(), "unclosed group");
        assert!(compile(r"(?=a)").unwrap_err().contains("look-around"));
        assert!(compile(r"(((a{100}){100}){100})").is_err());
    }
}
