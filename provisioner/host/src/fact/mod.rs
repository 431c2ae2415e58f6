//! Looks at the host: a file per kind of fact.
//!
//! Goes in: queries. Comes out: one fact each, in the same order. Invariant: looking changes
//! nothing, and what cannot be found out is an error, never a guess.

pub(crate) mod account;
pub(crate) mod command;
pub(crate) mod file;
pub(crate) mod package;
pub(crate) mod reboot;
pub(crate) mod sysctl;
pub(crate) mod unit;
pub(crate) mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use provision_protocol::fact::{
    Fact, FileType, ManifestFact, Query, TakenOutFact, UnitFact, fact_kind, query,
};
use provision_protocol::generation::{GenerationsFact, GenerationsQuery};

use crate::accounts::Accounts;
use crate::balancer;
use crate::content;
use crate::failure::Failure;
use crate::generation;
use crate::manifest::Manifest;
use crate::peers;
use crate::root::Root;

/// How much text all answers together may hold, so that they fit into one frame.
const MAX_TEXT_BYTES: u64 = 32 * 1024 * 1024;

/// Answers every query.
pub(crate) fn observe(root: &Root, queries: &[Query]) -> Vec<Fact> {
    let mut observer = Observer {
        root,
        accounts: Accounts::read(root),
        packages: None,
        units: look_at_units(root, queries),
        text_bytes: MAX_TEXT_BYTES,
        secret_files: None,
    };
    queries
        .iter()
        .map(|asked| match observer.look(asked) {
            Ok(kind) => Fact {
                error: None,
                kind: Some(kind),
            },
            Err(failure) => Fact {
                error: Some(failure.to_string()),
                kind: None,
            },
        })
        .collect()
}

/// What is found out once for all queries.
struct Observer<'a> {
    root: &'a Root,
    accounts: Accounts,
    packages: Option<Result<package::Packages, String>>,
    units: BTreeMap<String, Result<UnitFact, String>>,
    text_bytes: u64,
    secret_files: Option<BTreeSet<PathBuf>>,
}

impl Observer<'_> {
    fn look(&mut self, asked: &Query) -> Result<fact_kind::Kind, Failure> {
        use fact_kind::Kind as Answer;
        use query::Kind as Question;
        let Some(question) = &asked.kind else {
            return Err(Failure::refused("this helper does not know such a query"));
        };
        Ok(match question {
            Question::File(wanted) => {
                let mut wanted = wanted.clone();
                let secret = wanted.text_limit_bytes > 0 && self.holds_secret(&wanted.path)?;
                let limit = if secret { 0 } else { self.text_bytes };
                wanted.text_limit_bytes = wanted.text_limit_bytes.min(limit);
                let mut fact = file::look(self.root, &self.accounts, &wanted)?;
                fact.secret = secret && fact.file_type() == FileType::Regular;
                self.text_bytes -= fact.text.as_ref().map_or(0, |text| text.len() as u64);
                Answer::File(fact)
            }
            Question::User(name) => Answer::User(account::look_at_user(&self.accounts, name)),
            Question::Group(name) => Answer::Group(account::look_at_group(&self.accounts, name)),
            Question::Package(name) => {
                let root = self.root;
                let packages = self
                    .packages
                    .get_or_insert_with(|| package::read(root).map_err(|error| error.to_string()));
                let packages = packages
                    .as_ref()
                    .map_err(|words| Failure::refused_from(words))?;
                Answer::Package(packages.look(name))
            }
            Question::Unit(name) => {
                let found = self.units.get(name).cloned();
                let found = found.unwrap_or_else(|| Err(format!("{name} was not looked at")));
                Answer::Unit(found.map_err(Failure::Refused)?)
            }
            Question::Sysctl(key) => Answer::Sysctl(sysctl::look(self.root, key)?),
            Question::Volume(wanted) => Answer::Volume(volume::look(self.root, wanted)?),
            Question::Command(wanted) => Answer::Command(command::look(self.root, wanted)?),
            Question::Content(sha256) => Answer::Content(content::look(self.root, sha256)?),
            Question::Manifest(environment) => {
                let entries = Manifest::read(self.root)?.of(environment);
                Answer::Manifest(ManifestFact { entries })
            }
            Question::Generations(wanted) => Answer::Generations(self.generations(wanted)?),
            Question::Kept(wanted) => {
                let limit = wanted.text_limit_bytes.min(self.text_bytes);
                let fact = content::look_at_kept(self.root, &wanted.sha256, limit)?;
                self.text_bytes -= fact.text.as_ref().map_or(0, |text| text.len() as u64);
                Answer::Kept(fact)
            }
            Question::Reboot(_) => Answer::Reboot(reboot::look(self.root)?),
            Question::TakenOut(state_file) => Answer::TakenOut(TakenOutFact {
                servers: balancer::taken_out(self.root, state_file)?,
            }),
        })
    }
}

impl Observer<'_> {
    fn generations(&self, wanted: &GenerationsQuery) -> Result<GenerationsFact, Failure> {
        let limit = usize::try_from(wanted.limit).unwrap_or(usize::MAX);
        let closed = generation::closed(self.root, &wanted.environment, limit)?;
        let open = Manifest::read(self.root)?.open_generation(&wanted.environment);
        let all = closed.iter().chain(&open);
        Ok(GenerationsFact {
            generations: all.map(|one| one.to_message(self.root)).collect(),
            peers: if wanted.peers {
                peers::read(self.root, &wanted.environment)?
            } else {
                Vec::new()
            },
        })
    }

    /// Whether this tool wrote a secret into a file. It may be one that the controller does not
    /// know any more, and could not take out of what it shows.
    fn holds_secret(&mut self, path: &str) -> Result<bool, Failure> {
        if self.secret_files.is_none() {
            self.secret_files = Some(Manifest::read(self.root)?.secret_files());
        }
        let files = self.secret_files.as_ref();
        Ok(files.is_some_and(|files| files.contains(Path::new(path))))
    }
}

/// Asks systemd once for every unit.
fn look_at_units(root: &Root, queries: &[Query]) -> BTreeMap<String, Result<UnitFact, String>> {
    let mut names: Vec<&str> = queries
        .iter()
        .filter_map(|asked| match &asked.kind {
            Some(query::Kind::Unit(name)) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    unit::look(root, &names)
}
