//! Files in `tests/data` that an output has to equal, byte for byte.

use std::path::PathBuf;

/// Compares `actual` with `tests/data/NAME`; with `BLESS=1` writes it. `test` is the test binary,
/// for the message.
pub fn golden(test: &str, name: &str, actual: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let bless = format!("BLESS=1 cargo test -p memprof-user --test {test}");
    let expected = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("tests/data/{name}: {error}; to make it: {bless}"));
    assert!(
        expected == actual,
        "tests/data/{name} differs; if the change is wanted: {bless}\n--- is now\n{actual}"
    );
}
