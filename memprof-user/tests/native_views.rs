//! Native code in every view, and in captures: it adds a frame, and takes nothing from anybody.

mod support;

use memprof_user::capture;
use memprof_user::model::{Native, Profile};
use memprof_user::report::{self, ReportOptions};
use memprof_user::sink::View;
use memprof_user::sink::folded::{FoldedOptions, folded};

/// The profile that the goldens are made of, with native code on top of some stacks.
fn native() -> Profile {
    let mut profile = support::gunicorn();
    let native = |library: &str, symbol: Option<&str>| Native {
        library: library.to_owned(),
        symbol: symbol.map(str::to_owned),
    };
    profile.natives = vec![
        native("/usr/lib/libc.so.6", Some("memset")),
        native("/srv/lib/stripped; 2.so", None),
        native("[vdso]", None),
        native("/srv/lib/\u{1b}evil.so", Some("a;b\n")),
    ];
    let above = [Some(0), Some(0), Some(1), Some(2), Some(3), None];
    assert_eq!(profile.stacks.len(), above.len());
    for (stack, native) in profile.stacks.iter_mut().zip(above) {
        stack.native = native;
    }
    profile
}

#[test]
fn the_frame_stands_on_top_and_the_pages_kind_after_it() {
    let (with, without) = (native(), support::gunicorn());
    for view in View::ALL {
        let rows = |profile| folded(profile, view, FoldedOptions::default());
        let sum = |rows: &[(String, u64)]| rows.iter().map(|(_, bytes)| bytes).sum::<u64>();
        assert_eq!(sum(&rows(&with)), sum(&rows(&without)), "{view}");
    }
    let rows = folded(&with, View::Gross, FoldedOptions::default());
    let has = |text: &str| rows.iter().any(|(stack, _)| stack.contains(text));
    assert!(has("build (/srv/app/service.py:52);[libc.so.6: memset]"));
    assert!(has(";[stripped: 2.so]"));
    assert!(has("(/srv/app/tree: v2.py:7);[vdso]"));
    assert!(has(";[?evil.so: a:b]"), "{rows:?}");
    let frames = rows.iter().flat_map(|(stack, _)| stack.split(';'));
    let last = |frame: &str| frame.starts_with("[libc.so.6");
    assert!(frames.clone().any(last));
    for (stack, _) in &rows {
        let frames: Vec<&str> = stack.split(';').collect();
        if let Some(at) = frames.iter().position(|frame| last(frame)) {
            assert!(frames[at - 1].contains(".py"), "{stack}");
            assert!(
                frames[at + 1..].iter().all(|f| f.starts_with('[')),
                "{stack}"
            );
        }
    }
}

#[test]
fn the_report_has_a_list_of_its_own_and_leaves_the_others_alone() {
    let (with, without) = (native(), support::gunicorn());
    let options = ReportOptions::default();
    let (json, plain) = (
        report::json(&with, &options),
        report::json(&without, &options),
    );
    for key in [
        "functions",
        "lines",
        "kinds",
        "files",
        "accounting",
        "processes",
    ] {
        assert_eq!(json[key], plain[key], "{key}");
    }
    assert_eq!(plain["native"], serde_json::json!([]));
    let rows = json["native"].as_array().unwrap();
    let row = |library: &str| {
        let row = rows.iter().find(|row| row["library"] == library);
        row.unwrap_or_else(|| panic!("no {library}: {rows:?}"))
    };
    assert_eq!(row("/usr/lib/libc.so.6")["symbol"], "memset");
    assert!(row("[vdso]")["symbol"].is_null());
    // The two stacks under it.
    let owners = with.owners.iter().filter(|owner| owner.stack < 2);
    let gross: u64 = owners.map(|owner| owner.gross).sum();
    assert_eq!(row("/usr/lib/libc.so.6")["gross"], gross);
    let text = report::text(&with, &options);
    assert!(text.contains("Native code by net (4 of 4)"), "{text}");
    assert!(!text.contains('\u{1b}'));
    assert!(!report::text(&without, &options).contains("Native code"));
}

#[test]
fn a_capture_keeps_it() {
    let profile = native();
    let mut bytes = Vec::new();
    capture::write(&profile, &mut bytes).unwrap();
    let read = capture::read(bytes.as_slice()).unwrap();
    assert!(read.damage.is_none());
    assert_eq!(read.profile, profile);
    let mut wrong = profile;
    wrong.natives.clear();
    let mut bytes = Vec::new();
    capture::write(&wrong, &mut bytes).unwrap();
    assert!(capture::read(bytes.as_slice()).is_err());
}
