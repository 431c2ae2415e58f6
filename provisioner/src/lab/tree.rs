//! A host's file tree: an overlay over the package layer and the base image.
//!
//! In: a host's description, the lab's record and its SSH identity. Out: a mounted tree with the
//! host's own name, address, keys and users.
//!
//! Invariant: a tree is filled once; what a host changed in its files is never written over.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use super::command::{program, run, run_with_input};
use super::error::{AtPath as _, LabError};
use super::image::write_file;
use super::mount::{is_mounted, unmount_below};
use super::record::{LabDirectory, Record};
use super::spec::{LabHost, LabSpec, LabUser, Sudo};

/// Makes the lab's SSH identity if needed and returns its public half.
pub(super) fn ensure_identity(lab: &LabDirectory) -> Result<String, LabError> {
    ensure_key(&lab.identity(), &format!("provision-lab {}", lab.name))
}

/// Makes what is missing of a host's keys and tree, and mounts the tree.
pub(super) fn ensure(
    lab: &LabDirectory,
    record: &Record,
    host: &LabHost,
    identity: &str,
) -> Result<(), LabError> {
    let directory = lab.host(&host.name);
    ensure_key(&lab.host_key(&host.name), host.name.as_str())?;
    let root = lab.root(&host.name);
    let filled = directory.join("filled");
    if filled.exists() {
        return if is_mounted(&root)? {
            Ok(())
        } else {
            mount(record, &directory, &root)
        };
    }
    unmount_below(&root)?;
    for name in ["upper", "work", "root"] {
        let path = directory.join(name);
        if path.exists() {
            fs::remove_dir_all(&path).at("remove", &path)?;
        }
    }
    mount(record, &directory, &root)?;
    fill(lab, &record.spec, host, identity)?;
    fs::write(&filled, "").at("write", &filled)
}

/// Tells a host that exists already about hosts that were added since.
pub(super) fn add_names(
    lab: &LabDirectory,
    spec: &LabSpec,
    host: &LabHost,
) -> Result<(), LabError> {
    let path = lab.root(&host.name).join("etc/hosts");
    // A host that removed its file did so for a reason.
    let Ok(mut text) = fs::read_to_string(&path) else {
        return Ok(());
    };
    let known = |name: &str| {
        text.lines().any(|line| {
            line.split_ascii_whitespace()
                .skip(1)
                .any(|word| word == name)
        })
    };
    let missing: String = name_lines(&spec.hosts)
        .filter(|(name, _)| !known(name))
        .map(|(_, line)| line)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&missing);
    fs::write(&path, text).at("write", &path)
}

/// Makes an Ed25519 key if it is not there whole, and returns its public half.
fn ensure_key(path: &Path, comment: &str) -> Result<String, LabError> {
    let public = path.with_extension("pub");
    if !public.exists() {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).at("make", parent)?;
        }
        if path.exists() {
            // The public half is written last, so this one may be torn.
            fs::remove_file(path).at("remove", path)?;
        }
        let mut command = program("ssh-keygen");
        run(command
            .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
            .arg(path))?;
    }
    public_key(path)
}

/// The public half of a key, without its comment: `ssh-ed25519 AAAA…`.
pub(super) fn public_key(path: &Path) -> Result<String, LabError> {
    let public = path.with_extension("pub");
    let text = fs::read_to_string(&public).at("read", &public)?;
    Ok(text
        .split_ascii_whitespace()
        .take(2)
        .collect::<Vec<_>>()
        .join(" "))
}

fn mount(record: &Record, directory: &Path, root: &Path) -> Result<(), LabError> {
    for name in ["upper", "work", "root"] {
        let path = directory.join(name);
        fs::create_dir_all(&path).at("make", &path)?;
    }
    let options = format!(
        "lowerdir={}:{},upperdir={},workdir={}",
        record.packages.join("layer").display(),
        record.image.display(),
        directory.join("upper").display(),
        directory.join("work").display(),
    );
    run(program("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(root))?;
    // The root directory of the host is the top of the upper directory.
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).at("open up", root)
}

fn fill(
    lab: &LabDirectory,
    spec: &LabSpec,
    host: &LabHost,
    identity: &str,
) -> Result<(), LabError> {
    let root = lab.root(&host.name);
    let name = &host.name;
    write_file(&root, "etc/hostname", &format!("{name}\n"))?;
    write_file(&root, "etc/machine-id", &format!("{}\n", machine_id()?))?;
    let names: String = name_lines(&spec.hosts).map(|(_, line)| line).collect();
    let localhost = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
    write_file(&root, "etc/hosts", &format!("{localhost}{names}"))?;
    write_file(
        &root,
        "etc/systemd/network/10-eth0.network",
        &network(spec, host),
    )?;
    for (end, mode) in [("", 0o600), (".pub", 0o644)] {
        let mut from = lab.host_key(name).into_os_string();
        from.push(end);
        let to = root.join(format!("etc/ssh/ssh_host_ed25519_key{end}"));
        fs::copy(PathBuf::from(from), &to).at("write", &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(mode)).at("restrict", &to)?;
    }
    authorize(&root, "root", identity, 0, 0)?;
    host.users
        .iter()
        .try_for_each(|user| add_user(&root, user, identity))
}

fn name_lines(hosts: &[LabHost]) -> impl Iterator<Item = (&str, String)> {
    hosts.iter().filter_map(|host| {
        let address = host.address?;
        Some((host.name.as_str(), format!("{address} {}\n", host.name)))
    })
}

fn network(spec: &LabSpec, host: &LabHost) -> String {
    format!(
        "[Match]\nName=eth0\n\n[Network]\nAddress={}/24\nGateway={}\nIPv6AcceptRA=no\n",
        spec.subnet.address(host.octet()),
        spec.subnet.gateway(),
    )
}

/// A random identity, as systemd makes one at the first boot of an installed machine.
fn machine_id() -> Result<String, LabError> {
    let source = Path::new("/proc/sys/kernel/random/uuid");
    Ok(fs::read_to_string(source)
        .at("read", source)?
        .trim()
        .replace('-', ""))
}

fn add_user(root: &Path, user: &LabUser, identity: &str) -> Result<(), LabError> {
    let name = user.name.as_str();
    let chroot = |words: &[&str]| {
        let mut command = program("chroot");
        command.arg(root).args(words);
        command
    };
    run(&mut chroot(&[
        "useradd",
        "--create-home",
        "--shell",
        "/bin/bash",
        name,
    ]))?;
    let id = |kind: &str| -> Result<u32, LabError> {
        Ok(run(&mut chroot(&["id", kind, name]))?
            .trim()
            .parse()
            .unwrap_or(u32::MAX))
    };
    authorize(root, name, identity, id("-u")?, id("-g")?)?;
    let rule = match &user.sudo {
        Sudo::None => return Ok(()),
        Sudo::NoPassword => format!("{name} ALL=(ALL:ALL) NOPASSWD: ALL\n"),
        Sudo::Password(password) => {
            run_with_input(&mut chroot(&["chpasswd"]), &format!("{name}:{password}\n"))?;
            format!("{name} ALL=(ALL:ALL) ALL\n")
        }
    };
    let path = format!("etc/sudoers.d/lab-{name}");
    write_file(root, &path, &rule)?;
    let path = root.join(path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).at("restrict", &path)
}

fn authorize(root: &Path, user: &str, identity: &str, uid: u32, gid: u32) -> Result<(), LabError> {
    let home = if user == "root" {
        "root".to_owned()
    } else {
        format!("home/{user}")
    };
    let directory = root.join(&home).join(".ssh");
    write_file(
        root,
        &format!("{home}/.ssh/authorized_keys"),
        &format!("{identity}\n"),
    )?;
    for (path, mode) in [
        (directory.clone(), 0o700),
        (directory.join("authorized_keys"), 0o600),
    ] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("restrict", &path)?;
        chown(&path, Some(uid), Some(gid)).at("give away", &path)?;
    }
    Ok(())
}
