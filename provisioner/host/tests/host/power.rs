//! A power cut after every step: the helper is killed at each system call that changes something,
//! what was written and not made last is lost, and the next run completes everything.
//!
//! `strace` kills from outside, so nothing in the helper knows of these tests. Only the helper's
//! own calls are counted; the programs that it runs are scripts here.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use provision_protocol::fact::{UnitFact, fact_kind, query};
use provision_protocol::frame;
use provision_protocol::generation::Ending;
use provision_protocol::message::to_host::Body as Request;
use provision_protocol::message::{Commit, FromHost, Lock, Perform, ToHost, from_host};
use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{
    Debt, InstallPackages, MakeDirectory, MakeGroup, MakeUser, ManifestKind, Operation, Owed,
    SetSysctl, UnitAction, UnitVerb,
};

use crate::talk::{Place, chunk, mode_of, operation, sha256_of, write};

/// The calls that change what is on disk, or make it last.
const CALLS: [&str; 9] = [
    "write",
    "fsync",
    "fdatasync",
    "rename",
    "unlink",
    "mkdir",
    "linkat",
    "fchmod",
    "ftruncate",
];
/// The least number of places at which a good run can be cut, so that a trace that sees nothing is
/// no success.
const LEAST_CUTS: usize = 150;
const CONFIG: &str = "/etc/app/config";
const UNIT_FILE: &str = "/etc/systemd/system/app.service";
const SECRET: &str = "/etc/app/key";

/// What the slice puts on a host: path, text, whether it is a secret.
fn files(version: u32) -> [(&'static str, String, bool); 3] {
    [
        (CONFIG, format!("config {version}\n"), false),
        (UNIT_FILE, format!("[Service] # {version}\n"), false),
        (SECRET, format!("secret {version}\n"), true),
    ]
}

/// A host on which systemd, dpkg and the account tools are scripts that keep what they did. A
/// restart loads the configuration, so that a lost one shows.
fn place() -> Place {
    let place = Place::in_memory();
    for folder in [
        "/etc/systemd/system",
        "/var/lib/dpkg",
        "/run/app",
        "/proc/sys/vm",
    ] {
        fs::create_dir_all(place.at(folder)).unwrap();
    }
    fs::write(place.at("/proc/sys/vm/swappiness"), "60\n").unwrap();
    let installed = |name: &str| {
        format!("Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n")
    };
    fs::write(place.at("/var/lib/dpkg/status"), installed("dpkg")).unwrap();
    let after = format!("{}\n{}", installed("dpkg"), installed("chrony"));
    fs::write(place.at("/var/lib/dpkg/status.after"), after).unwrap();
    place.script("/usr/bin/apt-cache", "printf 'chrony:\\n  Candidate: 1\\n'");
    place.script(
        "/usr/bin/apt-get",
        "lib=\"$(dirname \"$0\")/../../var/lib/dpkg\"\n\
         case \"$*\" in\n\
         *simulate*install*) echo 'Inst chrony (1)';;\n\
         *' install '*) cp $lib/status.after $lib/status.new; mv $lib/status.new $lib/status;;\n\
         esac",
    );
    for (tool, line, file) in [
        (
            "useradd",
            "app:x:900:900::/nonexistent:/bin/false",
            "passwd",
        ),
        ("groupadd", "app:x:900:", "group"),
    ] {
        let script = format!("echo '{line}' >> \"$(dirname \"$0\")/../../etc/{file}\"");
        place.script(&format!("/usr/sbin/{tool}"), &script);
    }
    place.script(
        "/usr/bin/systemctl",
        "root=\"$(dirname \"$0\")/../..\"; run=$root/run/app\n\
         case \"$1\" in\n\
         show) active=inactive; enabled=disabled; load=not-found\n\
         [ -e $run/loaded ] && active=active; [ -e $run/enabled ] && enabled=enabled\n\
         [ -e $root/etc/systemd/system/app.service ] && load=loaded\n\
         printf \"Id=app.service\\nLoadState=$load\\nActiveState=$active\\nSubState=running\\n\
         UnitFileState=$enabled\\nNeedDaemonReload=no\\nInvocationID=\\n\";;\n\
         enable) touch $run/enabled;;\n\
         restart) cat $root/etc/app/config $root/etc/systemd/system/app.service \
         $root/etc/app/key > $run/loaded;;\n\
         esac",
    );
    place
}

/// The slice as the controller would send it to a host on which nothing of it is as it should be.
fn operations(version: u32) -> Vec<Operation> {
    let restart = Debt {
        unit: "app.service".into(),
        owed: Owed::Restart as i32,
    };
    let unit = |verb: UnitVerb| {
        Act::UnitAction(UnitAction {
            unit: if verb == UnitVerb::DaemonReload {
                ""
            } else {
                "app.service"
            }
            .into(),
            verb: verb as i32,
        })
    };
    let mut acts = vec![
        Act::InstallPackages(InstallPackages {
            packages: vec!["chrony".into()],
            lock_timeout_seconds: 1,
        }),
        Act::MakeGroup(MakeGroup {
            name: "app".into(),
            system: true,
        }),
        Act::MakeUser(MakeUser {
            name: "app".into(),
            system: true,
            ..MakeUser::default()
        }),
        Act::SetSysctl(SetSysctl {
            key: "vm.swappiness".into(),
            value: version.to_string(),
        }),
        Act::MakeDirectory(MakeDirectory {
            path: "/etc/app".into(),
            owner: "me".into(),
            group: "us".into(),
            mode: 0o750,
        }),
    ];
    for (path, text, secret) in files(version) {
        let mut wanted = write(path, &sha256_of(text.as_bytes()));
        wanted.secret = secret;
        wanted.debts = vec![restart.clone()];
        acts.push(Act::WriteFile(wanted));
    }
    acts.extend([UnitVerb::DaemonReload, UnitVerb::Enable, UnitVerb::Restart].map(unit));
    acts.into_iter().map(operation).collect()
}

fn requests(version: u32, operations: Vec<Operation>) -> Vec<Request> {
    let lock = Request::Lock(Lock {
        holder: "a test".into(),
    });
    let uploads = files(version).map(|(_, text, _)| Request::Chunk(chunk(text.as_bytes())));
    let perform = Request::Perform(Perform {
        run: format!("run {version}"),
        operations,
        origin: None,
    });
    let commit = Request::Commit(Commit {
        environment: "test".into(),
        plays: vec!["app".into()],
        ending: Ending::Applied as i32,
        ..Commit::default()
    });
    std::iter::once(lock)
        .chain(uploads)
        .chain([perform, commit])
        .collect()
}

/// Holds a conversation to its end, which may come at any moment; `true` when it was not cut.
fn hold(command: &mut Command, requests: Vec<Request>) -> bool {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut marker = vec![0u8; provision_protocol::HELLO_MARKER.len()];
    let _ = std::io::Read::read_exact(&mut output, &mut marker);
    for body in requests {
        let _ = frame::write(&mut input, &ToHost { body: Some(body) });
    }
    let mut committed = false;
    while let Ok(Some(FromHost { body: Some(body) })) = frame::read::<FromHost>(&mut output) {
        match body {
            from_host::Body::Performed(performed) => {
                assert_eq!(performed.failure, None, "an operation failed");
            }
            from_host::Body::Refused(refused) => panic!("refused: {}", refused.message),
            from_host::Body::Committed(_) => {
                committed = true;
                break;
            }
            _ => {}
        }
    }
    drop(input);
    let ended = child.wait().unwrap();
    committed && ended.success()
}

fn helper() -> &'static str {
    env!("CARGO_BIN_EXE_provision-host")
}

/// A run under strace, with its options.
fn traced(place: &Place, options: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command
        .args(options)
        .arg("--")
        .arg(helper())
        .arg("--root")
        .arg(place.at("/"));
    command
}

/// What the next run finds to be done, decided as the controller decides it.
fn missing(place: &Place, version: u32) -> Vec<Operation> {
    let mut talk = place.talk();
    let mut done: BTreeSet<String> = BTreeSet::new();
    for (path, text, _) in files(version) {
        let file = talk.file(path);
        if file.sha256 == sha256_of(text.as_bytes()) && file.mode == 0o640 {
            done.insert(path.to_owned());
        }
    }
    let query = query::Kind::Unit("app.service".into());
    let unit = match talk.observe(vec![query]).remove(0).kind {
        Some(fact_kind::Kind::Unit(unit)) => unit,
        other => panic!("{other:?}"),
    };
    talk.end();
    let accounts = fs::read_to_string(place.at("/etc/passwd")).unwrap();
    let groups = fs::read_to_string(place.at("/etc/group")).unwrap();
    let packages = fs::read_to_string(place.at("/var/lib/dpkg/status")).unwrap();
    let value = fs::read_to_string(place.at("/proc/sys/vm/swappiness")).unwrap();
    let writes = done.len() < files(version).len();
    operations(version)
        .into_iter()
        .filter(|operation| match operation.kind.as_ref().unwrap() {
            Act::InstallPackages(_) => !packages.contains("chrony"),
            Act::MakeGroup(_) => !groups.contains("app:x:900"),
            Act::MakeUser(_) => !accounts.contains("app:x:900"),
            Act::SetSysctl(_) => value.trim() != version.to_string(),
            Act::MakeDirectory(wanted) => {
                let path = place.at(&wanted.path);
                !path.is_dir() || mode_of(&path) != wanted.mode
            }
            Act::WriteFile(wanted) => !done.contains(&wanted.path),
            Act::UnitAction(wanted) => unit_needs(&unit, wanted.verb(), writes),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn unit_needs(unit: &UnitFact, verb: UnitVerb, writes: bool) -> bool {
    match verb {
        UnitVerb::Enable => unit.unit_file_state != "enabled",
        UnitVerb::Restart => {
            writes || unit.owed() == Owed::Restart || unit.active_state != "active"
        }
        _ => writes,
    }
}

/// Loses what a cut run had written and not made last, by its trace: such files are cut in half.
fn lose_unsynced(log: &Path, place: &Place) {
    let text = fs::read_to_string(log).unwrap_or_default();
    let base = place.at("/");
    let mut unsynced: BTreeSet<PathBuf> = BTreeSet::new();
    for line in text.lines() {
        let named = |part: &str| {
            let (_, rest) = part.split_once('<')?;
            let path = PathBuf::from(rest.split_once('>')?.0);
            path.starts_with(&base).then_some(path)
        };
        let quoted: Vec<PathBuf> = line
            .split('"')
            .skip(1)
            .step_by(2)
            .map(PathBuf::from)
            .collect();
        if line.contains("write(") {
            unsynced.extend(named(line));
        } else if line.contains("sync(") {
            if let Some(path) = named(line) {
                unsynced.remove(&path);
            }
        } else if line.contains("rename(")
            && let [from, to] = quoted.as_slice()
            && unsynced.remove(from)
        {
            unsynced.insert(to.clone());
        }
    }
    for path in unsynced {
        if let Ok(file) = fs::OpenOptions::new().write(true).open(&path) {
            let length = file.metadata().unwrap().len();
            file.set_len(length / 2).unwrap();
        }
    }
}

/// Everything that must hold once a run has completed what another one began.
fn expect_whole(place: &Place, version: u32, cut: &str) {
    for (path, text, _) in files(version) {
        assert_eq!(
            fs::read_to_string(place.at(path)).unwrap(),
            text,
            "{cut}: {path}"
        );
        assert_eq!(mode_of(&place.at(path)), 0o640, "{cut}: {path}");
    }
    let loaded = fs::read_to_string(place.at("/run/app/loaded")).unwrap();
    let wanted: String = files(version).map(|(_, text, _)| text).concat();
    assert_eq!(loaded, wanted, "{cut}: a restart was lost");
    let debts = fs::read_dir(place.at("/var/lib/provision/debts"));
    let owed = debts.map_or(0, Iterator::count);
    assert_eq!(owed, 0, "{cut}: something is still owed");
    for folder in [
        "/etc",
        "/etc/app",
        "/etc/systemd/system",
        "/var/lib/provision",
    ] {
        for entry in fs::read_dir(place.at(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{cut}: {folder}/{name} is left");
        }
    }
    let todo = missing(place, version);
    assert!(todo.is_empty(), "{cut}: the run after it would do {todo:?}");
    let secrets = secrets_kept(place);
    assert!(secrets.is_empty(), "{cut}: {secrets:?} hold a secret");
}

fn secrets_kept(place: &Place) -> Vec<PathBuf> {
    let mut folders = vec![place.at("/var/lib/provision")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("secret ") {
                found.push(path);
            }
        }
    }
    found
}

/// How often a good run makes each call, and the whole trace.
fn dry_run(from: Option<u32>) -> (Vec<(&'static str, usize)>, String) {
    let place = starting(from);
    let log = place.at("/trace");
    let calls = format!("trace={}", CALLS.join(","));
    let options = [
        "-qq",
        "-y",
        "-s",
        "0",
        "-e",
        &calls,
        "-o",
        log.to_str().unwrap(),
    ];
    let version = from.map_or(1, |_| 2);
    assert!(hold(
        &mut traced(&place, &options),
        requests(version, operations(version))
    ));
    let text = fs::read_to_string(&log).unwrap();
    let count = |call: &str| {
        let begins = format!("{call}(");
        text.lines()
            .filter(|line| line.starts_with(&begins))
            .count()
    };
    let counts = CALLS.map(|call| (call, count(call))).to_vec();
    (counts, text)
}

/// A host without anything of ours, or with a version of the slice.
fn starting(from: Option<u32>) -> Place {
    let place = place();
    if let Some(version) = from {
        let mut command = Command::new(helper());
        command.arg("--root").arg(place.at("/"));
        assert!(hold(&mut command, requests(version, operations(version))));
        expect_whole(&place, version, "the first run");
    }
    place
}

fn cut_and_complete(from: Option<u32>, call: &str, at: usize) {
    let cut = format!(
        "{} cut at {call} {at}",
        from.map_or("first run", |_| "second run")
    );
    let version = from.map_or(1, |_| 2);
    let place = starting(from);
    let log = place.at("/trace");
    let calls = format!("trace={}", CALLS.join(","));
    let inject = format!("inject={call}:signal=KILL:when={at}");
    let options = [
        "-qq",
        "-y",
        "-s",
        "0",
        "-e",
        &calls,
        "-e",
        &inject,
        "-o",
        log.to_str().unwrap(),
    ];
    let whole = hold(
        &mut traced(&place, &options),
        requests(version, operations(version)),
    );
    assert!(!whole, "{cut}: nothing was cut");
    lose_unsynced(&log, &place);
    fs::remove_file(&log).unwrap();
    let todo = missing(&place, version);
    let mut command = Command::new(helper());
    command.arg("--root").arg(place.at("/"));
    assert!(
        hold(&mut command, requests(version, todo)),
        "{cut}: the next run failed"
    );
    expect_whole(&place, version, &cut);
    expect_history(&place, from, &cut);
}

/// However often it was interrupted, what a run did is one generation, and it knows what stood
/// there before.
fn expect_history(place: &Place, from: Option<u32>, cut: &str) {
    let mut talk = place.talk();
    let generations = talk.generations();
    let numbers: Vec<u64> = generations.iter().map(|one| one.number).collect();
    let expected: &[u64] = if from.is_some() { &[1, 2] } else { &[1] };
    assert_eq!(numbers, expected, "{cut}");
    let last = generations.last().unwrap();
    assert_eq!(last.ending(), Ending::Applied, "{cut}");
    let config = last.changes.iter().find(|one| one.name == CONFIG);
    let config = config.unwrap_or_else(|| panic!("{cut}: the file is not in the history"));
    match from {
        None => assert_eq!(config.before, None, "{cut}"),
        Some(version) => {
            let text = &files(version)[0].1;
            let before = config.before.as_ref().unwrap();
            assert_eq!(before.sha256, sha256_of(text.as_bytes()), "{cut}");
            assert!(config.kept, "{cut}: the content before is lost");
        }
    }
    let entries = talk.manifest();
    for kind in [
        ManifestKind::Package,
        ManifestKind::User,
        ManifestKind::File,
    ] {
        let ours = entries.iter().filter(|entry| entry.kind() == kind);
        assert!(ours.clone().count() > 0, "{cut}: no {kind:?}");
        assert!(
            ours.clone().all(|entry| !entry.existed),
            "{cut}: {entries:?}"
        );
    }
}

#[track_caller]
fn cut_everywhere(from: Option<u32>) {
    let (counts, _) = dry_run(from);
    let cuts: Vec<(&str, usize)> = counts
        .iter()
        .flat_map(|&(call, count)| (1..=count).map(move |at| (call, at)))
        .collect();
    assert!(
        cuts.len() >= LEAST_CUTS,
        "only {} cuts: {counts:?}",
        cuts.len()
    );
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((call, at)) = cuts.get(next.fetch_add(1, Ordering::SeqCst)) {
                    cut_and_complete(from, call, *at);
                }
            });
        }
    });
}

#[test]
fn a_first_run_that_is_cut_anywhere_is_completed_by_the_next() {
    cut_everywhere(None);
}

#[test]
fn a_later_run_that_is_cut_anywhere_is_completed_by_the_next() {
    cut_everywhere(Some(1));
}

/// A rename is what makes a file the new one. Its bytes are made last before it, and the rename
/// itself before the next one begins.
#[test]
fn nothing_gets_its_name_before_its_bytes_are_made_last() {
    let (_, text) = dry_run(Some(1));
    let named = |line: &str| {
        let rest = line.split_once('<').map(|(_, rest)| rest)?;
        Some(rest.split_once('>')?.0.to_owned())
    };
    let mut dirty: BTreeSet<String> = BTreeSet::new();
    let mut unsettled: Option<String> = None;
    let mut renames = 0;
    for line in text.lines() {
        if line.starts_with("write(") {
            dirty.extend(named(line));
        } else if line.starts_with("fsync(") || line.starts_with("fdatasync(") {
            let path = named(line).unwrap();
            dirty.remove(&path);
            if unsettled
                .as_ref()
                .is_some_and(|target| Path::new(target).parent() == Some(Path::new(&path)))
            {
                unsettled = None;
            }
        } else if line.starts_with("rename(") {
            let names: Vec<&str> = line.split('"').skip(1).step_by(2).collect();
            assert!(!dirty.contains(names[0]), "not made last: {line}");
            assert_eq!(
                unsettled, None,
                "the directory was not made last before {line}"
            );
            unsettled = Some(names[1].to_owned());
            renames += 1;
        }
    }
    assert_eq!(unsettled, None);
    assert!(renames > 10, "{renames} renames: {text}");
}
