//! Listeners and the connections that come in through them.
//!
//! In: an address, and something that [`Speak`]s a protocol. Out: a [`Server`] at work.
//! Invariant: after `stop` no connection is accepted, and nothing outlives the deadline.

use std::future::Future;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::handover;
use super::tls::ServerTls;
use crate::budget::{Account, Budget};
use crate::component::StartError;

/// What a connection takes by itself, with nothing in flight, in bytes.
pub(super) const CONNECTION_BYTES: usize = 32 << 10;

/// How long a client may take for its TLS handshake or its HTTP/1 headers.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that connections come in through.
#[derive(Debug)]
pub enum Listener {
    /// A TCP port.
    Tcp(TcpListener),
    /// A Unix socket, whose file goes when the listener does.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed at the end.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) enum Socket {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// A protocol that servers speak.
pub(super) trait Speak: Send + Sync + 'static {
    /// Serves one connection until it ends, gracefully once `stop` holds true.
    fn speak<I>(
        self: Arc<Self>,
        io: I,
        account: Arc<Account>,
        stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + Send
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static;
}

/// A listener at work.
#[derive(Debug)]
pub struct Server {
    stopping: watch::Sender<bool>,
    accepting: JoinHandle<JoinSet<()>>,
}

/// Binds `address`; the error names `component` and the address.
pub async fn bind(component: &str, address: &str) -> Result<Listener, StartError> {
    if let Some(listener) = handover::take(address) {
        return Ok(Listener::Tcp(listener));
    }
    // Go reads ":4317" as every address of the machine.
    let bound = match address.strip_prefix(':') {
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
        None => TcpListener::bind(address).await,
    };
    let listener = bound.map_err(|error| cannot_listen(component, address, &error))?;
    handover::keep(address, &listener);
    Ok(Listener::Tcp(listener))
}

/// Binds a Unix socket at `path`, in place of one that nobody listens on any more.
pub async fn bind_unix(component: &str, path: &str) -> Result<Listener, StartError> {
    let file = Path::new(path);
    let bound = match UnixListener::bind(file) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(file).await {
                Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(file).and_then(|()| UnixListener::bind(file))
                }
                _ => Err(error),
            }
        }
        bound => bound,
    };
    bound
        .map(|listener| Listener::Unix(listener, SocketFile(file.to_owned())))
        .map_err(|error| cannot_listen(component, path, &error))
}

fn cannot_listen(component: &str, address: &str, error: &io::Error) -> StartError {
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => "the address is in use by another process".to_owned(),
        _ => error.to_string(),
    };
    StartError {
        component: component.to_owned(),
        message: format!("cannot listen on {address}: {why}"),
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Only latency is lost when this fails.
                let _ = stream.set_nodelay(true);
                Ok(Socket::Tcp(stream))
            }
            Self::Unix(listener, _) => Ok(Socket::Unix(listener.accept().await?.0)),
        }
    }
}

/// Accepts connections and speaks with them.
pub(super) fn start<S: Speak>(
    listener: Listener,
    tls: Option<ServerTls>,
    budget: Arc<Budget>,
    protocol: S,
) -> Server {
    let (stopping, stop) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, tls, budget, Arc::new(protocol), stop));
    Server {
        stopping,
        accepting,
    }
}

impl Server {
    /// Stops as the module says; what is not done by the deadline is cut off.
    pub async fn stop(self, deadline: Instant) {
        // Without a receiver there is nothing left to stop.
        let _ = self.stopping.send(true);
        let Ok(mut connections) = self.accepting.await else {
            return;
        };
        while let Ok(Some(_)) = timeout_at(deadline, connections.join_next()).await {}
        let cut = connections.len();
        if cut > 0 {
            tracing::warn!(
                connections = cut,
                "connections were cut off at the shutdown deadline"
            );
        }
        connections.shutdown().await;
    }
}

async fn accept<S: Speak>(
    listener: Listener,
    tls: Option<ServerTls>,
    budget: Arc<Budget>,
    protocol: Arc<S>,
    mut stop: watch::Receiver<bool>,
) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    let mut is_refusing = false;
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => break,
        };
        let socket = match accepted {
            Ok(socket) => socket,
            Err(error) => {
                // Out of file descriptors, most likely: others must close first.
                if !std::mem::replace(&mut is_refusing, true) {
                    tracing::warn!(%error, "connections cannot be accepted");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Some(own) = budget.connection(CONNECTION_BYTES) else {
            if !std::mem::replace(&mut is_refusing, true) {
                let (open, limit) = (connections.len(), budget.limit());
                tracing::warn!(
                    open,
                    limit_bytes = limit,
                    "connections take half of the memory that telemetry may take: new ones are \
                     closed until others end"
                );
            }
            continue;
        };
        is_refusing = false;
        let (tls, protocol, stop) = (tls.clone(), Arc::clone(&protocol), stop.clone());
        connections.spawn(async move {
            let account = Arc::clone(own.account());
            connection(socket, tls, protocol, account, stop).await;
            drop(own);
        });
    }
    connections
}

async fn connection<S: Speak>(
    socket: Socket,
    tls: Option<ServerTls>,
    protocol: Arc<S>,
    account: Arc<Account>,
    stop: watch::Receiver<bool>,
) {
    let Some(tls) = tls else {
        return protocol.speak(socket, account, stop).await;
    };
    let handshake = TlsAcceptor::from(tls.current()).accept(socket);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(stream)) => protocol.speak(stream, account, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Calls the method of whichever stream it is.
macro_rules! of_either {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            Socket::Unix($stream) => $call,
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        of_either!(self, stream => stream.is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        of_either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(context))
    }
}
