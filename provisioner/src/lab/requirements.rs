//! What this machine needs for a lab, and how to get it.
//!
//! In: the machine. Out: nothing, or all that is missing at once with the commands that help.
//!
//! Invariant: looking changes nothing; only [`install_requirements`] does, and it says first what
//! it runs.

use std::fmt;
use std::fs;
use std::path::Path;

use super::command::{SEARCH_PATH, program, run};
use super::error::LabError;
use super::event::{Events, LabEvent};
use super::image;

/// The programs that a lab runs, each with the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("systemd-nspawn", "systemd-container"),
    ("mmdebstrap", "mmdebstrap"),
    ("apt-ftparchive", "apt-utils"),
    ("apt-get", "apt"),
    ("ip", "iproute2"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("nc", "netcat-openbsd"),
    ("losetup", "mount"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("setsid", "util-linux"),
    ("timeout", "coreutils"),
];

/// Signs Debian's own packages; Ubuntu has it as a package too.
const KEYRING_PACKAGE: &str = "debian-archive-keyring";

/// All that this machine lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct MissingRequirements {
    /// Programs that were not found.
    pub programs: Vec<String>,
    /// Debian packages that have them, each once.
    pub packages: Vec<String>,
    /// What no package can mend: the operating system, privileges, kernel features.
    pub obstacles: Vec<String>,
}

impl MissingRequirements {
    /// The commands that install the packages, for a user to run.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        if self.packages.is_empty() {
            return Vec::new();
        }
        let install = format!(
            "apt-get install --yes --no-install-recommends {}",
            self.packages.join(" ")
        );
        vec!["apt-get update".to_owned(), install]
    }
}

impl fmt::Display for MissingRequirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot hold a lab yet")?;
        self.obstacles
            .iter()
            .try_for_each(|obstacle| write!(f, "\n  {obstacle}"))?;
        if !self.packages.is_empty() {
            write!(
                f,
                "\n  missing: {}; as root, run:",
                self.programs.join(", ")
            )?;
            self.commands()
                .iter()
                .try_for_each(|command| write!(f, "\n    {command}"))?;
        }
        Ok(())
    }
}

/// Looks whether this machine can hold a lab.
///
/// # Errors
/// Everything that is missing, at once.
pub fn requirements() -> Result<(), MissingRequirements> {
    let mut missing = MissingRequirements {
        programs: Vec::new(),
        packages: Vec::new(),
        obstacles: obstacles(),
    };
    for (name, package) in PROGRAMS {
        if !is_installed(name) {
            missing.programs.push((*name).to_owned());
            missing.packages.push((*package).to_owned());
        }
    }
    if !Path::new(image::KEYRING).exists() {
        missing.programs.push(image::KEYRING.to_owned());
        missing.packages.push(KEYRING_PACKAGE.to_owned());
    }
    missing.packages.sort();
    missing.packages.dedup();
    if missing.programs.is_empty() && missing.obstacles.is_empty() {
        Ok(())
    } else {
        Err(missing)
    }
}

/// Installs the missing packages with apt, on Debian and Ubuntu, as root.
///
/// # Errors
/// When something is missing that no package has, or when apt fails.
pub fn install_requirements(events: Events<'_>) -> Result<(), LabError> {
    let Err(missing) = requirements() else {
        return Ok(());
    };
    if missing.obstacles.is_empty() {
        for line in missing.commands() {
            events(LabEvent::Running(line.clone()));
            let mut words = line.split(' ');
            let mut command = program(words.next().unwrap_or_default());
            run(command.args(words).env("DEBIAN_FRONTEND", "noninteractive"))?;
        }
    }
    requirements().map_err(LabError::from)
}

fn obstacles() -> Vec<String> {
    let mut obstacles = Vec::new();
    if !rustix::process::geteuid().is_root() {
        obstacles.push("labs are made by root: run the same command with sudo".to_owned());
    }
    let release = image::os_release();
    let family = [release.get("ID"), release.get("ID_LIKE")];
    if !family
        .into_iter()
        .flatten()
        .any(|id| id.split(' ').any(|id| id == "debian"))
    {
        obstacles.push("labs need Debian or Ubuntu".to_owned());
    }
    let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !file_systems.lines().any(|line| line.ends_with("\toverlay")) && !loads_module("overlay") {
        obstacles.push("the kernel has no overlayfs".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() && !loads_module("loop") {
        obstacles.push("the kernel has no loop devices (/dev/loop-control)".to_owned());
    }
    obstacles
}

fn loads_module(name: &str) -> bool {
    // Loading is what mounting would do by itself; --dry-run only asks whether it could.
    run(program("modprobe").args(["--dry-run", name])).is_ok()
}

fn is_installed(name: &str) -> bool {
    SEARCH_PATH
        .split(':')
        .any(|directory| Path::new(directory).join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_holds_the_exact_commands() {
        let missing = MissingRequirements {
            programs: vec!["nc".to_owned()],
            packages: vec!["netcat-openbsd".to_owned()],
            obstacles: vec!["labs need Debian or Ubuntu".to_owned()],
        };
        let expected = "this machine cannot hold a lab yet
  labs need Debian or Ubuntu
  missing: nc; as root, run:
    apt-get update
    apt-get install --yes --no-install-recommends netcat-openbsd";
        assert_eq!(missing.to_string(), expected);
    }
}
