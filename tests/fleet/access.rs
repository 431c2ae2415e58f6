//! Every way to get in, and to root's rights, on hosts with a real sshd.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleet_tests::{ArgumentWatch, Edit, Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[Test {
    name: "access::every_way_to_get_in_and_to_become_root",
    needs: &[Requirement::Root],
    run: every_way_to_get_in_and_to_become_root,
}];

/// What accounts are let in with, also by `su`.
const PASSWORD: &str = "correct/horse+battery";

/// A password that nothing may ask for.
const UNUSED: &str = "of no use";

/// How a secret is asked for.
const QUESTION: &[u8] = b"value of become: ";

/// How long a program of the test's own may take to start.
const DEADLINE: Duration = Duration::from_secs(20);

const WRONG: &str = "another/horse+battery";

const INVENTORY: &str = r#"
provider = "lab"

[lab]
name = "NAME"
packages = ["opendoas"]

[[lab.users]]
name = "keeper"
password = "PASSWORD"

[[lab.users]]
name = "guest"
sudo = false

[groups.machines]
hosts.old = { address = "10.77.0.11" }
hosts.new = { address = "10.77.0.12" }
"#;

const ENVIRONMENT: &str = "\
inventories = [\"access\"]
tier = \"small\"
playbook = \"access\"
[secrets.become]
env = \"BECOME_PASSWORD\"
";

const PLAYBOOK: &str = "\
[[play]]
hosts = \"machines\"
[[play.resource]]
file = { path = \"/etc/access\", content = \"x\" }
";

fn every_way_to_get_in_and_to_become_root(_: &Lab) {
    let machines = Machines::new();
    makes_the_access_to_new_machines(&machines);
    lets_agents_and_certificates_in(&machines);
    becomes_root_in_every_way(&machines);
    asks_once_on_the_terminal(&machines);
}

/// The hosts, described as machines that are there already.
struct Machines {
    lab: Lab,
    state: serde_json::Value,
    folder: tempfile::TempDir,
}

impl Machines {
    fn new() -> Self {
        let name = format!("{}-acs", crate::lab_name());
        let project = Project::new(&name);
        let inventory = INVENTORY.replace("NAME", &name);
        let inventory = inventory.replace("PASSWORD", PASSWORD);
        fs::write(project.path("inventories/lab.toml"), inventory).expect("an inventory");
        fs::write(project.path("environments/access.toml"), ENVIRONMENT).expect("an environment");
        fs::write(project.path("playbooks/access.toml"), PLAYBOOK).expect("a playbook");
        let lab = Lab::new(project);
        let _ = lab.project().provision(&["lab", "down"]);
        let _ = lab.project().provision(&["lab", "up"]).success();
        let state = lab.state();
        let folder = tempfile::tempdir_in("/tmp").expect("a folder");
        Self { lab, state, folder }
    }

    fn text(&self, key: &str) -> &str {
        self.state[key].as_str().expect("a text")
    }

    /// Describes the hosts with the lab's own key and these lines in `[ssh]`, until the result is
    /// dropped.
    fn reached_by(&self, ssh: &str) -> Edit {
        let identity = self.text("identity");
        self.reached_with(&format!("identity = \"{identity}\"\n{ssh}"))
    }

    /// Describes the hosts with these lines in `[ssh]`.
    fn reached_with(&self, ssh: &str) -> Edit {
        self.described(ssh, true)
    }

    fn described(&self, ssh: &str, pinned: bool) -> Edit {
        let hosts = self.state["hosts"].as_array().expect("hosts");
        let described = hosts.iter().map(|host| {
            let text = |key: &str| host[key].as_str().expect("a text");
            let (name, address) = (text("name"), text("address"));
            let key = match pinned {
                true => format!(", host_key = \"{}\"", text("host_key")),
                false => String::new(),
            };
            format!("{name} = {{ address = \"{address}\"{key} }}\n")
        });
        let inventory = format!(
            "provider = \"on-prem\"\n[ssh]\nproxy_command = \"{}\"\n{ssh}\n\
             [groups.machines.hosts]\n{}",
            self.text("proxy_command"),
            described.collect::<String>(),
        );
        let project = self.lab.project();
        project.write("inventories/access.toml", &inventory)
    }

    /// A file beside the project.
    fn file(&self, name: &str) -> String {
        let path = self.folder.path().join(name);
        path.to_str().expect("a path").to_owned()
    }

    /// The path of a private key, which is made when it is asked for first.
    fn key(&self, name: &str) -> String {
        let path = self.file(name);
        if !Path::new(&path).exists() {
            let make = ["-q", "-t", "ed25519", "-N", "", "-f", &path];
            let _ = Output::of(Command::new("ssh-keygen").args(make)).success();
        }
        path
    }

    /// Runs a shell command on `new` by the account that was made there.
    fn as_operator(&self, identity: &str, command: &str) -> String {
        let proxy = format!("ProxyCommand={}", self.text("proxy_command"));
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-i", identity, "-o", &proxy])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
            ])
            .args(["-o", "LogLevel=ERROR", "-o", "IdentityAgent=none"])
            .args(["operator@10.77.0.12", command]);
        Output::of(&mut ssh).success().stdout
    }

    fn command(&self, arguments: &[&str], password: &str) -> Command {
        let all = [arguments, &["--env", "access"]].concat();
        let mut command = self.lab.project().command(&all);
        command.env("BECOME_PASSWORD", password);
        command
    }

    fn run(&self, arguments: &[&str], password: &str) -> Output {
        Output::of(&mut self.command(arguments, password))
    }
}

fn becomes_root_in_every_way(machines: &Machines) {
    let lab = &machines.lab;
    let set_up = format!(
        "apt-get install --yes opendoas && echo root:{PASSWORD} | chpasswd && \
         printf 'permit keeper\\n' > /etc/doas.conf && \
         chmod 600 /etc/doas.conf"
    );
    let _ = lab.ssh("old", &set_up);
    {
        // Many providers' machines begin like that.
        let _files = machines.reached_by("user = \"guest\"\nkeep_connection = \"0s\"");
        let _ = lab.ssh("old", "chage -d 0 guest");
        let expired = machines.run(&["plan", "--limit", "old"], UNUSED);
        let _ = lab.ssh("old", "chage -d $(date +%F) guest");
        let _ = expired.expect_code(1).says(&[
            "old: the account's password has expired",
            "`ssh 10.77.0.11` by hand asks for a new one",
        ]);
    }
    let watch = ArgumentWatch::start(&[PASSWORD, WRONG]);
    for (way, user) in [("sudo", "keeper"), ("doas", "keeper"), ("su", "guest")] {
        let ssh = format!("user = \"{user}\"\nbecome = \"{way}\"");
        let without = machines.reached_by(&ssh);
        let asks = format!("old: {way} asks for a password");
        let hint = "name a secret: [ssh] become_password = \"NAME\"";
        let _ = machines
            .run(&["plan", "--limit", "old"], PASSWORD)
            .expect_code(1)
            .says(&[&asks, hint]);
        drop(without);

        let _with = machines.reached_by(&format!("{ssh}\nbecome_password = \"become\""));
        let before = refusals(lab);
        let refused = machines
            .run(&["plan", "--limit", "old"], WRONG)
            .expect_code(1);
        let refused = refused.says(&[
            &format!("old: {way} does not accept the password"),
            "correct the secret `become` that `become_password` names",
        ]);
        let said = [refused.stdout.as_str(), &refused.stderr].concat();
        assert!(!said.contains(WRONG), "{said}");
        assert_eq!(refusals(lab), before + 1, "{way} was tried once");
        let _ = machines
            .run(&["plan", "--limit", "old"], PASSWORD)
            .expect_code(2);
    }
    {
        // The last way does what there is to do, as root.
        let _files = machines
            .reached_by("user = \"keeper\"\nbecome = \"doas\"\nbecome_password = \"become\"");
        let _ = machines
            .run(&["apply", "--yes", "--limit", "old"], PASSWORD)
            .success();
        assert_eq!(
            lab.ssh("old", "stat -c %U:%a /etc/access").trim(),
            "root:644"
        );
        let again = machines
            .run(&["apply", "--yes", "--limit", "old"], PASSWORD)
            .success();
        let _ = again.says(&["old: unchanged"]);
    }
    let watched = watch.end();
    assert_eq!(watched.leaks, [""; 0]);
    {
        let _ = lab.ssh("old", "echo 'permit nopass keeper' > /etc/doas.conf");
        let _files = machines.reached_by("user = \"keeper\"\nbecome = \"doas\"");
        let _ = machines
            .run(&["plan", "--limit", "old"], PASSWORD)
            .expect_code(0);
        let _ = lab.ssh("old", "echo 'permit nopass deploy' > /etc/doas.conf");
        let denied = machines
            .run(&["plan", "--limit", "old"], PASSWORD)
            .expect_code(1);
        let _ = denied.says(&["old: the account may not use doas", "/etc/doas.conf"]);
    }
    for kept in [PASSWORD, WRONG] {
        let search = format!(
            "journalctl -a --no-pager | grep -cF '{kept}'; \
             grep -rlF '{kept}' /var/lib/provision /var/log /etc /home /root /tmp || true"
        );
        let found = lab.ssh("old", &search);
        assert_eq!(found.trim(), "0", "a password stands on the host");
    }
}

/// With the password of root that a provider gives, once; from then on by the account made so.
fn makes_the_access_to_new_machines(machines: &Machines) {
    let lab = &machines.lab;
    let with_passwords = format!(
        "echo root:{PASSWORD} | chpasswd && rm /root/.ssh/authorized_keys && \
         printf 'PermitRootLogin yes\\nPasswordAuthentication yes\\n' \
           > /etc/ssh/sshd_config.d/00-given.conf && systemctl reload ssh"
    );
    let _ = lab.ssh("new", &with_passwords);
    let own = machines.key("own");
    let ssh = format!("user = \"operator\"\nidentity = \"{own}\"");
    let given = "bootstrap = { user = \"root\", password = \"become\" }";
    let bootstrap = ["bootstrap", "--yes", "--limit", "new"];
    let _files = machines.reached_with(&format!("{ssh}\n{given}"));

    let denied = machines
        .run(&["plan", "--limit", "new"], PASSWORD)
        .expect_code(1);
    let _ = denied.says(&[
        "new (10.77.0.12) does not let this account in",
        "`provision bootstrap --env …` makes this account",
    ]);
    let wrong = machines.run(&bootstrap, WRONG).expect_code(1);
    let _ = wrong.says(&[
        "new (10.77.0.12) does not let this account in",
        "correct the secret `become` that `password` of [ssh.bootstrap] names",
        "by [ssh]: new (10.77.0.12) does not let this account in",
    ]);
    let watch = ArgumentWatch::start(&[PASSWORD]);
    let first = machines.run(&bootstrap, PASSWORD).success();
    let watched = watch.end();
    assert_eq!(watched.leaks, [""; 0]);
    let _ = first.says(&["/home/operator/.ssh/authorized_keys", "new: 4 changes"]);
    let again = machines.run(&bootstrap, PASSWORD).success();
    let _ = again.says(&["new: unchanged"]);

    // From now on the password is of no use, and nothing asks for it.
    let over = format!(
        "sudo sh -c 'rm /etc/ssh/sshd_config.d/00-given.conf; systemctl reload ssh; {}'",
        "stat -c %U:%a /home/operator/.ssh/authorized_keys /etc/sudoers.d/provision-operator"
    );
    let modes = machines.as_operator(&own, &over);
    assert_eq!(modes, "operator:600\nroot:440\n");
    let _ = machines
        .run(&["apply", "--yes", "--limit", "new"], UNUSED)
        .success();
    let _ = machines
        .run(&bootstrap, UNUSED)
        .success()
        .says(&["new: unchanged"]);
    // What is in no playbook stays there all the same.
    let _ = machines
        .run(&["destroy", "--yes", "--limit", "new"], UNUSED)
        .success();
    let _ = machines
        .run(&["plan", "--limit", "new"], UNUSED)
        .expect_code(2);
}

/// Agents, certificates of accounts, and those of hosts, as `~/.ssh/config` names them.
fn lets_agents_and_certificates_in(machines: &Machines) {
    let own = machines.key("own");
    let authority = machines.key("authority");
    let sign = |arguments: &[&str]| {
        let all = [&["-q", "-s", authority.as_str()], arguments].concat();
        let _ = Output::of(Command::new("ssh-keygen").args(all)).success();
    };
    // The host believes the authority and shows a certificate of it; keys alone are not enough.
    let public = fs::read_to_string(format!("{authority}.pub")).expect("a key");
    let host_key = machines.file("host.pub");
    let shown = machines.as_operator(&own, "cat /etc/ssh/ssh_host_ed25519_key.pub");
    fs::write(&host_key, shown).expect("a file");
    sign(&["-I", "new", "-h", "-n", "10.77.0.12", &host_key]);
    let certificate = fs::read_to_string(machines.file("host-cert.pub")).expect("a certificate");
    let set_up = format!(
        "sudo sh -c 'echo \"{}\" > /etc/ssh/people.pub; echo \"{}\" > /etc/ssh/host-cert.pub; \
         printf \"TrustedUserCAKeys /etc/ssh/people.pub\\nHostCertificate /etc/ssh/host-cert.pub\\n\" \
           > /etc/ssh/sshd_config.d/00-authority.conf; \
         rm /home/operator/.ssh/authorized_keys; systemctl reload ssh'",
        public.trim(),
        certificate.trim()
    );
    let _ = machines.as_operator(&own, &set_up);
    let person = machines.key("person");
    let known = machines.file("known_hosts");
    fs::write(&known, format!("@cert-authority 10.77.0.* {public}")).expect("a file");

    let config = machines.file("home/.ssh/config");
    fs::create_dir_all(machines.file("home/.ssh")).expect("a folder");
    let configure = |lines: &str| {
        let text = format!("Host *\n  UserKnownHostsFile {known}\n{lines}\n");
        fs::write(&config, text).expect("a file");
    };
    // Neither key nor pin is in the inventory: it is as in ~/.ssh/config.
    let _files = machines.described("user = \"operator\"\nkeep_connection = \"0s\"", false);
    let plan = |environment: &[(&str, &str)]| {
        let mut command = machines.command(&["plan", "--limit", "new"], UNUSED);
        command
            .env("HOME", machines.file("home"))
            .env_remove("SSH_AUTH_SOCK");
        Output::of(command.envs(environment.iter().copied()))
    };
    configure(&format!("  IdentityFile {person}"));
    let denied = plan(&[]).expect_code(1);
    let _ = denied.says(&["new (10.77.0.12) does not let this account in"]);
    sign(&["-I", "person", "-n", "operator", &format!("{person}.pub")]);
    let certificate = format!("{person}-cert.pub");
    let elsewhere = machines.file("signed.pub");
    fs::rename(&certificate, &elsewhere).expect("a certificate");
    configure(&format!(
        "  IdentityFile {person}\n  CertificateFile {elsewhere}"
    ));
    let _ = plan(&[]).expect_code(2);

    // The key is in an agent alone, with its certificate.
    fs::rename(&elsewhere, &certificate).expect("a certificate");
    let agent = Agent::start(&machines.file("agent"));
    let add = Output::of(
        Command::new("ssh-add")
            .arg("-q")
            .arg(&person)
            .env("SSH_AUTH_SOCK", &agent.socket),
    );
    let _ = add.success();
    fs::remove_file(&person).expect("a key");
    fs::remove_file(&certificate).expect("a certificate");
    configure("");
    let _ = plan(&[]).expect_code(1);
    let _ = plan(&[("SSH_AUTH_SOCK", &agent.socket)]).expect_code(2);
    configure(&format!("  IdentityAgent {}", agent.socket));
    let _ = plan(&[]).expect_code(2);
    // A host that no authority speaks for is not known.
    fs::write(&known, "").expect("a file");
    let _ = plan(&[])
        .expect_code(1)
        .says(&["shows a host key that is not known"]);
}

/// An `ssh-agent` of the test's own.
struct Agent {
    process: std::process::Child,
    socket: String,
}

impl Agent {
    fn start(socket: &str) -> Self {
        let process = Command::new("ssh-agent")
            .args(["-D", "-a", socket])
            .stdout(std::process::Stdio::null())
            .spawn();
        let process = process.expect("ssh-agent");
        let until = Instant::now() + DEADLINE;
        while !Path::new(socket).exists() {
            assert!(Instant::now() < until, "ssh-agent does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            process,
            socket: socket.to_owned(),
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// How many passwords the host has refused so far.
fn refusals(lab: &Lab) -> usize {
    let count = "journalctl --sync; journalctl -o cat --no-pager | \
                 grep -c 'authentication failure; logname' || true";
    lab.ssh("old", count).trim().parse().expect("a count")
}

/// A secret with `ask` is typed at the terminal, and shown nowhere.
fn asks_once_on_the_terminal(machines: &Machines) {
    let project = machines.lab.project();
    let _files = machines.reached_by("user = \"keeper\"\nbecome_password = \"become\"");
    let source = "env = \"BECOME_PASSWORD\"";
    let _asks = project.edit("environments/access.toml", source, "ask = true");
    let none = machines
        .run(&["plan", "--limit", "old"], PASSWORD)
        .expect_code(1);
    let _ = none.says(&["secret `become` is asked for at a terminal, and here is none"]);
    let typed = |password: &str| {
        let command = machines.command(&["plan", "--limit", "old"], UNUSED);
        let mut words = vec![command.get_program()];
        words.extend(command.get_args());
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let mut script = Command::new("script");
        let _ = script
            .args(["-qec", &words.join(" "), "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut run = script.spawn().expect("script");
        let mut shown = Vec::new();
        let output = run.stdout.as_mut().expect("an output");
        // What is typed before it is asked for is thrown away.
        let mut byte = [0u8];
        while !shown.ends_with(QUESTION) && output.read(&mut byte).expect("an output") == 1 {
            shown.push(byte[0]);
        }
        let mut input = run.stdin.take().expect("an input");
        writeln!(input, "{password}").expect("a terminal");
        let output = Output::ended(run);
        drop(input);
        assert!(shown.ends_with(QUESTION), "{}", output.describe());
        assert!(!output.stdout.contains(password), "{}", output.describe());
        output
    };
    let right = typed(PASSWORD).expect_code(0);
    assert!(!right.stdout.contains("value of become"), "it asks twice");
    let wrong = typed(WRONG).expect_code(1);
    let _ = wrong.says(&["old: sudo does not accept the password"]);
}
