//! What an editor says about a key.
//!
//! Goes in: a kind of file and the dotted path of a key. Comes out: a line about it. Invariant:
//! every row is about a key that a reader asks for, which a test holds.

use super::SchemaKind;
use crate::resource::KINDS;

/// Kind of file, path (`*` is a name, `[]` an element of a list), and what it is.
pub(super) const WORDS: &[(SchemaKind, &str, &str)] = &[
    (
        SchemaKind::Inventory,
        "provider",
        "Who provides the machines.",
    ),
    (
        SchemaKind::Inventory,
        "ssh",
        "How all hosts are reached; a group or a host may have its own. What is left out is as in ~/.ssh/config.",
    ),
    (
        SchemaKind::Inventory,
        "ssh.become",
        "What makes an account root that is not: `sudo` without, `doas`, `su`, or `never`.",
    ),
    (
        SchemaKind::Inventory,
        "ssh.become_password",
        "The name of a secret with the password that is asked for then; su takes that of root.",
    ),
    (
        SchemaKind::Inventory,
        "ssh.bootstrap",
        "The access that a provider gave: with it `provision bootstrap` makes the account of [ssh].",
    ),
    (
        SchemaKind::Inventory,
        "ssh.bootstrap.password",
        "The name of a secret with the password that the account is let in with.",
    ),
    (
        SchemaKind::Inventory,
        "ssh.bootstrap.authorized_keys",
        "Public keys for the account of [ssh], beside that of its `identity`.",
    ),
    (SchemaKind::Inventory, "ssh.jump", "A host to jump through."),
    (SchemaKind::Inventory, "ssh.identity", "A private key file."),
    (
        SchemaKind::Inventory,
        "groups",
        "Hosts that shall be alike. Every host belongs to a group.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.role",
        "The role of the tier that sizes these hosts.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.count",
        "So many hosts, which a cloud makes.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.settings",
        "Variables of templates for these hosts.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.hosts",
        "The hosts with their tables, or the names of hosts that are described elsewhere.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.hosts.*.address",
        "An IP address or a DNS name.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.hosts.*.host_key",
        "The public key that its sshd shows; `provision trust` writes it.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.hosts.*.local",
        "It is this machine; no SSH is needed.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.hosts.*.volumes",
        "What identifies the volumes of the group on this host.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.volumes",
        "Volumes that each host of the group has.",
    ),
    (
        SchemaKind::Inventory,
        "groups.*.volumes.*.size",
        "A disk of another size (beyond 2 %) is refused.",
    ),
    (
        SchemaKind::Environment,
        "inventories",
        "Files of inventories/; several are one fleet.",
    ),
    (
        SchemaKind::Environment,
        "tier",
        "A table of environments/tiers.toml.",
    ),
    (
        SchemaKind::Environment,
        "playbook",
        "A file of playbooks/, or several in their order; `site` without.",
    ),
    (
        SchemaKind::Environment,
        "instead",
        "Files of playbooks/ that are read in the place of others: balancers = \"nginx\".",
    ),
    (
        SchemaKind::Environment,
        "tls",
        "Certificates between hosts: `mutual`, `server` (of the one that is connected to), or `off`.",
    ),
    (
        SchemaKind::Environment,
        "audit_log",
        "A file, relative to the project, that gets a JSON line for each host of a run.",
    ),
    (
        SchemaKind::Environment,
        "settings",
        "Variables of templates.",
    ),
    (
        SchemaKind::Environment,
        "artifacts",
        "Programs and archives that plays name.",
    ),
    (
        SchemaKind::Environment,
        "artifacts.*.program",
        "A program that is shipped beside provision.",
    ),
    (
        SchemaKind::Environment,
        "artifacts.*.path",
        "A file, relative to the project; {arch} stands for the host's machine.",
    ),
    (
        SchemaKind::Environment,
        "artifacts.*.url",
        "An address that is fetched once and checked by its sha256.",
    ),
    (
        SchemaKind::Environment,
        "secrets",
        "Where secrets come from.",
    ),
    (
        SchemaKind::Environment,
        "secrets.file",
        "The file with encrypted secrets, relative to the project; `provision secret set` makes it.",
    ),
    (
        SchemaKind::Environment,
        "secrets.*.env",
        "An environment variable that holds the secret.",
    ),
    (
        SchemaKind::Environment,
        "secrets.*.command",
        "A program, with its arguments, that prints the secret.",
    ),
    (
        SchemaKind::Environment,
        "secrets.*.ask",
        "Asked for at the terminal, once in a run.",
    ),
    (
        SchemaKind::Playbook,
        "include",
        "Other playbooks, before the plays of this one.",
    ),
    (
        SchemaKind::Playbook,
        "play[].hosts",
        "The group that this play is for.",
    ),
    (
        SchemaKind::Playbook,
        "play[].serial",
        "The sizes of batches, as numbers of hosts or shares such as \"50%\"; the last one repeats.",
    ),
    (
        SchemaKind::Playbook,
        "play[].max_fail",
        "More failed hosts than this stop the run.",
    ),
    (
        SchemaKind::Playbook,
        "play[].min_ready",
        "So many hosts of the group, or a share such as \"50%\", are healthy at every moment.",
    ),
    (
        SchemaKind::Playbook,
        "play[].canary",
        "The first batch, and how long it must stay healthy before the next one is begun.",
    ),
    (
        SchemaKind::Playbook,
        "play[].pause",
        "Between two batches: a time such as \"10m\" in which what was changed must stay healthy, or \"confirm\".",
    ),
    (
        SchemaKind::Playbook,
        "play[].order",
        "Who comes before whom.",
    ),
    (
        SchemaKind::Playbook,
        "play[].unreachable",
        "When a host does not answer: change nothing at all, or leave it out.",
    ),
    (
        SchemaKind::Playbook,
        "play[].balancer",
        "The group with the HAProxy that leaves a host out while it changes.",
    ),
    (
        SchemaKind::Playbook,
        "play[].health",
        "What must be healthy on a host before the next batch is begun.",
    ),
    (
        SchemaKind::Playbook,
        "play[].ports",
        "What its hosts serve, for the firewall.",
    ),
    (
        SchemaKind::Playbook,
        "play[].ports[].from",
        "The groups that may connect; everybody without.",
    ),
    (
        SchemaKind::Playbook,
        "play[].resource",
        "What the hosts shall be, in this order.",
    ),
    (SchemaKind::Tiers, "*.roles", "The size of each role."),
    (
        SchemaKind::Secrets,
        "recipients",
        "The public keys of those who can read the secrets.",
    ),
];

/// The line about a key, where there is one.
pub(super) fn about(kind: SchemaKind, path: &str) -> Option<String> {
    let row = WORDS.iter().find(|row| row.0 == kind && row.1 == path);
    if let Some((_, _, words)) = row {
        return Some((*words).to_owned());
    }
    let name = path.strip_prefix("play[].resource[].")?;
    let kind = KINDS.iter().find(|kind| kind.name == name)?;
    Some(kind.summary.to_owned())
}
