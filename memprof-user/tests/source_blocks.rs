//! Where functions end, and what their text is, over the whole standard library of a real
//! interpreter: as its own parser and its own decoder say.

mod interpreters;

use std::process::Command;

use memprof_user::source;

const BLOCKS: &str = include_str!("interpreters/blocks.py");

#[derive(serde::Deserialize)]
struct File {
    path: String,
    lines: usize,
    crc: u32,
    blocks: Vec<(String, u32, u32)>,
}

#[test]
fn every_function_of_the_standard_library_ends_where_its_parser_says() {
    let found = interpreters::interpreters();
    // Before 3.8 the parser does not tell where a block ends.
    let newest = found.iter().rev().find(|found| found.minor() >= 8);
    let python = newest.expect("an interpreter of 3.8 or later");
    let output = Command::new(&python.path)
        .args(["-c", BLOCKS])
        .env("PYTHONIOENCODING", "utf-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut blocks = 0;
    let mut wrong = Vec::new();
    for line in text.lines() {
        let file: File = serde_json::from_str(line).unwrap();
        let source = source::find(&file.path, None, |_| true);
        let source = source.unwrap_or_else(|why| panic!("{}: {why}", file.path));
        let crc = crc32fast::hash(source.lines.join("\n").as_bytes());
        if (source.lines.len(), crc) != (file.lines, file.crc) {
            wrong.push(format!("the text of {}", file.path));
        }
        for (name, first, last) in &file.blocks {
            blocks += 1;
            let end = source.end_of(name, *first);
            if end != Some(*last) {
                wrong.push(format!("{}:{first} {name}: {end:?}, not {last}", file.path));
            }
        }
    }
    assert!(blocks > 10_000, "{blocks} blocks: that is no library");
    assert!(
        wrong.is_empty(),
        "{} of {blocks} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
