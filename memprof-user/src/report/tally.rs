//! What a profile adds up to: by process, function, line, and kind of owner.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;
use std::ops::AddAssign;

use super::kinds::{self, FileRow, KindRow};
use super::native::{self, NativeRow};
use crate::model::{ByPageKind, Cause, Owner, PageKind, Profile, Stack};
use crate::sink::View;

/// The bytes of some owners, under every view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// All that became resident.
    pub gross: u64,
    /// Of these, given back.
    pub freed: u64,
    /// Of these, still resident.
    pub net: u64,
    /// Resident at the highest RSS.
    pub peak: u64,
    /// Stopped being shared after fork.
    pub cow: u64,
    /// Growth events: no bytes, but what these bytes came in.
    pub events: u64,
    /// Address space that was asked for, see [`Mapped`].
    pub mapped: Mapped,
}

/// Address space that some owners asked for, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Of `gross`, still mapped at the end.
    pub net: u64,
    /// All of it.
    pub gross: u64,
    /// Of `net`, asked for without access and not touched since: an allocator's reserve.
    pub reserved: u64,
    /// Of `net`, resident, whoever made it so.
    pub touched: u64,
}

impl Mapped {
    fn of(owner: &Owner) -> Mapped {
        // Of a file, so not to be trusted: a part is no more than the whole.
        let net = owner.mapped.min(owner.mapped_gross);
        Mapped {
            net,
            gross: owner.mapped_gross,
            reserved: owner.mapped_reserved.min(net),
            touched: owner.mapped_touched.min(net),
        }
    }

    /// What a table ranked by `view` shows of it, if anything.
    pub fn under(&self, view: View) -> Option<u64> {
        match view {
            View::Net => Some(self.net),
            View::Gross => Some(self.gross),
            View::Peak | View::Freed | View::Cow => None,
        }
    }
}

impl Amounts {
    /// Those of one owner.
    pub fn of(owner: &Owner) -> Amounts {
        Amounts {
            gross: View::Gross.weight(owner),
            freed: View::Freed.weight(owner),
            net: View::Net.weight(owner),
            peak: View::Peak.weight(owner),
            cow: View::Cow.weight(owner),
            events: owner.events,
            mapped: Mapped::of(owner),
        }
    }

    /// The bytes under one view.
    pub fn under(&self, view: View) -> u64 {
        match view {
            View::Net => self.net,
            View::Gross => self.gross,
            View::Peak => self.peak,
            View::Freed => self.freed,
            View::Cow => self.cow,
        }
    }

    /// Nothing under any view.
    pub fn is_zero(&self) -> bool {
        let bytes = Amounts { events: 0, ..*self };
        bytes == Amounts::default()
    }
}

impl AddAssign for Amounts {
    fn add_assign(&mut self, other: Amounts) {
        for (sum, part) in [
            (&mut self.gross, other.gross),
            (&mut self.freed, other.freed),
            (&mut self.net, other.net),
            (&mut self.peak, other.peak),
            (&mut self.cow, other.cow),
            (&mut self.events, other.events),
            (&mut self.mapped.net, other.mapped.net),
            (&mut self.mapped.gross, other.mapped.gross),
            (&mut self.mapped.reserved, other.mapped.reserved),
            (&mut self.mapped.touched, other.mapped.touched),
        ] {
            *sum = sum.saturating_add(part);
        }
    }
}

/// What makes two functions the same in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionKey<'a> {
    /// Its name.
    pub function: &'a str,
    /// Its file.
    pub file: &'a str,
    /// Its first line.
    pub line: u32,
}

/// What makes two lines the same in a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineKey<'a> {
    /// Its file.
    pub file: &'a str,
    /// Its number, 0 when it is not known.
    pub line: u32,
    /// The function it belongs to.
    pub function: &'a str,
}

/// One function or line with its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<K> {
    /// Which.
    pub key: K,
    /// It was anywhere on the stack, counted once under recursion.
    pub total: Amounts,
    /// Its frame was on top.
    pub own: Amounts,
}

/// Whose the growth is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounting {
    /// Bytes that became resident during the trace.
    pub rss_growth: u64,
    /// Of these, owned by a Python stack.
    pub python: u64,
    /// `python` and the named kinds: interpreter start-up, file-backed, shared memory, taken
    /// inside the kernel, processes that are not Python.
    pub attributed: u64,
    /// The rest.
    pub unattributed: u64,
    /// `rss_growth` by the kind of page.
    pub anon: u64,
    /// See `anon`.
    pub file: u64,
    /// See `anon`.
    pub shmem: u64,
}

impl Accounting {
    fn add(&mut self, owner: &Owner) {
        let add = |sum: &mut u64| *sum = sum.saturating_add(owner.gross);
        add(&mut self.rss_growth);
        if owner.cause == Cause::Python {
            add(&mut self.python);
        }
        add(if is_attributed(owner) {
            &mut self.attributed
        } else {
            &mut self.unattributed
        });
        add(match owner.kind {
            PageKind::Anon => &mut self.anon,
            PageKind::File => &mut self.file,
            PageKind::Shmem => &mut self.shmem,
        });
    }
}

fn is_attributed(owner: &Owner) -> bool {
    match owner.cause {
        Cause::Python | Cause::Interpreter | Cause::NotPython | Cause::OtherProcess => true,
        // Named, but nobody knows who: the tracer did not hear of it when it happened.
        Cause::Found => false,
        Cause::NoPythonFrame | Cause::Unknown => owner.in_kernel || owner.kind != PageKind::Anon,
    }
}

/// The sums of one profile.
#[derive(Clone, Debug)]
pub struct Tally<'a> {
    /// By process, in the profile's order.
    pub processes: Vec<(Amounts, Accounting)>,
    /// By function, largest total first.
    pub functions: Vec<Place<FunctionKey<'a>>>,
    /// By line, largest total first.
    pub lines: Vec<Place<LineKey<'a>>>,
    /// By native code, largest first. Empty unless it was asked for.
    pub natives: Vec<NativeRow<'a>>,
    /// Of all processes.
    pub accounting: Accounting,
    /// Of all owners.
    pub amounts: Amounts,
    /// By kind, every kind in the order of [`crate::sink::Kind::ALL`].
    pub kinds: Vec<KindRow>,
    /// The file-backed pages and the shared memory by file, largest first.
    pub files: Vec<FileRow<'a>>,
    /// What was there before the attach: then, and what was left at the end.
    pub before_attach: [ByPageKind; 2],
}

impl<'a> Tally<'a> {
    /// Adds `profile` up; functions and lines are ranked by `view`.
    pub fn new(profile: &'a Profile, view: View) -> Tally<'a> {
        let mut processes = vec![Default::default(); profile.processes.len()];
        let stacks = by_stack(profile);
        let mut accounting = Accounting::default();
        let mut amounts = Amounts::default();
        for owner in &profile.owners {
            let bytes = Amounts::of(owner);
            amounts += bytes;
            accounting.add(owner);
            if let Some((sum, whose)) = processes.get_mut(owner.process as usize) {
                let (sum, whose): (&mut Amounts, &mut Accounting) = (sum, whose);
                *sum += bytes;
                whose.add(owner);
            }
        }
        Tally {
            processes,
            functions: places(profile, &stacks, view, function_key),
            lines: places(profile, &stacks, view, line_key),
            natives: native::natives(profile, &stacks, view),
            accounting,
            amounts,
            kinds: kinds::kinds(&profile.owners),
            files: kinds::files(profile),
            before_attach: kinds::before_attach(profile),
        }
    }
}

/// The function of a frame.
pub fn function_key(profile: &Profile, frame: u32) -> Option<FunctionKey<'_>> {
    let frame = profile.frames.get(frame as usize)?;
    let function = profile.functions.get(frame.function as usize)?;
    Some(FunctionKey {
        function: &function.name,
        file: &function.file,
        line: function.first_line,
    })
}

fn line_key(profile: &Profile, frame: u32) -> Option<LineKey<'_>> {
    let line = profile.frames.get(frame as usize)?.line;
    let function = function_key(profile, frame)?;
    Some(LineKey {
        file: function.file,
        line,
        function: function.function,
    })
}

/// The bytes of each stack, in the profile's order.
pub(super) fn by_stack(profile: &Profile) -> Vec<Amounts> {
    let mut stacks = vec![Amounts::default(); profile.stacks.len()];
    for owner in &profile.owners {
        if let Some(stack) = stacks.get_mut(owner.stack as usize) {
            *stack += Amounts::of(owner);
        }
    }
    stacks
}

/// Gives each stack's bytes to every place on it, ranked by `view`, then by name.
pub(super) fn places<'a, K: Copy + Eq + Hash + Ord>(
    profile: &'a Profile,
    stacks: &[Amounts],
    view: View,
    key: impl Fn(&'a Profile, u32) -> Option<K>,
) -> Vec<Place<K>> {
    let mut ids: HashMap<K, usize> = HashMap::new();
    let mut places: Vec<Place<K>> = Vec::new();
    // The place of each frame, and the stack that last counted each place: keys are long, and
    // stacks share their frames.
    let frames = u32::try_from(profile.frames.len()).unwrap_or(u32::MAX);
    let place_of_frame: Vec<Option<usize>> = (0..frames)
        .map(|frame| {
            let key = key(profile, frame)?;
            Some(*ids.entry(key).or_insert_with(|| {
                places.push(Place {
                    key,
                    total: Amounts::default(),
                    own: Amounts::default(),
                });
                places.len() - 1
            }))
        })
        .collect();
    let mut counted_by = vec![usize::MAX; places.len()];
    for (number, (Stack { frames, .. }, bytes)) in profile.stacks.iter().zip(stacks).enumerate() {
        if bytes.is_zero() {
            continue;
        }
        let place = |frame: &u32| place_of_frame.get(*frame as usize).copied().flatten();
        for place in frames.iter().filter_map(place) {
            if counted_by[place] != number {
                counted_by[place] = number;
                places[place].total += *bytes;
            }
        }
        if let Some(leaf) = frames.last().and_then(place) {
            places[leaf].own += *bytes;
        }
    }
    places.retain(|place| !place.total.is_zero());
    places.sort_by(|a, b| {
        let rank = |place: &Place<K>| (place.total.under(view), place.total.gross);
        rank(b).cmp(&rank(a)).then(a.key.cmp(&b.key))
    });
    places
}

/// Who made it comes before who called: by the frame on top, then by the total.
pub(super) fn by_own<K: Copy>(places: &[Place<K>], view: View) -> Vec<Place<K>> {
    let mut ranked = places.to_vec();
    // Stable: equals keep the order by total.
    ranked.sort_by_key(|place| Reverse(place.own.under(view)));
    ranked
}
