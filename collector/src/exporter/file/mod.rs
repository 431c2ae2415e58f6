//! The `file` exporter: batches to a file.
//!
//! In: a batch. Out: one line of JSON, or one frame of protobuf.
//! Invariant: a batch is taken whole or refused; a reader sees it within `flush_interval`, and on
//! shutdown it is on the disk.

mod config;
mod target;
mod writer;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use collector_otlp::Request;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::batch::Batch;
use crate::component::{
    BuildExporter, BuiltExporter, Context, Exporter, Failure, Kind, StartError, Task,
};
use crate::pipeline::SendingSettings;
pub use config::{Config, Format, Rotation};
use target::Rotating;
use writer::{Beginning, Writer};

/// The row of this component.
pub const KIND: Kind<dyn BuildExporter> = Kind {
    name: "file",
    aliases: &[],
    configure: |section| Box::new(Config::read(section)),
};

impl BuildExporter for Config {
    fn build(self: Box<Self>, context: &Context) -> Result<BuiltExporter, StartError> {
        let file = Rotating::open(&self).map_err(|error| StartError {
            component: format!("exporters::{}", context.id),
            message: format!("cannot write {}: {error}", self.path.display()),
        })?;
        let beginning = if self.append || self.rotation.is_some() {
            Beginning::Kept
        } else {
            Beginning::Emptied
        };
        let writer = Arc::new(Mutex::new(Writer::onto(file, beginning)));
        let flushing = Arc::clone(&writer);
        let id = context.id.to_string();
        let interval = self.flush_interval;
        let flusher = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            loop {
                ticks.tick().await;
                let writer = Arc::clone(&flushing);
                let flushed = spawn_blocking(move || lock(&writer).flush()).await;
                if let Ok(Err(error)) = flushed {
                    tracing::error!(exporter = %id, %error, "the file could not be written");
                }
            }
        });
        let exporter = Arc::new(FileExporter {
            writer,
            format: self.format,
            is_compressed: self.is_compressed,
            flusher,
        });
        Ok(BuiltExporter {
            exporter,
            sending: SendingSettings::default(),
        })
    }
}

struct FileExporter {
    writer: Arc<Mutex<Writer<Rotating>>>,
    format: Format,
    is_compressed: bool,
    flusher: JoinHandle<()>,
}

impl Exporter for FileExporter {
    fn export(&self, batch: Batch) -> Task<'_, Result<(), Failure>> {
        let (writer, format) = (Arc::clone(&self.writer), self.format);
        let is_compressed = self.is_compressed;
        Box::pin(async move {
            let written = spawn_blocking(move || {
                let record = record(&batch.request, format, is_compressed)?;
                lock(&writer).append(&record)
            });
            match written.await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(error)) => Err(Failure::retryable(error.to_string())),
                Err(error) => Err(Failure::permanent(error.to_string())),
            }
        })
    }

    fn stop(&self) -> Task<'_, ()> {
        self.flusher.abort();
        let writer = Arc::clone(&self.writer);
        Box::pin(async move {
            let closed = spawn_blocking(move || lock(&writer).close());
            if let Ok(Err(error)) = closed.await {
                tracing::error!(%error, "the file could not be written on shutdown");
            }
        })
    }
}

fn lock(writer: &Mutex<Writer<Rotating>>) -> std::sync::MutexGuard<'_, Writer<Rotating>> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(batch: &Request, format: Format, is_compressed: bool) -> io::Result<Vec<u8>> {
    let content = match format {
        Format::Json => batch.to_json().map_err(io::Error::other)?,
        Format::Proto if is_compressed => batch.bytes().to_vec(),
        Format::Proto => return framed(batch.bytes()),
    };
    if is_compressed {
        // The default level, as in otelcol.
        return framed(&zstd::bulk::compress(&content, 0)?);
    }
    let mut line = content;
    line.push(b'\n');
    Ok(line)
}

/// A frame with its length in front.
fn framed(content: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(content.len()).map_err(io::Error::other)?;
    Ok([&length.to_be_bytes()[..], content].concat())
}
