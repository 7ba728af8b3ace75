//! Whether a profile that came from a file holds together, so that no view has to doubt it:
//! every index in range, every number finite, every sum within 64 bits.

use crate::model::{Owner, Profile};

/// Checks `profile`; the error says what does not hold.
pub fn validate(profile: &Profile) -> Result<(), String> {
    let processes = profile.processes.len();
    let index = |what: &str, row: usize, index: u32, length: usize| {
        if (index as usize) < length {
            return Ok(());
        }
        Err(format!("{what} {row} points to entry {index} of {length}"))
    };
    for (row, frame) in profile.frames.iter().enumerate() {
        index("frame", row, frame.function, profile.functions.len())?;
    }
    for (row, stack) in profile.stacks.iter().enumerate() {
        for &frame in &stack.frames {
            index("stack", row, frame, profile.frames.len())?;
        }
        if let Some(native) = stack.native {
            index("stack", row, native, profile.natives.len())?;
        }
    }
    for (row, owner) in profile.owners.iter().enumerate() {
        index("owner", row, owner.process, processes)?;
        index("owner", row, owner.stack, profile.stacks.len())?;
        if let Some(file) = owner.file {
            index("owner", row, file, profile.files.len())?;
        }
    }
    for (row, sample) in profile.samples.iter().enumerate() {
        index("sample", row, sample.process, processes)?;
    }
    for (row, share) in profile.shares.iter().enumerate() {
        index("share", row, share.process, processes)?;
    }
    for (row, mark) in profile.marks.iter().enumerate() {
        index("mark", row, mark.process, processes)?;
    }
    for (row, marked) in profile.marked.iter().enumerate() {
        index("marked function", row, marked.process, processes)?;
    }
    times(profile)?;
    sums(&profile.owners)
}

fn times(profile: &Profile) -> Result<(), String> {
    let run = [profile.started_epoch_s, profile.duration_s].into_iter();
    let processes = profile.processes.iter();
    let processes = processes.flat_map(|process| [process.first_epoch_s, process.last_epoch_s]);
    let samples = profile.samples.iter().map(|sample| sample.epoch_s);
    let shares = profile.shares.iter().map(|share| share.epoch_s);
    let marks = profile.marks.iter();
    let marks = marks.flat_map(|mark| [mark.begin_epoch_s, mark.end_epoch_s]);
    let marked = profile.marked.iter().flat_map(|row| {
        let levels = row.levels.iter().map(|level| level.total_s);
        let own = [row.first_begin_epoch_s, row.last_end_epoch_s, row.running_s];
        own.into_iter().chain(levels)
    });
    let mut times = run
        .chain(processes)
        .chain(samples)
        .chain(shares)
        .chain(marks)
        .chain(marked);
    match times.find(|time| !time.is_finite()) {
        Some(time) => Err(format!("a time is {time}")),
        None => Ok(()),
    }
}

fn sums(owners: &[Owner]) -> Result<(), String> {
    let mut sums = [0u64; 9];
    for (row, owner) in owners.iter().enumerate() {
        let amounts = [
            owner.gross,
            owner.freed,
            owner.peak,
            owner.cow,
            owner.events,
            owner.mapped,
            owner.mapped_gross,
            owner.mapped_reserved,
            owner.mapped_touched,
        ];
        for (sum, amount) in sums.iter_mut().zip(amounts) {
            *sum = sum
                .checked_add(amount)
                .ok_or_else(|| format!("up to owner {row}, amounts add up to more than 2^64"))?;
        }
    }
    Ok(())
}
