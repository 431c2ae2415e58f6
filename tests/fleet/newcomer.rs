//! From nothing to a rollout on two hosts that are known by address and key alone.

use std::fs;

use fleet_tests::{Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "newcomer::two_hosts_known_by_address_and_key_get_to_a_rollout",
    needs: &[Requirement::Root],
    run: two_hosts_known_by_address_and_key_get_to_a_rollout,
}];

const INVENTORY: &str = r#"
provider = "lab"

[lab]
name = "NAME"

[groups.storage]
role = "storage"
hosts.first = { address = "10.77.0.11" }
hosts.second = { address = "10.77.0.12" }
"#;

/// Not to be seen.
const SECRET: &str = "t0ken-of-the-newcomer";

const ADDRESSES: [&str; 2] = ["10.77.0.11", "10.77.0.12"];

/// Of no machine.
const OTHER_KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

/// Somebody with an empty folder, in the network of the hosts.
struct Newcomer {
    lab: Lab,
    folder: tempfile::TempDir,
    home: tempfile::TempDir,
}

impl Newcomer {
    fn provision(&self, arguments: &[&str]) -> Output {
        let program = Project::programs().join("provision");
        let program = program.to_str().expect("a path");
        let folder = self.folder.path().to_str().expect("a path");
        let all = [&[program], arguments, &["--project", folder]].concat();
        let mut command = self.lab.exec(&all);
        // Whoever runs the tests may have identities of their own.
        command.env("HOME", self.home.path());
        Output::of(&mut command)
    }

    fn inventory(&self) -> String {
        let path = self.folder.path().join("inventories/on-prem.toml");
        fs::read_to_string(path).expect("an inventory")
    }
}

fn two_hosts_known_by_address_and_key_get_to_a_rollout(_: &Lab) {
    let newcomer = arrive();
    let state = newcomer.lab.state();
    let identity = state["identity"].as_str().expect("a key");
    let login = ["--user", "root", "--identity", identity];
    let _ = newcomer
        .provision(&[&["init"], &ADDRESSES[..], &login].concat())
        .success()
        .says(&["provision trust --env production"]);
    let plan = ["plan", "--env", "production"];
    // Nobody is trusted before somebody has looked.
    let _ = newcomer
        .provision(&plan)
        .expect_code(1)
        .says(&["a host key that is not known", "provision trust"]);
    trust(&newcomer);
    let _ = newcomer.provision(&plan).expect_code(2);
    let apply = ["apply", "--env", "production", "--yes"];
    let _ = newcomer.provision(&apply).success();
    let again = newcomer.provision(&apply).success();
    let _ = again.says(&["collector-1: unchanged", "storage-1: unchanged"]);
    for host in ["first", "second"] {
        let health = "curl -sf http://127.0.0.1:13133/health || wget -qO- http://127.0.0.1:13133/health || (exec 3<>/dev/tcp/127.0.0.1/13133 && printf 'GET /health HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3)";
        let answer = newcomer.lab.ssh(
            host,
            &format!("bash -c \"{}\"", health.replace('"', "\\\"")),
        );
        assert!(!answer.is_empty(), "{host} is not healthy");
    }
    keeps_a_secret(&newcomer);
    meets_another_key(&newcomer);
}

/// Encrypted in the project, in clear on the host that asks for it, and shown nowhere.
fn keeps_a_secret(newcomer: &Newcomer) {
    let from = newcomer.home.path().join("value");
    fs::write(&from, format!("{SECRET}\n")).expect("a file");
    let from = from.to_str().expect("a path");
    let set = [
        "secret",
        "set",
        "token",
        "--env",
        "production",
        "--from",
        from,
    ];
    let mut said = newcomer.provision(&set).success().describe();
    let template = newcomer
        .folder
        .path()
        .join("templates/collector/gateway.yaml.tera");
    let text = fs::read_to_string(&template).expect("a template");
    let text = format!("# {{{{ secrets.token }}}}\n{text}");
    fs::write(&template, text).expect("a template");
    let limited = ["--env", "production", "--limit", "collector-1", "--verbose"];
    let plan = newcomer
        .provision(&[&["plan"], &limited[..]].concat())
        .expect_code(2);
    said.push_str(&plan.describe());
    let apply = newcomer
        .provision(&[&["apply", "--yes"], &limited[..]].concat())
        .success();
    said.push_str(&apply.describe());
    let config = newcomer
        .lab
        .ssh("first", "cat /etc/otel-collector/config.yaml");
    assert!(config.contains(SECRET), "{config}");
    let file = newcomer
        .folder
        .path()
        .join("environments/production.secrets.toml");
    said.push_str(&fs::read_to_string(file).expect("a file"));
    assert!(!said.contains(SECRET), "{said}");
}

fn arrive() -> Newcomer {
    let name = format!("{}-new", crate::lab_name());
    let project = Project::new(&name);
    let inventory = INVENTORY.replace("NAME", &name);
    fs::write(project.path("inventories/lab.toml"), inventory).expect("an inventory");
    let lab = Lab::new(project);
    let _ = lab.project().provision(&["lab", "down"]);
    let _ = lab.project().provision(&["lab", "up"]).success();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let home = tempfile::tempdir().expect("a temporary folder");
    Newcomer { lab, folder, home }
}

/// Shown as the hosts themselves show them, and pinned only when somebody agrees.
fn trust(newcomer: &Newcomer) {
    let before = newcomer.inventory();
    let shown = newcomer
        .provision(&["trust", "--env", "production", "--check", "--randomart"])
        .expect_code(1);
    for host in ["first", "second"] {
        let own = newcomer
            .lab
            .ssh(host, "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub");
        let fingerprint = own.split_whitespace().nth(1).expect("a fingerprint");
        assert!(
            shown.stdout.contains(fingerprint),
            "{fingerprint}:\n{}",
            shown.stdout
        );
    }
    assert_eq!(
        shown.stdout.matches("[SHA256]").count(),
        2,
        "{}",
        shown.stdout
    );
    // There is no terminal to agree at.
    let _ = newcomer
        .provision(&["trust", "--env", "production"])
        .expect_code(1);
    assert_eq!(newcomer.inventory(), before);
    let _ = newcomer
        .provision(&["trust", "--env", "production", "--yes", "storage-1"])
        .success();
    assert_eq!(
        newcomer
            .inventory()
            .matches("host_key = \"ssh-ed25519 ")
            .count(),
        1
    );
    let _ = newcomer
        .provision(&["trust", "--env", "production", "--yes"])
        .success();
    let pinned = newcomer.inventory();
    assert_eq!(pinned.matches("host_key = \"ssh-ed25519 ").count(), 2);
    let comments = |text: &str| text.lines().filter(|line| line.starts_with('#')).count();
    assert_eq!(comments(&pinned), comments(&before));
    let json = newcomer
        .provision(&["trust", "--env", "production", "--output", "json"])
        .success();
    let keys: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(keys[0]["state"], "pinned");
    assert_eq!(newcomer.inventory(), pinned);
}

/// A machine with another key than the pinned one is met by nobody.
fn meets_another_key(newcomer: &Newcomer) {
    let pinned = newcomer.inventory();
    let start = pinned.find("ssh-ed25519 ").expect("a key");
    let key = pinned[start..].split('"').next().expect("a key");
    let path = newcomer.folder.path().join("inventories/on-prem.toml");
    fs::write(&path, pinned.replace(key, OTHER_KEY)).expect("an inventory");
    let _ = newcomer
        .provision(&["trust", "--env", "production", "--yes"])
        .expect_code(1)
        .says(&[
            "another key than the one that is pinned: collector-1",
            "nothing was pinned",
        ]);
    assert!(newcomer.inventory().contains(OTHER_KEY));
    let _ = newcomer
        .provision(&["plan", "--env", "production"])
        .expect_code(1);
    let replace = [
        "trust",
        "--env",
        "production",
        "--yes",
        "--replace",
        "collector-1",
    ];
    let _ = newcomer.provision(&replace).success();
    assert_eq!(newcomer.inventory(), pinned);
}
