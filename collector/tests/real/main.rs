//! The collector against the real world: official SDKs, the OpenTelemetry Collector, crashes.
//!
//! Goes in: the built program, and the peers that `scripts/peers` builds. Comes out: a verdict per
//! test, with figures. Invariant: a test whose peers are missing is ignored and says why; with CI
//! set it fails.
//!
//! A test may be long. `COLLECTOR_TESTS=long` runs them in their full length: outages of ten
//! minutes, hundreds of crashes.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]
#![expect(clippy::print_stdout, reason = "figures belong to what a test prints")]

mod access;
mod arrival;
mod clients;
mod crashes;
mod difference;
#[path = "../documents/index.rs"]
mod document_index;
mod gate;
mod load;
mod otelcol;
mod peer;
mod power;
mod process;
mod profiles;
mod sender;
mod sink;

use std::future::Future;

use libtest_mimic::{Arguments, Failed, Trial};

use peer::{Peer, missing};

/// One test: a sentence, what it needs, and what it does.
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) needs: &'static [Peer],
    pub(crate) run: fn(),
}

fn main() {
    let mut arguments = Arguments::from_args();
    // They measure times.
    arguments.test_threads = Some(1);
    let on_ci = std::env::var_os("CI").is_some();
    let trials = [
        clients::TESTS,
        access::TESTS,
        otelcol::TESTS,
        difference::TESTS,
        gate::TESTS,
        crashes::TESTS,
        power::TESTS,
        profiles::TESTS,
    ]
    .into_iter()
    .flatten()
    .map(|test| trial(test, on_ci))
    .collect();
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(test: &'static Test, on_ci: bool) -> Trial {
    let reasons: Vec<String> = test
        .needs
        .iter()
        .filter_map(|peer| missing(*peer))
        .collect();
    let reason = reasons.join("; ");
    // CI can install all but what only its owner has.
    let ignored = !reason.is_empty() && (!on_ci || test.needs.iter().any(Peer::is_private));
    let name = match ignored {
        true => format!("{} ({reason})", test.name),
        false => test.name.to_owned(),
    };
    Trial::test(name, move || {
        if !reason.is_empty() {
            return Err(Failed::from(reason));
        }
        (test.run)();
        Ok(())
    })
    .with_ignored_flag(ignored)
}

/// Whether tests run in their full length.
pub(crate) fn long() -> bool {
    std::env::var("COLLECTOR_TESTS").is_ok_and(|length| length == "long")
}

/// Runs one test's work.
pub(crate) fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}
