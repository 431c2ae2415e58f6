//! A helper that answers with what another host's helper answered, for benchmarks of many hosts.
//!
//! In: frames, and the folder that `RECORDED_HOST` names with the files `hello` and `answer-0`,
//! `answer-1` and so on. Out: these files, one for each frame. Invariant: a frame without an
//! answer is put there as `request-N`, so that a real helper can be asked, and it ends.

#![expect(
    clippy::disallowed_methods,
    reason = "a program, not part of the crate"
)]

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::PathBuf;

use provision_protocol::frame::check_length;

fn main() -> io::Result<()> {
    let folder = std::env::var_os("RECORDED_HOST").map(PathBuf::from);
    let folder = folder.ok_or_else(|| io::Error::other("RECORDED_HOST names no folder"))?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    output.write_all(&fs::read(folder.join("hello"))?)?;
    for number in 0.. {
        output.flush()?;
        let mut header = [0; 4];
        match input.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            read => read?,
        }
        let length = check_length(u32::from_be_bytes(header)).map_err(io::Error::other)?;
        let mut body = vec![0; length as usize];
        input.read_exact(&mut body)?;
        match fs::read(folder.join(format!("answer-{number}"))) {
            Ok(answer) => output.write_all(&answer)?,
            Err(_) => {
                let request = [&header[..], &body].concat();
                fs::write(folder.join(format!("request-{number}")), request)?;
                break;
            }
        }
    }
    Ok(())
}
