//! Bodies: read up to a limit, compressed and decompressed.
//!
//! In: bytes from the network. Out: whole bodies no longer than the caller allows.
//! Invariant: at most `limit` bytes are ever held, before and after decompression.

use std::io::{Read, Write};

use bytes::{Bytes, BytesMut};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use http_body_util::BodyExt as _;
use hyper::body::Body;

/// Why a body could not be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Not gzip, or truncated.
    #[error("not valid gzip: {0}")]
    Gzip(String),
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
}

/// Reads a body whole.
pub async fn read_body<B>(mut body: B, limit: usize) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.len() + joined.len() + data.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        // A body of one frame is the common case, and needs no copy.
        if first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut first));
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() {
        first
    } else {
        joined.freeze()
    })
}

/// Decompresses up to `limit` bytes.
pub fn gunzip(bytes: &[u8], limit: usize) -> Result<Bytes, BodyError> {
    let mut out = Vec::new();
    let mut reader = MultiGzDecoder::new(bytes).take(limit as u64 + 1);
    reader
        .read_to_end(&mut out)
        .map_err(|error| BodyError::Gzip(error.to_string()))?;
    if out.len() > limit {
        return Err(BodyError::TooLarge { limit });
    }
    Ok(out.into())
}

/// Compresses, at the level that favours speed.
pub fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_comes_back_within_its_limit() {
        let text = vec![b'a'; 10_000];
        let small = gzip(&text);
        assert_eq!(gunzip(&small, 10_000).unwrap(), text);
        assert_eq!(
            gunzip(&small, 9_999),
            Err(BodyError::TooLarge { limit: 9_999 })
        );
        assert!(matches!(
            gunzip(&small[..small.len() - 1], 10_000),
            Err(BodyError::Gzip(_))
        ));
        assert!(matches!(gunzip(b"plain", 10_000), Err(BodyError::Gzip(_))));
    }
}
