//! What HAProxy is told, and what is remembered of it, against one that answers from memory.

use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use super::*;

/// As HAProxy 2.6 prints it.
const HEAD: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state \
                    srv_uweight srv_iweight";

/// A HAProxy with the server `c1` in two backends and `c2` in one.
struct Fake {
    folder: tempfile::TempDir,
    commands: Arc<Mutex<Vec<String>>>,
}

struct State {
    admin: &'static str,
    /// How many more looks see a session.
    busy: usize,
    old_workers: usize,
}

impl Fake {
    fn start(busy: usize, old_workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let commands: Arc<Mutex<Vec<String>>> = Arc::default();
        let state = Arc::new(Mutex::new(State {
            admin: "ready",
            busy,
            old_workers,
        }));
        fs::create_dir_all(folder.path().join("run")).unwrap();
        for socket in ["run/admin.sock", "run/haproxy-master.sock"] {
            let listener = UnixListener::bind(folder.path().join(socket)).unwrap();
            let (commands, state) = (Arc::clone(&commands), Arc::clone(&state));
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut command = String::new();
                    stream.read_to_string(&mut command).unwrap();
                    let answer = state.lock().unwrap().answer(command.trim());
                    commands.lock().unwrap().push(command.trim().to_owned());
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
        Self { folder, commands }
    }

    fn ask(&self, verb: BalanceVerb, server: &str, within_millis: u64) -> Balanced {
        let request = Balance {
            socket: "/run/admin.sock".into(),
            state_file: "/state".into(),
            server: server.into(),
            verb: verb as i32,
            within_millis,
        };
        let root = Root::below(self.folder.path().to_owned());
        balance(&root, &request, &AtomicBool::new(false)).unwrap()
    }

    fn state_file(&self) -> Option<String> {
        fs::read_to_string(self.folder.path().join("state")).ok()
    }

    fn set(&self) -> Vec<String> {
        let commands = self.commands.lock().unwrap();
        let set = commands.iter().filter(|one| one.starts_with("set "));
        set.cloned().collect()
    }
}

impl State {
    fn answer(&mut self, command: &str) -> String {
        if command == "show proc" {
            let old = "7 worker 1 0d 2.6\n".repeat(self.old_workers);
            self.old_workers = self.old_workers.saturating_sub(1);
            let heading = if old.is_empty() {
                ""
            } else {
                "# old workers\n"
            };
            return format!("#<PID>\n1 master\n# workers\n9 worker\n{heading}{old}# programs\n");
        }
        if command == "show servers state" {
            return format!(
                "{HEAD}\n3 grpc 1 c1 10.0.0.1 2 0 1 1\n3 grpc 2 c2 10.0.0.2 2 0 1 1\n\
                 4 http 1 c1 10.0.0.1 2 0 1 1\n\n"
            );
        }
        if let Some(rest) = command.strip_prefix("set server ") {
            self.admin = match rest.rsplit(' ').next() {
                Some("drain") => "drain",
                Some("maint") => "maint",
                _ => "ready",
            };
            return "\n".into();
        }
        let status = match self.admin {
            "drain" => "DRAIN",
            "maint" => "MAINT",
            _ => "UP",
        };
        let busy = usize::from(self.busy > 0);
        if self.admin == "drain" {
            self.busy = self.busy.saturating_sub(1);
        }
        format!(
            "# pxname,svname,qcur,scur,status,check_status,\ngrpc,c1,0,{busy},{status},L7OK,\n\
             grpc,c2,0,0,UP,L7OK,\nhttp,c3,0,9,UP,L7OK,\nhttp,c1,0,0,{status},L7OK,\n"
        )
    }
}

#[test]
fn a_server_is_drained_in_every_backend_and_then_held() {
    let fake = Fake::start(3, 2);
    let out = fake.ask(BalanceVerb::TakeOut, "c1", 5000);
    assert!(out.done && out.taken_out && out.backends == 2, "{out:?}");
    assert_eq!(out.detail, "grpc MAINT, http MAINT");
    let words = |state: &str| {
        ["grpc", "http"].map(|backend| format!("set server {backend}/c1 state {state}"))
    };
    assert_eq!(fake.set(), [words("drain"), words("maint")].concat());
    assert_eq!(
        fake.state_file().unwrap(),
        format!("{HEAD}\n3 grpc 1 c1 10.0.0.1 2 1 1 1\n4 http 1 c1 10.0.0.1 2 1 1 1\n")
    );
    let back = fake.ask(BalanceVerb::PutBack, "c1", 5000);
    assert!(back.done && !back.taken_out, "{back:?}");
    assert_eq!(fake.state_file(), None);
}

#[test]
fn a_server_whose_sessions_do_not_end_is_put_back() {
    let fake = Fake::start(1000, 0);
    let out = fake.ask(BalanceVerb::TakeOut, "c1", 500);
    assert!(!out.done && !out.taken_out, "{out:?}");
    assert_eq!(out.detail, "1 sessions did not end");
    assert_eq!(fake.state_file(), None);
    assert!(fake.set().last().unwrap().ends_with("state ready"));
}

#[test]
fn nothing_is_drained_while_an_old_process_serves_connections() {
    let fake = Fake::start(0, 1000);
    let out = fake.ask(BalanceVerb::TakeOut, "c1", 300);
    assert!(
        !out.done && out.detail.contains("before a reload"),
        "{out:?}"
    );
    assert_eq!(fake.set(), Vec::<String>::new());
}

#[test]
fn two_servers_can_be_out_and_come_back_one_by_one() {
    let fake = Fake::start(0, 0);
    let _ = fake.ask(BalanceVerb::TakeOut, "c1", 1000);
    let _ = fake.ask(BalanceVerb::TakeOut, "c2", 1000);
    let _ = fake.ask(BalanceVerb::PutBack, "c1", 1000);
    assert!(fake.ask(BalanceVerb::Look, "c2", 0).taken_out);
    assert!(!fake.ask(BalanceVerb::Look, "c1", 0).taken_out);
    let root = Root::below(fake.folder.path().to_owned());
    assert_eq!(taken_out(&root, "/state").unwrap(), ["c2"]);
}

#[test]
fn a_server_that_is_in_no_backend_and_a_balancer_that_does_not_run_are_told() {
    let fake = Fake::start(0, 0);
    let unknown = fake.ask(BalanceVerb::TakeOut, "new", 1000);
    assert!(unknown.running && unknown.backends == 0 && !unknown.done);
    assert_eq!(fake.set(), Vec::<String>::new());
    fs::remove_file(fake.folder.path().join("run/admin.sock")).unwrap();
    assert!(!fake.ask(BalanceVerb::TakeOut, "c1", 1000).running);
}

#[test]
fn a_name_cannot_end_the_command_that_it_stands_in() {
    assert!(check_word("c1; disable frontend f").is_err());
    assert!(check_word("").is_err());
    assert!(check_word("collector-1.example").is_ok());
}

#[test]
fn what_was_written_for_haproxy_goes_when_the_host_is_left() {
    let fake = Fake::start(0, 0);
    let root = Root::below(fake.folder.path().to_owned());
    assert!(fake.ask(BalanceVerb::TakeOut, "c1", 1000).done);
    assert!(fake.state_file().is_some());
    forget(&root).unwrap();
    assert_eq!(fake.state_file(), None);
    assert!(!root.state(NOTES).exists());
    forget(&root).unwrap();
}
