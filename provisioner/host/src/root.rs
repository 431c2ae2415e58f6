//! Where the host's file tree begins, and where its programs are found.
//!
//! Goes in: absolute paths as the controller names them. Comes out: paths that can be opened.
//! Invariant: below a root other than `/`, neither a file nor a program of the real system is
//! touched.

use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use provision_protocol::STATE_DIRECTORY;

use crate::failure::Failure;

/// The longest path that is accepted, which is the kernel's own limit.
const MAX_PATH_BYTES: usize = 4095;
/// Where programs are looked for; a remote shell often lacks the `sbin` ones.
const PROGRAM_DIRECTORIES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Where the host's file tree begins.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    base: PathBuf,
}

impl Root {
    /// The real system.
    pub(crate) fn system() -> Self {
        Self {
            base: PathBuf::from("/"),
        }
    }

    /// A tree of its own, for tests.
    pub(crate) fn below(base: PathBuf) -> Self {
        Self { base }
    }

    /// This is the real system.
    pub(crate) fn is_system(&self) -> bool {
        self.base == Path::new("/")
    }

    /// The path to open for an absolute path of the host.
    pub(crate) fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.base.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A path in the state directory.
    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.at(STATE_DIRECTORY).join(name)
    }

    /// The path as the controller names it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(&self.base) {
            Ok(rest) => format!("/{}", rest.display()),
            Err(_) => path.display().to_string(),
        }
    }

    /// The file of a program that is named by itself or by its absolute path.
    pub(crate) fn program(&self, name: &str) -> Option<PathBuf> {
        let candidates: Vec<PathBuf> = if name.starts_with('/') {
            vec![self.at(name)]
        } else if name.is_empty() || name.contains('/') {
            return None;
        } else {
            PROGRAM_DIRECTORIES
                .iter()
                .map(|directory| self.at(directory).join(name))
                .collect()
        };
        candidates.into_iter().find(|path| {
            path.metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
    }

    /// The search path for programs that the helper starts. What stands for a program in a test
    /// may call the real system's tools.
    pub(crate) fn search_path(&self) -> String {
        let own = PROGRAM_DIRECTORIES.map(|directory| self.at(directory).display().to_string());
        let own = own.join(":");
        if self.is_system() {
            own
        } else {
            format!("{own}:{}", PROGRAM_DIRECTORIES.join(":"))
        }
    }
}

/// Accepts an absolute path without `.` and `..` that names something below `/`.
pub(crate) fn check_absolute(path: &str) -> Result<&str, Failure> {
    let bad = |why: &str| Err(Failure::refused(format!("the path `{path}` {why}")));
    if !path.starts_with('/') {
        return bad("is not absolute");
    }
    if path.len() > MAX_PATH_BYTES || path.contains('\0') {
        return bad("is not one that the kernel accepts");
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return bad("has `.` or `..` in it");
    }
    if !Path::new(path)
        .components()
        .any(|part| matches!(part, Component::Normal(_)))
    {
        return bad("names the root directory");
    }
    Ok(path)
}

/// Accepts a name that is a single path component, for instance of a unit or a hash.
pub(crate) fn check_component(name: &str) -> Result<&str, Failure> {
    let mut parts = Path::new(name).components();
    let single = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    if single && name.len() <= 255 && !name.contains(['/', '\0']) && !name.starts_with('-') {
        Ok(name)
    } else {
        Err(Failure::refused(format!("`{name}` is not a name")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_absolute_paths_without_detours() {
        check_absolute("/etc/hosts").unwrap();
        for path in [
            "",
            "/",
            "//",
            "etc/hosts",
            "/etc/../shadow",
            "/etc/./x",
            "/a\0b",
        ] {
            assert!(check_absolute(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_name_is_one_component() {
        check_component("otel-collector.service").unwrap();
        for name in ["", ".", "..", "a/b", "/a", "a/", "-rf"] {
            assert!(check_component(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn below_a_root_only_its_own_programs_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        assert_eq!(root.program("sh"), None);
        let bin = root.at("/usr/bin");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::write(bin.join("sh"), "").unwrap();
        assert_eq!(root.program("sh"), None, "not executable");
        std::fs::set_permissions(bin.join("sh"), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(root.program("sh"), Some(bin.join("sh")));
        assert_eq!(root.program("/usr/bin/sh"), Some(bin.join("sh")));
        assert_eq!(root.shown(&bin), "/usr/bin");
    }
}
