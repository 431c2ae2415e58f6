//! How a gRPC client reaches its server: names, sockets, proxies and TLS.
//!
//! In: an endpoint. Out: addresses, and byte streams to them.
//! Invariant: nothing is sent in plain text to an endpoint that asks for TLS.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::network::listen::Socket;
use crate::network::tls::ClientTlsSource;

/// How long a connection may take to come up, with proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest answer of a proxy that is read, in bytes.
const MAX_PROXY_ANSWER_BYTES: usize = 8 << 10;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or an address, and a port.
    Tcp {
        /// The host, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// One address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// The endpoint itself, which a proxy resolves.
    Proxied,
}

/// A byte stream to a server.
pub(super) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Reaches one endpoint.
#[derive(Debug)]
pub(super) struct Connector {
    endpoint: Endpoint,
    proxy: Option<Intercept>,
    tls: Option<ClientTlsSource>,
}

impl Connector {
    /// Looks into the environment for a proxy.
    pub(super) fn new(endpoint: Endpoint, tls: Option<ClientTlsSource>) -> Self {
        let proxy = match &endpoint {
            Endpoint::Tcp { host, port } if !is_loopback(host) => {
                // Like grpc-go, gRPC asks for the proxy of https, with or without TLS.
                let url = format!("https://{}:{port}/", bracketed(host)).parse::<Uri>();
                url.ok().and_then(|url| Matcher::from_env().intercept(&url))
            }
            _ => None,
        };
        Self {
            endpoint,
            proxy,
            tls,
        }
    }

    /// Every address of the endpoint.
    pub(super) async fn resolve(&self) -> Result<Vec<Address>, String> {
        let (host, port) = match &self.endpoint {
            Endpoint::Unix(path) => return Ok(vec![Address::Unix(path.clone())]),
            Endpoint::Tcp { .. } if self.proxy.is_some() => return Ok(vec![Address::Proxied]),
            Endpoint::Tcp { host, port } => (host, *port),
        };
        let found = tokio::net::lookup_host((host.as_str(), port)).await;
        let mut addresses: Vec<_> = found
            .map_err(|error| format!("cannot resolve {host}: {error}"))?
            .map(Address::Tcp)
            .collect();
        addresses.dedup();
        match addresses.is_empty() {
            true => Err(format!("{host} has no address")),
            false => Ok(addresses),
        }
    }

    /// Connects to one address.
    pub(super) async fn connect(&self, address: &Address) -> Result<Box<dyn Io>, String> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.open(address)).await {
            Ok(opened) => opened.map_err(|error| format!("cannot connect to {self}: {error}")),
            Err(_) => Err(format!(
                "cannot connect to {self} within {CONNECT_TIMEOUT:?}"
            )),
        }
    }

    async fn open(&self, address: &Address) -> io::Result<Box<dyn Io>> {
        let socket = match address {
            Address::Unix(path) => Socket::Unix(UnixStream::connect(path).await?),
            Address::Tcp(address) => Socket::Tcp(TcpStream::connect(address).await?),
            Address::Proxied => self.tunnel().await?,
        };
        if let Socket::Tcp(stream) = &socket {
            stream.set_nodelay(true)?;
        }
        let Some(tls) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = match (&tls.server_name, &self.endpoint) {
            (Some(name), _) => name.clone(),
            (None, Endpoint::Tcp { host, .. }) => host.clone(),
            (None, Endpoint::Unix(_)) => "localhost".to_owned(),
        };
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let mut config = (*tls.current()).clone();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        Ok(Box::new(connector.connect(name, socket).await?))
    }

    /// A connection through the proxy, by CONNECT.
    async fn tunnel(&self) -> io::Result<Socket> {
        let (Some(proxy), Endpoint::Tcp { host, port }) = (&self.proxy, &self.endpoint) else {
            return Err(io::Error::other("there is no proxy"));
        };
        let uri = proxy.uri();
        let proxy_host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let proxy_port = uri.port_u16().unwrap_or(80);
        let mut stream = TcpStream::connect((proxy_host, proxy_port)).await?;
        let target = format!("{}:{port}", bracketed(host));
        let mut request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").into_bytes();
        if let Some(authorization) = proxy.basic_auth() {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(authorization.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            if answer.len() == MAX_PROXY_ANSWER_BYTES {
                return Err(io::Error::other("the proxy's answer is too long"));
            }
            answer.push(stream.read_u8().await?);
        }
        let line = answer.split(|byte| *byte == b'\r').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        match line.split(' ').nth(1) {
            Some("200") => Ok(Socket::Tcp(stream)),
            _ => Err(io::Error::other(format!(
                "the proxy {proxy_host}:{proxy_port} says {line:?}"
            ))),
        }
    }
}

impl std::fmt::Display for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port } => write!(formatter, "{}:{port}", bracketed(host)),
            Endpoint::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Whether Go's clients would go around a proxy without being told.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn bracketed(host: &str) -> String {
    match host.contains(':') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    }
}
