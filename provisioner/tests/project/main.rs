//! The program on projects of the tests' own, without any host.
//!
//! Goes in: the program that was built with this test. Comes out: a verdict per module. Invariant:
//! no file outside a temporary folder is read or written, the home folder's among them.

mod audit;
mod from_ansible;
mod init;
mod pages;
mod secret;
mod sizing;
mod tls;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a project in it, and a home folder of its own.
struct Folder {
    folder: tempfile::TempDir,
}

impl Folder {
    /// The repository's project, with its environments `development` and `production`.
    fn with_project() -> Self {
        let folder = Self::empty();
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let status = Command::new("cp")
            .arg("-r")
            .args(
                ["inventories", "environments", "playbooks", "templates"]
                    .map(|name| repository.join(name)),
            )
            .arg(folder.project())
            .status()
            .expect("cp");
        assert!(status.success());
        for name in ["development", "staging", "production"] {
            folder.use_a_stub(&format!("environments/{name}.toml"));
        }
        folder
    }

    fn empty() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("project")).expect("it works");
        fs::create_dir(folder.path().join("home")).expect("it works");
        Self { folder }
    }

    /// The collector need not be built for tests of the command line.
    fn use_a_stub(&self, environment: &str) {
        let text = self.read(environment);
        let stub = text.replace("program = \"collector\"", "path = \"/bin/true\"");
        assert_ne!(text, stub);
        self.write(environment, &stub);
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.project().join(file)).expect("it works")
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.project().join(file), text).expect("it works");
    }

    /// `provision` in this project, with nothing of this machine's environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provision"));
        command
            .args(arguments)
            .current_dir(self.project())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.home());
        command
    }

    /// Runs it with an input, and expects it to end well.
    #[track_caller]
    fn run(&self, arguments: &[&str], input: &str) -> String {
        let output = feed(&mut self.command(arguments), input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("it works")
    }

    /// Runs it, and expects it to fail; what it complains about.
    #[track_caller]
    fn refuse(&self, arguments: &[&str], input: &str) -> String {
        let output = feed(&mut self.command(arguments), input);
        assert!(!output.status.success(), "{arguments:?} ended well");
        String::from_utf8(output.stderr).expect("it works")
    }
}

fn feed(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it works");
    // A program that does not read its input may be gone already.
    let _ = child
        .stdin
        .take()
        .expect("it works")
        .write_all(input.as_bytes());
    child.wait_with_output().expect("it works")
}
