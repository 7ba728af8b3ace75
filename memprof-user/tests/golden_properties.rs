//! What has to hold for the views of any profile: sums, accounting, lines that readers can split.

mod support;

use std::collections::HashSet;

use memprof_user::model::{Cause, Owner, PageKind};
use memprof_user::recording::read_dat;
use memprof_user::report::{self, ReportOptions};
use memprof_user::sink::folded::{FoldedOptions, folded};
use memprof_user::sink::{DatOptions, Format, Kind, SinkOptions, View};
use proptest::prelude::*;
use support::{net, written};

fn attributed(owner: &Owner) -> bool {
    match owner.cause {
        Cause::Python | Cause::Interpreter | Cause::NotPython | Cause::OtherProcess => true,
        Cause::Found => false,
        Cause::NoPythonFrame | Cause::Unknown => owner.kind != PageKind::Anon || owner.in_kernel,
    }
}

proptest! {
    #[test]
    fn folded_weights_add_up_to_the_view(
        profile in support::profile(),
        merge_processes in any::<bool>(),
        function in any::<bool>(),
    ) {
        for view in View::ALL {
            let stacks = folded(&profile, view, FoldedOptions { merge_processes, function });
            let sum: u64 = stacks.iter().map(|(_, bytes)| bytes).sum();
            let owned: u64 = profile.owners.iter().map(|owner| view.weight(owner)).sum();
            prop_assert_eq!(sum, owned);
            prop_assert!(stacks.iter().all(|(_, bytes)| *bytes > 0));
            prop_assert!(stacks.is_sorted_by(|a, b| a.0 < b.0));
        }
    }

    #[test]
    fn a_folded_line_is_split_as_it_was_joined(profile in support::profile()) {
        let options = SinkOptions { view: View::Gross, ..SinkOptions::default() };
        let text = written(Format::Folded, &profile, &options);
        let pids: HashSet<u32> = profile.processes.iter().map(|process| process.pid).collect();
        for line in text.lines() {
            let (stack, count) = line.rsplit_once(' ').unwrap();
            prop_assert!(count.parse::<u64>().unwrap() > 0);
            prop_assert_eq!(stack.trim(), stack);
            prop_assert!(!stack.starts_with('#'));
            let frames: Vec<&str> = stack.split(';').collect();
            let pid = frames[0].rsplit_once(" (").unwrap().1.strip_suffix(')').unwrap();
            prop_assert!(pids.contains(&pid.parse().unwrap()));
            for frame in &frames[1..] {
                prop_assert!(frame.ends_with([')', ']']), "{}", frame);
            }
        }
    }

    #[test]
    fn every_byte_is_accounted_for(profile in support::profile()) {
        let json = report::json(&profile, &ReportOptions::default());
        let sum = |keep: &dyn Fn(&Owner) -> bool| -> u64 {
            let kept = profile.owners.iter().filter(|owner| keep(owner));
            kept.map(|owner| owner.gross).sum()
        };
        let accounting = &json["accounting"];
        prop_assert_eq!(&accounting["rss_growth"], sum(&|_| true));
        prop_assert_eq!(&accounting["python"], sum(&|owner| owner.cause == Cause::Python));
        prop_assert_eq!(&accounting["attributed"], sum(&attributed));
        prop_assert_eq!(&accounting["unattributed"], sum(&|owner| !attributed(owner)));
        let of = |rows: &str, key: &str| -> u64 {
            let rows = json[rows].as_array().unwrap().iter();
            rows.map(|row| row[key].as_u64().unwrap()).sum()
        };
        prop_assert_eq!(of("processes", "gross"), sum(&|_| true));
        prop_assert_eq!(of("processes", "net"), net(&profile));
        prop_assert_eq!(of("processes", "unattributed"), sum(&|owner| !attributed(owner)));
        // Every byte is in one row of the kinds, and every page of a file in one of the files.
        prop_assert_eq!(of("kinds", "gross"), sum(&|_| true));
        prop_assert_eq!(of("kinds", "net"), net(&profile));
        prop_assert_eq!(of("kinds", "python"), sum(&|owner| owner.cause == Cause::Python));
        let in_files = |owner: &Owner| matches!(Kind::of(owner), Kind::File | Kind::Shmem);
        prop_assert_eq!(of("files", "gross"), sum(&in_files));
        // Whatever has a frame has exactly one on top.
        let framed = |owner: &Owner| !profile.stacks[owner.stack as usize].frames.is_empty();
        prop_assert_eq!(of("functions", "self_gross"), sum(&framed));
        prop_assert_eq!(of("lines", "self_gross"), sum(&framed));
    }

    #[test]
    fn mprofs_reader_takes_any_dat(profile in support::profile(), tree in any::<bool>()) {
        let dat = DatOptions { include_children: tree, ..DatOptions::default() };
        let text = written(Format::Dat, &profile, &SinkOptions { dat, ..Default::default() });
        let mut mem = 0;
        for line in text.split_terminator('\n') {
            // Its own steps: split off the keyword, split the rest at single blanks, convert.
            let (keyword, rest) = line.split_once(' ').unwrap();
            let columns: Vec<&str> = rest.split(' ').collect();
            let number = |index: usize| columns[index].parse::<f64>().unwrap();
            match keyword {
                "MEM" => {
                    mem += 1;
                    prop_assert_eq!(columns.len(), 2);
                    prop_assert!(number(0).is_finite() && number(1).is_finite());
                }
                "CHLD" => {
                    prop_assert_eq!(columns.len(), 3);
                    prop_assert!(number(1).is_finite() && number(2).is_finite());
                }
                "FUNC" => {
                    prop_assert!((1..5).all(|index| number(index).is_finite()));
                    prop_assert!(columns[5].parse::<u64>().is_ok());
                    prop_assert!(columns[6].starts_with("pid="));
                }
                "CMDLINE" => prop_assert!(!rest.contains('\r')),
                other => prop_assert_eq!(other, "#"),
            }
        }
        prop_assert!(mem > 0);
        prop_assert!(!text.contains('\r'));
        let read = read_dat(text.as_bytes()).unwrap().unwrap();
        prop_assert!(read.skipped.is_empty(), "{:?} of\n{}", read.skipped, text);
    }

    #[test]
    fn every_view_of_any_profile_is_made(profile in support::profile()) {
        for view in View::ALL {
            let options = ReportOptions { view, rows: Some(3) };
            report::text(&profile, &options);
            let mut options = SinkOptions { view, ..SinkOptions::default() };
            options.flamegraph.reverse = true;
            options.folded.merge_processes = true;
            let svg = written(Format::Flamegraph, &profile, &options);
            prop_assert!(svg.trim_end().ends_with("</svg>"));
        }
    }
}
