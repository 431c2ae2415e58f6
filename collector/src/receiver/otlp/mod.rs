//! The `otlp` receiver: OTLP over gRPC and over HTTP.
//!
//! In: export requests, protobuf or JSON, perhaps compressed. Out: validated requests.
//! Invariant: the answer says what became of the request: taken, refused for now, or for good.

mod config;
mod grpc;
mod http;

use std::sync::Arc;

use collector_otlp::{Request, Signal};
use hyper::header::{HeaderMap, HeaderValue};
use tokio::time::Instant;

use crate::authentication::CheckRequest;
use crate::batch::{Batch, Metadata};
use crate::budget::Reservation;
use crate::component::{
    BuildReceiver, ComponentId, Context, Failure, Kind, Outputs, RunningReceiver, StartError, Task,
};
use crate::network::grpc::GrpcSettings;
use crate::network::tls::{ServerTls, ServerTlsSettings};
use crate::network::{self, Protocol, Server, ServerSettings};
use crate::telemetry::{DurationHistogram, LATENCY_BOUNDS, SignalCounters};
pub use config::{Config, Cors, Grpc, Http, Transport};
pub use grpc::path as export_path;

/// The row of this component.
pub const KIND: Kind<dyn BuildReceiver> = Kind {
    name: "otlp",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

/// What both protocols share: where requests go, and how they are counted.
struct Intake {
    outputs: Outputs,
    accepted: SignalCounters,
    refused: SignalCounters,
    /// How long senders wait for their answer.
    latency: DurationHistogram,
    include_metadata: bool,
    /// What checks requests, if anything.
    check: Option<Arc<dyn CheckRequest>>,
}

impl Intake {
    fn of(
        context: &Context,
        outputs: &Outputs,
        transport: &str,
        include_metadata: bool,
        auth: Option<&ComponentId>,
    ) -> Result<Arc<Self>, StartError> {
        let component = format!("receivers::{}", context.id);
        let check = context.authenticators.incoming(&component, auth)?;
        let id = context.id.to_string();
        let labels = [("receiver", id.as_str()), ("transport", transport)];
        let used: Vec<Signal> = Signal::ALL
            .into_iter()
            .filter(|signal| outputs.takes(*signal))
            .collect();
        let counters = |prefix: &str, help| {
            SignalCounters::register(&context.registry, prefix, help, &labels, &used)
        };
        Ok(Arc::new(Self {
            outputs: outputs.clone(),
            accepted: counters(
                "otelcol_receiver_accepted",
                "Items successfully pushed into the pipeline",
            ),
            refused: counters(
                "otelcol_receiver_refused",
                "Items that could not be pushed into the pipeline",
            ),
            latency: context.registry.durations(
                "otelcol_receiver_acknowledgement_duration_seconds",
                "Time from a request that has been read to its answer",
                &labels,
                LATENCY_BOUNDS,
            ),
            include_metadata,
            check,
        }))
    }

    /// Hands a request to the pipelines, and counts.
    async fn take(
        &self,
        request: Request,
        headers: &HeaderMap,
        reservation: Reservation,
    ) -> Result<(), Failure> {
        let (signal, items) = (request.signal(), request.items());
        if items == 0 {
            return Ok(());
        }
        let metadata = match self.include_metadata {
            true => metadata(headers),
            false => Metadata::default(),
        };
        let batch = Batch {
            metadata,
            reservation,
            ..Batch::from(request)
        };
        let started = std::time::Instant::now();
        let result = self.outputs.send(batch).await;
        self.latency.record(started.elapsed());
        match result {
            Ok(()) => self.accepted.add(signal, items),
            Err(_) => self.refused.add(signal, items),
        }
        result
    }
}

/// A request's headers as metadata; what is not text stays out.
fn metadata(headers: &HeaderMap) -> Metadata {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let entries = headers.iter();
    Metadata::new(
        entries
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
            .collect(),
    )
}

impl BuildReceiver for Config {
    fn start(
        self: Box<Self>,
        context: Context,
        outputs: Outputs,
    ) -> Task<'static, Result<Box<dyn RunningReceiver>, StartError>> {
        Box::pin(async move {
            let mut servers = Vec::new();
            if let Some(config) = self.grpc {
                servers.push(start_grpc(config, &context, &outputs).await?);
            }
            if let Some(config) = self.http {
                servers.push(start_http(config, &context, &outputs).await?);
            }
            Ok(Box::new(Running { servers }) as Box<dyn RunningReceiver>)
        })
    }
}

async fn start_grpc(
    config: Grpc,
    context: &Context,
    outputs: &Outputs,
) -> Result<Server, StartError> {
    let component = format!("receivers::{}", context.id);
    let tls = start_tls(config.tls.as_ref(), &["h2"], &component)?;
    let listener = match config.transport {
        Transport::Tcp => network::bind(&component, &config.endpoint).await?,
        Transport::Unix => network::bind_unix(&component, &config.endpoint).await?,
    };
    let (metadata, auth) = (config.include_metadata, config.auth.as_ref());
    let intake = Intake::of(context, outputs, "grpc", metadata, auth)?;
    let settings = GrpcSettings {
        tls,
        max_concurrent_streams: config.max_concurrent_streams,
        keep_alive: config.keep_alive,
        budget: Arc::clone(&context.budget),
    };
    tracing::info!(receiver = %context.id, endpoint = %config.endpoint, "receiving OTLP over gRPC");
    let limit = config.max_message_bytes;
    Ok(network::grpc::serve(listener, settings, move |call| {
        let intake = Arc::clone(&intake);
        async move { grpc::answer(call, &intake, limit).await }
    }))
}

async fn start_http(
    config: Http,
    context: &Context,
    outputs: &Outputs,
) -> Result<Server, StartError> {
    let component = format!("receivers::{}", context.id);
    let tls = start_tls(config.tls.as_ref(), &["h2", "http/1.1"], &component)?;
    let listener = match config.transport {
        Transport::Tcp => network::bind(&component, &config.endpoint).await?,
        Transport::Unix => network::bind_unix(&component, &config.endpoint).await?,
    };
    let (metadata, auth) = (config.include_metadata, config.auth.as_ref());
    let intake = Intake::of(context, outputs, "http", metadata, auth)?;
    let settings = ServerSettings {
        tls,
        read_header_timeout: config.read_header_timeout,
        keep_alive: config.keep_alive,
        budget: Arc::clone(&context.budget),
        ..ServerSettings::of(Protocol::Http)
    };
    tracing::info!(receiver = %context.id, endpoint = %config.endpoint, "receiving OTLP over HTTP");
    let config = Arc::new(config);
    Ok(network::serve(listener, settings, move |request| {
        let (intake, config) = (Arc::clone(&intake), Arc::clone(&config));
        async move { http::answer(request, &intake, &config).await }
    }))
}

fn start_tls(
    settings: Option<&ServerTlsSettings>,
    alpn: &[&str],
    component: &str,
) -> Result<Option<ServerTls>, StartError> {
    let started = settings.map(|settings| settings.start(alpn)).transpose();
    started.map_err(|message| StartError {
        component: component.to_owned(),
        message,
    })
}

struct Running {
    servers: Vec<Server>,
}

impl RunningReceiver for Running {
    fn stop(self: Box<Self>, deadline: Instant) -> Task<'static, ()> {
        Box::pin(async move {
            let stops: Vec<_> = self
                .servers
                .into_iter()
                .map(|s| tokio::spawn(s.stop(deadline)))
                .collect();
            for stop in stops {
                // A listener that panicked has stopped as well.
                let _ = stop.await;
            }
        })
    }
}
