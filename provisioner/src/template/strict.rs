//! Makes Tera refuse what is not defined wherever it stands.
//!
//! Goes in: the text of a Tera template. Comes out: the same template in which each path that a
//! condition, a comparison or a concatenation would take for false or empty goes through the
//! filter [`DEFINED`]. Invariant: what is written to allow for absence (`is defined`, `default`,
//! `?.`) is left alone, and a place in the result leads back to its place in the template.

use std::ops::Range;

use tera::Tera;

use super::Diagnosis;

/// The filter that refuses what is not defined, and the message it refuses with.
const DEFINED: &str = "_defined";

/// A template as Tera gets it.
#[derive(Debug)]
pub(super) struct Strict {
    pub(super) text: String,
    /// The paths that were given the filter, as places in the template.
    paths: Vec<Range<usize>>,
}

/// Adds the filter that [`Strict`] templates use.
pub(super) fn register(tera: &mut Tera) {
    tera.register_filter(
        DEFINED,
        |value: tera::Value, _: tera::Kwargs, _: &tera::State| {
            if value.is_undefined() {
                return Err(tera::Error::message(DEFINED));
            }
            Ok(value)
        },
    );
}

impl Strict {
    pub(super) fn of(template: &str) -> Self {
        let mut paths = Vec::new();
        for tag in tags(template) {
            tag_paths(template, tag, &mut paths);
        }
        paths.sort_by_key(|path| path.end);
        let mut text = String::with_capacity(template.len() + paths.len() * INSERTED);
        let mut copied = 0;
        for path in &paths {
            text.push_str(&template[copied..path.end]);
            text.push_str(" | ");
            text.push_str(DEFINED);
            copied = path.end;
        }
        text.push_str(&template[copied..]);
        Self { text, paths }
    }

    /// The place in the template of a place in the text.
    fn original(&self, place: usize) -> usize {
        let mut shift = 0;
        for path in &self.paths {
            let inserted = path.end + shift;
            if place <= inserted {
                break;
            }
            shift += INSERTED.min(place - inserted);
        }
        place - shift
    }

    /// Where a mistake is in the template, and what it is.
    pub(super) fn diagnosis<'t>(
        &self,
        template: &'t str,
        span: &Range<usize>,
        message: &'t str,
    ) -> Diagnosis<'t> {
        let place = self.original(span.start)..self.original(span.end);
        if message != DEFINED {
            return Diagnosis::Other(place, message);
        }
        // The span ends with the filter, which stands behind the path that is meant.
        let path = self.paths.iter().rfind(|path| path.end <= place.end);
        let path = path.cloned().unwrap_or(place);
        Diagnosis::Undefined(path.clone(), &template[path])
    }
}

/// How many bytes are added behind a path.
const INSERTED: usize = " | ".len() + DEFINED.len();

/// What stands between the delimiters of each `{{ }}` and `{% %}`, outside raw blocks.
fn tags(template: &str) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(start) = template[at..].find('{').map(|offset| at + offset) {
        let inside = start + 2;
        at = match template.as_bytes().get(start + 1) {
            Some(b'{') => {
                let end = end_of_tag(template, inside, "}}");
                found.push(inside..end);
                end
            }
            Some(b'%') => {
                let end = end_of_tag(template, inside, "%}");
                if name_of_tag(&template[inside..end]) == "raw" {
                    end_of_raw(template, end)
                } else {
                    found.push(inside..end);
                    end
                }
            }
            Some(b'#') => {
                let end = template[inside..].find("#}");
                end.map_or(template.len(), |end| inside + end + 2)
            }
            _ => start + 1,
        };
    }
    found
}

/// The words of a tag without what trims white space.
fn name_of_tag(tag: &str) -> &str {
    let tag = tag.strip_prefix('-').unwrap_or(tag).trim();
    tag.strip_suffix('-').unwrap_or(tag).trim_end()
}

/// Where the block ends whose `{% raw %}` ends here; nothing else is a tag in it.
fn end_of_raw(template: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(start) = template[at..].find("{%").map(|offset| at + offset + 2) {
        let end = template[start..].find("%}").map(|offset| start + offset);
        if end.is_some_and(|end| name_of_tag(&template[start..end]) == "endraw") {
            return start;
        }
        at = start;
    }
    template.len()
}

/// Where a tag ends that begins here; quoted text may hold its delimiter.
fn end_of_tag(template: &str, start: usize, close: &str) -> usize {
    let mut at = start;
    while at < template.len() {
        if template[at..].starts_with(close) {
            return at;
        }
        at = token(template, at).end;
    }
    template.len()
}

/// A word, a quoted text, a number or one character of anything else.
fn token(template: &str, start: usize) -> Range<usize> {
    let rest = &template[start..];
    let first = rest.chars().next().unwrap_or(' ');
    let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let length = match first {
        '"' | '\'' | '`' => quoted(rest, first),
        c if c.is_ascii_digit() => {
            let end = rest.find(|c: char| !c.is_ascii_digit());
            end.unwrap_or(rest.len())
        }
        c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
        c => c.len_utf8(),
    };
    start..start + length
}

/// The length of a quoted text with its quotes.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

/// Words of the language, which are no variables.
const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "not",
    "in",
    "is",
    "if",
    "else",
    "elif",
    "set",
    "set_global",
    "for",
    "true",
    "false",
    "True",
    "False",
    "none",
    "None",
    "null",
    "filter",
];

/// The blocks whose expressions take what is not defined for false or empty.
const BLOCKS: &[&str] = &["if", "elif", "set", "set_global", "for", "filter"];

/// Finds the paths in a tag that must be defined.
fn tag_paths(template: &str, tag: Range<usize>, paths: &mut Vec<Range<usize>>) {
    let mut tokens = Vec::new();
    let mut at = tag.start;
    while at < tag.end {
        let token = token(template, at);
        at = token.end;
        if !template[token.clone()].trim().is_empty() {
            tokens.push(token);
        }
    }
    let word = |index: usize| {
        tokens
            .get(index)
            .map_or("", |token| &template[token.clone()])
    };
    let first = usize::from(word(0) == "-");
    let is_block = template[..tag.start].ends_with('%');
    if is_block && !BLOCKS.contains(&word(first)) || has_component(&word, &tokens) {
        return;
    }
    let found = expression_paths(&word, &tokens);
    // What is written out as it is is refused by Tera itself, and in its own words.
    let last = tokens.len() - usize::from(word(tokens.len().saturating_sub(1)) == "-");
    let is_alone = |path: &(usize, usize)| path.0 == first && path.1 == last;
    let found = found.into_iter().filter(|path| is_block || !is_alone(path));
    paths.extend(found.map(|(from, to)| tokens[from].start..tokens[to - 1].end));
}

/// Whether a component is called, whose attributes are no expression: a `<` where a value must
/// stand. Such a tag is left alone.
fn has_component<'t>(word: &impl Fn(usize) -> &'t str, tokens: &[Range<usize>]) -> bool {
    (0..tokens.len()).any(|at| {
        let before = at.checked_sub(1).map_or("", word);
        let is_operand = before.ends_with(|c: char| {
            c == '_' || c.is_ascii_alphanumeric() || matches!(c, ')' | ']' | '}' | '"' | '\'' | '`')
        });
        word(at) == "<" && (!is_operand || KEYWORDS.contains(&before))
    })
}

/// Paths that are not allowed to be absent, as the tokens from one up to another.
fn expression_paths<'t>(
    word: &impl Fn(usize) -> &'t str,
    tokens: &[Range<usize>],
) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut binds = false;
    for from in 0..tokens.len() {
        let before = from.checked_sub(1).map_or("", word);
        let is_name = word(from).starts_with(|c: char| c == '_' || c.is_ascii_alphabetic());
        let is_other =
            matches!(before, "." | "|" | "is" | "filter") || before == "not" && is_test(word, from);
        if !is_name || is_other {
            continue;
        }
        let (to, is_optional) = end_of_path(word, tokens, from);
        let is_assigned = word(to) == "=" && word(to + 1) != "=";
        if is_assigned || matches!(word(to), "(" | ":") && word(from) != "in" {
            continue;
        }
        match word(from) {
            "for" => binds = true,
            "in" => binds = false,
            name if binds || KEYWORDS.contains(&name) => {}
            _ if is_optional || allows_absence(word, from, to) => {}
            // What stands in brackets is a path of its own, and is met next.
            _ => found.push((from, to)),
        }
    }
    found
}

/// Whether `is defined` or `default` stands behind a path, or behind the parentheses around it.
fn allows_absence<'t>(word: &impl Fn(usize) -> &'t str, from: usize, to: usize) -> bool {
    let (mut from, mut to) = (from, to);
    let opens = |at: usize| {
        let caller = at.checked_sub(2).map_or("", word);
        let is_call = caller.ends_with(|c: char| c == '_' || c.is_ascii_alphanumeric());
        at > 0 && word(at - 1) == "(" && (!is_call || KEYWORDS.contains(&caller))
    };
    while opens(from) && word(to) == ")" {
        (from, to) = (from - 1, to + 1);
    }
    let is_defined = |at| matches!(word(at), "defined" | "undefined");
    match (word(to), word(to + 1)) {
        ("|", "default") => true,
        ("is", "not") => is_defined(to + 2),
        ("is", _) => is_defined(to + 1),
        _ => false,
    }
}

/// Whether the word behind a `not` is the name of a test.
fn is_test<'t>(word: &impl Fn(usize) -> &'t str, at: usize) -> bool {
    at.checked_sub(2).is_some_and(|before| word(before) == "is")
}

/// Where a path ends that begins with a name, and whether it allows for absence.
fn end_of_path<'t>(
    word: &impl Fn(usize) -> &'t str,
    tokens: &[Range<usize>],
    from: usize,
) -> (usize, bool) {
    let (mut at, mut is_optional) = (from + 1, false);
    loop {
        match word(at) {
            "." => at += 2,
            "?" => {
                is_optional = true;
                at += 1;
            }
            "[" => {
                let mut depth = 0;
                while at < tokens.len() {
                    match word(at) {
                        "[" => depth += 1,
                        "]" => depth -= 1,
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => return (at.min(tokens.len()), is_optional),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tera::ErrorKind;

    use super::*;

    /// What becomes of a template: its text, or the path that is refused.
    fn rendered(template: &str) -> Result<String, String> {
        let mut tera = Tera::default();
        register(&mut tera);
        let strict = Strict::of(template);
        tera.add_raw_template("t", &strict.text).unwrap();
        let variables = json!({ "tls": { "mode": "off" }, "list": [1, 2], "key": "mode" });
        let context = tera::Context::from_serialize(&variables).unwrap();
        tera.render("t", &context).map_err(|error| {
            let ErrorKind::RenderingError(report) = error.kind() else {
                panic!("{error}");
            };
            match strict.diagnosis(template, &report.span().range, report.message()) {
                Diagnosis::Undefined(place, path) => {
                    assert_eq!(&template[place], path);
                    path.to_owned()
                }
                Diagnosis::Other(place, words) => format!("{} at {}", words, &template[place]),
            }
        })
    }

    #[test]
    fn what_is_not_defined_is_refused_wherever_it_stands() {
        let refused = [
            ("{% if tls.mdoe == 'mutual' %}x{% endif %}", "tls.mdoe"),
            (
                "{% if tls.mode == 'on' or tls.kye %}x{% endif %}",
                "tls.kye",
            ),
            ("{% if not typo %}x{% endif %}", "typo"),
            (
                "{% if tls.mode == 'on' %}a{% elif typo != 1 %}b{% endif %}",
                "typo",
            ),
            ("{% set a = typo %}", "typo"),
            ("{%- set a = 'x' ~ tls.mdoe ~ 'y' -%}", "tls.mdoe"),
            ("{{ tls.mdoe ~ ':4317' }}", "tls.mdoe"),
            ("{{ ':' ~ tls['mdoe'] }}", "tls['mdoe']"),
            ("{{ 'a' if tls.mdoe else 'b' }}", "tls.mdoe"),
            ("{{ 1 in list and typo }}", "typo"),
            ("{{ [x for x in list if typo] | length }}", "typo"),
            ("{% raw %}${#a[@]} ${{% endraw %}{{ typo ~ 1 }}", "typo"),
            ("{#}{{ a ~ 1 }} #}{{ typo ~ 1 }}", "typo"),
            (
                "{% for x in (list if typo else list) %}x{% endfor %}",
                "typo",
            ),
            ("{% for x in typo %}x{% endfor %}", "typo"),
            (
                "{% filter replace(from='a', to=typo ~ 1) %}a{% endfilter %}",
                "typo",
            ),
            (
                "{% if tls.for is not defined and typo %}x{% endif %}",
                "typo",
            ),
            ("{{ [1for x in list if typo] | length }}", "typo"),
            ("ä {# {{ typo ~ 1 }} #}\n{{ 'ö' ~ '}}' ~ typo }}", "typo"),
        ];
        for (template, path) in refused {
            assert_eq!(rendered(template), Err(path.to_owned()), "{template}");
        }
    }

    #[test]
    fn what_may_be_absent_and_what_is_there_is_left_alone() {
        let accepted = [
            ("{% if tls.mode == 'off' %}x{% endif %}", "x"),
            ("{% if typo is defined %}x{% else %}y{% endif %}", "y"),
            (
                "{% if typo is not defined or typo.a == 1 %}x{% endif %}",
                "x",
            ),
            (
                "{% if tls.kye is defined and tls.kye == 1 %}x{% else %}y{% endif %}",
                "y",
            ),
            ("{{ typo | default(value='z') ~ '!' }}", "z!"),
            ("{% if tls?.kye?.a %}x{% else %}y{% endif %}", "y"),
            (
                "{% set a = 1 %}{% if a == 1 %}{{ a ~ 'b' }}{% endif %}",
                "1b",
            ),
            (
                "{% for x in list %}{% if loop.last %}{{ x }}{% endif %}{% endfor %}",
                "2",
            ),
            ("{{ [x + 1 for x in list if x > 1] | first }}", "3"),
            ("{{ tls[key] ~ list[0] }}", "off1"),
            (
                "{% if list is containing(pat=2) and tls.mode is string %}x{% endif %}",
                "x",
            ),
            ("{{ range(end=2) | join(sep=tls.mode) }}", "0off1"),
            (
                "{% raw %}{{ typo ~ 1 }}{% if typo %}{% endraw %}",
                "{{ typo ~ 1 }}{% if typo %}",
            ),
            ("{% if (typo) is defined %}x{% else %}y{% endif %}", "y"),
            ("{{ ((tls.kye)) | default(value='x') ~ 1 }}", "x1"),
            ("{% if list[0] <list[1] %}x{% endif %}", "x"),
            ("{% filter upper %}a{% endfilter %}", "A"),
            ("{% for i, x in {'a': 1} %}{{ i ~ x }}{% endfor %}", "a1"),
            ("{ {{ tls.mode }} } {{ 'a' }}", "{ off } a"),
        ];
        for (template, text) in accepted {
            assert_eq!(rendered(template), Ok(text.to_owned()), "{template}");
        }
    }

    #[test]
    fn other_mistakes_keep_their_words_and_place() {
        let words =
            rendered("{% if tls.mode == 'off' and list %}{{ tls.mode._defined.b }}{% endif %}");
        let words = words.unwrap_err();
        assert!(
            words.starts_with("Field `_defined` is not defined"),
            "{words}"
        );
        assert!(words.ends_with(" at _defined"), "{words}");
    }
}
