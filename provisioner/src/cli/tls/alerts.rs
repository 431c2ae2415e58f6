//! `provision tls alerts`: rules for Prometheus.
//!
//! Goes in: the certificates of an environment. Comes out: a file of rules, an alert for each
//! certificate. Invariant: a rule needs no metric, as when a certificate ends is known here.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;

use super::super::secret::{SecretArgs, Store};
use super::{DAY, fleet};
use crate::error::Result;
use crate::report::print;
use crate::secret::Redactor;
use crate::tls::valid_until;

/// Arguments of `tls alerts`.
#[derive(Debug, Clone, Args)]
pub(in crate::cli) struct AlertsArgs {
    /// Tell so many days ahead
    #[arg(long, value_name = "DAYS", default_value_t = 7)]
    within: u32,
    #[command(flatten)]
    common: SecretArgs,
}

pub(super) fn run(args: &AlertsArgs) -> Result<ExitCode> {
    let store = Store::open(&args.common)?;
    let fleet = fleet(&store)?;
    let env = &fleet.environment.name;
    let authority = fleet
        .certificates
        .ca
        .iter()
        .map(|text| ("(authority)", text));
    let hosts = fleet.certificates.hosts.iter();
    let clients = fleet.certificates.clients.iter();
    let issued = hosts
        .chain(clients)
        .map(|(host, text)| (host.as_str(), text));
    let known = authority.chain(issued);
    let mut text = format!(
        "# Certificates of {env} that end within {} days. Made by `provision tls alerts`: make it\n\
         # again after certificates were issued.\n\
         groups:\n  - name: provision-tls-{env}\n    rules:\n",
        args.within
    );
    for (host, certificate) in known {
        if let Some(until) = valid_until(certificate) {
            text.push_str(&rule(host, until, args));
        }
    }
    print(&Redactor::default(), &text)?;
    Ok(ExitCode::SUCCESS)
}

fn rule(host: &str, until: SystemTime, args: &AlertsArgs) -> String {
    let end = until
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let from = end.saturating_sub(DAY * args.within).as_secs();
    let when = humantime::format_rfc3339_seconds(until);
    format!(
        "      - alert: CertificateEndsSoon\n        \
         expr: vector(time()) >= {from}\n        \
         labels: {{severity: warning, host: \"{host}\"}}\n        \
         annotations: {{summary: \"the certificate of {host} ends at {when}: run `provision tls rotate`\"}}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        args: AlertsArgs,
    }

    #[test]
    fn a_rule_begins_to_hold_the_days_before_the_end() {
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let words = Words::parse_from(["alerts", "--env", "a"]);
        let rule = rule("lb-1", until, &words.args);
        assert!(
            rule.contains("expr: vector(time()) >= 1799395200\n"),
            "{rule}"
        );
        assert!(rule.contains("ends at 2027-01-15T08:00:00Z"), "{rule}");
    }
}
