//! Every kind of resource on one host: made, left alone, changed, and taken away again.

use std::fs;
use std::process::Command;

use fleet_tests::{Lab, Output, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "kinds::every_kind_of_resource_is_made_left_alone_changed_and_removed",
    needs: &[Requirement::Root],
    run: every_kind_of_resource_is_made_left_alone_changed_and_removed,
}];

const HOST: &str = "lb-1";

const ENVIRONMENT: &str = "inventories = [\"lab\"]\ntier = \"small\"\nplaybook = \"kinds\"\n\n\
    [artifacts.bundle]\npath = \"bundle.tar.gz\"\n\n[artifacts.tool]\npath = \"tool-{arch}\"\n";

const PLAYBOOK: &str = r#"
[[play]]
name = "kinds"
hosts = "balancers"

[[play.resource]]
package = { name = "libinih1" }

[[play.resource]]
group = { name = "kinds" }

[[play.resource]]
user = { name = "kinds", group = "kinds", groups = ["adm"], home = "/srv/kinds", shell = "/bin/sh" }

[[play.resource]]
directory = { path = "/srv/kinds", owner = "kinds", mode = "2750" }

[[play.resource]]
file = { path = "/srv/kinds/settings", content = "first\n", owner = "kinds", mode = "0600", validate = ["grep", "-q", "t", "{}"] }

[[play.resource]]
artifact = { name = "tool", path = "/usr/local/bin/kinds-tool" }

[[play.resource]]
artifact = { name = "bundle", unpack = "/opt/kinds", strip = 1, owner = "kinds" }

[[play.resource]]
sysctl = { key = "net.ipv4.ip_local_port_range", value = [20000, 60000] }

[[play.resource]]
command = { run = ["cp", "/opt/kinds/inner/file", "/srv/kinds/copy"], creates = "/srv/kinds/copy" }

[[play.resource]]
service = { name = "kinds", unit = "kinds/kinds.service.tera", restart_on = ["/srv/kinds/settings", "/opt/kinds"] }
"#;

const UNIT: &str = "[Unit]\nDescription=Every kind\n\n[Service]\n\
    ExecStart=/usr/local/bin/kinds-tool 86400\nUser=kinds\n\n[Install]\nWantedBy=multi-user.target\n";

/// Holds the lock that apt takes, for some seconds.
const HOLD_APT: &str = "use Fcntl; open(F, q(>>), q(/var/lib/dpkg/lock-frontend)) or die; \
    fcntl(F, F_SETLKW, pack(q(s s x4 q q l x4), F_WRLCK, 0, 0, 0, 0)) or die; sleep 5";

/// What must be so on the host, as `test` and the host's own programs see it.
const CHECKS: &[&str] = &[
    "dpkg -s libinih1 | grep -q 'Status: install ok installed'",
    "id kinds | grep -q adm",
    "test \"$(stat -c '%a %U %G' /srv/kinds)\" = '2750 kinds kinds'",
    "test \"$(stat -c '%a %U' /srv/kinds/settings)\" = '600 kinds'",
    "test \"$(stat -c '%a' /usr/local/bin/kinds-tool)\" = 755",
    "test \"$(cat /opt/kinds/inner/file)\" = inside",
    "test \"$(sysctl -n net.ipv4.ip_local_port_range | tr '\\t' ' ')\" = '20000 60000'",
    "grep -q '20000 60000' /etc/sysctl.d/60-net.ipv4.ip_local_port_range.conf",
    "test \"$(cat /srv/kinds/copy)\" = inside",
    "systemctl is-active kinds && systemctl is-enabled kinds",
];

fn every_kind_of_resource_is_made_left_alone_changed_and_removed(lab: &Lab) {
    let project = lab.project();
    let _files = [
        project.write("environments/kinds.toml", ENVIRONMENT),
        project.write("playbooks/kinds.toml", PLAYBOOK),
        project.write("templates/kinds/kinds.service.tera", UNIT),
    ];
    make_artifacts(lab, "inside");
    let apply = || project.provision(&["apply", "--env", "kinds", "--yes"]);
    let id = || lab.ssh(HOST, "systemctl show kinds -p InvocationID --value");

    // apt is busy for a while, and is waited for.
    let _ = lab.ssh(
        HOST,
        &format!("setsid perl -e '{HOLD_APT}' >/dev/null 2>&1 & sleep 1"),
    );
    let _ = apply().success();
    for check in CHECKS {
        let output = lab.try_ssh(HOST, check);
        assert_eq!(output.code, 0, "{check}\n{}", output.describe());
    }

    let before = id();
    let _ = apply().success().says(&["unchanged"]);
    assert_eq!(before, id(), "nothing changed, so nothing was restarted");

    let edit = project.edit("playbooks/kinds.toml", "first\\n", "second, it\\n");
    let _ = apply()
        .success()
        .says(&["update file /srv/kinds/settings", "restart service kinds"]);
    let after_file = id();
    assert_ne!(before, after_file, "an input changed, so it was restarted");

    make_artifacts(lab, "changed");
    let _ = apply()
        .success()
        .says(&["update artifact /opt/kinds", "restart service kinds"]);
    assert_eq!(lab.ssh(HOST, "cat /opt/kinds/inner/file").trim(), "changed");
    assert_ne!(after_file, id());

    // What the operator holds is left to the operator.
    let _ = lab.ssh(HOST, "apt-mark hold libinih1");
    let held = project.edit(
        "playbooks/kinds.toml",
        "\"libinih1\"",
        "\"libinih1\", version = \"0\"",
    );
    let _ = apply()
        .expect_code(1)
        .says(&["is held by the operator", "apt-mark unhold libinih1"]);
    drop((held, edit));
    let _ = lab.ssh(HOST, "apt-mark unhold libinih1");

    // The copy is data that a command made: `destroy` keeps the folder for it.
    let _ = lab.ssh(HOST, "rm /srv/kinds/copy");
    let _ = project
        .provision(&["destroy", "--env", "kinds", "--yes"])
        .success();
    for check in CHECKS {
        assert_ne!(lab.try_ssh(HOST, check).code, 0, "{check}");
    }
    let _ = project
        .provision(&["plan", "--env", "development"])
        .success();
}

/// An archive whose inner file has this text, and a program for this machine.
fn make_artifacts(lab: &Lab, text: &str) {
    let folder = lab.project().path("made");
    fs::create_dir_all(folder.join("bundle/inner")).expect("a folder");
    fs::write(folder.join("bundle/inner/file"), text).expect("a file");
    let mut tar = Command::new("tar");
    tar.arg("-czf")
        .arg(lab.project().path("bundle.tar.gz"))
        .arg("-C")
        .arg(&folder)
        .arg("bundle");
    let _ = Output::of(&mut tar).success();
    let tool = format!("tool-{}", std::env::consts::ARCH);
    fs::copy("/bin/sleep", lab.project().path(&tool)).expect("a program");
}
