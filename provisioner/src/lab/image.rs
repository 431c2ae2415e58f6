//! The base image that lies read-only below every host.
//!
//! In: the machine's Debian release and mirrors. Out: a directory in the cache, named by a hash
//! of what it was built from.
//!
//! Invariant: an image under its final name is complete and never changes again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::command::{isolated, run};
use super::error::{AtPath as _, LabError};
use super::event::{Events, LabEvent};
use super::record::CACHE;

/// The keys that sign Debian's packages.
pub(super) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Changes whenever the same packages would make another image.
const RECIPE: u32 = 1;

/// What every host has, beyond the essential packages.
const PACKAGES: &[&str] = &[
    "apt",
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "iproute2",
    "mount",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "util-linux",
];

/// Releases whose packages above are known to make a working host.
const SUITES: &[&str] = &["bookworm", "trixie", "forky"];

const DEFAULT_SUITE: &str = "bookworm";

const DEFAULT_MIRROR: &str = "http://deb.debian.org/debian";

const DEFAULT_SECURITY_MIRROR: &str = "http://deb.debian.org/debian-security";

/// How long apt may take to say how this machine is set up.
const ASK_LIMIT: Duration = Duration::from_secs(60);

/// How long building may take.
const BUILD_LIMIT: Duration = Duration::from_secs(20 * 60);

/// Files that are the same on every host.
const FILES: &[(&str, &str)] = &[
    ("etc/default/locale", "LANG=C.UTF-8\n"),
    // systemd makes one for each host at its first boot, unless the host's tree brings one.
    ("etc/machine-id", ""),
    // Root comes in by key only; authentications and sessions write a line each.
    (
        "etc/ssh/sshd_config.d/lab.conf",
        "HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
LogLevel VERBOSE
UseDNS no
",
    ),
    // The log keeps every line, also over a restart, so that a test can count them.
    (
        "etc/systemd/journald.conf.d/lab.conf",
        "[Journal]
Storage=persistent
SystemMaxUse=64M
RateLimitIntervalSec=0
",
    ),
    // In a container systemd leaves the disks of fstab alone; on a machine it mounts them.
    (
        "etc/systemd/system/lab-mounts.service",
        "[Unit]
Description=Mount the file systems of fstab
DefaultDependencies=no
After=systemd-remount-fs.service local-fs-pre.target
Before=local-fs.target
ConditionPathExists=/etc/fstab

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/mount --all

[Install]
WantedBy=local-fs.target
",
    ),
];

/// Units that are linked to others: the link and what it points to.
const LINKS: &[(&str, &str)] = &[
    (
        "etc/systemd/system/local-fs.target.wants/lab-mounts.service",
        "/etc/systemd/system/lab-mounts.service",
    ),
    // Their runs at random times would hold the package lock under a test's feet.
    ("etc/systemd/system/apt-daily.timer", "/dev/null"),
    ("etc/systemd/system/apt-daily-upgrade.timer", "/dev/null"),
];

/// Where packages come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sources {
    /// The release's code name.
    pub(super) suite: String,
    /// Lines of a `sources.list`.
    pub(super) lines: Vec<String>,
    /// The machine's own settings of how to fetch: proxies, retries, dates.
    pub(super) settings: String,
}

impl Sources {
    /// Takes over the Debian mirrors of this machine, or Debian's own when it has none.
    pub(super) fn of_this_machine() -> Self {
        let suite = suite();
        let targets = run(isolated("apt-get", ASK_LIMIT).args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ]));
        let settings = run(isolated("apt-config", ASK_LIMIT).args(["dump", "Acquire"]));
        Self {
            lines: source_lines(&suite, &targets.unwrap_or_default()),
            settings: fetch_settings(&settings.unwrap_or_default()),
            suite,
        }
    }
}

/// The machine's own release if it is a Debian whose packages make a working host.
fn suite() -> String {
    let release = os_release();
    release
        .get("VERSION_CODENAME")
        .filter(|name| {
            release.get("ID").is_some_and(|id| id == "debian") && SUITES.contains(&name.as_str())
        })
        .map_or(DEFAULT_SUITE, String::as_str)
        .to_owned()
}

/// The fields of this machine's `os-release`.
pub(super) fn os_release() -> BTreeMap<String, String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

/// Returns the base image, after building it if the cache has none. The cache must be locked.
pub(super) fn ensure(events: Events<'_>) -> Result<PathBuf, LabError> {
    let path = Path::new(CACHE).join(format!("image-{}", fingerprint(&suite())));
    if path.exists() {
        return Ok(path);
    }
    let sources = &Sources::of_this_machine();
    events(LabEvent::BuildingImage {
        suite: sources.suite.clone(),
    });
    let started = Instant::now();
    let building = building_directory("image")?;
    let tree = building.join("tree");
    bootstrap(sources, &building, &tree)?;
    adapt(&tree)?;
    fs::rename(&tree, &path).at("rename", &tree)?;
    fs::remove_dir_all(&building).at("remove", &building)?;
    events(LabEvent::BuiltImage {
        path: path.clone(),
        elapsed: started.elapsed(),
    });
    Ok(path)
}

/// An empty directory to build in; what an interrupted build left there is removed.
pub(super) fn building_directory(what: &str) -> Result<PathBuf, LabError> {
    let building = Path::new(CACHE).join(format!("building-{what}"));
    if building.exists() {
        fs::remove_dir_all(&building).at("remove", &building)?;
    }
    fs::create_dir_all(&building).at("make", &building)?;
    Ok(building)
}

/// Writes a file of a tree that is being built, with its directories.
pub(super) fn write_file(tree: &Path, path: &str, content: &str) -> Result<(), LabError> {
    let path = tree.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).at("make", parent)?;
    }
    fs::write(&path, content).at("write", &path)
}

/// Sixteen hexadecimal digits that stand for the parts.
pub(super) fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn fingerprint(suite: &str) -> String {
    let recipe = RECIPE.to_string();
    let mut parts = vec![&*recipe, suite, std::env::consts::ARCH];
    parts.extend(PACKAGES);
    parts.extend(
        FILES
            .iter()
            .chain(LINKS)
            .flat_map(|(path, content)| [*path, *content]),
    );
    hash(&parts)
}

fn bootstrap(sources: &Sources, building: &Path, tree: &Path) -> Result<(), LabError> {
    let settings = building.join("apt.conf");
    fs::write(&settings, &sources.settings).at("write", &settings)?;
    let mut command = isolated("mmdebstrap", BUILD_LIMIT);
    command.args([
        "--mode=root",
        "--variant=minbase",
        "--format=directory",
        "--quiet",
    ]);
    if !sources.settings.is_empty() {
        command.arg(format!("--aptopt={}", settings.display()));
    }
    command
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg("--customize-hook=chroot \"$1\" systemctl enable systemd-networkd.service ssh.service")
        .arg(&sources.suite)
        .arg(tree)
        .args(&sources.lines);
    run(&mut command)?;
    Ok(())
}

/// Removes what would be the same on every host, and sets what all hosts share.
fn adapt(tree: &Path) -> Result<(), LabError> {
    let ssh = tree.join("etc/ssh");
    for entry in fs::read_dir(&ssh).at("list", &ssh)? {
        let entry = entry.at("list", &ssh)?;
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path()).at("remove", &entry.path())?;
        }
    }
    let leftovers = [
        "etc/hostname",
        "etc/resolv.conf",
        "etc/apt/apt.conf.d/99mmdebstrap",
        "etc/apt/sources.list",
    ];
    for leftover in leftovers.map(|leftover| tree.join(leftover)) {
        if leftover.symlink_metadata().is_ok() {
            fs::remove_file(&leftover).at("remove", &leftover)?;
        }
    }
    let sources = tree.join("etc/apt/sources.list.d");
    fs::remove_dir_all(&sources).at("remove", &sources)?;
    fs::create_dir(&sources).at("make", &sources)?;
    FILES
        .iter()
        .try_for_each(|(path, content)| write_file(tree, path, content))?;
    for directory in [
        "var/log/journal",
        "srv/packages",
        "etc/systemd/system/local-fs.target.wants",
    ] {
        let directory = tree.join(directory);
        fs::create_dir_all(&directory).at("make", &directory)?;
    }
    for (link, target) in LINKS {
        let link = tree.join(link);
        symlink(target, &link).at("link", &link)?;
    }
    Ok(())
}

/// Debian's own sources among the machine's, which may well have others beside them.
fn source_lines(suite: &str, targets: &str) -> Vec<String> {
    let releases = ["", "-updates", "-security"].map(|suffix| format!("{suite}{suffix}"));
    let is_debian = |uri: &str| {
        uri.starts_with("http")
            && uri
                .split('/')
                .any(|segment| segment == "debian" || segment == "debian-security")
    };
    let line = |uri: &str, release: &str| format!("deb [signed-by={KEYRING}] {uri} {release} main");
    let mut lines: Vec<String> = targets
        .lines()
        .filter_map(|target| {
            let mut words = target.split(' ');
            let (uri, release, component) = (words.next()?, words.next()?, words.next()?);
            (component == "main" && is_debian(uri) && releases.iter().any(|known| known == release))
                .then(|| line(uri, release))
        })
        .collect();
    let base = format!(" {suite} main");
    if !lines.iter().any(|line| line.ends_with(&base)) {
        lines = vec![
            line(DEFAULT_MIRROR, &releases[0]),
            line(DEFAULT_MIRROR, &releases[1]),
            line(DEFAULT_SECURITY_MIRROR, &releases[2]),
        ];
    }
    lines
}

/// The settings of `apt-config dump` that say how to fetch, not what.
fn fetch_settings(dump: &str) -> String {
    const TAKEN: [&str; 6] = [
        "Acquire::http::",
        "Acquire::https::",
        "Acquire::Check-Date",
        "Acquire::Check-Valid-Until",
        "Acquire::ForceIPv",
        "Acquire::Retries",
    ];
    dump.lines()
        .filter(|line| TAKEN.iter().any(|prefix| line.starts_with(prefix)))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_debians_own_sources() {
        let targets = "http://mirror.example.org/debian/ bookworm main
http://mirror.example.org/debian-security/ bookworm-security main
https://apt.example.com/ bookworm main
https://download.example.com/linux/debian/ bookworm stable
http://mirror.example.org/debian/ bookworm non-free
";
        let lines = source_lines("bookworm", targets);
        let expected = [
            "debian/ bookworm main",
            "debian-security/ bookworm-security main",
        ]
        .map(|end| format!("deb [signed-by={KEYRING}] http://mirror.example.org/{end}"));
        assert_eq!(lines, expected);
    }

    #[test]
    fn falls_back_to_debians_mirror() {
        let lines = source_lines("bookworm", "http://archive.ubuntu.com/ubuntu/ noble main\n");
        assert_eq!(lines.len(), 3);
        assert!(
            lines[0].ends_with(" http://deb.debian.org/debian bookworm main"),
            "{lines:?}"
        );
    }

    #[test]
    fn takes_over_proxies_and_nothing_else() {
        let dump = "Acquire \"\";\nAcquire::http::Proxy \"http://proxy:3142\";\nAcquire::Languages \"none\";\n";
        assert_eq!(
            fetch_settings(dump),
            "Acquire::http::Proxy \"http://proxy:3142\";\n"
        );
    }
}
