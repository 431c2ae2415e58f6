//! Accounts, packages, parameters and commands, whose programs are scripts here.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{
    InstallPackages, MakeGroup, MakeUser, ManifestKind, Remove, RunCommand, SetAttributes,
    SetSysctl,
};

use crate::talk::{Place, mode_of};

#[test]
fn accounts_are_made_once_and_given_what_they_lack() {
    let place = Place::new();
    // They note how they were called and keep the two files as the real ones would.
    for tool in ["useradd", "usermod", "groupadd", "userdel", "groupdel"] {
        let keep = match tool {
            "useradd" => "echo 'otel:x:900:900::/var/lib/otel:/usr/sbin/nologin' >> $etc/passwd",
            "groupadd" => "echo 'otel:x:900:' >> $etc/group",
            _ => "true",
        };
        let script = format!(
            "etc=\"$(dirname \"$0\")/../../etc\"\necho {tool} \"$@\" >> \"$etc/calls\"\n{keep}"
        );
        place.script(&format!("/usr/sbin/{tool}"), &script);
    }
    let mut talk = place.locked();
    let group = || {
        Act::MakeGroup(MakeGroup {
            name: "otel".into(),
            system: true,
        })
    };
    let user = |groups: &[&str]| {
        Act::MakeUser(MakeUser {
            name: "otel".into(),
            system: true,
            groups: groups.iter().map(|&name| name.to_owned()).collect(),
            home: "/var/lib/otel".into(),
            shell: "/usr/sbin/nologin".into(),
            ..MakeUser::default()
        })
    };
    talk.done(group());
    talk.done(group());
    talk.done(user(&[]));
    talk.done(user(&[]));
    talk.done(user(&["us"]));
    let message = talk.refused(user(&["missing"]));
    assert!(message.contains("there is no group `missing`"), "{message}");
    talk.remove(ManifestKind::User, "otel");
    talk.remove(ManifestKind::Group, "otel");
    let calls = fs::read_to_string(place.at("/etc/calls")).unwrap();
    let calls: Vec<_> = calls.lines().collect();
    assert_eq!(
        calls,
        [
            "groupadd --system otel",
            "useradd --system --no-create-home --gid otel --home-dir /var/lib/otel \
             --shell /usr/sbin/nologin otel",
            "usermod --append --groups us otel",
            "userdel otel",
            "groupdel otel",
        ]
    );
}

#[test]
fn packages_are_installed_with_what_they_bring_and_removed_with_nothing_else() {
    let place = Place::new();
    fs::create_dir_all(place.at("/var/lib/dpkg")).unwrap();
    let status = |names: &[&str]| {
        let paragraph = |name: &&str| {
            format!(
                "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"
            )
        };
        names.iter().map(paragraph).collect::<Vec<_>>().join("\n")
    };
    let file = place.at("/var/lib/dpkg/status");
    fs::write(&file, status(&["dpkg", "curl"])).unwrap();
    fs::write(
        place.at("/var/lib/dpkg/status.after"),
        status(&["dpkg", "curl", "haproxy", "lua"]),
    )
    .unwrap();
    place.script(
        "/usr/bin/apt-cache",
        "printf 'haproxy:\\n  Candidate: (none)\\n'",
    );
    place.script(
        "/usr/bin/apt-get",
        "lib=\"$(dirname \"$0\")/../../var/lib\"\n\
         case \"$*\" in\n\
         *simulate*install*) printf 'Inst lua (1)\\nInst haproxy (1)\\n';;\n\
         *simulate*purge*lua*) printf 'Remv lua [1]\\nRemv curl [1]\\n';;\n\
         *' update'*) echo update >> $lib/calls;;\n\
         *' install '*) echo \"$DEBIAN_FRONTEND install\" >> $lib/calls; cp $lib/dpkg/status.after $lib/dpkg/status;;\n\
         esac",
    );
    let mut talk = place.locked();
    let packages = vec!["haproxy".to_owned(), "curl".to_owned()];
    let install = || {
        Act::InstallPackages(InstallPackages {
            packages: packages.clone(),
            lock_timeout_seconds: 1,
        })
    };
    talk.done(install());
    talk.done(install());
    let calls = fs::read_to_string(place.at("/var/lib/calls")).unwrap();
    assert_eq!(calls, "update\nnoninteractive install\n");
    let entries: Vec<_> = talk
        .manifest()
        .into_iter()
        .map(|entry| (entry.name, entry.existed))
        .collect();
    let expected = [("haproxy", false), ("curl", true), ("lua", false)];
    assert_eq!(
        entries,
        expected.map(|(name, existed)| (name.to_owned(), existed))
    );
    let lua = talk.manifest().remove(2);
    let message = talk.refused(Act::Remove(Remove { entry: Some(lua) }));
    assert!(message.contains("would also remove curl"), "{message}");
    talk.remove(ManifestKind::Package, "curl");
    assert!(
        fs::read_to_string(&file).unwrap().contains("curl"),
        "it was there before"
    );

    fs::write(&file, status(&["dpkg"]).replace("install ok", "hold ok")).unwrap();
    let packages = vec!["dpkg=2".to_owned()];
    let message = talk.refused(Act::InstallPackages(InstallPackages {
        packages,
        lock_timeout_seconds: 1,
    }));
    assert!(
        message.contains("package dpkg is held: `apt-mark unhold dpkg`"),
        "{message}"
    );
}

#[test]
fn parameters_and_attributes_go_back_to_what_they_were() {
    let place = Place::new();
    fs::create_dir_all(place.at("/proc/sys/vm")).unwrap();
    fs::write(place.at("/proc/sys/vm/swappiness"), "60\n").unwrap();
    fs::set_permissions(place.at("/etc"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut talk = place.locked();
    for value in ["1", "10"] {
        let (key, value) = ("vm.swappiness".into(), value.into());
        talk.done(Act::SetSysctl(SetSysctl { key, value }));
    }
    assert_eq!(
        fs::read(place.at("/proc/sys/vm/swappiness")).unwrap(),
        b"10\n"
    );
    talk.done(Act::SetAttributes(SetAttributes {
        path: "/etc".into(),
        owner: "me".into(),
        group: "us".into(),
        mode: 0o711,
    }));
    assert_eq!(mode_of(&place.at("/etc")), 0o711);
    talk.remove(ManifestKind::Sysctl, "vm.swappiness");
    talk.remove(ManifestKind::Directory, "/etc");
    assert_eq!(
        fs::read(place.at("/proc/sys/vm/swappiness")).unwrap(),
        b"60\n"
    );
    assert_eq!(mode_of(&place.at("/etc")), 0o755);
}

#[test]
fn a_command_must_have_done_what_it_says() {
    let place = Place::new();
    place.script(
        "/usr/bin/make-topic",
        "test \"$1\" = good && touch \"$(dirname \"$0\")/topic\"",
    );
    let mut talk = place.locked();
    let run = |argument: &str, creates: &str| {
        Act::RunCommand(RunCommand {
            arguments: vec!["make-topic".into(), argument.into()],
            timeout_seconds: 5,
            done: Some(provision_protocol::fact::CommandQuery {
                creates: creates.into(),
                unless: vec![],
            }),
        })
    };
    let message = talk.refused(run("good", "/usr/bin/other"));
    assert!(
        message.contains("/usr/bin/other is still missing"),
        "{message}"
    );
    talk.done(run("good", "/usr/bin/topic"));
    talk.done(run("bad", "/usr/bin/topic"));
    let message = talk.refused(run("bad", "/usr/bin/none"));
    assert!(message.contains("exit code 1"), "{message}");
}
