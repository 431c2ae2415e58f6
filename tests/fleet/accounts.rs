//! Accounts that are not root get the same results as root.

use std::fs;

use fleet_tests::{ArgumentWatch, Lab, Output, Project, Requirement, differences};

use crate::Test;
use crate::main_job::executions;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "accounts::sudo_with_and_without_a_password_does_what_root_does",
    needs: &[Requirement::Root],
    run: sudo_with_and_without_a_password_does_what_root_does,
}];

/// What sudo asks `maintainer` for.
const PASSWORD: &str = "correct/horse+battery staple";

/// A host per way to root's rights, all of them to be the same.
const HOSTS: [(&str, &str); 3] = [
    ("by-root", "root"),
    ("by-deploy", "deploy"),
    ("by-maintainer", "maintainer"),
];

const INVENTORY: &str = r#"
provider = "lab"

[lab]
name = "NAME"
packages = ["haproxy", "xfsprogs"]

[[lab.users]]
name = "deploy"

[[lab.users]]
name = "maintainer"
password = "PASSWORD"

[[lab.users]]
name = "guest"
sudo = false

[groups.storage]
role = "storage"

[groups.storage.hosts]
by-root = { address = "10.77.0.11" }
by-deploy = { address = "10.77.0.12", ssh = { user = "deploy" } }
by-maintainer = { address = "10.77.0.13", ssh = { user = "maintainer", become_password = "sudo" } }

[groups.storage.volumes.data]
size = "1GiB"
filesystem = "ext4"
mount = "/mnt/data"
device = "/dev/sdf"
"#;

/// Every kind of resource that the storage's playbook does not have.
const PLAYBOOK: &str = r#"
include = ["storage"]

[[play]]
name = "further"
hosts = "storage"

[[play.resource]]
sysctl = { key = "net.core.somaxconn", value = 8192 }

[[play.resource]]
package = { name = "haproxy" }

[[play.resource]]
file = { path = "/etc/further.conf", content = "text\n", owner = "otel", group = "adm", mode = "0604" }

[[play.resource]]
command = { run = ["sh", "-c", "id -u > /etc/further.id"], creates = "/etc/further.id" }
"#;

fn sudo_with_and_without_a_password_does_what_root_does(_: &Lab) {
    let lab = lab_of_accounts();
    refuses_a_wrong_password_and_an_account_without_sudo(&lab);
    let watch = ArgumentWatch::start(&[PASSWORD]);
    let first = apply(&lab);
    let second = apply(&lab);
    let watched = watch.end();
    assert_eq!(watched.leaks, [""; 0]);
    println!(
        "{} looks at the arguments of {} processes: none shows the password",
        watched.looks,
        watched.seen.len()
    );
    for (host, _) in HOSTS {
        assert!(first.contains(&format!("{host}: 1")), "{first}");
        assert!(second.contains(&format!("{host}: unchanged")), "{second}");
        let secrets = format!("journalctl -a --no-pager | grep -cF '{PASSWORD}' || true");
        let found = lab.ssh(host, &secrets);
        assert_eq!(found.trim(), "0", "the journal of {host} has the password");
    }
    let expected = result(&lab, "by-root");
    assert!(expected.contains("/mnt/data/otel"), "{expected}");
    for (host, _) in &HOSTS[1..] {
        let differences = differences(&expected, &result(&lab, host));
        assert_eq!(differences, [""; 0], "{host} differs from by-root");
    }
    println!("{} lines of results are equal", expected.lines().count());
    destroy(&lab);
}

/// Takes everything back, the helpers in the caches of accounts too.
fn destroy(lab: &Lab) {
    let arguments = ["destroy", "--env", "development", "--yes", "--verbose"];
    let output = lab.project().provision(&arguments).success();
    let said = [output.stdout.as_str(), &output.stderr].concat();
    assert!(!said.contains(PASSWORD), "{said}");
    for (host, user) in HOSTS {
        let left = format!(
            "ls -d /var/lib/provision ~{user}/.cache /usr/local/bin/collector /etc/further.conf \
             2>/dev/null || true"
        );
        assert_eq!(lab.ssh(host, &left), "", "left on {host}");
    }
}

/// A lab beside the shared one, with accounts on its hosts.
fn lab_of_accounts() -> Lab {
    let name = format!("{}-acc", crate::lab_name());
    let mut project = Project::new(&name);
    let inventory = INVENTORY.replace("NAME", &name);
    let inventory = inventory.replace("PASSWORD", PASSWORD);
    fs::write(project.path("inventories/lab.toml"), inventory).expect("an inventory");
    fs::write(project.path("playbooks/site.toml"), PLAYBOOK).expect("a playbook");
    // Its senders are gateways elsewhere, and here there are none.
    let storage = project.path("playbooks/storage.toml");
    let text = fs::read_to_string(&storage).expect("a playbook");
    let text = text.replace("from = [\"gateways\"]", "from = [\"storage\"]");
    fs::write(storage, text).expect("a playbook");
    let environment = project.path("environments/development.toml");
    let text = fs::read_to_string(&environment).expect("an environment");
    let text = format!("{text}\n[secrets.sudo]\nenv = \"FLEET_SUDO_PASSWORD\"\n");
    fs::write(environment, text).expect("an environment");
    project.set_variable("FLEET_SUDO_PASSWORD", PASSWORD);
    let lab = Lab::new(project);
    let _ = lab.project().provision(&["lab", "down"]);
    let _ = lab.project().provision(&["lab", "up"]).success();
    lab
}

/// Applies, and counts what sshd ran on each host for that.
fn apply(lab: &Lab) -> String {
    let count = |(host, user): (&str, &str)| executions(lab, host, user);
    let before = HOSTS.map(count);
    let arguments = ["apply", "--env", "development", "--yes", "--verbose"];
    let output = lab.project().provision(&arguments).success();
    let output = [output.stdout, output.stderr].concat();
    for ((host, user), before) in HOSTS.into_iter().zip(before) {
        // Counting is an execution of root.
        let own = usize::from(user == "root");
        let during = count((host, user)) - before - own;
        assert_eq!(during, 1, "executions on {host}");
    }
    assert!(!output.contains(PASSWORD), "{output}");
    output
}

fn refuses_a_wrong_password_and_an_account_without_sudo(lab: &Lab) {
    let plan = |host: &str| {
        let arguments = ["plan", "--env", "development", "--limit", host];
        let mut command = lab.project().command(&arguments);
        command.env("FLEET_SUDO_PASSWORD", "not-the-password");
        Output::of(&mut command).expect_code(1)
    };
    let wrong = plan("by-maintainer");
    let wrong = wrong.says(&["by-maintainer: sudo does not accept the password"]);
    let said = [wrong.stdout.as_str(), &wrong.stderr].concat();
    assert!(!said.contains("not-the-password"), "{said}");
    let as_guest = lab.project().edit(
        "inventories/lab.toml",
        "user = \"deploy\"",
        "user = \"guest\"",
    );
    let _ = plan("by-deploy").says(&["by-deploy: sudo asks for a password", "hint: name a secret"]);
    drop(as_guest);
    for (host, _) in HOSTS {
        let state = lab.ssh(host, "ls -A /var/lib/provision 2>/dev/null || true");
        assert_eq!(state, "", "{host} has something of a run that was refused");
    }
}

/// What a run leaves on a host, without what differs from host to host by itself.
fn result(lab: &Lab, host: &str) -> String {
    lab.ssh(
        host,
        "h=$(hostname); \
         find /usr/local /etc/otel-collector /etc/systemd/system /etc/sysctl.d /etc/haproxy \
            /etc/further.* /mnt /var/lib/otel-collector /var/lib/provision -maxdepth 2 \
            ! -path '*/helper*' ! -path '*/intents/*' ! -path '*/previous/*' \
            -printf '%p %y %m %u:%g\\n' | sort; \
         find /etc/otel-collector /etc/systemd/system /etc/sysctl.d /etc/further.* \
            /usr/local/bin -type f | sort | while read f; do \
            echo \"$f $(sed \"s/$h/HOST/g\" \"$f\" | sha256sum)\"; done; \
         find /var/lib/provision/previous -type f | wc -l; \
         sed 's/UUID=[^ ]*/UUID/' /etc/fstab; cat /etc/further.id; \
         getent passwd otel | cut -d: -f1,6,7; id -nG otel; \
         cat /proc/sys/net/core/somaxconn; dpkg -l | grep '^ii' | cut -c1-40; \
         findmnt -no FSTYPE,OPTIONS /mnt/data; \
         systemctl is-enabled otel-collector haproxy; systemctl is-active otel-collector",
    )
}
