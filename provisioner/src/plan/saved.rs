//! A plan that was written to a file, to be read by people and applied later.
//!
//! Goes in: plans as they were decided. Comes out: a [`SavedPlan`], and later what differs between
//! it and what would be done by then. Invariant: pure; what could tell of a secret is in it only
//! as a hash whose key is derived from the secrets themselves, so that whoever has them can compare
//! and nobody else can guess.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use prost::Message as _;
use provision_protocol::generation::Origin;
use provision_protocol::operation::operation;
use ring::{hmac, pbkdf2};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{HostPlan, ResourceChange};
use crate::playbook::Play;
use crate::secret::{Redactor, Secrets};

/// The format of the file. Another one is refused.
pub const VERSION: u32 = 1;
/// What a file begins to say of itself.
pub const FORMAT: &str = "provision plan";
/// How often a guess of all secrets has to be hashed before it can be compared.
const KEY_ROUNDS: u32 = if cfg!(test) { 1_000 } else { 600_000 };
/// How many random bytes go into the key.
const SALT_BYTES: usize = 16;

/// A plan in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The environment.
    pub environment: String,
    /// What the run is limited to; everything when empty.
    pub limit: Vec<String>,
    /// Settings that were overridden, as `KEY=VALUE`.
    pub overrides: Vec<String>,
    /// When it was made, in RFC 3339.
    pub made_at: String,
    /// Who made it.
    pub made_by: String,
    /// The commit of the project, with `+` behind it where files differed from it.
    pub commit: String,
    /// What the keys of the hashes are made with, in hex.
    pub salt: String,
    /// How each play that changes something is rolled out, in order.
    pub plays: Vec<SavedPlay>,
    /// Every host that answered.
    pub hosts: Vec<SavedHost>,
}

/// How a play is rolled out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlay {
    /// Its name.
    pub play: String,
    /// The hosts of its group.
    pub hosts: Vec<String>,
    /// Each key that says how carefully, in words.
    pub pace: BTreeMap<String, String>,
}

/// What would be done on one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedHost {
    /// The host.
    pub host: String,
    /// Its changes, in order.
    pub changes: Vec<SavedChange>,
    /// What is decided only later, with what is waited for.
    pub undecided: Vec<String>,
    /// What left the playbook and stays all the same.
    pub stays: Vec<String>,
}

/// What would be done to one resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedChange {
    /// The resource.
    pub resource: String,
    /// The play.
    pub play: String,
    /// What is done, in one word.
    pub action: String,
    /// It cannot be taken back.
    pub irreversible: bool,
    /// What has to be done before it is known for certain.
    pub unknown_after: Option<String>,
    /// What is different, for a person.
    pub details: Value,
    /// The contents that are put on the host, each by a plain or a keyed hash.
    pub contents: Vec<SavedContent>,
    /// A keyed hash of exactly what is done, and of what must be so for that.
    pub digest: String,
}

/// A content that is put on a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedContent {
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// SHA-256 in hex; absent where the content holds a secret.
    pub sha256: Option<String>,
    /// A keyed hash where it does.
    pub keyed: Option<String>,
}

/// What a plan is saved with.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// The environment.
    pub environment: &'a str,
    /// What the run is limited to.
    pub limit: &'a [String],
    /// Settings that are overridden.
    pub overrides: &'a [String],
    /// When it is made, in RFC 3339.
    pub made_at: String,
    /// Who makes it, and from which state of the project.
    pub origin: &'a Origin,
    /// All secrets of the environment.
    pub secrets: &'a Secrets,
    /// Takes them out of what is shown.
    pub redactor: &'a Redactor,
}

impl SavedPlan {
    /// The plan of a run, for a file.
    #[must_use]
    pub fn new(
        plans: &[HostPlan],
        plays: &[(Play, Vec<String>)],
        salt: [u8; SALT_BYTES],
        with: &Circumstances<'_>,
    ) -> Self {
        let key = key(with.secrets, &salt);
        let concerned = |play: &Play| {
            let mut changes = plans.iter().flat_map(|plan| &plan.changes);
            changes.any(|change| change.play == play.name.as_str())
        };
        let plays = plays.iter().filter(|(play, _)| concerned(play));
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            environment: with.environment.to_owned(),
            limit: with.limit.to_vec(),
            overrides: with.overrides.to_vec(),
            made_at: with.made_at.clone(),
            made_by: with.origin.who.clone(),
            commit: with.origin.commit.clone(),
            salt: hex(&salt),
            plays: plays
                .map(|(play, hosts)| SavedPlay {
                    play: play.name.to_string(),
                    hosts: hosts.clone(),
                    pace: play.manner(),
                })
                .collect(),
            hosts: plans
                .iter()
                .map(|plan| save_host(plan, with, &key))
                .collect(),
        }
    }

    /// What is different between this plan and the one that would be made now: the host, the
    /// resource and how. Empty when they are the same.
    #[must_use]
    pub fn differences(
        &self,
        plans: &[HostPlan],
        plays: &[(Play, Vec<String>)],
        with: &Circumstances<'_>,
    ) -> Vec<String> {
        let Some(salt) = unhex(&self.salt) else {
            return vec!["its `salt` is damaged".to_owned()];
        };
        let now = Self::new(plans, plays, salt, with);
        let mut differences = Vec::new();
        for host in &now.hosts {
            if !self.hosts.iter().any(|known| known.host == host.host) {
                differences.push(format!("{}: it was not there", host.host));
            }
        }
        for host in &self.hosts {
            match now.hosts.iter().find(|one| one.host == host.host) {
                None => differences.push(format!("{}: it is gone", host.host)),
                Some(found) => {
                    let of_host = compare_host(host, found);
                    differences.extend(of_host.map(|what| format!("{}: {what}", host.host)));
                }
            }
        }
        // A play without changes by now is told of by its hosts already.
        for (known, found) in self.plays.iter().filter_map(|known| {
            let found = now.plays.iter().find(|one| one.play == known.play)?;
            Some((known, found))
        }) {
            differences.extend(compare_play(known, found));
        }
        differences
    }
}

fn compare_host<'a>(
    known: &'a SavedHost,
    found: &'a SavedHost,
) -> impl Iterator<Item = String> + use<'a> {
    let key = |change: &SavedChange| (change.play.clone(), change.resource.clone());
    let gone = known.changes.iter().filter(move |one| {
        let mut now = found.changes.iter();
        !now.any(|other| key(other) == key(one))
    });
    let gone = gone.map(|one| {
        format!(
            "{}: the plan is to {} it, and nothing is to be done any more",
            one.resource, one.action
        )
    });
    let changed = found.changes.iter().filter_map(move |now| {
        match known.changes.iter().find(|one| key(one) == key(now)) {
            None => Some(format!(
                "{}: the plan leaves it alone, and now it would {} it",
                now.resource, now.action
            )),
            Some(one) if one == now => None,
            Some(one) => Some(format!("{}: {}", now.resource, compare_change(one, now))),
        }
    });
    let order = |host: &SavedHost| host.changes.iter().map(key).collect::<Vec<_>>();
    let sorted = |host: &SavedHost| {
        let mut keys = order(host);
        keys.sort();
        keys
    };
    let moved = (sorted(known) == sorted(found) && order(known) != order(found))
        .then(|| "its changes come in another order".to_owned());
    let undecided = (known.undecided != found.undecided)
        .then(|| "what can be decided only later is something else".to_owned());
    let stays = (known.stays != found.stays)
        .then(|| "what stays of what left the playbook is something else".to_owned());
    gone.chain(changed)
        .chain(moved)
        .chain(undecided)
        .chain(stays)
}

fn compare_change(known: &SavedChange, now: &SavedChange) -> String {
    if known.action != now.action {
        return format!(
            "the plan is to {} it, and now it would {}",
            known.action, now.action
        );
    }
    if known.contents != now.contents {
        return "its new content is another one than the plan has".to_owned();
    }
    let empty = Vec::new();
    let list = |change: &SavedChange| change.details.as_array().unwrap_or(&empty).clone();
    let (before, after) = (list(known), list(now));
    if let Some(detail) = after.iter().find(|detail| !before.contains(detail)) {
        let field = detail.get("field");
        return match field.and_then(|field| field["name"].as_str()) {
            Some(name) => {
                let field = field.cloned().unwrap_or_default();
                let words = |value: &Value| value.as_str().unwrap_or("nothing").to_owned();
                format!(
                    "{name}: {} → {} by now",
                    words(&field["from"]),
                    words(&field["to"])
                )
            }
            None => "what is there now, or shall be, is another text".to_owned(),
        };
    }
    if known.unknown_after != now.unknown_after {
        return "what it waits for is something else".to_owned();
    }
    "what is done, or what must be so for it, is something else by now".to_owned()
}

fn compare_play(known: &SavedPlay, found: &SavedPlay) -> Vec<String> {
    let mut differences = Vec::new();
    if known.hosts != found.hosts {
        differences.push(format!("play {}: its group has other hosts", known.play));
    }
    let none = "nothing".to_owned();
    for (key, now) in &found.pace {
        let before = known.pace.get(key).unwrap_or(&none);
        if before != now {
            differences.push(format!(
                "play {}: {key}: {before} → {now} by now",
                known.play
            ));
        }
    }
    differences
}

fn save_host(plan: &HostPlan, with: &Circumstances<'_>, key: &hmac::Key) -> SavedHost {
    let redact = |text: &str| with.redactor.redact(text);
    SavedHost {
        host: plan.host.clone(),
        changes: plan
            .changes
            .iter()
            .map(|change| save_change(change, with, key))
            .collect(),
        undecided: plan
            .undecided
            .iter()
            .map(|one| redact(&format!("{}: {}", one.resource, one.refusal.message)))
            .collect(),
        stays: plan.stays.iter().map(|stays| redact(stays)).collect(),
    }
}

fn save_change(entry: &ResourceChange, with: &Circumstances<'_>, key: &hmac::Key) -> SavedChange {
    let change = &entry.change;
    let mut details = json!(change.details);
    with.redactor.redact_json(&mut details);
    let mut exact = hmac::Context::with_key(key);
    for operation in entry.operations(with.environment) {
        exact.update(&operation.encode_length_delimited_to_vec());
    }
    for validation in &change.validations {
        exact.update(&validation.encode_length_delimited_to_vec());
    }
    let is_secret = |sha256: &str| {
        change.steps.iter().any(|step| match &step.operation {
            operation::Kind::WriteFile(write) => write.secret && write.sha256 == sha256,
            _ => false,
        })
    };
    let contents = change.contents.iter().map(|content| {
        let secret = is_secret(&content.sha256);
        let keyed = || hex(hmac::sign(key, content.sha256.as_bytes()).as_ref());
        SavedContent {
            size_bytes: content.size,
            sha256: (!secret).then(|| content.sha256.clone()),
            keyed: secret.then(keyed),
        }
    });
    SavedChange {
        resource: with.redactor.redact(&entry.resource),
        play: entry.play.clone(),
        action: change.action.word().to_owned(),
        irreversible: change.irreversible,
        unknown_after: entry.unknown_after.clone(),
        details,
        contents: contents.collect(),
        digest: hex(exact.sign().as_ref()),
    }
}

/// The key of all hashes: who does not have the secrets has to guess all of them at once, and to
/// hash each guess so often.
fn key(secrets: &Secrets, salt: &[u8]) -> hmac::Key {
    let mut all = Vec::new();
    for (name, secret) in secrets.iter() {
        for part in [name.as_str(), secret.expose()] {
            all.extend((part.len() as u64).to_be_bytes());
            all.extend(part.as_bytes());
        }
    }
    let mut key = [0; 32];
    let rounds = NonZeroU32::new(KEY_ROUNDS).unwrap_or(NonZeroU32::MIN);
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, rounds, salt, &all, &mut key);
    hmac::Key::new(hmac::HMAC_SHA256, &key)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; SALT_BYTES]> {
    let digits = text.as_bytes();
    let mut bytes = [0; SALT_BYTES];
    if digits.len() != 2 * SALT_BYTES {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use provision_protocol::operation::WriteFile;

    use super::*;
    use crate::document::{Entry, Source};
    use crate::playbook::{Pace, Pause};
    use crate::resource::{Action, Change, Detail};
    use crate::secret::Secret;

    const SALT: [u8; SALT_BYTES] = [7; SALT_BYTES];

    fn secrets(value: &str) -> Secrets {
        Secrets::of([("token".parse().unwrap(), Secret::from(value.to_owned()))])
    }

    fn plan(sha256: &str, secret: bool, from: &str) -> HostPlan {
        let mut change = Change::new(Action::Update);
        change.details.push(Detail::changed("mode", from, "0640"));
        change.step(operation::Kind::WriteFile(WriteFile {
            path: "/etc/app".to_owned(),
            sha256: sha256.to_owned(),
            secret,
            ..WriteFile::default()
        }));
        HostPlan {
            host: "a".to_owned(),
            changes: vec![ResourceChange {
                resource: "file /etc/app".to_owned(),
                play: "app".to_owned(),
                unknown_after: None,
                left_playbook: false,
                change,
            }],
            refusals: Vec::new(),
            undecided: Vec::new(),
            stays: Vec::new(),
        }
    }

    fn plays(pause: Option<Pause>) -> Vec<(Play, Vec<String>)> {
        let location = Source::new("test".to_owned(), String::new()).locate(0..0);
        let play = Play {
            name: "app".parse().unwrap(),
            hosts: Entry {
                value: "app".to_owned(),
                location: location.clone(),
            },
            serial: Vec::new(),
            max_fail: 0,
            pace: Pace {
                pause,
                ..Pace::default()
            },
            health: Vec::new(),
            ports: Vec::new(),
            resources: Vec::new(),
            location,
        };
        vec![(play, vec!["a".to_owned()])]
    }

    fn with<T>(secrets: &Secrets, run: impl FnOnce(&Circumstances<'_>) -> T) -> T {
        run(&Circumstances {
            environment: "test",
            limit: &[],
            overrides: &[],
            made_at: "now".to_owned(),
            origin: &Origin::default(),
            secrets,
            redactor: &Redactor::new(secrets),
        })
    }

    fn differences(now: &[HostPlan], pause: Option<Pause>, token: &str) -> Vec<String> {
        let then = secrets("correct horse");
        let saved = with(&then, |with| {
            SavedPlan::new(&[plan("aa", true, "0600")], &plays(None), SALT, with)
        });
        // As it is read from a file.
        let text = serde_json::to_string(&saved).unwrap();
        let saved: SavedPlan = serde_json::from_str(&text).unwrap();
        let token = secrets(token);
        with(&token, |with| saved.differences(now, &plays(pause), with))
    }

    #[test]
    fn the_same_plan_holds() {
        let same = differences(&[plan("aa", true, "0600")], None, "correct horse");
        assert_eq!(same, [""; 0]);
    }

    #[test]
    fn what_differs_is_named_with_its_host_and_resource() {
        let token = "correct horse";
        let mut gone = plan("aa", true, "0600");
        gone.changes.clear();
        let mut other = plan("aa", true, "0600");
        other.host = "b".to_owned();
        let mut removal = plan("aa", true, "0600");
        removal.changes[0].change.action = Action::Remove;
        for (now, expected) in [
            (
                vec![plan("aa", true, "0644")],
                "a: file /etc/app: mode: 0644 → 0640 by now",
            ),
            (
                vec![gone],
                "a: file /etc/app: the plan is to update it, and nothing is to be done",
            ),
            (
                vec![removal],
                "a: file /etc/app: the plan is to update it, and now it would remove",
            ),
            (vec![], "a: it is gone"),
            (vec![plan("aa", true, "0600"), other], "b: it was not there"),
            (
                vec![plan("bb", true, "0600")],
                "a: file /etc/app: what is done, or what must be so",
            ),
        ] {
            let found = differences(&now, None, token);
            assert!(
                found.iter().any(|one| one.starts_with(expected)),
                "{expected}: {found:?}"
            );
        }
        let now = [plan("aa", true, "0600")];
        let paused = differences(&now, Some(Pause::Confirm), token);
        assert_eq!(paused, ["play app: pause: nothing → confirm by now"]);
        assert!(!differences(&now, None, "another horse").is_empty());
    }

    #[test]
    fn a_file_gives_no_hash_of_a_secret_that_could_be_guessed() {
        let sha256 = "a".repeat(64);
        let text = |secret: bool| {
            let mut plan = plan(&sha256, secret, "0600");
            let content = crate::resource::Content::from_bytes(b"token".to_vec());
            if let operation::Kind::WriteFile(write) =
                &mut plan.changes[0].change.steps[0].operation
            {
                write.sha256.clone_from(&content.sha256);
            }
            let sha256 = content.sha256.clone();
            plan.changes[0].change.contents.push(content.into());
            let saved = with(&secrets("correct horse"), |with| {
                SavedPlan::new(&[plan], &plays(None), SALT, with)
            });
            (serde_json::to_string(&saved).unwrap(), sha256)
        };
        let (open, sha256) = text(false);
        assert!(open.contains(&sha256));
        let (keyed, sha256) = text(true);
        assert!(!keyed.contains(&sha256) && keyed.contains("\"keyed\""));
        assert!(!keyed.contains("correct horse"));
    }
}
