//! The files of a new project.
//!
//! Goes in: what was answered. Comes out: paths with texts. Invariant: playbooks, templates and
//! tiers are those that this program was built with.

use include_dir::{Dir, include_dir};

use crate::cli::schema::SchemaKind;
use crate::document::{ByteSize, Name};

static PLAYBOOKS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../playbooks");
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../templates");
const TIERS: &str = include_str!("../../../../environments/tiers.toml");

/// What a play says of its balancer.
const BALANCER_LINE: &str =
    "balancer = \"balancers\"                     # leaves a gateway out while it changes\n";

/// Who may reach a gateway's ports where there are balancers.
const FROM_BALANCERS: &str = ", from = [\"balancers\"]";

/// From how many hosts on the first one is a balancer.
const BALANCED_FROM: usize = 4;

/// What names the volume in playbooks and templates, and what stands there when there is no disk
/// for it: the folder that the collector's unit may write to.
const VOLUME_RESOURCE: (&str, &str) = (
    "[[play.resource]]\nvolume = { name = \"data\" }\n\n",
    "# Telemetry is kept on the root disk. For a disk of its own: `provision init --data-disk`.\n\n",
);
const VOLUME_FOLDER: (&str, &str) = ("/mnt/data/otel", "/var/lib/otel-collector");
const VOLUME_VARIABLE: (&str, &str) = ("{{ volumes.data.mount }}/otel", "/var/lib/otel-collector");

const GITIGNORE: &str = "\
# Private keys and plans do not belong into git. Encrypted secrets (*.secrets.toml) and
# certificates (tls/) do.
*.key
*.plan
/dist/
";

/// What was answered.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) environment: Name,
    pub(super) addresses: Vec<String>,
    pub(super) user: Option<String>,
    pub(super) identity: Option<String>,
    pub(super) jump: Option<String>,
    pub(super) data_disk: Option<(String, ByteSize)>,
}

impl Answers {
    /// Each host's group, name and address.
    pub(super) fn hosts(&self) -> Vec<(&'static str, String, &str)> {
        let last = self.addresses.len().saturating_sub(1);
        let balancers = usize::from(self.is_balanced());
        let mut hosts = Vec::new();
        for (index, address) in self.addresses.iter().enumerate() {
            let (group, name) = if index < balancers {
                ("balancers", "lb-1".to_owned())
            } else if index == last {
                ("storage", "storage-1".to_owned())
            } else {
                ("gateways", format!("collector-{}", index - balancers + 1))
            };
            hosts.push((group, name, address.as_str()));
        }
        hosts
    }

    fn is_balanced(&self) -> bool {
        self.addresses.len() >= BALANCED_FROM
    }
}

/// All files, each with its path in the project.
pub(super) fn files(answers: &Answers) -> Vec<(String, String)> {
    let mut files = vec![
        ("inventories/on-prem.toml".to_owned(), inventory(answers)),
        (
            format!("environments/{}.toml", answers.environment),
            environment(answers),
        ),
        ("environments/tiers.toml".to_owned(), TIERS.to_owned()),
        ("playbooks/site.toml".to_owned(), site(answers)),
        (".gitignore".to_owned(), GITIGNORE.to_owned()),
    ];
    // What is one word of the environment away.
    let other: &[&str] = if answers.is_balanced() {
        &["nginx", "floating", "firewall"]
    } else {
        &[]
    };
    for name in playbooks(answers).iter().chain(other) {
        let path = format!("{name}.toml");
        let text = PLAYBOOKS
            .get_file(&path)
            .and_then(|file| file.contents_utf8());
        let text = text.unwrap_or_default();
        files.push((format!("playbooks/{path}"), fitted(answers, text)));
    }
    let mut folders = vec![&TEMPLATES];
    for (path, text) in &mut files {
        if let Some(kind) = kind_of(path) {
            // Editors with a language server for TOML (taplo, tombi) complete and check by it.
            *text = format!("#:schema ../schemas/{}.json\n\n{text}", kind.name());
        }
    }
    for kind in SchemaKind::ALL {
        files.push((format!("schemas/{}.json", kind.name()), kind.text()));
    }
    while let Some(folder) = folders.pop() {
        folders.extend(folder.dirs());
        for file in folder.files() {
            let text = file.contents_utf8().unwrap_or_default();
            let path = format!("templates/{}", file.path().display());
            files.push((path, fitted(answers, text)));
        }
    }
    files
}

/// The kind of a file of TOML.
fn kind_of(path: &str) -> Option<SchemaKind> {
    match path.strip_suffix(".toml")?.split_once('/')? {
        ("inventories", _) => Some(SchemaKind::Inventory),
        ("environments", "tiers") => Some(SchemaKind::Tiers),
        ("environments", _) => Some(SchemaKind::Environment),
        ("playbooks", _) => Some(SchemaKind::Playbook),
        _ => None,
    }
}

/// The text as it is where there are a disk and a balancer, and without what speaks of one that
/// there is not.
fn fitted(answers: &Answers, text: &str) -> String {
    let mut text = text.to_owned();
    if !answers.is_balanced() {
        // Programs send to the gateways themselves.
        text = text.replace(FROM_BALANCERS, "");
    }
    if answers.data_disk.is_none() {
        for (with, without) in [VOLUME_RESOURCE, VOLUME_FOLDER, VOLUME_VARIABLE] {
            text = text.replace(with, without);
        }
    }
    if !answers.is_balanced() {
        text = text.replace(BALANCER_LINE, "");
    }
    text
}

/// From the end of the chain to its front: what receives is ready before what sends.
fn playbooks(answers: &Answers) -> Vec<&'static str> {
    let mut names = vec!["storage", "collectors"];
    if answers.is_balanced() {
        names.push("balancers");
    }
    names
}

fn site(answers: &Answers) -> String {
    let names: Vec<String> = playbooks(answers)
        .iter()
        .map(|name| format!("\"{name}\""))
        .collect();
    format!(
        "# What the platform is: from its end to its front, so that what receives is ready before what\n\
         # sends. Each name is a file of this folder.\n\n\
         include = [{}]\n",
        names.join(", ")
    )
}

fn environment(answers: &Answers) -> String {
    format!(
        "# The environment `{name}`: provision --env {name}\n\n\
         # Files of inventories/; several are one fleet.\n\
         inventories = [\"on-prem\"]\n\
         # How large everything is: see tiers.toml.\n\
         tier = \"small\"\n\
         # A file of playbooks/.\n\
         playbook = \"site\"\n\n\
         # Variables of templates.\n\
         [settings]\n\
         # Added to every span, log record and metric as deployment.environment.\n\
         deployment_environment = \"{name}\"\n\n\
         # The collector that is shipped beside provision.\n\
         [artifacts.collector]\n\
         program = \"collector\"\n\n\
         # Secrets: `provision secret set NAME --env {name}` makes an encrypted file and names it here;\n\
         # templates use {{{{ secrets.NAME }}}}.\n",
        name = answers.environment
    )
}

fn inventory(answers: &Answers) -> String {
    let mut text = "\
# Machines that are there already and answer SSH.

provider = \"on-prem\"

# How they are reached. What is left out is as in your ~/.ssh/config. A group or a host may have
# its own [ssh].
[ssh]
"
    .to_owned();
    let hint = |key: &str, value: &Option<String>, example: &str| match value {
        Some(value) => format!("{key} = {}\n", quoted(value)),
        None => format!("# {key} = \"{example}\"\n"),
    };
    text.push_str(&hint("user", &answers.user, "deploy"));
    text.push_str(&hint("identity", &answers.identity, "~/.ssh/id_ed25519"));
    text.push_str(&hint("jump", &answers.jump, "bastion.example.com"));
    text.push_str(
        "# become_password = \"sudo\" # the name of a secret, where sudo asks for a password\n\
         # bootstrap = { user = \"root\" }   # what a provider gave: `provision bootstrap` makes `user`\n",
    );
    let about = [
        (
            "balancers",
            "balancer",
            "Balancers: HAProxy in front of the gateways.",
        ),
        (
            "gateways",
            "gateway",
            "Gateways: they receive OTLP at 4317 and 4318 and pass it on.",
        ),
        ("storage", "storage", "Storage: the end of the chain."),
    ];
    for (group, role, words) in about {
        let hosts: Vec<_> = answers
            .hosts()
            .into_iter()
            .filter(|host| host.0 == group)
            .collect();
        if hosts.is_empty() {
            continue;
        }
        text.push_str(&format!(
            "\n# {words}\n[groups.{group}]\nrole = \"{role}\"\n\n[groups.{group}.hosts]\n"
        ));
        if group == "gateways" {
            text.push_str(
                "# `provision trust` writes the hosts' keys here, once you have compared them.\n",
            );
        }
        for (_, name, address) in hosts {
            let volume = match &answers.data_disk {
                Some((serial, _)) if group == "storage" => {
                    format!(", volumes.data = {{ serial = {} }}", quoted(serial))
                }
                _ => String::new(),
            };
            text.push_str(&format!("{name} = {{ address = \"{address}\"{volume} }}\n"));
        }
    }
    if let Some((_, size)) = &answers.data_disk {
        text.push_str(&format!(
            "\n# Formatted only if it is blank and is the disk with that serial and size.\n\
             [groups.storage.volumes.data]\nsize = \"{size}\"\nfilesystem = \"ext4\"\nmount = \"/mnt/data\"\n"
        ));
    }
    text
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(count: usize) -> Answers {
        Answers {
            environment: "production".parse().unwrap(),
            addresses: (1..=count).map(|last| format!("192.0.2.{last}")).collect(),
            user: Some("deploy".to_owned()),
            identity: None,
            jump: None,
            data_disk: None,
        }
    }

    fn text_of(answers: &Answers, path: &str) -> String {
        let mut files = files(answers).into_iter();
        files.find(|(name, _)| name == path).unwrap().1
    }

    #[test]
    fn what_is_written_is_what_a_person_would_write() {
        let two = answers(2);
        insta::assert_snapshot!(text_of(&two, "inventories/on-prem.toml"));
        insta::assert_snapshot!(text_of(&two, "environments/production.toml"));
        let mut four = answers(4);
        four.data_disk = Some(("S4EV\"NX".to_owned(), "500GiB".parse().unwrap()));
        insta::assert_snapshot!(text_of(&four, "inventories/on-prem.toml"));
        insta::assert_snapshot!(text_of(&four, "playbooks/site.toml"));
    }

    /// A volume that nobody described would be refused.
    #[test]
    fn without_a_disk_no_volume_is_left() {
        let all: String = files(&answers(2))
            .into_iter()
            .map(|(_, text)| text)
            .collect();
        assert!(!all.contains("volumes.data.mount"));
        assert!(!all.contains("volume = { name = \"data\" }"));
        assert!(!all.contains("/mnt/data"));
        assert!(all.contains("directory = { path = \"/var/lib/otel-collector\", owner = \"otel\""));
        assert!(all.contains("path: /var/lib/otel-collector/telemetry.jsonl"));
    }

    /// What was built in is what the repository holds.
    #[test]
    fn no_template_is_forgotten() {
        let repository = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let built_in = files(&Answers {
            data_disk: Some(("S".to_owned(), "1GiB".parse().unwrap())),
            ..answers(4)
        });
        let mut folders = vec![repository.join("templates")];
        let mut count = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let relative = path
                    .strip_prefix(&repository)
                    .unwrap()
                    .display()
                    .to_string();
                let text = std::fs::read_to_string(&path).unwrap();
                assert!(built_in.contains(&(relative.clone(), text)), "{relative}");
                count += 1;
            }
        }
        assert!(count > 0);
    }
}
