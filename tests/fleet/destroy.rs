//! What was put on hosts is taken back, and nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use fleet_tests::{Lab, Output, Project, Requirement, differences};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "destroy::every_host_is_as_it_was_and_the_volume_keeps_its_data",
        needs: &[Requirement::Root],
        run: every_host_is_as_it_was_and_the_volume_keeps_its_data,
    },
    Test {
        name: "destroy::lab_down_leaves_nothing",
        needs: &[Requirement::Root],
        run: lab_down_leaves_nothing,
    },
];

fn every_host_is_as_it_was_and_the_volume_keeps_its_data(_: &Lab) {
    let lab = small_lab();
    let _ = lab.ssh("collector-1", THEIRS);
    let _ = lab.ssh("lb-1", THEIRS_AT_THE_BALANCER);
    let before = listings(&lab);
    let _ = lab.project().apply();
    let _ = lab.ssh("storage-1", "echo kept > /mnt/data/marker; sync");
    let uuid = lab.ssh("storage-1", UUID);

    let destroy = |limit: &[&str]| {
        let arguments = [&["destroy", "--env", "development", "--yes"], limit].concat();
        lab.project().provision(&arguments).success()
    };
    leave_a_gateway_out(&lab);
    // One host first: the others do not notice.
    let others = [lab.tree("collector-1"), lab.tree("storage-1")];
    let changed = differences(&before["lb-1"], &listing(&lab, "lb-1"));
    assert!(changed.len() > 100, "{changed:?}");
    let _ = destroy(&["--limit", "lb-1"]).says(&["- remove package haproxy"]);
    assert_eq!(others, [lab.tree("collector-1"), lab.tree("storage-1")]);
    expect_equal(&lab, "lb-1", &before["lb-1"]);

    let shown = destroy(&[]).says(&[
        "- put back file /etc/otel-collector/config.yaml",
        "- keep directory /etc/otel-collector",
        "- unmount volume",
        "removed or put back",
    ]);
    assert!(!shown.stdout.contains("lb-1"), "{}", shown.describe());
    for (host, before) in &before {
        expect_equal(&lab, host, before);
        println!(
            "{host}: {} lines of its listing are as before",
            before.lines().count()
        );
    }
    let _ = destroy(&[]).says(&["nothing to remove"]);
    let json = lab.project().provision(&[
        "destroy",
        "--env",
        "development",
        "--yes",
        "--output",
        "json",
    ]);
    let json: serde_json::Value = serde_json::from_str(&json.success().stdout).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(3), "{json}");
    for host in before.keys() {
        // Finding nothing to remove takes a helper, which goes again.
        let _ = lab.ssh(host, "! ls -d /var/lib/provision");
    }

    let again = lab.project().apply();
    assert!(
        !again.stdout.contains("format volume"),
        "{}",
        again.describe()
    );
    assert_eq!(lab.ssh("storage-1", "cat /mnt/data/marker"), "kept\n");
    assert_eq!(lab.ssh("storage-1", UUID), uuid);
    what_somebody_else_changed_stays(&lab);
}

/// A rollout that ends in the middle: the balancer keeps in a file what it does not use.
fn leave_a_gateway_out(lab: &Lab) {
    let project = lab.project();
    let _edits = [
        project.edit(
            PLAYBOOK,
            "13133/health\", within = \"30s\"",
            "13133/wrong\", within = \"1s\"",
        ),
        project.edit(
            TEMPLATE,
            "max_concurrent_streams: 100",
            "max_concurrent_streams: 101",
        ),
    ];
    let output = project.provision(&["apply", "--env", "development", "--yes", "--no-rollback"]);
    let _ = output
        .expect_code(1)
        .says(&["collector-1: stays left out by its balancer"]);
    let kept = lab.ssh("lb-1", "cat /var/lib/haproxy/server-state");
    assert!(kept.contains(" collector-1 "), "{kept}");
}

fn what_somebody_else_changed_stays(lab: &Lab) {
    let file = "/etc/sysctl.d/60-net.core.somaxconn.conf";
    let _ = lab.ssh("lb-1", &format!("echo '# mine' >> {file}"));
    let destroy = |more: &[&str]| {
        let arguments = [
            &[
                "destroy",
                "--env",
                "development",
                "--yes",
                "--limit",
                "lb-1",
            ],
            more,
        ];
        lab.project().provision(&arguments.concat()).expect_code(1)
    };
    let json = destroy(&["--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    let failure = document[0]["failure"].as_str().expect("a failure");
    assert!(
        failure.contains("was changed by somebody else"),
        "{failure}"
    );
    let _ = destroy(&[]).says(&["not everything was removed", "was changed by somebody else"]);
    assert!(lab.ssh("lb-1", &format!("cat {file}")).contains("# mine"));
}

const PLAYBOOK: &str = "playbooks/collectors.toml";
const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";

const UUID: &str = "findmnt -no UUID /mnt/data || blkid -s UUID -o value /dev/sdf";

/// What somebody else has put where the gateway's files go.
const THEIRS: &str = "mkdir -m 0711 /etc/otel-collector; \
    echo theirs > /etc/otel-collector/config.yaml; \
    chown daemon:adm /etc/otel-collector/config.yaml; \
    chmod 0604 /etc/otel-collector/config.yaml";

const THEIRS_AT_THE_BALANCER: &str = "echo 'net.core.somaxconn = 1000' > /etc/sysctl.d/60-net.core.somaxconn.conf; \
    chmod 0600 /etc/sysctl.d/60-net.core.somaxconn.conf; sysctl -qw net.core.somaxconn=1000";

/// A lab beside the shared one, with one gateway and nothing on it yet.
fn small_lab() -> Lab {
    let project = Project::new(&format!("{}-destroy", crate::lab_name()));
    let inventory = project.path("inventories/lab.toml");
    let text = fs::read_to_string(&inventory).expect("an inventory");
    let fewer: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("hosts.collector-2"))
        .collect();
    fs::write(inventory, fewer.join("\n")).expect("an inventory");
    let lab = Lab::new(project);
    let _ = lab.project().provision(&["lab", "down"]);
    let _ = lab.project().provision(&["lab", "up"]).success();
    lab
}

/// Everything on a host but what changes by itself: logs, caches, and what tools write down for
/// themselves. HAProxy's unit has systemd make a place for a socket, which its package leaves
/// behind when it is purged.
const LISTING: &str = r"
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp \
        -o -path /var/tmp -o -path /var/log -o -path /var/cache -o -path /var/lib/apt \
        -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path '/etc/*-' \
        -o -path /var/lib/haproxy/dev -o -path /etc/.pwd.lock -o -path /var/lib/private \) -prune \
    -o ! -path /var/lib/haproxy -printf '%p %y %m %u:%g %l\n' | sed 's/^/path /'
find /etc /home /root /srv /opt /mnt /usr/local /var/lib -xdev \( -path /var/lib/apt \
        -o -path /var/lib/dpkg -o -path /var/lib/systemd -o -path /var/lib/haproxy/dev \
        -o -path '/etc/*-' \) -prune -o -type f -print0 | xargs -0 sha256sum | sed 's/^/content /'
find /var/lib/dpkg/info -type f | sed 's/^/dpkg /'
dpkg -l | sed 's/^/package /'
apt-mark showauto | sed 's/^/automatic /'
systemctl list-unit-files --no-legend --plain | sed 's/^/unit file /'
systemctl list-units --all --no-legend --plain --type=service,socket,timer,mount |
    cut -d' ' -f1 | grep -v -e '^session' -e '^user' -e '^tmp' -e '^run-' | sed 's/^/unit /'
findmnt -rno TARGET,FSTYPE | grep -v ' tmpfs$' | sed 's/^/mount /'
cat /proc/sys/net/core/somaxconn | sed 's/^/somaxconn /'
";

fn listing(lab: &Lab, host: &str) -> String {
    lab.ssh(host, LISTING)
}

fn listings(lab: &Lab) -> BTreeMap<String, String> {
    let hosts = lab.hosts().into_iter();
    hosts
        .map(|host| (host.clone(), listing(lab, &host)))
        .collect()
}

#[track_caller]
fn expect_equal(lab: &Lab, host: &str, before: &str) {
    let differences = differences(before, &listing(lab, host));
    assert!(
        differences.is_empty(),
        "{host} is not as it was:\n{}",
        differences.join("\n")
    );
}

fn lab_down_leaves_nothing(lab: &Lab) {
    let name = crate::lab_name();
    assert!(!traces(&name).is_empty(), "there is a lab");
    let _ = lab.project().provision(&["lab", "down"]).success();
    assert_eq!(traces(&name), [""; 0]);
    // Removing what is gone is no error.
    let _ = lab.project().provision(&["lab", "down"]).success();
}

/// What of a lab is on this machine: its folder, namespace, mounts, loop devices, processes and
/// control groups.
fn traces(name: &str) -> Vec<String> {
    let folder = format!("/var/lib/provision-lab/{name}");
    let mut traces = Vec::new();
    if fs::exists(&folder).expect("a look") {
        traces.push(folder.clone());
    }
    let mut look = |what: &str, command: &[&str], is_of_lab: &dyn Fn(&str) -> bool| {
        let output = Output::of(Command::new(command[0]).args(&command[1..]));
        let lines = output.stdout.lines().filter(|line| is_of_lab(line));
        traces.extend(lines.map(|line| format!("{what} {line}")));
    };
    let below = |line: &str| line.contains(&format!("{folder}/"));
    let namespace = format!("provision-{name}");
    look("namespace", &["ip", "netns", "list"], &|line| {
        line.split_whitespace().next() == Some(&namespace)
    });
    look("mount", &["cat", "/proc/self/mountinfo"], &|line| {
        below(line)
            || line
                .split_whitespace()
                .any(|word| word.ends_with(&namespace))
    });
    look(
        "loop device",
        &["losetup", "-ln", "-O", "NAME,BACK-FILE"],
        &below,
    );
    look("process", &["ps", "-eo", "pid,args"], &below);
    let groups = [
        "find",
        "/sys/fs/cgroup",
        "-type",
        "d",
        "-name",
        &format!("*{name}*"),
    ];
    look("control group", &groups, &|line| {
        line.rsplit('/').next().is_some_and(|last| {
            last == name || last.split(['-', '.', '@']).any(|word| word == name)
        })
    });
    traces
}
