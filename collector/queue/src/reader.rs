//! Reads what is on disk ahead of who consumes it.
//!
//! In: the places of segments. Out: records that are ready, and receipts for what is lost.
//! Invariant: no more than [`READY_BYTES`] and a chunk are held, whatever the backlog.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::files::{Access, Files};
use crate::format::Seed;
use crate::ledger::{Place, Shared};
use crate::notes::Noted;
use crate::salvage::Salvaged;
use crate::scan::{Cursor, Found, Gap, Scanner, Step};
use crate::writer::{Writer, segment_path};
use crate::{Amount, READY_BYTES, Receipt, Record};

/// How many bytes are read before they are made ready.
const TURN_BYTES: u64 = 1 << 20;

/// See the module.
pub(crate) struct Reader {
    pub(crate) files: Arc<dyn Files>,
    pub(crate) folder: PathBuf,
    pub(crate) salt: u64,
    pub(crate) shared: Arc<Shared>,
    pub(crate) scanner: Option<(u64, Scanner)>,
    /// Whether what cannot be read is given up.
    pub(crate) salvages: bool,
}

/// What a turn did.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Whether another turn has something to do.
    pub(crate) moved: bool,
    /// Records that are damaged, each as a receipt that says so.
    pub(crate) lost: Vec<Receipt>,
}

/// What was read in a turn.
struct Read {
    found: Vec<Found>,
    /// With the weight of what was done with inside.
    gaps: Vec<(Gap, u64)>,
    after: Cursor,
}

impl Read {
    /// Reads on in a segment that holds so much.
    fn from(scanner: &mut Scanner, amount: Amount) -> io::Result<Self> {
        let start = scanner.cursor;
        let mut read = Self {
            found: Vec::new(),
            gaps: Vec::new(),
            after: start,
        };
        loop {
            match scanner.step()? {
                Step::Record(found) => read.found.push(found),
                Step::Gap { gap, .. } => read.gaps.push((gap, 0)),
                Step::End => {
                    let missing = amount.records.saturating_sub(scanner.cursor.index.into());
                    if missing > 0 {
                        let records = missing as u32;
                        let weight = amount.weight.saturating_sub(scanner.cursor.before);
                        let first = scanner.cursor.index;
                        read.gaps.push((
                            Gap {
                                first,
                                records,
                                weight,
                            },
                            0,
                        ));
                        scanner.cursor = Cursor {
                            offset: scanner.end,
                            index: first + records,
                            before: amount.weight,
                        };
                    }
                    break;
                }
            }
            let reached = u64::from(scanner.cursor.index) >= amount.records;
            if reached || scanner.cursor.offset - start.offset >= TURN_BYTES {
                break;
            }
        }
        read.after = scanner.cursor;
        Ok(read)
    }
}

impl Reader {
    pub(crate) fn new(writer: &Writer) -> Self {
        Self {
            files: Arc::clone(&writer.files),
            folder: writer.folder.clone(),
            salt: writer.salt,
            shared: Arc::clone(&writer.shared),
            scanner: None,
            salvages: false,
        }
    }

    /// Makes the next records ready, if there is something to read and room for it.
    pub(crate) fn turn(&mut self) -> io::Result<Turn> {
        let mut ledger = self.shared.ledger();
        if ledger.ready_bytes >= READY_BYTES || !ledger.settle() {
            return Ok(Turn::default());
        }
        let at = ledger.filled;
        let Some(segment) = ledger.find(at.sequence) else {
            return Ok(Turn::default());
        };
        let (end, amount) = (segment.end, segment.amount);
        drop(ledger);

        let seed = Seed::new(self.salt, at.sequence);
        let scanner = match &mut self.scanner {
            Some((sequence, scanner)) if *sequence == at.sequence => scanner,
            other => {
                let path = segment_path(&self.folder, at.sequence, "log");
                let mut file = self.files.open(&path, Access::Read)?;
                if self.salvages {
                    file = Arc::new(Salvaged(file));
                }
                &mut other
                    .insert((at.sequence, Scanner::new(file, seed, at.cursor, end)))
                    .1
            }
        };
        scanner.cursor = at.cursor;
        scanner.end = end;
        let mut read = Read::from(scanner, amount)?;
        if !read.gaps.is_empty() {
            let noted = Noted::read(&*self.files, &self.folder, self.salt, at.sequence);
            for (gap, done) in &mut read.gaps {
                *done = noted.weight_in(*gap);
            }
        }
        Ok(self.publish(at, read))
    }

    /// Makes what was read ready, unless its segment is gone.
    fn publish(&self, at: Place, read: Read) -> Turn {
        let mut turn = Turn {
            moved: true,
            lost: Vec::new(),
        };
        let mut ledger = self.shared.ledger();
        if ledger.filled != at || ledger.find(at.sequence).is_none() {
            return turn;
        }
        for (gap, done_weight) in &read.gaps {
            let Some(segment) = ledger.find(at.sequence) else {
                break;
            };
            let mut weight = gap.weight.saturating_sub(*done_weight);
            let mut passed = Amount {
                records: 0,
                weight: *done_weight,
            };
            for index in gap.first..gap.first.saturating_add(gap.records) {
                if segment.done.contains(index) {
                    passed.records += 1;
                    continue;
                }
                turn.lost.push(Receipt {
                    sequence: at.sequence,
                    index,
                    weight,
                    is_lost: true,
                });
                // The weight of a gap is known as a whole, so its first record bears it.
                weight = 0;
            }
            segment.done_ahead = segment.done_ahead.less(passed);
        }
        for found in read.found {
            let cursor = Cursor {
                offset: found.offset,
                index: found.head.index,
                before: found.head.before,
            };
            let record = Record {
                meta: found.meta,
                payload: found.payload,
                weight: found.head.weight,
            };
            let place = Place {
                sequence: at.sequence,
                cursor,
            };
            ledger.push(place, record.weight, found.head.appended_at, record);
        }
        ledger.filled.cursor = read.after;
        drop(ledger);
        self.shared.ready.notify_one();
        turn
    }
}
