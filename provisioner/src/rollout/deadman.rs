//! Changes that could lock everybody out are put back by the host itself unless somebody gets in.
//!
//! Goes in: changes that are about to be made. Comes out: an armed host before them, and one that
//! was got into anew after them. Invariant: a connection, an authentication and root's rights
//! that were there before the change never count as a proof.

use std::path::Path;
use std::time::{Duration, Instant};

use provision_protocol::DEADMAN_NOTES;
use provision_protocol::fact::{Fact, FileQuery, FileType, Query, fact_kind, query};
use provision_protocol::message::Arm;
use provision_protocol::operation::{ManifestKind, Operation, operation};

use super::RunOptions;
use super::session::HostSession;
use crate::error::{Error, ErrorKind, Result};
use crate::report::Event;

/// What decides who gets in, by the beginning of a path, and what reads it. A folder that ends with
/// a slash is meant itself, too.
const ENDANGERING: &[(&str, &[&str])] = &[
    ("/etc/ssh/", SSH_UNITS),
    ("/etc/systemd/system/ssh", SSH_UNITS),
    ("/usr/sbin/sshd", SSH_UNITS),
    ("/usr/lib/openssh/", SSH_UNITS),
    ("/etc/sudo", &[]),
    ("/usr/bin/sudo", &[]),
    ("/usr/bin/doas", &[]),
    ("/etc/passwd", &[]),
    ("/etc/shadow", &[]),
    ("/etc/group", &[]),
    ("/etc/gshadow", &[]),
    ("/etc/nologin", &[]),
    ("/etc/doas.conf", &[]),
    ("/etc/pam.d/", &[]),
    ("/etc/security/access", &[]),
    ("/etc/nsswitch.conf", &[]),
    ("/etc/hosts.allow", &[]),
    ("/etc/hosts.deny", &[]),
    ("/etc/systemd/network/", NETWORK_UNITS),
    ("/etc/systemd/system/systemd-networkd", NETWORK_UNITS),
    ("/etc/network/", NETWORK_UNITS),
    ("/etc/netplan/", NETWORK_UNITS),
    ("/etc/NetworkManager/", NETWORK_UNITS),
    ("/etc/nftables", NFTABLES_UNITS),
    ("/etc/iptables/", NFTABLES_UNITS),
    ("/etc/provision-firewall", OWN_FIREWALL_UNITS),
    ("/etc/systemd/system/provision-firewall", OWN_FIREWALL_UNITS),
    ("/etc/ufw/", UFW_UNITS),
    ("/etc/default/ufw", UFW_UNITS),
    ("/etc/firewalld/", FIREWALLD_UNITS),
];

/// The folder in which an account's keys stand, wherever its home is.
const KEYS: &str = ".ssh";

const SSH_UNITS: &[&str] = &["ssh.service", "sshd.service", "ssh.socket"];
const NETWORK_UNITS: &[&str] = &[
    "systemd-networkd.service",
    "networking.service",
    "NetworkManager.service",
];
const NFTABLES_UNITS: &[&str] = &["nftables.service", "netfilter-persistent.service"];
const OWN_FIREWALL_UNITS: &[&str] = &["provision-firewall.service"];
const UFW_UNITS: &[&str] = &["ufw.service"];
const FIREWALLD_UNITS: &[&str] = &["firewalld.service"];

/// How often getting in anew is tried at once, before what was changed is taken back.
const TRIES: u32 = 3;

/// The pause between two tries: some sshd and sudo punish haste.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a change may take to have its effect: networks are configured after their daemon has
/// said that it is ready.
const SETTLES_WITHIN: Duration = Duration::from_secs(3);

/// How much longer than its time a host is waited for that puts things back by itself.
const MARGIN: Duration = Duration::from_secs(60);

impl HostSession {
    /// Has the host put back by itself what these operations touch, where they could lock
    /// everybody out; `true` where they could.
    pub(super) async fn arm(
        &mut self,
        operations: &[Operation],
        options: &RunOptions,
    ) -> Result<bool> {
        let kinds = || operations.iter().filter_map(|one| one.kind.as_ref());
        let arm = endangered(kinds().filter_map(touched), kinds().filter_map(acted_on));
        let (Some(mut arm), Some(host)) = (arm, &self.host) else {
            return Ok(false);
        };
        let within = host.revert_after();
        arm.within_millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.say(options, "arming the dead man's switch");
        self.conversation.arm(arm).await?;
        (self.armed, self.reverts_within) = (true, Some(within));
        Ok(true)
    }

    /// Gets in anew, and tells the host that somebody has.
    ///
    /// # Errors
    /// Nobody gets in any more.
    pub(super) async fn get_in_anew(&mut self, options: &RunOptions) -> Result<()> {
        tokio::time::sleep(SETTLES_WITHIN).await;
        self.say(options, "getting in anew");
        let mut last = None;
        for _ in 0..TRIES {
            match self.try_to_disarm().await {
                Ok(true) => {
                    self.armed = false;
                    return Ok(());
                }
                Ok(false) => return Err(Error::host("it put the change back by itself")),
                Err(error) => {
                    let denied = error.kind == ErrorKind::Denied;
                    let again = last.as_ref().map(|last: &Error| last.kind);
                    last = Some(error);
                    if denied && again == Some(ErrorKind::Denied) {
                        break;
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        let mut error = Error::host("nobody could get in any more after this change");
        if let Some(last) = last {
            error.causes.push(last.message);
            error.causes.extend(last.causes);
        }
        Err(error.hint("look at what the change does to sshd, the network or sudo"))
    }

    /// Confirms what an earlier run was interrupted over, before its host puts it back.
    ///
    /// # Errors
    /// Nobody gets in any more.
    pub(super) async fn confirm_earlier(&mut self, options: &RunOptions) -> Result<()> {
        if self.armed {
            self.get_in_anew(options).await?;
        }
        Ok(())
    }

    /// Sees to an armed host that failed: one that was rolled back is got into anew, any other is
    /// waited for. Says what became of it, where there is something to say.
    pub(super) async fn settle_switch(&mut self, options: &RunOptions) -> Option<String> {
        if !self.armed || options.interrupt.has_come() {
            return None;
        }
        if self.rolled_back && self.get_in_anew(options).await.is_ok() {
            return None;
        }
        Some(self.see_put_back(options).await)
    }

    /// Waits until the host has put back what locked everybody out; says what became of it.
    async fn see_put_back(&mut self, options: &RunOptions) -> String {
        self.say(options, "waiting until it puts the change back by itself");
        let usual = || self.host.as_ref().map(|host| host.revert_after());
        let after = self.reverts_within.or_else(usual).unwrap_or(MARGIN);
        let reverts = Instant::now() + after;
        let until = reverts + MARGIN;
        let not_seen = || {
            let after = humantime::format_duration(after);
            format!("it shall put the change back by itself within {after}, and was not seen to")
        };
        let mut denied = false;
        loop {
            match self.look_whether_armed().await {
                Ok(false) => {
                    self.armed = false;
                    let text = "it has put back by itself what locked everybody out".to_owned();
                    let _ = options.events.send(Event::Said {
                        host: self.name().to_owned(),
                        text: text.clone(),
                    });
                    return text;
                }
                _ if Instant::now() > until => return not_seen(),
                // Whoever is denied again and again may lock the account for the time after, too.
                Err(error) if error.kind == ErrorKind::Denied && denied => return not_seen(),
                Err(error) if error.kind == ErrorKind::Denied => {
                    denied = true;
                    let rest = reverts.saturating_duration_since(Instant::now());
                    tokio::time::sleep(rest + SETTLES_WITHIN).await;
                }
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn try_to_disarm(&self) -> Result<bool> {
        let Some(host) = &self.host else {
            return Err(Error::host("there is no way to get in anew"));
        };
        // A host that failed goes back to what let in before, which needs no proof.
        let reached = match self.failure {
            Some(_) => host.look_anew().await,
            None => host.connect_anew().await,
        };
        let mut conversation = reached?;
        let armed = conversation.disarm().await;
        conversation.close().await;
        armed
    }

    /// Whether the host still has to put something back, as somebody sees who comes anew.
    async fn look_whether_armed(&self) -> Result<bool> {
        let Some(host) = &self.host else {
            return Err(Error::host("there is no way to get in anew"));
        };
        let mut conversation = host.look_anew().await?;
        let facts = conversation.ask(vec![ask_whether_armed()]).await;
        conversation.close().await;
        Ok(read_whether_armed(facts?.pop()))
    }
}

/// Asks whether the host has to put something back.
pub(super) fn ask_whether_armed() -> Query {
    let query = FileQuery {
        path: DEADMAN_NOTES.to_owned(),
        ..FileQuery::default()
    };
    Query {
        kind: Some(query::Kind::File(query)),
    }
}

/// The answer to [`ask_whether_armed`]; what cannot be read counts as a yes.
pub(super) fn read_whether_armed(fact: Option<Fact>) -> bool {
    match fact.and_then(|fact| fact.kind) {
        Some(fact_kind::Kind::File(file)) => file.file_type() != FileType::Absent,
        _ => true,
    }
}

/// What these paths and units are of what decides who gets in.
pub(super) fn endangered<'a>(
    paths: impl Iterator<Item = &'a str>,
    units: impl Iterator<Item = &'a str>,
) -> Option<Arm> {
    let mut arm = Arm::default();
    let add = |list: &mut Vec<String>, name: &str| {
        if !list.iter().any(|known| known == name) {
            list.push(name.to_owned());
        }
    };
    for path in paths {
        let readers = ENDANGERING
            .iter()
            .find(|(beginning, _)| {
                path.starts_with(beginning) || beginning.strip_suffix('/') == Some(path)
            })
            .map(|(_, units)| *units);
        let readers = readers.or_else(|| decides_on_keys(path).then_some(&[]));
        let Some(readers) = readers else { continue };
        add(&mut arm.paths, path);
        for unit in readers {
            add(&mut arm.units, unit);
        }
    }
    let known = |unit: &&str| ENDANGERING.iter().any(|(_, units)| units.contains(unit));
    for unit in units.filter(known) {
        add(&mut arm.units, unit);
    }
    (!arm.paths.is_empty() || !arm.units.is_empty()).then_some(arm)
}

/// Whether sshd looks at it to find out whether a key is good: the folder of the keys, what is in
/// it, and homes, which it refuses where others may write to them.
fn decides_on_keys(path: &str) -> bool {
    let path = Path::new(path);
    path.iter().any(|name| name == KEYS)
        || path == Path::new("/root")
        || path.parent() == Some(Path::new("/home"))
}

/// The file or directory that an operation replaces, changes or takes away.
fn touched(operation: &operation::Kind) -> Option<&str> {
    match operation {
        operation::Kind::WriteFile(write) => Some(&write.path),
        operation::Kind::MakeDirectory(make) => Some(&make.path),
        operation::Kind::SetAttributes(set) => Some(&set.path),
        operation::Kind::Remove(remove) => remove
            .entry
            .as_ref()
            .map(|entry| entry.name.as_str())
            .filter(|name| name.starts_with('/')),
        _ => None,
    }
}

/// The unit that an operation acts on, or takes away.
fn acted_on(operation: &operation::Kind) -> Option<&str> {
    match operation {
        operation::Kind::UnitAction(action) => Some(&action.unit),
        operation::Kind::Remove(remove) => remove
            .entry
            .as_ref()
            .filter(|entry| entry.kind() == ManifestKind::Unit)
            .map(|entry| entry.name.as_str()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use provision_protocol::operation::{MakeDirectory, ManifestEntry, Remove, SetAttributes};

    use super::*;

    fn of_paths(paths: &[&str]) -> Option<Arm> {
        endangered(paths.iter().copied(), std::iter::empty())
    }

    fn of_units(units: &[&str]) -> Option<Arm> {
        endangered(std::iter::empty(), units.iter().copied())
    }

    #[test]
    fn every_firewall_is_armed_with_the_unit_that_loads_it_and_no_other() {
        for (path, unit) in [
            ("/etc/provision-firewall.nft", "provision-firewall.service"),
            (
                "/etc/systemd/system/provision-firewall.service",
                "provision-firewall.service",
            ),
            ("/etc/ufw/user.rules", "ufw.service"),
            ("/etc/default/ufw", "ufw.service"),
            ("/etc/firewalld/zones/public.xml", "firewalld.service"),
        ] {
            let arm = of_paths(&[path]).unwrap();
            assert_eq!(
                (arm.paths, arm.units),
                (vec![path.into()], vec![unit.into()])
            );
            assert_eq!(of_units(&[unit]).unwrap().units, [unit]);
        }
        assert_eq!(of_paths(&["/etc/nftables.conf"]).unwrap().units.len(), 2);
        assert_eq!(of_units(&["otel-collector.service", ""]), None);
    }

    #[test]
    fn what_sshd_and_sudo_look_at_is_armed_and_nothing_beside_it() {
        for path in [
            "/home/deploy",
            "/home/deploy/.ssh",
            "/srv/deploy/.ssh/authorized_keys",
            "/root",
            "/root/.ssh",
            "/etc/ssh",
            "/etc/pam.d",
            "/etc/sudo.conf",
            "/etc/passwd",
            "/etc/shadow",
            "/etc/group",
            "/etc/nologin",
            "/usr/bin/sudo",
        ] {
            let arm = of_paths(&[path]).unwrap();
            assert_eq!(arm.paths, [path], "{path}");
        }
        let sshd = of_paths(&["/usr/sbin/sshd"]).unwrap();
        assert!(sshd.units.contains(&"ssh.service".to_owned()));
        for path in [
            "/home",
            "/home/deploy/app.conf",
            "/srv/deploy",
            "/etc",
            "/etc/sshguard",
            "/etc/systemd/system/otel-collector.service",
            "/usr/local/bin/provision",
        ] {
            assert_eq!(of_paths(&[path]), None, "{path}");
        }
    }

    #[test]
    fn a_directory_that_is_made_or_changed_is_touched() {
        let path = "/root/.ssh".to_owned();
        let make = MakeDirectory {
            path: path.clone(),
            ..MakeDirectory::default()
        };
        let set = SetAttributes {
            path: path.clone(),
            ..SetAttributes::default()
        };
        let make = operation::Kind::MakeDirectory(make);
        assert_eq!(touched(&make), Some(path.as_str()));
        let set = operation::Kind::SetAttributes(set);
        assert_eq!(touched(&set), Some(path.as_str()));
    }

    #[test]
    fn a_unit_that_is_taken_away_counts_as_acted_on() {
        let remove = |kind: ManifestKind, name: &str| {
            let entry = ManifestEntry {
                kind: kind as i32,
                name: name.to_owned(),
                ..ManifestEntry::default()
            };
            operation::Kind::Remove(Remove { entry: Some(entry) })
        };
        let unit = remove(ManifestKind::Unit, "ssh.service");
        assert_eq!(
            (touched(&unit), acted_on(&unit)),
            (None, Some("ssh.service"))
        );
        let file = remove(ManifestKind::File, "/etc/sudoers.d/deploy");
        assert_eq!(touched(&file), Some("/etc/sudoers.d/deploy"));
        assert_eq!(acted_on(&remove(ManifestKind::Package, "ufw")), None);
    }
}
