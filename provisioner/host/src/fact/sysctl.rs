//! Kernel parameters.
//!
//! Goes in: a key. Comes out: its value. Invariant: a key never leads out of `/proc/sys`.

use std::fs;
use std::path::PathBuf;

use provision_protocol::fact::SysctlFact;

use crate::failure::{Doing, Failure};
use crate::root::Root;

/// Looks at a parameter.
pub(crate) fn look(root: &Root, key: &str) -> Result<SysctlFact, Failure> {
    match fs::read_to_string(path(root, key)?) {
        Ok(text) => Ok(SysctlFact {
            exists: true,
            value: normalize(&text),
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(SysctlFact::default()),
        Err(error) => Err(error).doing(|| format!("read the kernel parameter {key}")),
    }
}

/// Makes runs of white space one blank, as keys with several values are compared.
pub(crate) fn normalize(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The file of a parameter. As for `sysctl`, the separator is whichever of `.` and `/` comes
/// first, and the other one then stands for itself or its opposite.
pub(crate) fn path(root: &Root, key: &str) -> Result<PathBuf, Failure> {
    let slashes = key
        .find(['.', '/'])
        .is_some_and(|at| key.as_bytes()[at] == b'/');
    let swap = |character| match character {
        '.' if !slashes => '/',
        '/' if !slashes => '.',
        other => other,
    };
    let file: String = key.chars().map(swap).collect();
    let bad = |part: &str| part.is_empty() || part == "." || part == ".." || part.contains('\0');
    if file.split('/').any(bad) {
        return Err(Failure::refused(format!(
            "`{key}` is not the key of a kernel parameter"
        )));
    }
    Ok(root.at("/proc/sys").join(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_separators_are_understood() {
        let root = Root::system();
        let file = |key| path(&root, key).unwrap().display().to_string();
        assert_eq!(file("net.core.somaxconn"), "/proc/sys/net/core/somaxconn");
        assert_eq!(
            file("net/ipv4/conf/eth0.1/forwarding"),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding"
        );
        assert_eq!(
            file("net.ipv4.conf.eth0/1.forwarding"),
            "/proc/sys/net/ipv4/conf/eth0.1/forwarding"
        );
    }

    #[test]
    fn a_key_stays_below_its_directory() {
        for key in ["", "a..b", "../etc", "a/../b", ".a", "/etc/passwd"] {
            assert!(path(&Root::system(), key).is_err(), "{key}");
        }
    }

    #[test]
    fn reads_and_normalizes() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        fs::create_dir_all(root.at("/proc/sys/net/ipv4")).unwrap();
        fs::write(
            root.at("/proc/sys/net/ipv4/tcp_rmem"),
            "4096\t131072\t6291456\n",
        )
        .unwrap();
        assert_eq!(
            look(&root, "net.ipv4.tcp_rmem").unwrap().value,
            "4096 131072 6291456"
        );
        assert!(!look(&root, "net.none").unwrap().exists);
    }
}
