//! What is put back, and when.

use super::*;
use crate::generation::Standing;
use crate::process::install_script;

fn armed(root: &Root, paths: &[&str]) {
    let request = Arm {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        units: vec!["ssh.service".to_owned()],
        within_millis: 1000,
        reboots: false,
    };
    arm(root, &request).unwrap();
}

fn root() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::below(directory.path().to_owned());
    install_script(&root, "/usr/bin/systemctl", "exit 0");
    fs::create_dir_all(root.at("/etc/ssh")).unwrap();
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 22\n").unwrap();
    (directory, root)
}

#[test]
fn everything_is_put_back_also_twice() {
    let (_directory, root) = root();
    armed(&root, &["/etc/ssh/sshd_config", "/etc/ssh/new.conf"]);
    // The switch is armed for more: what it saved first is what stays saved.
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
    fs::write(root.at("/etc/ssh/new.conf"), "x").unwrap();
    armed(&root, &["/etc/ssh/sshd_config"]);
    let notes = fs::read(root.at(DEADMAN_NOTES)).unwrap();
    revert(&root).unwrap();
    let now = || fs::read_to_string(root.at("/etc/ssh/sshd_config")).unwrap();
    assert_eq!(now(), "Port 22\n");
    assert!(!root.at("/etc/ssh/new.conf").exists());
    assert!(!root.state(FOLDER).exists() && !root.at(SERVICE_PATH).exists());
    assert!(!notes.is_empty());
    revert(&root).unwrap();
    assert_eq!(now(), "Port 22\n");
}

#[test]
fn a_path_that_cannot_be_put_back_keeps_no_other_from_it() {
    let (_directory, root) = root();
    let keys = "/home/deploy/.ssh/authorized_keys";
    fs::create_dir_all(root.at("/home/deploy/.ssh")).unwrap();
    fs::write(root.at(keys), "key\n").unwrap();
    let mode = |path: &str, mode| {
        fs::set_permissions(root.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    mode("/home/deploy", 0o750);
    mode("/home/deploy/.ssh", 0o700);
    fs::create_dir(root.at("/etc/pam.d")).unwrap();
    fs::write(root.at("/etc/pam.d/sshd"), "auth\n").unwrap();
    armed(&root, &["/etc/pam.d/sshd", keys, "/etc/ssh/sshd_config"]);
    // One has lost its directories, and one cannot take its place as long as this stands there.
    fs::remove_dir_all(root.at("/home/deploy")).unwrap();
    fs::remove_file(root.at("/etc/pam.d/sshd")).unwrap();
    fs::create_dir(root.at("/etc/pam.d/sshd")).unwrap();
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
    let failure = revert(&root).unwrap_err().to_string();
    assert!(failure.contains("/etc/pam.d/sshd"), "{failure}");
    assert!(!failure.contains("/home/deploy"), "{failure}");
    let text = |path: &str| fs::read_to_string(root.at(path)).unwrap();
    assert_eq!(text(keys), "key\n");
    assert_eq!(text("/etc/ssh/sshd_config"), "Port 22\n");
    let now = |path: &str| root.at(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!(
        (now("/home/deploy"), now("/home/deploy/.ssh")),
        (0o750, 0o700)
    );
    // It may be armed for more meanwhile.
    armed(&root, &["/etc/ssh/sshd_config"]);
    let saved = read(&root).unwrap().unwrap();
    assert_eq!(saved.paths.len(), 2);
    // The rest is tried again at the next boot, and only that.
    fs::write(root.at(keys), "another key\n").unwrap();
    fs::remove_dir(root.at("/etc/pam.d/sshd")).unwrap();
    revert(&root).unwrap();
    assert_eq!(text("/etc/pam.d/sshd"), "auth\n");
    assert_eq!(text(keys), "another key\n");
    assert!(!root.state(FOLDER).exists() && !root.at(SERVICE_PATH).exists());
}

#[test]
fn directories_get_their_modes_back_and_new_ones_go() {
    let (_directory, root) = root();
    fs::create_dir_all(root.at("/root/.ssh")).unwrap();
    let mode = |mode| {
        let target = root.at("/root/.ssh");
        fs::set_permissions(target, fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o700);
    let new = ["/home/deploy/.ssh", "/home/deploy/.ssh/authorized_keys"];
    armed(&root, &["/root/.ssh", new[0], new[1]]);
    mode(0o777);
    fs::create_dir_all(root.at(new[0])).unwrap();
    fs::write(root.at(new[1]), "key\n").unwrap();
    revert(&root).unwrap();
    let now = root.at("/root/.ssh").metadata().unwrap().mode() & 0o7777;
    assert_eq!(now, 0o700);
    assert!(!root.at(new[0]).exists());
}

#[test]
fn a_unit_that_did_not_exist_is_stopped_while_its_file_is_there() {
    let (directory, root) = root();
    let unit = "/etc/systemd/system/provision-firewall.service";
    let (log, file) = (directory.path().join("log"), root.at(unit));
    let body = format!(
        "case \"$1\" in show) echo LoadState=not-found;; \
         stop) test -e {} && echo \"$*\" >> {};; esac",
        file.display(),
        log.display()
    );
    install_script(&root, "/usr/bin/systemctl", &body);
    let request = Arm {
        paths: vec![unit.to_owned()],
        units: vec!["provision-firewall.service".to_owned()],
        within_millis: 1000,
        reboots: false,
    };
    arm(&root, &request).unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "[Service]\n").unwrap();
    revert(&root).unwrap();
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said, "stop -- provision-firewall.service\n");
    assert!(!file.exists());
}

#[test]
fn nothing_is_put_back_at_the_boot_that_was_announced_but_at_the_next() {
    let (_directory, root) = root();
    let arm_again = |reboots| {
        let request = Arm {
            paths: vec!["/etc/ssh/sshd_config".to_owned()],
            units: Vec::new(),
            within_millis: 1000,
            reboots,
        };
        arm(&root, &request).unwrap();
    };
    arm_again(true);
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
    let now = || fs::read_to_string(root.at("/etc/ssh/sshd_config")).unwrap();
    let boot = || {
        let mut notes = read(&root).unwrap().unwrap();
        if let Some(announced) = &mut notes.announced {
            announced.after = "the boot before".to_owned();
        }
        write(&root, &notes).unwrap();
        fs::remove_file(root.at(TIMER_PATH)).unwrap();
    };
    boot();
    revert(&root).unwrap();
    assert_eq!(now(), "Port 23\n", "somebody may still confirm it");
    assert!(root.at(TIMER_PATH).exists(), "its time has begun anew");
    boot();
    revert(&root).unwrap();
    assert_eq!(now(), "Port 22\n");
    // A host that hangs instead of rebooting is in the boot before, and its time ends there.
    arm_again(true);
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
    revert(&root).unwrap();
    assert_eq!(now(), "Port 22\n");
}

#[test]
fn before_a_reboot_what_stood_there_before_the_run_is_saved() {
    let (_directory, root) = root();
    let kept = root.state("previous");
    fs::create_dir_all(&kept).unwrap();
    let sha256 = content::hash(&mut &b"Port 22\n"[..]).unwrap();
    fs::write(kept.join(&sha256), "Port 22\n").unwrap();
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
    let written = Change {
        before: Some(Standing {
            sha256,
            attributes: format!(
                "{}:{}:600",
                rustix::process::getuid().as_raw(),
                rustix::process::getgid().as_raw()
            ),
            value: String::new(),
        }),
        wrote: true,
        ..Change::default()
    };
    let folder = root.state(FOLDER);
    fs::create_dir_all(&folder).unwrap();
    let saved = save_before(&root, "/etc/ssh/sshd_config", &written, 0).unwrap();
    assert!(matches!(saved, Was::File { mode: 0o600, .. }), "{saved:?}");
    assert_eq!(fs::read_to_string(folder.join("0")).unwrap(), "Port 22\n");
    let made = Change {
        wrote: true,
        ..Change::default()
    };
    let saved = save_before(&root, "/etc/ssh/sshd_config", &made, 1).unwrap();
    assert!(matches!(saved, Was::Nothing), "{saved:?}");
}

#[test]
fn a_switch_that_is_disarmed_puts_nothing_back() {
    let (_directory, root) = root();
    armed(&root, &["/etc/ssh/sshd_config"]);
    fs::write(root.at("/etc/ssh/sshd_config"), "Port 23\n").unwrap();
    assert!(disarm(&root).unwrap().armed);
    assert!(!disarm(&root).unwrap().armed, "there is none any more");
    revert(&root).unwrap();
    let now = fs::read_to_string(root.at("/etc/ssh/sshd_config")).unwrap();
    assert_eq!(now, "Port 23\n");
}
