//! Takes a server out of the HAProxy on this host, and puts it back.
//!
//! Goes in: a server's name. Comes out: what HAProxy does with it now. Invariant: a server that is
//! taken out stands in the state file before HAProxy hears of it, and leaves it only after HAProxy
//! was told to use it again; so neither a reload nor a crash brings it back unseen or loses it.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use provision_protocol::message::{Balance, BalanceVerb, Balanced};

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::{Root, check_absolute};

/// The state files that runs have written, a path each line: they go when the host is left.
const NOTES: &str = "server-state-files";
/// The most state files that may be written on one host.
const MAX_NOTES: usize = 100;
/// How long to wait between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// How long HAProxy may take for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest wait that may be asked for.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// How much of one answer is read.
const MAX_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
/// Where Debian's unit has the master process listen.
const MASTER_SOCKET: &str = "/run/haproxy-master.sock";
/// The bit of `srv_admin_state` for maintenance, as `show servers state` prints it.
const FORCED_MAINTENANCE: u32 = 0x01;
/// The column of `srv_admin_state`.
const ADMIN_COLUMN: usize = 6;
/// The column of a server's name.
const NAME_COLUMN: usize = 3;

/// Looks at a server, takes it out or puts it back.
pub(crate) fn balance(
    root: &Root,
    request: &Balance,
    ending: &AtomicBool,
) -> Result<Balanced, Failure> {
    check_word(&request.server)?;
    let balancer = Balancer {
        socket: root.at(check_absolute(&request.socket)?),
        master: root.at(MASTER_SOCKET),
        state: StateFile(root.at(check_absolute(&request.state_file)?)),
        server: &request.server,
        until: Instant::now() + Duration::from_millis(request.within_millis).min(MAX_WAIT),
        ending,
    };
    let Some(servers) = balancer.servers()? else {
        return Ok(Balanced::default());
    };
    let mut answer = Balanced {
        running: true,
        backends: u32::try_from(servers.len()).unwrap_or(u32::MAX),
        taken_out: balancer.state.has(&request.server)?,
        ..Balanced::default()
    };
    if servers.is_empty() && !answer.taken_out {
        return Ok(answer);
    }
    (answer.done, answer.detail) = match request.verb() {
        BalanceVerb::Look => (true, describe(&servers)),
        BalanceVerb::TakeOut => {
            note(root, &request.state_file)?;
            balancer.take_out()?
        }
        BalanceVerb::PutBack => balancer.put_back()?,
    };
    answer.taken_out = balancer.state.has(&request.server)?;
    Ok(answer)
}

/// The servers that a run has taken out and not put back.
pub(crate) fn taken_out(root: &Root, state_file: &str) -> Result<Vec<String>, Failure> {
    let state = StateFile(root.at(check_absolute(state_file)?));
    Ok(state.servers()?.into_iter().collect())
}

/// Removes the state files that runs have written: nobody will put back what stands in them.
pub(crate) fn forget(root: &Root) -> Result<(), Failure> {
    for path in noted(root)? {
        durable::remove_if_there(&root.at(check_absolute(&path)?))?;
    }
    durable::remove_if_there(&root.state(NOTES))
}

/// Remembers a state file before anything is written to it.
fn note(root: &Root, state_file: &str) -> Result<(), Failure> {
    if state_file.contains('\n') {
        let message =
            format!("the path of a state file is {state_file:?}: it cannot hold a newline");
        return Err(Failure::refused(message));
    }
    let mut known = noted(root)?;
    if !known.insert(check_absolute(state_file)?.to_owned()) {
        return Ok(());
    }
    if known.len() > MAX_NOTES {
        return Err(Failure::refused(format!(
            "runs have written {MAX_NOTES} state files of HAProxy on this host, and now \
             {state_file}: let `state_file` stay the same from run to run"
        )));
    }
    durable::make_private_directory(&root.state(""))?;
    let lines: String = known.iter().map(|path| format!("{path}\n")).collect();
    durable::write(&root.state(NOTES), lines.as_bytes())
}

fn noted(root: &Root) -> Result<BTreeSet<String>, Failure> {
    let path = root.state(NOTES);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        read => {
            let text = read.doing(|| format!("read {}", path.display()))?;
            Ok(text.lines().map(ToOwned::to_owned).collect())
        }
    }
}

/// One server of one backend, as HAProxy's statistics show it.
struct Server {
    backend: String,
    status: String,
    check: String,
    sessions: u64,
}

struct Balancer<'a> {
    socket: PathBuf,
    master: PathBuf,
    state: StateFile,
    server: &'a str,
    until: Instant,
    ending: &'a AtomicBool,
}

impl Balancer<'_> {
    /// The server in every backend; `None` where no HAProxy runs.
    fn servers(&self) -> Result<Option<Vec<Server>>, Failure> {
        let Some(table) = ask(&self.socket, "show stat -1 4 -1")? else {
            return Ok(None);
        };
        let mut lines = table.lines();
        let header = lines.next().unwrap_or_default().trim_start_matches("# ");
        let names: Vec<&str> = header.split(',').collect();
        let column = |name: &str| {
            let at = names.iter().position(|known| *known == name);
            at.ok_or_else(|| {
                Failure::refused(format!("HAProxy's statistics have no column `{name}`"))
            })
        };
        let columns = ["pxname", "svname", "status", "check_status", "scur", "qcur"];
        let mut at = [0; 6];
        for (at, name) in at.iter_mut().zip(columns) {
            *at = column(name)?;
        }
        let [backend, name, status, check, current, queued] = at;
        let rows = lines.map(|line| line.split(',').collect::<Vec<&str>>());
        let cell = |row: &[&str], at: usize| row.get(at).copied().unwrap_or_default().to_owned();
        let number = |row: &[&str], at: usize| cell(row, at).parse::<u64>().unwrap_or(0);
        let ours = rows.filter(|row| row.get(name) == Some(&self.server));
        Ok(Some(
            ours.map(|row| Server {
                backend: cell(&row, backend),
                status: cell(&row, status),
                check: cell(&row, check),
                sessions: number(&row, current) + number(&row, queued),
            })
            .collect(),
        ))
    }

    fn take_out(&self) -> Result<(bool, String), Failure> {
        if let Err(old) = self.wait(|| {
            let old = old_workers(&self.master)?;
            Ok(match old {
                0 => Ok(String::new()),
                _ => Err(format!(
                    "{old} HAProxy of before a reload still serve connections"
                )),
            })
        })? {
            return Ok((false, old));
        }
        self.state.add(self.server, &self.states()?)?;
        self.set("drain")?;
        let drained = self.wait(|| {
            let servers = self.servers()?.unwrap_or_default();
            let sessions: u64 = servers.iter().map(|server| server.sessions).sum();
            Ok(match sessions {
                0 => Ok(String::new()),
                _ => Err(format!("{sessions} sessions did not end")),
            })
        })?;
        if let Err(busy) = drained {
            self.set("ready")?;
            self.state.remove(self.server)?;
            return Ok((false, busy));
        }
        self.set("maint")?;
        self.state.add(self.server, &self.states()?)?;
        Ok((true, describe(&self.servers()?.unwrap_or_default())))
    }

    fn put_back(&self) -> Result<(bool, String), Failure> {
        self.set("ready")?;
        self.state.remove(self.server)?;
        let seen = self.wait(|| {
            let servers = self.servers()?.unwrap_or_default();
            Ok(match servers.iter().all(Server::is_up) {
                true => Ok(describe(&servers)),
                false => Err(describe(&servers)),
            })
        })?;
        Ok(match seen {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        })
    }

    /// Tells HAProxy what to do with the server, in every backend.
    fn set(&self, state: &str) -> Result<(), Failure> {
        for server in self.servers()?.unwrap_or_default() {
            let command = format!(
                "set server {}/{} state {state}",
                server.backend, self.server
            );
            let said = ask(&self.socket, &command)?.unwrap_or_default();
            if !said.trim().is_empty() {
                let said = said.trim();
                return Err(Failure::refused(format!(
                    "HAProxy does not {command}: {said}"
                )));
            }
        }
        Ok(())
    }

    /// What HAProxy knows of all servers, in the format of a state file.
    fn states(&self) -> Result<String, Failure> {
        Ok(ask(&self.socket, "show servers state")?.unwrap_or_default())
    }

    /// Looks until it is so, or the time is over; the last words either way.
    fn wait(
        &self,
        mut look: impl FnMut() -> Result<Result<String, String>, Failure>,
    ) -> Result<Result<String, String>, Failure> {
        loop {
            let seen = look()?;
            let over = Instant::now() + PAUSE >= self.until || self.ending.load(Ordering::SeqCst);
            if seen.is_ok() || over {
                return Ok(seen);
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Server {
    /// It gets requests, and its last check went well, where it is checked.
    fn is_up(&self) -> bool {
        let up = self.status == "UP" && (self.check.is_empty() || self.check.ends_with("OK"));
        up || self.status == "no check"
    }
}

fn describe(servers: &[Server]) -> String {
    let one = |server: &Server| format!("{} {}", server.backend, server.status);
    servers.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// How many processes of before a reload still serve the connections that they have: what is set
/// at the socket does not reach them.
fn old_workers(master: &Path) -> Result<usize, Failure> {
    let Some(table) = ask(master, "show proc")? else {
        return Ok(0);
    };
    let old = table.lines().skip_while(|line| *line != "# old workers");
    let old = old.skip(1).take_while(|line| !line.starts_with('#'));
    Ok(old.filter(|line| line.contains("worker")).count())
}

/// The answer of HAProxy to one command; `None` where nobody listens.
fn ask(socket: &Path, command: &str) -> Result<Option<String>, Failure> {
    let doing = || format!("talk to HAProxy at {}", socket.display());
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error).doing(doing),
    };
    stream.set_read_timeout(Some(ANSWER)).doing(doing)?;
    stream.set_write_timeout(Some(ANSWER)).doing(doing)?;
    stream
        .write_all(format!("{command}\n").as_bytes())
        .doing(doing)?;
    stream.shutdown(Shutdown::Write).doing(doing)?;
    let mut answer = Vec::new();
    stream
        .take(MAX_ANSWER_BYTES)
        .read_to_end(&mut answer)
        .doing(doing)?;
    Ok(Some(String::from_utf8_lossy(&answer).into_owned()))
}

/// A name stands in a command line, so it must not be able to end it.
fn check_word(name: &str) -> Result<(), Failure> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if !name.is_empty() && name.bytes().all(fits) {
        return Ok(());
    }
    Err(Failure::refused(format!("`{name}` is no name of a server")))
}

/// The file from which HAProxy takes the state of its servers when it starts or reloads. Only
/// those that are taken out stand in it: all others come up as the configuration says.
struct StateFile(PathBuf);

impl StateFile {
    fn lines(&self) -> Result<Vec<String>, Failure> {
        match fs::read_to_string(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            read => {
                let text = read.doing(|| format!("read {}", self.0.display()))?;
                Ok(text.lines().map(ToOwned::to_owned).collect())
            }
        }
    }

    fn has(&self, server: &str) -> Result<bool, Failure> {
        Ok(self.servers()?.contains(server))
    }

    fn servers(&self) -> Result<BTreeSet<String>, Failure> {
        let lines = self.lines()?;
        let rows = lines.iter().filter(|line| is_row(line));
        let names = rows.filter_map(|line| line.split_whitespace().nth(NAME_COLUMN));
        Ok(names.map(ToOwned::to_owned).collect())
    }

    /// Adds the server's lines out of what HAProxy says, in maintenance.
    fn add(&self, server: &str, states: &str) -> Result<(), Failure> {
        let (head, rows): (Vec<&str>, Vec<&str>) = states
            .lines()
            .filter(|line| !line.trim().is_empty())
            .partition(|line| line.starts_with('#') || *line == "1");
        let kept = self.lines()?;
        let kept = kept.iter().map(String::as_str);
        let others = kept.filter(|line| is_row(line) && !names(line, server));
        let mut text = head.join("\n");
        text.push('\n');
        for row in others {
            text.push_str(row);
            text.push('\n');
        }
        for row in rows.iter().filter(|row| names(row, server)) {
            text.push_str(&in_maintenance(row));
            text.push('\n');
        }
        durable::write(&self.0, text.as_bytes())
    }

    /// Takes the server's lines out, and the file with the last of them.
    fn remove(&self, server: &str) -> Result<(), Failure> {
        let mut lines = self.lines()?;
        lines.retain(|line| !names(line, server));
        if lines.iter().any(|line| is_row(line)) {
            let text = lines.join("\n") + "\n";
            return durable::write(&self.0, text.as_bytes());
        }
        durable::remove_if_there(&self.0)
    }
}

/// Whether a line of a state file is about a server.
fn is_row(line: &str) -> bool {
    line.split_whitespace().count() > ADMIN_COLUMN && !line.starts_with('#')
}

/// Whether a line of a state file is about this server.
fn names(line: &str, server: &str) -> bool {
    is_row(line) && line.split_whitespace().nth(NAME_COLUMN) == Some(server)
}

fn in_maintenance(row: &str) -> String {
    let mut cells: Vec<String> = row.split_whitespace().map(ToOwned::to_owned).collect();
    if let Some(admin) = cells.get_mut(ADMIN_COLUMN) {
        let before: u32 = admin.parse().unwrap_or(0);
        *admin = (before | FORCED_MAINTENANCE).to_string();
    }
    cells.join(" ")
}

#[cfg(test)]
mod tests;
