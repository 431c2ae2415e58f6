//! `provision schema`: a JSON Schema for each kind of file.
//!
//! Goes in: the readers of those files. Comes out: what they accept, as a schema of draft 2020-12.
//! Invariant: keys are found by asking the readers; only the words about them stand here.

mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::document::Shape;
use crate::error::{Error, Result};
use crate::fleet::{Environment, read_tiers};
use crate::inventory::Inventory;
use crate::report::print;
use crate::secret::{Redactor, SecretFile};

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub(super) struct SchemaArgs {
    /// Which file; the names of all kinds without
    kind: Option<SchemaKind>,
    /// Write every schema into this folder, as KIND.json
    #[arg(long, value_name = "DIR", conflicts_with = "kind")]
    out: Option<PathBuf>,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaKind {
    /// inventories/NAME.toml
    Inventory,
    /// environments/NAME.toml
    Environment,
    /// playbooks/NAME.toml
    Playbook,
    /// environments/tiers.toml
    Tiers,
    /// environments/NAME.secrets.toml
    Secrets,
}

impl SchemaKind {
    pub(super) const ALL: [Self; 5] = [
        Self::Inventory,
        Self::Environment,
        Self::Playbook,
        Self::Tiers,
        Self::Secrets,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Environment => "environment",
            Self::Playbook => "playbook",
            Self::Tiers => "tiers",
            Self::Secrets => "secrets",
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Inventory => "An inventory of provision: where the machines are",
            Self::Environment => {
                "An environment of provision: inventories, tier, settings, secrets"
            }
            Self::Playbook => "A playbook of provision: what each group of hosts shall be",
            Self::Tiers => "The tiers of provision: how large everything is",
            Self::Secrets => "Encrypted secrets of provision",
        }
    }

    fn shape(self) -> Shape {
        let name = || "any".parse().ok();
        match self {
            Self::Inventory => Shape::of_reader(|section, diagnostics| {
                name().map(|name| Inventory::from_section(name, section, diagnostics))
            }),
            Self::Environment => Shape::of_reader(|section, _| {
                name().map(|name| Environment::from_section(name, section))
            }),
            Self::Playbook => Shape::of_reader(|section, _| crate::playbook::parse(section)),
            Self::Tiers => Shape::of_reader(|section, _| read_tiers(&section)),
            Self::Secrets => Shape::of_reader(|section, diagnostics| {
                SecretFile::from_section(section, diagnostics)
            }),
        }
    }

    /// The whole schema, as text.
    pub(super) fn text(self) -> String {
        let words = |path: &str| words::about(self, path);
        let mut schema = self.shape().schema(&words);
        if let Value::Object(schema) = &mut schema {
            let dialect = "https://json-schema.org/draft/2020-12/schema";
            schema.insert("$schema".to_owned(), dialect.into());
            schema.insert("title".to_owned(), self.title().into());
        }
        format!("{schema:#}\n")
    }
}

pub(super) fn run(args: &SchemaArgs) -> Result<ExitCode> {
    if let Some(folder) = &args.out {
        let wrap = |error: std::io::Error| {
            Error::controller(format!("{} cannot be written", folder.display())).caused_by(error)
        };
        std::fs::create_dir_all(folder).map_err(wrap)?;
        for kind in SchemaKind::ALL {
            let path = folder.join(format!("{}.json", kind.name()));
            std::fs::write(path, kind.text()).map_err(wrap)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let text = match args.kind {
        Some(kind) => kind.text(),
        None => SchemaKind::ALL
            .map(|kind| format!("{}\n", kind.name()))
            .concat(),
    };
    print(&Redactor::default(), &text)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests;
