//! The host's lock.
//!
//! Goes in: who asks. Comes out: the lock, or who has it. Invariant: the kernel lets the lock go
//! with the process that holds it, so that no crash leaves it behind.

use std::fs::{File, OpenOptions};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::durable;
use crate::failure::{Doing, Failure};
use crate::root::Root;
use crate::space;

/// The longest description of a holder that is kept.
const MAX_HOLDER_BYTES: usize = 1024;

/// Held for as long as it lives.
pub(crate) struct HostLock {
    _file: File,
}

impl HostLock {
    /// Takes the lock without waiting; a refusal names who has it.
    pub(crate) fn take(root: &Root, holder: &str) -> Result<Self, Failure> {
        durable::make_private_directory(&root.state(""))?;
        let path = root.state("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .doing(|| format!("open {}", path.display()))?;
        let words = root.state("lock.holder");
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let other = std::fs::read_to_string(&words).unwrap_or_default();
                return Err(Failure::refused(format!(
                    "another run works on this host: {}; wait for it to end, or look whether it \
                     still lives",
                    if other.trim().is_empty() {
                        "it did not say who it is"
                    } else {
                        other.trim()
                    }
                )));
            }
            Err(error) => return Err(error).doing(|| format!("lock {}", path.display())),
        }
        let end = (0..=holder.len().min(MAX_HOLDER_BYTES)).rev();
        let end = end
            .into_iter()
            .find(|&at| holder.is_char_boundary(at))
            .unwrap_or(0);
        durable::write(&words, &holder.as_bytes()[..end])
            .map_err(|failure| space::explain(failure, &words, end as u64))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_learns_who_has_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::below(directory.path().to_owned());
        let held = HostLock::take(&root, "ada on controller-1, process 7").unwrap();
        let refusal = HostLock::take(&root, "bob").err().unwrap().to_string();
        assert_eq!(
            refusal,
            "another run works on this host: ada on controller-1, process 7; wait for it to end, \
             or look whether it still lives"
        );
        drop(held);
        // A child that another test forks has the file open until it becomes its program.
        let taken = (0..500).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            HostLock::take(&root, "bob").is_ok()
        });
        assert!(taken);
    }
}
