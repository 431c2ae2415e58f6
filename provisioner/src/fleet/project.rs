//! The folder that holds inventories, environments, playbooks and templates.
//!
//! Goes in: a folder and the name of an environment. Comes out: a [`Fleet`], or every mistake in
//! its files at once. Invariant: file names appear relative to this folder.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Environment, Fleet, Override, Tier, dotted_keys, parse_tiers};
use crate::document::{Diagnostics, Entry, Name, Source, read_source, suggestion};
use crate::error::{Error, Result};
use crate::inventory::Inventory;
use crate::secret::{SecretFile, SecretOrigin, SecretSource};
use crate::tls::Certificates;

/// The file that holds the tiers, beside the environments.
const TIERS_FILE: &str = "environments/tiers.toml";

/// How the names of files with encrypted secrets end, without their extension.
const SECRETS_SUFFIX: &str = ".secrets";

/// The folder of a project.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The folder that was named, or the nearest one from here upwards that has `environments`.
    ///
    /// # Errors
    /// There is no such folder.
    pub fn find(named: Option<&Path>) -> Result<Self> {
        if let Some(root) = named {
            return if root.join("environments").is_dir() {
                Ok(Self {
                    root: root.to_owned(),
                })
            } else {
                Err(Error::usage(format!(
                    "{} has no folder `environments`",
                    root.display()
                )))
            };
        }
        let here = std::env::current_dir()
            .map_err(|error| Error::controller("the current folder is gone").caused_by(error))?;
        here.ancestors()
            .find(|folder| folder.join("environments").is_dir())
            .map(|folder| Self {
                root: folder.to_owned(),
            })
            .ok_or_else(|| {
                Error::usage(
                    "no project here: neither this folder nor one above has `environments`",
                )
                .hint("change into the project, or name it with --project DIR")
            })
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of all files in one of the project's folders, without their extension.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.root.join(folder))
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                entry
                    .file_name()
                    .to_str()?
                    .strip_suffix(".toml")
                    .map(ToOwned::to_owned)
            })
            .filter(|name| folder != "environments" || is_environment(name))
            .collect();
        names.sort();
        names
    }

    /// Reads an inventory by name.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn inventory(&self, name: &Name, diagnostics: &Diagnostics) -> Result<Option<Inventory>> {
        let source = read_source(&self.root, Path::new(&format!("inventories/{name}.toml")))?;
        Ok(Inventory::parse(name.clone(), &source, diagnostics))
    }

    /// Reads an environment and all that it names. Mistakes go to `diagnostics`, and what is right
    /// is returned all the same.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn fleet(
        &self,
        environment: &str,
        overrides: &[Override],
        diagnostics: &Diagnostics,
    ) -> Result<Fleet> {
        let (mut environment, _) = self.environment(environment, diagnostics)?;
        self.add_encrypted(&mut environment, diagnostics)?;
        let tier = self.tier(&environment, diagnostics)?;
        let mut inventories = Vec::new();
        for entry in &environment.inventories {
            inventories.extend(self.named_inventory(entry, diagnostics)?);
        }
        let mut fleet = Fleet::build(environment, tier, inventories, overrides, diagnostics);
        fleet.certificates = Certificates::load(&self.root, &fleet.environment.name)?;
        check_overrides(&fleet, overrides)?;
        Ok(fleet)
    }

    /// Reads the file of an environment alone, not what it names.
    ///
    /// # Errors
    /// There is no such environment, or its file cannot be read.
    pub fn environment(
        &self,
        environment: &str,
        diagnostics: &Diagnostics,
    ) -> Result<(Environment, Arc<Source>)> {
        let known = self.names("environments");
        if !known.iter().any(|name| name == environment) {
            let error = Error::usage(format!("there is no environment `{environment}`"));
            return Err(
                match suggestion(environment, known.iter().map(String::as_str)) {
                    Some(hint) => error.hint(hint),
                    None => error.hint("write environments/NAME.toml"),
                },
            );
        }
        let name: Name = environment.parse().map_err(Error::usage)?;
        let source = read_source(&self.root, Path::new(&format!("environments/{name}.toml")))?;
        let environment = Environment::parse(&name, &source, diagnostics);
        Ok((environment, source))
    }

    /// Adds the secrets of the encrypted file that the environment names. None is decrypted.
    fn add_encrypted(
        &self,
        environment: &mut Environment,
        diagnostics: &Diagnostics,
    ) -> Result<()> {
        let Some(named) = &environment.secret_file else {
            return Ok(());
        };
        let path = Path::new(&named.value);
        if !self.root.join(path).is_file() {
            let message = format!("there is no file `{}` with encrypted secrets", named.value);
            let hint = format!(
                "`provision secret set NAME --env {}` makes it",
                environment.name
            );
            diagnostics.error(named.location.clone(), message, Some(hint));
            return Ok(());
        }
        let file = SecretFile::parse(&read_source(&self.root, path)?, diagnostics);
        for (name, sealed) in file.values {
            let location = sealed.location.clone();
            if let Some(other) = environment.secrets.get(&name) {
                let message = format!("secret `{name}` is described a second time");
                let hint = format!("first at {}", other.location);
                diagnostics.error(location, message, Some(hint));
                continue;
            }
            let origin = SecretOrigin::Encrypted(sealed);
            environment
                .secrets
                .insert(name, SecretSource { origin, location });
        }
        Ok(())
    }

    fn tier(&self, environment: &Environment, diagnostics: &Diagnostics) -> Result<Tier> {
        let source = read_source(&self.root, Path::new(TIERS_FILE))?;
        let before = diagnostics.len();
        let mut tiers = parse_tiers(&source, diagnostics);
        let Some(named) = &environment.tier else {
            return Ok(Tier::unknown(environment.name.clone()));
        };
        let found = tiers
            .keys()
            .find(|name| name.as_str() == named.value)
            .cloned();
        if let Some(tier) = found.and_then(|name| tiers.remove(&name)) {
            return Ok(tier);
        }
        // What follows from a mistake in the tiers' own file would only hide it.
        if diagnostics.len() == before {
            let message = format!("there is no tier `{}`", named.value);
            let hint = suggestion(&named.value, tiers.keys().map(Name::as_str));
            diagnostics.error(named.location.clone(), message, hint);
        }
        Ok(Tier::unknown(environment.name.clone()))
    }

    fn named_inventory(
        &self,
        entry: &Entry<Name>,
        diagnostics: &Diagnostics,
    ) -> Result<Option<Inventory>> {
        let known = self.names("inventories");
        if known.iter().any(|name| name == entry.value.as_str()) {
            return self.inventory(&entry.value, diagnostics);
        }
        let message = format!("there is no inventory `{}`", entry.value);
        let hint = suggestion(entry.value.as_str(), known.iter().map(String::as_str));
        diagnostics.error(entry.location.clone(), message, hint);
        Ok(None)
    }
}

/// Tiers and encrypted secrets stand beside the environments.
fn is_environment(name: &str) -> bool {
    name != "tiers" && !name.ends_with(SECRETS_SUFFIX)
}

/// An override of a setting that no host has would silently do nothing.
fn check_overrides(fleet: &Fleet, overrides: &[Override]) -> Result<()> {
    for one in overrides {
        if fleet
            .hosts
            .iter()
            .any(|host| one.is_known(&host.known_settings))
        {
            continue;
        }
        let keys: BTreeSet<String> = fleet
            .hosts
            .iter()
            .flat_map(|host| dotted_keys(&host.known_settings))
            .collect();
        let error = Error::usage(format!("--set names `{}`, which no host has", one.key()));
        return Err(
            match suggestion(&one.key(), keys.iter().map(String::as_str)) {
                Some(hint) => error.hint(hint),
                None => error,
            },
        );
    }
    Ok(())
}
