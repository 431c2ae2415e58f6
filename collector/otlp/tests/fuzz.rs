//! The bodies of the fuzz targets, for a bounded time and with stable Rust: the corpus, and
//! what a seeded mutator that knows protobuf makes of it.

#![expect(clippy::disallowed_methods, reason = "a test that reads its corpus")]

#[path = "../fuzz/bodies.rs"]
mod bodies;

use std::path::Path;

use collector_otlp::{Request, Signal};

/// How many mutations of each file of the corpus are tried.
const ROUNDS: usize = 2000;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    let files: Vec<_> = paths
        .iter()
        .map(|path| std::fs::read(path).expect("a file"))
        .collect();
    assert!(files.len() >= 3, "{target}");
    files
}

/// Where the length-delimited fields of some bytes begin and end, at every level.
fn fields(bytes: &[u8], start: usize, depth: usize, found: &mut Vec<(usize, usize)>) {
    let mut at = 0;
    while let Some(&tag) = bytes.get(at) {
        let begin = at;
        at += 1;
        match tag & 7 {
            0 => at += bytes[at..].iter().take_while(|byte| **byte >= 0x80).count() + 1,
            1 => at += 8,
            5 => at += 4,
            2 => {
                let Some(&length) = bytes.get(at) else { return };
                let (length, width) = match (length, bytes.get(at + 1)) {
                    (..0x80, _) => (usize::from(length), 1),
                    (_, Some(high)) => (usize::from(length & 0x7f) | usize::from(*high) << 7, 2),
                    _ => return,
                };
                let Some(body) = bytes.get(at + width..at + width + length) else {
                    return;
                };
                if depth < 8 {
                    fields(body, start + at + width, depth + 1, found);
                }
                at += width + length;
            }
            _ => return,
        }
        if at > bytes.len() {
            return;
        }
        found.push((start + begin, start + at));
    }
}

/// Changes bytes: anywhere, or whole fields that are doubled, removed or moved.
fn mutate(random: &mut fastrand::Rng, bytes: &mut Vec<u8>) {
    for _ in 0..random.usize(1..4) {
        let mut places = Vec::new();
        fields(&bytes[1..], 1, 0, &mut places);
        match (random.u8(..6), random.choice(&places).copied()) {
            (0..2, Some((start, end))) => {
                let copy = bytes[start..end].to_vec();
                let (at, _) = places[random.usize(..places.len())];
                bytes.splice(at..at, copy);
            }
            (2, Some((start, end))) => drop(bytes.drain(start..end)),
            (3, Some((start, _))) => bytes[start] ^= 1 << random.u8(..8),
            _ if bytes.is_empty() => {}
            _ => {
                let at = random.usize(..bytes.len());
                bytes[at] = *random
                    .choice(&[0, 1, 0x7f, 0x80, 0xff, bytes[at].wrapping_add(1)])
                    .unwrap_or(&0);
            }
        }
        bytes.truncate(1 << 14);
        if bytes.is_empty() {
            bytes.push(0);
        }
    }
}

/// Changes JSON: a digit, a letter or a sign becomes another one from the same text.
fn mutate_json(random: &mut fastrand::Rng, bytes: &mut [u8]) {
    for _ in 0..random.usize(1..3) {
        let (at, from) = (random.usize(..bytes.len()), random.usize(..bytes.len()));
        let kind = |byte: u8| (byte.is_ascii_digit(), byte.is_ascii_alphabetic());
        if kind(bytes[at]) == kind(bytes[from]) || random.u8(..20) == 0 {
            bytes[at] = bytes[from];
        }
    }
}

type Mutate = fn(&mut fastrand::Rng, &mut Vec<u8>);

fn run(target: &str, body: fn(&[u8]) -> bool, mutate: Mutate) {
    let mut sound = 0;
    for (index, file) in corpus(target).into_iter().enumerate() {
        assert!(body(&file));
        let mut random = fastrand::Rng::with_seed(index as u64);
        let mut bytes = file.clone();
        for round in 0..ROUNDS {
            // Mutations pile up for a while, so that what is far from the corpus is seen too.
            if round % 8 == 0 {
                bytes.clone_from(&file);
            }
            mutate(&mut random, &mut bytes);
            sound += usize::from(body(&bytes));
        }
    }
    // Mutations that are all refused at once would try nothing but the validation.
    assert!(sound > ROUNDS / 10, "{sound}");
}

#[test]
fn mutated_wire_bytes_never_panic() {
    run("wire", bodies::wire, mutate);
}

#[test]
fn mutated_json_never_panics() {
    run("json", bodies::json, |random, bytes| {
        mutate_json(random, bytes)
    });
}

#[test]
fn the_corpus_is_sound() {
    for file in corpus("wire") {
        let signal = Signal::ALL[usize::from(file[0] % 3)];
        assert!(
            Request::parse(signal, file[1..].to_vec().into())
                .expect("sound")
                .items()
                > 0
        );
    }
    for file in corpus("json") {
        let signal = Signal::ALL[usize::from(file[0] % 3)];
        assert!(
            Request::parse_json(signal, &file[1..])
                .expect("sound")
                .items()
                > 0
        );
    }
}
