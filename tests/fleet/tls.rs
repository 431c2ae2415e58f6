//! Mutual TLS by one word: who shows no certificate is refused. While programs send, gateways are
//! upgraded and brought back, and certificates and their authority are replaced. NGINX speaks it
//! too, and both balancers where servers alone show certificates.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use fleet_tests::{Lab, Output, Project};

use crate::telemetry::{self, Amount};
use crate::{Test, rollout};

pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "tls::an_upgrade_a_rollback_and_new_certificates_lose_and_refuse_nothing",
        needs: telemetry::NEEDS,
        run: an_upgrade_a_rollback_and_new_certificates_lose_and_refuse_nothing,
    },
    Test {
        name: "tls::both_balancers_speak_it_also_where_servers_alone_show_certificates",
        needs: telemetry::NEEDS,
        run: both_balancers_speak_it,
    },
];

const ENVIRONMENT: &str = "environments/development.toml";
const TEMPLATE: &str = "templates/collector/gateway.yaml.tera";

/// How many spans programs make in a second.
const RATE: &str = "5000";

/// The least that a program sends.
const AMOUNT: Amount = Amount {
    spans: 1_000,
    logs: 1_000,
    points: 100,
};

fn an_upgrade_a_rollback_and_new_certificates_lose_and_refuse_nothing(lab: &Lab) {
    let word = lab.project().edit(
        ENVIRONMENT,
        "playbook = \"site\"",
        "playbook = \"site\"\ntls = \"mutual\"",
    );
    let platform = Platform::new(lab);
    let _ = platform
        .run(&["plan", "--env", "development"])
        .expect_code(1)
        .says(&["`tls` needs certificates, and there is no authority"]);
    platform.issue_and_apply();
    let old = platform.certificate("old");
    for protocol in ["grpc", "http"] {
        let run = format!("tls-{protocol}");
        platform.start(&old, protocol, &run).ends_well(lab);
    }
    only_certificates_are_let_in(lab, &old);

    let sending = platform.start(&old, "grpc", "tls-upgrade");
    upgrade_and_roll_back(&platform);
    let _ = platform.rotate(&[]).success();
    let stopped = platform.rotate(&["--authority", "--settle", "11s"]);
    let _ = stopped
        .expect_code(1)
        .says(&["hosts trust both authorities", "new ones: shop"]);
    sending.ends_well(lab);

    let client = ["tls", "issue", "--env", "development", "--client", "shop"];
    let _ = platform.run(&client).success();
    let new = platform.certificate("new");
    let sending = platform.start(&new, "http", "tls-authority");
    let _ = platform
        .rotate(&["--authority", "--settle", "11s"])
        .success();
    sending.ends_well(lab);
    assert_eq!(probe(lab, "10.77.0.11", 4318, &old), "refused");
    let new = platform.certificate_with(&new);
    assert_eq!(probe(lab, "10.77.0.11", 4318, &new), "200");
    ends_soon_is_told(&platform);

    drop(word);
    goes_without(lab);
    let amount = Amount {
        spans: 100,
        logs: 10,
        points: 1,
    };
    let expected = telemetry::send(lab, "grpc", "without-tls", amount);
    telemetry::verify(lab, "without-tls", amount, &expected);
}

/// NGINX where all show certificates, and both balancers where servers alone do.
fn both_balancers_speak_it(lab: &Lab) {
    let (platform, project) = (Platform::new(lab), lab.project());
    let nginx = "\ninstead.balancers = \"nginx\"";
    let mutual = format!("playbook = \"site\"\ntls = \"mutual\"{nginx}");
    let mutual = project.edit(ENVIRONMENT, "playbook = \"site\"", &mutual);
    platform.issue_and_apply();
    let shop = platform.certificate("shop");
    let none = platform.home.path();
    // NGINX ends the handshake, and then says over HTTP what is missing.
    all_is_let_in(&platform, "mutual-nginx", &shop, ["400", "refused"]);
    let server = project.edit(ENVIRONMENT, "tls = \"mutual\"", "tls = \"server\"");
    platform.apply();
    all_is_let_in(&platform, "server-nginx", none, ["200"; 2]);
    let haproxy = project.edit(ENVIRONMENT, nginx, "");
    platform.apply();
    all_is_let_in(&platform, "server-haproxy", none, ["200"; 2]);
    drop(haproxy);
    drop(server);
    drop(mutual);
    goes_without(lab);
}

/// What a program sends that has this folder arrives, as `MODE-BALANCER` says; `others` is what the
/// balancer and a gateway answer without a certificate.
fn all_is_let_in(platform: &Platform<'_>, what: &str, folder: &Path, others: [&str; 2]) {
    let (lab, (_, balancer)) = (platform.lab, what.split_once('-').expect("a balancer"));
    let active = lab.ssh("lb-1", &format!("systemctl is-active {balancer}"));
    assert_eq!(active.trim(), "active");
    for protocol in ["grpc", "http"] {
        let run = format!("tls-{what}-{protocol}");
        platform.start(folder, protocol, &run).ends_well(lab);
    }
    let none = platform.home.path();
    let answers = ["10.77.0.11", "10.77.0.21"].map(|address| probe(lab, address, 4318, none));
    assert_eq!(answers, others, "{what}");
}

/// Nothing is left of certificates, on hosts and in the project.
fn goes_without(lab: &Lab) {
    let _ = lab.project().apply();
    let _ = lab.ssh("collector-1", "! ls /etc/otel-collector/*.pem");
    let _ = fs::remove_file(lab.project().path("environments/development.secrets.toml"));
    let _ = fs::remove_dir_all(lab.project().path("tls"));
}

/// Another program and another configuration on all gateways, and back.
fn upgrade_and_roll_back(platform: &Platform<'_>) {
    let (lab, project) = (platform.lab, platform.lab.project());
    let mut program = fs::read(Project::programs().join("collector")).expect("the collector");
    // What follows its sections changes nothing in how an ELF file runs.
    program.extend_from_slice(b"another build");
    let path = project.path("collector-next");
    fs::write(&path, program).expect("a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&path, mode).expect("a program");
    let artifact = format!("path = {:?}", path.to_str().expect("a path"));
    let edits = [
        project.edit(ENVIRONMENT, "program = \"collector\"", &artifact),
        project.edit(
            TEMPLATE,
            "max_recv_msg_size_mib: 4",
            "max_recv_msg_size_mib: 5",
        ),
    ];
    let (before, refused) = (what_runs(lab), rollout::refused(lab));
    let apply = [
        "apply",
        "--env",
        "development",
        "--limit",
        "gateways",
        "--yes",
    ];
    let _ = platform.run(&apply).success();
    let upgraded = what_runs(lab);
    for (before, upgraded) in before.iter().zip(&upgraded) {
        let same: Vec<_> = before
            .iter()
            .filter(|line| upgraded.contains(line))
            .collect();
        assert!(same.is_empty(), "as before the upgrade: {same:?}");
    }
    let back = ["rollback", "--env", "development", "--yes"];
    let _ = platform.run(&back).success();
    assert_eq!(what_runs(lab), before);
    assert_eq!(rollout::refused(lab), refused, "what the balancer refused");
    drop(edits);
}

/// The program that runs on each gateway, and its configuration, as checksums.
fn what_runs(lab: &Lab) -> Vec<Vec<String>> {
    let sums = "sha256sum /proc/$(systemctl show -P MainPID otel-collector)/exe \
                /etc/otel-collector/config.yaml | cut -d ' ' -f 1";
    let of = |host| lab.ssh(host, sums).lines().map(str::to_owned).collect();
    ["collector-1", "collector-2"].map(of).to_vec()
}

fn only_certificates_are_let_in(lab: &Lab, certificate: &Path) {
    let none = certificate.parent().expect("a folder");
    for (address, what) in [
        ("10.77.0.11", "the balancer"),
        ("10.77.0.21", "a gateway"),
        ("10.77.0.31", "the storage"),
    ] {
        assert_eq!(probe(lab, address, 4318, certificate), "200", "{what}");
        assert_eq!(probe(lab, address, 4318, none), "refused", "{what}");
        assert_eq!(probe(lab, address, 4317, none), "refused", "{what}");
    }
}

fn ends_soon_is_told(platform: &Platform<'_>) {
    let status = ["tls", "status", "--env", "development"];
    let _ = platform.run(&status).success();
    let renew = ["tls", "issue", "-e", "development", "--days", "5", "lb-1"];
    let _ = platform.run(&renew).success();
    let _ = platform.run(&status).expect_code(2).says(&["ends-soon"]);
    let alerts = platform.run(&["tls", "alerts", "--env", "development"]);
    let _ = alerts.success().says(&[
        "alert: CertificateEndsSoon",
        "host: \"lb-1\"",
        "expr: vector(time()) >= ",
    ]);
}

/// The platform with secrets, whose key is in a home of the test's own.
struct Platform<'a> {
    lab: &'a Lab,
    home: tempfile::TempDir,
}

/// A client at work.
struct Sending {
    child: Child,
    run: String,
    folder: tempfile::TempDir,
}

impl<'a> Platform<'a> {
    fn new(lab: &'a Lab) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        Self { lab, home }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.lab.project().command(arguments);
        Output::of(command.env("HOME", self.home.path()))
    }

    /// An authority, certificates of hosts and one of the shop's, and all of it on the hosts.
    fn issue_and_apply(&self) {
        for arguments in [
            &["tls", "init", "--env", "development"][..],
            &["tls", "issue", "--env", "development"],
            &["tls", "issue", "--env", "development", "--client", "shop"],
        ] {
            let _ = self.run(arguments).success();
        }
        self.apply();
    }

    fn apply(&self) {
        let apply = ["apply", "--env", "development", "--yes"];
        let _ = self.run(&apply).success();
    }

    fn rotate(&self, arguments: &[&str]) -> Output {
        let rotate = ["tls", "rotate", "--env", "development", "--yes"];
        self.run(&[&rotate, arguments].concat())
    }

    /// A folder with the client's certificate and key, and the authorities as they are now.
    fn certificate(&self, name: &str) -> std::path::PathBuf {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder).expect("a folder");
        self.certificate_with(&folder);
        let get = ["secret", "get", "tls.shop", "--env", "development"];
        let key = self.run(&get).success().stdout;
        fs::write(folder.join("key.pem"), key).expect("a key");
        let certificate = self.lab.project().path("tls/development/clients/shop.pem");
        fs::copy(certificate, folder.join("cert.pem")).expect("a certificate");
        folder
    }

    /// The same with the authorities that are trusted by now.
    fn certificate_with(&self, folder: &Path) -> std::path::PathBuf {
        let authority = self.lab.project().path("tls/development/ca.pem");
        for place in [folder.join("ca.pem"), self.home.path().join("ca.pem")] {
            fs::copy(&authority, place).expect("an authority");
        }
        folder.to_owned()
    }

    fn start(&self, certificate: &Path, protocol: &str, run: &str) -> Sending {
        let before = telemetry::accepted_spans(self.lab).iter().sum::<u64>();
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("expected.json");
        let mut command = telemetry::client(self.lab, protocol, run, AMOUNT, &file);
        let child = command
            .env("FLEET_TLS", certificate)
            // Python's requests would trust these in the place of what the SDK is told.
            .env_remove("REQUESTS_CA_BUNDLE")
            .env_remove("CURL_CA_BUNDLE")
            .env("FLEET_RATE", RATE)
            .env("FLEET_UNTIL", folder.path().join("enough"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a client");
        for _ in 0..300 {
            if telemetry::accepted_spans(self.lab).iter().sum::<u64>() > before {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Sending {
            child,
            run: run.to_owned(),
            folder,
        }
    }
}

impl Sending {
    fn ends_well(self, lab: &Lab) {
        fs::write(self.folder.path().join("enough"), "").expect("a file");
        let output = self.child.wait_with_output().expect("an end");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}", said.trim());
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{errors}");
        let expected = fs::read_to_string(self.folder.path().join("expected.json"));
        let expected: serde_json::Value =
            serde_json::from_str(&expected.expect("a file")).expect("JSON");
        let spans = expected["spans"].as_object().expect("an object").len();
        let amount = Amount { spans, ..AMOUNT };
        telemetry::verify(lab, &self.run, amount, &expected);
    }
}

/// What a server answers to an empty request, with the certificate of a folder if it has one.
fn probe(lab: &Lab, address: &str, port: u16, folder: &Path) -> String {
    let script = r#"
import http.client, os, ssl, sys
address, port, folder = sys.argv[1:]
context = ssl.create_default_context(cafile=folder + "/ca.pem")
if os.path.exists(folder + "/cert.pem"):
    context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
connection = http.client.HTTPSConnection(address, int(port), timeout=10, context=context)
try:
    connection.request("POST", "/v1/traces", b"", {"Content-Type": "application/x-protobuf"})
    print(connection.getresponse().status)
except (ssl.SSLError, ConnectionError, http.client.BadStatusLine) as error:
    print(error, file=sys.stderr)
    print("refused")
"#;
    let python = std::env::var("FLEET_PYTHON").expect("a requirement of this test");
    let mut command = lab.exec(&[&python, "-c", script, address, &port.to_string()]);
    let output = Output::of(command.arg(folder)).success();
    println!(
        "{address}:{port}: {}{}",
        output.stdout,
        output.stderr.trim()
    );
    output.stdout.trim().to_owned()
}
