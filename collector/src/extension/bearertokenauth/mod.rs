//! The `bearertokenauth` extension: a token in a header.
//!
//! In: requests that come in, and those that go out. Out: whether the first have a token, and a
//! token in the second. Invariant: how long a comparison takes does not depend on the tokens.

mod config;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use crate::authentication::{AddHeaders, Authenticator, CheckRequest};
use crate::batch::Metadata;
use crate::component::{
    BuildExtension, Context, Kind, Offer, Readiness, RunningExtension, StartError, Task,
};
pub use config::Config;

/// The row of this component.
pub const KIND: Kind<dyn BuildExtension> = Kind {
    name: "bearertokenauth",
    aliases: &["bearertoken"],
    configure: |section| Box::new(Config::read(section)),
};

/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl BuildExtension for Config {
    fn offers(&self) -> &'static [Offer] {
        &[Offer::Checks, Offer::Credentials]
    }

    fn start(
        self: Box<Self>,
        context: Context,
        _: watch::Receiver<Readiness>,
    ) -> Task<'static, Result<Box<dyn RunningExtension>, StartError>> {
        Box::pin(async move {
            let tokens = Tokens::start(*self).map_err(|message| StartError {
                component: format!("extensions::{}", context.id),
                message,
            })?;
            let tokens = Arc::new(tokens);
            let authenticator = Authenticator {
                incoming: Some(Arc::clone(&tokens) as Arc<dyn CheckRequest>),
                outgoing: Some(tokens),
            };
            context.authenticators.add(context.id, authenticator);
            Ok(Box::new(Running) as Box<dyn RunningExtension>)
        })
    }
}

struct Running;

impl RunningExtension for Running {
    fn stop(self: Box<Self>) -> Task<'static, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The tokens, as whole header values.
struct Tokens {
    config: Config,
    state: Mutex<State>,
}

struct State {
    values: Arc<[HeaderValue]>,
    looked: Instant,
    modified: Option<SystemTime>,
}

impl Tokens {
    fn start(config: Config) -> Result<Self, String> {
        let state = Mutex::new(State {
            modified: modified(&config),
            values: read(&config)?,
            looked: Instant::now(),
        });
        Ok(Self { config, state })
    }

    /// What counts now; a file that cannot be read again changes nothing.
    fn current(&self) -> Arc<[HeaderValue]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.config.filename.is_some() && state.looked.elapsed() >= LOOK_INTERVAL {
            state.looked = Instant::now();
            let modified = modified(&self.config);
            if modified != state.modified {
                match read(&self.config) {
                    Ok(values) => (state.values, state.modified) = (values, modified),
                    Err(reason) => tracing::warn!(%reason, "the old tokens stay"),
                }
            }
        }
        Arc::clone(&state.values)
    }
}

fn modified(config: &Config) -> Option<SystemTime> {
    let metadata = std::fs::metadata(config.filename.as_ref()?).ok()?;
    metadata.modified().ok()
}

fn read(config: &Config) -> Result<Arc<[HeaderValue]>, String> {
    let tokens = match &config.filename {
        None => config.tokens.clone(),
        Some(path) => {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| format!("cannot read {path}: {error}"))?;
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        }
    };
    let place = config.filename.as_deref().unwrap_or("token");
    let value = |token: &String| {
        let mut value = HeaderValue::from_str(&format!("{}{token}", config.prefix))
            .map_err(|_| format!("{place} holds a token that no header can carry"))?;
        value.set_sensitive(true);
        Ok(value)
    };
    let values: Arc<[HeaderValue]> = tokens.iter().map(value).collect::<Result<_, String>>()?;
    match values.is_empty() {
        true => Err(format!("{place} holds no token")),
        false => Ok(values),
    }
}

impl CheckRequest for Tokens {
    fn check<'c>(&'c self, headers: &'c HeaderMap) -> Task<'c, Result<(), &'static str>> {
        let found = match headers.get(&self.config.header) {
            None => Err("the request has no authorization"),
            Some(given) => {
                let right = |value: &HeaderValue| given.as_bytes().ct_eq(value.as_bytes());
                let values = self.current();
                let any = values
                    .iter()
                    .map(right)
                    .fold(subtle::Choice::from(0), |any, this| any | this);
                match bool::from(any) {
                    true => Ok(()),
                    false => Err("the authorization is not accepted"),
                }
            }
        };
        Box::pin(std::future::ready(found))
    }

    fn challenge(&self) -> &'static str {
        "Bearer"
    }
}

impl AddHeaders for Tokens {
    fn add(&self, headers: &mut HeaderMap, _: &Metadata) -> Result<(), String> {
        if let Some(value) = self.current().first() {
            headers.insert(&self.config.header, value.clone());
        }
        Ok(())
    }
}
