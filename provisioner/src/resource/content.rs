//! Bytes that travel to hosts.
//!
//! Goes in: a text or a file. Comes out: its SHA-256, and compressed pieces of it. Invariant:
//! a content is read and compressed once, however many hosts get it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use provision_protocol::frame::CHUNK_BYTES;
use sha2::{Digest, Sha256};
use zstd::DEFAULT_COMPRESSION_LEVEL;
use zstd::bulk::Compressor;

/// Bytes with their hash.
#[derive(Debug)]
pub struct Content {
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// How many bytes.
    pub size: u64,
    source: ContentSource,
    pieces: Mutex<Option<Arc<Vec<Piece>>>>,
}

#[derive(Debug)]
enum ContentSource {
    Memory(Vec<u8>),
    File(PathBuf),
}

/// A part of a content, compressed.
#[derive(Debug)]
pub struct Piece {
    /// Where its plain bytes begin.
    pub offset: u64,
    /// How many plain bytes it has.
    pub size: usize,
    /// A frame of zstd.
    pub zstd: Vec<u8>,
}

impl Content {
    /// A text that was rendered.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self {
            sha256: hex(&Sha256::digest(&bytes)),
            size: bytes.len() as u64,
            source: ContentSource::Memory(bytes),
            pieces: Mutex::default(),
        }
    }

    /// A file on this machine.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0u8; CHUNK_BYTES];
        let mut size = 0;
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                read => {
                    hasher.update(&buffer[..read]);
                    size += read as u64;
                }
            }
        }
        Ok(Self {
            sha256: hex(&hasher.finalize()),
            size,
            source: ContentSource::File(path.to_owned()),
            pieces: Mutex::default(),
        })
    }

    /// The text, where it is a text in memory.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.source {
            ContentSource::Memory(bytes) => std::str::from_utf8(bytes).ok(),
            ContentSource::File(_) => None,
        }
    }

    /// All of it in compressed pieces; at least one, also when it is empty. Takes as long as
    /// reading and compressing does.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn pieces(&self) -> io::Result<Arc<Vec<Piece>>> {
        // Whoever comes second waits for the pieces of the first.
        let mut kept = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pieces) = &*kept {
            return Ok(Arc::clone(pieces));
        }
        let mut reader: Box<dyn Read> = match &self.source {
            ContentSource::Memory(bytes) => Box::new(bytes.as_slice()),
            ContentSource::File(path) => Box::new(File::open(path)?),
        };
        let mut compressor = Compressor::new(DEFAULT_COMPRESSION_LEVEL)?;
        let mut pieces = Vec::new();
        let mut offset = 0;
        loop {
            let mut plain = Vec::with_capacity(CHUNK_BYTES);
            reader
                .by_ref()
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut plain)?;
            if plain.is_empty() && !pieces.is_empty() {
                break;
            }
            pieces.push(Piece {
                offset,
                size: plain.len(),
                zstd: compressor.compress(&plain)?,
            });
            offset += plain.len() as u64;
            if plain.len() < CHUNK_BYTES {
                break;
            }
        }
        Ok(Arc::clone(kept.insert(Arc::new(pieces))))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_content_without_gaps() {
        for size in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            CHUNK_BYTES + 1,
            3 * CHUNK_BYTES,
        ] {
            let content = Content::from_bytes(vec![7; size]);
            let pieces = content.pieces().unwrap();
            let mut end = 0;
            for piece in pieces.iter() {
                assert_eq!(piece.offset, end);
                end += piece.size as u64;
            }
            assert_eq!(end, size as u64);
            assert!(!pieces.is_empty());
        }
    }

    #[test]
    fn the_hash_is_that_of_the_bytes() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Content::from_bytes(b"abc".to_vec()).sha256, expected);
    }
}
