//! This machine as a host: the helper is run directly, without SSH.
//!
//! Goes in: an endpoint that is this machine. Comes out: a conversation. Invariant: the same messages as over
//! SSH; only the way there differs.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::conversation::Transport;
use super::{BoxFuture, Conversation, Endpoint, Helpers, Host};
use crate::error::{Error, Result};

/// This machine.
#[derive(Debug)]
pub struct LocalHost {
    endpoint: Endpoint,
    helpers: Helpers,
}

impl LocalHost {
    /// This machine under a host's name.
    #[must_use]
    pub const fn new(endpoint: Endpoint, helpers: Helpers) -> Self {
        Self { endpoint, helpers }
    }

    async fn run(&self, opening: &[u8]) -> Result<Conversation> {
        let name = &self.endpoint.name;
        let Some(helper) = self.helpers.get(std::env::consts::ARCH) else {
            return Err(Error::controller(format!(
                "{name}: there is no helper for this machine"
            )));
        };
        let wrap = |error: std::io::Error| {
            let program = helper.path.display();
            Error::controller(format!("{name}: {program} cannot be run")).caused_by(error)
        };
        let mut child = Command::new(&helper.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(wrap)?;
        let missing = || wrap(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        let transport = Transport {
            writer: Box::new(child.stdin.take().ok_or_else(missing)?),
            reader: Box::new(child.stdout.take().ok_or_else(missing)?),
            stderr: Box::new(child.stderr.take().ok_or_else(missing)?),
            closer: Box::new(move || {
                Box::pin(async move {
                    let _ = child.wait().await;
                })
            }),
        };
        Conversation::begin(transport, &self.helpers, &self.endpoint, opening).await
    }
}

impl Host for LocalHost {
    fn name(&self) -> &str {
        &self.endpoint.name
    }

    fn connect<'a>(&'a self, opening: &'a [u8]) -> BoxFuture<'a, Result<Conversation>> {
        Box::pin(self.run(opening))
    }

    fn revert_after(&self) -> Duration {
        self.endpoint.revert_after
    }

    fn reconnect_within(&self) -> Duration {
        self.endpoint.reconnect_within
    }
}
