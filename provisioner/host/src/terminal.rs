//! A terminal for a program that asks for a password nowhere else.
//!
//! In: a program, and a prompt. Out: the program, run at a terminal of its own, with this process's
//! input and output as they are; whenever it asks without echo, the prompt is written to the
//! standard error and one line of the standard input is typed for it. Invariant: nothing is read
//! before the program asks, and never more than that line.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;

use rustix::io::Errno;
use rustix::process::{ioctl_tiocsctty, setsid};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::stdio::stdin;
use rustix::termios::{LocalModes, tcgetattr};
use signal_hook::consts::SIGHUP;

/// The longest line that is typed, in bytes.
const LINE_LIMIT_BYTES: usize = 4096;

/// Exit code where there is no terminal to be had, as a shell has it for what cannot be run.
const EXIT_CANNOT: u8 = 126;

/// Runs a program at a terminal: `PROMPT PROGRAM ARGUMENT…`.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(prompt), Some(program)) = (arguments.next(), arguments.next()) else {
        return ExitCode::from(crate::EXIT_USAGE);
    };
    let run = || -> io::Result<ExitStatus> {
        // The end of its terminal is no reason to end before the program's exit code is known.
        signal_hook::flag::register(SIGHUP, Arc::default())?;
        let (controller, _terminal) = open()?;
        thread::spawn(move || answer(controller, &prompt.into_vec()));
        Command::new(&program).args(arguments).status()
    };
    match run() {
        Ok(status) => {
            let code = status.code().or(status.signal().map(|signal| 128 + signal));
            ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            let program = program.to_string_lossy();
            let not_found = error.kind() == io::ErrorKind::NotFound;
            let words = if not_found {
                "not found".to_owned()
            } else {
                error.to_string()
            };
            let _ = writeln!(io::stderr(), "{program}: {words}");
            ExitCode::from(EXIT_CANNOT)
        }
    }
}

/// A new terminal, which becomes the one of this process and of its children. It is that as long
/// as its second end is open.
fn open() -> io::Result<(File, File)> {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&controller)?;
    unlockpt(&controller)?;
    let path = PathBuf::from(OsString::from_vec(
        ptsname(&controller, Vec::new())?.into_bytes(),
    ));
    // Whoever leads a session already may take a terminal as well.
    match setsid() {
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let terminal = OpenOptions::new().read(true).write(true).open(path)?;
    ioctl_tiocsctty(&terminal)?;
    Ok((File::from(controller), terminal))
}

/// Types a line whenever one is asked for, until nobody can ask any more.
fn answer(mut controller: File, prompt: &[u8]) {
    let mut said = [0u8; 1024];
    while let Ok(length @ 1..) = controller.read(&mut said) {
        let modes = tcgetattr(&controller).map(|modes| modes.local_modes);
        let hidden = modes.is_ok_and(|modes| !modes.contains(LocalModes::ECHO));
        // Behind what was typed, a program ends the line itself before it shows letters again.
        if !hidden || said[..length].trim_ascii().is_empty() {
            continue;
        }
        let typed = io::stderr().write_all(prompt).and_then(|()| read_line());
        let Ok(line) = typed else { return };
        if controller.write_all(&line).is_err() {
            return;
        }
    }
}

/// One line, byte by byte: what follows it is for the program.
fn read_line() -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut byte = [0u8];
    while line.len() < LINE_LIMIT_BYTES {
        if rustix::io::read(stdin(), &mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.push(byte[0]);
        if byte[0] == b'\n' {
            return Ok(line);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}
