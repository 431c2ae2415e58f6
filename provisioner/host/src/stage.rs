//! Lays files out under their final names and has them validated.
//!
//! Goes in: paths, stored contents, validators. Comes out: a tree in the state directory, and
//! what was refused. Invariant: nothing outside the state directory changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use provision_protocol::message::{Stage, StageFailure, Staged, StagedFile};
use provision_protocol::operation::{Validation, WriteFile};

use crate::content;
use crate::durable;
use crate::failure::{Doing, Failure};
use crate::process::{LOOK_DEADLINE, Program, shorten};
use crate::root::{Root, check_absolute};
use crate::space::{self, FileSystem};

const DIRECTORY: &str = "stage";
/// Where copies wait that name what is staged.
const NAMING: &str = ".naming";
/// The largest file that is looked through for such names.
const MAX_NAMING_BYTES: u64 = 4 << 20;
/// The validator of units, which accepts what it has complained about.
const SYSTEMD_ANALYZE: &str = "systemd-analyze";
/// What stands for the staged file in a validator's arguments.
const PLACEHOLDER: &str = "{}";
/// What stays free on a file system beside the files that are put there.
const HEADROOM_BYTES: u64 = 1024 * 1024;
/// How much of a validator's words is passed on.
const MAX_WORDS_BYTES: usize = 4096;
/// The most files in one stage.
const MAX_FILES: usize = 10_000;

/// What a validator found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It accepts the file.
    Accepted,
    /// It does not, in its own words.
    Rejected(String),
    /// It is not on the host; this is its name.
    Missing(String),
}

/// What validators have accepted in one conversation: the hash of a content, by its final path
/// and the validator's arguments.
#[derive(Debug, Default)]
pub(crate) struct Accepted(BTreeMap<(String, Vec<String>), String>);

impl Accepted {
    /// The validator has accepted the very content that is wanted under this path.
    pub(crate) fn has(&self, wanted: &WriteFile, validation: &Validation) -> bool {
        let accepted = self
            .0
            .get(&(validation.path.clone(), validation.arguments.clone()));
        validation.path == wanted.path && accepted == Some(&wanted.sha256)
    }

    fn note(&mut self, request: &Stage, validation: &Validation, verdict: &Verdict) {
        let key = (validation.path.clone(), validation.arguments.clone());
        let mut files = request.files.iter().rev();
        let file = files.find(|file| file.path == validation.path);
        match file.filter(|_| *verdict == Verdict::Accepted) {
            Some(file) => self.0.insert(key, file.sha256.clone()),
            None => self.0.remove(&key),
        };
    }
}

/// Lays the files out, replacing what was staged before, and validates them.
pub(crate) fn stage(
    root: &Root,
    request: &Stage,
    accepted: &mut Accepted,
    progress: &mut dyn FnMut(&str, &str),
) -> Result<Staged, Failure> {
    if request.files.len() > MAX_FILES || request.validations.len() > MAX_FILES {
        return Err(Failure::refused(format!(
            "more than {MAX_FILES} files cannot be staged"
        )));
    }
    clear(root)?;
    durable::make_private_directory(&root.state(DIRECTORY))?;
    let mut staged = Staged::default();
    for file in &request.files {
        if let Err(failure) = lay_out(root, file) {
            let message = failure.to_string();
            staged.failures.push(StageFailure {
                path: file.path.clone(),
                message,
            });
        }
    }
    if staged.failures.is_empty() {
        staged.failures = without_room(root, &request.files);
    }
    if !staged.failures.is_empty() {
        return Ok(staged);
    }
    for validation in &request.validations {
        progress(&validation.path, "validate");
        let verdict = validate(root, validation, None)?;
        accepted.note(request, validation, &verdict);
        match verdict {
            Verdict::Accepted => {}
            Verdict::Missing(_) => staged.unvalidated.push(validation.path.clone()),
            Verdict::Rejected(message) => {
                staged.failures.push(StageFailure {
                    path: validation.path.clone(),
                    message,
                });
            }
        }
    }
    Ok(staged)
}

/// Removes what is staged.
pub(crate) fn clear(root: &Root) -> Result<(), Failure> {
    durable::remove_tree(&root.state(DIRECTORY))
}

/// Has a file validated: the staged one, or where nothing is staged under its name `fallback`.
pub(crate) fn validate(
    root: &Root,
    validation: &Validation,
    fallback: Option<&Path>,
) -> Result<Verdict, Failure> {
    let staged = staged_path(root, check_absolute(&validation.path)?);
    let file = match fallback {
        _ if staged.is_file() => staged,
        Some(fallback) => fallback.to_owned(),
        None => {
            let message = "it has a validation, but was not staged".to_owned();
            return Ok(Verdict::Rejected(message));
        }
    };
    let Some((name, arguments)) = validation.arguments.split_first() else {
        return Ok(Verdict::Rejected(
            "its validation names no program".to_owned(),
        ));
    };
    let Some(program) = find_program(root, name) else {
        return Ok(Verdict::Missing(name.clone()));
    };
    let file = naming_staged(root, &validation.path, name, file)?;
    let shown = file.display().to_string();
    let outcome = Program::at(root, program)
        .arguments(
            arguments
                .iter()
                .map(|argument| argument.replace(PLACEHOLDER, &shown)),
        )
        .deadline(LOOK_DEADLINE)
        .run()?;
    let mut words = without_staged_programs(root, &outcome.said(usize::MAX));
    if outcome.succeeded() {
        // It only warns of what systemd will pass over, for instance an unknown key.
        let warnings = match Path::new(name).file_name() {
            Some(name) if name == SYSTEMD_ANALYZE => {
                lines_about(&words, [&shown, &validation.path])
            }
            _ => String::new(),
        };
        if warnings.is_empty() {
            return Ok(Verdict::Accepted);
        }
        words = warnings;
    }
    if words.is_empty() && !outcome.timed_out {
        return Ok(Verdict::Accepted);
    }
    if outcome.timed_out {
        words = format!(
            "{name} did not end within {} s\n{words}",
            LOOK_DEADLINE.as_secs()
        );
    }
    let words = shorten(&words, MAX_WORDS_BYTES);
    // A person knows the final name, not the place where the file waits.
    let stage = root.state(DIRECTORY).display().to_string();
    Ok(Verdict::Rejected(
        words.replace(&shown, &validation.path).replace(&stage, ""),
    ))
}

/// The file as its validator shall see it: where it names others that wait beside it, such as
/// certificates, a copy that names the places where they wait.
///
/// `systemd-analyze verify` gets the file as it is: what it says of programs is weighed below.
fn naming_staged(
    root: &Root,
    path: &str,
    validator: &str,
    file: PathBuf,
) -> Result<PathBuf, Failure> {
    let mut others = Vec::new();
    let stage = root.state(DIRECTORY);
    staged_files(&stage, &mut others);
    let by_systemd = Path::new(validator).file_name() == Some(SYSTEMD_ANALYZE.as_ref());
    let size = fs::metadata(&file).map_or(0, |found| found.len());
    if others.is_empty() || by_systemd || size > MAX_NAMING_BYTES {
        return Ok(file);
    }
    let Ok(text) = fs::read_to_string(&file) else {
        return Ok(file);
    };
    let mut renamed = text.clone();
    for other in others {
        let Ok(name) = other.strip_prefix(&stage) else {
            continue;
        };
        let name = format!("/{}", name.display());
        if name != path {
            renamed = replace_name(&renamed, &name, &other.display().to_string());
        }
    }
    if renamed == text {
        return Ok(file);
    }
    let copy = root
        .state(DIRECTORY)
        .join(NAMING)
        .join(path.trim_start_matches('/'));
    let doing = || format!("lay out {path} for its validator");
    if let Some(parent) = copy.parent() {
        fs::create_dir_all(parent).doing(doing)?;
    }
    fs::write(&copy, renamed).doing(doing)?;
    Ok(copy)
}

/// Every file below a folder of the stage, which is bounded by the files of a request.
fn staged_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.ends_with(NAMING) {
            continue;
        }
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => staged_files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Replaces a path where it stands as a whole.
fn replace_name(text: &str, name: &str, by: &str) -> String {
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, after) = (&rest[..at], &rest[at + name.len()..]);
        let whole = !before.ends_with(is_part_of_path) && !after.starts_with(is_part_of_path);
        replaced.push_str(before);
        replaced.push_str(if whole { by } else { name });
        rest = after;
    }
    replaced.push_str(rest);
    replaced
}

fn is_part_of_path(character: char) -> bool {
    character.is_alphanumeric() || "/-_.@\\".contains(character)
}

/// What a validator said, without its complaints about programs that are staged as well.
///
/// `systemd-analyze verify` looks for the program of a unit under its final name, where it is
/// put together with the unit.
fn without_staged_programs(root: &Root, words: &str) -> String {
    let is_staged = |line: &&str| {
        let program = line
            .split_once("Command ")
            .and_then(|(_, rest)| rest.split_once(" is not executable: No such file"));
        program.is_some_and(|(path, _)| staged_path(root, path).is_file())
    };
    let lines: Vec<&str> = words.lines().filter(|line| !is_staged(line)).collect();
    lines.join("\n").trim().to_owned()
}

/// The lines that name a file, by either of its paths. Complaints about other units, which are on
/// the host already, are not about it.
fn lines_about(words: &str, paths: [&str; 2]) -> String {
    let names = |line: &str, path: &str| {
        line.match_indices(path).any(|(at, _)| {
            !line[..at].ends_with(is_part_of_path)
                && !line[at + path.len()..].starts_with(is_part_of_path)
        })
    };
    let is_about = |line: &&str| paths.iter().any(|path| names(line, path));
    words
        .lines()
        .filter(is_about)
        .collect::<Vec<_>>()
        .join("\n")
}

fn find_program(root: &Root, name: &str) -> Option<PathBuf> {
    if check_absolute(name).is_ok() {
        let staged = staged_path(root, name);
        if staged.is_file() {
            return Some(staged);
        }
    }
    root.program(name)
}

fn staged_path(root: &Root, path: &str) -> PathBuf {
    root.state(DIRECTORY).join(path.trim_start_matches('/'))
}

fn lay_out(root: &Root, file: &StagedFile) -> Result<(), Failure> {
    let source = content::require(root, &file.sha256)?;
    let target = staged_path(root, check_absolute(&file.path)?);
    let doing = || format!("stage {}", file.path);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent).doing(doing)?;
    }
    let size = source.metadata().doing(doing)?.len();
    // A link costs no space. What stood on the host before is copied, so that a validator that
    // writes to its input cannot spoil it; an upload is checked again when it is put in place.
    let uploaded = content::is_upload(root, &source);
    if !uploaded || fs::hard_link(&source, &target).is_err() {
        fs::copy(&source, &target)
            .doing(doing)
            .map_err(|failure| space::explain(failure, &source, size))?;
    }
    // Paths that share a content share its mode, so an executable one must not lose it again.
    if file.mode & 0o111 != 0 {
        fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).doing(doing)?;
    }
    Ok(())
}

/// A failure for each file whose file system has no room for all that shall go there.
fn without_room(root: &Root, files: &[StagedFile]) -> Vec<StageFailure> {
    let mut needs: BTreeMap<u64, (FileSystem, u64, Vec<&str>)> = BTreeMap::new();
    let mut failures = Vec::new();
    for file in files {
        let size = content::find(root, &file.sha256).and_then(|path| path.metadata().ok());
        let size = size.map_or(0, |found| found.len());
        match FileSystem::holding(&root.at(&file.path)) {
            Ok(found) => {
                let need = needs.entry(found.device).or_insert((found, 0, Vec::new()));
                need.1 += size;
                need.2.push(&file.path);
            }
            Err(failure) => failures.push(StageFailure {
                path: file.path.clone(),
                message: failure.to_string(),
            }),
        }
    }
    for (found, bytes, paths) in needs.into_values() {
        let needed = bytes + HEADROOM_BYTES;
        if needed > found.free_bytes {
            let message = format!(
                "there is no room on {}: {needed} bytes needed, {} bytes free; free some space \
                 there and run it again",
                root.shown(&found.mount_point),
                found.free_bytes
            );
            failures.extend(paths.iter().map(|path| StageFailure {
                path: (*path).to_owned(),
                message: message.clone(),
            }));
        }
    }
    failures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::install_script;

    struct Place {
        _directory: tempfile::TempDir,
        root: Root,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        Place {
            _directory: directory,
            root,
        }
    }

    impl Place {
        fn file(&self, path: &str, text: &str, mode: u32) -> StagedFile {
            let source = self.root.at("/source");
            fs::write(&source, text).unwrap();
            let sha256 = content::keep(&self.root, &source).unwrap();
            StagedFile {
                path: path.into(),
                sha256,
                mode,
            }
        }

        fn stage(&self, files: Vec<StagedFile>, arguments: &[&str]) -> Staged {
            let validation = Validation {
                path: files[0].path.clone(),
                arguments: arguments
                    .iter()
                    .map(|&argument| argument.to_owned())
                    .collect(),
            };
            let request = Stage {
                files,
                validations: vec![validation],
            };
            let accepted = &mut Accepted::default();
            stage(&self.root, &request, accepted, &mut |_, _| {}).unwrap()
        }
    }

    #[test]
    fn a_rejection_shows_the_final_path() {
        let place = place();
        install_script(
            &place.root,
            "/usr/bin/check",
            "echo \"$2: line 1 is bad\" >&2; exit 1",
        );
        let file = place.file("/etc/app/config.yaml", "bad", 0o644);
        let staged = place.stage(vec![file], &["check", "--file", "{}"]);
        assert_eq!(staged.failures[0].path, "/etc/app/config.yaml");
        assert_eq!(
            staged.failures[0].message,
            "/etc/app/config.yaml: line 1 is bad"
        );
    }

    #[test]
    fn a_validator_may_be_staged_itself() {
        let place = place();
        let config = place.file("/etc/app.yaml", "good", 0o600);
        let script = "#!/bin/sh\ngrep -q good \"${1#--config=}\"\n";
        let program = place.file("/opt/app/bin/app", script, 0o755);
        let staged = place.stage(vec![config, program], &["/opt/app/bin/app", "--config={}"]);
        assert_eq!(staged, Staged::default());
    }

    #[test]
    fn a_unit_may_be_staged_with_its_program() {
        let place = place();
        let words =
            "echo 'a.service: Command /opt/app is not executable: No such file or directory' >&2";
        install_script(&place.root, "/usr/bin/verify", &format!("{words}; exit 1"));
        let unit = || place.file("/etc/systemd/system/a.service", "[Service]", 0o644);
        let alone = place.stage(vec![unit()], &["verify", "{}"]);
        assert_eq!(alone.failures.len(), 1);
        let program = place.file("/opt/app", "program", 0o755);
        let together = place.stage(vec![unit(), program], &["verify", "{}"]);
        assert_eq!(together, Staged::default());
    }

    #[test]
    fn a_unit_is_refused_for_what_systemd_would_only_warn_of() {
        let place = place();
        let unit = || place.file("/etc/systemd/system/a.service", "[Service]", 0o644);
        let verify = |words: &str| {
            let script = format!("for last; do :; done\n{words}");
            install_script(&place.root, "/usr/bin/systemd-analyze", &script);
            let arguments = ["systemd-analyze", "verify", "{}"];
            let mut staged = place.stage(vec![unit()], &arguments);
            staged.failures.pop().map(|failure| failure.message)
        };
        let warning = "echo \"$last:5: Unknown key 'MemoryMaxx' in section [Service], ignoring.\"";
        assert_eq!(
            verify(&format!("{warning} >&2")).as_deref(),
            Some(
                "/etc/systemd/system/a.service:5: Unknown key 'MemoryMaxx' in section [Service], \
                 ignoring."
            )
        );
        let by_final_path = "echo 'Configuration file /etc/systemd/system/a.service is marked x.'";
        assert!(verify(by_final_path).is_some());
        for about_others in [
            "echo /lib/systemd/system/b.service:3: Unknown key",
            "echo /etc/systemd/system/a.service.d/x.conf:3: Unknown key",
            "echo a.service: Command /opt/a is a script",
            "",
        ] {
            assert_eq!(verify(about_others), None, "{about_others}");
        }
        install_script(
            &place.root,
            "/usr/bin/verify",
            &format!("last=$1; {warning}"),
        );
        let staged = place.stage(vec![unit()], &["verify", "{}"]);
        assert_eq!(staged, Staged::default(), "others say what they mean");
    }

    /// A certificate that comes with the configuration is not under its final name yet.
    #[test]
    fn what_is_staged_together_is_validated_together() {
        let place = place();
        install_script(
            &place.root,
            "/usr/bin/reads",
            "grep -q certificate \"$(cat \"$1\")\"",
        );
        let certificate = place.file("/etc/app/cert.pem", "certificate", 0o600);
        let config = || place.file("/etc/app/app.conf", "/etc/app/cert.pem", 0o644);
        let staged = place.stage(vec![config(), certificate], &["reads", "{}"]);
        assert_eq!(staged, Staged::default());
        let alone = place.stage(vec![config()], &["reads", "{}"]);
        assert!(alone.failures[0].message.contains("/etc/app/cert.pem"));
        assert_eq!(
            replace_name("a /etc/x b=/etc/x; /etc/x.d /srv/etc/x", "/etc/x", "/s"),
            "a /s b=/s; /etc/x.d /srv/etc/x"
        );
    }

    #[test]
    fn a_validator_that_is_not_there_yet_is_told() {
        let place = place();
        let file = place.file("/etc/haproxy.cfg", "x", 0o644);
        let staged = place.stage(vec![file], &["haproxy", "-c", "-f", "{}"]);
        assert_eq!(staged.unvalidated, ["/etc/haproxy.cfg"]);
        assert!(staged.failures.is_empty());
    }

    #[test]
    fn a_content_that_did_not_arrive_is_a_failure() {
        let place = place();
        let file = StagedFile {
            path: "/etc/x".into(),
            sha256: "0".repeat(64),
            mode: 0o644,
        };
        let staged = place.stage(vec![file], &["true"]);
        assert!(staged.failures[0].message.contains("was not uploaded"));
    }

    #[test]
    fn only_root_may_read_what_is_staged() {
        let place = place();
        let file = place.file("/etc/secret", "x", 0o644);
        place.stage(vec![file], &["none"]);
        let staged = staged_path(&place.root, "/etc/secret");
        assert_eq!(
            staged.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
