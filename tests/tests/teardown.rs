//! The last allocations of a program are named: those of its finalizers.

use memprof_tests::machine::{self, require, workload};
use memprof_tests::session::Session;

#[test]
fn what_a_finalizer_makes_resident_is_named() {
    let Some(session) = Session::open() else {
        return;
    };
    let script = workload("teardown.py").display().to_string();
    for version in ["3.8", "3.10", "3.11", "3.12", "3.13", "3.15"] {
        let Some(python) = require(machine::interpreter(version)) else {
            return;
        };
        let python = python.display().to_string();
        session
            .run(&["run", "-q", "--force", "-o", "out", "--", &python, &script])
            .expect_code(0);
        let report = session.report();
        assert_eq!(report.loss.events_lost, 0, "{:?}", report.loss);
        let mut functions = report.functions.iter();
        let last = functions.find(|function| function.function.ends_with("__del__"));
        let last = last.unwrap_or_else(|| panic!("{version}: {:#?}", report.functions));
        // Less the end of a heap that was resident already; more for the rest of a THP.
        let mib = last.gross as f64 / f64::from(1 << 20);
        assert!((7.9..10.0).contains(&mib), "{version}: {last:?}");
    }
}
