//! The capture file: what is written is read, and no cut, damaged or hostile file does harm.

mod support;

use memprof_user::capture::{self, Capture};
use memprof_user::model::{Metric, Owner, Profile, Sample};
use proptest::prelude::*;

fn bytes(profile: &Profile) -> Vec<u8> {
    let mut bytes = Vec::new();
    capture::write(profile, &mut bytes).unwrap();
    bytes
}

fn whole(bytes: &[u8]) -> Profile {
    let Capture { profile, damage } = capture::read(bytes).unwrap();
    assert_eq!(damage, None);
    profile
}

/// `part` has to be what `full` begins with, table by table, in the order of the file.
fn assert_prefix(part: &Capture, full: &Profile) {
    let profile = &part.profile;
    assert_eq!(profile.command, full.command);
    let mut incomplete = false;
    macro_rules! prefix {
        ($($table:ident),*) => {$(
            assert!(full.$table.starts_with(&profile.$table), stringify!($table));
            assert!(
                !incomplete || profile.$table.is_empty(),
                concat!(stringify!($table), " after a table that is not whole")
            );
            incomplete |= profile.$table.len() < full.$table.len();
        )*};
    }
    prefix!(
        processes, functions, frames, natives, stacks, files, owners, samples, shares, marked,
        marks
    );
    if incomplete {
        let damage = part
            .damage
            .as_ref()
            .expect("what is missing has to be reported");
        assert!(!damage.missing.is_empty(), "{damage}");
    }
}

/// A damaged file says so in the profile's own loss, and so in every output.
fn assert_marked(capture: &Capture) {
    let marked = capture.profile.loss.other.iter();
    let marked = marked
        .filter(|(name, _)| name == "capture file damaged")
        .count();
    assert_eq!(marked, usize::from(capture.damage.is_some()));
}

#[test]
fn what_the_samples_are_is_kept() {
    for metric in [
        None,
        Some(Metric::Rss),
        Some(Metric::Pss),
        Some(Metric::Uss),
    ] {
        let mut profile = support::gunicorn();
        profile.metric = metric;
        assert_eq!(whole(&bytes(&profile)), profile);
    }
}

#[test]
fn a_cut_at_every_byte_gives_what_is_whole_before_it() {
    let full = support::gunicorn();
    let bytes = bytes(&full);
    assert_eq!(whole(&bytes), full);
    let mut with_owners = 0;
    for length in 0..bytes.len() {
        match capture::read(&bytes[..length]) {
            Ok(capture) => {
                assert!(capture.damage.is_some(), "a cut at {length} went unnoticed");
                assert_prefix(&capture, &full);
                assert_marked(&capture);
                with_owners += usize::from(capture.profile.owners == full.owners);
            }
            Err(error) => assert!(!error.hint.is_empty(), "{error}"),
        }
    }
    // Samples and marks come last: a cut in them leaves every owner.
    assert!(with_owners > 500, "owners survived {with_owners} cuts");
}

#[test]
fn every_flipped_byte_is_noticed() {
    let full = support::gunicorn();
    let bytes = bytes(&full);
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x41;
        if let Ok(capture) = capture::read(&flipped[..]) {
            assert!(capture.damage.is_some(), "byte {place} flipped unnoticed");
            assert_prefix(&capture, &full);
            assert_marked(&capture);
        }
    }
}

#[test]
fn a_long_table_is_cut_in_its_middle() {
    let mut full = support::gunicorn();
    let sample = full.samples[0];
    full.samples = (0..10_000)
        .map(|index| Sample {
            epoch_s: sample.epoch_s + f64::from(index),
            ..sample
        })
        .collect();
    full.shares.clear();
    full.marked.clear();
    full.marks.clear();
    let bytes = bytes(&full);
    assert_eq!(whole(&bytes), full);
    let capture = capture::read(&bytes[..bytes.len() - 100]).unwrap();
    assert_prefix(&capture, &full);
    assert_eq!(capture.profile.samples.len(), 8192);
    assert_eq!(
        capture.damage.unwrap().missing,
        [
            "RSS over time",
            "PSS and USS over time",
            "marked functions",
            "function marks"
        ]
    );
}

#[test]
fn what_is_not_a_capture_is_refused() {
    for not in [
        &b""[..],
        b"\x89mem",
        b"MEM 12.0 3.0\n",
        b"\x7fELF and so on and on",
    ] {
        let error = capture::read(not).unwrap_err();
        assert_eq!(error.error, "not a memprof-ebpf capture");
        assert!(error.hint.contains("memprof-ebpf report"), "{error}");
    }
    let missing = capture::open("no-such-folder/no.memprof".as_ref()).unwrap_err();
    assert!(missing.error.contains("cannot open"), "{missing}");
}

#[test]
fn another_version_is_refused_by_its_number() {
    let mut bytes = bytes(&support::gunicorn());
    bytes[12..16].copy_from_slice(&7u32.to_le_bytes());
    let error = capture::read(&bytes[..]).unwrap_err();
    assert_eq!(error.error, "unknown version 7 of the capture format");
}

#[test]
fn version_1_is_read_and_knows_no_files() {
    let mut full = support::gunicorn();
    full.files.clear();
    full.shares.clear();
    full.owners.iter_mut().for_each(|owner| owner.file = None);
    let mut bytes = bytes(&full);
    bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
    assert_eq!(whole(&bytes), full);
    // What version 1 wrote of an owner.
    let owner = serde_json::json!({
        "process": 0, "stack": 0, "cause": "Python", "kind": "File", "in_kernel": false,
        "gross": 1, "freed": 2, "peak": 3, "cow": 4, "events": 5,
    });
    let owner: Owner = serde_json::from_value(owner).unwrap();
    assert_eq!((owner.file, owner.events), (None, 5));
}

#[test]
fn a_promised_length_takes_no_memory() {
    let head = &bytes(&support::gunicorn())[..16];
    for length in [u32::MAX, 64 << 20, (64 << 20) + 1] {
        let mut hostile = head.to_vec();
        hostile.extend(b"HEAD");
        hostile.extend(length.to_le_bytes());
        hostile.extend([0; 40]);
        assert!(capture::read(&hostile[..]).is_err());
    }
}

#[test]
fn a_section_of_a_later_writer_is_passed_over() {
    let full = support::gunicorn();
    let mut bytes = bytes(&full);
    let end = bytes.split_off(bytes.len() - 12);
    let mut section = b"WXYZ\x03\0\0\0".to_vec();
    let payload = b"abc";
    let crc = crc32fast::hash(&[&section[..], payload].concat());
    section.extend(crc.to_le_bytes());
    section.extend(payload);
    bytes.extend(section);
    bytes.extend(end);
    assert_eq!(whole(&bytes), full);
}

#[test]
fn what_follows_the_end_is_reported() {
    let full = support::gunicorn();
    let mut bytes = bytes(&full);
    bytes.push(0);
    let capture = capture::read(&bytes[..]).unwrap();
    let damage = capture.damage.unwrap();
    assert!(damage.missing.is_empty(), "{damage}");
}

#[test]
fn an_index_out_of_range_is_refused() {
    let breakers: [fn(&mut Profile); 10] = [
        |profile| profile.frames[0].function = 7,
        |profile| profile.stacks[0].frames[0] = 8,
        |profile| profile.owners[0].process = 4,
        |profile| profile.owners[0].stack = 6,
        |profile| profile.owners[0].file = Some(3),
        |profile| profile.samples[0].process = 4,
        |profile| profile.shares[0].process = 4,
        |profile| profile.marks[0].process = u32::MAX,
        |profile| profile.samples[0].epoch_s = f64::NAN,
        |profile| {
            let owner = profile.owners[0];
            let gross = u64::MAX;
            profile.owners.push(Owner { gross, ..owner });
        },
    ];
    for (number, breaker) in breakers.iter().enumerate() {
        let mut profile = support::gunicorn();
        breaker(&mut profile);
        let error = capture::read(&bytes(&profile)[..]).unwrap_err();
        assert_eq!(error.error, "the capture contradicts itself", "{number}");
    }
}

proptest! {
    #[test]
    fn any_profile_is_read_as_it_was_written(profile in support::profile()) {
        prop_assert_eq!(whole(&bytes(&profile)), profile);
    }

    #[test]
    fn any_damage_is_an_error_or_reported(
        profile in support::profile(),
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..3),
    ) {
        let mut bytes = bytes(&profile);
        let whole = bytes.clone();
        for (place, mask) in flips {
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        if bytes != whole && let Ok(capture) = capture::read(&bytes[..]) {
            prop_assert!(capture.damage.is_some());
            assert_prefix(&capture, &profile);
        }
    }

    #[test]
    fn garbage_is_an_error(mut garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(capture::read(&garbage[..]).is_err());
        // The same behind a good header.
        let mut file = bytes(&Profile::default())[..16].to_vec();
        file.append(&mut garbage);
        prop_assert!(capture::read(&file[..]).is_err());
    }
}
