//! Programs that ask for a password at a terminal and nowhere else.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

/// Asks as `doas` does: without echo, at its terminal, with a line end of its own behind what was
/// typed. Then its standard input is what was sent behind the password.
const ASKS: &str = "\
    stty -echo </dev/tty; printf 'me@here password: ' >/dev/tty; IFS= read -r typed </dev/tty; \
    printf '\\n' >/dev/tty; stty echo </dev/tty; \
    printf 'typed=%s rest=' \"$typed\"; cat; exit 7";

#[test]
fn a_password_is_typed_when_it_is_asked_for_and_the_rest_is_left() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_provision-host"))
        .args(["--at-terminal", "<asks>", "sh", "-c", ASKS])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut question = [0; 6];
    child
        .stderr
        .as_mut()
        .unwrap()
        .read_exact(&mut question)
        .unwrap();
    assert_eq!(&question, b"<asks>");
    input.write_all(b"pass word\nframes\0follow").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "typed=pass word rest=frames\0follow");
    assert_eq!(output.stderr, b"", "it is asked once");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_provision-host"))
        .args(["--at-terminal", "<asks>", "no-such-program"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(126));
    assert_eq!(output.stderr, b"no-such-program: not found\n");
}
