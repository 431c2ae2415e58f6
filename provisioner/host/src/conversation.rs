//! The conversation: one request after the other, each answered once, in order.
//!
//! Goes in: [`ToHost`] frames. Comes out: the marker, [`FromHost`] frames. Invariant: an operation
//! that has begun is ended, whatever becomes of the connection, and none begins after it is gone;
//! what was staged or sent and may hold a secret does not outlive the conversation.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use provision_protocol::HELLO_MARKER;
use provision_protocol::frame::{self, FrameError};
use provision_protocol::message::from_host::Body as Answer;
use provision_protocol::message::to_host::Body as Request;
use provision_protocol::message::{
    Commit, Committed, Facts, FromHost, Lock, Locked, Observe, OperationFailure, Perform,
    Performed, Progress, Refused, ToHost, Unstaged,
};
use provision_protocol::operation::Operation;
use provision_protocol::operation::operation::Kind as Act;

use crate::content::{self, Uploads};
use crate::debt;
use crate::failure::Failure;
use crate::generation::Closing;
use crate::lock::HostLock;
use crate::manifest::Manifest;
use crate::operation;
use crate::root::Root;
use crate::stage::{self, Accepted};
use crate::{balancer, deadman, fact, greeting, peers, probe, retire};

/// How many requests are read ahead; each is bounded by the frame limit.
const READ_AHEAD: usize = 4;
/// How often a signal is looked for while nothing is asked.
const IDLE: Duration = Duration::from_millis(500);
/// How often whoever holds the lock says something while nothing is asked. A connection that is
/// gone without a word shows only when it is written to, and nobody else can have the lock then.
const BEAT: Duration = Duration::from_secs(10);
/// The most queries in one request.
const MAX_QUERIES: usize = 20_000;
/// The most operations in one request.
const MAX_OPERATIONS: usize = 20_000;

/// Holds the conversation until the input ends, the output breaks or `ending` is raised.
pub(crate) fn hold(
    root: Root,
    input: impl Read + Send + 'static,
    mut output: impl Write,
    ending: Arc<AtomicBool>,
) -> Result<(), FrameError> {
    output.write_all(HELLO_MARKER)?;
    let requests = read_ahead(input, Arc::clone(&ending));
    // Tests run below a root of their own, where no privilege is needed.
    let privileged = !root.is_system() || rustix::process::geteuid().is_root();
    let mut session = Session {
        speaker: Speaker {
            output,
            broken: false,
        },
        root,
        privileged,
        lock: None,
        uploads: Uploads::default(),
        accepted: Accepted::default(),
        committed: BTreeSet::new(),
        ending,
    };
    let hello = greeting::hello(&session.root);
    session.speaker.say(Answer::Hello(hello));
    let ended = session.answer_all(&requests);
    if session.lock.is_some() {
        // Nobody is left to be told, and the next one to take the lock does it again.
        let _ = session.clean_up();
    }
    ended
}

/// Reads in a thread of its own, so that the end of the input is noticed during an operation.
fn read_ahead(
    mut input: impl Read + Send + 'static,
    ending: Arc<AtomicBool>,
) -> Receiver<Result<ToHost, FrameError>> {
    let (sender, receiver) = sync_channel(READ_AHEAD);
    thread::spawn(move || {
        loop {
            let end = match frame::read::<ToHost>(&mut input) {
                Ok(Some(request)) => sender.send(Ok(request)).is_err(),
                Ok(None) => true,
                Err(error) => {
                    ending.store(true, Ordering::SeqCst);
                    // Nobody listens any more where this fails.
                    let _ = sender.send(Err(error));
                    true
                }
            };
            if end {
                ending.store(true, Ordering::SeqCst);
                return;
            }
        }
    });
    receiver
}

/// Writes answers. Once the connection is gone, nothing more is written.
struct Speaker<W> {
    output: W,
    broken: bool,
}

impl<W: Write> Speaker<W> {
    fn say(&mut self, body: Answer) {
        if !self.broken {
            let message = FromHost { body: Some(body) };
            self.broken = match frame::write(&mut self.output, &message) {
                Err(FrameError::TooLarge(_)) => {
                    let message = "the answer is too large for one frame".to_owned();
                    let refused = FromHost {
                        body: Some(Answer::Refused(Refused { message })),
                    };
                    frame::write(&mut self.output, &refused).is_err()
                }
                written => written.is_err(),
            };
        }
    }

    fn progress(&mut self, resource: &str, doing: &str) {
        let progress = Progress {
            resource: resource.to_owned(),
            doing: doing.to_owned(),
        };
        self.say(Answer::Progress(progress));
    }
}

struct Session<W> {
    speaker: Speaker<W>,
    root: Root,
    privileged: bool,
    lock: Option<HostLock>,
    uploads: Uploads,
    /// What validators have accepted.
    accepted: Accepted,
    /// Contents that were put in their places.
    committed: BTreeSet<String>,
    ending: Arc<AtomicBool>,
}

impl<W: Write> Session<W> {
    fn answer_all(
        &mut self,
        requests: &Receiver<Result<ToHost, FrameError>>,
    ) -> Result<(), FrameError> {
        let mut spoke = Instant::now();
        while !self.speaker.broken {
            let request = match requests.recv_timeout(IDLE) {
                Ok(request) => request?,
                // The end of the input closes the channel after the last request.
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) if self.ending.load(Ordering::SeqCst) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if self.lock.is_some() && spoke.elapsed() >= BEAT {
                        self.speaker.progress("", "waiting to be asked");
                        spoke = Instant::now();
                    }
                    continue;
                }
            };
            let answer = match request.body {
                Some(body) => self.answer(body),
                None => Err(Failure::refused("this helper does not know such a request")),
            };
            match answer {
                Ok(Some(answer)) => self.speaker.say(answer),
                Ok(None) => {}
                Err(failure) => {
                    self.speaker.say(Answer::Refused(Refused {
                        message: failure.to_string(),
                    }));
                }
            }
            spoke = Instant::now();
        }
        Ok(())
    }

    fn answer(&mut self, request: Request) -> Result<Option<Answer>, Failure> {
        let answer = match request {
            Request::Observe(observe) => Answer::Facts(self.observe(&observe)?),
            Request::Probe(request) => {
                Answer::Probed(probe::probe(&self.root, &request, &self.ending)?)
            }
            Request::Lock(lock) => Answer::Locked(self.take_lock(&lock)?),
            Request::Chunk(chunk) => {
                if let Err(failure) = self.check_locked() {
                    return if chunk.last { Err(failure) } else { Ok(None) };
                }
                return self
                    .uploads
                    .take(&self.root, &chunk)
                    .map(|stored| stored.map(Answer::Stored))
                    .transpose();
            }
            Request::Stage(request) => {
                self.check_locked()?;
                let speaker = &mut self.speaker;
                let mut progress = |path: &str, doing: &str| speaker.progress(path, doing);
                let accepted = &mut self.accepted;
                Answer::Staged(stage::stage(&self.root, &request, accepted, &mut progress)?)
            }
            Request::Perform(request) => {
                self.check_locked()?;
                Answer::Performed(self.perform(&request)?)
            }
            Request::Unstage(_) => {
                self.check_locked()?;
                self.clean_up()?;
                Answer::Unstaged(Unstaged {})
            }
            Request::Commit(request) => {
                self.check_locked()?;
                Answer::Committed(self.commit(request)?)
            }
            Request::Balance(request) => {
                self.check_locked()?;
                Answer::Balanced(balancer::balance(&self.root, &request, &self.ending)?)
            }
            Request::Arm(request) => {
                self.check_locked()?;
                Answer::Armed(deadman::arm(&self.root, &request)?)
            }
            // Whoever got in anew is another conversation than the one that holds the lock.
            Request::Disarm(_) => {
                self.check_privileged()?;
                Answer::Disarmed(deadman::disarm(&self.root)?)
            }
            Request::Retire(_) => {
                self.check_locked()?;
                Answer::Retired(retire::retire(&self.root)?)
            }
        };
        Ok(Some(answer))
    }

    fn check_privileged(&self) -> Result<(), Failure> {
        if self.privileged {
            return Ok(());
        }
        let uid = rustix::process::geteuid().as_raw();
        Err(Failure::refused(format!(
            "this needs root, and the helper runs as user id {uid}: let provision use sudo"
        )))
    }

    fn check_locked(&self) -> Result<(), Failure> {
        self.check_privileged()?;
        if self.lock.is_some() {
            Ok(())
        } else {
            Err(Failure::refused("the host's lock must be taken first"))
        }
    }

    fn observe(&self, request: &Observe) -> Result<Facts, Failure> {
        if request.queries.len() > MAX_QUERIES {
            return Err(Failure::refused(format!(
                "more than {MAX_QUERIES} queries at once"
            )));
        }
        Ok(Facts {
            facts: fact::observe(&self.root, &request.queries),
        })
    }

    fn take_lock(&mut self, request: &Lock) -> Result<Locked, Failure> {
        self.check_privileged()?;
        if self.lock.is_none() {
            let lock = HostLock::take(&self.root, &request.holder)?;
            self.clean_up()?;
            debt::forget_reboot(&self.root)?;
            let manifest = Manifest::read(&self.root)?;
            content::bound_previous(&self.root, &manifest.kept_hashes().collect())?;
            self.lock = Some(lock);
        }
        Ok(Locked {})
    }

    /// Throws away what is staged, and contents that need not or must not wait for another run.
    fn clean_up(&self) -> Result<(), Failure> {
        stage::clear(&self.root)?;
        content::remove_leftovers(&self.root, &self.committed)
    }

    fn commit(&self, request: Commit) -> Result<Committed, Failure> {
        let ending = request.ending();
        if !request.peers.is_empty() {
            peers::write(&self.root, &request.environment, &request.peers)?;
        }
        let closing = Closing {
            ending: ending.into(),
            plays: request.plays,
            note: request.note,
        };
        let mut manifest = Manifest::read(&self.root)?;
        let number = manifest.commit(&self.root, &request.environment, closing)?;
        Ok(Committed { number })
    }

    fn perform(&mut self, request: &Perform) -> Result<Performed, Failure> {
        if request.operations.len() > MAX_OPERATIONS {
            return Err(Failure::refused(format!(
                "more than {MAX_OPERATIONS} operations at once"
            )));
        }
        let origin = request.origin.clone().unwrap_or_default();
        let mut manifest = Manifest::read_for(&self.root, &request.run, origin)?;
        let mut performed = Performed::default();
        for operation in &request.operations {
            let speaker = &mut self.speaker;
            let mut progress = |doing: &str| speaker.progress(&operation.resource, doing);
            let result = if self.ending.load(Ordering::SeqCst) {
                Err(Failure::refused(
                    "the connection was lost before this began",
                ))
            } else {
                operation::perform(
                    &self.root,
                    &request.run,
                    operation,
                    (&mut manifest, &self.accepted),
                    &mut progress,
                )
            };
            if let Err(failure) = result {
                performed.failure = Some(OperationFailure {
                    resource: operation.resource.clone(),
                    message: failure.to_string(),
                    guard: matches!(failure, Failure::Guard(_)),
                });
                break;
            }
            performed.done += 1;
            self.committed.extend(content_of(operation).cloned());
            if self.speaker.broken {
                self.ending.store(true, Ordering::SeqCst);
            }
        }
        Ok(performed)
    }
}

/// The content that an operation puts in its place.
fn content_of(operation: &Operation) -> Option<&String> {
    match &operation.kind {
        Some(Act::WriteFile(wanted)) => Some(&wanted.sha256),
        Some(Act::ExtractArchive(wanted)) => Some(&wanted.sha256),
        _ => None,
    }
}
