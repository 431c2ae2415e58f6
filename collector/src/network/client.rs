//! The HTTP client of exporters.
//!
//! In: a whole request. Out: a whole response, trailers too, or a retryable failure.
//! Invariant: a call ends by its timeout, and the next one connects again when it must.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{HeaderMap, HeaderValue, PROXY_AUTHORIZATION};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::Protocol;
use super::forward_proxy::ForwardProxy;
use super::grpc::KeepAlive;
use super::grpc::channel::is_loopback;
use super::tls::ClientTlsSource;
use crate::component::Failure;

/// The longest response that a client reads.
pub const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// How long a connection may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How a client works.
#[derive(Debug)]
pub struct HttpClientSettings {
    /// What it speaks.
    pub protocol: Protocol,
    /// How it verifies servers.
    pub tls: ClientTlsSource,
    /// The most that a call may take; zero means no limit.
    pub timeout: Duration,
    /// How HTTP/2 connections are watched.
    pub keep_alive: KeepAlive,
    /// A proxy for everything, in place of what the environment says.
    pub proxy: Option<String>,
}

/// Connections to one or more servers, kept open and opened again as needed.
pub struct HttpClient {
    settings: HttpClientSettings,
    proxies: Matcher,
    pools: Mutex<Pools>,
}

/// The connections of one TLS configuration: when that changes, new ones take their place.
#[derive(Default)]
struct Pools {
    tls: Option<Arc<ClientConfig>>,
    pools: Vec<(Option<Way>, Pool)>,
}

/// A proxy, and whether it tunnels.
#[derive(PartialEq)]
struct Way {
    proxy: Uri,
    tunnels: bool,
}

/// Connections: direct, through a tunnel, or with a proxy that passes requests on.
#[derive(Clone)]
enum Pool {
    Direct(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Tunneled(Client<HttpsConnector<Tunnel<HttpConnector>>, Full<Bytes>>),
    Forwarded(Client<ForwardProxy, Full<Bytes>>, Option<HeaderValue>),
}

/// A response, whole.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// What came after the body.
    pub trailers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl HttpClient {
    /// A client that connects when it is first used.
    pub fn new(settings: HttpClientSettings) -> Self {
        let proxies = match &settings.proxy {
            Some(proxy) => Matcher::builder().all(proxy.as_str()).build(),
            None => Matcher::from_env(),
        };
        Self {
            settings,
            proxies,
            pools: Mutex::default(),
        }
    }

    /// Sends a request and reads the response.
    pub async fn call(&self, request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let timeout = match self.settings.timeout.is_zero() {
            true => Duration::MAX,
            false => self.settings.timeout,
        };
        match tokio::time::timeout(timeout, self.attempt(request)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::retryable(format!(
                "no answer within {:?}",
                self.settings.timeout
            ))),
        }
    }

    async fn attempt(&self, mut request: Request<Full<Bytes>>) -> Result<Answer, Failure> {
        let response = match self.pool(request.uri())? {
            Pool::Direct(client) => client.request(request).await,
            Pool::Tunneled(client) => client.request(request).await,
            Pool::Forwarded(client, authorization) => {
                if let Some(authorization) = authorization {
                    let headers = request.headers_mut();
                    headers.insert(PROXY_AUTHORIZATION, authorization);
                }
                client.request(request).await
            }
        };
        let (head, mut body) = response.map_err(|error| broken(&error))?.into_parts();
        let mut read = Vec::new();
        let mut trailers = HeaderMap::new();
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| broken(&error))?.into_data() {
                Ok(data) if read.len() + data.len() > MAX_RESPONSE_BYTES => {
                    let limit = MAX_RESPONSE_BYTES;
                    return Err(Failure::permanent(format!(
                        "a response of over {limit} bytes"
                    )));
                }
                Ok(data) => read.extend_from_slice(&data),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        let mut answer = Response::from_parts(head, ());
        Ok(Answer {
            status: answer.status(),
            headers: std::mem::take(answer.headers_mut()),
            trailers,
            body: read.into(),
        })
    }

    /// The connections for a URL: by the newest certificates, and by its proxy.
    fn pool(&self, uri: &Uri) -> Result<Pool, Failure> {
        let local = self.settings.proxy.is_none() && uri.host().is_some_and(is_loopback);
        let proxy = match local {
            true => None,
            false => self.proxies.intercept(uri),
        };
        // Telemetry over HTTP/1 without TLS needs no tunnel.
        let is_plain = uri.scheme() == Some(&Scheme::HTTP);
        let tunnels = !is_plain || self.settings.protocol == Protocol::Grpc;
        let way = proxy.as_ref().map(|proxy| Way {
            proxy: proxy.uri().clone(),
            tunnels,
        });
        let tls = self.settings.tls.current();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if !pools
            .tls
            .as_ref()
            .is_some_and(|used| Arc::ptr_eq(used, &tls))
        {
            pools.pools.clear();
            pools.tls = Some(Arc::clone(&tls));
        }
        if let Some((_, pool)) = pools.pools.iter().find(|(of, _)| *of == way) {
            return Ok(pool.clone());
        }
        let pool = self.connect(&tls, proxy, tunnels)?;
        pools.pools.push((way, pool.clone()));
        Ok(pool)
    }

    fn connect(
        &self,
        tls: &ClientConfig,
        proxy: Option<Intercept>,
        tunnels: bool,
    ) -> Result<Pool, Failure> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let builder = HttpsConnectorBuilder::new()
            .with_tls_config(tls.clone())
            .https_or_http();
        let builder = match &self.settings.tls.server_name {
            None => builder,
            Some(name) => {
                let name = ServerName::try_from(name.clone()).map_err(|error| {
                    Failure::permanent(format!("server_name_override: {error}"))
                })?;
                builder.with_server_name_resolver(FixedServerNameResolver::new(name))
            }
        };
        let builder = match self.settings.protocol {
            Protocol::Grpc => builder.enable_http2(),
            Protocol::Http => builder.enable_all_versions(),
        };
        let pools = self.pool_settings();
        Ok(match proxy {
            None => Pool::Direct(pools.build(builder.wrap_connector(connector))),
            Some(proxy) if !tunnels => {
                let authorization = proxy.basic_auth().cloned();
                let proxy = proxy.uri().clone();
                Pool::Forwarded(
                    pools.build(ForwardProxy { proxy, connector }),
                    authorization,
                )
            }
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), connector);
                if let Some(authorization) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(authorization.clone());
                }
                Pool::Tunneled(pools.build(builder.wrap_connector(tunnel)))
            }
        })
    }

    fn pool_settings(&self) -> hyper_util::client::legacy::Builder {
        let keep_alive = self.settings.keep_alive;
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .http2_only(self.settings.protocol == Protocol::Grpc)
            .http2_keep_alive_interval(Some(keep_alive.interval).filter(|time| !time.is_zero()))
            .http2_keep_alive_timeout(keep_alive.timeout)
            .http2_keep_alive_while_idle(keep_alive.while_idle)
            .http2_initial_connection_window_size(1 << 20);
        builder
    }
}

/// A failure whose text names the innermost cause, which is the one that helps.
fn broken(error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    Failure::retryable(text)
}
