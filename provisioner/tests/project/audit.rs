//! The audit log of an environment, as far as it shows without a host.
//!
//! Goes in: environments that name one. Comes out: refusals. Invariant: no host is reached, and
//! nothing else is written.

use super::Folder;

const ENVIRONMENT: &str = "environments/production.toml";

/// A project whose environment names this file.
fn logging_to(file: &str) -> Folder {
    let folder = Folder::empty();
    let _ = folder.run(&["init", "192.0.2.1", "192.0.2.2"], "");
    folder.use_a_stub(ENVIRONMENT);
    let text = folder.read(ENVIRONMENT);
    folder.write(ENVIRONMENT, &format!("audit_log = {file}\n{text}"));
    folder
}

#[test]
fn a_log_that_cannot_be_written_is_said_before_any_host_is_reached() {
    let folder = logging_to("\"absent/runs.jsonl\"");
    for command in ["apply", "rollback"] {
        let began = std::time::Instant::now();
        let said = folder.refuse(&[command, "--env", "production", "--yes"], "");
        assert!(began.elapsed().as_secs() < 5, "hosts were waited for");
        for words in [
            "the audit log ",
            "absent/runs.jsonl cannot be written",
            "No such file or directory",
            "environments/production.toml:1:13",
            "nothing was changed on any host",
        ] {
            assert!(said.contains(words), "{command}: {said}");
        }
    }
    assert!(!folder.project().join("absent").exists());
}

#[test]
fn the_files_are_checked_without_the_log() {
    let folder = logging_to("\"runs.jsonl\"");
    let said = folder.run(&["inventory", "check"], "");
    assert!(said.contains("2 hosts"), "{said}");
    assert!(!folder.project().join("runs.jsonl").exists());
    let folder = logging_to("7");
    let said = folder.refuse(&["inventory", "check"], "");
    assert!(said.contains("`audit_log` must be a string"), "{said}");
}
