//! What the numbers of a record mean: a kind of page, a place, an amount.

use memprof_common::PAGE_BYTES;
use memprof_common::records::{self, flag, member};

use super::process::Place;
use super::profile::PageKind;
use super::residency::FAULT_AROUND_BYTES;

/// The kind of page that a member of the kernel's count is; None when it is not resident.
pub(super) fn page_kind(member: u32) -> Option<PageKind> {
    match member {
        member::ANON => Some(PageKind::Anon),
        member::FILE => Some(PageKind::File),
        member::SHMEM => Some(PageKind::Shmem),
        // Swap entries are not resident.
        _ => None,
    }
}

/// Where a growth took place; None when the record contradicts itself.
pub(super) fn place(growth: &records::Growth, bytes: u64) -> Option<Place> {
    let flags = growth.header.flags;
    if flags & flag::UNPLACED != 0 {
        return Some(Place::Unplaced);
    }
    if flags & flag::WITHIN != 0 {
        let range = growth.start..growth.end;
        let file = growth.member != member::ANON;
        let window = |address: u64| address & !(FAULT_AROUND_BYTES - 1);
        let one = range.start < range.end && window(range.start) == window(range.end - 1);
        return Some(match file && one {
            true => Place::Around(range),
            false => Place::Within(range),
        });
    }
    let aligned = growth.start.is_multiple_of(PAGE_BYTES);
    let exact = growth.end.checked_sub(growth.start) == Some(bytes);
    (aligned && exact).then_some(Place::Exact {
        start: growth.start,
        end: growth.end,
    })
}

/// The whole pages of a system call's range, as the kernel rounds them. Both numbers are the
/// target's: the sum may not fit.
pub(super) fn pages(start: u64, len: u64) -> std::ops::Range<u64> {
    let end = start.saturating_add(len);
    let end = end.checked_next_multiple_of(PAGE_BYTES);
    let last_page = !(PAGE_BYTES - 1);
    start & !(PAGE_BYTES - 1)..end.unwrap_or(last_page)
}

/// RSS of per-member counts, which for an instant may be below zero each.
pub(super) fn rss_bytes(rss_pages: &[i64; member::COUNT]) -> u64 {
    let resident = [member::FILE, member::ANON, member::SHMEM];
    let pages: u64 = resident
        .iter()
        .map(|&member| rss_pages[member as usize].max(0) as u64)
        .fold(0, u64::saturating_add);
    pages.saturating_mul(PAGE_BYTES)
}
