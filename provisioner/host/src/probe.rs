//! Waits for health.
//!
//! Goes in: an HTTP address, a TCP address or a unit. Comes out: whether it became healthy in
//! time, and what was seen last. Invariant: no single attempt outlives the whole wait.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use provision_protocol::message::{Probe, Probed};

use crate::failure::Failure;
use crate::process::Program;
use crate::root::Root;

/// How long to wait between two attempts.
const PAUSE: Duration = Duration::from_millis(100);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The longest wait that may be asked for.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// How much of an HTTP answer is read.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;
/// How much of an HTTP answer's body is passed on.
const MAX_SHOWN_CHARACTERS: usize = 200;

/// What is looked at.
enum Target<'a> {
    Http { authority: &'a str, path: &'a str },
    Tcp(&'a str),
    Unit(&'a str),
}

/// Looks until it is healthy or the time is over.
pub(crate) fn probe(root: &Root, request: &Probe, ending: &AtomicBool) -> Result<Probed, Failure> {
    let target = parse(&request.target)?;
    let until = Instant::now() + Duration::from_millis(request.within_millis).min(MAX_WAIT);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let seen = target.attempt(root, left.clamp(PAUSE, ATTEMPT));
        let over = Instant::now() + PAUSE >= until || ending.load(Ordering::SeqCst);
        match seen {
            Ok(detail) => {
                return Ok(Probed {
                    healthy: true,
                    detail,
                });
            }
            Err(detail) if over => {
                return Ok(Probed {
                    healthy: false,
                    detail,
                });
            }
            Err(_) => thread::sleep(PAUSE),
        }
    }
}

fn parse(target: &str) -> Result<Target<'_>, Failure> {
    if let Some(rest) = target.strip_prefix("http://") {
        let end = rest.find('/').unwrap_or(rest.len());
        return Ok(Target::Http {
            authority: &rest[..end],
            path: &rest[end..],
        });
    }
    if let Some(address) = target.strip_prefix("tcp://") {
        return Ok(Target::Tcp(address.trim_end_matches('/')));
    }
    if let Some(unit) = target.strip_prefix("unit:") {
        return Ok(Target::Unit(unit));
    }
    Err(Failure::refused(format!(
        "cannot probe `{target}`: it must begin with http://, tcp:// or unit:"
    )))
}

impl Target<'_> {
    fn attempt(&self, root: &Root, within: Duration) -> Result<String, String> {
        match self {
            Self::Http { authority, path } => get(root, authority, path, within),
            Self::Tcp(address) => {
                connect(root, address, within).map(|_| format!("{address} accepts connections"))
            }
            Self::Unit(unit) => unit_state(root, unit, within),
        }
    }
}

fn connect(root: &Root, address: &str, within: Duration) -> Result<TcpStream, String> {
    let mut last = format!("{address} has no address");
    for candidate in resolve(root, address, within)? {
        match TcpStream::connect_timeout(&candidate, within) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = format!("{address}: {error}"),
        }
    }
    Err(last)
}

/// The addresses of a `host:port`. Names are left to the host's own `getent`, which knows every
/// source of names that the host is set up for; a static program does not.
fn resolve(root: &Root, address: &str, within: Duration) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    let parts = address
        .rsplit_once(':')
        .and_then(|(name, port)| Some((name, port.parse().ok()?)));
    let Some((name, port)) = parts else {
        return Err(format!("`{address}` is not a host and a port"));
    };
    if name == "localhost" {
        return Ok(vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)]);
    }
    let outcome = Program::named(root, "getent")
        .and_then(|program| {
            program
                .arguments(["ahosts", "--", name])
                .deadline(within)
                .run()
        })
        .map_err(|failure| failure.to_string())?;
    let words = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let mut addresses: Vec<IpAddr> = words.filter_map(|word| word.parse().ok()).collect();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(format!("the name {name} cannot be resolved on this host"));
    }
    Ok(addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, port))
        .collect())
}

fn get(root: &Root, authority: &str, path: &str, within: Duration) -> Result<String, String> {
    let words = |error: std::io::Error| format!("{authority}: {error}");
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let address = if has_port {
        authority.to_owned()
    } else {
        format!("{authority}:80")
    };
    let mut stream = connect(root, &address, within)?;
    stream.set_read_timeout(Some(within)).map_err(words)?;
    stream.set_write_timeout(Some(within)).map_err(words)?;
    let path = if path.is_empty() { "/" } else { path };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: provision\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).map_err(words)?;
    let mut answer = Vec::new();
    let read = stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().next().unwrap_or_default();
    match status(line) {
        Some(code @ 200..=299) => Ok(format!("HTTP {code}")),
        Some(code) => {
            let body = text
                .split_once("\r\n\r\n")
                .map_or("", |(_, body)| body)
                .trim();
            let body: String = body.chars().take(MAX_SHOWN_CHARACTERS).collect();
            Err(format!("HTTP {code} {body}").trim_end().to_owned())
        }
        None => Err(read.err().map_or_else(
            || format!("{authority} answers, but not in HTTP"),
            |error| format!("{authority}: {error}"),
        )),
    }
}

fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

fn unit_state(root: &Root, unit: &str, within: Duration) -> Result<String, String> {
    let outcome = Program::named(root, "systemctl")
        .and_then(|program| {
            let arguments = ["show", "--property=ActiveState,SubState,Result", "--", unit];
            program.arguments(arguments).deadline(within).run()
        })
        .map_err(|failure| failure.to_string())?;
    if !outcome.succeeded() {
        return Err(outcome.said(1000));
    }
    let value = |key: &str| {
        let line = outcome
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.strip_prefix('='))
            .unwrap_or_default()
    };
    let (active, sub, result) = (value("ActiveState"), value("SubState"), value("Result"));
    let detail = format!("{unit} is {active} ({sub}, result {result})");
    if active == "active" {
        Ok(detail)
    } else {
        Err(detail)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::process::install_script;

    fn ask(target: String, within_millis: u64) -> Probed {
        let request = Probe {
            target,
            within_millis,
        };
        probe(
            &Root::below("/nonexistent".into()),
            &request,
            &AtomicBool::new(false),
        )
        .unwrap()
    }

    /// Answers one connection after the other with these.
    fn serve(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0u8; 1024];
                let _ = stream.read(&mut request);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        address
    }

    #[test]
    fn waits_until_http_answers_200() {
        let address = serve(vec![
            "HTTP/1.1 503 Service Unavailable\r\n\r\nnot yet",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ]);
        let seen = ask(format!("http://{address}/health"), 5000);
        assert_eq!(
            seen,
            Probed {
                healthy: true,
                detail: "HTTP 200".into()
            }
        );
    }

    #[test]
    fn tells_what_it_saw_last() {
        let address = serve(vec![
            "HTTP/1.1 503 Service Unavailable\r\n\r\nqueue is full",
        ]);
        let seen = ask(format!("http://{address}"), 1);
        assert_eq!(
            seen,
            Probed {
                healthy: false,
                detail: "HTTP 503 queue is full".into()
            }
        );
    }

    #[test]
    fn a_closed_port_is_not_healthy() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert!(ask(format!("tcp://{address}"), 100).healthy);
        drop(listener);
        assert!(
            ask(format!("tcp://{address}"), 100)
                .detail
                .contains("refused")
        );
    }

    #[test]
    fn a_unit_must_be_active() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        install_script(
            &root,
            "/usr/bin/systemctl",
            "printf 'ActiveState=failed\\nSubState=failed\\nResult=exit-code\\n'",
        );
        let request = Probe {
            target: "unit:a.service".into(),
            within_millis: 1,
        };
        let seen = probe(&root, &request, &AtomicBool::new(false)).unwrap();
        assert_eq!(
            seen.detail,
            "a.service is failed (failed, result exit-code)"
        );
        assert!(!seen.healthy);
    }

    #[test]
    fn names_are_left_to_the_host() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let script =
            "test \"$3\" = gateway && printf '10.0.0.7 STREAM gateway\\n10.0.0.7 DGRAM\\n'";
        install_script(&root, "/usr/bin/getent", script);
        let resolve = |address| resolve(&root, address, ATTEMPT);
        assert_eq!(
            resolve("gateway:4317").unwrap(),
            ["10.0.0.7:4317".parse().unwrap()]
        );
        assert_eq!(resolve("[::1]:80").unwrap(), ["[::1]:80".parse().unwrap()]);
        assert!(
            resolve("other:80")
                .unwrap_err()
                .contains("cannot be resolved")
        );
        assert!(
            resolve("gateway")
                .unwrap_err()
                .contains("is not a host and a port")
        );
    }

    #[test]
    fn refuses_what_it_cannot_probe() {
        assert!(parse("https://x").is_err());
    }
}
