//! Anonymous folios between a page and a huge page (mTHP): one fault, several pages. In a file of
//! its own, as the machine's setting is changed for the time of it.

use std::path::PathBuf;

use memprof_tests::machine::require;
use memprof_tests::session::Session;
use memprof_tests::torture::{self, Walk};

const SETTING: &str = "/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled";

/// Has programs that ask for huge pages get folios of 64 KiB, until it is dropped.
struct Folios {
    before: String,
}

impl Folios {
    fn on_request() -> Result<Self, String> {
        let told = |e| format!("{SETTING}: {e}");
        // The choice that holds stands in brackets.
        let choices = std::fs::read_to_string(SETTING).map_err(told)?;
        let chosen = choices.split(['[', ']']).nth(1).unwrap_or("never");
        std::fs::write(SETTING, "madvise").map_err(told)?;
        Ok(Folios {
            before: chosen.to_owned(),
        })
    }
}

impl Drop for Folios {
    fn drop(&mut self) {
        let _ = std::fs::write(SETTING, &self.before);
    }
}

#[test]
fn folios_of_64_kib_are_exact() {
    let Some(session) = Session::open() else {
        return;
    };
    let found = (torture::python("3.12"), torture::library(session.dir()));
    let (Some(python), Some(library)) = (require::<PathBuf>(found.0), require(found.1)) else {
        return;
    };
    let Some(_folios) = require(Folios::on_request()) else {
        return;
    };
    let (library, scratch) = (library.to_string_lossy(), session.dir().to_string_lossy());
    let cases = "folios_written,huge_written,huge_split_by_munmap,anon_random,fork_huge";
    let words = [
        "--library",
        &library,
        "--scratch",
        &scratch,
        "--cases",
        cases,
    ];
    let compared = Walk::start(&session, &python, "torture.py", &words).compare();
    compared.assert_exact();
    let report = session.report_of(compared.pid);
    report.assert_nothing_lost();
    let near = memprof_tests::truth::Tolerance {
        percent: 2.0,
        floor: 64 * memprof_tests::truth::KIB,
    };
    let gross = report.gross("folios_written", "torture.py");
    near.check("gross of folios_written", gross, (1 << 20) + 8192);
}
