//! `provision tls` from an authority to a certificate in a template.
//!
//! Goes in: an environment. Comes out: certificates as files, keys as secrets. Invariant: no file
//! of the project holds a private key in clear.

use super::Folder;

#[test]
fn certificates_are_made_renewed_and_seen_by_templates() {
    let folder = Folder::with_project();
    let early = folder.refuse(&["tls", "issue", "-e", "production"], "");
    assert!(
        early.contains("provision tls init --env production"),
        "{early}"
    );
    folder.run(&["tls", "init", "-e", "production"], "");
    let twice = folder.refuse(&["tls", "init", "-e", "production"], "");
    assert!(twice.contains("has an authority already"), "{twice}");
    folder.run(&["tls", "issue", "-e", "production"], "");
    let status = ["tls", "status", "-e", "production"];
    let json = folder.run(&[&status[..], &["--output", "json"]].concat(), "");
    let rows: serde_json::Value = serde_json::from_str(&json).unwrap();
    let rows = rows.as_array().unwrap();
    assert!(
        rows.len() > 3 && rows.iter().all(|row| row["state"] == "valid"),
        "{json}"
    );
    assert_eq!(rows[1]["days_left"], 89);
    // Nothing is due; a host that is named is renewed all the same.
    let file = "tls/production/hosts/storage-1.pem";
    let first = folder.read(file);
    folder.run(&["tls", "issue", "-e", "production"], "");
    assert_eq!(folder.read(file), first);
    folder.run(
        &[
            "tls",
            "issue",
            "-e",
            "production",
            "--days",
            "5",
            "storage-1",
        ],
        "",
    );
    assert_ne!(folder.read(file), first);
    let output = folder.command(&status).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        !output.status.success() && shown.contains("ends-soon"),
        "{shown}"
    );
    let key = folder.run(&["secret", "get", "tls.storage-1", "-e", "production"], "");
    assert!(key.contains("PRIVATE KEY"));
    let kept = folder.read("environments/production.secrets.toml");
    assert!(!kept.contains("PRIVATE KEY"), "{kept}");
    let template = "templates/collector/storage.yaml.tera";
    let text = folder.read(template);
    let uses = "{% set key = \"tls.\" ~ host.name %}# {{ secrets[key] | length }} {{ tls.ca | length }} {{ tls.hosts[host.name] | length }}\n";
    folder.write(template, &format!("{uses}{text}"));
    // The other environments have no certificates, which is a mistake where a template asks.
    for other in ["development", "staging"] {
        std::fs::remove_file(folder.project().join(format!("environments/{other}.toml"))).unwrap();
    }
    folder.run(&["inventory", "check"], "");
}
