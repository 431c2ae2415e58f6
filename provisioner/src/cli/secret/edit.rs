//! `provision secret edit`: one secret, or all of a file, in an editor.
//!
//! Goes in: the plain text of the secrets, for as long as the editor runs. Comes out: what was
//! changed, encrypted. Invariant: no message quotes a line of what was edited.

use std::collections::BTreeMap;
use std::process::ExitCode;

use toml_edit::DocumentMut;

use super::{EditArgs, Store, say, without_line_end};
use crate::document::{Name, Source};
use crate::error::{Error, Result};
use crate::secret::ScratchFile;

pub(super) fn run(args: &EditArgs) -> Result<ExitCode> {
    let store = Store::open(&args.common)?;
    let (file, mut editor) = store.existing()?;
    let mut before = BTreeMap::new();
    for name in file
        .values
        .keys()
        .filter(|name| args.name.as_ref().is_none_or(|one| one == *name))
    {
        before.insert(name.clone(), store.decrypt(&file, name)?);
    }
    let after = match &args.name {
        Some(name) => {
            let Some(value) = before.get(name) else {
                return Err(store.unknown(name, file.values.keys()));
            };
            let scratch = ScratchFile::new(name.as_str(), &format!("{value}\n"))?;
            let text = scratch.edit()?;
            BTreeMap::from([(name.clone(), without_line_end(&text).to_owned())])
        }
        None => {
            let title = format!("{}.toml", store.environment.name);
            let scratch = ScratchFile::new(&title, &render(&before))?;
            parse(&scratch.edit()?, &title)?
        }
    };
    let mut changes = Vec::new();
    for (name, value) in &after {
        match before.get(name) {
            Some(old) if old == value => continue,
            Some(_) => changes.push(format!("{name} changed")),
            None => changes.push(format!("{name} added")),
        }
        editor.set(name, value)?;
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        editor.remove(name);
        changes.push(format!("{name} removed"));
    }
    if changes.is_empty() {
        say("nothing was changed");
        return Ok(ExitCode::SUCCESS);
    }
    store.save(&editor)?;
    say(&format!("{}: {}", store.path, changes.join(", ")));
    Ok(ExitCode::SUCCESS)
}

fn render(values: &BTreeMap<Name, String>) -> String {
    let mut document = DocumentMut::new();
    for (name, value) in values {
        document[name.as_str()] = toml_edit::value(value.as_str());
    }
    format!(
        "# NAME = \"value\" for each secret. A line that is taken out removes its secret.\n{document}"
    )
}

fn parse(text: &str, title: &str) -> Result<BTreeMap<Name, String>> {
    let source = Source::new(title.to_owned(), text.to_owned());
    let wrong = |at: usize, what: &str| {
        // The line is one with a secret, so its place alone is shown.
        Error::usage(format!("{}: {what}", source.locate(at..at)))
            .caused_by("nothing was changed")
            .hint("edit again")
    };
    let document = toml_edit::Document::parse(text)
        .map_err(|error| wrong(error.span().map_or(0, |span| span.start), "this is no TOML"))?;
    let mut values = BTreeMap::new();
    for (key, item) in document.iter() {
        let at = item.span().map_or(0, |span| span.start);
        let name: Name = key.parse().map_err(|what: String| wrong(at, &what))?;
        let value = item
            .as_str()
            .ok_or_else(|| wrong(at, "a secret is a string"))?;
        values.insert(name, value.to_owned());
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_edited_reads_back_as_it_was() {
        let values = BTreeMap::from([
            ("a.b".parse().unwrap(), "with \"quotes\" and \\".to_owned()),
            ("key".parse().unwrap(), "two\nlines\n".to_owned()),
        ]);
        assert_eq!(parse(&render(&values), "x").unwrap(), values);
    }

    #[test]
    fn a_mistake_is_named_without_its_line() {
        for text in [
            "ok = \"x\"\ntoken = hunter2-hunter2\n",
            "token = 5\n",
            "\"a b\" = \"hunter2\"\n",
        ] {
            let error = parse(text, "production.toml").unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            assert!(error.contains("production.toml:"), "{error}");
        }
    }
}
