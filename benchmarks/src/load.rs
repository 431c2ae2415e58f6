//! The load: requests that were encoded before, sent at an offered rate or as fast as answered.
//!
//! In: a [`Plan`]. Out: an [`Outcome`].
//! Invariant: with an offered rate, the time of a send counts from when it was due, whether or
//! not an earlier one held it up; without one, there are always `in_flight` calls open.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use collector_otlp::Signal;
use futures_util::future::join_all;
use h2::client::SendRequest;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderValue, TE};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::payload::{self, Content};
use crate::wire::{self, Encoding, Protocol};

/// How long one send may take; SDKs give up after ten seconds too.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a sender waits after a refusal.
const PAUSE: Duration = Duration::from_millis(20);

/// The items of requests, in the order in which they are sent.
const SIZES: [usize; 2] = [512, 1000];

/// How many sends may be due and not answered, at an offered rate.
const MAX_OUTSTANDING: usize = 2000;

/// A request that is ready to be sent.
pub struct Prepared {
    body: Bytes,
    /// Spans, log records or data points.
    pub items: u64,
}

/// What is sent, how and where to.
#[derive(Clone)]
pub struct Plan {
    /// The subject.
    pub target: SocketAddr,
    /// What carries the requests.
    pub protocol: Protocol,
    /// How they are compressed.
    pub encoding: Encoding,
    /// What they hold.
    pub signal: Signal,
    /// The requests, sent in turn.
    pub requests: Rc<Vec<Prepared>>,
    /// Connections that stay open.
    pub connections: usize,
    /// Calls that are open at a time, when there is no offered rate.
    pub in_flight: usize,
}

/// When sends are due.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// As soon as one before is answered.
    Saturation,
    /// So many requests a second.
    Offered(f64),
}

/// What came of the load.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests that were accepted.
    pub accepted_requests: u64,
    /// Items that were accepted.
    pub accepted_items: u64,
    /// Bytes of bodies that were accepted.
    pub accepted_bytes: u64,
    /// Requests that were refused with a status.
    pub refused: u64,
    /// Requests without an answer.
    pub failed: u64,
    /// How long each accepted send took.
    pub latencies: Vec<Duration>,
}

/// Encodes `count` requests.
pub fn prepare(
    signal: Signal,
    protocol: Protocol,
    encoding: Encoding,
    content: Content,
    count: usize,
) -> anyhow::Result<Vec<Prepared>> {
    let one = |index: usize| {
        let items = SIZES[index % SIZES.len()];
        let request = payload::request(signal, items, content, index as u64 + 1);
        let encoded = encoding.encode(&request)?;
        let body = match protocol {
            Protocol::Grpc => wire::frame(&encoded, encoding),
            Protocol::Http => encoded.into(),
        };
        let items = items as u64;
        Ok(Prepared { body, items })
    };
    (0..count).map(one).collect()
}

/// Sends for `duration`, and waits for the last answers.
pub async fn run(plan: &Plan, pace: Pace, duration: Duration) -> anyhow::Result<Outcome> {
    let load = Rc::new(Load {
        plan: plan.clone(),
        next: Cell::new(0),
        outcome: RefCell::default(),
    });
    let connect = (0..plan.connections).map(|_| Connection::open(plan));
    let connections: Vec<Connection> = join_all(connect)
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let end = Instant::now() + duration;
    match pace {
        Pace::Saturation => saturate(&load, &connections, end).await,
        Pace::Offered(rate) => offer(&load, &connections, rate, end).await,
    }
    Ok(load.outcome.take())
}

async fn saturate(load: &Rc<Load>, connections: &[Connection], end: Instant) {
    let senders = (0..load.plan.in_flight).map(|index| {
        let connection = connections[index % connections.len()].clone();
        let load = Rc::clone(load);
        spawn_local(async move {
            while Instant::now() < end {
                if !load.send(&connection, Instant::now()).await {
                    sleep(PAUSE).await;
                }
            }
        })
    });
    join_all(senders.collect::<Vec<_>>()).await;
}

async fn offer(load: &Rc<Load>, connections: &[Connection], rate: f64, end: Instant) {
    let start = Instant::now();
    let outstanding = Arc::new(Semaphore::new(MAX_OUTSTANDING));
    let mut sends = Vec::new();
    for index in 0.. {
        let due = start + Duration::from_secs_f64(f64::from(index) / rate);
        if due >= end {
            break;
        }
        sleep_until(due).await;
        let Ok(permit) = Arc::clone(&outstanding).acquire_owned().await else {
            break;
        };
        let connection = connections[index as usize % connections.len()].clone();
        let load = Rc::clone(load);
        sends.push(spawn_local(async move {
            load.send(&connection, due).await;
            drop(permit);
        }));
    }
    join_all(sends).await;
}

struct Load {
    plan: Plan,
    next: Cell<usize>,
    outcome: RefCell<Outcome>,
}

impl Load {
    /// Sends the next request; false when the subject would not have it.
    async fn send(&self, connection: &Connection, due: Instant) -> bool {
        let index = self.next.get();
        self.next.set(index + 1);
        let request = &self.plan.requests[index % self.plan.requests.len()];
        let answered = timeout(DEADLINE, connection.send(&self.plan, request.body.clone())).await;
        let mut outcome = self.outcome.borrow_mut();
        match answered {
            Ok(Ok(true)) => {
                outcome.accepted_requests += 1;
                outcome.accepted_items += request.items;
                outcome.accepted_bytes += request.body.len() as u64;
                outcome.latencies.push(due.elapsed());
                return true;
            }
            Ok(Ok(false)) => outcome.refused += 1,
            Ok(Err(_)) | Err(_) => outcome.failed += 1,
        }
        false
    }
}

/// An open connection to the subject.
#[derive(Clone)]
enum Connection {
    Grpc(SendRequest<Bytes>),
    /// HTTP/1.1 carries one request at a time.
    Http(Rc<Mutex<hyper::client::conn::http1::SendRequest<Full<Bytes>>>>),
}

impl Connection {
    async fn open(plan: &Plan) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(plan.target)
            .await
            .context("the subject does not take connections")?;
        stream.set_nodelay(true)?;
        match plan.protocol {
            Protocol::Grpc => {
                let (sender, connection) = h2::client::handshake(stream).await?;
                spawn_local(connection);
                Ok(Self::Grpc(sender))
            }
            Protocol::Http => {
                let io = TokioIo::new(stream);
                let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
                spawn_local(connection);
                Ok(Self::Http(Rc::new(Mutex::new(sender))))
            }
        }
    }

    /// Sends one request; whether it was accepted.
    async fn send(&self, plan: &Plan, body: Bytes) -> anyhow::Result<bool> {
        match self {
            Self::Grpc(sender) => send_grpc(sender.clone(), plan, body).await,
            Self::Http(sender) => {
                let mut sender = sender.lock().await;
                sender.ready().await?;
                let response = sender.send_request(http_request(plan, body)).await?;
                let accepted = response.status() == StatusCode::OK;
                response.into_body().collect().await?;
                Ok(accepted)
            }
        }
    }
}

async fn send_grpc(sender: SendRequest<Bytes>, plan: &Plan, body: Bytes) -> anyhow::Result<bool> {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    let path = wire::path(plan.signal, Protocol::Grpc);
    *request.uri_mut() = format!("http://{}{path}", plan.target).parse()?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if plan.encoding != Encoding::None {
        let encoding = HeaderValue::from_static(plan.encoding.name());
        headers.insert("grpc-encoding", encoding);
    }
    let (answer, mut stream) = sender.ready().await?.send_request(request, false)?;
    stream.send_data(body, true)?;
    let answer = answer.await?;
    let early = answer.headers().get("grpc-status").cloned();
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    let late = body.trailers().await?;
    let late = late.and_then(|trailers| trailers.get("grpc-status").cloned());
    Ok(early.or(late).is_some_and(|status| status == "0"))
}

fn http_request(plan: &Plan, body: Bytes) -> Request<Full<Bytes>> {
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    let path = wire::path(plan.signal, Protocol::Http);
    *request.uri_mut() = hyper::Uri::from_static(path);
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::from_static("127.0.0.1"));
    headers.insert(CONTENT_LENGTH, length);
    let kind = HeaderValue::from_static("application/x-protobuf");
    headers.insert(CONTENT_TYPE, kind);
    if plan.encoding != Encoding::None {
        let encoding = HeaderValue::from_static(plan.encoding.name());
        headers.insert(CONTENT_ENCODING, encoding);
    }
    request
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;

    use super::*;
    use crate::floor;
    use crate::sink::Sink;

    #[test]
    fn what_the_load_sends_through_the_floor_arrives_at_the_sink() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let all = async {
            for protocol in [Protocol::Grpc, Protocol::Http] {
                for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
                    arrives(protocol, encoding).await;
                }
            }
        };
        LocalSet::new().block_on(&runtime, all);
    }

    async fn arrives(protocol: Protocol, encoding: Encoding) {
        let sink = Sink::start().await.unwrap();
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = free.local_addr().unwrap();
        drop(free);
        let onward = match protocol {
            Protocol::Grpc => sink.grpc,
            Protocol::Http => sink.http,
        };
        spawn_local(floor::serve(protocol, target, onward));
        while TcpStream::connect(target).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
        let (signal, content) = (Signal::Metrics, Content::Realistic);
        let requests = prepare(signal, protocol, encoding, content, 2).unwrap();
        let plan = Plan {
            target,
            protocol,
            encoding,
            signal,
            requests: Rc::new(requests),
            connections: 4,
            in_flight: 4,
        };
        let mut sent = (0, 0, 0);
        for pace in [Pace::Saturation, Pace::Offered(50.0)] {
            let duration = Duration::from_millis(100);
            let outcome = run(&plan, pace, duration).await.unwrap();
            assert_eq!((outcome.refused, outcome.failed), (0, 0));
            assert!(outcome.accepted_requests > 1);
            sent.0 += outcome.accepted_requests;
            sent.1 += outcome.accepted_bytes;
            sent.2 += outcome.accepted_items;
        }
        let totals = sink.totals();
        assert_eq!((totals.requests, totals.bytes, totals.items), sent);
        assert_eq!(totals.unreadable, 0);
    }
}
