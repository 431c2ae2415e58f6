//! Uploads, what is kept of them, and what is refused.

use ruzstd::encoding::{CompressionLevel, compress_to_vec};

use super::*;

fn place() -> (tempfile::TempDir, Root) {
    let directory = tempfile::tempdir().unwrap();
    let root = Root::below(directory.path().to_owned());
    (directory, root)
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    compress_to_vec(plain, CompressionLevel::Fastest)
}

fn sha256_of(plain: &[u8]) -> String {
    hash(&mut &plain[..]).unwrap()
}

/// The pieces of a content, `piece` bytes each, from `offset` on.
fn pieces(plain: &[u8], offset: usize, piece: usize) -> Vec<Chunk> {
    let sha256 = sha256_of(plain);
    let mut at = offset;
    let mut pieces = Vec::new();
    loop {
        let end = (at + piece).min(plain.len());
        pieces.push(Chunk {
            sha256: sha256.clone(),
            total_bytes: plain.len() as u64,
            offset: at as u64,
            zstd: zstd(&plain[at..end]),
            last: end == plain.len(),
        });
        at = end;
        if at == plain.len() {
            return pieces;
        }
    }
}

fn upload(root: &Root, chunks: &[Chunk]) -> Vec<Result<Stored, Failure>> {
    let mut uploads = Uploads::default();
    chunks
        .iter()
        .filter_map(|chunk| uploads.take(root, chunk))
        .collect()
}

#[test]
fn hashes_as_everybody_does() {
    assert_eq!(
        sha256_of(b"abc"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
}

#[test]
fn an_upload_in_pieces_is_answered_once() {
    let (_directory, root) = place();
    let plain = b"a content that comes in pieces";
    let answers = upload(&root, &pieces(plain, 0, 7));
    assert_eq!(answers.len(), 1);
    let sha256 = &answers[0].as_ref().unwrap().sha256;
    assert_eq!(fs::read(require(&root, sha256).unwrap()).unwrap(), plain);
    assert!(look(&root, sha256).unwrap().complete);
}

#[test]
fn an_empty_content_can_be_uploaded() {
    let (_directory, root) = place();
    let answers = upload(&root, &pieces(b"", 0, 7));
    assert!(answers[0].is_ok());
}

#[test]
fn an_interrupted_upload_is_resumed() {
    let (_directory, root) = place();
    let plain = b"a content that comes in pieces";
    let sha256 = sha256_of(plain);
    assert!(upload(&root, &pieces(plain, 0, 7)[..2]).is_empty());
    let fact = look(&root, &sha256).unwrap();
    assert_eq!((fact.complete, fact.partial_bytes), (false, 14));
    assert!(upload(&root, &pieces(plain, 14, 100))[0].is_ok());
}

#[test]
fn a_resumption_may_begin_earlier_but_leave_no_gap() {
    let (_directory, root) = place();
    let plain = b"a content that comes in pieces";
    upload(&root, &pieces(plain, 0, 7)[..2]);
    assert!(upload(&root, &pieces(plain, 10, 5))[0].is_ok());

    let (_directory, root) = place();
    upload(&root, &pieces(plain, 0, 7)[..2]);
    let answers = upload(&root, &pieces(plain, 15, 5));
    assert_eq!(
        answers.len(),
        1,
        "exactly one refusal for the whole content"
    );
    assert!(
        answers[0]
            .as_ref()
            .unwrap_err()
            .to_string()
            .contains("only 14 bytes are here")
    );
}

#[test]
fn a_wrong_hash_leaves_nothing_behind() {
    let (_directory, root) = place();
    let mut chunks = pieces(b"what was announced", 0, 100);
    chunks[0].zstd = zstd(b"what has come here");
    assert!(upload(&root, &chunks)[0].is_err());
    assert_eq!(
        look(&root, &chunks[0].sha256).unwrap(),
        ContentFact::default()
    );
}

#[test]
fn damaged_zstd_and_bombs_are_refused() {
    let (_directory, root) = place();
    let mut chunks = pieces(b"short", 0, 100);
    chunks[0].zstd = zstd(&vec![0u8; 1_000_000]);
    let answer = upload(&root, &chunks).remove(0);
    assert!(
        answer
            .unwrap_err()
            .to_string()
            .contains("longer than announced")
    );
    chunks[0].zstd = b"no zstd".to_vec();
    assert!(upload(&root, &chunks)[0].is_err());
}

#[test]
fn more_than_the_disk_holds_is_refused_with_both_numbers() {
    let (_directory, root) = place();
    let mut chunks = pieces(b"x", 0, 100);
    chunks[0].total_bytes = MAX_CONTENT_BYTES;
    let free = FileSystem::holding(&root.at("/")).unwrap().free_bytes;
    let message = upload(&root, &chunks)[0].as_ref().unwrap_err().to_string();
    if free < MAX_CONTENT_BYTES {
        assert!(
            message.contains("bytes needed") && message.contains("bytes free on"),
            "{message}"
        );
    } else {
        assert!(message.contains("1 of 8589934592 bytes"), "{message}");
    }
}

#[test]
fn a_content_that_was_damaged_later_is_not_used() {
    let (_directory, root) = place();
    let sha256 = upload(&root, &pieces(b"good", 0, 9))
        .remove(0)
        .unwrap()
        .sha256;
    fs::write(find(&root, &sha256).unwrap(), "evil").unwrap();
    let mut target = tempfile::tempfile().unwrap();
    assert!(copy_to(&root, &sha256, &mut target).is_err());
    assert_eq!(find(&root, &sha256), None);
}

/// A large content that does not compress, different for each `seed`.
fn large(seed: u8) -> Vec<u8> {
    let size = usize::try_from(LARGE_BYTES).unwrap();
    (0..size).map(|at| (at % 251) as u8 ^ seed).collect()
}

#[test]
fn a_large_upload_waits_for_another_run_and_a_small_one_does_not() {
    let (_directory, root) = place();
    let store = |plain: &[u8]| {
        let piece = 1024 * 1024;
        upload(&root, &pieces(plain, 0, piece))
            .remove(0)
            .unwrap()
            .sha256
    };
    let small = store(b"perhaps a secret");
    let [waiting, spent, old] = [1, 2, 3].map(|seed| store(&large(seed)));
    let twice = [large(4), large(4)].concat();
    upload(&root, &pieces(&twice, 0, 1024 * 1024)[..1]);
    upload(&root, &pieces(b"in two pieces", 0, 7)[..1]);
    let long_ago = SystemTime::now() - WAITS_FOR - Duration::from_secs(1);
    File::options()
        .write(true)
        .open(find(&root, &old).unwrap())
        .unwrap()
        .set_modified(long_ago)
        .unwrap();
    remove_leftovers(&root, &BTreeSet::from([spent.clone()])).unwrap();
    assert!(find(&root, &waiting).is_some());
    for gone in [&small, &spent, &old] {
        assert_eq!(find(&root, gone), None);
    }
    let partial = |plain: &[u8]| look(&root, &sha256_of(plain)).unwrap().partial_bytes;
    assert_eq!(partial(&twice), LARGE_BYTES, "it can be resumed");
    assert_eq!(partial(b"in two pieces"), 0, "half a secret is one");
    remove_leftovers(&root, &BTreeSet::from([waiting, sha256_of(&twice)])).unwrap();
    assert_eq!(partial(&twice), LARGE_BYTES);
}

#[test]
fn keeps_what_stood_here_by_its_hash() {
    let (directory, root) = place();
    let path = directory.path().join("config");
    fs::write(&path, "old").unwrap();
    let sha256 = keep(&root, &path).unwrap();
    assert_eq!(sha256, sha256_of(b"old"));
    assert_eq!(fs::read(find(&root, &sha256).unwrap()).unwrap(), b"old");
    assert!(
        look(&root, &sha256).unwrap().complete,
        "a rollback needs no upload"
    );
}
