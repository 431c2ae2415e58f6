//! Runs a program with a deadline.
//!
//! Goes in: a program, its arguments, a deadline. Comes out: its exit code and what it printed.
//! Invariant: what is kept of the output is bounded, and a child that outlives its deadline is
//! killed together with everything it started.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::process::{Pid, Signal, kill_process_group, umask};

use crate::failure::{Doing, Failure};
use crate::root::Root;

/// How much is kept of the beginning of an output, and how much of its end.
const KEPT_BYTES: usize = 512 * 1024;
/// How long a program may take that only looks at something.
pub(crate) const LOOK_DEADLINE: Duration = Duration::from_secs(30);
/// How long output is waited for after the program itself has ended.
const DRAIN: Duration = Duration::from_millis(500);
/// How often whoever watches is told the last line.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// The longest line that whoever watches is told.
const MAX_LINE_CHARS: usize = 200;
/// The longest pause between two looks at a running child.
const MAX_PAUSE: Duration = Duration::from_millis(10);
/// What the helper itself creates is for root alone.
const OWN_UMASK: u32 = 0o077;
/// What programs expect when they create files for everybody.
const CHILD_UMASK: u32 = 0o022;

/// Sets the umask under which the helper itself works.
pub(crate) fn settle_umask() {
    umask(Mode::from_raw_mode(OWN_UMASK));
}

/// A program about to be run.
pub(crate) struct Program<'a> {
    path: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    deadline: Duration,
    directory: PathBuf,
    watch: Option<&'a mut dyn FnMut(&str)>,
}

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// It was killed because its time was over.
    pub(crate) timed_out: bool,
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

impl<'a> Program<'a> {
    /// A program of the host, by name or absolute path.
    pub(crate) fn named(root: &Root, name: &str) -> Result<Self, Failure> {
        let path = root
            .program(name)
            .ok_or_else(|| Failure::refused(format!("{name} is not installed on this host")))?;
        Ok(Self::at(root, path))
    }

    /// A program file.
    pub(crate) fn at(root: &Root, path: PathBuf) -> Self {
        Self {
            path,
            arguments: Vec::new(),
            environment: vec![
                ("PATH", root.search_path()),
                ("LC_ALL", "C.UTF-8".to_owned()),
            ],
            deadline: LOOK_DEADLINE,
            directory: root.at("/"),
            watch: None,
        }
    }

    /// Adds arguments.
    pub(crate) fn arguments<A: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn environment(mut self, name: &'static str, value: &str) -> Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// How long it may take.
    pub(crate) fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Who is told the last line that it printed, about once a second.
    pub(crate) fn watch(mut self, watch: &'a mut dyn FnMut(&str)) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Result<Outcome, Failure> {
        let shown = self.path.display().to_string();
        let mut child = self.spawn().doing(|| format!("run {shown}"))?;
        let stdout = Capture::of(child.stdout.take());
        let stderr = Capture::of(child.stderr.take());
        let (code, timed_out) = self
            .wait(&mut child, &stdout)
            .doing(|| format!("wait for {shown}"))?;
        let until = Instant::now() + DRAIN;
        Ok(Outcome {
            code,
            timed_out,
            stdout: stdout.text(until),
            stderr: stderr.text(until),
        })
    }

    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a signal for the helper spares what it runs, and a deadline
            // reaches grandchildren.
            .process_group(0);
        let own = umask(Mode::from_raw_mode(CHILD_UMASK));
        let child = command.spawn();
        umask(own);
        child
    }

    fn wait(&mut self, child: &mut Child, stdout: &Capture) -> io::Result<(Option<i32>, bool)> {
        let started = Instant::now();
        let mut told = started;
        let mut pause = Duration::from_micros(500);
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok((status.code(), false));
            }
            if started.elapsed() >= self.deadline {
                let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(group) = group {
                    // It may have ended just now, which is as good.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                return Ok((child.wait()?.code(), true));
            }
            if let Some(watch) = &mut self.watch
                && told.elapsed() >= WATCH_INTERVAL
            {
                told = Instant::now();
                watch(&stdout.last_line());
            }
            thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

impl Outcome {
    /// It ended by itself with exit code 0.
    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0) && !self.timed_out
    }

    /// Everything that it said, complaints first, trimmed and bounded.
    pub(crate) fn said(&self, limit_bytes: usize) -> String {
        let text = [self.stderr.trim(), self.stdout.trim()]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join("\n");
        if text.is_empty() {
            self.ending()
        } else {
            shorten(&text, limit_bytes)
        }
    }

    /// How it ended, in words.
    pub(crate) fn ending(&self) -> String {
        match (self.timed_out, self.code) {
            (true, _) => "it did not end in time and was killed".to_owned(),
            (false, Some(code)) => format!("it ended with exit code {code}"),
            (false, None) => "a signal ended it".to_owned(),
        }
    }
}

/// The end of a text, which is where the reason stands, cut at a character.
pub(crate) fn shorten(text: &str, limit_bytes: usize) -> String {
    if text.len() <= limit_bytes {
        return text.to_owned();
    }
    let from = (text.len() - limit_bytes..text.len()).find(|&at| text.is_char_boundary(at));
    let end = &text[from.unwrap_or(text.len())..];
    // Half a word could be half a secret, which nobody would know to take out.
    let whole = end.find('\n').or_else(|| end.find(' '));
    format!("… {}", &end[whole.map_or(0, |at| at + 1)..])
}

/// The beginning and the end of an output, read by a thread of its own.
struct Capture {
    kept: Arc<Mutex<Kept>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Kept {
    head: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        let room = KEPT_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..room]);
        self.tail.extend(&bytes[room..]);
        let excess = self.tail.len().saturating_sub(KEPT_BYTES);
        self.tail.drain(..excess);
    }

    fn bytes(&self) -> Vec<u8> {
        self.head.iter().chain(&self.tail).copied().collect()
    }
}

impl Capture {
    fn of(stream: Option<impl Read + Send + 'static>) -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let shared = Arc::clone(&kept);
        let reader = stream.map(|mut stream| {
            thread::spawn(move || {
                let mut buffer = [0u8; 16 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    lock(&shared).push(&buffer[..count]);
                }
            })
        });
        Self { kept, reader }
    }

    fn last_line(&self) -> String {
        let bytes = lock(&self.kept).bytes();
        let from = bytes.len().saturating_sub(4096);
        let text = String::from_utf8_lossy(&bytes[from..]);
        let line = text
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty());
        let line = line.unwrap_or_default();
        match line.char_indices().nth(MAX_LINE_CHARS) {
            None => line.to_owned(),
            // Half a word could be half a secret, which nobody would know to take out.
            Some((end, _)) => format!("{} …", line[..end].rsplit_once(' ').map_or("", |it| it.0)),
        }
    }

    /// A grandchild that stays behind may hold the pipe open, so its end is not waited for long.
    fn text(self, until: Instant) -> String {
        if let Some(reader) = self.reader {
            while !reader.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_micros(200));
            }
        }
        String::from_utf8_lossy(&lock(&self.kept).bytes()).into_owned()
    }
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts a script in place that stands for a program of the host.
#[cfg(test)]
pub(crate) fn install_script(root: &Root, path: &str, body: &str) {
    use std::os::unix::fs::PermissionsExt;
    let file = root.at(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    // A script that is still open for writing in any thread's child cannot be executed, so it is
    // written by a program of its own.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\"; chmod 755 \"$0\""])
        .arg(&file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    io::Write::write_all(
        &mut child.stdin.take().unwrap(),
        format!("#!/bin/sh\n{body}\n").as_bytes(),
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(file.metadata().unwrap().permissions().mode() & 0o100 != 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program<'static> {
        Program::at(&Root::system(), "/bin/sh".into()).arguments(["-c", script])
    }

    #[test]
    fn tells_output_and_exit_code_apart() {
        let outcome = shell("echo out; echo err >&2; exit 3").run().unwrap();
        assert_eq!((outcome.code, outcome.timed_out), (Some(3), false));
        assert_eq!(
            (outcome.stdout.as_str(), outcome.stderr.as_str()),
            ("out\n", "err\n")
        );
        assert_eq!(outcome.said(100), "err\nout");
    }

    #[test]
    fn kills_what_outlives_its_deadline_with_its_children() {
        let started = Instant::now();
        let outcome = shell("sleep 60 & sleep 60")
            .deadline(Duration::from_millis(100))
            .run()
            .unwrap();
        assert!(outcome.timed_out && !outcome.succeeded());
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn does_not_wait_for_a_grandchild_that_keeps_the_pipe() {
        let started = Instant::now();
        let outcome = shell("sleep 20 & echo done").run().unwrap();
        assert!(outcome.succeeded());
        assert_eq!(outcome.stdout, "done\n");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn keeps_the_beginning_and_the_end_of_a_long_output() {
        let outcome = shell("echo first; yes | head -c 3000000; echo last")
            .run()
            .unwrap();
        assert!(outcome.stdout.starts_with("first\n") && outcome.stdout.ends_with("last\n"));
        assert!(outcome.stdout.len() <= 2 * KEPT_BYTES);
    }

    #[test]
    fn children_create_files_that_others_may_read() {
        assert_eq!(shell("umask").run().unwrap().stdout.trim(), "0022");
    }

    #[test]
    fn shortens_from_the_front_and_at_a_character() {
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("äöü", 3), "… ü");
    }

    #[test]
    fn does_not_cut_a_word_or_a_line_in_two() {
        assert_eq!(shorten("first line\ntoken secret\nlast", 8), "… last");
        assert_eq!(shorten("token secret last", 8), "… last");
    }
}
