//! A file system in memory that keeps only what it promised.
//!
//! In: calls, a seed. Out: the answers of a file system, faults where they are asked for, and what
//! a power cut leaves: any part of the writes that were not synced, torn at sectors, in any order;
//! of a folder's entries, those up to any point after its last sync.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fastrand::Rng;

use crate::{Access, Capacity, Entry, File, Files, Lock};

const SECTOR: usize = 512;

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

#[derive(Clone, Default)]
struct Node {
    /// What a read sees.
    seen: Vec<u8>,
    /// What a power cut leaves in any case.
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Naming {
    Create(PathBuf, usize),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

type Names = BTreeMap<PathBuf, usize>;

/// How likely each kind of call fails, in thousandths.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) write: u32,
    pub(super) sync: u32,
    pub(super) names: u32,
    pub(super) read: u32,
}

struct State {
    nodes: Vec<Node>,
    seen: Names,
    durable: Names,
    pending: Vec<Naming>,
    rng: Rng,
    faults: Faults,
    /// Calls until the power is cut.
    calls_left: Option<u64>,
    is_off: bool,
    capacity: u64,
    calls: u64,
}

/// See the module.
#[derive(Clone)]
pub(super) struct Memory(Arc<Mutex<State>>);

struct Handle {
    memory: Memory,
    node: usize,
}

fn write(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if content.len() < offset + bytes.len() {
        content.resize(offset + bytes.len(), 0);
    }
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A part of a write that ends where a sector does, as those of file systems do.
fn whole_sectors(offset: usize, part: usize) -> usize {
    ((offset + part) / SECTOR * SECTOR).saturating_sub(offset)
}

fn change(content: &mut Vec<u8>, with: &Change) {
    match with {
        Change::Write(offset, bytes) => write(content, *offset, bytes),
        Change::SetLen(len) => content.resize(*len, 0),
    }
}

fn rename(names: &mut Names, naming: &Naming) {
    match naming {
        Naming::Create(path, node) => drop(names.insert(path.clone(), *node)),
        Naming::Rename(from, to) => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        Naming::Remove(path) => drop(names.remove(path)),
    }
}

impl Node {
    /// Keeps any part of what is pending.
    fn tear(&mut self, rng: &mut Rng) {
        let kept = rng.u32(0..=4);
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Change::SetLen(_) if rng.u32(0..4) < kept => change(&mut self.durable, &pending),
                Change::SetLen(_) => {}
                Change::Write(mut offset, bytes) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        let len = (SECTOR - offset % SECTOR).min(rest.len());
                        if rng.u32(0..4) < kept {
                            write(&mut self.durable, offset, &rest[..len]);
                        } else if rng.u32(0..4) == 0 {
                            // The length may be durable before the content.
                            let len = self.durable.len().max(offset + len);
                            self.durable.resize(len, 0);
                        }
                        offset += len;
                        rest = &rest[len..];
                    }
                }
            }
        }
    }
}

impl State {
    fn call(&mut self, fault: u32) -> io::Result<()> {
        self.calls += 1;
        if let Some(left) = &mut self.calls_left {
            *left = left.saturating_sub(1);
            self.is_off |= *left == 0;
        }
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        if self.rng.u32(0..1000) < fault {
            let kinds = [5, 28, 30];
            return Err(io::Error::from_raw_os_error(
                kinds[self.rng.usize(0..kinds.len())],
            ));
        }
        Ok(())
    }

    fn name(&mut self, naming: Naming) {
        rename(&mut self.seen, &naming);
        self.pending.push(naming);
    }

    fn used(&self) -> u64 {
        self.seen
            .values()
            .map(|node| self.nodes[*node].seen.len() as u64)
            .sum()
    }
}

impl Memory {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            nodes: Vec::new(),
            seen: Names::new(),
            durable: Names::new(),
            pending: Vec::new(),
            rng: Rng::with_seed(seed),
            faults: Faults::default(),
            calls_left: None,
            is_off: false,
            capacity: 1 << 40,
            calls: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.state().capacity = bytes;
    }

    /// Cuts the power after so many calls.
    pub(super) fn cut_after(&self, calls: u64) {
        self.state().calls_left = Some(calls);
    }

    pub(super) fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// What stands here when the power is back.
    pub(super) fn power_cycle(&self) {
        let state = &mut *self.state();
        for node in &mut state.nodes {
            node.tear(&mut state.rng);
            node.seen.clone_from(&node.durable);
        }
        let kept = state.rng.usize(0..=state.pending.len());
        for naming in state.pending.drain(..).take(kept) {
            rename(&mut state.durable, &naming);
        }
        state.seen.clone_from(&state.durable);
        for (index, node) in state.nodes.iter_mut().enumerate() {
            if !state.seen.values().any(|kept| *kept == index) {
                *node = Node::default();
            }
        }
        state.restart();
    }

    /// What stands here when only the process was killed.
    pub(super) fn restart(&self) {
        self.state().restart();
    }

    /// The content of a file, to be damaged.
    pub(super) fn edit(&self, path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let node = state.seen[path];
        let node = &mut state.nodes[node];
        edit(&mut node.seen);
        node.durable.clone_from(&node.seen);
        node.pending.clear();
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.state().seen.keys().cloned().collect()
    }
}

impl State {
    fn restart(&mut self) {
        self.calls_left = None;
        self.is_off = false;
        self.faults = Faults::default();
        self.capacity = 1 << 40;
    }
}

impl Files for Memory {
    fn create_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let faults = state.faults;
        state.call(if access == Access::Read {
            faults.read
        } else {
            faults.names
        })?;
        let node = match (state.seen.get(path).copied(), access) {
            (Some(node), Access::Read | Access::Write) => node,
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(node), Access::Create) => {
                state.nodes[node].seen.clear();
                state.nodes[node].pending.push(Change::SetLen(0));
                node
            }
            (None, Access::Create) => {
                state.nodes.push(Node::default());
                let node = state.nodes.len() - 1;
                state.name(Naming::Create(path.to_owned(), node));
                node
            }
        };
        Ok(Arc::new(Handle {
            memory: self.clone(),
            node,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.faults.names;
        state.call(fault)?;
        if !state.seen.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Naming::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.faults.names;
        state.call(fault)?;
        if !state.seen.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.name(Naming::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_folder(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Entry>> {
        let mut state = self.state();
        state.call(0)?;
        let names = state
            .seen
            .keys()
            .filter(|path| path.parent() == Some(folder));
        let entry = |path: &PathBuf| Entry {
            name: path
                .file_name()
                .expect("a name")
                .to_str()
                .expect("UTF-8")
                .to_owned(),
            is_folder: false,
        };
        Ok(names.map(entry).collect())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        let fault = state.faults.sync;
        state.call(fault)?;
        let _ = folder;
        for naming in std::mem::take(&mut state.pending) {
            rename(&mut state.durable, &naming);
        }
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<Option<Lock>> {
        Ok(Some(Box::new(())))
    }

    fn is_locked(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn capacity(&self, _: &Path) -> io::Result<Capacity> {
        let state = self.state();
        let free = state.capacity.saturating_sub(state.used());
        Ok(Capacity {
            free,
            total: state.capacity,
        })
    }
}

impl File for Handle {
    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.memory.state();
        let fault = state.faults.read;
        state.call(fault)?;
        let seen = &state.nodes[self.node].seen;
        let from = seen.get(offset as usize..).unwrap_or_default();
        let len = from.len().min(into.len());
        into[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn write_vectored_at(&self, from: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let mut state = self.memory.state();
        let mut bytes: Vec<u8> = from
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let was_off = state.is_off;
        let fault = state.faults.write;
        let called = state.call(fault);
        let offset = offset as usize;
        let grown = (offset + bytes.len()).saturating_sub(state.nodes[self.node].seen.len());
        let has_room = state.used() + grown as u64 <= state.capacity;
        if called.is_err() || !has_room {
            // Part of it may have been written.
            let part = state.rng.usize(0..=bytes.len());
            bytes.truncate(whole_sectors(offset, part));
        } else if state.rng.u32(0..8) == 0 {
            let part = whole_sectors(offset, state.rng.usize(0..=bytes.len()));
            bytes.truncate(if part == 0 { bytes.len() } else { part });
        }
        if !was_off {
            let node = &mut state.nodes[self.node];
            write(&mut node.seen, offset, &bytes);
            node.pending.push(Change::Write(offset, bytes.clone()));
        }
        called?;
        if !has_room {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = &mut *self.memory.state();
        let fault = state.faults.sync;
        let called = state.call(fault);
        let node = &mut state.nodes[self.node];
        if called.is_err() {
            if !state.is_off {
                // What failed to be written is taken for written from now on.
                node.tear(&mut state.rng);
            }
            return called;
        }
        for pending in std::mem::take(&mut node.pending) {
            change(&mut node.durable, &pending);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.memory.state();
        let fault = state.faults.write;
        state.call(fault)?;
        let node = &mut state.nodes[self.node];
        node.seen.resize(len as usize, 0);
        node.pending.push(Change::SetLen(len as usize));
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        let mut state = self.memory.state();
        let fault = state.faults.read;
        state.call(fault)?;
        Ok(state.nodes[self.node].seen.len() as u64)
    }
}
