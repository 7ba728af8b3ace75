//! How much address space each owner asked for: the sums beside [`super::mapped`]'s maps, and the
//! way from a record to both.
//!
//! An owner's key is the ledger's, so that one row of the profile tells what was asked for and what
//! was touched. The sums are apart from the ledger's: they do not move RSS or a peak.

use std::collections::HashMap;
use std::ops::AddAssign;

use memprof_common::records::{Mapping, flag, walk_result};

use super::accounting::Model;
use super::cause;
use super::ledger::{OwnerId, OwnerKey, StackIndex};
use super::profile::{Cause, PageKind};
use super::reading::page_kind;
use super::residency::Released;

/// Sums of one owner, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappedTotals {
    /// All that was asked for.
    pub gross: u64,
    /// Of this, still mapped.
    pub mapped: u64,
    /// Of what is still mapped, asked for without access (PROT_NONE) and not touched since.
    pub reserved: u64,
    /// Of what is still mapped, resident, whoever touched it.
    pub touched: u64,
}

impl AddAssign for MappedTotals {
    fn add_assign(&mut self, other: MappedTotals) {
        self.gross = self.gross.saturating_add(other.gross);
        self.mapped = self.mapped.saturating_add(other.mapped);
        self.reserved = self.reserved.saturating_add(other.reserved);
        self.touched = self.touched.saturating_add(other.touched);
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    key: OwnerKey,
    reserved: bool,
    gross: u64,
    mapped: u64,
    touched: u64,
}

/// All owners of requested address space.
#[derive(Clone, Debug, Default)]
pub struct Requests {
    rows: Vec<Row>,
    ids: HashMap<(OwnerKey, bool), OwnerId>,
}

impl Requests {
    /// The owner with this key. `reserved`: of what was asked for without access. Its id is one of
    /// these sums, not of the ledger.
    pub fn owner(&mut self, key: OwnerKey, reserved: bool) -> OwnerId {
        // Ids are indexes: 2^32 owners would need more memory than a machine has.
        let next = OwnerId(self.rows.len() as u32);
        let id = *self.ids.entry((key, reserved)).or_insert(next);
        if id == next {
            self.rows.push(Row {
                key,
                reserved,
                gross: 0,
                mapped: 0,
                touched: 0,
            });
        }
        id
    }

    /// What kind of pages an owner's ranges have.
    fn kind(&self, id: OwnerId) -> Option<PageKind> {
        Some(self.rows.get(id.0 as usize)?.key.kind)
    }

    /// The owner asked for `bytes` and got them.
    pub fn map(&mut self, id: OwnerId, bytes: u64) {
        if let Some(row) = self.rows.get_mut(id.0 as usize) {
            row.gross = row.gross.saturating_add(bytes);
            row.mapped = row.mapped.saturating_add(bytes);
        }
    }

    /// A range is not mapped any more. An inherited one is in nobody's sums here.
    pub fn unmap(&mut self, released: Released) {
        if let Some(row) = self.row_of(released) {
            row.mapped = row.mapped.saturating_sub(released.bytes);
        }
    }

    /// [`Requests::unmap`] did not happen.
    pub fn map_again(&mut self, restored: Released) {
        if let Some(row) = self.row_of(restored) {
            row.mapped = row.mapped.saturating_add(restored.bytes);
        }
    }

    /// `bytes` of what the owner asked for are resident at the end.
    pub fn touch(&mut self, id: OwnerId, bytes: u64) {
        if let Some(row) = self.rows.get_mut(id.0 as usize) {
            row.touched = row.touched.saturating_add(bytes);
        }
    }

    /// Every owner with its sums; a key may come twice.
    pub fn owners(&self) -> impl Iterator<Item = (OwnerKey, MappedTotals)> + '_ {
        self.rows.iter().map(|row| {
            let totals = MappedTotals {
                gross: row.gross,
                mapped: row.mapped,
                reserved: match row.reserved {
                    true => row.mapped.saturating_sub(row.touched),
                    false => 0,
                },
                touched: row.touched,
            };
            (row.key, totals)
        })
    }

    fn row_of(&mut self, released: Released) -> Option<&mut Row> {
        let row = self.rows.get_mut(released.owner.0 as usize)?;
        (!released.inherited).then_some(row)
    }
}

impl Model {
    /// Address space was asked for. `stack` is where the caller keeps the record's stack; None when
    /// it has none or never got its frames.
    pub fn mapping(&mut self, mapping: &Mapping, stack: Option<StackIndex>) {
        let (processes, requests, anomalies) = self.mapping_parts();
        let Some(process) = processes.live_mut(mapping.header.pid) else {
            anomalies.strays += 1;
            return;
        };
        process.see();
        // The ledger is closed by the first record of a page, before which growth may be pending.
        let finalizing = process.started() && mapping.header.flags & flag::FINALIZING != 0;
        if !process.counts() || finalizing {
            return;
        }
        let range = super::reading::pages(mapping.start, mapping.len);
        if range.is_empty() {
            return;
        }
        let before = || {
            let owner = process.mapped().owner_at(range.start.checked_sub(1)?)?;
            requests.kind(owner)
        };
        let kind = match mapping.member {
            // Of what was there before the attach, most is anonymous.
            Mapping::LIKE_BEFORE => before().unwrap_or(PageKind::Anon),
            member => page_kind(member).unwrap_or(PageKind::Anon),
        };
        let op = mapping.header.op;
        let cause = cause::from_walk(op, stack.is_some(), process.started());
        if op == walk_result::STACK {
            process.start();
        }
        let key = OwnerKey {
            process: process.index(),
            image: process.image(),
            stack: match cause {
                Cause::Python => stack.unwrap_or(StackIndex::EMPTY),
                _ => StackIndex::EMPTY,
            },
            cause,
            kind,
            in_kernel: false,
            file: None,
        };
        let reserved = mapping.header.flags & flag::RESERVED != 0;
        let owner = requests.owner(key, reserved);
        process.mapped_mut().add(range, owner, requests);
    }
}
