//! The `basicauth` extension: user names and passwords.
//!
//! In: requests that come in, or those that go out. Out: whether the first name a user with the
//! right password, or that in the second.
//! Invariant: bcrypt never runs on a thread that moves telemetry, and at most
//! [`CHECKS_AT_A_TIME`] times at once; what was right once is known by its digest.

mod config;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::authentication::{AddHeaders, Authenticator, CheckRequest};
use crate::batch::Metadata;
use crate::component::{
    BuildExtension, Context, Kind, Offer, Readiness, RunningExtension, StartError, Task,
};
pub use config::{Config, Source};

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "basicauth",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// How many passwords are checked at once.
const CHECKS_AT_A_TIME: usize = 2;

/// How many right answers are remembered.
const REMEMBERED: usize = 4096;

/// What every refusal says.
const REFUSED: &str = "the user name or the password is not accepted";

impl BuildExtension for Config {
    fn offers(&self) -> &'static [Offer] {
        match self {
            Self::Htpasswd { .. } => &[Offer::Checks],
            Self::Client { .. } => &[Offer::Credentials],
        }
    }

    fn start(
        self: Box<Self>,
        context: Context,
        _: watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>> {
        Box::pin(async move {
            let made = authenticator(&self).map_err(|message| StartError {
                component: format!("extensions::{}", context.id),
                message,
            })?;
            context.authenticators.add(context.id, made);
            Ok(Box::new(Running) as Box<dyn RunningExtension>)
        })
    }
}

fn authenticator(config: &Config) -> Result<Authenticator, String> {
    match config {
        Config::Client { username, password } => {
            let pair = format!("{}:{}", username.read()?, password.read()?);
            let value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)));
            let mut value = value.map_err(|error| error.to_string())?;
            value.set_sensitive(true);
            Ok(Authenticator {
                outgoing: Some(Arc::new(Credentials(value))),
                ..Authenticator::default()
            })
        }
        Config::Htpasswd { file, inline } => {
            let mut users = HashMap::new();
            if let Some(path) = file {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("cannot read {path}: {error}"))?;
                users.extend(read_users(&text, path)?);
            }
            users.extend(read_users(inline, "htpasswd.inline")?);
            Ok(Authenticator {
                incoming: Some(Arc::new(Users {
                    users,
                    known: Mutex::default(),
                    checks: Semaphore::new(CHECKS_AT_A_TIME),
                })),
                ..Authenticator::default()
            })
        }
    }
}

struct Running;

impl RunningExtension for Running {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// How a password is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    Bcrypt(String),
    Sha1(Vec<u8>),
    Plain(String),
}

struct Users {
    users: HashMap<String, Kept>,
    /// Digests of header values that were right.
    known: Mutex<HashSet<[u8; 32]>>,
    checks: Semaphore,
}

fn read_users(text: &str, place: &str) -> Result<HashMap<String, Kept>, String> {
    let lines = text.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (user, kept) = line
                .split_once(':')
                .ok_or_else(|| format!("{place} has a line that is not user:hash"))?;
            let kept = match kept {
                _ if ["$2a$", "$2b$", "$2y$"].iter().any(|id| kept.starts_with(id)) => {
                    Kept::Bcrypt(kept.to_owned())
                }
                _ if kept.starts_with("{SHA}") => {
                    let digest = STANDARD.decode(&kept[5..]);
                    Kept::Sha1(digest.map_err(|_| format!("{place}: the hash of {user} is broken"))?)
                }
                _ if kept.starts_with(['$', '{']) => {
                    return Err(format!(
                        "{place}: the hash of {user} is of a kind that is not supported; make it again with htpasswd -B"
                    ));
                }
                _ => Kept::Plain(kept.to_owned()),
            };
            Ok((user.to_owned(), kept))
        })
        .collect()
}

impl Kept {
    fn is(&self, password: &str) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Sha1(digest) => Sha1::digest(password).as_slice().ct_eq(digest).into(),
            Self::Plain(plain) => plain.as_bytes().ct_eq(password.as_bytes()).into(),
        }
    }
}

impl CheckRequest for Users {
    fn check<'c>(&'c self, headers: &'c HeaderMap) -> Task<'c, Result<(), &'static str>> {
        Box::pin(async move {
            let given = headers
                .get(AUTHORIZATION)
                .ok_or("the request has no authorization")?;
            let digest: [u8; 32] = Sha256::digest(given.as_bytes()).into();
            if self.known().contains(&digest) {
                return Ok(());
            }
            let (user, password) = credentials(given).ok_or(REFUSED)?;
            let kept = self.users.get(&user).ok_or(REFUSED)?.clone();
            let _turn = self.checks.acquire().await.map_err(|_| REFUSED)?;
            let right = spawn_blocking(move || kept.is(&password)).await;
            if !right.unwrap_or(false) {
                return Err(REFUSED);
            }
            let mut known = self.known();
            if known.len() == REMEMBERED {
                known.clear();
            }
            known.insert(digest);
            Ok(())
        })
    }

    fn challenge(&self) -> &'static str {
        "Basic realm=\"collector\", charset=\"UTF-8\""
    }
}

impl Users {
    fn known(&self) -> std::sync::MutexGuard<'_, HashSet<[u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The user and the password of `Basic …`.
fn credentials(value: &HeaderValue) -> Option<(String, String)> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (user, password) = pair.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What exporters send.
struct Credentials(HeaderValue);

impl AddHeaders for Credentials {
    fn add(&self, headers: &mut HeaderMap, _: &Metadata) -> Result<(), String> {
        headers.insert(AUTHORIZATION, self.0.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_compared_as_they_are_kept() {
        let hash = bcrypt::hash("secret", 4).unwrap();
        let lines = format!(
            "# users\nanna:{hash}\nbert:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n\ncarl:secret\n"
        );
        let users = read_users(&lines, "x").unwrap();
        for (user, kept) in &users {
            assert!(kept.is("secret"), "{user}");
            assert!(!kept.is("Secret"), "{user}");
        }
        assert_eq!(users.len(), 3);
        let message = read_users("dora:$apr1$salt$hash", "x").unwrap_err();
        assert!(message.contains("dora") && message.contains("htpasswd -B"));
        assert!(read_users("nobody", "x").is_err());
    }

    #[test]
    fn credentials_are_read_from_the_header() {
        let header = |text: &'static str| credentials(&HeaderValue::from_static(text));
        let pair = ("a".to_owned(), "b:c".to_owned());
        assert_eq!(header("Basic YTpiOmM="), Some(pair.clone()));
        assert_eq!(header("basic YTpiOmM="), Some(pair));
        assert_eq!(header("Bearer YTpiOmM="), None);
        assert_eq!(header("Basic !"), None);
    }
}
