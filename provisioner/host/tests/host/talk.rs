//! A directory that stands for a host, and conversations with the helper that works on it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use provision_protocol::fact::{Fact, FileFact, FileQuery, Query, fact_kind, query};
use provision_protocol::generation::{Ending, Generation, GenerationsQuery, Origin};
use provision_protocol::message::from_host::Body as Answer;
use provision_protocol::message::to_host::Body as Request;
use provision_protocol::message::{
    Chunk, Commit, FromHost, Hello, Lock, Observe, Perform, Performed, Stage, Staged, ToHost,
};
use provision_protocol::operation::operation::Kind as Act;
use provision_protocol::operation::{ManifestEntry, ManifestKind, Operation, Remove, WriteFile};
use provision_protocol::{HELLO_MARKER, frame};
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use sha2::{Digest, Sha256};

/// A directory that stands for a host.
pub(crate) struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::in_directory(tempfile::tempdir().unwrap())
    }

    /// In memory where the machine has room for that, so that making things last takes no time.
    pub(crate) fn in_memory() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        Self::in_directory(directory.unwrap())
    }

    fn in_directory(directory: tempfile::TempDir) -> Self {
        let place = Self { directory };
        fs::create_dir_all(place.at("/etc")).unwrap();
        let (uid, gid) = ids();
        fs::write(
            place.at("/etc/passwd"),
            format!("me:x:{uid}:{gid}::/home/me:/bin/sh\n"),
        )
        .unwrap();
        fs::write(place.at("/etc/group"), format!("us:x:{gid}:\n")).unwrap();
        place
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    pub(crate) fn talk(&self) -> Talk {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provision-host"));
        Talk::with(command.arg("--root").arg(self.directory.path()))
    }

    pub(crate) fn locked(&self) -> Talk {
        let mut talk = self.talk();
        let answer = talk.ask(Request::Lock(Lock {
            holder: "a test".into(),
        }));
        assert!(matches!(answer, Answer::Locked(_)), "{answer:?}");
        talk
    }

    pub(crate) fn script(&self, path: &str, body: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub(crate) fn state_files(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.at("/var/lib/provision"))
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

pub(crate) fn ids() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let found = tempfile::tempdir().unwrap().path().metadata().unwrap();
    (found.uid(), found.gid())
}

/// One conversation.
pub(crate) struct Talk {
    pub(crate) child: Child,
    pub(crate) input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    pub(crate) hello: Hello,
}

impl Talk {
    /// Starts a helper and hears its greeting.
    pub(crate) fn with(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut output = child.stdout.take().unwrap();
        let mut marker = vec![0u8; HELLO_MARKER.len()];
        output.read_exact(&mut marker).unwrap();
        assert_eq!(marker, HELLO_MARKER);
        let mut talk = Self {
            child,
            input,
            output: Some(output),
            hello: Hello::default(),
        };
        let Answer::Hello(hello) = talk.hear() else {
            panic!("no hello")
        };
        talk.hello = hello;
        talk
    }

    pub(crate) fn lock(&mut self) {
        let answer = self.ask(Request::Lock(Lock {
            holder: "a test".into(),
        }));
        assert!(matches!(answer, Answer::Locked(_)), "{answer:?}");
    }

    /// Hears nothing any more, while the input stays open: as a connection that is gone without a
    /// word.
    pub(crate) fn turn_deaf(&mut self) {
        self.output = None;
    }

    pub(crate) fn say(&mut self, body: Request) {
        frame::write(self.input.as_mut().unwrap(), &ToHost { body: Some(body) }).unwrap();
    }

    pub(crate) fn hear(&mut self) -> Answer {
        loop {
            match frame::read::<FromHost>(self.output.as_mut().unwrap())
                .unwrap()
                .unwrap()
                .body
                .unwrap()
            {
                Answer::Progress(_) => {}
                answer => return answer,
            }
        }
    }

    pub(crate) fn ask(&mut self, body: Request) -> Answer {
        self.say(body);
        self.hear()
    }

    pub(crate) fn observe(&mut self, kinds: Vec<query::Kind>) -> Vec<Fact> {
        let queries = kinds
            .into_iter()
            .map(|kind| Query { kind: Some(kind) })
            .collect();
        match self.ask(Request::Observe(Observe { queries })) {
            Answer::Facts(facts) => facts.facts,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn file(&mut self, path: &str) -> FileFact {
        let query = FileQuery {
            path: path.into(),
            text_limit_bytes: 1000,
            known_sha256: vec![],
        };
        match self.observe(vec![query::Kind::File(query)]).remove(0).kind {
            Some(fact_kind::Kind::File(fact)) => fact,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn manifest(&mut self) -> Vec<ManifestEntry> {
        match self
            .observe(vec![query::Kind::Manifest("test".into())])
            .remove(0)
            .kind
        {
            Some(fact_kind::Kind::Manifest(fact)) => fact.entries,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn upload(&mut self, plain: &[u8]) -> String {
        let chunk = chunk(plain);
        let sha256 = chunk.sha256.clone();
        let answer = self.ask(Request::Chunk(chunk));
        assert!(matches!(answer, Answer::Stored(_)), "{answer:?}");
        sha256
    }

    pub(crate) fn is_complete(&mut self, sha256: &str) -> bool {
        let query = query::Kind::Content(sha256.to_owned());
        match self.observe(vec![query]).remove(0).kind {
            Some(fact_kind::Kind::Content(fact)) => fact.complete,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn stage(&mut self, request: Stage) -> Staged {
        match self.ask(Request::Stage(request)) {
            Answer::Staged(staged) => staged,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn perform(&mut self, operations: Vec<Operation>) -> Performed {
        match self.ask(Request::Perform(Perform {
            run: "run-1".into(),
            operations,
            origin: Some(Origin {
                who: "ada@controller".into(),
                commit: "abc".into(),
            }),
        })) {
            Answer::Performed(performed) => performed,
            other => panic!("{other:?}"),
        }
    }

    /// Closes the generation, and returns its number.
    pub(crate) fn commit(&mut self, ending: Ending) -> u64 {
        match self.ask(Request::Commit(Commit {
            environment: "test".into(),
            plays: vec!["app".into()],
            ending: ending as i32,
            note: String::new(),
            peers: Vec::new(),
        })) {
            Answer::Committed(committed) => committed.number,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn generations(&mut self) -> Vec<Generation> {
        let query = query::Kind::Generations(GenerationsQuery {
            environment: "test".into(),
            limit: 1000,
            peers: false,
        });
        match self.observe(vec![query]).remove(0).kind {
            Some(fact_kind::Kind::Generations(fact)) => fact.generations,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn done(&mut self, kind: Act) {
        let performed = self.perform(vec![operation(kind)]);
        assert_eq!(
            performed,
            Performed {
                done: 1,
                failure: None
            }
        );
    }

    pub(crate) fn refused(&mut self, kind: Act) -> String {
        self.perform(vec![operation(kind)])
            .failure
            .expect("a refusal")
            .message
    }

    pub(crate) fn remove(&mut self, kind: ManifestKind, name: &str) {
        let entry = ManifestEntry {
            kind: kind as i32,
            name: name.into(),
            ..ManifestEntry::default()
        };
        self.done(Act::Remove(Remove { entry: Some(entry) }));
    }

    /// Ends the input and waits for the helper's end.
    pub(crate) fn end(mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

pub(crate) fn operation(kind: Act) -> Operation {
    Operation {
        resource: "file /etc/app/config".into(),
        environment: "test".into(),
        play: "app".into(),
        guards: Vec::new(),
        kind: Some(kind),
    }
}

pub(crate) fn write(path: &str, sha256: &str) -> WriteFile {
    WriteFile {
        path: path.into(),
        sha256: sha256.into(),
        owner: "me".into(),
        group: "us".into(),
        mode: 0o640,
        ..WriteFile::default()
    }
}

pub(crate) fn sha256_of(plain: &[u8]) -> String {
    let digest = Sha256::digest(plain);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A whole content in one piece.
pub(crate) fn chunk(plain: &[u8]) -> Chunk {
    Chunk {
        sha256: sha256_of(plain),
        total_bytes: plain.len() as u64,
        offset: 0,
        zstd: compress_to_vec(plain, CompressionLevel::Fastest),
        last: true,
    }
}
