//! Where the bytes of artifacts come from.
//!
//! Goes in: the environment's `[artifacts]`. Comes out: a [`Content`] per name and architecture.
//! Invariant: a hash that is configured is compared before any host is reached.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::super::content::Content;
use crate::document::{Diagnostics, Entry, Location, suggestion};
use crate::fleet::{ArtifactOrigin, ArtifactSource, Environment, Project};

/// The machines that programs are built for, as `uname -m` and the ELF header name them.
const ARCHITECTURES: &[(&str, u16)] = &[("x86_64", 62), ("aarch64", 183)];

/// The key for bytes that fit every machine.
const ANY: &str = "*";

/// The largest artifact that is fetched, in bytes.
const DOWNLOAD_LIMIT_BYTES: u64 = 4 << 30;

/// How long a server may take to be connected to, and to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// How long an artifact may take to arrive.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Contents by artifact and architecture.
#[derive(Clone, Debug, Default)]
pub struct Artifacts {
    contents: Arc<BTreeMap<String, BTreeMap<String, Arc<Content>>>>,
}

impl Artifacts {
    /// Reads the artifacts that plays name.
    pub fn load<'a>(
        project: &Project,
        environment: &Environment,
        named: impl IntoIterator<Item = (&'a str, &'a Location)>,
        diagnostics: &Diagnostics,
    ) -> Self {
        let mut contents = BTreeMap::new();
        for (name, location) in named {
            if contents.contains_key(name) {
                continue;
            }
            let found = environment
                .artifacts
                .iter()
                .find(|(known, _)| known.as_str() == name);
            let Some((_, source)) = found else {
                let known = environment
                    .artifacts
                    .keys()
                    .map(crate::document::Name::as_str);
                let hint = suggestion(name, known).unwrap_or_else(|| {
                    format!(
                        "describe it in environments/{}.toml: [artifacts.{name}]",
                        environment.name
                    )
                });
                diagnostics.error(
                    location.clone(),
                    format!(
                        "environment `{}` has no artifact `{name}`",
                        environment.name
                    ),
                    Some(hint),
                );
                continue;
            };
            contents.insert(
                name.to_owned(),
                load_one(project, name, source, diagnostics),
            );
        }
        Self {
            contents: Arc::new(contents),
        }
    }

    /// The bytes for a machine.
    pub(super) fn get(&self, name: &str, architecture: &str) -> Option<Arc<Content>> {
        let builds = self.contents.get(name)?;
        builds
            .get(architecture)
            .or_else(|| builds.get(ANY))
            .cloned()
    }

    /// The machines that there are bytes for.
    pub(super) fn architectures(&self, name: &str) -> Vec<String> {
        self.contents
            .get(name)
            .map(|builds| builds.keys().cloned().collect())
            .unwrap_or_default()
    }
}

fn load_one(
    project: &Project,
    name: &str,
    source: &ArtifactSource,
    diagnostics: &Diagnostics,
) -> BTreeMap<String, Arc<Content>> {
    let mut builds = BTreeMap::new();
    let candidates = candidates(project, source);
    let mut errors = Vec::new();
    for candidate in &candidates {
        match load_candidate(name, candidate, source, diagnostics) {
            Ok((architecture, content)) => {
                builds.insert(architecture, Arc::new(content));
            }
            Err(error) => errors.push(error),
        }
    }
    if builds.is_empty() {
        let hint = match &source.origin {
            ArtifactOrigin::Program(program) => {
                format!("`cargo build --release` builds {program} beside provision")
            }
            ArtifactOrigin::Path(_) => "build it, or correct its `path`".to_owned(),
            ArtifactOrigin::Url(_) => "correct its `url`, or give a `path`".to_owned(),
        };
        let message = format!("artifact `{name}` cannot be read: {}", errors.join("; "));
        diagnostics.error(source.location.clone(), message, Some(hint));
    }
    builds
}

/// The bytes of a candidate with the machine that they are for, compared with their hash.
fn load_candidate(
    name: &str,
    candidate: &Candidate,
    source: &ArtifactSource,
    diagnostics: &Diagnostics,
) -> Result<(String, Content), String> {
    let label = &candidate.label;
    let path = fetch(candidate, source)?;
    let content = Content::from_file(&path).map_err(|error| format!("{label}: {error}"))?;
    let architecture = candidate
        .architecture
        .clone()
        .or_else(|| architecture_of(&path).ok().flatten())
        .unwrap_or_else(|| ANY.to_owned());
    match expected_sha256(source, &architecture) {
        Some(expected) if expected.value == content.sha256 => {}
        Some(expected) => {
            if matches!(candidate.location, CandidateLocation::Url(_)) {
                let _ = std::fs::remove_file(&path);
            }
            let message = format!(
                "artifact `{name}` has the wrong SHA-256: {label} is {}, not {}",
                content.sha256, expected.value
            );
            let hint =
                "nothing is sent; check where the file comes from before you change `sha256`";
            diagnostics.error(expected.location.clone(), message, Some(hint.to_owned()));
        }
        None if source.sha256.is_empty() => {}
        None => {
            let message = format!(
                "artifact `{name}` has no `sha256` for {architecture}, which {label} is for"
            );
            let hint = format!("{label} is {}", content.sha256);
            diagnostics.error(source.location.clone(), message, Some(hint));
        }
    }
    Ok((architecture, content))
}

/// The hash that is configured for a machine.
fn expected_sha256<'a>(
    source: &'a ArtifactSource,
    architecture: &str,
) -> Option<&'a Entry<String>> {
    let hashes = &source.sha256;
    let only = hashes.values().next();
    hashes
        .get(architecture)
        .or_else(|| hashes.get(ANY))
        .or(only.filter(|_| architecture == ANY && hashes.len() == 1))
}

struct Candidate {
    architecture: Option<String>,
    location: CandidateLocation,
    label: String,
}

enum CandidateLocation {
    Path(PathBuf),
    Url(String),
}

fn candidates(project: &Project, source: &ArtifactSource) -> Vec<Candidate> {
    let path = |architecture: Option<&str>, path: PathBuf, label: String| Candidate {
        architecture: architecture.map(ToOwned::to_owned),
        location: CandidateLocation::Path(path),
        label,
    };
    match &source.origin {
        ArtifactOrigin::Program(program) => shipped_programs(program)
            .into_iter()
            .map(|(architecture, file)| {
                let label = file.display().to_string();
                path(architecture.as_deref(), file, label)
            })
            .collect(),
        ArtifactOrigin::Path(pattern) => expand(pattern)
            .into_iter()
            .map(|(architecture, text)| {
                path(architecture, project.root().join(&text), text.clone())
            })
            .filter(|candidate| {
                // With `{arch}`, a build that is not there is not needed either.
                candidate.architecture.is_none()
                    || matches!(&candidate.location, CandidateLocation::Path(path) if path.exists())
            })
            .collect(),
        ArtifactOrigin::Url(pattern) => expand(pattern)
            .into_iter()
            .filter(|(architecture, _)| {
                architecture.is_none_or(|name| {
                    source.sha256.contains_key(name) || source.sha256.contains_key(ANY)
                })
            })
            .map(|(architecture, url)| Candidate {
                architecture: architecture.map(ToOwned::to_owned),
                label: url.clone(),
                location: CandidateLocation::Url(url),
            })
            .collect(),
    }
}

/// The files beside `provision` that a program may be shipped as.
pub(crate) fn shipped_programs(program: &str) -> Vec<(Option<String>, PathBuf)> {
    let folder = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .unwrap_or_default();
    let mut files: Vec<(Option<String>, PathBuf)> = ARCHITECTURES
        .iter()
        .map(|(name, _)| {
            (
                Some((*name).to_owned()),
                folder.join(format!("{program}-{name}")),
            )
        })
        .filter(|(_, path)| path.exists())
        .collect();
    let native = folder.join(program);
    if native.exists() || files.is_empty() {
        files.push((None, native));
    }
    files
}

fn expand(pattern: &str) -> Vec<(Option<&'static str>, String)> {
    if !pattern.contains("{arch}") {
        return vec![(None, pattern.to_owned())];
    }
    ARCHITECTURES
        .iter()
        .map(|(name, _)| (Some(*name), pattern.replace("{arch}", name)))
        .collect()
}

/// The machine that an ELF program is for; `None` for what is no ELF file.
///
/// # Errors
/// The file cannot be read.
pub fn architecture_of(path: &Path) -> io::Result<Option<String>> {
    let mut header = [0u8; 20];
    match File::open(path)?.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    if header[..4] != *b"\x7fELF" {
        return Ok(None);
    }
    let machine = u16::from_le_bytes([header[18], header[19]]);
    let known = ARCHITECTURES.iter().find(|(_, number)| *number == machine);
    Ok(known.map(|(name, _)| (*name).to_owned()))
}

/// The file of a candidate. What was fetched and has another hash than expected stays under a
/// temporary name, for the caller to name its real hash and to remove it.
fn fetch(candidate: &Candidate, source: &ArtifactSource) -> Result<PathBuf, String> {
    let url = match &candidate.location {
        CandidateLocation::Path(path) => return Ok(path.clone()),
        CandidateLocation::Url(url) => url,
    };
    let architecture = candidate.architecture.as_deref().unwrap_or(ANY);
    let expected = &expected_sha256(source, architecture)
        .ok_or_else(|| {
            format!("{url}: `sha256` is given per machine, but the address has no `{{arch}}`")
        })?
        .value;
    let folder = cache_folder()?;
    let target = folder.join(expected);
    if target.exists() {
        return Ok(target);
    }
    let partial = folder.join(format!("{expected}.{}", std::process::id()));
    let result = download(url, &partial, ANSWER_TIMEOUT);
    if let Err(error) = result {
        let _ = std::fs::remove_file(&partial);
        return Err(format!("{url}: {error}"));
    }
    let content = Content::from_file(&partial).map_err(|error| error.to_string())?;
    if content.sha256 != *expected {
        return Ok(partial);
    }
    std::fs::rename(&partial, &target).map_err(|error| error.to_string())?;
    Ok(target)
}

fn cache_folder() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME is set")?;
    let folder = base.join("provision/downloads");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn download(url: &str, target: &Path, answers_within: Duration) -> Result<(), String> {
    let patience = ureq::Agent::config_builder()
        .timeout_connect(Some(answers_within))
        .timeout_recv_response(Some(answers_within))
        .timeout_global(Some(DOWNLOAD_TIMEOUT))
        .build();
    let agent = ureq::Agent::new_with_config(patience);
    let mut response = agent.get(url).call().map_err(|error| error.to_string())?;
    let mut reader = response
        .body_mut()
        .with_config()
        .limit(DOWNLOAD_LIMIT_BYTES)
        .reader();
    let mut file = File::create(target).map_err(|error| error.to_string())?;
    io::copy(&mut reader, &mut file).map_err(|error| error.to_string())?;
    file.flush()
        .and_then(|()| file.sync_all())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_nothing_is_not_waited_for() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("artifact");
        let error = download(&url, &target, Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("timeout"), "{error}");
        assert!(!target.exists());
    }
}
