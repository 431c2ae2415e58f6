//! The `otlp` receiver: OTLP over gRPC and over HTTP.
//!
//! In: export requests, protobuf or JSON, perhaps gzip. Out: validated requests.
//! Invariant: the answer says what became of the request: taken, refused for now, or for good.

mod config;
mod grpc;
mod http;

use std::sync::Arc;

use collector_otlp::{Request, Signal};
use tokio::time::Instant;

use crate::component::{
    BuildReceiver, Context, Failure, Kind, Outputs, RunningReceiver, StartError, Task,
};
use crate::network::{self, Protocol, Server, ServerSettings, tls};
use crate::telemetry::SignalCounters;
pub use config::{Config, Cors, Grpc, Http};
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
}

impl Intake {
    fn of(context: &Context, outputs: &Outputs, transport: &str) -> Arc<Self> {
        let id = context.id.to_string();
        let labels = [("receiver", id.as_str()), ("transport", transport)];
        let used: Vec<Signal> = Signal::ALL
            .into_iter()
            .filter(|signal| outputs.takes(*signal))
            .collect();
        let counters = |prefix: &str, help| {
            SignalCounters::register(&context.registry, prefix, help, &labels, &used)
        };
        Arc::new(Self {
            outputs: outputs.clone(),
            accepted: counters(
                "otelcol_receiver_accepted",
                "Items successfully pushed into the pipeline",
            ),
            refused: counters(
                "otelcol_receiver_refused",
                "Items that could not be pushed into the pipeline",
            ),
        })
    }

    /// Hands a request to the pipelines, and counts.
    async fn take(&self, request: Request) -> Result<(), Failure> {
        let (signal, items) = (request.signal(), request.items());
        if items == 0 {
            return Ok(());
        }
        let result = self.outputs.send(request.into()).await;
        match result {
            Ok(()) => self.accepted.add(signal, items),
            Err(_) => self.refused.add(signal, items),
        }
        result
    }
}

impl BuildReceiver for Config {
    fn start(
        self: Box<Self>,
        context: Context,
        outputs: Outputs,
    ) -> Task<'static, Result<Box<dyn RunningReceiver>, StartError>> {
        Box::pin(async move {
            let component = format!("receivers::{}", context.id);
            let acceptor = |identity: &Option<tls::Identity>, alpn: &[&str]| {
                let configure = |own| tls::server_config(own, alpn);
                identity
                    .as_ref()
                    .map(configure)
                    .transpose()
                    .map_err(|message| StartError {
                        component: component.clone(),
                        message,
                    })
            };
            let mut servers = Vec::new();
            if let Some(config) = self.grpc {
                let tls = acceptor(&config.tls, &["h2"])?;
                let listener = network::bind(&component, &config.endpoint).await?;
                let intake = Intake::of(&context, &outputs, "grpc");
                let settings = ServerSettings {
                    protocol: Protocol::Grpc,
                    tls,
                    max_concurrent_streams: Some(config.max_concurrent_streams),
                };
                tracing::info!(receiver = %context.id, endpoint = %config.endpoint, "receiving OTLP over gRPC");
                let limit = config.max_message_bytes;
                servers.push(network::serve(listener, settings, move |request| {
                    let intake = Arc::clone(&intake);
                    async move { grpc::answer(request, &intake, limit).await }
                }));
            }
            if let Some(config) = self.http {
                let tls = acceptor(&config.tls, &["h2", "http/1.1"])?;
                let listener = network::bind(&component, &config.endpoint).await?;
                let intake = Intake::of(&context, &outputs, "http");
                let settings = ServerSettings {
                    tls,
                    ..ServerSettings::of(Protocol::Http)
                };
                tracing::info!(receiver = %context.id, endpoint = %config.endpoint, "receiving OTLP over HTTP");
                let config = Arc::new(config);
                servers.push(network::serve(listener, settings, move |request| {
                    let (intake, config) = (Arc::clone(&intake), Arc::clone(&config));
                    async move { http::answer(request, &intake, &config).await }
                }));
            }
            Ok(Box::new(Running { servers }) as Box<dyn RunningReceiver>)
        })
    }
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
