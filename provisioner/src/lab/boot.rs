//! Starts hosts and cuts their power.
//!
//! In: mounted trees and volumes. Out: hosts whose SSH server answers, or hosts without a process.
//!
//! Invariant: a host is started only when no process of it is left, and each has a branch of the
//! control groups for itself, so that its systemd never meets the processes of another host.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::command::{last_lines, program, run};
use super::error::{AtPath as _, LabError};
use super::event::{Events, LabEvent};
use super::group;
use super::mount::unmount_below;
use super::name::HostName;
use super::network::{self, Port};
use super::process::{HostProcesses, count_containers, find_hosts};
use super::record::{LabDirectory, Record};
use super::spec::LabHost;
use super::volume;

/// How long hosts may take to answer SSH: a part for all, and a part for each.
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const BOOT_LIMIT_EACH: Duration = Duration::from_secs(5);

const BOOT_POLL: Duration = Duration::from_millis(50);

/// How often a host is looked for while it is ended; each time at least one process goes.
const END_ROUNDS: usize = 20;

/// How much of a console an error shows.
const CONSOLE_LINES: usize = 15;

/// Each systemd takes a few inotify instances of root, of which the kernel grants 128.
const INOTIFY_LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";
const INOTIFY_INSTANCES: u64 = 8192;
/// Where systemd-nspawn keeps what lasts as long as a host runs.
const SUPERVISOR_TRACES: &str = "/run/systemd/nspawn";

const HOSTS_WITHIN_DEFAULT_LIMIT: usize = 24;

/// Moves itself into the control groups before `--`, then becomes the command after it.
const ENTER: &str = r#"while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@""#;

/// Runs the command behind the namespace, the port and the bridge, and again for as long as its exit
/// code says that the host wants to reboot. A port is a new one then, and is put into the bridge when
/// it appears. It stands outside of the host's control groups, which are the host's alone.
const SUPERVISE: &str = r#"net=$1 port=$2 bridge=$3; shift 3; "$@"; while [ $? = 133 ]; do (tries=0; until nsenter "$net" ip link set "$port" master "$bridge" up || [ $((tries += 1)) = 300 ]; do sleep 0.1; done) 2>/dev/null & "$@"; done"#;

/// Starts these hosts and waits until each answers, unless its network is cut.
pub(super) fn start(
    lab: &LabDirectory,
    record: &Record,
    hosts: &[LabHost],
    events: Events<'_>,
) -> Result<(), LabError> {
    raise_limits(hosts.len(), events)?;
    let running = find_hosts(&lab.hosts());
    let mut boot = Boot {
        lab,
        record,
        found_running: BTreeSet::new(),
        started: Instant::now(),
    };
    for host in hosts {
        let processes = running
            .get(&lab.host(&host.name))
            .copied()
            .unwrap_or_default();
        if processes.supervisor.is_some() && processes.leader.is_some() {
            boot.found_running.insert(&host.name);
            continue;
        }
        // A supervisor alone is about to start or about to end, and a leader alone is an orphan.
        end(lab, &host.name)?;
        boot.spawn(host, events)?;
    }
    boot.wait(hosts, events)
}

/// Ends a host at once, as a power cut does. Says whether it was on.
pub(super) fn power_off(lab: &LabDirectory, host: &HostName) -> Result<bool, LabError> {
    let was_on = end(lab, host)?;
    remove_traces(lab, host)?;
    group::remove(lab, host)?;
    Ok(was_on)
}

/// Ends every host below the lab's directory, recorded or not.
pub(super) fn power_off_all(lab: &LabDirectory, events: Events<'_>) -> Result<(), LabError> {
    for directory in find_hosts(&lab.hosts()).into_keys() {
        if let Some(name) = host_of(&directory) {
            end(lab, &name)?;
            events(LabEvent::StoppedHost(name));
        }
    }
    for entry in fs::read_dir(lab.hosts()).into_iter().flatten().flatten() {
        if let Some(name) = host_of(&entry.path()) {
            remove_traces(lab, &name)?;
        }
    }
    group::remove_all(lab)
}

fn host_of(directory: &Path) -> Option<HostName> {
    directory.file_name()?.to_str()?.parse().ok()
}

/// The name under which systemd knows a host, unique over all labs.
fn machine(lab: &LabDirectory, host: &HostName) -> String {
    format!("{}-{host}", lab.name)
}

/// Removes what a supervisor that was killed could not: its lock, which is named after the root
/// directory, and the directories through which mounts would have been handed in.
fn remove_traces(lab: &LabDirectory, host: &HostName) -> Result<(), LabError> {
    let traces = Path::new(SUPERVISOR_TRACES);
    if let Ok(root) = fs::metadata(lab.root(host)) {
        let lock = traces.join(format!("locks/inode-{}:{}", root.dev(), root.ino()));
        if lock.exists() {
            fs::remove_file(&lock).at("remove", &lock)?;
        }
    }
    for kind in ["propagate", "unix-export"] {
        let directory = traces.join(kind).join(machine(lab, host));
        if directory.exists() {
            unmount_below(&directory)?;
            fs::remove_dir_all(&directory).at("remove", &directory)?;
        }
    }
    Ok(())
}

/// Ends all processes of a host and says whether there were any.
///
/// The leader goes first: with it all processes inside end, and the supervisor cleans up after
/// itself. Killing the supervisor would leave the host running; only one without a leader is
/// killed, and looked after again, as it may have made a leader in the meantime.
fn end(lab: &LabDirectory, host: &HostName) -> Result<bool, LabError> {
    let directory = lab.host(host);
    for round in 0..END_ROUNDS {
        let processes = find_hosts(&lab.hosts())
            .get(&directory)
            .copied()
            .unwrap_or_default();
        match processes {
            HostProcesses {
                supervisor: None,
                leader: None,
            } => return Ok(round > 0),
            HostProcesses {
                supervisor: Some(supervisor),
                leader: Some(leader),
            } => {
                leader.kill()?;
                supervisor.end_soon()?;
            }
            HostProcesses {
                supervisor: None,
                leader: Some(process),
            }
            | HostProcesses {
                supervisor: Some(process),
                leader: None,
            } => process.kill()?,
        }
    }
    Err(LabError::Respawning(host.clone()))
}

/// Hosts on their way up.
struct Boot<'a> {
    lab: &'a LabDirectory,
    record: &'a Record,
    /// Hosts that were on at first. One that ends meanwhile was shutting down, and is started.
    found_running: BTreeSet<&'a HostName>,
    started: Instant,
}

impl<'a> Boot<'a> {
    fn spawn(&self, host: &LabHost, events: Events<'_>) -> Result<(), LabError> {
        events(LabEvent::StartingHost(host.name.clone()));
        network::drop_stale_port(self.lab, host)?;
        spawn(self.lab, self.record, host)
    }

    /// Puts the ports of started hosts into the bridge and waits until all answer.
    fn wait(&mut self, hosts: &'a [LabHost], events: Events<'_>) -> Result<(), LabError> {
        let hosts_count = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let limit = BOOT_LIMIT + BOOT_LIMIT_EACH.saturating_mul(hosts_count);
        let mut waiting: Vec<&LabHost> = hosts.iter().collect();
        loop {
            waiting = self.look(waiting, events)?;
            let Some(first) = waiting.first() else {
                return Ok(());
            };
            if self.started.elapsed() > limit {
                let (host, console) = (first.name.clone(), self.lab.console(&first.name));
                let tail = tail(&console);
                return Err(LabError::Silent {
                    host,
                    waited: limit,
                    console,
                    tail,
                });
            }
            self.restart_ended(&waiting, events)?;
            sleep(BOOT_POLL);
        }
    }

    /// Returns those of the hosts that do not answer yet.
    fn look(
        &self,
        hosts: Vec<&'a LabHost>,
        events: Events<'_>,
    ) -> Result<Vec<&'a LabHost>, LabError> {
        let ports = network::ports(self.lab, &hosts)?;
        let (mut reachable, mut waiting) = (Vec::new(), Vec::new());
        for (host, port) in hosts.into_iter().zip(ports) {
            match port {
                Port::Absent => waiting.push(host),
                Port::Cut => events(LabEvent::NetworkIsCut(host.name.clone())),
                Port::Connected => reachable.push(host),
                Port::Loose => {
                    network::connect(self.lab, host)?;
                    reachable.push(host);
                }
            }
        }
        let addresses: Vec<Ipv4Addr> = reachable.iter().filter_map(|host| host.address).collect();
        let answers = network::answering(self.lab, &addresses)?;
        for (host, answers) in reachable.into_iter().zip(answers) {
            match host.address.filter(|_| answers) {
                Some(address) => events(LabEvent::HostAnswers {
                    host: host.name.clone(),
                    address,
                    elapsed: self.started.elapsed(),
                }),
                None => waiting.push(host),
            }
        }
        Ok(waiting)
    }

    fn restart_ended(&mut self, hosts: &[&LabHost], events: Events<'_>) -> Result<(), LabError> {
        let running = find_hosts(&self.lab.hosts());
        for host in hosts {
            if running.contains_key(&self.lab.host(&host.name)) {
                continue;
            }
            if self.found_running.remove(&host.name) {
                self.spawn(host, events)?;
                continue;
            }
            let (host, console) = (host.name.clone(), self.lab.console(&host.name));
            let tail = tail(&console);
            return Err(LabError::BootFailed {
                host,
                console,
                tail,
            });
        }
        Ok(())
    }
}

fn spawn(lab: &LabDirectory, record: &Record, host: &LabHost) -> Result<(), LabError> {
    let console = lab.console(&host.name);
    let output = File::options()
        .create(true)
        .append(true)
        .open(&console)
        .at("open", &console)?;
    let errors = output.try_clone().at("open", &console)?;
    let root = lab.root(&host.name);
    // The supervisor must outlive this process, its terminal and its session.
    let mut command = program("setsid");
    let net = format!("--net={}", lab.namespace_path().display());
    command.args(["--fork", "sh", "-c", SUPERVISE, "sh"]);
    command.args([&net, &network::port_name(host), network::BRIDGE]);
    if Path::new("/run/systemd/system").exists() {
        let unit = format!("--unit=provision-lab-{}-{}", lab.name, host.name);
        command.args([
            "systemd-run",
            "--quiet",
            "--scope",
            "--collect",
            "--property=Delegate=yes",
        ]);
        command.arg(unit);
    } else {
        let groups = group::make(lab, &host.name)?;
        command
            .args(["sh", "-c", ENTER, "sh"])
            .args(groups)
            .arg("--");
    }
    command
        .arg("nsenter")
        .arg(&net)
        .args([
            "systemd-nspawn",
            "--quiet",
            "--register=no",
            "--keep-unit",
            "--boot",
        ])
        .arg(format!("--directory={}", root.display()))
        .arg(format!("--machine={}", machine(lab, &host.name)))
        .arg(format!("--hostname={}", host.name))
        .arg(format!(
            "--network-veth-extra={}:eth0",
            network::port_name(host)
        ))
        .arg(format!(
            "--bind-ro={}:/srv/packages",
            record.packages.join("archive").display()
        ));
    for disk in &host.volumes {
        let device = volume::ensure(&lab.volume(&host.name, &disk.name), disk.size_bytes)?;
        command.arg(format!("--bind={}:{}", device.display(), disk.device));
        // Without udev a file system's UUID leads to its disk only through the kernel's name.
        command.arg(format!("--bind={}", device.display()));
    }
    command.stdout(output).stderr(errors);
    run(&mut command)?;
    Ok(())
}

fn tail(console: &Path) -> String {
    let text = fs::read(console).unwrap_or_default();
    last_lines(&String::from_utf8_lossy(&text), CONSOLE_LINES)
}

fn raise_limits(starting: usize, events: Events<'_>) -> Result<(), LabError> {
    if count_containers() + starting <= HOSTS_WITHIN_DEFAULT_LIMIT {
        return Ok(());
    }
    let path = Path::new(INOTIFY_LIMIT);
    let text = fs::read_to_string(path).at("read", path)?;
    let from = text.trim().parse().unwrap_or(0);
    if from < INOTIFY_INSTANCES {
        fs::write(path, INOTIFY_INSTANCES.to_string()).at("write", path)?;
        let name = "fs.inotify.max_user_instances";
        events(LabEvent::RaisedLimit {
            name,
            from,
            to: INOTIFY_INSTANCES,
        });
    }
    Ok(())
}
