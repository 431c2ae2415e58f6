//! First contact with a host that another tool has configured.

use fleet_tests::{Lab, Requirement};

use crate::Test;
use crate::lockout::{Fleet, HOST};

pub(crate) const TESTS: &[Test] = &[Test {
    name: "adopt::what_others_configured_is_taken_over_untouched_and_put_back_in_the_end",
    needs: &[Requirement::Root],
    run: what_others_configured_is_taken_over_untouched,
}];

/// What the tool before this one has left: a package, an account, files and a unit.
const THEIRS: &str = "apt-get -qq -y install xfsprogs >/dev/null 2>&1; \
    useradd --system app; mkdir -m 0711 /etc/app; \
    echo 'workers = 2' > /etc/app/app.conf; \
    chown daemon:adm /etc/app/app.conf; chmod 0604 /etc/app/app.conf; \
    echo 'as it is' > /etc/app/same.conf; ln -s /etc/hostname /etc/app/link.conf; \
    printf '[Service]\\nExecStart=/bin/sleep infinity\\nUser=app\\n\
    [Install]\\nWantedBy=multi-user.target\\n' > /etc/systemd/system/app.service; \
    systemctl enable --quiet --now app";

/// Takes it away again.
const CLEAN: &str = "systemctl disable --quiet --now app; rm -r /etc/app \
    /etc/systemd/system/app.service; systemctl daemon-reload; userdel app; \
    apt-get -qq -y purge xfsprogs >/dev/null 2>&1";

const OURS: [&str; 7] = [
    "package = { name = \"xfsprogs\" }",
    "user = { name = \"app\", system = true }",
    "directory = { path = \"/etc/app\", mode = \"0711\" }",
    "file = { path = \"/etc/app/app.conf\", content = \"workers = 4\\n\" }",
    "file = { path = \"/etc/app/same.conf\", content = \"as it is\\n\" }",
    "file = { path = \"/etc/app/new.conf\", content = \"new\\n\" }",
    "service = { name = \"app\", restart_on = [\"/etc/app/app.conf\", \"/etc/app/same.conf\"] }",
];
const LINK: &str = "file = { path = \"/etc/app/link.conf\", content = \"ours\\n\" }";
const SYSCTL: &str = "sysctl = { key = \"net.core.somaxconn\", value = 8192 }";

/// What stands there.
fn contents(lab: &Lab) -> String {
    let look = "stat -c '%n %F %a %U:%G' /etc/app /etc/app/* /etc/systemd/system/app.service; \
        cat /etc/app/*.conf; systemctl is-enabled app; systemctl is-active app; id -Gn app; \
        dpkg-query -W -f '${Status}\\n' xfsprogs";
    lab.ssh(HOST, look)
}

/// What shows whether anything of it was touched.
fn touches(lab: &Lab) -> String {
    let look = "stat -c '%n %i %Y %Z' /etc/app /etc/app/* /etc/systemd/system/app.service; \
        systemctl show -p InvocationID app; sha256sum /var/lib/dpkg/status /etc/passwd";
    lab.ssh(HOST, look)
}

fn what_others_configured_is_taken_over_untouched(lab: &Lab) {
    let _ = lab.ssh(HOST, THEIRS);
    let (before, untouched) = (contents(lab), touches(lab));
    let all = [&OURS[..], &[LINK, SYSCTL]].concat();
    let fleet = Fleet::new(lab, "root", "60s", &all);
    let _ = fleet.run(lab, "adopt").expect_code(2).says(&[
        "= already so package xfsprogs",
        "= already so user app",
        "= already so directory /etc/app",
        "~ would change file /etc/app/app.conf",
        "-workers = 2",
        "+workers = 4",
        "= already so file /etc/app/same.conf",
        "+ would be new file /etc/app/new.conf",
        "~ would change service app",
        "! is somebody else's file /etc/app/link.conf",
        "/etc/app/link.conf is a symbolic link to /etc/hostname",
        "! is somebody else's sysctl net.core.somaxconn",
        "environment development has put it there",
        "6 taken over, and left as they are",
    ]);
    let _ = fleet
        .run(lab, "adopt")
        .expect_code(2)
        .says(&["0 taken over"]);
    assert_eq!(untouched, touches(lab), "something was touched");
    drop(fleet);

    let fleet = Fleet::new(lab, "root", "60s", &OURS);
    let _ = fleet.run(lab, "drift").success().says(&["no drift"]);
    let _ = lab.ssh(HOST, "echo 'workers = 3' > /etc/app/app.conf");
    let _ = fleet
        .run(lab, "drift")
        .expect_code(2)
        .says(&["-workers = 2", "+workers = 3"]);
    let _ = lab.ssh(HOST, "echo 'workers = 2' > /etc/app/app.conf");

    let _ = fleet.run(lab, "apply").success();
    let _ = fleet.run(lab, "plan").success();
    let changed = contents(lab);
    assert!(changed.contains("workers = 4"), "{changed}");
    let running = lab.ssh(HOST, "systemctl show -p InvocationID app");
    let _ = fleet.run(lab, "destroy").success().says(&[
        "- put back file /etc/app/app.conf",
        "- keep user app",
        "- keep package xfsprogs",
    ]);
    assert_eq!(before, contents(lab), "it is not as they left it");
    let now = lab.ssh(HOST, "systemctl show -p InvocationID app");
    assert_ne!(running, now, "it still runs with what was put back");
    let _ = lab.ssh(HOST, CLEAN);
}
