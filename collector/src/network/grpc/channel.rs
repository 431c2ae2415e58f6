//! The gRPC client: connections to every address of a server, and calls over them.
//!
//! In: whole messages. Out: whole answers, or a retryable failure.
//! Invariant: a call ends by its timeout; one that a server has certainly not begun to work on
//! goes to another connection at once, and no other call is repeated here.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use hyper::header::HeaderMap;
use hyper::http::{Method, Request, Uri, Version};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::connect::{Address, Connector, Io};
use super::keepalive::{KeepAlive, Pinger};
use super::{Framed, framed};
use crate::component::Failure;
use crate::network::tls::ClientTlsSource;
use crate::network::{Answer, MAX_RESPONSE_BYTES};

pub use super::connect::Endpoint;
pub(crate) use super::connect::is_loopback;

/// The pause after the first failure to connect; each further one is longer.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How much longer, as in gRPC's connection backoff.
const PAUSE_FACTOR: f64 = 1.6;

/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often names are resolved again, since their servers may have changed.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);

/// How soon after the last time names are resolved again when a connection fails.
const RESOLVE_AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// How often a call goes to another connection before it fails.
const MAX_REROUTES: usize = 4;

/// How calls are spread over the addresses of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn over all of them.
    #[default]
    RoundRobin,
    /// All to the first that can be reached.
    PickFirst,
}

/// How a channel reaches its server.
#[derive(Debug)]
pub struct ChannelSettings {
    /// Where the server is.
    pub endpoint: Endpoint,
    /// TLS, if any.
    pub tls: Option<ClientTlsSource>,
    /// The most that a call may take; zero means no limit.
    pub timeout: Duration,
    /// How connections are watched.
    pub keep_alive: KeepAlive,
    /// How calls are spread.
    pub balance: Balance,
}

/// Connections to a server, opened when the first call is made and again as needed.
pub struct Channel {
    shared: Arc<Shared>,
    timeout: Duration,
    manager: OnceLock<AbortHandle>,
}

struct Shared {
    connector: Connector,
    keep_alive: KeepAlive,
    balance: Balance,
    pool: Mutex<Pool>,
    /// Something changed in the pool.
    changed: Notify,
    /// A connection was lost, so that names may have new addresses.
    lost: Notify,
    turn: AtomicUsize,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Pool {
    ready: Vec<Ready>,
    /// Why nothing is ready, once something has been tried.
    failure: Option<String>,
}

/// A connection that takes calls.
#[derive(Clone)]
struct Ready {
    id: u64,
    sender: SendRequest<Framed>,
    /// How many calls are under way.
    active: Arc<AtomicUsize>,
    /// Tells the connection's task that it takes no more.
    gone: Arc<Notify>,
}

/// Why a call has no answer.
enum Lost {
    /// The server has not begun to work on it.
    NotBegun(String),
    /// The server may have worked on it.
    Unknown(String),
    /// The answer is not one that can be read.
    Refused(String),
}

impl Channel {
    /// A channel that connects when it is first used.
    pub fn new(settings: ChannelSettings) -> Self {
        let ChannelSettings {
            endpoint,
            tls,
            timeout,
            keep_alive,
            balance,
        } = settings;
        Self {
            shared: Arc::new(Shared {
                connector: Connector::new(endpoint, tls),
                keep_alive,
                balance,
                pool: Mutex::default(),
                changed: Notify::new(),
                lost: Notify::new(),
                turn: AtomicUsize::new(0),
                next_id: AtomicU64::new(0),
            }),
            timeout,
            manager: OnceLock::new(),
        }
    }

    /// One call: `message` is compressed already if `compressed` says so.
    pub async fn call(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        message: &[Bytes],
        compressed: bool,
    ) -> Result<Answer, Failure> {
        self.manager.get_or_init(|| {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(manage(shared)).abort_handle()
        });
        let limit = match self.timeout.is_zero() {
            true => Duration::MAX,
            false => self.timeout,
        };
        match timeout(limit, self.routed(uri, headers, message, compressed)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::retryable(format!(
                "no answer within {:?}",
                self.timeout
            ))),
        }
    }

    async fn routed(
        &self,
        uri: &Uri,
        headers: HeaderMap,
        message: &[Bytes],
        compressed: bool,
    ) -> Result<Answer, Failure> {
        for attempt in 0.. {
            let ready = self.shared.ready().await.map_err(Failure::retryable)?;
            let mut request = Request::new(());
            *request.method_mut() = Method::POST;
            *request.uri_mut() = uri.clone();
            *request.version_mut() = Version::HTTP_2;
            *request.headers_mut() = headers.clone();
            let body = framed(message, compressed);
            match ask(&ready, request, body).await {
                Ok(answer) => return Ok(answer),
                Err(Lost::NotBegun(reason)) => {
                    self.shared.retire(&ready);
                    if attempt == MAX_REROUTES {
                        return Err(Failure::retryable(reason));
                    }
                }
                Err(Lost::Unknown(reason)) => return Err(Failure::retryable(reason)),
                Err(Lost::Refused(reason)) => return Err(Failure::permanent(reason)),
            }
        }
        Err(Failure::retryable("no connection took the call"))
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(manager) = self.manager.get() {
            manager.abort();
        }
    }
}

impl Shared {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection whose turn it is; waits for the first one to come up.
    async fn ready(&self) -> Result<Ready, String> {
        loop {
            let changed = self.changed.notified();
            {
                let pool = self.pool();
                if !pool.ready.is_empty() {
                    let turn = self.turn.fetch_add(1, Relaxed) % pool.ready.len();
                    return Ok(pool.ready[turn].clone());
                }
                if let Some(failure) = &pool.failure {
                    return Err(failure.clone());
                }
            }
            changed.await;
        }
    }

    fn publish(&self, sender: SendRequest<Framed>) -> Ready {
        let ready = Ready {
            id: self.next_id.fetch_add(1, Relaxed),
            sender,
            active: Arc::default(),
            gone: Arc::default(),
        };
        let mut pool = self.pool();
        pool.ready.push(ready.clone());
        pool.failure = None;
        drop(pool);
        self.changed.notify_waiters();
        ready
    }

    /// Takes a connection out of turn; what runs on it may finish.
    fn retire(&self, ready: &Ready) {
        self.pool().ready.retain(|other| other.id != ready.id);
        ready.gone.notify_one();
    }

    fn fail(&self, reason: String) {
        let mut pool = self.pool();
        if pool.ready.is_empty() {
            pool.failure = Some(reason);
        }
        drop(pool);
        self.changed.notify_waiters();
        self.lost.notify_one();
    }
}

/// Keeps a connection to every address, for as long as the channel lives.
async fn manage(shared: Arc<Shared>) {
    let mut keepers = JoinSet::new();
    let mut kept: HashMap<Vec<Address>, AbortHandle> = HashMap::new();
    let mut pause = FIRST_PAUSE;
    loop {
        let resolved = Instant::now();
        match shared.connector.resolve().await {
            Ok(addresses) => {
                pause = FIRST_PAUSE;
                let groups: Vec<Vec<Address>> = match shared.balance {
                    Balance::PickFirst => vec![addresses],
                    Balance::RoundRobin => addresses.into_iter().map(|a| vec![a]).collect(),
                };
                kept.retain(|group, keeper| {
                    let stays = groups.contains(group);
                    if !stays {
                        keeper.abort();
                    }
                    stays
                });
                for group in groups {
                    let keep = || keepers.spawn(keep(Arc::clone(&shared), group.clone()));
                    kept.entry(group.clone()).or_insert_with(keep);
                }
            }
            Err(reason) => {
                shared.fail(reason);
                sleep(jittered(&mut pause)).await;
            }
        }
        while keepers.try_join_next().is_some() {}
        // A failed connection is a reason to look again, though not at once.
        let _ = timeout(RESOLVE_INTERVAL, shared.lost.notified()).await;
        tokio::time::sleep_until(resolved + RESOLVE_AT_MOST_EVERY).await;
    }
}

/// Takes a connection out of turn when its keeper ends, however that comes about.
struct Published<'s> {
    shared: &'s Shared,
    ready: Ready,
}

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.shared.retire(&self.ready);
    }
}

/// Keeps one connection to the first of these addresses that can be reached.
async fn keep(shared: Arc<Shared>, addresses: Vec<Address>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match open(&shared, &addresses).await {
            Ok((sender, connection)) => {
                pause = FIRST_PAUSE;
                let ready = shared.publish(sender);
                let gone = Arc::clone(&ready.gone);
                let active = Arc::clone(&ready.active);
                // A task of its own, so that calls under way may finish while it is replaced.
                let driven = tokio::spawn(drive(connection, active, shared.keep_alive));
                let published = Published {
                    shared: &shared,
                    ready,
                };
                tokio::select! {
                    _ = driven => {}
                    () = gone.notified() => {}
                }
                drop(published);
                shared.lost.notify_one();
            }
            Err(reason) => {
                shared.fail(reason);
                sleep(jittered(&mut pause)).await;
            }
        }
    }
}

type ClientConnection = h2::client::Connection<Box<dyn Io>, Framed>;

async fn open(
    shared: &Shared,
    addresses: &[Address],
) -> Result<(SendRequest<Framed>, ClientConnection), String> {
    let mut reason = String::new();
    for address in addresses {
        match shared.connector.connect(address).await {
            Ok(io) => {
                let mut builder = h2::client::Builder::new();
                builder.enable_push(false);
                match builder.handshake::<_, Framed>(io).await {
                    Ok(opened) => return Ok(opened),
                    Err(error) => reason = format!("{}: {error}", shared.connector),
                }
            }
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// Moves a connection's frames until it ends or does not answer pings.
async fn drive(mut connection: ClientConnection, active: Arc<AtomicUsize>, keep_alive: KeepAlive) {
    let pings = connection.ping_pong();
    let mut pinger = Pinger::new(pings, keep_alive.interval, keep_alive.timeout);
    let watch = async {
        let wanted = || keep_alive.while_idle || active.load(Relaxed) > 0;
        while pinger.next(wanted).await {}
    };
    tokio::select! {
        ended = &mut connection => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection ended badly");
            }
        }
        () = watch => tracing::debug!("a server does not answer pings"),
    }
}

/// Counts a call as under way for as long as it lives.
struct Active(Arc<AtomicUsize>);

impl Active {
    fn of(ready: &Ready) -> Self {
        ready.active.fetch_add(1, Relaxed);
        Self(Arc::clone(&ready.active))
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A pause of up to a fifth more or less, and a longer one next time.
fn jittered(pause: &mut Duration) -> Duration {
    let now = pause.mul_f64(0.8 + 0.4 * fastrand::f64());
    *pause = pause.mul_f64(PAUSE_FACTOR).min(LONGEST_PAUSE);
    now
}

async fn ask(ready: &Ready, request: Request<()>, body: Framed) -> Result<Answer, Lost> {
    let _active = Active::of(ready);
    let not_begun = |error: h2::Error| Lost::NotBegun(error.to_string());
    let mut sender = ready.sender.clone().ready().await.map_err(not_begun)?;
    let (response, mut stream) = sender.send_request(request, false).map_err(not_begun)?;
    if let Err(error) = stream.send_data(body, true) {
        return Err(sorted(&error));
    }
    let response = response.await.map_err(|error| sorted(&error))?;
    let (head, mut incoming) = response.into_parts();
    let body = whole(&mut incoming).await?;
    let trailers = incoming.trailers().await.map_err(|error| sorted(&error))?;
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        trailers: trailers.unwrap_or_default(),
        body,
    })
}

async fn whole(incoming: &mut RecvStream) -> Result<Bytes, Lost> {
    let mut body = Bytes::new();
    while let Some(data) = incoming.data().await {
        let data = data.map_err(|error| sorted(&error))?;
        if body.len() + data.len() > MAX_RESPONSE_BYTES {
            let text = format!("a response of over {MAX_RESPONSE_BYTES} bytes");
            return Err(Lost::Refused(text));
        }
        // It fails only when the stream is over, and then nobody needs it.
        let _ = incoming.flow_control().release_capacity(data.len());
        body = match body.is_empty() {
            true => data,
            false => [body, data].concat().into(),
        };
    }
    Ok(body)
}

/// Whether the server may have begun to work on a call that ended like this.
fn sorted(error: &h2::Error) -> Lost {
    let refused = error.reason() == Some(Reason::REFUSED_STREAM);
    match error.is_remote() && (error.is_go_away() || refused) {
        true => Lost::NotBegun(error.to_string()),
        false => Lost::Unknown(error.to_string()),
    }
}
