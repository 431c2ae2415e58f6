//! Names in snake and camel case, as otelcol writes them.
//!
//! In: a text. Out: the same words, joined in another way. Invariant: what is not ASCII is no
//! letter; it stays in snake case and is left out in camel case.

/// `SomeName2` for `some_name-2`; what is neither letter nor digit is left out.
pub(super) fn camel(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut begins, mut after_capital) = (true, false);
    for character in text.trim().chars() {
        let cased = match character {
            _ if begins => character.to_ascii_uppercase(),
            _ if after_capital => character.to_ascii_lowercase(),
            character => character,
        };
        after_capital = character.is_ascii_uppercase();
        match character {
            'a'..='z' | 'A'..='Z' => {
                out.push(cased);
                begins = false;
            }
            '0'..='9' => {
                out.push(character);
                begins = true;
            }
            _ => begins = matches!(character, '_' | ' ' | '-' | '.'),
        }
    }
    out
}

/// `some_name_2` for `SomeName2`; words in capitals stay together.
pub(super) fn snake(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    let mut before = Kind::Other;
    let mut characters = text.trim().chars().peekable();
    while let Some(character) = characters.next() {
        let kind = Kind::of(character);
        let next = characters.peek().copied().map_or(Kind::Other, Kind::of);
        let turns = kind != next && kind != Kind::Other && next != Kind::Other;
        // A capital before a small letter begins their word.
        let begins = (kind, next) == (Kind::Capital, Kind::Small);
        if begins && before == Kind::Capital {
            out.push('_');
        }
        out.push(match character {
            ' ' | '-' | '.' => '_',
            character => character.to_ascii_lowercase(),
        });
        if turns && !begins {
            out.push('_');
        }
        before = kind;
    }
    out
}

/// What case tells apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Capital,
    Small,
    Digit,
    Other,
}

impl Kind {
    fn of(character: char) -> Self {
        match character {
            'A'..='Z' => Self::Capital,
            'a'..='z' => Self::Small,
            '0'..='9' => Self::Digit,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the library says that otelcol uses.
    const CASES: &[(&str, &str, &str)] = &[
        ("someName", "some_name", "SomeName"),
        ("SOME_NAME", "some_name", "SomeName"),
        ("some-name 2.x", "some_name_2_x", "SomeName2X"),
        ("JSONData2", "json_data_2", "Jsondata2"),
        (" HTTPServer42Üx ", "http_server_42Üx", "Httpserver42x"),
        ("a1B2c3", "a_1_b_2_c_3", "A1B2C3"),
        ("aÖB", "aÖb", "AB"),
        ("", "", ""),
        ("ABc__d", "a_bc__d", "AbcD"),
        ("x.Y-Z", "x_y_z", "XYZ"),
        ("GET /users/17", "get_/users/17", "Getusers17"),
        ("AB", "ab", "Ab"),
        ("äöü", "äöü", ""),
    ];

    #[test]
    fn words_are_joined_as_in_otelcol() {
        for (text, in_snake, in_camel) in CASES {
            assert_eq!(snake(text), *in_snake, "{text}");
            assert_eq!(camel(text), *in_camel, "{text}");
        }
    }
}
