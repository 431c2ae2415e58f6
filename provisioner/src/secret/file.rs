//! Encrypted secrets in a file that can live in git.
//!
//! Goes in: a TOML file with names in clear and values as armored age texts. Comes out: the
//! values that are asked for, or the file's text with one of them changed. Invariant: comments
//! and layout of the file survive, and no value ever stands in it in clear.
//!
//! An encrypted text is the value alone, so that any age tool reads it. Binding it to its name
//! would only guard against somebody who can write the repository, and so the templates too.
//!
//! | key | |
//! |---|---|
//! | `recipients` | public keys that every value is encrypted to |
//! | `secrets.NAME.value` | the armored text |
//! | `secrets.NAME.changed` | when it was set, in RFC 3339 |
//! | `secrets.NAME.sealed_for` | tells the list of recipients that it is encrypted to |

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use toml_edit::{Array, DocumentMut, Item, Table};

use super::identity::{Recipients, without_comment};
use super::{Identities, SECRET_MINIMUM_BYTES, VALUE_LIMIT};
use crate::document::{
    Diagnostics, Entry, Location, Name, Section, Source, replace_file, with_document,
};
use crate::error::{Error, Result};

/// What a new file begins with.
const HEADER: &str = "\
# Secrets, encrypted with age (https://age-encryption.org): names are in clear, values are not.
# `provision secret set|get|edit|rotate|list` reads and writes this file. It may live in git.
# After a change of the recipients, `provision secret rotate` encrypts every value again.

";

/// Encrypted secrets of one file.
#[derive(Debug)]
pub struct SecretFile {
    /// Whom values are encrypted to.
    pub recipients: Vec<Entry<String>>,
    /// The values by name.
    pub values: BTreeMap<Name, SealedValue>,
}

/// An encrypted value.
#[derive(Clone, Debug)]
pub struct SealedValue {
    /// The armored text.
    pub armored: String,
    /// When it was set.
    pub changed: Option<String>,
    /// Which list of recipients it is encrypted to.
    pub sealed_for: Option<String>,
    /// Where it stands.
    pub location: Location,
}

impl SecretFile {
    /// Reads a file; mistakes go to `diagnostics`, and what is right is returned all the same.
    pub fn parse(source: &Arc<Source>, diagnostics: &Diagnostics) -> Self {
        with_document(source, diagnostics, |section| {
            Self::from_section(section, diagnostics)
        })
    }

    pub(crate) fn from_section(section: Section<'_>, diagnostics: &Diagnostics) -> Self {
        let recipients = section.strings("recipients");
        if recipients.is_empty() {
            let hint = "recipients = [\"age1…\"], a public key for each person and machine";
            section.error("`recipients` is missing", Some(hint.to_owned()));
        }
        let _ = Recipients::parse(&recipients, diagnostics);
        let mut values = BTreeMap::new();
        if let Some(table) = section.section("secrets") {
            for key in table.keys() {
                let Some(child) = table.section(&key.value) else {
                    continue;
                };
                match key.value.parse::<Name>() {
                    Ok(name) => values.extend(parse_value(child).map(|value| (name, value))),
                    Err(message) => table.error_at(&key.location, message, None),
                }
            }
        }
        section.finish();
        Self { recipients, values }
    }

    /// Whether a value is encrypted to the recipients that the file lists now.
    #[must_use]
    pub fn is_current(&self, value: &SealedValue) -> bool {
        Recipients::parse(&self.recipients, &Diagnostics::default())
            .is_some_and(|now| value.sealed_for.as_deref() == Some(now.digest.as_str()))
    }
}

fn parse_value(section: Section<'_>) -> Option<SealedValue> {
    let armored = section.require_string("value");
    let changed = section.string("changed").map(|entry| entry.value);
    let sealed_for = section.string("sealed_for").map(|entry| entry.value);
    let armored = armored?;
    if !armored
        .value
        .trim_start()
        .starts_with("-----BEGIN AGE ENCRYPTED FILE-----")
    {
        // It may be a value that somebody wrote in clear, so its line is not shown.
        let mut location = armored.location;
        location.line_text.clear();
        let hint =
            "`provision secret set` writes it; if it is a secret in clear, it was seen: change it";
        let message = "`value` is no armored age text";
        section.error_at(&location, message, Some(hint.to_owned()));
        return None;
    }
    section.finish();
    Some(SealedValue {
        armored: armored.value,
        changed,
        sealed_for,
        location: armored.location,
    })
}

/// The text of a file with secrets, while it is being changed.
#[derive(Debug)]
pub struct SecretEditor {
    document: DocumentMut,
    recipients: Recipients,
}

impl SecretEditor {
    /// For a file that has no mistakes.
    ///
    /// # Errors
    /// It has mistakes.
    pub fn open(source: &Arc<Source>) -> Result<Self> {
        let diagnostics = Diagnostics::default();
        let file = SecretFile::parse(source, &diagnostics);
        let recipients = Recipients::parse(&file.recipients, &diagnostics);
        diagnostics.into_result()?;
        let document = source.text().parse::<DocumentMut>();
        match (document, recipients) {
            (Ok(document), Some(recipients)) => Ok(Self {
                document,
                recipients,
            }),
            _ => Err(Error::configuration(format!(
                "{} cannot be changed",
                source.name()
            ))),
        }
    }

    /// The text of a new file for these recipients.
    #[must_use]
    pub fn new_text(recipients: &[String]) -> String {
        let mut document = DocumentMut::new();
        document["recipients"] = toml_edit::value(lines(recipients.iter().map(String::as_str)));
        format!("{HEADER}{document}")
    }

    /// Sets a value, encrypted to all recipients.
    ///
    /// # Errors
    /// It is too short to be taken out of what is printed, or too long.
    pub fn set(&mut self, name: &Name, value: &str) -> Result<()> {
        check_value(name, value)?;
        self.seal(name, value)?;
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        self.entry(name)["changed"] = toml_edit::value(now);
        Ok(())
    }

    /// Encrypts a value again to the recipients as they are now; it stays the same value.
    ///
    /// # Errors
    /// A recipient cannot be encrypted to.
    pub fn seal(&mut self, name: &Name, value: &str) -> Result<()> {
        let armored = self.recipients.encrypt(value)?;
        let digest = self.recipients.digest.clone();
        let entry = self.entry(name);
        entry["value"] = toml_edit::value(armored);
        entry["sealed_for"] = toml_edit::value(digest);
        Ok(())
    }

    /// Takes a value out.
    pub fn remove(&mut self, name: &Name) {
        if let Some(table) = self.document["secrets"].as_table_like_mut() {
            table.remove(name.as_str());
        }
    }

    /// Adds and takes away recipients.
    ///
    /// # Errors
    /// One to take away is not there, none would be left, or one is no public key.
    pub fn change_recipients(&mut self, add: &[String], remove: &[String]) -> Result<()> {
        let known: Vec<String> = self.document["recipients"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| one.as_str().map(ToOwned::to_owned))
            .collect();
        for gone in remove {
            if !known.iter().any(|line| is_meant(line, gone)) {
                let error = Error::usage(format!("`{gone}` is not among the recipients"));
                return Err(error.hint("a public key, or the comment behind it"));
            }
        }
        let kept = |line: &&String| !remove.iter().any(|gone| is_meant(line, gone));
        let mut all: Vec<&str> = known.iter().filter(kept).map(String::as_str).collect();
        for new in add {
            Recipients::check(new)?;
            let known = |line: &&str| without_comment(line) == without_comment(new);
            if !all.iter().any(known) {
                all.push(new.trim());
            }
        }
        if all.is_empty() {
            return Err(Error::usage("nobody would be left to read the secrets")
                .hint("name a new recipient with --add"));
        }
        self.document["recipients"] = toml_edit::value(lines(all.into_iter()));
        let source = Arc::new(Source::new(
            "recipients".to_owned(),
            self.document.to_string(),
        ));
        let diagnostics = Diagnostics::default();
        let file = SecretFile::parse(&source, &diagnostics);
        let recipients = Recipients::parse(&file.recipients, &diagnostics);
        diagnostics.into_result()?;
        if let Some(recipients) = recipients {
            self.recipients = recipients;
        }
        Ok(())
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written; what was there still is.
    pub fn save(&self, path: &Path) -> Result<()> {
        replace_file(path, &self.document.to_string()).map_err(|error| {
            Error::controller(format!("{} cannot be written", path.display())).caused_by(error)
        })
    }

    fn entry(&mut self, name: &Name) -> &mut Item {
        let secrets = self.document.entry("secrets").or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        });
        let entry = &mut secrets[name.as_str()];
        if entry.is_none() {
            *entry = Item::Table(Table::new());
        }
        entry
    }
}

/// Refuses what could not be kept or not be redacted.
pub(crate) fn check_value(name: &Name, value: &str) -> Result<()> {
    if value.len() < SECRET_MINIMUM_BYTES {
        let message = format!("secret `{name}` is shorter than {SECRET_MINIMUM_BYTES} bytes");
        return Err(Error::usage(message)
            .hint("a shorter one cannot be taken out of what is printed; take a longer one"));
    }
    if value.len() as u64 > VALUE_LIMIT {
        let message = format!("secret `{name}` has more than {VALUE_LIMIT} bytes");
        return Err(Error::usage(message));
    }
    Ok(())
}

fn is_meant(line: &str, wanted: &str) -> bool {
    let key = without_comment(line);
    let comment = line.trim().strip_prefix(key.as_str()).map(str::trim);
    key == without_comment(wanted) || (!wanted.is_empty() && comment == Some(wanted.trim()))
}

/// A list with a line for each.
fn lines<'a>(texts: impl Iterator<Item = &'a str>) -> Array {
    let mut array = Array::new();
    for text in texts {
        array.push(text);
        if let Some(last) = array.len().checked_sub(1)
            && let Some(value) = array.get_mut(last)
        {
            value.decor_mut().set_prefix("\n  ");
        }
    }
    array.set_trailing_comma(true);
    array.set_trailing("\n");
    array
}

impl super::Secret {
    /// The value of an encrypted one.
    pub(super) fn open(sealed: &SealedValue, name: &Name, identities: &Identities) -> Result<Self> {
        let plain = identities.decrypt(&sealed.armored).map_err(|mut error| {
            let what =
                std::mem::replace(&mut error.message, format!("secret `{name}` cannot be had"));
            error.causes.insert(0, what);
            error.caused_by(format!("it is at {}", sealed.location))
        })?;
        check_value(name, &plain)?;
        Ok(Self(plain))
    }
}
