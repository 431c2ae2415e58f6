//! Installs and removes Debian packages.
//!
//! Goes in: names. Comes out: the packages installed, in one transaction. Invariant: apt removes
//! nothing that was not named, and held packages stay as they are.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use provision_protocol::operation::InstallPackages;

use crate::fact::package::{self, Packages};
use crate::failure::Failure;
use crate::manifest::{Before, Kind, Wanted};
use crate::operation::Task;
use crate::process::{LOOK_DEADLINE, Outcome, Program};
use crate::root::Root;

/// How long a transaction may take. Stopping one halfway harms more than waiting.
const DEADLINE: Duration = Duration::from_secs(3600);
/// How long is waited for apt's locks where nothing was said.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(120);
/// How often a lock is tried that apt itself does not wait for.
const LOCK_PAUSE: Duration = Duration::from_secs(1);
/// How many lines of apt's complaints are passed on.
const MAX_LINES: usize = 12;
/// The most packages in one transaction.
const MAX_PACKAGES: usize = 1000;

/// Installs packages.
pub(crate) fn install(task: &mut Task<'_>, wanted: &InstallPackages) -> Result<(), Failure> {
    let root = task.root;
    let requests = parse_requests(&wanted.packages)?;
    let lock_timeout = match wanted.lock_timeout_seconds {
        0 => DEFAULT_LOCK_TIMEOUT,
        seconds => Duration::from_secs(seconds.into()),
    };
    let mut before = package::read(root)?;
    if before.any_broken() {
        (task.progress)("finish what dpkg was interrupted at");
        finish_interrupted(root)?;
        before = package::read(root)?;
    }
    refuse_held(&before, &requests)?;
    let missing: Vec<&Request<'_>> = requests
        .iter()
        .filter(|request| !request.is_met(&before))
        .collect();
    if !missing.is_empty() && !all_are_offered(root, &missing)? {
        (task.progress)("read the lists of packages again");
        run_apt(root, &["update"], lock_timeout, task.progress)?;
    }
    let names: Vec<&str> = missing.iter().map(|request| request.words).collect();
    let planned = if missing.is_empty() {
        Changes::default()
    } else {
        simulate(root, "install", &names)?
    };
    if !planned.removed.is_empty() {
        return Err(Failure::refused(format!(
            "apt would remove {} to install {}: resolve that by hand first",
            planned.removed.join(" "),
            names.join(" ")
        )));
    }
    let was_installed = before.installed();
    let named = requests.iter().map(|request| request.name);
    record(
        task,
        &was_installed,
        named.chain(planned.installed.iter().map(String::as_str)),
    )?;
    if missing.is_empty() {
        return Ok(());
    }
    let mut arguments = vec!["install", "--allow-downgrades", "--"];
    arguments.extend(names);
    let result = run_apt(root, &arguments, lock_timeout, task.progress);
    // What came with it and was not foreseen has an entry as well, also when apt failed later on.
    let after = package::read(root)?;
    let installed = after.installed();
    let unforeseen = installed
        .keys()
        .filter(|name| !was_installed.contains_key(*name));
    record(task, &was_installed, unforeseen.copied())?;
    result
}

/// Removes one package with its configuration, and with it only what this tool has installed.
pub(crate) fn remove(task: &mut Task<'_>, name: &str) -> Result<(), Failure> {
    let root = task.root;
    if !package::read(root)?.leaves_traces(name) {
        return Ok(());
    }
    let foreign: Vec<String> = simulate(root, "purge", &[name])?
        .removed
        .into_iter()
        .filter(|removed| {
            let entry = task.manifest.get(Kind::Package, removed);
            entry.is_none_or(|entry| entry.existed)
        })
        .collect();
    if !foreign.is_empty() {
        return Err(Failure::refused(format!(
            "removing {name} would also remove {}, which was not installed by provision",
            foreign.join(" ")
        )));
    }
    let arguments = ["purge", "--no-auto-remove", "--", name];
    run_apt(root, &arguments, DEFAULT_LOCK_TIMEOUT, task.progress)
}

/// One of the packages that were asked for.
struct Request<'a> {
    words: &'a str,
    name: &'a str,
    version: Option<&'a str>,
}

impl Request<'_> {
    fn is_met(&self, packages: &Packages) -> bool {
        let installed = packages.look(self.name).installed_version;
        !installed.is_empty() && self.version.is_none_or(|version| version == installed)
    }
}

fn parse_requests(words: &[String]) -> Result<Vec<Request<'_>>, Failure> {
    if words.len() > MAX_PACKAGES {
        return Err(Failure::refused(format!(
            "more than {MAX_PACKAGES} packages at once"
        )));
    }
    words.iter().map(|words| parse_request(words)).collect()
}

fn parse_request(words: &str) -> Result<Request<'_>, Failure> {
    let (name, version) = match words.split_once('=') {
        Some((name, version)) => (name, Some(version)),
        None => (words, None),
    };
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.:".contains(&byte);
    // A minus at the end would have apt remove the package.
    let good = name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name.bytes().all(allowed)
        && !name.ends_with('-')
        && version.is_none_or(|version| !version.is_empty() && !version.contains(' '));
    if good {
        Ok(Request {
            words,
            name,
            version,
        })
    } else {
        Err(Failure::refused(format!(
            "`{words}` is not the name of a package"
        )))
    }
}

fn refuse_held(packages: &Packages, requests: &[Request<'_>]) -> Result<(), Failure> {
    for request in requests {
        if packages.look(request.name).held && !request.is_met(packages) {
            return Err(Failure::refused(format!(
                "package {0} is held: `apt-mark unhold {0}` if it may be changed to {1}",
                request.name, request.words
            )));
        }
    }
    Ok(())
}

fn record<'a>(
    task: &mut Task<'_>,
    was_installed: &BTreeMap<&str, &str>,
    names: impl Iterator<Item = &'a str>,
) -> Result<(), Failure> {
    for name in names {
        let version = was_installed.get(name).copied();
        task.record(Wanted {
            kind: Kind::Package,
            name,
            before: Before {
                existed: version.is_some(),
                value: version.unwrap_or_default().to_owned(),
                ..Before::default()
            },
            ..Wanted::default()
        })?;
    }
    Ok(())
}

/// Whether apt's lists offer every package in the version that is wanted.
fn all_are_offered(root: &Root, requests: &[&Request<'_>]) -> Result<bool, Failure> {
    let outcome = Program::named(root, "apt-cache")?
        .arguments(["policy", "--"])
        .arguments(requests.iter().map(|request| request.name))
        .deadline(LOOK_DEADLINE)
        .run()?;
    Ok(requests
        .iter()
        .all(|request| is_offered(&outcome.stdout, request)))
}

fn is_offered(policy: &str, request: &Request<'_>) -> bool {
    let is_heading = |line: &&str| !line.starts_with(' ');
    let lines = policy
        .lines()
        .skip_while(|line| line.strip_suffix(':') != Some(request.name));
    let mut block = lines.skip(1).take_while(|line| !is_heading(line));
    match request.version {
        Some(version) => block.any(|line| line.split_whitespace().any(|word| word == version)),
        None => block.any(|line| {
            line.trim()
                .strip_prefix("Candidate:")
                .is_some_and(|found| found.trim() != "(none)")
        }),
    }
}

/// What apt says that it would do.
#[derive(Debug, Default)]
struct Changes {
    installed: Vec<String>,
    removed: Vec<String>,
}

fn simulate(root: &Root, action: &str, names: &[&str]) -> Result<Changes, Failure> {
    let outcome = apt_get(root, Duration::ZERO)?
        .arguments([
            "--simulate",
            "--no-auto-remove",
            "--allow-downgrades",
            action,
            "--",
        ])
        .arguments(names.iter().copied())
        .deadline(LOOK_DEADLINE * 4)
        .run()?;
    if !outcome.succeeded() {
        return Err(Failure::refused(complaints(&outcome)));
    }
    Ok(parse_changes(&outcome.stdout))
}

fn parse_changes(text: &str) -> Changes {
    let names = |word: &str| {
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
        lines
            .filter_map(|rest| rest.split_whitespace().next())
            .map(str::to_owned)
            .collect()
    };
    Changes {
        installed: names("Inst"),
        removed: [names("Remv"), names("Purg")].concat(),
    }
}

fn apt_get<'a>(root: &Root, lock_timeout: Duration) -> Result<Program<'a>, Failure> {
    let program = Program::named(root, "apt-get")?;
    Ok(noninteractive(program)
        .arguments([
            "-o",
            &format!("DPkg::Lock::Timeout={}", lock_timeout.as_secs()),
        ])
        .arguments(["-o", "Dpkg::Options::=--force-confdef"])
        .arguments(["-o", "Dpkg::Options::=--force-confold"])
        .arguments(["-o", "Dpkg::Use-Pty=0"])
        .arguments(["-o", "APT::Update::Error-Mode=any"])
        .arguments(["--no-install-recommends", "-y"]))
}

fn noninteractive(program: Program<'_>) -> Program<'_> {
    program
        .environment("DEBIAN_FRONTEND", "noninteractive")
        .environment("NEEDRESTART_MODE", "l")
        .environment("NEEDRESTART_SUSPEND", "1")
        .environment("APT_LISTCHANGES_FRONTEND", "none")
}

/// Runs apt-get. It waits for dpkg's locks by itself, but not for those of lists and archives.
fn run_apt(
    root: &Root,
    arguments: &[&str],
    lock_timeout: Duration,
    progress: &mut dyn FnMut(&str),
) -> Result<(), Failure> {
    let until = Instant::now() + lock_timeout;
    loop {
        let outcome = apt_get(root, lock_timeout)?
            .arguments(arguments.iter().copied())
            .deadline(DEADLINE)
            .watch(&mut *progress)
            .run()?;
        if outcome.succeeded() {
            return Ok(());
        }
        if !outcome.stderr.contains("Could not get lock") || Instant::now() >= until {
            let what = format!("apt-get failed, {}: ", outcome.ending());
            return Err(Failure::program(what, complaints(&outcome)));
        }
        progress("wait for another run of apt");
        thread::sleep(LOCK_PAUSE);
    }
}

fn finish_interrupted(root: &Root) -> Result<(), Failure> {
    let outcome = noninteractive(Program::named(root, "dpkg")?)
        .arguments(["--force-confdef", "--force-confold", "--configure", "-a"])
        .deadline(DEADLINE)
        .run()?;
    if outcome.succeeded() {
        return Ok(());
    }
    Err(Failure::program(
        "dpkg was interrupted before, and `dpkg --configure -a` fails: ",
        complaints(&outcome),
    ))
}

/// The lines that say what went wrong, or else the last ones.
fn complaints(outcome: &Outcome) -> String {
    let all = || outcome.stdout.lines().chain(outcome.stderr.lines());
    let telling = |line: &&str| {
        [
            "E: ",
            "dpkg: error",
            "W: Failed",
            "The following packages have unmet",
        ]
        .iter()
        .any(|prefix| line.starts_with(prefix))
            || line.contains(" : Depends: ")
    };
    let mut lines: Vec<&str> = all().filter(telling).collect();
    if lines.is_empty() {
        lines = all().filter(|line| !line.trim().is_empty()).collect();
    }
    let lines = &lines[lines.len().saturating_sub(MAX_LINES)..];
    if lines.is_empty() {
        outcome.ending()
    } else {
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "\
haproxy:\n  Installed: (none)\n  Candidate: 2.6.12-1\n  Version table:\n     2.6.12-1 500\n        500 http://deb.debian.org bookworm/main amd64 Packages\n\
nginx:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";

    #[test]
    fn knows_what_the_lists_offer() {
        let offered = |words| is_offered(POLICY, &parse_request(words).unwrap());
        assert!(offered("haproxy"));
        assert!(offered("haproxy=2.6.12-1"));
        assert!(!offered("haproxy=3.0"));
        assert!(!offered("nginx"));
        assert!(!offered("kafka"));
    }

    #[test]
    fn reads_what_apt_would_do() {
        let text = "Remv exim4 [4.96]\nPurg nullmailer [2.2]\nInst postfix (3.7 Debian [amd64])\n\
                    Inst libc6:i386 (2.36 Debian [i386])\nConf postfix (3.7)\n";
        let changes = parse_changes(text);
        assert_eq!(changes.installed, ["postfix", "libc6:i386"]);
        assert_eq!(changes.removed, ["exim4", "nullmailer"]);
    }

    #[test]
    fn refuses_names_that_apt_would_take_for_something_else() {
        for words in [
            "nginx-",
            "-y",
            "",
            "a b",
            "Nginx",
            "x=",
            "nginx;reboot",
            "../x",
        ] {
            assert!(parse_request(words).is_err(), "{words}");
        }
        for words in [
            "g++",
            "libc6:i386",
            "python3.11",
            "haproxy=2.6.12-1~deb12u1",
        ] {
            assert!(parse_request(words).is_ok(), "{words}");
        }
    }

    #[test]
    fn passes_on_what_went_wrong() {
        let outcome = Outcome {
            code: Some(100),
            timed_out: false,
            stdout: "Reading package lists...\n".into(),
            stderr: "W: harmless\nE: Unable to locate package kafka\n".into(),
        };
        assert_eq!(complaints(&outcome), "E: Unable to locate package kafka");
    }
}
