//! Requests and answers.
//!
//! Goes in: requests of the protocol. Comes out: their answers, in order. Invariant: every wait
//! has a deadline, and an error names the host.

use std::sync::Arc;
use std::time::Duration;

use prost::Message as _;
use provision_protocol::PROTOCOL_VERSION;
use provision_protocol::fact::{Fact, Query};
use provision_protocol::frame;
use provision_protocol::message::{
    Arm, Balance, Balanced, Chunk, Commit, Committed, Disarm, FromHost, Hello, Lock, Observe,
    Perform, Performed, Probe, Probed, Progress, Retire, Stage, Staged, ToHost, Unstage, from_host,
    to_host,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};

use super::launch;
use super::{Endpoint, Helpers};
use crate::error::{Error, ErrorKind, Result};
use crate::resource::Content;
use crate::rollout::Interrupt;

/// How long a helper may be silent. Packages are the slowest, and report as they go.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// How long a helper may take to say who it is, or to go.
const PROMPT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the end of what is said may take to be said.
const HUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that ends a connection when it is dropped or awaited.
pub(super) type Closer = Box<dyn FnOnce() -> super::BoxFuture<'static, ()> + Send>;

/// The three streams of one execution on a host.
pub struct Transport {
    /// What the host says.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What the host is told.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What the host complains about.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Ends the connection.
    pub closer: Closer,
}

impl Transport {
    /// One that has ended: nothing is said on it, and nothing hears.
    fn ended() -> Self {
        Self {
            reader: Box::new(tokio::io::empty()),
            writer: Box::new(tokio::io::sink()),
            stderr: Box::new(tokio::io::empty()),
            closer: Box::new(|| Box::pin(async {})),
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}

/// What a host is asked in one turn, without a change.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Whoever takes the host's lock.
    pub holder: Option<String>,
    /// What is asked.
    pub queries: Vec<Query>,
    /// What health is looked at, as `Probe::target` names it.
    pub targets: Vec<String>,
}

impl Look {
    /// The frames that ask the host of that name for it.
    ///
    /// # Errors
    /// It is longer than a frame may be.
    pub fn asked(&self, name: &str) -> Result<Vec<u8>> {
        let lock = self.holder.as_ref().map(|holder| {
            to_host::Body::Lock(Lock {
                holder: holder.clone(),
            })
        });
        let observe = to_host::Body::Observe(Observe {
            queries: self.queries.clone(),
        });
        let probes = self.targets.iter().map(|target| {
            to_host::Body::Probe(Probe {
                target: target.clone(),
                within_millis: 0,
            })
        });
        let bodies = lock.into_iter().chain([observe]).chain(probes);
        let frames: Result<Vec<_>> = bodies.map(|body| framed(name, body)).collect();
        frames.map(|frames| frames.concat())
    }
}

/// A helper that runs and listens.
#[derive(Debug)]
pub struct Conversation {
    name: String,
    transport: Transport,
    hello: Hello,
    interrupt: Interrupt,
    /// The helper was told that nothing more is asked, so that it ends after the step in hand.
    hushed: bool,
    /// Another run holds the lock that was asked for.
    taken: bool,
    /// It was ended on purpose, and is kept for what it knows of the host.
    left: bool,
}

impl Conversation {
    /// Brings the helper to speak, says the opening to it, and reads who it is.
    ///
    /// # Errors
    /// See [`launch::launch`]; or the helper is of another version.
    pub(super) async fn begin(
        transport: Transport,
        helpers: &Helpers,
        endpoint: &Endpoint,
        opening: &[u8],
    ) -> Result<Self> {
        let mut transport = transport;
        transport.reader = Box::new(BufReader::new(transport.reader));
        let transport = launch::launch(transport, helpers, endpoint, opening).await?;
        let mut conversation = Self {
            name: endpoint.name.clone(),
            transport,
            hello: Hello::default(),
            interrupt: Interrupt::default(),
            hushed: false,
            taken: false,
            left: false,
        };
        match conversation.receive(PROMPT_TIMEOUT).await? {
            from_host::Body::Hello(hello) if hello.protocol_version == PROTOCOL_VERSION => {
                conversation.hello = hello;
                Ok(conversation)
            }
            from_host::Body::Hello(hello) => Err(Error::host(format!(
                "{}: its helper speaks version {}, this program {PROTOCOL_VERSION}",
                conversation.name, hello.protocol_version
            ))
            .hint("provision and provision-host must come from one build")),
            _ => Err(conversation.out_of_order()),
        }
    }

    /// Who the host is.
    #[must_use]
    pub const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// The host's name in the inventory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends after the step in hand once the interrupt comes.
    pub fn heed(&mut self, interrupt: Interrupt) {
        self.interrupt = interrupt;
    }

    /// Whether another run holds the lock that was asked for last.
    #[must_use]
    pub const fn is_taken(&self) -> bool {
        self.taken
    }

    /// Takes the lock, where a holder is given, asks for all facts and looks at the health of
    /// these targets as it is now, in one turn.
    ///
    /// # Errors
    /// Another run holds the lock; the message says who. Or the connection ends.
    pub async fn observe(&mut self, look: &Look) -> Result<(Vec<Fact>, Vec<Probed>)> {
        self.taken = false;
        let asked = look.asked(&self.name)?;
        self.say(&asked).await?;
        self.observed(look).await
    }

    /// The answers to what was asked when the helper was brought to speak.
    ///
    /// # Errors
    /// As [`Self::observe`].
    pub async fn observed(&mut self, look: &Look) -> Result<(Vec<Fact>, Vec<Probed>)> {
        self.taken = false;
        let expected = look.queries.len();
        let mut taken = None;
        if look.holder.is_some() {
            match self.receive(PROMPT_TIMEOUT).await? {
                from_host::Body::Locked(_) => {}
                from_host::Body::Refused(refused) => {
                    let error = Error::host(format!("{}: {}", self.name, refused.message));
                    taken = Some(error.hint("--lock-timeout waits for the other run to end"));
                }
                _ => return Err(self.out_of_order()),
            }
        }
        self.taken = taken.is_some();
        let facts = match self.receive(SILENCE_TIMEOUT).await? {
            from_host::Body::Facts(facts) if facts.facts.len() == expected => facts.facts,
            from_host::Body::Refused(refused) => return Err(self.refused(&refused.message)),
            _ => return Err(self.out_of_order()),
        };
        let mut health = Vec::with_capacity(look.targets.len());
        for _ in &look.targets {
            health.push(self.probed(PROMPT_TIMEOUT).await?);
        }
        match taken {
            Some(error) => Err(error),
            None => Ok((facts, health)),
        }
    }

    /// The answers to these queries.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn ask(&mut self, queries: Vec<Query>) -> Result<Vec<Fact>> {
        let look = Look {
            queries,
            ..Look::default()
        };
        self.observe(&look).await.map(|(facts, _)| facts)
    }

    /// Sends a content from an offset on, and waits until it is whole on the host.
    ///
    /// # Errors
    /// The host has no space for it, or it did not arrive as it was sent.
    pub async fn upload(
        &mut self,
        content: &Arc<Content>,
        from: u64,
        mut progress: impl FnMut(u64),
    ) -> Result<()> {
        let unreadable = |error: String| {
            Error::controller("an artifact cannot be read any more").caused_by(error)
        };
        let source = Arc::clone(content);
        let pieces = tokio::task::spawn_blocking(move || source.pieces())
            .await
            .map_err(|error| unreadable(error.to_string()))?
            .map_err(|error| unreadable(error.to_string()))?;
        // A piece is resumed as a whole; the helper cuts back to its beginning.
        let last = pieces.len() - 1;
        let first = pieces
            .iter()
            .rposition(|piece| piece.offset <= from)
            .unwrap_or(0)
            .min(last);
        for (index, piece) in pieces.iter().enumerate().skip(first) {
            self.send(to_host::Body::Chunk(Chunk {
                sha256: content.sha256.clone(),
                total_bytes: content.size,
                offset: piece.offset,
                zstd: piece.zstd.clone(),
                last: index == last,
            }))
            .await?;
            progress(piece.offset + piece.size as u64);
        }
        match self.receive(SILENCE_TIMEOUT).await? {
            from_host::Body::Stored(stored) if stored.sha256 == content.sha256 => Ok(()),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Lays files out and validates them.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn stage(&mut self, stage: Stage) -> Result<Staged> {
        self.send(to_host::Body::Stage(stage)).await?;
        match self.receive(SILENCE_TIMEOUT).await? {
            from_host::Body::Staged(staged) => Ok(staged),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Does operations in order, until one fails.
    ///
    /// # Errors
    /// The connection ends. That an operation fails is in the answer.
    pub async fn perform(
        &mut self,
        perform: Perform,
        mut progress: impl FnMut(Progress),
    ) -> Result<Performed> {
        self.send(to_host::Body::Perform(perform)).await?;
        loop {
            match self.receive_any(SILENCE_TIMEOUT).await? {
                from_host::Body::Progress(step) if step.resource.is_empty() => {}
                from_host::Body::Progress(step) => progress(step),
                from_host::Body::Performed(performed) => return Ok(performed),
                from_host::Body::Refused(refused) => return Err(self.refused(&refused.message)),
                _ => return Err(self.out_of_order()),
            }
        }
    }

    /// Waits for health.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn probe(&mut self, probe: Probe) -> Result<Probed> {
        let within = Duration::from_millis(probe.within_millis) + PROMPT_TIMEOUT;
        self.send(to_host::Body::Probe(probe)).await?;
        self.probed(within).await
    }

    async fn probed(&mut self, within: Duration) -> Result<Probed> {
        match self.receive(within).await? {
            from_host::Body::Probed(probed) => Ok(probed),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Has the balancer on the host leave a server out, or use it again.
    ///
    /// # Errors
    /// The connection ends, or the balancer cannot be talked to.
    pub async fn balance(&mut self, balance: Balance) -> Result<Balanced> {
        let within = Duration::from_millis(balance.within_millis) + PROMPT_TIMEOUT;
        self.send(to_host::Body::Balance(balance)).await?;
        match self.receive(within).await? {
            from_host::Body::Balanced(balanced) => Ok(balanced),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Throws staged files away.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn unstage(&mut self) -> Result<()> {
        self.send(to_host::Body::Unstage(Unstage {})).await?;
        match self.receive(PROMPT_TIMEOUT).await? {
            from_host::Body::Unstaged(_) => Ok(()),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Closes what was changed as one generation.
    ///
    /// # Errors
    /// The connection ends, or the host cannot write it down.
    pub async fn commit(&mut self, commit: Commit) -> Result<Committed> {
        self.send(to_host::Body::Commit(commit)).await?;
        match self.receive(PROMPT_TIMEOUT).await? {
            from_host::Body::Committed(committed) => Ok(committed),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Has the host put paths back by itself unless [`Self::disarm`] is said in time.
    ///
    /// # Errors
    /// The connection ends, or there is no switch on such a host.
    pub async fn arm(&mut self, arm: Arm) -> Result<()> {
        self.send(to_host::Body::Arm(arm)).await?;
        match self.receive(PROMPT_TIMEOUT).await? {
            from_host::Body::Armed(_) => Ok(()),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Says that somebody got in; `false` where the host has put everything back already.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn disarm(&mut self) -> Result<bool> {
        self.send(to_host::Body::Disarm(Disarm {})).await?;
        match self.receive(PROMPT_TIMEOUT).await? {
            from_host::Body::Disarmed(disarmed) => Ok(disarmed.armed),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Has the helper leave the host, where nothing is managed any more; `false` where other
    /// environments have something on it.
    ///
    /// # Errors
    /// The connection ends.
    pub async fn retire(&mut self) -> Result<bool> {
        self.send(to_host::Body::Retire(Retire {})).await?;
        match self.receive(PROMPT_TIMEOUT).await? {
            from_host::Body::Retired(retired) => Ok(retired.entries_left == 0),
            from_host::Body::Refused(refused) => Err(self.refused(&refused.message)),
            _ => Err(self.out_of_order()),
        }
    }

    /// Lets a helper go that may not hear it any more: it gives up the lock when it does.
    pub async fn give_up(&mut self) {
        self.hushed = true;
        hush(&mut self.transport.writer).await;
    }

    /// Lets the helper go and ends the connection.
    pub async fn close(mut self) {
        self.leave().await;
    }

    /// The same for a conversation whose host is still to be known, and is asked nothing more.
    pub async fn leave(&mut self) {
        self.left = true;
        let mut transport = std::mem::replace(&mut self.transport, Transport::ended());
        hush(&mut transport.writer).await;
        drop(transport.writer);
        let _ = tokio::time::timeout(PROMPT_TIMEOUT, (transport.closer)()).await;
    }

    /// Whether it was left: neither the connection nor the lock is there any more.
    #[must_use]
    pub const fn is_left(&self) -> bool {
        self.left
    }

    async fn send(&mut self, body: to_host::Body) -> Result<()> {
        let frame = framed(&self.name, body)?;
        self.say(&frame).await
    }

    async fn say(&mut self, frames: &[u8]) -> Result<()> {
        if self.interrupt.has_come() {
            let message = format!("{}: interrupted", self.name);
            return Err(Error::new(ErrorKind::Cancelled, message)
                .hint("run it again: what was begun is completed"));
        }
        let writer = &mut self.transport.writer;
        let sent = async {
            writer.write_all(frames).await?;
            writer.flush().await
        };
        match tokio::time::timeout(SILENCE_TIMEOUT, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost().await.caused_by(error)),
            Err(_) => Err(self.lost().await.caused_by("nothing is taken any more")),
        }
    }

    async fn receive(&mut self, within: Duration) -> Result<from_host::Body> {
        loop {
            match self.receive_any(within).await? {
                from_host::Body::Progress(_) => {}
                body => return Ok(body),
            }
        }
    }

    async fn receive_any(&mut self, within: Duration) -> Result<from_host::Body> {
        let received = self.next_frame(within).await;
        match received {
            Ok(Ok(FromHost { body: Some(body) })) => Ok(body),
            Ok(Ok(FromHost { body: None })) => Err(self.out_of_order()),
            Ok(Err(error)) => Err(self.lost().await.caused_by(error)),
            Err(_) => {
                let waited = humantime::format_duration(within);
                Err(self
                    .lost()
                    .await
                    .caused_by(format!("no answer within {waited}")))
            }
        }
    }

    /// The next frame, or `Err` where none came in time. An interrupt meanwhile is passed on.
    async fn next_frame(
        &mut self,
        within: Duration,
    ) -> Result<Result<FromHost, frame::FrameError>, tokio::time::error::Elapsed> {
        let Self {
            transport,
            interrupt,
            hushed,
            ..
        } = self;
        let reader = &mut transport.reader;
        let received = tokio::time::timeout(within, async {
            let length = frame::check_length(reader.read_u32().await?)?;
            let mut body = vec![0u8; length as usize];
            reader.read_exact(&mut body).await?;
            Ok::<_, frame::FrameError>(FromHost::decode(body.as_slice())?)
        });
        tokio::pin!(received);
        loop {
            tokio::select! {
                received = &mut received => return received,
                () = interrupt.comes(), if !*hushed => {
                    // The helper notices the end of its input, ends the step in hand and answers.
                    *hushed = true;
                    hush(&mut transport.writer).await;
                }
            }
        }
    }

    async fn lost(&mut self) -> Error {
        let mut words = Vec::new();
        let mut stderr = (&mut self.transport.stderr).take(4096);
        let read = stderr.read_to_end(&mut words);
        let _ = tokio::time::timeout(Duration::from_secs(1), read).await;
        let message = format!("{}: the conversation broke off", self.name);
        let error =
            Error::new(ErrorKind::Lost, message).hint("run it again: what was begun is completed");
        let words = String::from_utf8_lossy(&words);
        if words.trim().is_empty() {
            error
        } else {
            error.caused_by(words.trim())
        }
    }

    fn refused(&self, message: &str) -> Error {
        Error::host(format!("{}: {message}", self.name))
    }

    fn out_of_order(&self) -> Error {
        Error::host(format!("{}: its helper answered out of order", self.name))
            .hint("provision and provision-host must come from one build")
    }
}

fn framed(name: &str, body: to_host::Body) -> Result<Vec<u8>> {
    frame::encode(&ToHost { body: Some(body) })
        .map_err(|error| Error::host(format!("{name}: {error}")))
}

/// Says that nothing more comes. Whoever takes nothing any more is not waited for.
///
/// A pipe is not closed by its shutdown, but when it is dropped.
async fn hush(writer: &mut Box<dyn AsyncWrite + Send + Unpin>) {
    let mut last = std::mem::replace(writer, Box::new(tokio::io::sink()));
    let _ = tokio::time::timeout(HUSH_TIMEOUT, last.shutdown()).await;
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    async fn whoever_is_told_that_nothing_more_comes_hears_the_end() {
        let child = tokio::process::Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = child.expect("cat");
        let mut writer: Box<dyn AsyncWrite + Send + Unpin> =
            Box::new(child.stdin.take().expect("its input"));
        hush(&mut writer).await;
        let ended = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
        assert!(ended.is_ok(), "it waits for more");
    }
}
