//! A project of the tests' own: the repository's files, copied, under another lab's name.
//!
//! Goes in: the repository. Comes out: a folder that `provision --project` takes. Invariant: an
//! [`Edit`] is taken back when it goes out of scope.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output::Output;

/// The folders that make a project.
const FOLDERS: &[&str] = &["inventories", "environments", "playbooks", "templates"];

/// A project of the tests' own.
#[derive(Debug)]
pub struct Project {
    folder: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Project {
    /// A copy of the repository's project, with another name for its lab.
    ///
    /// # Panics
    /// It cannot be copied.
    #[must_use]
    pub fn new(lab_name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("a repository");
        for name in FOLDERS {
            copy_folder(&repository.join(name), &folder.path().join(name));
        }
        let project = Self {
            folder,
            variables: Vec::new(),
        };
        let inventory = project.path("inventories/lab.toml");
        let text = fs::read_to_string(&inventory).expect("the lab's inventory");
        let named = text.replace("name = \"development\"", &format!("name = \"{lab_name}\""));
        assert_ne!(
            text, named,
            "the lab's inventory has another name than expected"
        );
        fs::write(inventory, named).expect("the lab's inventory");
        project
    }

    /// Sets a variable for every run of `provision`.
    pub fn set_variable(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A file of the project.
    #[must_use]
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// The folder with the programs that were built.
    ///
    /// # Panics
    /// This program has no path.
    #[must_use]
    pub fn programs() -> PathBuf {
        // target/TRIPLE/PROFILE/deps/fleet-HASH
        let own = std::env::current_exe().expect("a path");
        own.ancestors()
            .nth(2)
            .expect("a profile's folder")
            .to_owned()
    }

    /// `provision` with arguments, for this project, not yet run.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Self::programs().join("provision"));
        command
            .args(arguments)
            .args(["--project"])
            .arg(self.folder.path());
        command
            .env_remove("CLICOLOR_FORCE")
            .envs(self.variables.iter().cloned());
        command
    }

    /// Runs `provision` with arguments, for this project.
    #[must_use]
    pub fn provision(&self, arguments: &[&str]) -> Output {
        Output::of(&mut self.command(arguments))
    }

    /// Runs `provision apply --env development --yes` and expects it to end well.
    #[track_caller]
    pub fn apply(&self) -> Output {
        self.provision(&["apply", "--env", "development", "--yes"])
            .success()
    }

    /// Replaces a text in a file until the result is dropped.
    ///
    /// # Panics
    /// The file does not have the text.
    #[track_caller]
    pub fn edit(&self, relative: &str, from: &str, to: &str) -> Edit {
        let path = self.path(relative);
        let before = fs::read_to_string(&path).expect("a file of the project");
        assert!(before.contains(from), "{relative} does not have `{from}`");
        fs::write(&path, before.replacen(from, to, 1)).expect("a file of the project");
        Edit {
            path,
            before: Some(before),
        }
    }

    /// Writes a file until the result is dropped.
    ///
    /// # Panics
    /// The file cannot be written.
    pub fn write(&self, relative: &str, text: &str) -> Edit {
        let path = self.path(relative);
        let before = fs::read_to_string(&path).ok();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a folder of the project");
        }
        fs::write(&path, text).expect("a file of the project");
        Edit { path, before }
    }
}

/// A change of a file that is taken back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Edit {
    path: PathBuf,
    before: Option<String>,
}

impl Drop for Edit {
    fn drop(&mut self) {
        let result = match &self.before {
            Some(text) => fs::write(&self.path, text),
            None => fs::remove_file(&self.path),
        };
        assert!(
            result.is_ok() || std::thread::panicking(),
            "{} stays changed",
            self.path.display()
        );
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder of the repository") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}
