//! Bodies on the wire: encodings, gRPC's prefix, export paths.
//!
//! In: bytes of an export request. Out: the body that carries them, and back.
//! Invariant: a body is encoded before a measurement begins, or decoded by the sink alone.

use std::io::{Read as _, Write as _};

use bytes::{BufMut as _, Bytes, BytesMut};
use collector_otlp::Signal;
use flate2::Compression;
use serde::{Deserialize, Serialize};

/// The length of the prefix of a gRPC message.
pub const PREFIX: usize = 5;

/// The most bytes that a body may decode to.
const MAX_DECODED_BYTES: u64 = 64 << 20;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// What carries a request.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC over HTTP/2 without TLS.
    Grpc,
    /// HTTP/1.1 with protobuf bodies, without TLS.
    Http,
}

impl Encoding {
    /// Its name in headers and configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding that a header names.
    pub fn of_header(value: Option<&[u8]>) -> Option<Self> {
        match value {
            None | Some(b"" | b"identity") => Some(Self::None),
            Some(b"gzip") => Some(Self::Gzip),
            Some(b"zstd") => Some(Self::Zstd),
            Some(_) => None,
        }
    }

    /// Compresses, as a client does that wants to be quick.
    pub fn encode(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::None => Ok(bytes.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(bytes, zstd::DEFAULT_COMPRESSION_LEVEL),
        }
    }

    /// Decompresses.
    pub fn decode(self, bytes: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
        out.clear();
        match self {
            Self::None => out.extend_from_slice(bytes),
            Self::Gzip => {
                let reader = flate2::read::MultiGzDecoder::new(bytes);
                reader.take(MAX_DECODED_BYTES).read_to_end(out)?;
            }
            Self::Zstd => {
                let reader = zstd::Decoder::with_buffer(bytes)?;
                reader.take(MAX_DECODED_BYTES).read_to_end(out)?;
            }
        }
        Ok(())
    }
}

/// Puts a message behind gRPC's prefix.
pub fn frame(message: &[u8], encoding: Encoding) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + PREFIX);
    out.put_u8(u8::from(encoding != Encoding::None));
    out.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(message);
    out.freeze()
}

/// Where a signal's requests go.
pub fn path(signal: Signal, protocol: Protocol) -> &'static str {
    match (protocol, signal) {
        (Protocol::Grpc, Signal::Traces) => {
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
        }
        (Protocol::Grpc, Signal::Metrics) => {
            "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
        }
        (Protocol::Grpc, Signal::Logs) => {
            "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
        }
        (Protocol::Http, Signal::Traces) => "/v1/traces",
        (Protocol::Http, Signal::Metrics) => "/v1/metrics",
        (Protocol::Http, Signal::Logs) => "/v1/logs",
    }
}

/// The signal whose requests go to `called`.
pub fn signal_of(called: &str, protocol: Protocol) -> Option<Signal> {
    Signal::ALL
        .into_iter()
        .find(|signal| path(*signal, protocol) == called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let text = "größe ".repeat(1000).into_bytes();
        let mut out = Vec::new();
        for encoding in [Encoding::None, Encoding::Gzip, Encoding::Zstd] {
            let encoded = encoding.encode(&text).unwrap();
            encoding.decode(&encoded, &mut out).unwrap();
            assert_eq!(out, text, "{encoding:?}");
        }
    }
}
