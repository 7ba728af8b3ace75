//! The rules, as a table: what is said, why, which files it binds, and how a breach is seen.

use super::source::{Source, holds};

/// One rule.
pub struct Rule {
    /// What does not hold, for the person who broke it.
    pub says: &'static str,
    /// Why it should.
    pub because: &'static str,
    /// Which files it binds.
    pub applies: fn(&Source) -> bool,
    /// Lines that break it, from 1.
    pub violations: fn(&Source) -> Vec<usize>,
}

/// Sources of memprof-user.
const USER: &str = "memprof-user/src/";

/// Longer files hold more than one thing.
const FILE_LINES: usize = 500;

/// Every rule.
pub const RULES: &[Rule] = &[
    Rule {
        says: "only memprof-user/src/bpf/ names aya",
        because: "the rest is then built, tested and read without a kernel",
        applies: |source| host(source) && !source.rust_in("memprof-user/src/bpf/"),
        violations: |source| source.using(&["aya", "aya_obj", "aya_log", "aya_log_common"]),
    },
    Rule {
        says: "only memprof-user/src/sink/flamegraph names inferno",
        because: "a format is one file, and inferno (CDDL-1.0) can be left out with that file",
        applies: |source| host(source) && !source.rust_in("memprof-user/src/sink/flamegraph"),
        violations: |source| source.using(&["inferno"]),
    },
    Rule {
        says: "only memprof-user/src/plot/ names tiny-skia and ttf-parser",
        because: "how a picture becomes pixels is one file's business, and its letters another's",
        applies: |source| host(source) && !source.rust_in("memprof-user/src/plot/"),
        violations: |source| source.using(&["tiny_skia", "ttf_parser"]),
    },
    Rule {
        says: "only memprof-user/src/cli/ (and xtask) names clap",
        because: "parsed and resolved arguments are two things; the library takes the latter",
        applies: |source| {
            host(source) && !source.rust_in("memprof-user/src/cli/") && !source.rust_in("xtask/")
        },
        violations: |source| source.using(&["clap"]),
    },
    Rule {
        says: "decode, model, sink, python/{layout,line_table} and recording/{dat,profile} do no I/O \
               and ask no clock",
        because: "they are then functions of their input, and tests run them on recorded input",
        applies: |source| PURE.iter().any(|module| in_module(source, module)),
        violations: |source| source.using(&IO),
    },
    Rule {
        says: "no unwrap, expect, panic! or process::exit outside main.rs, xtask and tests",
        because: "an error reaches the user as error / cause / hint, and a probe stays attached \
                  to nothing when the program leaves in good order",
        applies: |source| {
            (host(source) || source.rust_in("memprof-ebpf/src/"))
                && !source.rust_in("xtask/")
                && source.path != "memprof-user/src/main.rs"
        },
        violations: |source| source.using(&[".unwrap()", ".expect(", "panic!(", "process::exit"]),
    },
    Rule {
        says: "unsafe only in memprof-ebpf, memprof-user/src/bpf/ and memprof-user/src/target/",
        because: "that is where the kernel and foreign memory begin",
        applies: |source| host(source) && !at_the_border(source),
        violations: |source| source.using(&["unsafe"]),
    },
    Rule {
        says: "unsafe without a `// SAFETY:` line above it",
        because: "the reader must be told why it holds; clippy does not look at the kernel crate",
        applies: |source| at_the_border(source) || source.rust_in("memprof-ebpf/src/"),
        violations: unsafe_without_reason,
    },
    Rule {
        says: "a .rs file opens with a `//!` sentence on what it owns",
        because: "it is the first thing that a reader asks",
        applies: |source| source.path.ends_with(".rs"),
        violations: |source| match source.text.first() {
            Some(first) if first.starts_with("//! ") => Vec::new(),
            _ => vec![1],
        },
    },
    Rule {
        says: "more than 500 lines in one .rs file",
        because: "central files of thousands of lines are what hurts in this field",
        applies: |source| source.path.ends_with(".rs"),
        violations: |source| match source.text.len() {
            0..=FILE_LINES => Vec::new(),
            _ => vec![FILE_LINES + 1],
        },
    },
    Rule {
        says: "no utils, helpers or manager modules",
        because: "the name says nothing, so everything ends up there",
        applies: |source| {
            ["utils", "util", "helpers", "helper", "manager"]
                .iter()
                .any(|name| {
                    source.path.ends_with(&format!("/{name}.rs"))
                        || source.path.contains(&format!("/{name}/"))
                })
                && source.path.ends_with(".rs")
        },
        violations: |_| vec![1],
    },
    Rule {
        says: "no path of one machine",
        because: "it works for one person only",
        applies: |_| true,
        violations: |source| {
            // Written in two parts, so that this file does not break its own rule.
            let paths = [
                ["/ro", "ot/"],
                ["/wo", "rk/"],
                ["/tmp/tar", "get"],
                ["index.cra", "tes"],
            ]
            .map(|parts| parts.concat());
            let names = |line: &String| paths.iter().any(|path| line.contains(path.as_str()));
            numbers(&source.text, names)
        },
    },
];

/// Modules that know neither files nor processes nor time.
const PURE: [&str; 7] = [
    "memprof-user/src/decode",
    "memprof-user/src/model",
    "memprof-user/src/sink",
    "memprof-user/src/python/layout",
    "memprof-user/src/python/line_table",
    "memprof-user/src/recording/dat",
    "memprof-user/src/recording/profile",
];

/// Names by which I/O and clocks are reached. `std::io::Write` is not among them: a sink writes
/// into what it is given.
const IO: [&str; 13] = [
    "std::fs",
    "std::env",
    "std::net",
    "std::process",
    "std::thread",
    "fs::",
    "File::",
    "Command::",
    "Instant::now",
    "SystemTime::now",
    "println!",
    "eprintln!",
    "tokio",
];

/// The crates that run on the host.
fn host(source: &Source) -> bool {
    ["memprof-common/src/", USER, "xtask/", "tests/"]
        .iter()
        .any(|crate_dir| source.rust_in(crate_dir))
}

/// The modules of memprof-user where `unsafe` may stand.
fn at_the_border(source: &Source) -> bool {
    ["bpf/", "target/"]
        .iter()
        .any(|module| source.rust_in(&format!("{USER}{module}")))
}

/// True for `module.rs` and everything in `module/`; `module*.rs` counts too.
fn in_module(source: &Source, module: &str) -> bool {
    source.rust_in(module)
}

/// Lines of code that begin something unsafe, with no `SAFETY` in the comment above the
/// statement. The attributes of the 2024 edition (`#[unsafe(no_mangle)]`) are not meant.
fn unsafe_without_reason(source: &Source) -> Vec<usize> {
    (0..source.code.len())
        .filter(|&line| !source.test[line])
        .filter(|&line| {
            holds(&source.code[line], "unsafe") && !source.code[line].contains("unsafe(")
        })
        .filter(|&line| !reason_above(&source.text[..=line]))
        .map(|line| line + 1)
        .collect()
}

/// True when the last line, or the comments and attributes right above its statement, hold the
/// reason. A statement may begin a few lines before its `unsafe`.
fn reason_above(lines: &[String]) -> bool {
    let says = |line: &str| line.contains("SAFETY:") || line.contains("# Safety");
    let Some((last, above)) = lines.split_last() else {
        return false;
    };
    if says(last) {
        return true;
    }
    for line in above.iter().rev() {
        let line = line.trim();
        if says(line) {
            return true;
        }
        let comment = line.starts_with("//") || line.starts_with("#[");
        if !comment && (line.is_empty() || line.ends_with([';', '{', '}'])) {
            return false;
        }
    }
    false
}

fn numbers(lines: &[String], wanted: impl Fn(&String) -> bool) -> Vec<usize> {
    let lines = lines.iter().enumerate();
    lines
        .filter(|(_, line)| wanted(line))
        .map(|(at, _)| at + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One breach a rule, by what it says; the paths are parts of real ones.
    const BREACHES: [(&str, &str, &str); 12] = [
        (
            "names aya",
            "memprof-user/src/model/mod.rs",
            "//! x\nuse aya::Ebpf;",
        ),
        (
            "names inferno",
            "memprof-user/src/sink/dat.rs",
            "//! x\nuse inferno::flamegraph;",
        ),
        (
            "names tiny-skia",
            "memprof-user/src/cli/plot.rs",
            "//! x\nuse tiny_skia::Pixmap;",
        ),
        (
            "names clap",
            "memprof-user/src/report/mod.rs",
            "//! x\nuse clap::Parser;",
        ),
        (
            "do no I/O",
            "memprof-user/src/decode.rs",
            "//! x\nuse std::fs;",
        ),
        (
            "no unwrap",
            "memprof-user/src/cli/run.rs",
            "//! x\nfn f() { g().unwrap() }",
        ),
        (
            "unsafe only",
            "memprof-user/src/model/mod.rs",
            "//! x\nfn f() { unsafe { g() } }",
        ),
        (
            "unsafe without",
            "memprof-ebpf/src/emit.rs",
            "//! x\nfn f() {\n    unsafe { g() }\n}",
        ),
        ("opens with", "memprof-user/src/cli/run.rs", "use std::fmt;"),
        ("more than 500", "memprof-user/src/cli/run.rs", "//! x\n"),
        ("no utils", "memprof-user/src/utils.rs", "//! x"),
        ("no path", "README.md", "see /ro~ot/x"),
    ];

    fn broken(rule: &Rule, path: &str, text: &str) -> bool {
        let source = Source::new(path.into(), text);
        (rule.applies)(&source) && !(rule.violations)(&source).is_empty()
    }

    #[test]
    fn every_rule_sees_its_breach() {
        assert_eq!(BREACHES.len(), RULES.len());
        for (rule, (says, path, text)) in RULES.iter().zip(BREACHES) {
            assert!(
                rule.says.contains(says),
                "{} is no row for {says}",
                rule.says
            );
            let text = match says {
                "more than 500" => text.to_owned() + &"//\n".repeat(FILE_LINES),
                _ => text.replace('~', ""),
            };
            assert!(broken(rule, path, &text), "{says}");
        }
    }

    #[test]
    fn reasons_are_found_above_the_statement() {
        let border = "memprof-user/src/target/memory.rs";
        let given = "//! x\nfn f() {\n    // SAFETY: g has no conditions.\n    let a =\n        unsafe { g() };\n}";
        let missing =
            "//! x\nfn f() {\n    // SAFETY: g has none.\n    let a = 1;\n    unsafe { g() };\n}";
        let rule = RULES
            .iter()
            .find(|rule| rule.says.starts_with("unsafe without"));
        let rule = rule.expect("the table has the rule");
        assert!(!broken(rule, border, given));
        assert!(broken(rule, border, missing));
        assert!(!broken(
            rule,
            border,
            "//! x\n#[unsafe(no_mangle)]\nstatic A: u8 = 1;"
        ));
    }
}
