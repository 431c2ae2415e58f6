//! The lab's network: a namespace, a bridge in it, and a port of the bridge for each host.
//!
//! In: a lab's directory and subnet. Out: a namespace in which the controller has the .1 and
//! every host's port is `port-` and the last octet of its address.
//!
//! Invariant: nothing is added to the machine's own network.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde::Deserialize;

use super::command::{program, run, run_with_input};
use super::error::{AtPath as _, LabError};
use super::mount::is_mounted;
use super::record::LabDirectory;
use super::spec::{LabHost, Subnet};

pub(super) const BRIDGE: &str = "br0";

/// A bridge would else take the lowest address of its ports, and change with them.
const BRIDGE_MAC: &str = "02:70:72:6f:76:01";

const CONNECT_LIMIT: Duration = Duration::from_millis(300);

const BANNER_LIMIT: Duration = Duration::from_secs(2);

/// A network device of the lab's namespace.
#[derive(Debug, Clone, Deserialize)]
struct Link {
    #[serde(rename = "ifname")]
    name: String,
    #[serde(default)]
    master: Option<String>,
    #[serde(default)]
    flags: Vec<String>,
}

/// How a host is connected to the bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The host has not made its end yet, or is off.
    Absent,
    /// There, but not in the bridge, as after a start.
    Loose,
    /// In the bridge and cut off on purpose.
    Cut,
    /// Connected.
    Connected,
}

/// Makes what is missing of the namespace and the bridge.
pub(super) fn ensure(lab: &LabDirectory, subnet: Subnet) -> Result<(), LabError> {
    let path = lab.namespace_path();
    if !is_mounted(&path)? {
        if path.exists() {
            // An interrupted `ip netns add` leaves the file without the mount.
            fs::remove_file(&path).at("remove", &path)?;
        }
        run(program("ip").args(["netns", "add", &lab.namespace()]))?;
    }
    let mut batch = String::new();
    if !links(lab)?.iter().any(|link| link.name == BRIDGE) {
        batch.push_str(&format!("link add {BRIDGE} type bridge\n"));
    }
    batch.push_str(&format!(
        "link set {BRIDGE} address {BRIDGE_MAC} up\naddress replace {}/24 dev {BRIDGE}\nlink set lo up\n",
        subnet.gateway()
    ));
    run_with_input(ip(lab).args(["-batch", "-"]), &batch)?;
    Ok(())
}

/// Removes the namespace with all that is in it.
pub(super) fn remove(lab: &LabDirectory) -> Result<bool, LabError> {
    let path = lab.namespace_path();
    if !path.exists() {
        return Ok(false);
    }
    if is_mounted(&path)? {
        run(program("ip").args(["netns", "delete", &lab.namespace()]))?;
    } else {
        fs::remove_file(&path).at("remove", &path)?;
    }
    Ok(true)
}

/// The name of the host's end on the bridge's side.
pub(super) fn port_name(host: &LabHost) -> String {
    format!("port-{}", host.octet())
}

/// How each of these hosts is connected; all are absent when the namespace is.
pub(super) fn ports(lab: &LabDirectory, hosts: &[&LabHost]) -> Result<Vec<Port>, LabError> {
    let links = if is_mounted(&lab.namespace_path())? {
        links(lab)?
    } else {
        Vec::new()
    };
    let state = |host: &&LabHost| {
        let name = port_name(host);
        let Some(link) = links.iter().find(|link| link.name == name) else {
            return Port::Absent;
        };
        if link.master.as_deref() != Some(BRIDGE) {
            Port::Loose
        } else if link.flags.iter().any(|flag| flag == "UP") {
            Port::Connected
        } else {
            Port::Cut
        }
    };
    Ok(hosts.iter().map(state).collect())
}

/// Removes the port of a host that has ended, if the kernel has not come to it yet.
pub(super) fn drop_stale_port(lab: &LabDirectory, host: &LabHost) -> Result<(), LabError> {
    if ports(lab, &[host])? != [Port::Absent] {
        // It may well go by itself in this moment.
        let _ = run(ip(lab).args(["link", "delete", &port_name(host)]));
    }
    Ok(())
}

/// Puts a host's port into the bridge and lets packets through.
pub(super) fn connect(lab: &LabDirectory, host: &LabHost) -> Result<(), LabError> {
    run(ip(lab).args(["link", "set", &port_name(host), "master", BRIDGE, "up"]))?;
    Ok(())
}

/// Lets no packet through, as when the cable is pulled.
pub(super) fn cut(lab: &LabDirectory, host: &LabHost) -> Result<(), LabError> {
    run(ip(lab).args(["link", "set", &port_name(host), "down"]))?;
    Ok(())
}

/// Says which of the addresses have an SSH server that answers.
///
/// The look is taken by a thread of its own, as the thread that enters the namespace stays there.
pub(super) fn answering(lab: &LabDirectory, addresses: &[Ipv4Addr]) -> Result<Vec<bool>, LabError> {
    let path = lab.namespace_path();
    let namespace = File::open(&path).at("open", &path)?;
    std::thread::scope(|scope| {
        let look = || -> std::io::Result<Vec<bool>> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(addresses
                .iter()
                .map(|address| speaks_ssh(*address).is_ok_and(|yes| yes))
                .collect())
        };
        scope
            .spawn(look)
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
    })
    .at("enter", Path::new(&path))
}

fn speaks_ssh(address: Ipv4Addr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((address, 22)), CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(BANNER_LIMIT))?;
    // The whole banner is read, as closing with unread bytes looks like an error to the server.
    let mut banner = [0; 256];
    let length = stream.read(&mut banner)?;
    Ok(banner[..length].starts_with(b"SSH-"))
}

fn ip(lab: &LabDirectory) -> std::process::Command {
    let mut command = program("ip");
    command.args(["-netns", &lab.namespace()]);
    command
}

fn links(lab: &LabDirectory) -> Result<Vec<Link>, LabError> {
    let text = run(ip(lab).args(["-json", "link", "show"]))?;
    serde_json::from_str(&text).map_err(|source| LabError::Answer {
        program: "ip",
        source,
    })
}
