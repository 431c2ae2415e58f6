//! Mistakes in files: each is refused with its place, and nothing is changed on any host.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use fleet_tests::{Lab, Output, Project, Requirement};

use crate::Test;

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "refusal::one_run_shows_the_mistakes_of_all_files",
        needs: &[Requirement::Root],
        run: |lab| lab.expect_unchanged(|| one_run_shows_the_mistakes_of_all_files(lab.project())),
    },
    Test {
        name: "refusal::a_host_in_no_group_is_a_mistake",
        needs: &[Requirement::Root],
        run: |lab| lab.expect_unchanged(|| a_host_in_no_group_is_a_mistake(lab.project())),
    },
    Test {
        name: "refusal::a_variable_that_is_missing_is_a_mistake",
        needs: &[Requirement::Root],
        run: |lab| {
            lab.expect_unchanged(|| {
                a_variable_that_is_missing_is_a_mistake(lab.project());
                a_condition_of_handlebars_that_is_missing_is_a_mistake(lab.project());
            });
        },
    },
    Test {
        name: "refusal::a_template_that_does_not_parse_is_a_mistake",
        needs: &[Requirement::Root],
        run: |lab| {
            lab.expect_unchanged(|| a_template_that_does_not_parse_is_a_mistake(lab.project()))
        },
    },
    Test {
        name: "refusal::what_a_validator_rejects_changes_no_host",
        needs: &[Requirement::Root],
        run: what_a_validator_rejects_changes_no_host,
    },
    Test {
        name: "refusal::a_unit_that_systemd_warns_of_changes_no_host",
        needs: &[Requirement::Root],
        run: a_unit_that_systemd_warns_of_changes_no_host,
    },
    Test {
        name: "refusal::an_artifact_with_another_hash_is_not_sent",
        needs: &[Requirement::Root],
        run: an_artifact_with_another_hash_is_not_sent,
    },
];

const INVENTORY: &str = "inventories/lab.toml";
const ENVIRONMENT: &str = "environments/development.toml";
const TIERS: &str = "environments/tiers.toml";
const PLAYBOOK: &str = "playbooks/collectors.toml";
const BALANCER: &str = "templates/haproxy/haproxy.cfg.tera";
const GATEWAY: &str = "templates/collector/gateway.yaml.tera";
const UNIT: &str = "templates/systemd/otel-collector.service.hbs";

/// A hash that nothing has.
const OTHER_SHA256: &str = "0000000000000000000000000000000000000000000000000000000000000000";

fn one_run_shows_the_mistakes_of_all_files(project: &Project) {
    let _first = [
        project.edit(INVENTORY, "role = \"gateway\"", "rol = \"gateway\""),
        project.edit(ENVIRONMENT, "playbook =", "playbok ="),
        project.edit(TIERS, "events_per_second =", "events_per_secnd ="),
        project.edit(PLAYBOOK, "max_fail =", "max_fails ="),
    ];
    // Edits of one file are taken back in the reverse order.
    let _second = [
        project.edit(ENVIRONMENT, "[artifacts.collector]", "[artifact.collector]"),
        project.edit(PLAYBOOK, "sysctl = {", "sysctll = {"),
    ];
    let output = refused(project, &["nothing was done"]);
    for (file, mistake, message, hint) in [
        (INVENTORY, "rol =", "unknown key `rol`", "role"),
        (ENVIRONMENT, "playbok", "unknown key `playbok`", "playbook"),
        (
            ENVIRONMENT,
            "artifact.",
            "unknown key `artifact`",
            "artifacts",
        ),
        (
            TIERS,
            "events_per_secnd",
            "unknown key `events_per_secnd`",
            "events_per_second",
        ),
        (PLAYBOOK, "max_fails", "unknown key `max_fails`", "max_fail"),
        (
            PLAYBOOK,
            "sysctll",
            "unknown kind of resource `sysctll`",
            "sysctl",
        ),
    ] {
        let heading = format!("{}: {message}\n", place(project, file, mistake));
        let (_, rest) = output
            .stderr
            .split_once(&heading)
            .unwrap_or_else(|| panic!("`{heading}` is missing:\n{}", output.describe()));
        let (mistake, _) = rest.split_once("\n\n").unwrap_or((rest, ""));
        let hint = format!("did you mean `{hint}`?");
        assert!(mistake.contains(&hint), "{hint} in\n{mistake}");
    }
}

fn a_host_in_no_group_is_a_mistake(project: &Project) {
    let text = "\n[hosts]\nspare-1 = { address = \"10.77.0.99\" }\n";
    let _edit = append(project, INVENTORY, text);
    let place = place(project, INVENTORY, "spare-1");
    let _ = refused(
        project,
        &[
            &format!("{place}: host `spare-1` is in no group, so nothing would ever be done on it"),
            "name it in a group: [groups.",
        ],
    );
}

fn a_variable_that_is_missing_is_a_mistake(project: &Project) {
    let _edits = [
        append(project, BALANCER, "# {{ settings.balancr.maxconn }}\n"),
        append(project, UNIT, "# {{settings.deployment_enviroment}}\n"),
        // Tera itself would take it for empty.
        append(
            project,
            GATEWAY,
            "{% if tls.mdoe == 'mutual' %}{% endif %}\n",
        ),
    ];
    let condition = place(project, GATEWAY, "tls.mdoe");
    let tera = place(project, BALANCER, "balancr");
    let handlebars = place(project, UNIT, "{{settings.deployment_enviroment");
    let user = place(
        project,
        "playbooks/balancers.toml",
        "\"haproxy/haproxy.cfg.tera\"",
    );
    let _ = refused(
        project,
        &[
            &format!("{tera}: Field `balancr` is not defined. Available fields: balancer,"),
            &format!("rendered for {user}"),
            &format!(
                "{handlebars}: variable `settings.deployment_enviroment` is not defined \
                 (did you mean `deployment_environment`?)"
            ),
            &format!("{condition}: variable `tls.mdoe` is not defined (did you mean `mode`?)"),
        ],
    );
}

/// Handlebars itself would take it for false.
fn a_condition_of_handlebars_that_is_missing_is_a_mistake(project: &Project) {
    let _edit = append(project, UNIT, "# {{#if tls.moed}}{{/if}}\n");
    let block = place(project, UNIT, "{{#if tls.moed");
    let words = format!("{block}: variable `tls.moed` is not defined (did you mean `mode`?)");
    let _ = refused(project, &[&words]);
}

fn a_template_that_does_not_parse_is_a_mistake(project: &Project) {
    let _edits = [
        append(project, BALANCER, "# {% if %}\n"),
        append(project, UNIT, "# {{#if settings}}\n"),
        append(project, GATEWAY, "# {% for a in b %}\n"),
    ];
    let tera = place(project, BALANCER, "# {% if %}");
    let block = place(project, UNIT, "{{#if settings");
    let _ = refused(
        project,
        &[
            &format!(
                "{}:9: Found `%}}` but expected",
                tera.trim_end_matches(":1")
            ),
            &format!("{block}: `{{{{#if}}}}` is never closed: `{{{{/if}}}}` is missing"),
            &format!("{GATEWAY}:"),
            "3 mistakes found",
        ],
    );
}

fn what_a_validator_rejects_changes_no_host(lab: &Lab) {
    let project = lab.project();
    let _edits = [
        project.edit(BALANCER, "    mode http\n", "    mode htp\n"),
        project.edit(GATEWAY, "    limit_mib:", "    limit_mbi:"),
    ];
    let mut output = None;
    lab.expect_unchanged(|| {
        output = Some(refused(
            project,
            &[
                "refused before anything was changed on any host",
                // HAProxy's words, under the final name.
                "[/etc/haproxy/haproxy.cfg:22] : unknown proxy mode 'htp'",
                // The collector's, once for both gateways.
                "cause: collector-1, collector-2: it refuses what it was given",
                "error: unknown key \"limit_mbi\"",
                "help: did you mean \"limit_mib\"?",
                // Where to correct them.
                &format!("/etc/haproxy/haproxy.cfg comes from {BALANCER} (named at playbooks/"),
                &format!(
                    "/etc/otel-collector/config.yaml comes from {GATEWAY} (named at playbooks/"
                ),
            ],
        ))
    });
    let output = output.expect("an output");
    expect_nothing_staged(lab, &output);
}

/// A value that systemd would only warn of, and then leave out.
fn a_unit_that_systemd_warns_of_changes_no_host(lab: &Lab) {
    let project = lab.project();
    let _edit = project.edit(UNIT, "Restart=always", "Restart=alwys");
    let mut output = None;
    lab.expect_unchanged(|| {
        output = Some(refused(
            project,
            &[
                "refused before anything was changed on any host",
                "alwys",
                &format!(
                    "/etc/systemd/system/otel-collector.service comes from {UNIT} (named at playbooks/"
                ),
            ],
        ));
    });
    expect_nothing_staged(lab, &output.expect("an output"));
}

#[track_caller]
fn expect_nothing_staged(lab: &Lab, output: &Output) {
    let staged = output.stderr.contains("/var/lib/provision");
    assert!(!staged, "a place of staging:\n{}", output.describe());
    for host in lab.hosts() {
        let _ = lab.ssh(&host, "! ls -d /var/lib/provision/stage 2>/dev/null");
    }
}

fn an_artifact_with_another_hash_is_not_sent(lab: &Lab) {
    let project = lab.project();
    let cache = tempfile::tempdir().expect("a folder");
    let program = Project::programs().join("collector");
    let server = Server::start(fs::read(&program).expect("a program"));
    let path = format!("path = \"{}\"", program.display());
    let url = format!("url = \"http://{}/collector\"", server.address);
    let url_by_architecture = format!("url = \"http://{}/{{arch}}/collector\"", server.address);
    let every = format!("sha256 = \"{OTHER_SHA256}\"");
    let one = format!("sha256 = {{ x86_64 = \"{OTHER_SHA256}\", aarch64 = \"{OTHER_SHA256}\" }}");
    lab.expect_unchanged(|| {
        for (origin, sha256) in [
            (&path, &every),
            (&path, &one),
            (&url, &every),
            (&url_by_architecture, &one),
        ] {
            let described = format!("{origin}\n{sha256}");
            let _edit = project.edit(ENVIRONMENT, "program = \"collector\"", &described);
            let place = place(project, ENVIRONMENT, &format!("\"{OTHER_SHA256}"));
            let mut command = project.command(&["apply", "--env", "development", "--yes"]);
            command.env("XDG_CACHE_HOME", cache.path());
            let _ = Output::of(&mut command).expect_code(1).says(&[
                &format!("{place}: artifact `collector` has the wrong SHA-256: "),
                &format!(", not {OTHER_SHA256}"),
                "nothing is sent; check where the file comes from before you change `sha256`",
            ]);
        }
    });
    let kept = fs::read_dir(cache.path().join("provision/downloads")).expect("a folder");
    assert_eq!(kept.count(), 0, "a file with a wrong hash is kept");
}

/// Runs `apply`, which must refuse with these words.
#[track_caller]
fn refused(project: &Project, texts: &[&str]) -> Output {
    let output = project.provision(&["apply", "--env", "development", "--yes"]);
    output.expect_code(1).says(texts)
}

/// `file:line:column` of the first place of a text.
#[track_caller]
fn place(project: &Project, file: &str, text: &str) -> String {
    let content = fs::read_to_string(project.path(file)).expect("a file of the project");
    let at = content
        .find(text)
        .unwrap_or_else(|| panic!("{file} does not have `{text}`"));
    let line = content[..at].matches('\n').count() + 1;
    let begin = content[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let column = content[begin..at].chars().count() + 1;
    format!("{file}:{line}:{column}")
}

/// Adds a text to the end of a file until the result is dropped.
fn append(project: &Project, file: &str, text: &str) -> fleet_tests::Edit {
    let content = fs::read_to_string(project.path(file)).expect("a file of the project");
    project.write(file, &format!("{content}{text}"))
}

/// Serves one content over HTTP on this machine, under every path.
struct Server {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(content: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ending = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ending);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if told.load(Ordering::SeqCst) {
                    return;
                }
                // A client that goes away early is no failure of the server.
                let _ = stream.and_then(|stream| answer(stream, &content));
            }
        });
        Self {
            address,
            ending,
            thread: Some(thread),
        }
    }
}

fn answer(mut stream: TcpStream, content: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    let length = content.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    stream.write_all(content)
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the thread, which waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
