//! The bytes of a segment, of its acknowledgements and of a queue's identity.
//!
//! In: what is to be stored. Out: little-endian bytes, and back. Invariant: nothing passes whose
//! CRC32C is wrong; records, footers and acknowledgements are seeded with the queue's salt and the
//! segment's sequence, so that neither stale bytes of a file that is written again nor bytes that
//! a sender made up can pass for a record.
//!
//! A segment is a header of 64 bytes, records that each begin at a multiple of 8, and, once it is
//! sealed, a footer as the last 64 bytes of the file.

use bytes::{Buf, BufMut};
use crc32c::{crc32c, crc32c_append};

use crate::Amount;

/// The version that is written and read.
pub(crate) const VERSION: u32 = 1;
/// The bytes before the first record.
pub(crate) const HEADER_BYTES: u64 = 64;
/// The bytes at the end of a sealed segment.
pub(crate) const FOOTER_BYTES: u64 = 64;
/// The bytes before the body of a record.
pub(crate) const RECORD_BYTES: u64 = 56;
/// The bytes of an acknowledgement.
pub(crate) const ACK_BYTES: usize = 16;
/// The bytes of a queue's identity.
pub(crate) const IDENTITY_BYTES: usize = 24;

const HEADER_MAGIC: u64 = u64::from_le_bytes(*b"cqlog\r\n\x1a");
const FOOTER_MAGIC: u64 = u64::from_le_bytes(*b"cqend\r\n\x1a");
const IDENTITY_MAGIC: u64 = u64::from_le_bytes(*b"cqueue\r\n");
const RECORD_MAGIC: u32 = u32::from_le_bytes(*b"cqr\xa7");

/// The next multiple of 8.
pub(crate) const fn aligned(offset: u64) -> u64 {
    (offset + 7) & !7
}

/// What the checksums of a segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed(u32);

impl Seed {
    pub(crate) fn new(salt: u64, sequence: u64) -> Self {
        Self(crc32c_append(
            crc32c(&salt.to_le_bytes()),
            &sequence.to_le_bytes(),
        ))
    }

    fn sum(self, parts: &[&[u8]]) -> u32 {
        parts
            .iter()
            .fold(self.0, |sum, part| crc32c_append(sum, part))
    }
}

/// The beginning of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sequence: u64,
    pub(crate) salt: u64,
    /// Records of the segments before it.
    pub(crate) records_before: u64,
    /// Weight of the segments before it.
    pub(crate) weight_before: u64,
}

/// What the first bytes of a file are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beginning {
    Header(Header),
    /// A segment of another version of the format.
    OtherVersion(u32),
    /// A header that is damaged.
    Damaged,
    /// Nothing, or zeros.
    Blank,
    /// Something that no queue wrote.
    Foreign,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES as usize] {
        let mut bytes = [0; HEADER_BYTES as usize];
        let mut rest = &mut bytes[..];
        rest.put_u64_le(HEADER_MAGIC);
        rest.put_u32_le(0);
        rest.put_u32_le(VERSION);
        for field in [
            self.sequence,
            self.salt,
            self.records_before,
            self.weight_before,
        ] {
            rest.put_u64_le(field);
        }
        let sum = crc32c(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Everything that was appended before the segment.
    pub(crate) fn before(&self) -> Amount {
        Amount {
            records: self.records_before,
            weight: self.weight_before,
        }
    }

    /// Whether these bytes, at most those of a header, may be the beginning of one, followed by
    /// what was never written.
    pub(crate) fn begins(bytes: &[u8]) -> bool {
        let magic = HEADER_MAGIC.to_le_bytes();
        let same = bytes
            .iter()
            .zip(&magic)
            .take_while(|(byte, magic)| byte == magic)
            .count();
        same == magic.len() || bytes[same..].iter().all(|byte| *byte == 0)
    }

    pub(crate) fn decode(mut bytes: &[u8]) -> Beginning {
        if bytes.iter().all(|byte| *byte == 0) {
            return Beginning::Blank;
        }
        let whole = bytes;
        if bytes.len() < HEADER_BYTES as usize {
            return if Self::begins(bytes) {
                Beginning::Damaged
            } else {
                Beginning::Foreign
            };
        }
        let magic = bytes.get_u64_le();
        let sum = bytes.get_u32_le();
        let sound = sum == crc32c(&whole[12..HEADER_BYTES as usize]);
        let version = bytes.get_u32_le();
        match (magic == HEADER_MAGIC, sound) {
            (false, false) => return Beginning::Foreign,
            (true, true) if version == VERSION => {}
            (true, true) => return Beginning::OtherVersion(version),
            _ => return Beginning::Damaged,
        }
        Beginning::Header(Self {
            sequence: bytes.get_u64_le(),
            salt: bytes.get_u64_le(),
            records_before: bytes.get_u64_le(),
            weight_before: bytes.get_u64_le(),
        })
    }
}

/// The end of a sealed segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) records: u32,
    pub(crate) weight: u64,
    /// Where the last record ends.
    pub(crate) end: u64,
    /// When the first record was appended, in microseconds since 1970.
    pub(crate) first_at: u64,
}

impl Footer {
    pub(crate) fn encode(&self, seed: Seed) -> [u8; FOOTER_BYTES as usize] {
        let mut bytes = [0; FOOTER_BYTES as usize];
        let mut rest = &mut bytes[..];
        rest.put_u64_le(FOOTER_MAGIC);
        rest.put_u32_le(0);
        rest.put_u32_le(self.records);
        for field in [self.weight, self.end, self.first_at] {
            rest.put_u64_le(field);
        }
        let sum = seed.sum(&[&bytes[12..]]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8], seed: Seed) -> Option<Self> {
        let rest = bytes.get(12..FOOTER_BYTES as usize)?;
        let magic = bytes.get_u64_le();
        let sum = bytes.get_u32_le();
        let sound = magic == FOOTER_MAGIC && sum == seed.sum(&[rest]);
        sound.then(|| Self {
            records: bytes.get_u32_le(),
            weight: bytes.get_u64_le(),
            end: bytes.get_u64_le(),
            first_at: bytes.get_u64_le(),
        })
    }
}

/// What stands before the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) body_sum: u32,
    pub(crate) body_len: u32,
    /// How much of the body is meta; the rest is payload.
    pub(crate) meta_len: u32,
    /// The record's place in the segment.
    pub(crate) index: u32,
    pub(crate) weight: u32,
    /// Records of the segment that were durable when this one was written.
    pub(crate) durable_records: u32,
    /// Weight of the segment's records before this one.
    pub(crate) before: u64,
    /// Weight of the segment's records that were durable when this one was written.
    pub(crate) durable_weight: u64,
    /// Microseconds since 1970.
    pub(crate) appended_at: u64,
}

impl Head {
    /// The bytes of a record with such a body, padding included.
    pub(crate) const fn extent_of(body_len: u64) -> u64 {
        aligned(RECORD_BYTES + body_len)
    }

    pub(crate) const fn extent(&self) -> u64 {
        Self::extent_of(self.body_len as u64)
    }

    pub(crate) fn body_sum(seed: Seed, meta: &[u8], payload: &[u8]) -> u32 {
        seed.sum(&[meta, payload])
    }

    pub(crate) fn encode(&self, seed: Seed) -> [u8; RECORD_BYTES as usize] {
        let mut bytes = [0; RECORD_BYTES as usize];
        let mut rest = &mut bytes[..];
        rest.put_u32_le(RECORD_MAGIC);
        rest.put_u32_le(0);
        for field in [
            self.body_sum,
            self.body_len,
            self.meta_len,
            self.index,
            self.weight,
            self.durable_records,
        ] {
            rest.put_u32_le(field);
        }
        for field in [self.before, self.durable_weight, self.appended_at] {
            rest.put_u64_le(field);
        }
        let sum = seed.sum(&[&bytes[8..]]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8], seed: Seed) -> Option<Self> {
        let rest = bytes.get(8..RECORD_BYTES as usize)?;
        if bytes.get_u32_le() != RECORD_MAGIC || bytes.get_u32_le() != seed.sum(&[rest]) {
            return None;
        }
        let head = Self {
            body_sum: bytes.get_u32_le(),
            body_len: bytes.get_u32_le(),
            meta_len: bytes.get_u32_le(),
            index: bytes.get_u32_le(),
            weight: bytes.get_u32_le(),
            durable_records: bytes.get_u32_le(),
            before: bytes.get_u64_le(),
            durable_weight: bytes.get_u64_le(),
            appended_at: bytes.get_u64_le(),
        };
        (head.meta_len <= head.body_len).then_some(head)
    }
}

/// An entry of the file beside a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// A record is done with.
    Done { index: u32, weight: u32 },
    /// So much of the segment is durable.
    Durable { records: u32, weight: u64 },
}

impl Note {
    pub(crate) fn encode(&self, seed: Seed) -> [u8; ACK_BYTES] {
        // The lowest bit of the checksum's place is not stolen for the kind: the weight of one
        // record has 32 bits, and that of many 63, so the highest bit of the latter tells.
        let (index, weight) = match *self {
            Self::Done { index, weight } => (index, u64::from(weight)),
            Self::Durable { records, weight } => (records, weight | 1 << 63),
        };
        let mut bytes = [0; ACK_BYTES];
        bytes[4..8].copy_from_slice(&index.to_le_bytes());
        bytes[8..].copy_from_slice(&weight.to_le_bytes());
        let sum = seed.sum(&[&bytes[4..]]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(mut bytes: &[u8], seed: Seed) -> Option<Self> {
        let rest = bytes.get(4..ACK_BYTES)?;
        if bytes.get_u32_le() != seed.sum(&[rest]) {
            return None;
        }
        let index = bytes.get_u32_le();
        let weight = bytes.get_u64_le();
        Some(match u32::try_from(weight) {
            Ok(weight) => Self::Done { index, weight },
            Err(_) => Self::Durable {
                records: index,
                weight: weight & !(1 << 63),
            },
        })
    }
}

/// The identity of a queue: its salt.
pub(crate) fn encode_identity(salt: u64) -> [u8; IDENTITY_BYTES] {
    let mut bytes = [0; IDENTITY_BYTES];
    let mut rest = &mut bytes[..];
    rest.put_u64_le(IDENTITY_MAGIC);
    rest.put_u32_le(0);
    rest.put_u32_le(VERSION);
    rest.put_u64_le(salt);
    let sum = crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The salt of a queue, if these are the bytes of an identity.
pub(crate) fn decode_identity(mut bytes: &[u8]) -> Option<u64> {
    let rest = bytes.get(12..IDENTITY_BYTES)?;
    let magic = bytes.get_u64_le();
    let sum = bytes.get_u32_le();
    bytes.advance(4);
    (magic == IDENTITY_MAGIC && sum == crc32c(rest)).then(|| bytes.get_u64_le())
}
