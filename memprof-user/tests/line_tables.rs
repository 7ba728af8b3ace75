//! memory_profiler's table, made from profiles with a known answer.
//!
//! After a wanted change: `BLESS=1 cargo test -p memprof-user --test line_tables`, then read the
//! difference.

mod support;

use std::path::Path;

use memprof_user::model::{Frame, Function, Owner, Profile, Stack};
use memprof_user::report::lines::{self, LineTable, Lines};
use memprof_user::source::{Missing, Source};
use proptest::prelude::*;
use support::MIB;

fn source(path: &str, text: &str) -> Source {
    Source {
        path: path.into(),
        lines: text.lines().map(str::to_owned).collect(),
        modified_epoch_s: 0.0,
    }
}

fn table<'a>(lines: &Lines<'a>, name: &str, source: Result<Source, Missing>) -> LineTable<'a> {
    let found = lines.named(&[name.to_owned()], Path::new("x.memprof"));
    let functions = found.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(functions.len(), 1, "{name}");
    lines.table(functions[0], source)
}

/// Number, net, gross and text of each row, in MiB.
fn rows<'a>(table: &'a LineTable<'_>) -> Vec<(u32, u64, u64, &'a str)> {
    let rows = table.rows.iter().map(|row| {
        let total = row.figures.unwrap_or_default().total;
        let text = row.text.as_deref().unwrap_or("-");
        (
            row.line.unwrap_or(0),
            total.net / MIB,
            total.gross / MIB,
            text,
        )
    });
    rows.collect()
}

/// Frames as (function, line), and MiB (gross, freed).
type Held<'a> = (&'a [(u32, u32)], [u64; 2]);

/// One process with functions of `x.py`.
fn profile(functions: &[(&str, u32)], stacks: &[Held<'_>]) -> Profile {
    let mut profile = Profile {
        processes: vec![Default::default()],
        ..Profile::default()
    };
    for &(name, first_line) in functions {
        profile.functions.push(Function {
            name: name.to_owned(),
            file: "/srv/x.py".to_owned(),
            first_line,
        });
    }
    let pattern = support::gunicorn().owners[1];
    for (number, (frames, [gross, freed])) in (0..).zip(stacks) {
        let frames = frames.iter().map(|&(function, line)| {
            profile.frames.push(Frame { function, line });
            profile.frames.len() as u32 - 1
        });
        let frames = frames.collect();
        profile.stacks.push(Stack {
            frames,
            truncated: false,
            greenlet: false,
            native: None,
        });
        profile.owners.push(Owner {
            process: 0,
            stack: number,
            gross: gross * MIB,
            freed: freed * MIB,
            mapped: 0,
            mapped_gross: 0,
            mapped_touched: 0,
            ..pattern
        });
    }
    profile
}

#[test]
fn the_tables_have_their_golden_file() {
    let profile = support::gunicorn();
    let lines = Lines::new(&profile);
    let mut service = source(
        "/src/service.py",
        "def second(x):\n\ty = [\n'\u{1b}[2Jé'\t]  \n\n\tbuild()\r\n\nz = 1",
    );
    service.lines.splice(0..0, vec![String::new(); 39]);
    service.modified_epoch_s = profile.started_epoch_s + 1.0;
    let mut module = source("/srv/venv/bin/gunicorn", &"# a long file\n".repeat(300));
    module.lines[0] = "#!/usr/bin/python3".to_owned();
    module.lines[150] = "x = 1".to_owned();
    let tables = [
        table(&lines, "service.second", Ok(service)),
        table(&lines, "gunicorn.<module>", Ok(module)),
        table(&lines, "ev*il*", Err(Missing::NotFound)),
        table(&lines, "<lambda>", Err(Missing::NoFile)),
    ];
    let text = lines::text(&lines, &tables, 3);
    support::golden::golden("line_tables", "gunicorn.lines.txt", &text);
    let json = serde_json::to_string_pretty(&lines::json(&lines, &tables)).unwrap() + "\n";
    support::golden::golden("line_tables", "gunicorn.lines.json", &json);
}

#[test]
fn recursion_counts_once_and_a_callee_counts_at_the_call() {
    let profile = profile(
        &[("<module>", 1), ("f", 1)],
        &[
            (&[(0, 5), (1, 3), (1, 3), (1, 2)], [8, 0]),
            (&[(0, 5), (1, 2)], [4, 3]),
        ],
    );
    let lines = Lines::new(&profile);
    let text = source("/srv/x.py", "def f(n):\n    a(n)\n    f(n - 1)\n\nf(2)");
    let f = table(&lines, "f", Ok(text.clone()));
    assert_eq!(
        rows(&f),
        [
            (1, 0, 0, "def f(n):"),
            (2, 9, 12, "    a(n)"),
            (3, 8, 8, "    f(n - 1)"),
        ]
    );
    assert_eq!(f.function.total.net, 9 * MIB);
    // The module's table has the functions in it on their own lines.
    let module = table(&lines, "<module>", Ok(text));
    let nets: Vec<u64> = rows(&module).iter().map(|row| row.1).collect();
    assert_eq!(nets, [0, 9, 8, 0, 9]);
}

#[test]
fn nested_code_is_in_the_table_and_other_code_on_its_lines_is_not() {
    let functions = [
        ("<module>", 1),
        ("f", 2),
        ("f.<locals>.<listcomp>", 4),
        ("<lambda>", 2),
        ("g", 6),
    ];
    let profile = profile(
        &functions,
        &[
            // The module runs the `def`, and its decorator.
            (&[(0, 2)], [1, 0]),
            (&[(0, 3)], [1, 0]),
            (&[(0, 7), (1, 4), (2, 4)], [16, 0]),
            (&[(0, 7), (1, 4), (4, 6)], [2, 0]),
        ],
    );
    let lines = Lines::new(&profile);
    let text = "import a\n@a(lambda: 1)\ndef f():\n    return [g() for _ in a]\n\ndef g(): return b()\nf()";
    let text = source("/srv/x.py", text);
    let f = table(&lines, "f", Ok(text));
    let figures: Vec<(u32, u64)> = rows(&f).iter().map(|row| (row.0, row.1)).collect();
    // 16 once, though the comprehension is on the line of its function.
    assert_eq!(figures, [(2, 0), (3, 0), (4, 18)]);
    // A comprehension has no table of its own where the function around it is known.
    let largest: Vec<&str> = lines
        .largest(9)
        .iter()
        .map(|place| place.key.function)
        .collect();
    assert_eq!(largest, ["f", "<module>", "g"]);
}

#[test]
fn without_a_source_the_figures_stand_alone() {
    let profile = profile(&[("f", 2)], &[(&[(0, 4)], [3, 0]), (&[(0, 0)], [2, 0])]);
    let lines = Lines::new(&profile);
    let missing = table(&lines, "f", Err(Missing::NotFound));
    assert_eq!(rows(&missing), [(4, 3, 3, "-"), (0, 2, 2, "-")]);
    assert!(missing.notes[0].contains("--source-root"), "{missing:?}");
    assert_eq!(missing.source, None);
    let key = missing.function.key;
    assert!(lines.fits(&key, &source("x.py", "\ndef f():\n    x\n    y")));
    for other in ["\ndef f():\n    x", "def f():\n    x\n    y\n    z", ""] {
        assert!(!lines.fits(&key, &source("x.py", other)), "{other:?}");
    }
}

#[test]
fn a_name_that_means_none_or_hundreds_is_refused_with_names() {
    let profile = support::gunicorn();
    let lines = Lines::new(&profile);
    let named = |lines: &Lines<'_>, names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let found = lines.named(&names, Path::new("run.memprof"));
        found.map(|functions| functions.len())
    };
    assert_eq!(named(&lines, &["build", "service.*", "first"]).unwrap(), 3);
    let error = named(&lines, &["build", "secnod"]).unwrap_err();
    assert!(error.error.contains("secnod"), "{error}");
    assert!(
        error
            .cause
            .starts_with("the nearest names: service.second,"),
        "{error}"
    );
    assert_eq!(
        error.hint,
        "memprof-ebpf lines run.memprof --func service.second"
    );
    let names: Vec<String> = (0..300).map(|n| format!("f{n}")).collect();
    let functions: Vec<(&str, u32)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let frames: Vec<(u32, u32)> = (0..300).map(|n| (n, 1)).collect();
    let many = self::profile(&functions, &[(&frames, [1, 0])]);
    let lines = Lines::new(&many);
    let error = named(&lines, &["f*"]).unwrap_err();
    assert!(error.error.contains("300 functions"), "{error}");
    assert!(error.hint.contains("--func x.f"), "{error}");
    assert_eq!(named(&lines, &["f?"]).unwrap(), 10);
    let none = Profile::default();
    let error = named(&Lines::new(&none), &["f"]).unwrap_err();
    assert_eq!(error.hint, "memprof-ebpf report run.memprof");
}

proptest! {
    #[test]
    fn any_profile_has_tables_that_are_safe_to_show(
        profile in support::profile(),
        text in proptest::collection::vec("(def |class |@|    |\t|\u{1b}\\[2J|'''|\\(|[a-z<>.]{0,4}){0,4}", 0..40),
    ) {
        let lines = Lines::new(&profile);
        let source = Source { lines: text, ..Source::default() };
        for found in [Ok(source), Err(Missing::Changed("a\u{1b}\n".into()))] {
            let tables: Vec<LineTable<'_>> = lines
                .largest(usize::MAX)
                .into_iter()
                .map(|function| lines.table(function, found.clone()))
                .collect();
            let shown = lines::text(&lines, &tables, 3);
            prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "{:?}", shown);
            for table in &tables {
                let rows = table.rows.iter().filter_map(|row| row.figures);
                // A line is not more than the stacks with the function or with code in its lines.
                for figures in rows.clone() {
                    prop_assert_eq!(figures.total.net + figures.total.freed, figures.total.gross);
                    prop_assert!(figures.own.gross <= figures.total.gross);
                }
                // Who is on top is in one row.
                let own: u64 = rows.map(|figures| figures.own.gross).sum();
                prop_assert!(own >= table.function.own.gross);
            }
        }
    }
}
