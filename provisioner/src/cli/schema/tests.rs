//! Schemas against the readers that they are made from.
//!
//! Goes in: the files of the repository, and documents with every key. Comes out: a verdict from
//! the reader and one from the schema. Invariant: they are the same.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::document::{Diagnostic, asked_of_document, to_json};

fn schema(kind: SchemaKind) -> jsonschema::Validator {
    let value: Value = serde_json::from_str(&kind.text()).unwrap();
    jsonschema::meta::validate(&value).unwrap();
    jsonschema::draft202012::new(&value).unwrap()
}

fn as_json(text: &str) -> Value {
    to_json(&toml::de::DeValue::Table(
        toml::de::DeTable::parse(text).unwrap().into_inner(),
    ))
}

/// What the reader asks for in this text, and what it finds wrong.
fn read(kind: SchemaKind, text: &str) -> (Shape, Vec<Diagnostic>) {
    asked_of_document(text, |section, diagnostics| {
        let name = "any".parse().unwrap();
        match kind {
            SchemaKind::Inventory => drop(Inventory::from_section(name, section, diagnostics)),
            SchemaKind::Environment => drop(Environment::from_section(name, section)),
            SchemaKind::Playbook => drop(crate::playbook::parse(section)),
            SchemaKind::Tiers => drop(read_tiers(&section)),
            SchemaKind::Secrets => drop(SecretFile::from_section(section, diagnostics)),
        }
    })
}

/// Every file of the repository with its kind.
fn examples() -> Vec<(SchemaKind, String, String)> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for (folder, kind) in [
        ("inventories", SchemaKind::Inventory),
        ("environments", SchemaKind::Environment),
        ("playbooks", SchemaKind::Playbook),
    ] {
        for entry in std::fs::read_dir(repository.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let kind = if name == "tiers.toml" {
                SchemaKind::Tiers
            } else {
                kind
            };
            found.push((kind, name, std::fs::read_to_string(path).unwrap()));
        }
    }
    assert!(found.len() > 8);
    found
}

#[test]
fn every_file_of_the_repository_is_valid() {
    for (kind, name, text) in examples() {
        let errors: Vec<String> = schema(kind)
            .iter_errors(&as_json(&text))
            .map(|error| format!("{name}: {}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

#[test]
fn nothing_is_asked_for_that_the_schema_does_not_know() {
    for (kind, name, text) in examples() {
        let (asked, _) = read(kind, &text);
        let known = kind.shape().paths();
        let missing: Vec<String> = asked.paths().difference(&known).cloned().collect();
        assert!(missing.is_empty(), "{name}: {missing:?}");
    }
}

/// A document with a value at each key, as the schema has it; one for every way there is.
fn documents(schema: &Value) -> Vec<Value> {
    if let Some(ways) = schema["anyOf"].as_array() {
        return ways.iter().flat_map(documents).collect();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.clone();
    }
    match &schema["type"] {
        Value::String(kind) if kind == "object" => objects(schema),
        Value::String(kind) if kind == "array" => documents(&schema["items"])
            .into_iter()
            .map(|one| json!([one]))
            .collect(),
        Value::String(kind) if kind == "integer" => vec![json!(1)],
        Value::String(kind) if kind == "boolean" => vec![json!(true)],
        _ => vec![json!("a")],
    }
}

/// For each key, an object that has it, alone or with those that are required.
fn objects(schema: &Value) -> Vec<Value> {
    let empty = serde_json::Map::new();
    let properties = schema["properties"].as_object().unwrap_or(&empty);
    let mut all: Vec<Value> = Vec::new();
    for (key, below) in properties {
        all.extend(documents(below).into_iter().map(|one| json!({ key: one })));
    }
    if schema["additionalProperties"].is_object() {
        let below = documents(&schema["additionalProperties"]);
        all.extend(below.into_iter().map(|one| json!({ "other": one })));
    }
    if all.is_empty() {
        all.push(json!({}));
    }
    all
}

#[test]
fn no_reader_refuses_a_key_that_its_schema_has() {
    for kind in SchemaKind::ALL {
        let value: Value = serde_json::from_str(&kind.text()).unwrap();
        let mut count = 0;
        for mut document in documents(&value) {
            // The table of a cloud or a lab is known where that is the provider.
            for provider in ["aws", "gcp", "azure", "lab"] {
                if kind == SchemaKind::Inventory && document.get(provider).is_some() {
                    document["provider"] = provider.into();
                }
            }
            let text = toml::to_string(&document).unwrap();
            let (_, mistakes) = read(kind, &text);
            let unknown = mistakes
                .iter()
                .find(|one| one.message.starts_with("unknown k"));
            assert!(unknown.is_none(), "{}:\n{text}\n{unknown:?}", kind.name());
            count += 1;
        }
        assert!(count > 3, "{}: {count}", kind.name());
    }
}

#[test]
fn what_a_reader_does_not_know_is_no_valid_file() {
    let wrong = [
        (
            SchemaKind::Inventory,
            "provider = \"on-prem\"\nregoin = 1\ngroups.a.hosts.b = {}",
        ),
        (
            SchemaKind::Inventory,
            "provider = \"onprem\"\ngroups.a.hosts.b = {}",
        ),
        (
            SchemaKind::Inventory,
            "provider = \"on-prem\"\ngroups.a.hosts.b = { adress = \"x\" }",
        ),
        (
            SchemaKind::Inventory,
            "provider = \"on-prem\"\nssh.port = 70000\ngroups.a.hosts.b = {}",
        ),
        (SchemaKind::Inventory, "provider = \"on-prem\""),
        (SchemaKind::Environment, "tier = \"small\""),
        (SchemaKind::Environment, "inventories = [\"a\"]\ntier = 5"),
        (
            SchemaKind::Environment,
            "inventories = [\"a\"]\ntier = \"a\"\nsecrets.x = { evn = \"X\" }",
        ),
        (SchemaKind::Playbook, "[[play]]\nserial = 1"),
        (
            SchemaKind::Playbook,
            "[[play]]\nhosts = \"a\"\nresource = [{ flie = { path = \"/a\" } }]",
        ),
        (
            SchemaKind::Playbook,
            "[[play]]\nhosts = \"a\"\nresource = [{ file = { paht = \"/a\" } }]",
        ),
        (
            SchemaKind::Tiers,
            "[small]\nevents_per_second = 1\nrole.x = {}",
        ),
        (SchemaKind::Secrets, "[secrets.a]\nvalu = \"x\""),
    ];
    for (kind, text) in wrong {
        let (_, mistakes) = read(kind, text);
        assert!(!mistakes.is_empty(), "the reader accepts {text}");
        assert!(
            !schema(kind).is_valid(&as_json(text)),
            "the schema accepts {text}"
        );
    }
}

#[test]
fn every_word_is_about_a_key_that_there_is() {
    for (kind, path, words) in words::WORDS {
        assert!(
            kind.shape().paths().contains(*path),
            "{}: {path}",
            kind.name()
        );
        assert!(words.ends_with('.'), "{words}");
    }
    let text = SchemaKind::Playbook.text();
    for kind in crate::resource::KINDS {
        assert!(text.contains(kind.summary), "{}", kind.name);
    }
}

#[test]
fn a_schema_is_what_it_was() {
    insta::assert_snapshot!(SchemaKind::Environment.text());
}
