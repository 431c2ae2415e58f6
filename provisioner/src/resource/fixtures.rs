//! A resource and facts, for tests of whatever handles them.
//!
//! Goes in: a resource as it stands in a playbook. Comes out: the same for a host. Invariant: no
//! file of the repository is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use provision_protocol::fact::fact_kind::Kind as FactKind;
use provision_protocol::fact::{Fact, FileFact, FileType};
use serde_json::Map;

use super::*;
use crate::document::{Source, with_document};
use crate::fleet::{Environment, Tier, parse_tiers};
use crate::inventory::Inventory;
use crate::template::SharedVariables;

const INVENTORY: &str = r#"
provider = "on-prem"
[groups.all]
hosts.a = { address = "10.0.0.1", volumes.data = { serial = "disk1" } }
[groups.all.volumes.data]
size = "1GiB"
filesystem = "ext4"
mount = "/mnt/data"
"#;

fn source(text: &str) -> Arc<Source> {
    Arc::new(Source::new("test.toml".to_owned(), text.to_owned()))
}

/// A fleet of one host with a volume.
pub(crate) fn fleet(diagnostics: &Diagnostics) -> Fleet {
    fleet_of(INVENTORY, diagnostics)
}

/// A fleet of one inventory.
pub(crate) fn fleet_of(inventory: &str, diagnostics: &Diagnostics) -> Fleet {
    let tiers = "[small]\nevents_per_second = 1\n[small.roles]\na = { instances = 1, cpus = 1, memory = \"1GiB\" }\n";
    let tiers: BTreeMap<_, Tier> = parse_tiers(&source(tiers), diagnostics);
    let text = "inventories = [\"a\"]\ntier = \"small\"\n";
    let environment = Environment::parse(&"test".parse().unwrap(), &source(text), diagnostics);
    let inventory = Inventory::parse("a".parse().unwrap(), &source(inventory), diagnostics);
    let tier = tiers.into_values().next().unwrap();
    Fleet::build(
        environment,
        tier,
        vec![inventory.unwrap()],
        &[],
        diagnostics,
    )
}

/// A resource for the only host; `text` is `KIND = { … }`.
pub(crate) fn resource(text: &str, secrets: &Redactor) -> Result<Box<dyn Resource>, String> {
    let diagnostics = Diagnostics::default();
    let fleet = fleet(&diagnostics);
    let templates = Templates::load(std::path::Path::new("/nonexistent"), &diagnostics).unwrap();
    let source = source(text);
    let resource = with_document(&source, &diagnostics, |section| {
        let key = section.keys().remove(0);
        let kind = KINDS.iter().find(|kind| kind.name == key.value).unwrap();
        let body = section.section(&key.value)?;
        let spec = (kind.parse)(&body);
        body.finish();
        let spec = spec?;
        let debts = spec.debts().into_iter().fold(
            BTreeMap::<String, Vec<Debt>>::new(),
            |mut map, (path, _, debt)| {
                map.entry(path).or_default().push(debt);
                map
            },
        );
        spec.resolve(
            &key.location,
            &HostContext {
                fleet: &fleet,
                host: &fleet.hosts[0],
                variables: &SharedVariables::new(Map::new()).for_host(Map::new()),
                templates: &templates,
                artifacts: &Artifacts::default(),
                redactor: secrets,
                debts: &debts,
                diagnostics: &diagnostics,
            },
        )
    });
    let mistakes = diagnostics.into_list();
    match resource {
        Some(resource) if mistakes.is_empty() => Ok(resource),
        _ => Err(mistakes.iter().map(|one| format!("{one}\n")).collect()),
    }
}

/// An answer.
pub(crate) fn fact(kind: FactKind) -> Fact {
    Fact {
        error: None,
        kind: Some(kind),
    }
}

/// A regular file of root's.
pub(crate) fn regular(text: &str, mode: u32) -> Fact {
    fact(FactKind::File(FileFact {
        file_type: FileType::Regular as i32,
        mode,
        owner: "root".into(),
        group: "root".into(),
        sha256: Content::from_bytes(text.as_bytes().to_vec()).sha256,
        text: Some(text.to_owned()),
        ..FileFact::default()
    }))
}
