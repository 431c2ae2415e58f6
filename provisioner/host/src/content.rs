//! Contents, addressed by their SHA-256.
//!
//! Goes in: the pieces of an upload, and what stood on the host before. Comes out: files below
//! `contents/` and `previous/` that bear their hash as their name. Invariant: a file gets such a
//! name only after its bytes were found to have that hash and were made last.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use provision_protocol::fact::ContentFact;
use provision_protocol::generation::KeptFact;
use provision_protocol::message::{Chunk, Stored};
use ruzstd::decoding::StreamingDecoder;
use sha2::{Digest, Sha256};

use crate::durable::{self, Draft};
use crate::failure::{Doing, Failure};
use crate::root::Root;
use crate::space::{self, FileSystem};

const CONTENTS: &str = "contents";
const PREVIOUS: &str = "previous";
/// The most plain bytes that one piece may hold.
const MAX_PIECE_BYTES: u64 = 16 * 1024 * 1024;
/// The largest content.
const MAX_CONTENT_BYTES: u64 = 8 * 1024 * 1024 * 1024;
/// The most uploads that may fail in one conversation.
const MAX_FAILED_UPLOADS: usize = 10_000;
/// Contents from this size on may wait for another run. Smaller ones are sent again at no cost,
/// and any of them may hold a secret.
const LARGE_BYTES: u64 = 1024 * 1024;
/// How long a large content waits for another run, whole or interrupted.
const WAITS_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How much is kept of what stood on the host before, beyond what the manifest needs.
const MAX_PREVIOUS_BYTES: u64 = 512 * 1024 * 1024;

/// Accepts a SHA-256 in lower-case hex.
pub(crate) fn check_sha256(sha256: &str) -> Result<&str, Failure> {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if sha256.len() == 64 && sha256.bytes().all(hex) {
        Ok(sha256)
    } else {
        Err(Failure::refused(format!(
            "`{sha256}` is not a SHA-256 in lower-case hex"
        )))
    }
}

/// The hash of what is left to be read.
pub(crate) fn hash(source: &mut impl Read) -> std::io::Result<String> {
    copy_hashing(source, &mut std::io::sink()).map(|(sha256, _)| sha256)
}

fn copy_hashing(source: &mut impl Read, target: &mut impl Write) -> std::io::Result<(String, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 64 * 1024];
    let mut size = 0;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        target.write_all(&buffer[..count])?;
        size += count as u64;
    }
    Ok((hex(&hasher.finalize()), size))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// How much of a content is on the host.
pub(crate) fn look(root: &Root, sha256: &str) -> Result<ContentFact, Failure> {
    check_sha256(sha256)?;
    let complete = find(root, sha256).is_some();
    let partial = fs::metadata(part_path(root, sha256)).map_or(0, |found| found.len());
    Ok(ContentFact {
        complete,
        partial_bytes: if complete { 0 } else { partial },
    })
}

/// The file of a complete content, whether it was uploaded or stood here before.
pub(crate) fn find(root: &Root, sha256: &str) -> Option<PathBuf> {
    [CONTENTS, PREVIOUS]
        .iter()
        .map(|directory| root.state(directory).join(sha256))
        .find(|path| path.is_file())
}

/// A content's file was uploaded, rather than kept from before.
pub(crate) fn is_upload(root: &Root, file: &Path) -> bool {
    file.starts_with(root.state(CONTENTS))
}

/// The file of a complete content, or a refusal.
pub(crate) fn require(root: &Root, sha256: &str) -> Result<PathBuf, Failure> {
    check_sha256(sha256)?;
    find(root, sha256).ok_or_else(|| {
        Failure::refused(format!(
            "the content {sha256} was not uploaded to this host"
        ))
    })
}

/// Copies a content to where it is needed, and refuses one that was damaged since it was stored.
pub(crate) fn copy_to(root: &Root, sha256: &str, target: &mut File) -> Result<(), Failure> {
    let path = require(root, sha256)?;
    let doing = || format!("copy {}", path.display());
    let mut source = File::open(&path).doing(doing)?;
    let (found, _) = copy_hashing(&mut source, target).doing(doing)?;
    if found == sha256 {
        return Ok(());
    }
    durable::remove_if_there(&path)?;
    Err(Failure::refused(format!(
        "the content {sha256} was damaged on this host after it had arrived: run again to send it \
         once more"
    )))
}

/// Keeps a copy of what stands at a path, by its hash.
pub(crate) fn keep(root: &Root, path: &Path) -> Result<String, Failure> {
    let doing = || format!("keep what stood at {}", path.display());
    let mut source = File::open(path).doing(doing)?;
    let sha256 = hash(&mut source).doing(doing)?;
    let directory = root.state(PREVIOUS);
    let kept = directory.join(&sha256);
    if kept.is_file() {
        return Ok(sha256);
    }
    durable::make_private_directory(&directory)?;
    source.rewind().doing(doing)?;
    let mut draft = Draft::beside(&kept)?;
    let size = source.metadata().map_or(0, |found| found.len());
    let (copied, _) = copy_hashing(&mut source, &mut draft.file)
        .doing(doing)
        .map_err(|failure| space::explain(failure, &kept, size))?;
    if copied != sha256 {
        return Err(Failure::refused(format!(
            "{} changes while it is read",
            path.display()
        )));
    }
    draft.commit(None)?;
    Ok(sha256)
}

/// Keeps an upload under its second name as well. That is a convenience for later, so a failure is
/// none.
pub(crate) fn keep_upload(root: &Root, sha256: &str) {
    let (upload, kept) = (
        root.state(CONTENTS).join(sha256),
        root.state(PREVIOUS).join(sha256),
    );
    if durable::make_private_directory(&root.state(PREVIOUS)).is_ok() {
        let _ = fs::hard_link(upload, kept);
    }
}

/// Keeps a content no longer.
pub(crate) fn forget_kept(root: &Root, sha256: &str) -> Result<(), Failure> {
    durable::remove_if_there(&root.state(PREVIOUS).join(check_sha256(sha256)?))
}

/// What is kept of a content, with its text where that is one and not longer than `limit_bytes`.
pub(crate) fn look_at_kept(
    root: &Root,
    sha256: &str,
    limit_bytes: u64,
) -> Result<KeptFact, Failure> {
    let path = root.state(PREVIOUS).join(check_sha256(sha256)?);
    let Ok(found) = fs::metadata(&path) else {
        return Ok(KeptFact::default());
    };
    let text = if found.len() <= limit_bytes {
        let bytes = fs::read(&path).doing(|| format!("read {}", path.display()))?;
        String::from_utf8(bytes).ok()
    } else {
        None
    };
    Ok(KeptFact {
        exists: true,
        size_bytes: found.len(),
        text: text.filter(|_| limit_bytes > 0),
    })
}

/// Removes uploads, whole or not, that are small, old or `spent`.
pub(crate) fn remove_leftovers(root: &Root, spent: &BTreeSet<String>) -> Result<(), Failure> {
    let directory = root.state(CONTENTS);
    for (path, name) in files_of(&directory) {
        let size = path.metadata().map_or(0, |found| found.len());
        let is_young = age(&path).is_none_or(|age| age < WAITS_FOR);
        if size < LARGE_BYTES || !is_young || spent.contains(&name) {
            durable::remove_if_there(&path)?;
        }
    }
    // What is left in it keeps it there.
    let _ = fs::remove_dir(&directory);
    Ok(())
}

/// Bounds what is kept of the time before, oldest first, sparing what the manifest still needs.
pub(crate) fn bound_previous(root: &Root, needed: &BTreeSet<&str>) -> Result<(), Failure> {
    let mut kept: Vec<_> = files_of(&root.state(PREVIOUS))
        .into_iter()
        .filter(|(_, name)| !needed.contains(name.as_str()))
        .filter_map(|(path, _)| {
            let found = path.metadata().ok()?;
            Some((found.modified().ok()?, found.len(), path))
        })
        .collect();
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, size, _)| size).sum();
    for (_, size, path) in kept {
        if total <= MAX_PREVIOUS_BYTES {
            break;
        }
        durable::remove_if_there(&path)?;
        total -= size;
    }
    Ok(())
}

fn files_of(directory: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            (
                entry.path(),
                entry.file_name().to_string_lossy().into_owned(),
            )
        })
        .collect()
}

fn age(path: &Path) -> Option<Duration> {
    SystemTime::now()
        .duration_since(path.metadata().ok()?.modified().ok()?)
        .ok()
}

fn part_path(root: &Root, sha256: &str) -> PathBuf {
    root.state(CONTENTS).join(format!("{sha256}.part"))
}

/// The uploads of one conversation.
#[derive(Default)]
pub(crate) struct Uploads {
    /// Contents whose further pieces are passed over until the last, and why.
    failed: BTreeMap<String, Failure>,
}

impl Uploads {
    /// Takes a piece. Only the last one of a content is answered.
    pub(crate) fn take(&mut self, root: &Root, chunk: &Chunk) -> Option<Result<Stored, Failure>> {
        if !self.failed.contains_key(&chunk.sha256)
            && let Err(failure) = store_piece(root, chunk)
            && self.failed.len() < MAX_FAILED_UPLOADS
        {
            self.failed.insert(chunk.sha256.clone(), failure);
        }
        if !chunk.last {
            return None;
        }
        if let Some(failure) = self.failed.remove(&chunk.sha256) {
            return Some(Err(failure));
        }
        Some(finish(root, chunk).map(|()| Stored {
            sha256: chunk.sha256.clone(),
        }))
    }
}

fn store_piece(root: &Root, chunk: &Chunk) -> Result<(), Failure> {
    let sha256 = check_sha256(&chunk.sha256)?;
    if chunk.total_bytes > MAX_CONTENT_BYTES || chunk.offset > chunk.total_bytes {
        return Err(Failure::refused(format!(
            "a piece at {} of a content of {} bytes is over the limit of {MAX_CONTENT_BYTES} bytes",
            chunk.offset, chunk.total_bytes
        )));
    }
    if find(root, sha256).is_some() {
        return Ok(());
    }
    let directory = root.state(CONTENTS);
    durable::make_private_directory(&directory)?;
    let path = part_path(root, sha256);
    let doing = || format!("write {}", path.display());
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .doing(doing)?;
    let have = file.metadata().doing(doing)?.len();
    if chunk.offset > have {
        return Err(Failure::refused(format!(
            "a piece of {sha256} begins at {}, but only {have} bytes are here",
            chunk.offset
        )));
    }
    let missing = chunk.total_bytes - chunk.offset;
    if chunk.offset == 0 || chunk.offset != have {
        refuse_without_space(&directory, missing)?;
    }
    let limit = missing.min(MAX_PIECE_BYTES);
    let mut plain = Vec::new();
    StreamingDecoder::new(chunk.zstd.as_slice())
        .map_err(io::Error::other)
        .and_then(|decoder| decoder.take(limit + 1).read_to_end(&mut plain))
        .doing(|| format!("decompress a piece of {sha256}"))?;
    if plain.len() as u64 > limit {
        return Err(Failure::refused(format!(
            "a piece of {sha256} is longer than announced"
        )));
    }
    file.set_len(chunk.offset)
        .and_then(|()| file.seek(SeekFrom::Start(chunk.offset)))
        .and_then(|_| file.write_all(&plain))
        .doing(doing)
        .map_err(|failure| space::explain(failure, &directory, missing))
}

fn refuse_without_space(directory: &Path, needed_bytes: u64) -> Result<(), Failure> {
    let found = FileSystem::holding(directory)?;
    if found.free_bytes >= needed_bytes {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "there is no room for an upload on {}: {needed_bytes} bytes needed, {} bytes free; free \
         some space there and run it again",
        found.mount_point.display(),
        found.free_bytes
    )))
}

fn finish(root: &Root, chunk: &Chunk) -> Result<(), Failure> {
    let sha256 = &chunk.sha256;
    if find(root, sha256).is_some() {
        return durable::remove_if_there(&part_path(root, sha256));
    }
    let path = part_path(root, sha256);
    let doing = || format!("check {}", path.display());
    let mut file = File::open(&path).doing(doing)?;
    let size = file.metadata().doing(doing)?.len();
    let found = hash(&mut file).doing(doing)?;
    if found != *sha256 || size != chunk.total_bytes {
        durable::remove_if_there(&path)?;
        return Err(Failure::refused(format!(
            "the upload of {sha256} arrived as {found} ({size} of {} bytes): run again to send it \
             once more",
            chunk.total_bytes
        )));
    }
    file.sync_all().doing(doing)?;
    let target = root.state(CONTENTS).join(sha256);
    fs::rename(&path, &target).doing(|| format!("name {}", target.display()))?;
    durable::sync_parent(&target)
}

#[cfg(test)]
mod tests;
