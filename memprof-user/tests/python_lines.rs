//! Compares the line tables' decoders with each interpreter's own decoder, for every instruction
//! of large modules of its standard library.

mod interpreters;

use std::process::Command;

use interpreters::{interpreters, missing};
use memprof_user::python::line_table::line;

/// Prints, one line a code object: first line, table, bytes of code, and where lines begin.
const DUMP: &str = r#"
import dis, json, os, sys
def codes(code):
    yield code
    for constant in code.co_consts:
        if hasattr(constant, "co_code"):
            yield from codes(constant)
for name in ["argparse.py", "asyncio/base_events.py", "typing.py", "inspect.py", "__future__.py"]:
    path = os.path.join(os.path.dirname(os.__file__), name)
    with open(path, encoding="utf-8") as file:
        module = compile(file.read(), name, "exec")
    for code in codes(module):
        if hasattr(code, "co_lines"):
            table = code.co_linetable
            lines = [[start, line] for start, end, line in code.co_lines() if start < end]
        else:
            table = code.co_lnotab
            lines = [list(start) for start in dis.findlinestarts(code)]
        print(json.dumps([code.co_firstlineno, table.hex(), len(code.co_code), lines]))
"#;

type Dumped = (i32, String, i64, Vec<(i64, Option<u32>)>);

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    let digits = pairs.map(|pair| std::str::from_utf8(pair).unwrap());
    digits
        .map(|digits| u8::from_str_radix(digits, 16).unwrap())
        .collect()
}

#[test]
fn every_instruction_has_the_line_that_the_interpreter_says() {
    let all = interpreters();
    if all.is_empty() {
        missing("an interpreter");
    }
    for found in all {
        let output = Command::new(&found.path)
            .args(["-c", DUMP])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().count() > 300, "{}", found.version);
        let version = 0x0300 | u32::from(found.minor());
        for code in text.lines() {
            let (first, table, code_bytes, lines): Dumped = serde_json::from_str(code).unwrap();
            let table = bytes(&table);
            let first_line = u32::try_from(first).ok();
            assert_eq!(line(version, first, &table, false, -2), first_line);
            for lasti in (0..code_bytes).step_by(2) {
                let entry = lines.iter().rev().find(|(start, _)| *start <= lasti);
                let want = entry.and_then(|(_, line)| *line).or(first_line);
                let got = line(version, first, &table, false, lasti);
                assert_eq!(got, want, "{} at {lasti} of {code}", found.version);
            }
        }
    }
}
