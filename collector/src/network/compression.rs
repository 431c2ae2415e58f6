//! Compression and decompression of whole messages.
//!
//! In: bytes from the network or for it. Out: the other form of them.
//! Invariant: a decompressor asks for room before it makes more output, and never makes more than
//! its limit, whatever the input says about itself.
//!
//! gzip uses libdeflate, which works on whole messages and is faster for it than a streaming
//! encoder; what it cannot read in one go is read as a stream. Compressors, whose tables
//! are large, are kept for each thread.

use std::cell::RefCell;
use std::io::{Read, Write as _};

use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor, Decompressor};

/// The first output of a stream of unknown length, in bytes; it doubles from there.
const FIRST_CHUNK_BYTES: usize = 64 << 10;

/// The scratch space that a thread keeps, in bytes.
const KEPT_SCRATCH_BYTES: usize = 4 << 20;

/// The largest window that a zstd stream may ask for, as a power of two: RFC 9659's 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// libdeflate's lowest level that stays within 5 % of what otelcol's gzip makes of spans.
const GZIP_LEVEL: i32 = 6;

/// zstd's own default; level 1 takes half the work, and makes 9 % more of spans than otelcol does.
const ZSTD_LEVEL: i32 = 3;

/// What a framed snappy stream begins with.
const SNAPPY_STREAM: &[u8] = b"\xff\x06\x00\x00sNaPpY";

/// The beginning of every member of a gzip file.
const GZIP_MEMBER: &[u8] = b"\x1f\x8b\x08";

/// Why bytes could not be decompressed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than allowed.
    #[error("larger than {limit} bytes")]
    TooLarge {
        /// What is allowed.
        limit: usize,
    },
    /// The memory that telemetry may take is in use.
    #[error("no memory is free for it now")]
    NoRoom,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// Nothing came for too long.
    #[error("it did not arrive in time")]
    Stalled,
    /// Not of the named encoding, or truncated.
    #[error("not valid {encoding}: {reason}")]
    Malformed {
        /// The encoding.
        encoding: &'static str,
        /// What the decoder says.
        reason: String,
    },
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// One snappy block, or, when reading, a framed stream.
    Snappy,
    /// A framed snappy stream.
    SnappyFramed,
    /// zlib's format, under that name.
    Zlib,
    /// zlib's format, under the name that HTTP has for it.
    Deflate,
    /// LZ4 frames.
    Lz4,
}

/// Every encoding that HTTP bodies have.
pub const HTTP_ENCODINGS: &[Encoding] = &[
    Encoding::Gzip,
    Encoding::Zstd,
    Encoding::Zlib,
    Encoding::Snappy,
    Encoding::SnappyFramed,
    Encoding::Deflate,
    Encoding::Lz4,
];

impl Encoding {
    /// The name in `content-encoding`.
    pub fn http_name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::SnappyFramed => "x-snappy-framed",
            Self::Zlib => "zlib",
            Self::Deflate => "deflate",
            Self::Lz4 => "lz4",
        }
    }

    /// The name in `grpc-encoding`, where snappy is always framed.
    pub fn grpc_name(self) -> &'static str {
        match self {
            Self::SnappyFramed => "snappy",
            other => other.http_name(),
        }
    }

    /// What `content-encoding` names.
    pub fn of_http(name: &[u8]) -> Option<Self> {
        match name {
            b"" | b"identity" => Some(Self::Identity),
            _ => HTTP_ENCODINGS
                .iter()
                .copied()
                .find(|encoding| encoding.http_name().as_bytes() == name),
        }
    }

    /// What `grpc-encoding` names.
    pub fn of_grpc(name: &[u8]) -> Option<Self> {
        match name {
            b"identity" => Some(Self::Identity),
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            b"snappy" => Some(Self::SnappyFramed),
            _ => None,
        }
    }
}

/// A thread's compressors and the space that they write to.
#[derive(Default)]
struct Kept {
    deflate: Option<(i32, Compressor)>,
    inflate: Option<Decompressor>,
    zstd: Option<(i32, zstd::bulk::Compressor<'static>)>,
    unzstd: Option<zstd::bulk::Decompressor<'static>>,
    scratch: Vec<u8>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Compresses; `level` is the encoding's own, and nothing means its default.
pub fn compress(bytes: &Bytes, encoding: Encoding, level: Option<i32>) -> Bytes {
    KEPT.with_borrow_mut(|kept| {
        let out = match encoding {
            Encoding::Identity => return bytes.clone(),
            Encoding::Gzip => deflate(kept, bytes, level.unwrap_or(GZIP_LEVEL), true),
            Encoding::Zlib | Encoding::Deflate => {
                deflate(kept, bytes, level.unwrap_or(GZIP_LEVEL), false)
            }
            Encoding::Zstd => zstd_compress(kept, bytes, level.unwrap_or(ZSTD_LEVEL)),
            Encoding::Snappy => snap::raw::Encoder::new()
                .compress_vec(bytes)
                .unwrap_or_default()
                .into(),
            Encoding::SnappyFramed => {
                let mut encoder = snap::write::FrameEncoder::new(Vec::new());
                // Writing to memory cannot fail.
                let _ = encoder.write_all(bytes);
                encoder.into_inner().unwrap_or_default().into()
            }
            Encoding::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                // Writing to memory cannot fail.
                let _ = encoder.write_all(bytes);
                encoder.finish().unwrap_or_default().into()
            }
        };
        if kept.scratch.capacity() > KEPT_SCRATCH_BYTES {
            kept.scratch = Vec::new();
        }
        out
    })
}

fn deflate(kept: &mut Kept, bytes: &[u8], level: i32, gzip: bool) -> Bytes {
    let reusable = kept.deflate.take().filter(|(kept, _)| *kept == level);
    let (_, compressor) = kept.deflate.insert(reusable.unwrap_or_else(|| {
        let known = CompressionLvl::new(level).unwrap_or_default();
        (level, Compressor::new(known))
    }));
    let bound = match gzip {
        true => compressor.gzip_compress_bound(bytes.len()),
        false => compressor.zlib_compress_bound(bytes.len()),
    };
    if kept.scratch.len() < bound {
        kept.scratch.resize(bound, 0);
    }
    let written = match gzip {
        true => compressor.gzip_compress(bytes, &mut kept.scratch),
        false => compressor.zlib_compress(bytes, &mut kept.scratch),
    };
    // The bound is what it never exceeds.
    Bytes::copy_from_slice(&kept.scratch[..written.unwrap_or_default()])
}

fn zstd_compress(kept: &mut Kept, bytes: &[u8], level: i32) -> Bytes {
    let reusable = kept.zstd.take().filter(|(kept, _)| *kept == level);
    let made = reusable.or_else(|| Some((level, zstd::bulk::Compressor::new(level).ok()?)));
    let Some((_, compressor)) = made.map(|made| kept.zstd.insert(made)) else {
        return Bytes::new();
    };
    kept.scratch.clear();
    kept.scratch
        .reserve(zstd::zstd_safe::compress_bound(bytes.len()));
    match compressor.compress_to_buffer(bytes, &mut kept.scratch) {
        Ok(_) => Bytes::copy_from_slice(&kept.scratch),
        Err(_) => Bytes::new(),
    }
}

/// Decompresses up to `limit` bytes; `room` is asked before so many more bytes are held.
pub fn decompress(
    bytes: &[u8],
    encoding: Encoding,
    limit: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Bytes, BodyError> {
    let malformed = |error: std::io::Error| BodyError::Malformed {
        encoding: encoding.http_name(),
        reason: error.to_string(),
    };
    if encoding == Encoding::Gzip
        && let Some(out) = gunzip(bytes, limit, room)?
    {
        return Ok(out);
    }
    if encoding == Encoding::Zstd
        && let Some(out) = zstd_whole(bytes, limit, room)?
    {
        return Ok(out);
    }
    let reader: Box<dyn Read> = match encoding {
        Encoding::Identity => return Ok(Bytes::copy_from_slice(bytes)),
        Encoding::Snappy if !bytes.starts_with(SNAPPY_STREAM) => {
            return snappy_block(bytes, limit, room);
        }
        Encoding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        Encoding::Zlib | Encoding::Deflate => Box::new(flate2::read::ZlibDecoder::new(bytes)),
        Encoding::Snappy | Encoding::SnappyFramed => Box::new(snap::read::FrameDecoder::new(bytes)),
        Encoding::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(malformed)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(malformed)?;
            Box::new(decoder)
        }
    };
    stream(reader, limit, room, malformed)
}

/// Reads a stream of unknown length, asking for room each time that the output doubles.
fn stream(
    mut reader: Box<dyn Read + '_>,
    limit: usize,
    room: &mut dyn FnMut(usize) -> bool,
    malformed: impl Fn(std::io::Error) -> BodyError,
) -> Result<Bytes, BodyError> {
    let mut out = Vec::new();
    let mut chunk = FIRST_CHUNK_BYTES;
    loop {
        // One byte over the limit tells a body that is too large from one that just fits.
        let wanted = chunk.min(limit + 1 - out.len());
        if !room(wanted) {
            return Err(BodyError::NoRoom);
        }
        out.reserve_exact(wanted);
        let read = reader.by_ref().take(wanted as u64).read_to_end(&mut out);
        if read.map_err(&malformed)? < wanted {
            return Ok(out.into());
        }
        if out.len() > limit {
            return Err(BodyError::TooLarge { limit });
        }
        chunk = out.len();
    }
}

/// One gzip member in one go, by the length that it ends with; `None` when a stream must decide.
fn gunzip(
    bytes: &[u8],
    limit: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Bytes>, BodyError> {
    let single =
        bytes.starts_with(GZIP_MEMBER) && memchr::memmem::find(&bytes[1..], GZIP_MEMBER).is_none();
    let Some(length) = bytes.last_chunk::<4>().filter(|_| single) else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > limit {
        return Ok(None);
    }
    if !room(length) {
        return Err(BodyError::NoRoom);
    }
    let mut out = vec![0; length];
    let written = KEPT.with_borrow_mut(|kept| {
        let decompressor = kept.inflate.get_or_insert_with(Decompressor::new);
        decompressor.gzip_decompress(bytes, &mut out)
    });
    Ok((written == Ok(length)).then(|| out.into()))
}

/// Zstandard in one go, when it says how long it is.
fn zstd_whole(
    bytes: &[u8],
    limit: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Option<Bytes>, BodyError> {
    let length = match zstd::zstd_safe::get_frame_content_size(bytes) {
        Ok(Some(length)) => usize::try_from(length).unwrap_or(usize::MAX),
        _ => return Ok(None),
    };
    if length > limit {
        return Err(BodyError::TooLarge { limit });
    }
    if !room(length) {
        return Err(BodyError::NoRoom);
    }
    let mut out = Vec::with_capacity(length);
    let written = KEPT.with_borrow_mut(|kept| {
        let kept_one = kept
            .unzstd
            .take()
            .map_or_else(zstd::bulk::Decompressor::new, Ok);
        kept.unzstd
            .insert(kept_one?)
            .decompress_to_buffer(bytes, &mut out)
    });
    // Several frames do not fit, so the stream reads them.
    Ok(written.ok().map(|_| out.into()))
}

fn snappy_block(
    bytes: &[u8],
    limit: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Bytes, BodyError> {
    let malformed = |error: snap::Error| BodyError::Malformed {
        encoding: "snappy",
        reason: error.to_string(),
    };
    let length = snap::raw::decompress_len(bytes).map_err(malformed)?;
    if length > limit {
        return Err(BodyError::TooLarge { limit });
    }
    if !room(length) {
        return Err(BodyError::NoRoom);
    }
    let out = snap::raw::Decoder::new().decompress_vec(bytes);
    Ok(out.map_err(malformed)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Bytes {
        let lines = (0..4000).map(|n| format!("line {n} of {}\n", n * 7919 % 1000));
        lines.collect::<String>().into()
    }

    #[test]
    fn every_encoding_comes_back_within_its_limit() {
        let text = text();
        let small = Bytes::from_static(b"a");
        for encoding in [Encoding::Identity].iter().chain(HTTP_ENCODINGS) {
            for bytes in [&text, &small, &Bytes::new()] {
                let packed = compress(bytes, *encoding, None);
                let mut asked = 0;
                let mut room = |more| {
                    asked += more;
                    true
                };
                let back = decompress(&packed, *encoding, bytes.len(), &mut room);
                assert_eq!(back.as_ref(), Ok(bytes), "{encoding:?}");
                assert!(asked <= 2 * bytes.len() + FIRST_CHUNK_BYTES, "{asked}");
            }
            if *encoding == Encoding::Identity {
                continue;
            }
            let packed = compress(&text, *encoding, None);
            assert!(packed.len() < text.len(), "{encoding:?}");
            let limit = text.len() - 1;
            let mut always = |_| true;
            let over = decompress(&packed, *encoding, limit, &mut always);
            assert_eq!(over, Err(BodyError::TooLarge { limit }), "{encoding:?}");
            let mut never = |_| false;
            let none = decompress(&packed, *encoding, text.len(), &mut never);
            assert_eq!(none, Err(BodyError::NoRoom), "{encoding:?}");
            let cut = &packed[..packed.len() - 1];
            let cut = decompress(cut, *encoding, text.len(), &mut always);
            // LZ4's end mark says nothing that its blocks do not.
            let whole = *encoding == Encoding::Lz4;
            assert_eq!(cut.is_ok(), whole, "{encoding:?}");
            let noise = decompress(b"plain text", *encoding, 1000, &mut always);
            assert!(
                matches!(noise, Err(BodyError::Malformed { .. })),
                "{encoding:?}"
            );
        }
    }

    #[test]
    fn members_and_frames_in_a_row_are_one_body() {
        let text = text();
        let whole: Vec<u8> = [&text[..], &text[..]].concat();
        for encoding in [Encoding::Gzip, Encoding::Zstd] {
            let one = compress(&text, encoding, None);
            let two = [&one[..], &one[..]].concat();
            let mut always = |_| true;
            let back = decompress(&two, encoding, whole.len(), &mut always).unwrap();
            assert_eq!(back, whole, "{encoding:?}");
        }
        let framed = compress(&text, Encoding::SnappyFramed, None);
        let mut always = |_| true;
        let back = decompress(&framed, Encoding::Snappy, text.len(), &mut always);
        assert_eq!(back, Ok(text));
    }

    #[test]
    fn gzip_is_within_a_twentieth_of_the_usual_size() {
        let text = text();
        let usual = flate2::Compression::default();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), usual);
        encoder.write_all(&text).unwrap();
        let (usual, own) = (
            encoder.finish().unwrap().len(),
            compress(&text, Encoding::Gzip, None).len(),
        );
        assert!(own * 100 <= usual * 105, "{own} bytes, usually {usual}");
    }

    #[test]
    fn a_length_that_lies_gains_nothing() {
        let text = text();
        let mut packed = compress(&text, Encoding::Gzip, None).to_vec();
        let at = packed.len() - 4;
        packed[at..].copy_from_slice(&5_u32.to_le_bytes());
        let mut always = |_| true;
        let back = decompress(&packed, Encoding::Gzip, text.len(), &mut always);
        assert!(matches!(back, Err(BodyError::Malformed { .. })));
    }
}
