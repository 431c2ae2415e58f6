//! The binary: one conversation over standard input and output, then the exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    provision_host::run(std::env::args_os().skip(1))
}
