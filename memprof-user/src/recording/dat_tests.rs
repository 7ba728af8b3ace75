//! What the reader of `.dat` files takes, and what it passes over.

use super::*;

fn recording(text: &str) -> Recording {
    read(text.as_bytes())
        .expect("reading from memory")
        .expect("at least one line is understood")
}

fn skipped(lines: u64, first_line: u64) -> Skipped {
    Skipped {
        lines,
        first_line,
        ..Skipped::default()
    }
}

fn point(mib: f64, epoch_s: f64) -> Point {
    Point {
        epoch_s,
        bytes: mib * MIB,
    }
}

#[test]
fn mprofs_own_lines() {
    let read = recording(
        "CMDLINE python app.py --x  y\n\
         FUNC app.leaf 10.5000 1700000000.1000 12.0000 1700000000.2000 1\n\
         FUNC app.root 10.0000 1700000000.0500 12.0000 1700000000.3000 0\n\
         MEM 10.500000 1700000000.1000\n\
         CHLD 42 5.250000 1700000000.1000\n\
         MEM 12.000000 1700000000.2000\n\
         CHLD 42 6.000000 1700000000.2000\n",
    );
    assert_eq!(read.command.as_deref(), Some("python app.py --x  y"));
    assert_eq!(
        read.main.points,
        [point(10.5, 1_700_000_000.1), point(12.0, 1_700_000_000.2)]
    );
    assert_eq!(read.children.len(), 1);
    assert_eq!(read.children[0].label, "42");
    assert_eq!(read.children[0].pid, Some(42));
    assert_eq!(
        read.children[0].peak(),
        Some(point(6.0, 1_700_000_000.2)),
        "{read:?}"
    );
    let calls: Vec<_> = read.calls.iter().map(|c| (&*c.function, c.level)).collect();
    assert_eq!(calls, [("app.root", 0), ("app.leaf", 1)], "by their begin");
    assert!((read.calls[1].growth_bytes() - 1.5 * MIB).abs() < 1e-6);
    assert!(read.skipped.is_empty());
}

/// The table of reference: what kills mprof's reader, or makes it take a wrong value.
#[test]
fn what_mprof_dies_of_costs_a_line_at_most() {
    let mem = "MEM 10.000000 1700000000.0000\n";
    let one = [point(10.0, 1_700_000_000.0)];
    for (line, lost) in [
        ("nonsense\n", 1),
        ("MEM\n", 1),
        ("\n", 0),
        ("   \t \n", 0),
        ("# a comment of somebody\n", 0),
        ("#\n", 0),
        ("KEYWORD of a later version\n", 1),
        ("MEM ten 1700000000.0000\n", 1),
        ("MEM nan 1700000000.0000\n", 1),
        ("MEM inf 1700000000.0000\n", 1),
        ("MEM -1 1700000000.0000\n", 1),
        ("MEM 1 1e400\n", 1),
        ("MEM 1 -5\n", 1),
        ("CHLD\n", 1),
        ("CHLD 42\n", 1),
        ("FUNC app.f\n", 1),
        ("FUNC app.f 1 2 3\n", 1),
        ("FUNC 1 2 3 4\n", 1),
        ("FUNC app.f 1 1700000000 1 1700000001 deep\n", 1),
        ("FUNC app.f 1 1700000000 1 1700000001 -1\n", 1),
        ("\u{fffd}\u{0}\u{1b}[2J\n", 1),
    ] {
        let read = recording(&format!("{line}{mem}"));
        assert_eq!(read.main.points, one, "{line:?}");
        assert_eq!(read.skipped, skipped(lost, lost), "{line:?}");
        assert!(
            read.calls.is_empty() && read.children.is_empty(),
            "{line:?}"
        );
    }
    for line in [
        "MEM\t10.0\t1700000000\n",
        "MEM  10.0  1700000000\n",
        "MEM 10.0 1700000000 and more\n",
        "  MEM 10 1700000000\r\n",
    ] {
        let read = recording(line);
        assert_eq!(read.main.points, one, "{line:?}");
        assert!(read.skipped.is_empty(), "{line:?}");
    }
}

#[test]
fn a_name_with_blanks_or_numbers_is_a_name() {
    for (name, written) in [
        ("app.<lambda> x", "app.<lambda>  x"),
        ("app.f 1", "app.f 1"),
        ("a 1 2", "a 1 2"),
        ("módulo.función", "módulo.función"),
    ] {
        for rest in ["", " 3", " 3 pid=7 rss0=1048576 rss1=3145728 calls=5"] {
            let read = recording(&format!(
                "FUNC {written} 1.0000 1700000000.0000 2.0000 1700000001.0000{rest}\n"
            ));
            assert_eq!(read.calls.len(), 1, "{written:?}{rest:?}");
            let call = &read.calls[0];
            assert_eq!(call.function, name, "{rest:?}");
            assert_eq!(call.pid, None, "pid= alone is also the main process's");
            assert_eq!(call.level, 0, "the lowest of the file is the outermost");
            assert_eq!(
                (call.begin, call.end),
                (point(1.0, 1.7e9), point(2.0, 1.7e9 + 1.0))
            );
            let full = rest.contains("calls");
            assert_eq!(call.calls, if full { 5 } else { 1 });
            let growth = if full { 2.0 } else { 1.0 };
            assert_eq!(call.growth_bytes(), growth * MIB, "{rest:?}");
        }
    }
}

#[test]
fn a_call_over_which_the_clock_was_set_back_has_no_length() {
    let read = recording("FUNC app.f 1 1700000001 2 1700000000 0\n");
    assert_eq!(read.calls[0].duration_s(), 0.0);
    assert_eq!(read.calls[0].growth_bytes(), MIB);
}

#[test]
fn our_own_records_are_read() {
    let read = recording(
        "CMDLINE sh -c '\\$A \\$B'\n\
         # SERIES metric=pss include_children=yes\n\
         # ROLE MEM 100 gunicorn: master [app]\n\
         # ROLE CHLD 101 gunicorn: worker [app]\n\
         MEM 10.000000 1700000000.0000\n\
         CHLD 101 5.000000 1700000000.0000\n\
         CHLD 102(gunicorn:w2) 5.000000 1700000000.0000\n\
         FUNC app.root 1 1700000000 2 1700000001 0 pid=100 rss0=1 rss1=2\n\
         FUNC 101/app.root 1 1700000000 2 1700000001 1 pid=101 rss0=1 rss1=2\n\
         # FUNC 101/app.leaf 1 1700000000 2 1700000001 2 pid=101 rss0=5 rss1=2\n\
         # LOSS events_lost=0 stacks_truncated=3 stacks_failed=0 late_flushes=2\n",
    );
    assert_eq!(read.command.as_deref(), Some("sh -c '$A $B'"));
    assert_eq!(read.metric.as_deref(), Some("pss"));
    assert!(read.includes_children);
    assert_eq!(read.main.pid, Some(100));
    assert_eq!(read.main.role.as_deref(), Some("gunicorn: master [app]"));
    assert_eq!(
        read.children[0].role.as_deref(),
        Some("gunicorn: worker [app]")
    );
    assert_eq!(read.children[1].pid, Some(102));
    assert_eq!(read.children[1].label, "102(gunicorn:w2)");
    let calls = read.calls.iter();
    let calls: Vec<_> = calls.map(|c| (c.pid, &*c.function, c.level)).collect();
    let expected = [
        (None, "app.root", 0),
        (Some(101), "app.root", 0),
        (Some(101), "app.leaf", 1),
    ];
    assert_eq!(calls, expected, "each process's levels begin at 0");
    assert_eq!(read.calls[2].growth_bytes(), -3.0);
    assert_eq!(
        read.series_of(&read.calls[2]).map(|series| series.pid),
        Some(Some(101))
    );
    let loss = [("stacks_truncated", 3), ("late_flushes", 2)];
    assert_eq!(
        read.loss,
        loss.map(|(name, count)| (name.to_owned(), count))
    );
    assert!(read.skipped.is_empty(), "{:?}", read.skipped);
}

#[test]
fn a_cut_last_line_is_not_taken_for_a_value() {
    let head = "MEM 10.000000 1700000000.0000\n";
    for cut in [
        "MEM 99.0",
        "MEM 99.000000 1700000001",
        "MEM 99.000000 1700000001.00",
        "CHLD 42 5.000000 17000",
        "FUNC app.f 1 1700000000 2 1700000001 1",
        "# LOSS events_lost=1",
        "ME",
    ] {
        let read = recording(&format!("{head}{cut}"));
        assert_eq!(read.main.points.len(), 1, "{cut:?}");
        assert!(read.children.is_empty() && read.calls.is_empty(), "{cut:?}");
        assert!(read.skipped.cut && read.skipped.lines == 0, "{cut:?}");
    }
    let read = recording(&format!("{head}MEM 99.000000 1700000001.0000"));
    assert_eq!(read.main.points.len(), 2, "only the line feed is missing");
    assert!(read.skipped.is_empty());
}

#[test]
fn the_order_of_lines_does_not_matter() {
    let read = recording("MEM 3 3\nMEM 1 1\nCHLD 7 2 9\nCHLD 7 1 4\nMEM 2 2\n");
    assert_eq!(
        read.main.points,
        [point(1.0, 1.0), point(2.0, 2.0), point(3.0, 3.0)]
    );
    assert_eq!(read.children[0].points, [point(1.0, 4.0), point(2.0, 9.0)]);
    assert_eq!(read.main.between(1.5, 3.0), &read.main.points[1..]);
    assert!((read.main.at(1.5) - 1.5 * MIB).abs() < 1e-6);
    assert_eq!((read.main.at(-1.0), read.main.at(9.0)), (MIB, 3.0 * MIB));
}

#[test]
fn what_is_no_dat_is_none() {
    for text in ["", "\n\n", "# LOSS\n# x\n", "hello\nworld\n", "MEM 1"] {
        let none = read(text.as_bytes())
            .expect("reading from memory")
            .is_none();
        assert_eq!(none, !text.contains("LOSS"), "{text:?}");
    }
    assert!(is_dat(b"MEM 1 2") && is_dat(b"CMDLINE x"));
    assert!(!is_dat(b"MEMORANDUM") && !is_dat(b""));
}

#[test]
fn a_hostile_file_is_bounded() {
    let long = "x".repeat(3 * MAX_LINE_BYTES as usize);
    let text = format!("CMDLINE {long}\nFUNC {long} 1 2 3 4 0\nMEM 1 2 {long}\n{long}\nMEM 1 2\n");
    let read = recording(&text);
    assert_eq!(read.main.points.len(), 1);
    assert_eq!(read.skipped, skipped(3, 2));
    let command = read.command.expect("a command line is cut, not refused");
    assert!(
        command.len() <= MAX_LINE_BYTES as usize,
        "{}",
        command.len()
    );

    let mut text = String::new();
    for pid in 0..MAX_CHILDREN + 5 {
        text += &format!("CHLD {pid} 1 2\n");
    }
    for at in 0..MAX_CALLS + 7 {
        text += &format!("FUNC {} 1 {at} 2 {at} 0\n", "f".repeat(2));
    }
    let read = recording(&text);
    assert_eq!(read.children.len(), MAX_CHILDREN);
    assert_eq!(read.calls.len(), MAX_CALLS);
    assert_eq!(read.skipped.beyond_limits, 5 + 7);
}

#[test]
fn names_are_matched_from_a_dot_on() {
    let call = |pid, function: &str| Call {
        function: function.to_owned(),
        pid,
        ..Call::default()
    };
    let main = call(None, "app.Thread.run");
    for name in ["app.Thread.run", "Thread.run", "run"] {
        assert!(main.is_named(name), "{name}");
    }
    for name in ["", "un", "app.Thread", "101/run", "x.app.Thread.run"] {
        assert!(!main.is_named(name), "{name}");
    }
    let child = call(Some(101), "app.leaf");
    assert!(child.is_named("leaf") && child.is_named("101/app.leaf"));
    assert!(!child.is_named("102/app.leaf"));
}

#[test]
fn a_warning_says_what_was_lost() {
    let read = recording("MEM 1 2\nx\ny\nMEM 1");
    assert_eq!(
        read.skipped.to_string(),
        "2 lines are not understood, the first is line 2; the last line is cut; the rest is used"
    );
}
