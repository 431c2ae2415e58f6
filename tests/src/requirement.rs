//! What a test needs of the machine.
//!
//! Goes in: a [`Requirement`]. Comes out: why it is not met. Invariant: on CI a requirement that
//! is not met is a failure, elsewhere the test counts as ignored and says why.

use std::process::{Command, Stdio};

/// What a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Root, for namespaces, mounts and loop devices.
    Root,
    /// A Python with the OpenTelemetry SDK; its path is in `FLEET_PYTHON`.
    OpenTelemetryPython,
    /// A Python with pytest-testinfra; its path is in `FLEET_PYTHON`.
    Testinfra,
    /// What makes a whole machine.
    Machine,
}

/// Why a requirement is not met; `None` when it is.
#[must_use]
pub fn missing(requirement: Requirement) -> Option<String> {
    match requirement {
        Requirement::Root => {
            let id = Command::new("id").arg("-u").output().ok()?;
            (id.stdout.trim_ascii() != b"0").then(|| "it needs root".to_owned())
        }
        Requirement::OpenTelemetryPython => without_modules(
            "the OpenTelemetry SDK",
            "opentelemetry.sdk, opentelemetry.exporter.otlp.proto.grpc",
        ),
        Requirement::Testinfra => without_modules("pytest-testinfra", "pytest, testinfra"),
        Requirement::Machine if std::env::consts::ARCH != "x86_64" => {
            Some("it needs an x86-64 machine".to_owned())
        }
        Requirement::Machine => {
            let is_absent = |program: &&str| {
                let found = Command::new("which").arg(program).output();
                !found.is_ok_and(|found| found.status.success())
            };
            let absent = ["qemu-system-x86_64", "mmdebstrap"];
            let absent: Vec<&str> = absent.into_iter().filter(is_absent).collect();
            (!absent.is_empty()).then(|| format!("it needs {}", absent.join(", ")))
        }
    }
}

/// Why Python lacks modules; `None` when it has them.
fn without_modules(what: &str, modules: &str) -> Option<String> {
    let Some(python) = std::env::var_os("FLEET_PYTHON") else {
        return Some("FLEET_PYTHON names no Python; scripts/test sets it up".to_owned());
    };
    let status = Command::new(python)
        .args(["-c", &format!("import {modules}")])
        .stderr(Stdio::null())
        .status();
    let works = status.is_ok_and(|status| status.success());
    (!works).then(|| format!("FLEET_PYTHON has no {what}"))
}
